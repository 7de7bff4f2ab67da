//! Properties over drawn values: quorums meet, bytes survive and are refused, nothing drawn makes a replica panic,
//! and the value rule agrees with a naive twin.

use alloc::vec::Vec;
use std::collections::BTreeMap;

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::proposer::{Bounds, Preparing};
use crate::*;

fn encoded(message: &Message) -> Bytes {
    let mut frame = Vec::new();
    wire::encode(&message.header, &message.body, &mut frame);
    frame.into()
}

#[test]
fn what_is_encoded_is_decoded_and_payloads_are_slices_of_the_frame() {
    fn holds(message: Message) -> bool {
        let frame = encoded(&message);
        let decoded = wire::decode(&frame).expect("what encode wrote");
        if let Body::Accept(accept) = &decoded.body {
            for entry in accept.entries.iter() {
                if let Entry::Command { bytes, .. } = entry
                    && !bytes.is_empty()
                {
                    let inside = frame.as_ptr_range();
                    assert!(inside.contains(&bytes.as_ptr()), "copied");
                }
            }
        }
        decoded == message
    }
    QuickCheck::new().tests(2_000).quickcheck(holds as fn(Message) -> bool);
}

#[test]
fn a_frame_cut_or_lengthened_anywhere_is_refused() {
    fn holds(message: Message) -> bool {
        let frame = encoded(&message);
        let cut = (0..frame.len()).all(|end| wire::decode(&frame.slice(..end)).is_err());
        let mut longer = frame.to_vec();
        longer.push(0);
        cut && wire::decode(&longer.into()).is_err()
    }
    QuickCheck::new().tests(300).quickcheck(holds as fn(Message) -> bool);
}

#[test]
fn the_first_bytes_of_a_frame_are_golden() {
    let header = Header {
        cluster: ClusterId::new(0x0102),
        from: NodeId(3),
        incarnation: Incarnation(4),
        boot: Boot { counter: 5, nonce: 6 },
    };
    let ballot = Ballot { round: 7, node: NodeId(3), generation: 0 };
    let id = CommandId { node: NodeId(3), incarnation: Incarnation(4), boot: 5, sequence: 8 };
    let entries = Entries::one(Entry::Command { id, bytes: Bytes::from_static(b"ab") });
    let accept = Accept { ballot, first: Slot::FIRST.plus(8), prefix: Slot::FIRST, entries };
    let frame = encoded(&Message { header, body: Body::Accept(accept) });
    let expected: &[u8] = &[
        1, // version
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, // cluster
        3, 4, 5, 6, // node, incarnation, boot counter, boot nonce
        3, // Body::Accept
        7, 3, 0, // ballot
        9, 1, // first slot, prefix
        1, // one entry
        1, 3, 4, 5, 8, 2, // a command: node, incarnation, boot, sequence, length
        b'a', b'b',
    ];
    assert_eq!(&frame[..], expected);
}

#[test]
fn every_phase_1_quorum_meets_every_phase_2_quorum() {
    fn holds(membership: Membership) -> bool {
        let voters: Vec<VoterSet> =
            membership.voters().iter().filter_map(|member| membership.voter(member.node)).collect();
        let subsets = 0u32..1 << voters.len();
        let set = |bits: u32| {
            let chosen = voters.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
            chosen.fold(VoterSet::EMPTY, |set, (_, voter)| set.with(*voter))
        };
        subsets.clone().filter(|bits| membership.is_phase1_quorum(set(*bits))).all(|one| {
            // Only the complement can miss it.
            !membership.is_phase2_quorum(set(!one & (subsets.end - 1)))
        })
    }
    QuickCheck::new().tests(200).quickcheck(holds as fn(Membership) -> bool);
}

/// Promises of several voters, as sets of reports per slot.
#[derive(Clone, Debug)]
struct Reports(Vec<Vec<Held>>);

impl Arbitrary for Reports {
    fn arbitrary(g: &mut Gen) -> Reports {
        let report = |g: &mut Gen| {
            let mut held: Vec<Held> = (0..8).map(|_| Held::arbitrary(g)).collect();
            held.sort_by_key(|held| held.slot);
            held.dedup_by_key(|held| held.slot);
            // One entry per (slot, ballot), and one chosen entry per slot: what honest acceptors can report.
            for held in &mut held {
                let number = held.accepted.map_or(0, |ballot| ballot.round * 100 + u64::from(ballot.node.0));
                let id = CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence: number };
                held.entry = Entry::Command { id, bytes: Bytes::new() };
            }
            held
        };
        Reports((0..3).map(|_| report(g)).collect())
    }
}

#[test]
fn the_value_rule_agrees_with_a_naive_twin() {
    fn holds(reports: Reports) -> bool {
        let own = Ballot { round: 99, node: NodeId(1), generation: 0 };
        let boot = Boot { counter: 1, nonce: 1 };
        let genesis = genesis_of(3);
        let membership = genesis.membership();
        let mut preparing =
            Preparing::new(own, Slot::FIRST, 1, Bounds::of(&Config::default(), 4_096), Instant::from_us(0));
        preparing.may_ask(1, Instant::from_us(0));
        let mut twin: BTreeMap<Slot, Vec<Held>> = BTreeMap::new();
        for (held, member) in reports.0.iter().zip(membership.voters()) {
            for report in held {
                twin.entry(report.slot).or_default().push(report.clone());
            }
            let end = held.last().map_or(Slot::FIRST, |held| held.slot.next());
            let covers = SlotRange { first: Slot::FIRST, end };
            let promise = Promise {
                ballot: own,
                asker_boot: boot,
                covers,
                held: held.clone(),
                last: true,
                first_unchosen: Slot::FIRST,
            };
            let voter = membership.voter(member.node).expect("a voter");
            preparing.on_promise(member.node, voter, boot, &promise);
        }
        assert!(preparing.has_quorum(membership));
        let found = preparing.into_won().found;
        let expected = twin.into_iter().map(|(slot, reports)| {
            let chosen = reports.iter().find(|held| held.accepted.is_none());
            let highest = reports.iter().max_by_key(|held| held.accepted);
            (slot, chosen.or(highest).expect("reported").entry.clone())
        });
        found.into_iter().map(|(slot, found)| (slot, found.entry)).eq(expected)
    }
    QuickCheck::new().tests(1_000).quickcheck(holds as fn(Reports) -> bool);
}

fn genesis_of(voters: u32) -> Genesis {
    let member = |node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node)), generation: 0 };
    let membership = Membership::new((1..=voters).map(member).collect(), Vec::new(), QuorumSystem::Majority);
    Genesis::new(membership.expect("valid"), 4_096).expect("valid")
}

fn replica_of(config: Config, seed: u64) -> Replica {
    let formatted =
        Formatted { cluster: ClusterId::new(1), node: NodeId(1), incarnation: Incarnation(1), genesis: genesis_of(3) };
    let mut recovery = Recovery::new();
    recovery.record(Record::Formatted(formatted)).expect("first");
    recovery.record(Record::Started(Boot { counter: 1, nonce: seed })).expect("second");
    Replica::new(config, recovery.finish().expect("formatted"), Instant::from_us(0), seed).expect("valid")
}

/// Whatever comes in, and however tickets are redeemed: no panic, every tag ends at most once, and the same events
/// give the same actions, byte for byte.
#[test]
fn nothing_drawn_makes_a_replica_panic_and_the_same_events_give_the_same_actions() {
    fn holds(config: Config, events: Vec<(u16, AnyEvent)>, redeem: Vec<bool>) -> bool {
        let run = || {
            let mut replica = replica_of(config.clone(), 3);
            let mut transcript = std::string::String::new();
            let (mut now_us, mut redeem) = (0u64, redeem.iter().cycle());
            let mut actions = Vec::new();
            let mut tags = BTreeMap::new();
            for (step, (wait_us, event)) in events.iter().enumerate() {
                now_us += u64::from(*wait_us) * 4;
                let mut event = event.clone();
                // A message that is not from this cluster is dropped at once: make most of them count.
                if let AnyEvent::Message(message) = &mut event
                    && step % 8 != 0
                {
                    message.header.cluster = ClusterId::new(1);
                    message.header.from = NodeId(2 + (message.header.from.0 & 1));
                    message.header.incarnation = Incarnation(u64::from(message.header.from.0));
                }
                let mut tickets = Vec::new();
                replica.handle(Instant::from_us(now_us), event.into(), &mut actions);
                loop {
                    for action in actions.drain(..) {
                        transcript.push_str(&std::format!("{action:?}\n"));
                        if let Action::InDoubt { tag } | Action::ReadFailed { tag, .. } = &action {
                            *tags.entry(*tag).or_insert(0u32) += 1;
                        }
                        if let Action::Persist { ticket, .. } = action {
                            tickets.push(ticket);
                        }
                    }
                    let Some(ticket) = tickets.pop() else { break };
                    if *redeem.next().unwrap_or(&true) {
                        replica.handle(Instant::from_us(now_us), Event::Persisted(ticket.redeem()), &mut actions);
                    }
                }
            }
            (transcript, replica.digest(Instant::from_us(now_us)))
        };
        run() == run()
    }
    QuickCheck::new().tests(400).quickcheck(holds as fn(Config, Vec<(u16, AnyEvent)>, Vec<bool>) -> bool);
}

#[test]
fn drawn_configurations_are_valid() {
    fn holds(config: Config) -> bool {
        config.validate(&genesis_of(3)).is_ok() && config.memory_bytes_max() >= config.window_bytes
    }
    QuickCheck::new().quickcheck(holds as fn(Config) -> bool);
}
