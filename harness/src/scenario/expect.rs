//! What a script expects of replicas, and what it lets strangers say.

use paxos_core::{
    Accept, Ballot, Body, Boot, Entries, Entry, Heartbeat, Instant, NodeId, Prepare, Refused, Replica, Slot, SlotRange,
};

use super::language::{Expectation, Forgery};
use super::show;
use super::stage::{Seat, Stage};

impl Stage {
    pub(super) fn expect(&self, expectation: &Expectation) -> Result<(), String> {
        let same = |expected: &str, found: &str| {
            if expected == found { Ok(()) } else { Err(format!("expected `{expected}`, found `{found}`")) }
        };
        let running = |node: NodeId| {
            let replica = self.seats[self.up(node)?].replica.as_ref();
            replica.ok_or_else(|| format!("node {node} is down"))
        };
        let named = |ballot: Option<Ballot>| ballot.map_or("none".to_owned(), |ballot| ballot.to_string());
        match expectation {
            Expectation::Slot { node, slot, holds } => {
                let found = held(running(*node)?, &self.seats[self.seat(*node)?], *slot);
                same(holds, &found)
            }
            Expectation::Role { node, role } => same(role, show::role(running(*node)?.role())),
            Expectation::Promised { node, ballot } => same(&named(*ballot), &named(running(*node)?.promised())),
            Expectation::FirstUnchosen { node, slot } => {
                same(&slot.to_string(), &running(*node)?.first_unchosen().to_string())
            }
            Expectation::Tag { tag, outcome } => match self.tags.iter().find(|asked| asked.name == *tag) {
                Some(asked) => same(outcome, &asked.outcome),
                None => Err(format!("nothing is called `{tag}`")),
            },
            Expectation::Applied { node, entries } => {
                same(&entries.join(" "), &self.seats[self.up(*node)?].applied.join(" "))
            }
        }
    }
}

/// What a replica holds in a slot, in memory or, where it knows it chosen, on disk.
fn held(replica: &Replica, seat: &Seat, slot: Slot) -> String {
    match replica.held(slot) {
        Some((Some(ballot), entry)) => format!("accepted {ballot} {}", show::entry(entry)),
        Some((None, entry)) => format!("chosen {}", show::entry(entry)),
        None if slot < replica.first_unchosen() => match seat.read(SlotRange { first: slot, end: slot.next() }).first()
        {
            Some(entry) => format!("chosen {}", show::entry(entry)),
            None => "lost".into(),
        },
        None => "empty".into(),
    }
}

/// What a stranger could say.
impl Forgery {
    pub(super) fn body(&self, now: Instant) -> Body {
        match self {
            Forgery::Prepare { ballot, from } => Body::Prepare(Prepare { ballot: *ballot, from: *from }),
            Forgery::Accept { ballot, slot, prefix } => Body::Accept(Accept {
                ballot: *ballot,
                first: *slot,
                prefix: *prefix,
                entries: Entries::one(Entry::Noop),
            }),
            Forgery::Refused { ballot, promised } => Body::Refused(Refused {
                ballot: *ballot,
                asker_boot: Boot { counter: 1, nonce: u64::from(ballot.node.0) },
                promised: *promised,
            }),
            Forgery::Heartbeat { ballot, prefix } => Body::Heartbeat(Box::new(Heartbeat {
                leading: Some(*ballot),
                following: None,
                contact: true,
                can_vote: true,
                prefix: *prefix,
                first_unchosen: Slot::FIRST,
                room: 16,
                round: 0,
                sent_us: now.as_us(),
                echo: None,
            })),
        }
    }
}
