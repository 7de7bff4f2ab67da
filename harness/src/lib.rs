//! Launches, loads, checks and measures clusters of real nodes; the rooms behind the binary `paxos`.

pub mod client;
pub mod fuzzing;
pub mod invariants;
pub mod load;
pub mod rivals;
pub mod sim;
