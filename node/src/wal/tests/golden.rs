//! The bytes of the format, as docs/storage.md gives them. A change here is a new version of the format.

use std::sync::Arc;

use quickcheck::QuickCheck;

use super::*;
use crate::wal::layout::{GroupHead, HeadKind, Owner, Seal, SegmentHead};
use crate::wal::record;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_head_of_a_segment() {
    let head = SegmentHead { owner: Owner::of(&formatted()), number: 3, bytes: 64 << 20, align: 512 };
    let golden = concat!(
        "5041584f5357414c", // magic
        "01000000",         // version, reserved
        "00020000",         // alignment
        "0300000000000000", // number
        "0000000400000000", // length
        "100f0e0d0c0b0a090807060504030201",
        "02000000",         // node
        "0210000000000000", // incarnation
        "274dd2a2",         // checksum
    );
    assert_eq!(hex(&head.encode()), golden);
    assert_eq!(SegmentHead::decode(&head.encode()), Ok(head));
}

#[test]
fn the_head_of_a_group_and_the_mark_that_ends_a_segment() {
    let seed = Owner::of(&formatted()).seed();
    let before = Seal { body_bytes: 0x55, checksum: 0x6677_8899 };
    let group = GroupHead {
        kind: HeadKind::Group,
        sequence: 7,
        body_bytes: 0x123,
        records: 4,
        checksum: 0xaabb_ccdd,
        sum: 0x0102_0304,
        before,
    };
    let end = GroupHead { kind: HeadKind::End, sequence: 8, body_bytes: 0, records: 0, checksum: 0, sum: 0, before };
    let golden = [
        (
            group,
            concat!(
                "70784752",
                "62bc1394",
                "0700000000000000",
                "23010000",
                "04000000",
                "ddccbbaa",
                "55000000",
                "99887766",
                "04030201"
            ),
        ),
        (
            end,
            concat!(
                "7078454e",
                "024ebe8f",
                "0800000000000000",
                "00000000",
                "00000000",
                "00000000",
                "55000000",
                "99887766",
                "00000000"
            ),
        ),
    ];
    for (head, golden) in golden {
        let bytes = head.encode(seed, 3, 1024);
        assert_eq!(hex(&bytes), golden);
        assert_eq!(GroupHead::decode(&bytes, seed, 3, 1024), Some(head));
        // Anywhere else it is not a head.
        assert_eq!(GroupHead::decode(&bytes, seed, 3, 1032), None);
        assert_eq!(GroupHead::decode(&bytes, seed, 4, 1024), None);
    }
}

#[test]
fn the_body_of_each_record() {
    let membership = formatted().genesis.membership().clone();
    let three: Entries =
        [Entry::Noop, command(5, b"abc"), Entry::Membership(Arc::new(membership))].into_iter().collect();
    let wide = Ballot { round: 300, node: NodeId(2), generation: 9 };
    let golden = [
        (1, Record::Formatted(formatted()), "0102030405060708090a0b0c0d0e0f100282200301812000028220000383200000008020"),
        (2, Record::Started(Boot { counter: 2, nonce: 0x1234_5678_9abc_def0 }), "02f0bdf3d589cf959a12"),
        (3, Record::Promised(wide), "ac020209"),
        (
            4,
            Record::Accepted { ballot: wide, first: slot(1000), entries: three.clone() },
            "ac020209e80703000101812001050361626302030181200002822000038320000000",
        ),
        (
            4,
            Record::Accepted { ballot: wide, first: slot(1), entries: Entries::one(command(1, b"")) },
            "ac020209010101018120010100",
        ),
        (
            5,
            Record::Learned { first: slot(7), entries: three },
            "0703000101812001050361626302030181200002822000038320000000",
        ),
        (6, Record::Chosen { below: slot(u64::MAX) }, "ffffffffffffffffff01"),
    ];
    for (kind, record, golden) in golden {
        let mut body = Vec::new();
        record::encode(&record, &mut body);
        assert_eq!((record::kind(&record), hex(&body).as_str()), (kind, golden), "{record:?}");
        assert_eq!(record::decode(kind, &Bytes::from(body)), Ok(record));
    }
}

/// A whole file, so that the places of things are golden too.
#[test]
fn a_formatted_log() {
    let mut files = fresh(WalSettings { segment_bytes: 1, align_bytes: 8 });
    let mut whole = Vec::new();
    files.edit("0000000000000001.wal", |bytes| whole.clone_from(bytes));
    let golden = concat!(
        "5041584f5357414c01000000080000000100000000000000c000000000000000", // the segment's head
        "100f0e0d0c0b0a090807060504030201020000000210000000000000a9cac929",
        "707847525787efce01000000000000002c00000001000000", // the group's
        "0ee486440000000000000000496017bf",
        "2414f17201240000",                       // the record's
        "0102030405060708090a0b0c0d0e0f10028220", // cluster, node, incarnation
        "030181200002822000038320000000",         // three voters, no learner, majority
        "8020",                                   // alpha
        "00000000",                               // to the next multiple of 8
        "00000000000000000000000000000000",       // room for the mark that ends the segment
        "000000000000000000000000000000000000000000000000",
    );
    assert_eq!(hex(&whole), golden);
}

#[test]
fn records_survive_encoding() {
    fn survives(seed: u64, payload: Vec<u8>) -> bool {
        let mut draw = Draw(seed);
        let wide =
            Ballot { round: draw.draw() >> draw.below(64), node: NodeId(draw.draw() as u32), generation: draw.draw() };
        let entries: Entries = (0..draw.below(40))
            .map(|at| {
                if draw.below(4) == 0 {
                    Entry::Noop
                } else {
                    command(at, &payload[..payload.len() / (at as usize + 1)])
                }
            })
            .collect();
        let first = slot(1 + (draw.draw() >> draw.below(63)) / 2);
        let all = [
            Record::Started(Boot { counter: draw.draw(), nonce: draw.draw() }),
            Record::Promised(wide),
            Record::Accepted { ballot: wide, first, entries: entries.clone() },
            Record::Learned { first, entries },
            Record::Chosen { below: first },
        ];
        all.iter().all(|record| {
            let mut body = Vec::new();
            record::encode(record, &mut body);
            let cut = Bytes::copy_from_slice(&body[..body.len() - 1]);
            record::decode(record::kind(record), &cut).is_err()
                && record::decode(record::kind(record), &Bytes::from(body)).as_ref() == Ok(record)
        })
    }
    QuickCheck::new().quickcheck(survives as fn(u64, Vec<u8>) -> bool);
}
