//! `paxos replay`: runs a script again, as it was written or as it was edited.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use transport_sim::Script;

use super::{cluster, say, tracer};

/// The arguments of `paxos replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What `paxos sim` wrote, edited or not.
    pub file: PathBuf,
    /// Prints every event, decoded.
    #[arg(long)]
    pub trace: bool,
    /// Ends the run after so many steps.
    #[arg(long)]
    pub steps: Option<u64>,
}

/// No violation: 0; a violation: 1; no script: 2.
pub fn main(args: &Args) -> ExitCode {
    let script = match read(&args.file) {
        Ok(script) => script,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "paxos: {why}");
            return ExitCode::from(2);
        }
    };
    let outcome = cluster::replay(&script, args.steps, tracer(args.trace));
    say(format_args!("{}: {}", args.file.display(), outcome.line()));
    match &outcome.violation {
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
