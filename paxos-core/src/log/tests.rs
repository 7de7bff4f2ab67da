//! Checks of the log in memory: its rules one by one, and all of it against a twin that knows slots and no runs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::run::cost;
use super::*;
use crate::entry::CommandId;
use crate::node_id::{Incarnation, NodeId};

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(1), generation: 0 }
}

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("tests name slots from 1")
}

fn run(from: u64, to: u64) -> SlotRange {
    SlotRange { first: slot(from), end: slot(to) }
}

fn entry(sequence: u64, bytes: usize) -> Entry {
    let id = CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence };
    Entry::Command { id, bytes: Bytes::from(alloc::vec![0; bytes]) }
}

#[test]
fn first_unchosen_passes_only_what_is_contiguous() {
    let mut log = Log::new(&Config::default(), slot(1));
    for number in [1, 2, 4] {
        log.accept_run(slot(number), ballot(1), Entries::one(Entry::Noop));
    }
    let choice = |chosen, others| Choice { chosen, others };
    assert_eq!(log.choose_accepted(run(1, 2), ballot(1)), choice(1, 0));
    assert_eq!(log.choose_accepted(run(3, 9), ballot(1)), choice(1, 0));
    assert_eq!(log.first_unchosen(), slot(2));
    assert_eq!(log.choose_accepted(run(2, 3), ballot(2)), choice(0, 1), "accepted under another ballot");
    assert_eq!(log.first_unchosen(), slot(2));
    assert_eq!(log.choose_accepted(run(2, 3), ballot(1)), choice(1, 0));
    assert_eq!(log.first_unchosen(), slot(3));
    assert_eq!(log.learn(slot(3), &Entries::one(Entry::Noop)), Ok(Some(run(3, 4))));
    assert_eq!(log.first_unchosen(), slot(5));
    assert_eq!(log.undecided_bytes(), 0);
}

#[test]
fn a_chosen_entry_is_final() {
    let mut log = Log::new(&Config::default(), slot(1));
    let other = entry(1, 5);
    let noop = Entries::one(Entry::Noop);
    assert_eq!(log.learn(slot(1), &noop), Ok(Some(run(1, 2))));
    log.accept_run(slot(1), ballot(9), Entries::one(other.clone()));
    assert_eq!(log.entry(slot(1)), Some(&Entry::Noop));
    assert_eq!(log.learn(slot(1), &Entries::one(other)), Err(Conflict(slot(1))));
    assert_eq!(log.learn(slot(1), &noop), Ok(None));
}

#[test]
fn the_window_is_bounded_in_slots_and_forgets_only_what_is_durably_chosen() {
    let config = Config { window_slots: 16, ..Config::default() };
    let mut log = Log::new(&config, slot(1));
    assert!(log.admits(slot(32)) && !log.admits(slot(33)));
    for number in 1..=8 {
        assert_eq!(log.learn(slot(number), &Entries::one(Entry::Noop)), Ok(Some(run(number, number + 1))));
    }
    assert_eq!(log.first_unchosen(), slot(9));
    log.trim(slot(3), Retain::Leader);
    assert_eq!(log.base(), slot(3));
    log.trim(slot(9), Retain::Leader);
    assert_eq!(log.base(), slot(7), "a leader keeps an eighth of its window");
    log.trim(slot(9), Retain::Follower);
    assert_eq!(log.base(), slot(8), "a follower keeps less");
    assert_eq!(log.state(slot(1)), State::Chosen);
    assert!(!log.admits(slot(7)) && log.admits(slot(40)) && !log.admits(slot(41)));
}

/// One call of the log.
#[derive(Clone, Debug)]
enum Step {
    Accept {
        first: u8,
        round: u8,
        count: u8,
    },
    /// `kept`, by bits: tells what is held there already.
    Learn {
        first: u8,
        count: u8,
        kept: u8,
    },
    Choose {
        first: u8,
        count: u8,
        round: u8,
    },
    Trim {
        below: u8,
    },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        let small = |g: &mut Gen, below: u8| u8::arbitrary(g) % below;
        match small(g, 9) {
            0..=3 => Step::Accept { first: small(g, 24), round: small(g, 3), count: small(g, 7) },
            4 | 5 => Step::Learn { first: small(g, 24), count: small(g, 9), kept: u8::arbitrary(g) },
            6 | 7 => Step::Choose { first: small(g, 24), count: small(g, 9), round: small(g, 3) },
            _ => Step::Trim { below: small(g, 24) },
        }
    }
}

/// Entries that one step brings at most.
const LONGEST_RUN: u64 = 9;

/// What the log is, slot by slot.
struct Twin {
    base: u64,
    first_unchosen: u64,
    slots: BTreeMap<u64, (State, Entry)>,
}

impl Twin {
    fn bytes(&self, from: u64, to: u64) -> usize {
        self.slots.range(from..to).map(|(_, (_, entry))| cost(entry)).sum()
    }

    fn advance(&mut self) {
        while self.slots.get(&self.first_unchosen).is_some_and(|(state, _)| *state == State::Chosen) {
            self.first_unchosen += 1;
        }
    }

    fn end(&self) -> u64 {
        self.slots.last_key_value().map_or(self.base, |(slot, _)| slot + 1)
    }
}

fn agrees(log: &Log, twin: &Twin) -> bool {
    let far = twin.end() + 3;
    let same = |number: u64| {
        let expected = match twin.slots.get(&number) {
            Some((state, entry)) => (*state, Some(entry)),
            None if number < twin.base => (State::Chosen, None),
            None => (State::Empty, None),
        };
        (log.state(slot(number)), log.entry(slot(number))) == expected
    };
    let held: Vec<Entry> = twin.slots.range(twin.base..).map(|(_, (_, entry))| entry.clone()).collect();
    let spans = log.spans(SlotRange { first: log.base(), end: log.end() });
    let in_runs: Vec<Entry> = spans.flat_map(|span| span.entries.to_vec()).collect();
    let sums = (log.chosen_bytes, log.undecided_bytes);
    (1..far).all(same)
        && held == in_runs
        && (log.base().get(), log.first_unchosen().get(), log.end().get())
            == (twin.base, twin.first_unchosen, twin.end())
        && sums == (twin.bytes(twin.base, twin.first_unchosen), twin.bytes(twin.first_unchosen, u64::MAX))
}

/// Runs are an encoding: whatever they are cut into, each slot holds what it would hold by itself.
#[test]
fn the_log_is_what_a_map_of_slots_is() {
    fn property(steps: Vec<Step>) -> bool {
        let config = Config { window_slots: 16, ..Config::default() };
        let mut log = Log::new(&config, slot(1));
        let mut twin = Twin { base: 1, first_unchosen: 1, slots: BTreeMap::new() };
        let mut sequence = 0;
        let mut fresh = || {
            sequence += 1;
            entry(sequence, sequence as usize % 5)
        };
        steps.into_iter().all(|step| {
            take(step, &mut log, &mut twin, &mut fresh);
            agrees(&log, &twin)
        })
    }
    QuickCheck::new().tests(3_000).quickcheck(property as fn(Vec<Step>) -> bool);
}

fn take(step: Step, log: &mut Log, twin: &mut Twin, fresh: &mut impl FnMut() -> Entry) {
    match step {
        Step::Accept { first, round, count } => {
            let first = twin.base + u64::from(first);
            let entries: Vec<Entry> = (0..count).map(|_| fresh()).collect();
            if !(first..first + u64::from(count)).all(|number| log.admits(slot(number))) || entries.is_empty() {
                return;
            }
            for (number, entry) in (first..).zip(&entries) {
                if twin.slots.get(&number).is_none_or(|(state, _)| *state != State::Chosen) {
                    twin.slots.insert(number, (State::Accepted(ballot(u64::from(round))), entry.clone()));
                }
            }
            log.accept_run(slot(first), ballot(u64::from(round)), entries.into());
        }
        Step::Learn { first, count, kept } => {
            let first = twin.base.saturating_sub(3).max(1) + u64::from(first);
            let told: Vec<Entry> = (first..first + u64::from(count))
                .map(|number| match twin.slots.get(&number) {
                    Some((state, held)) if *state == State::Chosen || kept >> (number % 8) & 1 == 1 => held.clone(),
                    Some(_) | None => fresh(),
                })
                .collect();
            let mut new = None;
            let base = twin.base;
            for (number, entry) in (first..).zip(&told).filter(|(number, _)| *number >= base) {
                twin.advance();
                if number >= twin.first_unchosen + 32 {
                    break;
                }
                if twin.slots.get(&number).is_none_or(|(_, held)| held != entry) {
                    new = Some(run(new.map_or(number, |new: SlotRange| new.first.get()), number + 1));
                }
                twin.slots.insert(number, (State::Chosen, entry.clone()));
            }
            assert_eq!(log.learn(slot(first), &told.into()), Ok(new));
            twin.advance();
        }
        Step::Choose { first, count, round } => {
            let first = twin.base + u64::from(first);
            let mut choice = Choice::default();
            for (_, (state, _)) in twin.slots.range_mut(first..first + u64::from(count)) {
                match *state {
                    State::Accepted(of) if of == ballot(u64::from(round)) => {
                        choice.chosen += 1;
                        *state = State::Chosen;
                    }
                    State::Accepted(_) => choice.others += 1,
                    State::Chosen | State::Empty => {}
                }
            }
            let slots = SlotRange::of(slot(first), usize::from(count));
            assert_eq!(log.choose_accepted(slots, ballot(u64::from(round))), choice);
            twin.advance();
        }
        Step::Trim { below } => {
            let below = twin.base + u64::from(below);
            log.trim(slot(below), Retain::Leader);
            // Whole runs are forgotten, at the earliest when the last of their slots may be.
            let least = below.min(twin.first_unchosen.saturating_sub(16 >> 3)).max(twin.base);
            let base = log.base().get();
            assert!(base >= twin.base && base <= least && least - base < LONGEST_RUN, "{base} {least}");
            twin.slots.retain(|slot, _| *slot >= base);
            twin.base = base;
        }
    }
}
