//! The room for everything that may happen to a replica.

use bytes::Bytes;

use crate::entry::Entries;
use crate::message::Message;
use crate::node_id::NodeId;
use crate::persist::Receipt;
use crate::slot::Slot;

/// The caller's name for one proposal or read. Every tag ends in exactly one outcome; the caller keeps
/// tags that are open unique.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub u64);

/// Names one `Action::FetchLog`, to be echoed by the event that answers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchId(pub(crate) u64);

/// What may come in through `Replica::handle`.
#[derive(Debug)]
#[cfg_attr(paxos_model, derive(Clone))]
pub enum Event {
    /// A peer's message arrived.
    Message(Message),
    /// Put this command into the log. Ends in `Action::Apply` with the tag, `ProposalRefused` or `InDoubt`.
    /// The command is bound to its slot at once; runs of proposals leave together with the next event that
    /// is no proposal, so end a turn with `Event::Tick` (`Replica::deadline` says so).
    Propose {
        /// Names this proposal in its outcome.
        tag: Tag,
        /// What the state machine is to apply.
        command: Bytes,
    },
    /// Ask for a point to read at. Ends in `ReadReady` or `ReadFailed`. Rounds leave as proposals do.
    Read {
        /// Names this read in its outcome.
        tag: Tag,
    },
    /// What these tickets stood for is durable.
    Persisted(Receipt),
    /// A write or sync failed. Final: the replica fences itself, since nobody can say what reached the disk.
    PersistFailed,
    /// Answers `Action::FetchLog` with chosen entries of consecutive slots from `first` on, as many as were
    /// asked for or fewer; none says that they could not be read.
    Fetched {
        /// Which request this answers.
        id: FetchId,
        /// The slot of the first entry.
        first: Slot,
        /// The entries.
        entries: Entries,
    },
    /// Hand leadership to this member, if this replica leads and the member is a voter in contact.
    HandOver {
        /// Who is to lead.
        to: NodeId,
    },
    /// Time passed: see `Replica::deadline`.
    Tick,
}
