//! The room for what can go wrong with a log, by whose fault it is.

use std::io;

use paxos_core::{RecoveryError, Slot};
use thiserror::Error;

/// Why the log did not do what it was asked.
#[derive(Debug, Error)]
pub enum WalError {
    /// The directory holds no log: it was never formatted, or is another one than was meant.
    #[error("no log here: the directory was never formatted")]
    NotFormatted,
    /// The directory holds a log already, and `format` never destroys one.
    #[error("{path} exists: the directory is formatted already")]
    AlreadyFormatted {
        /// A file of that log.
        path: String,
    },
    /// Settings that cannot work.
    #[error("{setting} {given} must be {must}")]
    Settings {
        /// Which setting.
        setting: &'static str,
        /// What was asked for.
        given: u64,
        /// What it has to be.
        must: &'static str,
    },
    /// The file system is full. Nothing acknowledged is lost; the log opens again once there is room.
    #[error("no space left: {path} needs {bytes_needed} bytes")]
    NoSpace {
        /// The file that could not be made or written.
        path: String,
        /// How many bytes it needs.
        bytes_needed: u64,
    },
    /// The operating system refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were durable once are not what they were: the log refuses to open or to read them.
    #[error("corrupt log: {path} (segment {segment}) at offset {offset}: {reason}")]
    Corrupt {
        /// The segment's file.
        path: String,
        /// The segment's number.
        segment: u64,
        /// Where in the segment.
        offset: u64,
        /// What is wrong there.
        reason: Corruption,
    },
    /// Well-formed records that no replica could have written in this order.
    #[error("impossible log: {path} (segment {segment}) at offset {offset}: {reason}")]
    Impossible {
        /// The segment's file.
        path: String,
        /// The segment's number.
        segment: u64,
        /// Where in the segment the record begins.
        offset: u64,
        /// What the validator of records says.
        reason: RecoveryError,
    },
    /// A record larger than any log takes; it was not appended.
    #[error("a record of {bytes} bytes; at most {max} are allowed")]
    RecordTooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// No durable record holds this slot.
    #[error("slot {0} is not in the log")]
    NotHeld(Slot),
    /// An earlier write or sync failed, which is final: nobody knows what the disk holds.
    #[error("the log failed before and takes nothing more")]
    Failed,
}

/// What is wrong with bytes that were durable once.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Corruption {
    /// Placeholder until the scanner names its reasons.
    #[error("unreadable")]
    Unreadable,
}
