//! The room for `Reply`, what running a command comes to: the same on every replica, whatever protocol its
//! client speaks.

use std::borrow::Cow;

use thiserror::Error;

use crate::limits::{REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::resp::Writer;

/// What a command answers. Reads borrow from the state; what writes answer, and sessions remember, is owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply<'a> {
    /// A status.
    Simple(&'static str),
    /// Nothing there.
    Null,
    /// An integer.
    Integer(i64),
    /// A string of bytes.
    Bulk(Cow<'a, [u8]>),
    /// The command was refused or failed.
    Error(Fault),
    /// Several replies.
    Array(Box<[Reply<'a>]>),
}

/// Why the state machine refused a command. Append-only: sessions remember faults, and snapshots will.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum Fault {
    /// A value or an argument that should be an integer is none.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The sum does not fit.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// Options that contradict each other or are none.
    #[error("ERR syntax error")]
    Syntax,
    /// MSET without a value for its last key.
    #[error("ERR wrong number of arguments for 'mset' command")]
    MsetArity,
    /// MSETNX without a value for its last key.
    #[error("ERR wrong number of arguments for 'msetnx' command")]
    MsetnxArity,
    /// The value would become too long.
    #[error("ERR string exceeds maximum allowed size ({VALUE_BYTES_MAX} bytes)")]
    ValueTooLong,
    /// The reply would be too long.
    #[error("ERR reply exceeds maximum allowed size ({REPLY_BYTES_MAX} bytes)")]
    ReplyTooLong,
    /// EX and its like.
    #[error("ERR expiry is not supported by this version")]
    Expiry,
    /// A sequence below the session's window.
    #[error("STALE this sequence is below the window of its session: it ran or never will, its reply is gone")]
    Stale,
    /// A session that was never opened or was evicted.
    #[error("SESSIONEXPIRED no such session: open another one with ONCE NEW")]
    SessionExpired,
    /// A command of another version, or none.
    #[error("ERR the log holds a command that this version cannot run")]
    Unreadable,
}

impl<'a> Reply<'a> {
    /// The reply of a write that has nothing to say.
    pub const OK: Reply<'static> = Reply::Simple("OK");

    /// A count.
    pub fn count(count: usize) -> Reply<'static> {
        Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A string of bytes that the state holds.
    pub fn borrowed(bytes: &'a [u8]) -> Reply<'a> {
        Reply::Bulk(Cow::Borrowed(bytes))
    }

    /// A string of bytes that nobody else holds.
    pub fn owned(bytes: Vec<u8>) -> Reply<'static> {
        Reply::Bulk(Cow::Owned(bytes))
    }

    /// Several replies.
    pub fn array<const COUNT: usize>(replies: [Reply<'a>; COUNT]) -> Reply<'a> {
        Reply::Array(Box::new(replies))
    }

    /// The same, holding on to nothing.
    pub fn into_owned(self) -> Reply<'static> {
        match self {
            Reply::Simple(text) => Reply::Simple(text),
            Reply::Null => Reply::Null,
            Reply::Integer(number) => Reply::Integer(number),
            Reply::Bulk(bytes) => Reply::Bulk(Cow::Owned(bytes.into_owned())),
            Reply::Error(fault) => Reply::Error(fault),
            Reply::Array(replies) => Reply::Array(replies.into_iter().map(Reply::into_owned).collect()),
        }
    }

    /// Writes it for a client.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Reply::Simple(text) => writer.simple(text),
            Reply::Null => writer.null(),
            Reply::Integer(number) => writer.integer(*number),
            Reply::Bulk(bytes) => writer.bulk(bytes),
            Reply::Error(fault) => writer.error(fault),
            Reply::Array(replies) => {
                writer.array(replies.len());
                replies.iter().for_each(|reply| reply.write(writer));
            }
        }
    }

    /// What it takes on the heap, for bounds on what is remembered.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Reply::Simple(_) | Reply::Null | Reply::Integer(_) | Reply::Error(_) => 0,
            Reply::Bulk(bytes) => bytes.len(),
            Reply::Array(replies) => {
                replies.iter().map(|reply| reply.heap_bytes().saturating_add(size_of::<Reply<'_>>())).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::resp::Protocol;

    #[test]
    fn replies_are_small_since_sessions_remember_many() {
        assert_eq!(size_of::<Reply<'_>>(), 24);
    }

    #[test]
    fn replies_are_written_whole_and_borrow_only_until_owned() {
        let value = b"v".to_vec();
        let reply = Reply::array([Reply::borrowed(&value), Reply::Null, Reply::count(3), Reply::OK]).into_owned();
        drop(value);
        let mut out = BytesMut::new();
        reply.write(&mut Writer::new(&mut out, Protocol::Resp2));
        assert_eq!(out.escape_ascii().to_string(), r"*4\r\n$1\r\nv\r\n$-1\r\n:3\r\n+OK\r\n");
        assert_eq!(reply.heap_bytes(), 1 + 4 * 24);
        let mut out = BytesMut::new();
        Reply::Error(Fault::Stale).write(&mut Writer::new(&mut out, Protocol::Resp3));
        assert!(out.starts_with(b"-STALE "));
    }
}
