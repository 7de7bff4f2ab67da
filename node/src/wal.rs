//! The log bytes of the store: records of `paxos_core` in checksummed segments, sans-IO behind `Files`.

use paxos_core::{Entries, Formatted, Record, Recovered, SlotRange};

mod error;
mod files;

pub use error::{Corruption, WalError};
pub use files::Files;

/// The settings of a log; they may change from one start to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalSettings {
    /// How long new segments are, in bytes; a group that needs a longer one gets it.
    pub segment_bytes: u64,
    /// Groups begin at multiples of this, so that no sector with acknowledged records is ever written again: a
    /// power of two from 8 (packed) to 65,536. Set it to what a power cut can garble at once.
    pub align_bytes: u32,
}

impl Default for WalSettings {
    fn default() -> WalSettings {
        WalSettings { segment_bytes: 64 << 20, align_bytes: 512 }
    }
}

/// A write-ahead log in one directory. Owned by whoever may write there; nothing else may.
#[derive(Debug)]
pub struct Wal<F> {
    files: F,
}

impl<F: Files> Wal<F> {
    /// Makes the log of a new node: one segment that begins with its identity.
    ///
    /// # Errors
    /// `AlreadyFormatted` if there is a log; nothing was touched then.
    pub fn format(mut files: F, settings: WalSettings, formatted: Formatted) -> Result<(), WalError> {
        let _ = (files.list(), settings, formatted);
        Err(WalError::Failed)
    }

    /// Opens the log: checks every byte of it, drops a torn tail that was never acknowledged, and makes what
    /// remains durable. The caller appends and syncs `Record::Started` before it makes a replica.
    ///
    /// # Errors
    /// `NotFormatted`, `Corrupt`, `Impossible`, or what the operating system says. Never an empty log in place
    /// of a damaged one.
    pub fn open(files: F, settings: WalSettings) -> Result<(Wal<F>, Recovered), WalError> {
        let _ = (Wal { files }, settings);
        Err(WalError::Failed)
    }

    /// Appends a record to the group that the next `sync` writes; no I/O.
    ///
    /// # Errors
    /// `RecordTooLarge`, and `Failed` after an earlier failure.
    pub fn append(&mut self, record: &Record) -> Result<(), WalError> {
        let _ = record;
        Err(WalError::Failed)
    }

    /// Makes all that was appended durable: one write and one sync (two at the end of a segment).
    ///
    /// # Errors
    /// Any error is final: what was appended may or may not survive, and every later call answers `Failed`.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.files.sync_dir().map_err(|_| WalError::Failed)
    }

    /// Bytes appended and not yet synced.
    pub fn pending_bytes(&self) -> usize {
        0
    }

    /// Whether `prepare_next` would do something useful now: the segment is filling up and no next one exists.
    pub fn wants_next(&self) -> bool {
        false
    }

    /// Makes the next segment ahead of its use, so that no sync has to wait for it.
    ///
    /// # Errors
    /// Not final: without a next segment the log goes on to the end of this one.
    pub fn prepare_next(&mut self) -> Result<(), WalError> {
        Ok(())
    }

    /// Entries of consecutive slots from `slots.first` on, at least one; stops before `slots.end` and before
    /// payloads and heads exceed `bytes_max`. Ask only for slots below the durable chosen prefix: of those, and
    /// only of those, the last record holds the chosen entry.
    ///
    /// # Errors
    /// `NotHeld`, `Corrupt`, or what the operating system says.
    pub fn read(&mut self, slots: SlotRange, bytes_max: usize) -> Result<Entries, WalError> {
        let _ = bytes_max;
        Err(WalError::NotHeld(slots.first))
    }
}
