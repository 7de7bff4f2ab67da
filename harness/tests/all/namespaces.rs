//! Nodes in network namespaces, each behind a cable of its own: what is lost is packets, nobody hears of it, and TCP
//! finds out in its own time. Proxies (`partitions`) cut in one way only; here it is the kernel that is cut off.
//!
//! The test runs itself again in a network namespace of its own, where the switch and the clients are, so that the
//! machine's network is never touched.

use std::process::Command;

use harness::cluster::Cluster;
use transport_mio::config::{Layer, PeerSetting};

use crate::partitions::{KEPT, ballots_led, one_leader, serves_for};
use crate::trial::{PAXOS, Trial, eventually, has, machine, skip};

/// Says to the test that it runs in the namespace.
const INSIDE: &str = "IN_A_NETWORK_NAMESPACE";

const NODES: u32 = 3;

/// The namespace of a node, named after the process that made it.
fn namespace(process: u32, id: u32) -> String {
    format!("paxos-{process}-{id}")
}

fn host(id: u32) -> String {
    format!("10.99.0.{id}")
}

/// The switch's end of a node's cable.
fn port(id: u32) -> String {
    format!("port{id}")
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output().expect("it runs");
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

/// The namespaces that this process made.
struct Network;

impl Network {
    fn make() -> Network {
        let network = Network;
        ip("link set lo up");
        ip("link add switch type bridge");
        ip(&format!("addr add {}/24 dev switch", host(254)));
        ip("link set switch up");
        for id in 1..=NODES {
            let name = namespace(std::process::id(), id);
            ip(&format!("netns add {name}"));
            ip(&format!("link add {} type veth peer name cable netns {name}", port(id)));
            ip(&format!("link set {} master switch up", port(id)));
            ip(&format!("-n {name} addr add {}/24 dev cable", host(id)));
            ip(&format!("-n {name} link set cable up"));
            ip(&format!("-n {name} link set lo up"));
        }
        network
    }

    /// Pulls the cable of a node out of the switch, or puts it back.
    fn plug(&self, id: u32, plugged: bool) {
        ip(&format!("link set {} {}", port(id), if plugged { "up" } else { "down" }));
    }

    /// The switch hands nothing from one of these to another, or does again.
    fn separate(&self, ids: [u32; 2], apart: bool) {
        for id in ids {
            let word = if apart { "on" } else { "off" };
            run("bridge", &format!("link set dev {} isolated {word}", port(id)));
        }
    }
}

/// Whether the peer port of one node can be reached from another.
fn reaches(from: u32, to: u32) -> bool {
    let connect = format!("exec 3<>/dev/tcp/{}/7100", host(to));
    let namespace = namespace(std::process::id(), from);
    has("ip", &["netns", "exec", &namespace, "timeout", "0.5", "bash", "-c", &connect])
}

impl Drop for Network {
    fn drop(&mut self) {
        remove_namespaces(std::process::id());
    }
}

/// All that a process made and may have left.
fn remove_namespaces(process: u32) {
    for id in 1..=NODES {
        // Where it was never made or is gone, there is nothing to do.
        let _ = Command::new("ip").args(["netns", "del", &namespace(process, id)]).output();
    }
}

/// Three nodes, each in its namespace, prepared.
fn cluster(name: &str) -> Trial {
    let mut trial = Trial::prepare(name, NODES, Layer::default());
    let (client, peer) = (|id| format!("{}:7000", host(id)), |id| format!("{}:7100", host(id)));
    for node in trial.cluster.nodes() {
        let id = node.id();
        let others = (1..=NODES).filter(|other| *other != id);
        let peers = others.map(|id| PeerSetting { id, peer_addr: peer(id), client_addr: client(id) }).collect();
        let there =
            |layer| Layer { client_listen: Some(client(id)), peer_listen: Some(peer(id)), peers: Some(peers), ..layer };
        node.reconfigure(there).expect("a configuration");
    }
    let dir = trial.scratch.path().join("cluster");
    trial.cluster = Cluster::open(std::path::Path::new(PAXOS), &dir).expect("its configurations");
    for id in 1..=NODES {
        trial.cluster.node(id).through(&["ip", "netns", "exec", &namespace(std::process::id(), id)]);
    }
    trial
}

/// Runs a test of this module in a network namespace of its own; true if this is that run.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !has("unshare", &["--net", "ip", "link", "add", "switch", "type", "bridge"]) || !has("bridge", &["-V"]) {
        skip("network namespaces can only be made as root, with ip and bridge of iproute2");
        return false;
    }
    let _machine = machine();
    let itself = std::env::current_exe().expect("a test binary");
    let mut command = Command::new("unshare");
    command.arg("--net").arg(itself).args(["--exact", test, "--nocapture"]).env(INSIDE, "yes");
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = child.spawn().expect("unshare runs");
    // It becomes the test, so its number names the namespaces.
    let process = child.id();
    let output = child.wait_with_output().expect("it ends");
    remove_namespaces(process);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "the test failed in its namespace");
    false
}

#[test]
fn a_leader_whose_cable_is_pulled_is_replaced_and_comes_back() {
    if !is_inside("namespaces::a_leader_whose_cable_is_pulled_is_replaced_and_comes_back") {
        return;
    }
    let network = Network::make();
    let mut trial = cluster("cable");
    trial.cluster.start_all().expect("the nodes start");
    let old = one_leader(&trial);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let before = ballots_led(trial).len();
        network.plug(old, false);
        let (first, longest) = serves_for(trial, KEPT);
        let new = trial.leader_other_than(&[old]);
        network.plug(old, true);
        let after = one_leader(trial);
        let changes = ballots_led(trial).len() - before;
        println!("cable: first write after {first:?}, longest {longest:?}, {changes} changes of the leader");
        assert_eq!((after, changes), (new, 1), "a returning old leader deposed a healthy one");
    });
    trial.converged();
}

#[test]
fn two_nodes_that_lose_each_others_packets_go_on_through_the_third() {
    if !is_inside("namespaces::two_nodes_that_lose_each_others_packets_go_on_through_the_third") {
        return;
    }
    let network = Network::make();
    let mut trial = cluster("apart");
    trial.cluster.start_all().expect("the nodes start");
    let leader = one_leader(&trial);
    let end = leader % NODES + 1;
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let before = ballots_led(trial);
        assert!(reaches(leader, end));
        network.separate([leader, end], true);
        assert!(!reaches(leader, end) && !reaches(end, leader));
        let applied = trial.status(leader).expect("it answers").applied;
        eventually("the far end learns", || trial.status(end).filter(|status| status.applied > applied + 300));
        serves_for(trial, KEPT);
        assert_eq!(ballots_led(trial), before, "the end of a chain deposed the other end");
        network.separate([leader, end], false);
        assert_eq!(one_leader(trial), leader);
    });
    trial.converged();
}
