//! What `inspect` shows of good and damaged logs.

use super::*;
use crate::wal::{Corruption, Damage, Inspected, KnownBy};

fn line(found: Inspected) -> String {
    let item = match found.item {
        Ok(Item::Segment { bytes, align_bytes, .. }) => format!("segment of {bytes}, groups at {align_bytes}"),
        Ok(Item::Group { sequence, records, bytes }) => format!("group {sequence}, {records} in {bytes}"),
        Ok(Item::Record(Record::Formatted(_))) => "formatted".to_owned(),
        Ok(Item::Record(record)) => format!("{record:?}").chars().take_while(|letter| *letter != ' ').collect(),
        Ok(Item::End) => "end".to_owned(),
        Ok(Item::Torn { bytes, damage }) => format!("torn, {bytes}: {damage}"),
        Ok(Item::Unused { bytes }) => format!("unused, {bytes}"),
        Err(WalError::Corrupt { reason, .. }) => format!("corrupt: {reason}"),
        Err(error) => error.to_string(),
    };
    format!("{}:{} {item}", found.segment, found.offset)
}

fn check(files: &MemoryFiles, expected: &[&str]) {
    let lines: Vec<String> = Inspect::new(files.clone()).expect("a log").map(line).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_log_is_shown_as_it_is() {
    let groups = [vec![started(1), Record::Promised(ballot(2))], vec![accepted(2, 1, 1, 1200)], vec![chosen(2)]];
    let whole = with_groups(WalSettings { segment_bytes: 2048, align_bytes: 512 }, &groups);
    let rest = ["2:0 segment of 2560, groups at 512", "2:512 group 3, 1 in 1221", "2:552 Accepted", "2:2048 end"];
    let third = ["3:0 segment of 2048, groups at 512", "3:512 group 4, 1 in 9", "3:552 Chosen", "3:1024 unused, 1024"];
    let first = [
        "1:0 segment of 2048, groups at 512",
        "1:512 group 1, 1 in 44",
        "1:552 formatted",
        "1:1024 group 2, 2 in 30",
        "1:1064 Started(Boot",
        "1:1083 Promised(b2.1)",
        "1:1536 end",
    ];
    check(&whole, &[&first[..], &rest, &third].concat());

    // A damaged record does not hide what follows, and a torn group is named.
    let mut files = whole.clone();
    files.edit("0000000000000001.wal", |bytes| bytes[570] ^= 0x18);
    files.edit("0000000000000003.wal", |bytes| bytes[555] ^= 0x18);
    let damaged = Corruption::Group { damage: Damage::Record, known_by: KnownBy::LaterGroup { offset: 1024 } };
    let corrupt = format!("1:552 corrupt: {damaged}");
    let shown = [&[first[0], &corrupt], &first[3..], &rest, &[third[0], "3:552 torn, 49: damaged record"]].concat();
    check(&files, &shown);

    // Nor does a missing segment.
    let mut files = whole;
    super::super::Files::remove(&mut files, "0000000000000002.wal").expect("memory");
    check(&files, &[&first[..], &["2:0 corrupt: the segment is missing"], &third].concat());
}
