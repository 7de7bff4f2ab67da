//! Bytes in and out of one socket: what has arrived (`ReadBuffer`) and what is still to be written (`OutQueue`).
//!
//! Nothing here knows a protocol. Both halves work on any `Read` and `Write`, so that every split is testable.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};

use bytes::{Bytes, BytesMut};

/// One allocation of a read buffer. Large enough that a turn under load is one read, small enough that a
/// payload which is kept pins little beside itself.
const CHUNK_BYTES: usize = 64 << 10;

/// Less room than this is not worth a system call.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// Pieces up to this size are copied into the tail; larger ones are queued as they are, since an extra slice
/// in a vectored write costs less than copying them.
const COPY_BYTES_MAX: usize = 2 << 10;

/// Slices in one vectored write; Linux takes up to 1,024.
const SLICES_MAX: usize = 64;

/// A drained tail larger than this is given back, so that one burst is not paid for ever.
const TAIL_BYTES_KEPT: usize = 64 << 10;

/// Bytes that arrived and were not taken yet, in memory that what is taken goes on sharing.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// All of it is initialised: zeroed once when allocated, then overwritten by reads.
    bytes: BytesMut,
    /// How much of `bytes`, from its start, has arrived.
    filled: usize,
}

/// What one read did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadOutcome {
    /// Some bytes came and the socket may have more.
    More,
    /// Some bytes came and no more are there now.
    Short,
    /// No bytes are there now.
    Blocked,
    /// The other side will send no more.
    Closed,
}

impl ReadBuffer {
    /// What has arrived and was not taken.
    pub(crate) fn arrived(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or(&[])
    }

    /// Takes the first `count` bytes that arrived (or all, if they are fewer) without copying them.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.filled);
        self.filled -= count;
        self.bytes.split_to(count).freeze()
    }

    /// Reads once. The buffer at most doubles, so memory grows only as fast as bytes arrive.
    pub(crate) fn read_from(&mut self, source: &mut impl Read) -> io::Result<ReadOutcome> {
        self.make_room();
        let room = self.bytes.get_mut(self.filled..).unwrap_or(&mut []);
        let room_bytes = room.len();
        match read_retrying(source, room) {
            Ok(0) => Ok(ReadOutcome::Closed),
            Ok(count) => {
                self.filled += count.min(room_bytes);
                Ok(if count < room_bytes { ReadOutcome::Short } else { ReadOutcome::More })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadOutcome::Blocked),
            Err(error) => Err(error),
        }
    }

    fn make_room(&mut self) {
        if self.bytes.len() - self.filled >= ROOM_BYTES_MIN {
            return;
        }
        let mut larger = BytesMut::zeroed(CHUNK_BYTES.max(self.filled.saturating_mul(2)));
        if let (Some(to), Some(from)) = (larger.get_mut(..self.filled), self.bytes.get(..self.filled)) {
            to.copy_from_slice(from);
        }
        self.bytes = larger;
    }
}

fn read_retrying(source: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Bytes that are to be written, in order. Whoever pushes checks `bytes` against its own cap first.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    /// Written before the tail.
    chunks: VecDeque<Bytes>,
    /// Small pieces, joined.
    tail: Vec<u8>,
    /// How much of the tail is written already.
    tail_written: usize,
    /// Bytes in chunks and tail that are not written yet.
    bytes: usize,
}

impl OutQueue {
    /// Bytes not written yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether everything is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a few bytes by copying them.
    pub(crate) fn push_copy(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
        self.tail.extend_from_slice(piece);
    }

    /// Appends a piece, by copy if it is small.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPY_BYTES_MAX {
            return self.push_copy(&piece);
        }
        if self.tail.len() > self.tail_written {
            let tail = Bytes::from(std::mem::take(&mut self.tail));
            self.chunks.push_back(tail.slice(self.tail_written..));
        }
        self.tail.clear();
        self.tail_written = 0;
        self.bytes += piece.len();
        self.chunks.push_back(piece);
    }

    /// Writes until all is written or the sink takes no more now; one system call in the common case.
    /// True: all is written. The sink's refusal to take more is no error.
    pub(crate) fn write_to(&mut self, sink: &mut impl Write) -> io::Result<bool> {
        while self.bytes > 0 {
            match self.write_once(sink) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write_once(&self, sink: &mut impl Write) -> io::Result<usize> {
        let tail = self.tail.get(self.tail_written..).unwrap_or(&[]);
        if self.chunks.is_empty() {
            return sink.write(tail);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let pieces = self.chunks.iter().map(|chunk| &chunk[..]).chain([tail]);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        sink.write_vectored(slices.get(..count).unwrap_or(&[]))
    }

    fn written(&mut self, count: usize) {
        let mut left = count.min(self.bytes);
        self.bytes -= left;
        while left > 0 {
            let Some(chunk) = self.chunks.front_mut() else { break };
            if chunk.len() > left {
                let _ = chunk.split_to(left);
                return;
            }
            left -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail_written += left;
        if self.tail_written >= self.tail.len() {
            self.tail_written = 0;
            self.tail.clear();
            self.tail.shrink_to(TAIL_BYTES_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes or gives `step` bytes a call, then blocks.
    struct Pipe {
        step: usize,
        bytes: Vec<u8>,
        calls: usize,
        calls_max: usize,
    }

    impl Pipe {
        fn new(step: usize, bytes: Vec<u8>) -> Pipe {
            Pipe { step, bytes, calls: 0, calls_max: usize::MAX }
        }
    }

    impl Write for Pipe {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            if self.calls >= self.calls_max {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.calls += 1;
            let count = buffer.len().min(self.step);
            self.bytes.extend_from_slice(&buffer[..count]);
            Ok(count)
        }
        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&all)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Pipe {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            if self.bytes.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = self.step.min(room.len()).min(self.bytes.len());
            room[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes.drain(..count);
            Ok(count)
        }
    }

    fn pattern(count: usize) -> Vec<u8> {
        (0..count).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn pieces_of_every_size_leave_in_order_however_the_sink_splits_them() {
        let sizes = [1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 0, 7, 3 * COPY_BYTES_MAX, 5, 5, 9_000];
        let expected = pattern(sizes.iter().sum());
        for step in [1, 2, 3, 1_000, COPY_BYTES_MAX, 1 << 20] {
            let mut queue = OutQueue::default();
            let mut at = 0;
            let mut sink = Pipe::new(step, Vec::new());
            for size in sizes {
                queue.push(Bytes::copy_from_slice(&expected[at..at + size]));
                at += size;
                sink.calls_max = sink.calls + 1;
                queue.write_to(&mut sink).expect("a pipe does not fail");
            }
            sink.calls_max = usize::MAX;
            assert!(queue.write_to(&mut sink).expect("a pipe does not fail"));
            assert_eq!(sink.bytes, expected, "step {step}");
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn small_pieces_of_one_turn_leave_in_one_write() {
        let mut queue = OutQueue::default();
        (0..500).for_each(|_| queue.push(Bytes::from_static(b"+OK\r\n")));
        let mut sink = Pipe::new(usize::MAX, Vec::new());
        assert!(queue.write_to(&mut sink).expect("a pipe does not fail"));
        assert_eq!((sink.calls, sink.bytes.len()), (1, 2_500));
    }

    #[test]
    fn what_is_read_comes_out_the_same_and_the_buffer_grows_no_faster_than_bytes_arrive() {
        let sent = pattern(1 << 20);
        for step in [1_000, 5_000, 1 << 20] {
            let mut source = Pipe::new(step, sent.clone());
            let mut buffer = ReadBuffer::default();
            while buffer.read_from(&mut source).expect("a pipe does not fail") != ReadOutcome::Blocked {
                assert!(buffer.bytes.len() <= CHUNK_BYTES.max(buffer.filled * 2 + CHUNK_BYTES));
            }
            assert_eq!(buffer.take(10), sent[..10]);
            assert_eq!(buffer.take(usize::MAX), sent[10..]);
            assert!(buffer.arrived().is_empty());
        }
    }
}
