//! `paxos replay`: runs a script again, as it was written or as it was edited.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use transport_sim::Script;

use super::cluster::{self, Wanted};
use super::{Picture, complain, say, tracer};

/// The arguments of `paxos replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What `paxos sim` wrote, edited or not.
    pub file: PathBuf,
    /// Prints every event, decoded.
    #[arg(long)]
    pub trace: bool,
    /// Prints what happened, heartbeats apart, a short line each.
    #[arg(long)]
    pub transcript: bool,
    /// Ends the run after so many steps.
    #[arg(long)]
    pub steps: Option<u64>,
    /// How the run is drawn.
    #[command(flatten)]
    pub picture: Picture,
}

/// No violation: 0; a violation: 1; no script: 2.
pub fn main(args: &Args) -> ExitCode {
    let script = match read(&args.file) {
        Ok(script) => script,
        Err(why) => {
            complain(&why);
            return ExitCode::from(2);
        }
    };
    let (trace, chart) = (tracer(args.trace), args.transcript || args.picture.html.is_some());
    let run = cluster::replay(&script, Wanted { trace, steps: args.steps, script: false, chart });
    if let (true, Some(chart)) = (args.transcript, &run.chart) {
        let transcript = chart.transcript(run.outcome.violation.as_ref());
        say(format_args!("{}", transcript.trim_end()));
    }
    let name = args.file.display().to_string();
    say(format_args!("{name}: {}", run.outcome.line()));
    if let Err(why) = args.picture.draw(&run, &name) {
        complain(&why);
        return ExitCode::from(2);
    }
    match &run.outcome.violation {
        Some(violation) => {
            say(format_args!("VIOLATION of {}: {}", violation.invariant, violation.detail));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Reads a script.
///
/// # Errors
/// In words, with the file and the line.
pub fn read(path: &Path) -> Result<Script, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse().map_err(|misread| format!("{}: {misread}", path.display()))
}
