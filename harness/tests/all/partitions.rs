//! Partial partitions: a proxy in every peer link draws the digraph. Where some node has contact to a quorum the
//! cluster serves, leadership comes to rest, and nobody who is cut off disturbs; histories are judged throughout.
//!
//! Shapes after Ng, Haridi and Carbone, "Omni-Paxos: Breaking the Barriers of Partial Connectivity" (EuroSys 2023):
//! quorum loss, constrained election, chain; and what only one-way cuts show: nodes that are deaf or mute.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::client::{Client, Patience};
use harness::proxy::{Flow, Lateness, PeerLinks};
use transport_mio::config::Layer;

use crate::trial::{Trial, eventually};

/// The election time-out that nodes have by default.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);

/// What a cluster with a quorum-connected node may take to serve: 20 election time-outs. The ten round trips that are
/// allowed on top are nothing here.
const SERVES_WITHIN: Duration = ELECTION_TIMEOUT.saturating_mul(20);

/// How long a partition is kept to see that leadership is at rest: several election time-outs.
pub const KEPT: Duration = ELECTION_TIMEOUT.saturating_mul(7);

/// Changes of the leader once all is well again.
const HEALED_CHANGES_MAX: usize = 2;

/// A started cluster whose every link is in hand, its leader first and then the other nodes.
fn web(name: &str, servers: u32) -> (Trial, PeerLinks, Vec<u32>) {
    let mut trial = Trial::prepare(name, servers, Layer::default());
    let links = PeerLinks::between(&trial.cluster).expect("proxies");
    trial.cluster.start_all().expect("the nodes start");
    let mut nodes = vec![one_leader(&trial)];
    nodes.extend(trial.cluster.nodes().iter().map(|node| node.id()).filter(|id| *id != nodes[0]).collect::<Vec<_>>());
    (trial, links, nodes)
}

/// Waits until every node follows the same leader.
pub fn one_leader(trial: &Trial) -> u32 {
    eventually("one leader for all", || {
        let leaders = trial.cluster.nodes().iter().map(|node| Some(trial.status(node.id())?.leader));
        let leaders = leaders.collect::<Option<BTreeSet<i64>>>()?;
        let only = leaders.first().filter(|_| leaders.len() == 1)?;
        u32::try_from(*only).ok().filter(|id| *id > 0)
    })
}

/// Every ballot that anybody ever led with.
pub fn ballots_led(trial: &Trial) -> BTreeSet<String> {
    let logs: Vec<String> = trial.cluster.nodes().iter().map(|node| trial.log_of(node.id())).collect();
    let lines = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("role=\"leading"));
    lines.filter_map(|line| Some(line.split_once("ballot=\"")?.1.split_once('"')?.0.to_string())).collect()
}

/// Writes for so long, and at least once; how long the first write took, and the longest.
pub fn serves_for(trial: &Trial, kept: Duration) -> (Duration, Duration) {
    let patience = Patience { overall: SERVES_WITHIN, ..Patience::default() };
    let mut client = Client::with_patience(trial.cluster.addresses(), patience);
    let (begun, mut first, mut longest) = (Instant::now(), None, Duration::ZERO);
    loop {
        let asked = Instant::now();
        let served = client.once(&["INCR", "served"]);
        assert!(served.is_ok(), "nobody serves within {SERVES_WITHIN:?}: {served:?}");
        longest = longest.max(asked.elapsed());
        let first = *first.get_or_insert(longest);
        if begun.elapsed() >= kept {
            return (first, longest);
        }
    }
}

/// Cuts some ways, sees that the cluster serves with so many changes of the leader at most, mends them, and waits until
/// all follow one leader, who is returned.
fn partition(trial: &Trial, links: &PeerLinks, what: &str, changes_max: usize, cut: impl FnOnce(&PeerLinks)) -> u32 {
    let before = ballots_led(trial).len();
    cut(links);
    let (first, longest) = serves_for(trial, KEPT);
    let changes = ballots_led(trial).len() - before;
    links.mend();
    let mended = Instant::now();
    let leader = one_leader(trial);
    let healed = mended.elapsed();
    let more = ballots_led(trial).len() - before - changes;
    println!(
        "{what}: first write after {first:?}, longest {longest:?}, {changes} changes of the leader; healed after \
         {healed:?} with {more} more"
    );
    assert!(changes <= changes_max, "{what}: {changes} changes of the leader");
    assert!(more <= HEALED_CHANGES_MAX, "{what}: {more} changes after the end of the partition");
    leader
}

/// All ways between one node and some others, both ways, are cut.
fn cut_off(links: &PeerLinks, node: u32, others: &[u32], flow: Flow) {
    for other in others {
        links.set(node, *other, flow);
        links.set(*other, node, flow);
    }
}

#[test]
fn quorum_loss_makes_the_hub_lead() {
    let (mut trial, links, nodes) = web("hub", 5);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let [leader, hub, ..] = nodes[..] else { panic!("{nodes:?}") };
        let spokes: Vec<(u32, u32)> = nodes.iter().filter(|node| **node != hub).map(|node| (hub, *node)).collect();
        let after = partition(trial, &links, "hub", 1, |links| links.only(&spokes, Flow::Lost));
        assert_eq!(after, hub, "nobody else had a quorum, and node {leader} does not come back over it");
    });
    trial.converged();
}

#[test]
fn a_constrained_election_is_won_by_who_lags() {
    let (mut trial, links, nodes) = web("constrained", 5);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let [leader, hub, ..] = nodes[..] else { panic!("{nodes:?}") };
        let after = partition(trial, &links, "constrained", 1, |links| {
            // The one that is to lead hears nothing from the leader for a while, and does not disturb it.
            let before = ballots_led(trial);
            cut_off(links, hub, &[leader], Flow::Held);
            serves_for(trial, ELECTION_TIMEOUT * 3);
            assert_eq!(ballots_led(trial), before, "a node without the leader campaigned against it");
            // Then the leader is gone, and of the others each only reaches that one.
            let spokes: Vec<(u32, u32)> = nodes[2..].iter().map(|node| (hub, *node)).collect();
            links.only(&spokes, Flow::Held);
        });
        assert_eq!(after, hub, "nobody else had a quorum");
    });
    trial.converged();
}

#[test]
fn a_chain_comes_to_rest() {
    let (mut trial, links, nodes) = web("chain", 5);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let chain: Vec<(u32, u32)> = nodes.windows(2).map(|pair| (pair[0], pair[1])).collect();
        // The leader is at the end; each of the three in the middle has a quorum and may try once.
        partition(trial, &links, "chain of 5", 3, |links| links.only(&chain, Flow::Lost));
    });
    trial.converged();
}

#[test]
fn the_end_of_a_chain_of_three_does_not_depose_the_other_end() {
    let (mut trial, links, nodes) = web("chain-3", 3);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let [leader, _, end] = nodes[..] else { panic!("{nodes:?}") };
        let after = partition(trial, &links, "chain of 3", 0, |links| {
            cut_off(links, leader, &[end], Flow::Lost);
            // It learns from the node in the middle all the same.
            let applied = trial.status(leader).expect("it answers").applied;
            eventually("the far end learns", || trial.status(end).filter(|status| status.applied > applied + 300));
        });
        assert_eq!(after, leader);
    });
    trial.converged();
}

#[test]
fn a_deaf_or_mute_follower_disturbs_nobody() {
    let (mut trial, links, nodes) = web("deaf-follower", 5);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let (leader, follower) = (nodes[0], nodes[1]);
        let others = || nodes.iter().filter(|node| **node != follower);
        let deaf = partition(trial, &links, "deaf follower", 0, |links| {
            others().for_each(|other| links.set(*other, follower, Flow::Lost));
        });
        let mute = partition(trial, &links, "mute follower", 0, |links| {
            others().for_each(|other| links.set(follower, *other, Flow::Held));
        });
        assert_eq!((deaf, mute), (leader, leader));
    });
    trial.converged();
}

#[test]
fn a_deaf_or_mute_leader_is_replaced() {
    let (mut trial, links, nodes) = web("deaf-leader", 5);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let others = |leader| nodes.iter().filter(move |node| **node != leader);
        let deaf = nodes[0];
        let mute = partition(trial, &links, "deaf leader", 1, |links| {
            others(deaf).for_each(|other| links.set(*other, deaf, Flow::Held));
        });
        assert_ne!(mute, deaf, "a returning old leader deposed a healthy one");
        let last = partition(trial, &links, "mute leader", 1, |links| {
            others(mute).for_each(|other| links.set(mute, *other, Flow::Lost));
        });
        assert_ne!(last, mute, "a returning old leader deposed a healthy one");
    });
    trial.converged();
}

#[test]
fn links_that_change_faster_than_elections_lose_nothing() {
    let (mut trial, links, nodes) = web("flapping", 5);
    trial.witnessed(trial.cluster.addresses(), |trial| {
        let ways: Vec<(u32, u32)> =
            nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to))).filter(|(a, b)| a != b).collect();
        let lossy = Lateness {
            delay: Duration::from_millis(2),
            jitter: Duration::from_millis(10),
            lost_permille: 20,
            resend: Duration::from_millis(200),
        };
        links.set_lateness(lossy);
        let (late, _) = serves_for(trial, KEPT);
        let begun = Instant::now();
        let mut turn = 0u32;
        // A new digraph every tenth of a second, in which three ways of ten are cut, held or lost by turns.
        eventually("40 digraphs", || {
            if begun.elapsed() >= turn * Duration::from_millis(100) {
                turn += 1;
                for (at, (from, to)) in (0u32..).zip(&ways) {
                    let dice = (turn * 31 + at).wrapping_mul(2_654_435_761) >> 16;
                    let cut = if turn.is_multiple_of(2) { Flow::Held } else { Flow::Lost };
                    links.set(*from, *to, if dice % 10 < 3 { cut } else { Flow::Open });
                }
            }
            (turn >= 40).then_some(())
        });
        links.set_lateness(Lateness::default());
        links.mend();
        let (first, _) = serves_for(trial, ELECTION_TIMEOUT);
        one_leader(trial);
        println!("flapping: late links serve after {late:?}, mended ones after {first:?}");
    });
    trial.converged();
}
