//! The room for the bytes around records: segment heads, group heads, record heads, and their checksums.
//!
//! docs/storage.md describes the same byte by byte. All numbers are little-endian. Nothing here reads or writes.

use crc32c::{crc32c, crc32c_append};
use paxos_core::limits::FRAME_BYTES_MAX;
use paxos_core::{ClusterId, Formatted, Incarnation, NodeId};

use super::error::Corruption;

/// First bytes of every segment.
const SEGMENT_MAGIC: [u8; 8] = *b"PAXOSWAL";
/// Of everything in this file and of the record bodies. Record kinds are append-only and do not raise it.
pub(super) const VERSION: u16 = 1;
const GROUP_MAGIC: [u8; 4] = *b"pxGR";
const END_MAGIC: [u8; 4] = *b"pxEN";

pub(super) const SEGMENT_HEAD_BYTES: usize = 64;
pub(super) const GROUP_HEAD_BYTES: usize = 40;
pub(super) const RECORD_HEAD_BYTES: usize = 8;

/// Largest body of a record: a frame's worth of entries and the head. Below 2^24, as the length field has 24 bits.
pub(super) const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX + (64 << 10);
/// A group that has this many bytes takes no further record: what recovery must hold at once stays bounded.
pub(super) const GROUP_CLOSE_BYTES: usize = 4 << 20;
/// Largest group, head included: one more record of the largest size.
pub(super) const GROUP_BYTES_MAX: usize = GROUP_CLOSE_BYTES + RECORD_HEAD_BYTES + RECORD_BYTES_MAX;
/// Longest segment: offsets within one are kept in 32 bits.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Groups may begin at multiples of 8 at the least ...
pub(super) const ALIGN_BYTES_MIN: u32 = 8;
/// ... and of 64 KiB, the largest block a device garbles at once, at the most.
pub(super) const ALIGN_BYTES_MAX: u32 = 64 << 10;

/// Whose log a file belongs to. Every checksum below is continued from it, so that a file of another node's log,
/// or of an earlier life of this one, is never taken for a piece of this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
}

impl Owner {
    pub(super) fn of(formatted: &Formatted) -> Owner {
        Owner { cluster: formatted.cluster, node: formatted.node, incarnation: formatted.incarnation }
    }

    fn bytes(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..16].copy_from_slice(&self.cluster.get().to_le_bytes());
        bytes[16..20].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[20..].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes
    }

    pub(super) fn seed(&self) -> LogSeed {
        LogSeed(crc32c(&self.bytes()))
    }
}

/// The checksum of the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogSeed(u32);

impl LogSeed {
    pub(super) fn group(self, sequence: u64) -> GroupSeed {
        GroupSeed(crc32c_append(self.0, &sequence.to_le_bytes()))
    }
}

/// The checksum of owner and group sequence: what the records of one group begin from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupSeed(u32);

impl GroupSeed {
    /// The checksum of a record, without its first four bytes, that begins `offset` bytes into its group. The
    /// offset is mixed in by exclusive or: a record at any other place of its group has another checksum.
    pub(super) fn record(self, offset: u32, kind_length_body: &[u8]) -> u32 {
        crc32c_append(self.0 ^ offset, kind_length_body)
    }

    /// The checksum of a group without records; `fold` adds one record's.
    pub(super) fn empty(self) -> u32 {
        self.0
    }
}

/// Adds the checksum of the next record to that of its group.
pub(super) fn fold(group: u32, record: u32) -> u32 {
    crc32c_append(group, &record.to_le_bytes())
}

/// The sum of the little-endian words of a body, the last one filled up with zeros.
pub(super) fn sum(body: &[u8]) -> u32 {
    let (words, rest) = body.as_chunks();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let sum = words.iter().fold(0u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(*word)));
    sum.wrapping_add(u32::from_le_bytes(last))
}

/// Rounds up to the next multiple of `align`, a power of two.
pub(super) fn padded(bytes: u64, align: u32) -> u64 {
    let mask = u64::from(align) - 1;
    bytes.saturating_add(mask) & !mask
}

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016}.wal")
}

/// The number of the segment in a file of this name, if it is one.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0)
}

/// The first bytes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHead {
    pub(super) owner: Owner,
    /// From 1, without a gap.
    pub(super) number: u64,
    /// How long the file is.
    pub(super) bytes: u64,
    /// Groups begin at multiples of this.
    pub(super) align: u32,
}

impl SegmentHead {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEAD_BYTES] {
        let mut head = [0; SEGMENT_HEAD_BYTES];
        head[..8].copy_from_slice(&SEGMENT_MAGIC);
        head[8..10].copy_from_slice(&VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&self.align.to_le_bytes());
        head[16..24].copy_from_slice(&self.number.to_le_bytes());
        head[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        head[32..60].copy_from_slice(&self.owner.bytes());
        let checksum = crc32c(&head[..60]);
        head[60..].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    pub(super) fn decode(head: &[u8]) -> Result<SegmentHead, Corruption> {
        let mut rest = head;
        let mut parts = || -> Option<_> {
            let magic: [u8; 8] = take(&mut rest)?;
            let version = u16::from_le_bytes(take(&mut rest)?);
            let reserved = u16::from_le_bytes(take(&mut rest)?);
            let align = u32::from_le_bytes(take(&mut rest)?);
            let number = u64::from_le_bytes(take(&mut rest)?);
            let bytes = u64::from_le_bytes(take(&mut rest)?);
            let cluster = ClusterId::new(u128::from_le_bytes(take(&mut rest)?));
            let node = NodeId(u32::from_le_bytes(take(&mut rest)?));
            let incarnation = Incarnation(u64::from_le_bytes(take(&mut rest)?));
            let checksum = u32::from_le_bytes(take(&mut rest)?);
            let owner = Owner { cluster, node, incarnation };
            Some((magic, version, reserved, checksum, SegmentHead { owner, number, bytes, align }))
        };
        let Some((magic, version, reserved, checksum, decoded)) = parts() else {
            return Err(Corruption::SegmentHead);
        };
        if magic != SEGMENT_MAGIC || head.get(..60).map(crc32c) != Some(checksum) {
            return Err(Corruption::SegmentHead);
        }
        if version != VERSION || reserved != 0 {
            return Err(Corruption::Version { found: version });
        }
        let aligned = decoded.align.is_power_of_two() && (ALIGN_BYTES_MIN..=ALIGN_BYTES_MAX).contains(&decoded.align);
        if !aligned || decoded.bytes > SEGMENT_BYTES_MAX {
            return Err(Corruption::SegmentHead);
        }
        Ok(decoded)
    }

    /// Where the first group of the segment begins.
    pub(super) fn first_group(&self) -> u64 {
        padded(SEGMENT_HEAD_BYTES as u64, self.align)
    }

    /// What must stay free behind every group: room for the mark that ends the segment.
    pub(super) fn end_room(&self) -> u64 {
        padded(GROUP_HEAD_BYTES as u64, self.align)
    }
}

/// What a group's head says of the group before it: its seal. It is written only after that group's sync
/// returned, so whoever finds it knows that the group before was durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seal {
    pub(super) body_bytes: u32,
    pub(super) checksum: u32,
}

/// Whether a head begins a group of records or ends a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeadKind {
    /// Records follow.
    Group,
    /// The next group is in the next segment; its sequence is this head's.
    End,
}

/// The first bytes of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHead {
    pub(super) kind: HeadKind,
    /// From 1 on, one more with each group of the log.
    pub(super) sequence: u64,
    /// Bytes of records behind the head, padding not counted.
    pub(super) body_bytes: u32,
    /// How many records.
    pub(super) records: u32,
    /// The fold of their checksums.
    pub(super) checksum: u32,
    /// The sum of the body's words: a second opinion of another kind, so that garbage which one checksum takes
    /// for good bytes, or for good bytes but one bit, is still garbage.
    pub(super) sum: u32,
    /// The seal of the group before.
    pub(super) before: Seal,
}

impl GroupHead {
    pub(super) fn encode(&self, seed: LogSeed, segment: u64, offset: u64) -> [u8; GROUP_HEAD_BYTES] {
        let mut head = [0; GROUP_HEAD_BYTES];
        head[..4].copy_from_slice(match self.kind {
            HeadKind::Group => &GROUP_MAGIC,
            HeadKind::End => &END_MAGIC,
        });
        head[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        head[16..20].copy_from_slice(&self.body_bytes.to_le_bytes());
        head[20..24].copy_from_slice(&self.records.to_le_bytes());
        head[24..28].copy_from_slice(&self.checksum.to_le_bytes());
        head[28..32].copy_from_slice(&self.before.body_bytes.to_le_bytes());
        head[32..36].copy_from_slice(&self.before.checksum.to_le_bytes());
        head[36..].copy_from_slice(&self.sum.to_le_bytes());
        let checksum = head_checksum(&head, seed, segment, offset);
        head[4..8].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    /// The head at this place, or `None` if these bytes were not written here for this log.
    pub(super) fn decode(head: &[u8], seed: LogSeed, segment: u64, offset: u64) -> Option<GroupHead> {
        let head: &[u8; GROUP_HEAD_BYTES] = head.first_chunk()?;
        let mut rest: &[u8] = head;
        let kind = match take(&mut rest)? {
            GROUP_MAGIC => HeadKind::Group,
            END_MAGIC => HeadKind::End,
            _ => return None,
        };
        let checksum = u32::from_le_bytes(take(&mut rest)?);
        if checksum != head_checksum(head, seed, segment, offset) {
            return None;
        }
        Some(GroupHead {
            kind,
            sequence: u64::from_le_bytes(take(&mut rest)?),
            body_bytes: u32::from_le_bytes(take(&mut rest)?),
            records: u32::from_le_bytes(take(&mut rest)?),
            checksum: u32::from_le_bytes(take(&mut rest)?),
            before: Seal {
                body_bytes: u32::from_le_bytes(take(&mut rest)?),
                checksum: u32::from_le_bytes(take(&mut rest)?),
            },
            sum: u32::from_le_bytes(take(&mut rest)?),
        })
    }

    pub(super) fn seal(&self) -> Seal {
        Seal { body_bytes: self.body_bytes, checksum: self.checksum }
    }

    /// Head and records, without padding.
    pub(super) fn bytes(&self) -> u64 {
        GROUP_HEAD_BYTES as u64 + u64::from(self.body_bytes)
    }
}

/// Whether a head may begin here: cheap, for searching.
pub(super) fn looks_like_head(bytes: &[u8]) -> bool {
    bytes.starts_with(&GROUP_MAGIC) || bytes.starts_with(&END_MAGIC)
}

fn head_checksum(head: &[u8; GROUP_HEAD_BYTES], seed: LogSeed, segment: u64, offset: u64) -> u32 {
    let mut covered = [0; 16 + GROUP_HEAD_BYTES - 4];
    covered[..8].copy_from_slice(&segment.to_le_bytes());
    covered[8..16].copy_from_slice(&offset.to_le_bytes());
    covered[16..20].copy_from_slice(&head[..4]);
    covered[20..].copy_from_slice(&head[8..]);
    crc32c_append(seed.0, &covered)
}

/// The first bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHead {
    pub(super) checksum: u32,
    pub(super) kind: u8,
    pub(super) length: u32,
}

impl RecordHead {
    pub(super) fn kind_length(kind: u8, length: u32) -> [u8; 4] {
        (u32::from(kind) | length << 8).to_le_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<RecordHead> {
        let mut rest = bytes;
        let checksum = u32::from_le_bytes(take(&mut rest)?);
        let kind_length = u32::from_le_bytes(take(&mut rest)?);
        Some(RecordHead { checksum, kind: kind_length as u8, length: kind_length >> 8 })
    }

    /// Head and body.
    pub(super) fn bytes(&self) -> usize {
        RECORD_HEAD_BYTES + self.length as usize
    }
}

/// Takes the next bytes of a slice, if there are so many.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}
