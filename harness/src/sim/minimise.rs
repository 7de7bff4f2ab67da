//! Makes a failing run small: less and less happens, as long as the same invariant breaks.
//!
//! First with decisions drawn: whatever comes after the violation goes, whole kinds of fault, commands, clients, nodes;
//! since every decision is drawn from its address alone, what is left meets the fates that it met before. Then the
//! decisions are listed, and those that departed from the plain world go by kinds, by streams, and one by one
//! (ddmin: Zeller and Hildebrandt, 2002). What is left is a script in which everything listed is needed, if time
//! sufficed to try.

mod edits;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use paxos_core::Instant;
use transport_sim::{Asks, Decision, Fault, START, Scenario, Script, Violation};

use self::edits::{SIMPLER, asks_of, ddmin, every_time, kind_of, members, with_asks, without_node};
use super::cluster::{self, Run, Wanted};

/// A run that breaks an invariant with little in it.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// The run.
    pub script: Script,
    /// What it breaks, as it is seen there.
    pub violation: Violation,
    /// Steps that it takes.
    pub steps: u64,
    /// How many faults, commands and decisions there were in the run that was found.
    pub len_before: usize,
    /// How many runs it took.
    pub runs: u64,
    /// Whether nothing was left to try when it ended.
    pub finished: bool,
}

impl Minimal {
    /// The script with what it shows above it, as it is kept in a file.
    pub fn text(&self) -> String {
        let Minimal { script, violation, .. } = self;
        format!("# Breaks {}: {}\n{script}", violation.invariant, violation.detail.replace('\n', " "))
    }
}

impl fmt::Display for Minimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Minimal { script, violation, steps, len_before, runs, finished } = self;
        let scenario = &script.scenario;
        let rest = if *finished { "" } else { ", time ran out" };
        write!(
            f,
            "{} steps, {} nodes, {} commands, {} faults and {} decisions of {len_before} in all ({runs} runs{rest}); {}",
            steps,
            members(scenario).len(),
            scenario.clients.iter().map(|manner| manner.asks.count()).sum::<u64>(),
            scenario.faults.len(),
            script.decisions.len(),
            violation
        )
    }
}

/// Makes the run of a scenario small that breaks an invariant, or `None` if it breaks none.
pub fn minimise(scenario: &Scenario, budget: Duration) -> Option<Minimal> {
    let started = std::time::Instant::now();
    let mut search = Search { invariant: None, runs: 0, started, until: budget / 2 };
    let found = search.drawn(scenario.clone())?;
    search.invariant = Some(found.violation.invariant);
    let len_before = found.script.len();
    let mut drawn = Draft { scenario: scenario.clone(), found };
    let Scenario { clients, calm_us, rest_us, .. } = &drawn.found.script.scenario;
    let (clients, calm_us, rest_us) = (clients.clone(), *calm_us, *rest_us);
    drawn.scenario = Scenario { clients, calm_us, rest_us, ..drawn.scenario };
    search.cut(&mut drawn);
    let mut finished = search.repeat(&mut drawn, Search::reduce_scenario);
    search.until = budget;
    let mut listed = Draft { scenario: drawn.found.script.scenario.clone(), found: drawn.found };
    finished &= search.repeat(&mut listed, Search::reduce_script);
    let Found { script, violation, steps, .. } = listed.found;
    Some(Minimal { script, violation, steps, len_before, runs: search.runs, finished })
}

/// The smallest run so far.
struct Draft {
    /// What it is made from: of drawn runs, with their chances.
    scenario: Scenario,
    found: Found,
}

impl Draft {
    /// What tells whether a round made it smaller.
    fn size(&self) -> (usize, usize, u64) {
        let script = &self.found.script;
        (script.len(), script.scenario.genesis.membership().members().count(), self.found.steps)
    }
}

/// A run that breaks the invariant.
struct Found {
    /// What was decided up to the violation, and nothing more.
    script: Script,
    /// Its decisions, each with its moment.
    decided: Vec<(Instant, Decision)>,
    violation: Violation,
    steps: u64,
    /// From the begin of the world to the violation, in microseconds.
    at_us: u64,
}

struct Search {
    /// The violation must be of this one; of any as long as it is not known.
    invariant: Option<&'static str>,
    runs: u64,
    started: std::time::Instant,
    until: Duration,
}

/// Rounds in which nothing may be smaller at the end: a fixed point is reached long before.
const ROUNDS_MAX: usize = 16;

impl Search {
    fn is_late(&self) -> bool {
        self.started.elapsed() > self.until
    }

    /// Repeats a round until it changes nothing: true, or until time is over: false.
    fn repeat(&mut self, draft: &mut Draft, round: fn(&mut Search, &mut Draft)) -> bool {
        for _ in 0..ROUNDS_MAX {
            let before = draft.size();
            round(self, draft);
            if self.is_late() {
                return false;
            }
            if draft.size() >= before {
                return true;
            }
        }
        false
    }

    /// Runs a scenario whose decisions are drawn.
    fn drawn(&mut self, scenario: Scenario) -> Option<Found> {
        self.runs += 1;
        self.found(cluster::run_scenario(scenario, self.wanted()))
    }

    /// Runs a script.
    fn listed(&mut self, script: &Script) -> Option<Found> {
        self.runs += 1;
        self.found(cluster::replay(script, self.wanted()))
    }

    fn wanted(&self) -> Wanted {
        /// More than any seed takes by far; a run that edits made endless ends here.
        const STEPS_MAX: u64 = 2_000_000;
        Wanted { steps: Some(STEPS_MAX), script: true, ..Wanted::nothing() }
    }

    fn found(&self, run: Run) -> Option<Found> {
        let Run { outcome, script, decided, .. } = run;
        let violation = outcome.violation?;
        if self.invariant.is_some_and(|invariant| invariant != violation.invariant) {
            return None;
        }
        Some(Found { script: script?, decided, violation, steps: outcome.steps, at_us: outcome.simulated_us })
    }

    /// Tries a scenario with drawn decisions in the place of the one before.
    fn try_drawn(&mut self, draft: &mut Draft, scenario: Scenario) -> bool {
        if self.is_late() || scenario == draft.scenario {
            return false;
        }
        let Some(found) = self.drawn(scenario.clone()) else { return false };
        *draft = Draft { scenario, found };
        true
    }

    /// Tries a script in the place of the one before.
    fn try_listed(&mut self, draft: &mut Draft, script: Script) -> bool {
        if self.is_late() || script == draft.found.script {
            return false;
        }
        let Some(found) = self.listed(&script) else { return false };
        *draft = Draft { scenario: found.script.scenario.clone(), found };
        true
    }

    /// Tries another scenario with the decisions of the script in the place of the one before: each at the moment at
    /// which it was taken, since other messages may have its number now, and if that does not do, each at its number.
    fn try_edited(&mut self, draft: &mut Draft, scenario: Scenario, decided: &[(Instant, Decision)]) -> bool {
        if self.is_late() || scenario == draft.scenario {
            return false;
        }
        if decided.is_empty() {
            return self.try_listed(draft, Script { scenario, ..draft.found.script.clone() });
        }
        self.runs += 1;
        if let Some(found) = self.found(cluster::retake(&scenario, decided, self.wanted())) {
            *draft = Draft { scenario: found.script.scenario.clone(), found };
            return true;
        }
        self.try_listed(draft, Script { scenario, ..draft.found.script.clone() })
    }

    /// As `try_edited`, at the moments that they have.
    fn try_scenario(&mut self, draft: &mut Draft, scenario: Scenario) -> bool {
        let decided = draft.found.decided.clone();
        self.try_edited(draft, scenario, &decided)
    }

    /// Ends a run behind its violation: faults and commands that come later go.
    fn cut(&mut self, draft: &mut Draft) {
        let (mut scenario, at_us) = (draft.scenario.clone(), draft.found.at_us);
        if at_us >= scenario.faults_us {
            return;
        }
        let end = START.plus_us(at_us);
        scenario.faults_us = at_us + 1;
        scenario.faults.retain(|(at, _)| *at <= end);
        scenario.late.retain(|(_, at)| *at <= end);
        for manner in &mut scenario.clients {
            if let Asks::Listed(asks) = &mut manner.asks {
                asks.retain(|ask| ask.due <= end);
            }
        }
        self.try_drawn(draft, scenario);
    }

    /// One round over a run whose decisions are drawn: whole kinds first, then faults, commands and nodes.
    fn reduce_scenario(&mut self, draft: &mut Draft) {
        for kind in 0..Fault::NAMES.len() {
            let mut scenario = draft.scenario.clone();
            scenario.faults.retain(|(_, fault)| fault.kind() != kind);
            self.try_drawn(draft, scenario);
        }
        for simplify in SIMPLER {
            let mut scenario = draft.scenario.clone();
            simplify(&mut scenario);
            self.try_drawn(draft, scenario);
        }
        for node in members(&draft.scenario) {
            if let Some(scenario) = without_node(&draft.scenario, node) {
                self.try_drawn(draft, scenario);
            }
        }
        for client in draft.scenario.clients.iter().map(|manner| manner.client).collect::<Vec<_>>() {
            let mut scenario = draft.scenario.clone();
            scenario.clients.retain(|manner| manner.client != client);
            self.try_drawn(draft, scenario);
        }
        let faults = draft.scenario.faults.clone();
        ddmin(faults, |faults| {
            let scenario = Scenario { faults: faults.to_vec(), ..draft.scenario.clone() };
            self.try_drawn(draft, scenario)
        });
        let asks = asks_of(&draft.scenario);
        ddmin(asks, |asks| {
            let scenario = with_asks(&draft.scenario, asks);
            self.try_drawn(draft, scenario)
        });
        self.cut(draft);
    }

    /// One round over a script: decisions by kinds, by streams, one by one; then all else again.
    fn reduce_script(&mut self, draft: &mut Draft) {
        let kinds: BTreeSet<_> = draft.found.script.decisions.iter().map(kind_of).collect();
        for kind in kinds {
            self.try_without(draft, |decision| kind_of(decision) == kind);
        }
        let streams: BTreeSet<_> =
            draft.found.script.decisions.iter().map(|decision| (decision.stream, kind_of(decision))).collect();
        for (stream, kind) in streams {
            self.try_without(draft, |decision| decision.stream == stream && kind_of(decision) == kind);
        }
        let decisions = draft.found.script.decisions.clone();
        ddmin(decisions, |decisions| {
            let script = Script { decisions: decisions.to_vec(), ..draft.found.script.clone() };
            self.try_listed(draft, script)
        });
        for node in members(&draft.scenario) {
            if let Some(scenario) = without_node(&draft.scenario, node) {
                self.try_scenario(draft, scenario);
            }
        }
        let faults = draft.scenario.faults.clone();
        ddmin(faults, |faults| {
            let scenario = Scenario { faults: faults.to_vec(), ..draft.scenario.clone() };
            self.try_scenario(draft, scenario)
        });
        let asks = asks_of(&draft.scenario);
        ddmin(asks, |asks| {
            let scenario = with_asks(&draft.scenario, asks);
            self.try_scenario(draft, scenario)
        });
        for simplify in SIMPLER {
            let mut scenario = draft.scenario.clone();
            simplify(&mut scenario);
            self.try_scenario(draft, scenario);
        }
        self.squeeze(draft);
        let mut scenario = draft.scenario.clone();
        scenario.clients.retain(|manner| manner.asks.count() > 0);
        self.try_scenario(draft, scenario);
        if draft.found.at_us < draft.scenario.faults_us {
            let (mut scenario, at_us) = (draft.scenario.clone(), draft.found.at_us);
            scenario.faults_us = at_us + 1;
            scenario.faults.retain(|(at, _)| *at <= START.plus_us(at_us));
            self.try_scenario(draft, scenario);
        }
    }

    /// Lets things that are far apart come sooner, and last less long.
    fn squeeze(&mut self, draft: &mut Draft) {
        /// Gaps that are not worth a run, in microseconds.
        const GAP_US_MIN: u64 = 20_000;
        let mut times: BTreeSet<u64> = BTreeSet::from([0]);
        every_time(&mut draft.scenario.clone(), &mut |at| _ = times.insert(at.since_us(START)));
        // From the last one on, so that times before it stay what they are.
        for pair in times.into_iter().collect::<Vec<u64>>().windows(2).rev() {
            let (before, gap) = (pair[0], pair[1] - pair[0]);
            for shift in [gap * 7 / 8, gap / 2, gap / 4] {
                if gap < GAP_US_MIN {
                    break;
                }
                let mut scenario = draft.scenario.clone();
                scenario.faults_us = scenario.faults_us.saturating_sub(shift);
                let mut decided = draft.found.decided.clone();
                let mut sooner = |at: &mut Instant| {
                    if at.since_us(START) > before {
                        *at = START.plus_us(at.since_us(START).saturating_sub(shift).max(before));
                    }
                };
                every_time(&mut scenario, &mut sooner);
                decided.iter_mut().for_each(|(at, _)| sooner(at));
                if self.try_edited(draft, scenario, &decided) {
                    break;
                }
            }
        }
        for at in 0..draft.scenario.faults.len() {
            for divisor in [8, 2] {
                let mut scenario = draft.scenario.clone();
                let Some((_, fault)) = scenario.faults.get_mut(at) else { break };
                for us in fault.times_us() {
                    *us = (*us / divisor).max(1_000).min(*us);
                }
                if self.try_scenario(draft, scenario) {
                    break;
                }
            }
        }
    }

    fn try_without(&mut self, draft: &mut Draft, goes: impl Fn(&Decision) -> bool) -> bool {
        let mut script = draft.found.script.clone();
        script.decisions.retain(|decision| !goes(decision));
        self.try_listed(draft, script)
    }
}
