//! The ghost of phase 1: who leads must have been sent a whole promise, of one boot each, by a phase-1 quorum
//! (rules 1 and 18: a promise counts when the ranges of its chunks join from the asked slot to the end).

use std::collections::BTreeMap;

use paxos_core::{Ballot, Boot, Membership, NodeId, Promise, Slot, SlotRange, VoterSet};
use transport_sim::Violation;

use super::quorums::is_phase1_quorum;

/// Every ballot that somebody prepares and does not lead with yet.
#[derive(Debug, Default)]
pub(super) struct Phase1 {
    ballots: BTreeMap<Ballot, Asked>,
}

#[derive(Debug)]
struct Asked {
    /// The lowest slot asked from.
    from: Slot,
    /// By sender and its boot: what its chunks cover, and whether the chunk ends its promise.
    chunks: BTreeMap<(NodeId, Boot), Vec<(SlotRange, bool)>>,
}

impl Phase1 {
    pub(super) fn prepare(&mut self, ballot: Ballot, from: Slot) {
        let asked = self.ballots.entry(ballot).or_insert(Asked { from, chunks: BTreeMap::new() });
        asked.from = asked.from.min(from);
    }

    pub(super) fn promise(&mut self, node: NodeId, boot: Boot, promise: &Promise) {
        if let Some(asked) = self.ballots.get_mut(&promise.ballot) {
            let chunk = (promise.covers, promise.last);
            let chunks = asked.chunks.entry((node, boot)).or_default();
            if !chunks.contains(&chunk) {
                chunks.push(chunk);
            }
        }
    }

    /// Somebody begins to lead. Its own promise is not sent, and is judged where it is written.
    pub(super) fn leads(&mut self, node: NodeId, ballot: Ballot, membership: &Membership) -> Result<(), Violation> {
        let asked = self.ballots.remove(&ballot);
        let mut promised = membership.voter(node).unwrap_or_default();
        for ((sender, _), chunks) in asked.iter().flat_map(|asked| &asked.chunks) {
            let whole = asked.as_ref().is_some_and(|asked| is_whole(asked.from, chunks));
            if whole && let Some(voter) = membership.voter(*sender) {
                promised = promised.with(voter);
            }
        }
        // Nobody campaigns with a ballot below another one of its own.
        self.ballots.retain(|other, _| other.node != node || *other > ballot);
        self.judged(node, ballot, promised, membership)
    }

    fn judged(
        &self,
        node: NodeId,
        ballot: Ballot,
        promised: VoterSet,
        membership: &Membership,
    ) -> Result<(), Violation> {
        if is_phase1_quorum(membership, promised) {
            return Ok(());
        }
        let why = format!("{node:?} leads with {ballot:?}, promised in full by {} voters", promised.count());
        Err(Violation::new("leads-by-whole-promises", why))
    }
}

/// Whether chunks of one boot join from the asked slot to the end.
fn is_whole(from: Slot, chunks: &[(SlotRange, bool)]) -> bool {
    let mut next = from;
    loop {
        let joining = chunks.iter().filter(|(covers, _)| covers.first <= next && covers.end >= next);
        if joining.clone().any(|(_, last)| *last) {
            return true;
        }
        match joining.map(|(covers, _)| covers.end).max() {
            Some(end) if end > next => next = end,
            Some(_) | None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_join_from_the_asked_slot_to_the_end_or_are_no_promise() {
        let slot = |number: u64| Slot::FIRST.plus(number - 1);
        let chunk = |first, end, last| (SlotRange { first: slot(first), end: slot(end) }, last);
        let cases = [
            (vec![chunk(1, 1, true)], true),
            (vec![chunk(1, 4, false), chunk(4, 9, true)], true),
            (vec![chunk(4, 9, true), chunk(1, 4, false)], true),
            (vec![chunk(1, 4, false), chunk(2, 6, false), chunk(6, 6, true)], true),
            (vec![chunk(1, 4, false)], false),
            (vec![chunk(4, 9, true)], false),
            (vec![chunk(1, 4, false), chunk(5, 9, true)], false),
            (vec![], false),
        ];
        for (chunks, whole) in cases {
            assert_eq!(is_whole(slot(1), &chunks), whole, "{chunks:?}");
        }
    }
}
