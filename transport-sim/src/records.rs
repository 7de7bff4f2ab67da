//! The room for the disk of a bare replica: a list of records.

use std::collections::{BTreeMap, VecDeque};

use paxos_core::{Entries, Entry, FetchId, Formatted, Record, Slot, SlotRange, Ticket};

/// A disk as a list of records.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) durable: Vec<Record>,
    pub(crate) waiting: VecDeque<(Ticket, Record)>,
    pub(crate) fetches: VecDeque<(FetchId, SlotRange, usize)>,
    /// What the newest record of each slot holds, as the log's reader would find it.
    held: BTreeMap<Slot, Entry>,
    chosen_below: Option<Slot>,
}

impl Records {
    /// A new disk.
    pub(crate) fn formatted(formatted: Formatted) -> Records {
        Records { durable: vec![Record::Formatted(formatted)], ..Records::default() }
    }

    /// Takes note of a record that is to be written.
    pub(crate) fn note(&mut self, record: &Record) {
        let (first, entries) = match record {
            Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => (*first, entries),
            Record::Chosen { below } => {
                self.chosen_below = self.chosen_below.max(Some(*below));
                return;
            }
            Record::Formatted(_) | Record::Started(_) | Record::Promised(_) => return,
        };
        for (offset, entry) in (0u64..).zip(entries.iter()) {
            let slot = first.plus(offset);
            if self.chosen_below.is_none_or(|below| slot >= below) {
                self.held.insert(slot, entry.clone());
            }
        }
    }

    /// What the durable records hold, and nothing else.
    pub(crate) fn reread(&mut self) {
        self.held.clear();
        self.chosen_below = None;
        let durable = std::mem::take(&mut self.durable);
        durable.iter().for_each(|record| self.note(record));
        self.durable = durable;
    }

    /// Entries of consecutive slots.
    pub(crate) fn read(&self, slots: SlotRange, bytes_max: usize) -> Entries {
        let mut bytes = 0;
        let mut entries = Vec::new();
        for slot in slots.iter() {
            let Some(entry) = self.held.get(&slot) else { break };
            bytes += entry.payload_bytes();
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(entry.clone());
        }
        entries.into()
    }
}
