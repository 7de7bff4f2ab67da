//! What was found out once and holds for good: nodes, messages, and what comes of giving one to the other.
//!
//! A cluster of three nodes has millions of states, but each of its nodes has only thousands. A state is the numbers of
//! its nodes and messages here, and the core is asked only for what it was never asked before.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use paxos_core::{Message, Slot};

use super::model::Exploration;
use super::network::{Envelope, Use};
use super::node::{Applied, Node, Outcome};
use super::verdict::{Broken, Testament, verdict};

/// The number of a node as it is at some moment.
pub(super) type NodeNumber = u32;
/// The number of a message to one receiver.
pub(super) type EnvelopeNumber = u32;

/// One thing that happens to one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Happening {
    Receive(EnvelopeNumber),
    Sync,
    Campaign,
    Propose,
    /// With the end of what was acknowledged so far.
    Read(Slot),
    Restart,
    /// It was the last restart of any node.
    SettleDown,
}

/// What comes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) node: NodeNumber,
    pub(super) sent: Vec<EnvelopeNumber>,
    pub(super) applied: Vec<Applied>,
    pub(super) acknowledged: Option<Slot>,
    pub(super) served: u8,
    pub(super) broken: Option<Broken>,
}

/// A node with what is often asked of it.
pub(super) struct Known {
    pub(super) node: Node,
    pub(super) fingerprint: u64,
    /// Which testament it leaves.
    pub(super) testament: u32,
}

/// Keys are spread well enough already, or small.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(self.0 ^ number);
    }
}

/// Every bit of a number moves every bit of this one (the finalizer of MurmurHash3).
pub(super) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

type Table<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

#[derive(Default)]
pub(super) struct Catalogue {
    nodes: Vec<Known>,
    node_numbers: Table<u64, NodeNumber>,
    envelopes: Vec<(Envelope, u64)>,
    envelope_numbers: Table<u64, EnvelopeNumber>,
    testaments: Vec<Testament>,
    testament_numbers: HashMap<Testament, u32>,
    steps: Table<u64, u32>,
    results: Vec<Step>,
    rare_steps: HashMap<(NodeNumber, Happening), u32>,
    said: HashMap<NodeNumber, Vec<EnvelopeNumber>>,
    uses: Table<u64, Use>,
    cares: Table<u64, bool>,
    verdicts: HashMap<Vec<u32>, Option<Broken>>,
    twins: Option<Twins>,
}

/// Nodes that were taken for one that was known, though they are not the same to the last bit.
#[derive(Default)]
struct Twins {
    unlike: Vec<(NodeNumber, Node)>,
    /// Every node that was met, to the last bit.
    exact: HashSet<u64>,
}

fn fingerprint_of(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn pair(node: NodeNumber, envelope: EnvelopeNumber) -> u64 {
    u64::from(node) << 32 | u64::from(envelope)
}

impl Catalogue {
    pub(super) fn node(&self, number: NodeNumber) -> &Known {
        &self.nodes[number as usize]
    }

    pub(super) fn envelope(&self, number: EnvelopeNumber) -> &Envelope {
        &self.envelopes[number as usize].0
    }

    /// Whom a message is to, and from.
    pub(super) fn ends(&self, number: EnvelopeNumber) -> (usize, usize) {
        let envelope = &self.envelopes[number as usize].0;
        (envelope.to, envelope.from())
    }

    pub(super) fn envelope_fingerprint(&self, number: EnvelopeNumber) -> u64 {
        self.envelopes[number as usize].1
    }

    pub(super) fn testament(&self, node: NodeNumber) -> &Testament {
        &self.testaments[self.node(node).testament as usize]
    }

    /// How many nodes, messages and steps are known.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.nodes.len(), self.envelopes.len(), self.results.len())
    }

    pub(super) fn enter(&mut self, model: &Exploration, node: Node) -> NodeNumber {
        let mut hasher = DefaultHasher::new();
        node.hash_at_rest(model, &mut hasher);
        let fingerprint = hasher.finish();
        let exact = self.twins.as_ref().map(|_| fingerprint_of(&node));
        if let Some(number) = self.node_numbers.get(&fingerprint) {
            if let (Some(twins), Some(exact)) = (&mut self.twins, exact)
                && twins.exact.insert(exact)
            {
                twins.unlike.push((*number, node));
            }
            return *number;
        }
        if let (Some(twins), Some(exact)) = (&mut self.twins, exact) {
            twins.exact.insert(exact);
        }
        let testament = Testament::of(&node);
        let testaments = self.testaments.len() as u32;
        let testament = *self.testament_numbers.entry(testament).or_insert_with_key(|testament| {
            self.testaments.push(testament.clone());
            testaments
        });
        let number = self.nodes.len() as NodeNumber;
        self.nodes.push(Known { node, fingerprint, testament });
        self.node_numbers.insert(fingerprint, number);
        number
    }

    fn enter_envelope(&mut self, to: usize, message: Message) -> EnvelopeNumber {
        let envelope = Envelope { to, message };
        let fingerprint = fingerprint_of(&envelope);
        let number = self.envelopes.len() as EnvelopeNumber;
        let known = *self.envelope_numbers.entry(fingerprint).or_insert(number);
        if known == number {
            self.envelopes.push((envelope, fingerprint));
        }
        known
    }

    /// What comes of something that happens to a node.
    pub(super) fn step(&mut self, model: &Exploration, node: NodeNumber, happening: Happening) -> &Step {
        let known = match happening {
            Happening::Receive(envelope) => self.steps.get(&pair(node, envelope)),
            _ => self.rare_steps.get(&(node, happening)),
        };
        let place = match known {
            Some(place) => *place,
            None => {
                let step = self.carry_out(model, node, happening);
                let place = self.results.len() as u32;
                self.results.push(step);
                match happening {
                    Happening::Receive(envelope) => self.steps.insert(pair(node, envelope), place),
                    _ => self.rare_steps.insert((node, happening), place),
                };
                place
            }
        };
        &self.results[place as usize]
    }

    fn carry_out(&mut self, model: &Exploration, number: NodeNumber, happening: Happening) -> Step {
        let node = self.node(number).node.clone();
        self.step_of(model, node, happening)
    }

    fn step_of(&mut self, model: &Exploration, mut node: Node, happening: Happening) -> Step {
        // The checker has threads of its own.
        #[cfg(paxos_mutants)]
        paxos_core::mutants::set(model.mutant);
        let outcome = match happening {
            Happening::Receive(envelope) => node.receive(model, &self.envelope(envelope).message),
            Happening::Sync => node.sync(model),
            Happening::Campaign => node.campaign(model),
            Happening::Propose => node.propose(model),
            Happening::Read(acknowledged) => node.read(model, acknowledged),
            Happening::Restart => node.restart(model),
            Happening::SettleDown => {
                node.settle_down();
                Outcome::default()
            }
        };
        let Outcome { sent, applied, acknowledged, served, broken } = outcome;
        let mut sent: Vec<EnvelopeNumber> =
            sent.into_iter().map(|(to, message)| self.enter_envelope(to, message)).collect();
        sent.sort_unstable();
        sent.dedup();
        Step { node: self.enter(model, node), sent, applied, acknowledged, served, broken }
    }

    /// What a node would say in its heartbeats now.
    pub(super) fn heartbeats(&mut self, node: NodeNumber) -> Vec<EnvelopeNumber> {
        if let Some(said) = self.said.get(&node) {
            return said.clone();
        }
        let said = self.node(node).node.heartbeats();
        let said: Vec<EnvelopeNumber> =
            said.into_iter().map(|(to, message)| self.enter_envelope(to, message)).collect();
        self.said.insert(node, said.clone());
        said
    }

    /// Whether a message can do nothing any more, whatever happens.
    pub(super) fn is_useless(&mut self, model: &Exploration, nodes: &[NodeNumber], number: EnvelopeNumber) -> bool {
        let envelope = &self.envelopes[number as usize].0;
        let (to, from) = (nodes[envelope.to], nodes[envelope.from()]);
        let use_of_it =
            *self.uses.entry(pair(to, number)).or_insert_with(|| envelope.use_to(model, &self.nodes[to as usize].node));
        match use_of_it {
            Use::Some => false,
            Use::None => true,
            Use::WhileSenderCares => !*self
                .cares
                .entry(pair(from, number))
                .or_insert_with(|| envelope.is_cared_for(model, &self.nodes[from as usize].node)),
        }
    }

    /// The first rule that does not hold among these nodes.
    pub(super) fn verdict(&mut self, nodes: &[NodeNumber]) -> Option<Broken> {
        let key: Vec<u32> = nodes.iter().map(|node| self.node(*node).testament).collect();
        if let Some(verdict) = self.verdicts.get(&key) {
            return verdict.clone();
        }
        let testaments: Vec<&Testament> = key.iter().map(|number| &self.testaments[*number as usize]).collect();
        let found = verdict(&testaments);
        self.verdicts.insert(key, found.clone());
        found
    }

    /// Keeps what is taken for one, to be tried by `check_twins`.
    pub(super) fn keep_twins(&mut self) {
        self.twins.get_or_insert_default();
    }

    /// Tries all that were taken for one, with everything that ever happened to that one, and with what comes of it: how
    /// many were tried, or what was wrong.
    pub(super) fn check_twins(&mut self, model: &Exploration) -> Result<usize, String> {
        let mut happened: HashMap<NodeNumber, Vec<(Happening, u32)>> = HashMap::new();
        for (pair, place) in &self.steps {
            let happening = Happening::Receive(*pair as EnvelopeNumber);
            happened.entry((pair >> 32) as NodeNumber).or_default().push((happening, *place));
        }
        for ((node, happening), place) in &self.rare_steps {
            happened.entry(*node).or_default().push((*happening, *place));
        }
        let mut tried = 0;
        while let Some((number, twin)) = self.twins.as_mut().and_then(|twins| twins.unlike.pop()) {
            tried += 1;
            let known = self.node(number);
            let differs = |what: &str| Err(format!("{what}\n{twin:?}\n{:?}", known.node));
            if Testament::of(&twin) != self.testaments[known.testament as usize] {
                return differs("another testament");
            }
            for (envelope, _) in &self.envelopes {
                if envelope.use_to(model, &twin) != envelope.use_to(model, &known.node)
                    || envelope.is_cared_for(model, &twin) != envelope.is_cared_for(model, &known.node)
                {
                    return differs("another use");
                }
            }
            for (happening, place) in happened.get(&number).into_iter().flatten() {
                let step = self.step_of(model, twin.clone(), *happening);
                if step != self.results[*place as usize] {
                    return Err(format!(
                        "{happening:?} makes another {step:?}\n{twin:?}\n{:?}",
                        self.node(number).node
                    ));
                }
            }
            if let Some(said) = self.said.get(&number).cloned() {
                let says = twin.heartbeats().into_iter().map(|(to, message)| self.enter_envelope(to, message));
                if says.collect::<Vec<EnvelopeNumber>>() != said {
                    return Err(format!("says something else\n{twin:?}\n{:?}", self.node(number).node));
                }
            }
        }
        Ok(tried)
    }
}
