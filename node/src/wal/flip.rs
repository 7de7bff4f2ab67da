//! The room for telling a flipped bit from a torn write in the last group, which no seal protects yet.
//!
//! A torn write leaves whole sectors as they were (zeros) or garbled; it does not change one bit in the middle of
//! good bytes. A CRC names the place of a lone flipped bit: if turning it makes the group whole, and no lost
//! sector explains it, the group was written whole and rotted.

use bytes::{Bytes, BytesMut};

use super::error::WalError;
use super::files::Files;
use super::layout::{
    GROUP_BYTES_MAX, GROUP_HEAD_BYTES, GroupHead, GroupSeed, HeadKind, LogSeed, RECORD_HEAD_BYTES, RecordHead,
    SegmentHead, padded,
};
use super::scan::{Segment, check_body, record_of};

/// What a disk loses as a whole, at the least.
const SECTOR_BYTES: u64 = 512;

/// The byte and the bit that make the group at `at` whole again when turned, if one does.
pub(super) fn flipped_bit<F: Files>(
    files: &mut F,
    segment: &mut Segment,
    segment_head: &SegmentHead,
    seed: LogSeed,
    sequence: u64,
    at: u64,
) -> Result<Option<(u64, u8)>, WalError> {
    let head = segment.view(files, at, GROUP_HEAD_BYTES)?;
    let heads: Vec<(GroupHead, Option<usize>)> = match GroupHead::decode(&head, seed, segment.number, at) {
        Some(whole) => vec![(whole, None)],
        None => mended_heads(&head, seed, segment.number, at),
    };
    for (group, bit) in heads {
        let fits = padded(group.bytes(), segment_head.align) <= segment.bytes.saturating_sub(at);
        if group.sequence != sequence || !fits || group.body_bytes as usize > GROUP_BYTES_MAX {
            continue;
        }
        let body = segment.view(files, at + GROUP_HEAD_BYTES as u64, group.body_bytes as usize)?;
        let seed = seed.group(group.sequence);
        let bit = match bit {
            Some(bit) if group.kind == HeadKind::End || check_body(&group, seed, &body).is_ok() => Some(bit),
            Some(_) => None,
            None => mended_body(&group, seed, &body).map(|bit| bit + GROUP_HEAD_BYTES * 8),
        };
        let Some(bit) = bit else { continue };
        let whole = [&head[..], &body[..]].concat();
        if !lost_sector_explains(&whole, at, bit) {
            return Ok(Some((at + (bit / 8) as u64, (bit % 8) as u8)));
        }
    }
    Ok(None)
}

/// Whether the bit is one that a lost write leaves behind too: it should be set, and everything around it in its
/// sector, or behind it, is still zero.
fn lost_sector_explains(group: &[u8], at: u64, bit: usize) -> bool {
    let byte = bit / 8;
    if group.get(byte).is_none_or(|byte| byte >> (bit % 8) & 1 == 1) {
        return false;
    }
    let sector = (at + byte as u64) / SECTOR_BYTES * SECTOR_BYTES;
    let begin = usize::try_from(sector.saturating_sub(at)).unwrap_or(usize::MAX);
    let end = usize::try_from(sector + SECTOR_BYTES - at).unwrap_or(usize::MAX).min(group.len());
    let blank = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    blank(group.get(begin..end)) || blank(group.get(byte..))
}

/// Heads that are whole with one bit turned, and that bit. There are 320 to try.
fn mended_heads(head: &[u8], seed: LogSeed, segment: u64, at: u64) -> Vec<(GroupHead, Option<usize>)> {
    let mut tried = head.to_vec();
    let mut found = Vec::new();
    for bit in 0..head.len() * 8 {
        tried[bit / 8] ^= 1 << (bit % 8);
        if let Some(group) = GroupHead::decode(&tried, seed, segment, at) {
            found.push((group, Some(bit)));
        }
        tried[bit / 8] ^= 1 << (bit % 8);
    }
    found
}

/// The bit of the body that makes it whole when turned.
fn mended_body(group: &GroupHead, seed: GroupSeed, body: &Bytes) -> Option<usize> {
    let mut at = 0;
    while let Some(record) = record_of(seed, body, at) {
        at = record.end();
    }
    let bits = suspects(seed, body, at);
    let mut tried = BytesMut::from(&body[..]);
    for bit in bits {
        *tried.get_mut(bit / 8)? ^= 1 << (bit % 8);
        let whole = tried.freeze();
        if check_body(group, seed, &whole).is_ok() {
            return Some(bit);
        }
        tried = whole.into();
        *tried.get_mut(bit / 8)? ^= 1 << (bit % 8);
    }
    None
}

/// Bits of the record at `at` whose turning makes its checksum right.
fn suspects(seed: GroupSeed, body: &Bytes, at: usize) -> Vec<usize> {
    let Some(rest) = body.get(at..) else { return Vec::new() };
    let (Some(head), Ok(offset)) = (RecordHead::decode(rest), u32::try_from(GROUP_HEAD_BYTES + at)) else {
        return Vec::new();
    };
    let mut bits = Vec::new();
    if let Some(covered) = rest.get(4..head.bytes()) {
        let difference = seed.record(offset, covered) ^ head.checksum;
        if difference.is_power_of_two() {
            bits.push(at * 8 + difference.trailing_zeros() as usize);
        } else if let Some(bit) = bit_of(difference, covered.len()) {
            bits.push((at + 4) * 8 + bit);
        }
    }
    // A flip in the length changes what is covered, so each of its bits is tried by itself.
    let mut tried = rest.to_vec();
    for bit in 5 * 8..RECORD_HEAD_BYTES * 8 {
        tried[bit / 8] ^= 1 << (bit % 8);
        let whole = RecordHead::decode(&tried)
            .and_then(|head| tried.get(4..head.bytes()))
            .is_some_and(|covered| seed.record(offset, covered) == head.checksum);
        if whole {
            bits.push(at * 8 + bit);
        }
        tried[bit / 8] ^= 1 << (bit % 8);
    }
    bits
}

/// Which bit of so many covered bytes changes a CRC-32C by `difference`, if a single one does: CRCs are linear, so
/// the change depends only on how many bits follow the flipped one.
fn bit_of(difference: u32, covered_bytes: usize) -> Option<usize> {
    /// The Castagnoli polynomial, lowest bit first.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut change = 1u32;
    for bit in (0..covered_bytes * 8).rev() {
        change = change >> 1 ^ if change & 1 == 1 { POLYNOMIAL } else { 0 };
        if change == difference {
            return Some(bit);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_names_the_bit_that_was_flipped() {
        let bytes: Vec<u8> = (0..97u8).map(|byte| byte.wrapping_mul(31)).collect();
        let whole = crc32c::crc32c(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(bit_of(crc32c::crc32c(&flipped) ^ whole, bytes.len()), Some(bit));
        }
    }
}
