//! Launches, loads, checks and measures clusters of real nodes; the rooms behind the binary `paxos`.

pub mod check;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod command;
pub mod corrupt_disks;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(all(paxos_model, feature = "explore"))]
pub mod explore;
pub mod fuzzing;
pub mod invariants;
pub mod linearizability;
pub mod load;
pub mod monitor;
pub mod proxy;
pub mod rivals;
pub mod scenario;
pub mod sim;
pub mod status;
pub mod target;
pub mod up;
pub mod witness;

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
