//! The binary `paxos-node`; all of it is in the library, so that `paxos node` runs the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    transport_mio::main_node(std::env::args_os())
}
