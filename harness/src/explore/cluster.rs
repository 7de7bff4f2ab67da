//! The state that is explored: replicas, disks, and every message that was ever sent.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{
    Action, Ballot, Body, Boot, ClusterId, Config, Entry, Event, Formatted, Genesis, Incarnation, Instant, Member,
    Membership, Message, NodeId, QuorumSystem, Reason, Receipt, Record, Recovery, Replica, Role, Slot, Tag, Ticket,
    applied,
};

use super::model::Exploration;

/// The clock stands still.
const NOW: Instant = Instant::from_us(1);

/// A rule that does not hold in some state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Broken {
    /// Two entries were chosen in a slot.
    ChosenTwice(Slot),
    /// Two entries were accepted in a slot under one ballot.
    TwoEntriesOfABallot(Slot, Ballot),
    /// A replica holds for chosen what no quorum voted for.
    NotChosen(NodeId, Slot),
    /// A replica applied a slot out of order, or another entry than was chosen.
    AppliedWrongly(NodeId, Slot),
    /// A replica fenced itself.
    Fenced(NodeId),
    /// A replica could not start from its own disk.
    NoRecovery(NodeId, String),
    /// The exploration took a message to be of no more use that still does something.
    ForgottenTooEarly(NodeId),
    /// A read was granted that does not reflect what was acknowledged before it began.
    StaleRead(NodeId, Slot),
}

/// A message on its way to somebody, for good.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) to: usize,
    message: Message,
    fingerprint: u64,
}

/// Every message ever sent, by fingerprint.
#[derive(Clone, Default)]
pub(super) struct Network {
    pub(super) envelopes: Vec<Arc<Envelope>>,
    /// Of the whole set, in whatever order it was sent.
    fingerprint: u64,
}

impl Network {
    fn place(&self, fingerprint: u64) -> Result<usize, usize> {
        self.envelopes.binary_search_by_key(&fingerprint, |envelope| envelope.fingerprint)
    }
}

fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[derive(Clone)]
pub(super) struct Node {
    /// `None` while it is down.
    pub(super) replica: Option<Replica>,
    /// Durable records.
    disk: Vec<Record>,
    /// Records that a crash loses.
    pub(super) pending: VecDeque<(Ticket, Record)>,
    /// The next slot to be applied by this boot.
    next_to_apply: Slot,
    pub(super) ballots: u8,
    pub(super) commands: u8,
    pub(super) reads: u8,
    /// Reads that were asked for, with the end of what was acknowledged to anybody by then.
    asked: Vec<(Tag, Slot)>,
}

/// Tickets count for what they stand in front of, not by their numbers.
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.replica, &self.disk, self.next_to_apply, self.ballots, self.commands, self.reads).hash(state);
        self.pending.iter().for_each(|(_, record)| record.hash(state));
        self.asked.hash(state);
    }
}

impl Node {
    fn durable_promise(&self) -> Option<Ballot> {
        let promised = self.disk.iter().filter_map(|record| match record {
            Record::Promised(ballot) => Some(*ballot),
            _ => None,
        });
        promised.max()
    }

    /// Whether it is, in this boot, a candidate with this ballot. A ballot that is over never comes back.
    fn awaits_promises(&self, ballot: Ballot, boot: Boot) -> bool {
        let awaits = |replica: &Replica| {
            replica.role() == Role::Preparing && replica.ballot() == Some(ballot) && replica.header().boot == boot
        };
        self.replica.as_ref().is_some_and(awaits)
    }

    /// Whether it leads, or still can.
    fn may_lead(&self, model: &Exploration) -> bool {
        let active = |replica: &Replica| replica.role() != Role::Following;
        self.ballots < model.ballots || self.replica.as_ref().is_some_and(active)
    }

    /// A record that says again what the last one of its slots said changes nothing on a disk.
    fn write(&mut self, record: Record) {
        let slots = |record: &Record| match record {
            Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => {
                Some((*first, first.plus(entries.len() as u64)))
            }
            Record::Formatted(_) | Record::Started(_) | Record::Promised(_) | Record::Chosen { .. } => None,
        };
        if let Some((first, end)) = slots(&record) {
            let touches = |held: &&Record| slots(held).is_some_and(|held| held.0 < end && first < held.1);
            if self.disk.iter().rev().find(touches) == Some(&record) {
                return;
            }
        }
        self.disk.push(record);
    }
}

/// A node and its fingerprint: one step changes one node, the others are neither copied nor looked at.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) node: Arc<Node>,
    fingerprint: u64,
}

/// A cluster as it is at some moment.
#[derive(Clone)]
pub struct Cluster {
    pub(super) seats: Vec<Seat>,
    pub(super) network: Arc<Network>,
    pub(super) crashes: u8,
    /// Every slot below was acknowledged to a caller: applied with its tag.
    acknowledged: Slot,
    /// The first rule found broken.
    pub broken: Option<Broken>,
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.seats.iter().for_each(|seat| seat.fingerprint.hash(state));
        (self.network.fingerprint, self.crashes, self.acknowledged, &self.broken).hash(state);
    }
}

/// By fingerprint, as the checker tells states apart too.
impl PartialEq for Cluster {
    fn eq(&self, other: &Cluster) -> bool {
        fingerprint(self) == fingerprint(other)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, node) in self.nodes().enumerate() {
            let role = node.replica.as_ref().map(|replica| (replica.role(), replica.ballot(), replica.promised()));
            writeln!(f, "n{} {role:?} disk {:?} pending {:?}", at + 1, node.disk, node.pending)?;
        }
        for envelope in &self.network.envelopes {
            writeln!(f, "to n{}: {:?}", envelope.to + 1, envelope.message.body)?;
        }
        write!(f, "{:?}", self.broken)
    }
}

impl Cluster {
    /// Formatted nodes that have heard each other.
    pub(super) fn new(model: &Exploration) -> Cluster {
        let node = |at: usize| {
            let formatted = Record::Formatted(formatted(model.voters, at));
            Node {
                replica: None,
                disk: vec![formatted],
                pending: VecDeque::new(),
                next_to_apply: Slot::FIRST,
                ballots: 0,
                commands: 0,
                reads: 0,
                asked: Vec::new(),
            }
        };
        let seat = |at| Seat { node: Arc::new(node(at)), fingerprint: 0 };
        let seats = (0..model.voters).map(seat).collect();
        let network = Arc::default();
        let mut cluster = Cluster { seats, network, crashes: 0, acknowledged: Slot::FIRST, broken: None };
        for at in 0..model.voters {
            cluster.start(model, at);
        }
        cluster.settle(model, &[]);
        cluster
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.seats.iter().map(|seat| &*seat.node)
    }

    fn node_mut(&mut self, at: usize) -> &mut Node {
        Arc::make_mut(&mut self.seats[at].node)
    }

    /// After a choice: fingerprints of the nodes that it changed, and the rules.
    pub(super) fn settle(&mut self, model: &Exploration, before: &[Seat]) {
        for (at, seat) in self.seats.iter_mut().enumerate() {
            if before.get(at).is_none_or(|before| !Arc::ptr_eq(&before.node, &seat.node)) {
                seat.fingerprint = fingerprint(&*seat.node);
            }
        }
        self.forget_what_is_of_no_more_use(model);
        self.broken = self.verdict();
    }

    /// Messages that can do nothing any more, whatever happens, are the same as none.
    fn forget_what_is_of_no_more_use(&mut self, model: &Exploration) {
        let useless = |envelope: &Arc<Envelope>| self.is_done_with(model, envelope);
        let forgotten: Vec<Arc<Envelope>> = self.network.envelopes.iter().filter(|it| useless(it)).cloned().collect();
        if forgotten.is_empty() {
            return;
        }
        for envelope in &forgotten {
            self.check_uselessness(model, envelope);
        }
        let network = Arc::make_mut(&mut self.network);
        network.envelopes.retain(|kept| !forgotten.iter().any(|gone| Arc::ptr_eq(kept, gone)));
        for gone in &forgotten {
            network.fingerprint = network.fingerprint.wrapping_sub(gone.fingerprint);
        }
    }

    /// Whether a message changes nothing, now or later.
    fn is_done_with(&self, model: &Exploration, envelope: &Envelope) -> bool {
        let Message { header, body } = &envelope.message;
        let (receiver, sender) = (&*self.seats[envelope.to].node, &*self.seats[place(header.from)].node);
        match body {
            // Durable promises never fall, and refusals are left out.
            Body::Prepare(prepare) => {
                let promised = receiver.durable_promise();
                // With slow disks an answer to nobody would still wait for the disk, and so be seen in the state.
                let answered = promised == Some(prepare.ballot) && !model.slow_disks;
                let vain = answered && !sender.awaits_promises(prepare.ballot, header.boot);
                promised > Some(prepare.ballot) || vain
            }
            Body::Accept(accept) => receiver.durable_promise() > Some(accept.ballot),
            // No ballot is tried twice.
            Body::Promise(promise) => !receiver.awaits_promises(promise.ballot, promise.asker_boot),
            // For leaders alone.
            Body::Accepted(_) | Body::SuccessReply(_) => !receiver.may_lead(model),
            _ => false,
        }
    }

    /// A message that is forgotten for being useless does nothing at this moment, at the least.
    fn check_uselessness(&mut self, model: &Exploration, envelope: &Envelope) {
        let Some(before) = &self.seats[envelope.to].node.replica else { return };
        let (mut after, mut actions) = (before.clone(), Vec::new());
        after.receive(NOW, &envelope.message.header, &envelope.message.body, &mut actions);
        let header = after.header();
        let is_useless_too = |action: &Action| match action {
            Action::Send { body: Body::Refused(_), .. } => true,
            Action::Send { to, body: body @ Body::Promise(_) } => to.into_iter().all(|to| {
                let message = Message { header, body: body.clone() };
                self.is_done_with(model, &Envelope { to: place(to), message, fingerprint: 0 })
            }),
            _ => false,
        };
        if after.digest(NOW) != before.digest(NOW) || !actions.iter().all(is_useless_too) {
            self.note(Broken::ForgottenTooEarly(id(envelope.to)));
        }
    }

    /// Starts a node from its disk. Its heartbeats, and those of the others, are heard at once: whom a leader sends to
    /// is decided by them, and what they teach beyond that can be learned by other messages too.
    fn start(&mut self, model: &Exploration, at: usize) {
        if let Err(error) = self.recover(model, at) {
            self.broken = Some(Broken::NoRecovery(id(at), error));
            return;
        }
        for from in 0..self.seats.len() {
            for (to, message) in self.heartbeats(from) {
                if (from == at) == (to == at) {
                    continue;
                }
                self.receive(model, to, &message);
            }
        }
    }

    fn recover(&mut self, model: &Exploration, at: usize) -> Result<(), String> {
        let node = self.node_mut(at);
        let mut recovery = Recovery::new();
        for record in &node.disk {
            recovery.record(record.clone()).map_err(|error| error.to_string())?;
        }
        let mut recovered = recovery.finish().map_err(|error| error.to_string())?;
        let boot = recovered.next_boot(recovered.boot().map_or(1, |boot: Boot| boot.counter + 1));
        recovered.started(boot).map_err(|error| error.to_string())?;
        node.disk.push(Record::Started(boot));
        let config = Config { last_slot: Slot::new(model.slots), window_slots: 8, ..Config::default() };
        let replica = Replica::new(config, recovered, NOW, 1).map_err(|error| error.to_string())?;
        node.replica = Some(replica);
        node.next_to_apply = Slot::FIRST;
        Ok(())
    }

    /// What a node would say to each other one now; saying it changes nothing.
    fn heartbeats(&self, from: usize) -> Vec<(usize, Message)> {
        let Some(mut replica) = self.seats[from].node.replica.clone() else { return vec![] };
        let mut actions = Vec::new();
        replica.fire(NOW, Reason::Heartbeat, &mut actions);
        let mut said = Vec::new();
        for action in actions {
            if let Action::Send { to, body } = action
                && matches!(body, Body::Heartbeat(_))
            {
                let message = Message { header: replica.header(), body };
                said.extend(to.into_iter().map(|to| (place(to), message.clone())));
            }
        }
        said
    }

    /// A process dies, what was not durable is lost, and it starts again at once: to be down for a while is the same as
    /// that nothing arrives.
    pub(super) fn crash(&mut self, model: &Exploration, at: usize) {
        let node = self.node_mut(at);
        node.replica = None;
        node.pending.clear();
        node.asked.clear();
        self.crashes += 1;
        self.start(model, at);
    }

    /// The oldest record becomes durable.
    pub(super) fn sync(&mut self, model: &Exploration, at: usize) {
        if let Some((ticket, record)) = self.node_mut(at).pending.pop_front() {
            self.node_mut(at).write(record);
            self.step(model, at, Event::Persisted(ticket.redeem()));
        }
    }

    pub(super) fn deliver(&mut self, model: &Exploration, envelope: &Envelope) {
        self.receive(model, envelope.to, &envelope.message);
    }

    fn receive(&mut self, model: &Exploration, at: usize, message: &Message) {
        let mut actions = Vec::new();
        if let Some(replica) = &mut self.node_mut(at).replica {
            replica.receive(NOW, &message.header, &message.body, &mut actions);
        }
        self.carry_out(model, at, actions);
    }

    /// Campaigns, whatever it did before.
    pub(super) fn campaign(&mut self, model: &Exploration, at: usize) {
        self.node_mut(at).ballots += 1;
        if self.role(at) != Some(Role::Following) {
            self.fire(model, at, Reason::Election);
        }
        self.fire(model, at, Reason::Election);
    }

    pub(super) fn propose(&mut self, model: &Exploration, at: usize) {
        self.node_mut(at).commands += 1;
        let (command, tag) = (self.seats[at].node.commands, Tag(u64::from(self.seats[at].node.commands)));
        let command = Bytes::from(vec![at as u8, command]);
        self.step(model, at, Event::Propose { tag, command });
        self.fire(model, at, Reason::Flush);
    }

    /// Asks for a read; its round leaves with heartbeats, which are said aloud from now on.
    pub(super) fn read(&mut self, model: &Exploration, at: usize) {
        let acknowledged = self.acknowledged;
        let node = self.node_mut(at);
        node.reads += 1;
        let tag = Tag(1_000 + u64::from(node.reads));
        node.asked.push((tag, acknowledged));
        self.step(model, at, Event::Read { tag });
        self.step(model, at, Event::Tick);
    }

    pub(super) fn role(&self, at: usize) -> Option<Role> {
        self.seats[at].node.replica.as_ref().map(Replica::role)
    }

    fn fire(&mut self, model: &Exploration, at: usize, timer: Reason) {
        let mut actions = Vec::new();
        if let Some(replica) = &mut self.node_mut(at).replica {
            replica.fire(NOW, timer, &mut actions);
        }
        self.carry_out(model, at, actions);
    }

    fn step(&mut self, model: &Exploration, at: usize, event: Event) {
        let mut actions = Vec::new();
        if let Some(replica) = &mut self.node_mut(at).replica {
            replica.handle(NOW, event, &mut actions);
        }
        self.carry_out(model, at, actions);
    }

    fn carry_out(&mut self, model: &Exploration, at: usize, actions: Vec<Action>) {
        let mut todo = VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            let answer = match action {
                Action::Send { to, body } => {
                    let Some(header) = self.seats[at].node.replica.as_ref().map(Replica::header) else { continue };
                    let message = Message { header, body };
                    self.send(model, &to, &message);
                    None
                }
                Action::Persist { ticket, record } if model.slow_disks => {
                    self.node_mut(at).pending.push_back((ticket, record));
                    None
                }
                Action::Persist { ticket, record } => {
                    self.node_mut(at).write(record);
                    let receipt: Receipt = ticket.redeem();
                    Some(Event::Persisted(receipt))
                }
                Action::Apply { first, entries, tag } => {
                    for (slot, entry, tag) in applied(first, &entries, tag) {
                        self.apply(at, slot, entry, tag);
                    }
                    None
                }
                Action::FetchLog { id, slots, .. } => {
                    let kept = self.chosen_on_disk(at);
                    let entries = slots.iter().map_while(|slot| kept.get(&slot).cloned()).collect();
                    Some(Event::Fetched { id, first: slots.first, entries })
                }
                Action::ReadReady { tag, slot } => {
                    self.serve(at, tag, slot);
                    None
                }
                Action::Fenced { .. } => {
                    self.note(Broken::Fenced(id(at)));
                    None
                }
                Action::ProposalRefused { .. }
                | Action::InDoubt { .. }
                | Action::ReadFailed { .. }
                | Action::RoleChanged { .. } => None,
            };
            if let (Some(event), Some(replica)) = (answer, &mut self.node_mut(at).replica) {
                let mut more = Vec::new();
                replica.handle(NOW, event, &mut more);
                todo.extend(more);
            }
        }
    }

    /// Heartbeats are heard when a node starts; beyond that they are sent only where reads need their rounds. A refusal
    /// does what a time-out can do at any moment, and is left out.
    fn send(&mut self, model: &Exploration, to: &paxos_core::Recipients, message: &Message) {
        let silent = match message.body {
            Body::Heartbeat(_) => model.reads == 0,
            Body::Refused(_) => true,
            _ => false,
        };
        if silent {
            return;
        }
        for to in to.into_iter().map(place) {
            let fingerprint = fingerprint(&(to, message));
            if let Err(place) = self.network.place(fingerprint) {
                let network = Arc::make_mut(&mut self.network);
                let envelope = Envelope { to, message: message.clone(), fingerprint };
                network.envelopes.insert(place, Arc::new(envelope));
                network.fingerprint = network.fingerprint.wrapping_add(fingerprint);
            }
        }
    }

    fn apply(&mut self, at: usize, slot: Slot, entry: &Entry, tag: Option<Tag>) {
        let in_order = self.seats[at].node.next_to_apply == slot;
        if !in_order || self.chosen().get(&slot) != Some(entry) {
            self.note(Broken::AppliedWrongly(id(at), slot));
        }
        self.node_mut(at).next_to_apply = slot.next();
        if tag.is_some() {
            self.acknowledged = self.acknowledged.max(slot.next());
        }
    }

    fn serve(&mut self, at: usize, tag: Tag, slot: Slot) {
        let node = self.node_mut(at);
        let Some(place) = node.asked.iter().position(|(asked, _)| *asked == tag) else { return };
        let (_, acknowledged) = node.asked.remove(place);
        if slot < acknowledged || node.next_to_apply < slot {
            self.note(Broken::StaleRead(id(at), slot));
        }
    }

    fn note(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// The last record of each slot on a disk.
    fn chosen_on_disk(&self, at: usize) -> BTreeMap<Slot, Entry> {
        let mut kept = BTreeMap::new();
        for record in &self.seats[at].node.disk {
            if let Record::Accepted { first, entries, .. } | Record::Learned { first, entries } = record {
                kept.extend((0..).zip(entries.iter()).map(|(place, entry)| (first.plus(place), entry.clone())));
            }
        }
        kept
    }

    /// What a quorum of disks has voted for under one ballot. Disks forget nothing, so this is what was ever chosen.
    fn chosen(&self) -> BTreeMap<Slot, Entry> {
        let quorum = self.seats.len() / 2 + 1;
        let chosen = self.votes().into_iter().filter(|(_, (_, voters))| voters.count_ones() as usize >= quorum);
        chosen.map(|((slot, _), (entry, _))| (slot, entry)).collect()
    }

    fn votes(&self) -> BTreeMap<(Slot, Ballot), (Entry, u32)> {
        let mut votes: BTreeMap<(Slot, Ballot), (Entry, u32)> = BTreeMap::new();
        for (at, node) in self.nodes().enumerate() {
            for record in &node.disk {
                if let Record::Accepted { ballot, first, entries } = record {
                    for (place, entry) in (0..).zip(entries.iter()) {
                        let vote = votes.entry((first.plus(place), *ballot)).or_insert_with(|| (entry.clone(), 0));
                        vote.1 |= 1 << at;
                    }
                }
            }
        }
        votes
    }

    /// The first rule that does not hold here, looked up from disks and replicas as they are.
    pub(super) fn verdict(&self) -> Option<Broken> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        let mut entries: BTreeMap<(Slot, Ballot), &Entry> = BTreeMap::new();
        for record in self.nodes().flat_map(|node| &node.disk) {
            if let Record::Accepted { ballot, first, entries: run } = record {
                for (place, entry) in (0..).zip(run.iter()) {
                    let slot = first.plus(place);
                    if *entries.entry((slot, *ballot)).or_insert(entry) != entry {
                        return Some(Broken::TwoEntriesOfABallot(slot, *ballot));
                    }
                }
            }
        }
        let quorum = self.seats.len() / 2 + 1;
        let mut chosen: BTreeMap<Slot, Entry> = BTreeMap::new();
        for ((slot, _), (entry, voters)) in self.votes() {
            if voters.count_ones() as usize >= quorum && *chosen.entry(slot).or_insert(entry.clone()) != entry {
                return Some(Broken::ChosenTwice(slot));
            }
        }
        for (at, node) in self.nodes().enumerate() {
            let Some(replica) = &node.replica else { continue };
            for slot in replica.window().iter() {
                if let Some((None, entry)) = replica.held(slot)
                    && chosen.get(&slot) != Some(entry)
                {
                    return Some(Broken::NotChosen(id(at), slot));
                }
            }
        }
        None
    }
}

fn id(at: usize) -> NodeId {
    NodeId(at as u32 + 1)
}

fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

fn formatted(voters: usize, at: usize) -> Formatted {
    let member = |at: usize| Member { node: id(at), incarnation: Incarnation(at as u64 + 1), generation: 0 };
    let membership = Membership::new((0..voters).map(member).collect(), vec![], QuorumSystem::Majority);
    let genesis = membership.and_then(|membership| Genesis::new(membership, 8)).expect("distinct voters");
    Formatted { cluster: ClusterId::new(1), node: id(at), incarnation: Incarnation(at as u64 + 1), genesis }
}
