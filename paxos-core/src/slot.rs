//! The room for `Slot`, a position in the replicated log, and `SlotRange`, a run of them.
//!
//! Slots count from 1, so that "no slot" is `None` and never a number.

use core::fmt;
use core::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// A position in the replicated log, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(NonZeroU64);

impl Slot {
    /// The first slot of every log.
    pub const FIRST: Slot = Slot(NonZeroU64::MIN);
    /// The last slot a log can have; nothing is ever chosen here, so that `next` of a used slot exists.
    pub const MAX: Slot = Slot(NonZeroU64::MAX);

    /// The slot with this number, or `None` for 0.
    pub const fn new(number: u64) -> Option<Slot> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Slot(number)),
            None => None,
        }
    }

    /// The slot's number, from 1.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The slot after this one; stays at `Slot::MAX`.
    #[must_use]
    pub const fn next(self) -> Slot {
        self.plus(1)
    }

    /// The slot `count` later; stays at `Slot::MAX`.
    #[must_use]
    pub const fn plus(self, count: u64) -> Slot {
        Slot(self.0.saturating_add(count))
    }

    /// The slot `count` earlier; stays at `Slot::FIRST`.
    #[must_use]
    pub fn minus(self, count: u64) -> Slot {
        Slot::new(self.get().saturating_sub(count)).unwrap_or(Slot::FIRST)
    }

    /// How many slots lie from `earlier` (included) to this one (excluded); 0 if `earlier` is later.
    pub const fn since(self, earlier: Slot) -> u64 {
        self.get().saturating_sub(earlier.get())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.get())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// Consecutive slots, `first` included, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SlotRange {
    /// The first slot of the run.
    pub first: Slot,
    /// The slot after the last one of the run.
    pub end: Slot,
}

impl SlotRange {
    /// The run of `count` slots that begins at `first`.
    pub const fn of(first: Slot, count: usize) -> SlotRange {
        SlotRange { first, end: first.plus(count as u64) }
    }

    /// How many slots the run has.
    pub const fn count(self) -> u64 {
        self.end.since(self.first)
    }

    /// Whether the run has no slot.
    pub const fn is_empty(self) -> bool {
        self.count() == 0
    }

    /// The slots of the run in order.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        (self.first.get()..self.end.get()).filter_map(Slot::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_count_from_one_and_saturate() {
        assert_eq!(Slot::new(0), None);
        assert_eq!(Slot::FIRST.get(), 1);
        assert_eq!(Slot::FIRST.minus(7), Slot::FIRST);
        assert_eq!(Slot::MAX.next(), Slot::MAX);
        assert_eq!(Slot::FIRST.plus(4).since(Slot::FIRST), 4);
        assert_eq!(Slot::FIRST.since(Slot::FIRST.plus(4)), 0);
    }

    #[test]
    fn a_range_counts_its_slots() {
        let run = SlotRange::of(Slot::FIRST.plus(2), 3);
        assert_eq!(run.iter().map(Slot::get).collect::<alloc::vec::Vec<_>>(), [3, 4, 5]);
        assert_eq!(run.count(), 3);
        assert!(SlotRange::of(Slot::FIRST, 0).is_empty());
    }
}
