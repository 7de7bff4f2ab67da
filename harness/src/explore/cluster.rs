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
    /// Messages that were forgotten, if somebody wants to see that they do nothing later either.
    pub(super) ghosts: Option<Vec<EnvelopeNumber>>,
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
                Ok(node) => nodes.push(catalogue.enter(model, node)),
                Err(error) => broken = Some(Box::new(error)),
            }
        }
        let network = Vec::new();
        let mut cluster = Cluster {
            nodes,
            network,
            crashes: 0,
            acknowledged: Slot::FIRST,
            served: 0,
            broken,
            ghosts: None,
            fingerprint: 0,
        };
        if cluster.broken.is_none() {
            for at in 0..model.voters {
                cluster.greet(model, catalogue, at, at + 1);
            }
            cluster.settle_down(model, catalogue);
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
        if let Some(end) = step.acknowledged.filter(|_| model.reads > 0) {
            self.acknowledged = self.acknowledged.max(end);
        }
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
        self.settle_down(model, catalogue);
    }

    /// Nodes know when the last of them has started.
    fn settle_down(&mut self, model: &Exploration, catalogue: &mut Catalogue) {
        if self.crashes == model.crashes {
            (0..self.nodes.len()).for_each(|at| self.step(model, catalogue, at, Happening::SettleDown));
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

    /// After a choice: what is of no more use is forgotten, and the rules are looked at. `before` is the cluster before it.
    pub(super) fn settle(&mut self, model: &Exploration, catalogue: &mut Catalogue, before: Option<&Cluster>) {
        self.forget_what_is_of_no_more_use(model, catalogue, before);
        if self.broken.is_none() && before.is_none_or(|before| before.nodes != self.nodes) {
            self.broken = catalogue.verdict(&self.nodes).map(Box::new);
        }
        let mut sum = 0;
        for envelope in &self.network {
            sum = catalogue.envelope_fingerprint(*envelope).wrapping_add(sum);
        }
        for node in &self.nodes {
            sum = mixed(sum).wrapping_add(catalogue.node(*node).fingerprint);
        }
        let rest = self.acknowledged.get() << 16 | u64::from(self.crashes) << 8 | u64::from(self.broken.is_some());
        self.fingerprint = mixed(mixed(sum).wrapping_add(rest));
    }

    /// Messages that can do nothing any more, whatever happens, are the same as none. Only those need a look that are new,
    /// or whose sender or receiver changed.
    fn forget_what_is_of_no_more_use(
        &mut self,
        model: &Exploration,
        catalogue: &mut Catalogue,
        before: Option<&Cluster>,
    ) {
        let mut network = std::mem::take(&mut self.network);
        network.retain(|number| {
            let (to, from) = catalogue.ends(*number);
            let was_of_use = |before: &Cluster| {
                let same = |at: usize| before.nodes[at] == self.nodes[at];
                same(to) && same(from) && before.network.binary_search(number).is_ok()
            };
            if before.is_some_and(was_of_use) || !catalogue.is_useless(model, &self.nodes, *number) {
                return true;
            }
            self.check_uselessness(model, catalogue, *number);
            if let Some(ghosts) = &mut self.ghosts
                && !ghosts.contains(number)
            {
                ghosts.push(*number);
            }
            false
        });
        self.network = network;
        for ghost in self.ghosts.clone().unwrap_or_default() {
            self.check_uselessness(model, catalogue, ghost);
        }
    }

    /// A message that is forgotten for being useless does nothing, nor does what it is answered with.
    fn check_uselessness(&mut self, model: &Exploration, catalogue: &mut Catalogue, envelope: EnvelopeNumber) {
        let (to, _) = catalogue.ends(envelope);
        let step = catalogue.step(model, self.nodes[to], Happening::Receive(envelope));
        let (node, sent) = (step.node, step.sent.clone());
        let mut dead = std::iter::once(&envelope).chain(&sent);
        if node != self.nodes[to] || !dead.all(|dead| catalogue.is_useless(model, &self.nodes, *dead)) {
            self.note(Broken::ForgottenTooEarly(id(to)));
        }
    }

    fn note(&mut self, broken: Broken) {
        self.broken.get_or_insert_with(|| Box::new(broken));
    }
}
