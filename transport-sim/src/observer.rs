//! The room for what a judge of a world gets to see. Worlds name facts; what is right or wrong is not known here.

use std::fmt;

use bytes::Bytes;
use node::Node;
use node::hello::Refusal;
use paxos_core::{
    Boot, Entry, FenceReason, Formatted, Instant, Message, NodeId, ProposeError, ReadError, Recipients, Record,
    Replica, Role, RoleReason, Slot, Tag,
};

use crate::client::{Operation, OperationId};
use crate::nemesis::Fault;
use crate::network::Arrivals;
use crate::resp::Reply;

/// Watches a world: is told every fact in the order in which they happen.
pub trait Observer {
    /// Looks at one fact.
    ///
    /// # Errors
    /// The invariant that this fact breaks.
    fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation>;
}

/// Watches nothing.
impl Observer for () {
    fn see(&mut self, _: Moment, _: &Fact<'_>) -> Result<(), Violation> {
        Ok(())
    }
}

/// Where and when a fact happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Steps of the world so far.
    pub step: u64,
    /// The world's time, which nodes' clocks may differ from.
    pub now: Instant,
    /// Which node.
    pub node: NodeId,
}

/// Something that happened at a node.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A disk was formatted.
    Formatted(&'a Formatted),
    /// A process started on its disk; `Record::Started` is durable.
    Started {
        /// This start.
        boot: Boot,
    },
    /// A process started and its replica took over what was durable.
    Recovered {
        /// The replica, before its first event.
        replica: &'a Replica,
    },
    /// The process died. Records that it wrote and that never became durable are lost.
    Crashed,
    /// A message left the node.
    Sent {
        /// For whom.
        to: &'a Recipients,
        /// What it says.
        message: &'a Message,
    },
    /// One copy of a message is on its way to a node, or is lost.
    Posted {
        /// Its number in this world.
        letter: u64,
        /// For whom.
        to: NodeId,
        /// What it says.
        message: &'a Message,
        /// When it arrives, if it does.
        arrivals: Arrivals,
        /// It met a cut link.
        cut: bool,
    },
    /// A message reached the node and is handled next.
    Received {
        /// Its number.
        letter: u64,
        /// What it says.
        message: &'a Message,
    },
    /// Bytes are on their way between a client and the node.
    Carried {
        /// Which client.
        client: u32,
        /// Which way.
        way: Way,
        /// When they arrive, if both ends are there.
        arrives: Instant,
        /// What they are.
        bytes: &'a Bytes,
    },
    /// Something befell the connection of a client.
    Connection(Mishap),
    /// The disk begins a sync.
    Syncing {
        /// Records that it is to make durable.
        records: usize,
    },
    /// The disk has done its sync.
    Synced,
    /// Chosen entries were read back from the log, for a peer that lacks them.
    LogRead {
        /// The slot of the first one.
        first: Slot,
        /// How many.
        entries: usize,
    },
    /// A process opened its log, and begins to make its start durable.
    Starting {
        /// Behind the last whole record there was something torn.
        torn_tail: bool,
        /// Records that were being written when the last process died.
        written: usize,
        /// Of these, those that survived.
        kept: usize,
    },
    /// A process found its disk empty and refused to start.
    FoundEmpty,
    /// The node refused a link to a process on a disk that is not its own.
    TurnedAway(&'a Refusal),
    /// A frame whose bytes are not what was sent reached the node, and is handled next.
    Garbled,
    /// The process stands still.
    Paused,
    /// The process goes on.
    Resumed,
    /// A fault strikes; it is about no node in particular.
    Struck(&'a Fault),
    /// A partition ends.
    Mended {
        /// Sender and receiver of each link.
        cuts: &'a [(NodeId, NodeId)],
    },
    /// All faults end.
    Healed,
    /// The worst disk image that could survive from now on holds this record, behind those before.
    Durable(&'a Record),
    /// A slot was applied.
    Applied {
        /// Which one.
        slot: Slot,
        /// What was chosen there.
        entry: &'a Entry,
        /// The proposal that it is, if the node says so.
        tag: Option<Tag>,
    },
    /// A proposal was handed to the node.
    Proposed {
        /// Its name.
        tag: Tag,
        /// The command.
        command: &'a Bytes,
    },
    /// A proposal was refused for good.
    Refused {
        /// Its name.
        tag: Tag,
        /// Why.
        error: ProposeError,
    },
    /// The outcome of a proposal is unknown for good.
    InDoubt {
        /// Its name.
        tag: Tag,
    },
    /// A read was asked for.
    ReadAsked {
        /// Its name.
        tag: Tag,
    },
    /// A read may be answered from state that holds every slot below this one.
    ReadReady {
        /// Its name.
        tag: Tag,
        /// The first slot that need not be reflected.
        slot: Slot,
    },
    /// A read failed.
    ReadFailed {
        /// Its name.
        tag: Tag,
        /// Why.
        error: ReadError,
    },
    /// The node's role changed.
    Role {
        /// To what.
        role: Role,
        /// With which ballot.
        ballot: Option<paxos_core::Ballot>,
        /// Why.
        reason: RoleReason,
    },
    /// The node fenced itself.
    Fenced {
        /// Why.
        reason: FenceReason,
    },
    /// A whole node has handled an input.
    Served(&'a Node),
    /// A client begins an operation.
    Asked(&'a Operation),
    /// An operation ended with this reply.
    Answered {
        /// Which one.
        id: OperationId,
        /// The reply.
        reply: &'a Reply,
    },
    /// Nobody will ever know how an operation ended.
    Unknown {
        /// Which one.
        id: OperationId,
    },
    /// A replica has handled an event.
    Stepped {
        /// The replica as it is now.
        replica: &'a Replica,
        /// How many things it asked for.
        outputs: usize,
    },
}

/// What can befall a client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// Its replies wait unread, and the node is told to answer nothing more.
    Stalled,
    /// They were read after all, and the node is told so.
    Drained,
    /// Too many replies wait unread: it is closed.
    Cut,
    /// The node has no room for it.
    NoRoom,
    /// One of a crowd: it ends in the midst of a command.
    LeftOpen,
}

impl Mishap {
    /// What it is in a few words.
    pub fn name(self) -> &'static str {
        match self {
            Mishap::Stalled => "replies wait unread",
            Mishap::Drained => "replies were read after all",
            Mishap::Cut => "too many replies wait unread: its connection is closed",
            Mishap::NoRoom => "there is no room for one more connection",
            Mishap::LeftOpen => "one of a crowd leaves in the midst of a command",
        }
    }
}

/// Between a client and a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the client.
    ToNode,
    /// To the client.
    ToClient,
}

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which one, by its stable name.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// The violation of an invariant, with what was seen.
    pub fn new(invariant: &'static str, detail: impl Into<String>) -> Violation {
        Violation { invariant, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl std::error::Error for Violation {}
