//! The room for clients at their worst: huge values, replies that nobody reads, crowds. Each is in about one seed of
//! eight, mostly with the bounds so tight that they are met. All is drawn from a stream of its own, and every seed draws
//! the same numbers whether it has them or not.

use node::limits::BULK_BYTES_MAX;
use paxos_core::limits::ENTRY_HEAD_BYTES;
use paxos_core::{Config, Instant, NodeId};

use super::{START, Scenario};
use crate::client::{Asks, Large};
use crate::nemesis::Fault;
use crate::rng::Rng;

/// What is wrong with the clients of a seed.
#[derive(Clone, Copy)]
struct Rude {
    large: bool,
    slow: bool,
    crowds: bool,
    /// Nothing else goes wrong.
    alone: bool,
}

/// Makes clients worse. `calm`: nothing may go wrong. `single`: only one kind of fault may, which may then be one of
/// these.
pub(super) fn worsen(scenario: &mut Scenario, calm: bool, single: bool, rng: &mut Rng) {
    let rude = draw(calm, single, &mut rng.split());
    if rude.alone {
        scenario.faults.clear();
    }
    let (mut large, mut slow, mut crowds) = (rng.split(), rng.split(), rng.split());
    if rude.large {
        write_huge_values(scenario, &mut large);
    }
    if rude.slow {
        read_slowly(scenario, &mut slow);
    }
    if rude.crowds {
        crowd(scenario, &mut crowds);
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
}

fn draw(calm: bool, single: bool, rng: &mut Rng) -> Rude {
    let mut one_of_eight = || rng.below(8) == 0;
    let (large, slow, crowds) = (one_of_eight(), one_of_eight(), one_of_eight());
    let only = rng.below(16);
    let rude = match (calm, single, only) {
        (true, _, _) => Rude { large, slow: false, crowds: false, alone: false },
        (false, true, 0) => Rude { large, slow: true, crowds: false, alone: true },
        (false, true, 1) => Rude { large, slow: false, crowds: true, alone: true },
        (false, true, _) => Rude { large, slow: false, crowds: false, alone: false },
        (false, false, _) => Rude { large, slow, crowds, alone: false },
    };
    // Nodes need something to keep for those who do not read.
    Rude { large: rude.large || rude.slow, ..rude }
}

/// Some clients write values around the largest that there may be.
fn write_huge_values(scenario: &mut Scenario, rng: &mut Rng) {
    /// A seed's huge values in all, about: more would make campaigns slow.
    const BYTES: u64 = 256 << 10;
    const EDGE_BYTES_MIN: u64 = 1 << 10;
    const EDGE_BYTES_MAX: u64 = 16 << 10;
    /// A seed has at least so many, and at the most.
    const COUNT_MIN: u64 = 4;
    const COUNT_MAX: u64 = 64;
    let edge_bytes = rng.log_uniform(EDGE_BYTES_MIN, EDGE_BYTES_MAX) as usize;
    let more_bytes = rng.log_uniform(1, 2 * edge_bytes as u64) as usize;
    let default = Config::default();
    // One seed of sixteen has the bounds that are shipped.
    let edge_bytes = if rng.below(16) == 0 { BULK_BYTES_MAX } else { edge_bytes };
    if edge_bytes == BULK_BYTES_MAX {
        scenario.config.entry_bytes_max = default.entry_bytes_max;
        scenario.config.window_bytes = default.window_bytes;
    } else {
        scenario.config.entry_bytes_max = edge_bytes;
        scenario.config.window_bytes = edge_bytes + ENTRY_HEAD_BYTES + more_bytes;
    }
    let count = (BYTES / edge_bytes as u64).clamp(COUNT_MIN, COUNT_MAX);
    let who: Vec<bool> = scenario.clients.iter().map(|_| rng.coin()).collect();
    let nobody = !who.contains(&true);
    let asks =
        scenario.clients.iter_mut().zip(who).filter(|(_, does)| *does || nobody).map(|(manner, _)| &mut manner.asks);
    let mut asks: Vec<&mut Asks> = asks.collect();
    let operations: u64 = asks.iter().map(|asks| asks.count()).sum();
    for asks in &mut asks {
        if let Asks::Drawn { large, .. } = asks {
            *large = Some(Large { every: (operations / count).max(1), edge_bytes });
        }
    }
}

/// Some clients read nothing for a while, and nodes keep few replies.
fn read_slowly(scenario: &mut Scenario, rng: &mut Rng) {
    /// They ask for so much at once that a node has something to keep.
    const DEPTH: usize = 16;
    const OUTPUT_BYTES_MIN: u64 = 1 << 10;
    const OUTPUT_BYTES_MAX: u64 = 8 << 10;
    scenario.limits.client_output_bytes_max = rng.log_uniform(OUTPUT_BYTES_MIN, OUTPUT_BYTES_MAX) as usize;
    for _ in 0..rng.log_uniform(4, 24) {
        let (at, us) = (moment(scenario, rng), rng.log_uniform(100_000, 5_000_000));
        let place = rng.below(scenario.clients.len() as u64) as usize;
        let deep = rng.coin();
        if let Some(manner) = scenario.clients.get_mut(place) {
            manner.depth = if deep { DEPTH } else { manner.depth };
            let client = manner.client;
            scenario.faults.push((at, Fault::SlowReader { client, us }));
        }
    }
}

/// Crowds come, in half of the seeds with them to nodes that have room for few.
fn crowd(scenario: &mut Scenario, rng: &mut Rng) {
    const CONNECTIONS_MAX: u64 = 256;
    let (tight, more) = (rng.coin(), rng.between(1, 32) as usize);
    if tight {
        // Room for every client of the seed, and for some connections that clients have given up.
        scenario.limits.clients_max = scenario.clients.len() + more;
    }
    let nodes: Vec<NodeId> = scenario.genesis.membership().members().map(|member| member.node).collect();
    for _ in 0..rng.log_uniform(1, 6) {
        let (at, node) = (moment(scenario, rng), rng.pick(&nodes));
        let (connections, us) = (rng.log_uniform(8, CONNECTIONS_MAX), rng.log_uniform(1_000, 3_000_000));
        scenario.faults.push((at, Fault::Crowd { node, connections, us }));
    }
}

fn moment(scenario: &Scenario, rng: &mut Rng) -> Instant {
    START.plus_us(rng.below(scenario.faults_us))
}

#[cfg(test)]
mod tests {
    use paxos_core::ElectionPolicy;

    use super::*;

    #[test]
    fn about_one_seed_of_eight_has_each_and_all_bounds_are_legal() {
        let drawn = |seed| Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
        let scenarios: Vec<Scenario> = (1..=800).map(drawn).collect();
        for Scenario { seed, genesis, config, limits, faults, .. } in &scenarios {
            assert_eq!(config.validate(genesis), Ok(()), "seed {seed}");
            assert_eq!(limits.validate(), Ok(()), "seed {seed}");
            assert!(faults.is_sorted_by_key(|(at, _)| *at), "seed {seed}");
        }
        let count = |has: &dyn Fn(&Scenario) -> bool| scenarios.iter().filter(|scenario| has(scenario)).count();
        let is_large = |asks: &Asks| matches!(asks, Asks::Drawn { large: Some(_), .. });
        let large = count(&|scenario| scenario.clients.iter().any(|manner| is_large(&manner.asks)));
        let is_slow = |(_, fault): &(Instant, Fault)| matches!(fault, Fault::SlowReader { .. });
        let is_crowd = |(_, fault): &(Instant, Fault)| matches!(fault, Fault::Crowd { .. });
        let slow = count(&|scenario| scenario.faults.iter().any(is_slow));
        let crowds = count(&|scenario| scenario.faults.iter().any(is_crowd));
        let alone = count(&|Scenario { faults, .. }| {
            !faults.is_empty() && (faults.iter().all(is_slow) || faults.iter().all(is_crowd))
        });
        let seen = format!("{large} large, {slow} slow, {crowds} crowds, {alone} of them with nothing else");
        assert!((100..220).contains(&large) && (50..120).contains(&slow) && (50..120).contains(&crowds), "{seen}");
        assert!(alone >= 2, "{seen}");
    }
}
