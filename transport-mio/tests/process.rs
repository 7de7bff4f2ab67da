//! The binary as operators meet it: one clear line and one exit code for every way a start can fail.

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Client, Scratch, eventually, ok, prepare};
use transport_mio::PreparedNode;

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
fn the_operations_document_has_every_key_and_an_example_that_is_a_configuration() {
    let document = include_str!("../../docs/operations.md");
    let scratch = Scratch::new("operations");
    let file = scratch.path().join("node-2.toml");
    let example = document.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("an example").0;
    ok(std::fs::write(&file, example));
    let output = ok(started_with(&file).arg("--print-config").output());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: toml::Table = ok(toml::from_str(&String::from_utf8_lossy(&output.stdout)));
    // With `client_advertise`, which has no value by itself, these are all keys there are.
    assert!(printed.len() >= 20 && printed.contains_key("client_advertise"), "{printed}");
    for key in printed.keys() {
        assert!(document.contains(&format!("\n| {key} | ")), "docs/operations.md lacks the key {key}");
    }
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

    let settings: [(&[&str], &[&str]); 6] = [
        (&["--election-timeout-ms", "149"], &["election_timeout_ms = 149", "3 times heartbeat_ms = 50"]),
        (&["--heartbeat-ms", "0"], &["heartbeat_ms = 0"]),
        (&["--resend-ms", "1001"], &["resend_ms = 1001", "at most 1000"]),
        (&["--window-slots", "70000"], &["window_slots = 70000", "at most 65536", "alpha"]),
        (&["--window-bytes", "3145728"], &["window_bytes = 3145728", "at least 3145824"]),
        (&["--segment-bytes", "1073741825"], &["segment_bytes"]),
    ];
    for (flags, words) in settings {
        expect(started_with(config).args(flags), 2, &[&["bad configuration"], words].concat());
    }

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

/// Starts it and waits until it listens.
fn running(node: &PreparedNode) -> Child {
    let child = ok(started_with(&node.config).stderr(Stdio::piped()).spawn());
    eventually("it listens", || TcpStream::connect(node.client).ok());
    child
}

fn signal(child: &Child, signal: Signal) {
    ok(kill_process(Pid::from_child(child), signal));
}

#[test]
fn one_signal_stops_it_cleanly_and_a_second_one_at_once() {
    let scratch = Scratch::new("signals");
    let node = &prepare(scratch.path(), 1)[0];
    for first in [Signal::TERM, Signal::INT] {
        let mut child = running(node);
        signal(&child, first);
        assert_eq!(ok(child.wait()).code(), Some(0));
    }
    let mut child = running(node);
    // A client that is not told anything and does not go keeps the clean stop waiting for a while.
    let idle = ok(TcpStream::connect(node.client));
    signal(&child, Signal::TERM);
    eventually("it listens no more", || TcpStream::connect(node.client).is_err().then_some(()));
    signal(&child, Signal::TERM);
    assert_eq!(ok(child.wait()).code(), Some(12));
    drop(idle);
    // Killed without a word, it starts again all the same.
    let mut child = running(node);
    signal(&child, Signal::KILL);
    ok(child.wait());
    let mut child = running(node);
    signal(&child, Signal::TERM);
    assert_eq!(ok(child.wait()).code(), Some(0));
}

#[test]
fn a_flipped_bit_in_the_log_is_named_and_a_missing_log_is_no_empty_one() {
    let scratch = Scratch::new("corrupt");
    let node = &prepare(scratch.path(), 1)[0];
    let mut child = running(node);
    signal(&child, Signal::TERM);
    ok(child.wait());
    let mut segments: Vec<_> = ok(std::fs::read_dir(&node.data_dir))
        .map(|entry| ok(entry).path())
        .filter(|path| path.file_name().is_some_and(|name| name != transport_mio::lock::LOCK_FILE))
        .collect();
    segments.sort();
    let segment = segments.first().expect("a log has a segment");
    let whole = ok(std::fs::read(segment));
    let written = whole.iter().rposition(|&byte| byte != 0).expect("it is not empty");
    let mut refused = 0;
    for at in (0..written).step_by(41) {
        let mut bent = whole.clone();
        bent[at] ^= 0x10;
        ok(std::fs::write(segment, &bent));
        let (code, text) = run(paxos_node().args(["inspect", "wal"]).arg(&node.data_dir));
        if code == 0 {
            continue; // Padding between groups means nothing.
        }
        refused += 1;
        assert_eq!(code, 8, "{text}");
        expect(&mut started_with(&node.config), 8, &["corrupt log", "offset"]);
        assert_eq!(ok(std::fs::read(segment)), bent, "a refused log is left as it is");
    }
    assert!(refused >= 3, "{refused} of {written} bytes");
    ok(std::fs::remove_file(segment));
    expect(&mut started_with(&node.config), 4, &["not formatted"]);
}

#[test]
fn a_low_limit_on_open_files_turns_clients_away_and_leaves_the_node_at_work() {
    let scratch = Scratch::new("descriptors");
    let node = &prepare(scratch.path(), 1)[0];
    let script = format!("ulimit -n 80; exec {} --config {}", env!("CARGO_BIN_EXE_paxos-node"), node.config.display());
    let mut child = ok(Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).spawn());
    eventually("it listens", || TcpStream::connect(node.client).ok());
    let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(node.client)).collect();
    let replies: Vec<_> = clients.iter_mut().map(|client| client.ask("PING").unwrap_or_default()).collect();
    let served = replies.iter().filter(|reply| *reply == "+PONG").count();
    assert!((10..=80 - 64).contains(&served), "{replies:?}");
    assert!(replies.iter().filter(|reply| reply.starts_with("-ERR max number of clients")).count() > 0, "{replies:?}");
    // Peers still get through.
    ok(TcpStream::connect(node.peer));
    drop(clients);
    eventually("room again", || {
        Client::connect(node.client).ask("PING").is_ok_and(|reply| reply == "+PONG").then_some(())
    });
    signal(&child, Signal::TERM);
    assert_eq!(ok(child.wait()).code(), Some(0));
}

#[test]
fn inspect_prints_records_and_identity() {
    let scratch = Scratch::new("inspect");
    let node = &prepare(scratch.path(), 3)[1];
    let mut child = running(node);
    let output = ok(paxos_node().args(["inspect", "wal", "--config"]).arg(&node.config).output());
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    for word in ["Formatted node 2", "Started boot 1", "not used yet"] {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    let output = ok(paxos_node().args(["inspect", "identity"]).arg(&node.data_dir).output());
    let text = String::from_utf8_lossy(&output.stdout);
    for line in ["node            2", "boot            1", "alpha           65536"] {
        assert!(text.lines().any(|printed| printed == line), "{line:?} is not in {text}");
    }
    signal(&child, Signal::TERM);
    ok(child.wait());
    expect(paxos_node().args(["inspect", "wal", "/nonexistent"]), 3, &["does not exist"]);
}
