//! Seeds of whole nodes: a scenario each.

use paxos_core::ElectionPolicy;
use transport_sim::{Scenario, Trace, Violation, World};

use super::Outcome;
use crate::invariants::Invariants;

/// Runs the scenario of a seed.
pub fn run(seed: u64, election: ElectionPolicy, steps: Option<u64>, trace: Trace) -> Outcome {
    let mut outcome = Outcome::new(seed, trace.hash());
    let made = Scenario::draw(seed, election)
        .map_err(|error| Violation::new("start", error.to_string()))
        .and_then(|scenario| World::new(scenario, Invariants::with_clients(), trace));
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
