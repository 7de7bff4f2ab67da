//! The sans-IO server: Redis protocol bytes in, bytes out, over `paxos-core`.

pub mod limits;
mod node;
pub mod resp;
mod settings;
mod status;
pub mod wal;

pub use node::{ClientId, Input, LogReadId, Node, Output};
pub use settings::{Address, NodeError, Settings};
pub use status::Status;
