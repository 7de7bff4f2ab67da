//! One client of the load: a non-blocking connection with a pipeline of operations.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::{Check, LoadOptions, PAUSE, Shared};
use crate::client::{Fate, Reply, ReplyReader, SESSION_WINDOW, encode_command, fate};

#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    kind: Kind,
    key: u64,
    record: u64,
    begun: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Read,
    Write,
}

impl Operation {
    pub(super) fn read(key: u64) -> Operation {
        Operation { kind: Kind::Read, key, record: 0, begun: None }
    }

    pub(super) fn write(key: u64, record: u64) -> Operation {
        Operation { kind: Kind::Write, key, record, begun: None }
    }
}

struct Link {
    stream: TcpStream,
    /// Index of the address it goes to.
    to: usize,
    out: Vec<u8>,
    written: usize,
    replies: ReplyReader,
    last_heard: Instant,
}

pub(super) struct Lane {
    number: usize,
    session: Option<String>,
    link: Option<Link>,
    /// To be sent, oldest first.
    queue: VecDeque<Operation>,
    /// Sent, not answered.
    sent: VecDeque<Operation>,
    /// Nothing is sent before.
    pause_until: Option<Instant>,
    records: u64,
    /// Records not acknowledged yet: none may fall out of the session's window.
    open_records: VecDeque<u64>,
    acknowledged: Vec<u64>,
}

/// The key of a number; checked runs have their own keys per client.
pub(super) fn key(prefix: &str, client: Option<usize>, number: u64) -> Vec<u8> {
    match client {
        Some(client) => format!("{prefix}:{client}:{number}").into_bytes(),
        None => format!("{prefix}:{number}").into_bytes(),
    }
}

impl Lane {
    pub(super) fn new(number: usize, session: Option<String>) -> Lane {
        Lane {
            number,
            session,
            link: None,
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            pause_until: None,
            records: 0,
            open_records: VecDeque::new(),
            acknowledged: Vec::new(),
        }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn acknowledged(self) -> Vec<u64> {
        self.acknowledged
    }

    pub(super) fn outstanding(&self) -> usize {
        self.queue.len() + self.sent.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding() == 0
    }

    /// Whether the next record would push the oldest open one out of the session's window.
    pub(super) fn window_full(&self) -> bool {
        self.open_records.front().is_some_and(|oldest| self.records - oldest >= SESSION_WINDOW as u64 - 1)
    }

    pub(super) fn next_record(&mut self) -> u64 {
        let record = self.records;
        self.records += 1;
        self.open_records.push_back(record);
        record
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.queue.push_back(operation);
    }

    pub(super) fn wake(&mut self, now: Instant) {
        if self.pause_until.is_some_and(|until| until <= now) {
            self.pause_until = None;
        }
    }

    pub(super) fn is_silent(&self, now: Instant, most: Duration) -> bool {
        let Some(link) = &self.link else { return false };
        !self.sent.is_empty() && now.duration_since(link.last_heard) > most
    }

    /// Connects if need be, and sends what is queued.
    pub(super) fn work(&mut self, poll: &Poll, shared: &mut Shared, options: &LoadOptions) {
        if self.pause_until.is_some() || self.queue.is_empty() && self.link.as_ref().is_none_or(Link::is_flushed) {
            return;
        }
        if self.sent.is_empty() && self.link.as_ref().is_some_and(|link| link.to != shared.leader) {
            self.close(poll);
        }
        if self.link.is_none() && self.connect(poll, shared).is_err() {
            self.lose(poll, shared);
            return;
        }
        let Some(link) = &mut self.link else { return };
        if link.to == shared.leader {
            let now = Instant::now();
            if self.sent.is_empty() {
                link.last_heard = now;
            }
            for mut operation in self.queue.drain(..) {
                operation.begun.get_or_insert(now);
                encode(&operation, self.number, self.session.as_deref(), options, &mut link.out);
                self.sent.push_back(operation);
            }
        }
        if link.flush().is_err() {
            self.lose(poll, shared);
        }
    }

    fn connect(&mut self, poll: &Poll, shared: &Shared) -> io::Result<()> {
        let to = shared.leader;
        let address = shared.addresses[to].to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        let mut stream = TcpStream::connect(address)?;
        let _ = stream.set_nodelay(true);
        poll.registry().register(&mut stream, Token(self.number), Interest::READABLE | Interest::WRITABLE)?;
        let replies = ReplyReader::default();
        self.link = Some(Link { stream, to, out: Vec::new(), written: 0, replies, last_heard: Instant::now() });
        Ok(())
    }

    /// Reads what arrived and settles what it answers.
    pub(super) fn receive(&mut self, poll: &Poll, shared: &mut Shared, options: &LoadOptions) {
        let Some(link) = &mut self.link else { return };
        let mut bytes = [0; 64 << 10];
        let mut alive = true;
        loop {
            match link.stream.read(&mut bytes) {
                Ok(0) => alive = false,
                Ok(count) => {
                    link.last_heard = Instant::now();
                    link.replies.feed(&bytes[..count]);
                    if count == bytes.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(_) => alive = false,
            }
            break;
        }
        let mut replies = Vec::new();
        loop {
            match link.replies.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(_) => {
                    alive = false;
                    break;
                }
            }
        }
        let to = link.to;
        let now = Instant::now();
        for reply in replies {
            let Some(operation) = self.sent.pop_front() else { break };
            self.settle(operation, reply, to, now, shared, options);
        }
        if !alive {
            self.lose(poll, shared);
        }
    }

    fn settle(
        &mut self,
        operation: Operation,
        reply: Reply,
        to: usize,
        now: Instant,
        shared: &mut Shared,
        options: &LoadOptions,
    ) {
        match fate(&reply) {
            Fate::Answered => {
                shared.answered(&operation, &reply, now);
                if operation.kind == Kind::Write && options.check == Check::Appends {
                    self.close_record(operation.record, reply.error().is_none());
                }
            }
            Fate::Moved(address) => {
                shared.report.moved += 1;
                shared.learn_leader(to, address);
                self.queue.push_back(operation);
            }
            refused @ (Fate::NotNow | Fate::NoLeader) => {
                shared.report.deferred += 1;
                if refused == Fate::NoLeader {
                    shared.give_up(to);
                }
                self.queue.push_back(operation);
                self.pause(now, shared);
            }
            Fate::InDoubt => self.doubt(operation, shared),
        }
    }

    /// An operation may have run: it is repeated where that does no harm.
    fn doubt(&mut self, operation: Operation, shared: &mut Shared) {
        match (operation.kind, &self.session) {
            (Kind::Read, _) => self.queue.push_back(operation),
            (Kind::Write, Some(_)) => {
                shared.report.retried += 1;
                self.queue.push_back(operation);
            }
            (Kind::Write, None) => shared.report.in_doubt += 1,
        }
    }

    fn close_record(&mut self, record: u64, acknowledged: bool) {
        self.open_records.retain(|open| *open != record);
        if acknowledged {
            self.acknowledged.push(record);
        }
    }

    /// The connection is lost: what was sent is in doubt, and the next node is tried.
    pub(super) fn lose(&mut self, poll: &Poll, shared: &mut Shared) {
        let to = self.link.as_ref().map_or(shared.leader, |link| link.to);
        self.close(poll);
        shared.report.disconnects += 1;
        shared.give_up(to);
        for operation in std::mem::take(&mut self.sent) {
            self.doubt(operation, shared);
        }
        self.pause(Instant::now(), shared);
    }

    fn close(&mut self, poll: &Poll) {
        if let Some(mut link) = self.link.take() {
            // A stream that was never registered has nothing to deregister.
            let _ = poll.registry().deregister(&mut link.stream);
        }
    }

    fn pause(&mut self, now: Instant, shared: &mut Shared) {
        if self.pause_until.is_none() {
            self.pause_until = Some(now + PAUSE);
            shared.due.push_back((now + PAUSE, self.number));
        }
    }
}

impl Link {
    fn is_flushed(&self) -> bool {
        self.written == self.out.len()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Not connected yet: the writable event comes when it is.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

impl Shared {
    fn answered(&mut self, operation: &Operation, reply: &Reply, now: Instant) {
        let begun = operation.begun.unwrap_or(now);
        let us = u64::try_from(now.duration_since(begun).as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(us.max(1));
        self.report.answered += 1;
        if let Some(error) = reply.error() {
            self.report.errors += 1;
            self.report.first_error.get_or_insert_with(|| error.to_string());
        } else if operation.kind == Kind::Write {
            self.report.writes += 1;
            let gap_ms = now.duration_since(self.last_write).as_secs_f64() * 1_000.0;
            self.report.longest_gap_ms = self.report.longest_gap_ms.max(gap_ms);
            self.last_write = now;
        }
    }

    /// This one is not the leader, and does not know who is: the next one is asked, unless a lane knows better.
    fn give_up(&mut self, address: usize) {
        if self.leader == address {
            self.leader = (address + 1) % self.addresses.len();
        }
    }

    fn learn_leader(&mut self, from: usize, address: String) {
        if self.leader != from {
            return; // another lane already knows better
        }
        self.leader = self.addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
            self.addresses.push(address);
            self.addresses.len() - 1
        });
    }
}

fn encode(operation: &Operation, client: usize, session: Option<&str>, options: &LoadOptions, out: &mut Vec<u8>) {
    match (operation.kind, session) {
        (Kind::Read, None) => encode_command(&[b"GET".to_vec(), key(&options.prefix, None, operation.key)], out),
        (Kind::Read, Some(_)) => {
            encode_command(&[b"GET".to_vec(), key(&options.prefix, Some(client), operation.key)], out);
        }
        (Kind::Write, None) => {
            let value = vec![b'x'; options.value_bytes];
            encode_command(&[b"SET".to_vec(), key(&options.prefix, None, operation.key), value], out);
        }
        (Kind::Write, Some(session)) => {
            let sequence = operation.record + 1;
            let key = key(&options.prefix, Some(client), operation.key);
            // Points on both sides of the number, which the reader trims; a bar between records.
            let value = format!("{:.<width$}|", operation.record, width = options.value_bytes - 1).into_bytes();
            let head = [b"ONCE".to_vec(), session.as_bytes().to_vec(), sequence.to_string().into_bytes()];
            let [once, id, sequence] = head;
            encode_command(&[once, id, sequence, b"APPEND".to_vec(), key, value], out);
        }
    }
}
