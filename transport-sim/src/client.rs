//! The room for clients: they speak RESP bytes, pipeline, follow MOVED, retry at other nodes, and give up.
//!
//! A client is a state machine like everything else here: the world tells it what happened, it answers with wishes.

mod asks;

use std::collections::VecDeque;

use bytes::Bytes;
use node::limits::SESSION_WINDOW;
use paxos_core::{Instant, NodeId};

pub use asks::{Ask, Asks, Large, Manner, Operation, OperationId};

use crate::resp::{self, Replies, Reply};
use crate::rng::{Concern, Rng};

/// What a client wants the world to do, or to know.
#[derive(Debug)]
pub enum Wish {
    /// Connect to this node; there is no connection now.
    Connect(NodeId),
    /// Send these bytes on the connection.
    Send(Bytes),
    /// Close the connection.
    HangUp,
    /// Tell me when it is this time.
    Wake(Instant),
    /// For the history: an operation begins, which was due at this moment.
    Asked(Operation, Instant),
    /// For the history: it ended with this reply.
    Answered(OperationId, Reply),
    /// For the history: nobody will ever know how it ended.
    Unknown(OperationId),
    /// The server sent what no server should.
    Nonsense(String),
}

/// One client.
#[derive(Debug)]
pub struct Client {
    manner: Manner,
    seed: u64,
    nodes: Vec<NodeId>,
    /// Where to connect, and when.
    choices: Rng,
    /// What to ask for, and when, unless it is listed.
    wants: Rng,
    /// Where to connect next.
    favourite: NodeId,
    line: Line,
    begun: u64,
    sequence: u64,
    session: Option<Bytes>,
    /// Operations to be sent, first time or again.
    waiting: VecDeque<Operation>,
    /// In the order in which replies must come.
    sent: VecDeque<Sent>,
    replies: Replies,
    next_burst: Instant,
    /// When the operation that began last was due.
    last_due: Instant,
    /// No sending and no connecting before.
    pause_until: Instant,
    wake_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Idle,
    /// Since when.
    Connecting(Instant),
    Open,
    /// Sends nothing more and hangs up when all replies are in.
    Leaving,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    what: Asked,
}

#[derive(Debug)]
enum Asked {
    Session,
    Operation(Operation),
}

impl Client {
    /// A client that knows these nodes, of which there must be one, and is to be woken when it begins. All its choices
    /// come from the seed and its name.
    pub fn new(seed: u64, manner: Manner, begins: Instant, nodes: Vec<NodeId>) -> Client {
        let name = u64::from(manner.client);
        let mut choices = Rng::keyed(seed, Concern::Workload, name, 1);
        let favourite = choices.pick(&nodes);
        let next_burst = match &manner.asks {
            Asks::Drawn { .. } => Instant::default(),
            Asks::Listed(asks) => asks.first().map_or(Instant::default(), |ask| ask.due),
        };
        Client {
            manner,
            seed,
            nodes,
            choices,
            wants: Rng::keyed(seed, Concern::Workload, name, 2),
            favourite,
            line: Line::Idle,
            begun: 0,
            sequence: 0,
            session: None,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            replies: Replies::default(),
            next_burst,
            last_due: Instant::default(),
            pause_until: Instant::default(),
            wake_at: Some(begins),
        }
    }

    /// Whether everything it begins has ended.
    pub fn is_done(&self) -> bool {
        self.begun >= self.manner.asks.count() && self.waiting.is_empty() && self.sent.is_empty()
    }

    /// From now on it hurries: faults are over.
    pub fn hurry(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        /// Between bursts, in microseconds on average.
        const THINK_US: u64 = 1_000;
        if let Asks::Drawn { think_us, .. } = &mut self.manner.asks {
            *think_us = (*think_us).min(THINK_US);
        }
        self.ask_soon(now, wishes);
    }

    /// What it begins next is due now.
    pub fn ask_soon(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        // Behind what began last, so that the times of a list tell bursts apart.
        self.next_burst = self.next_burst.min(now.max(self.last_due.plus_us(1)));
        // What it wanted to be woken for is sooner now, and a list has it there from the beginning.
        self.wake_at = None;
        self.go_on(now, wishes);
    }

    /// Operations that have not ended, begun or not.
    pub fn left(&self) -> u64 {
        self.manner.asks.count() - self.begun + self.open() as u64
    }

    /// Its name.
    pub fn name(&self) -> u32 {
        self.manner.client
    }

    /// Operations begun and not ended.
    pub fn open(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }

    /// Whether more may begin: not too much at once, and nothing so far ahead of the oldest open command of the session
    /// that the session would forget that one (`SESSION_WINDOW`).
    fn may_begin(&self) -> bool {
        let sent = self.sent.iter().filter_map(|sent| match &sent.what {
            Asked::Operation(operation) => Some(operation),
            Asked::Session => None,
        });
        let sequences = self.waiting.iter().chain(sent).filter_map(|operation| {
            let (session, sequence) = operation.once.as_ref()?;
            (Some(session) == self.session.as_ref()).then_some(*sequence)
        });
        let newest = self.sequence + self.manner.depth as u64;
        let kept = sequences.min().is_none_or(|oldest| newest < oldest + SESSION_WINDOW);
        kept && self.open() < self.manner.depth
    }

    /// The connection it asked for is there.
    pub fn connected(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        self.line = Line::Open;
        self.replies = Replies::default();
        self.go_on(now, wishes);
    }

    /// The connection is gone, or could not be made.
    pub fn closed(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        self.line = Line::Idle;
        for sent in self.sent.drain(..) {
            match sent.what {
                Asked::Session => {}
                Asked::Operation(operation) => match operation.once {
                    Some(_) => self.waiting.push_back(operation),
                    None => wishes.push(Wish::Unknown(operation.id)),
                },
            }
        }
        self.favourite = self.choices.pick(&self.nodes);
        self.pause_until = now.plus_us(self.choices.between(1_000, 100_000));
        self.go_on(now, wishes);
    }

    /// Whether this is the time that it wished to be told of; if not, it has changed its mind since.
    pub fn is_to_be_woken(&self, now: Instant) -> bool {
        self.wake_at == Some(now)
    }

    /// It is the time that it wished to be told of.
    pub fn woken(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        self.wake_at = None;
        if self.waits_since().is_some_and(|since| now.since_us(since) >= self.manner.patience_us) {
            wishes.push(Wish::HangUp);
            self.closed(now, wishes);
            return;
        }
        self.go_on(now, wishes);
    }

    /// Since when it has waited for the node, if it does.
    fn waits_since(&self) -> Option<Instant> {
        match self.line {
            Line::Connecting(since) => Some(since),
            Line::Idle | Line::Open | Line::Leaving => self.sent.front().map(|sent| sent.at),
        }
    }

    /// Bytes came from the node.
    pub fn received(&mut self, now: Instant, bytes: &[u8], wishes: &mut Vec<Wish>) {
        self.replies.feed(bytes);
        loop {
            match self.replies.next_reply() {
                Ok(Some(reply)) if has_no_room(&reply) => self.turned_away(now),
                Ok(Some(reply)) => match self.sent.pop_front() {
                    Some(sent) => self.replied(now, sent.what, reply, wishes),
                    None => wishes.push(Wish::Nonsense(format!("{reply:?} answers nothing"))),
                },
                Ok(None) => break,
                Err(malformed) => {
                    wishes.push(Wish::Nonsense(malformed.0));
                    break;
                }
            }
        }
        self.go_on(now, wishes);
    }

    fn replied(&mut self, now: Instant, asked: Asked, reply: Reply, wishes: &mut Vec<Wish>) {
        let error = match &reply {
            Reply::Error(line) => line.split(' ').next().unwrap_or(""),
            Reply::Status(_) | Reply::Number(_) | Reply::Bulk(_) | Reply::Nil | Reply::Array(_) => "",
        };
        match error {
            // These say that the command was never proposed: it is safe to send it again.
            "MOVED" => {
                let host = moved_to(&reply);
                if let Some(node) = host.filter(|node| self.nodes.contains(node)) {
                    self.favourite = node;
                }
                self.line = Line::Leaving;
                self.again(asked);
            }
            "CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "BUSY" => {
                self.pause_until = now.plus_us(self.choices.between(10_000, 200_000));
                if self.choices.coin() {
                    self.favourite = self.choices.pick(&self.nodes);
                    self.line = Line::Leaving;
                }
                self.again(asked);
            }
            "INDOUBT" => match asked {
                Asked::Operation(operation) if operation.once.is_none() => wishes.push(Wish::Unknown(operation.id)),
                Asked::Operation(_) | Asked::Session => self.again(asked),
            },
            "SESSIONEXPIRED" | "STALE" => match asked {
                Asked::Operation(operation) => {
                    if operation.once.as_ref().is_some_and(|(session, _)| Some(session) == self.session.as_ref()) {
                        self.session = None;
                    }
                    wishes.push(Wish::Answered(operation.id, reply));
                }
                Asked::Session => wishes.push(Wish::Nonsense(format!("{reply:?} to ONCE NEW"))),
            },
            _ => match asked {
                Asked::Operation(operation) => wishes.push(Wish::Answered(operation.id, reply)),
                Asked::Session => match reply {
                    Reply::Number(id) => self.open_session(Bytes::from(id.to_string())),
                    Reply::Bulk(id) => self.open_session(id),
                    Reply::Status(_) | Reply::Error(_) | Reply::Nil | Reply::Array(_) => {
                        wishes.push(Wish::Nonsense(format!("{reply:?} to ONCE NEW")));
                    }
                },
            },
        }
    }

    /// The node has no room for this connection and read nothing of it: it is safe to send all of it again.
    fn turned_away(&mut self, now: Instant) {
        self.line = Line::Leaving;
        self.favourite = self.choices.pick(&self.nodes);
        self.pause_until = now.plus_us(self.choices.between(10_000, 200_000));
        while let Some(sent) = self.sent.pop_front() {
            self.again(sent.what);
        }
    }

    fn open_session(&mut self, id: Bytes) {
        self.session = Some(id);
        self.sequence = 0;
    }

    fn again(&mut self, asked: Asked) {
        if let Asked::Operation(operation) = asked {
            self.waiting.push_back(operation);
        }
    }

    /// Does whatever can be done now, and asks to be woken when more can.
    fn go_on(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        if self.line == Line::Leaving && self.sent.is_empty() {
            wishes.push(Wish::HangUp);
            self.line = Line::Idle;
        }
        if now >= self.pause_until {
            match self.line {
                Line::Idle if !self.is_done() && (!self.waiting.is_empty() || now >= self.next_burst) => {
                    self.line = Line::Connecting(now);
                    wishes.push(Wish::Connect(self.favourite));
                }
                Line::Open => self.fill(now, wishes),
                Line::Idle | Line::Connecting(_) | Line::Leaving => {}
            }
        }
        let mut wake: Option<Instant> = None;
        let mut at = |moment: Instant| wake = Some(wake.map_or(moment, |wake| wake.min(moment)));
        if let Some(since) = self.waits_since() {
            at(since.plus_us(self.manner.patience_us));
        }
        if now < self.pause_until {
            at(self.pause_until);
        } else if self.begun < self.manner.asks.count() && now < self.next_burst && self.may_begin() {
            at(self.next_burst);
        }
        if let Some(wake) = wake.map(|wake| wake.max(now.plus_us(1)))
            && self.wake_at.is_none_or(|set| wake < set || set <= now)
        {
            self.wake_at = Some(wake);
            wishes.push(Wish::Wake(wake));
        }
    }

    fn fill(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        if self.manner.once && self.session.is_none() {
            if self.sent.is_empty() && !self.is_done() {
                let mut bytes = Vec::new();
                resp::request(&[Bytes::from_static(b"ONCE"), Bytes::from_static(b"NEW")], &mut bytes);
                self.sent.push_back(Sent { at: now, what: Asked::Session });
                wishes.push(Wish::Send(bytes.into()));
            }
            return;
        }
        if now >= self.next_burst && self.begun < self.manner.asks.count() && self.may_begin() {
            self.begin_burst(now, wishes);
        }
        let mut bytes = Vec::new();
        while self.sent.len() < self.manner.depth {
            let Some(operation) = self.waiting.pop_front() else { break };
            let mut args = Vec::new();
            if let Some((session, sequence)) = &operation.once {
                args.extend([Bytes::from_static(b"ONCE"), session.clone(), Bytes::from(sequence.to_string())]);
            }
            args.extend(operation.args.iter().cloned());
            resp::request(&args, &mut bytes);
            self.sent.push_back(Sent { at: now, what: Asked::Operation(operation) });
        }
        if !bytes.is_empty() {
            wishes.push(Wish::Send(bytes.into()));
        }
    }
}

fn has_no_room(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(line) if line.starts_with("ERR max number of clients"))
}

/// The node in `MOVED <slot> n<id>:<port>`.
fn moved_to(reply: &Reply) -> Option<NodeId> {
    let Reply::Error(line) = reply else { return None };
    let host = line.split(' ').nth(2)?.split(':').next()?;
    host.strip_prefix('n')?.parse().ok().map(NodeId)
}
