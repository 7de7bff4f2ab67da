//! Formatting, appending, syncing, rolling, and what happens when the disk says no.

use super::*;
use crate::wal::Files;

#[test]
fn what_was_synced_is_there_again() {
    let groups = [
        vec![started(1)],
        vec![Record::Promised(ballot(3)), accepted(3, 1, 3, 20)],
        vec![chosen(3), Record::Learned { first: slot(4), entries: run(3, 4, 2, 9) }],
    ];
    let mut files = with_groups(SMALL, &groups);
    let written = [vec![Record::Formatted(formatted())], groups.concat()].concat();
    assert_eq!(records(&mut files).expect("a whole log"), written);
    let (wal, recovered) = Wal::open(files, SMALL).expect("a whole log");
    assert_eq!(recovered, validated(&written));
    assert_eq!(wal.torn_tail(), None);
}

#[test]
fn a_log_is_never_formatted_over_and_never_made_by_opening() {
    let mut files = MemoryFiles::new();
    assert!(matches!(Wal::open(&mut files, SMALL), Err(WalError::NotFormatted)));
    assert_eq!(files.list().expect("memory").len(), 0);
    let mut files = fresh(SMALL);
    let again = Wal::format(&mut files, SMALL, formatted());
    assert!(matches!(again, Err(WalError::AlreadyFormatted { path }) if path == "0000000000000001.wal"));
}

#[test]
fn settings_are_checked() {
    for (segment_bytes, align_bytes, setting) in
        [(4096, 0, "align_bytes"), (4096, 4, "align_bytes"), (4096, 24, "align_bytes"), (0, 8, "segment_bytes")]
    {
        let settings = WalSettings { segment_bytes, align_bytes };
        let refused = Wal::format(MemoryFiles::new(), settings, formatted());
        assert!(matches!(refused, Err(WalError::Settings { setting: named, .. }) if named == setting));
    }
}

#[test]
fn segments_roll_and_the_settings_may_change_in_between() {
    let mut files = fresh(SMALL);
    let mut written = vec![Record::Formatted(formatted())];
    let aligns = [512, 8, 4096, 64];
    for (boot, align_bytes) in (1..).zip(aligns) {
        let settings = WalSettings { segment_bytes: 4096 * boot, align_bytes };
        let (mut wal, recovered) = Wal::open(&mut files, settings).expect("a whole log");
        assert_eq!(recovered, validated(&written));
        for record in std::iter::once(started(boot)).chain((0..30).map(|at| accepted(boot, at + 1, 2, 50))) {
            wal.append(&record).expect("small records");
            wal.sync().expect("nothing fails");
            written.push(record);
        }
    }
    assert_eq!(records(&mut files).expect("a whole log"), written);
    assert!(files.list().expect("memory").len() > 4);
}

#[test]
fn a_record_larger_than_a_segment_gets_a_larger_one() {
    let big = accepted(1, 1, 2, 20_000);
    let groups = [vec![started(1)], vec![big.clone()], vec![chosen(3)]];
    let mut files = with_groups(SMALL, &groups);
    assert_eq!(records(&mut files).expect("a whole log")[2], big);
    let (mut wal, _) = Wal::open(files, SMALL).expect("a whole log");
    let entries = wal.read(paxos_core::SlotRange::of(slot(1), 2), usize::MAX).expect("two slots");
    assert_eq!(entries, run(1, 1, 2, 20_000));
}

#[test]
fn a_record_that_is_too_large_is_refused_and_the_log_goes_on() {
    let (mut wal, _) = Wal::open(fresh(SMALL), SMALL).expect("a new log");
    wal.append(&started(1)).expect("a small record");
    let huge = accepted(1, 1, 1, 5 << 20);
    assert!(matches!(wal.append(&huge), Err(WalError::RecordTooLarge { max, .. }) if max < 5 << 20));
    wal.append(&Record::Promised(ballot(4))).expect("a small record");
    wal.sync().expect("nothing fails");
    let records = records(&mut wal.into_files()).expect("a whole log");
    assert_eq!(records, [Record::Formatted(formatted()), started(1), Record::Promised(ballot(4))]);
}

#[test]
fn much_at_once_becomes_several_groups() {
    let settings = WalSettings { segment_bytes: 16 << 20, align_bytes: 4096 };
    let many: Vec<Record> = (0..12).map(|at| accepted(1, at + 1, 1, 1 << 20)).collect();
    let mut files = with_groups(settings, &[vec![started(1)], many.clone()]);
    let items: Vec<Item> = Inspect::new(&mut files).expect("a log").filter_map(|found| found.item.ok()).collect();
    let groups = items.iter().filter(|item| matches!(item, Item::Group { .. })).count();
    assert_eq!(groups, 2 + 3, "four records of 1 MiB close a group");
    let (_, recovered) = Wal::open(files, settings).expect("a whole log");
    assert_eq!(recovered, validated(&[vec![Record::Formatted(formatted()), started(1)], many].concat()));
}

/// Counts writes and syncs.
#[derive(Default)]
struct Counting {
    files: MemoryFiles,
    writes: Vec<(String, u64, usize)>,
    syncs: Vec<String>,
}

impl Files for Counting {
    fn list(&mut self) -> std::io::Result<Vec<String>> {
        self.files.list()
    }
    fn len(&mut self, name: &str) -> std::io::Result<u64> {
        self.files.len(name)
    }
    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.files.read_at(name, offset, buffer)
    }
    fn create(&mut self, name: &str, bytes_zeroed: u64) -> std::io::Result<()> {
        self.files.create(name, bytes_zeroed)
    }
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.writes.push((name.to_owned(), offset, bytes.len()));
        self.files.write_at(name, offset, bytes)
    }
    fn sync(&mut self, name: &str) -> std::io::Result<()> {
        self.syncs.push(name.to_owned());
        self.files.sync(name)
    }
    fn sync_dir(&mut self) -> std::io::Result<()> {
        self.files.sync_dir()
    }
    fn rename(&mut self, from: &str, to: &str) -> std::io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> std::io::Result<()> {
        self.files.remove(name)
    }
}

#[test]
fn a_group_is_one_aligned_write_and_one_sync_and_two_at_the_end_of_a_segment() {
    let mut counting = Counting { files: fresh(SMALL), ..Counting::default() };
    let (mut wal, _) = Wal::open(&mut counting, SMALL).expect("a new log");
    append_all(&mut wal, &[started(1), Record::Promised(ballot(1)), accepted(1, 1, 40, 30)]);
    wal.sync().expect("nothing fails");
    wal.sync().expect("there is nothing to do");
    assert!(wal.wants_next(), "at {}", wal.at);
    wal.prepare_next().expect("nothing fails");
    assert!(!wal.wants_next());
    let prepared = wal.into_files();
    let first = "0000000000000001.wal".to_owned();
    assert_eq!(prepared.writes[0], (first.clone(), 1024, 2048));
    assert_eq!(prepared.syncs[1..], [first.clone(), "0000000000000002.wal.ahead".to_owned()], "after the opening's");

    let (mut wal, _) = Wal::open(prepared, SMALL).expect("a whole log");
    let before = (wal.files.writes.len(), wal.files.syncs.len());
    append_all(&mut wal, &[accepted(1, 50, 10, 40)]);
    wal.sync().expect("nothing fails");
    let second = "0000000000000002.wal".to_owned();
    let files = wal.into_files();
    assert_eq!(files.writes[before.0..], [(first.clone(), 3072, 512), (second.clone(), 512, 1024)]);
    assert_eq!(files.syncs[before.1..], [first, second]);
}

#[test]
fn a_failed_sync_is_final() {
    for calls in 0..2 {
        let (mut wal, _) = Wal::open(fresh(SMALL), SMALL).expect("a new log");
        wal.append(&started(1)).expect("a small record");
        wal.files.fail_after(calls);
        assert!(matches!(wal.sync(), Err(WalError::Io { .. })));
        wal.files.fail_after(u64::MAX);
        assert!(matches!(wal.sync(), Err(WalError::Failed)));
        assert!(matches!(wal.seal(), Err(WalError::Failed)));
        assert!(matches!(wal.append(&started(1)), Err(WalError::Failed)));
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let (mut wal, _) = Wal::open(fresh(SMALL), SMALL).expect("a new log");
    let mut synced = vec![Record::Formatted(formatted())];
    wal.files.fill_up_after(5000);
    let refused = loop {
        let record = accepted(1, synced.len() as u64, 1, 300);
        wal.append(&record).expect("a small record");
        match wal.sync() {
            Ok(()) => synced.push(record),
            Err(error) => break error,
        }
    };
    let path = "0000000000000003.wal.new".to_owned();
    assert!(matches!(refused, WalError::NoSpace { path: named, bytes_needed: 4096 } if named == path));
    let mut files = wal.into_files();
    assert!(!files.list().expect("memory").contains(&path), "what was begun is removed");
    let (mut wal, recovered) = Wal::open(files, SMALL).expect("a whole log");
    assert_eq!(recovered, validated(&synced));
    wal.files.fill_up_after(4096);
    wal.append(&started(1)).expect("a small record");
    wal.sync().expect("there is room again");
}

#[test]
fn a_segment_made_elsewhere_is_adopted_or_removed() {
    let (mut wal, _) = Wal::open(fresh(SMALL), SMALL).expect("a new log");
    let job = wal.preparation();
    assert_eq!(job.bytes(), 4096);
    let early = job.run(&mut wal.files).expect("nothing fails");
    let late = job.run(&mut wal.files).expect("nothing fails");
    wal.adopt(early).expect("nothing fails");
    while wal.segment.number == 1 {
        append_all(&mut wal, &[accepted(1, 1, 10, 10)]);
        wal.sync().expect("nothing fails");
    }
    // The log is in segment 2 by now: a second one must not replace it.
    wal.files.create("0000000000000002.wal.ahead", 1).expect("memory");
    wal.adopt(late).expect("nothing fails");
    let mut files = wal.into_files();
    assert_eq!(files.list().expect("memory"), ["0000000000000001.wal", "0000000000000002.wal"]);
    assert!(Wal::open(files, SMALL).is_ok());
}

#[test]
fn leftovers_of_segments_in_the_making_are_removed_and_other_files_are_left_alone() {
    let mut files = fresh(SMALL);
    for name in ["0000000000000002.wal.new", "0000000000000002.wal.ahead", "LOCK", "notes.new", "1.wal"] {
        files.create(name, 7).expect("memory");
    }
    let (wal, _) = Wal::open(files, SMALL).expect("a whole log");
    let kept = ["0000000000000001.wal", "1.wal", "LOCK", "notes.new"];
    assert_eq!(wal.into_files().list().expect("memory"), kept);
}
