//! A unit test per rule, named after it: one replica, hand-written messages of its peers, and what it answers.

use alloc::boxed::Box;
use alloc::vec::Vec;
use std::vec;

use bytes::Bytes;

use crate::*;

mod runs;

const CLUSTER: ClusterId = ClusterId::new(7);
const BOOT: Boot = Boot { counter: 1, nonce: 9 };

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("tests name slots from 1")
}

fn ballot(round: u64, node: u32) -> Ballot {
    Ballot { round, node: NodeId(node), generation: 0 }
}

fn incarnation(node: u32) -> Incarnation {
    Incarnation(100 + u64::from(node))
}

fn genesis(voters: u32) -> Genesis {
    let member = |node| Member { node: NodeId(node), incarnation: incarnation(node), generation: 0 };
    let membership = Membership::new((1..=voters).map(member).collect(), vec![], QuorumSystem::Majority);
    Genesis::new(membership.expect("valid"), 4_096).expect("valid")
}

fn entry(text: &'static str, sequence: u64) -> Entry {
    let id = CommandId { node: NodeId(2), incarnation: incarnation(2), boot: 1, sequence };
    Entry::Command { id, bytes: Bytes::from_static(text.as_bytes()) }
}

fn accept(ballot: Ballot, first: u64, entries: &[Entry], prefix: u64) -> Body {
    let entries = entries.iter().cloned().collect();
    Body::Accept(Accept { ballot, first: slot(first), prefix: slot(prefix), entries })
}

fn heartbeat(leading: Option<Ballot>, prefix: u64, sent_us: u64) -> Heartbeat {
    Heartbeat {
        leading,
        following: None,
        contact: true,
        can_vote: true,
        prefix: slot(prefix),
        first_unchosen: slot(prefix),
        room: 8_192,
        round: 0,
        sent_us,
        echo: None,
    }
}

/// One replica with a hand-held disk: tickets pile up until `sync`.
struct Lone {
    replica: Replica,
    now_us: u64,
    records: Vec<Record>,
    tickets: Vec<Ticket>,
    sent: Vec<(NodeId, Body)>,
    others: Vec<Action>,
}

impl Lone {
    fn new(node: u32, voters: u32) -> Lone {
        Lone::with(node, voters, Config::default())
    }

    fn with(node: u32, voters: u32, config: Config) -> Lone {
        let formatted = Formatted {
            cluster: CLUSTER,
            node: NodeId(node),
            incarnation: incarnation(node),
            genesis: genesis(voters),
        };
        Lone::recover(vec![Record::Formatted(formatted), Record::Started(BOOT)], config)
    }

    fn recover(records: Vec<Record>, config: Config) -> Lone {
        let mut recovery = Recovery::new();
        records.iter().for_each(|record| recovery.record(record.clone()).expect("what a replica wrote"));
        let recovered = recovery.finish().expect("formatted");
        let replica = Replica::new(config, recovered, Instant::from_us(0), 5).expect("starts");
        Lone { replica, now_us: 0, records, tickets: vec![], sent: vec![], others: vec![] }
    }

    /// The process stops; what was synced is still there, and a new boot begins.
    fn restart(mut self) -> Lone {
        let durable = self.records.len() - self.tickets.len();
        self.records.truncate(durable);
        let counter = self.replica.header().boot.counter + 1;
        self.records.push(Record::Started(Boot { counter, nonce: counter }));
        Lone::recover(self.records, self.replica.config().clone())
    }

    fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.replica.handle(Instant::from_us(self.now_us), event, &mut actions);
        for action in actions {
            match action {
                Action::Send { to, body } => {
                    self.sent.extend(to.into_iter().map(|node| (node, body.clone())));
                }
                Action::Persist { ticket, record } => {
                    self.records.push(record);
                    self.tickets.push(ticket);
                }
                other => self.others.push(other),
            }
        }
    }

    fn hear_boot(&mut self, from: u32, counter: u64, body: Body) {
        let header = Header {
            cluster: CLUSTER,
            from: NodeId(from),
            incarnation: incarnation(from),
            boot: Boot { counter, nonce: u64::from(from) },
        };
        self.event(Event::Message(Message { header, body }));
    }

    fn hear(&mut self, from: u32, body: Body) {
        self.hear_boot(from, 1, body);
    }

    fn sync(&mut self) {
        for ticket in std::mem::take(&mut self.tickets) {
            self.event(Event::Persisted(ticket.redeem()));
        }
    }

    fn wait(&mut self, us: u64) {
        self.now_us += us;
        self.event(Event::Tick);
    }

    /// What it said since the last time, heartbeats apart.
    fn said(&mut self) -> Vec<(NodeId, Body)> {
        let said = std::mem::take(&mut self.sent);
        said.into_iter().filter(|(_, body)| !matches!(body, Body::Heartbeat(_))).collect()
    }

    fn applied(&self) -> Vec<Entry> {
        let applied = self.others.iter().map(|action| match action {
            Action::Apply { entries, .. } => entries.to_vec(),
            _ => vec![],
        });
        applied.flatten().collect()
    }

    /// Peers that can be reached and follow nobody, until it campaigns; its ballot.
    fn campaign(&mut self, peers: &[u32]) -> Ballot {
        for _ in 0..100 {
            self.keep_contact(peers);
            self.wait(10_000);
            if self.replica.role() == Role::Preparing {
                return self.replica.ballot().expect("a candidate has a ballot");
            }
        }
        panic!("no campaign within a second: {:?}", self.replica);
    }

    /// Promises a peer's ballot, so that its own next one is above it.
    fn promise_away(&mut self, ballot: Ballot) {
        self.hear(ballot.node.0, Body::Prepare(Prepare { ballot, from: slot(1) }));
        self.sync();
        self.said();
    }

    fn keep_contact(&mut self, peers: &[u32]) {
        for peer in peers {
            let echo = Echo { boot: self.replica.header().boot, sent_us: self.now_us, leading: None, round: 0 };
            let heard = Heartbeat { echo: Some(echo), ..heartbeat(None, 1, self.now_us) };
            self.hear(*peer, Body::Heartbeat(Box::new(heard)));
        }
    }

    fn promise(&mut self, from: u32, ballot: Ballot, held: Vec<Held>, first_unchosen: u64) {
        let end = held.last().map_or(slot(1), |held| held.slot.next());
        let body = Promise {
            ballot,
            asker_boot: self.replica.header().boot,
            covers: SlotRange { first: slot(1), end },
            held,
            last: true,
            first_unchosen: slot(first_unchosen),
        };
        self.hear(from, Body::Promise(Box::new(body)));
    }

    /// Wins phase 1 with an empty promise of node 2.
    fn lead(&mut self) -> Ballot {
        let ballot = self.campaign(&[2, 3]);
        self.sync();
        self.promise(2, ballot, vec![], 1);
        assert_eq!(self.replica.role(), Role::Leading { ready: true });
        self.said();
        ballot
    }

    fn propose(&mut self, tag: u64, text: &'static str) {
        self.event(Event::Propose { tag: Tag(tag), command: Bytes::from_static(text.as_bytes()) });
    }

    fn accepted(&mut self, from: u32, ballot: Ballot, first: u64, count: usize) {
        let body = Accepted { ballot, slots: SlotRange::of(slot(first), count), first_unchosen: slot(1), room: 8_192 };
        self.hear(from, Body::Accepted(body));
    }
}

fn held(number: u64, accepted: Option<Ballot>, entry: Entry) -> Held {
    Held { slot: slot(number), accepted, entry }
}

fn accepted_runs(said: &[(NodeId, Body)]) -> Vec<(Ballot, u64, u64)> {
    let runs = said.iter().filter_map(|(_, body)| match body {
        Body::Accepted(accepted) => Some((accepted.ballot, accepted.slots.first.get(), accepted.slots.end.get())),
        _ => None,
    });
    runs.collect()
}

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

#[test]
fn a_read_waits_for_a_quorum_to_echo_a_round_that_began_after_it() {
    let mut lone = Lone::new(1, 3);
    let own = lone.lead();
    lone.event(Event::Read { tag: Tag(1) });
    lone.wait(1_000);
    let echo = |leading, round, sent_us| Some(Echo { boot: BOOT, sent_us, leading, round });
    let ready = |lone: &Lone| lone.others.iter().filter(|action| matches!(action, Action::ReadReady { .. })).count();
    let reply = |lone: &mut Lone, echo| {
        lone.now_us += 1;
        lone.hear(2, Body::Heartbeat(Box::new(Heartbeat { echo, ..heartbeat(None, 1, lone.now_us) })));
    };
    reply(&mut lone, echo(Some(own), 0, 1));
    reply(&mut lone, echo(None, 1, 2));
    reply(&mut lone, echo(Some(ballot(own.round, 3)), 1, 3));
    assert_eq!(ready(&lone), 0, "an older round, a refusal, another ballot count nothing");
    reply(&mut lone, echo(Some(own), 1, 4));
    assert_eq!(ready(&lone), 1);
    lone.event(Event::Read { tag: Tag(2) });
    lone.hear(3, Body::Prepare(Prepare { ballot: ballot(own.round + 1, 3), from: slot(1) }));
    assert!(lone.others.iter().any(|action| matches!(action, Action::ReadFailed { tag: Tag(2), .. })));
}

#[test]
fn strangers_and_other_clusters_touch_nothing() {
    let mut lone = Lone::new(1, 3);
    let body = Body::Prepare(Prepare { ballot: ballot(3, 2), from: slot(1) });
    let good = Header { cluster: CLUSTER, from: NodeId(2), incarnation: incarnation(2), boot: BOOT };
    let strangers = [
        Header { cluster: ClusterId::new(8), ..good },
        Header { incarnation: Incarnation(1), ..good },
        Header { from: NodeId(4), incarnation: incarnation(4), ..good },
        Header { from: NodeId(1), incarnation: incarnation(1), ..good },
    ];
    for header in strangers {
        lone.event(Event::Message(Message { header, body: body.clone() }));
    }
    assert_eq!((lone.said(), lone.replica.promised()), (vec![], None));
    assert_eq!(lone.replica.stats().messages_foreign, 4);
}

#[test]
fn single_decree_paxos_is_a_log_of_one_slot() {
    let mut lone = Lone::with(1, 1, Config { last_slot: Some(Slot::FIRST), ..Config::default() });
    lone.wait(1);
    lone.sync();
    lone.propose(1, "the value");
    lone.propose(2, "another");
    lone.wait(0);
    lone.sync();
    assert!(matches!(&lone.applied()[..], [Entry::Command { bytes, .. }] if bytes == "the value"));
    assert!(
        lone.others
            .iter()
            .any(|action| matches!(action, Action::ProposalRefused { tag: Tag(2), error: ProposeError::LogFull }))
    );
}

#[test]
fn a_restarted_replica_applies_its_log_again_from_the_disk() {
    let mut lone = Lone::new(1, 1);
    lone.wait(1);
    lone.sync();
    lone.propose(1, "a");
    lone.wait(0);
    lone.sync();
    lone.wait(60_000); // the mark is lazy: a heartbeat interval
    lone.sync();
    let applied = lone.applied();
    let mut lone = lone.restart();
    assert_eq!(lone.replica.first_unchosen(), slot(2));
    lone.wait(1);
    let asked = lone.others.iter().find_map(|action| match action {
        Action::FetchLog { id, slots, .. } => Some((*id, *slots)),
        _ => None,
    });
    let (id, slots) = asked.expect("slot 1 is on disk only");
    assert_eq!(slots, SlotRange::of(slot(1), 1));
    lone.event(Event::Fetched { id, first: slot(1), entries: applied.iter().cloned().collect() });
    assert_eq!(lone.applied(), applied);
}

/// The model checker's view: state is a value, tickets can be copied, timers fire as it likes.
#[cfg(paxos_model)]
#[test]
fn a_model_checker_owns_the_state() {
    let mut lone = Lone::new(1, 3);
    lone.hear(2, accept(ballot(2, 2), 1, &[entry("x", 1)], 1));
    let branch = lone.replica.clone();
    let digest = |replica: &Replica| replica.digest(Instant::from_us(0));
    assert_eq!(digest(&branch), digest(&lone.replica));
    let copies = lone.tickets.clone();
    lone.sync();
    assert_ne!(digest(&branch), digest(&lone.replica));
    assert_eq!(copies.len(), 2);
    let mut actions = Vec::new();
    lone.replica.fire(Instant::from_us(0), Reason::Election, &mut actions);
    assert_eq!(lone.replica.role(), Role::Preparing, "no condition holds a free timer back");
}
