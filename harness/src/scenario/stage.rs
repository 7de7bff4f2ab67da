//! The stage of a script: replicas, their disks and clocks, and the messages between them, all moved by hand.
//!
//! Nothing happens by itself but what a disk that `writes` does at once. Heartbeats flow only where time passes
//! (`campaign`, `wait`, `beat`): they would drown the rest.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use paxos_core::{
    Body, ClusterId, Config, Entries, Event, FetchId, Formatted, Genesis, Incarnation, Instant, Member, Membership,
    Message, NodeId, QuorumSystem, Record, Recovery, Replica, Role, SlotRange, Tag, Ticket,
};
use transport_sim::{Fact, Moment, Observer, Violation};

use super::language::{Cluster, Command, Parcel, Selection};
use super::show;
use crate::invariants::Invariants;

/// Between two looks while time passes.
const STEP_US: u64 = 5_000;

pub(super) struct Stage {
    pub(super) seats: Vec<Seat>,
    config: Config,
    pub(super) flight: VecDeque<Envelope>,
    held: BTreeMap<String, Vec<Envelope>>,
    cut: Vec<(NodeId, NodeId)>,
    pub(super) tags: Vec<Asked>,
    judge: Invariants,
    pub(super) step: u64,
    pub(super) heard: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) to: NodeId,
    pub(super) message: Message,
}

/// A proposal or a read, and what became of it.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) outcome: String,
}

pub(super) struct Seat {
    pub(super) node: NodeId,
    pub(super) replica: Option<Replica>,
    pub(super) now: Instant,
    pub(super) durable: Vec<Record>,
    pub(super) waiting: VecDeque<(Ticket, Record)>,
    pub(super) fetches: VecDeque<(FetchId, SlotRange)>,
    /// Whether records wait for `persist`.
    pub(super) waits: bool,
    pub(super) applied: Vec<String>,
}

impl Seat {
    /// What the newest record of each of these slots holds, up to the first that has none.
    pub(super) fn read(&self, slots: SlotRange) -> Entries {
        let mut held = BTreeMap::new();
        for record in &self.durable {
            if let Record::Accepted { first, entries, .. } | Record::Learned { first, entries } = record {
                held.extend((0u64..).zip(entries.iter()).map(|(at, entry)| (first.plus(at), entry.clone())));
            }
        }
        slots.iter().map_while(|slot| held.remove(&slot)).collect()
    }
}

fn words(violation: Violation) -> String {
    format!("broken invariant {violation}")
}

impl Stage {
    pub(super) fn new(cluster: &Cluster) -> Result<Stage, String> {
        let member =
            |node: u32| Member { node: NodeId(node), incarnation: Incarnation(100 + u64::from(node)), generation: 0 };
        let voters: Vec<Member> = (1..=cluster.voters).map(member).collect();
        let learners: Vec<Member> = (1..=cluster.learners).map(|at| member(cluster.voters + at)).collect();
        let members: Vec<Member> = voters.iter().chain(&learners).copied().collect();
        let genesis = Membership::new(voters, learners, QuorumSystem::Majority)
            .and_then(|membership| Genesis::new(membership, u64::from(cluster.window)))
            .map_err(|error| error.to_string())?;
        let config = Config { window_slots: cluster.window, run_entries_max: cluster.run, ..Config::default() };
        let mut stage = Stage {
            seats: Vec::new(),
            config,
            flight: VecDeque::new(),
            held: BTreeMap::new(),
            cut: Vec::new(),
            tags: Vec::new(),
            judge: Invariants::new(),
            step: 0,
            heard: Vec::new(),
        };
        for member in members {
            let formatted = Formatted {
                cluster: ClusterId::new(7),
                node: member.node,
                incarnation: member.incarnation,
                genesis: genesis.clone(),
            };
            stage.see(member.node, &Fact::Formatted(&formatted))?;
            stage.seats.push(Seat {
                node: member.node,
                replica: None,
                now: Instant::from_us(1_000_000),
                durable: vec![Record::Formatted(formatted)],
                waiting: VecDeque::new(),
                fetches: VecDeque::new(),
                waits: false,
                applied: Vec::new(),
            });
        }
        (0..stage.seats.len()).try_for_each(|seat| stage.start(seat))?;
        Ok(stage)
    }

    /// What was to be heard since the last time.
    pub(super) fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }

    pub(super) fn carry_out(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Cluster(_) => Ok(()),
            Command::Campaign(node) => self.campaign(self.seat(*node)?),
            Command::Propose { node, text, tag } => self.propose(self.seat(*node)?, text, tag),
            Command::Read { node, tag } => {
                let seat = self.up(*node)?;
                let tag = self.open(tag)?;
                self.see(*node, &Fact::ReadAsked { tag })?;
                self.handle(seat, Event::Read { tag })?;
                self.handle(seat, Event::Tick)
            }
            Command::Tick(node) => self.handle(self.up(*node)?, Event::Tick),
            Command::Deliver(parcel) => self.deliver_all(parcel),
            Command::Drop(selection) => self.take(selection).map(|_| ()),
            Command::Hold { selection, name } => {
                let taken = self.take(selection)?;
                self.held.entry(name.clone()).or_default().extend(taken);
                Ok(())
            }
            Command::Disk { node, waits } => {
                let seat = self.seat(*node)?;
                self.seats[seat].waits = *waits;
                if *waits { Ok(()) } else { self.write(seat, usize::MAX) }
            }
            Command::Persist { node, count } => {
                let seat = self.up(*node)?;
                if self.seats[seat].waiting.is_empty() {
                    return Err(format!("nothing waits for the disk of node {node}"));
                }
                self.write(seat, *count)
            }
            Command::Crash(node) => {
                let seat = self.up(*node)?;
                self.seats[seat].replica = None;
                self.seats[seat].waiting.clear();
                self.seats[seat].fetches.clear();
                self.see(*node, &Fact::Crashed)
            }
            Command::Restart(node) => {
                let seat = self.seat(*node)?;
                if self.seats[seat].replica.is_some() {
                    return Err(format!("node {node} runs"));
                }
                self.start(seat)
            }
            Command::Cut(links) => {
                for (from, to) in links {
                    self.seat(*from).and(self.seat(*to))?;
                    self.cut.push((*from, *to));
                }
                Ok(())
            }
            Command::Mend(links) => {
                self.cut.retain(|cut| !links.is_empty() && !links.contains(cut));
                Ok(())
            }
            Command::Run => self.run(),
            Command::Beat(node) => {
                let seat = self.up(*node)?;
                let due = self.seats[seat].now.plus_us(self.config.heartbeat_us);
                self.seats[seat].now = due;
                self.handle(seat, Event::Tick)?;
                self.heartbeats()
            }
            Command::Wait { ms, only } => {
                let only = only.map(|node| self.seat(node)).transpose()?;
                self.pass(ms * 1_000, only)
            }
            Command::HandOver { from, to } => {
                let seat = self.up(*from)?;
                self.handle(seat, Event::HandOver { to: *to })
            }
            Command::Forge { from, to, forgery } => {
                let (from, to) = (self.seat(*from)?, self.up(*to)?);
                let Some(header) = self.seats[from].replica.as_ref().map(Replica::header) else {
                    return Err("a message is forged in the name of a node that runs".into());
                };
                let message = Message { header, body: forgery.body(self.seats[from].now) };
                self.handle(to, Event::Message(message))
            }
            Command::Expect(expectation) => self.expect(expectation),
        }
    }

    pub(super) fn seat(&self, node: NodeId) -> Result<usize, String> {
        self.seats.iter().position(|seat| seat.node == node).ok_or_else(|| format!("there is no node {node}"))
    }

    pub(super) fn up(&self, node: NodeId) -> Result<usize, String> {
        let seat = self.seat(node)?;
        let runs = self.seats[seat].replica.is_some();
        if runs { Ok(seat) } else { Err(format!("node {node} is down")) }
    }

    pub(super) fn see(&mut self, node: NodeId, fact: &Fact<'_>) -> Result<(), String> {
        let now = self.seats.iter().map(|seat| seat.now).max().unwrap_or_default();
        self.judge.see(Moment { step: self.step, now, node }, fact).map_err(words)
    }

    fn start(&mut self, seat: usize) -> Result<(), String> {
        let node = self.seats[seat].node;
        let mut recovery = Recovery::new();
        for record in &self.seats[seat].durable {
            recovery.record(record.clone()).map_err(|error| error.to_string())?;
        }
        let mut recovered = recovery.finish().map_err(|error| error.to_string())?;
        let boot = recovered.next_boot(u64::from(node.0));
        recovered.started(boot).map_err(|error| error.to_string())?;
        self.seats[seat].durable.push(Record::Started(boot));
        self.seats[seat].applied.clear();
        self.see(node, &Fact::Started { boot })?;
        let now = self.seats[seat].now;
        let replica =
            Replica::new(self.config.clone(), recovered, now, u64::from(node.0)).map_err(|e| e.to_string())?;
        self.see(node, &Fact::Recovered { replica: &replica })?;
        self.seats[seat].replica = Some(replica);
        Ok(())
    }

    fn open(&mut self, name: &str) -> Result<Tag, String> {
        if self.tags.iter().any(|asked| asked.name == name) {
            return Err(format!("`{name}` names something already: give it a name with `as`"));
        }
        self.tags.push(Asked { name: name.to_owned(), outcome: "open".into() });
        Ok(Tag(self.tags.len() as u64 * 2))
    }

    fn propose(&mut self, seat: usize, text: &str, tag: &str) -> Result<(), String> {
        let node = self.seats[seat].node;
        self.up(node)?;
        let tag = self.open(tag)?;
        let command = Bytes::from(text.to_owned());
        self.see(node, &Fact::Proposed { tag, command: &command })?;
        self.handle(seat, Event::Propose { tag, command })?;
        self.handle(seat, Event::Tick)
    }

    pub(super) fn end(&mut self, node: NodeId, tag: Tag, outcome: String) {
        if let Some(asked) = (tag.0 as usize / 2).checked_sub(1).and_then(|at| self.tags.get_mut(at)) {
            self.heard.push(format!("{node} says of {}: {outcome}", asked.name));
            asked.outcome = outcome;
        }
    }

    // --- messages ---

    fn is_cut(&self, envelope: &Envelope) -> bool {
        self.cut.contains(&(envelope.message.header.from, envelope.to))
    }

    /// Takes messages out of flight; none is an error, since the script means something.
    fn take(&mut self, selection: &Selection) -> Result<Vec<Envelope>, String> {
        let matches = |envelope: &Envelope| {
            let kind = show::kind_of(&envelope.message.body);
            let kind_matches = selection.kind.as_ref().map_or(kind != "heartbeat", |wanted| wanted == kind);
            kind_matches
                && selection.from.is_none_or(|from| from == envelope.message.header.from)
                && selection.to.is_none_or(|to| to == envelope.to)
        };
        let mut taken = Vec::new();
        let mut rest = VecDeque::new();
        for envelope in std::mem::take(&mut self.flight) {
            if (taken.is_empty() || !selection.first) && matches(&envelope) {
                taken.push(envelope);
            } else {
                rest.push_back(envelope);
            }
        }
        self.flight = rest;
        // Heartbeats are not told when they leave.
        for envelope in taken.iter().filter(|_| selection.kind.as_deref() == Some("heartbeat")) {
            let (from, to) = (envelope.message.header.from, envelope.to);
            self.heard.push(format!("{from}>{to} {}", show::body(&envelope.message.body)));
        }
        if taken.is_empty() { Err("no such message is in flight".into()) } else { Ok(taken) }
    }

    fn deliver_all(&mut self, parcel: &Parcel) -> Result<(), String> {
        let taken = match parcel {
            Parcel::InFlight(selection) => self.take(selection)?,
            Parcel::Held(name) => self.held.get(name).cloned().ok_or_else(|| format!("nothing is held as `{name}`"))?,
        };
        taken.into_iter().try_for_each(|envelope| self.deliver(envelope))
    }

    fn deliver(&mut self, Envelope { to, message }: Envelope) -> Result<(), String> {
        self.handle(self.seat(to)?, Event::Message(message))
    }

    /// Delivers heartbeats over links that are not cut, and the answers to them, until none is in flight there.
    fn heartbeats(&mut self) -> Result<(), String> {
        let is_heartbeat = |envelope: &Envelope| matches!(envelope.message.body, Body::Heartbeat(_));
        while let Some(at) = self.flight.iter().position(|envelope| is_heartbeat(envelope) && !self.is_cut(envelope)) {
            if let Some(envelope) = self.flight.remove(at) {
                self.deliver(envelope)?;
            }
        }
        // What a cut link holds would only be old when it heals.
        self.flight.retain(|envelope| !is_heartbeat(envelope));
        Ok(())
    }

    /// Delivers everything over links that are not cut, until nothing moves.
    fn run(&mut self) -> Result<(), String> {
        /// Far more than any script needs.
        const MESSAGES_MAX: usize = 10_000;
        for _ in 0..MESSAGES_MAX {
            let next = self.flight.iter().position(|envelope| !self.is_cut(envelope));
            let Some(envelope) = next.and_then(|at| self.flight.remove(at)) else { return Ok(()) };
            self.deliver(envelope)?;
        }
        Err(format!("the replicas still talk after {MESSAGES_MAX} messages"))
    }

    // --- time ---

    /// Time passes for all nodes or one; heartbeats flow.
    fn pass(&mut self, us: u64, only: Option<usize>) -> Result<(), String> {
        for _ in 0..us.div_ceil(STEP_US) {
            for seat in (0..self.seats.len()).filter(|seat| only.is_none_or(|only| only == *seat)) {
                self.go_on(seat, STEP_US)?;
            }
            self.heartbeats()?;
        }
        Ok(())
    }

    fn go_on(&mut self, seat: usize, us: u64) -> Result<(), String> {
        let now = self.seats[seat].now.plus_us(us);
        self.seats[seat].now = now;
        let due = self.seats[seat].replica.as_ref().and_then(Replica::deadline);
        if due.is_some_and(|(due, _)| due <= now) { self.handle(seat, Event::Tick) } else { Ok(()) }
    }

    /// Time passes until this node campaigns: faster for it than for the others, so that it is the first.
    fn campaign(&mut self, seat: usize) -> Result<(), String> {
        const STEPS_MAX: u64 = 2_000;
        /// So many times faster.
        const LEAD: u64 = 3;
        let node = self.seats[seat].node;
        let prepares = |seat: &Seat| seat.replica.as_ref().is_some_and(|replica| replica.role() == Role::Preparing);
        self.up(node)?;
        let before: Vec<NodeId> = self.seats.iter().filter(|seat| prepares(seat)).map(|seat| seat.node).collect();
        for step in 0..STEPS_MAX {
            for other in (0..self.seats.len()).filter(|other| *other == seat || step % LEAD == 0) {
                self.go_on(other, STEP_US)?;
            }
            self.heartbeats()?;
            if prepares(&self.seats[seat]) {
                return Ok(());
            }
            if let Some(other) = self.seats.iter().find(|other| prepares(other) && !before.contains(&other.node)) {
                return Err(format!("node {} campaigns before node {node}", other.node));
            }
        }
        Err(format!("node {node} does not campaign"))
    }
}
