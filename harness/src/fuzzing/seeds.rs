//! `paxos fuzz-seeds`: what fuzzers begin with, taken from runs of the simulator. Of each shape of message the first
//! one, what clients sent, what went over links, what was written to logs, and whole schedules: real traffic, which a
//! fuzzer that began with nothing would not come upon in hours.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use paxos_core::{Body, ElectionPolicy, Message, NodeId, Record, wire};
use transport_mio::frame;
use transport_sim::{Fact, Moment, Observer, Scenario, Schedule, Trace, Violation, Way, World};

/// Longer inputs only slow a fuzzer down.
const BYTES_MAX: usize = 2_048;

/// Steps of a run that are looked at: elections, traffic and most faults.
const STEPS: u64 = 60_000;

/// Records of one log.
const RECORDS_MAX: usize = 40;

/// Moves of one schedule.
const MOVES: usize = 300;

/// Writes seeds for the fuzz targets.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the fuzz crate
    #[arg(long, default_value = "fuzz")]
    pub dir: PathBuf,
    /// Runs of the simulator to take from
    #[arg(long, default_value_t = 4)]
    pub runs: u64,
}

/// Runs the command.
pub fn main(args: &Args) -> ExitCode {
    let mut collected = Collected::default();
    for run in 1..=args.runs {
        collected.add(run);
    }
    match collected.write(&args.dir) {
        Ok(written) => {
            let _ = writeln!(io::stdout(), "{written} seeds in {}", args.dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "paxos: {}: {error}", args.dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Inputs by target and name.
#[derive(Debug, Default)]
pub struct Collected {
    inputs: BTreeMap<(&'static str, String), Vec<u8>>,
    run: u64,
    links: BTreeMap<(NodeId, NodeId), Vec<u8>>,
    clients: BTreeMap<u32, Vec<u8>>,
    logs: BTreeMap<NodeId, Vec<Record>>,
}

impl Collected {
    /// Takes what one run has.
    pub fn add(&mut self, run: u64) {
        let election = if run.is_multiple_of(2) { ElectionPolicy::HighestId } else { ElectionPolicy::Stable };
        *self = Collected { inputs: std::mem::take(&mut self.inputs), run, ..Collected::default() };
        self.inputs.insert(("steps", format!("sim-{run}")), Schedule::random_bytes(run, election, MOVES));
        let Ok(scenario) = Scenario::draw(run, election) else { return };
        let collected = std::mem::take(self);
        let Ok(mut world) = World::new(scenario, collected, Trace::silent()) else { return };
        // What a run broke is for the campaigns to say; here it is input like any other.
        let _ = world.run(STEPS);
        *self = world.observer;
        self.close();
    }

    /// Streams and logs are whole now.
    fn close(&mut self) {
        let run = self.run;
        let longest = |streams: BTreeMap<_, Vec<u8>>| streams.into_values().max_by_key(Vec::len);
        if let Some(link) = longest(std::mem::take(&mut self.links)) {
            self.inputs.insert(("frame", format!("sim-{run}")), link);
        }
        for (client, stream) in std::mem::take(&mut self.clients).into_iter().take(2) {
            self.inputs.insert(("resp", format!("sim-{run}-{client}")), stream);
        }
        if let Some(records) = std::mem::take(&mut self.logs).into_values().max_by_key(Vec::len) {
            self.inputs.insert(("records", format!("sim-{run}")), node::wal::fuzz_input(&records));
        }
    }

    /// Inputs by target and name.
    pub fn inputs(&self) -> impl Iterator<Item = (&'static str, &str, &[u8])> {
        self.inputs.iter().map(|((target, name), input)| (*target, name.as_str(), input.as_slice()))
    }

    fn write(&self, dir: &Path) -> io::Result<usize> {
        for ((target, name), input) in &self.inputs {
            let corpus = dir.join("corpus").join(target);
            fs::create_dir_all(&corpus)?;
            fs::write(corpus.join(name), input)?;
        }
        fs::create_dir_all(dir.join("dictionaries"))?;
        fs::write(dir.join("dictionaries/resp.dict"), resp_dictionary())?;
        Ok(self.inputs.len())
    }

    fn message(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let mut payload = Vec::new();
        wire::encode(&message.header, &message.body, &mut payload);
        let link = self.links.entry((from, to)).or_default();
        if link.len() + payload.len() + frame::FRAME_HEAD_BYTES <= BYTES_MAX {
            link.extend_from_slice(&frame::head(&payload));
            link.extend_from_slice(&payload);
        }
        if payload.len() <= BYTES_MAX {
            self.inputs.entry(("wire", format!("sim-{}", shape(&message.body)))).or_insert(payload);
        }
    }

    fn asked(&mut self, client: u32, bytes: &Bytes) {
        let stream = self.clients.entry(client).or_default();
        if stream.len() + bytes.len() <= BYTES_MAX {
            stream.extend_from_slice(bytes);
        }
    }
}

impl Observer for Collected {
    fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
        match fact {
            Fact::Posted { to, message, .. } => self.message(moment.node, *to, message),
            Fact::Carried { client, way: Way::ToNode, bytes, .. } => self.asked(*client, bytes),
            Fact::Durable(record) => {
                let log = self.logs.entry(moment.node).or_default();
                if log.len() < RECORDS_MAX && !matches!(record, Record::Formatted(_)) {
                    log.push((*record).clone());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The words of the table of commands, and what requests are made of, as libFuzzer reads them.
pub fn resp_dictionary() -> String {
    let is_word =
        |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || b".-".contains(&byte));
    let words = node::COMMANDS.iter().flat_map(|spec| spec.syntax.split([' ', '|', '[', ']', '.'])).filter(is_word);
    let names = node::COMMANDS.iter().map(|spec| spec.name);
    let mut words: Vec<&str> = names.chain(words).collect();
    words.sort_unstable();
    words.dedup();
    let mut dictionary =
        String::from("# Written by `paxos fuzz-seeds`; a test compares it with the table of commands.\n");
    for piece in ["\\x0d\\x0a", "*2\\x0d\\x0a$", "$-1\\x0d\\x0a", "*-1\\x0d\\x0a"] {
        dictionary.push_str(&format!("\"{piece}\"\n"));
    }
    for word in words {
        // As a line typed by hand begins, and as an argument of a request.
        dictionary.push_str(&format!("\"{word} \"\n\"${}\\x0d\\x0a{word}\\x0d\\x0a\"\n", word.len()));
    }
    dictionary
}

/// What makes a message different from others of its kind to those who read it: how many entries, and what is there.
fn shape(body: &Body) -> String {
    let some = |count: usize| match count {
        0 => "none",
        1 => "one",
        2..8 => "some",
        _ => "many",
    };
    let set = |is: bool, word: &'static str| if is { word } else { "" };
    match body {
        Body::Prepare(_) => "prepare".into(),
        Body::Promise(promise) => {
            let chosen = promise.held.iter().any(|held| held.accepted.is_none());
            format!("promise-{}{}{}", some(promise.held.len()), set(chosen, "-chosen"), set(!promise.last, "-more"))
        }
        Body::Refused(_) => "refused".into(),
        Body::Accept(accept) => {
            let noop = accept.entries.iter().any(|entry| entry.command().is_none());
            format!("accept-{}{}", some(accept.entries.len()), set(noop, "-noop"))
        }
        Body::Accepted(_) => "accepted".into(),
        Body::Success(success) => format!("success-{}", some(success.entries.len())),
        Body::SuccessReply(_) => "success-reply".into(),
        Body::Heartbeat(heartbeat) => {
            let (leads, follows) = (heartbeat.leading.is_some(), heartbeat.following.is_some());
            let (echoes, asks) = (heartbeat.echo.is_some(), heartbeat.round > 0);
            let (leads, follows) = (set(leads, "-leads"), set(follows, "-follows"));
            format!("heartbeat{leads}{follows}{}{}", set(echoes, "-echoes"), set(asks, "-asks"))
        }
        Body::Fetch(_) => "fetch".into(),
        Body::HandOver(_) => "handover".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_have_seeds_for_every_target_that_reads_traffic_and_no_target_minds_them() {
        let mut collected = Collected::default();
        (1..=3).for_each(|run| collected.add(run));
        let mut targets = BTreeSet::new();
        for (target, name, input) in collected.inputs() {
            println!("{target} {name}");
            targets.insert(target);
            assert!(!input.is_empty() && input.len() <= 2 * BYTES_MAX, "{target} {name}: {} bytes", input.len());
            match target {
                "wire" => crate::fuzzing::wire::run(input),
                "frame" => crate::fuzzing::frame::run(input),
                "resp" => crate::fuzzing::resp::run(input),
                "records" => crate::fuzzing::records::run(input),
                "steps" => crate::fuzzing::steps::run(input),
                other => panic!("no target {other}"),
            }
        }
        assert_eq!(targets, BTreeSet::from(["wire", "frame", "resp", "records", "steps"]));
    }
}
