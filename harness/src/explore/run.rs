//! Running an exploration to its end or to a cap, by a lean search of our own or by stateright's.

use std::time::{Duration, Instant};

use stateright::{Checker, Model, Path};

use super::cluster::Cluster;
use super::model::{Choice, Exploration, Explorer};
use super::verdict::Broken;
use super::visited::Visited;

/// What an exploration came to.
#[derive(Debug)]
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
    /// Reads that were granted, over all steps that were visited.
    pub served: usize,
    /// Different nodes, messages, and steps of one node: what the core was asked for.
    pub asked: (usize, usize, usize),
    /// The rule that is broken, if any, and how that came about.
    pub broken: Option<(Broken, String)>,
}

/// A state that waits for its turn, and how it was reached.
struct Waiting {
    state: Cluster,
    depth: usize,
    choice: Option<Choice>,
}

/// Visits every state, depth first, or as many as the cap allows; stops at the first broken rule.
pub fn explore(bounds: Exploration, cap: Duration) -> Explored {
    search(&Explorer::new(bounds), cap)
}

/// The same, trying everything that is left out nevertheless; how many nodes that were taken for others were tried, or
/// what was wrong with one.
pub fn explore_doubting(bounds: Exploration, cap: Duration) -> (Explored, Result<usize, String>) {
    let explorer = Explorer::doubting(bounds);
    let explored = search(&explorer, cap);
    let tried = explorer.catalogue().check_twins(&bounds);
    (explored, tried)
}

fn search(explorer: &Explorer, cap: Duration) -> Explored {
    let begun = Instant::now();
    let (mut visited, mut stack, mut trail, mut choices) = (Visited::new(), Vec::new(), Vec::new(), Vec::new());
    for state in explorer.init_states() {
        visited.insert(state.fingerprint());
        stack.push(Waiting { state, depth: 1, choice: None });
    }
    let (mut visits, mut depth_max, mut chose, mut served, mut broken) = (stack.len(), 0, false, 0, None);
    let mut reported = begun;
    while let Some(Waiting { state, depth, choice }) = stack.pop() {
        trail.truncate(depth.saturating_sub(2));
        trail.extend(choice);
        depth_max = depth_max.max(depth);
        chose = chose || explorer.is_last_slot_chosen(&state);
        if let Some(rule) = &state.broken {
            broken = Some((Broken::clone(rule), story(explorer, &trail)));
            break;
        }
        if visits % 4_096 < 16 && begun.elapsed() > cap {
            stack.push(Waiting { state, depth, choice: None });
            break;
        }
        if visits % 4_096 < 16 && reported.elapsed() > Duration::from_secs(60) {
            reported = Instant::now();
            eprintln!(
                "{} s: {} states, {visits} visits, depth {depth_max}, {} waiting, {} MiB, {:?}",
                begun.elapsed().as_secs(),
                visited.len(),
                stack.len(),
                visited.bytes() >> 20,
                explorer.catalogue().sizes()
            );
        }
        explorer.actions(&state, &mut choices);
        for choice in choices.drain(..) {
            let Some(next) = explorer.next_state(&state, choice.clone()) else { continue };
            visits += 1;
            served += usize::from(next.served.saturating_sub(state.served));
            if visited.insert(next.fingerprint()) {
                stack.push(Waiting { state: next, depth: depth + 1, choice: Some(choice) });
            }
        }
    }
    Explored {
        states: visited.len(),
        visits,
        depth: depth_max,
        took: begun.elapsed(),
        exhausted: stack.is_empty() && broken.is_none(),
        chose,
        served,
        asked: explorer.catalogue().sizes(),
        broken,
    }
}

/// The same by stateright's own search.
pub fn explore_by_stateright(bounds: Exploration, cap: Duration) -> Explored {
    let begun = Instant::now();
    let checker = Explorer::new(bounds).checker().timeout(cap).spawn_dfs().join();
    let took = begun.elapsed();
    let found: Option<Path<Cluster, Choice>> = checker.discovery("no rule is broken");
    let broken = found.and_then(|path| {
        let rule = path.last_state().broken.as_deref().cloned();
        Some((rule?, story(checker.model(), &path.into_actions())))
    });
    let asked = checker.model().catalogue().sizes();
    Explored {
        states: checker.unique_state_count(),
        visits: checker.state_count(),
        depth: checker.max_depth(),
        took,
        exhausted: took < cap && broken.is_none(),
        chose: checker.discovery("the last slot is chosen").is_some(),
        served: 0,
        asked,
        broken,
    }
}

/// How it came to a state, and the state.
fn story(explorer: &Explorer, trail: &[Choice]) -> String {
    let mut text = String::new();
    let Some(mut state) = explorer.init_states().pop() else { return text };
    for choice in trail {
        text += &format!("{}\n", explorer.describe_choice(&state, choice));
        let Some(next) = explorer.next_state(&state, choice.clone()) else { break };
        state = next;
    }
    text + &explorer.describe(&state)
}
