//! The binary `paxos`: everything people type but the server itself, which it can run too.

fn main() -> std::process::ExitCode {
    harness::command::main_paxos(std::env::args_os())
}
