//! The data path of the server: inputs in, outputs out. No socket, file, clock or thread lives here.

use bytes::Bytes;
use paxos_core::{
    Entries, FenceReason, NodeId, Receipt, Recipients, Record, Role, RoleReason, Slot, SlotRange, Ticket,
};

/// One client connection, named by the driver; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// Names one `Output::ReadLog`, to be echoed by `Input::LogRead`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogReadId(pub u64);

/// What may happen to a node.
#[derive(Debug)]
pub enum Input {
    /// A client connected.
    ClientOpened {
        /// Its connection.
        client: ClientId,
    },
    /// A client sent bytes.
    ClientBytes {
        /// Its connection.
        client: ClientId,
        /// What arrived; any split of the stream is fine.
        bytes: Bytes,
    },
    /// A client's connection is gone.
    ClientClosed {
        /// Its connection.
        client: ClientId,
    },
    /// A frame arrived on the link of a peer whose hello was accepted.
    PeerFrame {
        /// Who is at the other end; a frame that claims another sender is dropped.
        from: NodeId,
        /// One whole frame as `paxos_core::wire` wrote it.
        frame: Bytes,
    },
    /// Records are durable.
    Persisted(Receipt),
    /// A write or sync of the log failed: the node fences itself.
    PersistFailed,
    /// Answers `Output::ReadLog`; no entries says that they could not be read.
    LogRead {
        /// Which request.
        id: LogReadId,
        /// The slot of the first entry.
        first: Slot,
        /// Chosen entries of consecutive slots.
        entries: Entries,
    },
    /// The turn ends, or time passed: see `Node::deadline`.
    Tick,
}

/// What a node asks its driver to do, in order.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes to a client, behind what was sent before.
    ToClient {
        /// Its connection.
        client: ClientId,
        /// Whole replies.
        bytes: Bytes,
    },
    /// Send what is queued for this client, then close its connection.
    CloseClient {
        /// Its connection.
        client: ClientId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Send this frame to these peers; it may be lost.
    ToPeers {
        /// Whom to send it to.
        to: Recipients,
        /// One whole frame, encoded once for all of them.
        frame: Bytes,
    },
    /// Append to the log, sync, redeem the ticket, hand in the receipt.
    Persist {
        /// Redeem it once the record is durable.
        ticket: Ticket,
        /// What must survive.
        record: Record,
    },
    /// Read chosen entries from the log and answer with `Input::LogRead`.
    ReadLog {
        /// Echo it in the answer.
        id: LogReadId,
        /// The slots wanted.
        slots: SlotRange,
        /// Stop before the payloads exceed this many bytes, but bring at least one entry.
        bytes_max: usize,
    },
    /// For the log line: one per role change.
    RoleChanged {
        /// What it is now.
        role: Role,
        /// The leader it knows.
        leader: Option<NodeId>,
        /// The ballot of the role.
        ballot: Option<paxos_core::Ballot>,
        /// Why.
        reason: RoleReason,
    },
    /// The node takes no part any more: the driver stops the process with this line.
    Fenced {
        /// Why.
        reason: FenceReason,
    },
}
