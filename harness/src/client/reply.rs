//! Reads replies of the Redis protocol, versions 2 and 3, from a stream that arrives in pieces.
//!
//! Written apart from the node's own writer on purpose: the two are each other's check in the tests.

use std::fmt;

use thiserror::Error;

/// Replies nest no deeper than this; the node's own limit is 8.
const DEPTH_MAX: usize = 16;

/// The largest string of a reply, and the most elements of one aggregate, that is believed.
const BULK_BYTES_MAX: usize = 64 << 20;
const ELEMENTS_MAX: usize = 1 << 20;

/// The longest line (a status, an error, a length) that is believed.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What a server answers to one command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A simple string, a big number or a double, as text.
    Status(String),
    /// An error: a prefix in capitals and a sentence.
    Error(String),
    /// A number.
    Integer(i64),
    /// A truth value (RESP3).
    Boolean(bool),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// Nothing.
    Nil,
    /// An array, a set or a push message.
    Array(Vec<Reply>),
    /// A map (RESP3).
    Map(Vec<(Reply, Reply)>),
}

/// Bytes that are no reply; the connection cannot be used any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReplyError {
    /// A reply begins with a byte that no type has.
    #[error("a reply begins with byte {0:#04x}")]
    Type(u8),
    /// A length or number that is none.
    #[error("a length or number is malformed")]
    Number,
    /// Larger than is believed.
    #[error("a reply is larger than this client takes")]
    TooLarge,
}

impl Reply {
    /// The text of a status or bulk string, if it is one and valid UTF-8.
    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Status(text) => Some(text),
            Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            Reply::Error(_) | Reply::Integer(_) | Reply::Boolean(_) | Reply::Nil | Reply::Array(_) | Reply::Map(_) => {
                None
            }
        }
    }

    /// The number in an integer reply, or in a string that is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => self.text()?.parse().ok(),
        }
    }

    /// The elements, if it is an array.
    pub fn array(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The text of an error reply.
    pub fn error(&self) -> Option<&str> {
        match self {
            Reply::Error(text) => Some(text),
            _ => None,
        }
    }
}

/// Prints as redis-cli does on a terminal: types shown, strings quoted, arrays numbered.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, 0)
    }
}

impl Reply {
    fn print(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Reply::Status(text) => f.write_str(text),
            Reply::Error(text) => write!(f, "(error) {text}"),
            Reply::Integer(number) => write!(f, "(integer) {number}"),
            Reply::Boolean(truth) => write!(f, "({truth})"),
            Reply::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Reply::Nil => f.write_str("(nil)"),
            Reply::Array(items) if items.is_empty() => f.write_str("(empty array)"),
            Reply::Array(items) => numbered(f, indent, items.iter().map(|item| (None, item))),
            Reply::Map(pairs) if pairs.is_empty() => f.write_str("(empty map)"),
            Reply::Map(pairs) => numbered(f, indent, pairs.iter().map(|(key, value)| (Some(key), value))),
        }
    }

    /// Prints for another program to read: strings as they are, one element a line.
    pub fn raw(&self) -> Vec<u8> {
        match self {
            Reply::Status(text) | Reply::Error(text) => text.clone().into_bytes(),
            Reply::Integer(number) => number.to_string().into_bytes(),
            Reply::Boolean(truth) => truth.to_string().into_bytes(),
            Reply::Bulk(bytes) => bytes.clone(),
            Reply::Nil => Vec::new(),
            Reply::Array(items) => items.iter().map(Reply::raw).collect::<Vec<_>>().join(&b'\n'),
            Reply::Map(pairs) => {
                let lines = pairs.iter().map(|(key, value)| [key.raw(), value.raw()].join(&b' '));
                lines.collect::<Vec<_>>().join(&b'\n')
            }
        }
    }
}

fn numbered<'a>(
    f: &mut fmt::Formatter<'_>,
    indent: usize,
    items: impl ExactSizeIterator<Item = (Option<&'a Reply>, &'a Reply)>,
) -> fmt::Result {
    let width = items.len().to_string().len();
    for (at, (key, value)) in items.enumerate() {
        if at > 0 {
            write!(f, "\n{:indent$}", "")?;
        }
        write!(f, "{:>width$}) ", at + 1)?;
        if let Some(key) = key {
            write!(f, "{key} => ")?;
        }
        value.print(f, indent + width + 2)?;
    }
    Ok(())
}

/// Cuts replies out of a byte stream.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    /// Everything before is consumed; compacted when the buffer is fed.
    at: usize,
}

impl ReplyReader {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether everything that was fed is consumed.
    pub fn is_empty(&self) -> bool {
        self.at == self.buffer.len()
    }

    /// The next whole reply, or `None` until more bytes come.
    ///
    /// # Errors
    /// `ReplyError` if the stream is no Redis protocol.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        let mut cursor = Cursor { bytes: &self.buffer, at: self.at };
        let reply = cursor.reply(0)?;
        if reply.is_some() {
            self.at = cursor.at;
        }
        Ok(reply)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, ReplyError> {
        if depth > DEPTH_MAX {
            return Err(ReplyError::TooLarge);
        }
        let Some(line) = self.line()? else { return Ok(None) };
        let Some((kind, rest)) = line.split_first() else { return Err(ReplyError::Type(b'\r')) };
        let text = || String::from_utf8_lossy(rest).into_owned();
        Ok(Some(match kind {
            b'+' | b',' | b'(' => Reply::Status(text()),
            b'-' => Reply::Error(text()),
            b':' => Reply::Integer(number(rest)?),
            b'#' => Reply::Boolean(rest == b"t"),
            b'_' => Reply::Nil,
            b'$' | b'=' | b'!' => {
                let Some(bytes) = length(rest, BULK_BYTES_MAX)? else { return Ok(Some(Reply::Nil)) };
                let Some(body) = self.body(bytes)? else { return Ok(None) };
                match kind {
                    b'!' => Reply::Error(String::from_utf8_lossy(body).into_owned()),
                    b'=' => Reply::Bulk(body.get(4..).unwrap_or(&[]).to_vec()),
                    _ => Reply::Bulk(body.to_vec()),
                }
            }
            b'*' | b'~' | b'>' => {
                let Some(count) = length(rest, ELEMENTS_MAX)? else { return Ok(Some(Reply::Nil)) };
                let mut items = Vec::with_capacity(count.min(1024));
                for _ in 0..count {
                    let Some(item) = self.reply(depth + 1)? else { return Ok(None) };
                    items.push(item);
                }
                Reply::Array(items)
            }
            b'%' => {
                let Some(count) = length(rest, ELEMENTS_MAX)? else { return Ok(Some(Reply::Nil)) };
                let mut pairs = Vec::with_capacity(count.min(1024));
                for _ in 0..count {
                    let Some(key) = self.reply(depth + 1)? else { return Ok(None) };
                    let Some(value) = self.reply(depth + 1)? else { return Ok(None) };
                    pairs.push((key, value));
                }
                Reply::Map(pairs)
            }
            other => return Err(ReplyError::Type(*other)),
        }))
    }

    fn line(&mut self) -> Result<Option<&'a [u8]>, ReplyError> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let Some(end) = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
            return if rest.len() >= LINE_BYTES_MAX { Err(ReplyError::TooLarge) } else { Ok(None) };
        };
        self.at += end + 1;
        let line = &rest[..end];
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    fn body(&mut self, bytes: usize) -> Result<Option<&'a [u8]>, ReplyError> {
        let Some(body) = self.bytes.get(self.at..self.at + bytes + 2) else { return Ok(None) };
        if !body.ends_with(b"\r\n") {
            return Err(ReplyError::Number);
        }
        self.at += bytes + 2;
        Ok(Some(&body[..bytes]))
    }
}

fn number(text: &[u8]) -> Result<i64, ReplyError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(ReplyError::Number)
}

/// A length; -1 is the nil of RESP2.
fn length(text: &[u8], max: usize) -> Result<Option<usize>, ReplyError> {
    let length = number(text)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| ReplyError::Number)?;
    if length > max {
        return Err(ReplyError::TooLarge);
    }
    Ok(Some(length))
}

/// Appends one command: an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(arguments: &[A], out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "*{}\r\n", arguments.len());
    for argument in arguments {
        let argument = argument.as_ref();
        let _ = write!(out, "${}\r\n", argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (bytes, what they are, as a terminal shows it)
    fn cases() -> Vec<(&'static [u8], Reply, &'static str)> {
        let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
        vec![
            (b"+OK\r\n", Reply::Status("OK".into()), "OK"),
            (b"-ERR no\r\n", Reply::Error("ERR no".into()), "(error) ERR no"),
            (b":-7\r\n", Reply::Integer(-7), "(integer) -7"),
            (b"$3\r\na\r\n\r\n", bulk("a\r\n"), "\"a\\r\\n\""),
            (b"$0\r\n\r\n", bulk(""), "\"\""),
            (b"$-1\r\n", Reply::Nil, "(nil)"),
            (b"*-1\r\n", Reply::Nil, "(nil)"),
            (b"_\r\n", Reply::Nil, "(nil)"),
            (b"#t\r\n", Reply::Boolean(true), "(true)"),
            (b",1.5\r\n", Reply::Status("1.5".into()), "1.5"),
            (b"=7\r\ntxt:abc\r\n", bulk("abc"), "\"abc\""),
            (b"!5\r\nERR x\r\n", Reply::Error("ERR x".into()), "(error) ERR x"),
            (b"*0\r\n", Reply::Array(vec![]), "(empty array)"),
            (
                b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n",
                Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![bulk("a"), Reply::Nil])]),
                "1) (integer) 1\n2) 1) \"a\"\n   2) (nil)",
            ),
            (
                b"%1\r\n+k\r\n:2\r\n",
                Reply::Map(vec![(Reply::Status("k".into()), Reply::Integer(2))]),
                "1) k => (integer) 2",
            ),
        ]
    }

    #[test]
    fn every_split_of_the_stream_gives_the_same_replies() {
        let stream: Vec<u8> = cases().iter().flat_map(|(bytes, ..)| bytes.iter().copied()).collect();
        let expected: Vec<Reply> = cases().into_iter().map(|(_, reply, _)| reply).collect();
        for piece in 1..=stream.len() {
            let mut reader = ReplyReader::default();
            let mut found = Vec::new();
            for bytes in stream.chunks(piece) {
                reader.feed(bytes);
                while let Some(reply) = reader.next_reply().unwrap() {
                    found.push(reply);
                }
            }
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn replies_print_as_redis_cli_prints_them() {
        for (_, reply, shown) in cases() {
            assert_eq!(reply.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for (bytes, error) in [
            (&b"hello\r\n"[..], ReplyError::Type(b'h')),
            (b"\r\n", ReplyError::Type(b'\r')),
            (b":x\r\n", ReplyError::Number),
            (b"$-2\r\n", ReplyError::Number),
            (b"$1\r\nabc", ReplyError::Number),
            (b"$99999999999\r\n", ReplyError::TooLarge),
        ] {
            let mut reader = ReplyReader::default();
            reader.feed(bytes);
            assert_eq!(reader.next_reply(), Err(error), "{}", bytes.escape_ascii());
        }
    }
}
