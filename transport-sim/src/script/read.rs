//! Reads scripts. Every line is a statement of its own: a word that says of what, then values, most behind their
//! names. Blank lines and those that begin with `#` say nothing. What no line sets keeps its default.

mod words;

use std::fmt;
use std::str::FromStr;

use node::limits::Limits;
use node::wal::WalSettings;
use paxos_core::{Config, ElectionPolicy, Genesis, Member, Membership, NodeId, QuorumSystem, Slot};

use self::words::Words;
use super::{HEAD, Script, moment};
use crate::client::{Asks, Manner};
use crate::decisions::{Decision, Stream};
use crate::nemesis::Fault;
use crate::network::Quality;
use crate::scenario::{DiskQuality, Scenario};

/// Why a text is no script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misread {
    /// From 1; one behind the last line if something is missing.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Misread {}

/// What the lines so far have set.
struct Draft {
    seed: u64,
    voters: Vec<Member>,
    learners: Vec<Member>,
    quorum: QuorumSystem,
    alpha: u64,
    scenario: Rest,
    decisions: Vec<Decision>,
}

/// What of a scenario stands apart from its genesis.
struct Rest {
    config: Config,
    limits: Limits,
    wal: WalSettings,
    clients: Vec<Manner>,
    quality: Quality,
    disk: DiskQuality,
    slow_disks: Vec<(NodeId, DiskQuality)>,
    late: Vec<(NodeId, paxos_core::Instant)>,
    drift: u64,
    faults_us: u64,
    calm_us: Option<u64>,
    rest_us: Option<u64>,
    faults: Vec<(paxos_core::Instant, Fault)>,
}

impl FromStr for Script {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Script, Misread> {
        let mut draft = Draft::new();
        let mut headed = false;
        let mut count = 0;
        for (line, text) in (1..).zip(text.lines()) {
            count = line;
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if !std::mem::replace(&mut headed, true) {
                if text != HEAD {
                    return Err(Misread { line, why: format!("a script begins with {HEAD:?}") });
                }
                continue;
            }
            let mut words = Words { words: text.split_ascii_whitespace().collect(), at: 0 };
            draft.line(&mut words).and_then(|()| words.end()).map_err(|why| Misread { line, why })?;
        }
        let misread = |why: String| Misread { line: count + 1, why };
        if !headed {
            return Err(misread(format!("a script begins with {HEAD:?}")));
        }
        draft.finish().map_err(misread)
    }
}

impl Draft {
    fn new() -> Draft {
        Draft {
            seed: 0,
            voters: Vec::new(),
            learners: Vec::new(),
            quorum: QuorumSystem::Majority,
            alpha: u64::from(Config::default().window_slots),
            scenario: Rest {
                config: Config::default(),
                limits: Limits::default(),
                wal: WalSettings { segment_bytes: 64 << 10, align_bytes: 512 },
                clients: Vec::new(),
                quality: Quality { jitter_us: 0, ..Quality::CALM },
                disk: DiskQuality { sync_jitter_us: 0, ..DiskQuality::CALM },
                slow_disks: Vec::new(),
                late: Vec::new(),
                drift: 0,
                faults_us: 0,
                calm_us: None,
                rest_us: None,
                faults: Vec::new(),
            },
            decisions: Vec::new(),
        }
    }

    fn finish(self) -> Result<Script, String> {
        let membership = Membership::new(self.voters, self.learners, self.quorum).map_err(|error| error.to_string())?;
        let genesis = Genesis::new(membership, self.alpha).map_err(|error| error.to_string())?;
        let Rest {
            config,
            limits,
            wal,
            clients,
            quality,
            disk,
            slow_disks,
            late,
            drift,
            faults_us,
            calm_us,
            rest_us,
            faults,
        } = self.scenario;
        let scenario = Scenario {
            seed: self.seed,
            genesis,
            config,
            limits,
            wal,
            clients,
            quality,
            disk,
            slow_disks,
            late,
            drift,
            faults_us,
            calm_us,
            rest_us,
            faults,
        };
        let asks_rise = scenario.clients.iter().all(|manner| match &manner.asks {
            Asks::Drawn { .. } => true,
            Asks::Listed(asks) => asks.is_sorted_by_key(|ask| ask.due),
        });
        if !asks_rise {
            return Err("the asks of a client must be ordered by their time".to_owned());
        }
        let names: std::collections::BTreeSet<u32> = scenario.clients.iter().map(|manner| manner.client).collect();
        if names.len() < scenario.clients.len() {
            return Err("two clients have the same name".to_owned());
        }
        scenario.config.validate(&scenario.genesis).map_err(|error| error.to_string())?;
        let nodes: Vec<NodeId> = scenario.genesis.membership().members().map(|member| member.node).collect();
        let stranger = scenario.faults.iter().flat_map(|(_, fault)| fault.nodes()).find(|node| !nodes.contains(node));
        if let Some(stranger) = stranger {
            return Err(format!("a fault names node {stranger}, which is no member"));
        }
        Ok(Script::new(scenario, self.decisions))
    }

    fn line(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let rest = &mut self.scenario;
        match words.next("a statement")? {
            "seed" => self.seed = words.number()?,
            "voter" => self.voters.push(words.member()?),
            "learner" => self.learners.push(words.member()?),
            "quorum" => {
                self.quorum = match words.next("majority or flexible")? {
                    "majority" => QuorumSystem::Majority,
                    "flexible" => QuorumSystem::Flexible { phase1: words.number()?, phase2: words.number()? },
                    other => return Err(format!("{other:?} is no quorum system")),
                }
            }
            "alpha" => self.alpha = words.number()?,
            "config" => read_config(&mut rest.config, words)?,
            "limit" => read_limit(&mut rest.limits, words)?,
            "wal" => match words.next("a setting")? {
                "segment_bytes" => rest.wal.segment_bytes = words.number()?,
                "align_bytes" => rest.wal.align_bytes = words.number()?,
                other => return Err(format!("{other:?} is no setting of a log")),
            },
            "link" => match words.next("a setting")? {
                "delay_us_min" => rest.quality.delay_us_min = words.number()?,
                "reorders" => rest.quality.reorders = words.yes_or_no()?,
                other => return Err(format!("{other:?} is no setting of links")),
            },
            "disk" => rest.disk.sync_us_min = words.named("sync_us_min")?,
            "slow" => {
                let (node, sync_us_min) = (words.node()?, words.named("sync_us_min")?);
                rest.slow_disks.push((node, DiskQuality { sync_us_min, sync_jitter_us: 0 }));
            }
            "late" => rest.late.push((words.node()?, moment(words.named("at")?))),
            "drift" => rest.drift = words.number()?,
            "faults_us" => rest.faults_us = words.number()?,
            "calm_us" => rest.calm_us = Some(words.number()?),
            "rest_us" => rest.rest_us = Some(words.number()?),
            "client" => rest.clients.push(words.manner()?),
            "asks" => {
                let client: u32 = words.number()?;
                manner_of(&mut rest.clients, client)?.asks = words.asks()?;
            }
            "ask" => {
                let (client, ask) = words.ask()?;
                match &mut manner_of(&mut rest.clients, client)?.asks {
                    Asks::Listed(asks) => asks.push(ask),
                    Asks::Drawn { .. } => return Err(format!("the asks of client {client} are drawn")),
                }
            }
            "fault" => rest.faults.push((moment(words.named("at")?), words.fault()?)),
            "message" => {
                let stream = words.link()?;
                self.decisions.push(words.decision(stream)?);
            }
            "sync" => {
                let stream = Stream::Sync { node: words.node()? };
                self.decisions.push(words.decision(stream)?);
            }
            "crash" => {
                let stream = Stream::Crash { node: words.node()? };
                self.decisions.push(words.decision(stream)?);
            }
            other => return Err(format!("{other:?} is no statement")),
        }
        Ok(())
    }
}

fn manner_of(clients: &mut [Manner], client: u32) -> Result<&mut Manner, String> {
    let found = clients.iter_mut().find(|manner| manner.client == client);
    found.ok_or_else(|| format!("client {client} is not there yet"))
}

fn read_config(config: &mut Config, words: &mut Words<'_>) -> Result<(), String> {
    match words.next("a setting")? {
        "election" => {
            config.election = match words.next("stable or highest-id")? {
                "stable" => ElectionPolicy::Stable,
                "highest-id" => ElectionPolicy::HighestId,
                other => return Err(format!("{other:?} is no election policy")),
            }
        }
        "heartbeat_us" => config.heartbeat_us = words.number()?,
        "election_timeout_us" => config.election_timeout_us = words.number()?,
        "resend_us" => config.resend_us = words.number()?,
        "resend_us_max" => config.resend_us_max = words.number()?,
        "window_slots" => config.window_slots = words.number()?,
        "window_bytes" => config.window_bytes = words.number()?,
        "entry_bytes_max" => config.entry_bytes_max = words.number()?,
        "run_entries_max" => config.run_entries_max = words.number()?,
        "run_bytes_max" => config.run_bytes_max = words.number()?,
        "reads_max" => config.reads_max = words.number()?,
        "last_slot" => config.last_slot = Some(Slot::new(words.number()?).ok_or("slots begin at 1")?),
        other => return Err(format!("{other:?} is no setting of a replica")),
    }
    Ok(())
}

fn read_limit(limits: &mut Limits, words: &mut Words<'_>) -> Result<(), String> {
    match words.next("a limit")? {
        "clients_max" => limits.clients_max = words.number()?,
        "open_requests_max" => limits.open_requests_max = words.number()?,
        "client_output_bytes_max" => limits.client_output_bytes_max = words.number()?,
        "client_input_bytes_max" => limits.client_input_bytes_max = words.number()?,
        "parked_requests_max" => limits.parked_requests_max = words.number()?,
        "parked_bytes_max" => limits.parked_bytes_max = words.number()?,
        "park_us" => limits.park_us = words.number()?,
        "sessions_max" => limits.sessions_max = words.number()?,
        other => return Err(format!("{other:?} is no limit")),
    }
    Ok(())
}
