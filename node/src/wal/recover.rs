//! The room for opening a log: follow the groups from the first one, tell a torn tail from corruption, and feed
//! the records to the core's validator (docs/protocol.md, §7: corrupt is not missing).
//!
//! The writer syncs a group before it writes the next one. So of all groups only the last can be torn, and a
//! damaged group with anything whole behind it was durable once: that is corruption, and the log refuses to open.

use std::io;

use paxos_core::mutants::{Mutant, mutant};
use paxos_core::{Record, Recovered, Recovery};

use super::error::{Corruption, KnownBy, WalError};
use super::files::Files;
use super::flip::flipped_bit;
use super::index::{Block, Home, Index, Span};
use super::layout::{
    GROUP_HEAD_BYTES, GroupHead, LogSeed, Owner, Seal, SegmentHead, padded, segment_name, segment_number,
};
use super::record;
use super::scan::{Damaged, Found, PIECE_BYTES, Segment, checked_record, failed, unwritten};

/// A group that a crash tore before it was ever synced: nobody was told of its records, so it was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The number of the segment.
    pub segment: u64,
    /// Where the group began.
    pub offset: u64,
    /// How many bytes of it were found.
    pub bytes: u64,
}

/// All that opening finds out.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) recovered: Recovered,
    pub(super) index: Index,
    /// The segment that takes the next group.
    pub(super) segment: SegmentHead,
    /// Where it goes.
    pub(super) at: u64,
    /// Its sequence.
    pub(super) sequence: u64,
    /// What its head says of the group before.
    pub(super) before: Seal,
    /// Whether the group before is sealed already, or needs no seal.
    pub(super) sealed: bool,
    /// The segment that was prepared ahead.
    pub(super) prepared: Option<SegmentHead>,
    /// What was dropped.
    pub(super) torn: Option<TornTail>,
}

/// The numbers of the segments in a directory, rising.
pub(super) fn segments<F: Files>(files: &mut F) -> Result<(Vec<u64>, Vec<String>), WalError> {
    let names = files.list().map_err(|error| failed(files, "list", "", error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok((numbers, names))
}

/// Whether a file is what is left of a segment that was being made.
fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".new").or(name.strip_suffix(".ahead")).and_then(segment_number).is_some()
}

pub(super) fn open<F: Files>(files: &mut F) -> Result<Opened, WalError> {
    let (numbers, names) = segments(files)?;
    if numbers.is_empty() {
        return Err(WalError::NotFormatted);
    }
    let opened = Walk::new(files)?.walk(files, &numbers)?;
    for name in names.iter().filter(|name| is_unfinished(name)) {
        files.remove(name).map_err(|error| failed(files, "remove", name, error))?;
    }
    settle(files, &opened)?;
    Ok(opened)
}

/// Makes what was read durable before anyone acts on it: a process that was killed between a write and its sync
/// leaves records that only the page cache holds. And blanks a torn tail, so that nothing of it is found again.
fn settle<F: Files>(files: &mut F, opened: &Opened) -> Result<(), WalError> {
    let name = segment_name(opened.segment.number);
    if let Some(torn) = &opened.torn {
        let zeros = [0; 64 << 10];
        let mut at = torn.offset;
        let end = torn.offset + torn.bytes;
        while at < end {
            let piece = (end - at).min(zeros.len() as u64);
            let written = files.write_at(&name, at, &zeros[..piece as usize]);
            written.map_err(|error| unwritten(files, "write", &name, piece, error))?;
            at += piece;
        }
    }
    files.sync(&name).map_err(|error| failed(files, "sync", &name, error))?;
    if opened.at == opened.segment.first_group() && opened.segment.number > 1 {
        let before = segment_name(opened.segment.number - 1);
        files.sync(&before).map_err(|error| failed(files, "sync", &before, error))?;
    }
    files.sync_dir().map_err(|error| failed(files, "sync", "", error))
}

/// The walk along the groups of a log.
struct Walk {
    owner: Owner,
    seed: LogSeed,
    recovery: Recovery,
    index: Index,
    /// The sequence of the group that comes next.
    sequence: u64,
    before: Seal,
    /// Whether the group before holds no record, so that nothing is lost with it.
    sealed: bool,
}

/// Where the walk through one segment ended.
enum Stop {
    /// At the mark that ends the segment.
    End,
    /// At a place where no whole group is.
    At(u64, Damaged),
}

impl Walk {
    /// The owner is who the first segment says; its first record must say the same.
    fn new<F: Files>(files: &mut F) -> Result<Walk, WalError> {
        let owner = match files.len(&segment_name(1)) {
            Ok(_) => Segment::open(files, 1)?.head(files)?.owner,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(WalError::Corrupt {
                    path: files.path(&segment_name(1)),
                    segment: 1,
                    offset: 0,
                    reason: Corruption::Missing,
                });
            }
            // A file that cannot be looked at now may be whole.
            Err(error) => return Err(failed(files, "length of", &segment_name(1), error)),
        };
        Ok(Walk {
            owner,
            seed: owner.seed(),
            recovery: Recovery::new(),
            index: Index::default(),
            sequence: 1,
            before: Seal::default(),
            sealed: true,
        })
    }

    fn walk<F: Files>(mut self, files: &mut F, numbers: &[u64]) -> Result<Opened, WalError> {
        let mut number = 1;
        loop {
            let (mut segment, head) = self.enter(files, number, numbers)?;
            let (at, damaged) = match self.follow(files, &mut segment, &head)? {
                Stop::End => {
                    number += 1;
                    continue;
                }
                Stop::At(at, damaged) => (at, damaged),
            };
            let torn = self.judge(files, &mut segment, &head, at, damaged)?;
            let prepared = self.unused(files, &segment, damaged, torn, numbers)?;
            return Ok(Opened {
                recovered: self.recovery.finish().map_err(|reason| WalError::Impossible {
                    path: files.path(&segment.name),
                    segment: segment.number,
                    offset: at,
                    reason,
                })?,
                index: self.index,
                segment: head,
                at,
                sequence: self.sequence,
                before: self.before,
                sealed: self.sealed,
                prepared,
                torn,
            });
        }
    }

    /// Opens a segment that the log needs.
    fn enter<F: Files>(&self, files: &mut F, number: u64, numbers: &[u64]) -> Result<(Segment, SegmentHead), WalError> {
        if numbers.binary_search(&number).is_err() {
            let path = files.path(&segment_name(number));
            return Err(WalError::Corrupt { path, segment: number, offset: 0, reason: Corruption::Missing });
        }
        let mut segment = Segment::open(files, number)?;
        let head = segment.head(files)?;
        if head.owner != self.owner {
            return Err(segment.corrupt(files, 32, Corruption::Foreign));
        }
        Ok((segment, head))
    }

    /// Takes whole groups until there is none.
    fn follow<F: Files>(&mut self, files: &mut F, segment: &mut Segment, head: &SegmentHead) -> Result<Stop, WalError> {
        let mut at = head.first_group();
        loop {
            match segment.at(files, head, self.seed, at)? {
                Found::Damaged(damaged) => {
                    if let Some(group) = &damaged.head {
                        self.check_order(files, segment, at, group)?;
                    }
                    return Ok(Stop::At(at, damaged));
                }
                Found::End(group) => {
                    self.check_order(files, segment, at, &group)?;
                    return Ok(Stop::End);
                }
                Found::Group(group, body) => {
                    self.check_order(files, segment, at, &group)?;
                    self.take_group(files, segment, head.align, at, &group, &body)?;
                    at += padded(group.bytes(), head.align);
                }
            }
        }
    }

    /// A head is where it belongs only if it continues the numbers and seals the very group before it.
    fn check_order<F: Files>(&self, files: &F, segment: &Segment, at: u64, group: &GroupHead) -> Result<(), WalError> {
        if group.sequence != self.sequence {
            let reason = Corruption::Sequence { found: group.sequence, expected: self.sequence };
            return Err(segment.corrupt(files, at, reason));
        }
        if group.before != self.before {
            return Err(segment.corrupt(files, at, Corruption::Seal));
        }
        Ok(())
    }

    fn take_group<F: Files>(
        &mut self,
        files: &F,
        segment: &Segment,
        align: u32,
        group_at: u64,
        group: &GroupHead,
        body: &bytes::Bytes,
    ) -> Result<(), WalError> {
        let body_at = group_at + GROUP_HEAD_BYTES as u64;
        let mut next = 0;
        while let Some(placed) = checked_record(body, next) {
            next = placed.end();
            let at = body_at + placed.at as u64;
            let record = record::decode(placed.head.kind, &placed.body(body))
                .map_err(|reason| segment.corrupt(files, at, reason))?;
            if let Record::Formatted(formatted) = &record
                && Owner::of(formatted) != self.owner
            {
                return Err(segment.corrupt(files, at, Corruption::Foreign));
            }
            if let Some(slots) = record::run(&record).and_then(|(first, entries)| Span::of(first, entries.len())) {
                let block = Block {
                    at: at as u32,
                    end: (body_at + next as u64) as u32,
                    group_at: group_at as u32,
                    group_end: (group_at + group.bytes()) as u32,
                    sequence: group.sequence,
                    slots,
                };
                self.index.note(Home { segment: segment.number, align }, block);
            }
            self.recovery.record(record).map_err(|reason| WalError::Impossible {
                path: files.path(&segment.name),
                segment: segment.number,
                offset: at,
                reason,
            })?;
        }
        self.sequence += 1;
        self.before = group.seal();
        self.sealed = group.records == 0;
        Ok(())
    }

    /// Decides what damage at the end of all whole groups is: nothing there, a torn write, or corruption.
    fn judge<F: Files>(
        &self,
        files: &mut F,
        segment: &mut Segment,
        head: &SegmentHead,
        at: u64,
        damaged: Damaged,
    ) -> Result<Option<TornTail>, WalError> {
        let corrupt = |files: &F, segment: &Segment, known_by| {
            let reason = Corruption::Group { damage: damaged.damage, known_by };
            Err(segment.corrupt(files, damaged.offset, reason))
        };
        if self.sequence == 1 {
            return corrupt(files, segment, KnownBy::First);
        }
        let Some(last) = segment.last_written(files, at, segment.bytes)? else {
            return Ok(None);
        };
        if mutant(Mutant::CorruptionTakenForTorn) {
            return Ok(Some(TornTail { segment: segment.number, offset: at, bytes: last - at + 1 }));
        }
        if let Some(known_by) = segment.later_write(files, head, self.seed, (at, damaged), last)? {
            return corrupt(files, segment, known_by);
        }
        if let Some((offset, bit)) = flipped_bit(files, segment, head, self.seed, self.sequence, at)? {
            return corrupt(files, segment, KnownBy::OneBit { offset, bit });
        }
        Ok(Some(TornTail { segment: segment.number, offset: at, bytes: last - at + 1 }))
    }

    /// Makes sure that nothing behind the last segment is in use: at most one was prepared ahead, and it is
    /// blank. Returns that one.
    fn unused<F: Files>(
        &self,
        files: &mut F,
        last: &Segment,
        damaged: Damaged,
        torn: Option<TornTail>,
        numbers: &[u64],
    ) -> Result<Option<SegmentHead>, WalError> {
        let mut later = numbers.iter().filter(|number| **number > last.number);
        let Some(number) = later.next() else {
            return Ok(None);
        };
        let in_use = Corruption::Group { damage: damaged.damage, known_by: KnownBy::LaterSegment };
        if later.next().is_some() {
            return Err(last.corrupt(files, damaged.offset, in_use));
        }
        let (mut segment, head) = self.enter(files, *number, numbers)?;
        if *number != last.number + 1 {
            return Err(last.corrupt(files, damaged.offset, in_use));
        }
        // Its first megabyte tells, as the first group goes to its begin.
        let begin = head.first_group();
        let end = segment.bytes.min(begin + PIECE_BYTES as u64);
        let Some(written) = segment.last_written(files, begin, end)? else {
            return Ok(Some(head));
        };
        // The mark that ends the segment before is durable before anything is written here. So bytes here say that
        // what is damaged there is the mark, or a group before it; where nothing is damaged, they are stray.
        match segment.later_head(files, &head, self.seed, begin, written)? {
            None if torn.is_none() => Ok(None),
            Some(_) | None => Err(last.corrupt(files, damaged.offset, in_use)),
        }
    }
}
