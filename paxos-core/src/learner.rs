//! The learner: which slots are known chosen, learning by the leader's prefix (rule 7), by Success, and apply in
//! slot order.

use crate::action::{Action, FenceReason};
use crate::ballot::Ballot;
use crate::entry::Entries;
use crate::event::{FetchId, Tag};
use crate::gate::Testimony;
use crate::log::{Conflict, Log};
use crate::node_id::NodeId;
use crate::outbox::Outbox;
use crate::persist::Record;
use crate::proposals::Proposals;
use crate::slot::{Slot, SlotRange};
use crate::stats::Stats;

/// Slots that were chosen before this process started and are applied again: one request to the log at a time.
#[derive(Clone, Hash, Debug)]
struct Replay {
    id: FetchId,
    first: Slot,
}

#[derive(Clone, Hash, Debug)]
pub(crate) struct Learner {
    next_to_apply: Slot,
    /// The highest prefix heard, and the ballot it belongs to.
    prefix: Option<(Ballot, Slot)>,
    /// `Record::Chosen` was asked for up to here.
    marked_below: Slot,
    /// A receipt covers it: every slot below is durably known chosen.
    durable_first_unchosen: Slot,
    replay: Option<Replay>,
}

impl Learner {
    pub(crate) fn new(first_unchosen: Slot) -> Learner {
        Learner {
            next_to_apply: Slot::FIRST,
            prefix: None,
            marked_below: first_unchosen,
            durable_first_unchosen: first_unchosen,
            replay: None,
        }
    }

    pub(crate) fn next_to_apply(&self) -> Slot {
        self.next_to_apply
    }

    pub(crate) fn durable_first_unchosen(&self) -> Slot {
        self.durable_first_unchosen
    }

    /// A receipt covers the mark up to here.
    pub(crate) fn on_durable(&mut self, below: Slot) {
        self.durable_first_unchosen = self.durable_first_unchosen.max(below);
    }

    /// Learning by the prefix: what this replica accepted under the leader's own ballot below its prefix is
    /// chosen. What it holds there of another ballot may be stale, and stays unmarked until Success brings the
    /// chosen entry; the lecture's plain firstUnchosenIndex would mark it.
    pub(crate) fn on_prefix(&mut self, ballot: Ballot, prefix: Slot, log: &mut Log, stats: &mut Stats) {
        let marked = match self.prefix {
            Some((of, marked)) if of == ballot => marked,
            Some(_) | None => Slot::FIRST,
        };
        let slots = SlotRange { first: marked.max(log.first_unchosen()), end: prefix };
        if !slots.is_empty() {
            let withheld = log.choose_accepted(slots, ballot).others;
            stats.marks_withheld = stats.marks_withheld.saturating_add(withheld);
        }
        self.prefix = Some((ballot, prefix.max(marked)));
    }

    /// The slots of an Accept that came late, below the prefix heard already, are chosen as they are accepted.
    pub(crate) fn on_accepted_below_prefix(&self, ballot: Ballot, slots: SlotRange, log: &mut Log, stats: &mut Stats) {
        if let Some((of, prefix)) = self.prefix
            && of == ballot
            && slots.first < prefix
        {
            let below = SlotRange { first: slots.first, end: slots.end.min(prefix) };
            let withheld = log.choose_accepted(below, ballot).others;
            stats.marks_withheld = stats.marks_withheld.saturating_add(withheld);
        }
    }

    /// Takes chosen entries. The record of what the disk did not hold, the mark, and then the answer.
    pub(crate) fn on_success(
        &mut self,
        from: Option<NodeId>,
        first: Slot,
        entries: &Entries,
        log: &mut Log,
        out: &mut Outbox,
    ) -> Result<(), FenceReason> {
        let new = log.learn(first, entries).map_err(|Conflict(slot)| FenceReason::ChosenTwice(slot))?;
        // What lies between two new slots is written again, the same entries: one record for the run.
        if let Some(run) = new {
            let entries = if run.count() == entries.len() as u64 { entries.clone() } else { log.entries(run) };
            out.persist(Record::Learned { first: run.first, entries });
        }
        log.advance();
        if let Some(from) = from {
            self.persist_mark(log, out);
            out.then(Testimony::SuccessReply { to: from });
        }
        Ok(())
    }

    /// Writes down how far everything is known chosen. Lazy: many slots share a mark, and a heartbeat interval
    /// bounds the delay (rule 9).
    pub(crate) fn persist_mark(&mut self, log: &Log, out: &mut Outbox) {
        let below = log.first_unchosen();
        if below > self.marked_below {
            self.marked_below = below;
            out.persist_then(Record::Chosen { below }, Testimony::FirstUnchosen(below));
        }
    }

    /// Slots known chosen since the last mark was asked for.
    pub(crate) fn unmarked(&self, log: &Log) -> u64 {
        log.first_unchosen().since(self.marked_below)
    }

    /// Hands every slot that is next in order to the caller. Slots that only the disk holds are asked for first.
    pub(crate) fn apply(
        &mut self,
        log: &Log,
        page: Page,
        proposals: &mut Proposals,
        stats: &mut Stats,
        out: &mut Outbox,
    ) {
        if self.next_to_apply < log.base() {
            self.ask_log(log, page, out);
            return;
        }
        let slots = SlotRange { first: self.next_to_apply, end: log.first_unchosen() };
        for span in log.spans(slots) {
            hand_out(span.first, span.entries, proposals, out);
        }
        self.next_to_apply = slots.end;
        stats.slots_applied = stats.slots_applied.saturating_add(slots.count());
    }

    fn ask_log(&mut self, log: &Log, page: Page, out: &mut Outbox) {
        if self.replay.is_some() {
            return;
        }
        let first = self.next_to_apply;
        let end = log.base().min(first.plus(page.entries));
        let id = out.fetch(SlotRange { first, end }, page.bytes);
        self.replay = Some(Replay { id, first });
    }

    /// Whether a fetched run answers the replay's request.
    pub(crate) fn awaits(&self, id: FetchId) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.id == id)
    }

    /// Applies what was read back from the log. `Err` if the log does not hold what it said is chosen.
    pub(crate) fn on_replayed(
        &mut self,
        first: Slot,
        entries: &Entries,
        log: &Log,
        stats: &mut Stats,
        out: &mut Outbox,
    ) -> Result<(), FenceReason> {
        let Some(replay) = self.replay.take() else { return Ok(()) };
        if entries.is_empty() || first != replay.first {
            return Err(FenceReason::LogUnreadable(replay.first));
        }
        let end = SlotRange::of(first, entries.len()).end.min(log.first_unchosen());
        if first == self.next_to_apply && first < end {
            let count = usize::try_from(end.since(first)).unwrap_or(usize::MAX);
            out.actions.push(Action::Apply { first, entries: entries.slice(0..count), tag: None });
            self.next_to_apply = end;
            stats.slots_applied = stats.slots_applied.saturating_add(end.since(first));
        }
        Ok(())
    }
}

/// Hands out a run, cut where the tags of its proposals do not follow each other.
fn hand_out(first: Slot, entries: Entries, proposals: &mut Proposals, out: &mut Outbox) {
    if proposals.none_open() {
        out.actions.push(Action::Apply { first, entries, tag: None });
        return;
    }
    let (mut from, mut tag) = (0usize, None);
    for (at, entry) in entries.iter().enumerate() {
        let own = entry.command_id().and_then(|id| proposals.close_applied(id));
        if at == 0 {
            tag = own;
            continue;
        }
        let due = tag.map(|Tag(first)| Tag(first.wrapping_add(at.saturating_sub(from) as u64)));
        if own != due {
            let slot = first.plus(from as u64);
            out.actions.push(Action::Apply { first: slot, entries: entries.slice(from..at), tag });
            (from, tag) = (at, own);
        }
    }
    let entries = if from == 0 { entries } else { entries.slice(from..entries.len()) };
    out.actions.push(Action::Apply { first: first.plus(from as u64), entries, tag });
}

/// How much one request to the log may bring.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) entries: u64,
    pub(crate) bytes: usize,
}
