//! Runs that broke a rule once: each was found by reading the protocol against the code, and stays as a test.

use super::*;

fn success(first: u64, entries: &[Entry]) -> Body {
    Body::Success(Success { ballot: None, first: slot(first), entries: entries.iter().cloned().collect() })
}

/// First slot, end and prefix of every Accept.
fn accepts(said: &[(NodeId, Body)]) -> Vec<(u64, u64)> {
    let runs = said.iter().filter_map(|(_, body)| match body {
        Body::Accept(accept) => Some((accept.first.get(), accept.prefix.get())),
        _ => None,
    });
    runs.collect()
}

/// The window holds four of five inherited slots when a peer tells that all five are chosen. Binding the next
/// command to 5, below the prefix that its own Accept carries, would make an acceptor mark it chosen there.
#[test]
fn rule_9_a_slot_that_was_inherited_and_learned_before_it_was_bound_is_never_bound() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 4, run_entries_max: 1, ..Config::default() });
    lone.promise_away(ballot(10, 2));
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    let entries: Vec<Entry> = (1..=5).map(|sequence| entry("x", sequence)).collect();
    let old = Some(ballot(1, 3));
    lone.promise(2, own, (1..).zip(&entries).map(|(at, entry)| held(at, old, entry.clone())).collect(), 1);
    assert_eq!(lone.replica.role(), Role::Leading { ready: false });
    lone.said();
    lone.hear(3, success(1, &entries));
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
    lone.propose(1, "d");
    lone.wait(0);
    assert_eq!(accepts(&lone.said()), vec![], "four runs are under way to each");
    assert_eq!(lone.replica.held(slot(6)).map(|held| held.0), Some(Some(own)));
}

/// C under a higher ballot chose slots 1 to 5. A candidate of a lower one is told of 5 alone, still gets its quorum,
/// re-proposes 1 to 4 and learns that they were chosen so: the next command does not belong into 5.
#[test]
fn rule_9_a_slot_that_a_candidate_learned_is_never_bound() {
    let mut lone = Lone::with(1, 3, Config { run_entries_max: 1, ..Config::default() });
    lone.promise_away(ballot(10, 2));
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    let entries: Vec<Entry> = (1..=5).map(|sequence| entry("x", sequence)).collect();
    lone.hear(3, success(5, &entries[4..]));
    let old = Some(ballot(1, 3));
    lone.promise(2, own, (1..=4).zip(&entries).map(|(at, entry)| held(at, old, entry.clone())).collect(), 1);
    lone.said();
    lone.hear(3, success(1, &entries[..4]));
    assert_eq!(lone.applied(), entries);
    lone.propose(1, "d");
    lone.wait(0);
    assert_eq!(accepts(&lone.said()), vec![], "four runs are under way to each");
    assert_eq!(lone.replica.held(slot(6)).map(|held| held.0), Some(Some(own)));
}
