//! What happened in a world of whole nodes, kept in order, for pictures and transcripts.
//!
//! It watches beside the judge and decides nothing. `words.rs` says in a line what a message or a record is,
//! `page.rs` draws.

pub mod page;
mod words;

use std::fmt::Write;

use paxos_core::{Ballot, Body, NodeId, Role, Slot};
use transport_sim::{Arrivals, Fact, Moment, START, Violation, Way};

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Since the begin of the world, in microseconds.
    pub at_us: u64,
    /// Where; node 0 is nowhere in particular.
    pub node: NodeId,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum What {
    /// A message left for one node.
    Posted { letter: u64, to: NodeId, body: Box<Body>, arrivals: Arrivals, cut: bool },
    /// A message was handled.
    Received { letter: u64 },
    /// Bytes left for a node or a client.
    Carried { client: u32, way: Way, arrives_us: u64, text: String },
    /// A client began an operation.
    Asked { client: u32, text: String },
    /// An operation ended, with a reply or unknown.
    Ended { client: u32, text: String },
    /// A disk began to sync, and was done.
    Syncing { records: usize },
    /// A record became durable.
    Durable(String),
    /// The sync is done.
    Synced,
    /// A process opened its log.
    Starting { torn_tail: bool, written: usize, kept: usize },
    /// Chosen entries were read back for a peer.
    LogRead { first: Slot, entries: usize },
    /// A process works.
    Up,
    /// A process died.
    Crashed,
    /// A process stands still, or goes on.
    Paused,
    /// It goes on.
    Resumed,
    /// A node changed its role.
    Role { role: Role, ballot: Option<Ballot> },
    /// A node knows every slot below to be chosen.
    Knows(Slot),
    /// A node fenced itself.
    Fenced(String),
    /// Something goes wrong, or is over.
    Fault(String),
}

/// Everything that happened so far.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// In order.
    pub seen: Vec<Seen>,
    first_unchosen: std::collections::BTreeMap<NodeId, Slot>,
}

impl Chart {
    /// Keeps one fact.
    pub fn keep(&mut self, moment: Moment, fact: &Fact<'_>) {
        let Some(what) = self.what(moment.node, fact) else { return };
        self.seen.push(Seen { at_us: moment.now.since_us(START), node: moment.node, what });
    }

    fn what(&mut self, node: NodeId, fact: &Fact<'_>) -> Option<What> {
        Some(match fact {
            Fact::Posted { letter, to, message, arrivals, cut } => {
                let body = Box::new(message.body.clone());
                What::Posted { letter: *letter, to: *to, body, arrivals: *arrivals, cut: *cut }
            }
            Fact::Received { letter, .. } => What::Received { letter: *letter },
            Fact::Carried { client, way, arrives, bytes } => {
                let (client, arrives_us) = (*client, arrives.since_us(START));
                What::Carried { client, way: *way, arrives_us, text: words::resp(bytes) }
            }
            Fact::Asked(operation) => {
                let text = format!("begins {} {}", operation.id.number, words::command(&operation.args));
                What::Asked { client: operation.id.client, text }
            }
            Fact::Answered { id, reply } => What::Ended {
                client: id.client,
                text: format!("has {} answered with {}", id.number, words::reply(reply)),
            },
            Fact::Unknown { id } => {
                What::Ended { client: id.client, text: format!("will never know how {} ended", id.number) }
            }
            Fact::Syncing { records } => What::Syncing { records: *records },
            Fact::Durable(record) => What::Durable(words::record(record)),
            Fact::Started { boot } => What::Durable(format!("boot {}", boot.counter)),
            Fact::Synced => What::Synced,
            Fact::Starting { torn_tail, written, kept } => {
                What::Starting { torn_tail: *torn_tail, written: *written, kept: *kept }
            }
            Fact::Recovered { replica } => {
                self.first_unchosen.insert(node, replica.first_unchosen());
                What::Up
            }
            Fact::LogRead { first, entries } => What::LogRead { first: *first, entries: *entries },
            Fact::Crashed => What::Crashed,
            Fact::FoundEmpty => What::Fault(format!("n{node} finds its disk empty and refuses to start")),
            Fact::TurnedAway(why) => What::Fault(format!("n{node} refuses a link: {why}")),
            Fact::Garbled => What::Fault(format!("n{node} gets a frame that nobody sent so")),
            Fact::Connection(mishap) => What::Fault(format!("client of n{node}: {}", mishap.name())),
            Fact::Paused => What::Paused,
            Fact::Resumed => What::Resumed,
            Fact::Role { role, ballot, .. } => What::Role { role: *role, ballot: *ballot },
            Fact::Fenced { reason } => What::Fenced(format!("{reason:?}")),
            Fact::Struck(fault) => What::Fault(words::fault(fault)),
            Fact::Mended { cuts } => What::Fault(format!("mended: {}", words::links(cuts))),
            Fact::Healed => What::Fault("all faults end".to_owned()),
            Fact::Stepped { replica, .. } => {
                let known = replica.first_unchosen();
                if self.first_unchosen.insert(node, known) == Some(known) {
                    return None;
                }
                What::Knows(known)
            }
            Fact::Formatted(_)
            | Fact::Sent { .. }
            | Fact::Applied { .. }
            | Fact::Proposed { .. }
            | Fact::Refused { .. }
            | Fact::InDoubt { .. }
            | Fact::ReadAsked { .. }
            | Fact::ReadReady { .. }
            | Fact::ReadFailed { .. }
            | Fact::Served(_) => return None,
        })
    }

    /// A line for everything that happened but heartbeats, and how it ended.
    pub fn transcript(&self, violation: Option<&Violation>) -> String {
        let mut lines = String::new();
        for seen in &self.seen {
            let Some(text) = line(seen) else { continue };
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{} {text}", clock(seen.at_us));
        }
        let end = violation.map_or("nothing broke".to_owned(), |broken| broken.to_string());
        let _ = writeln!(lines, "{end}");
        lines
    }
}

/// Seconds and microseconds.
fn clock(us: u64) -> String {
    format!("{:>3}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn line(seen: &Seen) -> Option<String> {
    let node = seen.node;
    Some(match &seen.what {
        What::Posted { body, .. } if matches!(**body, Body::Heartbeat(_)) => return None,
        What::Posted { to, body, arrivals, cut, .. } => {
            let times: Vec<String> = [arrivals.first, arrivals.second]
                .into_iter()
                .flatten()
                .map(|arrival| {
                    let astray = if arrival.astray { " elsewhere" } else { "" };
                    format!("{}{astray}", clock(arrival.at.since_us(START)).trim_start())
                })
                .collect();
            let fate = match (cut, times.is_empty()) {
                (true, _) => "cut off".to_owned(),
                (false, true) => "lost".to_owned(),
                (false, false) => format!("arrives {}", times.join(" and ")),
            };
            format!("n{node} -> n{to} {} ({fate})", words::body(body))
        }
        What::Carried { client, way, text, .. } => match way {
            Way::ToNode => format!("c{client} -> n{node} {text}"),
            Way::ToClient => format!("n{node} -> c{client} {text}"),
        },
        What::Asked { client, text } | What::Ended { client, text } => format!("c{client} {text}"),
        What::Syncing { records } => format!("n{node} syncs {records} records"),
        What::Durable(text) => format!("n{node} has durable: {text}"),
        What::Received { .. } | What::Synced => return None,
        What::Starting { torn_tail, written, kept } => {
            let torn = if *torn_tail { ", behind them a torn tail" } else { "" };
            format!("n{node} starts; of {written} unsynced records {kept} survived{torn}")
        }
        What::LogRead { first, entries } => format!("n{node} reads {entries} entries from slot {first} on"),
        What::Up => format!("n{node} is up"),
        What::Crashed => format!("n{node} dies"),
        What::Paused => format!("n{node} stands still"),
        What::Resumed => format!("n{node} goes on"),
        What::Role { role, ballot } => format!("n{node} {}", words::role(*role, *ballot)),
        What::Knows(below) => format!("n{node} knows all below {below} chosen"),
        What::Fenced(reason) => format!("n{node} fences itself: {reason}"),
        What::Fault(text) => format!("-- {text}"),
    })
}
