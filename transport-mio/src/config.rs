//! The settings of a node: what they are, where they come from, what they may be.
//!
//! Every setting is a field of `Layer`. A layer comes from the command line (flags, then the environment as
//! `PAXOS_<NAME>`) and one from the TOML file; the first that says something wins, then the default below.

mod layer;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use paxos_core::{ClusterId, Config, ConfigError, ElectionPolicy, Genesis, NodeId};

use crate::stop::Stop;

pub use layer::{Election, Layer, PeerSetting};

/// Every setting of a node, complete and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// This node.
    pub id: NodeId,
    /// The cluster that the data directory must belong to, if the configuration says so.
    pub cluster_id: Option<ClusterId>,
    /// Where the log lives.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub client_listen: SocketAddr,
    /// What clients are told to connect to; `None`: where the node listens.
    pub client_advertise: Option<String>,
    /// Where peers connect.
    pub peer_listen: SocketAddr,
    /// Every other member, by rising id.
    pub peers: Vec<PeerSetting>,
    /// The settings of the core.
    pub core: Config,
    /// Size of one file of the log.
    pub segment_bytes: u64,
    /// Most client connections at once.
    pub max_clients: usize,
    /// Most ONCE sessions.
    pub sessions_max: usize,
    /// Most unread reply bytes of a client.
    pub client_output_bytes_max: usize,
    /// Silence after which a client is disconnected, in seconds; 0: never.
    pub client_idle_s: u32,
    /// Most unsent bytes per peer.
    pub peer_queue_bytes_max: usize,
    /// What to log.
    pub log: String,
}

/// What is used where no layer says anything.
pub mod defaults {
    /// Port of clients, plus the node's id.
    pub const BASE_PORT: u16 = 7000;
    /// Peer ports lie this far above client ports.
    pub const PEER_PORT_OFFSET: u16 = 100;
    /// Slots of a window times sixteen: room to raise `window_slots` later, for alpha is fixed at genesis.
    pub const ALPHA: u64 = 65_536;
    /// Replay reads segments one by one, so their size only trades files against space held in advance.
    pub const SEGMENT_BYTES: u64 = 64 << 20;
    /// As Redis.
    pub const MAX_CLIENTS: usize = 10_000;
    /// About 64 replies each are kept.
    pub const SESSIONS_MAX: usize = 65_536;
    /// Sixty replies of the largest value.
    pub const CLIENT_OUTPUT_BYTES_MAX: usize = 64 << 20;
    /// A window's worth of entries: more could not be outstanding.
    pub const PEER_QUEUE_BYTES_MAX: usize = 16 << 20;
    /// One line per role change, link and failure.
    pub const LOG: &str = "info";
}

/// Least size of a log segment: one entry of the largest size and its heads fit several times.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

impl Settings {
    /// Completes a layer with the defaults and checks it.
    ///
    /// # Errors
    /// `Stop::Config` names the key and what it may be.
    pub fn complete(layer: Layer) -> Result<Settings, Stop> {
        let id = layer.id.ok_or_else(|| missing("id"))?;
        let data_dir = layer.data_dir.ok_or_else(|| missing("data_dir"))?;
        let cluster_id = layer.cluster_id.as_deref().map(parse_cluster_id).transpose()?;
        let client_listen = listen_address("client_listen", layer.client_listen, id, 0)?;
        let peer_listen = listen_address("peer_listen", layer.peer_listen, id, defaults::PEER_PORT_OFFSET)?;
        let core = Config::default();
        let ms = |setting: Option<u32>, default_us: u64| setting.map_or(default_us, |ms| u64::from(ms) * 1_000);
        let settings = Settings {
            id: NodeId(id),
            cluster_id,
            data_dir,
            client_listen,
            client_advertise: checked_advertise(layer.client_advertise, client_listen)?,
            peer_listen,
            peers: checked_peers(id, layer.peers.unwrap_or_default())?,
            core: Config {
                election: layer.election.unwrap_or_default().into(),
                heartbeat_us: ms(layer.heartbeat_ms, core.heartbeat_us),
                election_timeout_us: ms(layer.election_timeout_ms, core.election_timeout_us),
                resend_us: ms(layer.resend_ms, core.resend_us),
                window_slots: layer.window_slots.unwrap_or(core.window_slots),
                window_bytes: layer.window_bytes.unwrap_or(core.window_bytes),
                ..core
            },
            segment_bytes: layer.segment_bytes.unwrap_or(defaults::SEGMENT_BYTES),
            max_clients: layer.max_clients.unwrap_or(defaults::MAX_CLIENTS),
            sessions_max: layer.sessions_max.unwrap_or(defaults::SESSIONS_MAX),
            client_output_bytes_max: layer.client_output_bytes_max.unwrap_or(defaults::CLIENT_OUTPUT_BYTES_MAX),
            client_idle_s: layer.client_idle_s.unwrap_or(0),
            peer_queue_bytes_max: layer.peer_queue_bytes_max.unwrap_or(defaults::PEER_QUEUE_BYTES_MAX),
            log: layer.log.unwrap_or_else(|| defaults::LOG.into()),
        };
        settings.check_bounds()?;
        Ok(settings)
    }

    fn check_bounds(&self) -> Result<(), Stop> {
        use paxos_core::limits::FRAME_BYTES_MAX;
        let at_least = [
            ("segment_bytes", self.segment_bytes, SEGMENT_BYTES_MIN),
            ("max_clients", self.max_clients as u64, 1),
            ("sessions_max", self.sessions_max as u64, 1),
            ("client_output_bytes_max", self.client_output_bytes_max as u64, 2 << 20),
            ("peer_queue_bytes_max", self.peer_queue_bytes_max as u64, 2 * FRAME_BYTES_MAX as u64),
        ];
        for (key, given, least) in at_least {
            if given < least {
                return Err(Stop::Config(format!("{key} = {given} must be at least {least}")));
            }
        }
        Ok(())
    }

    /// Checks the settings of the core against each other and against the genesis that the log begins with.
    ///
    /// # Errors
    /// `Stop::Config` names the keys as they are written in a configuration, and the bound.
    pub(crate) fn check_against(&self, genesis: &Genesis) -> Result<(), Stop> {
        self.core.validate(genesis).map_err(|error| Stop::Config(in_keys(&error)))
    }

    /// Every setting as a layer, for `--print-config`.
    pub fn to_layer(&self) -> Layer {
        let ms = |us: u64| u32::try_from(us / 1_000).ok();
        Layer {
            id: Some(self.id.0),
            cluster_id: self.cluster_id.map(|id| id.to_string()),
            data_dir: Some(self.data_dir.clone()),
            client_listen: Some(self.client_listen.to_string()),
            client_advertise: self.client_advertise.clone(),
            peer_listen: Some(self.peer_listen.to_string()),
            peers: Some(self.peers.clone()),
            election: Some(match self.core.election {
                ElectionPolicy::Stable => Election::Stable,
                ElectionPolicy::HighestId => Election::HighestId,
            }),
            heartbeat_ms: ms(self.core.heartbeat_us),
            election_timeout_ms: ms(self.core.election_timeout_us),
            resend_ms: ms(self.core.resend_us),
            window_slots: Some(self.core.window_slots),
            window_bytes: Some(self.core.window_bytes),
            segment_bytes: Some(self.segment_bytes),
            max_clients: Some(self.max_clients),
            sessions_max: Some(self.sessions_max),
            client_output_bytes_max: Some(self.client_output_bytes_max),
            client_idle_s: Some(self.client_idle_s),
            peer_queue_bytes_max: Some(self.peer_queue_bytes_max),
            log: Some(self.log.clone()),
        }
    }

    /// The members that the configuration names, this node included, by rising id.
    pub fn members(&self) -> Vec<NodeId> {
        let mut members: Vec<NodeId> = self.peers.iter().map(|peer| NodeId(peer.id)).chain([self.id]).collect();
        members.sort_unstable();
        members
    }
}

/// What the core says of its settings, in the keys and units of a configuration.
fn in_keys(error: &ConfigError) -> String {
    let key = |setting: &str| setting.strip_suffix("_us").map_or(setting.into(), |name| format!("{name}_ms"));
    let ms = |us: u64| us / 1_000;
    match *error {
        ConfigError::Zero(setting) => format!("{} = 0 must be at least 1", key(setting)),
        ConfigError::TimeoutTooShort { election_timeout_us, heartbeat_us } => format!(
            "election_timeout_ms = {} must be at least 3 times heartbeat_ms = {}",
            ms(election_timeout_us),
            ms(heartbeat_us)
        ),
        ConfigError::ResendAboveMax { resend_us, resend_us_max } => {
            format!("resend_ms = {} must be at most {}", ms(resend_us), ms(resend_us_max))
        }
        ConfigError::WindowAboveAlpha { window_slots, alpha } => {
            format!("window_slots = {window_slots} must be at most {alpha}, the alpha that the log was formatted with")
        }
        ConfigError::OutOfRange { setting, given, min, max: usize::MAX } => {
            format!("{} = {given} must be at least {min}", key(setting))
        }
        ConfigError::OutOfRange { setting, given, min, max } => {
            format!("{} = {given} must be from {min} to {max}", key(setting))
        }
    }
}

fn missing(key: &str) -> Stop {
    Stop::Config(format!(
        "{key} is not set (flag --{}, environment PAXOS_{}, or TOML key {key})",
        key.replace('_', "-"),
        key.to_uppercase()
    ))
}

fn parse_cluster_id(text: &str) -> Result<ClusterId, Stop> {
    u128::from_str_radix(text, 16)
        .map(ClusterId::new)
        .map_err(|_| Stop::Config(format!("cluster_id = {text:?} is not a number of 32 hexadecimal digits")))
}

fn listen_address(key: &str, given: Option<String>, id: u32, offset: u16) -> Result<SocketAddr, Stop> {
    let Some(text) = given else {
        let port = u16::try_from(id).ok().and_then(|id| (defaults::BASE_PORT + offset).checked_add(id));
        let port = port.ok_or_else(|| Stop::Config(format!("{key} is not set, and id {id} gives no default port")))?;
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    };
    let mut addresses = text.to_socket_addrs().map_err(|error| Stop::Config(format!("{key} = {text:?}: {error}")))?;
    addresses.next().ok_or_else(|| Stop::Config(format!("{key} = {text:?} names no address")))
}

fn checked_advertise(given: Option<String>, listen: SocketAddr) -> Result<Option<String>, Stop> {
    match given {
        Some(address) if host_and_port(&address).is_none() => {
            Err(Stop::Config(format!("client_advertise = {address:?} is not host:port")))
        }
        None if listen.ip().is_unspecified() => Err(Stop::Config(format!(
            "client_advertise is not set, and client_listen = {listen} is no address that clients could be told"
        ))),
        given => Ok(given),
    }
}

/// Splits `host:port`; an IPv6 address is written in brackets, and comes out without them.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

fn checked_peers(id: u32, mut peers: Vec<PeerSetting>) -> Result<Vec<PeerSetting>, Stop> {
    peers.sort_by_key(|peer| peer.id);
    if peers.iter().any(|peer| peer.id == id) {
        return Err(Stop::Config(format!("peers names node {id}, which is this node")));
    }
    if let Some([one, _]) = peers.windows(2).find(|pair| matches!(pair, [one, two] if one.id == two.id)) {
        return Err(Stop::Config(format!("peers names node {} twice", one.id)));
    }
    for peer in &peers {
        for (key, address) in [("peer_addr", &peer.peer_addr), ("client_addr", &peer.client_addr)] {
            if host_and_port(address).is_none() {
                return Err(Stop::Config(format!("{key} of peer {} = {address:?} is not host:port", peer.id)));
            }
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        id = 2
        data_dir = "node-2"
        heartbeat_ms = 20
        election = "highest-id"
        peers = [{ id = 1, peer_addr = "127.0.0.1:7101", client_addr = "127.0.0.1:7001" }]
    "#;

    #[test]
    fn a_layer_above_wins_and_defaults_fill_the_rest() {
        let file = Layer::parse(FILE).expect("valid");
        let flags = Layer { heartbeat_ms: Some(30), max_clients: Some(9), ..Layer::default() };
        let settings = Settings::complete(flags.over(file)).expect("valid");
        assert_eq!(settings.core.heartbeat_us, 30_000);
        assert_eq!(settings.core.election, ElectionPolicy::HighestId);
        assert_eq!(settings.max_clients, 9);
        assert_eq!(settings.segment_bytes, defaults::SEGMENT_BYTES);
        assert_eq!(settings.client_listen.to_string(), "127.0.0.1:7002");
        assert_eq!(settings.peer_listen.to_string(), "127.0.0.1:7102");
        assert_eq!(settings.members(), [NodeId(1), NodeId(2)]);
    }

    #[test]
    fn printed_settings_read_back_equal() {
        let settings = Settings::complete(Layer::parse(FILE).expect("valid")).expect("valid");
        let printed = toml::to_string(&settings.to_layer()).expect("settings are plain");
        assert_eq!(Settings::complete(Layer::parse(&printed).expect("own output")).expect("valid"), settings);
        assert!(settings.to_layer() == Layer { ..settings.to_layer() }.over(Layer::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("heartbeat = 3", "unknown key `heartbeat`"),
            ("id = 1\nheartbaet_ms = 3", "line 2: unknown key `heartbaet_ms`"),
            ("peers = [{ id = 1, peer_addr = 'a:1', client_addr = 'b:2', x = 1 }]", "unknown key `x`"),
            ("id = 'one'", "invalid type"),
            ("data_dir = 'd'", "id is not set"),
            ("id = 1", "data_dir is not set"),
            ("id = 1\ndata_dir = 'd'\ncluster_id = 'xyz'", "cluster_id"),
            ("id = 1\ndata_dir = 'd'\nclient_listen = 'nonsense'", "client_listen"),
            ("id = 1\ndata_dir = 'd'\nclient_listen = '0.0.0.0:1'", "client_advertise is not set"),
            ("id = 70000\ndata_dir = 'd'", "client_listen is not set"),
            ("id = 1\ndata_dir = 'd'\nsegment_bytes = 10", "segment_bytes = 10 must be at least"),
            (
                "id = 1\ndata_dir = 'd'\npeers = [{ id = 1, peer_addr = 'a:1', client_addr = 'b:2' }]",
                "which is this node",
            ),
            (
                "id = 1\ndata_dir = 'd'\npeers = [{ id = 2, peer_addr = 'a', client_addr = 'b:2' }]",
                "peer_addr of peer 2",
            ),
            (
                "id = 1\ndata_dir = 'd'\npeers = [{ id = 2, peer_addr = 'a:1', client_addr = 'b:2' }, { id = 2, peer_addr = 'a:1', client_addr = 'b:2' }]",
                "node 2 twice",
            ),
        ];
        for (text, expected) in cases {
            let error = match Layer::parse(text) {
                Ok(layer) => Settings::complete(layer).expect_err(text).to_string(),
                Err(error) => error,
            };
            assert!(error.contains(expected), "{text:?} gave {error:?}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn peers_on_the_command_line_have_one_shape() {
        let peer: PeerSetting = "3=10.0.0.3:7103,db3:7003".parse().expect("valid");
        assert_eq!(peer.to_string(), "3=10.0.0.3:7103,db3:7003");
        for wrong in ["", "3", "3=a", "x=a:1,b:2"] {
            assert!(wrong.parse::<PeerSetting>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn there_are_fewer_than_thirty_settings() {
        let settings = Settings::complete(Layer::parse(FILE).expect("valid")).expect("valid");
        let table = toml::Table::try_from(settings.to_layer()).expect("settings are plain");
        assert!(table.len() < 30, "{}", table.len());
    }
}
