//! The room for the links between the nodes of a cluster: a proxy in each, so that a test can draw any digraph.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use paxos_core::NodeId;
use transport_mio::hello::dials;

use super::{Flow, Lateness, Proxy, Way};
use crate::cluster::{Cluster, ClusterError};

/// The links of a cluster.
#[derive(Debug)]
pub struct PeerLinks {
    /// By who dials and who is dialled.
    proxies: BTreeMap<(u32, u32), Proxy>,
}

impl PeerLinks {
    /// Puts a proxy into every link: the configurations of the nodes name it in the place of the peer from now on. To
    /// be done before the nodes start.
    ///
    /// # Errors
    /// `ClusterError` if a proxy or a configuration cannot be made.
    pub fn between(cluster: &Cluster) -> Result<PeerLinks, ClusterError> {
        let mut proxies = BTreeMap::new();
        for node in cluster.nodes() {
            let dialled = cluster.nodes().iter().filter(|peer| dials(NodeId(node.id()), NodeId(peer.id())));
            let mut addresses = BTreeMap::new();
            for peer in dialled {
                let failed = |source| ClusterError::Io { what: format!("a proxy before {}", peer.peer()), source };
                let proxy = before(peer.peer()).map_err(failed)?;
                addresses.insert(peer.id(), proxy.address());
                proxies.insert((node.id(), peer.id()), proxy);
            }
            node.reconfigure(|mut layer| {
                for peer in layer.peers.iter_mut().flatten() {
                    if let Some(address) = addresses.get(&peer.id) {
                        peer.peer_addr = address.to_string();
                    }
                }
                layer
            })?;
        }
        Ok(PeerLinks { proxies })
    }

    /// Opens or cuts the way from one node to another.
    ///
    /// # Panics
    /// If there is no such link.
    pub fn set(&self, from: u32, to: u32, flow: Flow) {
        let there = self.proxies.get(&(from, to)).map(|proxy| (proxy, Way::There));
        let back = || self.proxies.get(&(to, from)).map(|proxy| (proxy, Way::Back));
        let (proxy, way) = there.or_else(back).unwrap_or_else(|| panic!("no link from {from} to {to}"));
        proxy.set_flow(way, flow);
    }

    /// Cuts every link, both ways, that is not one of these.
    pub fn only(&self, pairs: &[(u32, u32)], flow: Flow) {
        for (one, other) in self.proxies.keys() {
            let stays = pairs.contains(&(*one, *other)) || pairs.contains(&(*other, *one));
            let flow = if stays { Flow::Open } else { flow };
            self.set(*one, *other, flow);
            self.set(*other, *one, flow);
        }
    }

    /// Opens every link.
    pub fn mend(&self) {
        self.proxies.values().for_each(|proxy| Way::ALL.iter().for_each(|way| proxy.set_flow(*way, Flow::Open)));
    }

    /// Makes all that passes so late.
    pub fn set_lateness(&self, lateness: Lateness) {
        self.proxies.values().for_each(|proxy| Way::ALL.iter().for_each(|way| proxy.set_lateness(*way, lateness)));
    }
}

fn before(peer: &str) -> io::Result<Proxy> {
    let target: SocketAddr = peer.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Proxy::before(target)
}
