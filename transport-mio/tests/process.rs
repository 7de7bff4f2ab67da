//! The binary as operators meet it: one clear line and one exit code for every way a start can fail.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use support::{Scratch, ok, prepare};

fn paxos_node() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paxos-node"));
    command.env_clear();
    command
}

/// Runs it to its end: exit code and what it said on standard error.
fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = ok(command.output());
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
}

fn expect(command: &mut Command, code: i32, words: &[&str]) {
    let (found, text) = run(command);
    let last = text.lines().last().unwrap_or("");
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {text:?}");
    }
    assert_eq!(text.matches("paxos-node: ").count(), usize::from(code != 2 || !text.contains("Usage")), "{text}");
}

fn started_with(config: &Path) -> Command {
    let mut command = paxos_node();
    command.arg("--config").arg(config);
    command
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let scratch = Scratch::new("precedence");
    let file = scratch.path().join("n.toml");
    ok(std::fs::write(&file, "id = 1\ndata_dir = 'd'\nheartbeat_ms = 11\nresend_ms = 11\nmax_clients = 11\n"));
    let output = ok(paxos_node()
        .args(["--print-config", "--heartbeat-ms", "33", "--config"])
        .arg(&file)
        .env("PAXOS_HEARTBEAT_MS", "22")
        .env("PAXOS_RESEND_MS", "22")
        .output());
    let printed = String::from_utf8_lossy(&output.stdout);
    let data_dir = format!("data_dir = {:?}", scratch.path().join("d").display().to_string());
    for line in ["heartbeat_ms = 33", "resend_ms = 22", "max_clients = 11", "sessions_max = 65536", &data_dir] {
        assert!(printed.lines().any(|printed| printed == line), "{line:?} is not in {printed}");
    }
}

#[test]
fn bad_configurations_are_named_by_key() {
    let scratch = Scratch::new("bad-config");
    let cases =
        [("heartbaet_ms = 3", "heartbaet_ms"), ("id = 1", "data_dir"), ("id = 'x'", "line 1"), ("id = ", "line 1")];
    for (text, word) in cases {
        let file = scratch.path().join("n.toml");
        ok(std::fs::write(&file, text));
        expect(&mut started_with(&file), 2, &["bad configuration", word]);
    }
    expect(&mut started_with(&scratch.path().join("absent.toml")), 2, &["absent.toml"]);
    let (code, text) = run(paxos_node().args(["--heartbeat", "3"]));
    assert_eq!(code, 2);
    assert!(text.contains("--heartbeat"), "{text}");
}

#[test]
fn every_failure_of_a_start_has_its_code_and_line() {
    let scratch = Scratch::new("failures");
    let nodes = prepare(scratch.path(), 3);
    let other = Scratch::new("failures-other");
    let others = prepare(other.path(), 3);
    let config = &nodes[0].config;
    let data_dir = &nodes[0].data_dir;

    expect(started_with(config).args(["--data-dir", "/nonexistent/d"]), 3, &["/nonexistent/d", "does not exist"]);

    let empty = scratch.path().join("empty");
    ok(std::fs::create_dir(&empty));
    expect(started_with(config).arg("--data-dir").arg(&empty), 4, &["not formatted", "never starts empty"]);

    expect(started_with(config).arg("--data-dir").arg(&others[0].data_dir), 5, &["wrong cluster id"]);
    expect(started_with(config).arg("--data-dir").arg(&nodes[1].data_dir), 5, &["node 2", "id = 1"]);
    expect(started_with(config).args(["--peer", "2=127.0.0.1:1,127.0.0.1:2"]), 5, &["members"]);
    expect(started_with(config).args(["--window-slots", "70000"]), 5, &["window_slots", "alpha"]);

    let held = ok(transport_mio::lock::DirectoryLock::take(data_dir));
    expect(&mut started_with(config), 6, &["locked", &std::process::id().to_string()]);
    drop(held);

    for (flag, whom) in [("--client-listen", "clients"), ("--peer-listen", "peers")] {
        let taken = ok(TcpListener::bind("127.0.0.1:0"));
        let address = ok(taken.local_addr()).to_string();
        expect(started_with(config).args([flag, &address]), 7, &["cannot listen", &address, whom]);
    }

    let (code, text) = run(paxos_node().args(["format", "--config"]).arg(config));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("refusing to format"), "{text}");
}
