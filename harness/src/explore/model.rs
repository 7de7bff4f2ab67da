//! What may happen next: the choices of an exploration, and the rule that every state is asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use paxos_core::Slot;
use stateright::{Model, Property};

use super::catalogue::{Catalogue, Happening};
use super::cluster::Cluster;

/// The bounds of an exploration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exploration {
    /// Voters in the cluster.
    pub voters: usize,
    /// How many of them, from the first on, campaign and propose.
    pub proposers: usize,
    /// Campaigns of each.
    pub ballots: u8,
    /// Commands that each proposes.
    pub commands: u8,
    /// Slots of the log.
    pub slots: u64,
    /// Processes that die and start again, in all.
    pub crashes: u8,
    /// Whether records become durable one by one, some time later; at once otherwise.
    pub slow_disks: bool,
    /// Reads that each proposer asks for.
    pub reads: u8,
    /// The rule that is broken on purpose, if any.
    #[cfg(paxos_mutants)]
    pub mutant: Option<paxos_core::mutants::Mutant>,
}

/// One thing that may happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// A message arrives that was sent at any time before, once more or for the first time.
    Deliver(usize),
    /// The oldest record of a node becomes durable.
    Sync(usize),
    /// A node's election timer fires, and it campaigns.
    Campaign(usize),
    /// A client asks a leader for a command.
    Propose(usize),
    /// A client asks a leader for a read.
    Read(usize),
    /// A process dies and starts again.
    Crash(usize),
}

/// An exploration under way: its bounds, and what it found out so far.
pub struct Explorer {
    pub(super) bounds: Exploration,
    catalogue: Mutex<Catalogue>,
    /// Whether everything that is left out is tried nevertheless.
    doubts: bool,
}

impl Explorer {
    /// Nothing explored yet.
    pub fn new(bounds: Exploration) -> Explorer {
        Explorer { bounds, catalogue: Mutex::default(), doubts: false }
    }

    /// The same, where everything that is left out is tried nevertheless: each message that was forgotten in every later
    /// state, and each node that was taken for another.
    pub fn doubting(bounds: Exploration) -> Explorer {
        let explorer = Explorer { doubts: true, ..Explorer::new(bounds) };
        explorer.catalogue().keep_twins();
        explorer
    }

    /// What is found out stays true even if whoever found it out panicked.
    pub(super) fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last slot of the log is known to be chosen by any node.
    pub(super) fn is_last_slot_chosen(&self, state: &Cluster) -> bool {
        let catalogue = self.catalogue();
        let last = Slot::new(self.bounds.slots);
        let knows =
            |number: &u32| last.is_some_and(|last| catalogue.node(*number).node.replica.first_unchosen() > last);
        state.nodes.iter().any(knows)
    }

    /// A choice in words.
    pub(super) fn describe_choice(&self, state: &Cluster, choice: &Choice) -> String {
        let Choice::Deliver(at) = choice else { return format!("{choice:?}") };
        let Some(number) = state.network.get(*at) else { return format!("{choice:?}") };
        let catalogue = self.catalogue();
        let envelope = catalogue.envelope(*number);
        format!("to n{} from {}: {:?}", envelope.to + 1, envelope.message.header.from, envelope.message.body)
    }

    /// A state in words.
    pub(super) fn describe(&self, state: &Cluster) -> String {
        let catalogue = self.catalogue();
        let mut text = String::new();
        for (at, number) in state.nodes.iter().enumerate() {
            let node = &catalogue.node(*number).node;
            let role = (node.replica.role(), node.replica.ballot(), node.replica.promised());
            text += &format!("n{} {role:?} {:?} pending {:?}\n", at + 1, node.disk, node.pending);
        }
        for number in &state.network {
            let envelope = catalogue.envelope(*number);
            text += &format!("to n{}: {:?}\n", envelope.to + 1, envelope.message.body);
        }
        text + &format!("{:?}", state.broken)
    }
}

impl Model for Explorer {
    type State = Cluster;
    type Action = Choice;

    fn init_states(&self) -> Vec<Cluster> {
        let mut cluster = Cluster::new(&self.bounds, &mut self.catalogue());
        cluster.ghosts = self.doubts.then(Vec::new);
        vec![cluster]
    }

    fn actions(&self, state: &Cluster, choices: &mut Vec<Choice>) {
        if state.broken.is_some() {
            return;
        }
        let (bounds, catalogue) = (&self.bounds, self.catalogue());
        choices.extend((0..state.network.len()).map(Choice::Deliver));
        for (at, number) in state.nodes.iter().enumerate() {
            let node = &catalogue.node(*number).node;
            if !node.pending.is_empty() {
                choices.push(Choice::Sync(at));
            }
            if state.crashes < bounds.crashes {
                choices.push(Choice::Crash(at));
            }
            if at >= bounds.proposers {
                continue;
            }
            if node.ballots < bounds.ballots {
                choices.push(Choice::Campaign(at));
            }
            if node.serves() && node.commands < bounds.commands && node.replica.propose_room() > 0 {
                choices.push(Choice::Propose(at));
            }
            // Whether it serves already is for the leader to know.
            if node.leads() && node.reads < bounds.reads {
                choices.push(Choice::Read(at));
            }
        }
    }

    fn next_state(&self, last: &Cluster, choice: Choice) -> Option<Cluster> {
        let (bounds, catalogue) = (&self.bounds, &mut *self.catalogue());
        let mut state = last.clone();
        match choice {
            Choice::Deliver(at) => {
                let envelope = *last.network.get(at)?;
                let to = catalogue.envelope(envelope).to;
                state.step(bounds, catalogue, to, Happening::Receive(envelope));
            }
            Choice::Sync(at) => state.step(bounds, catalogue, at, Happening::Sync),
            Choice::Campaign(at) => state.step(bounds, catalogue, at, Happening::Campaign),
            Choice::Propose(at) => state.step(bounds, catalogue, at, Happening::Propose),
            Choice::Read(at) => state.step(bounds, catalogue, at, Happening::Read(last.acknowledged)),
            Choice::Crash(at) => state.crash(bounds, catalogue, at),
        }
        state.settle(bounds, catalogue, Some(last));
        // A choice that changes nothing is none.
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Explorer>> {
        vec![
            Property::always("no rule is broken", |_, state: &Cluster| state.broken.is_none()),
            // An exploration that chooses nothing has shown nothing.
            Property::sometimes("the last slot is chosen", |model: &Explorer, state: &Cluster| {
                model.is_last_slot_chosen(state)
            }),
        ]
    }
}
