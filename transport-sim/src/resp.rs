//! The room for a client's side of the Redis protocol (RESP2): requests to bytes, bytes to replies. Written apart
//! from the server's, so that the two check each other.

use bytes::Bytes;

/// A reply.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// A status line, as `OK`.
    Status(String),
    /// An error line, without its dash.
    Error(String),
    /// A number.
    Number(i64),
    /// A value.
    Bulk(Bytes),
    /// No value.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

/// Appends a request.
pub fn request(args: &[Bytes], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// What arrived and is not a whole reply yet.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    at: usize,
}

/// Bytes that no server should send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed(pub String);

impl Replies {
    /// Takes what arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that arrived and belong to no reply that was taken.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next whole reply, if there is one.
    ///
    /// # Errors
    /// `Malformed` for bytes that are no reply; nothing after them makes sense.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, Malformed> {
        let mut at = self.at;
        let reply = parse(&self.bytes, &mut at, 0)?;
        if reply.is_some() {
            self.at = at;
        }
        Ok(reply)
    }
}

fn parse(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Reply>, Malformed> {
    let malformed = |why: &str| Malformed(format!("{why} in {:?}", String::from_utf8_lossy(bytes)));
    let rest = &bytes[*at..];
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (Some(kind), Some(line)) = (rest.first(), rest.get(1..end)) else { return Err(malformed("an empty line")) };
    let text = std::str::from_utf8(line).map_err(|_| malformed("a line that is no text"))?;
    let number = || text.parse::<i64>().map_err(|_| malformed("a number that is none"));
    *at += end + 2;
    match kind {
        b'+' => Ok(Some(Reply::Status(text.to_owned()))),
        b'-' => Ok(Some(Reply::Error(text.to_owned()))),
        b':' => Ok(Some(Reply::Number(number()?))),
        b'$' => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Some(Reply::Nil)) };
            let from = *at;
            if bytes.len() < from + length + 2 {
                return Ok(None);
            }
            *at = from + length + 2;
            Ok(Some(Reply::Bulk(Bytes::copy_from_slice(&bytes[from..from + length]))))
        }
        b'*' if depth < 8 => {
            let Ok(count) = usize::try_from(number()?) else { return Ok(Some(Reply::Nil)) };
            let mut replies = Vec::new();
            for _ in 0..count {
                match parse(bytes, at, depth + 1)? {
                    Some(reply) => replies.push(reply),
                    None => return Ok(None),
                }
            }
            Ok(Some(Reply::Array(replies)))
        }
        _ => Err(malformed("an unknown kind of reply")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whatever_the_split() {
        let stream = b"+OK\r\n-MOVED 1 h:7\r\n:-12\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n:1\r\n$0\r\n\r\n";
        let expected = [
            Reply::Status("OK".into()),
            Reply::Error("MOVED 1 h:7".into()),
            Reply::Number(-12),
            Reply::Bulk(Bytes::from_static(b"a\r\n")),
            Reply::Nil,
            Reply::Array(vec![Reply::Number(1), Reply::Bulk(Bytes::new())]),
        ];
        for split in 1..stream.len() {
            let mut replies = Replies::default();
            let mut read = Vec::new();
            for part in stream.chunks(split) {
                replies.feed(part);
                while let Ok(Some(reply)) = replies.next_reply() {
                    read.push(reply);
                }
            }
            assert_eq!(read, expected, "split {split}");
        }
    }

    #[test]
    fn nonsense_is_malformed() {
        for nonsense in ["?\r\n", "\r\n", ":x\r\n"] {
            let mut replies = Replies::default();
            replies.feed(nonsense.as_bytes());
            assert!(replies.next_reply().is_err(), "{nonsense:?}");
        }
    }
}
