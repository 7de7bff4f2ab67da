//! Closed-loop load: many clients from one thread, each with a fixed number of commands outstanding.
//!
//! A client follows the leader as `client::Client` does, but never blocks. With `Check::Appends` every write
//! goes through a session and appends a distinct record, so that afterwards one can tell whether each
//! acknowledged write is there exactly once.

mod lane;
mod report;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use serde::Serialize;
use thiserror::Error;

use crate::client::{Client, ClientError, SESSION_WINDOW};
use lane::{Lane, Operation};

pub use report::LoadReport;

/// A node that is silent for this long with commands outstanding is given up.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// Pause before a refused command, or a refused connection, is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// After the end of the load, how long outstanding commands are waited for.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Records appended to one key before the next key is taken: keeps checked values small.
const RECORDS_PER_KEY: u64 = 64;

/// When the load ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// After this long.
    Time(Duration),
    /// After this many commands.
    Requests(u64),
}

/// What writes look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// `SET` of a key out of the key space: plain load.
    None,
    /// `ONCE … APPEND` of a distinct record: `verify` can then judge what is there.
    Appends,
}

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Members, `host:port` each.
    pub addresses: Vec<String>,
    /// Connections.
    pub clients: usize,
    /// Commands outstanding on each.
    pub pipeline: usize,
    /// Length of a written value.
    pub value_bytes: usize,
    /// Of a hundred commands, how many are reads.
    pub reads_percent: u8,
    /// Keys that are written and read.
    pub keys: u64,
    /// When it ends.
    pub limit: Limit,
    /// What writes look like.
    pub check: Check,
    /// Prefix of the keys, so that runs do not meet.
    pub prefix: String,
}

/// Why no load could be made.
#[derive(Debug, Error)]
pub enum LoadError {
    /// An option that makes no sense.
    #[error("{0}")]
    Options(&'static str),
    /// The cluster does not answer.
    #[error("the cluster does not answer: {0}")]
    Cluster(#[from] ClientError),
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a checked load must find afterwards, per client.
#[derive(Clone, Debug)]
pub struct Written {
    /// Session of that client.
    client: usize,
    /// Numbers of the appended records, by whether they were acknowledged.
    acknowledged: Vec<u64>,
}

/// Makes the load and waits for its end. `stop` is asked between turns; it ends the load early.
///
/// # Errors
/// `LoadError` if the load cannot begin; what happens to single commands is in the report.
pub fn run(options: &LoadOptions, stop: &dyn Fn() -> bool) -> Result<(LoadReport, Vec<Written>), LoadError> {
    if options.addresses.is_empty() || options.clients == 0 || options.pipeline == 0 || options.keys == 0 {
        return Err(LoadError::Options("addresses, clients, pipeline and keys must not be 0"));
    }
    if options.check == Check::Appends && options.pipeline > SESSION_WINDOW {
        return Err(LoadError::Options("a checked pipeline must fit a session's window of 64"));
    }
    if options.check == Check::Appends && options.value_bytes < 20 {
        return Err(LoadError::Options("a checked value must have at least 20 bytes"));
    }
    let mut load = Load::new(options)?;
    load.turns(stop)?;
    Ok(load.finish())
}

struct Load<'a> {
    options: &'a LoadOptions,
    poll: Poll,
    lanes: Vec<Lane>,
    shared: Shared,
    begun: Instant,
}

/// What all lanes know and count together.
struct Shared {
    addresses: Vec<String>,
    /// Where the leader is believed to be.
    leader: usize,
    issued: u64,
    histogram: Histogram<u64>,
    report: LoadReport,
    last_write: Instant,
    /// A turn's worth of work that is due at a known time.
    due: VecDeque<(Instant, usize)>,
}

impl<'a> Load<'a> {
    fn new(options: &'a LoadOptions) -> Result<Load<'a>, LoadError> {
        let mut lanes = Vec::with_capacity(options.clients);
        // Waits for a leader, so that the load does not begin with an election.
        Client::new(options.addresses.clone()).read(&["GET", "paxos-load"])?;
        for number in 0..options.clients {
            let session = match options.check {
                Check::None => None,
                Check::Appends => Some(Client::new(options.addresses.clone()).session_id()?),
            };
            lanes.push(Lane::new(number, session));
        }
        let begun = Instant::now();
        let histogram =
            Histogram::new_with_bounds(1, 600_000_000, 3).map_err(|error| io::Error::other(error.to_string()))?;
        let shared = Shared {
            addresses: options.addresses.clone(),
            leader: 0,
            issued: 0,
            histogram,
            report: LoadReport::default(),
            last_write: begun,
            due: VecDeque::new(),
        };
        Ok(Load { options, poll: Poll::new()?, lanes, shared, begun })
    }

    fn turns(&mut self, stop: &dyn Fn() -> bool) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        for at in 0..self.lanes.len() {
            self.fill(at);
            self.lanes[at].work(&self.poll, &mut self.shared, self.options);
        }
        let mut draining_since = None;
        loop {
            let now = Instant::now();
            if draining_since.is_none() && (self.is_over(now) || stop()) {
                draining_since = Some(now);
            }
            if let Some(since) = draining_since
                && (now.duration_since(since) > DRAIN_MAX || self.lanes.iter().all(Lane::is_idle))
            {
                return Ok(());
            }
            let timeout =
                self.shared.due.front().map_or(PAUSE, |(due, _)| due.saturating_duration_since(now).min(PAUSE));
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let Token(at) = event.token();
                let Some(lane) = self.lanes.get_mut(at) else { continue };
                lane.receive(&self.poll, &mut self.shared, self.options);
                self.turn(at, draining_since.is_none());
            }
            self.wake_due(draining_since.is_none());
        }
    }

    fn wake_due(&mut self, filling: bool) {
        let now = Instant::now();
        while let Some((due, at)) = self.shared.due.front().copied()
            && due <= now
        {
            self.shared.due.pop_front();
            self.lanes[at].wake(now);
            self.turn(at, filling);
        }
        for at in 0..self.lanes.len() {
            if self.lanes[at].is_silent(now, SILENCE_MAX) {
                self.lanes[at].lose(&self.poll, &mut self.shared);
                self.turn(at, filling);
            }
        }
    }

    fn turn(&mut self, at: usize, filling: bool) {
        if filling {
            self.fill(at);
        }
        self.lanes[at].work(&self.poll, &mut self.shared, self.options);
    }

    /// Gives a lane new operations until its pipeline is full.
    fn fill(&mut self, at: usize) {
        let Load { options, lanes, shared, .. } = self;
        let lane = &mut lanes[at];
        while lane.outstanding() < options.pipeline && !lane.window_full() {
            if let Limit::Requests(most) = options.limit
                && shared.issued >= most
            {
                return;
            }
            let number = shared.issued;
            shared.issued += 1;
            let read = mix(number) % 100 < u64::from(options.reads_percent);
            let operation = match (read, options.check) {
                (true, Check::None) => Operation::read(mix(number ^ 1) % options.keys),
                (true, Check::Appends) => Operation::read(0),
                (false, Check::None) => Operation::write(mix(number ^ 1) % options.keys, 0),
                (false, Check::Appends) => {
                    let record = lane.next_record();
                    Operation::write(record / RECORDS_PER_KEY, record)
                }
            };
            lane.push(operation);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        match self.options.limit {
            Limit::Time(time) => now.duration_since(self.begun) >= time,
            Limit::Requests(most) => self.shared.issued >= most && self.lanes.iter().all(Lane::is_idle),
        }
    }

    fn finish(self) -> (LoadReport, Vec<Written>) {
        let Shared { histogram, mut report, .. } = self.shared;
        let seconds = self.begun.elapsed().as_secs_f64();
        report.unanswered = self.lanes.iter().map(|lane| lane.outstanding() as u64).sum();
        report.fill(&histogram, seconds);
        let written =
            self.lanes.into_iter().map(|lane| Written { client: lane.number(), acknowledged: lane.acknowledged() });
        (report, written.collect())
    }
}

/// What a check of the acknowledged writes found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Verdict {
    /// Acknowledged writes that were looked for.
    pub acknowledged: u64,
    /// Of them, those not found.
    pub lost: u64,
    /// Records found more than once.
    pub duplicated: u64,
}

/// Reads everything back that a checked load wrote, and judges it.
///
/// # Errors
/// `LoadError` if the cluster does not answer.
pub fn verify(options: &LoadOptions, written: &[Written]) -> Result<Verdict, LoadError> {
    let mut client = Client::new(options.addresses.clone());
    let mut verdict = Verdict::default();
    for Written { client: number, acknowledged } in written {
        let keys = acknowledged.iter().max().map_or(0, |record| record / RECORDS_PER_KEY + 1);
        let mut found = std::collections::BTreeMap::<u64, u64>::new();
        for key in 0..keys {
            let reply = client.read(&[b"GET".to_vec(), lane::key(&options.prefix, Some(*number), key)])?;
            let value = reply.text().unwrap_or("");
            for record in value.split('|').filter_map(|record| record.trim_matches('.').parse().ok()) {
                *found.entry(record).or_default() += 1;
            }
        }
        verdict.acknowledged += acknowledged.len() as u64;
        verdict.lost += acknowledged.iter().filter(|record| !found.contains_key(record)).count() as u64;
        verdict.duplicated += found.values().filter(|count| **count > 1).count() as u64;
    }
    Ok(verdict)
}

/// Spreads consecutive numbers (SplitMix64's finisher): which operations are reads, and which keys are hit,
/// is the same in every run.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
