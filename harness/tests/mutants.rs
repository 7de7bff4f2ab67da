//! Rules broken on purpose are caught by the simulator within a budget of seeds. Only a build with
//! `RUSTFLAGS="--cfg paxos_mutants"` has them.
#![cfg(paxos_mutants)]

use harness::sim::{self, Election, WorldKind};
use paxos_core::mutants::{self, Mutant};

/// The first seed that catches a mutant, and the invariant that it broke.
fn caught(world: WorldKind, election: Election, budget: u64) -> Option<(u64, &'static str)> {
    let args = sim::Args::of(world, election);
    (1..=budget).find_map(|seed| sim::run_seed(&args, seed).violation.map(|broken| (seed, broken.invariant)))
}

#[test]
fn three_broken_rules_are_caught() {
    // One test, since a mutant breaks the whole process.
    let cases = [
        (Mutant::VoteCountedTwice, WorldKind::Bare, 200),
        (Mutant::TestimonyBeforeSync, WorldKind::Bare, 200),
        (Mutant::PlainFirstUnchosenIndex, WorldKind::Bare, 1_000),
    ];
    for (mutant, world, budget) in cases {
        mutants::set(Some(mutant));
        let found = caught(world, Election::Stable, budget);
        mutants::set(None);
        println!("{mutant:?} in {world:?}: {found:?}");
        assert!(found.is_some(), "{mutant:?} survived {budget} seeds of {world:?}");
    }
}
