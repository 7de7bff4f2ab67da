//! The one thread that talks: sockets, timers and the disk's answers in, the node in the middle, bytes out.
//!
//! A turn: wait; read what came; hand it to the node, receipts first; end with `Input::Tick`; carry out what
//! the node asked for; write once to every peer and client that got something. The time given to the node is
//! sampled after the bytes were read. Nothing here waits for the disk, a peer or a client.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use node::{Input, Node, Output};
use paxos_core::{FenceReason, Instant, NodeId, Record, Role, Ticket};
use signal_hook_mio::v1_0::Signals;
use tracing::{error, info, warn};

use crate::client_conn::{ClientEvent, Clients};
use crate::clock::{Clock, until};
use crate::descriptors::Spare;
use crate::disk::{Disk, Done, ReadRequest, stop_of};
use crate::links::Links;
use crate::rate_limit::RateLimit;
use crate::resolver::Resolver;
use crate::server::Stopper;
use crate::stop::Stop;
use crate::stopping::{Situation, Step, Stopping};
use crate::token::Source;

/// Events taken from the system at once; more wait for the next turn.
const EVENTS: usize = 1_024;

/// Connections taken from one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long a listener rests when descriptors ran out.
const ACCEPT_REST_US: u64 = 100_000;

/// The longest sleep: the node's own timers are far shorter.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A listener and what it waits for.
struct Listener {
    listener: TcpListener,
    /// Connections may wait although no event will say so.
    pending: bool,
    /// Descriptors ran out: not before this.
    resting: Option<Instant>,
}

/// Everything that one turn touches.
pub(crate) struct EventLoop {
    poll: Poll,
    clock: Clock,
    node: Node,
    disk: Disk,
    links: Links,
    clients: Clients,
    client_listener: Option<Listener>,
    peer_listener: Option<Listener>,
    signals: Option<Signals>,
    resolver: Resolver,
    stopper: Stopper,
    data_dir: PathBuf,
    spare: Spare,
    accept_failures: RateLimit,
    role: (Role, Instant),
    stopping: Option<Stopping>,
    /// Why the disk failed, for the line at the end.
    disk_failure: Option<Stop>,
    fenced: Option<FenceReason>,
    turn: Turn,
}

/// Lists that are filled and emptied within a turn, kept for their memory.
#[derive(Default)]
struct Turn {
    outputs: Vec<Output>,
    persists: Vec<(Ticket, Record)>,
    done: Vec<Done>,
    frames: Vec<(NodeId, Bytes)>,
    client_events: Vec<ClientEvent>,
}

impl EventLoop {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from parts that know nothing of each other")]
    pub(crate) fn new(
        poll: Poll,
        clock: Clock,
        node: Node,
        disk: Disk,
        links: Links,
        clients: Clients,
        (client_listener, peer_listener): (TcpListener, TcpListener),
        resolver: Resolver,
        stopper: Stopper,
        data_dir: PathBuf,
    ) -> EventLoop {
        let listener = |listener| Some(Listener { listener, pending: true, resting: None });
        EventLoop {
            role: (node.status().role, clock.now()),
            poll,
            clock,
            node,
            disk,
            links,
            clients,
            client_listener: listener(client_listener),
            peer_listener: listener(peer_listener),
            signals: None,
            resolver,
            stopper,
            data_dir,
            spare: Spare::open(),
            accept_failures: RateLimit::default(),
            stopping: None,
            disk_failure: None,
            fenced: None,
            turn: Turn::default(),
        }
    }

    pub(crate) fn stop_on(&mut self, mut signals: Signals) -> io::Result<()> {
        self.poll.registry().register(&mut signals, Token::from(Source::Signals), Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Turns until something ends it.
    pub(crate) fn run(mut self) -> Result<(), Stop> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Stop::System { what: "poll".into(), source }),
            }
            self.dispatch(&events);
            self.handle_all();
            self.carry_out();
            if let Some(reason) = self.fenced {
                return Err(self.disk_failure.take().unwrap_or(Stop::Fenced(reason)));
            }
            if self.stop_requested()? {
                info!("syncing the log and leaving");
                return self.disk.stop().map_err(|error| stop_of(&self.data_dir, error));
            }
        }
    }

    /// How long to sleep: until the first timer, or not at all when bytes wait.
    fn timeout(&self) -> Duration {
        let resting = |listener: &Option<Listener>| listener.as_ref().and_then(|listener| listener.resting);
        let accepting = |listener: &Option<Listener>| {
            listener.as_ref().is_some_and(|listener| listener.pending && listener.resting.is_none())
        };
        if self.links.has_unread()
            || self.clients.has_unread()
            || !self.turn.client_events.is_empty()
            || accepting(&self.client_listener)
            || accepting(&self.peer_listener)
        {
            return Duration::ZERO;
        }
        let timers = [
            self.node.deadline(),
            self.links.deadline(),
            self.clients.deadline(),
            resting(&self.client_listener),
            resting(&self.peer_listener),
            self.stopping.as_ref().map(Stopping::deadline),
        ];
        let first = timers.into_iter().flatten().min();
        first.map_or(SLEEP_MAX, |first| until(self.clock.now(), first).min(SLEEP_MAX))
    }

    /// Notes who is ready for what. New connections come last, so that no event of this list is theirs.
    fn dispatch(&mut self, events: &Events) {
        let now = self.clock.now();
        let registry = self.poll.registry();
        for event in events {
            match Source::of(event.token()) {
                Some(Source::Link(key)) => {
                    self.links.on_ready(registry, now, key, event.into(), &mut self.turn.frames);
                }
                Some(Source::Client(key)) => self.clients.on_ready(key, event.into()),
                Some(Source::ClientListener) => {
                    self.client_listener.iter_mut().for_each(|listener| listener.pending = true);
                }
                Some(Source::PeerListener) => {
                    self.peer_listener.iter_mut().for_each(|listener| listener.pending = true);
                }
                Some(Source::Signals) => {
                    let signals = self.signals.iter_mut().map(|signals| signals.pending().count()).sum::<usize>();
                    (0..signals).for_each(|_| self.stopper.stop());
                }
                // Whoever woke the loop is asked in every turn.
                Some(Source::Waker) | None => {}
            }
        }
        self.links.read_rest(registry, now, &mut self.turn.frames);
        self.clients.read_all(registry, now, &mut self.turn.client_events);
        self.accept_peers(now);
        self.accept_clients(now);
        let registry = self.poll.registry();
        for (node, addresses) in self.resolver.take() {
            self.links.resolved(registry, now, node, addresses);
        }
        self.links.on_time(registry, now);
        self.clients.on_time(registry, now, &mut self.turn.client_events);
        for (node, name) in self.links.take_lookups() {
            self.resolver.ask(node, name);
        }
    }

    /// Hands everything that came to the node.
    fn handle_all(&mut self) {
        self.disk.take_done(&mut self.turn.done);
        // Sampled after everything was read: an answer must not look older than it is.
        let now = self.clock.now();
        let (node, outputs) = (&mut self.node, &mut self.turn.outputs);
        for done in self.turn.done.drain(..) {
            let input = match done {
                Done::Persisted(receipt) => Input::Persisted(receipt),
                Done::Read { id, first, entries } => Input::LogRead { id, first, entries },
                Done::Failed(error) => {
                    let stop = stop_of(&self.data_dir, error);
                    error!(%stop, "the log failed");
                    self.disk_failure.get_or_insert(stop);
                    Input::PersistFailed
                }
            };
            node.handle(now, input, outputs);
        }
        for (from, frame) in self.turn.frames.drain(..) {
            node.handle(now, Input::PeerFrame { from, frame }, outputs);
        }
        for event in self.turn.client_events.drain(..) {
            let input = match event {
                ClientEvent::Opened(client) => Input::ClientOpened { client },
                ClientEvent::Bytes(client, bytes) => Input::ClientBytes { client, bytes },
                ClientEvent::Ended(client) => Input::ClientEnded { client },
                ClientEvent::Closed(client) => Input::ClientClosed { client },
                ClientEvent::Stalled(client) => Input::ClientStalled { client },
                ClientEvent::Drained(client) => Input::ClientDrained { client },
            };
            node.handle(now, input, outputs);
        }
        node.handle(now, Input::Tick, outputs);
    }

    /// Does what the node asked for. The disk is set to work first: it takes longest.
    fn carry_out(&mut self) {
        let now = self.clock.now();
        let mut outputs = std::mem::take(&mut self.turn.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Persist { ticket, record } => self.turn.persists.push((ticket, record)),
                Output::ToPeers { to, frame } => self.links.send(now, to, &frame),
                Output::ToClient { client, bytes } => self.clients.send(client, bytes),
                Output::CloseClient { client, reason } => self.clients.close(now, client, reason),
                Output::PauseClient { client } => self.clients.pause(client),
                Output::ResumeClient { client } => self.clients.resume(client),
                Output::ReadLog { id, slots, bytes_max } => self.disk.read(ReadRequest { id, slots, bytes_max }),
                Output::RoleChanged { role, leader, ballot, reason } => {
                    let (before, since) = std::mem::replace(&mut self.role, (role, now));
                    let ms = now.since_us(since) / 1_000;
                    let (leader, ballot) = (leader.map(|leader| leader.0), ballot.map(|ballot| ballot.to_string()));
                    let (role, before) = (role_name(role), role_name(before));
                    info!(role, ballot, leader, %reason, before, ms, "role changed");
                }
                Output::Fenced { reason } => {
                    error!(%reason, "the node takes no part any more");
                    self.fenced.get_or_insert(reason);
                }
            }
        }
        self.turn.outputs = outputs;
        self.disk.persist(&mut self.turn.persists);
        let registry = self.poll.registry();
        self.links.flush(registry, now);
        self.clients.flush(registry, now, &mut self.turn.client_events);
    }

    fn accept_clients(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some((stream, address)) = self.client_listener.as_mut().and_then(|listener| {
                next_connection(listener, now, &mut self.accept_failures, "clients", &mut || false)
            }) else {
                return;
            };
            let client = self.clients.accept(self.poll.registry(), now, stream, address);
            self.turn.client_events.extend(client.map(ClientEvent::Opened));
        }
    }

    fn accept_peers(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let spare = &mut self.spare;
            let Some((stream, address)) = self.peer_listener.as_mut().and_then(|listener| {
                next_connection(listener, now, &mut self.accept_failures, "peers", &mut || spare.release())
            }) else {
                break;
            };
            self.links.accept(self.poll.registry(), now, stream, address);
        }
        self.spare.replenish();
    }

    /// Whether it is time to go. A request starts a clean stop, whose steps are in `stopping.rs`.
    fn stop_requested(&mut self) -> Result<bool, Stop> {
        match (self.stopper.requests(), &mut self.stopping) {
            (0, _) => return Ok(false),
            (1, Some(_)) => {}
            (1, stopping @ None) => {
                info!(clients = self.clients.count(), "asked to stop: no new connections, finishing what is open");
                self.client_listener = None;
                *stopping = Some(Stopping::begin(self.clock.now()));
                // What a leader reads now could only end in doubt. A follower goes on at the first step.
                self.clients.freeze(true);
            }
            (2.., _) => return Err(Stop::SecondSignal),
        }
        let now = self.clock.now();
        let replica = self.node.replica();
        let successor = replica.successor().filter(|node| self.links.open_peers().any(|open| open == *node));
        let leads = matches!(replica.role(), Role::Leading { .. });
        let situation = Situation {
            leads,
            successor: successor.is_some(),
            undecided: replica.propose_room() < replica.config().window_slots as usize,
            clients: self.clients.count() > 0,
        };
        let Some(stopping) = &mut self.stopping else { return Ok(false) };
        match stopping.step(now, situation) {
            Step::Wait => return Ok(false),
            Step::HandOver => {
                if let Some(to) = successor {
                    info!(to = to.0, "handing leadership over");
                    self.node.handle(now, Input::HandOver { to }, &mut self.turn.outputs);
                }
            }
            Step::Redirect => self.clients.freeze(false),
            Step::AnswerAll => {
                self.clients.freeze(false);
                self.node.handle(now, Input::Stop, &mut self.turn.outputs);
            }
            Step::Leave => return Ok(true),
        }
        self.carry_out();
        Ok(false)
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Following => "following",
        Role::Preparing => "preparing",
        Role::Leading { ready: false } => "leading, not ready",
        Role::Leading { ready: true } => "leading",
    }
}

/// Takes the next connection that waits. `make_room` gives a descriptor up when there are no others.
fn next_connection(
    listener: &mut Listener,
    now: Instant,
    failures: &mut RateLimit,
    whom: &'static str,
    make_room: &mut dyn FnMut() -> bool,
) -> Option<(mio::net::TcpStream, std::net::SocketAddr)> {
    if listener.resting.is_some_and(|until| now < until) {
        return None;
    }
    listener.resting = None;
    while listener.pending {
        match listener.listener.accept() {
            Ok(connection) => return Some(connection),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.pending = false,
            // The one who connected is gone already, or a signal came.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                if make_room() {
                    continue;
                }
                if let Some(suppressed) = failures.line(now) {
                    warn!(%error, whom, suppressed, "cannot accept connections for now");
                }
                listener.resting = Some(now.plus_us(ACCEPT_REST_US));
                return None;
            }
        }
    }
    None
}
