//! Rules broken on purpose are caught by the simulator within a budget of seeds. Run it by name: a mutant breaks the
//! whole process, the tests beside it included.
//! `RUSTFLAGS="--cfg paxos_mutants" cargo test -p harness --lib mutant`

use paxos_core::mutants::{self, Mutant};

use super::{Args, Election, WorldKind, run_seed};

/// The first seed that catches a mutant, and the invariant that it broke.
fn caught(world: WorldKind, budget: u64) -> Option<(u64, &'static str)> {
    let args = Args::of(world, Election::Stable);
    (1..=budget).find_map(|seed| run_seed(&args, seed).violation.map(|broken| (seed, broken.invariant)))
}

#[test]
fn mutants_are_caught() {
    let cases = [
        (Mutant::VoteCountedTwice, WorldKind::Bare, 100),
        (Mutant::VoteCountedTwice, WorldKind::Node, 100),
        (Mutant::TestimonyBeforeSync, WorldKind::Bare, 20),
        (Mutant::TestimonyBeforeSync, WorldKind::Node, 20),
        (Mutant::PlainFirstUnchosenIndex, WorldKind::Bare, 1_000),
        (Mutant::PlainFirstUnchosenIndex, WorldKind::Node, 1_000),
    ];
    for (mutant, world, budget) in cases {
        mutants::set(Some(mutant));
        let found = caught(world, budget);
        mutants::set(None);
        println!("{mutant:?} in {world:?}: {found:?}");
        assert!(found.is_some(), "{mutant:?} survived {budget} seeds of {world:?}");
    }
}
