//! Runs replicas and whole nodes in a deterministic world: virtual clock, network, disks and faults, all from one
//! seed. Nothing here knows what is right or wrong: judges implement [`Observer`].

mod ambush;
mod bare;
mod calm;
mod client;
mod clock;
mod connections;
mod decisions;
mod digest;
mod disk;
mod faults;
mod heap;
mod moves;
mod nemesis;
mod network;
mod observer;
mod records;
mod report;
mod resp;
mod rng;
mod scenario;
mod script;
mod seat;
mod storage;
mod trace;
mod world;

pub use bare::Bare;
pub use calm::Calm;
pub use client::{Ask, Asks, Client, Manner, Operation, OperationId, Wish};
pub use clock::Clock;
pub use decisions::{Decision, Decisions, Departure, Fate, Leaves, Stream};
pub use digest::Digest;
pub use disk::{Damage, SECTOR_BYTES, SimFiles};
pub use heap::Heap;
pub use moves::{Blow, HEAD_BYTES, MOVE_BYTES, Move, Schedule};
pub use nemesis::{FAULT_KINDS, Fault, Then, plan};
pub use network::{Arrival, Arrivals, Mischief, Network, Quality};
pub use observer::{Fact, Moment, Observer, Violation, Way};
pub use report::Report;
pub use resp::{Malformed, Replies, Reply, request};
pub use rng::{Concern, Rng};
pub use scenario::{COMMANDS_MIN, DiskQuality, FAULTS_US_MIN, START, Scenario};
pub use script::{Misread, Script};
pub use trace::Trace;
pub use world::World;
