//! The room for what can go wrong with a log, by whose fault it is.

use std::io;

use paxos_core::wire::WireError;
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
    /// A file that the rest of the log needs.
    #[error("the segment is missing")]
    Missing,
    /// Segments are filled with zeros to their full length before they are used.
    #[error("the file has {bytes} bytes instead of {expected}")]
    Length {
        /// What it has.
        bytes: u64,
        /// What it was made with.
        expected: u64,
    },
    /// The first bytes of the segment.
    #[error("the segment's head is damaged")]
    SegmentHead,
    /// Written by another version of the format.
    #[error("format version {found}; this is version {}", super::layout::VERSION)]
    Version {
        /// The version found.
        found: u16,
    },
    /// A segment of another log, or of an earlier life of this one.
    #[error("the segment belongs to another log")]
    Foreign,
    /// A segment under another one's name.
    #[error("the file holds segment {found}")]
    Number {
        /// Whose head it has.
        found: u64,
    },
    /// A group that was durable once cannot be read.
    #[error("{damage}, and {known_by}")]
    Group {
        /// What is wrong with it.
        damage: Damage,
        /// Why it is no write that a crash tore.
        known_by: KnownBy,
    },
    /// Groups are numbered without a gap.
    #[error("group {found} where group {expected} belongs")]
    Sequence {
        /// The number found.
        found: u64,
        /// The number that follows the group before.
        expected: u64,
    },
    /// A group's head repeats length and checksum of the group before it, and they differ.
    #[error("the group before it is not the one that was sealed")]
    Seal,
    /// A record kind of a later version.
    #[error("unknown record kind {kind}")]
    UnknownKind {
        /// Its number.
        kind: u8,
    },
    /// The checksum is right and the bytes mean nothing: written by a broken or a later version.
    #[error("malformed record")]
    Body,
    /// The same of a run of entries.
    #[error("malformed entries: {0}")]
    Entries(WireError),
    /// A record whose checksum was right when the log was opened.
    #[error("{0}")]
    Record(Damage),
}

/// What is wrong with a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Damage {
    /// Its head's checksum, or a head that does not fit in the segment.
    #[error("damaged group head")]
    Head,
    /// There is none.
    #[error("no group")]
    Blank,
    /// A record's checksum, or one that does not fit in the group.
    #[error("damaged record")]
    Record,
    /// Each record is whole by itself, yet they are not those that were written together.
    #[error("records of different groups")]
    Mixed,
}

/// Why a damaged group cannot be a write that a crash tore: a group is written only after the one before it was
/// synced, so only the last one can be torn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KnownBy {
    /// The log's identity is durable before the log has its name.
    #[error("it is the first of the log")]
    First,
    /// A whole group head further on.
    #[error("a later group follows at offset {offset}")]
    LaterGroup {
        /// Where.
        offset: u64,
    },
    /// Something is written further on than the group reaches, or than any group can.
    #[error("a later write follows, up to offset {offset}")]
    LaterBytes {
        /// The last byte that is not zero.
        offset: u64,
    },
    /// A later segment is in use, and segments are ended before the next one is used.
    #[error("a later segment is in use")]
    LaterSegment,
    /// Turning one bit makes the group whole, and no lost sector explains that bit.
    #[error("bit {bit} of the byte at offset {offset} was flipped")]
    OneBit {
        /// The byte's place in the segment.
        offset: u64,
        /// From 0, the lowest.
        bit: u8,
    },
}
