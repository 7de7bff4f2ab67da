//! Damaged logs: opening one never panics, and never passes for a log with less in it.
//!
//! An input is a list of edits of a small log of several segments. Flips and cuts are damage: then opening
//! either fails, or finds everything, or all but the last groups, and that only as far as a torn write looks the
//! same: the last group alone must be damaged itself, and where more are lost, the head of every one of them.
//! Edits that write chosen bytes could forge a log, so after them only "no panic", and "what opens opens again to
//! the same", are asked.

use std::sync::OnceLock;

use bytes::Bytes;
use node::wal::{Files, Inspect, Item, MemoryFiles, Wal, WalError, WalSettings};
use paxos_core::{
    Ballot, Boot, ClusterId, CommandId, Entries, Entry, Formatted, Genesis, Incarnation, Member, Membership, NodeId,
    QuorumSystem, Record, Recovered, Recovery, Slot,
};

const SETTINGS: WalSettings = WalSettings { segment_bytes: 2_048, align_bytes: 64 };

/// Edits of one input; more only slow a fuzzer down.
const EDITS_MAX: usize = 16;

/// The head of a group (docs/storage.md §3).
const GROUP_HEAD_BYTES: u64 = 40;

/// A good log and the groups in it.
pub struct GoodLog {
    /// The log.
    pub files: MemoryFiles,
    /// Its groups, in order.
    pub groups: Vec<Group>,
}

/// A group: what one sync made durable.
pub struct Group {
    /// Its file.
    pub name: String,
    /// Where its head begins.
    pub at: u64,
    /// Where its last record ends.
    pub end: u64,
    /// What is found in a log that ends with this group.
    pub found: Option<Recovered>,
}

impl GoodLog {
    /// The groups of a log, by what the log shows of itself and what the core makes of their records.
    ///
    /// # Panics
    /// If it is no good log.
    pub fn new(files: MemoryFiles) -> GoodLog {
        let shown = Inspect::new(files.clone()).unwrap_or_else(|error| panic!("a log in memory: {error}"));
        let (mut groups, mut records): (Vec<Group>, Vec<Record>) = (Vec::new(), Vec::new());
        for shown in shown {
            match shown.item.unwrap_or_else(|error| panic!("a good log: {error}")) {
                Item::Group { bytes, .. } => groups.push(Group {
                    name: format!("{:016}.wal", shown.segment),
                    at: shown.offset,
                    end: shown.offset + GROUP_HEAD_BYTES + u64::from(bytes),
                    found: validated(&records),
                }),
                Item::Record(record) => {
                    records.push(record);
                    if let Some(group) = groups.last_mut() {
                        group.found = validated(&records);
                    }
                }
                Item::Segment { .. } | Item::End | Item::Torn { .. } | Item::Unused { .. } => {}
            }
        }
        GoodLog { files, groups }
    }

    /// Whether a log with this damage may open and find this much: everything, or what a torn write would leave.
    pub fn passes(&self, damaged: &MemoryFiles, found: &Recovered) -> bool {
        let differs = |group: &Group, end: u64| {
            let bytes = |files: &MemoryFiles| {
                let mut bytes = vec![0; (end - group.at) as usize];
                files.clone().read_at(&group.name, group.at, &mut bytes).map(|read| bytes.truncate(read)).ok();
                bytes
            };
            bytes(&self.files) != bytes(damaged)
        };
        (1..=self.groups.len()).rev().any(|kept| {
            let (rest, lost) = self.groups.split_at(kept);
            rest.last().is_some_and(|last| last.found.as_ref() == Some(found))
                && match lost {
                    [] => true,
                    [group] => differs(group, group.end),
                    more => more.iter().all(|group| differs(group, group.at + GROUP_HEAD_BYTES)),
                }
        })
    }
}

/// One edit: 8 bytes of input.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Flip { at: u32, mask: u8 },
    Cut { at: u32 },
    Write { at: u32, byte: u8 },
    Copy { at: u32, from: u32, bytes: u8 },
    Remove,
}

impl Edit {
    fn decode(bytes: &[u8]) -> Option<(u8, Edit)> {
        let &[kind, file, a, b, c, d, value, more] = bytes else { return None };
        let at = u32::from_le_bytes([a, b, c, d]);
        let edit = match kind % 8 {
            0..=2 => Edit::Flip { at, mask: value | 1 },
            3 => Edit::Cut { at },
            4 | 5 => Edit::Write { at, byte: value },
            6 => Edit::Copy { at, from: u32::from(value) * 8, bytes: more },
            _ => Edit::Remove,
        };
        Some((file, edit))
    }

    /// Whether it could also be damage that a log must see through.
    fn is_damage(self) -> bool {
        match self {
            Edit::Flip { .. } | Edit::Cut { .. } => true,
            Edit::Write { .. } | Edit::Copy { .. } | Edit::Remove => false,
        }
    }

    fn apply(self, files: &mut MemoryFiles, name: &str) {
        if let Edit::Remove = self {
            // Removing what is not there changes nothing.
            let _ = files.remove(name);
            return;
        }
        files.edit(name, |bytes| {
            if bytes.is_empty() {
                return;
            }
            let place = |at: u32| at as usize % bytes.len();
            match self {
                Edit::Flip { at, mask } => {
                    let at = place(at);
                    bytes[at] ^= mask;
                }
                Edit::Cut { at } => bytes.truncate(place(at)),
                Edit::Write { at, byte } => {
                    let at = place(at);
                    bytes[at] = byte;
                }
                Edit::Copy { at, from, bytes: count } => {
                    let (at, from) = (place(at), place(from));
                    let count = usize::from(count).min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + count, at);
                }
                Edit::Remove => {}
            }
        });
    }
}

/// Runs one input.
///
/// # Panics
/// If damage passes for a log with less in it, or what opened does not open again.
pub fn run(input: &[u8]) {
    static BASES: OnceLock<[GoodLog; 2]> = OnceLock::new();
    let bases = BASES.get_or_init(|| [base(false), base(true)]);
    let Some((first, rest)) = input.split_first() else { return };
    let base = &bases[usize::from(first & 1)];
    let mut files = base.files.clone();
    let names = files.list().unwrap_or_default();
    let mut only_damage = true;
    for (file, edit) in rest.chunks_exact(8).take(EDITS_MAX).filter_map(Edit::decode) {
        only_damage &= edit.is_damage();
        if let Some(name) = names.get(usize::from(file) % names.len().max(1)) {
            edit.apply(&mut files, name);
        }
    }
    if let Ok(inspect) = Inspect::new(files.clone()) {
        // Every item carries its own judgement; nothing to assert but that all of it is shown in bounded steps.
        assert!(inspect.take(100_000).count() < 100_000, "inspection does not end");
    }
    let Ok((wal, found)) = Wal::open(files.clone(), SETTINGS) else { return };
    if only_damage {
        assert!(base.passes(&files, &found), "damage passes for another log: {found:?}");
    }
    let again = Wal::open(wal.into_files(), SETTINGS);
    assert_eq!(again.ok().map(|(_, found)| found), Some(found), "what opened opens again to the same");
}

/// What the core makes of these records; nothing of none.
fn validated(records: &[Record]) -> Option<Recovered> {
    let mut recovery = Recovery::new();
    records.iter().try_for_each(|record| recovery.record(record.clone())).ok()?;
    recovery.finish().ok()
}

fn base(sealed: bool) -> GoodLog {
    let mut files = MemoryFiles::new();
    write(&mut files, sealed).unwrap_or_else(|error| panic!("a log in memory: {error}"));
    let base = GoodLog::new(files);
    let found = Wal::open(base.files.clone(), SETTINGS).map(|(_, found)| found);
    assert_eq!(found.ok().as_ref(), base.groups.last().and_then(|last| last.found.as_ref()), "a good log opens");
    base
}

/// Some forty groups over several segments; sealed or not, the last one with records is a promise.
fn write(files: &mut MemoryFiles, sealed: bool) -> Result<(), WalError> {
    let member = Member { node: NodeId(1), incarnation: Incarnation(11), generation: 0 };
    let membership = Membership::new(vec![member], vec![], QuorumSystem::Majority);
    let genesis = membership.and_then(|membership| Genesis::new(membership, 4_096));
    let genesis = genesis.unwrap_or_else(|error| panic!("a genesis of one voter: {error}"));
    let formatted =
        Formatted { cluster: ClusterId::new(5), node: member.node, incarnation: member.incarnation, genesis };
    Wal::format(&mut *files, SETTINGS, formatted)?;
    let (mut wal, _) = Wal::open(&mut *files, SETTINGS)?;
    let ballot = Ballot { round: 1, node: member.node, generation: 0 };
    wal.append(&Record::Started(Boot { counter: 1, nonce: 9 }))?;
    wal.sync()?;
    wal.append(&Record::Promised(ballot))?;
    wal.sync()?;
    for number in 1..=30u64 {
        let Some(slot) = Slot::new(number) else { continue };
        let id = CommandId { node: member.node, incarnation: member.incarnation, boot: 1, sequence: number };
        let bytes = Bytes::from(vec![number as u8; (number as usize * 37) % 300]);
        let entries = Entries::one(Entry::Command { id, bytes });
        wal.append(&Record::Accepted { ballot, first: slot, entries })?;
        wal.sync()?;
        if number % 4 == 0 {
            wal.append(&Record::Chosen { below: slot })?;
            wal.sync()?;
        }
    }
    wal.append(&Record::Promised(Ballot { round: 2, ..ballot }))?;
    wal.sync()?;
    if sealed {
        wal.seal()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_flip_and_cut_is_seen_through() {
        for sealed in [0, 1] {
            let files = base(sealed == 1).files;
            let (mut lister, mut sizer) = (files.clone(), files);
            let names = lister.list().unwrap();
            assert!(names.len() > 3, "several segments: {names:?}");
            for (file, name) in names.iter().enumerate() {
                let bytes = sizer.len(name).unwrap() as u32;
                for at in (0..bytes).step_by(7) {
                    let [a, b, c, d] = at.to_le_bytes();
                    run(&[sealed, 0, file as u8, a, b, c, d, 0x10, 0]);
                    if at % 77 == 0 {
                        run(&[sealed, 3, file as u8, a, b, c, d, 0, 0]);
                    }
                }
            }
        }
    }
}
