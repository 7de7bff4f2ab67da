//! Damage to several groups at the end of a log, which together look like one torn write. A group that was written
//! after the first damaged one proves it durable, and is seen by its whole head, or by lying where the damaged one
//! cannot reach; only with the heads of all of them lost, nothing can be told.

use super::damage::{FIRST, SECOND, last_group, two_segments};
use super::*;
use crate::wal::layout::{GROUP_BYTES_MAX, SegmentHead};
use crate::wal::{Corruption, Damage, Files, KnownBy};

/// Bytes of segments.
type Places<'a> = &'a [(&'a str, usize)];

/// Damage of two bits to each of these bytes.
fn damage(files: &mut MemoryFiles, places: Places) {
    for (name, at) in places {
        files.edit(name, |bytes| bytes[*at] ^= 0b101);
    }
}

#[test]
fn a_write_behind_a_damaged_group_refuses_it() {
    let (whole, _, _, settings) = two_segments(512);
    assert_eq!(last_group(&whole), 1024);
    let mut end = 0;
    whole.clone().edit(SECOND, |bytes| end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64);
    let later = KnownBy::LaterBytes { offset: end };
    let cases: [(Places, &str, u64, Damage, KnownBy); 4] = [
        // The body of one, and the head of the next: its first bytes, its length.
        (&[(SECOND, 560), (SECOND, 1024)], SECOND, 552, Damage::Record, later),
        (&[(SECOND, 560), (SECOND, 1040)], SECOND, 552, Damage::Record, later),
        // The mark that ends the segment, or the group before it, and all heads in the next segment.
        (&[(FIRST, 3590), (SECOND, 512), (SECOND, 1024)], FIRST, 3584, Damage::Head, KnownBy::LaterSegment),
        (
            &[(FIRST, 3072), (FIRST, 3590), (SECOND, 512), (SECOND, 1024)],
            FIRST,
            3072,
            Damage::Head,
            KnownBy::LaterSegment,
        ),
    ];
    for (places, path, offset, how, known_by) in cases {
        let mut files = whole.clone();
        damage(&mut files, places);
        let refused = Wal::open(files, settings);
        let Err(WalError::Corrupt { path: named, offset: at, reason, .. }) = refused else {
            panic!("{places:?} was not refused: {refused:?}");
        };
        assert_eq!((named.as_str(), at, reason), (path, offset, Corruption::Group { damage: how, known_by }));
    }
    // A head that lost its whole sector, while later sectors of its group are there.
    let mut files = whole.clone();
    damage(&mut files, &[(SECOND, 560)]);
    files.edit(SECOND, |bytes| bytes[1024..1536].fill(0));
    let refused = Wal::open(files, settings);
    assert!(matches!(refused, Err(WalError::Corrupt { offset: 552, .. })), "{refused:?}");
}

/// The exposure that docs/storage.md states: with the heads of all of them damaged, several groups look like a
/// single one.
#[test]
fn several_groups_without_a_whole_head_are_taken_for_one() {
    let (mut files, before, _, settings) = two_segments(512);
    damage(&mut files, &[(SECOND, 512), (SECOND, 1024)]);
    let (wal, recovered) = Wal::open(files, settings).expect("what looks like a torn tail");
    assert_eq!(wal.torn_tail().map(|torn| torn.offset), Some(512));
    assert_eq!(recovered, validated(&before[..before.len() - 2]));
}

#[test]
fn a_tail_that_is_longer_than_any_group_is_refused() {
    for (behind, torn) in [(GROUP_BYTES_MAX - 1, true), (GROUP_BYTES_MAX.next_multiple_of(512), false)] {
        let mut files = with_groups(SMALL, &[vec![started(1)]]);
        files.edit(FIRST, |bytes| {
            let head = SegmentHead::decode(&bytes[..64]).expect("a segment");
            bytes.resize(16 << 20, 0);
            bytes[..64].copy_from_slice(&SegmentHead { bytes: 16 << 20, ..head }.encode());
            bytes[1536..1600].fill(0x5a);
            bytes[1536 + behind] = 0x5a;
        });
        match Wal::open(files, SMALL) {
            Ok((wal, _)) => assert!(torn && wal.torn_tail().is_some_and(|torn| torn.bytes == behind as u64 + 1)),
            Err(WalError::Corrupt { offset: 1536, reason, .. }) => {
                let known_by = KnownBy::LaterBytes { offset: 1536 + behind as u64 };
                assert_eq!((torn, reason), (false, Corruption::Group { damage: Damage::Head, known_by }));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Rot in a segment that was made ahead and never used costs nothing.
#[test]
fn stray_bytes_in_an_unused_segment_are_harmless() {
    let (mut wal, _) = Wal::open(with_groups(SMALL, &[vec![started(1)]]), SMALL).expect("a whole log");
    wal.prepare_next().expect("memory");
    let mut files = wal.into_files();
    let (_, whole) = Wal::open(&mut files, SMALL).expect("a whole log");
    damage(&mut files, &[(SECOND, 512), (SECOND, 2000)]);
    let (mut wal, recovered) = Wal::open(&mut files, SMALL).expect("a whole log");
    assert_eq!(recovered, whole);
    while wal.segment.number == 1 {
        append_all(&mut wal, &[Record::Promised(ballot(1))]);
        wal.sync().expect("nothing fails");
    }
    drop(wal);
    let (_, recovered) = Wal::open(&mut files, SMALL).expect("the segment was made again");
    assert_eq!(recovered.promised(), Some(ballot(1)));
    assert_eq!(files.len(SECOND).expect("a segment"), 4096);
}
