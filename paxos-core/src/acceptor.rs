//! The acceptor: promise and accept rules ("Paxos Made Simple", §2.2). Sole writer of the promised ballot and of
//! accepted entries; it never asks who leads.

use alloc::vec::Vec;

use crate::ballot::Ballot;
use crate::entry::Entries;
use crate::gate::Testimony;
use crate::limits::{ENTRY_HEAD_BYTES, FRAME_BYTES_MAX, FRAME_HEAD_BYTES_MAX};
use crate::log::{Log, State};
use crate::message::{Accept, Body, Held, Prepare, Promise, Refused, Success};
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Boot, NodeId};
use crate::outbox::Outbox;
use crate::persist::Record;
use crate::proposer::same_state;
use crate::slot::{Slot, SlotRange};
use crate::stats::Stats;

#[derive(Clone, Hash, Debug)]
pub(crate) struct Acceptor {
    /// One promise for the whole log; never the accepted ballot of a slot (rule 4).
    promised: Option<Ballot>,
}

/// A higher ballot is promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outvoted;

impl Acceptor {
    pub(crate) fn new(promised: Option<Ballot>) -> Acceptor {
        Acceptor { promised }
    }

    pub(crate) fn promised(&self) -> Option<Ballot> {
        self.promised
    }

    /// Whether a ballot may still be promised or accepted.
    pub(crate) fn allows(&self, ballot: Ballot) -> bool {
        self.promised.is_none_or(|promised| ballot >= promised)
    }

    /// Raises the promise, durably, before anything that testifies to it can leave: both by Prepare and by Accept
    /// (rule 3: Lamport's Phase2b sets maxBal). An acceptor that forgot the latter could, after a restart, help a
    /// lower ballot choose a second entry.
    fn raise(&mut self, ballot: Ballot, out: &mut Outbox) {
        if self.promised.is_none_or(|promised| ballot > promised) {
            self.promised = Some(ballot);
            out.persist(Record::Promised(ballot));
        }
    }

    /// Promises the own proposer's ballot: durable before `Prepare` leaves, so that it is never used twice.
    pub(crate) fn promise_own(&mut self, ballot: Ballot, out: &mut Outbox) {
        if mutant(Mutant::BallotNotWritten) {
            self.promised = Some(ballot);
        }
        self.raise(ballot, out);
        out.then(Testimony::OwnPromise { ballot });
    }

    /// Phase 1b.
    pub(crate) fn on_prepare(&mut self, from: NodeId, boot: Boot, prepare: &Prepare, out: &mut Outbox) {
        let ballot = prepare.ballot;
        if let Some(promised) = self.promised
            && ballot < promised
        {
            out.send(from, Body::Refused(Refused { ballot, asker_boot: boot, promised }));
            return;
        }
        self.raise(ballot, out);
        out.then(Testimony::Promise { to: from, asker_boot: boot, ballot, from: prepare.from });
    }

    /// Answers a heartbeat that claims to lead with a ballot that is promised away.
    pub(crate) fn on_claim(&self, from: NodeId, boot: Boot, ballot: Ballot, out: &mut Outbox) {
        if let Some(promised) = self.promised
            && ballot < promised
        {
            out.send(from, Body::Refused(Refused { ballot, asker_boot: boot, promised }));
        }
    }

    /// Phase 2b for a peer's run; `Err` if it is refused, since a higher ballot is promised.
    pub(crate) fn on_accept(
        &mut self,
        from: NodeId,
        boot: Boot,
        accept: &Accept,
        log: &mut Log,
        stats: &mut Stats,
        out: &mut Outbox,
    ) -> Result<(), Outvoted> {
        let (ballot, first) = (accept.ballot, accept.first);
        if let Some(promised) = self.promised
            && ballot < promised
            && !mutant(Mutant::AcceptBelowPromise)
        {
            tell_chosen_otherwise(from, accept, promised, log, out);
            out.send(from, Body::Refused(Refused { ballot, asker_boot: boot, promised }));
            return Err(Outvoted);
        }
        if !mutant(Mutant::AcceptRaisesNothing) {
            self.raise(ballot, out);
        }
        let slots = SlotRange::of(first, accept.entries.len());
        // The log grows at its end: the usual case.
        if first == log.end() && !slots.is_empty() && log.admits(first) && log.admits(slots.end.minus(1)) {
            vote(ballot, first, accept.entries.clone(), log, out, Testimony::Accepted { to: from, ballot, slots });
            return Ok(());
        }
        let end = slots.end;
        let mut at = first;
        while at < end {
            let slots = run_of_same_fate(accept, at, end, log);
            match fate(accept, slots.first, log) {
                Fate::Vote => {
                    let part = part(accept, slots);
                    vote(ballot, slots.first, part, log, out, Testimony::Accepted { to: from, ballot, slots });
                }
                Fate::Repeat => out.then(Testimony::Accepted { to: from, ballot, slots }),
                Fate::ChosenOtherwise => tell_chosen(from, slots, self.promised, log, out),
                Fate::BelowWindow => out.then(Testimony::SuccessReply { to: from }),
                Fate::BeyondRoom => stats.accepts_beyond_room = stats.accepts_beyond_room.saturating_add(1),
            }
            at = slots.end;
        }
        Ok(())
    }

    /// The own proposer's run: its vote is held like any other.
    pub(crate) fn accept_own(
        &mut self,
        ballot: Ballot,
        first: Slot,
        entries: Entries,
        log: &mut Log,
        out: &mut Outbox,
    ) {
        let slots = SlotRange::of(first, entries.len());
        vote(ballot, first, entries, log, out, Testimony::OwnVote { ballot, slots });
    }
}

/// Accepts a run, durably before anybody hears of it.
fn vote(ballot: Ballot, first: Slot, entries: Entries, log: &mut Log, out: &mut Outbox, testimony: Testimony) {
    log.accept_run(first, ballot, entries.clone());
    out.persist_then(Record::Accepted { ballot, first, entries }, testimony);
}

/// What is to be done with one slot of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not chosen, or chosen with the same entry: vote for it.
    Vote,
    /// Accepted under this very ballot: the record exists, say it again.
    Repeat,
    /// Chosen with another entry: it keeps it, casts no vote, and says what is chosen (rule 9).
    ChosenOtherwise,
    /// Chosen and out of memory: whoever asks learns that from the reply.
    BelowWindow,
    /// More than this replica can hold: no vote, its reports say how far it is.
    BeyondRoom,
}

fn fate(accept: &Accept, slot: Slot, log: &Log) -> Fate {
    if slot < log.base() {
        return Fate::BelowWindow;
    }
    if !log.admits(slot) {
        return Fate::BeyondRoom;
    }
    let offset = usize::try_from(slot.since(accept.first)).unwrap_or(usize::MAX);
    match log.state(slot) {
        State::Empty => Fate::Vote,
        State::Accepted(accepted) if accepted == accept.ballot => Fate::Repeat,
        State::Accepted(_) => Fate::Vote,
        State::Chosen if mutant(Mutant::ChosenOverwritten) => Fate::Vote,
        State::Chosen if accept.entries.get(offset) != log.entry(slot) => Fate::ChosenOtherwise,
        State::Chosen if log.voted(slot) == Some(accept.ballot) => Fate::Repeat,
        State::Chosen => Fate::Vote,
    }
}

/// The longest run from `at` on whose slots share one fate: usually the whole message.
fn run_of_same_fate(accept: &Accept, at: Slot, end: Slot, log: &Log) -> SlotRange {
    let first = fate(accept, at, log);
    let mut last = at.next();
    while last < end && fate(accept, last, log) == first {
        last = last.next();
    }
    SlotRange { first: at, end: last }
}

/// The entries of some slots of a run.
fn part(accept: &Accept, slots: SlotRange) -> Entries {
    let place = |slot: Slot| usize::try_from(slot.since(accept.first)).unwrap_or(usize::MAX);
    accept.entries.slice(place(slots.first)..place(slots.end))
}

/// Rule 9: who proposes another entry for a chosen slot is told what is chosen, whatever its ballot.
#[inline(never)]
fn tell_chosen_otherwise(to: NodeId, accept: &Accept, promised: Ballot, log: &Log, out: &mut Outbox) {
    let SlotRange { first: mut at, end } = SlotRange::of(accept.first, accept.entries.len());
    while at < end {
        let slots = run_of_same_fate(accept, at, end, log);
        if fate(accept, at, log) == Fate::ChosenOtherwise {
            return tell_chosen(to, slots, Some(promised), log, out);
        }
        at = slots.end;
    }
}

/// As many as a frame holds: the first is enough to show that the ballot is overtaken.
fn tell_chosen(to: NodeId, slots: SlotRange, promised: Option<Ballot>, log: &Log, out: &mut Outbox) {
    let bytes_max = FRAME_BYTES_MAX.saturating_sub(FRAME_HEAD_BYTES_MAX);
    let run = same_state(slots.first, State::Chosen, slots.end, log, bytes_max);
    out.send(to, Body::Success(Success { ballot: promised, first: run.first, entries: log.entries(run) }));
}

/// The chunks of a promise: what is held from `from` on, below the own ballot or chosen. Called when the promise
/// is durable, so that everything accepted before it is too.
pub(crate) fn promise_chunks(
    ballot: Ballot,
    asker_boot: Boot,
    from: Slot,
    first_unchosen: Slot,
    log: &Log,
    run_entries_max: usize,
    run_bytes_max: usize,
) -> Vec<Promise> {
    // Slots below the durable first_unchosen are chosen: the asker fetches them if it lacks them.
    let mut covers = SlotRange { first: from, end: from };
    let mut chunks = Vec::new();
    let mut held = Vec::new();
    let mut bytes = 0usize;
    let left_out = if mutant(Mutant::PromiseForgetsBelowMark) { log.first_unchosen() } else { first_unchosen };
    for slot in (SlotRange { first: from.max(left_out), end: log.end().max(from) }).iter() {
        let Some(entry) = log.entry(slot) else { continue };
        let accepted = match log.state(slot) {
            State::Empty => continue,
            // Bound by the asker itself after it won without this promise: no news to it.
            State::Accepted(accepted) if accepted >= ballot => continue,
            State::Accepted(_) if mutant(Mutant::OneBallotVariable) => Some(ballot.just_below()),
            State::Accepted(accepted) => Some(accepted),
            State::Chosen => None,
        };
        let cost = entry.payload_bytes().saturating_add(ENTRY_HEAD_BYTES);
        if !held.is_empty() && (held.len() >= run_entries_max || bytes.saturating_add(cost) > run_bytes_max) {
            covers.end = slot;
            let held = core::mem::take(&mut held);
            chunks.push(Promise { ballot, asker_boot, covers, held, last: false, first_unchosen });
            covers = SlotRange { first: slot, end: slot };
            bytes = 0;
        }
        bytes = bytes.saturating_add(cost);
        held.push(Held { slot, accepted, entry: entry.clone() });
    }
    covers.end = log.end().max(covers.first);
    chunks.push(Promise { ballot, asker_boot, covers, held, last: true, first_unchosen });
    chunks
}
