//! Disks that fail or are slow under running nodes: strace makes their system calls return errors, or take long. A
//! node whose write or sync failed stops with the reason, the others go on, and nothing acknowledged is lost; a slow
//! disk holds up nobody else, and no heartbeat.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::load::{self, Verdict};
use rustix::process::{Pid, Signal, kill_process};

use crate::crashes::under_load;
use crate::damage::{Mount, copy_dir};
use crate::trial::{PAXOS, SOON, Trial, eventually, has, skip};

/// strace on a running process, until it is dropped.
struct Strace {
    child: Child,
    said: PathBuf,
}

impl Strace {
    /// Injects into the calls that the process makes from now on.
    fn on(trial: &Trial, id: u32, injection: &str) -> Strace {
        let node = trial.cluster.nodes().iter().find(|node| node.id() == id).expect("a node");
        let pid = node.pid().expect("it runs");
        let said = trial.scratch.path().join(format!("strace-{id}"));
        let mut child = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-o", "/dev/null"])
            .args(strace_arguments(injection))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).expect("a file"))
            .spawn()
            .expect("strace runs");
        eventually("strace is attached", || {
            let over = child.try_wait().expect("a child").is_some();
            // It ends with the process, which may be at once.
            let attached = fs::read_to_string(&said).is_ok_and(|said| said.contains("attached"));
            assert!(attached || !over, "{:?}", fs::read_to_string(&said));
            attached.then_some(())
        });
        Strace { child, said }
    }
}

/// Of `CALL:WHAT`: trace that call only, and do that to it.
fn strace_arguments(injection: &str) -> [String; 4] {
    let call = injection.split(':').next().expect("a call");
    ["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={injection}")]
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Asked to, it lets go of the process; killed, it would as well. It may be gone with it already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.said);
    }
}

/// Whether strace may trace here; says so if not.
fn can_trace() -> bool {
    let can = has("strace", &["-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"]);
    if !can {
        skip("strace is not there, or may not trace");
    }
    can
}

/// The last line of a node that stopped has these words.
fn says(trial: &mut Trial, id: u32, words: &[&str]) {
    let last = trial.cluster.node(id).last_words();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
}

#[test]
fn a_failing_sync_stops_the_leader_and_loses_nothing() {
    if !can_trace() {
        return;
    }
    let mut trial = Trial::start("sync-leader", 3);
    let leader = trial.leader();
    under_load(&mut trial, |trial, progress| {
        let failing = Strace::on(trial, leader, "fdatasync:error=EIO:when=20");
        assert_eq!(trial.exit_code(leader), Some(10));
        drop(failing);
        says(trial, leader, &["disk failed", "sync", ".wal", "Input/output error"]);
        trial.leader_other_than(&[leader]);
        progress(trial);
        trial.cluster.start(leader).expect("it starts again");
    });
    trial.converged();
}

#[test]
fn every_failing_call_stops_a_follower_with_its_reason_and_nobody_else() {
    if !can_trace() {
        return;
    }
    let mut trial = Trial::start("call-follower", 3);
    let leader = trial.leader();
    let follower = leader % 3 + 1;
    let cases = [
        ("fdatasync:error=EIO:when=1", 10, ["disk failed: sync", "Input/output error"]),
        ("pwrite64:error=EIO:when=3", 10, ["disk failed: write", "Input/output error"]),
        // What a file system that turned read-only answers.
        ("pwrite64:error=EROFS:when=1+", 10, ["disk failed: write", "Read-only file system"]),
        ("fdatasync:error=ENOSPC:when=2", 9, ["no space left", ".wal needs"]),
        ("pwrite64:error=ENOSPC:when=2", 9, ["no space left", ".wal needs"]),
    ];
    let report = under_load(&mut trial, |trial, progress| {
        for (injection, code, words) in cases {
            let failing = Strace::on(trial, follower, injection);
            assert_eq!(trial.exit_code(follower), Some(code), "{injection}");
            drop(failing);
            says(trial, follower, &words);
            progress(trial);
            trial.cluster.start(follower).expect("it starts again");
            eventually("it follows again", || {
                trial.status(follower).filter(|status| status.leader == i64::from(leader) && status.applied > 0)
            });
        }
    });
    assert_eq!((report.disconnects, report.retried), (0, 0), "the leader stays: {report}");
    trial.converged();
}

#[test]
fn a_disk_that_fails_at_the_start_keeps_the_node_down_and_harms_nothing() {
    if !can_trace() {
        return;
    }
    let mut trial = Trial::start("start-fails", 3);
    let follower = trial.leader() % 3 + 1;
    let load = trial.checked_load(Duration::from_millis(500));
    let (report, written) = load::run(&load, &|| false).expect("load");
    assert!(trial.cluster.node(follower).stop().expect("it ran").success());
    let data = trial.cluster.node(follower).data_dir();
    let segment = data.join("0000000000000001.wal");
    let cases = [
        // A file that cannot be opened is not missing, and the log is not corrupt for it.
        (&segment, "openat:error=EIO:when=1", "disk failed"),
        (&data, "openat:error=EIO:when=2", "disk failed: list"),
        (&segment, "pread64:error=EIO:when=1", "disk failed: read"),
        (&segment, "pread64:error=EIO:when=3", "disk failed: read"),
        (&segment, "fdatasync:error=EIO:when=1", "disk failed: sync"),
        (&data, "fsync:error=EIO:when=1", "disk failed: sync"),
        // The record of the start: nothing was said to anybody yet.
        (&segment, "pwrite64:error=EIO:when=1", "disk failed: write"),
        (&segment, "fdatasync:error=EIO:when=2", "disk failed: sync"),
    ];
    for (path, injection, words) in cases {
        let mut command = Command::new("strace");
        // Calls on this path only: the loader must find its libraries.
        command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(path).args(strace_arguments(injection));
        let config = trial.cluster.node(follower).config();
        let output = command.args([PAXOS, "node", "--config"]).arg(config).output().expect("strace runs");
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or("");
        assert_eq!(output.status.code(), Some(10), "{injection}: {text}");
        assert!(last.contains(words) && last.contains("Input/output error"), "{injection}: {text}");
    }
    trial.cluster.start(follower).expect("it starts again");
    trial.converged();
    let verdict = load::verify(&load, &written).expect("the cluster answers");
    assert_eq!(verdict, Verdict { acknowledged: report.writes, lost: 0, duplicated: 0 });
}

#[test]
fn a_slow_disk_holds_up_nobody_else_and_no_heartbeat() {
    /// Longer than a heartbeat interval, shorter than an election time-out.
    const SLOW: Duration = Duration::from_millis(200);
    if !can_trace() {
        return;
    }
    let mut trial = Trial::start("slow-disk", 3);
    let leader = trial.leader();
    let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let ballot = |trial: &Trial| trial.status(leader).map(|status| status.ballot);
    let before = ballot(&trial);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let slow = |trial: &Trial, id| Strace::on(trial, id, &format!("fdatasync:delay_enter={}", SLOW.as_micros()));
        for (who, nodes) in [("leader", &[leader][..]), ("follower", &[one]), ("followers", &[one, other])] {
            let slowed: Vec<Strace> = nodes.iter().map(|id| slow(trial, *id)).collect();
            let mut load = trial.checked_load(Duration::from_millis(1_500));
            load.prefix = format!("slow:{who}");
            let (report, _) = load::run(&load, &|| false).expect("load");
            drop(slowed);
            println!("slow {who}: {report}");
            assert_eq!((report.errors, report.unanswered, report.disconnects), (0, 0, 0), "slow {who}: {report}");
            assert_eq!(ballot(trial), before, "a slow disk of the {who} is no reason for an election");
            // One of three is not waited for; two are.
            let waits = report.p50_ms >= SLOW.as_secs_f64() * 1_000.0 / 2.0;
            assert_eq!(waits, nodes.len() == 2, "slow {who}: {report}");
        }
    });
    trial.converged();
}

#[test]
fn a_stall_of_all_disks_is_waited_for() {
    /// More than two election time-outs.
    const STALL: Duration = Duration::from_millis(700);
    if !can_trace() {
        return;
    }
    let mut trial = Trial::start("stalled-disks", 3);
    let leader = trial.leader();
    let before = trial.status(leader).map(|status| status.ballot);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let injection = format!("fdatasync:delay_enter={}", STALL.as_micros());
        let stalled: Vec<Strace> = (1..=3).map(|id| Strace::on(trial, id, &injection)).collect();
        let (report, _) = load::run(&trial.checked_load(4 * STALL), &|| false).expect("load");
        drop(stalled);
        println!("stalled: {report}");
        assert_eq!((report.errors, report.unanswered, report.disconnects), (0, 0, 0), "{report}");
        assert!(report.longest_gap_ms >= STALL.as_secs_f64() * 1_000.0 / 2.0, "it did stall: {report}");
        assert_eq!(trial.status(leader).map(|status| status.ballot), before, "nobody could do better");
    });
    trial.converged();
}

#[test]
fn a_file_system_that_turned_read_only_is_named_and_a_writable_one_brings_the_node_back() {
    if !can_trace() {
        return;
    }
    let mut trial = Trial::prepare("read-only", 3, Default::default());
    let place = trial.scratch.path().join("place");
    let Some(disk) = Mount::small(&place, 64 << 20) else {
        return skip("a file system can only be mounted as root");
    };
    let data = trial.cluster.node(3).data_dir();
    copy_dir(&data, &place.join("node-3"));
    let there = place.join("node-3");
    trial.cluster.node(3).reconfigure(|layer| layer_at(layer, &there)).expect("a configuration");
    trial.cluster.start_all().expect("the nodes start");
    trial.leader();
    let load = trial.checked_load(SOON);
    let over = AtomicBool::new(false);
    let (report, written) = thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&load, &|| over.load(Ordering::Relaxed)).expect("load"));
        eventually("node 3 works", || trial.status(3).filter(|status| status.applied > 300));
        let failing = Strace::on(&trial, 3, "pwrite64:error=EROFS:when=1+");
        assert_eq!(trial.exit_code(3), Some(10));
        drop(failing);
        // Nobody has a file open any more: now the file system itself can be what it was said to be.
        disk.remount("ro");
        let begun = Instant::now();
        trial.cluster.start(3).expect("a process");
        assert_eq!(trial.exit_code(3), Some(10));
        says(&mut trial, 3, &["disk failed", "Read-only file system"]);
        assert!(begun.elapsed() < SOON);
        trial.leader();
        over.store(true, Ordering::Relaxed);
        load.join().expect("the load ends")
    });
    disk.remount("rw");
    trial.cluster.start(3).expect("it starts again");
    trial.converged();
    assert_eq!((report.errors, report.unanswered), (0, 0), "{report}");
    let verdict = load::verify(&load, &written).expect("the cluster answers");
    assert_eq!(verdict, Verdict { acknowledged: report.writes, lost: 0, duplicated: 0 });
    trial.cluster.kill_all();
}

fn layer_at(layer: transport_mio::config::Layer, there: &Path) -> transport_mio::config::Layer {
    transport_mio::config::Layer { data_dir: Some(there.to_owned()), ..layer }
}
