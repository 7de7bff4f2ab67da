//! One process per data directory: an advisory lock on a file in it, gone with the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::stop::Stop;

/// Name of the lock file; it also holds the process number, for people.
pub const LOCK_FILE: &str = "lock";

/// Held for as long as the process owns the directory.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of an existing directory.
    ///
    /// # Errors
    /// `Stop::DirectoryMissing`, `Stop::Locked`, or what the disk says.
    pub fn take(dir: &Path) -> Result<DirectoryLock, Stop> {
        if !dir.is_dir() {
            return Err(Stop::DirectoryMissing(dir.to_owned()));
        }
        let path = dir.join(LOCK_FILE);
        let failed = |error: io::Error| Stop::disk("lock", &path, &error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A number that cannot be read is only missing from the message.
                let _ = file.read_to_string(&mut holder);
                return Err(Stop::Locked { dir: dir.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The number is for people: a full disk must not keep a node from starting to free it.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirectoryLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let scratch = Scratch::new("lock");
        let held = DirectoryLock::take(scratch.path()).expect("free");
        let second = DirectoryLock::take(scratch.path()).expect_err("held");
        assert_eq!(second.code(), 6);
        assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
        drop(held);
        DirectoryLock::take(scratch.path()).expect("free again");
    }

    #[test]
    fn a_missing_directory_is_said_to_be_missing() {
        let scratch = Scratch::new("lock-missing");
        let error = DirectoryLock::take(&scratch.path().join("nowhere")).expect_err("missing");
        assert_eq!(error.code(), 3);
    }
}
