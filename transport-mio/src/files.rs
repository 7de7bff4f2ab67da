//! `node::wal::Files` on a real directory: positioned reads and writes through a small cache of open files.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use node::wal::Files;

/// Open files kept at once: the segment that is written, the one made ahead, and a few that are read.
const OPEN_MAX: usize = 8;

/// Zeros are written, and synced, in pieces of this size: one sync of a whole segment would keep those of the log
/// waiting behind it.
const ZERO_BYTES: usize = 1 << 20;

/// How fast a file is made in the background, beside a log that syncs: as slowly as the one who wants it can
/// afford, so that its writes get between those of the log as little as possible.
#[derive(Debug, Default)]
pub struct Pace {
    due_permille: AtomicU64,
    abandon: AtomicBool,
}

/// The rest between two pieces while the work is ahead of what is due.
const REST: Duration = Duration::from_millis(20);

impl Pace {
    /// So much of the file, in thousandths, should be there by now.
    pub fn due(&self, permille: u64) {
        self.due_permille.store(permille, Ordering::Relaxed);
    }

    /// Nobody wants what is being made, ever again.
    pub fn abandon(&self) {
        self.abandon.store(true, Ordering::Relaxed);
    }

    fn rest(&self, done: u64, of: u64) -> io::Result<()> {
        if self.abandon.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up, the process stops"));
        }
        if done.saturating_mul(1_000) / of.max(1) > self.due_permille.load(Ordering::Relaxed) {
            std::thread::sleep(REST);
        }
        Ok(())
    }
}

/// One directory with the files of a log.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Kept open so that a sync of the directory needs no new descriptor.
    handle: File,
    /// Files may be changed, not only read.
    writable: bool,
    /// How fast files are made, if not as fast as possible.
    pace: Option<Arc<Pace>>,
    /// Most recently used first.
    open: VecDeque<(String, File)>,
}

impl Directory {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let handle = File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Directory { path: path.to_owned(), handle, writable: true, pace: None, open: VecDeque::new() })
    }

    /// Opens an existing directory whose files need not be writable, and cannot be written through it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_to_read(path: &Path) -> io::Result<Directory> {
        Ok(Directory { writable: false, ..Directory::open(path)? })
    }

    /// Makes files at this pace from now on.
    #[must_use]
    pub fn paced(self, pace: Arc<Pace>) -> Directory {
        Directory { pace: Some(pace), ..self }
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        match self.open.iter().position(|(open, _)| open == name) {
            Some(0) => {}
            Some(position) => {
                if let Some(entry) = self.open.remove(position) {
                    self.open.push_front(entry);
                }
            }
            None => {
                let file = OpenOptions::new().read(true).write(self.writable).open(self.path.join(name))?;
                self.keep(name, file);
            }
        }
        self.open.front().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn keep(&mut self, name: &str, file: File) {
        self.open.truncate(OPEN_MAX - 1);
        self.open.push_front((name.to_owned(), file));
    }

    fn forget(&mut self, name: &str) {
        self.open.retain(|(open, _)| open != name);
    }
}

impl Files for Directory {
    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file(name)?;
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..)
            && !room.is_empty()
        {
            match file.read_at(room, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()> {
        self.forget(name);
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; ZERO_BYTES];
        let mut offset = 0;
        while offset < bytes_zeroed {
            let count = usize::try_from(bytes_zeroed - offset).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            file.write_all_at(zeros.get(..count).unwrap_or(&zeros), offset)?;
            offset += count as u64;
            if offset < bytes_zeroed {
                file.sync_data()?;
                self.pace.as_deref().map_or(Ok(()), |pace| pace.rest(offset, bytes_zeroed))?;
            }
        }
        self.keep(name, file);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.forget(to);
        fs::rename(self.path.join(from), self.path.join(to))?;
        for (open, _) in &mut self.open {
            if open == from {
                to.clone_into(open);
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.forget(name);
        fs::remove_file(self.path.join(name))
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn files_are_made_written_read_renamed_and_removed() -> io::Result<()> {
        let scratch = Scratch::new("files");
        let mut files = Directory::open(scratch.path())?;
        files.create("one", (ZERO_BYTES + 10) as u64)?;
        assert_eq!(files.len("one")?, (ZERO_BYTES + 10) as u64);
        files.write_at("one", 5, b"hello")?;
        files.sync("one")?;
        files.sync_dir()?;
        files.rename("one", "two")?;
        let mut buffer = [9; 12];
        assert_eq!(files.read_at("two", 4, &mut buffer)?, 12);
        assert_eq!(&buffer, b"\0hello\0\0\0\0\0\0");
        assert_eq!(files.read_at("two", (ZERO_BYTES + 4) as u64, &mut buffer)?, 6);
        assert_eq!(files.list()?, ["two"]);
        files.create("two", 3)?;
        assert_eq!(files.read_at("two", 0, &mut buffer)?, 3);
        assert_eq!(buffer[..3], [0; 3]);
        files.remove("two")?;
        assert_eq!(files.len("two").map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        Ok(())
    }

    #[test]
    fn an_abandoned_file_is_given_up_and_one_that_is_due_is_made() {
        let scratch = Scratch::new("paced-files");
        let pace = Arc::new(Pace::default());
        let mut files = Directory::open(scratch.path()).expect("a directory").paced(Arc::clone(&pace));
        pace.due(1_000);
        files.create("one", 3 * ZERO_BYTES as u64).expect("there is room");
        assert_eq!(files.len("one").expect("it is there"), 3 * ZERO_BYTES as u64);
        pace.abandon();
        assert!(files.create("two", 3 * ZERO_BYTES as u64).is_err());
    }

    #[test]
    fn more_files_than_the_cache_holds_work() -> io::Result<()> {
        let scratch = Scratch::new("many-files");
        let mut files = Directory::open(scratch.path())?;
        let names: Vec<String> = (0..3 * OPEN_MAX).map(|number| format!("file-{number}")).collect();
        for name in &names {
            files.create(name, 64)?;
        }
        for name in &names {
            files.write_at(name, 0, name.as_bytes())?;
        }
        assert!(files.open.len() <= OPEN_MAX);
        for name in &names {
            let mut buffer = vec![0; name.len()];
            files.read_at(name, 0, &mut buffer)?;
            assert_eq!(buffer, name.as_bytes());
        }
        Ok(())
    }
}
