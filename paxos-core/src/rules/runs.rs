//! Runs that broke a rule once: each was found by reading the protocol against the code, and stays as a test.

use super::*;

fn large(sequence: u64) -> Entry {
    let id = CommandId { node: NodeId(2), incarnation: incarnation(2), boot: 1, sequence };
    Entry::Command { id, bytes: Bytes::from(vec![7; 190]) }
}

fn success(first: u64, entries: &[Entry]) -> Body {
    Body::Success(Success { ballot: None, first: slot(first), entries: entries.iter().cloned().collect() })
}

/// First slot, end and prefix of every Accept.
fn accepts(said: &[(NodeId, Body)]) -> Vec<(u64, u64)> {
    let runs = said.iter().filter_map(|(_, body)| match body {
        Body::Accept(accept) => Some((accept.first.get(), accept.prefix.get())),
        _ => None,
    });
    runs.collect()
}

/// The window holds four of five inherited slots when a peer tells that all five are chosen. Binding the next
/// command to 5, below the prefix that its own Accept carries, would make an acceptor mark it chosen there.
#[test]
fn rule_9_a_slot_that_was_inherited_and_learned_before_it_was_bound_is_never_bound() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 4, run_entries_max: 1, ..Config::default() });
    lone.promise_away(ballot(10, 2));
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    let entries: Vec<Entry> = (1..=5).map(|sequence| entry("x", sequence)).collect();
    let old = Some(ballot(1, 3));
    lone.promise(2, own, (1..).zip(&entries).map(|(at, entry)| held(at, old, entry.clone())).collect(), 1);
    assert_eq!(lone.replica.role(), Role::Leading { ready: false });
    lone.said();
    lone.hear(3, success(1, &entries));
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
    lone.propose(1, "d");
    lone.wait(0);
    assert_eq!(accepts(&lone.said()), vec![], "four runs are under way to each");
    assert_eq!(lone.replica.held(slot(6)).map(|held| held.0), Some(Some(own)));
}

/// C under a higher ballot chose slots 1 to 5. A candidate of a lower one is told of 5 alone, still gets its quorum,
/// re-proposes 1 to 4 and learns that they were chosen so: the next command does not belong into 5.
#[test]
fn rule_9_a_slot_that_a_candidate_learned_is_never_bound() {
    let mut lone = Lone::with(1, 3, Config { run_entries_max: 1, ..Config::default() });
    lone.promise_away(ballot(10, 2));
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    let entries: Vec<Entry> = (1..=5).map(|sequence| entry("x", sequence)).collect();
    lone.hear(3, success(5, &entries[4..]));
    let old = Some(ballot(1, 3));
    lone.promise(2, own, (1..=4).zip(&entries).map(|(at, entry)| held(at, old, entry.clone())).collect(), 1);
    lone.said();
    lone.hear(3, success(1, &entries[..4]));
    assert_eq!(lone.applied(), entries);
    lone.propose(1, "d");
    lone.wait(0);
    assert_eq!(accepts(&lone.said()), vec![], "four runs are under way to each");
    assert_eq!(lone.replica.held(slot(6)).map(|held| held.0), Some(Some(own)));
}

/// Slots that are chosen, applied and forgotten in memory while a promise waits for the disk: the promise must not
/// read as if nothing had been accepted there.
#[test]
fn rule_2_a_promise_leaves_out_only_what_its_first_unchosen_covers() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 8, ..Config::default() });
    let run: Vec<Entry> = (1..=6).map(|sequence| entry("x", sequence)).collect();
    lone.hear(2, accept(ballot(1, 2), 1, &run, 1));
    lone.sync();
    lone.said();
    lone.hear(3, Body::Prepare(Prepare { ballot: ballot(2, 3), from: slot(1) }));
    lone.hear(2, Body::Heartbeat(Box::new(heartbeat(Some(ballot(1, 2)), 7, 1))));
    assert_eq!(lone.applied().len(), 6);
    lone.sync();
    let said = lone.said();
    let promises: Vec<&Promise> = said
        .iter()
        .filter_map(|(_, body)| if let Body::Promise(promise) = body { Some(&**promise) } else { None })
        .collect();
    let [promise] = promises[..] else { panic!("one promise: {said:?}") };
    for at in (1..=6).map(slot) {
        let shown = at < promise.first_unchosen || promise.held.iter().any(|held| held.slot == at);
        assert!(shown, "{at:?} was accepted and is in neither part of {promise:?}");
    }
    // Once the mark is durable, memory is given back.
    lone.hear(2, Body::Heartbeat(Box::new(heartbeat(Some(ballot(1, 2)), 7, 2))));
    assert_eq!(lone.replica.window().first, slot(7));
}

/// A promise said that 1 to 3 are chosen, and its sender died for good. The others hold them as accepted: a new
/// phase 1 without the dead finds them.
#[test]
fn rule_10_a_leader_whom_nobody_can_teach_prepares_anew() {
    let mut lone = Lone::new(1, 3);
    let own = lone.campaign(&[2, 3]);
    lone.sync();
    lone.promise(2, own, vec![], 4);
    assert_eq!(lone.replica.role(), Role::Leading { ready: false });
    let next = lone.campaign(&[3]);
    assert!(next > own);
    lone.sync();
    let run = (1..=3).map(|at| held(at, Some(ballot(0, 3)), entry("x", at))).collect();
    lone.promise(3, next, run, 1);
    lone.sync();
    lone.accepted(3, next, 1, 3);
    assert_eq!(lone.replica.role(), Role::Leading { ready: true });
}

/// Slot 1 was lost on the way, and what came after it fills the bytes a follower has room for.
#[test]
fn rule_12_a_full_follower_still_takes_the_slot_that_everything_waits_for() {
    let small = Config { window_bytes: 300, entry_bytes_max: 200, ..Config::default() };
    let later = [large(2), large(3), large(4)];
    let repairs = [success(1, &[large(1), large(2), large(3), large(4)]), accept(ballot(1, 2), 1, &[large(1)], 5)];
    for repair in repairs {
        let mut lone = Lone::with(1, 3, small.clone());
        lone.hear(2, accept(ballot(1, 2), 2, &later, 1));
        lone.hear(2, accept(ballot(1, 2), 5, &[large(5)], 1));
        lone.sync();
        let rooms: Vec<u32> = lone
            .said()
            .iter()
            .filter_map(|(_, body)| if let Body::Accepted(accepted) = body { Some(accepted.room) } else { None })
            .collect();
        assert_eq!(rooms, vec![1], "full, and slot 5 is refused");
        lone.hear(2, repair);
        assert_eq!(lone.applied().len(), 4);
    }
}

/// Marks are lazy, so a log may hold more from its last mark on than the window ever had room for at once.
#[test]
fn a_log_that_its_own_configuration_wrote_is_taken_back() {
    let slots = Config { window_slots: 8, ..Config::default() };
    let mut lone = Lone::with(1, 3, slots);
    lone.hear(2, accept(ballot(1, 2), 1, &[entry("x", 1)], 2));
    let run: Vec<Entry> = (2..=17).map(|sequence| entry("x", sequence)).collect();
    lone.hear(2, success(2, &run));
    assert_eq!(lone.replica.first_unchosen(), slot(18));
    let mark = lone.tickets.pop().expect("the mark");
    lone.sync();
    lone.tickets.push(mark);
    let mut lone = lone.restart();
    lone.hear(2, success(1, &[entry("x", 1)]));
    assert_eq!(lone.replica.first_unchosen(), slot(18));

    let bytes = Config { window_bytes: 300, entry_bytes_max: 200, ..Config::default() };
    let mut lone = Lone::with(1, 3, bytes);
    let run: Vec<Entry> = (1..=5).map(large).collect();
    lone.hear(2, accept(ballot(1, 2), 1, &run, 1));
    lone.sync();
    let mut lone = lone.restart();
    for _ in 0..2 {
        lone.hear(2, success(1, &run)); // more than fits before the mark of what came first is durable
        lone.sync();
    }
    assert_eq!(lone.replica.first_unchosen(), slot(6));
}

/// The peers' disks answer and its own does not: what it cannot forget yet is bounded like everything else.
#[test]
fn rule_12_a_leader_waits_for_its_own_disk_before_memory_runs_out() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 8, ..Config::default() });
    let own = lone.lead();
    let mut taken = 0;
    for tag in 1..1_000 {
        if lone.replica.propose_room() == 0 {
            break;
        }
        lone.propose(tag, "x");
        lone.wait(0);
        lone.accepted(2, own, tag, 1);
        lone.accepted(3, own, tag, 1);
        taken = tag;
    }
    assert!((8..=64).contains(&taken), "{taken}");
    lone.sync();
    lone.wait(0);
    assert_eq!(lone.replica.propose_room(), 8);
}

/// With a disk that hangs it would refuse every proposal from now on, and its peers would go on following it.
#[test]
fn rule_14_a_leader_whose_disk_hangs_leaves_and_stays_away_until_it_answers() {
    let mut lone = Lone::with(1, 3, Config { window_slots: 1, ..Config::default() });
    let own = lone.lead();
    for tag in 1..=5 {
        lone.propose(tag, "x");
        lone.wait(0);
        lone.accepted(2, own, tag, 1);
        lone.accepted(3, own, tag, 1);
    }
    assert_eq!((lone.replica.role(), lone.replica.propose_room()), (Role::Leading { ready: true }, 0));
    for _ in 0..200 {
        lone.keep_contact(&[2, 3]);
        lone.wait(10_000);
    }
    assert_eq!((lone.replica.role(), lone.replica.promised()), (Role::Following, Some(own)));
    lone.sync();
    lone.campaign(&[2, 3]);
}

/// A driver that ticks exactly when it was asked to must get on.
#[test]
fn a_tick_at_the_deadline_moves_the_deadline() {
    let mut lone = Lone::new(1, 3);
    lone.campaign(&[2, 3]);
    for _ in 0..1_000 {
        let (due, _) = lone.replica.deadline().expect("not fenced");
        lone.now_us = lone.now_us.max(due.as_us());
        lone.event(Event::Tick);
        let (next, reason) = lone.replica.deadline().expect("not fenced");
        assert!(next.as_us() > lone.now_us, "{reason:?} at {next:?} again");
    }
}

/// An old leader's run of no-ops meets slots that are chosen and large: the answer must fit a frame.
#[test]
fn rule_9_what_is_told_of_chosen_slots_fits_a_frame() {
    let mut lone = Lone::new(1, 3);
    let chosen = |sequence| {
        let id = CommandId { node: NodeId(2), incarnation: incarnation(2), boot: 1, sequence };
        Entry::Command { id, bytes: Bytes::from(vec![7; 1 << 20]) }
    };
    (1..=8).for_each(|at| lone.hear(2, success(at, &[chosen(at)])));
    lone.sync();
    lone.said();
    lone.hear(3, accept(ballot(1, 3), 1, &vec![Entry::Noop; 8], 1));
    let said = lone.said();
    assert!(matches!(&said[..], [(NodeId(3), Body::Success(_))]), "{said:?}");
    for (_, body) in said {
        let mut frame = Vec::new();
        wire::encode(&lone.replica.header(), &body, &mut frame);
        assert!(frame.len() <= limits::FRAME_BYTES_MAX, "{} bytes", frame.len());
    }
}

/// A leader that starts anew offers a chosen slot once more, and again for want of an answer: one vote, one record,
/// however often it asks; and no record at all for a part that was voted for under its ballot already.
#[test]
fn rule_9_a_vote_for_a_chosen_slot_is_written_once() {
    let mut lone = Lone::new(1, 3);
    let run = [entry("a", 1), entry("b", 2), entry("c", 3)];
    lone.hear(2, success(1, &run));
    lone.sync();
    let written = |lone: &Lone| {
        let votes = lone.records.iter().filter_map(|record| match record {
            Record::Accepted { ballot, first, entries } => Some((*ballot, first.get(), entries.len())),
            _ => None,
        });
        votes.collect::<Vec<_>>()
    };
    let again = ballot(4, 3);
    let mut expected = vec![(again, 2, 1)];
    for _ in 0..3 {
        lone.said();
        lone.hear(3, accept(again, 2, &run[1..2], 1));
        lone.sync();
        assert_eq!(accepted_runs(&lone.said()), vec![(again, 2, 3)]);
        assert_eq!(written(&lone), expected);
    }
    lone.hear(3, accept(again, 1, &run, 1));
    lone.sync();
    assert_eq!(accepted_runs(&lone.said()), vec![(again, 1, 3), (again, 3, 4)], "a vote for all three");
    expected.extend([(again, 1, 1), (again, 3, 1)]);
    assert_eq!(written(&lone), expected);
    let higher = ballot(5, 2);
    lone.hear(2, accept(higher, 1, &run, 1));
    lone.sync();
    expected.push((higher, 1, 3));
    assert_eq!(written(&lone), expected, "another ballot is another vote");
}

/// Success brings what lies on both sides of a vote: one record for the run takes the vote's place on the disk, so that
/// a repeated Accept is written anew before it is answered.
#[test]
fn rule_9_a_vote_that_a_record_of_choices_covers_is_written_again() {
    let mut lone = Lone::new(1, 3);
    let run = [entry("a", 1), entry("b", 2), entry("c", 3)];
    let ballot = ballot(4, 3);
    lone.hear(3, accept(ballot, 2, &run[1..2], 1));
    lone.hear(2, success(1, &run));
    lone.sync();
    assert!(matches!(lone.records.last(), Some(Record::Chosen { .. })), "{:?}", lone.records);
    lone.said();
    let before = lone.records.len();
    lone.hear(3, accept(ballot, 2, &run[1..2], 1));
    let votes = lone.records[before..].iter().filter(|record| matches!(record, Record::Accepted { .. }));
    assert_eq!(votes.count(), 1);
    assert_eq!(accepted_runs(&lone.said()), vec![], "not before it is durable");
    lone.sync();
    assert_eq!(accepted_runs(&lone.said()), vec![(ballot, 2, 3)]);
}

/// Two runs arrive from one teacher while the disk is busy, and become durable one after the other. The reply to the
/// first drives the teacher's next run, so it leaves with the first receipt and tells of the first run alone; the reply
/// to the second leaves with the second, however alike the two look while they wait.
#[test]
fn rule_8_each_success_is_answered_with_the_receipt_of_its_own_run() {
    let mut lone = Lone::new(1, 3);
    let run = [entry("a", 1), entry("b", 2), entry("c", 3)];
    lone.hear(2, success(1, &run[..1]));
    let first = std::mem::take(&mut lone.tickets);
    lone.hear(2, success(2, &run[1..]));
    let second = std::mem::take(&mut lone.tickets);
    assert!(!first.is_empty() && !second.is_empty());
    let reports = |lone: &mut Lone| {
        let reports = lone.said().into_iter().filter_map(|(to, body)| match body {
            Body::SuccessReply(reply) => Some((to, reply.first_unchosen.get())),
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    assert_eq!(reports(&mut lone), [], "nothing is durable");
    let receipt = |tickets: Vec<Ticket>| {
        let mut tickets = tickets.into_iter();
        let first = tickets.next().expect("a record was written").redeem();
        tickets.fold(first, |whole, next| whole.and(next).expect("follows"))
    };
    lone.event(Event::Persisted(receipt(first)));
    assert_eq!(reports(&mut lone), [(NodeId(2), 2)]);
    lone.event(Event::Persisted(receipt(second)));
    assert_eq!(reports(&mut lone), [(NodeId(2), 4)]);
}
