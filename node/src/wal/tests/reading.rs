//! Reading entries back by slot, against a map that holds the last record of each slot.

use std::collections::BTreeMap;

use paxos_core::SlotRange;
use paxos_core::limits::ENTRY_HEAD_BYTES;
use quickcheck::QuickCheck;

use super::*;
use crate::wal::Files;

/// What a replica wrote so far.
struct Written {
    draw: Draw,
    round: u64,
    /// Slots below are chosen or learned: their entries stay.
    settled: u64,
    /// What each slot holds last.
    held: BTreeMap<u64, Entry>,
}

impl Written {
    fn next(&self) -> u64 {
        self.held.len() as u64 + 1
    }

    /// Writes as leaders and repair do: runs that go on, and runs of a higher ballot that begin further back.
    fn write(&mut self, wal: &mut Wal<MemoryFiles>) {
        for _ in 0..20 + self.draw.below(60) {
            let again = self.draw.below(1 + (self.next() - self.settled).min(50));
            let first = self.next() - if self.draw.below(3) == 0 { again } else { 0 };
            let (count, bytes) = (1 + self.draw.below(30), self.draw.below(300) as usize);
            self.round += self.draw.below(2);
            let entries = run(self.round, first, count, bytes);
            self.held.extend((first..).zip(entries.iter().cloned()));
            let record = if self.draw.below(8) == 0 {
                self.settled = self.next();
                Record::Learned { first: slot(first), entries }
            } else {
                Record::Accepted { ballot: ballot(self.round), first: slot(first), entries }
            };
            append_all(wal, &[record]);
            if self.draw.below(5) == 0 {
                self.settled = self.settled.max(self.next() - self.draw.below(self.next().min(20)));
                append_all(wal, &[chosen(self.settled), Record::Promised(ballot(self.round))]);
            }
            match self.draw.below(8) {
                0..4 => wal.sync().expect("nothing fails"),
                4 => wal.seal().expect("nothing fails"),
                _ => {}
            }
        }
        wal.sync().expect("nothing fails");
    }

    fn check(&mut self, wal: &mut Wal<MemoryFiles>) {
        for _ in 0..30 {
            let first = 1 + self.draw.below(self.next() - 1);
            let end = first + 1 + self.draw.below(400);
            let bytes_max = self.draw.below(20_000) as usize;
            let mut at = first;
            while at < end.min(self.next()) {
                let slots = SlotRange { first: slot(at), end: slot(end) };
                let entries = wal.read(slots, bytes_max).expect("slots of the log");
                let expected: Vec<Entry> =
                    self.held.range(at..).take(entries.len()).map(|(_, held)| held.clone()).collect();
                assert_eq!(entries[..], expected[..], "slots {at} to {end}");
                let bytes: usize = entries.iter().map(|entry| entry.payload_bytes() + ENTRY_HEAD_BYTES).sum();
                assert!(entries.len() == 1 || bytes <= bytes_max);
                at += entries.len() as u64;
            }
        }
    }
}

#[test]
fn every_slot_reads_as_its_last_record_says() {
    fn holds(seed: u64) -> bool {
        let mut draw = Draw(seed);
        let settings = WalSettings { segment_bytes: 4096 << draw.below(6), align_bytes: 8 << draw.below(7) };
        let mut files = fresh(settings);
        let mut written = Written { draw, round: 1, settled: 1, held: BTreeMap::new() };
        for boot in 0..3 {
            let (mut wal, _) = Wal::open(files, settings).expect("a whole log");
            if boot > 0 {
                written.check(&mut wal);
            }
            written.write(&mut wal);
            written.check(&mut wal);
            files = wal.into_files();
        }
        true
    }
    QuickCheck::new().tests(50).quickcheck(holds as fn(u64) -> bool);
}

#[test]
fn what_is_not_there_is_not_read() {
    let mut files = with_groups(SMALL, &[vec![started(1), accepted(1, 3, 4, 10), accepted(1, 9, 1, 10)]]);
    let (mut wal, _) = Wal::open(&mut files, SMALL).expect("a whole log");
    let mut read = |first, count| wal.read(SlotRange::of(slot(first), count), usize::MAX);
    for absent in [1, 2, 7, 8, 10, 1 << 40] {
        assert!(matches!(read(absent, 5), Err(WalError::NotHeld(slot)) if slot.get() == absent));
    }
    assert_eq!(read(5, 100).expect("two slots before the hole"), run(1, 5, 2, 10));
    assert_eq!(read(3, 0).expect("no slots").len(), 0);
}

#[test]
fn slots_that_were_written_out_of_order_read_in_order() {
    let groups = [vec![started(1), accepted(1, 7, 3, 10)], vec![accepted(1, 3, 2, 10), accepted(2, 8, 1, 10)]];
    let files = with_groups(SMALL, &[&groups[..], &[vec![accepted(2, 1, 2, 10), accepted(2, 5, 2, 10)]]].concat());
    let (mut wal, _) = Wal::open(files, SMALL).expect("a whole log");
    let rounds = [2, 2, 1, 1, 2, 2, 1, 2, 1];
    let expected: Vec<Entry> = (1..).zip(rounds).map(|(slot, round)| entry(round, slot, 10)).collect();
    assert_eq!(wal.read(SlotRange::of(slot(1), 20), usize::MAX).expect("nine slots")[..], expected);
}

#[test]
fn rot_after_opening_is_found_by_the_reader() {
    let files = with_groups(SMALL, &[vec![started(1)], vec![accepted(1, 1, 4, 100)]]);
    let (mut wal, _) = Wal::open(files, SMALL).expect("a whole log");
    wal.files.edit("0000000000000001.wal", |bytes| bytes[1700] ^= 0x41);
    let read = wal.read(SlotRange::of(slot(1), 4), usize::MAX);
    assert!(matches!(read, Err(WalError::Corrupt { segment: 1, offset: 1576, .. })), "{read:?}");
    wal.files.edit("0000000000000001.wal", |bytes| bytes.truncate(1600));
    assert!(matches!(wal.read(SlotRange::of(slot(1), 4), 9), Err(WalError::Corrupt { offset: 1600, .. })));
}

/// A directory that counts what is read of it.
struct Metered {
    files: MemoryFiles,
    bytes_read: usize,
}

#[test]
fn a_long_log_is_read_in_order_without_reading_it_twice() {
    let settings = WalSettings { segment_bytes: 1 << 20, align_bytes: 512 };
    let groups: Vec<Vec<Record>> = (0..300).map(|at| vec![accepted(1, at * 50 + 1, 50, 100)]).collect();
    let mut files = Metered { files: with_groups(settings, &groups), bytes_read: 0 };
    let (mut wal, _) = Wal::open(&mut files, settings).expect("a whole log");
    let opening = wal.files.bytes_read;
    let mut next = slot(1);
    while next < slot(15_001) {
        next = next.plus(wal.read(SlotRange { first: next, end: slot(15_001) }, 1 << 20).expect("slots").len() as u64);
    }
    let log_bytes = 300 * (50 * 130 + 512);
    let again = wal.files.bytes_read - opening;
    assert!(again < log_bytes * 5 / 4, "{again} bytes were read of {log_bytes}");
    assert!(wal.index_bytes() < log_bytes / 500, "{} bytes of index", wal.index_bytes());
}

impl Files for Metered {
    fn list(&mut self) -> std::io::Result<Vec<String>> {
        self.files.list()
    }
    fn len(&mut self, name: &str) -> std::io::Result<u64> {
        self.files.len(name)
    }
    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bytes_read += buffer.len();
        self.files.read_at(name, offset, buffer)
    }
    fn create(&mut self, name: &str, bytes_zeroed: u64) -> std::io::Result<()> {
        self.files.create(name, bytes_zeroed)
    }
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.files.write_at(name, offset, bytes)
    }
    fn sync(&mut self, name: &str) -> std::io::Result<()> {
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
