//! The room for groups that are not written yet: records are encoded once, straight into the bytes of the write.

use paxos_core::Record;

use super::error::WalError;
use super::index::Span;
use super::layout::{
    GROUP_CLOSE_BYTES, GROUP_HEAD_BYTES, GroupHead, GroupSeed, HeadKind, LogSeed, RECORD_BYTES_MAX, RECORD_HEAD_BYTES,
    RecordHead, Seal, fold, sum,
};
use super::record;

/// A buffer larger than this is given back to the allocator after a burst.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Records that one write and one sync make durable.
#[derive(Debug)]
pub(super) struct Group {
    /// Room for the head, then the records.
    buffer: Vec<u8>,
    sequence: u64,
    seed: GroupSeed,
    records: u32,
    checksum: u32,
    /// Where records that hold slots begin and end, and their slots.
    runs: Vec<(u32, u32, Span)>,
    /// How long head and records are; the buffer may have padding behind.
    bytes: usize,
}

impl Group {
    pub(super) fn new(seed: LogSeed, sequence: u64) -> Group {
        Group::reuse(seed, sequence, Vec::new(), Vec::new())
    }

    fn reuse(log: LogSeed, sequence: u64, mut buffer: Vec<u8>, mut runs: Vec<(u32, u32, Span)>) -> Group {
        buffer.clear();
        runs.clear();
        buffer.resize(GROUP_HEAD_BYTES, 0);
        let seed = log.group(sequence);
        Group { buffer, sequence, seed, records: 0, checksum: seed.empty(), runs, bytes: GROUP_HEAD_BYTES }
    }

    pub(super) fn append(&mut self, record: &Record) -> Result<(), WalError> {
        let slots = record::run(record).and_then(|(first, entries)| Span::of(first, entries.len()));
        self.append_encoded(record::kind(record), slots, |buffer| record::encode(record, buffer))
    }

    /// Appends a record of this kind whose body `encode` writes.
    pub(super) fn append_encoded(
        &mut self,
        kind: u8,
        slots: Option<Span>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), WalError> {
        let begin = self.buffer.len();
        self.buffer.resize(begin + RECORD_HEAD_BYTES, 0);
        encode(&mut self.buffer);
        let length = self.buffer.len() - begin - RECORD_HEAD_BYTES;
        if length > RECORD_BYTES_MAX {
            self.buffer.truncate(begin);
            return Err(WalError::RecordTooLarge { bytes: length, max: RECORD_BYTES_MAX });
        }
        let written = &mut self.buffer[begin..];
        written[4..8].copy_from_slice(&RecordHead::kind_length(kind, length as u32));
        let checksum = self.seed.record(begin as u32, &written[4..]);
        written[..4].copy_from_slice(&checksum.to_le_bytes());
        self.bytes = self.buffer.len();
        self.checksum = fold(self.checksum, checksum);
        self.records += 1;
        self.runs.extend(slots.map(|slots| (begin as u32, self.bytes as u32, slots)));
        Ok(())
    }

    /// Head and records, without padding.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = (u32, u32, Span)> {
        self.runs.iter().copied()
    }

    pub(super) fn seal(&self) -> Seal {
        Seal { body_bytes: (self.bytes - GROUP_HEAD_BYTES) as u32, checksum: self.checksum }
    }

    /// Writes the head for this place and pads to `padded` bytes: what goes to the disk.
    pub(super) fn finish(&mut self, log: LogSeed, segment: u64, at: u64, before: Seal, padded: u64) -> &[u8] {
        let head = GroupHead {
            kind: HeadKind::Group,
            sequence: self.sequence,
            body_bytes: (self.bytes - GROUP_HEAD_BYTES) as u32,
            records: self.records,
            checksum: self.checksum,
            sum: sum(&self.buffer[GROUP_HEAD_BYTES..self.bytes]),
            before,
        };
        self.buffer[..GROUP_HEAD_BYTES].copy_from_slice(&head.encode(log, segment, at));
        self.buffer.resize(padded as usize, 0);
        &self.buffer
    }
}

/// All groups that wait for the next sync: nearly always one.
#[derive(Debug)]
pub(super) struct Pending {
    log: LogSeed,
    /// The sequence of the group that is begun next.
    sequence: u64,
    /// Groups that are full.
    full: std::collections::VecDeque<Group>,
    /// The group that takes the next record.
    open: Option<Group>,
    /// Buffers of a group that was written.
    spare: Option<Group>,
}

impl Pending {
    pub(super) fn new(log: LogSeed, sequence: u64) -> Pending {
        Pending { log, sequence, full: std::collections::VecDeque::new(), open: None, spare: None }
    }

    pub(super) fn append(&mut self, record: &Record) -> Result<(), WalError> {
        if self.open.as_ref().is_some_and(|group| group.bytes >= GROUP_CLOSE_BYTES) {
            self.full.extend(self.open.take());
        }
        if let Some(group) = &mut self.open {
            return group.append(record);
        }
        let mut group = match self.spare.take() {
            Some(spare) => Group::reuse(self.log, self.sequence, spare.buffer, spare.runs),
            None => Group::new(self.log, self.sequence),
        };
        let appended = group.append(record);
        if appended.is_ok() {
            self.sequence += 1;
            self.open = Some(group);
        }
        appended
    }

    /// The next group to write, in order.
    pub(super) fn next_group(&mut self) -> Option<Group> {
        self.full.pop_front().or_else(|| self.open.take())
    }

    /// Takes the buffers of a group that was written.
    pub(super) fn recycle(&mut self, group: Group) {
        if group.buffer.capacity() <= KEPT_BYTES_MAX {
            self.spare = Some(group);
        }
    }

    /// Somebody else writes the next group; only while nothing is pending.
    pub(super) fn skip_sequence(&mut self) {
        self.sequence += 1;
    }

    pub(super) fn bytes(&self) -> usize {
        self.full.iter().chain(&self.open).map(|group| group.bytes).sum()
    }
}
