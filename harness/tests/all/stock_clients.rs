//! Clients that know nothing of this project: redis-cli, redis-benchmark, redis-py, redis-rs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::trial::{SOON, Trial, eventually, has, integer, skip};

fn port(address: &str) -> &str {
    address.rsplit(':').next().expect("a port")
}

/// Runs a program and gives what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn redis_cli_works_through_every_port() {
    if !has("redis-cli", &["--version"]) {
        return skip("redis-cli is not installed (package redis-tools)");
    }
    let trial = Trial::start("redis-cli", 3);
    trial.leader();
    for (number, node) in trial.cluster.nodes().iter().enumerate() {
        let cli = |command: &[&str]| run("redis-cli", &[&["-c", "-p", port(node.client())], command].concat());
        assert_eq!(cli(&["set", "a", "1"]), "OK\n");
        assert_eq!(cli(&["get", "a"]), "1\n");
        assert_eq!(cli(&["incr", "n"]), format!("{}\n", number + 1));
        assert_eq!(cli(&["-3", "get", "a"]), "1\n");
        assert!(cli(&["cluster", "nodes"]).contains("0-16383"));
    }
}

#[test]
fn redis_benchmark_completes_without_errors() {
    if !has("redis-benchmark", &["--version"]) {
        return skip("redis-benchmark is not installed (package redis-tools)");
    }
    let mut trial = Trial::start("redis-benchmark", 3);
    let leader = trial.leader();
    let address = trial.cluster.node(leader).client().to_string();
    let load = ["-p", port(&address), "-t", "set,get", "-c", "50", "-P", "16", "-n", "200000", "-q"];
    let said = run("redis-benchmark", &load);
    assert!(!said.to_lowercase().contains("error"), "{said}");
    assert_eq!(said.matches("requests per second").count(), 2, "{said}");
    trial.converged();
}

/// Writes numbered keys, retrying none; afterwards reads back what was acknowledged. Prints a line per write, so
/// that the test knows when to kill whom.
const REDIS_PY: &str = r#"
import sys, time
from redis.cluster import RedisCluster, ClusterNode
from redis.exceptions import RedisError
client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", int(port)) for port in sys.argv[1:]])
acknowledged, failed = [], 0
number, after = 0, 0
deadline = time.monotonic() + 60
while after < 200 and time.monotonic() < deadline:
    number += 1
    try:
        client.set("py:%d" % number, number)
        acknowledged.append(number)
        if failed:
            after += 1
    except RedisError as error:
        failed += 1
    print("wrote", number, flush=True)
    if number > 300 and not failed:
        time.sleep(0.002)
lost = [number for number in acknowledged if client.get("py:%d" % number) != str(number).encode()]
print("result acknowledged=%d failed=%d after=%d lost=%d" % (len(acknowledged), failed, after, len(lost)))
"#;

#[test]
fn redis_py_follows_a_change_of_leader() {
    if !has("python3", &["-c", "import redis.cluster"]) {
        return skip("Python with redis-py is not installed (pip install redis)");
    }
    let mut trial = Trial::start("redis-py", 3);
    let leader = trial.leader();
    let addresses = trial.cluster.addresses();
    let said = trial.scratch.path().join("said");
    let mut child = Command::new("python3")
        .args(["-c", REDIS_PY])
        .args(addresses.iter().map(|address| port(address)))
        .stdout(std::fs::File::create(&said).expect("a file"))
        .spawn()
        .expect("it runs");
    let read = || std::fs::read_to_string(&said).unwrap_or_default();
    eventually("200 writes", || read().contains("wrote 200\n").then_some(()));
    trial.cluster.node(leader).kill();
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
    assert!(result.ends_with("lost=0"), "{result}");
    // The library retries by itself, so that a fail-over may pass without any error that we would see.
    let acknowledged = result.split_once("acknowledged=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    assert!(acknowledged.is_some_and(|count: u32| count >= 400), "{result}");
}

#[test]
fn redis_rs_follows_a_change_of_leader() {
    let mut trial = Trial::start("redis-rs", 3);
    let leader = trial.leader();
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
    for number in 1..=200 {
        assert!(write(number), "before the change: {number}");
    }
    trial.cluster.node(leader).kill();
    let mut number = 200;
    eventually("a write through the same connection", || {
        number += 1;
        write(number).then_some(())
    });
    for number in number + 1..=number + 200 {
        assert!(write(number), "after the change: {number}");
    }
    assert!(acknowledged.len() >= 401);
    for number in acknowledged {
        let mut command = redis::cmd("GET");
        command.arg(format!("rs:{number}"));
        let value: redis::RedisResult<Option<u32>> = runtime.block_on(command.query_async(&mut connection));
        assert_eq!(value.expect("an answer"), Some(number));
    }
    assert_eq!(integer(&trial.client().read(&["EXISTS", "rs:1"]).expect("an answer")), 1);
}
