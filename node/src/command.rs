//! What the log holds for a command: a compact, versioned encoding that is decoded by slicing.
//!
//! ```text
//! format    u8       1: plain · 2: in a session
//! session   varint   format 2 only: id, then sequence
//! number    u8       the command's number in the table, never reused
//! count     varint   arguments, the name not counted
//! count ×   varint length, bytes
//! ```
//! A varint is little-endian, seven bits a byte, the high bit says that more follow. Reads and requests that
//! wait for their turn take the same form, so that whatever runs a command sees only this.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::limits::{CHUNK_BYTES, COMMAND_ARGS_MAX};

const PLAIN: u8 = 1;
const IN_SESSION: u8 = 2;

/// Names a session: the slot that opened it, so never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// Which request of which session this is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Once {
    /// The session.
    pub session: SessionId,
    /// The client's number for the request.
    pub sequence: u64,
}

/// A command as the log holds it, decoded.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// Set if it runs at most once.
    pub once: Option<Once>,
    /// Its number in the table of commands.
    pub number: u8,
    /// What follows its name.
    pub args: Args<'a>,
}

/// Why bytes are no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// Written by a version that this one does not know.
    #[error("command format {0} is unknown")]
    Format(u8),
    /// Shorter than they say.
    #[error("command ends early")]
    Truncated,
    /// More arguments than any command has.
    #[error("command of {0} arguments")]
    TooManyArguments(u64),
    /// Bytes behind the last argument.
    #[error("bytes behind the last argument")]
    Trailing,
}

/// The arguments of a command, slices of its bytes.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    whole: &'a Bytes,
    at: usize,
    left: usize,
}

impl<'a> Args<'a> {
    /// This argument as a slice that shares the command's bytes.
    pub fn share(&self, arg: &'a [u8]) -> Bytes {
        self.whole.slice_ref(arg)
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let length = varint(self.whole, &mut self.at)?;
        take(self.whole, &mut self.at, length)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Args<'_> {}

/// Reads a command; its arguments were all looked at when this answers.
///
/// # Errors
/// `CommandError` for bytes that no encoder of this version writes.
pub fn decode(bytes: &Bytes) -> Result<Command<'_>, CommandError> {
    let mut at = 0;
    let format = *bytes.first().ok_or(CommandError::Truncated)?;
    at += 1;
    let once = match format {
        PLAIN => None,
        IN_SESSION => {
            let session = SessionId(varint(bytes, &mut at).ok_or(CommandError::Truncated)?);
            let sequence = varint(bytes, &mut at).ok_or(CommandError::Truncated)?;
            Some(Once { session, sequence })
        }
        other => return Err(CommandError::Format(other)),
    };
    let number = *bytes.get(at).ok_or(CommandError::Truncated)?;
    at += 1;
    let count = varint(bytes, &mut at).ok_or(CommandError::Truncated)?;
    let left = usize::try_from(count).ok().filter(|&count| count <= COMMAND_ARGS_MAX);
    let args = Args { whole: bytes, at, left: left.ok_or(CommandError::TooManyArguments(count))? };
    let mut walk = args.clone();
    for _ in 0..walk.left {
        walk.next().ok_or(CommandError::Truncated)?;
    }
    if walk.at != bytes.len() {
        return Err(CommandError::Trailing);
    }
    Ok(Command { once, number, args })
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, length: u64) -> Option<&'a [u8]> {
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length))?;
    let taken = bytes.get(*at..end)?;
    *at = end;
    Some(taken)
}

/// Where commands are encoded: many share one allocation, which lives as long as the longest-lived of them.
/// Commands take consecutive slots, so what is pinned beyond the window is one chunk.
#[derive(Debug, Default)]
pub struct Chunk {
    buffer: BytesMut,
}

impl Chunk {
    /// The bytes of this command.
    pub fn encode<'a>(
        &mut self,
        once: Option<Once>,
        number: u8,
        args: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> Bytes {
        const HEAD_BYTES_MAX: usize = 32; // format, two varints, number, count
        let bytes_max: usize = HEAD_BYTES_MAX + args.clone().map(|arg| arg.len() + 10).sum::<usize>();
        self.room(bytes_max);
        match once {
            None => self.buffer.put_u8(PLAIN),
            Some(Once { session, sequence }) => {
                self.buffer.put_u8(IN_SESSION);
                self.put_varint(session.0);
                self.put_varint(sequence);
            }
        }
        self.buffer.put_u8(number);
        self.put_varint(args.len() as u64);
        for arg in args {
            self.put_varint(arg.len() as u64);
            self.buffer.put_slice(arg);
        }
        self.buffer.split().freeze()
    }

    /// These bytes in the chunk, for answers that wait.
    pub(crate) fn keep(&mut self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        write(&mut self.buffer);
        self.buffer.split().freeze()
    }

    fn room(&mut self, bytes: usize) {
        if self.buffer.capacity() < bytes {
            self.buffer.reserve(bytes.max(CHUNK_BYTES));
        }
    }

    fn put_varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.buffer.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.buffer.put_u8(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn encoded(once: Option<Once>, number: u8, args: &[&[u8]]) -> Bytes {
        Chunk::default().encode(once, number, args.iter().copied())
    }

    /// These bytes are on disks: the encoder may gain formats but never change them.
    #[test]
    fn golden_bytes() {
        let once = Some(Once { session: SessionId(300), sequence: 7 });
        let cases: [(Bytes, &[u8]); 3] = [
            (encoded(None, 2, &[b"a", b"1"]), &[1, 2, 2, 1, b'a', 1, b'1']),
            (encoded(once, 2, &[b"", b"xyz"]), &[2, 0xac, 0x02, 7, 2, 2, 0, 3, b'x', b'y', b'z']),
            (encoded(None, 60, &[]), &[1, 60, 0]),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn nonsense_is_named() {
        let cases: [(&[u8], CommandError); 8] = [
            (&[], CommandError::Truncated),
            (&[0], CommandError::Format(0)),
            (&[3, 1, 0], CommandError::Format(3)),
            (&[1, 2, 2, 1, b'a'], CommandError::Truncated),
            (&[1, 2, 1, 0xff], CommandError::Truncated),
            (&[1, 2, 0, 9], CommandError::Trailing),
            (&[1, 2, 0x81, 0x08], CommandError::TooManyArguments(1_025)),
            (&[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 1, 2, 0], CommandError::Truncated),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(&Bytes::copy_from_slice(bytes)).map(|_| ()), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn commands_share_a_chunk_and_their_arguments_share_the_command() {
        let mut chunk = Chunk::default();
        let one = chunk.encode(None, 1, [b"a".as_slice()].into_iter());
        let two = chunk.encode(None, 1, [b"b".as_slice()].into_iter());
        assert_eq!(one.as_ptr().wrapping_add(one.len()), two.as_ptr());
        let command = decode(&two).expect("just encoded");
        let arg = command.args.clone().next().expect("one argument");
        assert!(two.as_ptr_range().contains(&command.args.share(arg).as_ptr()));
    }

    quickcheck! {
        fn what_is_encoded_is_decoded_and_no_prefix_is(once: Option<(u64, u64)>, number: u8, args: Vec<Vec<u8>>) -> bool {
            let once = once.map(|(session, sequence)| Once { session: SessionId(session), sequence });
            let bytes = Chunk::default().encode(once, number, args.iter().map(Vec::as_slice));
            let whole = decode(&bytes).is_ok_and(|command| {
                command.once == once
                    && command.number == number
                    && command.args.len() == args.len()
                    && command.args.eq(args.iter().map(Vec::as_slice))
            });
            whole && (0..bytes.len()).all(|length| decode(&bytes.slice(..length)).is_err())
        }

        fn any_bytes_are_no_panic(bytes: Vec<u8>) -> bool {
            let bytes = Bytes::from(bytes);
            decode(&bytes).map_or(true, |command| command.args.clone().count() == command.args.len())
        }
    }
}
