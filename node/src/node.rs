//! The data path of the server: inputs in, outputs out. No socket, file, clock or thread lives here.
//!
//! Longer than other rooms because it is one path, told in the order in which a request walks it: bytes →
//! request → proposed, read, parked or redirected → applied or read → reply. The rules of the walk:
//!
//! - **Replies leave with `Input::Tick`**, all that a turn made for a client as one `Output::ToClient`. While
//!   any wait, `deadline` is in the past. Only a fenced or stopping node does not wait for the tick.
//! - Replies keep the order of requests on their connection. A read is evaluated when it is at the front, so
//!   it sees the connection's earlier writes; and at the latest right before a later write of the same
//!   connection is applied, so it does not see that one. The latter is linearizable without a read point:
//!   whatever was answered before the read arrived has a lower slot than a write proposed after it.
//! - What may have been proposed is never answered with an error that clients retry by themselves; what was
//!   never proposed may be parked, redirected, or given up with CLUSTERDOWN.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use paxos_core::mutants::{Mutant, mutant};
use paxos_core::{
    Action, Entries, Entry, Event, FenceReason, FetchId, Formatted, Instant, NodeId, ProposeError, ReadError,
    Recovered, Replica, Role, Slot, SlotRange, Tag, applied, wire,
};

use crate::clients::{Clients, Open, RequestId};
use crate::cluster::hash_slot;
use crate::command::{Args, Chunk, decode};
use crate::commands::{Run, first_key, spec_of};
use crate::connection::{Connection, Turn};
use crate::history::{Wanted, shown};
use crate::input::Input;
use crate::limits::{LOG_RANGE_BYTES_MAX, LOG_READS_MAX, OUTPUT_KEPT_BYTES_MAX, PAUSE_BYTES, TURN_WORK};
use crate::machine::Machine;
use crate::output::{ClientId, LogReadId, Output};
use crate::reply::Reply;
use crate::request::{Asked, goes_through_log, understand, work_of};
use crate::resp::{Request, Writer};
use crate::settings::{Address, NodeError, Settings};
use crate::status::{Counters, Status};

/// The outcome of a proposal is unknown. No client retries this by itself.
const IN_DOUBT: &str =
    "INDOUBT the command may or may not have been applied, now or later; with ONCE it can be sent again";
const CLUSTER_DOWN: &str = "CLUSTERDOWN no leader is known; the command was not proposed";
/// Not ERR: other nodes go on, and clients ask those again who did not run a command.
const FENCED: &str = "CLUSTERDOWN this node takes no part any more; the command was not proposed";
const BUSY_PARKED: &str =
    "BUSY too many requests wait for a leader or for room (parked_requests_max, parked_bytes_max)";
const BUSY_READS: &str = "BUSY too many reads wait for a quorum (reads_max)";
const BUSY_OUTPUT: &str = "BUSY too many reply bytes wait on this connection (client_output_bytes_max)";

/// One member of the store: a replica, the state machine it drives, and the clients it serves.
///
/// The driver hands in what arrived, ends each turn with `Input::Tick`, carries out the outputs in order, and
/// calls `Tick` again no later than `deadline` says.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    formatted: Formatted,
    started: Instant,
    /// The latest moment that an input told.
    now: Instant,
    replica: Replica,
    machine: Machine,
    clients: Clients,
    chunk: Chunk,
    /// Requests that wait for a leader or for room, the oldest first. One that is no longer `Open::Parked`
    /// was answered, or its client left.
    parked: VecDeque<RequestId>,
    parked_bytes: usize,
    /// Connections whose open requests may have moved.
    active: Vec<u32>,
    /// Connections with replies for the next tick.
    dirty: Vec<u32>,
    actions: Vec<Action>,
    log_reads: BTreeMap<LogReadId, LogReader>,
    log_reads_made: u64,
    /// How many of them are for clients.
    client_log_reads: usize,
    /// Connections whose reads of the log wait until another is done.
    log_waiting: VecDeque<u32>,
    last_leader: Option<NodeId>,
    ended: Option<End>,
    counters: Counters,
    /// Reply bytes and work that this turn may still make.
    turn_left: usize,
    /// Connections that wait for the next turn to have room for them.
    next_turn: Vec<u32>,
    nowhere: Address,
}

/// Who asked for a read of the log.
#[derive(Debug)]
enum LogReader {
    Core(FetchId),
    Client(RequestId),
}

/// Why this node serves nobody any more.
#[derive(Clone, Copy, Debug)]
enum End {
    Fenced(FenceReason),
    Stopped,
}

/// What this node can do for a request that needs the leader.
enum Standing {
    Serve,
    Moved(NodeId),
    Wait,
}

impl Node {
    /// A node that goes on from what survived. `seed` spreads its replica's election delays.
    ///
    /// # Errors
    /// `NodeError` for settings that contradict themselves, or a boot that is not durable.
    pub fn new(settings: Settings, recovered: Recovered, now: Instant, seed: u64) -> Result<Node, NodeError> {
        settings.limits.validate()?;
        let formatted = recovered.formatted().clone();
        let replica = Replica::new(settings.paxos.clone(), recovered, now, seed)?;
        Ok(Node {
            machine: Machine::new(settings.limits.sessions_max, formatted.cluster.get()),
            settings,
            formatted,
            started: now,
            now,
            replica,
            clients: Clients::default(),
            chunk: Chunk::default(),
            parked: VecDeque::new(),
            parked_bytes: 0,
            active: Vec::new(),
            dirty: Vec::new(),
            actions: Vec::new(),
            log_reads: BTreeMap::new(),
            log_reads_made: 0,
            client_log_reads: 0,
            log_waiting: VecDeque::new(),
            last_leader: None,
            ended: None,
            counters: Counters::default(),
            turn_left: TURN_WORK,
            next_turn: Vec::new(),
            nowhere: Address::new("", 0),
        })
    }

    /// The one door: takes an input, appends what it asks for to `outputs`. Never panics.
    pub fn handle(&mut self, now: Instant, input: Input, outputs: &mut Vec<Output>) {
        self.now = self.now.max(now);
        let is_tick = matches!(input, Input::Tick);
        match input {
            Input::ClientOpened { client } => self.on_opened(client, outputs),
            Input::ClientBytes { client, bytes } => self.on_bytes(client, bytes),
            Input::ClientEnded { client } => self.on_ended(client),
            Input::ClientClosed { client } => self.on_closed(client),
            Input::ClientStalled { client } => self.on_stalled(client),
            Input::ClientDrained { client } => self.on_drained(client),
            Input::PeerFrame { from, frame } => self.on_frame(from, &frame, outputs),
            Input::Persisted(receipt) => self.step(Event::Persisted(receipt), outputs),
            Input::PersistFailed => self.step(Event::PersistFailed, outputs),
            Input::LogRead { id, first, entries } => self.on_log_read(id, first, entries, outputs),
            Input::HandOver { to } => self.step(Event::HandOver { to }, outputs),
            Input::Tick => {
                self.serve(outputs); // what was parked leaves with this turn's run
                self.step(Event::Tick, outputs);
            }
            Input::Stop => self.end(End::Stopped),
        }
        self.serve(outputs);
        if is_tick || self.ended.is_some() {
            self.flush(outputs);
        }
    }

    /// When to call `handle` with `Input::Tick` at the latest. A moment in the past means now.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.dirty.is_empty() || !self.active.is_empty() || !self.next_turn.is_empty() {
            return Some(Instant::default());
        }
        let core = self.replica.deadline().map(|(deadline, _)| deadline);
        let parked = self.parked.iter().find_map(|request| match self.clients.look(*request)? {
            Open::Parked { deadline, .. } => Some(*deadline),
            Open::Proposed { .. } | Open::Reading { .. } | Open::Ready(_) | Open::Fetching(_) | Open::Answered(_) => {
                None
            }
        });
        let parked = parked.filter(|_| !self.leads()); // a leader serves them as it finds room, however late
        core.into_iter().chain(parked).min()
    }

    // ---- what clients do ------------------------------------------------------------------------------

    fn on_opened(&mut self, client: ClientId, outputs: &mut Vec<Output>) {
        if self.clients.len() < self.settings.limits.clients_max && self.clients.open(client).is_some() {
            return;
        }
        let bytes = Bytes::from_static(b"-ERR max number of clients reached\r\n");
        outputs.push(Output::ToClient { client, bytes });
        outputs.push(Output::CloseClient { client, reason: "max number of clients reached" });
    }

    fn on_bytes(&mut self, client: ClientId, bytes: Bytes) {
        let Some(place) = self.clients.place(client) else { return };
        let Some(client) = self.clients.at(place) else { return };
        if client.closing.is_some() {
            return;
        }
        client.parser.feed(bytes);
        if client.parser.pending_bytes() > self.settings.limits.client_input_bytes_max {
            client.parser = Default::default();
            client.open.push_back(Open::Answered(Bytes::from_static(
                b"-ERR Protocol error: more unread bytes than client_input_bytes_max\r\n",
            )));
            client.closing = Some("input over client_input_bytes_max");
        }
        self.activate(place);
    }

    fn on_ended(&mut self, client: ClientId) {
        let Some(place) = self.clients.place(client) else { return };
        if let Some(client) = self.clients.at(place) {
            client.ended = true;
            self.activate(place);
        }
    }

    fn on_closed(&mut self, client: ClientId) {
        let Some(client) = self.clients.close(client) else { return };
        for open in &client.open {
            if let Open::Parked { command, .. } = open {
                self.parked_bytes = self.parked_bytes.saturating_sub(command.len());
            }
        }
    }

    fn on_stalled(&mut self, client: ClientId) {
        if let Some(client) = self.clients.place(client).and_then(|place| self.clients.at(place)) {
            client.stalled = true;
        }
    }

    fn on_drained(&mut self, client: ClientId) {
        let Some(place) = self.clients.place(client) else { return };
        if let Some(client) = self.clients.at(place) {
            client.stalled = false;
            self.activate(place);
        }
    }

    /// Moves every connection on that can move, and then what is parked.
    fn serve(&mut self, outputs: &mut Vec<Output>) {
        loop {
            while let Some(place) = self.active.pop() {
                self.drive(place, outputs);
            }
            self.pump(outputs);
            if self.active.is_empty() {
                return;
            }
        }
    }

    /// Answers what can be answered and parses what may be parsed, in turns, until neither is possible.
    fn drive(&mut self, place: u32, outputs: &mut Vec<Output>) {
        let Some(client) = self.clients.at(place) else { return };
        client.active = false;
        let mut parser = std::mem::take(&mut client.parser);
        let held = loop {
            self.settle(place, outputs);
            if !self.may_parse(place) {
                break true;
            }
            match parser.next() {
                Ok(Some(request)) => self.accept(place, &request, outputs),
                Ok(None) => {
                    if self.clients.at(place).is_some_and(|client| client.ended) {
                        self.close_when_answered(place, "closed by the client");
                    }
                    break false;
                }
                Err(error) => {
                    self.counters.protocol_errors += 1;
                    self.push_error(place, format_args!("ERR {error}"));
                    self.close_when_answered(place, "protocol error");
                }
            }
        };
        let Some(client) = self.clients.at(place) else { return };
        client.parser = parser;
        let waiting = client.parser.pending_bytes() >= PAUSE_BYTES;
        if held && waiting && !client.paused {
            client.paused = true;
            outputs.push(Output::PauseClient { client: client.id });
        }
        if client.paused && !(held && waiting) {
            client.paused = false;
            outputs.push(Output::ResumeClient { client: client.id });
        }
    }

    fn may_parse(&mut self, place: u32) -> bool {
        let limits = &self.settings.limits;
        self.clients.at(place).is_some_and(|client| {
            client.closing.is_none()
                && !client.barrier
                && !client.stalled
                && client.open.len() < limits.open_requests_max
                && client.output.len() < limits.client_output_bytes_max
        })
    }

    /// Takes a request: it becomes the last open one of its connection, on its way.
    fn accept(&mut self, place: u32, request: &Request<'_>, outputs: &mut Vec<Output>) {
        if let Some(ended) = self.ended {
            return self.push_error(place, ended);
        }
        let Asked { spec, once, args_from } = match understand(request) {
            Ok(asked) => asked,
            Err(error) => return self.push_error(place, error),
        };
        let bytes_max = self.settings.paxos.entry_bytes_max;
        let command = self.chunk.encode(once, spec.number, request.args_from(args_from));
        if command.len() > bytes_max {
            return self
                .push_error(place, format_args!("ERR command exceeds maximum allowed size ({bytes_max} bytes)"));
        }
        let Some(client) = self.clients.at(place) else { return };
        match spec.run {
            _ if once.is_some() => self.propose_or_park(place, command, outputs),
            Run::Write(_) | Run::Barrier | Run::Once => self.propose_or_park(place, command, outputs),
            Run::Read(_) | Run::Browse(_) | Run::Length if !client.connection.readonly => {
                self.read_or_park(place, command, outputs);
            }
            Run::Read(_) | Run::Browse(_) | Run::Length | Run::Local(_) => {
                client.push(Open::Ready(command));
            }
            Run::Turn(_) => {
                client.push(Open::Ready(command));
                client.barrier = true;
            }
            Run::History => {
                let beyond = decode(&command)
                    .is_ok_and(|command| matches!(Wanted::parse(command.args), Ok(Some(wanted)) if wanted.last >= self.machine.next()));
                client.barrier = true;
                if beyond && !client.connection.readonly {
                    self.read_or_park(place, command, outputs); // the leader knows whether there is more
                } else {
                    client.push(Open::Ready(command));
                }
            }
        }
    }

    // ---- to the leader, or wherever it is ---------------------------------------------------------------

    fn standing(&self) -> Standing {
        match self.replica.role() {
            Role::Leading { ready: true } => Standing::Serve,
            Role::Leading { ready: false } | Role::Preparing => Standing::Wait,
            Role::Following => match self.replica.leader() {
                Some(leader) if leader != self.formatted.node && self.settings.addresses.contains_key(&leader) => {
                    Standing::Moved(leader)
                }
                Some(_) | None => Standing::Wait,
            },
        }
    }

    /// Whether the core would take a proposal, or refuse it for good.
    fn has_room(&self) -> bool {
        let log_is_full = self.settings.paxos.last_slot.is_some_and(|last| self.machine.next() > last);
        log_is_full || self.replica.propose_room() > 0
    }

    fn propose_or_park(&mut self, place: u32, command: Bytes, outputs: &mut Vec<Output>) {
        let deadline = self.now.plus_us(self.settings.limits.park_us);
        match self.standing() {
            Standing::Moved(leader) => self.push_moved(place, leader, &command),
            Standing::Serve if self.parked.is_empty() && self.has_room() => {
                let Some(client) = self.clients.at(place) else { return };
                let sequence = client.push(Open::Proposed { command: command.clone(), deadline });
                let tag = RequestId { place, sequence }.tag();
                self.counters.proposals += 1;
                self.step(Event::Propose { tag, command }, outputs);
            }
            Standing::Serve | Standing::Wait => self.push_parked(place, command, deadline),
        }
    }

    fn read_or_park(&mut self, place: u32, command: Bytes, outputs: &mut Vec<Output>) {
        let deadline = self.now.plus_us(self.settings.limits.park_us);
        match self.standing() {
            Standing::Moved(leader) => self.push_moved(place, leader, &command),
            Standing::Serve => {
                let Some(client) = self.clients.at(place) else { return };
                let sequence = client.push(Open::Reading { command, deadline });
                self.counters.reads += 1;
                self.step(Event::Read { tag: RequestId { place, sequence }.tag() }, outputs);
            }
            Standing::Wait => self.push_parked(place, command, deadline),
        }
    }

    fn push_parked(&mut self, place: u32, command: Bytes, deadline: Instant) {
        let limits = &self.settings.limits;
        let bytes = self.parked_bytes.saturating_add(command.len());
        if self.parked.len() >= limits.parked_requests_max || bytes > limits.parked_bytes_max {
            self.counters.busy += 1;
            return self.push_error(place, BUSY_PARKED);
        }
        let Some(client) = self.clients.at(place) else { return };
        let sequence = client.push(Open::Parked { command, deadline });
        self.parked.push_back(RequestId { place, sequence });
        self.parked_bytes = bytes;
    }

    /// Moves what is parked: to the leader's address, into the window, or to its end.
    fn pump(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&request) = self.parked.front() {
            let Some(Open::Parked { command, deadline }) = self.clients.look(request).cloned() else {
                self.parked.pop_front();
                continue;
            };
            let in_log = goes_through_log(&command);
            let open = match self.standing() {
                Standing::Wait if deadline > self.now => return,
                Standing::Serve if in_log && !self.has_room() => return,
                Standing::Wait => {
                    self.counters.cluster_down += 1;
                    Open::Answered(self.error(CLUSTER_DOWN))
                }
                Standing::Moved(leader) => Open::Answered(self.moved(leader, &command)),
                Standing::Serve if in_log => Open::Proposed { command: command.clone(), deadline },
                Standing::Serve => Open::Reading { command: command.clone(), deadline },
            };
            self.parked.pop_front();
            self.parked_bytes = self.parked_bytes.saturating_sub(command.len());
            let event = match &open {
                Open::Proposed { .. } => {
                    self.counters.proposals += 1;
                    Some(Event::Propose { tag: request.tag(), command })
                }
                Open::Reading { .. } => {
                    self.counters.reads += 1;
                    Some(Event::Read { tag: request.tag() })
                }
                Open::Parked { .. } | Open::Ready(_) | Open::Fetching(_) | Open::Answered(_) => None,
            };
            self.turn_into(request, open);
            if let Some(event) = event {
                self.step(event, outputs);
                if self.parked.front() == Some(&request) {
                    return; // refused for lack of room: its turn comes with the next applied slot
                }
            }
        }
    }

    /// What was never proposed and cannot be served now waits again, before what came later.
    fn park_again(&mut self, request: RequestId) {
        let Some(open) = self.clients.request(request) else { return };
        let (Open::Proposed { command, deadline } | Open::Reading { command, deadline }) = open else { return };
        self.parked_bytes = self.parked_bytes.saturating_add(command.len());
        *open = Open::Parked { command: std::mem::take(command), deadline: *deadline };
        self.parked.push_front(request);
    }

    // ---- the core ---------------------------------------------------------------------------------------

    fn on_frame(&mut self, from: NodeId, frame: &Bytes, outputs: &mut Vec<Output>) {
        match wire::decode(frame) {
            Ok(message) if message.header.from == from => self.step(Event::Message(message), outputs),
            Ok(_) | Err(_) => self.counters.frames_refused += 1,
        }
    }

    /// Hands an event to the replica and carries out what it asks for.
    fn step(&mut self, event: Event, outputs: &mut Vec<Output>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.replica.handle(self.now, event, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { to, body } => {
                    let mut frame = Vec::new();
                    wire::encode(&self.replica.header(), &body, &mut frame);
                    outputs.push(Output::ToPeers { to, frame: frame.into() });
                }
                Action::Persist { ticket, record } => outputs.push(Output::Persist { ticket, record }),
                Action::Apply { first, entries, tag } => {
                    for (slot, entry, tag) in applied(first, &entries, tag) {
                        self.on_apply(slot, entry, tag, outputs);
                    }
                }
                Action::ProposalRefused { tag, error } => self.on_refused(RequestId::of(tag), error),
                Action::InDoubt { tag } => {
                    self.counters.in_doubt += 1;
                    self.answer_error(RequestId::of(tag), IN_DOUBT);
                }
                Action::ReadReady { tag, slot: _ } => self.on_read_ready(RequestId::of(tag)),
                Action::ReadFailed { tag, error } => self.on_read_failed(RequestId::of(tag), error),
                Action::FetchLog { id, slots, bytes_max } => {
                    self.read_log(LogReader::Core(id), slots, bytes_max, outputs);
                }
                Action::RoleChanged { role, leader, ballot, reason } => {
                    self.last_leader = leader.or(self.last_leader);
                    outputs.push(Output::RoleChanged { role, leader, ballot, reason });
                }
                Action::Fenced { reason } => {
                    self.end(End::Fenced(reason));
                    self.serve_ended(outputs);
                    outputs.push(Output::Fenced { reason });
                }
            }
        }
        self.actions = actions;
    }

    fn on_apply(&mut self, slot: Slot, entry: &Entry, tag: Option<Tag>, outputs: &mut Vec<Output>) {
        if mutant(Mutant::SessionsCloseByClock) {
            self.machine.close_session_by_clock(self.now);
        }
        let Some(request) = tag.map(RequestId::of) else {
            self.machine.apply(slot, entry);
            return;
        };
        self.counters.proposals_applied += 1;
        self.settle_before(request, outputs);
        let reply = self.machine.apply(slot, entry);
        let Some(client) = self.clients.at(request.place) else { return };
        match client.position(request.sequence) {
            Some(0) => {
                reply.write(&mut Writer::new(&mut client.output, client.connection.protocol));
                client.pop();
            }
            Some(_) => {
                let protocol = client.connection.protocol;
                let kept = self.chunk.keep(|out| reply.write(&mut Writer::new(out, protocol)));
                self.turn_into(request, Open::Answered(kept));
            }
            None => return,
        }
        self.mark_dirty(request.place);
        self.activate(request.place);
    }

    /// Evaluates the reads that a client sent before this write, now that the write is about to be applied.
    fn settle_before(&mut self, request: RequestId, outputs: &mut Vec<Output>) {
        loop {
            let Some(client) = self.clients.at(request.place) else { return };
            if client.position(request.sequence).is_none_or(|position| position == 0) {
                return;
            }
            let command = match client.open.front() {
                Some(Open::Answered(bytes)) => {
                    client.output.put_slice(bytes);
                    client.pop();
                    continue;
                }
                Some(Open::Ready(command) | Open::Reading { command, .. }) => command.clone(),
                Some(Open::Parked { command, .. }) if !goes_through_log(command) => {
                    self.parked_bytes = self.parked_bytes.saturating_sub(command.len());
                    command.clone()
                }
                Some(Open::Parked { .. } | Open::Proposed { .. } | Open::Fetching(_)) | None => return,
            };
            if client.output.len() >= self.settings.limits.client_output_bytes_max {
                let mut writer = Writer::new(&mut client.output, client.connection.protocol);
                writer.error(BUSY_OUTPUT);
                client.pop();
                self.counters.busy += 1;
            } else if !self.run(request.place, &command, outputs) {
                return;
            }
        }
    }

    fn on_refused(&mut self, request: RequestId, error: ProposeError) {
        self.counters.proposals = self.counters.proposals.saturating_sub(1);
        match error {
            ProposeError::NotLeader { .. }
            | ProposeError::WindowFull
            | ProposeError::CatchingUp
            | ProposeError::Reconfiguring => self.park_again(request),
            ProposeError::TooLarge { .. } | ProposeError::LogFull => {
                self.answer_error(request, format_args!("ERR {error}"));
            }
            ProposeError::Fenced => self.answer_error(request, FENCED),
        }
    }

    fn on_read_ready(&mut self, request: RequestId) {
        let Some(open) = self.clients.request(request) else { return };
        if let Open::Reading { command, .. } = open {
            *open = Open::Ready(std::mem::take(command));
            self.activate(request.place);
        }
    }

    fn on_read_failed(&mut self, request: RequestId, error: ReadError) {
        if !matches!(self.clients.request(request), Some(Open::Reading { .. })) {
            return; // evaluated before a later write, or its client left
        }
        match error {
            ReadError::NotLeader { .. } | ReadError::LostLeadership | ReadError::CatchingUp => self.park_again(request),
            ReadError::TooMany => {
                self.counters.busy += 1;
                self.answer_error(request, BUSY_READS);
            }
            ReadError::Fenced => self.answer_error(request, FENCED),
        }
    }

    // ---- the front of a connection ----------------------------------------------------------------------

    /// Answers requests from the front, as far as they can be answered.
    fn settle(&mut self, place: u32, outputs: &mut Vec<Output>) {
        let bytes_max = self.settings.limits.client_output_bytes_max;
        loop {
            let Some(client) = self.clients.at(place) else { return };
            match client.open.front() {
                Some(Open::Answered(bytes)) => {
                    client.output.put_slice(bytes);
                    client.pop();
                    self.mark_dirty(place);
                }
                Some(Open::Ready(command)) if !client.stalled && client.output.len() < bytes_max => {
                    if self.turn_left == 0 {
                        return self.next_turn.push(place);
                    }
                    let (command, before) = (command.clone(), client.output.len());
                    if !self.run(place, &command, outputs) {
                        return;
                    }
                    let written = self.clients.at(place).map_or(0, |client| client.output.len().saturating_sub(before));
                    self.turn_left = self.turn_left.saturating_sub(written + work_of(&command));
                }
                Some(
                    Open::Ready(_)
                    | Open::Parked { .. }
                    | Open::Proposed { .. }
                    | Open::Reading { .. }
                    | Open::Fetching(_),
                )
                | None => return,
            }
        }
    }

    /// Runs the command at the front of a connection; false if its answer has to be fetched.
    fn run(&mut self, place: u32, encoded: &Bytes, outputs: &mut Vec<Output>) -> bool {
        let Ok(command) = decode(encoded) else { return false };
        let Some(spec) = spec_of(command.number) else { return false };
        match spec.run {
            Run::Read(_) | Run::Browse(_) | Run::Length => self.reply(place, |machine| machine.read(encoded)),
            Run::Local(local) | Run::Turn(local) => self.run_local(place, local, command.args),
            Run::History => match Wanted::parse(command.args) {
                Err(fault) => self.reply(place, |_| Reply::Error(fault)),
                Ok(None) => self.reply(place, |_| Reply::array([])),
                Ok(Some(wanted)) => return self.run_history(place, wanted, outputs),
            },
            Run::Write(_) | Run::Once | Run::Barrier => return false, // only ever run by applying them
        }
        true
    }

    /// Answers the request at the front from the state.
    fn reply<'a>(&'a mut self, place: u32, answer: impl FnOnce(&'a Machine) -> Reply<'a>) {
        let Some(client) = self.clients.at(place) else { return };
        answer(&self.machine).write(&mut Writer::new(&mut client.output, client.connection.protocol));
        client.pop();
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(place);
        }
    }

    fn run_local(&mut self, place: u32, local: fn(&Node, &mut Turn<'_>), args: Args<'_>) {
        let Some(client) = self.clients.at(place) else { return };
        let mut connection = std::mem::take(&mut client.connection);
        let mut out = std::mem::take(&mut client.output);
        let mut turn = Turn { client: client.id, connection: &mut connection, args, out: &mut out, close: None };
        local(self, &mut turn);
        let close = turn.close;
        let Some(client) = self.clients.at(place) else { return };
        client.connection = connection;
        client.output = out;
        client.pop();
        self.mark_dirty(place);
        if let Some(reason) = close {
            self.close_when_answered(place, reason);
        }
    }

    fn run_history(&mut self, place: u32, wanted: Wanted, outputs: &mut Vec<Output>) -> bool {
        let slots = wanted.readable(self.machine.next());
        if slots.is_empty() {
            self.reply(place, |_| if wanted.many { Reply::array([]) } else { Reply::Null });
            return true;
        }
        if self.client_log_reads >= LOG_READS_MAX {
            if let Some(client) = self.clients.at(place)
                && !client.waits_for_log
            {
                client.waits_for_log = true;
                self.log_waiting.push_back(place);
            }
            return false;
        }
        let Some(client) = self.clients.at(place) else { return false };
        let Some(front) = client.open.front_mut() else { return false };
        *front = Open::Fetching(wanted);
        self.client_log_reads += 1;
        let request = RequestId { place, sequence: client.first() };
        self.read_log(LogReader::Client(request), slots, LOG_RANGE_BYTES_MAX, outputs);
        false
    }

    fn read_log(&mut self, reader: LogReader, slots: SlotRange, bytes_max: usize, outputs: &mut Vec<Output>) {
        self.log_reads_made = self.log_reads_made.wrapping_add(1);
        let id = LogReadId(self.log_reads_made);
        self.log_reads.insert(id, reader);
        outputs.push(Output::ReadLog { id, slots, bytes_max });
    }

    fn on_log_read(&mut self, id: LogReadId, first: Slot, entries: Entries, outputs: &mut Vec<Output>) {
        let request = match self.log_reads.remove(&id) {
            Some(LogReader::Core(id)) => return self.step(Event::Fetched { id, first, entries }, outputs),
            Some(LogReader::Client(request)) => request,
            None => return,
        };
        self.client_log_reads = self.client_log_reads.saturating_sub(1);
        while let Some(waiting) = self.log_waiting.pop_front() {
            let Some(client) = self.clients.at(waiting).filter(|client| client.waits_for_log) else { continue };
            client.waits_for_log = false;
            self.activate(waiting);
            break;
        }
        let Some(Open::Fetching(wanted)) = self.clients.look(request) else { return };
        let wanted = *wanted;
        let Some(entry) = entries.first().filter(|_| first == wanted.first) else {
            return self.answer_error(request, "ERR the log could not be read");
        };
        let reply = if wanted.many {
            let count = usize::try_from(wanted.readable(self.machine.next()).count()).unwrap_or(usize::MAX);
            Reply::Array(entries.iter().take(count).map(shown).collect())
        } else {
            shown(entry)
        };
        let Some(client) = self.clients.at(request.place) else { return };
        reply.write(&mut Writer::new(&mut client.output, client.connection.protocol));
        client.pop(); // what is being fetched is at the front
        self.mark_dirty(request.place);
        self.activate(request.place);
    }

    // ---- answers ----------------------------------------------------------------------------------------

    fn error(&mut self, error: impl std::fmt::Display) -> Bytes {
        self.chunk.keep(|out| Writer::new(out, Default::default()).error(error))
    }

    fn moved(&mut self, leader: NodeId, command: &Bytes) -> Bytes {
        self.counters.moved += 1;
        let slot = first_key(command).map_or(0, hash_slot);
        let Address { host, port } = self.settings.addresses.get(&leader).unwrap_or(&self.nowhere);
        self.chunk.keep(|out| Writer::new(out, Default::default()).error(format_args!("MOVED {slot} {host}:{port}")))
    }

    fn push_moved(&mut self, place: u32, leader: NodeId, command: &Bytes) {
        let moved = self.moved(leader, command);
        if let Some(client) = self.clients.at(place) {
            client.push(Open::Answered(moved));
        }
    }

    fn push_error(&mut self, place: u32, error: impl std::fmt::Display) {
        let error = self.error(error);
        if let Some(client) = self.clients.at(place) {
            client.push(Open::Answered(error));
        }
    }

    fn answer_error(&mut self, request: RequestId, error: impl std::fmt::Display) {
        let error = self.error(error);
        self.turn_into(request, Open::Answered(error));
    }

    /// Changes what an open request waits for.
    fn turn_into(&mut self, request: RequestId, becomes: Open) {
        let Some(open) = self.clients.request(request) else { return };
        let answered = matches!(becomes, Open::Answered(_));
        *open = becomes;
        if answered {
            self.activate(request.place);
        }
    }

    fn activate(&mut self, place: u32) {
        if let Some(client) = self.clients.at(place)
            && !client.active
        {
            client.active = true;
            self.active.push(place);
        }
    }

    fn mark_dirty(&mut self, place: u32) {
        if let Some(client) = self.clients.at(place)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(place);
        }
    }

    fn close_when_answered(&mut self, place: u32, reason: &'static str) {
        if let Some(client) = self.clients.at(place) {
            client.closing = Some(reason);
            client.parser = Default::default();
            self.mark_dirty(place);
        }
    }

    /// Replies leave, and connections end that have nothing more to say.
    fn flush(&mut self, outputs: &mut Vec<Output>) {
        let bytes_max = self.settings.limits.client_output_bytes_max;
        self.turn_left = TURN_WORK;
        for place in std::mem::take(&mut self.next_turn) {
            self.activate(place);
        }
        for place in std::mem::take(&mut self.dirty) {
            let Some(client) = self.clients.at(place) else { continue };
            client.dirty = false;
            let was_full = client.output.len() >= bytes_max;
            if !client.output.is_empty() {
                let bytes = client.output.split().freeze();
                if bytes.len() > OUTPUT_KEPT_BYTES_MAX {
                    client.output = BytesMut::new();
                }
                outputs.push(Output::ToClient { client: client.id, bytes });
            }
            if let (Some(reason), true) = (client.closing, client.open.is_empty()) {
                let client = client.id;
                outputs.push(Output::CloseClient { client, reason });
                self.on_closed(client);
            } else if was_full {
                self.activate(place); // its unsent replies held it up
            }
        }
    }

    // ---- the end ----------------------------------------------------------------------------------------

    /// Every open request is answered and every connection ends: what was proposed is in doubt.
    fn end(&mut self, end: End) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(end);
        let (in_doubt, refused) = (self.error(IN_DOUBT), self.error(end));
        for place in self.clients.taken() {
            let Some(client) = self.clients.at(place) else { continue };
            for open in &mut client.open {
                *open = match open {
                    Open::Proposed { .. } => Open::Answered(in_doubt.clone()),
                    Open::Answered(bytes) => Open::Answered(std::mem::take(bytes)),
                    Open::Parked { .. } | Open::Reading { .. } | Open::Ready(_) | Open::Fetching(_) => {
                        Open::Answered(refused.clone())
                    }
                };
            }
            self.close_when_answered(
                place,
                match end {
                    End::Fenced(_) => "fenced",
                    End::Stopped => "stopped",
                },
            );
            self.activate(place);
        }
        self.parked.clear();
        self.parked_bytes = 0;
    }

    /// The last replies leave before the word that ends the process.
    fn serve_ended(&mut self, outputs: &mut Vec<Output>) {
        for place in std::mem::take(&mut self.active) {
            self.drive(place, outputs);
        }
        self.flush(outputs);
    }

    // ---- questions --------------------------------------------------------------------------------------

    /// What it says about itself now.
    pub fn status(&self) -> Status {
        Status {
            node: self.formatted.node,
            role: self.replica.role(),
            leader: self.replica.leader(),
            ballot: self.replica.ballot(),
            first_unchosen: self.replica.first_unchosen(),
            applied: self.machine.applied(),
            clients: self.clients.len(),
            commands: self.machine.commands(),
            digest: self.machine.digest(),
            sessions: self.machine.sessions().len(),
            keys: self.machine.kv().len(),
            queue_bytes: self.parked_bytes,
            frames_refused: self.counters.frames_refused,
            counters: self.counters,
        }
    }

    /// The digest after this slot was applied, if that is among the last `limits::DIGESTS_KEPT` ones: equal
    /// on all replicas.
    pub fn digest_at(&self, slot: Slot) -> Option<u64> {
        self.machine.digest_at(slot)
    }

    /// Its replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Its replicated state.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whose disk it runs on.
    pub fn formatted(&self) -> &Formatted {
        &self.formatted
    }

    /// Whether it leads and serves.
    pub(crate) fn leads(&self) -> bool {
        self.replica.role() == Role::Leading { ready: true }
    }

    /// Who owns the hash slots: the leader, or the last one known, or this node.
    pub(crate) fn slots_owner(&self) -> NodeId {
        self.replica.leader().or(self.last_leader).unwrap_or(self.formatted.node)
    }

    /// Where clients reach a node; an empty host if nobody said.
    pub(crate) fn address(&self, node: NodeId) -> &Address {
        self.settings.addresses.get(&node).unwrap_or(&self.nowhere)
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = (ClientId, &Connection)> {
        self.clients.iter().map(|client| (client.id, &client.connection))
    }

    pub(crate) fn uptime_us(&self) -> u64 {
        self.now.since_us(self.started)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Fenced(reason) => write!(f, "{FENCED} ({reason})"),
            End::Stopped => f.write_str("CLUSTERDOWN this node is stopping; the command was not proposed"),
        }
    }
}
