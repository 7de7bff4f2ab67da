//! Runs that fail are made small, kept as scripts, and go on showing what they were kept for: proven on rules broken on
//! purpose, as `mutants`.

use std::time::Duration;

use paxos_core::ElectionPolicy;
use paxos_core::mutants::{self, Mutant};
use transport_sim::{Scenario, Script};

use super::cluster::{self, Wanted};
use super::faithful::is_faithful;
use super::minimise::minimise;
use super::{Args, Election, WorldKind, kept, run_seed};

/// The first seeds that catch a mutant, and the invariants that it broke.
fn caught(count: usize, budget: u64) -> Vec<(u64, &'static str)> {
    let args = Args::of(WorldKind::Node, Election::Stable);
    let broken = |seed| run_seed(&args, seed).violation.map(|broken| (seed, broken.invariant));
    (1..=budget).filter_map(broken).take(count).collect()
}

/// The run that shows a mutant, as small as it was made, kept for ever.
const KEPT: [(Mutant, &str); 3] = [
    (Mutant::VoteCountedTwice, "vote-counted-twice"),
    (Mutant::VoteBeforeSync, "vote-before-sync"),
    (Mutant::PlainFirstUnchosenIndex, "plain-first-unchosen-index"),
];

/// What a script breaks.
fn broken(script: &Script) -> Option<&'static str> {
    cluster::replay(script, Wanted::nothing()).outcome.violation.map(|violation| violation.invariant)
}

/// Minimal runs of three kinds of defect, whichever seed showed them. `PAXOS_BLESS=1` keeps the first of each as the
/// regression scripts.
#[test]
fn mutants_are_made_small() {
    /// Faults, commands and decisions that a minimal run has at the most; the runs found have hundreds, and those that
    /// fail late ten thousands.
    const LEN_MAX: usize = 12;
    /// Of each mutant, so many failing seeds are made small, the first one always, and how far they are looked for. The
    /// third one of a vote before its sync breaks at a command of which the script knows only that it was due.
    const FIRST: [(usize, u64); 3] = [(2, 100), (3, 20), (1, 1_000)];
    for ((mutant, name), (count, budget)) in KEPT.into_iter().zip(FIRST) {
        mutants::set(Some(mutant));
        let found = caught(count, budget);
        assert_eq!(found.len(), count, "{mutant:?} is caught");
        for (at, (seed, invariant)) in found.into_iter().enumerate() {
            mutants::set(Some(mutant));
            let scenario = Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
            let minimal = minimise(&scenario, Duration::from_secs(60)).expect("the run fails again");
            println!("{mutant:?} in seed {seed}: {minimal}");
            let script: Script = minimal.text().parse().expect("what was written can be read");
            assert_eq!(minimal.violation.invariant, invariant, "{mutant:?} breaks what it broke");
            assert_eq!(broken(&script), Some(invariant), "{mutant:?} breaks it in the script");
            mutants::set(None);
            assert_eq!(broken(&script), None, "{}", minimal.text());
            assert!(script.len() <= LEN_MAX && script.len() * 10 <= minimal.len_before, "{mutant:?}: {minimal}");
            if at == 0 && std::env::var_os("PAXOS_BLESS").is_some() {
                std::fs::write(kept::path(name, "script"), minimal.text()).expect("the script is written");
            }
        }
    }
}

/// Whatever a broken rule makes of a run, its script is that run: with the violation, and without it, cut off before.
#[test]
fn mutants_run_again_as_their_scripts_say() {
    /// Seeds that each mutant may take.
    const SEEDS_MAX: u64 = 16;
    let mut broken = 0;
    for mutant in super::mutants::of_whole_nodes() {
        mutants::set(Some(mutant));
        let found = caught(1, SEEDS_MAX).pop();
        let seed = found.map_or(SEEDS_MAX, |(seed, _)| seed);
        let breaks = is_faithful(seed, ElectionPolicy::Stable, 2);
        mutants::set(None);
        println!("{mutant:?}: {found:?}");
        assert_eq!(breaks, found.is_some(), "{mutant:?}");
        broken += usize::from(breaks);
    }
    assert!(broken >= 12, "{broken} mutants were caught");
}

/// As `paxos sim` does it: the script of a failing seed is there, and its replay fails.
#[test]
fn mutants_leave_a_script_behind() {
    let dir = std::env::temp_dir().join(format!("paxos-sim-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    mutants::set(Some(Mutant::VoteBeforeSync));
    let args = Args { scripts: dir.clone(), ..Args::of(WorldKind::Node, Election::Stable) };
    super::make_small(&Args { minimise_seconds: 60, ..args }, 1);
    let script = super::replay::read(&dir.join("seed-1.script")).expect("a script");
    let broken = broken(&script);
    mutants::set(None);
    std::fs::remove_dir_all(dir).expect("the directory is ours");
    assert!(broken.is_some());
}

/// The kept scripts go on showing what they were kept for; if the core says other things at other times now, and one
/// does not, find it anew with `PAXOS_BLESS=1`.
#[test]
fn mutants_break_the_scripts_that_are_kept() {
    for (mutant, name) in KEPT {
        let text = std::fs::read_to_string(kept::path(name, "script")).expect("the script is there");
        let script: Script = text.parse().unwrap_or_else(|misread| panic!("{name}: {misread}"));
        mutants::set(Some(mutant));
        let broken = broken(&script);
        mutants::set(None);
        let expected = text.lines().next().and_then(|line| line.strip_prefix("# Breaks ")?.split(':').next());
        assert!(broken.is_some() && broken == expected, "{name} breaks {broken:?}, not {expected:?}");
    }
}
