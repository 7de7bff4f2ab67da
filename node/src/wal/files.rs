//! The room for what the log asks of a directory: `Files`, carried out by real files or a simulated disk.

use std::io;

/// One directory of files, as little of it as the log needs. Names are plain file names, never paths.
///
/// Implementers cache handles: `write_at` and `sync` come in pairs on the same name, thousands of times.
/// Every method takes `&mut self` so that such a cache needs no lock.
pub trait Files {
    /// The names of the files that exist, in any order.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// How many bytes the file has.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    fn len(&mut self, name: &str) -> io::Result<u64>;

    /// Fills `buffer` from the file's bytes at `offset` and says how many it filled: fewer than asked only at
    /// the end of the file.
    ///
    /// # Errors
    /// `NotFound`, or what the operating system says.
    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes the file, in place of one of that name, with this many zero bytes really written (in pieces of
    /// about 1 MiB), so that later syncs need not write metadata. Durable after `sync` and `sync_dir`.
    ///
    /// # Errors
    /// `StorageFull` if there is no room, or what the operating system says.
    fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, with one positioned write if the system takes it whole. The log never
    /// writes beyond the length that the file was created with.
    ///
    /// # Errors
    /// `StorageFull` if there is no room, or what the operating system says.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns once every byte written to the file is durable (fdatasync).
    ///
    /// # Errors
    /// What the operating system says; the log never calls `sync` a second time in hope.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Returns once files created, renamed and removed are durably so (fsync of the directory).
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&mut self) -> io::Result<()>;

    /// Renames a file, in place of one that has the new name.
    ///
    /// # Errors
    /// `NotFound`, or what the operating system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or what the operating system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// How error messages name this file: its whole path, where there is one.
    fn path(&self, name: &str) -> String {
        name.to_owned()
    }
}

impl<F: Files + ?Sized> Files for &mut F {
    fn list(&mut self) -> io::Result<Vec<String>> {
        (**self).list()
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        (**self).len(name)
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(name, offset, buffer)
    }

    fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()> {
        (**self).create(name, bytes_zeroed)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(name, offset, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        (**self).sync(name)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        (**self).sync_dir()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }

    fn path(&self, name: &str) -> String {
        (**self).path(name)
    }
}
