//! The room for a node with its process, its clock and its disk: how inputs reach it and its outputs are carried
//! out, what a crash leaves, and how it starts again.

use std::collections::{BTreeMap, VecDeque};

use node::wal::Wal;
use node::{Address, Input, LogReadId, Node, Output, Settings};
use paxos_core::{
    ClusterId, Entries, Formatted, Instant, Member, NodeId, Receipt, Record, Recovered, Recovery, RecoveryError,
    SlotRange, Ticket, wire,
};

use crate::clock::Clock;
use crate::disk::SimFiles;
use crate::observer::{Fact, Observer, Violation};
use crate::world::{Event, World};

/// The cluster that every node of a world belongs to.
const CLUSTER: ClusterId = ClusterId::new(0x5eed);
/// The client port that nodes announce; their host is `n` and their id.
const PORT: u16 = 7_000;

/// A node: its disk for ever, its process while it runs.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: NodeId,
    pub(crate) files: SimFiles,
    /// Counts processes; whatever belongs to an older one is void.
    pub(crate) life: u64,
    /// What came while the process stood still.
    pub(crate) backlog: Vec<Event>,
    pub(crate) stalled_until: Instant,
    /// How long the node is down when its disk fails.
    pub(crate) down_us: u64,
    pub(crate) removed: bool,
    clock: Clock,
    state: State,
    paused: bool,
    /// Every record that is durable, as a recovery must find them.
    durable: Vec<Record>,
    /// Records that the disk is at: a crash may leave any prefix of them.
    writing: Vec<Record>,
}

#[derive(Debug)]
enum State {
    Down,
    /// The log is open and the new boot is being synced.
    Starting(Box<(Wal<SimFiles>, Recovered)>),
    Up(Box<Process>),
}

#[derive(Debug)]
struct Process {
    node: Node,
    wal: Wal<SimFiles>,
    /// Records that wait for the disk.
    queue: VecDeque<(Ticket, Record)>,
    /// How many records the disk was given, and how many of them are durable.
    given: u64,
    durable: u64,
    /// Reads that wait for the records that were given before them: a disk does things in order.
    reads: VecDeque<LogRead>,
    /// Tickets of what the disk is at.
    tickets: Vec<Ticket>,
    syncing: bool,
    /// The newest armed timer, and when it goes off.
    armed: u64,
    due: Option<Instant>,
    /// How many turns it took in this moment.
    turns: (Instant, u32),
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct LogRead {
    after: u64,
    id: LogReadId,
    slots: SlotRange,
    bytes_max: usize,
}

impl Seat {
    /// The node, while its process runs.
    pub(crate) fn node(&self) -> Option<&Node> {
        match &self.state {
            State::Up(process) => Some(&process.node),
            State::Down | State::Starting(_) => None,
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    /// Whether the process stands still.
    pub(crate) fn waits(&self) -> bool {
        self.paused
    }
}

fn recovery_of<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Recovered, RecoveryError> {
    let mut recovery = Recovery::new();
    for record in records {
        recovery.record(record.clone())?;
    }
    recovery.finish()
}

fn broken(what: &'static str, node: NodeId, error: &dyn std::fmt::Display) -> Violation {
    Violation::new(what, format!("{node:?}: {error}"))
}

impl<O: Observer> World<O> {
    /// Formats the disk of a member; its process starts at the begin of the world.
    pub(crate) fn format(&mut self, member: Member) -> Result<(), Violation> {
        let formatted = Formatted {
            cluster: CLUSTER,
            node: member.node,
            incarnation: member.incarnation,
            genesis: self.scenario.genesis.clone(),
        };
        let files = SimFiles::new();
        Wal::format(files.clone(), self.scenario.wal, formatted.clone())
            .map_err(|error| broken("log-can-be-made", member.node, &error))?;
        files.commit();
        self.see(member.node, &Fact::Formatted(&formatted))?;
        let seat = self.seats.len();
        self.seats.push(Seat {
            id: member.node,
            files,
            life: 0,
            backlog: Vec::new(),
            stalled_until: self.now,
            down_us: 0,
            removed: false,
            clock: Clock::new(self.now, 0, &mut self.clock_rng),
            state: State::Down,
            paused: false,
            durable: vec![Record::Formatted(formatted)],
            writing: Vec::new(),
        });
        let late = self.scenario.late.iter().find(|(node, _)| *node == member.node).map(|(_, at)| *at);
        self.heap.push(late.unwrap_or(self.now), Event::Start { seat });
        Ok(())
    }

    fn sync_us(&mut self, seat: usize) -> u64 {
        let id = self.seats[seat].id;
        let slow = self.scenario.slow_disks.iter().find(|(node, _)| *node == id);
        let quality = slow.map_or(self.scenario.disk, |(_, quality)| *quality);
        let stall = self.seats[seat].stalled_until.since_us(self.now);
        quality.sync_us_min + self.disk_rng.exponential(quality.sync_jitter_us) + stall
    }

    /// A process opens its log and begins to make its boot durable.
    pub(crate) fn start(&mut self, seat: usize) -> Result<(), Violation> {
        if !self.seats[seat].is_down() || self.seats[seat].removed {
            return Ok(());
        }
        let id = self.seats[seat].id;
        self.report.starts += 1;
        self.seats[seat].life += 1;
        self.seats[seat].clock = Clock::new(self.now, self.scenario.drift, &mut self.clock_rng);
        let opened = Wal::open(self.seats[seat].files.clone(), self.scenario.wal);
        let (mut wal, mut recovered) = opened.map_err(|error| broken("log-opens-after-a-crash", id, &error))?;
        self.report.torn_tails += u64::from(wal.torn_tail().is_some());
        self.survived(seat, &recovered)?;
        let boot = recovered.next_boot(self.process_rng.draw());
        let record = Record::Started(boot);
        let written = wal.append(&record).and_then(|()| wal.sync());
        written.map_err(|error| broken("log-takes-a-boot", id, &error))?;
        recovered.started(boot).map_err(|error| broken("boots-count-up", id, &error))?;
        self.seats[seat].writing = vec![record];
        self.seats[seat].state = State::Starting(Box::new((wal, recovered)));
        let life = self.seats[seat].life;
        let sync_us = self.sync_us(seat);
        self.after(sync_us, Event::Ready { seat, life });
        Ok(())
    }

    /// Recovers the worst image that could survive now, on the side: it implies every durable record.
    fn worst_image_is_whole(&mut self, seat: usize) -> Result<(), Violation> {
        let Seat { id, files, durable, .. } = &self.seats[seat];
        self.report.images += 1;
        let opened = Wal::open(files.worst(), self.scenario.wal);
        let (_, recovered) = opened.map_err(|error| broken("log-opens-after-a-crash", *id, &error))?;
        match recovery_of(durable.iter()) {
            Ok(expected) if expected == recovered => Ok(()),
            Ok(_) | Err(_) => Err(Violation::new(
                "worst-image-holds-what-is-durable",
                format!("{id:?} after {} records", durable.len()),
            )),
        }
    }

    /// What was recovered is what was durable, and of what the disk was at when it stopped, a first part.
    fn survived(&mut self, seat: usize, recovered: &Recovered) -> Result<(), Violation> {
        let id = self.seats[seat].id;
        let writing = std::mem::take(&mut self.seats[seat].writing);
        for kept in (0..=writing.len()).rev() {
            let expected = recovery_of(self.seats[seat].durable.iter().chain(&writing[..kept]));
            if expected.is_ok_and(|expected| expected == *recovered) {
                for record in writing.into_iter().take(kept) {
                    self.durable(seat, record)?;
                }
                return Ok(());
            }
        }
        let why = format!(
            "{id:?} recovered promise {:?}, first_unchosen {}, {} held slots, boot {:?}: no prefix of what was written",
            recovered.promised(),
            recovered.first_unchosen(),
            recovered.held_slots(),
            recovered.boot()
        );
        Err(Violation::new("recovery-is-what-was-durable", why))
    }

    fn durable(&mut self, seat: usize, record: Record) -> Result<(), Violation> {
        let id = self.seats[seat].id;
        let told = match &record {
            Record::Started(boot) => self.see(id, &Fact::Started { boot: *boot }),
            Record::Formatted(_)
            | Record::Promised(_)
            | Record::Accepted { .. }
            | Record::Learned { .. }
            | Record::Chosen { .. } => self.see(id, &Fact::Durable(&record)),
        };
        self.seats[seat].durable.push(record);
        told
    }

    /// The boot is durable: the node begins to work.
    pub(crate) fn ready(&mut self, seat: usize, life: u64) -> Result<(), Violation> {
        if self.seats[seat].life != life {
            return Ok(());
        }
        let State::Starting(starting) = std::mem::replace(&mut self.seats[seat].state, State::Down) else {
            return Ok(());
        };
        let (wal, recovered) = *starting;
        let id = self.seats[seat].id;
        self.seats[seat].files.commit();
        for record in std::mem::take(&mut self.seats[seat].writing) {
            self.durable(seat, record)?;
        }
        let members = self.scenario.genesis.membership().members();
        let addresses: BTreeMap<NodeId, Address> =
            members.map(|member| (member.node, Address::new(format!("n{}", member.node), PORT))).collect();
        let settings =
            Settings { paxos: self.scenario.config.clone(), addresses, limits: self.scenario.limits.clone() };
        let local = self.seats[seat].clock.read(self.now);
        let seed = self.process_rng.draw();
        let node = Node::new(settings, recovered, local, seed).map_err(|error| broken("node-starts", id, &error))?;
        self.see(id, &Fact::Recovered { replica: node.replica() })?;
        self.seats[seat].state = State::Up(Box::new(Process {
            node,
            wal,
            queue: VecDeque::new(),
            given: 0,
            durable: 0,
            reads: VecDeque::new(),
            tickets: Vec::new(),
            syncing: false,
            armed: 0,
            due: None,
            turns: (self.now, 0),
            outputs: Vec::new(),
        }));
        self.input(seat, Input::Tick)
    }

    /// The process dies. `down_us`: after how long it starts again, if ever. `told`: whether clients hear of it.
    pub(crate) fn crash(&mut self, seat: usize, down_us: Option<u64>, told: bool) -> Result<(), Violation> {
        if self.seats[seat].is_down() {
            return Ok(());
        }
        let id = self.seats[seat].id;
        self.trace.fold(self.now, id, &(9u8, down_us));
        self.drop_connections(seat, told);
        self.seats[seat].state = State::Down;
        self.seats[seat].life += 1;
        self.seats[seat].paused = false;
        for event in std::mem::take(&mut self.seats[seat].backlog) {
            // Whoever was about to connect learns that nobody is there.
            if let Event::Opened { connection } = event {
                self.towards_client(connection, Event::Closed { connection });
            }
        }
        let damage = self.seats[seat].files.crash(&mut self.disk_rng);
        if self.trace.prints() {
            self.trace.line(self.report.steps, self.now, Some(id), format_args!("crashed, {damage:?}"));
        }
        if let Some(down_us) = down_us {
            self.after(down_us, Event::Start { seat });
        }
        self.see(id, &Fact::Crashed)
    }

    /// The process is asked to stop, answers what it can, and is gone.
    pub(crate) fn terminate(&mut self, seat: usize, down_us: u64) -> Result<(), Violation> {
        if self.seats[seat].node().is_none() || self.seats[seat].paused {
            return Ok(());
        }
        self.input(seat, Input::Stop)?;
        self.crash(seat, Some(down_us), true)
    }

    pub(crate) fn pause(&mut self, seat: usize, us: u64) {
        if self.seats[seat].node().is_none() || self.seats[seat].paused {
            return;
        }
        self.seats[seat].paused = true;
        let life = self.seats[seat].life;
        self.after(us, Event::Resume { seat, life });
    }

    /// The process goes on and finds everything that came meanwhile.
    pub(crate) fn resume(&mut self, seat: usize, life: u64) -> Result<(), Violation> {
        if self.seats[seat].life != life || !self.seats[seat].paused {
            return Ok(());
        }
        self.seats[seat].paused = false;
        for event in std::mem::take(&mut self.seats[seat].backlog) {
            self.after(0, event);
        }
        self.arm(seat);
        Ok(())
    }

    pub(crate) fn timer(&mut self, seat: usize, armed: u64) -> Result<(), Violation> {
        let State::Up(process) = &mut self.seats[seat].state else { return Ok(()) };
        if process.armed != armed {
            return Ok(());
        }
        process.due = None;
        if self.seats[seat].paused {
            return Ok(());
        }
        let local = self.seats[seat].clock.read(self.now);
        if self.seats[seat].node().and_then(Node::deadline).is_some_and(|deadline| deadline <= local) {
            self.is_no_busy_loop(seat, local)?;
            return self.input(seat, Input::Tick);
        }
        self.arm(seat);
        Ok(())
    }

    /// A node that wants to be called again and again in the same moment would keep a real processor busy for ever.
    fn is_no_busy_loop(&mut self, seat: usize, local: Instant) -> Result<(), Violation> {
        /// Turns without time passing that are still taken for work.
        const TURNS_MAX: u32 = 10_000;
        let now = self.now;
        let Seat { id, state, .. } = &mut self.seats[seat];
        let State::Up(process) = state else { return Ok(()) };
        let (moment, turns) = process.turns;
        process.turns = if moment == now { (now, turns + 1) } else { (now, 1) };
        if turns < TURNS_MAX {
            return Ok(());
        }
        let replica = process.node.replica();
        let why = format!(
            "{id:?} at {local:?} wants {:?}, its replica {:?}; {:?} {:?}",
            process.node.deadline(),
            replica.deadline(),
            replica.role(),
            replica.ballot()
        );
        Err(Violation::new("no-busy-loop", why))
    }

    /// Makes sure that the node is called at its deadline: a timer that comes too early is armed anew when it
    /// comes, one that would come too late is made void.
    fn arm(&mut self, seat: usize) {
        let Seat { clock, state, .. } = &mut self.seats[seat];
        let State::Up(process) = state else { return };
        let Some(deadline) = process.node.deadline() else { return };
        let due = clock.when(deadline).max(self.now);
        if process.due.is_some_and(|armed| armed <= due) {
            return;
        }
        process.due = Some(due);
        process.armed += 1;
        let armed = process.armed;
        self.heap.push(due, Event::Timer { seat, armed });
    }

    /// Hands an input to a node that runs, and carries out what it asks for.
    pub(crate) fn input(&mut self, seat: usize, input: Input) -> Result<(), Violation> {
        if self.seats[seat].paused || self.seats[seat].node().is_none() {
            return Ok(());
        }
        let State::Up(mut process) = std::mem::replace(&mut self.seats[seat].state, State::Down) else {
            return Ok(());
        };
        let id = self.seats[seat].id;
        let local = self.seats[seat].clock.read(self.now);
        if self.trace.prints() {
            self.print_input(id, &input);
        }
        let mut outputs = std::mem::take(&mut process.outputs);
        process.node.handle(local, input, &mut outputs);
        let stepped = Fact::Stepped { replica: process.node.replica(), outputs: outputs.len() };
        let moment = self.moment(id);
        let mut verdict = self.observer.see(moment, &stepped);
        verdict = verdict.and_then(|()| self.observer.see(moment, &Fact::Served(&process.node)));
        self.seats[seat].state = State::Up(process);
        let mut fenced = false;
        for output in outputs.drain(..) {
            if self.trace.prints() {
                self.print_output(id, &output);
            }
            fenced |= matches!(output, Output::Fenced { .. });
            verdict = verdict.and_then(|()| self.carry_out(seat, output));
        }
        if let State::Up(process) = &mut self.seats[seat].state {
            process.outputs = outputs;
        }
        verdict?;
        if fenced {
            let down_us = self.seats[seat].down_us;
            return self.crash(seat, Some(down_us), true);
        }
        self.write(seat)?;
        self.arm(seat);
        Ok(())
    }

    fn carry_out(&mut self, seat: usize, output: Output) -> Result<(), Violation> {
        let id = self.seats[seat].id;
        let now = self.now;
        match output {
            Output::ToPeers { to, frame } => {
                self.trace.fold(now, id, &frame);
                let message = wire::decode(&frame).map_err(|error| broken("frames-decode", id, &error))?;
                self.see(id, &Fact::Sent { to: &to, message: &message })?;
                for to in &to {
                    let arrivals = self.network.send(now, id, to);
                    for at in [arrivals.first, arrivals.second].into_iter().flatten() {
                        let mut seat = self.seats.iter().position(|seat| seat.id == to).unwrap_or(0);
                        if self.network.misroutes() {
                            seat = (seat + 1) % self.seats.len();
                        }
                        self.heap.push(at, Event::Frame { seat, from: id, frame: frame.clone() });
                    }
                }
            }
            Output::Persist { ticket, record } => {
                self.trace.fold(now, id, &record);
                if let State::Up(process) = &mut self.seats[seat].state {
                    process.queue.push_back((ticket, record));
                    process.given += 1;
                }
            }
            Output::ToClient { client, bytes } => {
                self.trace.fold(now, id, &(client, &bytes));
                self.reply(client, bytes);
            }
            Output::CloseClient { client, .. } => self.close(client),
            Output::PauseClient { client } => self.pause_client(client, true),
            Output::ResumeClient { client } => self.pause_client(client, false),
            Output::ReadLog { id, slots, bytes_max } => {
                if let State::Up(process) = &mut self.seats[seat].state {
                    process.reads.push_back(LogRead { after: process.given, id, slots, bytes_max });
                }
                self.read_what_is_ready(seat);
            }
            Output::RoleChanged { role, ballot, .. } => {
                self.trace.fold(now, id, &(role, ballot));
                self.see(id, &Fact::Role { role, ballot })?;
            }
            Output::Fenced { reason } => self.see(id, &Fact::Fenced { reason })?,
        }
        Ok(())
    }

    /// Hands everything that waits to the disk, if it is free: one sync for all.
    fn write(&mut self, seat: usize) -> Result<(), Violation> {
        let Seat { state, writing, .. } = &mut self.seats[seat];
        let State::Up(process) = state else { return Ok(()) };
        if process.syncing || process.queue.is_empty() {
            return Ok(());
        }
        let mut failed = false;
        for (ticket, record) in process.queue.drain(..) {
            failed |= process.wal.append(&record).is_err();
            process.tickets.push(ticket);
            writing.push(record);
        }
        failed |= process.wal.sync().is_err();
        if failed {
            return self.input(seat, Input::PersistFailed);
        }
        process.syncing = true;
        let life = self.seats[seat].life;
        let sync_us = self.sync_us(seat);
        self.after(sync_us, Event::Synced { seat, life });
        Ok(())
    }

    /// The disk has done what it was asked for.
    pub(crate) fn synced(&mut self, seat: usize, life: u64) -> Result<(), Violation> {
        if self.seats[seat].life != life {
            return Ok(());
        }
        // A disk works on while the process stands still.
        if !self.seats[seat].writing.is_empty() {
            self.seats[seat].files.commit();
            for record in std::mem::take(&mut self.seats[seat].writing) {
                self.durable(seat, record)?;
            }
        }
        /// One in so many syncs is checked by a whole recovery, which costs as much as the log is long.
        const SYNCS_PER_IMAGE: u64 = 128;
        if self.disk_rng.below(SYNCS_PER_IMAGE) == 0 {
            self.worst_image_is_whole(seat)?;
        }
        if self.seats[seat].paused {
            self.seats[seat].backlog.push(Event::Synced { seat, life });
            return Ok(());
        }
        let State::Up(process) = &mut self.seats[seat].state else { return Ok(()) };
        process.syncing = false;
        let tickets = std::mem::take(&mut process.tickets);
        process.durable += tickets.len() as u64;
        // Preparing the next segment may fail; the log goes on without.
        if process.wal.wants_next() {
            let _ = process.wal.prepare_next();
        }
        self.read_what_is_ready(seat);
        let mut receipt: Option<Receipt> = None;
        for ticket in tickets {
            receipt = match receipt.take() {
                None => Some(ticket.redeem()),
                Some(receipt) => match receipt.and(ticket) {
                    Ok(receipt) => Some(receipt),
                    Err(apart) => {
                        self.input(seat, Input::Persisted(apart.receipt))?;
                        Some(apart.ticket.redeem())
                    }
                },
            };
        }
        match receipt {
            Some(receipt) => self.input(seat, Input::Persisted(receipt)),
            None => self.write(seat),
        }
    }

    fn read_what_is_ready(&mut self, seat: usize) {
        let life = self.seats[seat].life;
        while let State::Up(process) = &mut self.seats[seat].state
            && process.reads.front().is_some_and(|read| read.after <= process.durable)
            && let Some(LogRead { id, slots, bytes_max, .. }) = process.reads.pop_front()
        {
            let read_us = self.scenario.disk.sync_us_min;
            self.after(read_us, Event::LogRead { seat, life, id, slots, bytes_max });
        }
    }

    pub(crate) fn log_read(
        &mut self,
        seat: usize,
        life: u64,
        id: LogReadId,
        slots: SlotRange,
        bytes_max: usize,
    ) -> Result<(), Violation> {
        if self.seats[seat].life != life {
            return Ok(());
        }
        if self.seats[seat].paused {
            self.seats[seat].backlog.push(Event::LogRead { seat, life, id, slots, bytes_max });
            return Ok(());
        }
        let node = self.seats[seat].id;
        let State::Up(process) = &mut self.seats[seat].state else { return Ok(()) };
        let entries: Entries = match process.wal.read(slots, bytes_max) {
            Ok(entries) => entries,
            Err(error) => return Err(broken("log-reads-what-is-chosen", node, &error)),
        };
        self.input(seat, Input::LogRead { id, first: slots.first, entries })
    }

    fn print_input(&mut self, id: NodeId, input: &Input) {
        let (step, now) = (self.report.steps, self.now);
        match input {
            Input::PeerFrame { from, frame } => match wire::decode(frame) {
                Ok(message) => self.trace.line(step, now, Some(id), format_args!("<- {from:?} {:?}", message.body)),
                Err(error) => self.trace.line(step, now, Some(id), format_args!("<- {from:?} {error}")),
            },
            Input::ClientOpened { .. }
            | Input::ClientBytes { .. }
            | Input::ClientEnded { .. }
            | Input::ClientClosed { .. }
            | Input::ClientStalled { .. }
            | Input::ClientDrained { .. }
            | Input::Persisted(_)
            | Input::PersistFailed
            | Input::LogRead { .. }
            | Input::HandOver { .. }
            | Input::Tick
            | Input::Stop => self.trace.line(step, now, Some(id), format_args!("<- {input:?}")),
        }
    }

    fn print_output(&mut self, id: NodeId, output: &Output) {
        let (step, now) = (self.report.steps, self.now);
        match output {
            Output::ToPeers { to, frame } => match wire::decode(frame) {
                Ok(message) => self.trace.line(step, now, Some(id), format_args!("-> {to:?} {:?}", message.body)),
                Err(error) => self.trace.line(step, now, Some(id), format_args!("-> {to:?} {error}")),
            },
            Output::Persist { record, .. } => {
                self.trace.line(step, now, Some(id), format_args!("-> disk {record:?}"));
            }
            Output::ToClient { .. }
            | Output::CloseClient { .. }
            | Output::PauseClient { .. }
            | Output::ResumeClient { .. }
            | Output::ReadLog { .. }
            | Output::RoleChanged { .. }
            | Output::Fenced { .. } => self.trace.line(step, now, Some(id), format_args!("-> {output:?}")),
        }
    }
}
