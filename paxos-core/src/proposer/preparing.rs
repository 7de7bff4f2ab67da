//! Phase 1: one promise for the whole log from a quorum, and the value rule over what it tells ("Paxos Made
//! Simple", §2.2 and §3; rules 1 and 2).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ballot::Ballot;
use crate::entry::Entry;
use crate::membership::Membership;
use crate::message::{Held, Promise};
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

#[derive(Clone, Hash, Debug)]
pub(crate) struct Preparing {
    ballot: Ballot,
    from: Slot,
    begun: Instant,
    /// The own promise is durable: `Prepare` may leave.
    asking: bool,
    resend: Instant,
    resend_us: u64,
    chunks: Vec<Chunks>,
    promised: VoterSet,
    found: BTreeMap<Slot, Found>,
    /// Every slot below is chosen, as some promise says, and is fetched rather than proposed.
    floor: Slot,
    found_max: usize,
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
    pub(crate) fn new(ballot: Ballot, from: Slot, resend_us: u64, window_slots: u32, now: Instant) -> Preparing {
        Preparing {
            ballot,
            from,
            begun: now,
            asking: false,
            resend: now,
            resend_us,
            chunks: Vec::new(),
            promised: VoterSet::EMPTY,
            found: BTreeMap::new(),
            floor: from,
            // Acceptors hold at most two windows above what they know chosen, and differ by as much again.
            found_max: (window_slots as usize).saturating_mul(4),
        }
    }

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    pub(crate) fn asking(&self) -> bool {
        self.asking
    }

    /// The own promise is durable.
    pub(crate) fn may_ask(&mut self) {
        self.asking = true;
    }

    /// When to ask again those who have not answered in full.
    pub(crate) fn resend_at(&self) -> Option<Instant> {
        self.asking.then_some(self.resend)
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
    pub(crate) fn on_promise(&mut self, node: NodeId, voter: VoterSet, boot: Boot, promise: Promise) -> Heard {
        if promise.ballot != self.ballot || self.promised.has(voter) {
            return Heard::Stale;
        }
        let rising = promise.held.iter().is_sorted_by(|one, two| one.slot < two.slot);
        let inside =
            promise.held.iter().all(|held| promise.covers.first <= held.slot && held.slot < promise.covers.end);
        let below = promise.held.iter().all(|held| held.accepted.is_none_or(|accepted| accepted < self.ballot));
        if !rising || !inside || !below {
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
        if chunk.boot != boot {
            // A chunk of a newer boot resets what the older one said; one of an older boot is stale (rule 18).
            if boot.counter <= chunk.boot.counter {
                return Heard::Stale;
            }
            *chunk = Chunks { node, voter, boot, next: self.from };
        }
        if promise.covers.first > chunk.next || promise.covers.end < chunk.next {
            return Heard::Stale;
        }
        chunk.next = promise.covers.end;
        if promise.last {
            self.promised = self.promised.with(chunk.voter);
        }
        self.floor = self.floor.max(promise.first_unchosen);
        self.note(promise.held)
    }

    /// The own acceptor's promise, whole.
    pub(crate) fn on_own_promise(&mut self, voter: VoterSet, held: Vec<Held>, first_unchosen: Slot) {
        self.floor = self.floor.max(first_unchosen);
        self.promised = self.promised.with(voter);
        self.note(held);
    }

    fn note(&mut self, held: Vec<Held>) -> Heard {
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
        if self.found.len() > self.found_max {
            return Heard::Malformed;
        }
        Heard::Joined
    }

    /// Whether a phase-1 quorum has promised in full.
    pub(crate) fn has_quorum(&self, membership: &Membership) -> bool {
        self.asking && membership.is_phase1_quorum(self.promised)
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
            (Some(mine), Some(theirs)) => theirs > mine,
        };
        if better {
            *self = other;
        }
    }
}
