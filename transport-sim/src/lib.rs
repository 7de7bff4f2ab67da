//! Runs replicas and whole nodes in a deterministic world: virtual clock, network, disks and faults, all from one
//! seed. Nothing here knows what is right or wrong: judges implement [`Observer`].

mod bare;
mod digest;
mod moves;
mod observer;
mod rng;
mod trace;

pub use bare::Bare;
pub use digest::Digest;
pub use moves::{HEAD_BYTES, MOVE_BYTES, Move, Schedule};
pub use observer::{Fact, Moment, Observer, Violation};
pub use rng::{Concern, Rng};
pub use trace::Trace;
