//! Everything that a node may ask its driver to do.

use bytes::Bytes;
use paxos_core::{Ballot, FenceReason, NodeId, Recipients, Record, Role, RoleReason, SlotRange, Ticket};

/// One client connection, named by the driver; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// Names one `Output::ReadLog`, to be echoed by `Input::LogRead`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogReadId(pub u64);

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
    /// Stop reading from this client: it has more open requests or unsent replies than its limits admit. What
    /// still arrives is kept, up to `Limits::client_input_bytes_max`.
    PauseClient {
        /// Its connection.
        client: ClientId,
    },
    /// Read from this client again.
    ResumeClient {
        /// Its connection.
        client: ClientId,
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
        ballot: Option<Ballot>,
        /// Why.
        reason: RoleReason,
    },
    /// The node takes no part any more: the driver stops the process with this line.
    Fenced {
        /// Why.
        reason: FenceReason,
    },
}
