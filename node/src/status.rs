//! The room for what a node says about itself: `Status`, for the driver's metrics and for PAXOS STATUS.

use paxos_core::{Ballot, NodeId, Role, Slot};

/// A node at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which node.
    pub node: NodeId,
    /// What it is doing about leadership.
    pub role: Role,
    /// The leader it knows, itself included.
    pub leader: Option<NodeId>,
    /// The ballot it leads with, tries or follows.
    pub ballot: Option<Ballot>,
    /// The lowest slot that it does not know to be chosen.
    pub first_unchosen: Slot,
    /// How many slots it has applied: the number of the last one.
    pub applied: u64,
    /// Connections.
    pub clients: usize,
    /// Commands applied since the process started; no-ops are none.
    pub commands: u64,
    /// The digest of everything applied: equal on all replicas that applied as many slots.
    pub digest: u64,
    /// Sessions in the table.
    pub sessions: usize,
    /// Keys.
    pub keys: usize,
    /// Bytes of commands that wait for a leader or for room in the window.
    pub queue_bytes: usize,
    /// Peer frames dropped: malformed, or claiming another sender than their link's.
    pub frames_refused: u64,
}
