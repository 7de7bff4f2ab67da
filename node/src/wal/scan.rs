//! The room for reading a segment: what is at an offset, and is it whole? It judges bytes, never what to do
//! about them.

use std::io;

use bytes::{Bytes, BytesMut};

use super::error::{Corruption, Damage, KnownBy, WalError};
use super::files::Files;
use super::layout::{
    GROUP_BYTES_MAX, GROUP_HEAD_BYTES, GroupHead, GroupSeed, HeadKind, LogSeed, RECORD_HEAD_BYTES, RecordHead,
    SEGMENT_HEAD_BYTES, SegmentHead, fold, looks_like_head, padded, segment_name, sum,
};

/// Bytes asked for in one read: large enough to be sequential for any disk, small enough that a payload which
/// keeps its piece alive keeps little.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// A segment being read, with one piece of it in memory.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) number: u64,
    /// The length of the file.
    pub(super) bytes: u64,
    piece: Bytes,
    piece_at: u64,
}

/// What is at an offset where a group may begin.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole group, and its records.
    Group(GroupHead, Bytes),
    /// The mark behind the last group of a segment.
    End(GroupHead),
    /// No whole group.
    Damaged(Damaged),
}

/// A group that is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damaged {
    /// Where in the segment the damage begins.
    pub(super) offset: u64,
    pub(super) damage: Damage,
    /// Its head, if that is whole.
    pub(super) head: Option<GroupHead>,
}

impl Damaged {
    /// Where this group, which begins at `at`, ends at the latest. Nothing is ever written behind a group before
    /// the group is durable, and the room there is zeros until then.
    fn end(&self, at: u64, align: u32) -> u64 {
        let bytes = self.head.map_or(GROUP_BYTES_MAX as u64, |head| head.bytes());
        at.saturating_add(padded(bytes, align))
    }
}

impl Segment {
    pub(super) fn open<F: Files>(files: &mut F, number: u64) -> Result<Segment, WalError> {
        let name = segment_name(number);
        let bytes = files.len(&name).map_err(|error| failed(files, "length of", &name, error))?;
        Ok(Segment { name, number, bytes, piece: Bytes::new(), piece_at: 0 })
    }

    /// Reads and checks the segment's head, whoever owns it.
    pub(super) fn head<F: Files>(&mut self, files: &mut F) -> Result<SegmentHead, WalError> {
        let bytes = self.view(files, 0, SEGMENT_HEAD_BYTES)?;
        let expected = SEGMENT_HEAD_BYTES as u64;
        if (bytes.len() as u64) < expected {
            return Err(self.corrupt(files, 0, Corruption::Length { bytes: self.bytes, expected }));
        }
        let head = SegmentHead::decode(&bytes).map_err(|reason| self.corrupt(files, 0, reason))?;
        if head.number != self.number {
            return Err(self.corrupt(files, 16, Corruption::Number { found: head.number }));
        }
        if head.bytes != self.bytes {
            let reason = Corruption::Length { bytes: self.bytes, expected: head.bytes };
            return Err(self.corrupt(files, self.bytes.min(head.bytes), reason));
        }
        Ok(head)
    }

    pub(super) fn corrupt<F: Files>(&self, files: &F, offset: u64, reason: Corruption) -> WalError {
        WalError::Corrupt { path: files.path(&self.name), segment: self.number, offset, reason }
    }

    /// The bytes from `offset` on: `length` of them, or fewer where the file ends.
    pub(super) fn view<F: Files>(&mut self, files: &mut F, offset: u64, length: usize) -> Result<Bytes, WalError> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let skip = offset.checked_sub(self.piece_at).and_then(|skip| usize::try_from(skip).ok());
        if let Some(skip) = skip
            && let Some(end) = skip.checked_add(length)
            && end <= self.piece.len()
        {
            return Ok(self.piece.slice(skip..end));
        }
        let want = length.max(PIECE_BYTES).min(left);
        // The piece is used again unless a payload of it is still held.
        let mut piece = std::mem::take(&mut self.piece).try_into_mut().unwrap_or_else(|_| BytesMut::new());
        piece.resize(want, 0);
        let read =
            read_fully(files, &self.name, offset, &mut piece).map_err(|e| failed(files, "read", &self.name, e))?;
        piece.truncate(read);
        self.piece = piece.freeze();
        self.piece_at = offset;
        Ok(self.piece.slice(..length.min(read)))
    }

    /// Judges the group at `offset`.
    pub(super) fn at<F: Files>(
        &mut self,
        files: &mut F,
        head: &SegmentHead,
        seed: LogSeed,
        offset: u64,
    ) -> Result<Found, WalError> {
        let damaged = |offset, damage| Ok(Found::Damaged(Damaged { offset, damage, head: None }));
        let bytes = self.view(files, offset, GROUP_HEAD_BYTES)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return damaged(offset, Damage::Blank);
        }
        let Some(group) = GroupHead::decode(&bytes, seed, self.number, offset) else {
            return damaged(offset, Damage::Head);
        };
        let room = self.bytes.saturating_sub(offset);
        let body_bytes = group.body_bytes as usize;
        if group.kind == HeadKind::End {
            return if group.body_bytes == 0 { Ok(Found::End(group)) } else { damaged(offset, Damage::Head) };
        }
        if padded(group.bytes(), head.align) > room || body_bytes > GROUP_BYTES_MAX {
            return damaged(offset, Damage::Head);
        }
        let body = self.view(files, offset.saturating_add(GROUP_HEAD_BYTES as u64), body_bytes)?;
        match check_body(&group, seed.group(group.sequence), &body) {
            Ok(()) => Ok(Found::Group(group, body)),
            Err((at, damage)) => {
                let offset = offset + (GROUP_HEAD_BYTES + at) as u64;
                Ok(Found::Damaged(Damaged { offset, damage, head: Some(group) }))
            }
        }
    }

    /// What shows that something was written after the damaged group at `at`, so that the group was durable;
    /// `last` is the last byte of the segment that is not zero.
    pub(super) fn later_write<F: Files>(
        &mut self,
        files: &mut F,
        head: &SegmentHead,
        seed: LogSeed,
        (at, damaged): (u64, Damaged),
        last: u64,
    ) -> Result<Option<KnownBy>, WalError> {
        let behind = at + u64::from(head.align);
        if let Some(offset) = self.later_head(files, head, seed, behind, last)? {
            return Ok(Some(KnownBy::LaterGroup { offset }));
        }
        Ok((last >= damaged.end(at, head.align)).then_some(KnownBy::LaterBytes { offset: last }))
    }

    /// Searches from `offset` to `last` for a whole group head.
    pub(super) fn later_head<F: Files>(
        &mut self,
        files: &mut F,
        head: &SegmentHead,
        seed: LogSeed,
        offset: u64,
        last: u64,
    ) -> Result<Option<u64>, WalError> {
        let mut at = padded(offset, head.align);
        while at <= last {
            let piece = self.view(files, at, PIECE_BYTES)?;
            if piece.is_empty() {
                break;
            }
            for begin in (0..piece.len()).step_by(head.align as usize) {
                let place = at + begin as u64;
                if looks_like_head(&piece[begin..]) {
                    let bytes = self.view(files, place, GROUP_HEAD_BYTES)?;
                    if GroupHead::decode(&bytes, seed, self.number, place).is_some() {
                        return Ok(Some(place));
                    }
                }
            }
            at += padded(piece.len() as u64, head.align);
        }
        Ok(None)
    }

    /// Where the last byte from `offset` to `end` is that is not zero.
    pub(super) fn last_written<F: Files>(
        &mut self,
        files: &mut F,
        offset: u64,
        end: u64,
    ) -> Result<Option<u64>, WalError> {
        let mut at = offset;
        let mut last = None;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let piece = self.view(files, at, length)?;
            if piece.is_empty() {
                break;
            }
            last = last_nonzero(&piece).map(|written| at + written as u64).or(last);
            at += piece.len() as u64;
        }
        Ok(last)
    }
}

/// The place of the last byte that is not zero; compares pages, as nearly all of them are.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for page in bytes.rchunks(ZEROS.len()) {
        let begin = end - page.len();
        if page != &ZEROS[..page.len()] {
            return page.iter().rposition(|byte| *byte != 0).map(|at| begin + at);
        }
        end = begin;
    }
    None
}

/// A record and where it begins in the bytes it was found in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) at: usize,
    pub(super) head: RecordHead,
}

impl Placed {
    /// Where the record after it begins.
    pub(super) fn end(&self) -> usize {
        self.at + self.head.bytes()
    }

    /// Its body, of the bytes it was found in.
    pub(super) fn body(&self, bytes: &Bytes) -> Bytes {
        bytes.slice(self.at + RECORD_HEAD_BYTES..self.end())
    }
}

/// The record at `at` of these bytes, if its checksum is right for a record that begins `offset` bytes into its
/// group.
pub(super) fn record_at(seed: GroupSeed, bytes: &[u8], at: usize, offset: u32) -> Option<Placed> {
    let rest = bytes.get(at..)?;
    let head = RecordHead::decode(rest)?;
    let covered = rest.get(4..head.bytes())?;
    (seed.record(offset, covered) == head.checksum).then_some(Placed { at, head })
}

/// The record at `at` of a group's body, if its checksum is right.
pub(super) fn record_of(seed: GroupSeed, body: &[u8], at: usize) -> Option<Placed> {
    record_at(seed, body, at, u32::try_from(GROUP_HEAD_BYTES + at).ok()?)
}

/// The record at `at` of a body whose checksums were all right.
pub(super) fn checked_record(body: &[u8], at: usize) -> Option<Placed> {
    let head = RecordHead::decode(body.get(at..)?)?;
    (at + head.bytes() <= body.len()).then_some(Placed { at, head })
}

/// Whether the body is exactly the records that its head speaks of; if not, where it begins to be not.
pub(super) fn check_body(group: &GroupHead, seed: GroupSeed, body: &[u8]) -> Result<(), (usize, Damage)> {
    let (mut at, mut records, mut checksum) = (0, 0u32, seed.empty());
    while at < body.len() {
        let record = record_of(seed, body, at).ok_or((at, Damage::Record))?;
        checksum = fold(checksum, record.head.checksum);
        records += 1;
        at = record.end();
    }
    if body.len() != group.body_bytes as usize {
        return Err((at, Damage::Record));
    }
    if (records, checksum, sum(body)) != (group.records, group.checksum, group.sum) {
        return Err((0, Damage::Mixed));
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_fully<F: Files>(files: &mut F, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match files.read_at(name, offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            read => filled += read.min(buffer.len() - filled),
        }
    }
    Ok(filled)
}

/// What to say of a call that failed.
pub(super) fn failed<F: Files>(files: &F, operation: &'static str, name: &str, source: io::Error) -> WalError {
    WalError::Io { operation, path: files.path(name), source }
}

/// The same for one that needs room.
pub(super) fn unwritten<F: Files>(
    files: &F,
    operation: &'static str,
    name: &str,
    bytes_needed: u64,
    source: io::Error,
) -> WalError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WalError::NoSpace { path: files.path(name), bytes_needed }
        }
        _ => failed(files, operation, name, source),
    }
}
