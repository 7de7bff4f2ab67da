//! What an exploration finds, that it finds what is there, and that what it leaves out does nothing.
//! `RUSTFLAGS="--cfg paxos_model --cfg paxos_mutants" cargo test -p harness --features explore --lib explore`

use std::time::Duration;

use paxos_core::mutants::Mutant;

use super::{Broken, Exploration, Explored, configurations, explore, explore_by_stateright, explore_doubting};

const CAP: Duration = Duration::from_secs(300);

const SMALL: [&str; 6] = [
    "one slot, two proposers",
    "one slot, two proposers, slow disks",
    "one slot, two proposers, one crash",
    "two slots, two proposers",
    "two slots, two proposers of two commands each",
    "two slots, two proposers, one crash",
];

fn named(wanted: &str) -> Exploration {
    let found = configurations().into_iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("no configuration {wanted}")).1
}

#[test]
fn nothing_is_broken_and_stateright_visits_the_same_states() {
    for name in SMALL {
        let (ours, theirs) = (explore(named(name), CAP), explore_by_stateright(named(name), CAP));
        let counts = |explored: &Explored| (explored.states, explored.visits, explored.depth, explored.broken.clone());
        println!("{name}: {:?}", counts(&ours));
        assert_eq!(counts(&ours), counts(&theirs), "{name}");
        assert!(ours.exhausted && theirs.exhausted && ours.chose && theirs.chose && ours.broken.is_none(), "{name}");
    }
}

#[test]
fn what_is_forgotten_does_nothing_later_and_what_is_taken_for_one_does_the_same() {
    for name in SMALL {
        let (explored, tried) = explore_doubting(named(name), CAP);
        println!("{name}: {} nodes that were taken for others", tried.clone().unwrap_or(0));
        assert_eq!((explored.exhausted, explored.broken), (true, None), "{name}");
        assert!(tried.is_ok_and(|tried| tried > 0), "{name}");
    }
}

#[test]
fn reads_across_a_change_of_leader_are_granted_and_none_is_stale() {
    let name = "reads across a change of leader";
    let explored = explore(named(name), CAP);
    println!("{} states, {} steps grant a read", explored.states, explored.served);
    assert!(explored.exhausted && explored.chose && explored.served > 0 && explored.broken.is_none());
}

#[test]
fn mutants_are_found_by_exploration() {
    let cases = [
        (Mutant::Phase1QuorumTooSmall, "one slot, two proposers"),
        (Mutant::Phase2QuorumTooSmall, "one slot, two proposers"),
        (Mutant::FirstValueWins, "one slot, two proposers of two ballots each"),
        (Mutant::OneBallotVariable, "one slot, two proposers of two ballots each"),
        (Mutant::PromiseBeforeSync, "one slot, two proposers, one crash, slow disks"),
        (Mutant::VoteBeforeSync, "one slot, two proposers, slow disks"),
        (Mutant::BallotNotWritten, "one slot, two proposers, one crash, slow disks"),
        (Mutant::AnsweredBeforeChosen, "one slot, two proposers"),
        (Mutant::VoteCountedTwice, "one slot, two proposers, slow disks"),
        (Mutant::HoleSkipped, "two slots, two proposers of two commands each"),
        (Mutant::PlainFirstUnchosenIndex, "two slots, two proposers of two commands each"),
        (Mutant::ReadWithoutRound, "reads across a change of leader"),
        (Mutant::ReadBeforeInherited, "reads across a change of leader"),
    ];
    for (mutant, name) in cases {
        let explored = explore(Exploration { mutant: Some(mutant), ..named(name) }, CAP);
        let broken = explored.broken.map(|(rule, _)| rule);
        println!("{mutant:?}: {broken:?} after {} states, {:?}", explored.states, explored.took);
        let told = match &broken {
            Some(Broken::ChosenTwice(_) | Broken::NotChosen(..) | Broken::AppliedWrongly(..)) => true,
            Some(Broken::StaleRead(..)) => name.starts_with("reads"),
            _ => false,
        };
        assert!(told, "{mutant:?} in {name}: {broken:?}");
    }
}

/// Rules of the core are why a message may be forgotten; where they are broken it does something after all.
#[test]
fn mutants_show_what_was_forgotten_too_early() {
    let cases = [
        (Mutant::AcceptBelowPromise, "one slot, two proposers"),
        (Mutant::LatePromiseRebinds, "one slot, two proposers of two ballots each"),
        (Mutant::ForeignVoteCounted, "one slot, two proposers of two ballots each"),
    ];
    for (mutant, name) in cases {
        let explored = explore(Exploration { mutant: Some(mutant), ..named(name) }, CAP);
        let broken = explored.broken.map(|(rule, _)| rule);
        println!("{mutant:?}: {broken:?} after {} states, {:?}", explored.states, explored.took);
        assert!(matches!(broken, Some(Broken::ForgottenTooEarly(_))), "{mutant:?} in {name}: {broken:?}");
    }
}
