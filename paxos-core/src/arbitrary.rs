//! `Arbitrary` for users' property tests (feature `quickcheck`): ids, ballots, entries, messages, events and valid
//! configurations.
//!
//! Values are drawn from few nodes, low rounds and near slots, so that they meet; every one of them is legal for
//! its type, and none of them need make sense to a replica. Receipts cannot be drawn: nobody can make one without
//! the tickets, so [`AnyEvent`] holds every event but `Event::Persisted`.
//!
//! ```
//! use paxos_core::{AnyEvent, Ballot, Config, Genesis, Message, wire};
//! use quickcheck::{QuickCheck, TestResult};
//!
//! fn what_is_encoded_is_decoded(message: Message) -> bool {
//!     let mut frame = Vec::new();
//!     wire::encode(&message.header, &message.body, &mut frame);
//!     wire::decode(&frame.into()) == Ok(message)
//! }
//! QuickCheck::new().tests(50).quickcheck(what_is_encoded_is_decoded as fn(Message) -> bool);
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen};

use crate::action::Recipients;
use crate::ballot::Ballot;
use crate::config::{Config, ElectionPolicy};
use crate::entry::{CommandId, Entries, Entry};
use crate::event::{Event, FetchId, Tag};
use crate::membership::{Genesis, Member, Membership};
use crate::message::{
    Accept, Accepted, Body, Echo, Fetch, HandOver, Header, Heartbeat, Held, Message, Prepare, Promise, Refused,
    Success, SuccessReply,
};
use crate::node_id::{Boot, ClusterId, Incarnation, NodeId};
use crate::quorum::QuorumSystem;
use crate::slot::{Slot, SlotRange};
use crate::time::Instant;

/// Every event that can be drawn; `Event::from` makes it one.
#[derive(Clone, Debug)]
pub enum AnyEvent {
    /// `Event::Message`.
    Message(Message),
    /// `Event::Propose`.
    Propose(Tag, Bytes),
    /// `Event::Read`.
    Read(Tag),
    /// `Event::PersistFailed`.
    PersistFailed,
    /// `Event::Fetched`.
    Fetched(FetchId, Slot, Entries),
    /// `Event::HandOver`.
    HandOver(NodeId),
    /// `Event::Tick`.
    Tick,
}

impl From<AnyEvent> for Event {
    fn from(event: AnyEvent) -> Event {
        match event {
            AnyEvent::Message(message) => Event::Message(message),
            AnyEvent::Propose(tag, command) => Event::Propose { tag, command },
            AnyEvent::Read(tag) => Event::Read { tag },
            AnyEvent::PersistFailed => Event::PersistFailed,
            AnyEvent::Fetched(id, first, entries) => Event::Fetched { id, first, entries },
            AnyEvent::HandOver(to) => Event::HandOver { to },
            AnyEvent::Tick => Event::Tick,
        }
    }
}

/// A number from 0 to `bound`.
fn small(g: &mut Gen, bound: u64) -> u64 {
    u64::arbitrary(g).checked_rem(bound.saturating_add(1)).unwrap_or(0)
}

fn some<T: Arbitrary>(g: &mut Gen, count_max: u64) -> Vec<T> {
    (0..small(g, count_max)).map(|_| T::arbitrary(g)).collect()
}

macro_rules! arbitrary {
    ($($type:ty: |$g:ident| $value:expr;)*) => {
        $(impl Arbitrary for $type {
            fn arbitrary($g: &mut Gen) -> Self {
                $value
            }
        })*
    };
}

arbitrary! {
    ClusterId: |g| ClusterId::new(u128::arbitrary(g));
    NodeId: |g| NodeId(1u32.saturating_add(small(g, 8) as u32));
    Incarnation: |g| Incarnation(u64::arbitrary(g));
    Boot: |g| Boot { counter: 1u64.saturating_add(small(g, 3)), nonce: u64::arbitrary(g) };
    Ballot: |g| Ballot { round: 1u64.saturating_add(small(g, 9)), node: NodeId::arbitrary(g), generation: small(g, 1) };
    Slot: |g| Slot::FIRST.plus(small(g, 40));
    SlotRange: |g| SlotRange::of(Slot::arbitrary(g), small(g, 9) as usize);
    Instant: |g| Instant::from_us(small(g, 10_000_000));
    Tag: |g| Tag(small(g, 99));
    FetchId: |g| FetchId(1u64.saturating_add(small(g, 9)));
    CommandId: |g| CommandId {
        node: NodeId::arbitrary(g),
        incarnation: Incarnation::arbitrary(g),
        boot: 1u64.saturating_add(small(g, 3)),
        sequence: 1u64.saturating_add(small(g, 99)),
    };
    Entry: |g| match small(g, 5) {
        0 => Entry::Noop,
        1 => Entry::Membership(Membership::arbitrary(g).into()),
        _ => Entry::Command { id: CommandId::arbitrary(g), bytes: Bytes::from(Vec::<u8>::arbitrary(g)) },
    };
    Entries: |g| some::<Entry>(g, 5).into();
    Header: |g| Header {
        cluster: ClusterId::arbitrary(g),
        from: NodeId::arbitrary(g),
        incarnation: Incarnation::arbitrary(g),
        boot: Boot::arbitrary(g),
    };
    Message: |g| Message { header: Header::arbitrary(g), body: Body::arbitrary(g) };
    Body: |g| match small(g, 9) {
        0 => Body::Prepare(Prepare { ballot: Ballot::arbitrary(g), from: Slot::arbitrary(g) }),
        1 => Body::Promise(Box::new(Promise {
            ballot: Ballot::arbitrary(g),
            asker_boot: Boot::arbitrary(g),
            covers: SlotRange::arbitrary(g),
            held: some(g, 5),
            last: bool::arbitrary(g),
            first_unchosen: Slot::arbitrary(g),
        })),
        2 => Body::Refused(Refused {
            ballot: Ballot::arbitrary(g),
            asker_boot: Boot::arbitrary(g),
            promised: Ballot::arbitrary(g),
        }),
        3 => Body::Accept(Accept {
            ballot: Ballot::arbitrary(g),
            first: Slot::arbitrary(g),
            prefix: Slot::arbitrary(g),
            entries: Entries::arbitrary(g),
        }),
        4 => Body::Accepted(Accepted {
            ballot: Ballot::arbitrary(g),
            slots: SlotRange::arbitrary(g),
            first_unchosen: Slot::arbitrary(g),
            room: small(g, 9_000) as u32,
        }),
        5 => Body::Success(Success {
            ballot: Option::arbitrary(g),
            first: Slot::arbitrary(g),
            entries: Entries::arbitrary(g),
        }),
        6 => Body::SuccessReply(SuccessReply { first_unchosen: Slot::arbitrary(g), room: small(g, 9_000) as u32 }),
        7 => Body::Heartbeat(Box::new(Heartbeat::arbitrary(g))),
        8 => Body::Fetch(Fetch { slots: SlotRange::arbitrary(g) }),
        _ => Body::HandOver(HandOver { ballot: Ballot::arbitrary(g), prefix: Slot::arbitrary(g) }),
    };
    Held: |g| Held { slot: Slot::arbitrary(g), accepted: Option::arbitrary(g), entry: Entry::arbitrary(g) };
    Heartbeat: |g| Heartbeat {
        leading: Option::arbitrary(g),
        following: Option::arbitrary(g),
        contact: bool::arbitrary(g),
        can_vote: bool::arbitrary(g),
        prefix: Slot::arbitrary(g),
        first_unchosen: Slot::arbitrary(g),
        room: small(g, 9_000) as u32,
        round: small(g, 9),
        sent_us: small(g, 10_000_000),
        echo: Option::arbitrary(g),
    };
    Echo: |g| Echo {
        boot: Boot::arbitrary(g),
        sent_us: small(g, 10_000_000),
        leading: Option::arbitrary(g),
        round: small(g, 9),
    };
    QuorumSystem: |g| match small(g, 2) {
        0 => QuorumSystem::Flexible { phase1: small(g, 9) as u8, phase2: small(g, 9) as u8 },
        _ => QuorumSystem::Majority,
    };
    ElectionPolicy: |g| if bool::arbitrary(g) { ElectionPolicy::Stable } else { ElectionPolicy::HighestId };
    Membership: |g| membership(g);
    Genesis: |g| loop {
        if let Ok(genesis) = Genesis::new(Membership::arbitrary(g), 1u64.saturating_add(small(g, 9_999))) {
            break genesis;
        }
    };
    Recipients: |g| {
        let mut recipients = Recipients::NONE;
        some::<NodeId>(g, 4).into_iter().for_each(|node| {
            recipients.push(node);
        });
        recipients
    };
}

/// One to nine voters, 1 to `n`, with quorums that meet.
fn membership(g: &mut Gen) -> Membership {
    loop {
        let member = |node: u32| Member {
            node: NodeId(node),
            incarnation: Incarnation(u64::from(node).saturating_add(100)),
            generation: 0,
        };
        let voters = 1u32.saturating_add(small(g, 8) as u32);
        let quorum = QuorumSystem::arbitrary(g);
        if let Ok(membership) = Membership::new((1..=voters).map(member).collect(), Vec::new(), quorum) {
            return membership;
        }
    }
}

/// Valid for every genesis with α of at least 64.
impl Arbitrary for Config {
    fn arbitrary(g: &mut Gen) -> Config {
        let heartbeat_us = 1_000u64.saturating_add(small(g, 100_000));
        let entry_bytes_max = 1usize.saturating_add(small(g, 4_000) as usize);
        Config {
            election: ElectionPolicy::arbitrary(g),
            heartbeat_us,
            election_timeout_us: heartbeat_us.saturating_mul(3).saturating_add(small(g, 500_000)),
            resend_us: 1u64.saturating_add(small(g, 50_000)),
            resend_us_max: 50_001u64.saturating_add(small(g, 1_000_000)),
            window_slots: 1u32.saturating_add(small(g, 63) as u32),
            window_bytes: entry_bytes_max.saturating_add(1_000).saturating_add(small(g, 100_000) as usize),
            entry_bytes_max,
            run_entries_max: 1usize.saturating_add(small(g, 99) as usize),
            run_bytes_max: 1_000usize.saturating_add(small(g, 9_000) as usize),
            reads_max: 1usize.saturating_add(small(g, 99) as usize),
            last_slot: if small(g, 3) == 0 { Some(Slot::arbitrary(g)) } else { None },
        }
    }
}

impl Arbitrary for AnyEvent {
    fn arbitrary(g: &mut Gen) -> AnyEvent {
        match small(g, 15) {
            0 => AnyEvent::Propose(Tag::arbitrary(g), Bytes::from(Vec::<u8>::arbitrary(g))),
            1 => AnyEvent::Read(Tag::arbitrary(g)),
            2 => AnyEvent::Fetched(FetchId::arbitrary(g), Slot::arbitrary(g), Entries::arbitrary(g)),
            3 => AnyEvent::HandOver(NodeId::arbitrary(g)),
            4 => AnyEvent::PersistFailed,
            5..=7 => AnyEvent::Tick,
            _ => AnyEvent::Message(Message::arbitrary(g)),
        }
    }

    /// Towards nothing happening.
    fn shrink(&self) -> Box<dyn Iterator<Item = AnyEvent>> {
        match self {
            AnyEvent::Tick => quickcheck::empty_shrinker(),
            AnyEvent::Message(_)
            | AnyEvent::Propose(..)
            | AnyEvent::Read(_)
            | AnyEvent::PersistFailed
            | AnyEvent::Fetched(..)
            | AnyEvent::HandOver(_) => quickcheck::single_shrinker(AnyEvent::Tick),
        }
    }
}
