//! The sans-IO server: Redis protocol bytes in, bytes out, over `paxos-core`.
//!
//! Read `node.rs` first: the whole data path. Replicated state is in `machine.rs` (sessions, then keys), what
//! concerns only this process's clients in `clients.rs`, what the log holds in `command.rs`, and every
//! command in the one table of `commands.rs`.

mod clients;
mod cluster;
mod command;
mod commands;
mod connection;
mod digest;
pub mod hello;
mod history;
mod input;
mod introspection;
mod kv;
pub mod limits;
mod machine;
mod node;
mod output;
mod reply;
mod request;
pub mod resp;
mod session;
mod settings;
mod status;
mod strings;
pub mod wal;

pub use cluster::hash_slot;
pub use command::{Args, Chunk, Command, CommandError, Once, SessionId, decode};
pub use commands::{COMMANDS, Keys, Run, Spec};
pub use input::Input;
pub use introspection::documentation;
pub use kv::{Item, Kv};
pub use limits::Limits;
pub use machine::Machine;
pub use node::Node;
pub use output::{ClientId, LogReadId, Output};
pub use reply::{Fault, Reply};
pub use session::Sessions;
pub use settings::{Address, NodeError, Settings};
pub use status::{Counters, Status};
