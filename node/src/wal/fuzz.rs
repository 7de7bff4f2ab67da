//! The room for fuzzing: arbitrary bytes as a directory, as records, and as damage to a good log. Whatever they
//! are, opening answers; it never panics, and never takes more memory than a few times the files.

use paxos_core::{
    Ballot, Boot, ClusterId, CommandId, Entries, Entry, Formatted, Genesis, Incarnation, Member, Membership, NodeId,
    QuorumSystem, Record, Slot, SlotRange,
};

use super::files::Files;
use super::inspect::Inspect;
use super::layout::{Owner, padded, segment_name};
use super::memory::MemoryFiles;
use super::pending::Group;
use super::record::{encode, kind};
use super::{Wal, WalError, WalSettings};

const SETTINGS: WalSettings = WalSettings { segment_bytes: 2048, align_bytes: 64 };

/// Files are no longer than this.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Judges the log by arbitrary bytes; the first one says what the others are. Panics only on a bug.
pub fn fuzz(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let files = match mode % 3 {
        0 => directory(rest),
        1 => records(rest),
        _ => damaged(rest),
    };
    if let Some(files) = files {
        judge(files);
    }
}

/// The bytes as files: of each a name, two bytes of length, and contents.
fn directory(mut rest: &[u8]) -> Option<MemoryFiles> {
    let mut files = MemoryFiles::new();
    while let Some(([name, low, high], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (contents, behind) = behind.split_at(length);
        let suffix = if name & 0x80 == 0 { "" } else { ".new" };
        let name = format!("{}{suffix}", segment_name(u64::from(name % 4)));
        files.create(&name, contents.len() as u64).ok()?;
        files.write_at(&name, 0, contents).ok()?;
        rest = behind;
    }
    Some(files)
}

/// The bytes as records behind a good identity, with every checksum right: of each a kind, a length and a body;
/// kind 0 begins a new group.
fn records(mut rest: &[u8]) -> Option<MemoryFiles> {
    let formatted = formatted()?;
    let owner = Owner::of(&formatted);
    let mut files = MemoryFiles::new();
    let settings = WalSettings { segment_bytes: FILE_BYTES_MAX as u64, ..SETTINGS };
    Wal::format(&mut files, settings, formatted).ok()?;
    let (mut wal, _) = Wal::open(&mut files, settings).ok()?;
    let mut group = Group::new(owner.seed(), wal.sequence);
    while let Some(([kind, length], behind)) = rest.split_first_chunk() {
        let (body, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        if *kind > 0 {
            group.append_encoded(*kind, None, |buffer| buffer.extend_from_slice(body)).ok()?;
        }
        if *kind == 0 || rest.is_empty() {
            let at = wal.at + padded(group.bytes(), wal.segment.align);
            if at + wal.segment.end_room() > FILE_BYTES_MAX as u64 {
                break;
            }
            wal.write(&mut group).ok()?;
            group = Group::new(owner.seed(), wal.sequence);
        }
    }
    Some(files)
}

/// The input of `fuzz` that is these records, as far as their bodies are short: three in a group.
pub fn fuzz_input(records: &[Record]) -> Vec<u8> {
    let mut input = vec![1];
    let mut body = Vec::new();
    for (number, record) in (1u32..).zip(records) {
        body.clear();
        encode(record, &mut body);
        if let Ok(length) = u8::try_from(body.len()) {
            input.extend_from_slice(&[kind(record), length]);
            input.extend_from_slice(&body);
        }
        if number.is_multiple_of(3) {
            input.extend_from_slice(&[0, 0]);
        }
    }
    input
}

/// A good log with the bytes as damage: of each a segment, two bytes of offset, and a change.
fn damaged(mut rest: &[u8]) -> Option<MemoryFiles> {
    let mut files = MemoryFiles::new();
    Wal::format(&mut files, SETTINGS, formatted()?).ok()?;
    let (mut wal, _) = Wal::open(&mut files, SETTINGS).ok()?;
    wal.append(&Record::Started(Boot { counter: 1, nonce: 1 })).ok()?;
    for at in 0..20 {
        let id = CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence: at };
        let bytes = vec![at as u8; 17 * at as usize].into();
        let entries: Entries = [Entry::Noop, Entry::Command { id, bytes }].into_iter().collect();
        let ballot = Ballot { round: 1 + at / 4, node: NodeId(1), generation: 0 };
        wal.append(&Record::Accepted { ballot, first: Slot::FIRST.plus(at), entries }).ok()?;
        wal.sync().ok()?;
    }
    let segments = wal.segment.number;
    while let Some(([segment, low, high, change], behind)) = rest.split_first_chunk() {
        rest = behind;
        let offset = usize::from(u16::from_le_bytes([*low, *high]));
        files.edit(&segment_name(1 + u64::from(*segment) % segments), |bytes| match change {
            0 => bytes.truncate(offset),
            _ => {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= change;
                }
            }
        });
    }
    Some(files)
}

/// What must hold of any directory.
fn judge(mut files: MemoryFiles) {
    if let Ok(inspect) = Inspect::new(files.clone()) {
        let most = 4 + files.list().map_or(0, |names| names.len()) * FILE_BYTES_MAX / 8;
        assert!(inspect.take(most).count() < most, "inspecting must end");
    }
    let Ok((mut wal, recovered)) = Wal::open(&mut files, SETTINGS) else {
        return;
    };
    let mut next = Slot::FIRST;
    while next < recovered.first_unchosen() {
        let read = wal.read(SlotRange { first: next, end: recovered.first_unchosen() }, 4096);
        let entries = read.unwrap_or_else(|error| panic!("slot {next} is chosen and cannot be read: {error}"));
        next = next.plus(entries.len() as u64);
    }
    let (_, again) = Wal::open(&mut files, SETTINGS).unwrap_or_else(|error| panic!("it was opened before: {error}"));
    assert_eq!(recovered, again, "opening a log changes nothing of what it says");
    let (mut wal, _) = Wal::open(&mut files, SETTINGS).unwrap_or_else(|error| panic!("it was opened before: {error}"));
    let mut after = recovered;
    let boot = after.next_boot(7);
    let appended = wal.append(&Record::Started(boot)).and_then(|()| wal.sync());
    match appended {
        Ok(()) | Err(WalError::Impossible { .. }) => {}
        Err(error) => panic!("memory takes everything: {error}"),
    }
    // The largest counter of all has no next one: a log that says it is not to be started again.
    if after.started(boot).is_ok() {
        let (_, reopened) = Wal::open(&mut files, SETTINGS).unwrap_or_else(|error| panic!("it was synced: {error}"));
        assert_eq!(reopened, after, "what was synced is there again");
    }
}

fn formatted() -> Option<Formatted> {
    let voter = Member { node: NodeId(1), incarnation: Incarnation(1), generation: 0 };
    let membership = Membership::new(vec![voter], Vec::new(), QuorumSystem::Majority).ok()?;
    let genesis = Genesis::new(membership, 64).ok()?;
    Some(Formatted { cluster: ClusterId::new(1), node: NodeId(1), incarnation: Incarnation(1), genesis })
}

#[cfg(test)]
mod tests {
    use quickcheck::QuickCheck;

    use super::fuzz;

    #[test]
    fn arbitrary_bytes_never_break_the_log() {
        fn survives(mode: u8, bytes: Vec<u8>) -> bool {
            fuzz(&[&[mode % 3], &bytes[..]].concat());
            true
        }
        QuickCheck::new().tests(3_000).quickcheck(survives as fn(u8, Vec<u8>) -> bool);
    }

    #[test]
    fn small_records_of_every_kind_are_judged() {
        // Kinds and bodies from a small alphabet reach the validator often.
        fn survives(bytes: Vec<u8>) -> bool {
            let small: Vec<u8> = bytes.iter().map(|byte| byte % 7).collect();
            fuzz(&[&[1], &small[..]].concat());
            true
        }
        QuickCheck::new().tests(3_000).quickcheck(survives as fn(Vec<u8>) -> bool);
    }
}
