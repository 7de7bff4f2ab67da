//! The command line of a node: `paxos-node` is three lines around `main_node`, and so is `paxos node`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{Layer, Settings};
use crate::init;
use crate::inspect;
use crate::server::{Server, StopSignals};
use crate::stop::Stop;

/// One member of a replicated, linearizable store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "paxos-node", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sources: Sources,
    /// Print every setting as TOML and exit.
    #[arg(long)]
    print_config: bool,
}

const AFTER_HELP: &str = "Settings come from flags, then the environment (PAXOS_<NAME>), then the file, then defaults.\n\
    Exit codes are listed in docs/operations.md.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the data directory of one node: the member of a new cluster of the nodes in its configuration.
    /// For a whole cluster at once, `paxos init`.
    Format(Box<Sources>),
    /// Print what is in a data directory; changes nothing.
    Inspect {
        /// What to print.
        what: What,
        /// The data directory, if no configuration names it.
        dir: Option<PathBuf>,
        /// The configuration that names the data directory.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Every record of the log.
    Wal,
    /// Whose directory it is, and how far it got.
    Identity,
}

/// Where settings come from.
#[derive(Debug, Args)]
struct Sources {
    /// File with settings, in TOML.
    #[arg(long, env = "PAXOS_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    layer: Layer,
}

impl Sources {
    fn settings(self) -> Result<Settings, Stop> {
        let file = self.config.as_deref().map(Layer::read).transpose()?;
        Settings::complete(self.layer.over(file.unwrap_or_default()))
    }
}

/// Does what the arguments say, the program's name first, and says on standard error why if it cannot.
///
/// Call it first thing in `main`: it installs signal handlers and the log of the process.
pub fn main_node(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output; a closed pipe is the reader's wish.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match carry_out(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            let _ = writeln!(std::io::stderr(), "paxos-node: {stop}");
            ExitCode::from(stop.code())
        }
    }
}

fn carry_out(cli: Cli) -> Result<(), Stop> {
    match cli.command {
        None => {
            let settings = cli.sources.settings()?;
            if cli.print_config {
                let text = toml::to_string(&settings.to_layer()).map_err(|error| Stop::Config(error.to_string()))?;
                return print(&text);
            }
            run(&settings)
        }
        Some(Command::Format(sources)) => {
            let settings = sources.settings()?;
            let cluster = init::format(&settings)?;
            print(&format!("formatted {} for node {} of cluster {cluster}\n", settings.data_dir.display(), settings.id))
        }
        Some(Command::Inspect { what, dir, config }) => {
            let dir = match (dir, config) {
                (Some(dir), _) => dir,
                (None, Some(config)) => Layer::read(&config)?
                    .data_dir
                    .ok_or_else(|| Stop::Config(format!("{} has no data_dir", config.display())))?,
                (None, None) => return Err(Stop::Config("inspect needs a directory or --config".into())),
            };
            match what {
                What::Wal => inspect::wal(&dir, &mut std::io::stdout().lock()),
                What::Identity => inspect::identity(&dir, &mut std::io::stdout().lock()),
            }
        }
    }
}

fn print(text: &str) -> Result<(), Stop> {
    let printed = std::io::stdout().write_all(text.as_bytes());
    printed.map_err(|source| Stop::System { what: "standard output".into(), source })
}

fn run(settings: &Settings) -> Result<(), Stop> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| Stop::Config(format!("log: {error}")))?;
    // A host that has a log of its own keeps it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    warn_of_unknown_environment();
    let signals = StopSignals::catch()?;
    let mut server = Server::start(settings)?;
    server.stop_on(signals)?;
    server.run()?;
    info!("stopped");
    Ok(())
}

/// A misspelt variable would otherwise be silently without effect; other programs may own the prefix too, so
/// it is no error.
fn warn_of_unknown_environment() {
    use clap::CommandFactory;
    let command = Cli::command();
    let known: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PAXOS_") && !known.contains(&name.as_os_str()) {
            warn!(name = %name.to_string_lossy(), "this variable of the environment is no setting");
        }
    }
}
