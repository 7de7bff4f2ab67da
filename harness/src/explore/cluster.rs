//! The state that is explored: nodes, and every message that was ever sent and is of any use.

use std::hash::{Hash, Hasher};

use paxos_core::Slot;

use super::catalogue::{Catalogue, EnvelopeNumber, Happening, NodeNumber, mixed};
use super::disk::id;
use super::model::Exploration;
use super::node::Node;
use super::verdict::{Broken, was_chosen};

/// A cluster as it is at some moment: numbers in the catalogue of the exploration.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) nodes: Vec<NodeNumber>,
    /// By rising number.
    pub(super) network: Vec<EnvelopeNumber>,
    pub(super) crashes: u8,
    /// Every slot below was acknowledged to a caller: applied with its tag.
    pub(super) acknowledged: Slot,
    /// Reads that were granted.
    pub(super) served: u8,
    /// The first rule found broken.
    pub(super) broken: Option<Box<Broken>>,
    fingerprint: u64,
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint);
    }
}

/// By fingerprint, as the checker tells states apart too.
impl PartialEq for Cluster {
    fn eq(&self, other: &Cluster) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Cluster {
    /// Formatted nodes that have heard each other.
    pub(super) fn new(model: &Exploration, catalogue: &mut Catalogue) -> Cluster {
        let mut broken = None;
        let mut nodes = Vec::new();
        for at in 0..model.voters {
            match Node::new(model, at) {
                Ok(node) => nodes.push(catalogue.enter(node)),
                Err(error) => broken = Some(Box::new(error)),
            }
        }
        let network = Vec::new();
        let mut cluster =
            Cluster { nodes, network, crashes: 0, acknowledged: Slot::FIRST, served: 0, broken, fingerprint: 0 };
        if cluster.broken.is_none() {
            for at in 0..model.voters {
                cluster.greet(model, catalogue, at, at + 1);
            }
            cluster.settle(model, catalogue, None);
        }
        cluster
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Something happens to a node.
    pub(super) fn step(&mut self, model: &Exploration, catalogue: &mut Catalogue, at: usize, happening: Happening) {
        let step = catalogue.step(model, self.nodes[at], happening);
        self.nodes[at] = step.node;
        for sent in &step.sent {
            if let Err(place) = self.network.binary_search(sent) {
                self.network.insert(place, *sent);
            }
        }
        self.acknowledged = self.acknowledged.max(step.acknowledged.unwrap_or(Slot::FIRST));
        self.served += step.served;
        if let Some(broken) = &step.broken {
            self.broken.get_or_insert_with(|| Box::new(broken.clone()));
        }
        if !step.applied.is_empty() {
            let applied = step.applied.clone();
            let others = (0..self.nodes.len()).filter(|other| *other != at);
            let others: Vec<_> = others.map(|other| catalogue.testament(self.nodes[other])).collect();
            if let Some(wrong) = applied.iter().find(|applied| !was_chosen(applied, &others)) {
                self.note(Broken::AppliedWrongly(id(at), wrong.slot));
            }
        }
    }

    /// A process dies, what was not durable is lost, and it starts again at once: to be down for a while is the same as
    /// that nothing arrives.
    pub(super) fn crash(&mut self, model: &Exploration, catalogue: &mut Catalogue, at: usize) {
        self.crashes += 1;
        self.step(model, catalogue, at, Happening::Restart);
        if self.broken.is_none() {
            self.greet(model, catalogue, at, self.nodes.len());
        }
    }

    /// The heartbeats of a node that has just started, and those of the others to it, are heard at once: whom a leader
    /// sends to is decided by them, and what they teach beyond that can be learned by other messages too.
    fn greet(&mut self, model: &Exploration, catalogue: &mut Catalogue, at: usize, started: usize) {
        for from in 0..started {
            for said in catalogue.heartbeats(self.nodes[from]) {
                let to = catalogue.envelope(said).to;
                if to < started && (from == at) != (to == at) {
                    self.step(model, catalogue, to, Happening::Receive(said));
                }
            }
        }
    }

    /// After a choice: what is of no more use is forgotten, and the rules are looked at. `before` are the nodes before it.
    pub(super) fn settle(&mut self, model: &Exploration, catalogue: &mut Catalogue, before: Option<&Cluster>) {
        self.forget_what_is_of_no_more_use(model, catalogue);
        if self.broken.is_none() && before.is_none_or(|before| before.nodes != self.nodes) {
            self.broken = catalogue.verdict(&self.nodes).map(Box::new);
        }
        let mut sum =
            self.network.iter().fold(0u64, |sum, envelope| sum.wrapping_add(catalogue.envelope_fingerprint(*envelope)));
        for node in &self.nodes {
            sum = mixed(sum).wrapping_add(catalogue.node(*node).fingerprint);
        }
        let rest = self.acknowledged.get() << 16 | u64::from(self.crashes) << 8 | u64::from(self.broken.is_some());
        self.fingerprint = mixed(mixed(sum).wrapping_add(rest));
    }

    /// Messages that can do nothing any more, whatever happens, are the same as none.
    fn forget_what_is_of_no_more_use(&mut self, model: &Exploration, catalogue: &mut Catalogue) {
        let mut network = std::mem::take(&mut self.network);
        network.retain(|envelope| {
            let useless = catalogue.is_useless(model, &self.nodes, *envelope);
            if useless {
                self.check_uselessness(model, catalogue, *envelope);
            }
            !useless
        });
        self.network = network;
    }

    /// A message that is forgotten for being useless does nothing at this moment, at the least.
    fn check_uselessness(&mut self, model: &Exploration, catalogue: &mut Catalogue, envelope: EnvelopeNumber) {
        let to = catalogue.envelope(envelope).to;
        let step = catalogue.step(model, self.nodes[to], Happening::Receive(envelope));
        let (node, sent) = (step.node, step.sent.clone());
        if node != self.nodes[to] || !sent.iter().all(|sent| catalogue.is_useless(model, &self.nodes, *sent)) {
            self.note(Broken::ForgottenTooEarly(id(to)));
        }
    }

    fn note(&mut self, broken: Broken) {
        self.broken.get_or_insert_with(|| Box::new(broken));
    }
}
