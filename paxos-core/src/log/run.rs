//! Consecutive slots that came together and are in the same state.

use core::ops::Range;

use super::State;
use crate::entry::{Entries, Entry};
use crate::limits::ENTRY_HEAD_BYTES;
use crate::slot::{Slot, SlotRange};

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first: Slot,
    /// The slot after the last one.
    pub(crate) end: Slot,
    pub(crate) state: State,
    pub(crate) entries: Entries,
    /// What its entries count in windows.
    pub(super) bytes: usize,
}

impl Run {
    #[inline]
    pub(super) fn new(first: Slot, state: State, entries: Entries) -> Run {
        let bytes = entries.iter().fold(0, |bytes: usize, entry| bytes.saturating_add(cost(entry)));
        Run { first, end: SlotRange::of(first, entries.len()).end, state, entries, bytes }
    }

    pub(super) fn slots(&self) -> SlotRange {
        SlotRange { first: self.first, end: self.end }
    }

    pub(super) fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot.since(self.first)).ok()?)
    }

    /// What of it lies in a range; all of it, mostly.
    #[inline]
    pub(super) fn part(&self, slots: SlotRange) -> Run {
        if slots.first <= self.first && slots.end >= self.end {
            return self.clone();
        }
        let place = |slot: Slot| usize::try_from(slot.since(self.first)).unwrap_or(usize::MAX);
        let places: Range<usize> = place(slots.first)..place(slots.end.min(self.end));
        Run::new(slots.first.max(self.first), self.state, self.entries.slice(places))
    }
}

/// What an entry counts in windows.
pub(super) fn cost(entry: &Entry) -> usize {
    entry.payload_bytes().saturating_add(ENTRY_HEAD_BYTES)
}
