//! The learner: which slots are known chosen, learning by the leader's prefix (rule 7), by Success, and apply in
//! slot order.

use crate::action::{Action, FenceReason};
use crate::ballot::Ballot;
use crate::entry::{CommandId, Entries, Entry};
use crate::event::{FetchId, Tag};
use crate::gate::Testimony;
use crate::log::{Learned, Log};
use crate::node_id::NodeId;
use crate::outbox::Outbox;
use crate::persist::Record;
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
            let withheld = log.choose_accepted(slots, ballot);
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
            let withheld = log.choose_accepted(SlotRange { first: slots.first, end: slots.end.min(prefix) }, ballot);
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
        let mut new = None;
        for (slot, entry) in SlotRange::of(first, entries.len()).iter().zip(entries.iter()) {
            if slot < log.base() {
                continue;
            }
            // What is contiguous makes room for what follows.
            let admitted = log.admits(slot) || (log.advance() && log.admits(slot));
            if !admitted {
                break;
            }
            match log.learn(slot, entry.clone()) {
                Learned::Conflict => return Err(FenceReason::ChosenTwice(slot)),
                Learned::Known | Learned::Confirmed => {}
                Learned::New => {
                    let run: &mut SlotRange = new.get_or_insert(SlotRange { first: slot, end: slot });
                    run.end = slot.next();
                }
            }
        }
        // What lies between two new slots is written again, the same entries: one record for the run.
        if let Some(run) = new {
            let entries =
                if run.count() == entries.len() as u64 { entries.clone() } else { log.entries(run).cloned().collect() };
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
        mut tag_of: impl FnMut(CommandId) -> Option<Tag>,
        stats: &mut Stats,
        out: &mut Outbox,
    ) {
        if self.next_to_apply < log.base() {
            self.ask_log(log, page, out);
            return;
        }
        let before = self.next_to_apply;
        for entry in log.entries(SlotRange { first: before, end: log.first_unchosen() }) {
            let tag = entry.command_id().and_then(&mut tag_of);
            out.actions.push(Action::Apply { slot: self.next_to_apply, entry: entry.clone(), tag });
            self.next_to_apply = self.next_to_apply.next();
        }
        stats.slots_applied = stats.slots_applied.saturating_add(self.next_to_apply.since(before));
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
        entries: &[Entry],
        log: &Log,
        stats: &mut Stats,
        out: &mut Outbox,
    ) -> Result<(), FenceReason> {
        let Some(replay) = self.replay.take() else { return Ok(()) };
        if entries.is_empty() || first != replay.first {
            return Err(FenceReason::LogUnreadable(replay.first));
        }
        for (slot, entry) in SlotRange::of(first, entries.len()).iter().zip(entries) {
            if slot != self.next_to_apply || slot >= log.first_unchosen() {
                break;
            }
            out.actions.push(Action::Apply { slot, entry: entry.clone(), tag: None });
            self.next_to_apply = slot.next();
            stats.slots_applied = stats.slots_applied.saturating_add(1);
        }
        Ok(())
    }
}

/// How much one request to the log may bring.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) entries: u64,
    pub(crate) bytes: usize,
}
