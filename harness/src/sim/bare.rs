//! Seeds of bare replicas: a random schedule each.

use paxos_core::{ElectionPolicy, Instant};
use transport_sim::{Bare, Concern, Rng, Schedule, Trace};

use super::Outcome;
use crate::invariants::Invariants;

/// Runs the schedule of a seed.
pub fn run(seed: u64, election: ElectionPolicy, steps: Option<u64>, trace: Trace) -> Outcome {
    let moves = Rng::new(seed, Concern::Workload).log_uniform(100, 4_000) as usize;
    let schedule = Schedule::random(seed, election, moves);
    let started = Instant::from_us(1_000_000);
    let mut outcome = Outcome::new(seed, trace.hash());
    let mut bare = match Bare::new(&schedule, Invariants::new(), trace) {
        Ok(bare) => bare,
        Err(violation) => return Outcome { violation: Some(violation), ..outcome },
    };
    let limit = steps.unwrap_or(u64::MAX);
    for step in &schedule.moves {
        if bare.steps() >= limit || outcome.violation.is_some() {
            break;
        }
        outcome.violation = bare.make(*step).err();
    }
    if outcome.violation.is_none() && bare.steps() < limit {
        outcome.violation = bare.settle().err();
    }
    outcome.steps = bare.steps();
    outcome.simulated_us = bare.now().since_us(started);
    outcome.hash = bare.trace.hash();
    outcome.tally = bare.observer.tally();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_replicas_keep_the_invariants_under_both_policies() {
        for (election, seeds) in [(ElectionPolicy::Stable, 60), (ElectionPolicy::HighestId, 20)] {
            let mut chosen = 0;
            for seed in 1..=seeds {
                let outcome = run(seed, election, None, Trace::silent());
                assert_eq!(outcome.violation, None, "seed {seed} under {election:?}");
                chosen += outcome.tally.chosen;
            }
            assert!(chosen > seeds * 5, "only {chosen} slots chosen");
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
