//! One source of settings, the command line or a file: what it says and what it leaves open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use paxos_core::ElectionPolicy;
use serde::{Deserialize, Serialize};

use crate::stop::Stop;

/// One source of settings: what it does not say is `None`. The same names serve as TOML keys, as flags and
/// in the environment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// This node's number; must equal the one its data directory was formatted for.
    #[arg(long, env = "PAXOS_ID")]
    pub id: Option<u32>,
    /// The cluster this node belongs to, 32 hexadecimal digits; checked against the data directory if given.
    #[arg(long, env = "PAXOS_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// Where the log lives; in a file, relative to that file.
    #[arg(long, env = "PAXOS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:7000 + id]
    #[arg(long, env = "PAXOS_CLIENT_LISTEN")]
    pub client_listen: Option<String>,
    /// What clients are told to connect to, host:port [default: client_listen]
    #[arg(long, env = "PAXOS_CLIENT_ADVERTISE")]
    pub client_advertise: Option<String>,
    /// Where peers connect [default: 127.0.0.1:7100 + id]
    #[arg(long, env = "PAXOS_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// Every other member, as ID=PEER_ADDR,CLIENT_ADDR; may be repeated
    #[arg(long = "peer", env = "PAXOS_PEERS", value_delimiter = ';')]
    pub peers: Option<Vec<PeerSetting>>,
    /// Who should lead: stable or highest-id [default: stable]
    #[arg(long, env = "PAXOS_ELECTION")]
    pub election: Option<Election>,
    /// Between heartbeats, in milliseconds [default: 50]
    #[arg(long, env = "PAXOS_HEARTBEAT_MS")]
    pub heartbeat_ms: Option<u32>,
    /// Without contact for this long a leader is looked for, in milliseconds [default: 300]
    #[arg(long, env = "PAXOS_ELECTION_TIMEOUT_MS")]
    pub election_timeout_ms: Option<u32>,
    /// First resend of what was not acknowledged, in milliseconds [default: 40]
    #[arg(long, env = "PAXOS_RESEND_MS")]
    pub resend_ms: Option<u32>,
    /// Most slots that are undecided at once; never more than alpha of the genesis [default: 4096]
    #[arg(long, env = "PAXOS_WINDOW_SLOTS")]
    pub window_slots: Option<u32>,
    /// Most bytes that are undecided at once [default: 16 MiB]
    #[arg(long, env = "PAXOS_WINDOW_BYTES")]
    pub window_bytes: Option<usize>,
    /// Size of one file of the log [default: 64 MiB]
    #[arg(long, env = "PAXOS_SEGMENT_BYTES")]
    pub segment_bytes: Option<u64>,
    /// Most client connections at once [default: 10000]
    #[arg(long, env = "PAXOS_MAX_CLIENTS")]
    pub max_clients: Option<usize>,
    /// Most ONCE sessions that are remembered [default: 65536]
    #[arg(long, env = "PAXOS_SESSIONS_MAX")]
    pub sessions_max: Option<usize>,
    /// A client with more unread reply bytes than this is disconnected [default: 64 MiB]
    #[arg(long, env = "PAXOS_CLIENT_OUTPUT_BYTES_MAX")]
    pub client_output_bytes_max: Option<usize>,
    /// A client that is silent for this long is disconnected, in seconds; 0: never [default: 0]
    #[arg(long, env = "PAXOS_CLIENT_IDLE_S")]
    pub client_idle_s: Option<u32>,
    /// Most unsent bytes per peer; frames beyond are dropped and sent again later [default: 16 MiB]
    #[arg(long, env = "PAXOS_PEER_QUEUE_BYTES_MAX")]
    pub peer_queue_bytes_max: Option<usize>,
    /// What to log: error, warn, info, debug, trace, or target=level pairs [default: info]
    #[arg(long, env = "PAXOS_LOG")]
    pub log: Option<String>,
}

/// Another member and how to reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSetting {
    /// Its node id.
    pub id: u32,
    /// Where it listens for peers, host:port.
    pub peer_addr: String,
    /// What clients are told to connect to, host:port.
    pub client_addr: String,
}

/// `ElectionPolicy` by its name in configurations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Election {
    /// A leader stays until it loses contact.
    #[default]
    Stable,
    /// The highest live id leads.
    HighestId,
}

impl From<Election> for ElectionPolicy {
    fn from(election: Election) -> ElectionPolicy {
        match election {
            Election::Stable => ElectionPolicy::Stable,
            Election::HighestId => ElectionPolicy::HighestId,
        }
    }
}

impl FromStr for PeerSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerSetting, String> {
        let shape = || format!("peer {text:?} is not ID=PEER_ADDR,CLIENT_ADDR");
        let (id, addresses) = text.split_once('=').ok_or_else(shape)?;
        let (peer_addr, client_addr) = addresses.split_once(',').ok_or_else(shape)?;
        let id = id.trim().parse().map_err(|_| shape())?;
        Ok(PeerSetting { id, peer_addr: peer_addr.trim().into(), client_addr: client_addr.trim().into() })
    }
}

impl fmt::Display for PeerSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={},{}", self.id, self.peer_addr, self.client_addr)
    }
}

impl Layer {
    /// Reads a TOML file; a relative `data_dir` in it is meant from where the file is.
    ///
    /// # Errors
    /// `Stop::Config` if the file cannot be read, names an unknown key, or gives a key a wrong type.
    pub fn read(path: &Path) -> Result<Layer, Stop> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Stop::Config(format!("{}: {error}", path.display())))?;
        let mut layer = Layer::parse(&text).map_err(|error| Stop::Config(format!("{}: {error}", path.display())))?;
        if let (Some(data_dir), Some(base)) = (&mut layer.data_dir, path.parent())
            && data_dir.is_relative()
        {
            *data_dir = base.join(&*data_dir);
        }
        Ok(layer)
    }

    /// Reads TOML text.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn parse(text: &str) -> Result<Layer, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| one_line(&error, text))
    }

    /// This layer, and `below` where it says nothing.
    #[must_use]
    pub fn over(self, below: Layer) -> Layer {
        Layer {
            id: self.id.or(below.id),
            cluster_id: self.cluster_id.or(below.cluster_id),
            data_dir: self.data_dir.or(below.data_dir),
            client_listen: self.client_listen.or(below.client_listen),
            client_advertise: self.client_advertise.or(below.client_advertise),
            peer_listen: self.peer_listen.or(below.peer_listen),
            peers: self.peers.or(below.peers),
            election: self.election.or(below.election),
            heartbeat_ms: self.heartbeat_ms.or(below.heartbeat_ms),
            election_timeout_ms: self.election_timeout_ms.or(below.election_timeout_ms),
            resend_ms: self.resend_ms.or(below.resend_ms),
            window_slots: self.window_slots.or(below.window_slots),
            window_bytes: self.window_bytes.or(below.window_bytes),
            segment_bytes: self.segment_bytes.or(below.segment_bytes),
            max_clients: self.max_clients.or(below.max_clients),
            sessions_max: self.sessions_max.or(below.sessions_max),
            client_output_bytes_max: self.client_output_bytes_max.or(below.client_output_bytes_max),
            client_idle_s: self.client_idle_s.or(below.client_idle_s),
            peer_queue_bytes_max: self.peer_queue_bytes_max.or(below.peer_queue_bytes_max),
            log: self.log.or(below.log),
        }
    }
}

/// A TOML error is a picture of several lines; an operator's line names place and cause.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let cause = error.message().replace('\n', " ").replace("unknown field", "unknown key");
    match error.span() {
        Some(span) => {
            let line = 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count();
            format!("line {line}: {cause}")
        }
        None => cause,
    }
}
