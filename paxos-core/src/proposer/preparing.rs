//! Phase 1: one promise for the whole log from a quorum, and the value rule over what it tells ("Paxos Made
//! Simple", §2.2 and §3; rules 1 and 2).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ballot::Ballot;
use crate::config::Config;
use crate::entry::Entry;
use crate::limits::ENTRY_HEAD_BYTES;
use crate::membership::Membership;
use crate::message::{Held, Promise};
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Boot, NodeId};
use crate::quorum::VoterSet;
use crate::slot::Slot;
use crate::time::Instant;

/// How far one voter's promise has come.
#[derive(Clone, Hash, Debug)]
struct Chunks {
    node: NodeId,
    voter: VoterSet,
    boot: Boot,
    /// Chunks join up to here.
    next: Slot,
}

/// The best report of a slot so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Found {
    /// The ballot it was accepted under; `None` says that it is chosen.
    pub(crate) accepted: Option<Ballot>,
    pub(crate) entry: Entry,
}

/// See `Bounds::of`.
const WINDOWS_FOUND_MAX: usize = 8;

fn cost(entry: &Entry) -> usize {
    entry.payload_bytes().saturating_add(ENTRY_HEAD_BYTES)
}

#[derive(Clone, Hash, Debug)]
pub(crate) struct Preparing {
    ballot: Ballot,
    from: Slot,
    /// Since when the own promise is durable and `Prepare` may leave: a slow disk of its own costs it no time.
    asking_since: Option<Instant>,
    patience_us: u64,
    resend: Instant,
    resend_us: u64,
    chunks: Vec<Chunks>,
    promised: VoterSet,
    found: BTreeMap<Slot, Found>,
    /// Payload and head bytes of what was found.
    found_bytes: usize,
    /// Every slot below is chosen, as some promise says, and is fetched rather than proposed.
    floor: Slot,
    bounds: Bounds,
}

/// What promises may show at the most, all of them together.
#[derive(Clone, Copy, Hash, Debug)]
pub(crate) struct Bounds {
    /// Slots from the floor on.
    slots: u64,
    /// Payload and head bytes.
    bytes: usize,
}

impl Bounds {
    /// An acceptor holds at most eight windows from what it durably knows chosen (`Log::recovered_slots`), no window
    /// has more than α slots, and the floor is at least as high as what any of them knows.
    pub(crate) fn of(config: &Config, alpha: u64) -> Bounds {
        let bytes = config.window_bytes.saturating_add(config.entry_bytes_max).saturating_mul(WINDOWS_FOUND_MAX);
        Bounds { slots: alpha.saturating_mul(WINDOWS_FOUND_MAX as u64), bytes }
    }
}

/// What phase 1 found out.
#[derive(Clone, Debug)]
pub(crate) struct Won {
    pub(crate) ballot: Ballot,
    pub(crate) floor: Slot,
    pub(crate) found: BTreeMap<Slot, Found>,
}

/// What became of a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// It joined what was there.
    Joined,
    /// It was for another ballot, boot or range.
    Stale,
    /// It contradicts itself or says more than any window holds.
    Malformed,
}

impl Preparing {
    pub(crate) fn new(ballot: Ballot, from: Slot, resend_us: u64, bounds: Bounds, now: Instant) -> Preparing {
        Preparing {
            ballot,
            from,
            asking_since: None,
            patience_us: 0,
            resend: now,
            resend_us,
            chunks: Vec::new(),
            promised: VoterSet::EMPTY,
            found: BTreeMap::new(),
            found_bytes: 0,
            floor: from,
            bounds,
        }
    }

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(crate) fn asking(&self) -> bool {
        self.asking_since.is_some()
    }

    /// What of it has consequences while the clock stands still: not how long it waits.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(&self, state: &mut H) {
        use core::hash::Hash;
        (self.ballot, self.from, self.asking(), &self.chunks, self.promised, &self.found, self.floor).hash(state);
    }

    /// The own promise is durable.
    pub(crate) fn may_ask(&mut self, patience_us: u64, now: Instant) {
        self.asking_since = Some(now);
        self.patience_us = patience_us;
    }

    /// When it has waited long enough for promises. Before its own promise is durable it keeps nobody waiting.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.asking_since.map(|since| since.plus_us(self.patience_us))
    }

    /// When to ask again those who have not answered in full.
    pub(crate) fn resend_at(&self) -> Option<Instant> {
        self.asking().then_some(self.resend)
    }

    pub(crate) fn asked(&mut self, now: Instant) {
        self.resend = now.plus_us(self.resend_us);
        self.resend_us = self.resend_us.saturating_mul(2);
    }

    /// Where a voter's promise goes on; `None` if it is complete.
    pub(crate) fn wants(&self, node: NodeId, voter: VoterSet) -> Option<Slot> {
        if self.promised.has(voter) {
            return None;
        }
        Some(self.chunks.iter().find(|chunk| chunk.node == node).map_or(self.from, |chunk| chunk.next))
    }

    /// Takes a chunk. It counts only if it joins: same ballot, same boot of the sender, no slot left out.
    pub(crate) fn on_promise(&mut self, node: NodeId, voter: VoterSet, boot: Boot, promise: &Promise) -> Heard {
        if promise.ballot != self.ballot || self.promised.has(voter) {
            return Heard::Stale;
        }
        let rising = promise.held.iter().is_sorted_by(|one, two| one.slot < two.slot);
        let inside =
            promise.held.iter().all(|held| promise.covers.first <= held.slot && held.slot < promise.covers.end);
        let below = promise.held.iter().all(|held| held.accepted.is_none_or(|accepted| accepted < self.ballot));
        if !rising || !inside || !below || !self.is_bounded(promise) {
            return Heard::Malformed;
        }
        let at = match self.chunks.iter().position(|chunk| chunk.node == node) {
            Some(at) => at,
            None => {
                self.chunks.push(Chunks { node, voter, boot, next: self.from });
                self.chunks.len().saturating_sub(1)
            }
        };
        let Some(chunk) = self.chunks.get_mut(at) else { return Heard::Stale };
        if chunk.boot != boot && !mutant(Mutant::StaleBootChunkCounted) {
            // A chunk of a newer boot resets what the older one said; one of an older boot is stale (rule 18).
            if boot.counter <= chunk.boot.counter {
                return Heard::Stale;
            }
            *chunk = Chunks { node, voter, boot, next: self.from };
        }
        let joins = promise.covers.first <= chunk.next || mutant(Mutant::PromiseGapIgnored);
        if !joins || promise.covers.end < chunk.next {
            return Heard::Stale;
        }
        chunk.next = promise.covers.end;
        if promise.last {
            self.promised = self.promised.with(chunk.voter);
        }
        self.floor = self.floor.max(promise.first_unchosen);
        self.note(promise.held.iter().cloned());
        Heard::Joined
    }

    /// Whether there is room for what a chunk shows: a peer that says more than any acceptor can hold is refused
    /// before it is remembered.
    fn is_bounded(&self, promise: &Promise) -> bool {
        let floor = self.floor.max(promise.first_unchosen);
        let above = || promise.held.iter().filter(|held| held.slot >= floor);
        let near = above().all(|held| held.slot.since(floor) < self.bounds.slots);
        let more = |held: &Held| {
            let known = self.found.get(&held.slot).map_or(0, |found| cost(&found.entry));
            cost(&held.entry).saturating_sub(known)
        };
        near && above().fold(self.found_bytes, |bytes, held| bytes.saturating_add(more(held))) <= self.bounds.bytes
    }

    /// The own acceptor's promise, whole.
    pub(crate) fn on_own_promise(&mut self, voter: VoterSet, held: Vec<Held>, first_unchosen: Slot) {
        self.floor = self.floor.max(first_unchosen);
        self.promised = self.promised.with(voter);
        self.note(held.into_iter());
    }

    fn note(&mut self, held: impl Iterator<Item = Held>) {
        for Held { slot, accepted, entry } in held {
            let found = Found { accepted, entry };
            match self.found.get_mut(&slot) {
                Some(best) => best.keep_better(found),
                None => {
                    self.found.insert(slot, found);
                }
            }
        }
        // What lies below the floor is fetched: which of the reports is the chosen one cannot be told from them.
        self.found = self.found.split_off(&self.floor);
        self.found_bytes = self.found.values().fold(0, |bytes, found| bytes.saturating_add(cost(&found.entry)));
    }

    /// Whether a phase-1 quorum has promised in full.
    pub(crate) fn has_quorum(&self, membership: &Membership) -> bool {
        self.asking() && membership.is_phase1_quorum(self.promised)
    }

    /// Moves on with what was found.
    pub(crate) fn into_won(self) -> Won {
        Won { ballot: self.ballot, floor: self.floor, found: self.found }
    }
}

impl Found {
    /// The value rule: a chosen entry if any promise has one, else the entry of the highest *accepted* ballot
    /// ("Paxos Made Simple", P2c), never of the highest promise.
    fn keep_better(&mut self, other: Found) {
        let better = match (self.accepted, other.accepted) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(mine), Some(theirs)) => theirs > mine && !mutant(Mutant::FirstValueWins),
        };
        if better {
            *self = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use bytes::Bytes;

    use super::*;
    use crate::entry::CommandId;
    use crate::node_id::Incarnation;
    use crate::slot::SlotRange;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1), generation: 0 }
    }

    fn held(offset: u64, bytes: usize) -> Held {
        let id = CommandId { node: NodeId(2), incarnation: Incarnation(2), boot: 1, sequence: offset };
        let entry = Entry::Command { id, bytes: Bytes::from(vec![0; bytes]) };
        Held { slot: Slot::FIRST.plus(offset), accepted: Some(ballot(1)), entry }
    }

    fn promise(held: Vec<Held>, first_unchosen: u64) -> Promise {
        let end = held.last().map_or(Slot::FIRST, |held| held.slot.next());
        Promise {
            ballot: ballot(2),
            asker_boot: Boot { counter: 1, nonce: 1 },
            covers: SlotRange { first: Slot::FIRST, end },
            held,
            last: true,
            first_unchosen: Slot::FIRST.plus(first_unchosen),
        }
    }

    #[test]
    fn a_promise_that_shows_more_than_any_acceptor_holds_is_refused_and_not_remembered() {
        let config = Config { window_bytes: 1_000, entry_bytes_max: 500, window_slots: 4, ..Config::default() };
        let bounds = Bounds::of(&config, 4);
        assert_eq!((bounds.slots, bounds.bytes), (32, 12_000));
        let large = |count| (0..count).map(|offset| held(offset, 1_000 - ENTRY_HEAD_BYTES)).collect::<Vec<Held>>();
        let cases = [
            ("the last slot of eight windows", vec![held(31, 1)], 0, Heard::Joined, 1),
            ("one beyond", vec![held(0, 1), held(32, 1)], 0, Heard::Malformed, 0),
            ("far beyond", vec![held(u64::MAX >> 1, 1)], 0, Heard::Malformed, 0),
            ("the floor counts", vec![held(0, 1), held(32, 1)], 1, Heard::Joined, 1),
            ("as many bytes as there may be", large(12), 0, Heard::Joined, 12),
            ("too many bytes", large(13), 0, Heard::Malformed, 0),
        ];
        for (case, held, first_unchosen, heard, found) in cases {
            let mut preparing = Preparing::new(ballot(2), Slot::FIRST, 1, bounds, Instant::from_us(0));
            let boot = Boot { counter: 1, nonce: 2 };
            assert_eq!(
                preparing.on_promise(NodeId(2), VoterSet::single(1), boot, &promise(held, first_unchosen)),
                heard,
                "{case}"
            );
            assert_eq!(preparing.found.len(), found, "{case}");
        }
    }
}
