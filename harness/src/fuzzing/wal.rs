//! Damaged logs: opening one never panics, and never passes for a log with less in it.
//!
//! An input is a list of edits of a small log of several segments. Flips and cuts are damage: then opening
//! either fails, or finds everything, or all but the last group, and that only if nothing sealed it (a torn
//! write looks the same). Edits that write chosen bytes could forge a log, so after them only "no panic", and
//! "what opens opens again to the same", are asked.

use std::sync::OnceLock;

use bytes::Bytes;
use node::wal::{Files, Inspect, MemoryFiles, Wal, WalSettings};
use paxos_core::{
    Ballot, Boot, ClusterId, CommandId, Entries, Entry, Formatted, Genesis, Incarnation, Member, Membership, NodeId,
    QuorumSystem, Record, Recovered, Slot,
};

const SETTINGS: WalSettings = WalSettings { segment_bytes: 2_048, align_bytes: 64 };

/// Edits of one input; more only slow a fuzzer down.
const EDITS_MAX: usize = 16;

/// A log, what opening it finds, and what it would find without its last group.
#[derive(Clone)]
struct Base {
    files: MemoryFiles,
    whole: Recovered,
    /// `None` if the last group is sealed.
    without_last: Option<Recovered>,
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
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
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
    let Ok((wal, found)) = Wal::open(files, SETTINGS) else { return };
    if only_damage {
        let passes = found == base.whole || base.without_last.as_ref() == Some(&found);
        assert!(passes, "damage passes for another log: {found:?}");
    }
    let again = Wal::open(wal.into_files(), SETTINGS);
    assert_eq!(again.ok().map(|(_, found)| found), Some(found), "what opened opens again to the same");
}

fn base(sealed: bool) -> Base {
    let mut files = MemoryFiles::new();
    let written = write(&mut files, sealed);
    let (whole, without_last) = written.unwrap_or_else(|error| panic!("a log in memory: {error}"));
    Base { files, whole, without_last: (!sealed).then_some(without_last) }
}

/// Some thirty groups over several segments; what is found afterwards, and before the last group.
fn write(files: &mut MemoryFiles, sealed: bool) -> Result<(Recovered, Recovered), node::wal::WalError> {
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
    drop(wal);
    let (_, without_last) = Wal::open(files.clone(), SETTINGS)?;
    let (mut wal, _) = Wal::open(&mut *files, SETTINGS)?;
    wal.append(&Record::Promised(Ballot { round: 2, ..ballot }))?;
    wal.sync()?;
    if sealed {
        wal.seal()?;
    }
    drop(wal);
    let (_, whole) = Wal::open(files.clone(), SETTINGS)?;
    Ok((whole, without_last))
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
