//! One link to a peer: a socket, the stage it is in, and what the bytes on it mean.
//!
//! A link knows frames and greetings, and reports what they amount to as `LinkEvent`s; which peer has which
//! link, and when to dial again, is the business of `links.rs`.

use std::io;
use std::net::{Shutdown, SocketAddr};

use bytes::Bytes;
use mio::net::TcpStream;
use paxos_core::limits::FRAME_BYTES_MAX;
use paxos_core::{Instant, NodeId};
use thiserror::Error;

use crate::conn::{OutQueue, ReadBuffer, ReadOutcome};
use crate::frame::{self, FRAME_HEAD_BYTES, FrameError};
use crate::hello::{self, GREETING_BYTES_MAX, Greeting, Hello, Refusal, Side};
use crate::token::Key;

/// Bytes read from one link in one turn, so that a busy peer does not keep the others waiting.
const READ_BYTES_PER_TURN: usize = 1 << 20;

/// A frame up to this size is a heartbeat or an acknowledgement, not entries.
const SMALL_FRAME_BYTES: usize = 1 << 10;

/// Room in a full queue for small frames only: a leader whose entries pile up must not seem dead for it.
const SMALL_FRAMES_RESERVE_BYTES: usize = 256 << 10;

/// Where a link is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Dialled; the other side has not answered the telephone.
    Connecting,
    /// Connected; the other side's greeting is awaited.
    Greeting,
    /// Its hello is being judged; nothing behind it is looked at.
    Judging,
    /// Both hellos were accepted.
    Open(NodeId),
    /// A refusal is on its way; what still comes is thrown away.
    Closing,
}

/// One connection on the peer port or to one.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) key: Key,
    pub(crate) address: SocketAddr,
    pub(crate) side: Side,
    pub(crate) stage: Stage,
    /// When to give up unless the stage changes.
    pub(crate) deadline: Instant,
    /// Bytes may wait in the socket although no event will say so.
    pub(crate) unread: bool,
    /// The other side will send no more: read on until the end is reached.
    pub(crate) ending: bool,
    read: ReadBuffer,
    out: OutQueue,
    writable: bool,
}

/// What the bytes of a link amount to.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The other side said who it is.
    Hello(Hello),
    /// The other side will not talk to this node.
    Refused(Refusal),
    /// A frame for the node; only on an open link.
    Frame(NodeId, Bytes),
}

/// Why a link ends.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("the other side closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Greeting(Refusal),
}

impl Link {
    pub(crate) fn new(stream: TcpStream, key: Key, address: SocketAddr, side: Side, deadline: Instant) -> Link {
        let stage = match side {
            Side::Dialled(_) => Stage::Connecting,
            Side::Accepted => Stage::Greeting,
        };
        Link {
            stream,
            key,
            address,
            side,
            stage,
            deadline,
            unread: false,
            ending: false,
            read: ReadBuffer::default(),
            out: OutQueue::default(),
            writable: false,
        }
    }

    /// The peer of an open link.
    pub(crate) fn peer(&self) -> Option<NodeId> {
        match self.stage {
            Stage::Open(peer) => Some(peer),
            Stage::Connecting | Stage::Greeting | Stage::Judging | Stage::Closing => None,
        }
    }

    /// The socket takes bytes again, or a dial was answered. True: it is connected only now.
    pub(crate) fn on_writable(&mut self) -> Result<bool, LinkError> {
        self.writable = true;
        if self.stage != Stage::Connecting {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error.into());
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stage = Stage::Greeting;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there, a turn's worth at most; `unread` says whether more may be. True: bytes came.
    pub(crate) fn read(&mut self, events: &mut Vec<LinkEvent>) -> Result<bool, LinkError> {
        self.unread = false;
        let mut bytes = 0;
        loop {
            let before = self.read.arrived().len();
            let outcome = self.read.read_from(&mut self.stream)?;
            bytes += self.read.arrived().len() - before;
            self.take_frames(events)?;
            match outcome {
                ReadOutcome::Closed => return Err(LinkError::Closed),
                ReadOutcome::Blocked => return Ok(bytes > 0),
                ReadOutcome::More | ReadOutcome::Short if bytes >= READ_BYTES_PER_TURN => {
                    self.unread = true;
                    return Ok(true);
                }
                // A short read has emptied the socket, unless its end was announced together with the bytes.
                ReadOutcome::Short if !self.ending => return Ok(true),
                ReadOutcome::More | ReadOutcome::Short => {}
            }
        }
    }

    fn take_frames(&mut self, events: &mut Vec<LinkEvent>) -> Result<(), LinkError> {
        loop {
            match self.stage {
                Stage::Closing => {
                    self.read = ReadBuffer::default();
                    return Ok(());
                }
                Stage::Connecting | Stage::Judging => return Ok(()),
                Stage::Greeting => {
                    let Some(payload) = frame::take(&mut self.read, GREETING_BYTES_MAX)? else { return Ok(()) };
                    self.stage = Stage::Judging;
                    events.push(greeting(&payload)?);
                }
                Stage::Open(peer) => {
                    let Some(payload) = frame::take(&mut self.read, FRAME_BYTES_MAX)? else { return Ok(()) };
                    let event = if payload.starts_with(&hello::MAGIC) {
                        greeting(&payload)?
                    } else {
                        LinkEvent::Frame(peer, payload)
                    };
                    events.push(event);
                }
            }
        }
    }

    /// Both hellos were accepted: what came behind the greeting is for the node.
    pub(crate) fn open(&mut self, peer: NodeId, events: &mut Vec<LinkEvent>) -> Result<(), LinkError> {
        self.stage = Stage::Open(peer);
        self.take_frames(events)
    }

    /// Queues a greeting.
    pub(crate) fn greet(&mut self, greeting: &Greeting) {
        let payload = hello::encode(greeting);
        self.out.push_copy(&frame::head(&payload));
        self.out.push_copy(&payload);
    }

    /// Queues a whole frame, or drops it if the queue would exceed `queue_bytes_max`. False: dropped.
    pub(crate) fn queue(&mut self, head: [u8; FRAME_HEAD_BYTES], payload: &Bytes, queue_bytes_max: usize) -> bool {
        let reserve = if payload.len() <= SMALL_FRAME_BYTES { SMALL_FRAMES_RESERVE_BYTES } else { 0 };
        if self.out.bytes() + FRAME_HEAD_BYTES + payload.len() > queue_bytes_max + reserve {
            return false;
        }
        self.out.push_copy(&head);
        self.out.push(payload.clone());
        true
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        if !self.writable || self.out.is_empty() {
            return Ok(());
        }
        self.writable = self.out.write_to(&mut self.stream)?;
        if self.stage == Stage::Closing && self.out.is_empty() {
            // The other side reads the refusal before it sees the end; closing at once could reset it away.
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

fn greeting(payload: &[u8]) -> Result<LinkEvent, LinkError> {
    match hello::decode(payload).map_err(LinkError::Greeting)? {
        Greeting::Hello(hello) => Ok(LinkEvent::Hello(hello)),
        Greeting::Refused(refusal) => Ok(LinkEvent::Refused(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_full_queue_drops_whole_frames_and_what_was_queued_arrives() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        let (mut other, _) = listener.accept().expect("it was called");
        stream.set_nonblocking(true).expect("sockets can be non-blocking");
        let key = Key::new(0, 1);
        let mut link = Link::new(TcpStream::from_std(stream), key, address, Side::Accepted, Instant::from_us(0));
        link.stage = Stage::Open(NodeId(2));
        let payload = Bytes::from_static(&[7; 2_000]);
        let head = frame::head(&payload);
        let queue_bytes_max = 3 * (FRAME_HEAD_BYTES + payload.len()) + 1;
        let queued = (0..10).filter(|_| link.queue(head, &payload, queue_bytes_max)).count();
        assert_eq!(queued, 3);
        let small = Bytes::from_static(b"heartbeat");
        assert!(link.queue(frame::head(&small), &small, queue_bytes_max), "a heartbeat finds room");
        link.on_writable().expect("it is connected");
        link.flush().expect("it is connected");
        assert!(link.queue(head, &payload, queue_bytes_max), "there is room again");
        link.flush().expect("it is connected");
        let whole = [&head[..], &payload].concat();
        let heartbeat = [&frame::head(&small)[..], &small].concat();
        let expected = [&whole.repeat(3)[..], &heartbeat, &whole].concat();
        let mut arrived = vec![0; expected.len()];
        other.read_exact(&mut arrived).expect("whole frames");
        assert_eq!(arrived, expected);
    }
}
