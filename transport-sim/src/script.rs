//! The room for scripts: everything that decides a run, as lines of text that can be read, kept and edited.
//!
//! A script holds its scenario in full, every command of every client with its time, every planned fault, and every
//! decision of the network and the disks that departs from the plain world, in which nothing is late or lost. What is
//! taken out of a script does not happen; nothing else is drawn anew for it. What a script does not list is drawn from
//! its seed by name: clocks, boot nonces, the seeds of replicas, and where clients connect.
//!
//! `read.rs` reads what this file writes.

mod read;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write};

use paxos_core::{Config, ElectionPolicy, Instant, NodeId, QuorumSystem};

use crate::client::{Asks, Large, Manner};
use crate::decisions::{Decision, Departure, Garble, Stream};
use crate::lost::Remedy;
use crate::nemesis::{Fault, Then};
use crate::network::Quality;
use crate::scenario::{DiskQuality, START, Scenario};
use node::limits::Limits;
use node::wal::WalSettings;

pub use read::Misread;

/// The first line of a script; the number goes up when old scripts would be read wrongly.
const HEAD: &str = "paxos-script 1";

/// Everything that decides a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// What the run is about. Asks are listed; links and disks have their minimum, all beyond is in `decisions`.
    pub scenario: Scenario,
    /// How it departs from the plain world.
    pub decisions: Vec<Decision>,
}

impl Script {
    /// A script of these decisions: whatever a scenario says of chances is out of force.
    pub fn new(mut scenario: Scenario, mut decisions: Vec<Decision>) -> Script {
        let Quality { delay_us_min, reorders, .. } = scenario.quality;
        let plain = Quality { delay_us_min, reorders, ..Quality::CALM };
        scenario.quality = Quality { jitter_us: 0, ..plain };
        let disks = scenario.slow_disks.iter_mut().map(|(_, disk)| disk);
        disks.chain([&mut scenario.disk]).for_each(|disk| disk.sync_jitter_us = 0);
        decisions.sort_unstable();
        Script { scenario, decisions }
    }

    /// How many things it lists that could be left out: faults, commands, departures.
    pub fn len(&self) -> usize {
        let asks: u64 = self.scenario.clients.iter().map(|manner| manner.asks.count()).sum();
        self.scenario.faults.len() + asks as usize + self.decisions.len()
    }

    /// Whether it lists nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario {
            seed,
            genesis,
            config,
            limits,
            wal,
            clients,
            quality: Quality { delay_us_min, reorders, .. },
            disk,
            slow_disks,
            late,
            drift,
            faults_us,
            calm_us,
            rest_us,
            faults,
        } = &self.scenario;
        writeln!(f, "{HEAD}\nseed {seed}")?;
        for (kind, members) in [("voter", genesis.membership().voters()), ("learner", genesis.membership().learners())]
        {
            for member in members {
                writeln!(f, "{kind} {} incarnation {:016x}", member.node, member.incarnation.0)?;
            }
        }
        match genesis.membership().quorum() {
            QuorumSystem::Majority => writeln!(f, "quorum majority")?,
            QuorumSystem::Flexible { phase1, phase2 } => writeln!(f, "quorum flexible {phase1} {phase2}")?,
        }
        writeln!(f, "alpha {}", genesis.alpha())?;
        write_config(f, config)?;
        write_limits(f, limits)?;
        let WalSettings { segment_bytes, align_bytes } = wal;
        writeln!(f, "wal segment_bytes {segment_bytes}\nwal align_bytes {align_bytes}")?;
        writeln!(f, "link delay_us_min {delay_us_min}\nlink reorders {}", yes_or_no(*reorders))?;
        let DiskQuality { sync_us_min, .. } = disk;
        writeln!(f, "disk sync_us_min {sync_us_min}")?;
        for (node, DiskQuality { sync_us_min, .. }) in slow_disks {
            writeln!(f, "slow {node} sync_us_min {sync_us_min}")?;
        }
        for (node, at) in late {
            writeln!(f, "late {node} at {}", at.since_us(START))?;
        }
        writeln!(f, "drift {drift}\nfaults_us {faults_us}")?;
        for (name, us) in [("calm_us", calm_us), ("rest_us", rest_us)] {
            us.map_or(Ok(()), |us| writeln!(f, "{name} {us}"))?;
        }
        clients.iter().try_for_each(|manner| write_client(f, manner))?;
        for (at, fault) in faults {
            write!(f, "fault at {} {}", at.since_us(START), Fault::NAMES[fault.kind()])?;
            write_fault(f, fault)?;
        }
        self.decisions.iter().try_for_each(|decision| write_decision(f, decision))
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn write_config(f: &mut impl Write, config: &Config) -> fmt::Result {
    let Config {
        election,
        heartbeat_us,
        election_timeout_us,
        resend_us,
        resend_us_max,
        window_slots,
        window_bytes,
        entry_bytes_max,
        run_entries_max,
        run_bytes_max,
        reads_max,
        last_slot,
    } = config;
    let election = match election {
        ElectionPolicy::Stable => "stable",
        ElectionPolicy::HighestId => "highest-id",
    };
    writeln!(f, "config election {election}")?;
    let numbers = [
        ("heartbeat_us", *heartbeat_us),
        ("election_timeout_us", *election_timeout_us),
        ("resend_us", *resend_us),
        ("resend_us_max", *resend_us_max),
        ("window_slots", u64::from(*window_slots)),
        ("window_bytes", *window_bytes as u64),
        ("entry_bytes_max", *entry_bytes_max as u64),
        ("run_entries_max", *run_entries_max as u64),
        ("run_bytes_max", *run_bytes_max as u64),
        ("reads_max", *reads_max as u64),
    ];
    numbers.iter().try_for_each(|(name, number)| writeln!(f, "config {name} {number}"))?;
    last_slot.map_or(Ok(()), |slot| writeln!(f, "config last_slot {slot}"))
}

fn write_limits(f: &mut impl Write, limits: &Limits) -> fmt::Result {
    let Limits {
        clients_max,
        open_requests_max,
        client_output_bytes_max,
        client_input_bytes_max,
        parked_requests_max,
        parked_bytes_max,
        park_us,
        sessions_max,
    } = limits;
    let numbers = [
        ("clients_max", *clients_max),
        ("open_requests_max", *open_requests_max),
        ("client_output_bytes_max", *client_output_bytes_max),
        ("client_input_bytes_max", *client_input_bytes_max),
        ("parked_requests_max", *parked_requests_max),
        ("parked_bytes_max", *parked_bytes_max),
        ("park_us", *park_us as usize),
        ("sessions_max", *sessions_max),
    ];
    numbers.iter().try_for_each(|(name, number)| writeln!(f, "limit {name} {number}"))
}

fn write_client(f: &mut impl Write, manner: &Manner) -> fmt::Result {
    let Manner { client, begins_us, depth, patience_us, once, asks } = manner;
    let once = yes_or_no(*once);
    writeln!(f, "client {client} begins_us {begins_us} depth {depth} patience_us {patience_us} once {once}")?;
    match asks {
        Asks::Drawn { operations, think_us, keys, large } => {
            write!(f, "asks {client} operations {operations} think_us {think_us} keys {keys}")?;
            match large {
                Some(Large { every, edge_bytes }) => writeln!(f, " every {every} edge_bytes {edge_bytes}"),
                None => writeln!(f),
            }
        }
        Asks::Listed(asks) => asks.iter().try_for_each(|ask| {
            write!(f, "ask {client}.{} at {}", ask.number, ask.due.since_us(START))?;
            for arg in &ask.args {
                write!(f, " {}", escape(arg))?;
            }
            writeln!(f)
        }),
    }
}

/// Repetitions of its last byte that are counted and not written.
const COUNTED_MIN: usize = 64;

/// An argument as a word: a huge one mostly ends in many bytes alike, which `\+` and their count stand for.
fn escape(arg: &[u8]) -> String {
    let alike = arg.iter().rev().take_while(|byte| Some(*byte) == arg.last()).count();
    let counted = alike.checked_sub(1).filter(|counted| *counted >= COUNTED_MIN);
    let written = &arg[..arg.len() - counted.unwrap_or(0)];
    let word = written.escape_ascii().to_string().replace(' ', "\\x20");
    counted.map_or(word.clone(), |counted| format!("{word}\\+{counted}"))
}

fn write_fault(f: &mut impl Write, fault: &Fault) -> fmt::Result {
    let list = |nodes: &[NodeId]| nodes.iter().map(|node| format!(" {node}")).collect::<String>();
    match fault {
        Fault::Crash { node, down_us } | Fault::Terminate { node, down_us } => writeln!(f, " {node} down_us {down_us}"),
        Fault::PowerLoss { nodes, down_us } => writeln!(f, " down_us {down_us} nodes{}", list(nodes)),
        Fault::Pause { node, us } | Fault::CutClients { node, us } | Fault::DiskStall { node, us } => {
            writeln!(f, " {node} us {us}")
        }
        Fault::Partition { cuts, us } => {
            let cuts: String = cuts.iter().map(|(from, to)| format!(" {from}>{to}")).collect();
            writeln!(f, " us {us} cuts{cuts}")
        }
        Fault::Clog { from, to, us } => writeln!(f, " {from}>{to} us {us}"),
        Fault::ResetClients { node } | Fault::HandOver { to: node } | Fault::Remove { node } => writeln!(f, " {node}"),
        Fault::DiskFailure { node, operations, once, down_us } => {
            writeln!(f, " {node} operations {operations} down_us {down_us}{}", if *once { " once" } else { "" })
        }
        Fault::Wipe { node, down_us, remedy: Remedy::Away } => writeln!(f, " {node} down_us {down_us} away"),
        Fault::Wipe { node, down_us, remedy: Remedy::Anew } => writeln!(f, " {node} down_us {down_us} anew"),
        Fault::OldImage { node, us, down_us } => writeln!(f, " {node} us {us} down_us {down_us}"),
        Fault::Rot { node, down_us, number } => writeln!(f, " {node} down_us {down_us} number {number}"),
        Fault::FreezeClock { node, us } => writeln!(f, " {node} us {us}"),
        Fault::SlowReader { client, us } => writeln!(f, " {client} us {us}"),
        Fault::Crowd { node, connections, us } => writeln!(f, " {node} connections {connections} us {us}"),
        Fault::CutLeader { lone, us } => writeln!(f, " us {us} {}", lone.name()),
        Fault::Decapitate { down_us } => writeln!(f, " down_us {down_us}"),
        Fault::Ambush { late_us, us, then: Then::Dies { down_us } } => {
            writeln!(f, " late_us {late_us} us {us} dies down_us {down_us}")
        }
        Fault::Ambush { late_us, us, then: Then::Stands { us: stands_us, hears } } => {
            writeln!(f, " late_us {late_us} us {us} stands us {stands_us} hears {hears}")
        }
        Fault::Storm { loss, us, down_us } => match down_us {
            Some(down_us) => writeln!(f, " loss {loss} us {us} down_us {down_us}"),
            None => writeln!(f, " loss {loss} us {us}"),
        },
    }
}

fn write_decision(f: &mut impl Write, decision: &Decision) -> fmt::Result {
    let Decision { stream, number, departure } = decision;
    match stream {
        Stream::Link { from, to } => write!(f, "message {from}>{to} {number}")?,
        Stream::ToNode { client } => write!(f, "message c{client}> {number}")?,
        Stream::ToClient { client } => write!(f, "message >c{client} {number}")?,
        Stream::Sync { node } => write!(f, "sync {node} {number}")?,
        Stream::Crash { node } => write!(f, "crash {node} {number}")?,
    }
    match departure {
        Departure::Late(us) => writeln!(f, " late {us}"),
        Departure::Lost => writeln!(f, " lost"),
        Departure::Again(us) => writeln!(f, " again {us}"),
        Departure::Astray => writeln!(f, " astray"),
        Departure::AgainAstray => writeln!(f, " again-astray"),
        Departure::Garbled(Garble::Short(bytes)) => writeln!(f, " short {bytes}"),
        Departure::Garbled(Garble::Joined) => writeln!(f, " joined"),
        Departure::Garbled(Garble::Foreign) => writeln!(f, " foreign"),
        Departure::Torn(number) => writeln!(f, " torn {number:016x}"),
        Departure::Kept => writeln!(f, " kept"),
    }
}

/// A moment of a script.
fn moment(us: u64) -> Instant {
    START.plus_us(us)
}
