//! The judge itself: testimony that hides or invents something is caught.

use paxos_core::{
    Accept, Body, ClusterId, Entry, Formatted, Genesis, Header, Held, Incarnation, Instant, Member, Message, Promise,
    QuorumSystem, Recipients, SlotRange,
};

use super::*;

const MAKER: NodeId = NodeId(2);
const VOTER: NodeId = NodeId(1);

fn slot(number: u64) -> Slot {
    Slot::FIRST.plus(number - 1)
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: MAKER, generation: 0 }
}

fn boot(node: NodeId) -> Boot {
    Boot { counter: 1, nonce: u64::from(node.0) }
}

fn see(judge: &mut Invariants, node: NodeId, fact: &Fact<'_>) -> Result<(), Violation> {
    judge.see(Moment { step: 0, now: Instant::from_us(0), node }, fact)
}

fn send(judge: &mut Invariants, node: NodeId, body: Body) -> Result<(), Violation> {
    let header = Header {
        cluster: ClusterId::new(1),
        from: node,
        incarnation: Incarnation(u64::from(node.0)),
        boot: boot(node),
    };
    see(judge, node, &Fact::Sent { to: &Recipients::NONE, message: &Message { header, body } })
}

/// Three voters; node 1 voted for what node 2 proposed in slots 1 to 4, and knows durably that 1 is chosen.
fn voted() -> Result<Invariants, Violation> {
    let mut judge = Invariants::new();
    let member = |node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node)), generation: 0 };
    let membership = Membership::new((1..=3).map(member).collect(), Vec::new(), QuorumSystem::Majority);
    let genesis = membership.and_then(|membership| Genesis::new(membership, 8)).expect("a legal membership");
    for node in [VOTER, MAKER, NodeId(3)] {
        let incarnation = Incarnation(u64::from(node.0));
        let formatted = Formatted { cluster: ClusterId::new(1), node, incarnation, genesis: genesis.clone() };
        see(&mut judge, node, &Fact::Formatted(&formatted))?;
        see(&mut judge, node, &Fact::Started { boot: boot(node) })?;
        see(&mut judge, node, &Fact::Durable(&Record::Promised(ballot(1))))?;
    }
    let entries: paxos_core::Entries = vec![Entry::Noop; 4].into();
    let accept = Accept { ballot: ballot(1), first: slot(1), prefix: slot(1), entries: entries.clone() };
    send(&mut judge, MAKER, Body::Accept(accept))?;
    for node in [VOTER, MAKER] {
        let entries = entries.clone();
        see(&mut judge, node, &Fact::Durable(&Record::Accepted { ballot: ballot(1), first: slot(1), entries }))?;
    }
    see(&mut judge, VOTER, &Fact::Durable(&Record::Chosen { below: slot(2) }))?;
    see(&mut judge, VOTER, &Fact::Durable(&Record::Promised(ballot(2))))?;
    Ok(judge)
}

#[test]
fn a_promise_covers_every_durable_vote_of_its_sender() -> Result<(), Violation> {
    let told = |slots: &[u64], accepted: Option<Ballot>| -> Vec<Held> {
        slots.iter().map(|number| Held { slot: slot(*number), accepted, entry: Entry::Noop }).collect()
    };
    let (vote, tells, durable) = (Some(ballot(1)), "promise-tells-all", "durable-before-send");
    // The slots that it shows, how far it says everything is chosen, from where to where it speaks, the verdict.
    let cases = [
        ("all of them", told(&[2, 3, 4], vote), 2, (1, 5), true, None),
        ("those that are chosen as chosen", told(&[2, 3, 4], None), 2, (1, 5), true, None),
        ("the last one left out", told(&[2, 3], vote), 2, (1, 5), true, Some(tells)),
        ("one in the middle left out", told(&[2, 4], vote), 2, (1, 5), true, Some(tells)),
        ("nothing held", told(&[], vote), 2, (1, 2), true, Some(tells)),
        ("a first chunk", told(&[2], vote), 2, (1, 3), false, None),
        ("a first chunk with a hole", told(&[3], vote), 2, (1, 4), false, Some(tells)),
        ("a later chunk", told(&[3, 4], vote), 2, (3, 5), true, None),
        ("hidden behind a mark that is not durable", told(&[3, 4], vote), 3, (1, 5), true, Some(durable)),
        ("a vote under another ballot", told(&[2, 3, 4], Some(ballot(2))), 2, (1, 5), true, Some(tells)),
        ("a vote that it never cast", told(&[2, 3, 4, 5], vote), 2, (1, 6), true, Some(tells)),
    ];
    for (case, held, first_unchosen, (first, end), last, expected) in cases {
        let mut judge = voted()?;
        let promise = Promise {
            ballot: ballot(2),
            asker_boot: boot(MAKER),
            covers: SlotRange { first: slot(first), end: slot(end) },
            held,
            last,
            first_unchosen: slot(first_unchosen),
        };
        let verdict =
            send(&mut judge, VOTER, Body::Promise(Box::new(promise))).err().map(|violation| violation.invariant);
        assert_eq!(verdict, expected, "{case}");
    }
    Ok(())
}
