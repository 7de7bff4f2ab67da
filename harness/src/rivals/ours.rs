//! Three replicas of `paxos-core`: every ticket is redeemed at once, as by a disk that costs nothing.

use bytes::Bytes;
use paxos_core::{
    Action, Boot, ClusterId, Config, Entry, Event, Formatted, Genesis, Incarnation, Instant, Member, Membership,
    NodeId, QuorumSystem, Receipt, Record, Recovery, Replica, Role, Tag,
};

use super::Trio;

const VOTERS: usize = 3;

/// How often timers are looked at, in simulated microseconds; one passes with each round of proposals.
const TIMERS_US: u64 = 1_000;

/// Three replicas, and what they applied.
pub struct Ours {
    now_us: u64,
    replicas: Vec<Replica>,
    leader: usize,
    /// What each of them asked for and was not carried out yet.
    asked: [Vec<Action>; VOTERS],
    next_tag: u64,
    /// Commands applied, by replica.
    applied: [u64; VOTERS],
    payload_bytes: u64,
}

impl Default for Ours {
    fn default() -> Ours {
        Ours::new()
    }
}

impl Ours {
    /// Three replicas, of which one has been elected.
    pub fn new() -> Ours {
        let replicas = (0..VOTERS).map(replica).collect();
        let mut trio = Ours {
            now_us: 0,
            replicas,
            leader: 0,
            asked: Default::default(),
            next_tag: 0,
            applied: [0; VOTERS],
            payload_bytes: 0,
        };
        while !trio.elected() {
            assert!(trio.now_us < 10_000_000, "no leader after ten simulated seconds");
            trio.now_us += 1_000;
            for at in 0..VOTERS {
                trio.handle(at, Event::Tick);
            }
        }
        trio
    }

    fn elected(&mut self) -> bool {
        let leads = |replica: &Replica| matches!(replica.role(), Role::Leading { ready: true });
        let Some(leader) = self.replicas.iter().position(leads) else { return false };
        self.leader = leader;
        true
    }

    /// One event and all that follows from it.
    fn handle(&mut self, at: usize, event: Event) {
        self.replicas[at].handle(Instant::from_us(self.now_us), event, &mut self.asked[at]);
        while let Some(at) = self.asked.iter().position(|asked| !asked.is_empty()) {
            self.carry_out(at);
        }
    }

    /// A message is a call, and the free disk has made durable what was asked for by the time that all is carried out.
    fn carry_out(&mut self, at: usize) {
        let now = Instant::from_us(self.now_us);
        let mut durable: Option<Receipt> = None;
        let mut asked = std::mem::take(&mut self.asked[at]);
        for action in asked.drain(..) {
            match action {
                Action::Send { to, ref body } => {
                    let header = self.replicas[at].header();
                    for to in to.into_iter().map(place) {
                        self.replicas[to].receive(now, &header, body, &mut self.asked[to]);
                    }
                }
                Action::Persist { ticket, record: _ } => {
                    durable = Some(match durable {
                        None => ticket.redeem(),
                        Some(receipt) => receipt.and(ticket).expect("tickets of one replica follow each other"),
                    });
                }
                Action::Apply { ref entries, .. } => {
                    for bytes in entries.iter().filter_map(Entry::command) {
                        self.applied[at] += 1;
                        self.payload_bytes += bytes.len() as u64;
                    }
                }
                Action::ProposalRefused { error, .. } => panic!("refused: {error}"),
                Action::Fenced { reason } => panic!("fenced: {reason}"),
                Action::InDoubt { .. }
                | Action::ReadReady { .. }
                | Action::ReadFailed { .. }
                | Action::FetchLog { .. }
                | Action::RoleChanged { .. } => {}
            }
        }
        // Nobody sends to itself: nothing was asked for here meanwhile.
        self.asked[at] = asked;
        if let Some(receipt) = durable {
            self.replicas[at].handle(now, Event::Persisted(receipt), &mut self.asked[at]);
        }
    }

    /// Heartbeats keep the leader in contact, here as anywhere. Timers are looked at once per millisecond, as by an
    /// event loop.
    fn tick_those_due(&mut self) {
        if !self.now_us.is_multiple_of(TIMERS_US) {
            return;
        }
        let now = Instant::from_us(self.now_us);
        for at in 0..self.replicas.len() {
            if self.replicas[at].deadline().is_some_and(|(due, _)| due <= now) {
                self.handle(at, Event::Tick);
            }
        }
    }
}

impl Trio for Ours {
    fn choose(&mut self, payload: &Bytes, count: usize) {
        self.now_us += 1;
        let wanted = self.applied[self.leader] + count as u64;
        for _ in 0..count {
            let tag = Tag(self.next_tag);
            self.next_tag += 1;
            self.handle(self.leader, Event::Propose { tag, command: payload.clone() });
        }
        self.handle(self.leader, Event::Tick);
        self.tick_those_due();
        assert_eq!(self.applied[self.leader], wanted, "everything proposed is chosen and applied");
    }

    fn chosen(&self) -> u64 {
        self.applied[self.leader]
    }
}

fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

fn replica(at: usize) -> Replica {
    let member = |at: usize| {
        let node = NodeId(at as u32 + 1);
        Member { node, incarnation: Incarnation(u64::from(node.0)), generation: 0 }
    };
    let voters: Vec<Member> = (0..VOTERS).map(member).collect();
    let membership = Membership::new(voters.clone(), vec![], QuorumSystem::Majority).expect("three distinct voters");
    let genesis = Genesis::new(membership, 4_096).expect("alpha is not 0");
    let Member { node, incarnation, .. } = voters[at];
    let mut recovery = Recovery::new();
    recovery
        .record(Record::Formatted(Formatted { cluster: ClusterId::new(1), node, incarnation, genesis }))
        .expect("a fresh log");
    let mut recovered = recovery.finish().expect("a fresh log");
    recovered.started(Boot { counter: 1, nonce: 1 }).expect("the first boot");
    Replica::new(Config::default(), recovered, Instant::from_us(0), at as u64).expect("the default configuration")
}
