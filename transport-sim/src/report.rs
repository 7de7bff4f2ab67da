//! The room for how a world ended: plain counts.

use crate::nemesis::FAULT_KINDS;
use crate::network::Mischief;

/// How a world ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Events handled.
    pub steps: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// From the end of the faults until all was done, in microseconds; of many worlds, the longest.
    pub healed_in_us: u64,
    /// Faults that struck, by kind (`Fault::NAMES`).
    pub faults: [u64; FAULT_KINDS],
    /// What the network did.
    pub mischief: Mischief,
    /// Worst images that were recovered on the side.
    pub images: u64,
    /// Torn tails that were dropped at a start.
    pub torn_tails: u64,
    /// Processes that were started.
    pub starts: u64,
    /// Times that a peer refused a process on a disk that was not its own.
    pub turned_away: u64,
    /// Processes on an older image of their disk that no peer could tell, and that were taken away.
    pub unnoticed: u64,
    /// Damaged logs that were refused at a start.
    pub damage_refused: u64,
    /// Damaged logs whose last group passed for one that a crash tore.
    pub damage_torn: u64,
    /// Operations that clients began.
    pub asked: u64,
    /// Operations whose reply came.
    pub answered: u64,
    /// Operations that nobody knows the outcome of.
    pub unknown: u64,
}

impl Report {
    /// Adds another world's counts.
    pub fn add(&mut self, other: &Report) {
        self.steps += other.steps;
        self.simulated_us += other.simulated_us;
        self.healed_in_us = self.healed_in_us.max(other.healed_in_us);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.mischief.lost += other.mischief.lost;
        self.mischief.cut += other.mischief.cut;
        self.mischief.duplicated += other.mischief.duplicated;
        self.mischief.misrouted += other.mischief.misrouted;
        self.mischief.garbled += other.mischief.garbled;
        self.images += other.images;
        self.torn_tails += other.torn_tails;
        self.starts += other.starts;
        self.turned_away += other.turned_away;
        self.unnoticed += other.unnoticed;
        self.damage_refused += other.damage_refused;
        self.damage_torn += other.damage_torn;
        self.asked += other.asked;
        self.answered += other.answered;
        self.unknown += other.unknown;
    }
}
