//! The data path of the server: inputs in, outputs out. No socket, file, clock or thread lives here.
//!
//! One path, in rooms by the order in which a request walks it: bytes → request (`intake`) → proposed, read, parked or
//! redirected (`routing`) → applied or read (`outcomes`) → its turn on its connection (`front`) → reply (`answers`).
//! The rules of the walk:
//!
//! - **Replies leave with `Input::Tick`**, all that a turn made for a client as one `Output::ToClient`. While
//!   any wait, `deadline` is in the past. Only a fenced or stopping node does not wait for the tick.
//! - Replies keep the order of requests on their connection. A read is evaluated when it is at the front, so
//!   it sees the connection's earlier writes; and at the latest right before a later write of the same
//!   connection is applied, so it does not see that one. The latter is linearizable without a read point:
//!   whatever was answered before the read arrived has a lower slot than a write proposed after it.
//! - What may have been proposed is never answered with an error that clients retry by themselves; what was
//!   never proposed may be parked, redirected, or given up with CLUSTERDOWN.

mod answers;
mod front;
mod intake;
mod outcomes;
mod routing;

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
