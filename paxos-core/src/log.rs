//! The room for the log in memory: slot → accepted or chosen entry, in a bounded window.
//!
//! Slots below `base` live on disk only. From `base` to `first_unchosen` are recently chosen ones, kept for slow
//! followers; from there on what is undecided here. Nothing in this room knows why an entry is put where it is.

use alloc::collections::VecDeque;
use core::ops::Range;

use crate::ballot::Ballot;
use crate::config::Config;
use crate::entry::Entry;
use crate::limits::ENTRY_HEAD_BYTES;
use crate::mutants::{Mutant, mutant};
use crate::slot::{Slot, SlotRange};

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

#[derive(Clone, Hash, Debug)]
pub(crate) struct Cell {
    pub(crate) state: State,
    pub(crate) entry: Entry,
}

/// What telling the log of a chosen entry did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Learned {
    /// The slot is chosen now and was not before; the disk may hold another entry or none.
    New,
    /// The slot is chosen now; the accepted entry that it held was the chosen one.
    Confirmed,
    /// Nothing new: chosen before, or no longer in memory.
    Known,
    /// Another entry was known to be chosen.
    Conflict,
}

#[derive(Clone, Hash, Debug)]
pub(crate) struct Log {
    base: Slot,
    cells: VecDeque<Cell>,
    first_unchosen: Slot,
    /// Bytes in cells from `first_unchosen` on, and below it.
    undecided_bytes: usize,
    chosen_bytes: usize,
    window_slots: usize,
    room_slots: u64,
    room_bytes: usize,
    retained_bytes: usize,
}

fn cost(entry: &Entry) -> usize {
    entry.payload_bytes().saturating_add(ENTRY_HEAD_BYTES)
}

impl Log {
    /// An empty window that begins at `first_unchosen`.
    pub(crate) fn new(config: &Config, first_unchosen: Slot) -> Log {
        Log {
            base: first_unchosen,
            cells: VecDeque::new(),
            first_unchosen,
            undecided_bytes: 0,
            chosen_bytes: 0,
            window_slots: config.window_slots as usize,
            // A follower learns of choices one message late: it needs room for the window that the leader
            // has closed already, and for the one that is open.
            room_slots: u64::from(config.window_slots).saturating_mul(2),
            room_bytes: config.window_bytes.saturating_mul(2).saturating_add(config.entry_bytes_max),
            retained_bytes: config.window_bytes,
        }
    }

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
        self.base.plus(self.cells.len() as u64)
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
        slot >= self.base && slot < self.first_unchosen.plus(u64::from(self.room()))
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

    pub(crate) fn cell(&self, slot: Slot) -> Option<&Cell> {
        if slot < self.base {
            return None;
        }
        self.cells.get(usize::try_from(slot.since(self.base)).ok()?)
    }

    /// What is known of a slot; `Chosen` for all below the window.
    pub(crate) fn state(&self, slot: Slot) -> State {
        if slot < self.base {
            return State::Chosen;
        }
        self.cell(slot).map_or(State::Empty, |cell| cell.state)
    }

    fn cell_or_new(&mut self, slot: Slot) -> Option<&mut Cell> {
        if slot < self.base {
            return None;
        }
        let index = usize::try_from(slot.since(self.base)).ok()?;
        while self.cells.len() <= index {
            self.cells.push_back(Cell { state: State::Empty, entry: Entry::Noop });
        }
        self.cells.get_mut(index)
    }

    /// Puts an accepted entry into a slot that is not chosen; the caller asked `admits`.
    pub(crate) fn accept(&mut self, slot: Slot, ballot: Ballot, entry: Entry) {
        let added = cost(&entry);
        let Some(cell) = self.cell_or_new(slot) else { return };
        let removed = match cell.state {
            State::Empty => 0,
            State::Accepted(_) => cost(&cell.entry),
            State::Chosen => return,
        };
        *cell = Cell { state: State::Accepted(ballot), entry };
        self.undecided_bytes = self.undecided_bytes.saturating_sub(removed).saturating_add(added);
    }

    /// Puts a run of accepted entries; the caller asked `admits` for each slot.
    pub(crate) fn accept_run(&mut self, first: Slot, ballot: Ballot, entries: &[Entry]) {
        if first != self.end() {
            for (slot, entry) in SlotRange::of(first, entries.len()).iter().zip(entries) {
                self.accept(slot, ballot, entry.clone());
            }
            return;
        }
        // The usual case: the log grows at its end.
        let bytes = entries.iter().fold(0usize, |bytes, entry| bytes.saturating_add(cost(entry)));
        self.undecided_bytes = self.undecided_bytes.saturating_add(bytes);
        self.cells.extend(entries.iter().map(|entry| Cell { state: State::Accepted(ballot), entry: entry.clone() }));
    }

    /// The places in `cells` of those slots of a run that are in the window.
    fn places(&self, slots: SlotRange) -> Range<usize> {
        let place = |slot: Slot| usize::try_from(slot.since(self.base)).unwrap_or(usize::MAX).min(self.cells.len());
        let (from, to) = (place(slots.first), place(slots.end));
        from..to.max(from)
    }

    /// The cells of those slots of a run that are in the window.
    pub(crate) fn cells_mut(&mut self, slots: SlotRange) -> impl Iterator<Item = &mut Cell> {
        let places = self.places(slots);
        self.cells.range_mut(places)
    }

    /// The entries of those slots of a run that are in the window, chosen or not.
    pub(crate) fn entries(&self, slots: SlotRange) -> impl Iterator<Item = &Entry> {
        self.cells.range(self.places(slots)).map(|cell| &cell.entry)
    }

    /// Marks chosen what was accepted under this ballot in these slots; how many hold another ballot's entry.
    pub(crate) fn choose_accepted(&mut self, slots: SlotRange, ballot: Ballot) -> u64 {
        let mut others = 0u64;
        for cell in self.cells_mut(slots) {
            let State::Accepted(accepted) = cell.state else { continue };
            if accepted != ballot {
                others = others.saturating_add(1);
            }
            if accepted == ballot || mutant(Mutant::PlainFirstUnchosenIndex) {
                cell.state = State::Chosen;
            }
        }
        others
    }

    /// Takes an entry that is known to be chosen; the caller asked `admits`.
    pub(crate) fn learn(&mut self, slot: Slot, entry: Entry) -> Learned {
        let added = cost(&entry);
        let Some(cell) = self.cell_or_new(slot) else { return Learned::Known };
        let (removed, learned) = match cell.state {
            State::Chosen if cell.entry == entry => return Learned::Known,
            State::Chosen => return Learned::Conflict,
            State::Accepted(_) if cell.entry == entry => {
                cell.state = State::Chosen;
                return Learned::Confirmed;
            }
            State::Accepted(_) => (cost(&cell.entry), Learned::New),
            State::Empty => (0, Learned::New),
        };
        *cell = Cell { state: State::Chosen, entry };
        self.undecided_bytes = self.undecided_bytes.saturating_sub(removed).saturating_add(added);
        learned
    }

    /// Moves `first_unchosen` over every chosen slot; whether it moved.
    pub(crate) fn advance(&mut self) -> bool {
        let from = usize::try_from(self.first_unchosen.since(self.base)).unwrap_or(usize::MAX).min(self.cells.len());
        let (mut passed, mut bytes) = (0u64, 0usize);
        for cell in self.cells.range(from..) {
            if cell.state != State::Chosen {
                break;
            }
            passed = passed.saturating_add(1);
            bytes = bytes.saturating_add(cost(&cell.entry));
        }
        if passed == 0 {
            return false;
        }
        self.undecided_bytes = self.undecided_bytes.saturating_sub(bytes);
        self.chosen_bytes = self.chosen_bytes.saturating_add(bytes);
        self.first_unchosen = self.first_unchosen.plus(passed);
        true
    }

    /// Forgets slots that are durably known chosen, and so can be read back from the disk. Between an eighth and a
    /// quarter of the window stays for followers that are a little behind; more would only push what is undecided
    /// out of the processor's cache.
    pub(crate) fn trim(&mut self, durable_first_unchosen: Slot) {
        if !self.retains_too_much() {
            return;
        }
        let end = self.first_unchosen.min(durable_first_unchosen);
        let keep = (self.window_slots >> 3) as u64;
        let mut count = 0usize;
        while self.base < end
            && (self.first_unchosen.since(self.base) > keep || self.chosen_bytes > self.retained_bytes)
        {
            let Some(cell) = self.cells.get(count) else { break };
            self.chosen_bytes = self.chosen_bytes.saturating_sub(cost(&cell.entry));
            self.base = self.base.next();
            count = count.saturating_add(1);
        }
        self.cells.drain(..count);
    }

    /// Whether chosen slots stay here that only a slow disk keeps from being forgotten: more would have no bound.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.first_unchosen.since(self.base) > self.room_slots.saturating_mul(2)
            || self.chosen_bytes > self.retained_bytes.saturating_mul(2)
    }

    /// Whether chosen slots take more bytes than are kept willingly.
    pub(crate) fn is_heavy(&self) -> bool {
        self.chosen_bytes > self.retained_bytes
    }

    #[inline]
    fn retains_too_much(&self) -> bool {
        let retained = self.first_unchosen.since(self.base);
        retained > (self.window_slots >> 2) as u64 || self.is_heavy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_id::NodeId;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1), generation: 0 }
    }

    fn slot(number: u64) -> Slot {
        Slot::new(number).expect("tests name slots from 1")
    }

    #[test]
    fn first_unchosen_passes_only_what_is_contiguous() {
        let mut log = Log::new(&Config::default(), slot(1));
        for number in [1, 2, 4] {
            log.accept(slot(number), ballot(1), Entry::Noop);
        }
        let run = |from, to| SlotRange { first: slot(from), end: slot(to) };
        assert_eq!(log.choose_accepted(run(1, 2), ballot(1)), 0);
        assert_eq!(log.choose_accepted(run(3, 9), ballot(1)), 0);
        assert_eq!((log.advance(), log.first_unchosen()), (true, slot(2)));
        assert_eq!(log.choose_accepted(run(2, 3), ballot(2)), 1, "accepted under another ballot");
        assert!(!log.advance());
        assert_eq!(log.choose_accepted(run(2, 3), ballot(1)), 0);
        assert_eq!((log.advance(), log.first_unchosen()), (true, slot(3)));
        assert_eq!(log.learn(slot(3), Entry::Noop), Learned::New);
        assert_eq!((log.advance(), log.first_unchosen()), (true, slot(5)));
        assert_eq!(log.undecided_bytes(), 0);
    }

    #[test]
    fn a_chosen_entry_is_final() {
        let mut log = Log::new(&Config::default(), slot(1));
        let other = Entry::Command {
            id: crate::entry::CommandId {
                node: NodeId(1),
                incarnation: crate::node_id::Incarnation(1),
                boot: 1,
                sequence: 1,
            },
            bytes: bytes::Bytes::from_static(b"other"),
        };
        assert_eq!(log.learn(slot(1), Entry::Noop), Learned::New);
        log.accept(slot(1), ballot(9), other.clone());
        assert_eq!(log.cell(slot(1)).map(|cell| cell.entry.clone()), Some(Entry::Noop));
        assert_eq!(log.learn(slot(1), other), Learned::Conflict);
        assert_eq!(log.learn(slot(1), Entry::Noop), Learned::Known);
    }

    #[test]
    fn the_window_is_bounded_in_slots_and_forgets_only_what_is_durably_chosen() {
        let config = Config { window_slots: 16, ..Config::default() };
        let mut log = Log::new(&config, slot(1));
        assert!(log.admits(slot(32)) && !log.admits(slot(33)));
        for number in 1..=8 {
            assert_eq!(log.learn(slot(number), Entry::Noop), Learned::New);
        }
        assert!(log.advance());
        log.trim(slot(3));
        assert_eq!(log.base(), slot(3));
        log.trim(slot(9));
        assert_eq!(log.base(), slot(7), "more than a quarter was kept, an eighth is");
        assert_eq!(log.state(slot(1)), State::Chosen);
        assert!(!log.admits(slot(6)) && log.admits(slot(40)) && !log.admits(slot(41)));
    }
}
