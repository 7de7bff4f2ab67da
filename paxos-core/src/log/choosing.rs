//! Slots become chosen: those that a ballot accepted, and those whose entries others know to be chosen.

use super::run::Run;
use super::{Choice, Conflict, Log};
use crate::ballot::Ballot;
use crate::entry::Entries;
use crate::mutants::{Mutant, mutant};
use crate::slot::{Slot, SlotRange};

impl Log {
    #[inline(never)]
    pub(super) fn choose_among(&mut self, slots: SlotRange, ballot: Ballot) -> Choice {
        let mut choice = Choice::default();
        let mut at = slots.first.max(self.first_unchosen);
        while at < slots.end {
            let index = self.index(at);
            let Some(run) = self.runs.at_mut(index) else { break };
            let part = SlotRange { first: at.max(run.first), end: run.end.min(slots.end) };
            at = part.end.max(at.next());
            let Some(accepted) = run.voted.filter(|_| !run.chosen) else { continue };
            choice.others = choice.others.saturating_add(if accepted == ballot { 0 } else { part.count() });
            if part.is_empty() || accepted != ballot && !mutant(Mutant::PlainFirstUnchosenIndex) {
                continue;
            }
            choice.chosen = choice.chosen.saturating_add(part.count());
            if part == run.slots() {
                run.chosen = true;
            } else {
                self.mark_chosen(part);
            }
        }
        self.advance();
        choice
    }

    /// Marks a part of a run chosen.
    fn mark_chosen(&mut self, slots: SlotRange) {
        let (from, to) = self.cut_out(slots);
        self.runs.get_mut(from..to).unwrap_or(&mut []).iter_mut().for_each(|run| run.chosen = true);
    }

    /// Takes entries that are known to be chosen, as far as there is room. The slots from the first to the last one
    /// whose entry the disk may lack, if there are any.
    pub(crate) fn learn(&mut self, first: Slot, entries: &Entries) -> Result<Option<SlotRange>, Conflict> {
        let told = Run::chosen(first, entries.clone());
        let mut new: Option<SlotRange> = None;
        let mut at = told.first.max(self.base);
        while at < told.end {
            if !self.admits(at) {
                // What is contiguous makes room for what follows.
                self.advance();
                if !self.admits(at) {
                    break;
                }
            }
            let slots = SlotRange { first: at, end: told.end.min(self.room_end()) };
            let held = self.spans(slots).next();
            let part = match &held {
                Some(held) if held.first == at => agreement(held, &told),
                // Nothing is held up to the next run.
                Some(held) => Agreement { slots: SlotRange { end: held.first, ..slots }, same: false },
                None => Agreement { slots, same: false },
            };
            let chosen = held.is_some_and(|held| held.first == at && held.chosen);
            match (chosen, part.same) {
                (true, true) => {}
                (true, false) => return Err(Conflict(at)),
                (false, true) => self.mark_chosen(part.slots),
                (false, false) => {
                    self.replace(told.part(part.slots));
                    let from = new.map_or(at, |new| new.first);
                    new = Some(SlotRange { first: from, end: part.slots.end });
                }
            }
            at = part.slots.end;
        }
        self.advance();
        if let Some(written) = new {
            // The record of what is new covers what lies between, and takes the place of its votes.
            self.note_voted(written, None);
        }
        Ok(new)
    }
}

/// From the first slot of what is held on: how far it is all the same as what is told, or all different.
struct Agreement {
    slots: SlotRange,
    same: bool,
}

fn agreement(held: &Run, told: &Run) -> Agreement {
    let told = told.part(held.slots());
    let alike = |place: usize| held.entries.get(place) == told.entries.get(place);
    let same = alike(0);
    let count = (1..told.entries.len()).find(|place| alike(*place) != same).unwrap_or(told.entries.len());
    Agreement { slots: SlotRange::of(held.first, count), same }
}
