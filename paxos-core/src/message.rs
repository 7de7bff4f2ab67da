//! The room for what peers say to each other: one struct per message.
//!
//! Entries are skipped by serde: `wire.rs` appends them behind the message, so that their payloads are slices
//! of the frame on one side and are written once on the other.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ballot::Ballot;
use crate::entry::{Entries, Entry};
use crate::node_id::{Boot, ClusterId, Incarnation, NodeId};
use crate::slot::{Slot, SlotRange};

/// Who speaks: in every message, checked before anything else is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The cluster both ends must belong to.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// The sender's incarnation, the one that its membership admitted.
    pub incarnation: Incarnation,
    /// The sender's boot: evidence of an older one is stale (rule 18).
    pub boot: Boot,
}

/// A message between replicas.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    /// Who speaks.
    pub header: Header,
    /// What it says.
    pub body: Body,
}

/// What a message says. Append-only: the position of a variant is its number on the wire.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Phase 1a.
    Prepare(Prepare),
    /// Phase 1b, in chunks. Boxed, as `Heartbeat`: large and rare.
    Promise(Box<Promise>),
    /// An explicit NACK.
    Refused(Refused),
    /// Phase 2a for a run of slots.
    Accept(Accept),
    /// Phase 2b for a run of slots.
    Accepted(Accepted),
    /// Chosen entries for a replica that lacks them.
    Success(Success),
    /// Answers Success.
    SuccessReply(SuccessReply),
    /// Failure detection, election, learning at idle, reads. Boxed: it is the largest by far, and the rarest.
    Heartbeat(Box<Heartbeat>),
    /// Asks for chosen entries; answered by Success.
    Fetch(Fetch),
    /// The leader passes its leadership on.
    HandOver(HandOver),
}

/// Phase 1a, once for the whole log: "promise me the whole log; tell me what you hold from there".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// The ballot to promise.
    pub ballot: Ballot,
    /// The first slot the proposer wants told.
    pub from: Slot,
}

/// Phase 1b: one chunk of what the acceptor holds. A promise counts when the ranges of one (ballot, node,
/// incarnation, boot) join from the asked slot to the end.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Promise {
    /// The promised ballot.
    pub ballot: Ballot,
    /// Echo: the boot of the asker.
    pub asker_boot: Boot,
    /// The slots that this chunk testifies for; with `last`, also every slot after them.
    pub covers: SlotRange,
    /// What was accepted or chosen there, by rising slot. Slots below `first_unchosen` are chosen and left out.
    pub held: Vec<Held>,
    /// Nothing is held from the end of `covers` on.
    pub last: bool,
    /// Durable: every slot below is chosen and can be fetched from the sender.
    pub first_unchosen: Slot,
}

/// What an acceptor holds in one slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The slot.
    pub slot: Slot,
    /// The ballot it was accepted under; `None` says that it is chosen.
    pub accepted: Option<Ballot>,
    /// What is held.
    #[serde(skip)]
    pub entry: Entry,
}

/// Explicit NACK to Prepare, Accept, or a heartbeat that claims to lead (rule 13).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Echo: the ballot that was refused.
    pub ballot: Ballot,
    /// Echo: the boot of the asker.
    pub asker_boot: Boot,
    /// What the sender has promised instead.
    pub promised: Ballot,
}

/// Phase 2a: accept this run of consecutive slots.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Accept {
    /// The ballot that proposes.
    pub ballot: Ballot,
    /// The slot of the first entry.
    pub first: Slot,
    /// An acceptor marks chosen what it accepted under this ballot below this slot (rule 7).
    pub prefix: Slot,
    /// The entries of `first` and the slots after it.
    #[serde(skip)]
    pub entries: Entries,
}

/// Phase 2b: a vote for every slot of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// The ballot voted for.
    pub ballot: Ballot,
    /// The slots voted for, never a cumulative number over a hole.
    pub slots: SlotRange,
    /// Durable: every slot below is known chosen at the sender.
    pub first_unchosen: Slot,
    /// How many slots from `first_unchosen` on the sender can hold.
    pub room: u32,
}

/// Chosen entries of consecutive slots, only such as the sender has marked chosen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Success {
    /// The highest ballot the sender has promised; informative (rule 8 steps down on a choice by a higher one).
    pub ballot: Option<Ballot>,
    /// The slot of the first entry.
    pub first: Slot,
    /// The chosen entries of `first` and the slots after it.
    #[serde(skip)]
    pub entries: Entries,
}

/// Answers Success once its entries are durable; drives the next run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SuccessReply {
    /// Durable: every slot below is known chosen at the sender.
    pub first_unchosen: Slot,
    /// How many slots from `first_unchosen` on the sender can hold.
    pub room: u32,
}

/// Sent every heartbeat interval to every member, and at once to ask or answer a read round. Never held back
/// by the disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The ballot the sender leads with, if it leads (phase 1 is won).
    pub leading: Option<Ballot>,
    /// The ballot of the leader that the sender follows, if any.
    pub following: Option<Ballot>,
    /// Whether the sender has quorum contact: of a leader, that its reads can be confirmed; of any other, that it could
    /// be elected, and what it proposed be chosen, by voters whose disks answer.
    pub contact: bool,
    /// Whether the sender can vote: not fenced, and its disk answers.
    pub can_vote: bool,
    /// With `leading`: the prefix of rule 7; otherwise what the sender knows chosen.
    pub prefix: Slot,
    /// Durable: every slot below is known chosen at the sender.
    pub first_unchosen: Slot,
    /// How many slots from `first_unchosen` on the sender can hold.
    pub room: u32,
    /// With `leading`: the newest read round; acceptors answer a new one at once.
    pub round: u64,
    /// The sender's clock when this left, in microseconds; only ever compared by the sender itself.
    pub sent_us: u64,
    /// The last heartbeat that the sender heard from the receiver.
    pub echo: Option<Echo>,
}

/// What a heartbeat says of the last one heard from its receiver: a round trip, and a read acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// The boot in the header of the heartbeat heard.
    pub boot: Boot,
    /// Its `sent_us`.
    pub sent_us: u64,
    /// The ballot it led with, provided that the sender of the echo has promised none higher.
    pub leading: Option<Ballot>,
    /// Its read round.
    pub round: u64,
}

/// Asks for chosen entries.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// The slots wanted; the answer may hold fewer.
    pub slots: SlotRange,
}

/// The leader hands leadership to the receiver, who campaigns at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HandOver {
    /// The ballot that the sender led with and claims no more.
    pub ballot: Ballot,
    /// Its prefix.
    pub prefix: Slot,
}
