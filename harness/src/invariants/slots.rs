//! The ghost of the log: every bid ever made in every slot, who voted for it durably, and what is chosen by that.

use paxos_core::{Ballot, Entry, Membership, NodeId, Promise, Slot, VoterSet};
use transport_sim::{Digest, Violation};

use super::Promises;
use super::outcomes::Outcomes;
use super::quorums::{is_phase1_quorum, is_phase2_quorum};

/// Where a slot is found in a vector that begins with slot 1.
pub(super) fn index(slot: Slot) -> usize {
    (slot.get() - 1) as usize
}

/// Slots further than this above the chosen ones are no window's: a ghost is not filled by nonsense.
const AHEAD_MAX: usize = 1 << 20;

/// Every slot that anybody bid for.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Contest>,
    /// Every slot before this index is chosen.
    prefix: usize,
    chosen: u64,
    noops: u64,
    adopted: u64,
}

#[derive(Debug, Default)]
struct Contest {
    chosen: Option<(u64, Entry)>,
    bids: Vec<Bid>,
}

/// What one ballot proposes in one slot.
#[derive(Debug)]
struct Bid {
    ballot: Ballot,
    entry: u64,
    value: Entry,
    voters: VoterSet,
}

impl Slots {
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.chosen, self.noops, self.adopted)
    }

    pub(super) fn chosen_below(&self) -> Slot {
        Slot::FIRST.plus(self.prefix as u64)
    }

    pub(super) fn chosen(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(index(slot))?.chosen.as_ref().map(|(_, entry)| entry)
    }

    pub(super) fn chosen_digest(&self, slot: Slot) -> Option<u64> {
        self.slots.get(index(slot))?.chosen.as_ref().map(|(digest, _)| *digest)
    }

    /// Every chosen slot, with the digest of its entry.
    pub(super) fn all_chosen(&self) -> impl Iterator<Item = (Slot, u64)> {
        let numbered = (0u64..).zip(&self.slots);
        numbered.filter_map(|(at, contest)| contest.chosen.as_ref().map(|(entry, _)| (Slot::FIRST.plus(at), *entry)))
    }

    /// Every ballot that bid in this slot.
    pub(super) fn ballots(&self, slot: Slot) -> impl Iterator<Item = Ballot> {
        self.slots.get(index(slot)).into_iter().flat_map(|contest| &contest.bids).map(|bid| bid.ballot)
    }

    /// What this ballot bid in this slot.
    pub(super) fn bid_entry(&self, slot: Slot, ballot: Ballot) -> Option<u64> {
        let contest = self.slots.get(index(slot))?;
        contest.bids.iter().find(|bid| bid.ballot == ballot).map(|bid| bid.entry)
    }

    /// Whether this voter's vote here was ever durable.
    pub(super) fn voted(&self, slot: Slot, ballot: Ballot, voter: VoterSet) -> bool {
        let bids = self.slots.get(index(slot)).map(|contest| &contest.bids);
        bids.is_some_and(|bids| bids.iter().any(|bid| bid.ballot == ballot && bid.voters.has(voter)))
    }

    /// A bid was seen, in an Accept or a vote. One entry per (slot, ballot); the first sight of each is judged safe.
    pub(super) fn bid(
        &mut self,
        slot: Slot,
        ballot: Ballot,
        entry: &Entry,
        promises: &Promises<'_>,
        outcomes: &mut Outcomes,
    ) -> Result<(), Violation> {
        let at = index(slot);
        if at > self.prefix + AHEAD_MAX {
            return Err(Violation::new("bounded-window", format!("{ballot:?} bids in slot {slot}")));
        }
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Contest::default);
        }
        let contest = &mut self.slots[at];
        let digest = Digest::of(entry);
        if let Some(bid) = contest.bids.iter().find(|bid| bid.ballot == ballot) {
            if bid.entry == digest {
                return Ok(());
            }
            let why = format!("slot {slot} {ballot:?}: {:?} and {entry:?}", bid.value);
            return Err(Violation::new("one-entry-per-slot-and-ballot", why));
        }
        contest.safe_at(slot, ballot, digest, entry, promises)?;
        outcomes.bound(slot, entry)?;
        contest.bids.push(Bid { ballot, entry: digest, value: entry.clone(), voters: VoterSet::EMPTY });
        Ok(())
    }

    /// A vote became durable. An entry is chosen when a phase-2 quorum voted for it under one ballot.
    pub(super) fn vote(
        &mut self,
        slot: Slot,
        ballot: Ballot,
        node: NodeId,
        membership: &Membership,
    ) -> Result<(), Violation> {
        // What a learner accepts is no vote.
        let Some(voter) = membership.voter(node) else { return Ok(()) };
        let contest = &mut self.slots[index(slot)];
        let Some(bid) = contest.bids.iter_mut().find(|bid| bid.ballot == ballot) else { return Ok(()) };
        bid.voters = bid.voters.with(voter);
        if !is_phase2_quorum(membership, bid.voters) {
            return Ok(());
        }
        match &contest.chosen {
            Some((chosen, _)) if *chosen == bid.entry => return Ok(()),
            Some((_, chosen)) => {
                let why = format!("slot {slot}: {chosen:?} was chosen, now also {:?} under {ballot:?}", bid.value);
                return Err(Violation::new("agreement", why));
            }
            None => {}
        }
        self.chosen += 1;
        self.noops += u64::from(bid.value == Entry::Noop);
        contest.chosen = Some((bid.entry, bid.value.clone()));
        self.adopted += u64::from(contest.bids.iter().any(|bid| bid.ballot < ballot));
        while self.slots.get(self.prefix).is_some_and(|contest| contest.chosen.is_some()) {
            self.prefix += 1;
        }
        Ok(())
    }

    /// Somebody claims that every slot below is chosen.
    pub(super) fn all_chosen_below(&self, below: Slot, who: &str) -> Result<(), Violation> {
        if below <= self.chosen_below() {
            return Ok(());
        }
        let why = format!("{who} is {below}, but slot {} is not chosen", self.chosen_below());
        Err(Violation::new("only-chosen-is-decided", why))
    }

    /// Somebody claims that this entry is chosen here.
    pub(super) fn is_chosen(&self, slot: Slot, entry: &Entry, who: &str) -> Result<(), Violation> {
        if self.chosen_digest(slot) == Some(Digest::of(entry)) {
            return Ok(());
        }
        let why = format!("{who} has {entry:?} in slot {slot}; chosen is {:?}", self.chosen(slot));
        Err(Violation::new("only-chosen-is-decided", why))
    }

    /// A promise tells every vote that its sender cast under lower ballots in the slots it speaks of, and only
    /// votes that are durable.
    pub(super) fn promise_is_whole(&self, node: NodeId, voter: VoterSet, promise: &Promise) -> Result<(), Violation> {
        let broken = |slot: Slot, why: &str| {
            let detail =
                format!("{node:?} promised {:?}: {why} slot {slot}; it says {:?}", promise.ballot, promise.held);
            Err(Violation::new("promise-tells-all", detail))
        };
        for held in &promise.held {
            let digest = Digest::of(&held.entry);
            let told = match held.accepted {
                None => self.chosen_digest(held.slot) == Some(digest),
                Some(ballot) => {
                    self.voted(held.slot, ballot, voter) && self.bid_entry(held.slot, ballot) == Some(digest)
                }
            };
            if !told {
                return broken(held.slot, "its disk says otherwise of");
            }
        }
        let end = if promise.last { self.slots.len() } else { index(promise.covers.end).min(self.slots.len()) };
        let first = index(promise.covers.first.max(promise.first_unchosen));
        let mut held = promise.held.iter().peekable();
        for at in first..end {
            let slot = Slot::FIRST.plus(at as u64);
            // What the asker has bound under this ballot, no promise can change any more (rule 4).
            if self.bid_entry(slot, promise.ballot).is_some() {
                continue;
            }
            let cast = self.slots[at].bids.iter().filter(|bid| bid.ballot < promise.ballot && bid.voters.has(voter));
            let Some(highest) = cast.map(|bid| bid.ballot).max() else { continue };
            while held.peek().is_some_and(|held| held.slot < slot) {
                held.next();
            }
            match held.peek() {
                Some(held) if held.slot == slot && held.accepted.is_none_or(|told| told >= highest) => {}
                Some(_) | None => return broken(slot, "it does not tell its vote in"),
            }
        }
        Ok(())
    }
}

impl Contest {
    /// Lamport's SafeAt: no lower ballot has chosen or can still choose another entry, and phase 1 is done.
    fn safe_at(
        &self,
        slot: Slot,
        ballot: Ballot,
        digest: u64,
        entry: &Entry,
        promises: &Promises<'_>,
    ) -> Result<(), Violation> {
        let promised = promises.voters(|promised| promised >= Some(ballot));
        if !is_phase1_quorum(promises.membership, promised) {
            let why = format!("{ballot:?} bids {entry:?} in slot {slot}, promised by {} voters", promised.count());
            return Err(Violation::new("phase-2-after-phase-1", why));
        }
        for lower in self.bids.iter().filter(|bid| bid.ballot < ballot && bid.entry != digest) {
            let free = promises.voters(|promised| promised <= Some(lower.ballot));
            if is_phase2_quorum(promises.membership, lower.voters.with(free)) {
                let why = format!(
                    "{ballot:?} bids {entry:?} in slot {slot}, where {:?} is or can be chosen under {:?}",
                    lower.value, lower.ballot
                );
                return Err(Violation::new("bid-is-safe", why));
            }
        }
        Ok(())
    }
}
