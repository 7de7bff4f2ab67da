//! The room for reading entries back by slot, from a sparse index and one sequential read per block.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use paxos_core::limits::{ENTRY_HEAD_BYTES, RUN_ENTRIES_MAX};
use paxos_core::{Entries, Entry, Record, Slot, SlotRange};

use super::Wal;
use super::error::{Corruption, Damage, WalError};
use super::files::Files;
use super::index::{Block, Home, Span};
use super::layout::{GROUP_HEAD_BYTES, GroupHead, padded, segment_name};
use super::record;
use super::scan::{failed, read_fully, record_at};

/// The block read last, so that a reader who asks slot by slot does not read a block for each.
#[derive(Debug, Default)]
pub(super) struct LastRead {
    segment: u64,
    at: u32,
    bytes: Bytes,
}

/// Blocks beyond this (a lone large record) are not kept.
const KEPT_BYTES_MAX: usize = 256 << 10;

impl<F: Files> Wal<F> {
    /// Entries of consecutive slots from `slots.first` on, at least one; stops before `slots.end`, and before
    /// payloads and `ENTRY_HEAD_BYTES` for each exceed `bytes_max`. Ask only for slots below the durable chosen
    /// prefix: of those, and only of those, the last record holds the chosen entry.
    ///
    /// Costs a read of 64 KiB, or of the one larger record, per block that meets the slots; the entries are
    /// slices of what was read and keep it alive.
    ///
    /// # Errors
    /// `NotHeld`, `Corrupt`, or what the operating system says.
    pub fn read(&mut self, slots: SlotRange, bytes_max: usize) -> Result<Entries, WalError> {
        let wanted = usize::try_from(slots.count()).unwrap_or(usize::MAX).min(RUN_ENTRIES_MAX);
        let Some(span) = Span::of(slots.first, wanted) else {
            return Ok(Entries::default());
        };
        let (blocks, span) = self.plan(span, bytes_max);
        let mut gathered = Gathered { span, entries: Vec::with_capacity(span.count()), early: BTreeMap::new() };
        for (home, block) in blocks {
            self.take_block(home, &block, &mut gathered)?;
        }
        let mut entries = gathered.entries;
        let mut bytes = 0usize;
        let fitting = entries.iter().take_while(|entry| {
            bytes = bytes.saturating_add(entry.payload_bytes()).saturating_add(ENTRY_HEAD_BYTES);
            bytes <= bytes_max
        });
        let fitting = fitting.count().max(1);
        entries.truncate(fitting);
        if entries.is_empty() {
            return Err(WalError::NotHeld(slots.first));
        }
        Ok(entries.into())
    }

    /// Which blocks to read, in log order, and for how many of the wanted slots they suffice: as many as the
    /// first blocks with `bytes_max` bytes bring, and every block that may hold one of those again.
    fn plan(&self, wanted: Span, bytes_max: usize) -> (Vec<(Home, Block)>, Span) {
        let meeting: Vec<(Home, Block)> = self.index.meeting(wanted).collect();
        /// What an entry counts beyond what it takes in the log, about.
        const HEAD_MORE: usize = ENTRY_HEAD_BYTES - 32;
        let mut bytes = 0usize;
        let mut span = Span { first: wanted.first, last: wanted.first };
        for (_, block) in &meeting {
            if bytes >= bytes_max {
                break;
            }
            bytes = bytes.saturating_add(block.bytes()).saturating_add(block.slots.count().saturating_mul(HEAD_MORE));
            span.last = span.last.max(block.slots.last.min(wanted.last));
        }
        (meeting.into_iter().filter(|(_, block)| block.slots.meets(span)).collect(), span)
    }

    /// Takes the entries of a block that are wanted; a later record's replace an earlier one's.
    fn take_block(&mut self, home: Home, block: &Block, gathered: &mut Gathered) -> Result<(), WalError> {
        let bytes = self.block_bytes(home.segment, block)?;
        let corrupt = |files: &F, at: usize, reason| WalError::Corrupt {
            path: files.path(&segment_name(home.segment)),
            segment: home.segment,
            offset: u64::from(block.at) + at as u64,
            reason,
        };
        let (mut group_at, mut group_end, mut sequence) = (block.group_at, block.group_end, block.sequence);
        let mut at = 0;
        while at < bytes.len() {
            if block.at as usize + at == group_end as usize {
                let begin = padded(u64::from(group_end), home.align);
                at = usize::try_from(begin).unwrap_or(usize::MAX) - block.at as usize;
                let head = bytes.get(at..).and_then(|bytes| GroupHead::decode(bytes, self.seed, home.segment, begin));
                let head = head.ok_or_else(|| corrupt(&self.files, at, Corruption::Record(Damage::Head)))?;
                sequence = head.sequence;
                group_at = begin as u32;
                group_end = u32::try_from(begin + head.bytes()).unwrap_or(u32::MAX);
                at += GROUP_HEAD_BYTES;
                continue; // a group may be empty
            }
            let offset = (block.at as usize + at - group_at as usize) as u32;
            let record = record_at(self.seed.group(sequence), &bytes, at, offset)
                .ok_or_else(|| corrupt(&self.files, at, Corruption::Record(Damage::Record)))?;
            if record::holds_slots(record.head.kind) {
                let decoded = record::decode(record.head.kind, &record.body(&bytes));
                match decoded.map_err(|reason| corrupt(&self.files, at, reason))? {
                    Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => {
                        gathered.take_run(first, &entries);
                    }
                    Record::Formatted(_) | Record::Started(_) | Record::Promised(_) | Record::Chosen { .. } => {}
                }
            }
            at = record.end();
        }
        // Kept only now that every checksum was right.
        if bytes.len() <= KEPT_BYTES_MAX {
            self.last_read = LastRead { segment: home.segment, at: block.at, bytes };
        }
        Ok(())
    }

    fn block_bytes(&mut self, segment: u64, block: &Block) -> Result<Bytes, WalError> {
        let last = &self.last_read;
        if last.segment == segment && last.at == block.at && last.bytes.len() == block.bytes() {
            return Ok(last.bytes.clone());
        }
        let name = segment_name(segment);
        let mut bytes = BytesMut::zeroed(block.bytes());
        let read = read_fully(&mut self.files, &name, u64::from(block.at), &mut bytes)
            .map_err(|error| failed(&self.files, "read", &name, error))?;
        if read < bytes.len() {
            let reason =
                Corruption::Length { bytes: u64::from(block.at) + read as u64, expected: u64::from(block.end) };
            return Err(WalError::Corrupt {
                path: self.files.path(&name),
                segment,
                offset: u64::from(block.at) + read as u64,
                reason,
            });
        }
        let bytes = bytes.freeze();
        Ok(bytes)
    }
}

/// The last entry found so far of each slot of a span.
struct Gathered {
    span: Span,
    /// Those of the first slots of the span, without a gap.
    entries: Vec<Entry>,
    /// Those of later slots: a slot between was not found yet.
    early: BTreeMap<usize, Entry>,
}

impl Gathered {
    fn take_run(&mut self, first: Slot, run: &Entries) {
        (first.get()..).zip(run.iter()).for_each(|(slot, entry)| self.take(slot, entry.clone()));
    }

    fn take(&mut self, slot: u64, entry: Entry) {
        if slot < self.span.first || slot > self.span.last {
            return;
        }
        let place = usize::try_from(slot - self.span.first).unwrap_or(usize::MAX);
        if place > self.entries.len() {
            self.early.insert(place, entry);
            return;
        }
        match self.entries.get_mut(place) {
            Some(found) => *found = entry,
            None => self.entries.push(entry),
        }
        while !self.early.is_empty() {
            let Some(next) = self.early.remove(&self.entries.len()) else { break };
            self.entries.push(next);
        }
    }
}
