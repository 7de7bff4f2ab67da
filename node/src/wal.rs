//! The log bytes of the store: records of `paxos_core` in checksummed segments, sans-IO behind `Files`.
//!
//! This file is the writer: what is appended becomes one group per sync, at the end of the newest segment.
//! `layout` and `record` know the bytes, `scan` and `recover` read them back and judge them, `read` finds slots
//! again, `inspect` shows a log to people. docs/storage.md describes the format and what it protects against.
//!
//! The rule that all of it rests on: a group is written only after the one before it was synced, and each group's
//! head seals the group before. So at most the last group can be torn by a crash, and damage anywhere else is
//! corruption. Trimming and repair are left to later versions; nothing is ever removed here.

mod error;
mod files;
mod flip;
mod fuzz;
mod index;
mod inspect;
mod layout;
mod memory;
mod pending;
mod read;
mod record;
mod recover;
mod scan;
mod segment;

use paxos_core::{Formatted, Record, Recovered};

pub use error::{Corruption, Damage, KnownBy, WalError};
pub use files::Files;
pub use fuzz::{fuzz, fuzz_input};
pub use inspect::{Inspect, Inspected, Item};
pub use memory::{Fate, MemoryFiles};
pub use recover::TornTail;
pub use segment::{Preparation, Prepared};

use index::{Block, Home, Index};
use layout::{ALIGN_BYTES_MAX, ALIGN_BYTES_MIN, GroupHead, HeadKind, LogSeed, SEGMENT_BYTES_MAX, Seal, SegmentHead};
use pending::{Group, Pending};
use read::LastRead;
use scan::{failed, unwritten};

/// The settings of a log; they may change from one start to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalSettings {
    /// How long new segments are, in bytes; a group that needs a longer one gets it, and the first few are shorter
    /// (4 MiB, doubling), so that a young node is cheap.
    pub segment_bytes: u64,
    /// Groups begin at multiples of this, so that no sector with acknowledged records is ever written again: a
    /// power of two from 8 (packed) to 65,536. Set it to what a power cut can garble at once.
    pub align_bytes: u32,
}

impl Default for WalSettings {
    fn default() -> WalSettings {
        WalSettings { segment_bytes: 64 << 20, align_bytes: 512 }
    }
}

impl WalSettings {
    fn validate(&self) -> Result<(), WalError> {
        if !self.align_bytes.is_power_of_two() || !(ALIGN_BYTES_MIN..=ALIGN_BYTES_MAX).contains(&self.align_bytes) {
            let given = u64::from(self.align_bytes);
            return Err(WalError::Settings { setting: "align_bytes", given, must: "a power of two from 8 to 65536" });
        }
        if self.segment_bytes == 0 || self.segment_bytes > SEGMENT_BYTES_MAX {
            let must = "from 1 to 1073741824";
            return Err(WalError::Settings { setting: "segment_bytes", given: self.segment_bytes, must });
        }
        Ok(())
    }
}

/// A write-ahead log in one directory. Whoever owns it is the only one that writes there (the driver holds a lock).
#[derive(Debug)]
pub struct Wal<F> {
    files: F,
    settings: WalSettings,
    seed: LogSeed,
    /// The segment that takes the next group.
    segment: SegmentHead,
    /// Its file.
    name: String,
    /// Where in it the next group goes.
    at: u64,
    /// The sequence of the next group.
    sequence: u64,
    /// What the next group's head says of the last one.
    before: Seal,
    /// Whether nothing would be lost with the last group: it is sealed, or holds no record.
    sealed: bool,
    /// The segment behind this one, if it exists.
    prepared: Option<SegmentHead>,
    pending: Pending,
    index: Index,
    last_read: LastRead,
    torn: Option<TornTail>,
    failed: bool,
}

impl<F: Files> Wal<F> {
    /// Makes the log of a new node: one segment that begins with its identity.
    ///
    /// # Errors
    /// `AlreadyFormatted` if there is a log, and nothing was touched; else what the operating system says.
    pub fn format(mut files: F, settings: WalSettings, formatted: Formatted) -> Result<(), WalError> {
        settings.validate()?;
        let (numbers, _) = recover::segments(&mut files)?;
        if let Some(number) = numbers.first() {
            return Err(WalError::AlreadyFormatted { path: files.path(&layout::segment_name(*number)) });
        }
        segment::make_first(&mut files, &settings, formatted)
    }

    /// Opens the log: checks every byte of it, drops a torn tail that was never acknowledged, and makes what
    /// remains durable. The caller appends and syncs `Record::Started` before it makes a replica, which also seals
    /// what was the last group.
    ///
    /// # Errors
    /// `NotFormatted`, `Corrupt`, `Impossible`, or what the operating system says. Never an empty log in place
    /// of a damaged one.
    pub fn open(mut files: F, settings: WalSettings) -> Result<(Wal<F>, Recovered), WalError> {
        settings.validate()?;
        let opened = recover::open(&mut files)?;
        let seed = opened.segment.owner.seed();
        let wal = Wal {
            files,
            settings,
            seed,
            segment: opened.segment,
            name: layout::segment_name(opened.segment.number),
            at: opened.at,
            sequence: opened.sequence,
            before: opened.before,
            sealed: opened.sealed,
            prepared: opened.prepared,
            pending: Pending::new(seed, opened.sequence),
            index: opened.index,
            last_read: LastRead::default(),
            torn: opened.torn,
            failed: false,
        };
        Ok((wal, opened.recovered))
    }

    /// Appends a record to the group that the next `sync` writes. No I/O; payloads are copied here and nowhere
    /// else.
    ///
    /// # Errors
    /// `RecordTooLarge`, and the log is as before; `Failed` after an earlier failure.
    pub fn append(&mut self, record: &Record) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        self.pending.append(record)
    }

    /// Makes all that was appended durable: one positioned write and one sync; at the end of a segment, two. More
    /// only when more than 4 MiB were appended, in groups of that size.
    ///
    /// # Errors
    /// Any error is final: what was appended may or may not survive, and every later call answers `Failed`.
    pub fn sync(&mut self) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        // Until the disk said yes to everything, the answer to whatever comes next is no.
        self.failed = true;
        while let Some(mut group) = self.pending.next_group() {
            self.write(&mut group)?;
            self.pending.recycle(group);
        }
        self.failed = false;
        Ok(())
    }

    /// Seals the last group when the log is idle, by an empty group behind it: from then on damage to it is
    /// corruption, never mistaken for a torn write. Costs one write and one sync, and nothing if there is nothing
    /// to seal; call it when idle for some milliseconds and before a clean stop. Syncs what is pending too.
    ///
    /// # Errors
    /// As `sync`.
    pub fn seal(&mut self) -> Result<(), WalError> {
        self.sync()?;
        if self.sealed {
            return Ok(());
        }
        self.failed = true;
        let mut group = Group::new(self.seed, self.sequence);
        self.pending.skip_sequence();
        self.write(&mut group)?;
        self.failed = false;
        Ok(())
    }

    fn write(&mut self, group: &mut Group) -> Result<(), WalError> {
        if !segment::fits(&self.segment, self.at, group.bytes()) {
            self.roll(group.bytes())?;
        }
        let (segment, at) = (self.segment.number, self.at);
        let padded = layout::padded(group.bytes(), self.segment.align);
        let bytes = group.finish(self.seed, segment, at, self.before, padded);
        let written = self.files.write_at(&self.name, at, bytes);
        written.map_err(|error| unwritten(&self.files, "write", &self.name, padded, error))?;
        self.files.sync(&self.name).map_err(|error| unwritten(&self.files, "sync", &self.name, padded, error))?;
        let home = Home { segment, align: self.segment.align };
        for (begin, end, slots) in group.runs() {
            let block = Block {
                at: at as u32 + begin,
                end: at as u32 + end,
                group_at: at as u32,
                group_end: at as u32 + group.bytes() as u32,
                sequence: self.sequence,
                slots,
            };
            self.index.note(home, block);
        }
        self.at += padded;
        self.sequence += 1;
        self.before = group.seal();
        self.sealed = group.is_empty();
        Ok(())
    }

    /// Ends the segment and goes on in the next one, which is made now if nobody prepared it. The mark is durable
    /// before the next segment is used: a log whose last files are missing can then be told from one that ends.
    fn roll(&mut self, group_bytes: u64) -> Result<(), WalError> {
        let prepared = self.prepared.filter(|head| segment::fits(head, head.first_group(), group_bytes));
        let next = match prepared {
            Some(prepared) => prepared,
            None => segment::make(&mut self.files, &segment::next(&self.settings, &self.segment, group_bytes))?,
        };
        let end = GroupHead {
            kind: HeadKind::End,
            sequence: self.sequence,
            body_bytes: 0,
            records: 0,
            checksum: 0,
            sum: 0,
            before: self.before,
        };
        let mut mark = end.encode(self.seed, self.segment.number, self.at).to_vec();
        mark.resize(self.segment.end_room() as usize, 0);
        let written = self.files.write_at(&self.name, self.at, &mark);
        written.map_err(|error| unwritten(&self.files, "write", &self.name, mark.len() as u64, error))?;
        self.files.sync(&self.name).map_err(|error| failed(&self.files, "sync", &self.name, error))?;
        self.segment = next;
        self.name = layout::segment_name(next.number);
        self.at = next.first_group();
        self.prepared = None;
        Ok(())
    }
}

impl<F: Files> Wal<F> {
    /// Whether the segment is a quarter full and no next one is prepared: time for `preparation` or `prepare_next`.
    /// Not later, since the next one may be twice as long, and a log of large entries fills this one in no time.
    pub fn wants_next(&self) -> bool {
        self.prepared.is_none() && self.at > self.segment.bytes / 4
    }

    /// How much of the segment is used, in thousandths: what paces a preparation.
    pub fn used_permille(&self) -> u64 {
        self.at.saturating_mul(1_000) / self.segment.bytes.max(1)
    }

    /// Whether the next `sync` finds its place, in this segment or in a prepared one. If not, it makes a segment
    /// first, which takes long: a preparation that is under way is better awaited and adopted.
    pub fn has_room(&self) -> bool {
        self.prepared.is_some() || segment::fits(&self.segment, self.at, self.pending.bytes() as u64)
    }

    /// Makes the next segment ahead of its use, here and now, so that no later sync has to wait for it.
    ///
    /// # Errors
    /// Not final: the log goes on in this segment, and makes the next one when it must.
    pub fn prepare_next(&mut self) -> Result<(), WalError> {
        if self.prepared.is_some() || self.failed {
            return Ok(());
        }
        let prepared = self.preparation().run(&mut self.files)?;
        self.adopt(prepared)
    }

    /// What it takes to make the next segment: a job that can run elsewhere, on another handle of the directory,
    /// while this log goes on; then hand its result to `adopt`.
    pub fn preparation(&self) -> Preparation {
        Preparation::of(segment::next(&self.settings, &self.segment, 0))
    }

    /// Takes a segment that was made elsewhere: renames it into place, or removes it if the log went on meanwhile.
    ///
    /// # Errors
    /// Not final, as `prepare_next`.
    pub fn adopt(&mut self, prepared: Prepared) -> Result<(), WalError> {
        let wanted = self.prepared.is_none() && prepared.number() == self.segment.number + 1 && !self.failed;
        let head = prepared.place(&mut self.files, wanted)?;
        self.prepared = if wanted { Some(head) } else { self.prepared };
        Ok(())
    }

    /// Bytes appended and not yet synced.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// What opening dropped, for the log line: a group that was never acknowledged.
    pub fn torn_tail(&self) -> Option<TornTail> {
        self.torn
    }

    /// Bytes of memory that the index of slots takes: 40 for each 64 KiB of log.
    pub fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// Gives the directory back; what was not synced is lost.
    pub fn into_files(self) -> F {
        self.files
    }
}

#[cfg(test)]
mod tests;
