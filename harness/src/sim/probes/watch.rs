//! Looks at every fact of a world of whole nodes and counts the rare ones.

use std::collections::{BTreeMap, BTreeSet};

use node::Node;
use node::hello::Refusal;
use paxos_core::{
    Accept, Ballot, Body, Boot, Entry, FenceReason, Message, NodeId, QuorumSystem, Replica, Role, RoleReason, Slot,
    Stats,
};
use transport_sim::{Fact, Mishap, Moment, Operation, OperationId, Reply};

use super::{Probe, Probes};
use crate::invariants::{Invariants, TooLarge};

/// Counts what happens sometimes.
#[derive(Debug, Default)]
pub struct Watcher {
    probes: Probes,
    seats: BTreeMap<NodeId, Seat>,
    /// Ballots that anybody ever prepared.
    prepared: BTreeSet<Ballot>,
    /// The highest slot bound under each ballot.
    bound: BTreeMap<Ballot, Slot>,
    /// Where commands of sessions were bound first.
    sessions: BTreeMap<(u64, u64), (Slot, Ballot)>,
    /// The last node that led and was ready.
    leader: Option<NodeId>,
    /// Whether that one died or stood still since.
    leader_gone: bool,
    small_quorum: bool,
    /// Most bytes of undecided entries.
    window_bytes: usize,
    /// Huge writes that have not ended.
    large: BTreeSet<OperationId>,
}

/// What is known of a node.
#[derive(Debug)]
struct Seat {
    up: bool,
    paused: bool,
    learner: bool,
    role: Role,
    boot: Option<Boot>,
    stats: Stats,
    first_unchosen: Slot,
    in_doubt: u64,
    reads: u64,
    /// Reads when the last round left, and its number.
    round: (u64, u64),
    asked_to_lead: bool,
    /// What is handled next, and what was handled last.
    next: Option<Message>,
    last: Option<Message>,
}

impl Default for Seat {
    fn default() -> Seat {
        Seat {
            up: false,
            paused: false,
            learner: false,
            role: Role::Following,
            boot: None,
            stats: Stats::default(),
            first_unchosen: Slot::FIRST,
            in_doubt: 0,
            reads: 0,
            round: (0, 0),
            asked_to_lead: false,
            next: None,
            last: None,
        }
    }
}

impl Watcher {
    /// What was hit, with what only the judge counts.
    pub fn probes(&self, judge: &Invariants) -> Probes {
        let mut probes = self.probes;
        let tally = judge.tally();
        probes.hit(Probe::NoopChosen, tally.noops);
        probes.hit(Probe::LedgerTwice, judge.repeats());
        probes.hit(Probe::SmallQuorum, if self.small_quorum { tally.chosen } else { 0 });
        probes
    }

    fn hit(&mut self, probe: Probe) {
        self.probes.hit(probe, 1);
    }

    /// Looks at one fact, before the judge has seen it.
    pub fn see(&mut self, moment: Moment, fact: &Fact<'_>, judge: &Invariants) {
        let node = moment.node;
        match fact {
            Fact::Formatted(formatted) => {
                let membership = formatted.genesis.membership();
                let learner = membership.learners().iter().any(|member| member.node == node);
                let (quorum, voters) = (membership.quorum(), membership.voters().len());
                self.small_quorum = quorum.phase2_size(voters) < QuorumSystem::Majority.phase2_size(voters);
                self.seats.insert(node, Seat { learner, ..Seat::default() });
            }
            Fact::Started { boot } => self.seat(node).boot = Some(*boot),
            Fact::Starting { torn_tail, written, kept } => {
                self.probes.hit(Probe::TornTail, u64::from(*torn_tail));
                self.probes.hit(Probe::KeptRecord, *kept as u64);
                self.probes.hit(Probe::LostRecord, (written - kept) as u64);
            }
            Fact::Recovered { replica } => self.recovered(node, replica),
            Fact::Crashed => self.crashed(node),
            Fact::Paused => {
                self.seat(node).paused = true;
                self.leader_gone |= self.leader == Some(node);
            }
            Fact::Resumed => {
                let seat = self.seat(node);
                seat.paused = false;
                let leads = matches!(seat.role, Role::Leading { .. });
                if leads && self.leader.is_some_and(|leader| leader != node) {
                    self.hit(Probe::PausedDeposed);
                }
            }
            Fact::Received { message, .. } => self.received(node, message),
            Fact::Stepped { replica, .. } => self.stepped(node, replica),
            Fact::Served(served) => self.served(node, served),
            Fact::Sent { message, .. } => self.sent(node, message, judge),
            Fact::Role { role, reason, .. } => self.role(node, *role, *reason),
            Fact::Fenced { reason } => {
                self.probes.hit(Probe::DiskFailed, u64::from(matches!(reason, FenceReason::PersistFailed)));
            }
            Fact::LogRead { entries, .. } => self.probes.hit(Probe::ServedFromDisk, u64::from(*entries > 0)),
            Fact::FoundEmpty => self.hit(Probe::EmptyDisk),
            Fact::TurnedAway(Refusal::Incarnation { .. }) => self.hit(Probe::AnewRefused),
            Fact::TurnedAway(_) => self.hit(Probe::OlderRefused),
            Fact::Garbled => self.hit(Probe::FrameDropped),
            Fact::Connection(mishap) => self.hit(befallen(*mishap)),
            Fact::Asked(operation) => self.asked(operation),
            Fact::Answered { id, reply } => self.answered(*id, reply),
            Fact::Unknown { id } => _ = self.large.remove(id),
            Fact::Struck(_)
            | Fact::Posted { .. }
            | Fact::Carried { .. }
            | Fact::Syncing { .. }
            | Fact::Synced
            | Fact::Mended { .. }
            | Fact::Healed
            | Fact::Durable(_)
            | Fact::Applied { .. }
            | Fact::Proposed { .. }
            | Fact::Refused { .. }
            | Fact::InDoubt { .. }
            | Fact::ReadAsked { .. }
            | Fact::ReadReady { .. }
            | Fact::ReadFailed { .. } => {}
        }
    }

    fn seat(&mut self, node: NodeId) -> &mut Seat {
        self.seats.entry(node).or_default()
    }

    fn asked(&mut self, operation: &Operation) {
        /// Nothing else that clients ask for is near.
        const LARGE_BYTES: usize = 1 << 10;
        let bytes: usize = operation.args.iter().map(bytes::Bytes::len).sum();
        if bytes >= LARGE_BYTES {
            self.large.insert(operation.id);
        }
    }

    fn answered(&mut self, id: OperationId, reply: &Reply) {
        let large = self.large.remove(&id);
        match reply {
            Reply::Error(line) => {
                self.probes.hit(Probe::SessionExpired, u64::from(line.starts_with("SESSIONEXPIRED")));
                self.probes.hit(Probe::LargeRefused, u64::from(TooLarge::of(reply).is_some()));
            }
            Reply::Status(_) | Reply::Number(_) | Reply::Bulk(_) | Reply::Nil | Reply::Array(_) => {
                self.probes.hit(Probe::LargeChosen, u64::from(large));
            }
        }
    }

    fn recovered(&mut self, node: NodeId, replica: &Replica) {
        let (votes, known) = (replica.held(replica.first_unchosen()).is_some(), replica.first_unchosen());
        let seat = self.seat(node);
        let before = seat.first_unchosen;
        let (learner, boot) = (seat.learner, seat.boot);
        *seat = Seat { up: true, learner, boot, first_unchosen: known, ..Seat::default() };
        self.probes.hit(Probe::VotesRecovered, u64::from(votes));
        self.probes.hit(Probe::MarksLost, u64::from(known < before));
    }

    fn crashed(&mut self, node: NodeId) {
        self.leader_gone |= self.leader == Some(node);
        let seat = self.seat(node);
        let was_up = std::mem::replace(&mut seat.up, false);
        (seat.paused, seat.role) = (false, Role::Following);
        if was_up && self.seats.values().all(|seat| !seat.up) {
            self.hit(Probe::AllDown);
        }
    }

    fn received(&mut self, node: NodeId, message: &Message) {
        let header = &message.header;
        let boot = self.seats.get(&header.from).and_then(|seat| seat.boot);
        if boot.is_some_and(|boot| boot != header.boot) {
            self.hit(Probe::OldBoot);
        }
        let seat = self.seat(node);
        seat.asked_to_lead |= matches!(message.body, Body::HandOver(_));
        seat.next = Some(message.clone());
    }

    /// A replica has handled something: its counters and what it knows may have changed.
    fn stepped(&mut self, node: NodeId, replica: &Replica) {
        let (stats, known) = (replica.stats(), replica.first_unchosen());
        let full = matches!(replica.role(), Role::Leading { ready: true }) && replica.propose_room() == 0;
        self.window_bytes = replica.config().window_bytes;
        let seat = self.seat(node);
        seat.last = seat.next.take();
        let before = std::mem::replace(&mut seat.stats, stats);
        let learned = std::mem::replace(&mut seat.first_unchosen, known) < known;
        let by_heartbeat = seat.last.as_ref().is_some_and(|last| matches!(last.body, Body::Heartbeat(_)));
        let (learner, preparing) = (seat.learner, seat.role == Role::Preparing);
        let counters = [
            (Probe::StaleEvidence, stats.messages_stale - before.messages_stale),
            (Probe::BeyondRoom, stats.accepts_beyond_room - before.accepts_beyond_room),
            (Probe::CampaignRefused, if preparing { stats.refusals - before.refusals } else { 0 }),
            (Probe::Resent, stats.entries_resent - before.entries_resent),
            (Probe::Repaired, stats.entries_repaired - before.entries_repaired),
            (Probe::MarkWithheld, stats.marks_withheld - before.marks_withheld),
            (Probe::LearnerLearned, u64::from(learner && learned)),
            (Probe::LearnedByPrefix, u64::from(by_heartbeat && learned)),
            (Probe::WindowFull, u64::from(full)),
        ];
        counters.into_iter().for_each(|(probe, times)| self.probes.hit(probe, times));
    }

    fn served(&mut self, node: NodeId, served: &Node) {
        let counters = served.status().counters;
        let seat = self.seat(node);
        let before = std::mem::replace(&mut seat.in_doubt, counters.in_doubt);
        seat.reads = counters.reads;
        self.probes.hit(Probe::InDoubt, counters.in_doubt - before);
    }

    fn role(&mut self, node: NodeId, role: Role, reason: RoleReason) {
        let seat = self.seat(node);
        let before = std::mem::replace(&mut seat.role, role);
        let asked = seat.asked_to_lead;
        let led = matches!(before, Role::Leading { .. });
        match role {
            Role::Leading { ready: true } => {
                seat.asked_to_lead = false;
                self.probes.hit(Probe::HandOver, u64::from(asked));
                let other = self.leader.is_some_and(|leader| leader != node);
                self.probes.hit(Probe::FailOver, u64::from(other && self.leader_gone));
                (self.leader, self.leader_gone) = (Some(node), false);
            }
            Role::Leading { ready: false } => {}
            Role::Preparing => {
                let others = self.seats.iter().filter(|(other, seat)| **other != node && seat.role == Role::Preparing);
                let duels = u64::from(others.count() > 0);
                self.probes.hit(Probe::Duel, duels);
            }
            Role::Following if led => step_down(reason).into_iter().for_each(|probe| self.hit(probe)),
            Role::Following => {}
        }
    }

    fn sent(&mut self, node: NodeId, message: &Message, judge: &Invariants) {
        match &message.body {
            Body::Prepare(prepare) => _ = self.prepared.insert(prepare.ballot),
            Body::Promise(promise) => {
                let votes = promise.held.iter().any(|held| held.accepted.is_some());
                self.probes.hit(Probe::PromiseWithVotes, u64::from(votes));
                self.probes.hit(Probe::PromiseInChunks, u64::from(!promise.last));
            }
            Body::Accept(accept) => {
                self.bids(accept, judge);
                // What this very message binds is not in the ghost yet.
                if entry_at(accept, accept.prefix).is_none() {
                    self.prefix(accept.ballot, accept.prefix, judge);
                }
            }
            Body::Heartbeat(heartbeat) => {
                if let Some(ballot) = heartbeat.leading {
                    self.prefix(ballot, heartbeat.prefix, judge);
                    self.read_round(node, heartbeat.round);
                }
            }
            Body::Success(success) => {
                let seat = self.seat(node);
                // The answer to an Accept whose entry for this slot is another one.
                let other = matches!(&seat.last, Some(Message { body: Body::Accept(accept), .. })
                if (0u64..).zip(success.entries.iter()).any(|(at, chosen)| {
                    entry_at(accept, success.first.plus(at)).is_some_and(|entry| entry != chosen)
                }));
                self.probes.hit(Probe::ChosenKept, u64::from(other));
            }
            Body::Fetch(_) => {
                let new = self.seat(node).role == Role::Leading { ready: false };
                self.probes.hit(Probe::InheritedFetched, u64::from(new));
            }
            Body::HandOver(_) | Body::Refused(_) | Body::Accepted(_) | Body::SuccessReply(_) => {}
        }
    }

    /// The first time that a ballot binds a slot: is it somebody else's entry, or somebody's retry?
    fn bids(&mut self, accept: &Accept, judge: &Invariants) {
        let ballot = accept.ballot;
        for (at, entry) in (0u64..).zip(accept.entries.iter()) {
            let slot = accept.first.plus(at);
            if judge.bids(slot).any(|bid| bid == ballot) {
                continue;
            }
            let highest = self.bound.entry(ballot).or_insert(slot);
            *highest = slot.max(*highest);
            if let Some(lower) = judge.bids(slot).filter(|bid| *bid < ballot).max()
                && *entry != Entry::Noop
            {
                let between = self.prepared.range(lower..ballot).nth(1).is_some();
                self.hit(Probe::Adopted);
                self.probes.hit(Probe::AdoptedTwoBehind, u64::from(between));
            }
            let Entry::Command { bytes, .. } = entry else { continue };
            self.probes.hit(Probe::HalfWindow, u64::from(2 * bytes.len() >= self.window_bytes));
            let Some(once) = node::decode(bytes).ok().and_then(|command| command.once) else { continue };
            let (first, before) = *self.sessions.entry((once.session.0, once.sequence)).or_insert((slot, ballot));
            self.probes.hit(Probe::RetryAcross, u64::from(first != slot && before.node != ballot.node));
        }
    }

    fn prefix(&mut self, ballot: Ballot, prefix: Slot, judge: &Invariants) {
        let beyond = self.bound.get(&ballot).is_some_and(|highest| *highest > prefix);
        if beyond && judge.bids(prefix).all(|bid| bid != ballot) {
            self.hit(Probe::PrefixStops);
        }
    }

    fn read_round(&mut self, node: NodeId, round: u64) {
        let seat = self.seat(node);
        if round == seat.round.0 {
            return;
        }
        let reads = seat.reads;
        let (_, before) = std::mem::replace(&mut seat.round, (round, reads));
        self.probes.hit(Probe::ReadsShare, u64::from(reads.saturating_sub(before) > 1));
    }
}

/// What befell a client's connection.
fn befallen(mishap: Mishap) -> Probe {
    match mishap {
        Mishap::Stalled => Probe::Stalled,
        Mishap::Drained => Probe::Drained,
        Mishap::Cut => Probe::ReaderCut,
        Mishap::NoRoom => Probe::NoRoom,
        Mishap::LeftOpen => Probe::LeftOpen,
    }
}

/// Why a leader stepped down.
fn step_down(reason: RoleReason) -> Option<Probe> {
    match reason {
        RoleReason::Refused => Some(Probe::StepDownRefused),
        RoleReason::ChosenOtherwise => Some(Probe::StepDownChosen),
        RoleReason::Outvoted | RoleReason::HeardLeader => Some(Probe::StepDownOutbid),
        RoleReason::LostContact => Some(Probe::StepDownAlone),
        RoleReason::DisksHang => Some(Probe::StepDownHangs),
        RoleReason::LostLeader
        | RoleReason::Campaign
        | RoleReason::HandOver
        | RoleReason::Promised
        | RoleReason::Ready
        | RoleReason::HandedOver
        | RoleReason::HigherId
        | RoleReason::TimedOut => None,
    }
}

fn entry_at(accept: &Accept, slot: Slot) -> Option<&Entry> {
    let at = slot.get().checked_sub(accept.first.get())?;
    accept.entries.get(at as usize)
}
