//! Conversations of real replicas, written down: a script drives `paxos_core::Replica`s message by message, and what
//! they do is its transcript, kept in the same file. The language is told in docs/verification.md.
//!
//! Every run is judged by the invariants of the simulator too, so that a script cannot enshrine what is wrong.

mod acts;
mod expect;
mod language;
mod show;
mod stage;
#[cfg(test)]
mod tests;

use std::fmt;

use language::Command;
use stage::Stage;

/// What is wrong with a script, or with what the replicas did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The line of the script, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ScenarioError {}

/// What begins a line of a transcript.
const TRANSCRIPT: &str = "| ";

/// Runs a script and returns it with its transcript; the transcript that it may hold already does not matter.
///
/// # Errors
/// The first line that is no command, cannot be done, expects what is not so, or makes the replicas break an
/// invariant.
pub fn run(script: &str) -> Result<String, ScenarioError> {
    let mut stage: Option<Stage> = None;
    let mut written = String::new();
    for (number, text) in (1..).zip(script.lines()) {
        if text.starts_with(TRANSCRIPT.trim_end()) {
            continue;
        }
        written.push_str(text);
        written.push('\n');
        let command = text.split('#').next().unwrap_or("").trim();
        if command.is_empty() {
            continue;
        }
        let wrong = |what: String| ScenarioError { line: number, what };
        let command = Command::parse(command).map_err(wrong)?;
        let heard = match (&mut stage, &command) {
            (None, Command::Cluster(cluster)) => {
                let made = Stage::new(cluster).map_err(wrong)?;
                stage.insert(made).heard()
            }
            (None, _) => return Err(wrong("a script begins with `cluster`".into())),
            (Some(_), Command::Cluster(_)) => return Err(wrong("there is a cluster already".into())),
            (Some(stage), command) => {
                stage.carry_out(command).map_err(wrong)?;
                stage.heard()
            }
        };
        for line in heard {
            written.push_str(TRANSCRIPT);
            written.push_str(&line);
            written.push('\n');
        }
    }
    Ok(written)
}

/// Runs a script and compares what is to be heard with the transcript that it holds.
///
/// # Errors
/// As `run`, or the first line that differs.
pub fn check(script: &str) -> Result<(), ScenarioError> {
    let written = run(script)?;
    let mut heard = written.lines();
    let mut expected = script.lines();
    let mut line = 0;
    loop {
        line += 1;
        match (expected.next(), heard.next()) {
            (None, None) => return Ok(()),
            (expected, heard) if expected == heard => {}
            (expected, heard) => {
                let what = format!("expected `{}`, heard `{}`", expected.unwrap_or(""), heard.unwrap_or(""));
                return Err(ScenarioError { line, what });
            }
        }
    }
}
