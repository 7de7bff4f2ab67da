//! Campaigns: many seeds on many threads, what they came to together, and what they never met.

use std::collections::BTreeMap;
use std::process::ExitCode;

use transport_sim::{Fault, Report, Violation};

use super::histories::Judged;
use super::probes::{PROBE_COUNT, Probes};
use super::stuck::Class;
use super::{Args, Outcome, WorldKind, failure, run_seed, say};
use crate::invariants::Tally;

/// Runs many seeds; a failure says how to run its seed again.
pub(super) fn campaign(args: &Args, seeds: u64) -> ExitCode {
    use std::sync::atomic::{AtomicU64, Ordering};
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1);
    let next = AtomicU64::new(args.first);
    let end = args.first.saturating_add(seeds);
    let started = std::time::Instant::now();
    let total = std::sync::Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = judged_twice(args, seed);
                    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    total.add(&outcome);
                    if let Some(violation) = &outcome.violation {
                        failure(args, seed, violation);
                    }
                    if total.failed >= 5 {
                        next.store(end, Ordering::Relaxed);
                    }
                    let due = total.printed.is_none_or(|printed| printed.elapsed().as_secs() >= 5);
                    if due && total.seeds < seeds {
                        total.printed = Some(std::time::Instant::now());
                        say(format_args!("{}", total.line(started.elapsed().as_secs_f64())));
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    say(format_args!("{}", total.line(started.elapsed().as_secs_f64())));
    total.describe(args.world);
    let missed = args.world == WorldKind::Node && total.misses_probes(args.probes_required);
    if total.failed > 0 || missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a seed, and some seeds again: the trace must be the same.
fn judged_twice(args: &Args, seed: u64) -> Outcome {
    /// One seed in so many runs again, which costs a campaign little.
    const SEEDS_PER_REPEAT: u64 = 64;
    let mut outcome = run_seed(args, seed);
    if outcome.violation.is_none() && seed.is_multiple_of(SEEDS_PER_REPEAT) {
        let again = run_seed(args, seed);
        if again.hash != outcome.hash {
            let why = format!("hash {:016x} and then {:016x}", outcome.hash, again.hash);
            outcome.violation = Some(Violation::new("same-seed-same-trace", why));
        }
    }
    outcome
}

#[derive(Default)]
struct Total {
    seeds: u64,
    failed: u64,
    steps: u64,
    simulated_us: u64,
    tally: Tally,
    report: Report,
    probes: Probes,
    histories: Judged,
    stuck: BTreeMap<Class, u64>,
    decided_us: u64,
    /// Calm seeds, the fewest commands that one answered in a busy second, and the most messages for a slot and peer.
    calm: (u64, u64, u64),
    printed: Option<std::time::Instant>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(outcome.violation.is_some());
        self.steps += outcome.steps;
        self.simulated_us += outcome.simulated_us;
        self.tally.add(&outcome.tally);
        self.report.add(&outcome.report);
        self.probes.add(&outcome.probes);
        self.histories.add(&outcome.histories);
        if let Some(class) = outcome.stuck {
            *self.stuck.entry(class).or_default() += 1;
        }
        if let Some((commands, messages)) = outcome.spent {
            let (seeds, least, most) = self.calm;
            self.calm = (seeds + 1, if seeds == 0 { commands } else { least.min(commands) }, most.max(messages));
        }
        self.decided_us = self.decided_us.max(outcome.decided_us.unwrap_or(0));
    }

    /// Says which probes were hit; true if that is too few.
    fn misses_probes(&self, required: bool) -> bool {
        let missing = self.probes.missing();
        say(format_args!("probes: {} of {PROBE_COUNT} hit", PROBE_COUNT - missing.len()));
        say(format_args!("{}", self.probes.table().trim_end()));
        if missing.is_empty() {
            return false;
        }
        say(format_args!("never hit: {}", missing.join(", ")));
        required || self.probes.are_too_few(self.seeds)
    }

    /// What was looked at and what went wrong, over all seeds.
    fn describe(&self, world: WorldKind) {
        let Tally { chosen, noops, adopted, votes, messages, applied, ballots_led, ballots_led_calm, .. } = self.tally;
        say(format_args!(
            "slots: {chosen} chosen, {noops} of them no-ops, {adopted} after a lower ballot's bid; {votes} durable votes, \
             {messages} messages, {ballots_led} ballots led, {ballots_led_calm} at the most once all is well"
        ));
        match world {
            WorldKind::Bare => {
                let Tally { outcomes_applied, outcomes_in_doubt, outcomes_refused, reads, .. } = self.tally;
                say(format_args!(
                    "proposals: {outcomes_applied} applied, {outcomes_in_doubt} in doubt, {outcomes_refused} refused; \
                     {reads} reads, {applied} slots applied"
                ));
            }
            WorldKind::Node => {
                let Report { asked, answered, unknown, starts, torn_tails, images, mischief, healed_in_us, .. } =
                    self.report;
                say(format_args!("commands: {asked} asked, {answered} answered, {unknown} of unknown outcome"));
                say(format_args!("histories: {}", self.histories));
                let faults: Vec<String> = Fault::NAMES
                    .iter()
                    .zip(self.report.faults)
                    .map(|(name, count)| format!("{count} {name}"))
                    .collect();
                say(format_args!("faults: {}", faults.join(", ")));
                let per_thousand: Vec<String> = Fault::NAMES
                    .iter()
                    .zip(self.report.faults)
                    .map(|(name, count)| format!("{:.2} {name}", count as f64 * 1e3 / asked.max(1) as f64))
                    .collect();
                say(format_args!("per 1,000 commands: {}", per_thousand.join(", ")));
                say(format_args!(
                    "messages: {} lost, {} cut, {} duplicated, {} misrouted, {} garbled; {starts} starts, {torn_tails} \
                     torn tails, {images} images recovered on the side",
                    mischief.lost, mischief.cut, mischief.duplicated, mischief.misrouted, mischief.garbled
                ));
                let Report { turned_away, unnoticed, damage_refused, damage_torn, .. } = self.report;
                say(format_args!(
                    "disks that were not their own: turned away {turned_away} times; {unnoticed} that some peer could \
                     not tell; damaged logs: {damage_refused} refused, {damage_torn} whose last group passed for torn"
                ));
                say(format_args!(
                    "longest way back to rest: {:.1} simulated seconds, to the first new command: {:.2}",
                    healed_in_us as f64 / 1e6,
                    self.decided_us as f64 / 1e6
                ));
                let (calm, commands, messages) = self.calm;
                say(format_args!(
                    "calm: {calm} seeds, at least {commands} commands for each busy second, at the most {:.2} messages \
                     but heartbeats for each slot and peer",
                    messages as f64 / 100.0
                ));
                let count = |class: Class| self.stuck.get(&class).copied().unwrap_or(0);
                let stuck: Vec<String> =
                    Class::ALL.iter().map(|class| format!("{} {}", count(*class), class.name())).collect();
                say(format_args!("never at rest, with a reason: {}", stuck.join(", ")));
            }
        }
    }

    fn line(&self, seconds: f64) -> String {
        let simulated = self.simulated_us as f64 / 1e6;
        format!(
            "{} seeds, {} violations, {:.1} seeds/s, {:.0} simulated s/s, {:.0} steps/s, {} slots chosen",
            self.seeds,
            self.failed,
            self.seeds as f64 / seconds,
            simulated / seconds,
            self.steps as f64 / seconds,
            self.tally.chosen
        )
    }
}
