//! Everything that may happen to a node.

use bytes::Bytes;
use paxos_core::{Entries, NodeId, Receipt, Slot};

use crate::output::{ClientId, LogReadId};

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
    /// A client will send nothing more, but still reads: what it asked is answered, then its connection is closed.
    ClientEnded {
        /// Its connection.
        client: ClientId,
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
    /// The turn ends, or time passed: see `Node::deadline`. Only now replies leave.
    Tick,
    /// More reply bytes wait for this client in the driver than it cares to hold: the node answers and parses
    /// nothing more for it until `ClientDrained`.
    ClientStalled {
        /// Its connection.
        client: ClientId,
    },
    /// The reply bytes of a stalled client went out.
    ClientDrained {
        /// Its connection.
        client: ClientId,
    },
    /// Hand leadership to this node, if this one leads.
    HandOver {
        /// Who is to lead.
        to: NodeId,
    },
    /// The process is about to stop: every open request is answered (INDOUBT if it was proposed), every
    /// connection is closed, and the replies leave at once.
    Stop,
}
