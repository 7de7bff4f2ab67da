//! Worlds of whole nodes: the scenario of a seed, or a script.

use paxos_core::{ElectionPolicy, Instant};
use transport_sim::{Decision, Fact, Moment, Observer, Scenario, Script, Trace, Violation, World};

use super::Outcome;
use super::budget::Budget;
use super::chart::Chart;
use super::healing::Healing;
use super::histories::{Judged, Recorder};
use super::probes::Watcher;
use super::stuck;
use crate::invariants::Invariants;

/// What is wanted of a run beside its outcome.
#[derive(Debug)]
pub struct Wanted {
    /// Where its trace goes.
    pub trace: Trace,
    /// After how many steps it ends.
    pub steps: Option<u64>,
    /// Everything that decided it.
    pub script: bool,
    /// Everything that happened.
    pub chart: bool,
}

impl Wanted {
    /// Nothing but the outcome.
    pub fn nothing() -> Wanted {
        Wanted { trace: Trace::silent(), steps: None, script: false, chart: false }
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What decided it, if that was wanted.
    pub script: Option<Script>,
    /// The decisions of the script, each with its moment.
    pub decided: Vec<(Instant, Decision)>,
    /// What happened, if that was wanted.
    pub chart: Option<Chart>,
}

/// The judge, and who looks on beside it.
#[derive(Debug)]
pub struct Watch {
    scenario: Scenario,
    judge: Invariants,
    watcher: Watcher,
    recorder: Recorder,
    healing: Healing,
    budget: Budget,
    chart: Option<Chart>,
}

impl Observer for Watch {
    fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
        if let Some(chart) = &mut self.chart {
            chart.keep(moment, fact);
        }
        self.watcher.see(moment, fact, &self.judge);
        self.recorder.see(fact);
        self.budget.see(moment, fact);
        self.judge.see(moment, fact)?;
        self.healing.see(moment, fact, &self.judge)
    }
}

/// Runs the scenario of a seed.
pub fn run(seed: u64, election: ElectionPolicy, wanted: Wanted) -> Run {
    match Scenario::draw(seed, election) {
        Ok(scenario) => run_scenario(scenario, wanted),
        Err(error) => Run::failed(seed, Violation::new("start", error.to_string())),
    }
}

/// Runs a scenario, its decisions drawn.
pub fn run_scenario(scenario: Scenario, wanted: Wanted) -> Run {
    let (seed, watch) = (scenario.seed, Watch::new(&scenario, wanted.chart));
    Run::of(seed, World::new(scenario, watch, wanted.trace), wanted.steps, wanted.script)
}

/// Runs a script.
pub fn replay(script: &Script, wanted: Wanted) -> Run {
    let (seed, watch) = (script.scenario.seed, Watch::new(&script.scenario, wanted.chart));
    Run::of(seed, World::replay(script, watch, wanted.trace), wanted.steps, wanted.script)
}

/// Runs a scenario with decisions of a run much like it, each at its moment.
pub fn retake(scenario: &Scenario, decided: &[(Instant, Decision)], wanted: Wanted) -> Run {
    let watch = Watch::new(scenario, wanted.chart);
    Run::of(scenario.seed, World::retake(scenario, decided, watch, wanted.trace), wanted.steps, wanted.script)
}

impl Watch {
    fn new(scenario: &Scenario, chart: bool) -> Watch {
        let judge = Invariants::with_clients(scenario.limits.sessions_max)
            .entries_of(scenario.config.entry_bytes_max)
            .calm_from(scenario.calm_from());
        Watch {
            scenario: scenario.clone(),
            judge,
            watcher: Watcher::default(),
            recorder: Recorder::default(),
            healing: Healing::new(scenario),
            budget: Budget::new(scenario),
            chart: chart.then(Chart::default),
        }
    }

    /// What the world is about.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What is known of the world.
    pub fn judge(&self) -> &Invariants {
        &self.judge
    }

    /// Looks at a run as a whole; `rested` if it ended by itself.
    fn judge_whole(&self, rested: bool) -> Result<Judged, Violation> {
        if rested {
            self.budget.judge(&self.judge.tally())?;
        }
        self.recorder.judge(|operation| self.judge.slot_of(operation))
    }
}

impl Run {
    fn failed(seed: u64, violation: Violation) -> Run {
        let outcome = Outcome { violation: Some(violation), ..Outcome::new(seed, 0) };
        Run { outcome, script: None, decided: Vec::new(), chart: None }
    }

    fn of(seed: u64, world: Result<World<Watch>, Violation>, steps: Option<u64>, script: bool) -> Run {
        let mut world = match world {
            Ok(world) => world,
            Err(violation) => return Run::failed(seed, violation),
        };
        if script {
            world.keep_decisions();
        }
        let mut stuck = None;
        let ran = world.run(steps.unwrap_or(u64::MAX)).or_else(|violation| {
            if violation.invariant == "liveness" {
                stuck = Some(stuck::classify(&world, &violation)?);
                return Ok(());
            }
            Err(violation)
        });
        let (report, watch) = (world.report(), &world.observer);
        let rested = ran.is_ok() && stuck.is_none() && steps.is_none_or(|steps| report.steps < steps);
        let judged = ran.and_then(|()| watch.judge_whole(rested));
        let outcome = Outcome {
            seed,
            steps: report.steps,
            simulated_us: report.simulated_us,
            hash: world.trace.hash(),
            tally: watch.judge.tally(),
            probes: watch.watcher.probes(&watch.judge),
            report,
            histories: judged.clone().unwrap_or_default(),
            stuck,
            decided_us: watch.healing.decided_us(),
            spent: watch.budget.spent(&watch.judge.tally()),
            violation: judged.err(),
        };
        let (script, decided) = (script.then(|| world.script()), world.decided().to_vec());
        Run { outcome, script, decided, chart: world.observer.chart.take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_nodes_keep_the_invariants_under_both_policies() {
        for (election, seeds) in [(ElectionPolicy::Stable, 24), (ElectionPolicy::HighestId, 12)] {
            for seed in 1..=seeds {
                let outcome = run(seed, election, Wanted::nothing()).outcome;
                assert_eq!(outcome.violation, None, "seed {seed} under {election:?}");
                assert!(outcome.simulated_us >= transport_sim::FAULTS_US_MIN, "seed {seed}");
                assert!(outcome.report.asked >= transport_sim::COMMANDS_MIN, "seed {seed}");
            }
        }
    }

    #[test]
    fn the_same_seed_is_the_same_trace() {
        let hashes: Vec<u64> =
            [3, 3, 4].map(|seed| run(seed, ElectionPolicy::Stable, Wanted::nothing()).outcome.hash).into();
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }
}
