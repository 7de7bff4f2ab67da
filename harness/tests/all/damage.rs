//! What must not be believed: garbage on ports, foreign or wiped nodes, damaged logs, full disks. Each gives its
//! error, and nothing is lost or accepted.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::client::Reply;
use harness::load::{self, Limit, Verdict};

use crate::trial::{PAXOS, SOON, Trial, eventually, skip};

/// The files of a node's log, oldest first.
pub fn segments(trial: &mut Trial, id: u32) -> Vec<PathBuf> {
    let dir = trial.cluster.node(id).data_dir();
    let entries = fs::read_dir(&dir).expect("a data directory");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 4_096));
    paths.sort();
    assert!(!paths.is_empty(), "no segment in {}", dir.display());
    paths
}

/// Writes some, then stops a node that does not lead; its id.
pub fn stopped_follower(trial: &mut Trial) -> u32 {
    let follower = trial.leader() % 3 + 1;
    let mut client = trial.client();
    for number in 0..200 {
        client.once(&["SET", &format!("key:{number}"), &"x".repeat(100)]).expect("an answer");
    }
    trial.converged();
    assert!(trial.cluster.node(follower).stop().expect("it ran").success());
    follower
}

/// The node refuses to start with this code and these words; the others serve.
pub fn refuses_to_start(trial: &mut Trial, id: u32, code: i32, words: &[&str]) {
    trial.cluster.start(id).expect("a process");
    assert_eq!(trial.exit_code(id), Some(code));
    let last = trial.cluster.node(id).last_words();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
    let value = trial.client().once(&["SET", "still", "here"]).expect("two of three serve");
    assert_eq!(value, Reply::Status("OK".into()));
}

#[test]
fn garbage_on_client_and_peer_ports_is_refused() {
    let trial = Trial::start("garbage", 3);
    trial.leader();
    let mut client = trial.client();
    client.once(&["SET", "a", "1"]).expect("an answer");
    let zeros = vec![0u8; 100_000];
    let ones = vec![0xffu8; 100_000];
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let huge_bulk = b"*2\r\n$3\r\nGET\r\n$999999999999\r\n".to_vec();
    let endless_line = vec![b'x'; 200_000];
    let random: Vec<u8> = (0u32..50_000).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [zeros, ones, http, huge_bulk, endless_line, random] {
        for node in trial.cluster.nodes() {
            for address in [node.client(), node.peer()] {
                let mut stream = TcpStream::connect(address).expect("it listens");
                stream.set_read_timeout(Some(SOON)).expect("a socket");
                // The node may close before it has taken all.
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                // Read to the end: the node must be the one who ends it.
                let mut answer = Vec::new();
                let ended = stream.read_to_end(&mut answer);
                assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
            }
        }
    }
    for node in trial.cluster.nodes() {
        assert!(trial.status(node.id()).is_some(), "node {} is well", node.id());
        assert!(trial.log_of(node.id()).to_lowercase().contains("hello"), "node {} says whom it refused", node.id());
    }
    assert_eq!(client.read(&["GET", "a"]).expect("an answer"), Reply::Bulk(b"1".to_vec()));
    trial.converged();
}

#[test]
fn clients_and_strangers_that_dribble_keep_nobody_out() {
    let mut trial = Trial::start("dribble", 3);
    let leader = trial.leader();
    let before = trial.status(leader).expect("it answers");
    let connect = |address: &str, begin: &[u8]| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.write_all(begin).expect("it takes them");
        stream
    };
    // A hundred clients in the midst of a request, and more strangers on the peer port than may wait there.
    let (begin, rest) = (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$20\r\nxxxxx", b"yyyyyzzzzzzzzzz\r\n");
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect(trial.cluster.node(leader).client(), begin)).collect();
    let half_a_hello = [40, 0, 0, 0, 1, 2, 3];
    let addresses: Vec<String> = trial.cluster.nodes().iter().map(|node| node.peer().to_string()).collect();
    let strangers: Vec<TcpStream> =
        addresses.iter().flat_map(|address| (0..60).map(|_| connect(address, &half_a_hello))).collect();
    let mut load = trial.checked_load(SOON);
    load.limit = Limit::Requests(2_000);
    let (report, _) = load::run(&load, &|| false).expect("load");
    assert_eq!((report.errors, report.disconnects, report.answered), (0, 0, 2_000), "{report}");
    // Byte by byte, and each in its turn.
    for byte in rest {
        slow.iter_mut().for_each(|client| client.write_all(&[*byte]).expect("it takes them"));
    }
    for client in &mut slow {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+OK\r\n");
    }
    drop(strangers);
    let after = trial.status(leader).expect("it answers");
    assert_eq!((after.role, after.ballot), (before.role, before.ballot), "the leader stays");
    trial.converged();
}

#[test]
fn a_configuration_of_another_cluster_is_refused() {
    let mut trial = Trial::start("wrong-cluster", 3);
    let id = stopped_follower(&mut trial);
    let path = trial.cluster.node(id).config();
    let text = fs::read_to_string(&path).expect("a configuration");
    let line = text.lines().find(|line| line.starts_with("cluster_id")).expect("a cluster id").to_string();
    fs::write(&path, text.replace(&line, "cluster_id = \"000102030405060708090a0b0c0d0e0f\"")).expect("a file");
    refuses_to_start(&mut trial, id, 5, &["wrong cluster id", "000102030405060708090a0b0c0d0e0f"]);
    fs::write(&path, text).expect("a file");
    trial.cluster.start(id).expect("a process");
    trial.converged();
}

#[test]
fn a_node_of_another_cluster_takes_no_part() {
    let mut trial = Trial::start("stranger", 3);
    let id = stopped_follower(&mut trial);
    // The same ports, another cluster: as after a mistaken copy of a configuration.
    let data = trial.cluster.node(id).data_dir();
    let other = trial.scratch.path().join("other");
    let arguments = ["init", "--servers", "3", "--dir", &other.to_string_lossy()];
    assert!(Command::new(PAXOS).args(arguments).output().expect("the binary runs").status.success());
    fs::remove_dir_all(&data).expect("a directory");
    copy_dir(&other.join(format!("node-{id}")), &data);
    let path = trial.cluster.node(id).config();
    let text = fs::read_to_string(&path).expect("a configuration");
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("cluster_id")).collect();
    fs::write(&path, kept.join("\n")).expect("a file");
    takes_no_part(&mut trial, id, "cluster");
}

#[test]
fn a_node_that_was_wiped_and_formatted_anew_takes_no_part() {
    let mut trial = Trial::start("wiped", 3);
    let id = stopped_follower(&mut trial);
    let data = trial.cluster.node(id).data_dir();
    fs::remove_dir_all(&data).expect("a directory");
    let config = trial.cluster.node(id).config();
    refuses_to_start(&mut trial, id, 3, &["does not exist"]);
    let format = Command::new(PAXOS).args(["node", "format", "--config"]).arg(&config).output().expect("it runs");
    assert!(format.status.success(), "{}", String::from_utf8_lossy(&format.stderr));
    takes_no_part(&mut trial, id, "");
}

/// Starts the node; it must stay without a log and a leader, and a quorum must not be had with it.
fn takes_no_part(trial: &mut Trial, id: u32, word: &str) {
    trial.cluster.start(id).expect("a process");
    eventually("a refusal in the log", || {
        let log = trial.log_of(id);
        let refused = |line: &str| line.contains("refused a peer") || line.contains("refused by a peer");
        log.lines().any(|line| refused(line) && line.contains(word)).then_some(())
    });
    trial.client().once(&["SET", "b", "2"]).expect("two of three serve");
    let status = eventually("it answers", || trial.status(id));
    assert_eq!((status.applied, status.leader), (0, 0), "{status}");
    // Of the two that are left, one goes: the stranger must not complete a quorum.
    let leader = trial.leader_other_than(&[id]);
    let other = (1..=3).find(|it| ![id, leader].contains(it)).expect("a third");
    trial.cluster.node(other).kill();
    let patience = harness::client::Patience { overall: std::time::Duration::from_secs(3), ..Default::default() };
    let mut client = harness::client::Client::with_patience(trial.cluster.addresses(), patience);
    assert!(client.once(&["SET", "b", "3"]).is_err(), "one of three must not serve");
    trial.cluster.start(other).expect("a process");
    let value = trial.client().read(&["GET", "b"]).expect("two of three serve again");
    assert!(value == Reply::Bulk(b"2".to_vec()) || value == Reply::Bulk(b"3".to_vec()), "{value}");
    assert_eq!(trial.status(id).map(|status| status.applied), Some(0));
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[test]
fn a_truncated_log_is_refused() {
    let mut trial = Trial::start("truncated", 3);
    let id = stopped_follower(&mut trial);
    let segment = segments(&mut trial, id).pop().expect("a segment");
    let whole = fs::read(&segment).expect("a segment");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("records");
    for length in [used / 2, 100, 0] {
        fs::write(&segment, &whole[..length]).expect("a file");
        refuses_to_start(&mut trial, id, 8, &["corrupt log"]);
    }
    fs::write(&segment, &whole).expect("a file");
    trial.cluster.start(id).expect("a process");
    trial.converged();
}

#[test]
fn a_flipped_bit_is_refused_wherever_it_is() {
    let mut trial = Trial::start("flipped", 3);
    let id = stopped_follower(&mut trial);
    let segment = segments(&mut trial, id).remove(0);
    let whole = fs::read(&segment).expect("a segment");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("records");
    for part in 1..=8 {
        let mut flipped = whole.clone();
        // Not padding: a byte of a record, the last half of the last group included.
        let at = (0..=used * part / 9).rev().find(|at| whole[*at] != 0).expect("a byte");
        flipped[at] ^= 0x10;
        fs::write(&segment, &flipped).expect("a file");
        refuses_to_start(&mut trial, id, 8, &["corrupt log", "offset"]);
    }
    fs::write(&segment, &whole).expect("a file");
    trial.cluster.start(id).expect("a process");
    trial.converged();
}

/// A small file system that goes when the test ends.
pub struct Mount(PathBuf);

impl Mount {
    pub fn small(at: &Path, bytes: u64) -> Option<Mount> {
        fs::create_dir_all(at).expect("a directory");
        mount(&format!("size={bytes}"), at).then(|| Mount(at.to_owned()))
    }

    pub fn grow(&self, bytes: u64) {
        self.remount(&format!("size={bytes}"));
    }

    /// Changes its options.
    pub fn remount(&self, options: &str) {
        assert!(mount(&format!("remount,{options}"), &self.0));
    }
}

fn mount(options: &str, at: &Path) -> bool {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
    mounted.is_ok_and(|output| output.status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_stops_the_node_and_room_brings_it_back() {
    let mut trial = Trial::prepare("full-disk", 3, Default::default());
    let small = trial.scratch.path().join("small");
    let Some(disk) = Mount::small(&small, 14 << 20) else {
        return skip("a file system can only be mounted as root");
    };
    // Node 3 lives on the small disk.
    let data = trial.cluster.node(3).data_dir();
    copy_dir(&data, &small.join("node-3"));
    let config = trial.cluster.node(3).config();
    let text = fs::read_to_string(&config).expect("a configuration");
    let line = text.lines().find(|line| line.starts_with("data_dir")).expect("a data directory").to_string();
    let there = format!("data_dir = \"{}\"", small.join("node-3").display());
    fs::write(&config, text.replace(&line, &there)).expect("a file");
    trial.cluster.start_all().expect("the nodes start");
    trial.leader();

    let mut options = trial.checked_load(SOON);
    options.limit = Limit::Requests(6_000);
    options.value_bytes = 4_000;
    options.reads_percent = 0;
    let (report, written) = trial.witnessed(trial.cluster.addresses(), |trial| {
        let done = load::run(&options, &|| false).expect("load");
        assert_eq!(trial.exit_code(3), Some(9));
        done
    });
    assert_eq!((report.errors, report.unanswered), (0, 0), "{report}");
    let last = trial.cluster.node(3).last_words();
    assert!(last.contains("no space left") && last.contains("node-3"), "{last}");
    assert!(last.chars().any(|letter| letter.is_ascii_digit()), "how many bytes were needed: {last}");

    disk.grow(256 << 20);
    trial.cluster.start(3).expect("it starts again");
    trial.converged();
    let verdict = load::verify(&options, &written).expect("the cluster answers");
    assert_eq!(verdict, Verdict { acknowledged: report.writes, lost: 0, duplicated: 0 });
    trial.cluster.kill_all();
}
