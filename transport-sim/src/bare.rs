//! The room for bare replicas under an arbitrary schedule: no server, no clients' bytes, disks that are lists of
//! records. It reaches strange corners of the core fast; whole servers live in `world.rs`.

mod flow;
mod process;

use std::collections::VecDeque;

use bytes::Bytes;
use paxos_core::{
    Action, Body, ClusterId, Config, Event, Formatted, Genesis, Incarnation, Instant, Member, Membership, Message,
    NodeId, Replica, Slot, Tag,
};

use crate::moves::{Blow, Move, Schedule};
use crate::observer::{Fact, Observer, Violation};
use crate::records::Records;
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
    /// When it arrives by itself at the earliest.
    due: Instant,
    /// Whether it was decided how long it takes.
    weighed: bool,
}

/// A node: its disk, and its process while it runs.
struct Seat {
    node: NodeId,
    disk: Records,
    replica: Option<Replica>,
    /// The process stands still.
    paused: bool,
    /// What its clock makes of `RATE` microseconds.
    rate: u64,
}

/// Clocks count in this many parts of the true rate.
const RATE: u64 = 8;

/// What goes wrong while all else works: how many times of 256.
#[derive(Clone, Copy, Default)]
struct Weather {
    loss: u8,
    twice: u8,
    lazy: u8,
    late: u8,
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
            let disk = Records::formatted(formatted);
            let rate = if schedule.drift { bare.rng.pick(&[RATE - 2, RATE, RATE + 2, RATE + 2]) } else { RATE };
            bare.seats.push(Seat { node: member.node, disk, replica: None, paused: false, rate });
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
            Move::Run { ms, loss, twice, lazy, late } => {
                self.flow(u64::from(ms) * 1_000, Weather { loss, twice, lazy, late })
            }
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
            Move::Depose { node, side, how } => self.depose(self.addressed(node), side, how),
            Move::Mend { link, both } => {
                let (from, to) = self.link(usize::from(link));
                self.cut.retain(|cut| *cut != (from, to) && !(both && *cut == (to, from)));
                Ok(())
            }
            Move::Wake => {
                self.seats.iter_mut().for_each(|seat| seat.paused = false);
                Ok(())
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
            self.seats[seat].paused = false;
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

    fn addressed(&self, node: u8) -> usize {
        let leads = |seat: &Seat| seat.replica.as_ref().is_some_and(|replica| replica.propose_room() > 0);
        let mut seats = self.seats.iter();
        let leader = if node & 1 == 0 { seats.position(leads) } else { seats.rposition(leads) };
        leader.filter(|_| node >= 128).unwrap_or(usize::from(node) % self.seats.len())
    }

    fn depose(&mut self, seat: usize, side: u8, how: Blow) -> Result<(), Violation> {
        let (mute, deaf) = match how {
            Blow::Crash { keep } => return self.crash(seat, usize::from(keep)),
            Blow::Pause => {
                self.seats[seat].paused = true;
                return Ok(());
            }
            Blow::Mute => (true, false),
            Blow::Deaf => (false, true),
            Blow::Alone => (true, true),
        };
        let node = self.seats[seat].node;
        for (at, other) in self.seats.iter().enumerate() {
            if at == seat || side >> (at % 8) & 1 == 0 {
                continue;
            }
            if mute {
                cut(&mut self.cut, node, other.node);
            }
            if deaf {
                cut(&mut self.cut, other.node, node);
            }
        }
        Ok(())
    }

    fn deliver_removed(&mut self, at: usize) -> Result<(), Violation> {
        let Some(Envelope { to, message, .. }) = self.flight.remove(at) else { return Ok(()) };
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
        if self.seats[seat].replica.is_none() || self.seats[seat].paused {
            return Ok(());
        }
        self.commands += 1;
        let command = Bytes::from(self.commands.to_be_bytes().to_vec());
        let tag = self.next_tag();
        self.see(self.seats[seat].node, &Fact::Proposed { tag, command: &command })?;
        self.handle(seat, Event::Propose { tag, command })
    }

    fn read(&mut self, seat: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_none() || self.seats[seat].paused {
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
}
