//! Runs a `node::Node` on real sockets, a real disk and a real clock.
//!
//! One thread turns the event loop (`event_loop.rs`, read it first), one owns the log (`disk.rs`). The library
//! is what the binaries are made of: `main_node` is a node's whole command line, `init` prepares a cluster's
//! directories, and `Server` runs a node inside another program.
//!
//! What everything means is decided below: protocol and state in `node`, consensus in `paxos-core`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod config;
pub mod files;
pub mod frame;
pub mod init;
pub mod lock;

mod cli;
mod client_conn;
mod clock;
mod conn;
mod descriptors;
mod disk;
mod event_loop;
mod inspect;
mod links;
mod peer_link;
mod rate_limit;
mod ready;
mod resolver;
mod server;
mod stop;
mod stopping;
#[cfg(test)]
mod testing;
mod token;

pub use cli::main_node;
pub use init::{InitOptions, PreparedNode};
pub use node::hello;
pub use server::{Server, StopSignals, Stopper};
pub use stop::{Mismatch, Stop};
