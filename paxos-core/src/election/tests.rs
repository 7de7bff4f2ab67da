//! When a replica campaigns, and when it leaves the others alone.

use super::*;
use crate::membership::Member;
use crate::message::{Echo, Heartbeat};
use crate::node_id::{Boot, Incarnation};
use crate::quorum::QuorumSystem;

/// Three voters; the first one follows nobody, and neither does the second, whose heartbeats come.
fn leaderless(first_unchosen: Slot, next_to_apply: Slot) -> (Election, Membership) {
    with(Config::default(), 1, first_unchosen, next_to_apply)
}

fn with(config: Config, me: u32, first_unchosen: Slot, next_to_apply: Slot) -> (Election, Membership) {
    let member = |node| Member { node: NodeId(node), incarnation: Incarnation(1), generation: 0 };
    let membership = Membership::new((1..=3).map(member).collect(), Vec::new(), QuorumSystem::Majority);
    let membership = membership.expect("three voters");
    let mut election = Election::new(&config, &membership, NodeId(me), Instant::from_us(0), 1);
    election.note_progress(first_unchosen, next_to_apply);
    (election, membership)
}

fn hear(election: &mut Election, at_us: u64, first_unchosen: Slot) {
    let boot = |counter| Boot { counter, nonce: 1 };
    let heartbeat = Heartbeat {
        leading: None,
        following: None,
        contact: true,
        can_vote: true,
        prefix: first_unchosen,
        first_unchosen,
        room: 1,
        round: 0,
        sent_us: at_us,
        echo: Some(Echo { boot: boot(1), sent_us: at_us, leading: None, round: 0 }),
    };
    election.on_heartbeat(NodeId(2), boot(7), heartbeat, boot(1), Instant::from_us(at_us));
}

/// When it campaigns, in heartbeat intervals; how far the peer is.
fn campaigns_after(first_unchosen: u64, next_to_apply: u64, peer: u64) -> u64 {
    let slot = |number| Slot::FIRST.plus(number);
    let (mut election, membership) = leaderless(slot(first_unchosen), slot(next_to_apply));
    for intervals in 1..100 {
        let at_us = intervals * Config::default().heartbeat_us;
        hear(&mut election, at_us, slot(peer));
        if election.wants_campaign(Instant::from_us(at_us), true, &membership) {
            return intervals;
        }
    }
    100
}

#[test]
fn who_lags_lets_others_go_first_whether_it_knows_or_has_applied_too_little() {
    let timeout = Config::default().election_timeout_us / Config::default().heartbeat_us;
    let current = campaigns_after(9_000, 9_000, 9_000);
    assert!(current <= timeout + 2, "{current}");
    // A little behind is no reason to wait; a window in what it knows or a run in what it applied is, for one
    // time-out more.
    let cases = [(8_000, 8_000, 0), (4_000, 4_000, timeout), (9_000, 7_000, timeout), (9_000, 8_000, 0)];
    for (first_unchosen, next_to_apply, more) in cases {
        let after = campaigns_after(first_unchosen, next_to_apply, 9_000);
        assert_eq!(after, current + more, "first_unchosen {first_unchosen}, next_to_apply {next_to_apply}");
    }
}

/// A cut link that is mended delivers what it held: of one peer what it said when it had just lost the leader, of
/// another what it says now, that it follows one. Together they are no reason to depose that one.
#[test]
fn a_heartbeat_that_was_held_up_is_no_fresh_word_of_following_nobody() {
    let (mut election, membership) = leaderless(Slot::FIRST, Slot::FIRST);
    let boot = |counter| Boot { counter, nonce: 1 };
    let healthy = Ballot { round: 2, node: NodeId(3), generation: 0 };
    let timeout_us = Config::default().election_timeout_us;
    for number in 1..100 {
        let now_us = 10 * timeout_us + number * Config::default().heartbeat_us;
        let now = Instant::from_us(now_us);
        let heartbeat = |following, sent_us, echoed_us| Heartbeat {
            leading: None,
            following,
            contact: true,
            can_vote: true,
            prefix: Slot::FIRST,
            first_unchosen: Slot::FIRST,
            room: 1,
            round: 0,
            sent_us,
            echo: Some(Echo { boot: boot(1), sent_us: echoed_us, leading: None, round: 0 }),
        };
        election.on_heartbeat(NodeId(2), boot(7), heartbeat(Some(healthy), now_us, now_us), boot(1), now);
        election.on_heartbeat(NodeId(3), boot(8), heartbeat(None, number, number), boot(1), now);
        election.follow_best(now);
        assert!(!election.wants_campaign(now, true, &membership), "heartbeat {number}");
    }
}

/// The lecture's rule says who is to lead, not that it must before it can: a restarted highest id lets the leader that
/// there is go on until it has applied what is chosen.
#[test]
fn the_highest_id_takes_over_when_it_has_caught_up() {
    let config = Config { election: ElectionPolicy::HighestId, ..Config::default() };
    let behind = Slot::FIRST.plus(9_000);
    for (applied, takes_over) in [(Slot::FIRST, false), (behind, true)] {
        let (mut election, membership) = with(config.clone(), 3, behind, applied);
        let boot = |counter| Boot { counter, nonce: 1 };
        let mut campaigns = false;
        for number in 1..=20 {
            let at_us = number * config.heartbeat_us;
            let heartbeat = |leading| Heartbeat {
                leading,
                following: None,
                contact: true,
                can_vote: true,
                prefix: behind,
                first_unchosen: behind,
                room: 1,
                round: 0,
                sent_us: at_us,
                echo: Some(Echo { boot: boot(1), sent_us: at_us, leading: None, round: 0 }),
            };
            let leading = Ballot { round: 2, node: NodeId(2), generation: 0 };
            election.on_heartbeat(NodeId(2), boot(7), heartbeat(Some(leading)), boot(1), Instant::from_us(at_us));
            election.on_heartbeat(NodeId(1), boot(8), heartbeat(None), boot(1), Instant::from_us(at_us));
            election.follow_best(Instant::from_us(at_us));
            campaigns |= election.wants_campaign(Instant::from_us(at_us), true, &membership);
        }
        assert_eq!(campaigns, takes_over, "applied up to {applied:?}");
    }
}

/// Five voters whose waits ended while they lacked one of them, and who are all in contact again from one moment on.
#[test]
fn rule_15_who_regains_contact_does_not_campaign_with_all_the_others() {
    let config = Config::default();
    let member = |node| Member { node: NodeId(node), incarnation: Incarnation(1), generation: 0 };
    let flexible = QuorumSystem::Flexible { phase1: 1, phase2: 5 };
    let membership = Membership::new((1..=5).map(member).collect(), Vec::new(), flexible).expect("five voters");
    let boot = Boot { counter: 1, nonce: 1 };
    let returns_us = 20 * config.election_timeout_us;
    let step_us = config.heartbeat_us / 10;
    let campaigns_after = |seed| {
        let mut election = Election::new(&config, &membership, NodeId(1), Instant::from_us(0), seed);
        let campaigns = (0..).map(|number| number * step_us).find(|at_us| {
            let now = Instant::from_us(*at_us);
            for peer in if *at_us < returns_us { 2..=4 } else { 2..=5 } {
                let heartbeat = Heartbeat {
                    leading: None,
                    following: None,
                    contact: false,
                    can_vote: true,
                    prefix: Slot::FIRST,
                    first_unchosen: Slot::FIRST,
                    room: 1,
                    round: 0,
                    sent_us: *at_us,
                    echo: Some(Echo { boot, sent_us: *at_us, leading: None, round: 0 }),
                };
                election.on_heartbeat(NodeId(peer), boot, heartbeat, boot, now);
            }
            election.follow_best(now);
            election.note_contact(now, true, &membership);
            election.wants_campaign(now, true, &membership)
        });
        campaigns.expect("it campaigns").checked_sub(returns_us).expect("not without contact")
    };
    let range_us = config.election_timeout_us / 4;
    let waits: Vec<u64> = (0..100).map(campaigns_after).collect();
    assert!(waits.iter().all(|wait| *wait <= range_us), "{waits:?}");
    // Spread over the whole range: about a quarter in each quarter of it.
    for quarter in 0..4 {
        let within = waits.iter().filter(|wait| **wait * 4 / (range_us + 1) == quarter).count();
        assert!((10..=45).contains(&within), "{within} of 100 in quarter {quarter}: {waits:?}");
    }
}
