//! Makes data directories: one (`format`), or those of a whole cluster with their configurations (`init`).
//!
//! All identities of a cluster are made at once, since the genesis in every log names the random incarnation
//! of every member: a node that is formatted anew is somebody else, and takes no part.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use node::wal::{Wal, WalSettings};
use paxos_core::limits::VOTERS_MAX;
use paxos_core::{ClusterId, Formatted, Genesis, Incarnation, Member, Membership, NodeId, QuorumSystem};

use crate::config::{Layer, PeerSetting, Settings, defaults};
use crate::disk::stop_of;
use crate::files::Directory;
use crate::lock::DirectoryLock;
use crate::stop::Stop;

/// What to prepare.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// How many nodes, with ids from 1.
    pub servers: u32,
    /// Where `node-<id>/` and `node-<id>.toml` are made; created if it is not there.
    pub dir: PathBuf,
    /// Client ports are this plus the id, peer ports 100 more.
    pub base_port: u16,
    /// Settings that every node gets beside those that tell it from the others.
    pub settings: Layer,
}

/// A node that `init` prepared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedNode {
    /// Its id.
    pub id: NodeId,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where clients reach it.
    pub client: SocketAddr,
    /// Where peers reach it.
    pub peer: SocketAddr,
}

/// Prepares the data directories and configurations of a whole cluster on this machine's loopback.
///
/// # Errors
/// `Stop::NotEmpty` if there is anything in the directory, `Stop::Config` for impossible options, or what the
/// disk says; what was made before the error is removed again.
pub fn init(options: &InitOptions) -> Result<Vec<PreparedNode>, Stop> {
    check(options)?;
    let dir = &options.dir;
    let existed = dir.exists();
    fs::create_dir_all(dir).map_err(|error| Stop::disk("create", dir, &error))?;
    let mut entries = fs::read_dir(dir).map_err(|error| Stop::disk("list", dir, &error))?;
    if entries.next().is_some() {
        return Err(Stop::NotEmpty(dir.clone()));
    }
    let made = make_all(options);
    if made.is_err() {
        // Only what this call made: the directory was empty before.
        let names =
            (1..=options.servers).map(|id| (dir.join(format!("node-{id}")), dir.join(format!("node-{id}.toml"))));
        for (data_dir, config) in names {
            let _ = fs::remove_dir_all(data_dir);
            let _ = fs::remove_file(config);
        }
        if !existed {
            let _ = fs::remove_dir(dir);
        }
    }
    made
}

fn check(options: &InitOptions) -> Result<(), Stop> {
    if options.servers == 0 || options.servers as usize > VOTERS_MAX {
        return Err(Stop::Config(format!("{} servers; 1 to {VOTERS_MAX} are possible", options.servers)));
    }
    // Admin ports, 200 above the client's, are reserved.
    let highest = u32::from(options.base_port) + options.servers + 2 * u32::from(defaults::PEER_PORT_OFFSET);
    if highest > u32::from(u16::MAX) {
        return Err(Stop::Config(format!("base port {} leaves no room for {highest}", options.base_port)));
    }
    let layer = &options.settings;
    let own = [
        ("id", layer.id.is_some()),
        ("cluster_id", layer.cluster_id.is_some()),
        ("data_dir", layer.data_dir.is_some()),
        ("client_listen", layer.client_listen.is_some()),
        ("client_advertise", layer.client_advertise.is_some()),
        ("peer_listen", layer.peer_listen.is_some()),
        ("peers", layer.peers.is_some()),
    ];
    match own.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(Stop::Config(format!("{key} differs from node to node and cannot be common to all"))),
        None => Ok(()),
    }
}

fn make_all(options: &InitOptions) -> Result<Vec<PreparedNode>, Stop> {
    let ids: Vec<NodeId> = (1..=options.servers).map(NodeId).collect();
    let cluster = ClusterId::new(random_u128()?);
    let genesis = genesis(&ids)?;
    let mut prepared = Vec::new();
    for &id in &ids {
        let data_dir = options.dir.join(format!("node-{id}"));
        let layer = node_layer(options, &ids, id, cluster);
        let settings =
            Settings::complete(layer.clone().over(Layer { data_dir: Some(data_dir.clone()), ..Layer::default() }))?;
        format_as(&settings, cluster, &genesis)?;
        let config = options.dir.join(format!("node-{id}.toml"));
        let layer = Layer { data_dir: Some(PathBuf::from(format!("node-{id}"))), ..layer };
        write_config(&config, &layer)?;
        prepared.push(PreparedNode {
            id,
            config,
            data_dir,
            client: settings.client_listen,
            peer: settings.peer_listen,
        });
    }
    Ok(prepared)
}

fn node_layer(options: &InitOptions, ids: &[NodeId], id: NodeId, cluster: ClusterId) -> Layer {
    let address = |id: NodeId, offset: u16| format!("127.0.0.1:{}", u32::from(options.base_port + offset) + id.0);
    let peers = ids.iter().filter(|&&peer| peer != id).map(|&peer| PeerSetting {
        id: peer.0,
        peer_addr: address(peer, defaults::PEER_PORT_OFFSET),
        client_addr: address(peer, 0),
    });
    let own = Layer {
        id: Some(id.0),
        cluster_id: Some(cluster.to_string()),
        client_listen: Some(address(id, 0)),
        peer_listen: Some(address(id, defaults::PEER_PORT_OFFSET)),
        peers: Some(peers.collect()),
        ..Layer::default()
    };
    own.over(options.settings.clone())
}

fn write_config(path: &Path, layer: &Layer) -> Result<(), Stop> {
    let text = toml::to_string(layer).map_err(|error| Stop::Config(error.to_string()))?;
    fs::write(path, text).map_err(|error| Stop::disk("write", path, &error))
}

/// Formats the data directory of one node as the member of a new cluster of the nodes that its configuration
/// names. Members of any other cluster will refuse it.
///
/// # Errors
/// `Stop::NotEmpty` if the directory holds a log already, or what the disk says.
pub fn format(settings: &Settings) -> Result<ClusterId, Stop> {
    let cluster = match settings.cluster_id {
        Some(cluster) => cluster,
        None => ClusterId::new(random_u128()?),
    };
    format_as(settings, cluster, &genesis(&settings.members())?)?;
    Ok(cluster)
}

/// A genesis of these nodes with new random incarnations.
fn genesis(ids: &[NodeId]) -> Result<Genesis, Stop> {
    let mut voters = Vec::new();
    for &node in ids {
        let incarnation = Incarnation(random_u64()?);
        voters.push(Member { node, incarnation, generation: 0 });
    }
    Membership::new(voters, Vec::new(), QuorumSystem::Majority)
        .and_then(|membership| Genesis::new(membership, defaults::ALPHA))
        .map_err(|error| Stop::Config(format!("peers: {error}")))
}

fn format_as(settings: &Settings, cluster: ClusterId, genesis: &Genesis) -> Result<(), Stop> {
    // Checked now, so that no directory is made for settings that no node could start with.
    settings.check_against(genesis)?;
    let dir = &settings.data_dir;
    fs::create_dir_all(dir).map_err(|error| Stop::disk("create", dir, &error))?;
    let _lock = DirectoryLock::take(dir)?;
    let member = genesis.membership().member(settings.id);
    let member = member.ok_or_else(|| Stop::Config(format!("node {} is not among its own members", settings.id)))?;
    let formatted = Formatted { cluster, node: settings.id, incarnation: member.incarnation, genesis: genesis.clone() };
    let files = Directory::open(dir).map_err(|error| Stop::disk("open", dir, &error))?;
    Wal::format(files, wal_settings(settings), formatted).map_err(|error| stop_of(dir, error))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // The entry of the directory itself must survive too.
        let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| Stop::disk("sync", parent, &error))?;
    }
    Ok(())
}

/// The settings of the log.
pub(crate) fn wal_settings(settings: &Settings) -> WalSettings {
    WalSettings { segment_bytes: settings.segment_bytes, ..WalSettings::default() }
}

/// Random bits from the operating system.
pub(crate) fn random_u64() -> Result<u64, Stop> {
    getrandom::u64().map_err(|error| Stop::System {
        what: "random numbers".into(),
        source: std::io::Error::other(error.to_string()),
    })
}

fn random_u128() -> Result<u128, Stop> {
    Ok(u128::from(random_u64()?) << 64 | u128::from(random_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn options(dir: &Path, servers: u32) -> InitOptions {
        let settings = Layer { segment_bytes: Some(64 << 10), ..Layer::default() };
        InitOptions { servers, dir: dir.to_owned(), base_port: 7000, settings }
    }

    #[test]
    fn impossible_clusters_are_refused_before_anything_is_made() {
        let scratch = Scratch::new("init-impossible");
        let dir = scratch.path().join("d");
        let with = |layer: Layer| InitOptions { settings: layer, ..options(&dir, 3) };
        let cases = [
            (options(&dir, 0), "0 servers"),
            (options(&dir, 10), "10 servers"),
            (InitOptions { base_port: 65_400, ..options(&dir, 3) }, "base port"),
            (with(Layer { id: Some(4), ..Layer::default() }), "id differs"),
            (with(Layer { peers: Some(vec![]), ..Layer::default() }), "peers differs"),
            (with(Layer { heartbeat_ms: Some(0), ..Layer::default() }), "heartbeat_ms = 0"),
        ];
        for (options, expected) in cases {
            let error = init(&options).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!dir.exists());
        }
    }

    #[test]
    fn a_directory_with_anything_in_it_is_left_alone() {
        let scratch = Scratch::new("init-not-empty");
        fs::write(scratch.path().join("precious"), "data").expect("a file");
        let error = init(&options(scratch.path(), 3)).expect_err("not empty");
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(fs::read_dir(scratch.path()).expect("a directory").count(), 1);
    }
}
