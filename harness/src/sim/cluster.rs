//! Worlds of whole nodes: the scenario of a seed, or a script.

use paxos_core::ElectionPolicy;
use transport_sim::{Scenario, Script, Trace, Violation, World};

use super::Outcome;
use crate::invariants::Invariants;

/// Runs the scenario of a seed.
pub fn run(seed: u64, election: ElectionPolicy, steps: Option<u64>, trace: Trace) -> Outcome {
    match draw(seed, election, trace) {
        Ok(world) => end(world, seed, steps).0,
        Err(violation) => Outcome { violation: Some(violation), ..Outcome::new(seed, 0) },
    }
}

/// Runs the scenario of a seed and writes everything down that decides the run.
pub fn record(seed: u64, election: ElectionPolicy, steps: Option<u64>, trace: Trace) -> (Outcome, Option<Script>) {
    match draw(seed, election, trace) {
        Ok(mut world) => {
            world.keep_decisions();
            let (outcome, world) = end(world, seed, steps);
            (outcome, Some(world.script()))
        }
        Err(violation) => (Outcome { violation: Some(violation), ..Outcome::new(seed, 0) }, None),
    }
}

/// Runs a script.
pub fn replay(script: &Script, steps: Option<u64>, trace: Trace) -> Outcome {
    let seed = script.scenario.seed;
    match World::replay(script, judge(&script.scenario), trace) {
        Ok(world) => end(world, seed, steps).0,
        Err(violation) => Outcome { violation: Some(violation), ..Outcome::new(seed, 0) },
    }
}

fn judge(scenario: &Scenario) -> Invariants {
    Invariants::with_clients(scenario.limits.sessions_max)
}

fn draw(seed: u64, election: ElectionPolicy, trace: Trace) -> Result<World<Invariants>, Violation> {
    let drawn = Scenario::draw(seed, election).map_err(|error| Violation::new("start", error.to_string()));
    drawn.and_then(|scenario| World::new(scenario.clone(), judge(&scenario), trace))
}

fn end(mut world: World<Invariants>, seed: u64, steps: Option<u64>) -> (Outcome, World<Invariants>) {
    let violation = world.run(steps.unwrap_or(u64::MAX)).err();
    let report = world.report();
    let outcome = Outcome {
        seed,
        steps: report.steps,
        simulated_us: report.simulated_us,
        hash: world.trace.hash(),
        tally: world.observer.tally(),
        report,
        violation,
    };
    (outcome, world)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_nodes_keep_the_invariants_under_both_policies() {
        for (election, seeds) in [(ElectionPolicy::Stable, 24), (ElectionPolicy::HighestId, 12)] {
            for seed in 1..=seeds {
                let outcome = run(seed, election, None, Trace::silent());
                assert_eq!(outcome.violation, None, "seed {seed} under {election:?}");
                assert!(outcome.simulated_us >= transport_sim::FAULTS_US_MIN, "seed {seed}");
                assert!(outcome.report.asked >= transport_sim::COMMANDS_MIN, "seed {seed}");
            }
        }
    }

    #[test]
    fn the_same_seed_is_the_same_trace() {
        let hashes: Vec<u64> =
            [3, 3, 4].map(|seed| run(seed, ElectionPolicy::Stable, None, Trace::silent()).hash).into();
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }
}
