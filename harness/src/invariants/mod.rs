//! The judge of simulated worlds: the invariants of Multi-Paxos, checked on every fact from ghost state that is
//! kept outside the code under test.
//!
//! What is chosen is computed here, from durable votes alone (Lamport, "Paxos Made Simple": an entry is chosen when
//! a quorum accepted it under one ballot); what replicas believe is then compared with that.

mod ballots;
mod digests;
mod history;
mod image;
mod outcomes;
mod promises;
mod quorums;
mod slots;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use paxos_core::{Ballot, Boot, FenceReason, Instant, Membership, NodeId, Record, Role, Slot};
use transport_sim::{Fact, Moment, Observer, Operation, Violation};

use ballots::Used;
use digests::Digests;
use history::History;
pub(crate) use history::TooLarge;
use image::Image;
use outcomes::Outcomes;
use promises::Phase1;
use slots::Slots;
pub use tally::Tally;

/// All invariants of replicas; see `Observer::see`.
#[derive(Debug, Default)]
pub struct Invariants {
    membership: Option<Membership>,
    alpha: u64,
    slots: Slots,
    nodes: BTreeMap<NodeId, Seen>,
    /// Which start of its owner used each ballot.
    ballots: BTreeMap<Ballot, Used>,
    phase1: Phase1,
    outcomes: Outcomes,
    digests: Digests,
    /// What clients did; `None` in worlds without clients.
    history: Option<History>,
    /// From when on nothing goes wrong.
    calm_from: Option<Instant>,
    /// The rounds of ballots that were first led with since.
    rounds_led_calm: BTreeSet<u64>,
    tally: Tally,
}

/// What is known of a node.
#[derive(Debug)]
struct Seen {
    image: Image,
    boot: Option<Boot>,
    /// The ballot that it last tried to lead with, and since when.
    tried: Option<(Ballot, Instant)>,
    first_unchosen: Slot,
    next_to_apply: Slot,
}

impl Invariants {
    /// Nothing seen yet.
    pub fn new() -> Invariants {
        Invariants::default()
    }

    /// Nothing seen yet, in a world whose log holds the commands of clients.
    /// `sessions_max` is what every node is set to.
    pub fn with_clients(sessions_max: usize) -> Invariants {
        Invariants { history: Some(History::new(sessions_max)), ..Invariants::default() }
    }

    /// No entry has more bytes, so that commands that would are refused.
    #[must_use]
    pub fn entries_of(mut self, bytes_max: usize) -> Invariants {
        if let Some(history) = &mut self.history {
            history.bound(bytes_max);
        }
        self
    }

    /// From this moment on nothing goes wrong, so that leaders have no reason to change.
    #[must_use]
    pub fn calm_from(self, moment: Instant) -> Invariants {
        Invariants { calm_from: Some(moment), ..self }
    }

    /// How much was looked at.
    pub fn tally(&self) -> Tally {
        let (chosen, noops, adopted) = self.slots.counts();
        Tally { chosen, noops, adopted, ..self.tally }
    }

    /// Every slot below is chosen.
    pub fn chosen_below(&self) -> Slot {
        self.slots.chosen_below()
    }

    /// The ballots that were ever bid in a slot.
    pub fn bids(&self, slot: Slot) -> impl Iterator<Item = Ballot> {
        self.slots.ballots(slot)
    }

    /// How often a command of a session was chosen that had run already.
    pub fn repeats(&self) -> u64 {
        self.history.as_ref().map_or(0, History::repeats)
    }

    /// The slot in which a client's write ran, as far as is known.
    pub fn slot_of(&self, operation: &Operation) -> Option<u64> {
        self.history.as_ref()?.slot(operation)
    }

    /// A chosen slot whose entry is on none of these nodes' disks.
    pub fn lost_copy(&self, nodes: &[NodeId]) -> Option<Slot> {
        let images: Vec<&Image> = nodes.iter().filter_map(|node| Some(&self.nodes.get(node)?.image)).collect();
        self.slots
            .all_chosen()
            .find(|(slot, entry)| !images.iter().any(|image| image.holds(*slot, *entry)))
            .map(|(slot, _)| slot)
    }

    /// Whether both quorums can be had among these nodes.
    pub fn has_quorums(&self, nodes: &[NodeId]) -> bool {
        let Some(membership) = &self.membership else { return false };
        let voters = nodes.iter().filter_map(|node| membership.voter(*node));
        let voters = voters.fold(paxos_core::VoterSet::EMPTY, paxos_core::VoterSet::with);
        quorums::is_phase1_quorum(membership, voters) && quorums::is_phase2_quorum(membership, voters)
    }

    /// What is chosen in a slot.
    pub fn chosen(&self, slot: Slot) -> Option<&paxos_core::Entry> {
        self.slots.chosen(slot)
    }

    fn durable(&mut self, node: NodeId, record: &Record) -> Result<(), Violation> {
        if let (Some(membership), Record::Accepted { ballot, first, entries }) = (&self.membership, record) {
            let promises = Promises { membership, nodes: &self.nodes };
            for (offset, entry) in (0u64..).zip(entries.iter()) {
                self.slots.bid(first.plus(offset), *ballot, entry, &promises, &mut self.outcomes)?;
                self.slots.vote(first.plus(offset), *ballot, node, membership)?;
                self.tally.votes += 1;
            }
            if let Some(history) = &mut self.history {
                while let Some(slot) = Slot::new(history.applied() + 1).filter(|slot| *slot < self.slots.chosen_below())
                    && let Some(entry) = self.slots.chosen(slot)
                {
                    history.chosen(slot, entry)?;
                }
            }
        }
        match self.nodes.get_mut(&node) {
            Some(seen) => seen.image.record(node, record, &self.slots),
            None => {
                Err(Violation::new("formatted-first", format!("{node:?} wrote {record:?} before it was formatted")))
            }
        }
    }
}

/// What is durably promised, for judging whether a bid is safe.
struct Promises<'a> {
    membership: &'a Membership,
    nodes: &'a BTreeMap<NodeId, Seen>,
}

impl Promises<'_> {
    /// The voters for whom this holds of their durable promise.
    fn voters(&self, holds: impl Fn(Option<Ballot>) -> bool) -> paxos_core::VoterSet {
        let mut voters = paxos_core::VoterSet::EMPTY;
        for member in self.membership.voters() {
            let promised = self.nodes.get(&member.node).and_then(|seen| seen.image.promised());
            if holds(promised)
                && let Some(voter) = self.membership.voter(member.node)
            {
                voters = voters.with(voter);
            }
        }
        voters
    }
}

impl Observer for Invariants {
    fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
        let node = moment.node;
        match fact {
            Fact::Formatted(formatted) => {
                let genesis = &formatted.genesis;
                self.membership = Some(genesis.membership().clone());
                self.alpha = genesis.alpha();
                let image = Image::default();
                let seen =
                    Seen { image, boot: None, tried: None, first_unchosen: Slot::FIRST, next_to_apply: Slot::FIRST };
                self.nodes.insert(node, seen);
                Ok(())
            }
            Fact::Durable(record) => self.durable(node, record),
            // Where messages are on their way, and when disks work, is for pictures and probes.
            Fact::Posted { .. }
            | Fact::Received { .. }
            | Fact::Carried { .. }
            | Fact::Syncing { .. }
            | Fact::Synced
            | Fact::LogRead { .. }
            | Fact::Starting { .. }
            | Fact::FoundEmpty
            | Fact::TurnedAway(_)
            | Fact::Garbled
            | Fact::Connection(_)
            | Fact::Paused
            | Fact::Resumed
            | Fact::Struck(_)
            | Fact::Mended { .. }
            | Fact::Healed => Ok(()),
            Fact::Sent { message, .. } => self.sent(moment, message),
            Fact::Started { boot } => self.with(node, |seen| {
                let last = seen.boot.replace(*boot);
                if last.is_some_and(|last| last.counter >= boot.counter) {
                    return Err(Violation::new("boots-count-up", format!("{node:?}: {boot:?} after {last:?}")));
                }
                Ok(())
            }),
            Fact::Recovered { replica } => self.with(node, |seen| {
                seen.first_unchosen = replica.first_unchosen();
                seen.next_to_apply = Slot::FIRST;
                seen.image.recovered(node, replica)
            }),
            Fact::Crashed => {
                self.digests.crashed(node);
                self.outcomes.crashed(node);
                Ok(())
            }
            Fact::Applied { slot, entry, tag } => {
                self.tally.applied += 1;
                self.slots.is_chosen(*slot, entry, "an applied entry")?;
                self.with(node, |seen| {
                    if *slot != seen.next_to_apply {
                        let why = format!("{node:?} applied {slot}; next is {}", seen.next_to_apply);
                        return Err(Violation::new("apply-in-order", why));
                    }
                    seen.next_to_apply = slot.next();
                    Ok(())
                })?;
                self.tally.outcomes_applied += u64::from(tag.is_some());
                self.outcomes.applied(node, *slot, entry, *tag)
            }
            Fact::Proposed { tag, command } => self.outcomes.proposed(node, *tag, command),
            Fact::Refused { tag, .. } => {
                self.tally.outcomes_refused += 1;
                self.outcomes.refused(node, *tag)
            }
            Fact::InDoubt { tag } => {
                self.tally.outcomes_in_doubt += 1;
                self.outcomes.ended(node, *tag)
            }
            Fact::ReadAsked { tag } => self.outcomes.read(node, *tag),
            Fact::ReadReady { tag, slot } => {
                self.tally.reads += 1;
                self.slots.all_chosen_below(*slot, "a read point")?;
                self.with(node, |seen| {
                    if seen.next_to_apply < *slot {
                        let why = format!("{node:?} reads at {slot}, has applied below {}", seen.next_to_apply);
                        return Err(Violation::new("read-after-apply", why));
                    }
                    Ok(())
                })?;
                self.outcomes.read_ready(node, *tag, *slot)
            }
            Fact::ReadFailed { tag, .. } => self.outcomes.ended(node, *tag),
            Fact::Role { role, ballot, .. } => match (role, ballot) {
                (Role::Leading { .. }, Some(ballot)) => self.leads(moment, *ballot),
                (Role::Leading { .. }, None) => {
                    Err(Violation::new("leads-with-a-ballot", format!("{node:?} leads without a ballot")))
                }
                (Role::Preparing, Some(ballot)) => self.tries(moment, *ballot),
                (Role::Following, _) | (Role::Preparing, None) => Ok(()),
            },
            Fact::Fenced { reason } => match reason {
                FenceReason::PersistFailed => {
                    self.outcomes.crashed(node);
                    Ok(())
                }
                FenceReason::ChosenTwice(_) | FenceReason::LogUnreadable(_) | FenceReason::Bug(_) => {
                    Err(Violation::new("never-fenced", format!("{node:?}: {reason}")))
                }
            },
            Fact::Served(served) => self.digests.served(node, served),
            Fact::Asked(operation) => {
                if let Some(history) = &mut self.history {
                    history.asked(operation);
                }
                Ok(())
            }
            Fact::Answered { id, reply } => match &mut self.history {
                Some(history) => history.answered(*id, reply),
                None => Ok(()),
            },
            Fact::Unknown { id } => {
                if let Some(history) = &mut self.history {
                    history.unknown(*id);
                }
                Ok(())
            }
            Fact::Stepped { replica, outputs } => {
                /// A step sends at most a few messages to each peer and a window of applied slots; far above that
                /// something is unbounded.
                const OUTPUTS_MAX: usize = 200_000;
                if *outputs > OUTPUTS_MAX {
                    return Err(Violation::new("bounded-outputs", format!("{outputs} in one step of {node:?}")));
                }
                let first_unchosen = replica.first_unchosen();
                let before = self.nodes.get(&node).map(|seen| seen.first_unchosen);
                if before == Some(first_unchosen) {
                    return Ok(());
                }
                self.slots.all_chosen_below(first_unchosen, "a replica's first_unchosen")?;
                self.with(node, |seen| {
                    if first_unchosen < seen.first_unchosen {
                        let why = format!("{node:?}: {} after {}", first_unchosen, seen.first_unchosen);
                        return Err(Violation::new("first-unchosen-never-falls", why));
                    }
                    seen.first_unchosen = first_unchosen;
                    Ok(())
                })
            }
        }
    }
}

impl Invariants {
    fn with(&mut self, node: NodeId, look: impl FnOnce(&mut Seen) -> Result<(), Violation>) -> Result<(), Violation> {
        match self.nodes.get_mut(&node) {
            Some(seen) => look(seen),
            None => Err(Violation::new("formatted-first", format!("{node:?} was never formatted"))),
        }
    }
}
