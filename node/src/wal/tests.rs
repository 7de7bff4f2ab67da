//! What the tests of the log share: a small cluster's identity, records, and what a directory says it holds.

mod crash;
mod damage;
mod golden;
mod inspecting;
mod reading;
mod tail;
mod writing;

use bytes::Bytes;
use paxos_core::{
    Ballot, Boot, ClusterId, CommandId, Entries, Entry, Formatted, Genesis, Incarnation, Member, Membership, NodeId,
    QuorumSystem, Record, Recovered, Recovery, Slot,
};

use super::{Inspect, Item, MemoryFiles, Wal, WalError, WalSettings};

/// Segments so small that a few records fill one.
const SMALL: WalSettings = WalSettings { segment_bytes: 4096, align_bytes: 512 };

fn formatted() -> Formatted {
    let member =
        |node| Member { node: NodeId(node), incarnation: Incarnation(0x1000 + u64::from(node)), generation: 0 };
    let membership = Membership::new((1..=3).map(member).collect(), Vec::new(), QuorumSystem::Majority);
    Formatted {
        cluster: ClusterId::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        node: NodeId(2),
        incarnation: Incarnation(0x1002),
        genesis: Genesis::new(membership.expect("three voters"), 4096).expect("alpha above 0"),
    }
}

fn slot(number: u64) -> Slot {
    Slot::new(number).expect("slots count from 1")
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(1), generation: 0 }
}

fn command(sequence: u64, payload: &[u8]) -> Entry {
    let id = CommandId { node: NodeId(1), incarnation: Incarnation(0x1001), boot: 1, sequence };
    Entry::Command { id, bytes: Bytes::copy_from_slice(payload) }
}

/// An accepted run whose payloads tell slot and round.
fn accepted(round: u64, first: u64, count: u64, bytes: usize) -> Record {
    Record::Accepted { ballot: ballot(round), first: slot(first), entries: run(round, first, count, bytes) }
}

fn run(round: u64, first: u64, count: u64, bytes: usize) -> Entries {
    (first..first + count).map(|slot| entry(round, slot, bytes)).collect()
}

fn entry(round: u64, slot: u64, bytes: usize) -> Entry {
    let mut payload = format!("{round}/{slot} ").into_bytes();
    payload.resize(bytes.max(payload.len()), (slot % 251) as u8);
    command(slot, &payload)
}

fn started(counter: u64) -> Record {
    Record::Started(Boot { counter, nonce: 0x9e37_79b9_7f4a_7c15 })
}

fn chosen(below: u64) -> Record {
    Record::Chosen { below: slot(below) }
}

/// A directory that was formatted.
fn fresh(settings: WalSettings) -> MemoryFiles {
    let mut files = MemoryFiles::new();
    Wal::format(&mut files, settings, formatted()).expect("an empty directory");
    files
}

/// A directory with these groups of records, each synced, and no crash.
fn with_groups(settings: WalSettings, groups: &[Vec<Record>]) -> MemoryFiles {
    let (mut wal, _) = Wal::open(fresh(settings), settings).expect("a new log");
    for group in groups {
        append_all(&mut wal, group);
        wal.sync().expect("nothing fails");
    }
    wal.into_files()
}

fn append_all<F: super::Files>(wal: &mut Wal<F>, records: &[Record]) {
    for record in records {
        wal.append(record).expect("small records");
    }
}

/// The records in a directory, in order, or the first thing that is wrong.
fn records(files: &mut MemoryFiles) -> Result<Vec<Record>, WalError> {
    let mut records = Vec::new();
    for inspected in Inspect::new(files)? {
        if let Item::Record(record) = inspected.item? {
            records.push(record);
        }
    }
    Ok(records)
}

/// What the validator makes of these records.
fn validated(records: &[Record]) -> Recovered {
    let mut recovery = Recovery::new();
    records.iter().for_each(|record| recovery.record(record.clone()).expect("records that a replica may write"));
    recovery.finish().expect("they begin with the identity")
}

/// A small generator of numbers, so that a failing case is named by its seed.
struct Draw(u64);

impl Draw {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}
