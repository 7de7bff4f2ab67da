//! The data path of the server: inputs in, outputs out. No socket, file, clock or thread lives here.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::{
    Action, Entries, Event, FenceReason, FetchId, Instant, NodeId, Receipt, Recipients, Record, Recovered, Replica,
    Role, RoleReason, Slot, SlotRange, Ticket, wire,
};

use crate::settings::{NodeError, Settings};
use crate::status::Status;

/// One client connection, named by the driver; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// Names one `Output::ReadLog`, to be echoed by `Input::LogRead`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogReadId(pub u64);

/// What may happen to a node.
#[derive(Debug)]
pub enum Input {
    /// A client connected.
    ClientOpened {
        /// Its connection.
        client: ClientId,
    },
    /// A client sent bytes.
    ClientBytes {
        /// Its connection.
        client: ClientId,
        /// What arrived; any split of the stream is fine.
        bytes: Bytes,
    },
    /// A client's connection is gone.
    ClientClosed {
        /// Its connection.
        client: ClientId,
    },
    /// A frame arrived on the link of a peer whose hello was accepted.
    PeerFrame {
        /// Who is at the other end; a frame that claims another sender is dropped.
        from: NodeId,
        /// One whole frame as `paxos_core::wire` wrote it.
        frame: Bytes,
    },
    /// Records are durable.
    Persisted(Receipt),
    /// A write or sync of the log failed: the node fences itself.
    PersistFailed,
    /// Answers `Output::ReadLog`; no entries says that they could not be read.
    LogRead {
        /// Which request.
        id: LogReadId,
        /// The slot of the first entry.
        first: Slot,
        /// Chosen entries of consecutive slots.
        entries: Entries,
    },
    /// The turn ends, or time passed: see `Node::deadline`. Only now replies leave.
    Tick,
    /// More reply bytes wait for this client in the driver than it cares to hold: the node answers and parses
    /// nothing more for it until `ClientDrained`.
    ClientStalled {
        /// Its connection.
        client: ClientId,
    },
    /// The reply bytes of a stalled client went out.
    ClientDrained {
        /// Its connection.
        client: ClientId,
    },
    /// Hand leadership to this node, if this one leads.
    HandOver {
        /// Who is to lead.
        to: NodeId,
    },
    /// The process is about to stop: every open request is answered (INDOUBT if it was proposed), every
    /// connection is closed, and the replies leave at once.
    Stop,
}

/// What a node asks its driver to do, in order.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes to a client, behind what was sent before.
    ToClient {
        /// Its connection.
        client: ClientId,
        /// Whole replies.
        bytes: Bytes,
    },
    /// Send what is queued for this client, then close its connection.
    CloseClient {
        /// Its connection.
        client: ClientId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Stop reading from this client: it has more open requests or unsent replies than its limits admit. What
    /// still arrives is kept, up to `Limits::client_input_bytes_max`.
    PauseClient {
        /// Its connection.
        client: ClientId,
    },
    /// Read from this client again.
    ResumeClient {
        /// Its connection.
        client: ClientId,
    },
    /// Send this frame to these peers; it may be lost.
    ToPeers {
        /// Whom to send it to.
        to: Recipients,
        /// One whole frame, encoded once for all of them.
        frame: Bytes,
    },
    /// Append to the log, sync, redeem the ticket, hand in the receipt.
    Persist {
        /// Redeem it once the record is durable.
        ticket: Ticket,
        /// What must survive.
        record: Record,
    },
    /// Read chosen entries from the log and answer with `Input::LogRead`.
    ReadLog {
        /// Echo it in the answer.
        id: LogReadId,
        /// The slots wanted.
        slots: SlotRange,
        /// Stop before the payloads exceed this many bytes, but bring at least one entry.
        bytes_max: usize,
    },
    /// For the log line: one per role change.
    RoleChanged {
        /// What it is now.
        role: Role,
        /// The leader it knows.
        leader: Option<NodeId>,
        /// The ballot of the role.
        ballot: Option<paxos_core::Ballot>,
        /// Why.
        reason: RoleReason,
    },
    /// The node takes no part any more: the driver stops the process with this line.
    Fenced {
        /// Why.
        reason: FenceReason,
    },
}

/// One member of the store: a replica, the state machine it drives, and the clients it serves.
///
/// The driver hands in what arrived, ends each turn with `Input::Tick`, carries out the outputs in order, and
/// calls `Tick` again no later than `deadline` says.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    node: NodeId,
    replica: Replica,
    actions: Vec<Action>,
    log_reads: BTreeMap<u64, FetchId>,
    log_reads_made: u64,
    frames_refused: u64,
}

impl Node {
    /// A node that goes on from what survived. `seed` spreads its replica's election delays.
    ///
    /// # Errors
    /// `NodeError` for settings that contradict themselves, or a boot that is not durable.
    pub fn new(settings: Settings, recovered: Recovered, now: Instant, seed: u64) -> Result<Node, NodeError> {
        settings.limits.validate()?;
        let node = recovered.formatted().node;
        let replica = Replica::new(settings.paxos.clone(), recovered, now, seed)?;
        Ok(Node {
            settings,
            node,
            replica,
            actions: Vec::new(),
            log_reads: BTreeMap::new(),
            log_reads_made: 0,
            frames_refused: 0,
        })
    }

    /// The one door: takes an input, appends what it asks for to `outputs`. Never panics.
    pub fn handle(&mut self, now: Instant, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::PeerFrame { from, frame } => match wire::decode(&frame) {
                Ok(message) if message.header.from == from => self.step(now, Event::Message(message), outputs),
                Ok(_) | Err(_) => self.frames_refused += 1,
            },
            Input::Persisted(receipt) => self.step(now, Event::Persisted(receipt), outputs),
            Input::PersistFailed => self.step(now, Event::PersistFailed, outputs),
            Input::LogRead { id, first, entries } => {
                if let Some(fetch) = self.log_reads.remove(&id.0) {
                    self.step(now, Event::Fetched { id: fetch, first, entries }, outputs);
                }
            }
            Input::HandOver { to } => self.step(now, Event::HandOver { to }, outputs),
            Input::Tick => self.step(now, Event::Tick, outputs),
            Input::ClientOpened { .. }
            | Input::ClientBytes { .. }
            | Input::ClientClosed { .. }
            | Input::ClientStalled { .. }
            | Input::ClientDrained { .. }
            | Input::Stop => {}
        }
    }

    fn step(&mut self, now: Instant, event: Event, outputs: &mut Vec<Output>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.replica.handle(now, event, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { to, message } => {
                    let mut frame = Vec::new();
                    wire::encode(&message, &mut frame);
                    outputs.push(Output::ToPeers { to, frame: frame.into() });
                }
                Action::Persist { ticket, record } => outputs.push(Output::Persist { ticket, record }),
                Action::FetchLog { id, slots, bytes_max } => {
                    self.log_reads_made += 1;
                    self.log_reads.insert(self.log_reads_made, id);
                    let id = LogReadId(self.log_reads_made);
                    outputs.push(Output::ReadLog { id, slots, bytes_max });
                }
                Action::RoleChanged { role, leader, ballot, reason } => {
                    outputs.push(Output::RoleChanged { role, leader, ballot, reason });
                }
                Action::Fenced { reason } => outputs.push(Output::Fenced { reason }),
                Action::Apply { .. }
                | Action::ProposalRefused { .. }
                | Action::InDoubt { .. }
                | Action::ReadReady { .. }
                | Action::ReadFailed { .. } => {}
            }
        }
        self.actions = actions;
    }

    /// When to call `handle` with `Input::Tick` at the latest. A moment in the past means now.
    pub fn deadline(&self) -> Option<Instant> {
        self.replica.deadline().map(|(deadline, _)| deadline)
    }

    /// What it says about itself now.
    pub fn status(&self) -> Status {
        Status {
            node: self.node,
            role: self.replica.role(),
            leader: self.replica.leader(),
            ballot: self.replica.ballot(),
            first_unchosen: self.replica.first_unchosen(),
            applied: self.replica.next_to_apply().get() - 1,
            clients: 0,
            commands: 0,
            digest: 0,
            sessions: 0,
            keys: 0,
            queue_bytes: 0,
            frames_refused: self.frames_refused,
        }
    }

    /// The digest after this slot was applied, if that is among the last `limits::DIGESTS_KEPT` ones: equal
    /// on all replicas.
    pub fn digest_at(&self, slot: Slot) -> Option<u64> {
        let _ = slot;
        None
    }

    /// Its replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
