//! A unit test per rule, named after it: one replica, hand-written messages of its peers, and what it answers.

use alloc::boxed::Box;
use alloc::vec::Vec;
use std::vec;

use bytes::Bytes;

use crate::*;

mod agreement;
mod leadership;
mod lone;
mod runs;

use lone::Lone;

const CLUSTER: ClusterId = ClusterId::new(7);
const BOOT: Boot = Boot { counter: 1, nonce: 9 };

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("tests name slots from 1")
}

fn ballot(round: u64, node: u32) -> Ballot {
    Ballot { round, node: NodeId(node), generation: 0 }
}

fn incarnation(node: u32) -> Incarnation {
    Incarnation(100 + u64::from(node))
}

fn genesis(voters: u32) -> Genesis {
    let member = |node| Member { node: NodeId(node), incarnation: incarnation(node), generation: 0 };
    let membership = Membership::new((1..=voters).map(member).collect(), vec![], QuorumSystem::Majority);
    Genesis::new(membership.expect("valid"), 4_096).expect("valid")
}

fn entry(text: &'static str, sequence: u64) -> Entry {
    let id = CommandId { node: NodeId(2), incarnation: incarnation(2), boot: 1, sequence };
    Entry::Command { id, bytes: Bytes::from_static(text.as_bytes()) }
}

fn accept(ballot: Ballot, first: u64, entries: &[Entry], prefix: u64) -> Body {
    let entries = entries.iter().cloned().collect();
    Body::Accept(Accept { ballot, first: slot(first), prefix: slot(prefix), entries })
}

fn heartbeat(leading: Option<Ballot>, prefix: u64, sent_us: u64) -> Heartbeat {
    Heartbeat {
        leading,
        following: None,
        contact: true,
        can_vote: true,
        prefix: slot(prefix),
        first_unchosen: slot(prefix),
        room: 8_192,
        round: 0,
        sent_us,
        echo: None,
    }
}

fn held(number: u64, accepted: Option<Ballot>, entry: Entry) -> Held {
    Held { slot: slot(number), accepted, entry }
}

fn accepted_runs(said: &[(NodeId, Body)]) -> Vec<(Ballot, u64, u64)> {
    let runs = said.iter().filter_map(|(_, body)| match body {
        Body::Accepted(accepted) => Some((accepted.ballot, accepted.slots.first.get(), accepted.slots.end.get())),
        _ => None,
    });
    runs.collect()
}

#[test]
fn a_read_waits_for_a_quorum_to_echo_a_round_that_began_after_it() {
    let mut lone = Lone::new(1, 3);
    let own = lone.lead();
    lone.event(Event::Read { tag: Tag(1) });
    lone.wait(1_000);
    let echo = |leading, round, sent_us| Some(Echo { boot: BOOT, sent_us, leading, round });
    let ready = |lone: &Lone| lone.others.iter().filter(|action| matches!(action, Action::ReadReady { .. })).count();
    let reply = |lone: &mut Lone, echo| {
        lone.now_us += 1;
        lone.hear(2, Body::Heartbeat(Box::new(Heartbeat { echo, ..heartbeat(None, 1, lone.now_us) })));
    };
    reply(&mut lone, echo(Some(own), 0, 1));
    reply(&mut lone, echo(None, 1, 2));
    reply(&mut lone, echo(Some(ballot(own.round, 3)), 1, 3));
    assert_eq!(ready(&lone), 0, "an older round, a refusal, another ballot count nothing");
    reply(&mut lone, echo(Some(own), 1, 4));
    assert_eq!(ready(&lone), 1);
    lone.event(Event::Read { tag: Tag(2) });
    lone.hear(3, Body::Prepare(Prepare { ballot: ballot(own.round + 1, 3), from: slot(1) }));
    assert!(lone.others.iter().any(|action| matches!(action, Action::ReadFailed { tag: Tag(2), .. })));
}

#[test]
fn strangers_and_other_clusters_touch_nothing() {
    let mut lone = Lone::new(1, 3);
    let body = Body::Prepare(Prepare { ballot: ballot(3, 2), from: slot(1) });
    let good = Header { cluster: CLUSTER, from: NodeId(2), incarnation: incarnation(2), boot: BOOT };
    let strangers = [
        Header { cluster: ClusterId::new(8), ..good },
        Header { incarnation: Incarnation(1), ..good },
        Header { from: NodeId(4), incarnation: incarnation(4), ..good },
        Header { from: NodeId(1), incarnation: incarnation(1), ..good },
    ];
    for header in strangers {
        lone.event(Event::Message(Message { header, body: body.clone() }));
    }
    assert_eq!((lone.said(), lone.replica.promised()), (vec![], None));
    assert_eq!(lone.replica.stats().messages_foreign, 4);
}

#[test]
fn single_decree_paxos_is_a_log_of_one_slot() {
    let mut lone = Lone::with(1, 1, Config { last_slot: Some(Slot::FIRST), ..Config::default() });
    lone.wait(1);
    lone.sync();
    lone.propose(1, "the value");
    lone.propose(2, "another");
    lone.wait(0);
    lone.sync();
    assert!(matches!(&lone.applied()[..], [Entry::Command { bytes, .. }] if bytes == "the value"));
    assert!(
        lone.others
            .iter()
            .any(|action| matches!(action, Action::ProposalRefused { tag: Tag(2), error: ProposeError::LogFull }))
    );
}

#[test]
fn a_restarted_replica_applies_its_log_again_from_the_disk() {
    let mut lone = Lone::new(1, 1);
    lone.wait(1);
    lone.sync();
    lone.propose(1, "a");
    lone.wait(0);
    lone.sync();
    lone.wait(60_000); // the mark is lazy: a heartbeat interval
    lone.sync();
    let applied = lone.applied();
    let mut lone = lone.restart();
    assert_eq!(lone.replica.first_unchosen(), slot(2));
    lone.wait(1);
    let asked = lone.others.iter().find_map(|action| match action {
        Action::FetchLog { id, slots, .. } => Some((*id, *slots)),
        _ => None,
    });
    let (id, slots) = asked.expect("slot 1 is on disk only");
    assert_eq!(slots, SlotRange::of(slot(1), 1));
    lone.event(Event::Fetched { id, first: slot(1), entries: applied.iter().cloned().collect() });
    assert_eq!(lone.applied(), applied);
}

/// The model checker's view: state is a value, tickets can be copied, timers fire as it likes.
#[cfg(paxos_model)]
#[test]
fn a_model_checker_owns_the_state() {
    let mut lone = Lone::new(1, 3);
    lone.hear(2, accept(ballot(2, 2), 1, &[entry("x", 1)], 1));
    let branch = lone.replica.clone();
    let digest = |replica: &Replica| replica.digest(Instant::from_us(0));
    assert_eq!(digest(&branch), digest(&lone.replica));
    let copies = lone.tickets.clone();
    lone.sync();
    assert_ne!(digest(&branch), digest(&lone.replica));
    assert_eq!(copies.len(), 2);
    let mut actions = Vec::new();
    lone.replica.fire(Instant::from_us(0), Reason::Election, &mut actions);
    assert_eq!(lone.replica.role(), Role::Preparing, "no condition holds a free timer back");
}

/// Lists of entries that a leader fills again are its own: a copy of it never fills the same ones.
#[test]
fn a_leader_and_its_copies_propose_apart() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 32, ..Config::default() });
    let ballot = lone.lead();
    for number in 1..=64u64 {
        // What is older than a few slots is forgotten, and its lists wait to be filled again.
        lone.propose(number, "one");
        lone.wait(0);
        lone.sync();
        lone.accepted(2, ballot, number, 1);
        lone.sync();
        lone.records.clear();
        lone.sent.clear();
        lone.others.clear();
        let mut copy = lone.replica.clone();
        let mut actions = Vec::new();
        let now = Instant::from_us(lone.now_us);
        copy.handle(now, Event::Propose { tag: Tag(900), command: Bytes::from_static(b"two") }, &mut actions);
        copy.handle(now, Event::Tick, &mut actions);
        let sent = actions.iter().filter_map(|action| match action {
            Action::Send { body: Body::Accept(accept), .. } => Some(accept.entries.to_vec()),
            _ => None,
        });
        let said = |run: Vec<Entry>| run.iter().filter_map(Entry::command).cloned().collect::<Vec<Bytes>>();
        let sent: Vec<Vec<Bytes>> = sent.map(said).collect();
        assert_eq!(sent, [[Bytes::from_static(b"two")]], "one run of its own proposal leaves, after {number}");
    }
}
