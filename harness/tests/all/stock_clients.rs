//! Clients that know nothing of this project: redis-cli, redis-benchmark, redis-py, redis-rs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::status::NodeStatus;

use crate::trial::{SOON, Trial, eventually, has, integer, skip};

fn port(address: &str) -> &str {
    address.rsplit(':').next().expect("a port")
}

/// Runs a program and gives what it printed.
///
/// # Errors
/// What it printed, if it failed.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{program} {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// How often a test may meet a change of leader that it did not ask for.
const DISTURBED_MAX: u32 = 5;

/// Runs what needs one leader throughout. A machine whose disk stalls may change it at any time, and clients that try
/// nothing again then show their users an error, as they should: whatever went wrong while the leader changed is done
/// again. With the same leader throughout nothing may go wrong.
///
/// # Panics
/// With what went wrong.
fn undisturbed<T>(trial: &Trial, mut work: impl FnMut(u32) -> Result<T, String>) -> T {
    let mut disturbed = 0;
    loop {
        let leader = trial.leader();
        // Nobody takes this node away meanwhile: it answers, if late, and silence is no change of leader.
        let asked = || eventually("what the leader says", || trial.status(leader));
        let leads = || Some(asked()).filter(NodeStatus::is_leading).map(|status| status.ballot);
        let before = leads();
        match work(leader) {
            Ok(done) => return done,
            Err(wrong) => {
                disturbed += 1;
                assert!(before.is_none() || leads() != before, "under one leader: {wrong}");
                assert!(disturbed <= DISTURBED_MAX, "{disturbed} changes of leader: {wrong}");
                println!("once more, since the leader changed: {wrong}");
            }
        }
    }
}

#[test]
fn redis_cli_works_through_every_port() {
    if !has("redis-cli", &["--version"]) {
        return skip("redis-cli is not installed (package redis-tools)");
    }
    let trial = Trial::start("redis-cli", 3);
    let mut round = 0;
    for node in trial.cluster.nodes() {
        undisturbed(&trial, |_| {
            round += 1;
            let counter = format!("n{round}");
            let commands: [(&[&str], &str); 6] = [
                (&["set", "a", "1"], "OK\n"),
                (&["get", "a"], "1\n"),
                (&["incr", &counter], "1\n"),
                (&["incr", &counter], "2\n"),
                (&["-3", "get", "a"], "1\n"),
                (&["cluster", "nodes"], "0-16383"),
            ];
            for (command, expected) in commands {
                let said = run("redis-cli", &[&["-c", "-p", port(node.client())], command].concat())?;
                let right = if command[0] == "cluster" { said.contains(expected) } else { said == expected };
                if !right {
                    return Err(format!("{command:?}: {said}"));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn redis_benchmark_completes_without_errors() {
    if !has("redis-benchmark", &["--version"]) {
        return skip("redis-benchmark is not installed (package redis-tools)");
    }
    let trial = Trial::start("redis-benchmark", 3);
    undisturbed(&trial, |leader| {
        let address = trial.cluster.nodes().iter().find(|node| node.id() == leader).expect("a node").client();
        let load = ["-p", port(address), "-t", "set,get", "-c", "50", "-P", "16", "-n", "200000", "-q"];
        let said = run("redis-benchmark", &load)?;
        let right = !said.to_lowercase().contains("error") && said.matches("requests per second").count() == 2;
        if right { Ok(()) } else { Err(said) }
    });
    trial.converged();
}

/// Writes numbered keys, retrying none, until 200 were acknowledged that it began after a file was there; afterwards
/// reads back what was acknowledged. Prints a line per write, so that the test knows when to kill whom.
const REDIS_PY: &str = r#"
import os, sys, time
from redis.cluster import RedisCluster, ClusterNode
from redis.exceptions import RedisError
killed = sys.argv[1]
client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", int(port)) for port in sys.argv[2:]])
acknowledged, failed = [], 0
number, after = 0, 0
deadline = time.monotonic() + 60
while after < 200 and time.monotonic() < deadline:
    number += 1
    late = os.path.exists(killed)
    try:
        client.set("py:%d" % number, number)
        acknowledged.append(number)
        after += late
    except RedisError as error:
        failed += 1
    print("wrote", number, flush=True)
lost = [number for number in acknowledged if client.get("py:%d" % number) != str(number).encode()]
print("result acknowledged=%d failed=%d after=%d lost=%d" % (len(acknowledged), failed, after, len(lost)))
"#;

#[test]
fn redis_py_follows_a_change_of_leader() {
    if !has("python3", &["-c", "import redis.cluster"]) {
        return skip("Python with redis-py is not installed (pip install redis)");
    }
    let mut trial = Trial::start("redis-py", 3);
    trial.leader();
    let addresses = trial.cluster.addresses();
    let (said, killed) = (trial.scratch.path().join("said"), trial.scratch.path().join("killed"));
    let mut child = Command::new("python3")
        .args(["-c", REDIS_PY])
        .arg(&killed)
        .args(addresses.iter().map(|address| port(address)))
        .stdout(std::fs::File::create(&said).expect("a file"))
        .spawn()
        .expect("it runs");
    let read = || std::fs::read_to_string(&said).unwrap_or_default();
    eventually("200 writes", || read().contains("wrote 200\n").then_some(()));
    let leader = trial.leader();
    trial.cluster.node(leader).kill();
    std::fs::write(&killed, "").expect("a file");
    let deadline = Instant::now() + 3 * SOON;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end: {}", read());
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = read();
    let result = said.lines().next_back().expect("a result");
    assert!(status.success() && result.starts_with("result "), "{result}");
    // The library retries by itself, so that a fail-over may pass without any error that we would see.
    assert!(result.ends_with(" after=200 lost=0"), "{result}");
    let acknowledged = result.split_once("acknowledged=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    assert!(acknowledged.is_some_and(|count: u32| count > 200), "none before: {result}");
}

#[test]
fn redis_rs_follows_a_change_of_leader() {
    let mut trial = Trial::start("redis-rs", 3);
    trial.leader();
    let urls: Vec<String> = trial.cluster.addresses().iter().map(|address| format!("redis://{address}")).collect();
    let client = redis::cluster::ClusterClient::new(urls).expect("addresses");
    // The asynchronous connection: the blocking one of redis-rs 1.8 asks a dead node for ever, of any cluster.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let mut connection = runtime.block_on(client.get_async_connection()).expect("a cluster");
    let mut acknowledged = Vec::new();
    let mut write = |number: u32| {
        let mut command = redis::cmd("SET");
        command.arg(format!("rs:{number}")).arg(number);
        let written: redis::RedisResult<()> = runtime.block_on(command.query_async(&mut connection));
        match &written {
            Ok(()) => acknowledged.push(number),
            Err(error) => println!("{number}: {error}"),
        }
        written.is_ok()
    };
    let mut number = 0;
    undisturbed(&trial, |_| {
        let first = number + 1;
        (first..first + 200).try_for_each(|next| {
            number = next;
            if write(next) { Ok(()) } else { Err(format!("before the change: {next}")) }
        })
    });
    let leader = trial.leader();
    trial.cluster.node(leader).kill();
    eventually("a write through the same connection", || {
        number += 1;
        write(number).then_some(())
    });
    undisturbed(&trial, |_| {
        let first = number + 1;
        (first..first + 200).try_for_each(|next| {
            number = next;
            if write(next) { Ok(()) } else { Err(format!("after the change: {next}")) }
        })
    });
    assert!(acknowledged.len() >= 401);
    for number in acknowledged {
        let mut command = redis::cmd("GET");
        command.arg(format!("rs:{number}"));
        let value: redis::RedisResult<Option<u32>> = runtime.block_on(command.query_async(&mut connection));
        assert_eq!(value.expect("an answer"), Some(number));
    }
    assert_eq!(integer(&trial.client().read(&["EXISTS", "rs:1"]).expect("an answer")), 1);
}
