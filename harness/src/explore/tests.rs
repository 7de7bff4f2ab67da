//! What an exploration finds, and that it finds what is there: the rules broken on purpose too.
//! `RUSTFLAGS="--cfg paxos_model --cfg paxos_mutants" cargo test -p harness --features explore --lib mutant`

use std::time::Duration;

use paxos_core::mutants::Mutant;

use super::{Broken, Exploration, configurations, explore};

const CAP: Duration = Duration::from_secs(60);

fn named(wanted: &str) -> Exploration {
    let found = configurations().into_iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("no configuration {wanted}")).1
}

#[test]
fn mutants_are_found_by_exploration_and_nothing_is_without_one() {
    for name in ["one slot, two proposers", "one slot, two proposers, slow disks", "two slots, two proposers"] {
        let explored = explore(named(name), CAP);
        println!("{name}: {} states, {:?}", explored.states, explored.took);
        let broken = explored.broken.map(|(rule, _)| rule);
        assert_eq!((explored.exhausted, explored.chose, broken), (true, true, None), "{name}");
    }
    let cases = [
        (Mutant::VoteCountedTwice, "one slot, two proposers, slow disks"),
        (Mutant::VoteBeforeSync, "one slot, two proposers, slow disks"),
        (Mutant::PlainFirstUnchosenIndex, "two slots, two proposers of two commands each"),
    ];
    for (mutant, name) in cases {
        let explored = explore(Exploration { mutant: Some(mutant), ..named(name) }, CAP);
        let broken = explored.broken.map(|(rule, _)| rule);
        println!("{mutant:?}: {broken:?} after {} states, {:?}", explored.states, explored.took);
        let told = matches!(broken, Some(Broken::NotChosen(..) | Broken::ChosenTwice(_) | Broken::AppliedWrongly(..)));
        assert!(told, "{mutant:?} in {name}: {broken:?}");
    }
}
