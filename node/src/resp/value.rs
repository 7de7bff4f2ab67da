//! The reading side of replies, for clients and tests: one reply at a time from the front of a buffer.

use thiserror::Error;

use super::integer;
use crate::limits::{NESTING_MAX, REPLY_BYTES_MAX};

/// A reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A status.
    Simple(String),
    /// An error, its first word included.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of bytes; also RESP3's texts, doubles, big numbers and booleans as they were written.
    Bulk(Vec<u8>),
    /// Nothing there.
    Null,
    /// An array, a set or a push.
    Array(Vec<Value>),
    /// A map in the order it was written.
    Map(Vec<(Value, Value)>),
}

/// Bytes that are no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ValueError {
    /// A reply begins with a byte that no reply begins with.
    #[error("no reply begins with byte {0}")]
    Sign(u8),
    /// A length or an integer is none.
    #[error("not a number")]
    Number,
    /// Arrays within arrays beyond the bound.
    #[error("more than {NESTING_MAX} arrays within each other")]
    Nesting,
    /// A string or an array that no node sends.
    #[error("longer than {REPLY_BYTES_MAX} bytes or elements")]
    TooLong,
    /// A string that does not end where it says.
    #[error("no line end behind a string")]
    NoCrlf,
}

impl Value {
    /// The reply at the front of `bytes` and its length; `None` if it has not arrived whole.
    ///
    /// # Errors
    /// `ValueError` for bytes that no server writes.
    pub fn read(bytes: &[u8]) -> Result<Option<(Value, usize)>, ValueError> {
        let mut at = 0;
        Ok(read(bytes, &mut at, 0)?.map(|value| (value, at)))
    }

    /// The text of a status, an error or a string of bytes, as far as it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Simple(text) | Value::Error(text) => Some(text),
            Value::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            Value::Integer(_) | Value::Null | Value::Array(_) | Value::Map(_) => None,
        }
    }
}

fn read(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Value>, ValueError> {
    let Some(rest) = bytes.get(*at..) else { return Ok(None) };
    let Some(length) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line = rest.get(..length).unwrap_or(&[]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some((&sign, line)) = line.split_first() else { return Err(ValueError::Sign(b'\n')) };
    *at = at.saturating_add(length).saturating_add(1);
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || integer(line).ok_or(ValueError::Number);
    match sign {
        b'+' => Ok(Some(Value::Simple(text()))),
        b'-' => Ok(Some(Value::Error(text()))),
        b':' => Ok(Some(Value::Integer(number()?))),
        b'_' => Ok(Some(Value::Null)),
        b',' | b'#' | b'(' => Ok(Some(Value::Bulk(line.to_vec()))),
        b'$' | b'=' | b'!' => read_bulk(bytes, at, sign, number()?),
        b'*' | b'~' | b'>' | b'%' => read_many(bytes, at, depth, sign, number()?),
        other => Err(ValueError::Sign(other)),
    }
}

fn read_bulk(bytes: &[u8], at: &mut usize, sign: u8, length: i64) -> Result<Option<Value>, ValueError> {
    if length == -1 {
        return Ok(Some(Value::Null));
    }
    let length = usize::try_from(length).map_err(|_| ValueError::Number)?;
    if length > REPLY_BYTES_MAX {
        return Err(ValueError::TooLong);
    }
    let end = at.saturating_add(length);
    let (Some(string), Some(tail)) = (bytes.get(*at..end), bytes.get(end..end.saturating_add(2))) else {
        return Ok(None);
    };
    if tail != b"\r\n" {
        return Err(ValueError::NoCrlf);
    }
    *at = end.saturating_add(2);
    Ok(Some(match sign {
        b'!' => Value::Error(String::from_utf8_lossy(string).into_owned()),
        b'=' => Value::Bulk(string.get(4..).unwrap_or(string).to_vec()), // behind "txt:"
        _ => Value::Bulk(string.to_vec()),
    }))
}

fn read_many(bytes: &[u8], at: &mut usize, depth: usize, sign: u8, count: i64) -> Result<Option<Value>, ValueError> {
    if count == -1 {
        return Ok(Some(Value::Null));
    }
    let count = usize::try_from(count).map_err(|_| ValueError::Number)?;
    if count > REPLY_BYTES_MAX {
        return Err(ValueError::TooLong);
    }
    if depth >= NESTING_MAX {
        return Err(ValueError::Nesting);
    }
    let mut values = Vec::new(); // grows as elements arrive, never by what the head claims
    let mut pairs = Vec::new();
    for _ in 0..count {
        let Some(value) = read(bytes, at, depth + 1)? else { return Ok(None) };
        if sign == b'%' {
            let Some(mapped) = read(bytes, at, depth + 1)? else { return Ok(None) };
            pairs.push((value, mapped));
        } else {
            values.push(value);
        }
    }
    Ok(Some(if sign == b'%' { Value::Map(pairs) } else { Value::Array(values) }))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::super::{Protocol, Writer};
    use super::*;

    impl Arbitrary for Value {
        fn arbitrary(g: &mut Gen) -> Value {
            nested(g, 3)
        }
    }

    fn nested(g: &mut Gen, depth: usize) -> Value {
        let line = |g: &mut Gen| (0..u8::arbitrary(g) % 9).map(|_| (b'a' + u8::arbitrary(g) % 26) as char).collect();
        let count = |g: &mut Gen| 0..usize::arbitrary(g) % 4;
        match u8::arbitrary(g) % if depth == 0 { 5 } else { 7 } {
            0 => Value::Simple(line(g)),
            1 => Value::Error(line(g)),
            2 => Value::Integer(i64::arbitrary(g)),
            3 => Value::Bulk(Vec::arbitrary(g)),
            4 => Value::Null,
            5 => Value::Array(count(g).map(|_| nested(g, depth - 1)).collect()),
            _ => Value::Map(count(g).map(|_| (nested(g, depth - 1), nested(g, depth - 1))).collect()),
        }
    }

    fn write(value: &Value, writer: &mut Writer<'_>) {
        match value {
            Value::Simple(text) => writer.simple(text),
            Value::Error(text) => writer.error(text),
            Value::Integer(number) => writer.integer(*number),
            Value::Bulk(bytes) => writer.bulk(bytes),
            Value::Null => writer.null(),
            Value::Array(values) => {
                writer.array(values.len());
                values.iter().for_each(|value| write(value, writer));
            }
            Value::Map(pairs) => {
                writer.map(pairs.len());
                for (key, value) in pairs {
                    write(key, writer);
                    write(value, writer);
                }
            }
        }
    }

    quickcheck! {
        fn replies_are_read_back_and_no_prefix_is_a_reply(value: Value) -> bool {
            let mut bytes = BytesMut::new();
            write(&value, &mut Writer::new(&mut bytes, Protocol::Resp3));
            Value::read(&bytes) == Ok(Some((value, bytes.len())))
                && (0..bytes.len()).all(|length| Value::read(&bytes[..length]) == Ok(None))
        }

        fn any_bytes_are_no_panic(bytes: Vec<u8>) -> bool {
            Value::read(&bytes).map_or(true, |read| read.is_none_or(|(_, length)| length <= bytes.len()))
        }
    }

    #[test]
    fn what_no_server_writes_is_named() {
        let deep = "*1\r\n".repeat(NESTING_MAX + 1);
        let cases: [(&[u8], ValueError); 5] = [
            (b"?\r\n", ValueError::Sign(b'?')),
            (b":x\r\n", ValueError::Number),
            (b"$99999999\r\n", ValueError::TooLong),
            (b"$1\r\nabc", ValueError::NoCrlf),
            (deep.as_bytes(), ValueError::Nesting),
        ];
        for (bytes, error) in cases {
            assert_eq!(Value::read(bytes), Err(error));
        }
    }
}
