//! The room for the world: nodes, clients, links and disks in virtual time, one event after the other.
//!
//! The world runs the shipped `node` over the shipped log bytes; clients speak RESP bytes. Whatever happens is told
//! to the observer and folded into the trace. `seat.rs` holds a node with its process and disk, this file the time,
//! the messages and the faults.

use std::collections::BTreeSet;

use bytes::Bytes;
use node::{ClientId, Input, LogReadId, Node};
use paxos_core::{Instant, Member, NodeId, Role, SlotRange};

use crate::client::{Client, Wish};
use crate::heap::Heap;
use crate::nemesis::{FAULT_KINDS, Fault};
use crate::network::{Mischief, Network, Quality};
use crate::observer::{Fact, Moment, Observer, Violation};
use crate::rng::{Concern, Rng};
use crate::scenario::{DiskQuality, START, Scenario};
use crate::seat::Seat;
use crate::trace::Trace;

/// Something that is still to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame arrives.
    Frame { seat: usize, from: NodeId, frame: Bytes },
    /// A node wants to be called; only the newest such event of a process counts.
    Timer { seat: usize, armed: u64 },
    /// The disk has done what it was asked for.
    Synced { seat: usize, life: u64 },
    /// The log is read.
    LogRead { seat: usize, life: u64, id: LogReadId, slots: SlotRange, bytes_max: usize },
    /// A process starts.
    Start { seat: usize },
    /// The start of a process is durable: it begins to work.
    Ready { seat: usize, life: u64 },
    /// A process that stood still goes on.
    Resume { seat: usize, life: u64 },
    /// A connection reaches its node.
    Opened { connection: usize },
    /// A client's bytes reach its node.
    ToNode { connection: usize, bytes: Bytes },
    /// A node hears that a client hung up.
    HungUp { connection: usize },
    /// A client hears that its connection works.
    Connected { connection: usize },
    /// A node's bytes reach the client.
    ToClient { connection: usize, bytes: Bytes },
    /// A client hears that its connection is gone.
    Closed { connection: usize },
    /// A client wished to be woken.
    Wake { client: usize },
    /// A fault strikes.
    Strike { fault: usize },
    /// Whoever leads dies.
    Decapitate { down_us: u64 },
    /// A partition ends.
    Mend { cuts: Vec<(NodeId, NodeId)> },
    /// Clients reach a node again.
    MendClients { seat: usize },
    /// The world looks whether all is done.
    Look,
}

/// A client's connection to a node.
#[derive(Debug)]
struct Connection {
    client: usize,
    seat: usize,
    life: u64,
    /// The node was told of it and not of its end.
    served: bool,
    /// The client still cares.
    wanted: bool,
    /// Bytes were lost on the way: nothing passes any more.
    broken: bool,
    paused: bool,
    held: Vec<Bytes>,
    to_node_last: Instant,
    to_client_last: Instant,
}

/// When the faults ended, and how long the world may take from then on to come to rest.
#[derive(Clone, Copy, Debug)]
struct Healed {
    at: Instant,
    patience_us: u64,
}

/// How a world ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Events handled.
    pub steps: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// From the end of the faults until all was done, in microseconds; of many worlds, the longest.
    pub healed_in_us: u64,
    /// Faults that struck, by kind (`Fault::NAMES`).
    pub faults: [u64; FAULT_KINDS],
    /// What the network did.
    pub mischief: Mischief,
    /// Worst images that were recovered on the side.
    pub images: u64,
    /// Torn tails that were dropped at a start.
    pub torn_tails: u64,
    /// Processes that were started.
    pub starts: u64,
    /// Operations that clients began.
    pub asked: u64,
    /// Operations whose reply came.
    pub answered: u64,
    /// Operations that nobody knows the outcome of.
    pub unknown: u64,
}

impl Report {
    /// Adds another world's counts.
    pub fn add(&mut self, other: &Report) {
        self.steps += other.steps;
        self.simulated_us += other.simulated_us;
        self.healed_in_us = self.healed_in_us.max(other.healed_in_us);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.mischief.lost += other.mischief.lost;
        self.mischief.cut += other.mischief.cut;
        self.mischief.duplicated += other.mischief.duplicated;
        self.mischief.misrouted += other.mischief.misrouted;
        self.images += other.images;
        self.torn_tails += other.torn_tails;
        self.starts += other.starts;
        self.asked += other.asked;
        self.answered += other.answered;
        self.unknown += other.unknown;
    }
}

/// Nodes and clients in virtual time.
pub struct World<O> {
    pub(crate) scenario: Scenario,
    pub(crate) now: Instant,
    pub(crate) heap: Heap<Event>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) network: Network,
    pub(crate) disk_rng: Rng,
    pub(crate) process_rng: Rng,
    pub(crate) clock_rng: Rng,
    pub(crate) report: Report,
    clients: Vec<Client>,
    lines: Vec<Option<usize>>,
    connections: Vec<Connection>,
    unreachable: BTreeSet<usize>,
    healed: Option<Healed>,
    wishes: Vec<Wish>,
    /// Who watches.
    pub observer: O,
    /// What happened.
    pub trace: Trace,
}

impl<O: Observer> World<O> {
    /// Formats every disk and makes everything that is to happen.
    ///
    /// # Errors
    /// What the observer objects to, or `disk` if a log cannot be made.
    pub fn new(scenario: Scenario, observer: O, trace: Trace) -> Result<World<O>, Violation> {
        let seed = scenario.seed;
        let mut world = World {
            now: START,
            heap: Heap::default(),
            seats: Vec::new(),
            network: Network::new(scenario.quality, Rng::new(seed, Concern::Network).split()),
            disk_rng: Rng::new(seed, Concern::Disk).split(),
            process_rng: Rng::new(seed, Concern::Process),
            clock_rng: Rng::new(seed, Concern::Clock).split(),
            report: Report::default(),
            clients: Vec::new(),
            lines: vec![None; scenario.clients.len()],
            connections: Vec::new(),
            unreachable: BTreeSet::new(),
            healed: None,
            wishes: Vec::new(),
            observer,
            trace,
            scenario,
        };
        let members: Vec<Member> = world.scenario.genesis.membership().members().copied().collect();
        for member in &members {
            world.format(*member)?;
        }
        let nodes: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let mut workload = Rng::new(seed, Concern::Workload).split();
        for (client, manner) in world.scenario.clients.clone().into_iter().enumerate() {
            world.clients.push(Client::new(client as u32 + 1, manner, nodes.clone(), workload.split()));
            world.heap.push(START.plus_us(workload.below(1_000_000)), Event::Wake { client });
        }
        for fault in 0..world.scenario.faults.len() {
            world.heap.push(world.scenario.faults[fault].0, Event::Strike { fault });
        }
        world.heap.push(START.plus_us(world.scenario.faults_us), Event::Look);
        Ok(world)
    }

    /// Runs until every client is done and all replicas agree, or for so many steps.
    ///
    /// # Errors
    /// The first broken invariant; `liveness` if the healed world does not come to rest in time.
    pub fn run(&mut self, steps: u64) -> Result<(), Violation> {
        while self.report.steps < steps {
            let Some((at, event)) = self.heap.pop() else {
                return Err(Violation::new("liveness", "nothing is left to happen"));
            };
            self.now = self.now.max(at);
            self.report.steps += 1;
            self.report.simulated_us = self.now.since_us(START);
            if matches!(event, Event::Look) {
                if self.look()? {
                    return Ok(());
                }
                continue;
            }
            self.happen(event)?;
        }
        Ok(())
    }

    /// How it went so far.
    pub fn report(&self) -> Report {
        Report { mischief: self.network.mischief, ..self.report }
    }

    /// The nodes that work now.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.seats.iter().filter_map(Seat::node)
    }

    /// The world's time.
    pub fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn moment(&self, node: NodeId) -> Moment {
        Moment { step: self.report.steps, now: self.now, node }
    }

    pub(crate) fn see(&mut self, node: NodeId, fact: &Fact<'_>) -> Result<(), Violation> {
        let moment = self.moment(node);
        self.observer.see(moment, fact)
    }

    pub(crate) fn after(&mut self, us: u64, event: Event) {
        self.heap.push(self.now.plus_us(us), event);
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Frame { seat, from, frame } => {
                if self.seats[seat].waits() {
                    self.seats[seat].backlog.push(Event::Frame { seat, from, frame });
                    return Ok(());
                }
                self.input(seat, Input::PeerFrame { from, frame })
            }
            Event::Timer { seat, armed } => self.timer(seat, armed),
            Event::Synced { seat, life } => self.synced(seat, life),
            Event::LogRead { seat, life, id, slots, bytes_max } => self.log_read(seat, life, id, slots, bytes_max),
            Event::Start { seat } => self.start(seat),
            Event::Ready { seat, life } => self.ready(seat, life),
            Event::Resume { seat, life } => self.resume(seat, life),
            Event::Opened { connection } => self.opened(connection),
            Event::ToNode { connection, bytes } => self.arrive_at_node(connection, bytes),
            Event::HungUp { connection } => self.hung_up(connection),
            Event::Connected { connection } => self.tell(connection, Client::connected),
            Event::ToClient { connection, bytes } => {
                self.tell(connection, |client, now, wishes| client.received(now, &bytes, wishes))
            }
            Event::Closed { connection } => {
                let client = self.connections[connection].client;
                let wanted = std::mem::replace(&mut self.connections[connection].wanted, false);
                if !wanted {
                    return Ok(());
                }
                self.lines[client] = None;
                self.serve(client, Client::closed)
            }
            Event::Wake { client } => self.serve(client, Client::woken),
            Event::Strike { fault } => {
                let fault = self.scenario.faults[fault].1.clone();
                self.strike(&fault)
            }
            Event::Decapitate { down_us } => self.decapitate(down_us),
            Event::Mend { cuts } => {
                cuts.iter().for_each(|(from, to)| self.network.mend(*from, *to));
                Ok(())
            }
            Event::MendClients { seat } => {
                self.unreachable.remove(&seat);
                Ok(())
            }
            Event::Look => Ok(()),
        }
    }
}

// --- clients ---

impl<O: Observer> World<O> {
    /// Tells a client something of a connection that it still cares for.
    fn tell(
        &mut self,
        connection: usize,
        what: impl FnOnce(&mut Client, Instant, &mut Vec<Wish>),
    ) -> Result<(), Violation> {
        let Connection { wanted, broken, client, .. } = self.connections[connection];
        if !wanted || broken {
            return Ok(());
        }
        self.serve(client, what)
    }

    /// Lets a client act, and does what it wishes.
    fn serve(
        &mut self,
        client: usize,
        what: impl FnOnce(&mut Client, Instant, &mut Vec<Wish>),
    ) -> Result<(), Violation> {
        let mut wishes = std::mem::take(&mut self.wishes);
        what(&mut self.clients[client], self.now, &mut wishes);
        let mut verdict = Ok(());
        for wish in wishes.drain(..) {
            verdict = verdict.and_then(|()| self.grant(client, wish));
        }
        self.wishes = wishes;
        verdict
    }

    fn grant(&mut self, client: usize, wish: Wish) -> Result<(), Violation> {
        if self.trace.prints() {
            let now = self.now;
            self.trace.line(self.report.steps, now, None, format_args!("c{} wishes {wish:?}", client + 1));
        }
        match wish {
            Wish::Connect(node) => {
                let seat = self.seats.iter().position(|seat| seat.id == node).unwrap_or(0);
                let connection = self.connections.len();
                self.connections.push(Connection {
                    client,
                    seat,
                    life: 0,
                    served: false,
                    wanted: true,
                    broken: false,
                    paused: false,
                    held: Vec::new(),
                    to_node_last: self.now,
                    to_client_last: self.now,
                });
                self.lines[client] = Some(connection);
                self.towards_node(connection, Event::Opened { connection });
            }
            Wish::Send(bytes) => {
                if let Some(connection) = self.lines[client] {
                    self.towards_node(connection, Event::ToNode { connection, bytes });
                }
            }
            Wish::HangUp => {
                if let Some(connection) = self.lines[client].take() {
                    self.connections[connection].wanted = false;
                    self.towards_node(connection, Event::HungUp { connection });
                }
            }
            Wish::Wake(at) => self.heap.push(at, Event::Wake { client }),
            Wish::Asked(operation) => {
                self.report.asked += 1;
                self.trace.fold(self.now, NodeId(0), &(0u8, operation.id));
                return self.see(NodeId(0), &Fact::Asked(&operation));
            }
            Wish::Answered(id, reply) => {
                self.report.answered += 1;
                self.trace.fold(self.now, NodeId(0), &(1u8, id, &reply));
                return self.see(NodeId(0), &Fact::Answered { id, reply: &reply });
            }
            Wish::Unknown(id) => {
                self.report.unknown += 1;
                self.trace.fold(self.now, NodeId(0), &(2u8, id));
                return self.see(NodeId(0), &Fact::Unknown { id });
            }
            Wish::Nonsense(what) => {
                return Err(Violation::new("replies-make-sense", format!("client {}: {what}", client + 1)));
            }
        }
        Ok(())
    }

    fn towards_node(&mut self, connection: usize, event: Event) {
        let delay = self.network.client_delay();
        let line = &mut self.connections[connection];
        line.to_node_last = line.to_node_last.max(self.now.plus_us(delay));
        self.heap.push(line.to_node_last, event);
    }

    pub(crate) fn towards_client(&mut self, connection: usize, event: Event) {
        let delay = self.network.client_delay();
        let line = &mut self.connections[connection];
        line.to_client_last = line.to_client_last.max(self.now.plus_us(delay));
        self.heap.push(line.to_client_last, event);
    }

    fn opened(&mut self, connection: usize) -> Result<(), Violation> {
        /// How long a connection attempt that nobody answers takes to fail.
        const CONNECT_US: u64 = 500_000;
        let seat = self.connections[connection].seat;
        if self.unreachable.contains(&seat) {
            self.after(CONNECT_US, Event::Closed { connection });
            return Ok(());
        }
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::Opened { connection });
            return Ok(());
        }
        if self.seats[seat].node().is_none() {
            self.towards_client(connection, Event::Closed { connection });
            return Ok(());
        }
        self.connections[connection].life = self.seats[seat].life;
        self.connections[connection].served = true;
        self.towards_client(connection, Event::Connected { connection });
        self.input(seat, Input::ClientOpened { client: ClientId(connection as u64) })
    }

    /// Whether the node still serves this connection.
    fn is_served(&self, connection: usize) -> bool {
        let line = &self.connections[connection];
        line.served && !line.broken && self.seats[line.seat].life == line.life
    }

    fn arrive_at_node(&mut self, connection: usize, bytes: Bytes) -> Result<(), Violation> {
        let seat = self.connections[connection].seat;
        if self.unreachable.contains(&seat) {
            self.connections[connection].broken = true;
        }
        if !self.is_served(connection) {
            return Ok(());
        }
        if self.connections[connection].paused {
            self.connections[connection].held.push(bytes);
            return Ok(());
        }
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::ToNode { connection, bytes });
            return Ok(());
        }
        self.input(seat, Input::ClientBytes { client: ClientId(connection as u64), bytes })
    }

    fn hung_up(&mut self, connection: usize) -> Result<(), Violation> {
        let seat = self.connections[connection].seat;
        if !self.is_served(connection) {
            return Ok(());
        }
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::HungUp { connection });
            return Ok(());
        }
        self.connections[connection].served = false;
        self.input(seat, Input::ClientClosed { client: ClientId(connection as u64) })
    }

    /// A node sends to a client.
    pub(crate) fn reply(&mut self, client: ClientId, bytes: Bytes) {
        let connection = client.0 as usize;
        if self.unreachable.contains(&self.connections[connection].seat) {
            self.connections[connection].broken = true;
        }
        self.towards_client(connection, Event::ToClient { connection, bytes });
    }

    /// A node closes a client's connection.
    pub(crate) fn close(&mut self, client: ClientId) {
        let connection = client.0 as usize;
        self.connections[connection].served = false;
        self.towards_client(connection, Event::Closed { connection });
    }

    /// A node reads no more from a client, or reads on.
    pub(crate) fn pause_client(&mut self, client: ClientId, paused: bool) {
        let connection = client.0 as usize;
        self.connections[connection].paused = paused;
        if !paused {
            for bytes in std::mem::take(&mut self.connections[connection].held) {
                self.towards_node(connection, Event::ToNode { connection, bytes });
            }
        }
    }

    /// A process is gone and with it its connections; clients hear of it unless the whole host went.
    pub(crate) fn drop_connections(&mut self, seat: usize, told: bool) {
        let life = self.seats[seat].life;
        for connection in 0..self.connections.len() {
            let line = &mut self.connections[connection];
            if line.seat == seat && line.life == life && line.served {
                line.served = false;
                if told {
                    self.towards_client(connection, Event::Closed { connection });
                } else {
                    self.connections[connection].broken = true;
                }
            }
        }
    }
}

// --- faults, and their end ---

impl<O: Observer> World<O> {
    fn seat_of(&self, node: NodeId) -> usize {
        self.seats.iter().position(|seat| seat.id == node).unwrap_or(0)
    }

    fn strike(&mut self, fault: &Fault) -> Result<(), Violation> {
        if self.healed.is_some() {
            return Ok(());
        }
        if self.trace.prints() {
            self.trace.line(self.report.steps, self.now, None, format_args!("fault {fault:?}"));
        }
        self.report.faults[fault.kind()] += 1;
        match fault {
            Fault::Crash { node, down_us } => self.crash(self.seat_of(*node), Some(*down_us), true),
            Fault::PowerLoss { nodes, down_us } => {
                nodes.iter().try_for_each(|node| self.crash(self.seat_of(*node), Some(*down_us), false))
            }
            Fault::Terminate { node, down_us } => self.terminate(self.seat_of(*node), *down_us),
            Fault::Pause { node, us } => {
                self.pause(self.seat_of(*node), *us);
                Ok(())
            }
            Fault::Partition { cuts, us } => {
                cuts.iter().for_each(|(from, to)| self.network.cut(*from, *to));
                self.after(*us, Event::Mend { cuts: cuts.clone() });
                Ok(())
            }
            Fault::Clog { from, to, us } => {
                self.network.clog(*from, *to, self.now.plus_us(*us));
                Ok(())
            }
            Fault::CutClients { node, us } => {
                let seat = self.seat_of(*node);
                self.unreachable.insert(seat);
                self.after(*us, Event::MendClients { seat });
                Ok(())
            }
            Fault::ResetClients { node } => self.reset_clients(self.seat_of(*node)),
            Fault::HandOver { to } => {
                (0..self.seats.len()).try_for_each(|seat| self.input(seat, Input::HandOver { to: *to }))
            }
            Fault::DiskStall { node, us } => {
                let seat = self.seat_of(*node);
                self.seats[seat].stalled_until = self.now.plus_us(*us);
                Ok(())
            }
            Fault::DiskFailure { node, operations, down_us } => {
                let seat = self.seat_of(*node);
                if self.seats[seat].node().is_some() {
                    self.seats[seat].down_us = *down_us;
                    self.seats[seat].files.fail_in(*operations);
                }
                Ok(())
            }
            Fault::Decapitate { down_us } => self.decapitate(*down_us),
            Fault::Storm { loss, us, down_us } => {
                self.network.storm(self.now.plus_us(*us), *loss);
                if let Some(down_us) = down_us {
                    self.after(*us, Event::Decapitate { down_us: *down_us });
                }
                Ok(())
            }
            Fault::Remove { node } => {
                let seat = self.seat_of(*node);
                self.seats[seat].removed = true;
                self.crash(seat, None, false)
            }
        }
    }

    fn decapitate(&mut self, down_us: u64) -> Result<(), Violation> {
        let leads = |seat: &Seat| seat.node().is_some_and(|node| matches!(node.replica().role(), Role::Leading { .. }));
        match self.seats.iter().position(leads) {
            Some(seat) if self.healed.is_none() => self.crash(seat, Some(down_us), true),
            Some(_) | None => Ok(()),
        }
    }

    fn reset_clients(&mut self, seat: usize) -> Result<(), Violation> {
        let life = self.seats[seat].life;
        for connection in 0..self.connections.len() {
            let line = &self.connections[connection];
            if line.seat == seat && line.life == life && line.served {
                self.towards_client(connection, Event::Closed { connection });
                self.hung_up(connection)?;
            }
        }
        Ok(())
    }

    /// Ends the faults when their time is over, and then looks whether all is done: true if so.
    fn look(&mut self) -> Result<bool, Violation> {
        /// Between two looks, in microseconds.
        const LOOK_US: u64 = 20_000;
        let Some(healed) = self.healed else {
            self.heal()?;
            self.after(LOOK_US, Event::Look);
            return Ok(false);
        };
        let waited = self.now.since_us(healed.at);
        self.report.healed_in_us = waited;
        if self.is_done() {
            return Ok(true);
        }
        if waited > healed.patience_us {
            return Err(Violation::new("liveness", self.stuck()));
        }
        self.after(LOOK_US, Event::Look);
        Ok(false)
    }

    /// All faults end: links are good, whoever is down is started, whoever stood still goes on.
    fn heal(&mut self) -> Result<(), Violation> {
        if self.trace.prints() {
            self.trace.line(self.report.steps, self.now, None, format_args!("all faults end"));
        }
        self.healed = Some(Healed { at: self.now, patience_us: self.patience_us() });
        self.network.heal(Quality::CALM);
        self.scenario.disk = DiskQuality::CALM;
        self.scenario.slow_disks.clear();
        self.unreachable.clear();
        for seat in 0..self.seats.len() {
            self.seats[seat].stalled_until = self.now;
            self.seats[seat].down_us = 0;
            if self.seats[seat].removed {
                continue;
            }
            let life = self.seats[seat].life;
            self.resume(seat, life)?;
            if self.seats[seat].is_down() {
                self.start(seat)?;
            }
        }
        for client in 0..self.clients.len() {
            self.serve(client, Client::hurry)?;
        }
        Ok(())
    }

    /// How long the healed world may take: 20 election time-outs, and what clients need at the most to notice that an
    /// old connection is dead, to hear CLUSTERDOWN, and to ask for what they had not asked for yet.
    fn patience_us(&self) -> u64 {
        /// One operation of many, on calm links and disks.
        const OPERATION_US: u64 = 5_000;
        let config = &self.scenario.config;
        let patience = self.scenario.clients.iter().map(|manner| manner.patience_us).max().unwrap_or(0);
        let operations: u64 = self.clients.iter().map(Client::left).sum();
        20 * config.election_timeout_us + 4 * patience + operations * OPERATION_US
    }

    fn is_done(&self) -> bool {
        if !self.clients.iter().all(Client::is_done) {
            return false;
        }
        let mut states = self.seats.iter().filter(|seat| !seat.removed).map(|seat| {
            seat.node().map(|node| {
                let status = node.status();
                (status.applied, status.digest)
            })
        });
        let first = states.next().flatten();
        first.is_some() && states.all(|state| state == first)
    }

    /// What there is to see of a world that does not come to rest.
    fn stuck(&self) -> String {
        let clients: Vec<String> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| !client.is_done())
            .map(|(at, client)| format!("client {} has {} open operations", at + 1, client.open()))
            .collect();
        let nodes: Vec<String> = self
            .seats
            .iter()
            .map(|seat| match seat.node().map(Node::status) {
                Some(status) => format!(
                    "{:?} {:?} {:?} leader {:?} first_unchosen {} applied {} digest {:016x}",
                    seat.id,
                    status.role,
                    status.ballot,
                    status.leader,
                    status.first_unchosen,
                    status.applied,
                    status.digest
                ),
                None => format!("{:?} down{}", seat.id, if seat.removed { " for good" } else { "" }),
            })
            .collect();
        format!("the healed world does not come to rest: {clients:?} {nodes:?}")
    }
}
