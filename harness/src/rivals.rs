//! Three replicas of one library in one thread, without sockets and disks: what the consensus itself costs.
//!
//! Every library gets the same rounds: so many proposals at the leader together, then messages are carried, as
//! values, until all are chosen and nothing is in flight, and all three replicas take every chosen entry out as
//! their application would. The rivals (feature `rivals`) get the settings they are fastest with.

mod ours;

#[cfg(feature = "rivals")]
mod omni;
#[cfg(feature = "rivals")]
mod raft;

use bytes::Bytes;

pub use ours::Ours;

#[cfg(feature = "rivals")]
pub use self::{omni::Omni, raft::Raft};

/// Three replicas with an elected leader.
pub trait Trio {
    /// Proposes `count` entries with this payload at the leader, then carries messages until all are chosen and
    /// nothing is in flight.
    fn choose(&mut self, payload: &Bytes, count: usize);

    /// How many proposed entries are chosen so far, as the leader knows.
    fn chosen(&self) -> u64;
}
