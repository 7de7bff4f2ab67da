//! Exhaustive exploration: the core itself, every order of deliveries, syncs, crashes and time-outs, up to a bound.
//!
//! Where a simulator draws schedules, this visits all of them: the state of a cluster is the replicas as they are (cloned,
//! not described), their disks and the messages that were ever sent. A message stays in the network for good, so it can
//! arrive late, twice, or never. Clocks stand still and every timer is a free choice.
//!
//! `RUSTFLAGS="--cfg paxos_model" cargo bench -p harness --features explore --bench explore` runs the configurations of
//! [`configurations`] and reports states, depth, and whether everything was visited.

mod catalogue;
mod cluster;
mod disk;
mod model;
mod network;
mod node;
mod run;
#[cfg(all(test, paxos_mutants))]
mod tests;
mod verdict;
mod visited;

pub use cluster::Cluster;
pub use model::{Choice, Exploration, Explorer};
pub use run::{Explored, explore, explore_by_stateright, explore_doubting};
pub use verdict::Broken;

/// What is explored, by name; the smaller ones first.
pub fn configurations() -> Vec<(&'static str, Exploration)> {
    let base = Exploration {
        voters: 3,
        proposers: 2,
        ballots: 1,
        commands: 1,
        slots: 1,
        crashes: 0,
        slow_disks: false,
        reads: 0,
        #[cfg(paxos_mutants)]
        mutant: None,
    };
    vec![
        ("one slot, two proposers", base),
        ("one slot, two proposers, slow disks", Exploration { slow_disks: true, ..base }),
        ("one slot, two proposers, one crash", Exploration { crashes: 1, ..base }),
        ("two slots, two proposers", Exploration { slots: 2, ..base }),
        ("two slots, two proposers of two commands each", Exploration { slots: 2, commands: 2, ..base }),
        ("one slot, two proposers, one crash, slow disks", Exploration { crashes: 1, slow_disks: true, ..base }),
        ("two slots, two proposers, one crash", Exploration { slots: 2, crashes: 1, ..base }),
        ("one slot, two proposers of two ballots each", Exploration { ballots: 2, ..base }),
        ("two slots, two proposers of two ballots each", Exploration { ballots: 2, slots: 2, ..base }),
        ("one slot, two proposers of two ballots each, one crash", Exploration { ballots: 2, crashes: 1, ..base }),
        ("reads across a change of leader", Exploration { reads: 1, ..base }),
        (
            "two slots, two proposers of two ballots each, one crash",
            Exploration { ballots: 2, slots: 2, crashes: 1, ..base },
        ),
    ]
}
