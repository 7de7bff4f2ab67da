//! quickcheck over sequences of events: three replicas of the core over disks in memory, messages, syncs and ticks in any
//! order, crashes; judged by the invariants. A sequence that fails is shrunk by quickcheck to a short one.

use std::cell::RefCell;

use paxos_core::{ElectionPolicy, QuorumSystem};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use transport_sim::{Bare, Blow, Move, Schedule, Trace, Violation};

use crate::invariants::Invariants;

/// One event, with a smaller one in its place when a sequence is shrunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step(Move);

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        let byte = |g: &mut Gen| u8::arbitrary(g);
        // Of most kinds a few at a time, so that something gets done between two faults.
        let node = byte(g);
        Step(match byte(g) % 40 {
            0..10 => Move::Run { ms: 1 + u16::from(byte(g)) * 2, loss: 0, twice: 0, lazy: 0, late: 0 },
            10..12 => Move::Run { ms: 1 + u16::from(byte(g)), loss: 0x40, twice: 0x40, lazy: 0x40, late: 0x20 },
            12..18 => Move::Deliver { pick: u16::from(byte(g) % 8) },
            18..21 => Move::Sync { node, count: 1 + byte(g) % 4 },
            21..23 => Move::Tick { node },
            23..30 => Move::Propose { node, count: 1 + byte(g) % 4 },
            30 => Move::Read { node },
            31 => Move::Repeat { pick: u16::from(byte(g) % 8) },
            32 => Move::Drop { pick: u16::from(byte(g) % 8) },
            33 => Move::Pass { ms: u16::from(byte(g)) },
            34..36 => Move::Crash { node, keep: byte(g) % 4 },
            36 => Move::Restart { node },
            37 => Move::Cut { link: node, both: bool::arbitrary(g) },
            38 => Move::Heal,
            _ => Move::Depose { node, side: byte(g), how: Blow::Crash { keep: byte(g) % 4 } },
        })
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Step>> {
        let smaller: Vec<Move> = match self.0 {
            Move::Run { ms, loss, twice, lazy, late } => {
                let fair = Move::Run { ms, loss: 0, twice: 0, lazy: 0, late: 0 };
                let shorter = Move::Run { ms: ms / 2, loss, twice, lazy, late };
                [fair, shorter].into_iter().filter(|run| *run != self.0 && ms > 1).collect()
            }
            Move::Propose { node, count } if count > 1 => vec![Move::Propose { node, count: 1 }],
            Move::Sync { node, count } if count > 1 => vec![Move::Sync { node, count: 1 }],
            Move::Deliver { pick } if pick > 0 => vec![Move::Deliver { pick: 0 }],
            Move::Crash { node, keep } if keep > 0 => vec![Move::Crash { node, keep: 0 }],
            _ => Vec::new(),
        };
        Box::new(smaller.into_iter().map(Step))
    }
}

/// What the sequence breaks, three voters taking part.
fn judge(steps: &[Step]) -> Result<(), Violation> {
    let schedule = Schedule {
        voters: 3,
        quorum: QuorumSystem::Majority,
        election: ElectionPolicy::Stable,
        window: 16,
        drift: false,
        run_entries_max: 4,
        seed: 1,
        moves: steps.iter().map(|step| step.0).collect(),
    };
    let bare = Bare::run(&schedule, Invariants::new(), Trace::silent())?;
    CHOSEN.with_borrow_mut(|chosen| *chosen += bare.observer.tally().chosen);
    Ok(())
}

thread_local! {
    /// The last sequence of this thread that failed, and what it broke: when quickcheck is done, the smallest.
    static FAILED: RefCell<Option<(Vec<Step>, Violation)>> = const { RefCell::new(None) };
    /// Slots chosen in all sequences of this thread.
    static CHOSEN: RefCell<u64> = const { RefCell::new(0) };
}

fn holds(steps: Vec<Step>) -> bool {
    match judge(&steps) {
        Ok(()) => true,
        Err(violation) => {
            FAILED.set(Some((steps, violation)));
            false
        }
    }
}

/// So many sequences of up to so many events, always the same ones.
fn check(tests: u64, events_max: usize, seed: u64) -> Result<(), (Vec<Step>, Violation)> {
    FAILED.set(None);
    let mut quickcheck = QuickCheck::new().rng(Gen::from_size_and_seed(events_max, seed)).tests(tests);
    match quickcheck.quicktest(holds as fn(Vec<Step>) -> bool) {
        Ok(_) => Ok(()),
        Err(_) => Err(FAILED.take().expect("what failed was kept")),
    }
}

#[test]
fn any_sequence_of_events_keeps_the_invariants() {
    const SEQUENCES: u64 = 2_000;
    assert_eq!(check(SEQUENCES, 120, 1), Ok(()));
    let chosen = CHOSEN.take();
    println!("{chosen} slots chosen");
    assert!(chosen > 5 * SEQUENCES, "only {chosen} slots chosen");
}

/// A sequence that fails is as good as the shortest one that it shrinks to.
#[cfg(paxos_mutants)]
#[test]
fn mutants_shrink_to_short_sequences() {
    use paxos_core::mutants::{self, Mutant};
    const EVENTS_MAX: usize = 15;
    // Those that break every run, one without events too, would prove nothing.
    let cases = [Mutant::VoteCountedTwice, Mutant::PromiseForgottenAtStart, Mutant::VotesForgottenAtStart];
    for mutant in cases {
        mutants::set(Some(mutant));
        let found = check(2_000, 120, 1);
        let again = found.as_ref().err().map(|(steps, _)| judge(steps).err().map(|violation| violation.invariant));
        mutants::set(None);
        let (steps, violation) = found.expect_err("caught");
        println!("{mutant:?}: {} in {} events {steps:?}", violation.invariant, steps.len());
        assert_eq!(again, Some(Some(violation.invariant)), "{mutant:?}");
        assert_eq!(judge(&steps), Ok(()), "{mutant:?}: the sequence breaks nothing else");
        assert!((1..=EVENTS_MAX).contains(&steps.len()), "{mutant:?}: {} events", steps.len());
    }
}
