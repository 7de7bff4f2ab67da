//! The writing side of replies, in either version of the protocol.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`: has maps, a null of its own, and texts with a type.
    Resp3,
}

/// Appends replies to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
    protocol: Protocol,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut BytesMut, protocol: Protocol) -> Writer<'a> {
        Writer { out, protocol }
    }

    /// A status: a short text without line breaks.
    pub fn simple(&mut self, text: &str) {
        self.out.reserve(text.len() + 3);
        self.out.put_u8(b'+');
        self.out.put_slice(text.as_bytes());
        self.out.put_slice(b"\r\n");
    }

    /// An error; its first word is what clients decide by. Line breaks become blanks.
    pub fn error(&mut self, text: impl fmt::Display) {
        self.out.put_u8(b'-');
        let start = self.out.len();
        let _ = fmt::Write::write_fmt(self.out, format_args!("{text}")); // a growing buffer takes everything
        for byte in self.out.iter_mut().skip(start) {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.put_slice(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, number: i64) {
        self.line(b':', number);
    }

    /// A string of bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.length(b'$', bytes.len());
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }

    /// A text for people: typed as such in RESP3.
    pub fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.length(b'=', text.len() + 4);
                self.out.put_slice(b"txt:");
                self.out.put_slice(text.as_bytes());
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// Nothing there.
    pub fn null(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array: this many replies follow.
    pub fn array(&mut self, count: usize) {
        self.length(b'*', count);
    }

    /// The head of a map: twice this many replies follow, names and values in turn. A flat array in RESP2.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', pairs * 2),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// The head of a set: this many replies follow. An array in RESP2.
    pub fn set(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', count),
            Protocol::Resp3 => self.length(b'~', count),
        }
    }

    fn length(&mut self, sign: u8, count: usize) {
        self.line(sign, i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn line(&mut self, sign: u8, number: i64) {
        let mut digits = [0u8; DIGITS_MAX];
        self.out.reserve(DIGITS_MAX + 3);
        self.out.put_u8(sign);
        self.out.put_slice(decimal(number, &mut digits));
        self.out.put_slice(b"\r\n");
    }
}

/// A minus and 19 digits.
pub(crate) const DIGITS_MAX: usize = 20;

/// The digits of a number, written into `digits`: a reply costs no allocation and no formatting machinery.
pub(crate) fn decimal(number: i64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut left = number.unsigned_abs();
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Writer<'_>)) -> String {
        let mut out = BytesMut::new();
        write(&mut Writer::new(&mut out, protocol));
        out.escape_ascii().to_string()
    }

    #[test]
    fn replies_have_the_form_of_their_protocol() {
        type Write = fn(&mut Writer<'_>);
        let cases: [(Write, &str, &str); 9] = [
            (|w| w.simple("OK"), r"+OK\r\n", r"+OK\r\n"),
            (|w| w.error("ERR a\r\nb"), r"-ERR a  b\r\n", r"-ERR a  b\r\n"),
            (|w| w.integer(-7), r":-7\r\n", r":-7\r\n"),
            (|w| w.bulk(b"ab"), r"$2\r\nab\r\n", r"$2\r\nab\r\n"),
            (|w| w.null(), r"$-1\r\n", r"_\r\n"),
            (|w| w.array(2), r"*2\r\n", r"*2\r\n"),
            (|w| w.map(2), r"*4\r\n", r"%2\r\n"),
            (|w| w.set(2), r"*2\r\n", r"~2\r\n"),
            (|w| w.text("a"), r"$1\r\na\r\n", r"=5\r\ntxt:a\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), resp2);
            assert_eq!(written(Protocol::Resp3, write), resp3);
        }
    }

    quickcheck! {
        fn decimals_are_those_of_the_standard_library(number: i64) -> bool {
            let mut digits = [0; DIGITS_MAX];
            [number, i64::MIN, i64::MAX, 0]
                .iter()
                .all(|&number| decimal(number, &mut digits) == number.to_string().as_bytes())
        }
    }
}
