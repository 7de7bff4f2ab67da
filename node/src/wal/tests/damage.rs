//! Damage to what was durable: every flipped bit, every missing byte, missing and misplaced files. Each gives
//! either exactly the acknowledged records or a refusal that says where and why.

use super::*;
use crate::wal::{Corruption, Damage, Files, KnownBy};

pub(super) const FIRST: &str = "0000000000000001.wal";
pub(super) const SECOND: &str = "0000000000000002.wal";

/// A log of two segments: the first ended by its mark, two groups in the second, the last group larger than a
/// sector. Returns the records of the last group apart.
pub(super) fn two_segments(align_bytes: u32) -> (MemoryFiles, Vec<Record>, Vec<Record>, WalSettings) {
    let settings = WalSettings { segment_bytes: if align_bytes == 8 { 1536 } else { 4096 }, align_bytes };
    let (mut wal, _) = Wal::open(fresh(settings), settings).expect("a new log");
    let mut before = vec![Record::Formatted(formatted())];
    for at in 0.. {
        let group = if at == 0 {
            vec![started(1), Record::Promised(ballot(1))]
        } else {
            vec![accepted(1, at, 1, 20), chosen(at)]
        };
        append_all(&mut wal, &group);
        wal.sync().expect("nothing fails");
        before.extend(group);
        if wal.segment.number == 2 {
            break;
        }
    }
    let last = vec![accepted(2, 40, 2, 400), Record::Promised(ballot(7))];
    append_all(&mut wal, &last);
    wal.sync().expect("nothing fails");
    assert_eq!(wal.segment.number, 2);
    (wal.into_files(), before, last, settings)
}

/// Where the last group begins, in the second segment.
pub(super) fn last_group(files: &MemoryFiles) -> usize {
    let found = Inspect::new(files.clone()).expect("a log");
    let groups = found.filter(|found| found.segment == 2 && matches!(found.item, Ok(Item::Group { .. })));
    groups.last().expect("a group").offset as usize
}

#[test]
fn a_flipped_bit_anywhere_is_harmless_or_refused() {
    for align_bytes in [8, 512] {
        let (whole, before, last, settings) = two_segments(align_bytes);
        let written = [before.clone(), last].concat();
        let at = last_group(&whole);
        let (mut refused, mut harmless, mut exposed) = (0, 0, 0);
        for name in [FIRST, SECOND] {
            let bytes = whole.clone().len(name).expect("a segment") as usize;
            for bit in 0..bytes * 8 {
                let mut files = whole.clone();
                files.edit(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                match Wal::open(&mut files, settings) {
                    Err(WalError::Corrupt { path, offset, .. }) => {
                        assert!(path == name || path == FIRST, "bit {bit} of {name} is blamed on {path}");
                        assert!(offset <= bit as u64 / 8, "bit {bit} is blamed on offset {offset}");
                        refused += 1;
                    }
                    Err(error) => panic!("bit {bit} of {name}: {error}"),
                    Ok((_, recovered)) if recovered == validated(&before) => {
                        // The exposure that docs/storage.md states: a write cut short explains this bit too.
                        let group = &contents(&mut whole.clone(), name)[bit / 8..];
                        let lone = group[0].is_power_of_two() && group[1..].iter().all(|byte| *byte == 0);
                        assert!(name == SECOND && bit / 8 >= at && lone, "bit {bit} of {name}");
                        exposed += 1;
                    }
                    Ok((_, recovered)) => {
                        assert_eq!(recovered, validated(&written), "bit {bit} of {name}");
                        assert_eq!(records(&mut files).expect("a whole log"), written);
                        harmless += 1;
                    }
                }
            }
        }
        // Padding and room that no group uses yet hold nothing; every other bit is guarded.
        let guarded: u64 = Inspect::new(whole).expect("a log").map(|found| guarded_bytes(&found.item)).sum();
        assert_eq!(refused + exposed, guarded * 8, "and {harmless} were harmless");
        assert!(exposed <= 1);
    }
}

fn guarded_bytes(item: &Result<Item, WalError>) -> u64 {
    match item {
        Ok(Item::Segment { .. }) => 64,
        Ok(Item::Group { bytes, .. }) => 40 + u64::from(*bytes),
        Ok(Item::End) => 40,
        Ok(Item::Record(_) | Item::Torn { .. } | Item::Unused { .. }) | Err(_) => 0,
    }
}

#[test]
fn the_reason_of_a_refusal_says_what_is_wrong_and_where() {
    let (whole, _, _, settings) = two_segments(512);
    let at = last_group(&whole);
    let group = |damage, known_by| Corruption::Group { damage, known_by };
    let length = |bytes, expected| Corruption::Length { bytes, expected };
    let later = KnownBy::LaterGroup { offset: at as u64 };
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, u64, Edit, Corruption); 12] = [
        (FIRST, 0, |bytes| bytes[0] ^= 1, Corruption::SegmentHead),
        (FIRST, 0, |bytes| bytes.truncate(63), length(63, 64)),
        (SECOND, 0, |bytes| bytes.clear(), length(0, 64)),
        (FIRST, 4095, |bytes| bytes.truncate(4095), length(4095, 4096)),
        (SECOND, 4096, |bytes| bytes.push(0), length(4097, 4096)),
        (FIRST, 512, |bytes| bytes[512..1024].fill(0), group(Damage::Blank, KnownBy::First)),
        (SECOND, 512, |bytes| bytes[512..1024].fill(0), group(Damage::Blank, later)),
        (SECOND, 512, |bytes| bytes[520] ^= 3, group(Damage::Head, later)),
        (SECOND, 552, |bytes| bytes[560] ^= 3, group(Damage::Record, later)),
        (FIRST, 3584, |bytes| bytes[3584..].fill(0), group(Damage::Blank, KnownBy::LaterSegment)),
        (FIRST, 3072, |bytes| bytes[3072..].fill(0), group(Damage::Blank, KnownBy::LaterSegment)),
        (SECOND, 1064, |bytes| bytes[1100] ^= 8, group(Damage::Record, KnownBy::OneBit { offset: 1100, bit: 3 })),
    ];
    for (name, offset, damage, reason) in cases {
        let mut files = whole.clone();
        files.edit(name, damage);
        let Err(WalError::Corrupt { path, offset: at, reason: found, .. }) = Wal::open(files, settings) else {
            panic!("{reason} was not refused");
        };
        assert_eq!((path.as_str(), at, found), (name, offset, reason));
    }
}

#[test]
fn a_segment_cut_at_any_byte_is_refused() {
    for align_bytes in [8, 512] {
        let (whole, .., settings) = two_segments(align_bytes);
        for name in [FIRST, SECOND] {
            let bytes = whole.clone().len(name).expect("a segment") as usize;
            for cut in 0..bytes {
                let mut files = whole.clone();
                files.edit(name, |bytes| bytes.truncate(cut));
                let Err(WalError::Corrupt { path, reason: Corruption::Length { bytes: found, .. }, .. }) =
                    Wal::open(files, settings)
                else {
                    panic!("{name} cut at {cut} was not refused");
                };
                assert_eq!((path.as_str(), found), (name, cut as u64));
            }
        }
    }
}

/// What a crash leaves of a group whose sync did not return: cut at any byte, or any of its sectors missing. It
/// is dropped whole, or kept whole, and never taken for corruption.
#[test]
fn a_torn_last_group_is_dropped_whole() {
    for align_bytes in [8, 512] {
        let (whole, before, last, settings) = two_segments(align_bytes);
        let at = last_group(&whole);
        let mut end = 0;
        whole.clone().edit(SECOND, |bytes| end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        let check = |files: &mut MemoryFiles, lost: bool, what: &str| {
            let expected = if lost { before.clone() } else { [before.clone(), last.clone()].concat() };
            let (wal, recovered) = Wal::open(&mut *files, settings).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(recovered, validated(&expected), "{what}");
            let dropped = wal.torn_tail().is_some();
            assert!(lost || !dropped, "{what}");
            assert_eq!(records(files).expect("a whole log"), expected, "{what}");
        };
        for cut in at..=end {
            let mut files = whole.clone();
            files.edit(SECOND, |bytes| bytes[cut..].fill(0));
            check(&mut files, cut < end, &format!("cut at {cut} of {at}..{end}"));
        }
        let sectors: Vec<(usize, usize)> = (at / 512..end.div_ceil(512))
            .map(|sector| ((sector * 512).max(at), (sector * 512 + 512).min(end)))
            .collect();
        for missing in 0..1u32 << sectors.len() {
            let mut files = whole.clone();
            for (sector, (begin, end)) in sectors.iter().enumerate() {
                if missing >> sector & 1 == 1 {
                    files.edit(SECOND, |bytes| bytes[*begin..*end].fill(0));
                }
            }
            check(&mut files, missing > 0, &format!("sectors {missing:b} missing"));
        }
    }
}

/// A lost sector in which a lone bit is set looks like that bit flipped, and is taken for what it more likely is.
#[test]
fn a_lost_sector_with_a_lone_bit_is_a_torn_write() {
    let mut payload = vec![0; 2000];
    payload[1000] = 0x10;
    let entries = Entries::one(command(1, &payload));
    let record = Record::Accepted { ballot: ballot(1), first: slot(1), entries };
    let mut files = with_groups(SMALL, &[vec![record, Record::Promised(ballot(2))]]);
    files.edit(FIRST, |bytes| {
        let lone = bytes.iter().rposition(|byte| *byte == 0x10).expect("the payload");
        let sector = lone / 512 * 512;
        assert_eq!(bytes[sector..sector + 512].iter().filter(|byte| **byte != 0).count(), 1);
        bytes[lone] = 0;
    });
    let (wal, recovered) = Wal::open(files, SMALL).expect("a torn tail");
    assert!(wal.torn_tail().is_some() && recovered.held_slots() == 0);
}

/// The same group written twice, in two lives of a log whose history parts there: `second` repeats `first` in
/// length, so that each sector of one fits into the other.
fn parted(second: u64) -> Vec<u8> {
    let groups = [vec![started(1)], vec![accepted(second, 1, 1, 451), accepted(second, 2, 1, 200)], vec![chosen(2)]];
    let mut files = with_groups(SMALL, &groups);
    let shown: Vec<u64> = Inspect::new(&mut files).expect("a log").map(|found| found.offset).collect();
    assert!(shown.contains(&2048), "the second record begins with a sector: {shown:?}");
    contents(&mut files, FIRST)
}

#[test]
fn sectors_of_different_lives_are_never_taken_together() {
    let (one, other) = (parted(1), parted(2));
    // A torn write over a torn write: every record is whole, and they were never written together.
    let mixed = [&one[..2048], &other[2048..2560], &[0; 1536]].concat();
    let mut files = with_groups(SMALL, &[]);
    files.edit(FIRST, |bytes| bytes.clone_from(&mixed));
    let torn = Inspect::new(&mut files).expect("a log").filter_map(|found| found.item.ok()).nth(5);
    assert_eq!(torn, Some(Item::Torn { bytes: 733, damage: Damage::Mixed }));
    let (_, recovered) = Wal::open(files, SMALL).expect("a torn tail");
    assert_eq!(recovered, validated(&[Record::Formatted(formatted()), started(1)]));

    // An old group in place of the one that was sealed: a write that the disk lost. The head behind it says so, even
    // if the rest of its group is torn.
    for torn in [0, 3] {
        let mut files = with_groups(SMALL, &[]);
        files.edit(FIRST, |bytes| {
            bytes.clone_from(&[&one[..2560], &other[2560..]].concat());
            bytes[2610] ^= torn;
        });
        let refused = Wal::open(files, SMALL);
        let Err(WalError::Corrupt { offset: 2560, reason: Corruption::Seal, .. }) = refused else {
            panic!("{refused:?}");
        };
    }
}

/// The exposure that docs/storage.md states, and what ends it: two flipped bits in the last group look like a torn
/// write until the group is sealed.
#[test]
fn the_last_group_is_protected_from_its_seal_on() {
    for sealed in [false, true] {
        let (mut files, before, _, settings) = two_segments(512);
        let at = last_group(&files);
        if sealed {
            let (mut wal, _) = Wal::open(&mut files, settings).expect("a whole log");
            wal.seal().expect("nothing fails");
            let sealing = wal.at;
            wal.seal().expect("nothing to seal");
            assert_eq!(wal.at, sealing);
        }
        files.edit(SECOND, |bytes| bytes[at + 70] ^= 0b101);
        match Wal::open(files, settings) {
            Ok((_, recovered)) => assert!(!sealed && recovered == validated(&before)),
            Err(WalError::Corrupt { offset, .. }) => assert!(sealed && offset == at as u64 + 40),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn missing_misplaced_and_foreign_segments_are_refused() {
    let (whole, .., settings) = two_segments(512);
    let third = "0000000000000003.wal";
    let mut other = MemoryFiles::new();
    let another_life = {
        let mut formatted = formatted();
        let voters = [1, 2, 3].map(|node| Member { node: NodeId(node), incarnation: Incarnation(9), generation: 0 });
        let membership = Membership::new(voters.to_vec(), Vec::new(), QuorumSystem::Majority).expect("three voters");
        formatted.incarnation = Incarnation(9);
        formatted.genesis = Genesis::new(membership, 5).expect("alpha above 0");
        formatted
    };
    Wal::format(&mut other, settings, another_life).expect("an empty directory");
    let foreign = contents(&mut other, FIRST);
    let second = contents(&mut whole.clone(), SECOND);
    let first = contents(&mut whole.clone(), FIRST);
    type Change<'a> = Box<dyn Fn(&mut MemoryFiles) -> std::io::Result<()> + 'a>;
    let cases: [(Change, &str, u64, Corruption); 7] = [
        (Box::new(|files| files.remove(FIRST)), FIRST, 0, Corruption::Missing),
        (Box::new(|files| files.remove(SECOND)), SECOND, 0, Corruption::Missing),
        (Box::new(|files| files.rename(SECOND, third)), SECOND, 0, Corruption::Missing),
        (Box::new(|files| files.rename(SECOND, FIRST)), FIRST, 16, Corruption::Number { found: 2 }),
        (Box::new(|files| put(files, SECOND, &first)), SECOND, 16, Corruption::Number { found: 1 }),
        (Box::new(|files| put(files, FIRST, &foreign)), SECOND, 32, Corruption::Foreign),
        (Box::new(|files| put(files, FIRST, &second)), FIRST, 16, Corruption::Number { found: 2 }),
    ];
    for (place, (change, path, offset, reason)) in cases.into_iter().enumerate() {
        let mut files = whole.clone();
        change(&mut files).expect("memory");
        let refused = Wal::open(files, settings);
        let Err(WalError::Corrupt { path: named, offset: at, reason: found, .. }) = refused else {
            panic!("case {place} was not refused");
        };
        assert_eq!((named.as_str(), at, found), (path, offset, reason), "case {place}");
    }
    let mut files = whole;
    put(&mut files, third, &foreign).expect("memory");
    assert!(matches!(Wal::open(files, settings), Err(WalError::Corrupt { .. })));
}

fn contents(files: &mut MemoryFiles, name: &str) -> Vec<u8> {
    let mut contents = Vec::new();
    files.edit(name, |bytes| contents.clone_from(bytes));
    contents
}

fn put(files: &mut MemoryFiles, name: &str, contents: &[u8]) -> std::io::Result<()> {
    files.create(name, contents.len() as u64)?;
    files.write_at(name, 0, contents)
}
