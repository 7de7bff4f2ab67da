//! The room for a node with its process, its clock and its disk: how inputs reach it, how its outputs are
//! carried out, how it dies and starts again. `storage.rs` holds what its disk does.

mod turn;

use std::collections::{BTreeMap, VecDeque};

use node::wal::Wal;
use node::{Address, Input, LogReadId, Node, Output, Settings};
use paxos_core::{ClusterId, Formatted, Instant, Member, NodeId, Record, Recovered, SlotRange, Ticket};

use crate::clock::Clock;
use crate::decisions::{Fate, Leaves, Stream};
use crate::disk::SimFiles;
use crate::lost::{Backup, Image, Met};
use crate::observer::{Fact, Observer, Violation};
use crate::rng::{Concern, Rng};
use crate::world::{Event, World};

/// The cluster that every node of a world belongs to.
pub(crate) const CLUSTER: ClusterId = ClusterId::new(0x5eed);
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
    pub(crate) clock: Clock,
    pub(crate) state: State,
    pub(crate) paused: bool,
    /// Every record that is durable, as a recovery must find them.
    pub(crate) durable: Vec<Record>,
    /// How many of them were, before the last sync.
    pub(crate) durable_before: usize,
    /// Records that the disk is at: a crash may leave any prefix of them.
    pub(crate) writing: Vec<Record>,
    /// What the disk is to the member.
    pub(crate) image: Image,
    /// A copy that will be put back.
    pub(crate) backup: Option<Backup>,
    /// Of whom this process has heard, and at which start.
    pub(crate) met: Met,
}

#[derive(Debug)]
pub(crate) enum State {
    Down,
    /// The log is open and the new boot is being synced.
    Starting(Box<(Wal<SimFiles>, Recovered)>),
    Up(Box<Process>),
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(crate) wal: Wal<SimFiles>,
    /// Records that wait for the disk.
    pub(crate) queue: VecDeque<(Ticket, Record)>,
    /// How many records the disk was given, and how many of them are durable.
    pub(crate) given: u64,
    pub(crate) durable: u64,
    /// Reads that wait for the records that were given before them: a disk does things in order.
    pub(crate) reads: VecDeque<LogRead>,
    /// Tickets of what the disk is at.
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) syncing: bool,
    /// The newest armed timer, and when it goes off.
    pub(crate) armed: u64,
    pub(crate) due: Option<Instant>,
    /// How many turns it took in this moment.
    pub(crate) turns: (Instant, u32),
    pub(crate) outputs: Vec<Output>,
}

#[derive(Debug)]
pub(crate) struct LogRead {
    pub(crate) after: u64,
    pub(crate) id: LogReadId,
    pub(crate) slots: SlotRange,
    pub(crate) bytes_max: usize,
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

pub(crate) fn broken(what: &'static str, node: NodeId, error: &dyn std::fmt::Display) -> Violation {
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
            clock: Clock::new(self.now, 0, &mut self.rng_of(Concern::Clock, member.node, 0)),
            state: State::Down,
            paused: false,
            durable: vec![Record::Formatted(formatted)],
            durable_before: 0,
            writing: Vec::new(),
            image: Image::default(),
            backup: None,
            met: Met::new(),
        });
        let late = self.scenario.late.iter().find(|(node, _)| *node == member.node).map(|(_, at)| *at);
        self.heap.push(late.unwrap_or(self.now), Event::Start { seat });
        Ok(())
    }

    /// What a process of a node draws for itself; nothing else shifts it.
    pub(crate) fn rng_of(&self, concern: Concern, node: NodeId, life: u64) -> Rng {
        Rng::keyed(self.scenario.seed, concern, u64::from(node.0), life)
    }

    /// A process opens its log and begins to make its boot durable.
    pub(crate) fn start(&mut self, seat: usize) -> Result<(), Violation> {
        if !self.seats[seat].is_down() || self.seats[seat].removed {
            return Ok(());
        }
        let id = self.seats[seat].id;
        self.report.starts += 1;
        self.seats[seat].life += 1;
        self.seats[seat].met.clear();
        let life = self.seats[seat].life;
        if !self.finds_a_log(seat)? {
            return Ok(());
        }
        self.seats[seat].clock = Clock::new(self.now, self.scenario.drift, &mut self.rng_of(Concern::Clock, id, life));
        let opened = Wal::open(self.seats[seat].files.clone(), self.scenario.wal);
        let (mut wal, mut recovered) = opened.map_err(|error| broken("log-opens-after-a-crash", id, &error))?;
        self.report.torn_tails += u64::from(wal.torn_tail().is_some());
        let written = self.seats[seat].writing.len();
        let kept = self.survived(seat, &recovered)?;
        self.see(id, &Fact::Starting { torn_tail: wal.torn_tail().is_some(), written, kept })?;
        let boot = recovered.next_boot(self.rng_of(Concern::Process, id, life).draw());
        let record = Record::Started(boot);
        let written = wal.append(&record).and_then(|()| wal.sync());
        written.map_err(|error| broken("log-takes-a-boot", id, &error))?;
        recovered.started(boot).map_err(|error| broken("boots-count-up", id, &error))?;
        self.seats[seat].writing = vec![record];
        self.seats[seat].state = State::Starting(Box::new((wal, recovered)));
        let sync_us = self.sync_us(seat);
        self.after(sync_us, Event::Ready { seat, life });
        Ok(())
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
        self.seats[seat].durable_before = self.seats[seat].durable.len();
        for record in std::mem::take(&mut self.seats[seat].writing) {
            self.durable(seat, record)?;
        }
        let members = self.scenario.genesis.membership().members();
        let addresses: BTreeMap<NodeId, Address> =
            members.map(|member| (member.node, Address::new(format!("n{}", member.node), PORT))).collect();
        let settings =
            Settings { paxos: self.scenario.config.clone(), addresses, limits: self.scenario.limits.clone() };
        let local = self.seats[seat].clock.read(self.now);
        let seed = self.rng_of(Concern::Process, id, life).split().draw();
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
        let mut leaves = Leaves::Nothing;
        if self.seats[seat].files.uncommitted() > 0 {
            let torn = |rng: &mut Rng| Fate { leaves: Leaves::Torn(rng.draw()), ..Fate::default() };
            leaves = self.decisions.decide(self.now, Stream::Crash { node: id }, torn).leaves;
        }
        let damage = self.seats[seat].files.crash(leaves);
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

    pub(crate) fn pause(&mut self, seat: usize, us: u64) -> Result<(), Violation> {
        if self.seats[seat].node().is_none() || self.seats[seat].paused {
            return Ok(());
        }
        self.seats[seat].paused = true;
        let life = self.seats[seat].life;
        self.after(us, Event::Resume { seat, life });
        self.see(self.seats[seat].id, &Fact::Paused)
    }

    /// The process goes on and finds everything that came meanwhile.
    pub(crate) fn resume(&mut self, seat: usize, life: u64) -> Result<(), Violation> {
        if self.seats[seat].life != life || !self.seats[seat].paused {
            return Ok(());
        }
        self.seats[seat].paused = false;
        for event in std::mem::take(&mut self.seats[seat].backlog) {
            // Before what arrives at this very moment: streams keep their order.
            self.heap.push_first(self.now, event);
        }
        self.arm(seat);
        self.see(self.seats[seat].id, &Fact::Resumed)
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
    pub(crate) fn arm(&mut self, seat: usize) {
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
}
