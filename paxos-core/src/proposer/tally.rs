//! The votes for what a leader bound, per slot and voter (rule 5).

use crate::membership::Membership;
use crate::mutants::{Mutant, mutant};
use crate::quorum::VoterSet;
use crate::slot::{Slot, SlotRange};
use crate::trail::Trail;

/// Votes under one ballot, from `base` on.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Tally {
    base: Slot,
    votes: Trail<VoterSet>,
}

impl Tally {
    /// No votes; slots below `base` need none.
    pub(crate) fn new(base: Slot) -> Tally {
        Tally { base, votes: Trail::new() }
    }

    /// Counts a voter once for each of these slots, and tells every run of slots that just reached a quorum.
    #[inline]
    pub(crate) fn count(
        &mut self,
        voter: VoterSet,
        slots: SlotRange,
        membership: &Membership,
        mut reached: impl FnMut(SlotRange),
    ) {
        if slots.end <= self.base.max(slots.first) {
            return;
        }
        let place = |slot: Slot| usize::try_from(slot.since(self.base)).unwrap_or(usize::MAX);
        let (mut at, end) = (place(slots.first), place(slots.end));
        while self.votes.len() < end {
            self.votes.push(VoterSet::EMPTY);
        }
        // Slots of a run mostly have the same votes: all that do are judged at once.
        while let Some(&before) = self.votes.at(at)
            && at < end
        {
            let after = if mutant(Mutant::VoteCountedTwice) { before.twice(voter) } else { before.with(voter) };
            let first = at;
            while let Some(votes) = self.votes.at_mut(at)
                && *votes == before
                && at < end
            {
                *votes = after;
                at = at.saturating_add(1);
            }
            // Reached exactly once: before this vote there was no quorum.
            if membership.is_phase2_quorum(after) && !membership.is_phase2_quorum(before) {
                reached(SlotRange::of(self.base.plus(first as u64), at.saturating_sub(first)));
            }
        }
    }

    /// Forgets the votes of slots below: they are chosen, and more votes are of no use.
    #[inline]
    pub(crate) fn forget_below(&mut self, keep_from: Slot) {
        let passed = usize::try_from(keep_from.since(self.base)).unwrap_or(usize::MAX);
        if passed > 0 {
            self.votes.forget(passed.min(self.votes.len()));
            self.base = keep_from;
        }
    }

    /// Whether a voter's vote for this slot was counted and is not forgotten.
    pub(crate) fn has(&self, voter: VoterSet, slot: Slot) -> bool {
        let at = slot.get().checked_sub(self.base.get()).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.votes.at(at)).is_some_and(|votes| votes.has(voter))
    }
}
