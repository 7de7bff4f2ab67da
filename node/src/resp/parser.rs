//! The reading side of requests: arrays of bulk strings, or lines typed by hand.
//!
//! A frame that arrived whole is a slice of what was received. Only a frame that is cut by the end of a read
//! is put together in a buffer of its own, which then takes exactly the bytes that the frame lacks, so that
//! everything behind it is sliced again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::inline::split_line;
use super::integer;
use crate::limits::{BULK_BYTES_MAX, COMMAND_ARGS_MAX, COMMAND_BYTES_MAX, HEADER_LINE_BYTES_MAX, INLINE_BYTES_MAX};

/// Bytes that are no request. Nothing behind them can be read: the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProtocolError {
    /// `*` is not followed by a number of arguments.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// More arguments than a command may have.
    #[error("Protocol error: invalid multibulk length (at most {COMMAND_ARGS_MAX} arguments)")]
    TooManyArguments,
    /// `$` is not followed by a length.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A longer argument than any may be.
    #[error("Protocol error: invalid bulk length (at most {BULK_BYTES_MAX} bytes)")]
    BulkTooLong,
    /// All arguments together are too long for a log entry.
    #[error("Protocol error: too big command (at most {COMMAND_BYTES_MAX} bytes)")]
    CommandTooLong,
    /// An argument does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NoBulk(u8),
    /// An argument is longer than it says.
    #[error("Protocol error: expected CRLF behind an argument")]
    NoCrlf,
    /// The line that announces an array or an argument does not end.
    #[error("Protocol error: too big count string")]
    HeaderTooLong,
    /// A typed line does not end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// A typed line opens a quote and does not close it.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// One command as it arrived: its name and its arguments, at least the name.
#[derive(Debug)]
pub struct Request<'a> {
    frame: Bytes,
    spans: &'a [(u32, u32)],
}

impl Request<'_> {
    /// How many arguments there are, the name included.
    #[allow(clippy::len_without_is_empty)] // there is always a name
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument at this position; the name is at 0.
    pub fn arg(&self, position: usize) -> Option<&[u8]> {
        let (start, end) = *self.spans.get(position)?;
        self.frame.get(start as usize..end as usize)
    }

    /// The name and the arguments.
    pub fn args(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.spans.iter().filter_map(|&(start, end)| self.frame.get(start as usize..end as usize))
    }

    /// The arguments from this position on.
    pub(crate) fn args_from(&self, position: usize) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let spans = self.spans.get(position..).unwrap_or(&[]);
        spans.iter().map(|&(start, end)| self.frame.get(start as usize..end as usize).unwrap_or(&[]))
    }

    /// The name and the arguments as slices of what was received.
    pub fn slices(&self) -> impl Iterator<Item = Bytes> {
        self.args().map(|arg| self.frame.slice_ref(arg))
    }
}

/// What is left of a stream of requests.
#[derive(Debug, Default)]
pub struct Parser {
    chunks: VecDeque<Bytes>,
    chunks_bytes: usize,
    /// The beginning of a frame whose rest has not arrived; otherwise empty.
    partial: BytesMut,
    scan: Scan,
    failed: bool,
}

impl Parser {
    /// Takes received bytes.
    pub fn feed(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && !self.failed {
            self.chunks_bytes = self.chunks_bytes.saturating_add(bytes.len());
            self.chunks.push_back(bytes);
        }
    }

    /// Bytes received and not yet part of a request.
    pub fn pending_bytes(&self) -> usize {
        self.chunks_bytes.saturating_add(self.partial.len())
    }

    /// The next whole request, if it has arrived.
    ///
    /// # Errors
    /// `ProtocolError` once; after it there is never another request.
    #[allow(clippy::should_implement_trait)] // a request borrows the parser
    pub fn next(&mut self) -> Result<Option<Request<'_>>, ProtocolError> {
        loop {
            let bytes: &[u8] = match self.chunks.front() {
                _ if !self.partial.is_empty() => &self.partial,
                Some(chunk) => chunk,
                None => return Ok(None),
            };
            let progress = self.scan.advance(bytes);
            let lacks = match progress {
                Ok(Progress::Lacks(lacks)) => lacks,
                Ok(Progress::Empty) => {
                    self.take_frame();
                    self.scan.reset();
                    continue;
                }
                Ok(Progress::Array) => {
                    let frame = self.take_frame();
                    self.scan.finished = true;
                    return Ok(Some(Request { frame, spans: &self.scan.spans }));
                }
                Ok(Progress::Line) => {
                    let line = self.take_frame();
                    let split = split_line(line, &mut self.scan.spans);
                    self.scan.finished = true;
                    match split {
                        Ok(_) if self.scan.spans.is_empty() => continue,
                        Ok(frame) => return Ok(Some(Request { frame, spans: &self.scan.spans })),
                        Err(error) => return self.fail(error),
                    }
                }
                Err(error) => return self.fail(error),
            };
            if self.partial.is_empty()
                && let Some(chunk) = self.chunks.pop_front()
            {
                self.chunks_bytes = self.chunks_bytes.saturating_sub(chunk.len());
                self.partial.extend_from_slice(&chunk);
            }
            if !self.refill(lacks) {
                return Ok(None);
            }
        }
    }

    fn fail<T>(&mut self, error: ProtocolError) -> Result<T, ProtocolError> {
        *self = Parser { failed: true, ..Parser::default() };
        Err(error)
    }

    /// The bytes that were scanned, removed from what is left.
    fn take_frame(&mut self) -> Bytes {
        if !self.partial.is_empty() {
            return std::mem::take(&mut self.partial).freeze(); // holds one frame and nothing behind it
        }
        let Some(chunk) = self.chunks.front_mut() else { return Bytes::new() };
        let frame = chunk.split_to(self.scan.at.min(chunk.len()));
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.chunks_bytes = self.chunks_bytes.saturating_sub(frame.len());
        frame
    }

    /// Moves what the cut frame lacks, and nothing more, behind it; false if nothing has arrived.
    fn refill(&mut self, lacks: Lacks) -> bool {
        let Some(chunk) = self.chunks.front_mut() else { return false };
        let count = match lacks {
            Lacks::Line => chunk.iter().position(|&byte| byte == b'\n').map_or(chunk.len(), |at| at + 1),
            Lacks::Bytes(count) => count.min(chunk.len()),
        };
        let moved = chunk.split_to(count);
        self.partial.extend_from_slice(&moved);
        self.chunks_bytes = self.chunks_bytes.saturating_sub(moved.len());
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        true
    }
}

/// What a scan came to.
enum Progress {
    /// A whole array: `at` is its length.
    Array,
    /// A whole typed line.
    Line,
    /// A whole frame that asks for nothing.
    Empty,
    /// The frame is not whole.
    Lacks(Lacks),
}

/// What must arrive before a scan can go on.
enum Lacks {
    /// Everything up to the end of a line.
    Line,
    /// This many bytes at least.
    Bytes(usize),
}

/// How far the frame at the front has been looked at, so that no byte is looked at twice however it arrives.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    /// No line ends between `at` and here.
    searched: usize,
    args_left: Option<usize>,
    bulk_bytes: Option<usize>,
    spans: Vec<(u32, u32)>,
    finished: bool,
}

impl Scan {
    fn reset(&mut self) {
        self.spans.clear();
        *self = Scan { spans: std::mem::take(&mut self.spans), ..Scan::default() };
    }

    fn advance(&mut self, frame: &[u8]) -> Result<Progress, ProtocolError> {
        if self.finished {
            self.reset();
        }
        if self.args_left.is_none() {
            if frame.first() != Some(&b'*') {
                let Some(_) = self.line(frame, INLINE_BYTES_MAX, ProtocolError::InlineTooLong)? else {
                    return Ok(Progress::Lacks(Lacks::Line));
                };
                return Ok(Progress::Line);
            }
            let Some(header) = self.line(frame, HEADER_LINE_BYTES_MAX, ProtocolError::HeaderTooLong)? else {
                return Ok(Progress::Lacks(Lacks::Line));
            };
            let count = header.get(1..).and_then(integer).ok_or(ProtocolError::ArrayLength)?;
            if count <= 0 {
                return Ok(Progress::Empty);
            }
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if count > COMMAND_ARGS_MAX {
                return Err(ProtocolError::TooManyArguments);
            }
            self.args_left = Some(count);
        }
        while let Some(left) = self.args_left.filter(|&left| left > 0) {
            let Some(bytes) = self.bulk_header(frame)? else { return Ok(Progress::Lacks(Lacks::Line)) };
            let (start, end) = (self.at, self.at.saturating_add(bytes));
            let Some(tail) = frame.get(end..end.saturating_add(2)) else {
                return Ok(Progress::Lacks(Lacks::Bytes(end.saturating_add(2).saturating_sub(frame.len()))));
            };
            if tail != b"\r\n" {
                return Err(ProtocolError::NoCrlf);
            }
            self.spans.push((start as u32, end as u32)); // both are at most COMMAND_BYTES_MAX
            self.at = end.saturating_add(2);
            self.searched = self.at;
            self.bulk_bytes = None;
            self.args_left = left.checked_sub(1);
        }
        Ok(Progress::Array)
    }

    /// The length of the argument at `at`, behind its header; `None` if the header is not whole.
    fn bulk_header(&mut self, frame: &[u8]) -> Result<Option<usize>, ProtocolError> {
        if let Some(bytes) = self.bulk_bytes {
            return Ok(Some(bytes));
        }
        match frame.get(self.at) {
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::NoBulk(other)),
            None => return Ok(None),
        }
        let Some(header) = self.line(frame, HEADER_LINE_BYTES_MAX, ProtocolError::HeaderTooLong)? else {
            return Ok(None);
        };
        let bytes = header.get(1..).and_then(integer).ok_or(ProtocolError::BulkLength)?;
        let bytes = usize::try_from(bytes).map_err(|_| ProtocolError::BulkLength)?;
        if bytes > BULK_BYTES_MAX {
            return Err(ProtocolError::BulkTooLong);
        }
        if self.at.saturating_add(bytes).saturating_add(2) > COMMAND_BYTES_MAX {
            return Err(ProtocolError::CommandTooLong);
        }
        self.bulk_bytes = Some(bytes);
        Ok(Some(bytes))
    }

    /// The line at `at` without its end, and steps behind it; `None` if it is not whole.
    fn line<'a>(
        &mut self,
        frame: &'a [u8],
        bytes_max: usize,
        too_long: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let start = self.at;
        let from = self.searched.max(start);
        let window = frame.get(..start.saturating_add(bytes_max).min(frame.len())).unwrap_or(&[]);
        let found = window.get(from..).and_then(|rest| rest.iter().position(|&byte| byte == b'\n'));
        let Some(length) = found else {
            self.searched = window.len();
            let full = window.len() >= start.saturating_add(bytes_max);
            return if full { Err(too_long) } else { Ok(None) };
        };
        let end = from.saturating_add(length);
        self.at = end.saturating_add(1);
        self.searched = self.at;
        let line = frame.get(start..end).unwrap_or(&[]);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{TestResult, quickcheck};

    use super::super::{Protocol, Writer, requests};
    use super::*;

    fn texts(requests: Vec<Vec<Bytes>>) -> Vec<Vec<String>> {
        requests.iter().map(|args| args.iter().map(|arg| arg.escape_ascii().to_string()).collect()).collect()
    }

    /// What is read from `input`, at every split.
    fn check(input: &[u8], expected: &[&[&str]], error: Option<ProtocolError>) {
        for piece in 1..=input.len().clamp(1, 64) {
            let (found, stopped) = requests(input, piece);
            assert_eq!(texts(found), expected, "{} in pieces of {piece}", input.escape_ascii());
            assert_eq!(stopped, error, "{} in pieces of {piece}", input.escape_ascii());
        }
    }

    #[test]
    fn requests_are_read_at_every_split() {
        check(b"", &[], None);
        check(b"*1\r\n$4\r\nPING\r\n", &[&["PING"]], None);
        check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$1\r\nx\r\n", &[&["GET", ""], &["x"]], None);
        check(b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", &[&["GET", "a\\r\\nb"]], None);
        check(b"*0\r\n*-1\r\n\r\n  \r\nPING\r\n", &[&["PING"]], None);
        check(b"set a  1\nGET\ta\r\n", &[&["set", "a", "1"], &["GET", "a"]], None);
        check(b"set \"a b\" 'c\\'d'\r\n", &[&["set", "a b", "c\\'d"]], None);
        check(b"echo \"\\x41\\n\\xzz\\\"\" ''\r\n", &[&["echo", "A\\nxzz\\\"", ""]], None);
        check(b"*2\r\n$3\r\nGET\r\n$1\r\n", &[], None);
    }

    #[test]
    fn nonsense_is_named_once_and_ends_the_reading() {
        check(b"PING\r\n*x\r\nPING\r\n", &[&["PING"]], Some(ProtocolError::ArrayLength));
        check(b"*1025\r\n", &[], Some(ProtocolError::TooManyArguments));
        check(b"*99999999999999999999\r\n", &[], Some(ProtocolError::ArrayLength));
        check(b"*1\r\n+PING\r\n", &[], Some(ProtocolError::NoBulk(b'+')));
        check(b"*1\r\n*1\r\n$4\r\nPING\r\n", &[], Some(ProtocolError::NoBulk(b'*')));
        check(b"*1\r\n$-1\r\n", &[], Some(ProtocolError::BulkLength));
        check(b"*1\r\n$1048577\r\n", &[], Some(ProtocolError::BulkTooLong));
        check(b"*1\r\n$4\r\nPINGPONG\r\n", &[], Some(ProtocolError::NoCrlf));
        check(&[b"*1", [b'0'; 40].as_slice()].concat(), &[], Some(ProtocolError::HeaderTooLong));
        check(b"get \"a\r\n", &[], Some(ProtocolError::Quotes));
        check(b"get \"a\"b\r\n", &[], Some(ProtocolError::Quotes));
        let mut parser = Parser::default();
        parser.feed(Bytes::from_static(b"*x\r\nPING\r\n"));
        assert!(parser.next().is_err());
        parser.feed(Bytes::from_static(b"PING\r\n"));
        assert!(matches!(parser.next(), Ok(None)));
        assert_eq!(parser.pending_bytes(), 0);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_kept() {
        let endless = vec![b'a'; INLINE_BYTES_MAX];
        assert_eq!(requests(&endless, 4_096).1, Some(ProtocolError::InlineTooLong));
        let mut large = b"*4\r\n".to_vec();
        for _ in 0..4 {
            large.extend_from_slice(format!("${BULK_BYTES_MAX}\r\n").as_bytes());
            large.extend_from_slice(&vec![b'v'; BULK_BYTES_MAX]);
            large.extend_from_slice(b"\r\n");
        }
        assert_eq!(requests(&large, 65_536).1, Some(ProtocolError::CommandTooLong));
    }

    #[test]
    fn a_whole_frame_is_a_slice_of_what_was_received() {
        let received = Bytes::from(b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$5\r\nwor".to_vec());
        let mut parser = Parser::default();
        parser.feed(received.clone());
        let request = parser.next().expect("well-formed").expect("whole");
        let slice = request.slices().nth(1).expect("two arguments");
        assert_eq!(slice, "hello");
        assert!(received.as_ptr_range().contains(&slice.as_ptr()), "no copy was made");
        assert!(matches!(parser.next(), Ok(None)));

        let rest = Bytes::from(b"ld\r\n*1\r\n$4\r\nPING\r\n".to_vec());
        parser.feed(rest.clone());
        let joined = parser.next().expect("well-formed").expect("whole now");
        assert_eq!(joined.arg(1), Some(b"world".as_slice()));
        let next = parser.next().expect("well-formed").expect("whole");
        let slice = next.slices().next().expect("a name");
        assert!(rest.as_ptr_range().contains(&slice.as_ptr()), "behind a cut frame, slices again");
    }

    quickcheck! {
        fn what_a_writer_wrote_is_read_back(commands: Vec<Vec<Vec<u8>>>, piece: usize) -> TestResult {
            if commands.iter().any(|args| args.is_empty() || args.len() > COMMAND_ARGS_MAX) {
                return TestResult::discard();
            }
            let mut bytes = BytesMut::new();
            for args in &commands {
                let mut writer = Writer::new(&mut bytes, Protocol::Resp2);
                writer.array(args.len());
                args.iter().for_each(|arg| writer.bulk(arg));
            }
            let (found, error) = requests(&bytes, piece % 100 + 1);
            let found: Vec<Vec<Vec<u8>>> =
                found.iter().map(|args| args.iter().map(|arg| arg.to_vec()).collect()).collect();
            TestResult::from_bool(found == commands && error.is_none())
        }

        fn any_bytes_are_read_the_same_at_any_split(bytes: Vec<u8>, piece: usize) -> bool {
            requests(&bytes, usize::MAX) == requests(&bytes, piece % 16 + 1)
        }

        fn bytes_that_look_like_requests_are_read_the_same_at_any_split(picks: Vec<u8>, piece: usize) -> bool {
            let parts: [&[u8]; 12] =
                [b"*2\r\n", b"*", b"$3\r\n", b"$", b"GET\r\n", b"\r", b"\n", b"1", b"\"", b"'", b" ", b"\\x"];
            let bytes: Vec<u8> =
                picks.iter().flat_map(|&pick| parts[usize::from(pick) % parts.len()].iter().copied()).collect();
            requests(&bytes, usize::MAX) == requests(&bytes, piece % 16 + 1)
        }
    }
}
