//! Seeds of whole nodes: a scenario each.

use paxos_core::ElectionPolicy;
use transport_sim::{START, Scenario, Trace, Violation, World};

use super::Outcome;
use crate::invariants::Invariants;

/// Runs the scenario of a seed.
pub fn run(seed: u64, election: ElectionPolicy, steps: Option<u64>, trace: Trace) -> Outcome {
    let mut outcome = Outcome::new(seed, trace.hash());
    let made = Scenario::draw(seed, election).map_err(|error| Violation::new("start", error.to_string())).and_then(
        |scenario| {
            let calm_from = if scenario.is_calm() { START } else { START.plus_us(scenario.faults_us) };
            let judge = Invariants::with_clients(scenario.limits.sessions_max).calm_from(calm_from);
            World::new(scenario, judge, trace)
        },
    );
    let mut world = match made {
        Ok(world) => world,
        Err(violation) => return Outcome { violation: Some(violation), ..outcome },
    };
    outcome.violation = world.run(steps.unwrap_or(u64::MAX)).err();
    outcome.report = world.report();
    outcome.steps = outcome.report.steps;
    outcome.simulated_us = outcome.report.simulated_us;
    outcome.hash = world.trace.hash();
    outcome.tally = world.observer.tally();
    outcome
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
