//! The room for everything that a replica may ask its driver to do.

use core::fmt;

use thiserror::Error;

use crate::ballot::Ballot;
use crate::entry::{Entries, Entry};
use crate::event::{FetchId, Tag};
use crate::limits::PEERS_MAX;
use crate::message::Body;
use crate::node_id::NodeId;
use crate::persist::{Record, Ticket};
use crate::slot::{Slot, SlotRange};

/// What the driver is asked to do, in order.
#[derive(Debug)]
#[cfg_attr(paxos_model, derive(Clone))]
pub enum Action {
    /// Send this to these peers, under `Replica::header`. It may be lost, delayed, duplicated or reordered.
    Send {
        /// Whom to send it to.
        to: Recipients,
        /// What to say.
        body: Body,
    },
    /// Append this record to the log, in the order of these actions, make it durable, and only then redeem
    /// the ticket. One sync may serve many tickets, and other events may be handled meanwhile.
    Persist {
        /// Redeem it with `Ticket::redeem` once the record is durable.
        ticket: Ticket,
        /// What must survive.
        record: Record,
    },
    /// These slots are chosen: apply them. Slots come in order, each exactly once per boot.
    Apply {
        /// The slot of the first entry.
        first: Slot,
        /// What was chosen in `first` and the slots after it; never empty.
        entries: Entries,
        /// The tag of the proposal that the first entry is, if the entries are this boot's own and still open; each
        /// further one has the tag that is one more (`applied`). A run is cut where tags do not count up, so a caller
        /// who numbers them one after the other gets long runs.
        tag: Option<Tag>,
    },
    /// The proposal was never bound to a slot and never will be: safe to try elsewhere.
    ProposalRefused {
        /// Which proposal.
        tag: Tag,
        /// Why.
        error: ProposeError,
    },
    /// The proposal may or may not be chosen, now or later; nothing more will be said of it.
    InDoubt {
        /// Which proposal.
        tag: Tag,
    },
    /// State that holds every slot below `slot` is linearizable for this read; they are applied already.
    ReadReady {
        /// Which read.
        tag: Tag,
        /// The first slot that need not be reflected.
        slot: Slot,
    },
    /// The read cannot be served here now; it had no effect.
    ReadFailed {
        /// Which read.
        tag: Tag,
        /// Why.
        error: ReadError,
    },
    /// Read chosen entries back from the log and answer with `Event::Fetched`.
    FetchLog {
        /// Echo it in the answer.
        id: FetchId,
        /// The slots wanted.
        slots: SlotRange,
        /// Stop before the payloads exceed this many bytes, but bring at least one entry.
        bytes_max: usize,
    },
    /// This replica's role, or the leader it follows, changed.
    RoleChanged {
        /// What it is now.
        role: Role,
        /// The leader it knows, itself included.
        leader: Option<NodeId>,
        /// The ballot that goes with the role: led, tried or followed.
        ballot: Option<Ballot>,
        /// Why it changed.
        reason: RoleReason,
    },
    /// This replica takes no part any more; restart the process to recover from what is durable.
    Fenced {
        /// Why.
        reason: FenceReason,
    },
}

/// Each slot of an `Action::Apply` with its entry, and the tag of the proposal that it is.
pub fn applied(first: Slot, entries: &[Entry], tag: Option<Tag>) -> impl Iterator<Item = (Slot, &Entry, Option<Tag>)> {
    (0u64..).zip(entries).map(move |(at, entry)| {
        let tag = tag.map(|Tag(first)| Tag(first.wrapping_add(at)));
        (first.plus(at), entry, tag)
    })
}

/// What a replica is doing about leadership.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Follows a leader or waits for one.
    Following,
    /// Campaigns: phase 1 is under way.
    Preparing,
    /// Won phase 1; `ready` once the inherited prefix is applied and commands and reads are served.
    Leading {
        /// Whether commands and reads are served.
        ready: bool,
    },
}

/// Why a role changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum RoleReason {
    /// Heard of a leader.
    #[error("heard the leader")]
    HeardLeader,
    /// The leader fell silent.
    #[error("lost the leader")]
    LostLeader,
    /// No leader for the election time-out: campaigns.
    #[error("no leader: campaigning")]
    Campaign,
    /// The leader handed over.
    #[error("the leader handed over: campaigning")]
    HandOver,
    /// A quorum promised.
    #[error("a quorum promised")]
    Promised,
    /// The inherited prefix is applied.
    #[error("the inherited prefix is applied")]
    Ready,
    /// An acceptor refused with a higher ballot.
    #[error("refused for a higher ballot")]
    Refused,
    /// The own acceptor promised or accepted a higher ballot.
    #[error("promised a higher ballot")]
    Outvoted,
    /// A slot turned out to be chosen by another ballot.
    #[error("a choice by another ballot")]
    ChosenOtherwise,
    /// A quorum is out of contact.
    #[error("lost contact to a quorum")]
    LostContact,
    /// No quorum in contact can vote, since disks do not answer, and another replica may do better.
    #[error("the disks of a quorum do not answer")]
    DisksHang,
    /// Gave leadership away.
    #[error("handed leadership over")]
    HandedOver,
    /// A live replica with a higher id should lead (`ElectionPolicy::HighestId`).
    #[error("a higher id is alive")]
    HigherId,
    /// Phase 1 did not complete in time.
    #[error("phase 1 timed out")]
    TimedOut,
}

/// Why a proposal was refused; it was never bound to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProposeError {
    /// Only the leader proposes.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this replica knows.
        hint: Option<NodeId>,
    },
    /// The window of undecided slots is full: try again when one is applied.
    #[error("the window of undecided slots is full")]
    WindowFull,
    /// One entry must fit a frame.
    #[error("larger than {bytes_max} bytes")]
    TooLarge {
        /// The most bytes an entry may have.
        bytes_max: usize,
    },
    /// Leads, but has not applied what earlier leaders left: try again soon.
    #[error("still applying what earlier leaders chose")]
    CatchingUp,
    /// A membership change is under way (reserved).
    #[error("a membership change is under way")]
    Reconfiguring,
    /// `Config::last_slot` is reached: this log takes no more.
    #[error("the log is full")]
    LogFull,
    /// The replica is fenced.
    #[error("fenced")]
    Fenced,
}

/// Why a read failed; it had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// Only the leader grants read points.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this replica knows.
        hint: Option<NodeId>,
    },
    /// Leads, but has not applied what earlier leaders left.
    #[error("still applying what earlier leaders chose")]
    CatchingUp,
    /// As many reads wait as `Config::reads_max` allows.
    #[error("too many reads are waiting")]
    TooMany,
    /// Stopped leading before a quorum confirmed the read.
    #[error("lost leadership before a quorum confirmed")]
    LostLeadership,
    /// The replica is fenced.
    #[error("fenced")]
    Fenced,
}

/// Why a replica takes no part any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum FenceReason {
    /// A write or sync failed: nobody can say what is durable.
    #[error("the disk failed")]
    PersistFailed,
    /// Two different entries both claimed to be chosen in this slot: the log is split.
    #[error("two entries are chosen in slot {0}")]
    ChosenTwice(Slot),
    /// What was chosen and written can not be read back.
    #[error("the log lost slot {0}")]
    LogUnreadable(Slot),
    /// An invariant of the core broke: a bug.
    #[error("broken invariant: {0}")]
    Bug(&'static str),
}

/// A small set of peers, kept in place so that sending allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipients {
    nodes: [NodeId; PEERS_MAX],
    count: u8,
}

impl Recipients {
    /// Nobody yet.
    pub const NONE: Recipients = Recipients { nodes: [NodeId(0); PEERS_MAX], count: 0 };

    /// Just this peer.
    pub fn one(node: NodeId) -> Recipients {
        let mut recipients = Recipients::NONE;
        recipients.push(node);
        recipients
    }

    /// Adds a peer; false if there is no place left.
    pub fn push(&mut self, node: NodeId) -> bool {
        let Some(place) = self.nodes.get_mut(usize::from(self.count)) else { return false };
        *place = node;
        self.count = self.count.saturating_add(1);
        true
    }

    /// Whether there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The peers.
    pub fn as_slice(&self) -> &[NodeId] {
        self.nodes.get(..usize::from(self.count)).unwrap_or(&[])
    }
}

impl<'a> IntoIterator for &'a Recipients {
    type Item = NodeId;
    type IntoIter = core::iter::Copied<core::slice::Iter<'a, NodeId>>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter().copied()
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.as_slice()).finish()
    }
}
