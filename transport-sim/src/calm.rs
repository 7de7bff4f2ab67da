//! The room for a calm world: nodes on disks that somebody else prepared, on links that lose nothing. For what is
//! decided before anything happens, as by damage on a disk; faults in the course of time are the business of `World`.
//!
//! Syncs and messages take no time; time passes only when nothing else can happen, and then to the next deadline.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use node::wal::{MemoryFiles, Wal, WalError};
use node::{ClientId, Input, Node, Output, Settings};
use paxos_core::{Instant, NodeId, Record, Recovered};

use crate::observer::Violation;
use crate::resp::{Replies, Reply, request};

/// Nodes in virtual time.
#[derive(Debug)]
pub struct Calm {
    now: Instant,
    settings: Settings,
    seats: BTreeMap<NodeId, Seat>,
    /// What is to be handed in, in order.
    inputs: VecDeque<(NodeId, Input)>,
    received: BTreeMap<ClientId, Replies>,
    clients: u64,
}

#[derive(Debug)]
struct Seat {
    node: Node,
    log: Wal<MemoryFiles>,
}

impl Calm {
    /// No node yet; each will get these settings.
    pub fn new(settings: Settings) -> Calm {
        Calm {
            now: Instant::from_us(1_000_000),
            settings,
            seats: BTreeMap::new(),
            inputs: VecDeque::new(),
            received: BTreeMap::new(),
            clients: 0,
        }
    }

    /// Starts a node on a log that was opened.
    ///
    /// # Errors
    /// `node-starts` if the log takes no boot, or its node cannot be made.
    pub fn start(&mut self, mut log: Wal<MemoryFiles>, mut recovered: Recovered) -> Result<(), Violation> {
        let id = recovered.formatted().node;
        let refused = |error: &dyn std::fmt::Display| Violation::new("node-starts", format!("{id:?}: {error}"));
        let boot = recovered.next_boot(u64::from(id.0));
        log.append(&Record::Started(boot)).and_then(|()| log.sync()).map_err(|error| refused(&error))?;
        recovered.started(boot).map_err(|error| refused(&error))?;
        let seed = u64::from(id.0) << 32 | boot.counter;
        let node = Node::new(self.settings.clone(), recovered, self.now, seed).map_err(|error| refused(&error))?;
        self.seats.insert(id, Seat { node, log });
        self.inputs.push_back((id, Input::Tick));
        Ok(())
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.seats.values().map(|seat| &seat.node)
    }

    /// The world's time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets this much time pass.
    ///
    /// # Errors
    /// `no-busy-loop` if a moment does not end, `disk` if a log fails.
    pub fn run_us(&mut self, us: u64) -> Result<(), Violation> {
        let end = self.now.plus_us(us);
        self.settle()?;
        while let Some(next) = self.seats.values().filter_map(|seat| seat.node.deadline()).min()
            && next <= end
        {
            self.now = self.now.max(next);
            self.settle()?;
        }
        self.now = end;
        self.settle()
    }

    /// Asks a node something on a connection of its own, and waits for the answer; `None` if it does not come in time.
    ///
    /// # Errors
    /// As `run_us`; `replies-make-sense` for bytes that are no reply.
    pub fn ask(&mut self, id: NodeId, words: &[&str], patience_us: u64) -> Result<Option<Reply>, Violation> {
        /// How often it is looked whether the answer is there.
        const LOOK_US: u64 = 10_000;
        self.clients += 1;
        let client = ClientId(self.clients);
        let mut bytes = Vec::new();
        request(&words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect::<Vec<_>>(), &mut bytes);
        self.received.insert(client, Replies::default());
        self.inputs.push_back((id, Input::ClientOpened { client }));
        self.inputs.push_back((id, Input::ClientBytes { client, bytes: bytes.into() }));
        let until = self.now.plus_us(patience_us);
        let answer = loop {
            self.settle()?;
            let replies = self.received.entry(client).or_default();
            let reply = replies.next_reply().map_err(|error| Violation::new("replies-make-sense", error.0))?;
            if reply.is_some() || self.now >= until {
                break reply;
            }
            self.run_us(LOOK_US)?;
        };
        self.received.remove(&client);
        self.inputs.push_back((id, Input::ClientClosed { client }));
        Ok(answer)
    }

    /// Stops every node cleanly; their disks, by rising id.
    ///
    /// # Errors
    /// `disk` if a log cannot be sealed.
    pub fn stop(mut self) -> Result<Vec<(NodeId, MemoryFiles)>, Violation> {
        let ids: Vec<NodeId> = self.seats.keys().copied().collect();
        self.inputs.extend(ids.into_iter().map(|id| (id, Input::Stop)));
        self.settle()?;
        let sealed = self.seats.into_iter().map(|(id, mut seat)| {
            seat.log.seal().map_err(|error| disk(id, &error))?;
            Ok((id, seat.log.into_files()))
        });
        sealed.collect()
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) -> Result<(), Violation> {
        /// Inputs without time passing that are still taken for work.
        const INPUTS_MAX: u32 = 100_000;
        for _ in 0..INPUTS_MAX {
            if let Some((id, input)) = self.inputs.pop_front() {
                self.input(id, input)?;
                continue;
            }
            let now = self.now;
            let due = self.seats.iter().find(|(_, seat)| seat.node.deadline().is_some_and(|at| at <= now));
            let Some((&id, _)) = due else { return Ok(()) };
            self.inputs.push_back((id, Input::Tick));
        }
        Err(Violation::new("no-busy-loop", format!("{INPUTS_MAX} inputs at {:?}", self.now)))
    }

    fn input(&mut self, id: NodeId, input: Input) -> Result<(), Violation> {
        let Some(seat) = self.seats.get_mut(&id) else { return Ok(()) };
        let mut outputs = Vec::new();
        seat.node.handle(self.now, input, &mut outputs);
        let mut tickets = Vec::new();
        for output in outputs {
            match output {
                Output::Persist { ticket, record } => {
                    seat.log.append(&record).map_err(|error| disk(id, &error))?;
                    tickets.push(ticket);
                }
                Output::ToPeers { to, frame } => {
                    for peer in &to {
                        self.inputs.push_back((peer, Input::PeerFrame { from: id, frame: frame.clone() }));
                    }
                }
                Output::ToClient { client, bytes } => {
                    if let Some(replies) = self.received.get_mut(&client) {
                        replies.feed(&bytes);
                    }
                }
                Output::ReadLog { id: read, slots, bytes_max } => {
                    let entries = seat.log.read(slots, bytes_max).map_err(|error| disk(id, &error))?;
                    self.inputs.push_back((id, Input::LogRead { id: read, first: slots.first, entries }));
                }
                Output::Fenced { reason } => {
                    return Err(Violation::new("never-fenced", format!("{id:?}: {reason}")));
                }
                Output::CloseClient { .. }
                | Output::PauseClient { .. }
                | Output::ResumeClient { .. }
                | Output::RoleChanged { .. } => {}
            }
        }
        if !tickets.is_empty() {
            seat.log.sync().map_err(|error| disk(id, &error))?;
            let persisted = tickets.into_iter().map(|ticket| (id, Input::Persisted(ticket.redeem())));
            self.inputs.extend(persisted);
        }
        Ok(())
    }
}

fn disk(id: NodeId, error: &WalError) -> Violation {
    Violation::new("disk", format!("{id:?}: {error}"))
}
