//! The ghost of one disk: what its durable records imply, built record by record as they become durable.

use paxos_core::{Ballot, NodeId, Record, Replica, Slot};
use transport_sim::{Digest, Violation};

use super::slots::{Slots, index};

/// What the worst surviving image of a disk implies.
#[derive(Debug, Default)]
pub(super) struct Image {
    promised: Option<Ballot>,
    /// Every slot below is known chosen, by a mark or by an entry learned as chosen.
    first_unchosen: u64,
    cells: Vec<Cell>,
    /// The ballot of the last vote for each slot, also where a choice took its place since.
    voted: Vec<Option<Ballot>>,
}

/// What one slot of a disk holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Cell {
    #[default]
    Nothing,
    Voted(Ballot, u64),
    Chosen(u64),
}

impl Image {
    pub(super) fn promised(&self) -> Option<Ballot> {
        self.promised
    }

    /// The entry that the disk knows to be chosen here.
    pub(super) fn chosen(&self, slot: Slot) -> Option<u64> {
        match self.cells.get(index(slot)) {
            Some(Cell::Chosen(entry)) => Some(*entry),
            Some(Cell::Voted(..) | Cell::Nothing) | None => None,
        }
    }

    /// Whether the disk holds this entry here, as a vote or as a choice.
    pub(super) fn holds(&self, slot: Slot, entry: u64) -> bool {
        match self.cells.get(index(slot)) {
            Some(Cell::Voted(_, held) | Cell::Chosen(held)) => *held == entry,
            Some(Cell::Nothing) | None => false,
        }
    }

    /// The ballot of the last vote that was ever durable here.
    pub(super) fn voted(&self, slot: Slot) -> Option<Ballot> {
        self.voted.get(index(slot)).copied().flatten()
    }

    /// For messages: what this slot holds.
    pub(super) fn at(&self, slot: Slot) -> String {
        format!("{:x?}, promised {:?}", self.cells.get(index(slot)), self.promised)
    }

    /// Takes in the next durable record.
    pub(super) fn record(&mut self, node: NodeId, record: &Record, slots: &Slots) -> Result<(), Violation> {
        match record {
            Record::Formatted(_) | Record::Started(_) => Ok(()),
            Record::Promised(ballot) => self.promise(node, *ballot),
            Record::Accepted { ballot, first, entries } => {
                self.promise(node, *ballot)?;
                (0u64..)
                    .zip(entries.iter())
                    .try_for_each(|(offset, entry)| self.vote(node, first.plus(offset), *ballot, Digest::of(entry)))
            }
            Record::Learned { first, entries } => {
                for (offset, entry) in (0u64..).zip(entries.iter()) {
                    let slot = first.plus(offset);
                    slots.is_chosen(slot, entry, "a Learned record")?;
                    *self.cell(slot) = Cell::Chosen(Digest::of(entry));
                }
                self.advance();
                Ok(())
            }
            Record::Chosen { below } => self.mark(node, *below, slots),
        }
    }

    /// Durable promises never go down.
    fn promise(&mut self, node: NodeId, ballot: Ballot) -> Result<(), Violation> {
        if self.promised > Some(ballot) {
            let why = format!("{node:?} promised {:?} and then wrote {ballot:?}", self.promised);
            return Err(Violation::new("promise-never-falls", why));
        }
        self.promised = Some(ballot);
        Ok(())
    }

    fn vote(&mut self, node: NodeId, slot: Slot, ballot: Ballot, entry: u64) -> Result<(), Violation> {
        if self.voted.len() <= index(slot) {
            self.voted.resize(index(slot) + 1, None);
        }
        self.voted[index(slot)] = Some(ballot);
        let cell = self.cell(slot);
        match *cell {
            Cell::Chosen(chosen) if chosen != entry => {
                let why = format!("{node:?} voted under {ballot:?} for another entry in chosen slot {slot}");
                Err(Violation::new("chosen-stays-chosen", why))
            }
            Cell::Chosen(_) => Ok(()),
            Cell::Voted(last, _) if last > ballot => {
                let why = format!("{node:?} voted in slot {slot} under {last:?} and then {ballot:?}");
                Err(Violation::new("vote-never-falls", why))
            }
            Cell::Voted(..) | Cell::Nothing => {
                *cell = Cell::Voted(ballot, entry);
                Ok(())
            }
        }
    }

    /// A mark turns what the slots hold into decisions: it must be what was chosen there (rule 7).
    fn mark(&mut self, node: NodeId, below: Slot, slots: &Slots) -> Result<(), Violation> {
        slots.all_chosen_below(below, "a Chosen record")?;
        let first = Slot::FIRST.plus(self.first_unchosen);
        for offset in 0..below.since(first) {
            let slot = first.plus(offset);
            let held = match *self.cell(slot) {
                Cell::Voted(_, entry) | Cell::Chosen(entry) => Some(entry),
                Cell::Nothing => None,
            };
            if held.is_none() || held != slots.chosen_digest(slot) {
                let why =
                    format!("{node:?} marked slot {slot} chosen with {held:x?}, chosen is {:?}", slots.chosen(slot));
                return Err(Violation::new("mark-only-what-is-chosen", why));
            }
            *self.cell(slot) = Cell::Chosen(held.unwrap_or_default());
        }
        self.advance();
        Ok(())
    }

    fn advance(&mut self) {
        while let Some(Cell::Chosen(_)) = self.cells.get(self.first_unchosen as usize) {
            self.first_unchosen += 1;
        }
    }

    fn cell(&mut self, slot: Slot) -> &mut Cell {
        let index = index(slot);
        if index >= self.cells.len() {
            self.cells.resize(index + 1, Cell::Nothing);
        }
        &mut self.cells[index]
    }

    /// Durable before send: a message may only say what this image implies.
    pub(super) fn testifies(
        &self,
        node: NodeId,
        what: &str,
        ballot: Option<Ballot>,
        first_unchosen: Option<Slot>,
    ) -> Result<(), Violation> {
        if ballot > self.promised {
            let why = format!("{node:?} sent {what} of {ballot:?}; durable is {:?}", self.promised);
            return Err(Violation::new("durable-before-send", why));
        }
        let durable = Slot::FIRST.plus(self.first_unchosen);
        if first_unchosen > Some(durable) {
            let why = format!("{node:?} sent {what} with first_unchosen {first_unchosen:?}; durable is {durable:?}");
            return Err(Violation::new("durable-before-send", why));
        }
        Ok(())
    }

    /// A process starts from exactly what was durable.
    pub(super) fn recovered(&self, node: NodeId, replica: &Replica) -> Result<(), Violation> {
        if replica.promised() < self.promised {
            let why = format!("{node:?} starts with promise {:?}; durable is {:?}", replica.promised(), self.promised);
            return Err(Violation::new("recovery-forgets-nothing", why));
        }
        Ok(())
    }
}
