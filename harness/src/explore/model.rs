//! What may happen next: the choices of an exploration, and the rule that every state is asked for.

use paxos_core::{Role, Slot};
use stateright::{Model, Property};

use super::cluster::{Cluster, Envelope};

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

impl Model for Exploration {
    type State = Cluster;
    type Action = Choice;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::new(self)]
    }

    fn actions(&self, state: &Cluster, choices: &mut Vec<Choice>) {
        if state.broken.is_some() {
            return;
        }
        choices.extend((0..state.network.envelopes.len()).map(Choice::Deliver));
        for (at, node) in state.nodes().enumerate() {
            if !node.pending.is_empty() {
                choices.push(Choice::Sync(at));
            }
            if state.crashes < self.crashes {
                choices.push(Choice::Crash(at));
            }
            if at >= self.proposers {
                continue;
            }
            if node.ballots < self.ballots {
                choices.push(Choice::Campaign(at));
            }
            let serves = state.role(at) == Some(Role::Leading { ready: true });
            let full = node.replica.as_ref().is_none_or(|replica| replica.propose_room() == 0);
            if serves && node.commands < self.commands && !full {
                choices.push(Choice::Propose(at));
            }
            if serves && node.reads < self.reads {
                choices.push(Choice::Read(at));
            }
        }
    }

    fn next_state(&self, last: &Cluster, choice: Choice) -> Option<Cluster> {
        // The checker has threads of its own.
        #[cfg(paxos_mutants)]
        paxos_core::mutants::set(self.mutant);
        let mut state = last.clone();
        match choice {
            Choice::Deliver(at) => {
                let envelope: &Envelope = last.network.envelopes.get(at)?;
                state.deliver(self, envelope);
            }
            Choice::Sync(at) => state.sync(self, at),
            Choice::Campaign(at) => state.campaign(self, at),
            Choice::Propose(at) => state.propose(self, at),
            Choice::Read(at) => state.read(self, at),
            Choice::Crash(at) => state.crash(self, at),
        }
        state.settle(self, &last.seats);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Exploration>> {
        vec![
            Property::always("no rule is broken", |_, state: &Cluster| state.broken.is_none()),
            // An exploration that chooses nothing has shown nothing.
            Property::sometimes("the last slot is chosen", |model: &Exploration, state: &Cluster| {
                let last = Slot::new(model.slots);
                state
                    .nodes()
                    .filter_map(|node| node.replica.as_ref())
                    .any(|replica| last.is_some_and(|last| replica.first_unchosen() > last))
            }),
        ]
    }
}
