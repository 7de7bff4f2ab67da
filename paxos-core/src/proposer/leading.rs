//! Phase 2 as leader: binds entries to slots, counts votes, repeats what is not acknowledged, repairs followers
//! (rules 4, 5, 8 to 12).
//!
//! What peers are sent, and what they are known to hold, is in `feeding`.

mod feeding;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::action::Recipients;
use crate::ballot::Ballot;
use crate::config::Config;
use crate::entry::{Entries, Entry, Spares};
use crate::event::FetchId;
use crate::limits::{ENTRY_HEAD_BYTES, VOTERS_MAX};
use crate::log::{Log, State};
use crate::membership::Membership;
use crate::message::{Accept, Accepted, Body, Success};
use crate::mutants::{Mutant, mutant};
use crate::node_id::NodeId;
use crate::outbox::Outbox;
use crate::proposer::preparing::Won;
use crate::proposer::progress::{Next, Progress};
use crate::proposer::tally::Tally;
use crate::quorum::VoterSet;
use crate::slot::{Slot, SlotRange};
use crate::stats::Stats;
use crate::time::Instant;

#[derive(Clone, Hash, Debug)]
pub(crate) struct Leading {
    ballot: Ballot,
    since: Instant,
    /// How far it had caught up with the floor, and when it got there.
    taught: (Slot, Instant),
    /// Slots below are chosen and fetched, never bound.
    floor: Slot,
    /// What phase 1 found from the floor on and is not bound yet; a slot missing in it gets a no-op.
    inherited: BTreeMap<Slot, Entry>,
    /// The slot after the last one that any promise showed; new commands come from here on.
    inherited_end: Slot,
    ready: bool,
    /// The next slot to bind.
    next: Slot,
    /// Bound and neither accepted by the own acceptor nor sent: the entries of the last slots before `next`.
    pending: Vec<Entry>,
    pending_bytes: usize,
    tally: Tally,
    peers: Vec<Progress>,
}

/// Whether what a peer says of itself counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// It is of the boot that its heartbeats come from.
    Current,
    /// It is of an earlier boot (rule 18).
    Stale,
}

/// What one run may hold.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl Leading {
    /// Begins to lead with what phase 1 found: entries known chosen are the caller's to learn.
    pub(crate) fn new(won: Won, log: &Log, peers: Vec<Progress>, now: Instant) -> Leading {
        let first = won.floor.max(log.first_unchosen());
        let mut inherited: BTreeMap<Slot, Entry> =
            won.found.into_iter().map(|(slot, found)| (slot, found.entry)).filter(|(slot, _)| *slot >= first).collect();
        // What this replica learned by itself, perhaps of a higher ballot that no promise showed, is never bound.
        for slot in (SlotRange { first, end: log.end() }).iter() {
            if log.state(slot) == State::Chosen
                && let Some(entry) = log.entry(slot)
            {
                inherited.insert(slot, entry.clone());
            }
        }
        let inherited_end = inherited.last_key_value().map_or(first, |(slot, _)| slot.next());
        Leading {
            ballot: won.ballot,
            since: now,
            taught: (log.first_unchosen(), now),
            floor: won.floor,
            inherited,
            inherited_end,
            ready: false,
            next: first,
            pending: Vec::new(),
            pending_bytes: 0,
            tally: Tally::new(first),
            peers,
        }
    }

    // --- questions ---

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// What of it has consequences while the clock stands still: not since when it leads or waits to be taught.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(&self, config: &Config, state: &mut H) {
        use core::hash::Hash;
        (self.ballot, self.floor, &self.inherited, self.inherited_end, self.ready, self.next).hash(state);
        (&self.pending, self.pending_bytes, &self.tally).hash(state);
        self.peers.iter().for_each(|peer| peer.hash_at_rest(config, state));
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Slots below are chosen and must be fetched before this leader can serve.
    pub(crate) fn floor(&self) -> Slot {
        self.floor
    }

    /// Whether slots below the floor have not come for so long that whoever knows them may be gone for good: the
    /// promises of the others, asked for anew, show what they hold.
    pub(crate) fn is_untaught(&mut self, first_unchosen: Slot, now: Instant, patience_us: u64) -> bool {
        if first_unchosen >= self.floor || first_unchosen > self.taught.0 {
            self.taught = (first_unchosen, now);
        }
        now.since_us(self.taught.1) > patience_us
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The slot after the last one that its own acceptor was asked to accept.
    fn written_end(&self) -> Slot {
        self.next.minus(self.pending.len() as u64)
    }

    /// How many more commands the window admits (rule 12).
    pub(crate) fn room(&self, log: &Log, config: &Config) -> usize {
        if !self.ready || log.is_backed_up() {
            return 0;
        }
        let open = self.next.since(log.first_unchosen());
        let bytes = log.undecided_bytes().saturating_add(self.pending_bytes);
        let full = bytes.saturating_add(ENTRY_HEAD_BYTES) > config.window_bytes;
        let slots = u64::from(config.window_slots).saturating_sub(open);
        let left = config.last_slot.map_or(u64::MAX, |last| last.next().since(self.next));
        if full { 0 } else { usize::try_from(slots.min(left)).unwrap_or(usize::MAX) }
    }

    /// Whether an entry of this many bytes fits the window now.
    pub(crate) fn admits(&self, bytes: usize, log: &Log, config: &Config) -> bool {
        let undecided = log.undecided_bytes().saturating_add(self.pending_bytes);
        // One entry always fits an empty window.
        let fits =
            undecided == 0 || undecided.saturating_add(bytes).saturating_add(ENTRY_HEAD_BYTES) <= config.window_bytes;
        self.room(log, config) > 0 && fits
    }

    /// Whether the log has come to its configured end.
    pub(crate) fn log_full(&self, config: &Config) -> bool {
        config.last_slot.is_some_and(|last| self.next > last)
    }

    /// Whether a slot that is chosen was, or can still be, bound by this leader to something else: its ballot is
    /// overtaken (rule 8). Slots below the floor are expected to be fetched, inherited ones to be confirmed.
    pub(crate) fn is_overtaken_by(&self, slot: Slot, entry: &Entry, log: &Log) -> bool {
        if slot < self.floor || slot < log.first_unchosen() {
            return false;
        }
        if slot >= self.next {
            return self.inherited.get(&slot) != Some(entry);
        }
        let pending = slot.get().checked_sub(self.written_end().get()).and_then(|at| usize::try_from(at).ok());
        let bound = match pending {
            Some(at) => self.pending.get(at),
            None => log.entry(slot),
        };
        bound != Some(entry)
    }

    /// When the first unanswered peer is to be asked again.
    pub(crate) fn resend_at(&self) -> Option<Instant> {
        self.peers.iter().filter_map(Progress::resend_at).min()
    }

    // --- binding ---

    /// Binds the next slot to a command (rule 4: once bound, for ever under this ballot). The caller asked `admits`.
    pub(crate) fn bind(&mut self, entry: Entry) {
        self.pending_bytes = self.pending_bytes.saturating_add(entry.payload_bytes()).saturating_add(ENTRY_HEAD_BYTES);
        if self.pending.capacity() == 0 {
            // Lone entries are common: their runs are no larger than they need to be.
            self.pending.reserve_exact(1);
        }
        self.pending.push(entry);
        self.next = self.next.next();
    }

    /// Binds what phase 1 found, and no-ops between, as the window admits (rules 2 and 10). True if it did.
    pub(crate) fn bind_inherited(&mut self, log: &Log, config: &Config, stats: &mut Stats) -> bool {
        let window_end = log.first_unchosen().plus(u64::from(config.window_slots));
        let before = self.next;
        while self.next < self.inherited_end && self.next < window_end {
            if log.state(self.next) == State::Chosen {
                // Learned meanwhile: never bound again (rule 9). What is pending must stay consecutive.
                if self.has_pending() {
                    break;
                }
                self.inherited.remove(&self.next);
                self.next = self.next.next();
                continue;
            }
            if mutant(Mutant::GapNotFilled) && !self.inherited.contains_key(&self.next) {
                break;
            }
            let entry = self.inherited.remove(&self.next).unwrap_or_else(|| {
                stats.noops_bound = stats.noops_bound.saturating_add(1);
                Entry::Noop
            });
            self.bind(entry);
        }
        self.next > before
    }

    /// Whether everything inherited is bound and applied: from now on commands and reads are served.
    pub(crate) fn become_ready(&mut self, next_to_apply: Slot) -> bool {
        let applied = next_to_apply >= self.inherited_end && next_to_apply >= self.floor;
        let now_ready = !self.ready && applied && !self.has_pending();
        if now_ready {
            self.ready = true;
            // Inherited slots that were learned before their turn came stay unbound, for ever (rule 9).
            self.inherited.clear();
            self.next = self.next.max(next_to_apply);
        }
        now_ready
    }

    /// Takes the next run of bound entries for the own acceptor and the peers.
    pub(crate) fn next_pending(&mut self, limits: Limits, spares: &mut Spares) -> Option<(Slot, Entries)> {
        let first = self.written_end();
        let mut count = 0usize;
        let mut bytes = 0usize;
        for entry in self.pending.iter().take(limits.entries) {
            let cost = entry.payload_bytes().saturating_add(ENTRY_HEAD_BYTES);
            if count > 0 && bytes.saturating_add(cost) > limits.bytes {
                break;
            }
            bytes = bytes.saturating_add(cost);
            count = count.saturating_add(1);
        }
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
        if count == 0 {
            return None;
        }
        if count == self.pending.len() {
            return Some((first, spares.wrap(&mut self.pending)));
        }
        let rest = self.pending.split_off(count);
        Some((first, core::mem::replace(&mut self.pending, rest).into()))
    }

    // --- votes ---

    /// Counts a voter's votes per slot (rule 5) and marks what reached a quorum. How many slots were chosen.
    pub(crate) fn on_votes(
        &mut self,
        voter: VoterSet,
        slots: SlotRange,
        membership: &Membership,
        log: &mut Log,
    ) -> u64 {
        let slots = SlotRange { first: slots.first, end: slots.end.min(self.written_end()) };
        let (ballot, mut chosen) = (self.ballot, 0u64);
        self.tally.count(voter, slots, membership, |reached| {
            chosen = chosen.saturating_add(log.choose_accepted(reached, ballot).chosen);
        });
        chosen
    }

    /// Forgets the votes of slots that are chosen, all up to there: more of them are of no use.
    #[inline]
    pub(crate) fn forget_votes(&mut self, log: &Log) {
        self.tally.forget_below(log.first_unchosen());
    }
}
