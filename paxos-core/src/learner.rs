//! The learner: which slots are known chosen, learning by the leader's prefix (rule 7), by Success, and apply in
//! slot order.

use crate::action::{Action, FenceReason};
use crate::ballot::Ballot;
use crate::config::Config;
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

/// Runs of chosen entries that one request to the log may bring for applying them again: under load every request
/// waits for a sync, and with small entries the bytes of a run hold far more of them than its count.
const REPLAY_RUNS: u64 = 4;

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

    /// What of it has consequences. A prefix below which everything is known chosen marks nothing more; of a ballot that is
    /// promised away no Accept comes any more, only heartbeats that are late.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(
        &self,
        allowed: impl Fn(Ballot) -> bool,
        log: &Log,
        state: &mut H,
    ) {
        use core::hash::Hash;
        let prefix = self.prefix.filter(|(ballot, prefix)| *prefix > log.first_unchosen() && allowed(*ballot));
        (prefix, self.next_to_apply, self.marked_below, self.durable_first_unchosen, &self.replay).hash(state);
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
        config: &Config,
        proposals: &mut Proposals,
        stats: &mut Stats,
        out: &mut Outbox,
    ) {
        if self.next_to_apply < log.base() {
            self.ask_log(log, config, out);
            return;
        }
        let slots = SlotRange { first: self.next_to_apply, end: log.first_unchosen() };
        for run in log.runs(slots) {
            hand_out(run.first.max(slots.first), run.entries_in(slots), proposals, out);
        }
        self.next_to_apply = slots.end;
        stats.slots_applied = stats.slots_applied.saturating_add(slots.count());
    }

    #[inline(never)]
    fn ask_log(&mut self, log: &Log, config: &Config, out: &mut Outbox) {
        if self.replay.is_some() {
            return;
        }
        let first = self.next_to_apply;
        let entries_max = (config.run_entries_max as u64).saturating_mul(REPLAY_RUNS);
        let end = log.base().min(first.plus(entries_max));
        let id = out.fetch(SlotRange { first, end }, config.run_bytes_max);
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::*;
    use crate::action::applied;
    use crate::entry::{CommandId, Entry};
    use crate::gate::Gate;
    use crate::node_id::{Boot, Incarnation};
    use crate::outbox::FetchIds;
    use crate::persist::Owner;
    use crate::time::Instant;

    /// What comes of applying these entries while proposals with these tags are open: slot, count and tag of each run,
    /// and the tag of every slot.
    fn check(tags: &[u64], entries: &[Option<u64>], runs: &[(u64, usize, Option<u64>)], slots: &[Option<u64>]) {
        let (node, incarnation, boot) = (NodeId(1), Incarnation(1), Boot { counter: 3, nonce: 1 });
        let mut proposals = Proposals::new(node, incarnation, boot.counter);
        tags.iter().for_each(|tag| {
            let _ = proposals.open(Tag(*tag));
        });
        let command = |sequence, boot| {
            let id = CommandId { node, incarnation, boot, sequence };
            Entry::Command { id, bytes: Bytes::from_static(b"x") }
        };
        // `None` is a command of an earlier boot, which has the number of an open one.
        let run = entries.iter().map(|own| own.map_or(command(1, 2), |sequence| command(sequence, 3))).collect();
        let (mut actions, mut gate) = (Vec::new(), Gate::new(Owner { node, incarnation, boot }, 8));
        let mut fetch_ids = FetchIds::default();
        let now = Instant::from_us(0);
        let mut out = Outbox { actions: &mut actions, gate: &mut gate, fetch_ids: &mut fetch_ids, now };
        hand_out(Slot::FIRST, run, &mut proposals, &mut out);
        let (mut handed, mut each) = (Vec::new(), Vec::new());
        for action in &actions {
            let Action::Apply { first, entries, tag } = action else { panic!("{action:?}") };
            handed.push((first.get(), entries.len(), tag.map(|tag| tag.0)));
            each.extend(applied(*first, entries, *tag).map(|(slot, _, tag)| (slot.get(), tag.map(|tag| tag.0))));
        }
        assert_eq!(handed, runs);
        assert_eq!(each, (1..).zip(slots.iter().copied()).collect::<Vec<_>>());
    }

    #[test]
    fn a_run_is_handed_out_in_pieces_whose_tags_count_up() {
        check(&[], &[None, None], &[(1, 2, None)], &[None, None]);
        check(&[5, 6, 7], &[Some(1), Some(2), Some(3)], &[(1, 3, Some(5))], &[Some(5), Some(6), Some(7)]);
        check(
            &[5, 6, 9],
            &[Some(1), Some(2), Some(3)],
            &[(1, 2, Some(5)), (3, 1, Some(9))],
            &[Some(5), Some(6), Some(9)],
        );
        check(
            &[5, 6, 7],
            &[None, Some(1), None, None, Some(2), Some(3), None],
            &[(1, 1, None), (2, 1, Some(5)), (3, 2, None), (5, 2, Some(6)), (7, 1, None)],
            &[None, Some(5), None, None, Some(6), Some(7), None],
        );
        // The last open tag closes in the middle of a run: what follows is nobody's, though it could count up.
        check(&[5], &[Some(1), Some(2)], &[(1, 1, Some(5)), (2, 1, None)], &[Some(5), None]);
        check(&[u64::MAX, 0], &[Some(1), Some(2)], &[(1, 2, Some(u64::MAX))], &[Some(u64::MAX), Some(0)]);
    }
}
