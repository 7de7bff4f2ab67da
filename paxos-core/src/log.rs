//! The room for the log in memory: slot → accepted or chosen entry, in a bounded window.
//!
//! Slots below `base` live on disk only. From `base` to `first_unchosen` are recently chosen ones, kept for slow
//! followers; from there on what is undecided here. Nothing in this room knows why an entry is put where it is.
//!
//! The log is a list of runs: consecutive slots that came together and are in the same state. Their entries are shared
//! with the messages and records that carry them, and what happens to all slots of a run costs no more than what
//! happens to one. Runs rise and never overlap; slots between two runs are empty; what concerns a part of a run cuts it.

mod choosing;
mod run;

use core::hash::{Hash, Hasher};

use crate::ballot::Ballot;
use crate::config::Config;
use crate::entry::{Entries, Entry, Spares};
use crate::mutants::{Mutant, mutant};
use crate::slot::{Slot, SlotRange};
use crate::trail::Trail;
use run::Run;

/// What is known of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum State {
    /// Nothing.
    Empty,
    /// Accepted under this ballot.
    Accepted(Ballot),
    /// Known to be chosen.
    Chosen,
}

/// How many slots became chosen, and how many hold what another ballot proposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Choice {
    pub(crate) chosen: u64,
    pub(crate) others: u64,
}

/// Another entry was known to be chosen in this slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Conflict(pub(crate) Slot);

#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: Slot,
    runs: Trail<Run>,
    /// The index of the first run that is not below `first_unchosen`.
    open: usize,
    first_unchosen: Slot,
    /// Bytes of slots from `first_unchosen` on, and below it.
    undecided_bytes: usize,
    chosen_bytes: usize,
    window_slots: u64,
    room_slots: u64,
    room_bytes: usize,
    retained_bytes: usize,
    spares: Spares,
}

/// For whom chosen slots are kept in memory. A leader keeps more of them than its followers: it is who feeds others, and
/// whoever forgets a run last can use its memory again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Retain {
    Leader,
    Follower,
}

impl Log {
    /// An empty window that begins at `first_unchosen`.
    pub(crate) fn new(config: &Config, first_unchosen: Slot) -> Log {
        Log {
            base: first_unchosen,
            runs: Trail::new(),
            open: 0,
            first_unchosen,
            undecided_bytes: 0,
            chosen_bytes: 0,
            window_slots: u64::from(config.window_slots),
            // A follower learns of choices one message late: it needs room for the window that the leader
            // has closed already, and for the one that is open.
            room_slots: u64::from(config.window_slots).saturating_mul(2),
            room_bytes: config.window_bytes.saturating_mul(2).saturating_add(config.entry_bytes_max),
            retained_bytes: config.window_bytes,
            spares: Spares::default(),
        }
    }

    // --- questions ---

    /// The first slot that is held in memory.
    pub(crate) fn base(&self) -> Slot {
        self.base
    }

    /// The lowest slot not known to be chosen.
    pub(crate) fn first_unchosen(&self) -> Slot {
        self.first_unchosen
    }

    /// The slot after the last one that holds anything.
    pub(crate) fn end(&self) -> Slot {
        self.runs.last().map_or(self.base, |run| run.end)
    }

    /// Bytes of entries that are undecided here.
    pub(crate) fn undecided_bytes(&self) -> usize {
        self.undecided_bytes
    }

    /// How many slots from `first_unchosen` on can be held. However full, the one that all others wait for can.
    pub(crate) fn room(&self) -> u32 {
        if self.is_backed_up() {
            return 0;
        }
        if self.undecided_bytes >= self.room_bytes {
            return 1;
        }
        u32::try_from(self.room_slots).unwrap_or(u32::MAX)
    }

    /// Whether an entry may be put into this slot.
    pub(crate) fn admits(&self, slot: Slot) -> bool {
        slot >= self.base && slot < self.room_end()
    }

    /// The slot after the last one that an entry may be put into.
    pub(crate) fn room_end(&self) -> Slot {
        self.first_unchosen.plus(u64::from(self.room()))
    }

    /// Whether a slot may have been written by a replica with this window. Marks are lazy, and one event can choose a
    /// window, learn what phase 1 found and fill the window again before it writes one; bytes were counted then.
    pub(crate) fn admits_recovered(&self, slot: Slot) -> bool {
        slot >= self.base && slot < self.first_unchosen.plus(self.recovered_slots())
    }

    /// How many slots from the last mark on a log may hold.
    pub(crate) fn recovered_slots(&self) -> u64 {
        self.room_slots.saturating_mul(4)
    }

    /// What is known of a slot; `Chosen` for all below the window.
    pub(crate) fn state(&self, slot: Slot) -> State {
        match self.run_at(slot) {
            Some(run) => run.state(),
            None if slot < self.base => State::Chosen,
            None => State::Empty,
        }
    }

    /// The ballot of the vote that the last record of a slot of the window holds.
    pub(crate) fn voted(&self, slot: Slot) -> Option<Ballot> {
        self.run_at(slot)?.voted
    }

    /// What a slot of the window holds.
    pub(crate) fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.run_at(slot)?.entry(slot)
    }

    /// The entries of consecutive slots that are all in the window, chosen or not.
    pub(crate) fn entries(&self, slots: SlotRange) -> Entries {
        match self.run_at(slots.first) {
            Some(run) if run.end >= slots.end => run.entries_in(slots),
            Some(_) | None => self.runs(slots).flat_map(|run| run.entries_in(slots).to_vec()).collect(),
        }
    }

    /// The runs that hold any of these slots, by rising slot; the first and the last may reach beyond them.
    #[inline]
    pub(crate) fn runs(&self, slots: SlotRange) -> impl Iterator<Item = &Run> {
        let runs = self.runs.get(self.index(slots.first)..).unwrap_or(&[]);
        runs.iter().take_while(move |run| run.first < slots.end)
    }

    /// What these slots hold, by rising slot, in pieces of one state each. Empty slots are left out.
    pub(crate) fn spans(&self, slots: SlotRange) -> impl Iterator<Item = Run> {
        self.runs(slots).map(move |run| run.part(slots))
    }

    /// The index of the first run that ends after this slot. Mostly it is next to where the undecided ones begin.
    #[inline]
    fn index(&self, slot: Slot) -> usize {
        let after = |at: usize| self.runs.at(at).is_none_or(|run| run.end > slot);
        // Below `first_unchosen` there are no gaps.
        let last_chosen = self.open.wrapping_sub(1);
        if slot < self.first_unchosen && self.runs.at(last_chosen).is_some_and(|run| run.first <= slot) {
            return last_chosen;
        }
        if slot >= self.first_unchosen && after(self.open) {
            return self.open;
        }
        self.runs.partition_point(|run| run.end <= slot)
    }

    #[inline]
    fn run_at(&self, slot: Slot) -> Option<&Run> {
        self.runs.at(self.index(slot)).filter(|run| run.first <= slot)
    }

    /// What of it has consequences: of the vote for a slot that is known chosen, whether it may be asked for again.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: Hasher>(&self, allowed: impl Fn(Ballot) -> bool, state: &mut H) {
        (self.base, self.first_unchosen, self.end()).hash(state);
        for slot in (SlotRange { first: self.base, end: self.end() }).iter() {
            let voted = self.voted(slot).filter(|ballot| self.state(slot) != State::Chosen || allowed(*ballot));
            (self.state(slot), voted, self.entry(slot)).hash(state);
        }
    }

    // --- changes ---

    /// Puts back what survived a restart, by rising slot; the caller asked `admits_recovered`, and advances at the end.
    pub(crate) fn restore(&mut self, slot: Slot, state: State, entry: Entry) {
        let entries = Entries::one(entry);
        match state {
            State::Empty => {}
            State::Accepted(ballot) => self.append(Run::accepted(slot, ballot, entries)),
            State::Chosen => self.append(Run::chosen(slot, entries)),
        }
    }

    /// Puts a run of accepted entries into those of its slots that are not chosen, and notes the vote in the others, which
    /// hold the same; the caller asked `admits` for each.
    pub(crate) fn accept_run(&mut self, first: Slot, ballot: Ballot, entries: Entries) {
        let run = Run::accepted(first, ballot, entries);
        if run.first >= self.end() {
            return self.append(run);
        }
        let mut at = run.first.max(self.base);
        while at < run.end {
            let rest = SlotRange { first: at, end: run.end };
            let next = self.spans(rest).find(|span| span.chosen).map(|span| span.slots());
            let open = SlotRange { first: at, end: next.map_or(run.end, |chosen| chosen.first) };
            if !open.is_empty() {
                self.replace(run.part(open));
            }
            if let Some(chosen) = next {
                self.note_voted(chosen, Some(ballot));
            }
            at = next.map_or(run.end, |chosen| chosen.end);
        }
    }

    /// The usual case: the log grows at its end, or a little beyond it.
    #[inline]
    fn append(&mut self, run: Run) {
        self.undecided_bytes = self.undecided_bytes.saturating_add(run.bytes);
        self.runs.push(run);
    }

    /// Puts a run in place of whatever its slots, none of them below `first_unchosen`, hold.
    fn replace(&mut self, run: Run) {
        let slots = run.slots();
        let (from, to) = self.cut_out(slots);
        let within = self.runs.get(from..to).unwrap_or(&[]);
        let removed = within.iter().fold(0usize, |bytes, run| bytes.saturating_add(run.bytes));
        self.undecided_bytes = self.undecided_bytes.saturating_sub(removed).saturating_add(run.bytes);
        self.runs.remove(from, to);
        self.runs.insert(from, run);
    }

    /// Cuts runs so that none lies across either end of these slots; the indices of those within.
    fn cut_out(&mut self, slots: SlotRange) -> (usize, usize) {
        let from = self.cut_at(slots.first);
        (from, self.cut_at(slots.end).max(from))
    }

    /// Cuts the run that lies across the beginning of this slot, if any; the index of the first run from there on.
    fn cut_at(&mut self, slot: Slot) -> usize {
        let index = self.index(slot);
        let Some(run) = self.runs.at_mut(index).filter(|run| run.first < slot) else { return index };
        let right = run.part(SlotRange { first: slot, end: run.end });
        *run = run.part(SlotRange { first: run.first, end: slot });
        if index < self.open {
            self.open = self.open.saturating_add(1);
        }
        let index = index.saturating_add(1);
        self.runs.insert(index, right);
        index
    }

    /// Marks chosen what was accepted under this ballot in these slots.
    #[inline]
    pub(crate) fn choose_accepted(&mut self, slots: SlotRange, ballot: Ballot) -> Choice {
        // Mostly it is just the run that everything waits for.
        match self.runs.at_mut(self.open) {
            Some(run) if run.slots() == slots && !run.chosen && run.voted == Some(ballot) => {
                run.chosen = true;
                self.advance();
                Choice { chosen: slots.count(), others: 0 }
            }
            Some(_) | None => self.choose_among(slots, ballot),
        }
    }

    /// The last record of these slots holds a vote under this ballot, or none.
    fn note_voted(&mut self, slots: SlotRange, ballot: Option<Ballot>) {
        let (from, to) = self.cut_out(slots);
        self.runs.get_mut(from..to).unwrap_or(&mut []).iter_mut().for_each(|run| run.voted = ballot);
    }

    /// Moves `first_unchosen` over every chosen slot: after every change that may have chosen one.
    #[inline]
    pub(crate) fn advance(&mut self) {
        while let Some(run) = self.runs.at(self.open)
            && run.chosen
            && (run.first == self.first_unchosen || mutant(Mutant::HoleSkipped))
        {
            self.undecided_bytes = self.undecided_bytes.saturating_sub(run.bytes);
            self.chosen_bytes = self.chosen_bytes.saturating_add(run.bytes);
            self.first_unchosen = run.end;
            self.open = self.open.saturating_add(1);
        }
    }

    /// Forgets slots that are durably known chosen, and so can be read back from the disk. Some stay for followers that
    /// are a little behind; more would only push what is undecided out of the processor's cache.
    #[inline]
    pub(crate) fn trim(&mut self, durable_first_unchosen: Slot, retain: Retain) {
        let kept = match retain {
            Retain::Leader => self.window_slots >> 3,
            Retain::Follower => self.window_slots >> 4,
        };
        if self.first_unchosen.since(self.base) > kept || self.is_heavy() {
            let light = self.first_unchosen.minus(kept);
            self.forget_below(light, self.first_unchosen.min(durable_first_unchosen), retain);
        }
    }

    /// Forgets whole runs below `light`, and, while the rest is heavy, below `end`; nothing beyond that.
    #[inline(never)]
    fn forget_below(&mut self, light: Slot, end: Slot, retain: Retain) {
        let room_max = usize::try_from(self.window_slots).unwrap_or(usize::MAX);
        while let Some(run) = self.runs.at_mut(0) {
            let heavy = self.chosen_bytes > self.retained_bytes;
            if run.end > end || !heavy && run.end > light {
                break;
            }
            self.base = run.end;
            self.chosen_bytes = self.chosen_bytes.saturating_sub(run.bytes);
            let entries = core::mem::take(&mut run.entries);
            if retain == Retain::Leader {
                self.spares.keep(entries, room_max);
            }
            self.runs.forget(1);
            self.open = self.open.saturating_sub(1);
        }
    }

    /// Where runs are made of what was forgotten.
    pub(crate) fn spares(&mut self) -> &mut Spares {
        &mut self.spares
    }

    /// Whether chosen slots stay here that only a slow disk keeps from being forgotten: more would have no bound.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.first_unchosen.since(self.base) > self.room_slots.saturating_mul(2)
            || self.chosen_bytes > self.retained_bytes.saturating_mul(2)
    }

    /// Whether chosen slots take more bytes than are kept willingly.
    #[inline]
    pub(crate) fn is_heavy(&self) -> bool {
        self.chosen_bytes > self.retained_bytes
    }
}

/// By what is known of each slot, however it is cut into runs.
impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.base, self.first_unchosen, self.end()).hash(state);
        for slot in (SlotRange { first: self.base, end: self.end() }).iter() {
            (self.state(slot), self.voted(slot), self.entry(slot)).hash(state);
        }
    }
}

#[cfg(test)]
mod tests;
