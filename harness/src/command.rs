//! The command line of the binary `paxos`: what it takes, and which room does it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use transport_mio::config::Layer;

use crate::cli::Cli;
use crate::client::{Client, Reply};
use crate::cluster::{BASE_PORT_DEFAULT, Cluster, ClusterError, SERVERS_DEFAULT, Wanted};
use crate::linearizability::{History, write_history};
use crate::load::{self, Check, Limit, LoadOptions, LoadReport, Written};
use crate::target::Target;
use crate::up::StopFlag;
use crate::witness::{self, WitnessOptions};
use crate::{status, up};

/// Runs, uses and measures clusters of a replicated store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "paxos", version)]
struct Paxos {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a local cluster in the foreground until Ctrl-C; formats DIR if it is empty, recovers it otherwise
    Up(Up),
    /// Prepare the data directories and configurations of a local cluster, and start nothing
    Init(Place),
    /// Run one node, as `paxos-node` does: `paxos node --config DIR/node-1.toml`
    #[command(disable_help_flag = true)]
    Node {
        /// What `paxos-node` takes; see `paxos node --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run commands: those given as arguments, or lines of standard input until `quit`
    Cli {
        #[command(flatten)]
        target: Target,
        /// A command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Show what every member says about itself
    Status {
        #[command(flatten)]
        target: Target,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the log holds, a line per slot
    Log {
        #[command(flatten)]
        target: Target,
        /// First slot
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last slot [default: the last one that is chosen]
        #[arg(long)]
        to: Option<u64>,
    },
    /// Make load and measure it, each client with a fixed number of commands outstanding
    Bench(Bench),
    /// Simulate clusters from seeds, deterministically, and judge every step
    Sim(crate::sim::Args),
    /// Run again what `paxos sim --log` wrote, as it is or edited
    Replay(crate::sim::replay::Args),
    /// Judge a recorded history: is there one order that explains all answers?
    Check(crate::check::Args),
    /// Restart a cluster from every combination of good and bad records on its disks, and count what comes back
    CorruptDisks,
    /// Write inputs that fuzzers begin with, from runs of the simulator
    FuzzSeeds(crate::fuzzing::seeds::Args),
}

#[derive(Debug, Args)]
struct Place {
    /// Nodes, with ids from 1 [default: 3, or what DIR has]
    #[arg(long)]
    servers: Option<u32>,
    /// Where data, configurations and logs are
    #[arg(long, default_value = "./paxos-data")]
    dir: PathBuf,
    /// Client ports are this plus the id, peer ports 100 more [default: 7000, or what DIR has]
    #[arg(long)]
    base_port: Option<u16>,
    /// Settings in TOML that every node gets
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Up {
    #[command(flatten)]
    place: Place,
    /// Clients that make load, with a monitor that compares what every replica applied
    #[arg(long, default_value_t = 0)]
    clients: usize,
}

#[derive(Debug, Args)]
struct Bench {
    #[command(flatten)]
    target: Target,
    /// Connections
    #[arg(short, long, default_value_t = 50)]
    clients: usize,
    /// Commands outstanding on each
    #[arg(short = 'P', long, default_value_t = 1)]
    pipeline: usize,
    /// Length of a value
    #[arg(short = 'd', long, default_value_t = 100)]
    value_bytes: usize,
    /// Of a hundred commands, how many are reads
    #[arg(long, default_value_t = 0)]
    reads: u8,
    /// Keys that are written and read
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// How long
    #[arg(long, default_value_t = 10.0, conflicts_with = "requests")]
    seconds: f64,
    /// How many commands
    #[arg(short = 'n', long)]
    requests: Option<u64>,
    /// Write through sessions, and afterwards look for lost and duplicated writes; besides, eight more clients
    /// contend for a few keys, and what they saw must be linearizable and in the order of the log
    #[arg(long)]
    check: bool,
    /// Keep what those clients saw in this file, for `paxos check`
    #[arg(long, requires = "check")]
    history: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Does what the arguments say, the program's name first.
pub fn main_paxos(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let paxos = match Paxos::try_parse_from(arguments) {
        Ok(paxos) => paxos,
        Err(error) => {
            // Help and version are no errors and go to standard output; a closed pipe is the reader's wish.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let done = match paxos.command {
        Command::Node { arguments } => {
            let name = OsString::from("paxos node");
            return transport_mio::main_node(std::iter::once(name).chain(arguments));
        }
        Command::Up(up) => run_up(&up),
        Command::Init(place) => run_init(&place),
        Command::Cli { target, command } => run_cli(&target, command).map_err(Failure::from),
        Command::Status { target, json } => Ok(status::print(&target.members(), json)),
        Command::Log { target, from, to } => run_log(&target, from, to),
        Command::Bench(bench) => run_bench(&bench),
        Command::Sim(sim) => return crate::sim::main(&sim),
        Command::Replay(replay) => return crate::sim::replay::main(&replay),
        Command::Check(check) => return crate::check::main(&check),
        Command::CorruptDisks => return crate::corrupt_disks::main(),
        Command::FuzzSeeds(seeds) => return crate::fuzzing::seeds::main(&seeds),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure { code, text }) => {
            let _ = writeln!(io::stderr(), "paxos: {text}");
            ExitCode::from(code)
        }
    }
}

/// One line for standard error, and an exit code.
struct Failure {
    code: u8,
    text: String,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { code: 1, text: error.to_string() }
    }
}

impl Failure {
    /// Keeps the exit code that a node would have had.
    fn of_cluster(error: ClusterError) -> Failure {
        let code = match &error {
            ClusterError::Stop(stop) => stop.code(),
            ClusterError::Mismatch(_) => 2,
            ClusterError::Io { .. } => 1,
        };
        Failure { code, text: error.to_string() }
    }
}

impl Place {
    fn wanted(&self) -> Result<Wanted, Failure> {
        let layer = self.config.as_deref().map(Layer::read).transpose();
        let settings = layer.map_err(|stop| Failure::of_cluster(stop.into()))?.unwrap_or_default();
        Ok(Wanted { dir: self.dir.clone(), servers: self.servers, base_port: self.base_port, settings })
    }
}

fn run_up(up: &Up) -> Result<bool, Failure> {
    let stop = StopFlag::on_signals()?;
    let program = std::env::current_exe()?;
    let (cluster, fresh) = Cluster::prepare(&program, &up.place.wanted()?).map_err(Failure::of_cluster)?;
    up::run(cluster, fresh, up.clients, &stop).map_err(Failure::of_cluster)
}

fn run_init(place: &Place) -> Result<bool, Failure> {
    let Wanted { dir, servers, base_port, settings } = place.wanted()?;
    let (servers, base_port) = (servers.unwrap_or(SERVERS_DEFAULT), base_port.unwrap_or(BASE_PORT_DEFAULT));
    let options = transport_mio::InitOptions { servers, dir, base_port, settings };
    let prepared = transport_mio::init::init(&options).map_err(|stop| Failure::of_cluster(stop.into()))?;
    for node in prepared {
        println!("node {} at {}: paxos-node --config {}", node.id, node.client, node.config.display());
    }
    Ok(true)
}

fn run_cli(target: &Target, command: Vec<String>) -> io::Result<bool> {
    let mut cli = Cli::new(target.members());
    let mut out = io::stdout().lock();
    if command.is_empty() {
        let prompt = io::stdin().is_terminal() && io::stdout().is_terminal();
        return cli.lines(&mut io::stdin().lock(), &mut out, prompt);
    }
    cli.run(&command.into_iter().map(String::into_bytes).collect(), &mut out)
}

fn run_log(target: &Target, from: u64, to: Option<u64>) -> Result<bool, Failure> {
    let mut client = Client::new(target.members());
    let to = match to {
        Some(to) => to,
        None => client.read(&["LOG.LEN"])?.integer().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
    };
    let mut out = io::stdout().lock();
    let mut slot = from.max(1);
    while slot <= to {
        let last = to.min(slot.saturating_add(99));
        let reply = client.read(&["LOG.RANGE".to_string(), slot.to_string(), last.to_string()])?;
        let Reply::Array(entries) = reply else { return Err(Failure { code: 1, text: reply.to_string() }) };
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            let shown = match &entry {
                Reply::Array(words) => words.iter().map(Reply::to_string).collect::<Vec<_>>().join(" "),
                other => other.to_string(),
            };
            writeln!(out, "{slot} {shown}")?;
            slot += 1;
        }
    }
    Ok(true)
}

fn run_bench(bench: &Bench) -> Result<bool, Failure> {
    let stop = StopFlag::on_signals()?;
    let limit = match bench.requests {
        Some(requests) => Limit::Requests(requests),
        None => {
            let time = Duration::try_from_secs_f64(bench.seconds);
            Limit::Time(time.map_err(|error| Failure { code: 2, text: format!("--seconds: {error}") })?)
        }
    };
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let options = LoadOptions {
        addresses: bench.target.members(),
        clients: bench.clients,
        pipeline: bench.pipeline,
        value_bytes: bench.value_bytes,
        reads_percent: bench.reads.min(100),
        keys: bench.keys,
        limit,
        check: if bench.check { Check::Appends } else { Check::None },
        // A checked run must not meet the keys of an earlier one.
        prefix: if bench.check { format!("check:{run}") } else { "key".into() },
    };
    let (report, written, history) = if bench.check {
        let (report, written, history) = run_with_witnesses(&options, &stop)?;
        (report, written, Some(history))
    } else {
        let (report, written) = load::run(&options, &|| stop.is_raised())?;
        (report, written, None)
    };
    if let (Some(path), Some(history)) = (&bench.history, &history) {
        write_history(history, BufWriter::new(File::create(path)?))?;
    }
    let verdict = if bench.check { Some(load::verify(&options, &written)?) } else { None };
    let judged = history.as_ref().map(witness::judge);
    if bench.json {
        let history = judged.as_ref().map(|(right, text, _)| serde_json::json!({ "right": right, "found": text }));
        println!("{}", serde_json::json!({ "load": report, "check": verdict, "history": history }));
    } else {
        println!("{report}");
        if let Some(verdict) = &verdict {
            println!(
                "check: {} acknowledged writes, {} lost, {} duplicated",
                verdict.acknowledged, verdict.lost, verdict.duplicated
            );
        }
        if let Some((_, text, _)) = &judged {
            println!("{text}");
        }
    }
    let all_there = verdict.is_none_or(|verdict| verdict.lost == 0 && verdict.duplicated == 0);
    Ok(report.errors == 0 && all_there && judged.is_none_or(|(right, ..)| right))
}

/// The load, and beside it as long as it lasts clients whose history can be judged.
fn run_with_witnesses(options: &LoadOptions, stop: &StopFlag) -> Result<(LoadReport, Vec<Written>, History), Failure> {
    let over = AtomicBool::new(false);
    let witnesses = WitnessOptions::new(options.addresses.clone(), format!("{}:witness", options.prefix));
    let (load, testimony) = thread::scope(|scope| {
        let stop_witnesses = || over.load(Ordering::Relaxed) || stop.is_raised();
        let witnesses = scope.spawn(move || witness::run(&witnesses, &AtomicU64::new(0), &stop_witnesses));
        let load = load::run(options, &|| stop.is_raised());
        over.store(true, Ordering::Relaxed);
        (load, witnesses.join())
    });
    let (report, written) = load?;
    let testimony = testimony.map_err(|_| Failure { code: 1, text: "a witness panicked".into() })??;
    let history = testimony.with_slots(&mut Client::new(options.addresses.clone()))?;
    Ok((report, written, history))
}
