//! Consecutive slots that came together and are in the same state.

use core::ops::Range;

use super::State;
use crate::ballot::Ballot;
use crate::entry::{Entries, Entry};
use crate::limits::ENTRY_HEAD_BYTES;
use crate::slot::{Slot, SlotRange};

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first: Slot,
    /// The slot after the last one.
    pub(crate) end: Slot,
    /// Known to be chosen; otherwise accepted.
    pub(super) chosen: bool,
    /// The ballot of the vote that its last record holds; `None` if that record says that it is chosen.
    pub(super) voted: Option<Ballot>,
    pub(crate) entries: Entries,
    /// What its entries count in windows.
    pub(super) bytes: usize,
}

impl Run {
    pub(super) fn chosen(first: Slot, entries: Entries) -> Run {
        Run::new(first, true, None, entries)
    }

    #[inline]
    pub(super) fn accepted(first: Slot, ballot: Ballot, entries: Entries) -> Run {
        Run::new(first, false, Some(ballot), entries)
    }

    #[inline]
    fn new(first: Slot, chosen: bool, voted: Option<Ballot>, entries: Entries) -> Run {
        let bytes = entries.iter().fold(0, |bytes: usize, entry| bytes.saturating_add(cost(entry)));
        Run { first, end: SlotRange::of(first, entries.len()).end, chosen, voted, entries, bytes }
    }

    pub(crate) fn state(&self) -> State {
        match self.voted {
            _ if self.chosen => State::Chosen,
            Some(ballot) => State::Accepted(ballot),
            None => State::Empty,
        }
    }

    #[inline]
    pub(super) fn slots(&self) -> SlotRange {
        SlotRange { first: self.first, end: self.end }
    }

    pub(super) fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot.since(self.first)).ok()?)
    }

    /// What of it lies in a range; all of it, mostly.
    pub(super) fn part(&self, slots: SlotRange) -> Run {
        if self.lies_in(slots) {
            return self.clone();
        }
        Run::new(slots.first.max(self.first), self.chosen, self.voted, self.entries.slice(self.places(slots)))
    }

    /// The entries of those of its slots that lie in a range; all of them, mostly.
    #[inline]
    pub(crate) fn entries_in(&self, slots: SlotRange) -> Entries {
        if self.lies_in(slots) { self.entries.clone() } else { self.entries.slice(self.places(slots)) }
    }

    #[inline]
    fn lies_in(&self, slots: SlotRange) -> bool {
        slots.first <= self.first && slots.end >= self.end
    }

    fn places(&self, slots: SlotRange) -> Range<usize> {
        let place = |slot: Slot| usize::try_from(slot.since(self.first)).unwrap_or(usize::MAX);
        place(slots.first)..place(slots.end.min(self.end))
    }
}

/// What an entry counts in windows.
pub(super) fn cost(entry: &Entry) -> usize {
    entry.payload_bytes().saturating_add(ENTRY_HEAD_BYTES)
}
