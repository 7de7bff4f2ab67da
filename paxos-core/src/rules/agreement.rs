//! Rules 1 to 9: what keeps one entry per slot.

use super::*;

#[test]
fn rule_1_one_prepare_asks_for_the_whole_log_and_waits_for_a_quorum() {
    let mut lone = Lone::new(1, 5);
    let ballot = lone.campaign(&[2, 3, 4]);
    assert_eq!(lone.said(), vec![], "no Prepare before the own promise is durable");
    lone.sync();
    let prepare = Body::Prepare(Prepare { ballot, from: slot(1) });
    let said = lone.said();
    assert_eq!(said, (2..=5).map(|node| (NodeId(node), prepare.clone())).collect::<Vec<_>>());
    lone.promise(2, ballot, vec![], 1);
    assert_eq!(lone.replica.role(), Role::Preparing);
    lone.promise(2, ballot, vec![], 1);
    assert_eq!(lone.replica.role(), Role::Preparing, "the same voter twice is one promise");
    lone.promise(3, ballot, vec![], 1);
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
}

#[test]
fn rule_1_chunks_of_a_promise_count_only_when_they_join() {
    let mut lone = Lone::new(1, 3);
    lone.promise_away(ballot(10, 2));
    let ballot = lone.campaign(&[2, 3]);
    lone.sync();
    let chunk = |first, end, last| {
        let covers = SlotRange { first: slot(first), end: slot(end) };
        let held = vec![held(first, Some(self::ballot(1, 3)), entry("x", first))];
        Body::Promise(Box::new(Promise { ballot, asker_boot: BOOT, covers, held, last, first_unchosen: slot(1) }))
    };
    lone.hear(2, chunk(4, 9, true));
    assert_eq!(lone.replica.role(), Role::Preparing, "slots 1 to 3 are missing");
    lone.hear(2, chunk(1, 4, false));
    assert_eq!(lone.replica.role(), Role::Preparing, "the end is missing: the chunk that came early was dropped");
    lone.hear_boot(2, 2, chunk(4, 9, true));
    assert_eq!(lone.replica.role(), Role::Preparing, "chunks of two boots do not join");
    lone.hear_boot(2, 2, chunk(1, 4, false));
    lone.hear_boot(2, 2, chunk(4, 9, true));
    assert!(matches!(lone.replica.role(), Role::Leading { .. }));
}

#[test]
fn rule_2_the_value_of_the_highest_accepted_ballot_is_proposed_and_gaps_become_noops() {
    let mut lone = Lone::new(1, 5);
    lone.promise_away(ballot(10, 2));
    let own = lone.campaign(&[2, 3, 4]);
    lone.sync();
    let old = vec![held(1, Some(ballot(1, 3)), entry("stale", 1)), held(3, Some(ballot(2, 2)), entry("newest", 2))];
    let chosen = vec![held(1, Some(ballot(1, 5)), entry("newer", 3)), held(3, Some(ballot(1, 4)), entry("older", 4))];
    lone.promise(2, own, old, 1);
    lone.promise(3, own, chosen, 1);
    let bound: Vec<Entry> = (1..=3).map(|at| lone.replica.held(slot(at)).expect("bound").1.clone()).collect();
    assert_eq!(bound, vec![entry("newer", 3), Entry::Noop, entry("newest", 2)]);
    assert_eq!(lone.replica.role(), Role::Leading { ready: false }, "nothing inherited is applied yet");
    lone.propose(1, "new");
    let refused = lone
        .others
        .iter()
        .any(|action| matches!(action, Action::ProposalRefused { tag: Tag(1), error: ProposeError::CatchingUp }));
    assert!(refused, "rule 10: no new command before the inherited prefix is applied");
    lone.sync();
    lone.accepted(2, own, 1, 3);
    lone.accepted(4, own, 1, 3);
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
    assert_eq!(lone.applied(), bound);
}

#[test]
fn rule_2_nothing_is_proposed_below_what_a_promise_says_is_chosen() {
    let mut lone = Lone::new(1, 3);
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    lone.said();
    let covers = SlotRange { first: slot(1), end: slot(1) };
    let promise = Promise { ballot: own, asker_boot: BOOT, covers, held: vec![], last: true, first_unchosen: slot(4) };
    lone.hear(2, Body::Heartbeat(Box::new(heartbeat(None, 4, lone.now_us))));
    lone.hear(2, Body::Promise(Box::new(promise)));
    let said = lone.said();
    let fetch = Body::Fetch(Fetch { slots: SlotRange { first: slot(1), end: slot(4) } });
    assert_eq!(said, vec![(NodeId(2), fetch)], "it fetches 1 to 3 and proposes nothing there");
    assert_eq!(lone.replica.role(), Role::Leading { ready: false });
    let entries = [entry("a", 1), entry("b", 2), entry("c", 3)].into_iter().collect();
    lone.hear(2, Body::Success(Success { ballot: None, first: slot(1), entries }));
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
    lone.propose(1, "d");
    lone.wait(0);
    assert_eq!(lone.replica.held(slot(4)).map(|held| held.0), Some(Some(own)));
}

#[test]
fn rule_3_accept_raises_the_promise_durably() {
    let mut lone = Lone::new(1, 3);
    lone.hear(2, accept(ballot(5, 2), 1, &[entry("x", 1)], 1));
    assert!(lone.records.contains(&Record::Promised(ballot(5, 2))));
    lone.sync();
    let mut lone = lone.restart();
    lone.hear(3, accept(ballot(4, 3), 1, &[entry("y", 2)], 1));
    let refused = Refused { ballot: ballot(4, 3), asker_boot: Boot { counter: 1, nonce: 3 }, promised: ballot(5, 2) };
    assert_eq!(lone.said(), vec![(NodeId(3), Body::Refused(refused))]);
    assert_eq!(lone.replica.held(slot(1)), Some((Some(ballot(5, 2)), &entry("x", 1))));
}

#[test]
fn rule_4_a_ballot_is_never_used_again_after_a_restart() {
    let mut lone = Lone::new(1, 3);
    let first = lone.campaign(&[2, 3]);
    lone.sync();
    let mut lone = lone.restart();
    let second = lone.campaign(&[2, 3]);
    assert!(second > first && second.round > first.round, "{second:?} after {first:?}");
}

#[test]
fn rule_4_a_retry_sends_the_bound_entry_again() {
    let mut lone = Lone::new(1, 3);
    let ballot = lone.lead();
    lone.propose(1, "x");
    lone.wait(0);
    let sent = |said: Vec<(NodeId, Body)>| -> Vec<Body> {
        said.into_iter().filter(|(node, _)| *node == NodeId(3)).map(|(_, body)| body).collect()
    };
    let first = sent(lone.said());
    assert!(matches!(&first[..], [Body::Accept(accept)] if accept.ballot == ballot && accept.entries.len() == 1));
    lone.keep_contact(&[2, 3]);
    lone.wait(50_000);
    lone.keep_contact(&[2, 3]);
    lone.wait(50_000);
    assert_eq!(sent(lone.said())[..1], first[..]);
}

#[test]
fn rule_5_duplicate_foreign_and_strange_votes_never_count() {
    let mut lone = Lone::new(1, 5);
    let own = lone.campaign(&[2, 3, 4]);
    lone.sync();
    lone.promise(2, own, vec![], 1);
    lone.promise(3, own, vec![], 1);
    lone.propose(1, "x");
    lone.wait(0);
    lone.sync(); // its own vote: one of the three it needs
    for _ in 0..3 {
        lone.accepted(2, own, 1, 1);
    }
    lone.accepted(3, ballot(own.round, 3), 1, 1);
    lone.accepted(3, ballot(own.round - 1, 1), 1, 1);
    lone.accepted(9, own, 1, 1);
    assert_eq!(lone.applied(), vec![]);
    lone.accepted(4, own, 1, 1);
    assert_eq!(lone.applied().len(), 1);
    let tagged = lone.others.iter().filter(|action| matches!(action, Action::Apply { tag: Some(Tag(1)), .. }));
    assert_eq!(tagged.count(), 1);
}

#[test]
fn rule_6_no_testimony_leaves_before_its_record_is_durable() {
    let mut lone = Lone::new(1, 3);
    lone.hear(2, Body::Prepare(Prepare { ballot: ballot(2, 2), from: slot(1) }));
    lone.hear(2, accept(ballot(2, 2), 1, &[entry("x", 1), entry("y", 2)], 1));
    assert_eq!(lone.said(), vec![]);
    lone.sync();
    let said = lone.said();
    assert!(matches!(&said[..], [(NodeId(2), Body::Promise(_)), (NodeId(2), Body::Accepted(_))]), "{said:?}");
    assert_eq!(accepted_runs(&said), vec![(ballot(2, 2), 1, 3)]);
}

#[test]
fn rule_6_the_leaders_own_vote_waits_for_its_disk_and_its_accepts_do_not() {
    let mut lone = Lone::new(1, 3);
    let ballot = lone.lead();
    lone.propose(1, "x");
    lone.wait(0);
    let said = lone.said();
    assert_eq!(said.iter().filter(|(_, body)| matches!(body, Body::Accept(_))).count(), 2);
    let mut alone = Lone::new(1, 1);
    alone.wait(1);
    alone.sync();
    alone.propose(1, "x");
    alone.wait(0);
    assert_eq!(alone.applied(), vec![], "alone, it waits for its own disk");
    alone.sync();
    assert_eq!(alone.applied().len(), 1);
    lone.accepted(2, ballot, 1, 1);
    assert_eq!(lone.applied(), vec![], "one peer and no own vote are no quorum of three");
    lone.sync();
    assert_eq!(lone.applied().len(), 1);
}

#[test]
fn rule_6_a_failed_sync_fences() {
    let mut lone = Lone::new(1, 3);
    lone.hear(2, accept(ballot(2, 2), 1, &[entry("x", 1)], 1));
    lone.event(Event::PersistFailed);
    lone.sync();
    lone.hear(2, Body::Prepare(Prepare { ballot: ballot(3, 2), from: slot(1) }));
    lone.propose(1, "x");
    assert_eq!(lone.said(), vec![]);
    assert_eq!(lone.replica.fenced(), Some(FenceReason::PersistFailed));
    assert!(
        lone.others
            .iter()
            .any(|action| matches!(action, Action::ProposalRefused { tag: Tag(1), error: ProposeError::Fenced }))
    );
    assert_eq!(lone.replica.deadline(), None);
}

/// S1 has X accepted at slot 1 under 1.1 with S2 only; S5 under 2.5 chooses Y at 1 through S3 to S5 and teaches S1.
/// S1, still believing in 1.1, sends Accept(1.1, 2, W, firstUnchosenIndex 2): S2 must not mark X.
#[test]
fn rule_7_the_prefix_of_a_deposed_leader_marks_nothing_it_did_not_choose() {
    let mut s2 = Lone::new(2, 5);
    s2.hear(1, accept(ballot(1, 1), 1, &[entry("X", 1)], 1));
    s2.sync();
    // The lecture's rule: firstUnchosenIndex 2 marks slot 1, whose entry S2 accepted under this very ballot. The
    // prefix of rule 7 is 1, since S1 bound X there and Y was chosen; and S1, learning Y, steps down at once.
    let mut s1 = Lone::new(1, 5);
    let own = s1.campaign(&[2, 3, 4]);
    s1.sync();
    s1.promise(2, own, vec![], 1);
    s1.promise(3, own, vec![], 1);
    s1.propose(1, "X");
    s1.wait(0);
    s1.said();
    let taught = Success {
        ballot: Some(ballot(own.round + 1, 5)),
        first: slot(1),
        entries: [entry("Y", 7)].into_iter().collect(),
    };
    s1.hear(5, Body::Success(taught));
    assert_eq!(s1.replica.role(), Role::Following);
    s1.propose(2, "W");
    s1.wait(1);
    assert!(s1.said().iter().all(|(_, body)| !matches!(body, Body::Accept(_))));
    assert!(s1.others.iter().any(|action| matches!(action, Action::InDoubt { tag: Tag(1) })));
    // And what was accepted under another ballot is never marked, whatever prefix is claimed.
    s2.hear(5, accept(ballot(2, 5), 2, &[entry("Z", 8)], 2));
    assert_eq!(s2.replica.first_unchosen(), slot(1), "X at slot 1 is 1.1's; 2.5 chose something else there");
    assert_eq!(s2.replica.stats().marks_withheld, 1);
    s2.hear(5, Body::Success(Success { ballot: None, first: slot(1), entries: [entry("Y", 7)].into_iter().collect() }));
    assert_eq!(s2.applied(), vec![entry("Y", 7)]);
}

#[test]
fn rule_7_the_prefix_marks_what_was_accepted_under_its_ballot_also_when_it_comes_late() {
    let mut lone = Lone::new(1, 3);
    let leader = ballot(3, 2);
    lone.hear(2, accept(leader, 2, &[entry("b", 2)], 3));
    assert_eq!(lone.applied(), vec![], "slot 1 is not there");
    lone.hear(2, accept(leader, 1, &[entry("a", 1)], 1));
    assert_eq!(lone.applied(), vec![entry("a", 1), entry("b", 2)], "the prefix 3 was heard before");
    lone.hear(2, accept(leader, 3, &[entry("c", 3)], 3));
    lone.hear(2, Body::Heartbeat(Box::new(heartbeat(Some(leader), 4, 1))));
    assert_eq!(lone.applied().len(), 3, "idle learning");
}

#[test]
fn rule_8_a_leader_steps_down_when_its_own_acceptor_goes_higher() {
    let mut lone = Lone::new(1, 3);
    let own = lone.lead();
    lone.propose(1, "sent");
    lone.wait(0);
    lone.propose(2, "kept");
    lone.hear(3, Body::Prepare(Prepare { ballot: ballot(own.round + 1, 3), from: slot(1) }));
    assert_eq!(lone.replica.role(), Role::Following);
    assert!(lone.others.iter().any(|action| matches!(action, Action::InDoubt { tag: Tag(1) })));
    let refused = lone
        .others
        .iter()
        .any(|action| matches!(action, Action::ProposalRefused { tag: Tag(2), error: ProposeError::NotLeader { .. } }));
    assert!(refused, "what never left is refused, not in doubt");
}

#[test]
fn rule_9_chosen_is_final_whatever_the_ballot() {
    let mut lone = Lone::new(1, 3);
    let run = [entry("a", 1), entry("b", 2)];
    lone.hear(2, Body::Success(Success { ballot: None, first: slot(1), entries: run.iter().cloned().collect() }));
    lone.sync();
    lone.said();
    let other = [entry("a", 1), entry("other", 3), entry("c", 4)];
    lone.hear(3, accept(ballot(9, 3), 1, &other, 1));
    lone.sync();
    let said = lone.said();
    let told = Success { ballot: Some(ballot(9, 3)), first: slot(2), entries: [entry("b", 2)].into_iter().collect() };
    assert!(said.contains(&(NodeId(3), Body::Success(told))), "{said:?}");
    assert_eq!(accepted_runs(&said), vec![(ballot(9, 3), 1, 2), (ballot(9, 3), 3, 4)], "no vote for slot 2");
    assert_eq!(lone.replica.fenced(), None);
    lone.hear(
        3,
        Body::Success(Success { ballot: None, first: slot(2), entries: [entry("x", 9)].into_iter().collect() }),
    );
    assert_eq!(lone.replica.fenced(), Some(FenceReason::ChosenTwice(slot(2))));
}

/// Delayed from an older ballot: it is refused, and who sent it is told what is chosen besides.
#[test]
fn rule_9_an_accept_below_the_promise_is_told_what_is_chosen_too() {
    let mut lone = Lone::new(1, 3);
    let run = [entry("a", 1), entry("b", 2)];
    lone.hear(2, Body::Success(Success { ballot: None, first: slot(1), entries: run.iter().cloned().collect() }));
    lone.promise_away(ballot(9, 3));
    lone.hear(2, accept(ballot(4, 2), 1, &[entry("a", 1), entry("other", 3)], 1));
    lone.hear(2, accept(ballot(4, 2), 1, &run, 1));
    lone.sync();
    let told = Success { ballot: Some(ballot(9, 3)), first: slot(2), entries: [entry("b", 2)].into_iter().collect() };
    let refused = Refused { ballot: ballot(4, 2), asker_boot: Boot { counter: 1, nonce: 2 }, promised: ballot(9, 3) };
    let refused = (NodeId(2), Body::Refused(refused));
    assert_eq!(lone.said(), vec![(NodeId(2), Body::Success(told)), refused.clone(), refused]);
}
