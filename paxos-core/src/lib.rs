//! Sans-IO Multi-Paxos: events in, actions out. No clock, no socket, no disk, no thread, no `std`.
//!
//! # The contract
//!
//! A [`Replica`] is one member of a group that agrees on a log of entries. It has one door,
//! [`Replica::handle`]: it takes the time and an [`Event`] and appends [`Action`]s to a list that the caller
//! reuses. The caller owns everything else:
//!
//! * **Time** is the caller's monotonic clock as an [`Instant`], sampled after the event's bytes were read.
//!   [`Replica::deadline`] says when to call with [`Event::Tick`] at the latest.
//! * **The network** may lose, delay, duplicate and reorder [`Action::Send`]; it must not forge. Frames are the
//!   caller's; [`wire`] turns messages into bytes and back.
//! * **The disk** appends [`Action::Persist`] records in order and keeps them. Only when a record is durable may
//!   its [`Ticket`] be redeemed; the [`Receipt`] goes in as [`Event::Persisted`]. What testifies to durable state
//!   stays inside the replica until then, so "answer first, sync later" cannot be written by accident.
//! * **The state machine** applies [`Action::Apply`] in order. An entry may be applied again after a restart, and
//!   a client's command may be in the log twice: exactly-once is the state machine's job.
//! * **Entries that left the window** are read back from the log on [`Action::FetchLog`].
//!
//! Every proposal and read carries a [`Tag`] and ends in exactly one action. Nothing that comes in panics: peers'
//! nonsense is counted and dropped, callers' mistakes are errors, a broken invariant of the replica itself fences
//! it ([`Action::Fenced`]).
//!
//! # The run loop
//!
//! 1. Wait for a message, a client, the disk, or the deadline.
//! 2. `handle` each event; proposals and reads of one turn are collected.
//! 3. `handle(now, Event::Tick, ..)` ends the turn: runs of proposals leave together.
//! 4. Carry out the actions in order.
//!
//! At start: feed every record of the log to [`Recovery`], make [`Record::Started`] durable, then
//! [`Replica::new`]. A new disk's first record is [`Record::Formatted`], with the same [`Genesis`] on every node.
//!
//! # Example: three replicas in memory, and the leader dies
//!
//! ```
//! use std::collections::VecDeque;
//! use paxos_core::*;
//!
//! struct Node { replica: Replica, applied: Vec<Vec<u8>>, alive: bool }
//!
//! let incarnation = |node| Incarnation(100 + u64::from(node));
//! let voters = (1..=3).map(|node| Member { node: NodeId(node), incarnation: incarnation(node), generation: 0 });
//! let membership = Membership::new(voters.collect(), vec![], QuorumSystem::Majority)?;
//! let genesis = Genesis::new(membership, 4096)?;
//! let mut nodes: Vec<Node> = (1..=3).map(|id| {
//!     let formatted = Formatted {
//!         cluster: ClusterId::new(7), node: NodeId(id), incarnation: incarnation(id), genesis: genesis.clone(),
//!     };
//!     let mut recovery = Recovery::new();
//!     recovery.record(Record::Formatted(formatted))?;          // a new disk; otherwise, every record of the log
//!     let mut recovered = recovery.finish()?;
//!     recovered.started(recovered.next_boot(u64::from(id)))?;  // after `Record::Started` is durable
//!     let replica = Replica::new(Config::default(), recovered, Instant::from_us(0), u64::from(id))?;
//!     Ok(Node { replica, applied: Vec::new(), alive: true })
//! }).collect::<Result<_, Box<dyn std::error::Error>>>()?;
//!
//! // Carries out what a node asks for. The "disk" of this example is durable at once.
//! fn step(nodes: &mut [Node], at: usize, now: Instant, event: Event) {
//!     let mut events = VecDeque::from([(at, event)]);
//!     let mut actions = Vec::new();
//!     while let Some((at, event)) = events.pop_front() {
//!         if !nodes[at].alive { continue }
//!         nodes[at].replica.handle(now, event, &mut actions);
//!         for action in actions.drain(..) {
//!             match action {
//!                 Action::Send { to, body } => for peer in &to {
//!                     let message = Message { header: nodes[at].replica.header(), body: body.clone() };
//!                     events.push_back((peer.0 as usize - 1, Event::Message(message)));
//!                 },
//!                 Action::Persist { ticket, .. } => events.push_back((at, Event::Persisted(ticket.redeem()))),
//!                 Action::Apply { entries, .. } => for entry in entries.iter() {
//!                     if let Entry::Command { bytes, .. } = entry { nodes[at].applied.push(bytes.to_vec()) }
//!                 },
//!                 _ => {} // role changes; outcomes of tags, which a real caller answers its clients with
//!             }
//!         }
//!     }
//! }
//!
//! let mut now_us = 0;
//! let mut put = |nodes: &mut Vec<Node>, command: &'static [u8]| loop {
//!     now_us += 1_000;
//!     let now = Instant::from_us(now_us);
//!     for at in 0..nodes.len() { step(nodes, at, now, Event::Tick) }
//!     if let Some(at) = nodes.iter().position(|node| node.alive && node.replica.propose_room() > 0) {
//!         step(nodes, at, now, Event::Propose { tag: Tag(now_us), command: command.into() });
//!         step(nodes, at, now, Event::Tick);
//!         return at;
//!     }
//!     assert!(now_us < 10_000_000, "no leader in ten seconds");
//! };
//!
//! let leader = put(&mut nodes, b"one");
//! nodes[leader].alive = false;
//! put(&mut nodes, b"two");
//! put(&mut nodes, b"three");
//! for node in nodes.iter().filter(|node| node.alive) {
//!     assert!(node.applied.starts_with(&[b"one".to_vec(), b"two".to_vec()]));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Single-decree Paxos
//!
//! is the same code with a log of one slot: `Config { last_slot: Some(Slot::FIRST), ..Config::default() }`. The
//! first proposal that a leader binds is the value; every later one is refused with [`ProposeError::LogFull`].
//!
//! ```
//! use paxos_core::*;
//! # let member = Member { node: NodeId(1), incarnation: Incarnation(1), generation: 0 };
//! # let membership = Membership::new(vec![member], vec![], QuorumSystem::Majority)?;
//! # let genesis = Genesis::new(membership, 4096)?;
//! # let formatted = Formatted { cluster: ClusterId::new(7), node: NodeId(1), incarnation: Incarnation(1), genesis };
//! # let mut recovery = Recovery::new();
//! # recovery.record(Record::Formatted(formatted))?;
//! # recovery.record(Record::Started(Boot { counter: 1, nonce: 1 }))?;
//! # let recovered = recovery.finish()?;
//! let config = Config { last_slot: Some(Slot::FIRST), ..Config::default() };
//! let mut replica = Replica::new(config, recovered, Instant::from_us(0), 1)?;
//! let (mut todo, mut value) = (vec![Event::Tick], None);
//! let mut proposals = vec![b"second".as_slice(), b"first"];
//! while let Some(event) = todo.pop() {
//!     let mut actions = Vec::new();
//!     replica.handle(Instant::from_us(1), event, &mut actions);
//!     for action in actions {
//!         match action {
//!             Action::Persist { ticket, .. } => todo.push(Event::Persisted(ticket.redeem())),
//!             Action::Apply { entries, .. } => value = entries[0].command().cloned(),
//!             Action::ProposalRefused { error, .. } => assert_eq!(error, ProposeError::LogFull),
//!             _ => {}
//!         }
//!     }
//!     if todo.is_empty() && matches!(replica.role(), Role::Leading { ready: true }) {
//!         if let Some(command) = proposals.pop() {
//!             todo.extend([Event::Tick, Event::Propose { tag: Tag(1), command: command.into() }]);
//!         }
//!     }
//! }
//! assert_eq!(value.as_deref(), Some(b"first".as_slice()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Model checking
//!
//! [`Replica`] is `Clone` and has a [`Replica::digest`] relative to now. A build with `--cfg paxos_model` also
//! makes tickets and actions `Clone` and adds `Replica::fire`, which fires a timer regardless of the clock, and `Replica::hash_at_rest`, a digest without what
//! only the clock gives a meaning.
//!
//! # Left out on purpose
//!
//! Sockets, files, clocks, threads, logging, serving clients, and any `Transport` or `Storage` trait: two drivers
//! that carry out the same actions are what "pluggable" means. Not built yet: membership change and learners'
//! promotion, snapshots and trimming of the durable log, repair of a corrupt log, lease reads, read points and
//! forwarding for followers. The shapes (ballots with a generation, α in genesis, entries that can hold a
//! membership) foresee them.
//!
//! # Reading order
//!
//! [`Event`] and [`Action`] are the whole API; then `replica` (the switchboard), `acceptor`, `proposer`,
//! `learner`, `election`, `gate`. Rules are numbered as in docs/protocol.md and named after Lamport
//! ("Part-Time Parliament", "Paxos Made Simple"), Ongaro and Ousterhout ("Implementing Replicated Logs with
//! Paxos"), van Renesse and Altinbuken ("Paxos Made Moderately Complex").
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(any(test, feature = "quickcheck", paxos_mutants))]
extern crate std;

pub mod wire;

mod acceptor;
mod action;
#[cfg(any(test, feature = "quickcheck"))]
mod arbitrary;
mod ballot;
mod catch_up;
mod config;
mod digest;
mod election;
mod entry;
mod event;
mod gate;
mod learner;
pub mod limits;
mod log;
mod membership;
mod message;
#[doc(hidden)]
pub mod mutants;
mod node_id;
mod outbox;
mod persist;
#[cfg(test)]
mod properties;
mod proposals;
mod proposer;
mod quorum;
mod read;
mod replica;
mod rng;
#[cfg(test)]
mod rules;
mod slot;
mod stats;
mod time;
mod trail;

pub use action::{Action, FenceReason, ProposeError, ReadError, Recipients, Role, RoleReason, applied};
#[cfg(any(test, feature = "quickcheck"))]
pub use arbitrary::AnyEvent;
pub use ballot::Ballot;
pub use config::{Config, ConfigError, ElectionPolicy};
pub use entry::{CommandId, Entries, Entry};
pub use event::{Event, FetchId, Tag};
pub use membership::{Genesis, Member, Membership, MembershipError};
pub use message::{
    Accept, Accepted, Body, Echo, Fetch, HandOver, Header, Heartbeat, Held, Message, Prepare, Promise, Refused,
    Success, SuccessReply,
};
pub use node_id::{Boot, ClusterId, Incarnation, NodeId};
pub use persist::{Formatted, OutOfOrder, Receipt, Record, Recovered, Recovery, RecoveryError, Ticket};
pub use quorum::{QuorumSystem, VoterSet};
#[cfg(paxos_model)]
pub use replica::Ahead;
pub use replica::{Reason, Replica, StartError};
pub use slot::{Slot, SlotRange};
pub use stats::Stats;
pub use time::Instant;
