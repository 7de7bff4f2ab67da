//! `paxos check`: judges a recorded history, in words and as a picture.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::linearizability::{
    Budget, History, HistoryError, Store, Verdict, check, check_slots, describe, describe_slots, picture, read_history,
};

/// What `paxos check` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A history, one operation a line in JSON (see docs/verification.md); `-` reads standard input
    pub file: PathBuf,
    /// Write a page here that shows the first operation that fits into no order, if there is one
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Remember about so many MiB while searching, then give up
    #[arg(long, default_value_t = 1024)]
    pub memory_mib: usize,
}

/// Linearizable: 0; not: 1; no history, or not known: 2.
pub fn main(args: &Args) -> ExitCode {
    match run(args, &mut io::stdout().lock()) {
        Ok(Judgement::Right) => ExitCode::SUCCESS,
        Ok(Judgement::Wrong) => ExitCode::FAILURE,
        Ok(Judgement::Unknown) => ExitCode::from(2),
        Err(error) => {
            let _ = writeln!(io::stderr(), "paxos: {}: {error}", args.file.display());
            ExitCode::from(2)
        }
    }
}

/// What both checkers together say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Neither found anything.
    Right,
    /// One of them did.
    Wrong,
    /// The search gave up, and the oracle found nothing or had no slots to look at.
    Unknown,
}

fn run(args: &Args, out: &mut impl Write) -> Result<Judgement, HistoryError> {
    let history = if args.file == Path::new("-") {
        read_history(io::stdin().lock())?
    } else {
        read_history(BufReader::new(File::open(&args.file)?))?
    };
    let budget = Budget {
        time_max: Duration::from_secs(args.seconds),
        memory_bytes_max: args.memory_mib.saturating_mul(1 << 20),
        ..Budget::default()
    };
    let (judgement, text, page) = judge(&history, &budget);
    // Whoever closed the pipe wants to know no more; the exit code says it all.
    let _ = writeln!(out, "{text}");
    if let Some(path) = &args.html {
        match page {
            Some(page) => {
                fs::write(path, page)?;
                let _ = writeln!(out, "picture: {}", path.display());
            }
            None => {
                let _ = writeln!(out, "no picture: the search found nothing that fits into no order");
            }
        }
    }
    Ok(judgement)
}

/// Both checkers on one history: what they say together, in words, and the picture if there is one. The slot-order
/// oracle looks only at histories that have slots.
pub fn judge(history: &History, budget: &Budget) -> (Judgement, String, Option<String>) {
    let verdict = check(&Store, history, budget);
    let mut text = describe(history, &verdict);
    let mut judgement = match &verdict {
        Verdict::Linearizable { .. } => Judgement::Right,
        Verdict::NotLinearizable(_) => Judgement::Wrong,
        Verdict::Unknown { .. } => Judgement::Unknown,
    };
    if history.iter().any(|operation| operation.slot.is_some()) {
        text.push('\n');
        match check_slots(&Store, history) {
            Ok(tally) => text.push_str(&tally.to_string()),
            Err(violation) => {
                judgement = Judgement::Wrong;
                text.push_str(&describe_slots(history, &violation));
            }
        }
    }
    let page = match &verdict {
        Verdict::NotLinearizable(offence) => Some(picture(history, offence, &text)),
        Verdict::Linearizable { .. } | Verdict::Unknown { .. } => None,
    };
    (judgement, text, page)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"client":1,"invoke":0,"return":10,"op":["SET","k","a"],"result":"OK","slot":1}
{"client":2,"invoke":20,"return":30,"op":["GET","k"],"result":"a"}
"#;

    /// (file, exit code's judgement, what is said, whether there is a page)
    #[test]
    fn each_verdict_has_its_words_and_its_page() {
        let cases = [
            (GOOD.into(), Judgement::Right, "linearizable: 2 operations of 2 clients", false),
            (GOOD.into(), Judgement::Right, "in slot order: 1 writes and 1 reads", false),
            (GOOD.replace(r#""a"}"#, r#""b"}"#), Judgement::Wrong, "NOT linearizable: key \"k\"", true),
            // Another order would do, but the log's does not: the write has no slot there.
            (
                format!("{GOOD}{}", r#"{"client":1,"invoke":40,"return":41,"op":["SET","k","c"],"result":"OK"}"#),
                Judgement::Wrong,
                "NOT in slot order: operation 3 was answered and is in no slot",
                false,
            ),
        ];
        for (lines, judgement, said, drawn) in cases {
            let history = read_history(lines.as_bytes()).unwrap();
            let (found, text, page) = judge(&history, &Budget::default());
            assert_eq!((found, page.is_some()), (judgement, drawn), "{text}");
            assert!(text.contains(said), "{text}");
        }
        let history = read_history(GOOD.as_bytes()).unwrap();
        let (found, ..) = judge(&history, &Budget { steps_max: 1, ..Budget::default() });
        assert_eq!(found, Judgement::Unknown);
    }
}
