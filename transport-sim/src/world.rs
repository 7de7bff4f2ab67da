//! The room for the world: nodes, clients, links and disks in virtual time, one event after the other.
//!
//! The world runs the shipped `node` over the shipped log bytes; clients speak RESP bytes. Whatever happens is told
//! to the observer and folded into the trace. This file has the time and what happens next; `seat.rs` holds a node with
//! its process and disk, `connections.rs` what passes between clients and nodes, `faults.rs` what goes wrong, `lost.rs`
//! disks that are not what they were.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use node::{LogReadId, Node};
use paxos_core::{Instant, Member, Message, NodeId, SlotRange};

use crate::ambush::Ambush;
use crate::client::{Ask, Asks, Client, Wish};
use crate::connections::Connection;
use crate::decisions::{Decision, Decisions};
use crate::faults::Healed;
use crate::heap::Heap;
use crate::nemesis::Fault;
use crate::network::Network;
use crate::observer::{Fact, Moment, Observer, Violation};
use crate::report::Report;
use crate::scenario::{START, Scenario};
use crate::script::Script;
use crate::seat::Seat;
use crate::trace::Trace;

/// What happens to no node in particular happens to this one, which is none.
pub(crate) const NOBODY: NodeId = NodeId(0);

/// One copy of a message.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Counts all that were ever sent.
    pub(crate) number: u64,
    pub(crate) from: NodeId,
    pub(crate) frame: Bytes,
    pub(crate) message: Rc<Message>,
    pub(crate) kind: LetterKind,
}

/// What is to be made of a copy of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LetterKind {
    /// A node's message.
    Whole,
    /// Its bytes are not what was sent: nobody may heed it.
    Garbled,
    /// From a process on a disk that is not its own.
    Strange,
}

/// Something that is still to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame arrives.
    Frame { seat: usize, letter: Letter },
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
    /// A node reads again what a client sent.
    LetIn { connection: usize },
    /// A node hears that a client hung up.
    HungUp { connection: usize },
    /// A client hears that its connection works.
    Connected { connection: usize },
    /// A node's bytes reach the client.
    ToClient { connection: usize, bytes: Bytes },
    /// A client hears that its connection is gone.
    Closed { connection: usize },
    /// A client that did not reads again.
    Reads { client: usize, until: Instant },
    /// A node that stood still writes what waits for a client.
    Drain { connection: usize },
    /// A client wished to be woken.
    Wake { client: usize },
    /// A fault strikes.
    Strike { fault: usize },
    /// Whoever leads dies.
    Decapitate { down_us: u64 },
    /// A disk is put back to what it was once.
    PutBack { seat: usize, down_us: u64 },
    /// An ambushed leader goes.
    Spring { seat: usize, life: u64 },
    /// A partition ends.
    Mend { cuts: Vec<(NodeId, NodeId)> },
    /// Clients reach a node again.
    MendClients { seat: usize },
    /// The world looks whether all is done.
    Look,
}

/// Nodes and clients in virtual time.
pub struct World<O> {
    pub(crate) scenario: Scenario,
    pub(crate) now: Instant,
    pub(crate) heap: Heap<Event>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) network: Network,
    pub(crate) decisions: Decisions,
    pub(crate) ambush: Option<Ambush>,
    /// Copies of messages.
    pub(crate) letters: u64,
    /// Syncs of all disks.
    pub(crate) syncs: u64,
    pub(crate) report: Report,
    /// What each client asked for, if it is written down.
    pub(crate) asks: Option<BTreeMap<u32, Vec<Ask>>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) lines: Vec<Option<usize>>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) unreachable: BTreeSet<usize>,
    /// Clients that read nothing, and until when.
    pub(crate) slow: BTreeMap<usize, Instant>,
    /// Connections with more unread replies than a moment ago; their node hears of it when its turn is over.
    pub(crate) pressed: Vec<usize>,
    pub(crate) healed: Option<Healed>,
    /// The node whose disk is lost, or soon will be: the cluster has to do without it.
    pub(crate) lost: Option<NodeId>,
    /// The node of which observers hear no more: its disk is not its own.
    pub(crate) muted: Option<NodeId>,
    /// Whether processes take note of the boots of their peers.
    pub(crate) remembers: bool,
    pub(crate) wishes: Vec<Wish>,
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
        let decisions = Decisions::drawn(scenario.seed);
        World::with(scenario, decisions, observer, trace)
    }

    /// Makes the world of a script, in which nothing is drawn that the script lists.
    ///
    /// # Errors
    /// As `new`.
    pub fn replay(script: &Script, observer: O, trace: Trace) -> Result<World<O>, Violation> {
        World::with(script.scenario.clone(), Decisions::listed(&script.decisions), observer, trace)
    }

    /// Makes the world of a scenario in which these decisions, of a run much like it, are taken again at their moments.
    ///
    /// # Errors
    /// As `new`.
    pub fn retake(
        scenario: &Scenario,
        decisions: &[(Instant, Decision)],
        observer: O,
        trace: Trace,
    ) -> Result<World<O>, Violation> {
        World::with(Script::new(scenario.clone(), Vec::new()).scenario, Decisions::timed(decisions), observer, trace)
    }

    fn with(scenario: Scenario, decisions: Decisions, observer: O, trace: Trace) -> Result<World<O>, Violation> {
        let mut world = World {
            now: START,
            heap: Heap::default(),
            seats: Vec::new(),
            network: Network::new(scenario.quality),
            decisions,
            ambush: None,
            letters: 0,
            syncs: 0,
            asks: None,
            report: Report::default(),
            clients: Vec::new(),
            lines: vec![None; scenario.clients.len()],
            connections: Vec::new(),
            unreachable: BTreeSet::new(),
            slow: BTreeMap::new(),
            pressed: Vec::new(),
            healed: None,
            lost: None,
            muted: None,
            remembers: scenario.faults.iter().any(|(_, fault)| matches!(fault, Fault::OldImage { .. })),
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
        for (client, manner) in world.scenario.clients.clone().into_iter().enumerate() {
            let begins = START.plus_us(manner.begins_us);
            world.heap.push(begins, Event::Wake { client });
            world.clients.push(Client::new(world.scenario.seed, manner, begins, nodes.clone()));
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
            // Who has changed its mind since is not woken, and nothing happened.
            if matches!(event, Event::Wake { client } if !self.clients[client].is_to_be_woken(self.now)) {
                continue;
            }
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

    /// From now on everything that is decided is written down; to be called before `run`.
    pub fn keep_decisions(&mut self) {
        self.decisions.keep();
        self.asks = Some(BTreeMap::new());
    }

    /// What was decided so far, if it was written down: to be replayed, edited or not. Up to this moment the replay is
    /// this run, step by step.
    pub fn script(&self) -> Script {
        let mut scenario = self.scenario.clone();
        scenario.calm_us = Some(self.scenario.calm_from().since_us(START));
        scenario.rest_us = self.healed.map(|healed| healed.patience_us).or(scenario.rest_us);
        if let Some(asks) = &self.asks {
            for (manner, client) in scenario.clients.iter_mut().zip(&self.clients) {
                let begun = asks.get(&manner.client).into_iter().flatten().cloned();
                let next = client.next_ask().map(|ask| Ask { due: ask.due.max(START), ..ask });
                manner.asks = Asks::Listed(begun.chain(next).collect());
            }
        }
        Script::new(scenario, self.decisions.kept().iter().map(|(_, decision)| *decision).collect())
    }

    /// The decisions of the script, each with its moment.
    pub fn decided(&self) -> &[(Instant, Decision)] {
        self.decisions.kept()
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
        if self.muted == Some(node) {
            return Ok(());
        }
        let moment = self.moment(node);
        self.observer.see(moment, fact)
    }

    pub(crate) fn after(&mut self, us: u64, event: Event) {
        self.heap.push(self.now.plus_us(us), event);
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Frame { seat, letter } => self.receive(seat, letter),
            Event::Timer { seat, armed } => self.timer(seat, armed),
            Event::Synced { seat, life } => self.synced(seat, life),
            Event::LogRead { seat, life, id, slots, bytes_max } => self.log_read(seat, life, id, slots, bytes_max),
            Event::Start { seat } => self.start(seat),
            Event::Ready { seat, life } => self.ready(seat, life),
            Event::Resume { seat, life } => self.resume(seat, life),
            Event::Opened { connection } => self.opened(connection),
            Event::ToNode { connection, bytes } => self.arrive_at_node(connection, bytes),
            Event::LetIn { connection } => self.let_in(connection),
            Event::HungUp { connection } => self.hung_up(connection),
            Event::Connected { connection } => self.tell(connection, Client::connected),
            Event::ToClient { connection, bytes } => {
                self.tell(connection, |client, now, wishes| client.received(now, &bytes, wishes))
            }
            Event::Closed { connection } => self.hear_closed(connection),
            Event::Reads { client, until } => self.reads_again(client, until),
            Event::Drain { connection } => self.drain(connection),
            Event::Wake { client } => self.serve(client, Client::woken),
            Event::Strike { fault } => {
                let fault = self.scenario.faults[fault].1.clone();
                self.strike(&fault)
            }
            Event::Decapitate { down_us } => self.decapitate(down_us),
            Event::PutBack { seat, down_us } => self.put_back(seat, down_us),
            Event::Spring { seat, life } => self.spring(seat, life),
            Event::Mend { cuts } => {
                cuts.iter().for_each(|(from, to)| self.network.mend(*from, *to));
                self.see(NOBODY, &Fact::Mended { cuts: &cuts })
            }
            Event::MendClients { seat } => {
                self.unreachable.remove(&seat);
                self.end_broken(seat)
            }
            Event::Look => Ok(()),
        }
    }
}
