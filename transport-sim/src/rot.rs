//! The room for disks that damaged something they held: a flipped bit, a block that was never written, a block that was
//! written to another place.
//!
//! A log says so and refuses: the node stays away until a later feature gets from its peers what it lost. What a log
//! cannot tell from a write that a crash tore is damage to the last group that was synced: it drops that group, and
//! its node would have forgotten what it testified. No checksum helps there, so that lies outside the safety model;
//! such a node is taken away and counted. Nothing but the last group may ever go, in logs whose groups begin in
//! sectors of their own, as those of real nodes do.

use node::wal::{Wal, WalError};

use crate::disk::SECTOR_BYTES;
use crate::lost::Image;
use crate::observer::{Observer, Violation};
use crate::seat::broken;
use crate::storage::recovery_of;
use crate::world::World;

impl<O: Observer> World<O> {
    /// The node dies, and a block of its disk is not what was written any more.
    pub(crate) fn rot(&mut self, seat: usize, down_us: u64, number: u64) -> Result<(), Violation> {
        if self.seats[seat].node().is_none() {
            return Ok(());
        }
        self.lost = Some(self.seats[seat].id);
        self.crash(seat, Some(down_us), true)?;
        // Where groups are packed, a whole block takes several of the last ones with it.
        let packed = self.scenario.wal.align_bytes < SECTOR_BYTES as u32;
        if self.seats[seat].files.rot(number, packed) {
            self.seats[seat].image = Image::Damaged;
        }
        Ok(())
    }

    /// A process is about to start on a damaged disk. True if all that it had is there after all.
    pub(crate) fn opens_damaged(&mut self, seat: usize) -> Result<bool, Violation> {
        let id = self.seats[seat].id;
        let recovered = match Wal::open(self.seats[seat].files.worst(), self.scenario.wal) {
            Ok((_, recovered)) => recovered,
            Err(WalError::Corrupt { .. }) => {
                self.report.damage_refused += 1;
                self.seats[seat].removed = true;
                return Ok(false);
            }
            Err(error) => return Err(broken("damage-is-named", id, &error)),
        };
        let place = &mut self.seats[seat];
        let holds = |count: usize, more: usize| {
            let records = place.durable[..count].iter().chain(&place.writing[..more]);
            recovery_of(records).is_ok_and(|expected| expected == recovered)
        };
        let whole = place.durable.len();
        if (0..=place.writing.len()).any(|more| holds(whole, more)) {
            place.image = Image::Own;
            return Ok(true);
        }
        if !holds(place.durable_before, 0) {
            let fits = (0..=whole).rev().find(|count| holds(*count, 0));
            let why = format!(
                "{id:?} opened a damaged log of {whole} records as if there were {fits:?}, {} in its last group",
                whole - place.durable_before
            );
            return Err(Violation::new("no-damage-is-lost", why));
        }
        self.report.damage_torn += 1;
        place.removed = true;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::NodeId;

    use crate::lost::tests::run;
    use crate::nemesis::Fault;

    /// Wherever a block of a log is damaged: the log refuses, or nothing was lost, or it was the last group.
    #[test]
    fn damage_is_refused_wherever_it_is_but_in_the_last_group() {
        let (mut refused, mut torn, mut whole) = (0, 0, 0);
        for number in 0..40 {
            let report = run(&[(3_000_000, Fault::Rot { node: NodeId(2), down_us: 500_000, number })]);
            refused += report.damage_refused;
            torn += report.damage_torn;
            whole += 1 - report.damage_refused - report.damage_torn;
        }
        assert!(refused > 20, "refused {refused}, taken for torn {torn}, whole {whole}");
    }
}
