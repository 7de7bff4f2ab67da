//! Rules 10 to 18: repair, windows, refusals, elections, whose proposal it was.

use super::*;

#[test]
fn rule_12_the_window_is_bounded_in_slots_and_in_bytes() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 2, ..Config::default() });
    lone.lead();
    (1..=3).for_each(|tag| lone.propose(tag, "x"));
    let full = |tag| Action::ProposalRefused { tag: Tag(tag), error: ProposeError::WindowFull };
    assert_eq!(std::format!("{:?}", lone.others.last()), std::format!("{:?}", Some(full(3))));
    assert_eq!(lone.replica.propose_room(), 0);
    let small = Config { window_bytes: 300, entry_bytes_max: 200, ..Config::default() };
    let mut lone = Lone::with(1, 3, small);
    lone.lead();
    lone.event(Event::Propose { tag: Tag(1), command: Bytes::from(vec![7; 190]) });
    lone.event(Event::Propose { tag: Tag(2), command: Bytes::from(vec![7; 190]) });
    lone.event(Event::Propose { tag: Tag(3), command: Bytes::from(vec![7; 201]) });
    let ends: Vec<_> = lone.others.iter().filter(|action| matches!(action, Action::ProposalRefused { .. })).collect();
    let expected = [full(2), Action::ProposalRefused { tag: Tag(3), error: ProposeError::TooLarge { bytes_max: 200 } }];
    assert_eq!(std::format!("{ends:?}"), std::format!("{:?}", expected.iter().collect::<Vec<_>>()));
}

#[test]
fn rule_12_a_follower_takes_nothing_beyond_its_room() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 2, ..Config::default() });
    let run: Vec<Entry> = (1..=6).map(|sequence| entry("x", sequence)).collect();
    lone.hear(2, accept(ballot(1, 2), 1, &run, 1));
    lone.sync();
    assert_eq!(accepted_runs(&lone.said()), vec![(ballot(1, 2), 1, 5)]);
    assert_eq!(lone.replica.stats().accepts_beyond_room, 1);
}

#[test]
fn rule_13_absurd_rounds_are_ignored_before_anything_remembers_them() {
    let mut lone = Lone::new(1, 3);
    lone.hear(2, Body::Prepare(Prepare { ballot: ballot((1 << 32) + 1, 2), from: slot(1) }));
    assert_eq!((lone.replica.promised(), lone.replica.stats().messages_absurd), (None, 1));
    lone.hear(2, Body::Prepare(Prepare { ballot: ballot(1 << 32, 2), from: slot(1) }));
    assert_eq!(lone.replica.promised(), Some(ballot(1 << 32, 2)));
}

#[test]
fn rule_14_nobody_campaigns_while_a_quorum_follows_somebody() {
    let mut lone = Lone::new(1, 3);
    for _ in 0..200 {
        let echo = Some(Echo { boot: BOOT, sent_us: lone.now_us, leading: None, round: 0 });
        let following = Heartbeat { following: Some(ballot(3, 3)), echo, ..heartbeat(None, 1, lone.now_us) };
        lone.hear(2, Body::Heartbeat(Box::new(following)));
        lone.wait(10_000);
    }
    assert_eq!(lone.replica.role(), Role::Following, "node 2 hears a leader, so one is there");
    let mut deaf = Lone::new(1, 3);
    (0..200).for_each(|_| deaf.wait(10_000));
    assert_eq!((deaf.replica.role(), deaf.replica.promised()), (Role::Following, None), "no contact, no campaign");
}

#[test]
fn rule_14_a_leader_without_contact_steps_down() {
    let mut lone = Lone::new(1, 3);
    lone.lead();
    lone.wait(250_000);
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
    lone.wait(100_000);
    assert_eq!(lone.replica.role(), Role::Following);
}

/// Its own disk and those of the others stall at the same time, as the disks of one machine do: no other leader could
/// choose anything, so this one stays, and what was proposed is chosen when a quorum of disks answers.
#[test]
fn rule_14_a_leader_stays_while_the_disks_stall() {
    let stalled = |lone: &Lone| Heartbeat {
        contact: false,
        can_vote: false,
        echo: Some(Echo { boot: BOOT, sent_us: lone.now_us, leading: lone.replica.ballot(), round: 0 }),
        ..heartbeat(None, 1, lone.now_us)
    };
    let mut lone = Lone::new(1, 3);
    let ballot = lone.lead();
    lone.propose(1, "x");
    for _ in 0..200 {
        let heartbeat = stalled(&lone);
        lone.hear(2, Body::Heartbeat(Box::new(heartbeat)));
        lone.wait(10_000);
    }
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
    lone.accepted(2, ballot, 1, 1);
    lone.sync();
    assert_eq!(lone.applied().len(), 1);
    // Not for ever: there may be one that it does not hear.
    lone.propose(2, "y");
    for _ in 0..600 {
        let heartbeat = stalled(&lone);
        lone.hear(2, Body::Heartbeat(Box::new(heartbeat)));
        lone.wait(10_000);
    }
    assert_eq!(lone.replica.role(), Role::Following);
    // Nobody begins to lead on such disks.
    let mut follower = Lone::new(1, 3);
    for _ in 0..200 {
        let heartbeat = stalled(&follower);
        follower.hear(2, Body::Heartbeat(Box::new(heartbeat)));
        follower.wait(10_000);
    }
    assert_eq!(follower.replica.role(), Role::Following);
}

/// The leader's own disk hangs, and of the others it hears one, who says that it could be elected.
#[test]
fn rule_14_a_leader_without_a_quorum_that_can_vote_gives_way_to_who_has_one() {
    let mut lone = Lone::new(1, 3);
    lone.lead();
    lone.propose(1, "x");
    let mut gave_way_us = 0;
    for _ in 0..200 {
        lone.keep_contact(&[2]);
        lone.wait(10_000);
        if lone.replica.role() == Role::Following && gave_way_us == 0 {
            gave_way_us = lone.now_us;
        }
    }
    let timeout_us = Config::default().election_timeout_us;
    assert!((2 * timeout_us..4 * timeout_us).contains(&gave_way_us), "{gave_way_us}");
    assert_eq!(lone.replica.role(), Role::Following, "its own disk hangs");
}

/// Disks that stalled together answer one by one: that another could lead for less than a time-out is no reason.
#[test]
fn rule_14_a_leader_stays_while_another_could_lead_only_now_and_then() {
    let timeout_us = Config::default().election_timeout_us;
    for (claims_us, stays) in [(timeout_us - 50_000, true), (timeout_us + 50_000, false)] {
        let mut lone = Lone::new(1, 3);
        lone.lead();
        lone.propose(1, "x");
        for step in 0..200 {
            let echo = Some(Echo { boot: BOOT, sent_us: lone.now_us, leading: None, round: 0 });
            let contact = step * 10_000 % (2 * timeout_us) < claims_us;
            let heard = Heartbeat { echo, contact, can_vote: false, ..heartbeat(None, 1, lone.now_us) };
            lone.hear(2, Body::Heartbeat(Box::new(heard)));
            lone.wait(10_000);
        }
        assert_eq!(lone.replica.role() != Role::Following, stays, "claims for {claims_us} us");
    }
}

#[test]
fn rule_14_who_succeeds_can_vote_and_knows_most() {
    let mut lone = Lone::new(1, 3);
    lone.lead();
    let says = |lone: &mut Lone, node, first_unchosen, can_vote| {
        let echo = Some(Echo { boot: BOOT, sent_us: lone.now_us, leading: None, round: 0 });
        let heard = Heartbeat { echo, can_vote, ..heartbeat(None, first_unchosen, lone.now_us) };
        lone.hear(node, Body::Heartbeat(Box::new(heard)));
    };
    says(&mut lone, 2, 5, true);
    says(&mut lone, 3, 1, true);
    assert_eq!(lone.replica.successor(), Some(NodeId(2)));
    says(&mut lone, 2, 5, false);
    assert_eq!(lone.replica.successor(), Some(NodeId(3)));
    lone.event(Event::HandOver { to: NodeId(2) });
    assert_eq!(lone.replica.role(), Role::Leading { ready: true }, "its disk does not answer");
    lone.event(Event::HandOver { to: NodeId(3) });
    assert_eq!(lone.replica.role(), Role::Following);
}

/// Contact returns to everybody at the same moment.
#[test]
fn rule_15_who_regains_contact_waits_a_delay_of_its_own_and_is_not_woken_before() {
    let config = Config::default();
    let mut lone = Lone::new(1, 3);
    let mut ticks = 0;
    while lone.now_us < 20 * config.election_timeout_us {
        let (at, _) = lone.replica.deadline().expect("it has a timer");
        lone.now_us = lone.now_us.max(at.as_us());
        lone.event(Event::Tick);
        ticks += 1;
    }
    let intervals = lone.now_us / config.heartbeat_us;
    assert!(ticks <= intervals + 10, "{ticks} calls in {intervals} heartbeat intervals");
    lone.keep_contact(&[2, 3]);
    assert_eq!(lone.replica.role(), Role::Following);
    let returned_us = lone.now_us;
    while lone.replica.role() == Role::Following {
        let (at, _) = lone.replica.deadline().expect("it has a timer");
        lone.now_us = lone.now_us.max(at.as_us());
        lone.event(Event::Tick);
    }
    let waited_us = lone.now_us - returned_us;
    assert!((1..=config.election_timeout_us / 4).contains(&waited_us), "{waited_us}");
}

#[test]
fn rule_14_a_hand_over_is_taken_at_once_from_the_leader_that_is_followed_only() {
    let mut lone = Lone::new(1, 3);
    let leader = ballot(3, 3);
    lone.hear(3, Body::Heartbeat(Box::new(heartbeat(Some(leader), 1, 1))));
    assert_eq!(lone.replica.leader(), Some(NodeId(3)));
    lone.hear(2, Body::HandOver(HandOver { ballot: leader, prefix: slot(1) }));
    lone.hear(3, Body::HandOver(HandOver { ballot: ballot(2, 3), prefix: slot(1) }));
    assert_eq!(lone.replica.role(), Role::Following);
    lone.hear(3, Body::HandOver(HandOver { ballot: leader, prefix: slot(1) }));
    assert_eq!(lone.replica.role(), Role::Preparing);
}

/// Whom it asked for chosen entries since the last time.
fn asked(lone: &mut Lone) -> Vec<u32> {
    let said = lone.said();
    said.iter().filter(|(_, body)| matches!(body, Body::Fetch(_))).map(|(node, _)| node.0).collect()
}

#[test]
fn rule_10_a_teacher_that_does_not_answer_is_passed_over_at_the_next_heartbeat() {
    let mut lone = Lone::new(1, 4);
    let interval = lone.replica.config().heartbeat_us;
    let mut teachers = vec![];
    for _ in 0..5 {
        // Node 2 knows no more than it does itself.
        for (peer, known) in [(2, 1), (3, 9), (4, 8)] {
            lone.hear(peer, Body::Heartbeat(Box::new(heartbeat(None, known, lone.now_us))));
        }
        lone.wait(interval);
        teachers.extend(asked(&mut lone));
    }
    assert_eq!(teachers, [3, 4, 3, 4, 3]);
    // Who answers is asked for more at once, although another one is further.
    let success = Success { ballot: None, first: slot(1), entries: [Entry::Noop].into_iter().collect() };
    lone.hear(4, Body::Success(success));
    assert_eq!(asked(&mut lone), [4]);
}

#[test]
fn rule_15_a_candidates_time_begins_when_its_own_promise_is_durable_and_grows_with_each_failure() {
    let mut lone = Lone::new(1, 3);
    let timeout = lone.replica.config().election_timeout_us;
    let mut patience = vec![];
    for disk_us in [0, 0, 0, 3 * timeout] {
        let own = lone.campaign(&[2, 3]);
        // However long the disk takes, it neither gives up nor asks anybody.
        lone.wait(disk_us);
        assert_eq!((lone.replica.role(), lone.said()), (Role::Preparing, vec![]));
        lone.sync();
        let prepares = lone.said();
        assert!(matches!(&prepares[..], [(NodeId(2), Body::Prepare(Prepare { ballot, .. })), _] if *ballot == own));
        let asked_at = lone.now_us;
        while lone.replica.role() == Role::Preparing {
            lone.wait(1_000);
        }
        patience.push((lone.now_us - asked_at) / timeout);
        lone.said();
    }
    // Peers may have disks that are as slow.
    assert_eq!(patience, [1, 2, 4, 8 + 2 * 3]);
}

#[test]
fn rule_15_who_promised_a_candidate_waits_for_it() {
    let mut lone = Lone::new(1, 3);
    let timeout = lone.replica.config().election_timeout_us;
    for round in 1..5 {
        lone.keep_contact(&[2, 3]);
        lone.wait(timeout - 1);
        lone.hear(2, Body::Prepare(Prepare { ballot: ballot(round, 2), from: slot(1) }));
        lone.sync();
    }
    assert_eq!(lone.replica.role(), Role::Following);
    // The same request again earns no more patience.
    let before = lone.now_us;
    let again = Body::Prepare(Prepare { ballot: ballot(4, 2), from: slot(1) });
    while lone.replica.role() == Role::Following && lone.now_us < before + 2 * timeout {
        lone.hear(2, again.clone());
        lone.keep_contact(&[2, 3]);
        lone.wait(10_000);
    }
    assert_eq!(lone.replica.role(), Role::Preparing);
}

#[test]
fn rule_15_a_refused_candidate_waits_before_it_tries_a_higher_round() {
    let mut lone = Lone::new(1, 3);
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    let refused = Refused { ballot: own, asker_boot: BOOT, promised: ballot(own.round + 5, 2) };
    let stale = Refused { asker_boot: Boot { counter: 0, nonce: 0 }, ..refused.clone() };
    lone.hear(2, Body::Refused(stale));
    assert_eq!(lone.replica.role(), Role::Preparing);
    lone.hear(2, Body::Refused(refused));
    assert_eq!(lone.replica.role(), Role::Following);
    let refused_at = lone.now_us;
    let next = lone.campaign(&[2, 3]);
    assert!(lone.now_us - refused_at >= 300_000, "an election time-out first");
    assert_eq!(next.round, own.round + 6);
}

/// A binds client 1's INCR at 1 unheard; B chooses client 2's equal INCR there: client 1's outcome is unknown.
#[test]
fn rule_17_an_applied_entry_is_the_callers_by_its_id_and_never_by_equal_bytes() {
    let mut a = Lone::new(1, 3);
    let own = a.lead();
    a.propose(1, "INCR");
    a.wait(0);
    a.hear(2, Body::Prepare(Prepare { ballot: ballot(own.round + 1, 2), from: slot(1) }));
    a.hear(2, accept(ballot(own.round + 1, 2), 1, &[entry("INCR", 1)], 2));
    let ends: Vec<_> =
        a.others.iter().filter(|end| matches!(end, Action::InDoubt { .. } | Action::Apply { .. })).collect();
    assert!(matches!(&ends[..], [Action::InDoubt { tag: Tag(1) }, Action::Apply { tag: None, .. }]), "{ends:?}");
}

#[test]
fn rule_18_evidence_of_an_older_boot_is_stale_and_its_votes_still_count() {
    let mut lone = Lone::new(1, 3);
    let own = lone.lead();
    lone.hear_boot(2, 5, Body::Heartbeat(Box::new(heartbeat(None, 1, 1))));
    lone.propose(1, "x");
    lone.wait(0);
    lone.sync();
    let report = Accepted { ballot: own, slots: SlotRange::of(slot(1), 1), first_unchosen: slot(1), room: 1 };
    lone.hear_boot(2, 1, Body::Accepted(report));
    assert_eq!((lone.applied().len(), lone.replica.stats().messages_stale), (1, 1));
}
