//! The room for faults: what can go wrong, when, and how badly, drawn from the seed before the world begins.
//!
//! Swarm testing (Groce et al., 2012): each kind of fault is on in half of the seeds, and how often it strikes is
//! log-uniform, so that some seeds are all of one kind and some are calm.

mod plan;

use paxos_core::NodeId;

pub use plan::{plan, plan_more};

use crate::lost::Remedy;

/// Something that goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process dies and is started again after a while.
    Crash {
        /// Which one.
        node: NodeId,
        /// For how long.
        down_us: u64,
    },
    /// Several processes die at the same moment.
    PowerLoss {
        /// Which ones.
        nodes: Vec<NodeId>,
        /// For how long.
        down_us: u64,
    },
    /// A process is asked to stop, answers what it can, and is started again after a while.
    Terminate {
        /// Which one.
        node: NodeId,
        /// For how long.
        down_us: u64,
    },
    /// A process stands still and then finds everything that came meanwhile.
    Pause {
        /// Which one.
        node: NodeId,
        /// For how long.
        us: u64,
    },
    /// Messages from the first to the second of each pair are lost for a while.
    Partition {
        /// Sender and receiver.
        cuts: Vec<(NodeId, NodeId)>,
        /// For how long.
        us: u64,
    },
    /// Messages in one direction all arrive late.
    Clog {
        /// Sender.
        from: NodeId,
        /// Receiver.
        to: NodeId,
        /// For how long.
        us: u64,
    },
    /// No client reaches a node, and nobody tells the client.
    CutClients {
        /// Which node.
        node: NodeId,
        /// For how long.
        us: u64,
    },
    /// Every client connection of a node is reset.
    ResetClients {
        /// Which node.
        node: NodeId,
    },
    /// The operator asks whoever leads to hand over.
    HandOver {
        /// Who is to lead.
        to: NodeId,
    },
    /// A disk answers nothing for a while.
    DiskStall {
        /// Whose.
        node: NodeId,
        /// For how long.
        us: u64,
    },
    /// A disk fails in the midst of what it does; the process stops, unless it can do without, and is started again on
    /// what survived.
    DiskFailure {
        /// Whose.
        node: NodeId,
        /// How many operations still work.
        operations: u64,
        /// Whether those behind the one that fails work again.
        once: bool,
        /// For how long the node is down.
        down_us: u64,
    },
    /// Whoever leads dies and is started again after a while.
    Decapitate {
        /// For how long it is down.
        down_us: u64,
    },
    /// Every link loses many messages for a while, and then whoever leads may die: what is left are gaps.
    Storm {
        /// How many of a million messages are lost.
        loss: u64,
        /// For how long.
        us: u64,
        /// For how long the leader is then down, if it dies.
        down_us: Option<u64>,
    },
    /// An Accept of the leader is held back on every link until it has sent one for later slots; soon after, the
    /// leader is gone. What is left is a gap, and what was held back arrives in another time.
    Ambush {
        /// How much later what is held back arrives.
        late_us: u64,
        /// From the second Accept until the leader is gone.
        us: u64,
        /// How it goes.
        then: Then,
    },
    /// A node is taken away for good.
    Remove {
        /// Which one.
        node: NodeId,
    },
    /// A process dies and finds its disk empty.
    Wipe {
        /// Which one.
        node: NodeId,
        /// For how long it is down.
        down_us: u64,
        /// What its operator does then.
        remedy: Remedy,
    },
    /// A disk is copied and its process restarted, and later restarted once more, on the copy.
    OldImage {
        /// Whose.
        node: NodeId,
        /// From the copy until it is put back.
        us: u64,
        /// For how long it is down each time.
        down_us: u64,
    },
    /// A process dies, and a block of its disk is not what was written any more.
    Rot {
        /// Which one.
        node: NodeId,
        /// For how long it is down.
        down_us: u64,
        /// Which block, and what it is instead.
        number: u64,
    },
    /// A node's clock stands still for a while.
    FreezeClock {
        /// Whose.
        node: NodeId,
        /// For how long.
        us: u64,
    },
    /// Whoever leads is cut off for a while.
    CutLeader {
        /// From whom.
        lone: Lone,
        /// For how long.
        us: u64,
    },
    /// A client reads nothing for a while, and goes on asking.
    SlowReader {
        /// Which one.
        client: u32,
        /// For how long.
        us: u64,
    },
    /// Many connect to a node at once and leave one after the other, some in the midst of a command.
    Crowd {
        /// Which node.
        node: NodeId,
        /// How many.
        connections: u64,
        /// Until the last one leaves.
        us: u64,
    },
}

/// How a leader is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lone {
    /// It hears no node.
    Deaf,
    /// No node hears it.
    Mute,
    /// Both.
    Alone,
    /// Both, and no client reaches it.
    Gone,
}

impl Lone {
    /// All of them.
    pub const ALL: [Lone; 4] = [Lone::Deaf, Lone::Mute, Lone::Alone, Lone::Gone];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Lone::Deaf => "deaf",
            Lone::Mute => "mute",
            Lone::Alone => "alone",
            Lone::Gone => "gone",
        }
    }
}

/// How many kinds of fault there are.
pub const FAULT_KINDS: usize = 22;
/// Kinds of an earlier age, drawn from a stream of their own: whatever is added later shifts none of them.
pub(crate) const FIRST_KINDS: usize = 15;
/// Kinds of the age after that, with their own stream; those behind them are the misbehaviour of clients, with theirs.
pub(crate) const LATER_KINDS: usize = 20;

/// The kind of `Fault::Ambush`.
pub(crate) const AMBUSH: usize = 14;

/// How a leader goes that was ambushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Its process dies.
    Dies {
        /// For how long it is down.
        down_us: u64,
    },
    /// It stands still; of what is sent to it meanwhile, only the messages of one node reach it.
    Stands {
        /// For how long.
        us: u64,
        /// Whose messages.
        hears: NodeId,
    },
}

impl Fault {
    /// A short name for counts.
    pub const NAMES: [&'static str; FAULT_KINDS] = [
        "crash",
        "power-loss",
        "terminate",
        "pause",
        "partition",
        "clog",
        "client-cut",
        "client-reset",
        "hand-over",
        "disk-stall",
        "disk-failure",
        "decapitate",
        "storm",
        "remove",
        "ambush",
        "wipe",
        "old-image",
        "clock-freeze",
        "leader-cut",
        "rot",
        "slow-reader",
        "crowd",
    ];

    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            Fault::Crash { node, .. }
            | Fault::Terminate { node, .. }
            | Fault::Pause { node, .. }
            | Fault::CutClients { node, .. }
            | Fault::ResetClients { node }
            | Fault::HandOver { to: node }
            | Fault::DiskStall { node, .. }
            | Fault::DiskFailure { node, .. }
            | Fault::Wipe { node, .. }
            | Fault::OldImage { node, .. }
            | Fault::Rot { node, .. }
            | Fault::FreezeClock { node, .. }
            | Fault::Crowd { node, .. }
            | Fault::Remove { node } => vec![*node],
            Fault::PowerLoss { nodes, .. } => nodes.clone(),
            Fault::Partition { cuts, .. } => cuts.iter().flat_map(|(from, to)| [*from, *to]).collect(),
            Fault::Clog { from, to, .. } => vec![*from, *to],
            Fault::Ambush { then: Then::Stands { hears, .. }, .. } => vec![*hears],
            Fault::Ambush { then: Then::Dies { .. }, .. } => Vec::new(),
            Fault::Decapitate { .. } | Fault::Storm { .. } | Fault::CutLeader { .. } | Fault::SlowReader { .. } => {
                Vec::new()
            }
        }
    }

    /// How long it, or what it leaves behind, lasts, in microseconds.
    pub fn times_us(&mut self) -> Vec<&mut u64> {
        match self {
            Fault::Crash { down_us, .. }
            | Fault::PowerLoss { down_us, .. }
            | Fault::Terminate { down_us, .. }
            | Fault::DiskFailure { down_us, .. }
            | Fault::Wipe { down_us, .. }
            | Fault::Rot { down_us, .. }
            | Fault::Decapitate { down_us } => vec![down_us],
            Fault::Pause { us, .. }
            | Fault::Partition { us, .. }
            | Fault::Clog { us, .. }
            | Fault::CutClients { us, .. }
            | Fault::FreezeClock { us, .. }
            | Fault::CutLeader { us, .. }
            | Fault::SlowReader { us, .. }
            | Fault::Crowd { us, .. }
            | Fault::DiskStall { us, .. } => vec![us],
            Fault::OldImage { us, down_us, .. } => vec![us, down_us],
            Fault::Ambush { late_us, us, then: Then::Dies { down_us: gone } | Then::Stands { us: gone, .. } } => {
                vec![late_us, us, gone]
            }
            Fault::Storm { us, down_us, .. } => std::iter::once(us).chain(down_us.as_mut()).collect(),
            Fault::ResetClients { .. } | Fault::HandOver { .. } | Fault::Remove { .. } => Vec::new(),
        }
    }

    /// What is left of it in a cluster without this node, if anything.
    pub fn without(&self, gone: NodeId) -> Option<Fault> {
        match self {
            Fault::PowerLoss { nodes, down_us } => {
                let nodes: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != gone).collect();
                (!nodes.is_empty()).then_some(Fault::PowerLoss { nodes, down_us: *down_us })
            }
            Fault::Partition { cuts, us } => {
                let cuts: Vec<(NodeId, NodeId)> =
                    cuts.iter().copied().filter(|(from, to)| *from != gone && *to != gone).collect();
                (!cuts.is_empty()).then_some(Fault::Partition { cuts, us: *us })
            }
            Fault::Crash { .. }
            | Fault::Terminate { .. }
            | Fault::Pause { .. }
            | Fault::Clog { .. }
            | Fault::CutClients { .. }
            | Fault::ResetClients { .. }
            | Fault::HandOver { .. }
            | Fault::DiskStall { .. }
            | Fault::DiskFailure { .. }
            | Fault::Decapitate { .. }
            | Fault::Storm { .. }
            | Fault::Ambush { .. }
            | Fault::Wipe { .. }
            | Fault::OldImage { .. }
            | Fault::Rot { .. }
            | Fault::FreezeClock { .. }
            | Fault::CutLeader { .. }
            | Fault::SlowReader { .. }
            | Fault::Crowd { .. }
            | Fault::Remove { .. } => (!self.nodes().contains(&gone)).then(|| self.clone()),
        }
    }

    /// Where its name is in `NAMES`.
    pub fn kind(&self) -> usize {
        match self {
            Fault::Crash { .. } => 0,
            Fault::PowerLoss { .. } => 1,
            Fault::Terminate { .. } => 2,
            Fault::Pause { .. } => 3,
            Fault::Partition { .. } => 4,
            Fault::Clog { .. } => 5,
            Fault::CutClients { .. } => 6,
            Fault::ResetClients { .. } => 7,
            Fault::HandOver { .. } => 8,
            Fault::DiskStall { .. } => 9,
            Fault::DiskFailure { .. } => 10,
            Fault::Decapitate { .. } => 11,
            Fault::Storm { .. } => 12,
            Fault::Remove { .. } => 13,
            Fault::Ambush { .. } => AMBUSH,
            Fault::Wipe { .. } => 15,
            Fault::OldImage { .. } => 16,
            Fault::FreezeClock { .. } => 17,
            Fault::CutLeader { .. } => 18,
            Fault::Rot { .. } => 19,
            Fault::SlowReader { .. } => 20,
            Fault::Crowd { .. } => 21,
        }
    }
}
