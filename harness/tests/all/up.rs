//! The main job: `paxos up` and its sisters, as people run them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use harness::client::{Client, Connection, Patience, Reply};
use harness::status;
use rustix::process::{Pid, Signal, kill_process};

use crate::trial::{PAXOS, SOON, Scratch, Trial, eventually, free_base_port, integer, machine};

/// A running `paxos up`.
struct Up {
    child: Child,
    said: std::path::PathBuf,
}

impl Up {
    fn start(scratch: &Scratch, base_port: u16, more: &[&str]) -> Up {
        let said = scratch.path().join("said");
        let out = File::create(&said).expect("a file");
        let child = Command::new(PAXOS)
            .args(["up", "--dir", &scratch.path().join("data").to_string_lossy()])
            .args(["--base-port", &base_port.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stderr(out.try_clone().expect("a file"))
            .stdout(out)
            .spawn()
            .expect("the binary runs");
        Up { child, said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Ctrl-C, then waits for the end.
    fn interrupt(mut self) -> (ExitStatus, String) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, Signal::INT).expect("it runs");
        let deadline = Instant::now() + SOON;
        let status = eventually("paxos up ends", || {
            assert!(Instant::now() < deadline);
            self.child.try_wait().expect("a child")
        });
        (status, self.said())
    }
}

/// If the test fails, `up` is told to stop, so that its nodes go too.
impl Drop for Up {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32)
            && let Ok(None) = self.child.try_wait()
        {
            let _ = kill_process(pid, Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn addresses(base_port: u16, servers: u16) -> Vec<String> {
    (1..=servers).map(|id| format!("127.0.0.1:{}", base_port + id)).collect()
}

fn patient(addresses: Vec<String>) -> Client {
    Client::with_patience(addresses, Patience { overall: SOON, ..Patience::default() })
}

fn ok() -> Reply {
    Reply::Status("OK".into())
}

#[test]
fn up_formats_serves_through_any_port_stops_and_recovers() {
    let _machine = machine();
    for servers in [1u16, 3, 5] {
        let scratch = Scratch::new(&format!("up-{servers}"));
        let base_port = free_base_port();
        let count = servers.to_string();
        let up = Up::start(&scratch, base_port, &["--servers", &count]);
        let members = addresses(base_port, servers);
        assert_eq!(patient(members.clone()).call(&["SET", "a", "1"]).expect("an answer"), ok());
        for member in &members {
            // Only this one is named: the leader is found through it.
            let value = patient(vec![member.clone()]).read(&["GET", "a"]).expect("an answer");
            assert_eq!(value, Reply::Bulk(b"1".to_vec()), "through {member}");
        }
        eventually("a line per node", || {
            let said = up.said();
            (1..=servers).all(|id| said.contains(&format!("node {id}  127.0.0.1:{}", base_port + id))).then_some(())
        });
        let pid_files = |servers| (1..=servers).map(|id: u16| scratch.path().join(format!("data/node-{id}.pid")));
        assert!(pid_files(servers).all(|path| path.exists()));
        let (status, said) = up.interrupt();
        assert!(status.success(), "{said}");
        assert!(said.contains("formatted") && said.contains(&format!("redis-cli -c -p {}", base_port + 1)), "{said}");
        assert!(!pid_files(servers).any(|path| path.exists()), "nothing runs any more");

        let up = Up::start(&scratch, base_port, &[]);
        let value = patient(members).read(&["GET", "a"]).expect("an answer");
        assert_eq!(value, Reply::Bulk(b"1".to_vec()), "after a restart of {servers}");
        let (status, said) = up.interrupt();
        assert!(status.success() && said.contains("recovers"), "{said}");
    }
}

#[test]
fn up_with_clients_makes_load_and_compares_replicas() {
    let _machine = machine();
    let scratch = Scratch::new("up-clients");
    let config = scratch.path().join("settings.toml");
    fs::write(&config, "election = \"highest-id\"\n").expect("a file");
    let base_port = free_base_port();
    let config = config.to_string_lossy().into_owned();
    let up = Up::start(&scratch, base_port, &["--clients", "2", "--config", &config]);
    let third = &addresses(base_port, 3)[2];
    eventually("the highest id leads, as configured", || status::ask(third).ok().filter(|it| it.is_leading()));
    eventually("load", || status::ask(third).ok().filter(|it| it.commands > 200));
    let written = fs::read_to_string(scratch.path().join("data/node-1.toml")).expect("a configuration");
    assert!(written.contains("highest-id"), "{written}");
    let (status, said) = up.interrupt();
    assert!(status.success(), "{said}");
    let compared = said.lines().rev().find(|line| line.starts_with("monitor:")).expect("the monitor's last word");
    assert!(compared.contains("all equal: true") && !compared.starts_with("monitor: 0 "), "{compared}");
}

#[test]
fn up_refuses_what_the_directory_is_not() {
    let _machine = machine();
    let scratch = Scratch::new("up-refuses");
    let dir = scratch.path().join("data").to_string_lossy().into_owned();
    let base_port = free_base_port().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(PAXOS).args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let place = ["--dir", &dir, "--base-port", &base_port];
    let (code, error) = run(&[&["init", "--servers", "3"], &place[..]].concat());
    assert_eq!(code, Some(0), "{error}");
    assert!(Path::new(&dir).join("node-3.toml").exists() && !Path::new(&dir).join("node-1.pid").exists());
    let bad = scratch.path().join("bad.toml");
    fs::write(&bad, "elektion = \"stable\"\n").expect("a file");
    let cases: [(&[&str], &str); 4] = [
        (&["init", "--servers", "3"], "is not empty"),
        (&["up", "--servers", "5"], "holds 3 nodes, not 5"),
        (&["up", "--servers", "3", "--config", &bad.to_string_lossy()], "elektion"),
        (&["up", "--servers", "3", "--config", "nowhere.toml"], "nowhere.toml"),
    ];
    for (arguments, expected) in cases {
        let (code, error) = run(&[arguments, &place[..]].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
}

#[test]
fn a_cluster_prepared_by_init_is_started_node_by_node() {
    let mut trial = Trial::prepare("by-hand", 3, Default::default());
    trial.cluster.start(1).expect("it starts");
    trial.cluster.start(3).expect("it starts");
    let leader = trial.leader();
    assert_eq!(trial.client().call(&["SET", "a", "1"]).expect("two of three serve"), ok());
    trial.cluster.start(2).expect("it starts");
    assert!(trial.converged() > 0);
    for node in trial.cluster.nodes() {
        let mut connection = Connection::open(node.client(), SOON, SOON).expect("it listens");
        let role = connection.call(&["ROLE"]).expect("an answer");
        let word = role.array().and_then(|parts| parts.first()?.text()).map(str::to_string);
        let expected = if node.id() == leader { "master" } else { "slave" };
        assert_eq!(word.as_deref(), Some(expected), "node {}", node.id());
    }
    assert!(trial.cluster.stop_all().is_empty(), "all stop cleanly");
}

#[test]
fn cli_runs_arguments_and_lines_and_follows_the_leader() {
    let trial = Trial::start("cli", 3);
    let leader = trial.leader();
    let follower = trial.cluster.nodes().iter().find(|node| node.id() != leader).expect("a follower");
    let port = follower.client().rsplit(':').next().expect("a port").to_string();
    let run = |arguments: &[&str], input: &str| {
        let mut child = Command::new(PAXOS)
            .args(["cli", "-p", &port])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run(&["SET", "a", "1"], ""), (true, "OK\n".into()));
    assert_eq!(run(&["GET", "a"], ""), (true, "1\n".into()));
    let (fine, said) = run(&[], "LOG.APPEND one\nquit\nSET a never\n");
    let slot: i64 = said.trim().parse().expect("the slot of the value");
    assert!(fine && slot > 0);
    let lines = format!("LOG.GET {slot}\nINCR n\nINCR n\nGET \"a\"\nquit\n");
    assert_eq!(run(&[], &lines), (true, "one\n1\n2\n1\n".into()));
    let (fine, said) = run(&["INCR", "a", "b"], "");
    assert!(!fine && said.starts_with("ERR wrong number of arguments"), "{said}");
    assert_eq!(integer(&trial.client().read(&["GET", "n"]).expect("an answer")), 2);
}

/// The exit codes of `paxos check`: for a recorded history, for the same with one answer changed, for no history.
fn check_says_what_bench_saw(trial: &Trial, history: &str) {
    let page = trial.scratch.path().join("page.html");
    let check = |file: &str| {
        let output = Command::new(PAXOS).args(["check", file, "--html"]).arg(&page).output().expect("the binary runs");
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned(), page.exists())
    };
    let (code, said, drawn) = check(history);
    assert_eq!((code, drawn), (Some(0), false), "{said}");
    assert!(said.starts_with("linearizable: ") && said.contains("in slot order: "), "{said}");

    let lines = fs::read_to_string(history).expect("a history");
    let changed = trial.scratch.path().join("changed.jsonl").to_string_lossy().into_owned();
    fs::write(&changed, lines.replacen("\"result\":\"OK\"", "\"result\":7", 1)).expect("a file");
    let (code, said, drawn) = check(&changed);
    assert_eq!((code, drawn), (Some(1), true), "{said}");
    assert!(said.starts_with("NOT linearizable: ") && said.contains("NOT in slot order: "), "{said}");

    fs::write(&changed, format!("{lines}what?\n")).expect("a file");
    let (code, said, _) = check(&changed);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&format!("changed.jsonl: line {}: expected value", lines.lines().count() + 1)), "{said}");
}

#[test]
fn status_log_and_bench_say_what_is_there() {
    let trial = Trial::start("tools", 3);
    trial.leader();
    let port = trial.cluster.nodes()[0].client().rsplit(':').next().expect("a port").to_string();
    let run = |arguments: &[&str]| {
        let (command, rest) = arguments.split_first().expect("a command");
        let output = Command::new(PAXOS).args([command, "-p", &port]).args(rest).stdin(Stdio::null()).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let history = trial.scratch.path().join("history.jsonl").to_string_lossy().into_owned();
    let load = ["bench", "-n", "2000", "-c", "4", "-P", "4", "--reads", "20"];
    let bench = run(&[&load[..], &["--check", "--history", &history, "--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&bench).expect("JSON");
    assert_eq!(report["load"]["answered"], 2000);
    assert_eq!(report["check"]["lost"], 0);
    assert_eq!(report["check"]["duplicated"], 0);
    assert_eq!(report["check"]["acknowledged"], report["load"]["writes"]);
    assert!(report["load"]["p50_ms"].as_f64().expect("a number") > 0.0);
    assert_eq!(report["history"]["right"], true, "{}", report["history"]["found"]);
    check_says_what_bench_saw(&trial, &history);
    trial.converged();
    let statuses: serde_json::Value = serde_json::from_str(&run(&["status", "--json"])).expect("JSON");
    let statuses = statuses.as_array().expect("an array");
    assert_eq!(statuses.len(), 3, "found through one member");
    assert_eq!(statuses.iter().filter(|status| status["role"] == "leading").count(), 1);
    run(&["cli", "LOG.APPEND", "the last word"]);
    let log = run(&["log"]);
    assert!(log.lines().count() > 1_000);
    assert!(log.lines().next_back().expect("a line").ends_with("\"the last word\""), "{log}");
}
