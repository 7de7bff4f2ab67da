//! A script is its run: replayed unedited it is the same one, step by step, wherever the run was stopped.

use paxos_core::ElectionPolicy;
use transport_sim::{Concern, Rng, Scenario, Script};

use super::cluster::{self, Run, Wanted};

/// Runs a scenario, or the beginning of it, and writes it down.
fn recorded(scenario: &Scenario, steps: Option<u64>) -> (Run, Script) {
    let mut run = cluster::run_scenario(scenario.clone(), Wanted { steps, script: true, ..Wanted::nothing() });
    let script = run.script.take().expect("it was wanted");
    let again: Script = script.to_string().parse().expect("what was written can be read");
    assert!(again == script, "seed {}", scenario.seed);
    (run, script)
}

/// A replay must end as the run did.
fn is_same(script: &Script, steps: u64, run: &Run, of: &str) {
    let seed = script.scenario.seed;
    let replay = cluster::replay(script, Wanted { steps: Some(steps), ..Wanted::nothing() });
    assert_eq!(replay.outcome.violation, run.outcome.violation, "seed {seed}, {of}: violation");
    assert_eq!(replay.outcome.steps, run.outcome.steps, "seed {seed}, {of}: steps");
    assert_eq!(replay.outcome.simulated_us, run.outcome.simulated_us, "seed {seed}, {of}: time");
    assert_eq!(replay.outcome.hash, run.outcome.hash, "seed {seed}, {of}: hash");
}

/// The script of a seed is the seed's run; so is every beginning of it, written down there or cut off there.
/// Returns whether the run broke an invariant.
pub(super) fn is_faithful(seed: u64, election: ElectionPolicy, cuts: u64) -> bool {
    let scenario = Scenario::draw(seed, election).expect("a legal scenario");
    let (run, script) = recorded(&scenario, None);
    is_same(&script, u64::MAX, &run, "in full");
    // Most of what scripts can miss is in the beginning of things.
    let mut rng = Rng::keyed(seed, Concern::Schedule, 1, 2);
    for _ in 0..cuts {
        let steps = rng.log_uniform(1, run.outcome.steps.max(1));
        let (beginning, short) = recorded(&scenario, Some(steps));
        is_same(&short, steps, &beginning, &format!("written down after {steps} steps"));
        is_same(&script, steps, &beginning, &format!("cut off after {steps} steps"));
    }
    run.outcome.violation.is_some()
}

#[test]
fn a_script_is_its_run_wherever_it_was_stopped() {
    for election in [ElectionPolicy::Stable, ElectionPolicy::HighestId] {
        for seed in 1..=24 {
            assert!(!is_faithful(seed, election, 2), "seed {seed}");
        }
    }
}
