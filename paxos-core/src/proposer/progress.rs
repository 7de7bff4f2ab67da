//! How far one peer is, as its leader sees it: what it holds, what is under way to it, when to send again.

use crate::ballot::Ballot;
use crate::config::Config;
use crate::event::FetchId;
use crate::limits::ENTRY_HEAD_BYTES;
use crate::log::{Log, State};
use crate::mutants::{Mutant, mutant};
use crate::node_id::NodeId;
use crate::quorum::VoterSet;
use crate::slot::{Slot, SlotRange};
use crate::time::Instant;

#[derive(Clone, Hash, Debug)]
pub(crate) struct Progress {
    pub(crate) node: NodeId,
    /// Whether its heartbeats still come; nothing is sent to a peer that is silent.
    heard: bool,
    /// `None` for a learner: it gets everything and counts for nothing.
    pub(crate) voter: Option<VoterSet>,
    /// Its durable first_unchosen, as last reported; `None` until it is heard.
    reported: Option<Slot>,
    room: u64,
    /// It holds every slot below: it voted for it under this ballot, or knows it chosen.
    matched: Slot,
    /// Slots from `matched` to here are under way.
    sent: Slot,
    resend: Option<Instant>,
    pause_us: u64,
    /// A resend is unanswered: one run at a time until it answers.
    probing: bool,
    /// Chosen entries for it are being read from the log.
    fetching: Option<FetchId>,
    /// The log could not be read for it: nothing more is asked of the log before the resend is due.
    unreadable: bool,
}

/// What to send to a peer next.
pub(crate) enum Next {
    /// Nothing now.
    Nothing,
    /// These slots, bound under the leader's ballot.
    Accept(SlotRange),
    /// These slots, chosen.
    Success(SlotRange),
    /// These slots, once they are read from the log.
    Fetch(SlotRange),
}

/// Runs of chosen entries that may be under way to a peer at once: enough to hide a round trip and a sync.
const REPAIR_RUNS_MAX: u64 = 4;

impl Progress {
    pub(crate) fn new(node: NodeId, voter: Option<VoterSet>, config: &Config) -> Progress {
        Progress {
            node,
            heard: false,
            voter,
            reported: None,
            room: 0,
            matched: Slot::FIRST,
            sent: Slot::FIRST,
            resend: None,
            pause_us: config.resend_us,
            probing: false,
            fetching: None,
            unreadable: false,
        }
    }

    /// What of it has consequences while the clock stands still. How far a peer is shows in what was sent to it: beyond that
    /// it only ends retries and bounds what may be sent, which a log with so few slots never reaches.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(&self, config: &Config, state: &mut H) {
        use core::hash::Hash;
        let end = config.last_slot.map(Slot::next);
        let short = end.is_some_and(|end| end.since(Slot::FIRST) < config.run_entries_max as u64);
        if !short || self.matched > self.sent || self.probing || self.unreadable {
            return self.hash(state);
        }
        let limit = self.reported.map(|reported| reported.plus(self.room)).min(end);
        (self.node, self.heard, self.voter, self.reported.is_some(), limit, self.sent, self.fetching).hash(state);
    }

    pub(crate) fn set_heard(&mut self, heard: bool) {
        self.heard = heard;
    }

    pub(crate) fn matched(&self) -> Slot {
        self.matched
    }

    pub(crate) fn sent(&self) -> Slot {
        self.sent
    }

    pub(crate) fn resend_at(&self) -> Option<Instant> {
        self.resend
    }

    pub(crate) fn fetching(&self) -> Option<FetchId> {
        self.fetching
    }

    pub(crate) fn set_fetching(&mut self, id: Option<FetchId>) {
        self.fetching = id;
    }

    /// Nothing could be read for it: what another try brings is seen after a pause, which grows (rule 11).
    pub(crate) fn on_unreadable(&mut self, now: Instant) {
        self.unreadable = true;
        self.resend.get_or_insert(now.plus_us(self.pause_us));
    }

    /// Takes what the peer says of itself: how far it is and how much it can hold.
    pub(crate) fn on_report(&mut self, first_unchosen: Slot, room: u32, now: Instant, config: &Config) {
        if self.reported.is_none() {
            self.sent = first_unchosen;
        }
        self.reported = self.reported.max(Some(first_unchosen));
        self.room = u64::from(room);
        self.on_match(first_unchosen, now, config);
    }

    /// A newer boot: what was under way is lost, what it holds is what it says (rule 18).
    pub(crate) fn on_reboot(&mut self, config: &Config) {
        *self = Progress::new(self.node, self.voter, config);
    }

    /// Everything below `matched` is there.
    pub(crate) fn on_match(&mut self, matched: Slot, now: Instant, config: &Config) {
        if matched <= self.matched {
            return;
        }
        self.matched = matched;
        self.sent = self.sent.max(matched);
        self.probing = false;
        self.unreadable = false;
        self.pause_us = config.resend_us;
        self.resend = (self.sent > self.matched).then(|| now.plus_us(self.pause_us));
    }

    /// Whether a run that begins where this peer's stream ends may go to it with everybody else's.
    pub(crate) fn streams(&self, slots: SlotRange) -> bool {
        self.heard && self.sent == slots.first && !self.probing && self.reaches(slots.end)
    }

    fn reaches(&self, end: Slot) -> bool {
        self.reported.is_some_and(|reported| end <= reported.plus(self.room))
    }

    /// These slots left for the peer.
    pub(crate) fn on_sent(&mut self, end: Slot, now: Instant) {
        self.sent = self.sent.max(end);
        if self.resend.is_none() && self.sent > self.matched {
            self.resend = Some(now.plus_us(self.pause_us));
        }
    }

    /// No answer in time: goes back to the first slot it may lack, one run at a time (rule 11). How many slots.
    pub(crate) fn on_timeout(&mut self, now: Instant, config: &Config) -> u64 {
        let lost = self.sent.since(self.matched);
        if mutant(Mutant::NothingSentAgain) {
            self.resend = None;
            return 0;
        }
        self.sent = self.matched;
        self.probing = true;
        self.unreadable = false;
        self.fetching = None;
        self.pause_us = self.pause_us.saturating_mul(2).min(config.resend_us_max);
        self.resend = (lost > 0).then(|| now.plus_us(self.pause_us));
        lost
    }

    /// Whether there is anything at all to send, now or later.
    #[inline]
    pub(crate) fn lags(&self, end: Slot) -> bool {
        self.heard && self.sent < end
    }

    /// The next run for this peer, up to `end`, the slot after the last one bound and written.
    pub(crate) fn next_run(&self, ballot: Ballot, end: Slot, log: &Log, config: &Config) -> Next {
        let in_flight = self.sent.since(self.matched);
        let Some(reported) = self.reported else { return Next::Nothing };
        if !self.lags(end.max(log.first_unchosen()))
            || self.fetching.is_some()
            || self.unreadable
            || (self.probing && in_flight > 0)
        {
            return Next::Nothing;
        }
        let limit = reported.plus(self.room);
        let run_max = config.run_entries_max as u64;
        if self.sent >= limit {
            return Next::Nothing;
        }
        let repairs_full = in_flight >= run_max.saturating_mul(REPAIR_RUNS_MAX);
        if self.sent < log.base() {
            let end = log.base().min(self.sent.plus(run_max)).min(limit);
            return if repairs_full { Next::Nothing } else { Next::Fetch(SlotRange { first: self.sent, end }) };
        }
        let state = log.state(self.sent);
        let run = same_state(self.sent, state, limit.min(self.sent.plus(run_max)), log, config.run_bytes_max);
        match state {
            State::Chosen if repairs_full => Next::Nothing,
            State::Chosen => Next::Success(run),
            State::Accepted(accepted) if accepted == ballot => {
                Next::Accept(SlotRange { first: run.first, end: run.end.min(end) })
            }
            State::Accepted(_) | State::Empty => Next::Nothing,
        }
    }
}

/// The longest run from `first` on in this state, within `end` and `bytes_max`; at least one slot.
pub(crate) fn same_state(first: Slot, state: State, end: Slot, log: &Log, bytes_max: usize) -> SlotRange {
    let mut run = SlotRange { first, end: first };
    let mut bytes = 0usize;
    for span in log.spans(SlotRange { first, end }) {
        if span.state() != state || span.first != run.end {
            return run;
        }
        for entry in span.entries.iter() {
            bytes = bytes.saturating_add(entry.payload_bytes()).saturating_add(ENTRY_HEAD_BYTES);
            if bytes > bytes_max && run.end > first {
                return run;
            }
            run.end = run.end.next();
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_cannot_be_read_is_asked_for_again_after_a_growing_pause() {
        let config = Config::default();
        let ballot = Ballot { round: 1, node: NodeId(1), generation: 0 };
        // All that the peer lacks is on disk only.
        let log = Log::new(&config, Slot::FIRST.plus(100));
        let mut now = Instant::from_us(0);
        let mut peer = Progress::new(NodeId(2), None, &config);
        peer.set_heard(true);
        peer.on_report(Slot::FIRST, 8_192, now, &config);
        let asks = |peer: &Progress| matches!(peer.next_run(ballot, log.end(), &log, &config), Next::Fetch(_));
        let mut pauses = std::vec::Vec::new();
        while now < Instant::from_us(5_000_000) {
            assert!(asks(&peer));
            peer.on_unreadable(now);
            assert!(!asks(&peer), "not before the pause is over");
            let due = peer.resend_at().expect("a pause ends");
            pauses.push(due.since_us(now));
            now = due;
            peer.on_timeout(now, &config);
        }
        assert!(pauses.is_sorted() && pauses.first() == Some(&config.resend_us), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&config.resend_us_max), "{pauses:?}");
        peer.on_unreadable(now);
        peer.on_report(Slot::FIRST.plus(1), 8_192, now, &config);
        assert!(asks(&peer), "somebody else taught it: the next run may well be readable");
    }
}
