//! The room for a directory in memory with a durable and a volatile image: for tests, examples and fuzzing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::files::Files;

const SECTOR_BYTES: usize = 512;

/// What becomes of a piece of unsynced data in a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It had reached the disk.
    Kept,
    /// It had not.
    Dropped,
    /// It was being written: what is there now are bytes made from this number.
    Garbled(u64),
}

/// A directory in memory. What is written is lost in a `crash` unless it was synced.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since the last directory sync, in order.
    unsynced_names: Vec<(String, Option<u64>)>,
    bodies: BTreeMap<u64, Body>,
    next_body: u64,
    calls_left: Option<u64>,
    bytes_left: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Body {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    unsynced: BTreeSet<usize>,
}

impl MemoryFiles {
    /// An empty directory.
    pub fn new() -> MemoryFiles {
        MemoryFiles::default()
    }

    /// Lets so many calls that change something succeed, and fails all after them.
    pub fn fail_after(&mut self, calls: u64) {
        self.calls_left = Some(calls);
    }

    /// Lets new files take so many bytes in all, and no more.
    pub fn fill_up_after(&mut self, bytes: u64) {
        self.bytes_left = Some(bytes);
    }

    /// Power is lost: of each unsynced sector, length and name `fate` decides; from the first change of a name
    /// that is not kept on, none is. Ends injected failures.
    pub fn crash(&mut self, mut fate: impl FnMut() -> Fate) {
        for (name, body) in std::mem::take(&mut self.unsynced_names) {
            if fate() != Fate::Kept {
                break;
            }
            set(&mut self.durable_names, name, body);
        }
        self.names = self.durable_names.clone();
        for body in self.bodies.values_mut() {
            if body.volatile.len() != body.durable.len() && fate() == Fate::Kept {
                body.durable.resize(body.volatile.len(), 0);
            }
            for sector in std::mem::take(&mut body.unsynced) {
                let end = body.durable.len().min((sector + 1) * SECTOR_BYTES);
                let Some(durable) = body.durable.get_mut(sector * SECTOR_BYTES..end) else { continue };
                match fate() {
                    Fate::Kept => durable.copy_from_slice(&body.volatile[sector * SECTOR_BYTES..end]),
                    Fate::Dropped => {}
                    Fate::Garbled(number) => garble(durable, number),
                }
            }
            body.volatile.clone_from(&body.durable);
        }
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.bodies.retain(|body, _| named.contains(body));
        (self.calls_left, self.bytes_left) = (None, None);
    }

    /// The bytes of a file, to be damaged at will, in both images.
    pub fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        if let Some(body) = self.names.get(name).and_then(|body| self.bodies.get_mut(body)) {
            edit(&mut body.volatile);
            body.durable.clone_from(&body.volatile);
            body.unsynced.clear();
        }
    }

    fn body(&mut self, name: &str) -> io::Result<&mut Body> {
        let body = self.names.get(name).and_then(|body| self.bodies.get_mut(body));
        body.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("injected failure")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn rename_to(&mut self, name: &str, body: Option<u64>) {
        set(&mut self.names, name.to_owned(), body);
        self.unsynced_names.push((name.to_owned(), body));
    }
}

fn set(names: &mut BTreeMap<String, u64>, name: String, body: Option<u64>) {
    match body {
        Some(body) => names.insert(name, body),
        None => names.remove(&name),
    };
}

fn garble(bytes: &mut [u8], number: u64) {
    let mut state = number | 1;
    for byte in bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
}

impl Files for MemoryFiles {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        self.body(name).map(|body| body.volatile.len() as u64)
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let body = &self.body(name)?.volatile;
        let rest = usize::try_from(offset).ok().and_then(|offset| body.get(offset..)).unwrap_or(&[]);
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()> {
        self.change()?;
        if let Some(left) = &mut self.bytes_left {
            *left = left.checked_sub(bytes_zeroed).ok_or(io::ErrorKind::StorageFull)?;
        }
        let bytes = usize::try_from(bytes_zeroed).map_err(|_| io::ErrorKind::StorageFull)?;
        let unsynced = (0..bytes.div_ceil(SECTOR_BYTES)).collect();
        self.next_body += 1;
        self.bodies.insert(self.next_body, Body { volatile: vec![0; bytes], durable: Vec::new(), unsynced });
        self.rename_to(name, Some(self.next_body));
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        let body = self.body(name)?;
        let begin = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let place = begin.checked_add(bytes.len()).and_then(|end| body.volatile.get_mut(begin..end));
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        body.unsynced.extend(begin / SECTOR_BYTES..(begin + bytes.len()).div_ceil(SECTOR_BYTES));
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.change()?;
        let body = self.body(name)?;
        body.durable.resize(body.volatile.len(), 0);
        for sector in std::mem::take(&mut body.unsynced) {
            let begin = sector * SECTOR_BYTES;
            let end = body.volatile.len().min(begin + SECTOR_BYTES);
            body.durable[begin..end].copy_from_slice(&body.volatile[begin..end]);
        }
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.change()?;
        self.durable_names = self.names.clone();
        self.unsynced_names.clear();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        let body = *self.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.rename_to(to, Some(body));
        self.rename_to(from, None);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change()?;
        self.body(name)?;
        self.rename_to(name, None);
        Ok(())
    }
}
