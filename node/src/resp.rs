//! The room for the Redis protocol: bytes to requests, replies to bytes, and (for clients and tests) replies
//! read back. Nothing here knows a command.
//!
//! Reading is incremental, bounded by `limits.rs`, and panics for no input.

mod inline;
mod parser;
mod value;
mod writer;

pub use parser::{Parser, ProtocolError, Request};
pub use value::{Value, ValueError};
pub(crate) use writer::{DIGITS_MAX, decimal};
pub use writer::{Protocol, Writer};

use bytes::Bytes;

/// Every request in these bytes when they arrive in pieces of `piece` bytes, and what stopped the reading, if
/// anything did. The same for every `piece`: what fuzzing and tests hold it to.
pub fn requests(bytes: &[u8], piece: usize) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let mut parser = Parser::default();
    let mut requests = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        parser.feed(Bytes::copy_from_slice(piece));
        loop {
            match parser.next() {
                Ok(Some(request)) => requests.push(request.slices().collect()),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

/// A decimal integer as Redis writes it: an optional minus, digits, nothing else, in the range of `i64`.
pub(crate) fn integer(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0i64;
    for digit in digits {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?;
        number = if negative { number.checked_sub(digit)? } else { number.checked_add(digit)? };
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_to_the_last_digit_and_no_further() {
        let cases: [(&[u8], Option<i64>); 10] = [
            (b"0", Some(0)),
            (b"-1", Some(-1)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"9223372036854775808", None),
            (b"", None),
            (b"-", None),
            (b"+1", None),
            (b"1 ", None),
            (b"0x1", None),
        ];
        for (digits, expected) in cases {
            assert_eq!(integer(digits), expected, "{digits:?}");
        }
    }
}
