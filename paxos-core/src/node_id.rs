//! The room for names of things that talk: clusters, nodes, their incarnations and boots.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Which cluster a node belongs to; random, drawn once when the cluster is formatted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// The cluster with this number.
    pub const fn new(number: u128) -> ClusterId {
        ClusterId(number.to_be_bytes())
    }

    /// The cluster's number.
    pub const fn get(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.get())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.get())
    }
}

/// A node's number within its cluster, chosen by the operator; never used as an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which life of a node's disk this is; random, drawn by each `format`. A wiped disk is a new incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// One start of a process on one disk. A new pair is durable before the first message of each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Boot {
    /// Starts of this incarnation so far, this one included: from 1, one more at each start.
    pub counter: u64,
    /// Random, so that two starts from copies of one disk differ.
    pub nonce: u64,
}
