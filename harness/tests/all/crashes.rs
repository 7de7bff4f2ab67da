//! Nodes that are killed, paused and restarted under load: nothing acknowledged is lost, nothing runs twice, and
//! what clients see that contend for a few keys is linearizable and in the order of the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::client::{Connection, Reply};
use harness::load::{self, Limit, LoadReport, Verdict};
use rustix::process::Signal;

use crate::trial::{SOON, Trial, eventually, integer};

/// A gap in the service that no fail-over on a busy machine explains. The figure for an idle one is in
/// docs/performance.md.
const GAP_MAX_MS: f64 = 5_000.0;

/// Runs checked load and witnesses while `fault` happens, then judges what is there and what they saw. `fault` is
/// told how to wait for progress.
pub fn under_load(trial: &mut Trial, fault: impl FnOnce(&mut Trial, &dyn Fn(&Trial))) -> LoadReport {
    let addresses = trial.cluster.addresses();
    trial.witnessed(addresses, |trial| under_checked_load(trial, fault))
}

fn under_checked_load(trial: &mut Trial, fault: impl FnOnce(&mut Trial, &dyn Fn(&Trial))) -> LoadReport {
    let options = trial.checked_load(SOON);
    let over = AtomicBool::new(false);
    let (report, written) = thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&options, &|| over.load(Ordering::Relaxed)).expect("load"));
        let progress = |trial: &Trial| {
            let commands = |trial: &Trial| {
                trial.cluster.nodes().iter().filter_map(|node| Some(trial.status(node.id())?.applied)).max()
            };
            let before = eventually("a node that answers", || commands(trial));
            eventually("another 300 slots", || commands(trial).filter(|now| *now > before + 300));
        };
        progress(trial);
        fault(trial, &progress);
        progress(trial);
        over.store(true, Ordering::Relaxed);
        load.join().expect("the load ends")
    });
    assert_eq!((report.errors, report.unanswered), (0, 0), "{report}");
    let verdict = load::verify(&options, &written).expect("the cluster answers");
    assert_eq!(verdict, Verdict { acknowledged: report.writes, lost: 0, duplicated: 0 });
    assert!(report.writes > 500, "{report}");
    println!("{report}");
    report
}

#[test]
fn kill_9_of_the_leader_loses_nothing() {
    let mut trial = Trial::start("kill-leader", 3);
    let leader = trial.leader();
    let report = under_load(&mut trial, |trial, progress| {
        trial.cluster.node(leader).kill();
        trial.leader_other_than(&[leader]);
        progress(trial);
        trial.cluster.start(leader).expect("it starts again");
    });
    assert!(report.longest_gap_ms < GAP_MAX_MS, "{report}");
    trial.converged();
}

#[test]
fn kill_9_of_a_follower_is_hardly_noticed() {
    let mut trial = Trial::start("kill-follower", 3);
    let follower = trial.leader() % 3 + 1;
    let report = under_load(&mut trial, |trial, progress| {
        trial.cluster.node(follower).kill();
        progress(trial);
        trial.cluster.start(follower).expect("it starts again");
    });
    assert_eq!((report.disconnects, report.retried), (0, 0), "the leader stays: {report}");
    trial.converged();
}

#[test]
fn a_cut_of_all_power_loses_nothing() {
    let mut trial = Trial::start("kill-all", 3);
    under_load(&mut trial, |trial, _| {
        trial.cluster.kill_all();
        trial.cluster.start_all().expect("they start again");
        trial.leader();
    });
    trial.converged();
}

#[test]
fn a_clean_restart_of_each_node_in_turn_loses_nothing() {
    let mut trial = Trial::start("rolling", 3);
    under_load(&mut trial, |trial, progress| {
        for id in 1..=3 {
            let status = trial.cluster.node(id).stop().expect("it ran");
            assert!(status.success(), "node {id}: {status}");
            trial.leader_other_than(&[id]);
            progress(trial);
            trial.cluster.start(id).expect("it starts again");
        }
    });
    trial.converged();
}

#[test]
fn a_paused_leader_is_replaced_and_serves_nothing_stale() {
    let mut trial = Trial::start("pause-leader", 3);
    let leader = trial.leader();
    let mut client = trial.client();
    client.once(&["SET", "witness", "old"]).expect("an answer");
    // A read is in the old leader's socket while it sleeps.
    let address = trial.cluster.node(leader).client().to_string();
    let mut waiting = Connection::open(&address, SOON, SOON).expect("it listens");
    waiting.call(&["PING"]).expect("an answer");
    under_load(&mut trial, |trial, progress| {
        trial.cluster.node(leader).signal(Signal::STOP);
        waiting.queue(&["GET", "witness"]);
        waiting.flush().expect("the socket takes it");
        trial.leader_other_than(&[leader]);
        client.once(&["SET", "witness", "new"]).expect("the new leader answers");
        progress(trial);
        trial.cluster.node(leader).signal(Signal::CONT);
    });
    match waiting.receive().expect("an answer") {
        Reply::Error(refusal) => {
            assert!(refusal.starts_with("MOVED") || refusal.starts_with("CLUSTERDOWN"), "{refusal}")
        }
        value => assert_eq!(value, Reply::Bulk(b"new".to_vec()), "a stale read"),
    }
    trial.converged();
}

#[test]
fn a_node_that_was_away_for_long_catches_up_and_history_stays_readable() {
    let mut trial = Trial::start("away", 3);
    let away = trial.leader() % 3 + 1;
    let mut client = trial.client();
    let slot = integer(&client.once(&["LOG.APPEND", "the first word"]).expect("an answer"));
    let mut options = trial.checked_load(SOON);
    // Many windows of slots; a million is measured by hand, see docs/performance.md.
    options.limit = Limit::Requests(60_000);
    options.pipeline = 32;
    options.reads_percent = 0;
    let (report, written) = trial.witnessed(trial.cluster.addresses(), |trial| {
        trial.cluster.node(away).kill();
        let done = load::run(&options, &|| false).expect("load");
        trial.cluster.start(away).expect("it starts again");
        done
    });
    assert_eq!(report.writes, 60_000, "{report}");
    let applied = trial.converged();
    assert!(applied > 60_000);
    let verdict = load::verify(&options, &written).expect("the cluster answers");
    assert_eq!(verdict, Verdict { acknowledged: 60_000, lost: 0, duplicated: 0 });
    for node in trial.cluster.nodes() {
        let mut connection = Connection::open(node.client(), SOON, SOON).expect("it listens");
        let entry = connection.call(&["LOG.GET", &slot.to_string()]).expect("an answer");
        assert_eq!(entry, Reply::Bulk(b"the first word".to_vec()), "node {}", node.id());
    }
    let memory = |id: u32, trial: &mut Trial| -> u64 {
        let pid = trial.cluster.node(id).pid().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") << 10
    };
    let bound = paxos_core::Config::default().memory_bytes_max() as u64 + (160 << 20);
    let resident = memory(away, &mut trial);
    assert!(resident < bound, "{resident} bytes resident; keys, sessions and digests apart at most {bound}");
}
