//! The room for what a driver tells a node about itself before it starts.

use std::collections::BTreeMap;

use paxos_core::{Config, NodeId, StartError};
use thiserror::Error;

use crate::limits::{Limits, LimitsError};

/// Where clients reach a node: announced by CLUSTER SLOTS and in MOVED.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    /// A host name or an IP address.
    pub host: String,
    /// The client port.
    pub port: u16,
}

impl Address {
    /// The address of this host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        Address { host: host.into(), port }
    }
}

/// The settings of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// The settings of its replica.
    pub paxos: Config,
    /// Where clients reach each node of the cluster, this one included.
    pub addresses: BTreeMap<NodeId, Address>,
    /// Its bounds.
    pub limits: Limits,
}

/// Why a node cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NodeError {
    /// Its replica cannot be made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its limits contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}
