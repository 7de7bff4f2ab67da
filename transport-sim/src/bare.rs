//! The room for bare replicas under an arbitrary schedule: no server, no clients' bytes, disks that are lists of
//! records. It reaches strange corners of the core fast; whole servers live in `world.rs`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use paxos_core::{
    Action, Body, ClusterId, Config, Entries, Entry, Event, FetchId, Formatted, Genesis, Header, Incarnation, Instant,
    Member, Membership, Message, NodeId, Receipt, Record, Recovery, Replica, Slot, SlotRange, Tag, Ticket, applied,
};

use crate::moves::{Move, Schedule};
use crate::observer::{Fact, Moment, Observer, Violation};
use crate::rng::{Concern, Rng};
use crate::trace::Trace;

/// Messages in flight at once; the oldest is lost beyond.
const FLIGHT_MAX: usize = 2_048;
/// How long a message takes while everything works.
const ROUND_US: u64 = 1_000;

/// Bare replicas, the messages between them, and their disks.
pub struct Bare<O> {
    now: Instant,
    step: u64,
    seats: Vec<Seat>,
    flight: VecDeque<Envelope>,
    cut: Vec<(NodeId, NodeId)>,
    config: Config,
    commands: u64,
    tags: u64,
    rng: Rng,
    actions: Vec<Action>,
    /// Who watches.
    pub observer: O,
    /// What happened.
    pub trace: Trace,
}

struct Envelope {
    to: NodeId,
    message: Message,
}

/// A node: its disk, and its process while it runs.
struct Seat {
    node: NodeId,
    disk: Records,
    replica: Option<Replica>,
}

/// What goes wrong while all else works: how many times of 256.
#[derive(Clone, Copy, Default)]
struct Weather {
    loss: u8,
    twice: u8,
    lazy: u8,
}

/// A disk as a list of records.
#[derive(Default)]
struct Records {
    durable: Vec<Record>,
    waiting: VecDeque<(Ticket, Record)>,
    fetches: VecDeque<(FetchId, SlotRange, usize)>,
    /// What the newest record of each slot holds, as the log's reader would find it.
    held: BTreeMap<Slot, Entry>,
    chosen_below: Option<Slot>,
}

impl Records {
    fn note(&mut self, record: &Record) {
        let (first, entries) = match record {
            Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => (*first, entries),
            Record::Chosen { below } => {
                self.chosen_below = self.chosen_below.max(Some(*below));
                return;
            }
            Record::Formatted(_) | Record::Started(_) | Record::Promised(_) => return,
        };
        for (offset, entry) in (0u64..).zip(entries.iter()) {
            let slot = first.plus(offset);
            if self.chosen_below.is_none_or(|below| slot >= below) {
                self.held.insert(slot, entry.clone());
            }
        }
    }

    fn reread(&mut self) {
        self.held.clear();
        self.chosen_below = None;
        let durable = std::mem::take(&mut self.durable);
        durable.iter().for_each(|record| self.note(record));
        self.durable = durable;
    }

    fn read(&self, slots: SlotRange, bytes_max: usize) -> Entries {
        let mut bytes = 0;
        let mut entries = Vec::new();
        for slot in slots.iter() {
            let Some(entry) = self.held.get(&slot) else { break };
            bytes += entry.payload_bytes();
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(entry.clone());
        }
        entries.into()
    }
}

fn cut(cuts: &mut Vec<(NodeId, NodeId)>, from: NodeId, to: NodeId) {
    if !cuts.contains(&(from, to)) {
        cuts.push((from, to));
    }
}

/// Kinds of messages that `Move::Lose` tells apart.
const KINDS: u8 = 5;

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::Accept(_) => 0,
        Body::Accepted(_) => 1,
        Body::Prepare(_) | Body::Promise(_) | Body::Refused(_) => 2,
        Body::Success(_) | Body::SuccessReply(_) | Body::Fetch(_) => 3,
        Body::Heartbeat(_) | Body::HandOver(_) => 4,
    }
}

impl<O: Observer> Bare<O> {
    /// Formats and starts the replicas of a schedule.
    ///
    /// # Errors
    /// What the observer objects to, or `start` when a replica refuses its disk.
    pub fn new(schedule: &Schedule, observer: O, trace: Trace) -> Result<Bare<O>, Violation> {
        let members: Vec<Member> = (1..=u32::from(schedule.voters))
            .map(|node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node) * 11), generation: 0 })
            .collect();
        let genesis = Membership::new(members.clone(), Vec::new(), schedule.quorum)
            .and_then(|membership| Genesis::new(membership, u64::from(schedule.window)))
            .map_err(|error| Violation::new("start", error.to_string()))?;
        let mut bare = Bare {
            now: Instant::from_us(1_000_000),
            step: 0,
            seats: Vec::new(),
            flight: VecDeque::new(),
            cut: Vec::new(),
            config: schedule.config(),
            commands: 0,
            tags: 0,
            rng: Rng::new(schedule.seed, Concern::Process),
            actions: Vec::new(),
            observer,
            trace,
        };
        for member in members {
            let formatted = Formatted {
                cluster: ClusterId::new(7),
                node: member.node,
                incarnation: member.incarnation,
                genesis: genesis.clone(),
            };
            bare.see(member.node, &Fact::Formatted(&formatted))?;
            let disk = Records { durable: vec![Record::Formatted(formatted)], ..Records::default() };
            bare.seats.push(Seat { node: member.node, disk, replica: None });
        }
        (0..bare.seats.len()).try_for_each(|seat| bare.start(seat))?;
        Ok(bare)
    }

    /// Runs a schedule to its end, then heals everything and waits for agreement.
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn run(schedule: &Schedule, observer: O, trace: Trace) -> Result<Bare<O>, Violation> {
        let mut bare = Bare::new(schedule, observer, trace)?;
        for step in &schedule.moves {
            bare.make(*step)?;
        }
        bare.settle()?;
        Ok(bare)
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The world's time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The replicas that run.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.seats.iter().filter_map(|seat| seat.replica.as_ref())
    }

    /// Makes one move.
    ///
    /// # Errors
    /// The invariant that it breaks.
    pub fn make(&mut self, step: Move) -> Result<(), Violation> {
        if self.trace.prints() {
            self.trace.line(self.step, self.now, None, format_args!("{step:?}"));
        }
        let seats = self.seats.len();
        let seat = |node: u8| usize::from(node) % seats;
        match step {
            Move::Deliver { pick } => match self.pick(pick) {
                Some(at) => self.deliver_removed(at),
                None => Ok(()),
            },
            Move::Repeat { pick } => match self.pick(pick) {
                Some(at) => self.deliver_copy(at),
                None => Ok(()),
            },
            Move::Drop { pick } => {
                if let Some(at) = self.pick(pick) {
                    self.flight.remove(at);
                }
                Ok(())
            }
            Move::Propose { node, count } => {
                let seat = self.addressed(node);
                (0..count).try_for_each(|_| self.propose(seat))
            }
            Move::Read { node } => self.read(self.addressed(node)),
            Move::Sync { node, count } => {
                self.sync(seat(node), usize::from(count))?;
                self.fetch(seat(node))
            }
            Move::Tick { node } => self.handle(seat(node), Event::Tick),
            Move::Pass { ms } => {
                self.now = self.now.plus_us(u64::from(ms) * 1_000);
                Ok(())
            }
            Move::Run { ms, loss, twice, lazy } => self.flow(u64::from(ms) * 1_000, Weather { loss, twice, lazy }),
            Move::Lose { node, kind } => {
                let from = self.seats[seat(node)].node;
                self.flight.retain(|envelope| {
                    envelope.message.header.from != from || kind_of(&envelope.message.body) != kind % KINDS
                });
                Ok(())
            }
            Move::Crash { node, keep } => self.crash(seat(node), usize::from(keep)),
            Move::Restart { node } => self.start(seat(node)),
            Move::FailDisk { node } => self.handle(seat(node), Event::PersistFailed),
            Move::Cut { link, both } => {
                self.cut(usize::from(link), both);
                Ok(())
            }
            Move::Split { side } => {
                self.split(side);
                Ok(())
            }
            Move::Heal => {
                self.cut.clear();
                Ok(())
            }
            Move::HandOver { to } => {
                let to = self.seats[seat(to)].node;
                (0..self.seats.len()).try_for_each(|seat| self.handle(seat, Event::HandOver { to }))
            }
        }
    }

    /// Heals everything, restarts everybody, proposes one more command, and waits until it is applied everywhere.
    ///
    /// # Errors
    /// A broken invariant, or `liveness` if that takes longer than it may.
    pub fn settle(&mut self) -> Result<(), Violation> {
        /// 20 election time-outs, and a pass over the windows for replicas that have slept.
        const ROUNDS: u64 = 20;
        self.cut.clear();
        for seat in 0..self.seats.len() {
            // A fenced replica is one whose host restarts it.
            self.crash(seat, 0)?;
            self.start(seat)?;
        }
        let until = self.now.plus_us(self.config.election_timeout_us * ROUNDS);
        // Once per leadership: what a leader was told that then lost it is in doubt, and may never be chosen.
        let mut proposed_under = None;
        while self.now < until {
            self.flow(self.config.heartbeat_us, Weather::default())?;
            let leads = |replica: &Replica| (replica.propose_room() > 0).then(|| replica.ballot()).flatten();
            let leader =
                (0..self.seats.len()).find_map(|seat| Some((seat, self.seats[seat].replica.as_ref().and_then(leads)?)));
            if let Some((leader, ballot)) = leader
                && proposed_under != Some(ballot)
            {
                self.propose(leader)?;
                proposed_under = Some(ballot);
            }
            let mut applied = self.replicas().map(Replica::next_to_apply);
            let first = applied.next();
            if proposed_under.is_some() && first > Some(Slot::FIRST) && applied.all(|slot| Some(slot) == first) {
                return Ok(());
            }
        }
        let state: Vec<String> = self
            .replicas()
            .map(|replica| {
                format!("{:?} {:?} applied below {}", replica.role(), replica.ballot(), replica.next_to_apply())
            })
            .collect();
        Err(Violation::new("liveness", format!("no agreement {ROUNDS} election time-outs after the heal: {state:?}")))
    }

    fn pick(&self, pick: u16) -> Option<usize> {
        (!self.flight.is_empty()).then(|| usize::from(pick) % self.flight.len())
    }

    fn split(&mut self, side: u8) {
        let on_side = |at: usize| side >> (at % 8) & 1 == 1;
        for (one, from) in self.seats.iter().enumerate() {
            for (other, to) in self.seats.iter().enumerate() {
                if on_side(one) != on_side(other) {
                    cut(&mut self.cut, from.node, to.node);
                }
            }
        }
    }

    /// The seat that a client turns to.
    fn addressed(&self, node: u8) -> usize {
        let leads = |seat: &Seat| seat.replica.as_ref().is_some_and(|replica| replica.propose_room() > 0);
        let leader = self.seats.iter().position(leads).filter(|_| node >= 128);
        leader.unwrap_or(usize::from(node) % self.seats.len())
    }

    fn cut(&mut self, link: usize, both: bool) {
        let seats = self.seats.len();
        let (from, to) = (link % seats, link / seats % seats);
        let (from, to) = (self.seats[from].node, self.seats[to].node);
        cut(&mut self.cut, from, to);
        if both {
            cut(&mut self.cut, to, from);
        }
    }

    fn deliver_removed(&mut self, at: usize) -> Result<(), Violation> {
        let Some(Envelope { to, message }) = self.flight.remove(at) else { return Ok(()) };
        self.deliver(to, message)
    }

    fn deliver_copy(&mut self, at: usize) -> Result<(), Violation> {
        let (to, message) = (self.flight[at].to, self.flight[at].message.clone());
        self.deliver(to, message)
    }

    fn deliver(&mut self, to: NodeId, message: Message) -> Result<(), Violation> {
        match self.seats.iter().position(|seat| seat.node == to) {
            Some(seat) => self.handle(seat, Event::Message(message)),
            None => Ok(()),
        }
    }

    fn propose(&mut self, seat: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_none() {
            return Ok(());
        }
        self.commands += 1;
        let command = Bytes::from(self.commands.to_be_bytes().to_vec());
        let tag = self.next_tag();
        self.see(self.seats[seat].node, &Fact::Proposed { tag, command: &command })?;
        self.handle(seat, Event::Propose { tag, command })
    }

    fn read(&mut self, seat: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_none() {
            return Ok(());
        }
        let tag = self.next_tag();
        self.see(self.seats[seat].node, &Fact::ReadAsked { tag })?;
        self.handle(seat, Event::Read { tag })
    }

    fn next_tag(&mut self) -> Tag {
        self.tags += 1;
        Tag(self.tags)
    }

    /// Everything works for so long: messages take a millisecond, disks too, timers are on time.
    fn flow(&mut self, us: u64, weather: Weather) -> Result<(), Violation> {
        let until = self.now.plus_us(us);
        while self.now < until {
            let mut busy = false;
            for _ in 0..self.flight.len() {
                let Some(Envelope { to, message }) = self.flight.pop_front() else { break };
                if self.cut.contains(&(message.header.from, to)) {
                    self.flight.push_back(Envelope { to, message });
                    continue;
                }
                busy = true;
                if self.strikes(weather.loss) {
                    continue;
                }
                if self.strikes(weather.twice) {
                    self.deliver(to, message.clone())?;
                }
                self.deliver(to, message)?;
            }
            for seat in 0..self.seats.len() {
                busy |= !self.seats[seat].disk.waiting.is_empty() || !self.seats[seat].disk.fetches.is_empty();
                if !self.strikes(weather.lazy) {
                    self.sync(seat, usize::MAX)?;
                    self.fetch(seat)?;
                }
                if self.deadline(seat).is_some_and(|due| due <= self.now) {
                    busy = true;
                    self.handle(seat, Event::Tick)?;
                }
            }
            let next = (0..self.seats.len()).filter_map(|seat| self.deadline(seat)).min().unwrap_or(until);
            let soon = self.now.plus_us(ROUND_US);
            self.now = if busy { soon } else { next.clamp(soon, until.max(soon)) };
        }
        Ok(())
    }

    fn strikes(&mut self, of_256: u8) -> bool {
        of_256 > 0 && self.rng.below(256) < u64::from(of_256)
    }

    fn deadline(&self, seat: usize) -> Option<Instant> {
        self.seats[seat].replica.as_ref()?.deadline().map(|(due, _)| due)
    }

    fn sync(&mut self, seat: usize, count: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_none() {
            return Ok(());
        }
        let node = self.seats[seat].node;
        let mut receipt: Option<Receipt> = None;
        for _ in 0..count {
            let Some((ticket, record)) = self.seats[seat].disk.waiting.pop_front() else { break };
            self.see(node, &Fact::Durable(&record))?;
            self.seats[seat].disk.durable.push(record);
            receipt = match receipt.take() {
                None => Some(ticket.redeem()),
                Some(receipt) => match receipt.and(ticket) {
                    Ok(receipt) => Some(receipt),
                    Err(apart) => {
                        self.handle(seat, Event::Persisted(apart.receipt))?;
                        Some(apart.ticket.redeem())
                    }
                },
            };
        }
        match receipt {
            Some(receipt) => self.handle(seat, Event::Persisted(receipt)),
            None => Ok(()),
        }
    }

    fn fetch(&mut self, seat: usize) -> Result<(), Violation> {
        while let Some((id, slots, bytes_max)) = self.seats[seat].disk.fetches.pop_front() {
            let entries = self.seats[seat].disk.read(slots, bytes_max);
            self.handle(seat, Event::Fetched { id, first: slots.first, entries })?;
        }
        Ok(())
    }

    fn crash(&mut self, seat: usize, keep: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.take().is_none() {
            return Ok(());
        }
        let node = self.seats[seat].node;
        self.see(node, &Fact::Crashed)?;
        for _ in 0..keep {
            let Some((_, record)) = self.seats[seat].disk.waiting.pop_front() else { break };
            self.see(node, &Fact::Durable(&record))?;
            self.seats[seat].disk.durable.push(record);
        }
        let disk = &mut self.seats[seat].disk;
        disk.waiting.clear();
        disk.fetches.clear();
        disk.reread();
        Ok(())
    }

    fn start(&mut self, seat: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_some() {
            return Ok(());
        }
        let broken = |error: &dyn std::fmt::Display| Violation::new("recovery", error.to_string());
        let mut recovery = Recovery::new();
        for record in &self.seats[seat].disk.durable {
            recovery.record(record.clone()).map_err(|error| broken(&error))?;
        }
        let mut recovered = recovery.finish().map_err(|error| broken(&error))?;
        let boot = recovered.next_boot(self.rng.draw());
        recovered.started(boot).map_err(|error| broken(&error))?;
        let node = self.seats[seat].node;
        self.seats[seat].disk.durable.push(Record::Started(boot));
        self.see(node, &Fact::Started { boot })?;
        let seed = self.rng.draw();
        let replica = Replica::new(self.config.clone(), recovered, self.now, seed).map_err(|error| broken(&error))?;
        self.see(node, &Fact::Recovered { replica: &replica })?;
        self.seats[seat].replica = Some(replica);
        Ok(())
    }

    fn see(&mut self, node: NodeId, fact: &Fact<'_>) -> Result<(), Violation> {
        let moment = Moment { step: self.step, now: self.now, node };
        self.observer.see(moment, fact)
    }

    /// Hands one event to a replica and carries out what it asks for.
    fn handle(&mut self, seat: usize, event: Event) -> Result<(), Violation> {
        let Some(mut replica) = self.seats[seat].replica.take() else { return Ok(()) };
        let node = self.seats[seat].node;
        self.step += 1;
        if self.trace.prints() {
            self.trace.line(self.step, self.now, Some(node), format_args!("<- {event:?}"));
        }
        let mut actions = std::mem::take(&mut self.actions);
        replica.handle(self.now, event, &mut actions);
        let (outputs, header) = (actions.len(), replica.header());
        let mut verdict = self.see(node, &Fact::Stepped { replica: &replica, outputs });
        self.seats[seat].replica = Some(replica);
        for action in actions.drain(..) {
            if self.trace.prints() {
                self.trace.line(self.step, self.now, Some(node), format_args!("-> {action:?}"));
            }
            verdict = verdict.and_then(|()| self.carry_out(seat, &header, action));
        }
        self.actions = actions;
        verdict
    }

    fn carry_out(&mut self, seat: usize, header: &Header, action: Action) -> Result<(), Violation> {
        let node = self.seats[seat].node;
        let now = self.now;
        match action {
            Action::Send { to, body } => {
                let message = Message { header: *header, body };
                self.trace.fold(now, node, &message);
                self.see(node, &Fact::Sent { to: &to, message: &message })?;
                for to in &to {
                    if self.flight.len() >= FLIGHT_MAX {
                        self.flight.pop_front();
                    }
                    self.flight.push_back(Envelope { to, message: message.clone() });
                }
                Ok(())
            }
            Action::Persist { ticket, record } => {
                self.trace.fold(now, node, &record);
                self.seats[seat].disk.note(&record);
                self.seats[seat].disk.waiting.push_back((ticket, record));
                Ok(())
            }
            Action::Apply { first, entries, tag } => {
                for (slot, entry, tag) in applied(first, &entries, tag) {
                    self.trace.fold(now, node, &(slot, entry, tag));
                    self.see(node, &Fact::Applied { slot, entry, tag })?;
                }
                Ok(())
            }
            Action::ProposalRefused { tag, error } => {
                self.trace.fold(now, node, &(1u8, tag));
                self.see(node, &Fact::Refused { tag, error })
            }
            Action::InDoubt { tag } => {
                self.trace.fold(now, node, &(2u8, tag));
                self.see(node, &Fact::InDoubt { tag })
            }
            Action::ReadReady { tag, slot } => {
                self.trace.fold(now, node, &(3u8, tag, slot));
                self.see(node, &Fact::ReadReady { tag, slot })
            }
            Action::ReadFailed { tag, error } => {
                self.trace.fold(now, node, &(4u8, tag));
                self.see(node, &Fact::ReadFailed { tag, error })
            }
            Action::FetchLog { id, slots, bytes_max } => {
                self.trace.fold(now, node, &(5u8, slots));
                self.seats[seat].disk.fetches.push_back((id, slots, bytes_max));
                Ok(())
            }
            Action::RoleChanged { role, ballot, reason, .. } => {
                self.trace.fold(now, node, &(6u8, role, ballot));
                self.see(node, &Fact::Role { role, ballot, reason })
            }
            Action::Fenced { reason } => {
                self.trace.fold(now, node, &(7u8, reason));
                self.see(node, &Fact::Fenced { reason })
            }
        }
    }
}
