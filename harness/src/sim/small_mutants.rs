//! Runs that fail are made small, kept as scripts, and go on showing what they were kept for: proven on rules broken on
//! purpose, as `mutants`.

use std::time::Duration;

use paxos_core::ElectionPolicy;
use paxos_core::mutants::{self, Mutant};
use transport_sim::{Scenario, Script};

use super::cluster::{self, Wanted};
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

/// Minimal runs of three kinds of defect. `PAXOS_BLESS=1` keeps them as the regression scripts.
#[test]
fn mutants_are_made_small() {
    /// Faults, commands and decisions that the smallest of a few minimal runs has at the most; the runs found have
    /// hundreds at least, and those that fail late ten thousands. A run can only be cut down, not led to the point by a
    /// shorter way, and so a single one may end somewhat larger.
    const LEN_MAX: usize = 24;
    for ((mutant, name), budget) in KEPT.into_iter().zip([100, 20, 1_000]) {
        mutants::set(Some(mutant));
        let mut smallest: Option<(usize, String)> = None;
        for (seed, invariant) in caught(3, budget) {
            mutants::set(Some(mutant));
            let scenario = Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
            let minimal = minimise(&scenario, Duration::from_secs(60)).expect("the run fails again");
            println!("{mutant:?} in seed {seed}: {minimal}");
            let script: Script = minimal.text().parse().expect("what was written can be read");
            assert_eq!(minimal.violation.invariant, invariant, "{mutant:?} breaks what it broke");
            assert_eq!(broken(&script), Some(invariant), "{mutant:?} breaks it in the script");
            mutants::set(None);
            assert_eq!(broken(&script), None, "{}", minimal.text());
            assert!(script.len() * 10 <= minimal.len_before, "{mutant:?}: {minimal}");
            if smallest.as_ref().is_none_or(|(len, _)| script.len() < *len) {
                smallest = Some((script.len(), minimal.text()));
            }
            if script.len() <= LEN_MAX {
                break;
            }
        }
        mutants::set(None);
        let (len, text) = smallest.expect("it is caught");
        assert!(len <= LEN_MAX, "{mutant:?}: {len}");
        if std::env::var_os("PAXOS_BLESS").is_some() {
            std::fs::write(kept::path(name, "script"), text).expect("the script is written");
        }
    }
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
