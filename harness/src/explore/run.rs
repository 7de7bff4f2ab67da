//! Running an exploration to its end or to a cap.

use std::time::{Duration, Instant};

use stateright::{Checker, Model, Path};

use super::{Choice, Cluster, Exploration};

/// States wait in memory for their turn, some kilobytes each.
const VISITS_MAX: usize = 2_000_000_000;

/// What an exploration came to.
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// States visited, the same ones again included.
    pub visits: usize,
    /// The longest way to a state, in choices.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether nothing is left to visit.
    pub exhausted: bool,
    /// Whether the last slot of the log was chosen in any state.
    pub chose: bool,
    /// The way to a state in which a rule is broken, if there is one.
    pub broken: Option<Path<Cluster, Choice>>,
}

/// Visits every state, depth first, or as many as the cap allows.
pub fn explore(exploration: Exploration, cap: Duration, threads: usize) -> Explored {
    let begun = Instant::now();
    let checker = exploration.checker().timeout(cap).target_state_count(VISITS_MAX).threads(threads).spawn_dfs().join();
    let took = begun.elapsed();
    Explored {
        states: checker.unique_state_count(),
        visits: checker.state_count(),
        depth: checker.max_depth(),
        took,
        exhausted: took < cap && checker.state_count() < VISITS_MAX,
        chose: checker.discovery("the last slot is chosen").is_some(),
        broken: checker.discovery("no rule is broken"),
    }
}
