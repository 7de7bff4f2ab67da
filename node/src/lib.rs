//! The sans-IO server: Redis protocol bytes in, bytes out, over `paxos-core`.

mod node;
pub mod wal;

pub use node::{ClientId, Input, LogReadId, Output};
