//! `paxos sim`: one seed in full, or a campaign of many; a failure prints the one command that replays it.

mod bare;
mod budget;
mod campaign;
mod chart;
mod cluster;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod faithful;
mod healing;
mod histories;
#[cfg(test)]
mod kept;
mod minimise;
#[cfg(all(test, paxos_mutants))]
mod mutants;
mod probes;
pub mod replay;
#[cfg(test)]
mod sequences;
#[cfg(all(test, paxos_mutants))]
mod small_mutants;
mod stuck;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use paxos_core::ElectionPolicy;
use transport_sim::{Report, Scenario, Trace, Violation};

use self::chart::page;
use self::cluster::{Run, Wanted};
use self::histories::Judged;
use self::probes::Probes;
use self::stuck::Class;
use crate::invariants::Tally;

/// The arguments of `paxos sim`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Runs this seed.
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Runs a campaign of so many seeds.
    #[arg(long)]
    pub seeds: Option<u64>,
    /// The first seed of a campaign.
    #[arg(long, default_value_t = 1)]
    pub first: u64,
    /// Threads of a campaign; as many as the machine has by default.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Prints every event, decoded.
    #[arg(long)]
    pub trace: bool,
    /// Who should lead.
    #[arg(long, value_enum, default_value_t = Election::Stable)]
    pub election: Election,
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = WorldKind::Node)]
    pub world: WorldKind,
    /// A campaign fails if a probe was never hit; it does so anyway from 2,000 seeds of whole nodes on
    /// (20,000 for two rare ones).
    #[arg(long)]
    pub probes_required: bool,
    /// Ends a seed after so many steps.
    #[arg(long)]
    pub steps: Option<u64>,
    /// Writes everything that decided the run of one seed here, for `paxos replay`.
    #[arg(long, requires = "seed")]
    pub log: Option<PathBuf>,
    /// How the run of one seed is drawn.
    #[command(flatten)]
    pub picture: Picture,
    /// Leaves a run that breaks an invariant as it is; else it is made as small as possible and written to a file.
    #[arg(long)]
    pub no_minimise: bool,
    /// How long making a run small may take.
    #[arg(long, default_value_t = 60)]
    pub minimise_seconds: u64,
    /// Where small runs are written, as `seed-<S>.script`.
    #[arg(long, default_value = ".")]
    pub scripts: PathBuf,
}

impl Args {
    /// The arguments of a silent run in this world.
    pub fn of(world: WorldKind, election: Election) -> Args {
        Args {
            seed: None,
            seeds: None,
            first: 1,
            jobs: Some(1),
            trace: false,
            election,
            world,
            steps: None,
            log: None,
            picture: Picture::default(),
            probes_required: false,
            no_minimise: true,
            minimise_seconds: 0,
            scripts: PathBuf::from("."),
        }
    }
}

/// Who should lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Election {
    /// A leader stays until it loses contact.
    Stable,
    /// The highest live id leads.
    HighestId,
}

impl Election {
    fn policy(self) -> ElectionPolicy {
        match self {
            Election::Stable => ElectionPolicy::Stable,
            Election::HighestId => ElectionPolicy::HighestId,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Election::Stable => "stable",
            Election::HighestId => "highest-id",
        }
    }
}

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum WorldKind {
    /// Whole nodes with clients, links, clocks and disks.
    Node,
    /// Bare replicas under arbitrary schedules.
    Bare,
}

impl WorldKind {
    fn name(self) -> &'static str {
        match self {
            WorldKind::Node => "node",
            WorldKind::Bare => "bare",
        }
    }
}

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Steps made.
    pub steps: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// What was looked at.
    pub tally: Tally,
    /// What happened in a world of whole nodes.
    pub report: Report,
    /// Rare things that happened there.
    pub probes: Probes,
    /// How much of what its clients did was judged as a whole.
    pub histories: Judged,
    /// Why it did not come to its rest, if that is no defect.
    pub stuck: Option<Class>,
    /// How long the first new command took to be decided once all was well, in microseconds.
    pub decided_us: Option<u64>,
    /// Of a calm seed, commands for each busy second, and messages for each slot and peer, in hundredths.
    pub spent: Option<(u64, u64)>,
    /// The broken invariant, if any.
    pub violation: Option<Violation>,
}

impl Outcome {
    fn new(seed: u64, hash: u64) -> Outcome {
        Outcome {
            seed,
            steps: 0,
            simulated_us: 0,
            hash,
            tally: Tally::default(),
            report: Report::default(),
            probes: Probes::default(),
            histories: Judged::default(),
            stuck: None,
            decided_us: None,
            spent: None,
            violation: None,
        }
    }

    /// The run in a line.
    fn line(&self) -> String {
        let seconds = self.simulated_us as f64 / 1e6;
        let (steps, chosen, hash) = (self.steps, self.tally.chosen, self.hash);
        let stuck = self.stuck.map(|class| format!(", never at rest: {}", class.name())).unwrap_or_default();
        format!("{steps} steps, {seconds:.1} simulated seconds, {chosen} slots chosen, hash {hash:016x}{stuck}")
    }
}

/// Runs one seed.
pub fn run_seed(args: &Args, seed: u64) -> Outcome {
    run_one(args, seed).outcome
}

/// Runs one seed, with everything that the arguments want of it.
fn run_one(args: &Args, seed: u64) -> Run {
    match args.world {
        WorldKind::Node => {
            let (trace, steps) = (tracer(args.trace), args.steps);
            let wanted = Wanted { trace, steps, script: args.log.is_some(), chart: args.picture.html.is_some() };
            cluster::run(seed, args.election.policy(), wanted)
        }
        WorldKind::Bare => {
            let outcome = bare::run(seed, args.election.policy(), args.steps, tracer(args.trace));
            Run { outcome, script: None, decided: Vec::new(), chart: None }
        }
    }
}

/// Carries out `paxos sim`.
pub fn main(args: &Args) -> ExitCode {
    match (args.seed, args.seeds) {
        (Some(seed), _) => one(args, seed),
        (None, Some(seeds)) => campaign::campaign(args, seeds),
        (None, None) => one(args, args.first),
    }
}

fn one(args: &Args, seed: u64) -> ExitCode {
    if args.world == WorldKind::Bare && (args.log.is_some() || args.picture.html.is_some()) {
        complain("--log and --html are for --world node: a bare schedule is its own log");
        return ExitCode::from(2);
    }
    let run = run_one(args, seed);
    say(format_args!("seed {seed}: {}", run.outcome.line()));
    if args.world == WorldKind::Node {
        say(format_args!("probes: {}", run.outcome.probes.hit_names().join(", ")));
    }
    if let Err(why) = leave(args, seed, &run) {
        complain(&why);
        return ExitCode::from(2);
    }
    match &run.outcome.violation {
        Some(violation) => {
            failure(args, seed, violation);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Writes the files that were asked for.
fn leave(args: &Args, seed: u64, run: &Run) -> Result<(), String> {
    if let (Some(path), Some(script)) = (&args.log, &run.script) {
        std::fs::write(path, script.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
        say(format_args!("script: {} ({} faults, commands and decisions)", path.display(), script.len()));
    }
    args.picture.draw(run, &format!("seed {seed}"))
}

/// The arguments of a page that shows a run.
#[derive(Clone, Default, Debug, clap::Args)]
pub struct Picture {
    /// Draws messages, disks and leaders over time into this file, by default the last of what happened.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Where the page begins, in simulated seconds.
    #[arg(long, requires = "html")]
    pub from: Option<f64>,
    /// Where it ends.
    #[arg(long, requires = "html")]
    pub to: Option<f64>,
}

impl Picture {
    /// Writes the page, if one is wanted.
    fn draw(&self, run: &Run, name: &str) -> Result<(), String> {
        let (Some(path), Some(chart)) = (&self.html, &run.chart) else { return Ok(()) };
        let us = |seconds: Option<f64>| seconds.map(|seconds| (seconds * 1e6) as u64);
        let window = page::Window { from_us: us(self.from), to_us: us(self.to) };
        let about = format!("{name}: {}", run.outcome.line());
        let page = page::page(chart, &about, run.outcome.violation.as_ref(), window);
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        say(format_args!("page: {}", path.display()));
        Ok(())
    }
}

/// To standard error; if that is closed nobody wants to know.
fn complain(why: &str) {
    let _ = writeln!(std::io::stderr(), "paxos: {why}");
}

/// Where the lines of a trace go, if anywhere.
fn tracer(prints: bool) -> Trace {
    if prints { Trace::to(std::io::BufWriter::new(std::io::stdout())) } else { Trace::silent() }
}

fn failure(args: &Args, seed: u64, violation: &Violation) {
    say(format_args!("VIOLATION of {} in seed {seed}: {}", violation.invariant, violation.detail));
    let steps = args.steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
    say(format_args!(
        "replay: cargo run --release --bin paxos -- sim --seed {seed} --world {} --election {}{steps} --trace",
        args.world.name(),
        args.election.name()
    ));
    if violation.invariant.ends_with("-budget") {
        say(format_args!("a budget is of the whole run as it was drawn: it is not made small"));
    } else if args.world == WorldKind::Node && !args.no_minimise {
        make_small(args, seed);
    }
}

/// Makes a failing run small, writes it down, and says how to run it.
fn make_small(args: &Args, seed: u64) {
    let budget = std::time::Duration::from_secs(args.minimise_seconds);
    let scenario = Scenario::draw(seed, args.election.policy()).ok();
    let Some(minimal) = scenario.and_then(|scenario| minimise::minimise(&scenario, budget)) else {
        return say(format_args!("the violation of seed {seed} did not come again: this is no deterministic run"));
    };
    let path = args.scripts.join(format!("seed-{seed}.script"));
    match std::fs::write(&path, minimal.text()) {
        Ok(()) => say(format_args!(
            "smallest failing run: {minimal}\nreplay: cargo run --release --bin paxos -- replay {} --trace",
            path.display()
        )),
        Err(error) => say(format_args!("{}: {error}", path.display())),
    }
}

/// A closed pipe ends nobody's campaign.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
