//! The room for a simulated disk: what a process sees of its files, and what of it a crash leaves.
//!
//! `Platter` holds two images. Reads and writes go to the volatile one at once; every operation is also kept in a
//! journal, and the world decides when the journal reaches the durable image (`commit`: the disk was fast enough)
//! or what little of it does (`crash`). So a sync can take simulated time although `Files::sync` returns at once: the
//! world just does not tell anybody before.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use node::wal::Files;

use crate::decisions::Leaves;
use crate::rng::Rng;

/// What a power cut can garble at once.
pub const SECTOR_BYTES: usize = 512;

/// A directory on a simulated disk. Clones name the same directory.
#[derive(Clone, Debug, Default)]
pub struct SimFiles {
    platter: Rc<RefCell<Platter>>,
}

#[derive(Debug, Default)]
struct Platter {
    volatile: Image,
    durable: Image,
    journal: Vec<Operation>,
    /// The operation that is to fail, counted from now.
    fails_in: Option<u64>,
    /// Only that one is to fail.
    once: bool,
    failed: bool,
}

type Image = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug)]
enum Operation {
    Create { name: String, bytes: usize },
    Write { name: String, offset: usize, bytes: Vec<u8> },
    Sync { name: String },
    SyncDir,
    Rename { from: String, to: String },
    Remove { name: String },
}

/// What happened to the bytes of a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Sectors that were kept although nothing had synced them.
    pub kept: u64,
    /// Sectors that were lost.
    pub lost: u64,
    /// Sectors that hold garbage.
    pub garbage: u64,
}

impl SimFiles {
    /// An empty directory.
    pub fn new() -> SimFiles {
        SimFiles::default()
    }

    /// Everything that was asked for so far is durable.
    pub fn commit(&self) {
        let platter = &mut *self.platter.borrow_mut();
        for operation in platter.journal.drain(..) {
            operation.apply(&mut platter.durable);
        }
    }

    /// Operations that are not durable yet.
    pub fn uncommitted(&self) -> usize {
        self.platter.borrow().journal.len()
    }

    /// A directory that holds the worst image that could survive: all that is not durable is dropped.
    pub fn worst(&self) -> SimFiles {
        let platter = self.platter.borrow();
        let survivor =
            Platter { volatile: platter.durable.clone(), durable: platter.durable.clone(), ..Platter::default() };
        SimFiles { platter: Rc::new(RefCell::new(survivor)) }
    }

    /// The operation after so many more fails, and all after it unless it is to be `once`.
    pub fn fail_in(&self, operations: u64, once: bool) {
        let platter = &mut *self.platter.borrow_mut();
        (platter.fails_in, platter.once) = (Some(operations), once);
    }

    /// No operation that did not fail yet will.
    pub fn fail_no_more(&self) {
        let platter = &mut *self.platter.borrow_mut();
        if !platter.failed {
            platter.fails_in = None;
        }
    }

    /// The process died, or the power did: nothing of what was not durable is left, or all of it, or what a number
    /// says. Then the disk got somewhere in its journal; writes that no sync covers are kept, lost or torn sector by
    /// sector, and names that no directory sync covers exist or not.
    pub fn crash(&self, leaves: Leaves) -> Damage {
        if leaves == Leaves::Kept {
            self.commit();
        }
        let platter = &mut *self.platter.borrow_mut();
        platter.fails_in = None;
        platter.failed = false;
        let journal = std::mem::take(&mut platter.journal);
        let Leaves::Torn(number) = leaves else {
            platter.volatile = platter.durable.clone();
            return Damage::default();
        };
        let rng = &mut Rng::numbered(number, 0);
        let reached = rng.between(0, journal.len() as u64) as usize;
        let journal = &journal[..reached];
        let mut damage = Damage::default();
        for (at, operation) in journal.iter().enumerate() {
            let rest = &journal[at..];
            operation.settle(rest, &mut platter.durable, rng, &mut damage);
        }
        platter.volatile = platter.durable.clone();
        damage
    }

    /// One block that held something holds something else: a bit is flipped, or it reads as zeros as if it had never
    /// been written, or it has what was meant for another one. The number says which, and how; `by_bits`: a bit is
    /// flipped, whatever it says. False if there is none.
    pub fn rot(&self, number: u64, by_bits: bool) -> bool {
        let platter = &mut *self.platter.borrow_mut();
        let rng = &mut Rng::numbered(number, 1);
        let blocks: Vec<(String, usize)> = platter
            .durable
            .iter()
            .flat_map(|(name, file)| {
                let written =
                    file.chunks(SECTOR_BYTES).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
                written.map(|(at, _)| (name.clone(), at * SECTOR_BYTES))
            })
            .collect();
        if blocks.is_empty() {
            return false;
        }
        let [(name, at), (other, from)] = [0, 1].map(|_| &blocks[rng.below(blocks.len() as u64) as usize]);
        let (way, bit) = (rng.below(3), rng.below(8 * SECTOR_BYTES as u64) as usize);
        let block = |image: &Image, name: &str, at: usize| {
            let file = image.get(name).map(Vec::as_slice).unwrap_or_default();
            file[at..file.len().min(at + SECTOR_BYTES)].to_vec()
        };
        let held = block(&platter.durable, name, *at);
        let mut holds = match way {
            _ if by_bits => held.clone(),
            0 => vec![0; held.len()],
            1 => block(&platter.durable, other, *from),
            _ => held.clone(),
        };
        holds.resize(held.len(), 0);
        if holds == held {
            let byte = bit / 8 % holds.len();
            holds[byte] ^= 1 << (bit % 8);
        }
        write(&mut platter.durable, name, *at, &holds);
        platter.volatile = platter.durable.clone();
        true
    }

    fn operate(&self, operation: Operation) -> io::Result<()> {
        let platter = &mut *self.platter.borrow_mut();
        platter.check()?;
        operation.apply(&mut platter.volatile);
        platter.journal.push(operation);
        Ok(())
    }
}

impl Platter {
    fn check(&mut self) -> io::Result<()> {
        let fails = self.fails_in == Some(0);
        self.failed |= fails && !self.once;
        self.fails_in = self.fails_in.and_then(|operations| operations.checked_sub(1));
        if fails || self.failed { Err(io::Error::other("the simulated disk failed")) } else { Ok(()) }
    }
}

impl Operation {
    fn apply(&self, image: &mut Image) {
        match self {
            Operation::Create { name, bytes } => {
                image.insert(name.clone(), vec![0; *bytes]);
            }
            Operation::Write { name, offset, bytes } => write(image, name, *offset, bytes),
            Operation::Sync { .. } | Operation::SyncDir => {}
            Operation::Rename { from, to } => {
                if let Some(bytes) = image.remove(from) {
                    image.insert(to.clone(), bytes);
                }
            }
            Operation::Remove { name } => {
                image.remove(name);
            }
        }
    }

    /// Whether a later operation made this one durable.
    fn synced(&self, later: &[Operation]) -> bool {
        match self {
            Operation::Write { name, .. } => {
                later.iter().any(|operation| matches!(operation, Operation::Sync { name: synced } if synced == name))
            }
            Operation::Create { .. } | Operation::Rename { .. } | Operation::Remove { .. } => {
                later.iter().any(|operation| matches!(operation, Operation::SyncDir))
            }
            Operation::Sync { .. } | Operation::SyncDir => true,
        }
    }

    fn settle(&self, later: &[Operation], image: &mut Image, rng: &mut Rng, damage: &mut Damage) {
        if self.synced(later) {
            return self.apply(image);
        }
        match self {
            Operation::Write { name, offset, bytes } => {
                // Half of the torn writes are all or nothing, as short ones mostly are.
                let whole = rng.coin();
                let fate = rng.below(3);
                let mut at = *offset;
                let end = offset + bytes.len();
                while at < end {
                    let sector_end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                    let part = &bytes[at - offset..sector_end - offset];
                    match if whole { fate } else { rng.below(3) } {
                        0 => damage.lost += 1,
                        1 => {
                            damage.kept += 1;
                            write(image, name, at, part);
                        }
                        _ => {
                            damage.garbage += 1;
                            let garbage: Vec<u8> = part.iter().map(|_| rng.draw() as u8).collect();
                            write(image, name, at, &garbage);
                        }
                    }
                    at = sector_end;
                }
            }
            Operation::Create { .. } | Operation::Rename { .. } | Operation::Remove { .. } => {
                if rng.coin() {
                    self.apply(image);
                }
            }
            Operation::Sync { .. } | Operation::SyncDir => {}
        }
    }
}

fn write(image: &mut Image, name: &str, offset: usize, bytes: &[u8]) {
    let Some(file) = image.get_mut(name) else { return };
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Files for SimFiles {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.platter.borrow().volatile.keys().cloned().collect())
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        self.platter.borrow().volatile.get(name).map(|file| file.len() as u64).ok_or_else(|| missing(name))
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let platter = self.platter.borrow();
        let file = platter.volatile.get(name).ok_or_else(|| missing(name))?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let count = buffer.len().min(file.len() - from);
        buffer[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()> {
        self.operate(Operation::Create { name: name.to_owned(), bytes: bytes_zeroed as usize })
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operate(Operation::Write { name: name.to_owned(), offset: offset as usize, bytes: bytes.to_vec() })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.operate(Operation::Sync { name: name.to_owned() })
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.operate(Operation::SyncDir)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.operate(Operation::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.operate(Operation::Remove { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(files: &SimFiles) -> Option<Vec<u8>> {
        files.platter.borrow().volatile.get("log").cloned()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_may_lose_or_tear_the_rest() -> io::Result<()> {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut files = SimFiles::new();
            files.create("log", 2 * SECTOR_BYTES as u64)?;
            files.write_at("log", 0, b"one")?;
            files.sync("log")?;
            files.sync_dir()?;
            files.commit();
            files.write_at("log", SECTOR_BYTES as u64 - 3, b"twotwo")?;
            assert_eq!(content(&files.worst()).map(|bytes| bytes[509]), Some(0), "unsynced bytes are not in it");
            files.crash(Leaves::Torn(seed));
            let after = content(&files).unwrap_or_default();
            assert_eq!(&after[..3], b"one");
            outcomes.insert(after[509..515].iter().map(|byte| (*byte).min(1)).collect::<Vec<u8>>());
        }
        assert!(outcomes.contains(&vec![1; 6]) && outcomes.contains(&vec![0; 6]), "{outcomes:?}");
        assert!(outcomes.contains(&vec![1, 1, 1, 0, 0, 0]), "torn at the sector: {outcomes:?}");
        Ok(())
    }

    #[test]
    fn names_are_durable_with_their_directory() -> io::Result<()> {
        let mut seen = [false; 2];
        for seed in 0..50 {
            let mut files = SimFiles::new();
            files.create("log", 8)?;
            files.sync("log")?;
            files.crash(Leaves::Torn(seed));
            seen[usize::from(content(&files).is_some())] = true;
        }
        assert_eq!(seen, [true, true]);
        Ok(())
    }

    #[test]
    fn a_failed_disk_stays_failed_unless_it_failed_once() -> io::Result<()> {
        let mut files = SimFiles::new();
        files.create("log", 8)?;
        for (once, after) in [(false, false), (true, true)] {
            files.fail_in(1, once);
            files.write_at("log", 0, b"ok")?;
            assert!(files.sync("log").is_err());
            assert_eq!(files.write_at("log", 0, b"no").is_ok(), after);
            files.crash(Leaves::Kept);
        }
        Ok(())
    }
}
