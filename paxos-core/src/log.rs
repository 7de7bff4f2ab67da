//! The room for the log in memory: slot → accepted or chosen entry, in a bounded window.
//!
//! Slots below `base` live on disk only. From `base` to `first_unchosen` are recently chosen ones, kept for slow
//! followers; from there on what is undecided here. Nothing in this room knows why an entry is put where it is.

use alloc::collections::VecDeque;

use crate::ballot::Ballot;
use crate::config::Config;
use crate::entry::Entry;
use crate::limits::ENTRY_HEAD_BYTES;
use crate::slot::Slot;

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

    /// How many slots from `first_unchosen` on can be held.
    pub(crate) fn room(&self) -> u32 {
        if self.undecided_bytes >= self.room_bytes {
            return 0;
        }
        u32::try_from(self.room_slots).unwrap_or(u32::MAX)
    }

    /// Whether an entry may be put into this slot.
    pub(crate) fn admits(&self, slot: Slot) -> bool {
        slot >= self.base && slot < self.first_unchosen.plus(u64::from(self.room()))
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

    /// Marks an accepted slot chosen; false if it was chosen already or holds nothing.
    pub(crate) fn choose(&mut self, slot: Slot) -> bool {
        let Some(cell) = self.cell_or_new(slot) else { return false };
        match cell.state {
            State::Accepted(_) => {
                cell.state = State::Chosen;
                true
            }
            State::Empty | State::Chosen => false,
        }
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

    /// Moves `first_unchosen` over every chosen slot; how many it passed.
    pub(crate) fn advance(&mut self) -> u64 {
        let before = self.first_unchosen;
        let mut index = usize::try_from(before.since(self.base)).unwrap_or(usize::MAX);
        while let Some(cell) = self.cells.get(index)
            && cell.state == State::Chosen
        {
            let bytes = cost(&cell.entry);
            self.undecided_bytes = self.undecided_bytes.saturating_sub(bytes);
            self.chosen_bytes = self.chosen_bytes.saturating_add(bytes);
            self.first_unchosen = self.first_unchosen.next();
            index = index.saturating_add(1);
        }
        self.first_unchosen.since(before)
    }

    /// Forgets applied slots that slow followers no longer get from memory.
    pub(crate) fn trim(&mut self, next_to_apply: Slot) {
        let end = self.first_unchosen.min(next_to_apply);
        while self.base < end && self.retains_too_much() {
            let Some(cell) = self.cells.pop_front() else { return };
            self.chosen_bytes = self.chosen_bytes.saturating_sub(cost(&cell.entry));
            self.base = self.base.next();
        }
    }

    #[inline]
    fn retains_too_much(&self) -> bool {
        let retained = self.first_unchosen.since(self.base);
        retained > self.window_slots as u64 || self.chosen_bytes > self.retained_bytes
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
        assert!(log.choose(slot(1)) && log.choose(slot(4)) && !log.choose(slot(4)) && !log.choose(slot(3)));
        assert_eq!((log.advance(), log.first_unchosen()), (1, slot(2)));
        assert!(log.choose(slot(2)));
        assert_eq!((log.advance(), log.first_unchosen()), (1, slot(3)));
        assert_eq!(log.learn(slot(3), Entry::Noop), Learned::New);
        assert_eq!((log.advance(), log.first_unchosen()), (2, slot(5)));
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
    fn the_window_is_bounded_in_slots_and_forgets_only_what_is_applied() {
        let config = Config { window_slots: 4, ..Config::default() };
        let mut log = Log::new(&config, slot(1));
        assert!(log.admits(slot(8)) && !log.admits(slot(9)));
        for number in 1..=8 {
            assert_eq!(log.learn(slot(number), Entry::Noop), Learned::New);
        }
        assert_eq!(log.advance(), 8);
        log.trim(slot(3));
        assert_eq!(log.base(), slot(3));
        log.trim(slot(9));
        assert_eq!(log.base(), slot(5));
        assert_eq!(log.state(slot(1)), State::Chosen);
        assert!(!log.admits(slot(4)) && log.admits(slot(16)) && !log.admits(slot(17)));
    }
}
