//! The room for the bytes of messages: `encode` and `decode`. Roles never name this module.
//!
//! A frame is a version byte, the message head in postcard, then for each entry of the message its head in
//! postcard and its payload. Payloads are written once and read as slices of the frame.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::{CommandId, Entries, Entry};
use crate::limits::{FRAME_BYTES_MAX, RUN_ENTRIES_MAX};
use crate::membership::Membership;
use crate::message::{Body, Header, Message};

/// The version of everything below; a frame of another one is refused.
pub const WIRE_VERSION: u8 = 1;

/// Why a frame is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WireError {
    /// Longer than any frame may be.
    #[error("frame of {bytes} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Written by another version.
    #[error("wire version {found}; this is version {WIRE_VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Shorter than it says.
    #[error("frame ends early")]
    Truncated,
    /// Bytes that no encoder writes.
    #[error("malformed frame")]
    Malformed,
    /// Bytes behind the last entry.
    #[error("{bytes} bytes behind the last entry")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

#[derive(Serialize, Deserialize)]
enum EntryHead {
    Noop,
    Command { id: CommandId, bytes: u32 },
    Membership(Membership),
}

/// Appends the frame of a message to `out`.
///
/// Postcard fails only when its output is full, and a `Vec` never is, so there is no error to report.
pub fn encode(header: &Header, body: &Body, out: &mut Vec<u8>) {
    out.push(WIRE_VERSION);
    put(header, out);
    put(body, out);
    match body {
        Body::Accept(accept) => put_entries(&accept.entries, out),
        Body::Success(success) => put_entries(&success.entries, out),
        Body::Promise(promise) => promise.held.iter().for_each(|held| put_entry(&held.entry, out)),
        Body::Prepare(_)
        | Body::Refused(_)
        | Body::Accepted(_)
        | Body::SuccessReply(_)
        | Body::Heartbeat(_)
        | Body::Fetch(_)
        | Body::HandOver(_) => {}
    }
}

/// Appends a run of entries: their number, then each.
pub fn put_entries(entries: &Entries, out: &mut Vec<u8>) {
    put(&(entries.len() as u64), out);
    entries.iter().for_each(|entry| put_entry(entry, out));
}

fn put_entry(entry: &Entry, out: &mut Vec<u8>) {
    match entry {
        Entry::Noop => put(&EntryHead::Noop, out),
        Entry::Command { id, bytes } => {
            put(&EntryHead::Command { id: *id, bytes: bytes.len() as u32 }, out);
            out.extend_from_slice(bytes);
        }
        Entry::Membership(membership) => put(&EntryHead::Membership((**membership).clone()), out),
    }
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    struct Sink<'a>(&'a mut Vec<u8>);
    impl Extend<u8> for Sink<'_> {
        fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
            self.0.extend(bytes);
        }
    }
    let written = postcard::to_extend(value, Sink(out));
    debug_assert!(written.is_ok(), "postcard into a Vec cannot run out of room");
}

/// Reads one frame. Payloads of the result are slices of `frame`.
///
/// # Errors
/// `WireError` for anything that `encode` does not write; nothing was allocated beyond the frame's length.
pub fn decode(frame: &Bytes) -> Result<Message, WireError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(WireError::TooLong { bytes: frame.len() });
    }
    let mut reader = Reader { frame, at: 0 };
    let version: u8 = reader.take()?;
    if version != WIRE_VERSION {
        return Err(WireError::Version { found: version });
    }
    let header: Header = reader.take()?;
    let mut body: Body = reader.take()?;
    match &mut body {
        Body::Accept(accept) => accept.entries = reader.entries()?,
        Body::Success(success) => success.entries = reader.entries()?,
        Body::Promise(promise) => {
            for held in &mut promise.held {
                held.entry = reader.entry()?;
            }
        }
        Body::Prepare(_)
        | Body::Refused(_)
        | Body::Accepted(_)
        | Body::SuccessReply(_)
        | Body::Heartbeat(_)
        | Body::Fetch(_)
        | Body::HandOver(_) => {}
    }
    reader.end()?;
    Ok(Message { header, body })
}

/// Reads a run of entries that `put_entries` wrote and nothing else; for logs, which store runs the same way.
///
/// # Errors
/// As `decode`.
pub fn take_entries(bytes: &Bytes) -> Result<Entries, WireError> {
    let mut reader = Reader { frame: bytes, at: 0 };
    let entries = reader.entries()?;
    reader.end()?;
    Ok(entries)
}

struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &[u8] {
        self.frame.get(self.at..).unwrap_or(&[])
    }

    fn take<'de, T: Deserialize<'de>>(&'de mut self) -> Result<T, WireError> {
        let at = self.at;
        let rest = self.frame.get(at..).unwrap_or(&[]);
        match postcard::take_from_bytes(rest) {
            Ok((value, behind)) => {
                self.at = self.frame.len().saturating_sub(behind.len());
                Ok(value)
            }
            Err(postcard::Error::DeserializeUnexpectedEnd) => Err(WireError::Truncated),
            Err(_) => Err(WireError::Malformed),
        }
    }

    fn entries(&mut self) -> Result<Entries, WireError> {
        let count: u64 = self.take()?;
        let count = usize::try_from(count).map_err(|_| WireError::Malformed)?;
        // Each entry has at least one byte: a length that the frame cannot hold is refused before it is reserved.
        if count > RUN_ENTRIES_MAX || count > self.rest().len() {
            return Err(WireError::Malformed);
        }
        if count == 1 {
            return Ok(Entries::one(self.entry()?));
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(self.entry()?);
        }
        Ok(entries.into())
    }

    fn entry(&mut self) -> Result<Entry, WireError> {
        match self.take()? {
            EntryHead::Noop => Ok(Entry::Noop),
            EntryHead::Command { id, bytes } => {
                let length = usize::try_from(bytes).map_err(|_| WireError::Malformed)?;
                let end = self.at.checked_add(length).ok_or(WireError::Malformed)?;
                if end > self.frame.len() {
                    return Err(WireError::Truncated);
                }
                let bytes = self.frame.slice(self.at..end);
                self.at = end;
                Ok(Entry::Command { id, bytes })
            }
            EntryHead::Membership(membership) => Ok(Entry::Membership(Arc::new(membership))),
        }
    }

    fn end(&self) -> Result<(), WireError> {
        match self.rest().len() {
            0 => Ok(()),
            bytes => Err(WireError::Trailing { bytes }),
        }
    }
}
