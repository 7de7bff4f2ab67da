//! Client connections: sockets, reply queues and the bounds on them. What the bytes mean is the node's business.
//!
//! A client that does not read its replies is first not read from any more (`Stalled`), and is disconnected
//! when more replies wait for it than its cap or none of them moves for a while. All share one read buffer.

mod writing;

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use node::ClientId;
use paxos_core::Instant;
use tracing::{debug, info, warn};

use crate::conn::{OutQueue, ReadBuffer, ReadOutcome};
use crate::rate_limit::RateLimit;
use crate::ready::Ready;
use crate::token::{Key, Source};

/// Bytes read from one client in one turn.
const READ_BYTES_PER_TURN: usize = 64 << 10;

/// With more reply bytes than this unread, the node is asked to answer no further requests of the client.
const STALLED_BYTES: usize = 256 << 10;

/// Replies that wait and do not move for this long: the reader is gone or hopeless.
const WRITE_STUCK_US: u64 = 60_000_000;

/// How long a client whose connection is being closed has to read the last replies.
const CLOSING_US: u64 = 2_000_000;

/// Between looks for idle and stuck clients.
const SWEEP_US: u64 = 1_000_000;

/// What the node has to be told about clients.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// A client connected.
    Opened(ClientId),
    /// Bytes came.
    Bytes(ClientId, Bytes),
    /// It will send no more, and still reads.
    Ended(ClientId),
    /// The connection is gone.
    Closed(ClientId),
    /// Replies pile up.
    Stalled(ClientId),
    /// Replies went out.
    Drained(ClientId),
}

/// The bounds on clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// Most connections.
    pub(crate) clients_max: usize,
    /// Most unread reply bytes of one client.
    pub(crate) output_bytes_max: usize,
    /// Silence after which a client is disconnected; `None`: never.
    pub(crate) idle_us: Option<u64>,
}

#[derive(Debug)]
struct Client {
    key: Key,
    stream: TcpStream,
    address: SocketAddr,
    out: OutQueue,
    writable: bool,
    /// Bytes may wait in the socket although no event will say so.
    unread: bool,
    ending: bool,
    /// The end of what it sends was reached.
    ended: bool,
    paused: bool,
    stalled: bool,
    /// Listed in `dirty`.
    dirty: bool,
    /// The node wants no more of it: when to cut it off at the latest.
    closing: Option<Instant>,
    heard: Instant,
    /// When its socket last took bytes.
    moved: Instant,
}

/// Every client connection of this process.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: ClientLimits,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    serial: u64,
    count: usize,
    read: ReadBuffer,
    /// Nobody is read from for now.
    frozen: bool,
    /// Clients with something to read or write in this turn.
    unread: Vec<Key>,
    dirty: Vec<Key>,
    sweep: Instant,
    refusals: RateLimit,
    closings: RateLimit,
}

fn id(key: Key) -> ClientId {
    ClientId(key.number())
}

impl Clients {
    /// Nobody yet.
    pub(crate) fn new(limits: ClientLimits) -> Clients {
        Clients {
            limits,
            clients: Vec::new(),
            free: Vec::new(),
            serial: 0,
            count: 0,
            read: ReadBuffer::default(),
            frozen: false,
            unread: Vec::new(),
            dirty: Vec::new(),
            sweep: Instant::from_us(0),
            refusals: RateLimit::default(),
            closings: RateLimit::default(),
        }
    }

    fn client(&mut self, key: Key) -> Option<&mut Client> {
        self.clients.get_mut(key.index())?.as_mut().filter(|client| client.key == key)
    }

    /// A client connected: its id, or `None` if it was turned away.
    pub(crate) fn accept(
        &mut self,
        registry: &Registry,
        now: Instant,
        mut stream: TcpStream,
        address: SocketAddr,
    ) -> Option<ClientId> {
        if self.count >= self.limits.clients_max {
            if let Some(suppressed) = self.refusals.line(now) {
                let clients_max = self.limits.clients_max;
                warn!(%address, clients_max, suppressed, "client refused: max_clients are connected");
            }
            // A fresh socket takes a line at once; if not, the close says enough.
            let _ = stream.write(b"-ERR max number of clients reached (max_clients)\r\n");
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        self.serial += 1;
        let key = Key::new(index, self.serial);
        let registered = registry
            .register(&mut stream, Token::from(Source::Client(key)), Interest::READABLE | Interest::WRITABLE)
            .and_then(|()| stream.set_nodelay(true));
        if let Err(error) = registered {
            warn!(%address, %error, "cannot take a client's connection");
            self.free.push(index);
            return None;
        }
        if let Some(place) = self.clients.get_mut(index) {
            *place = Some(Client {
                key,
                stream,
                address,
                out: OutQueue::default(),
                writable: true,
                unread: false,
                ending: false,
                ended: false,
                paused: false,
                stalled: false,
                dirty: false,
                closing: None,
                heard: now,
                moved: now,
            });
            self.count += 1;
        }
        debug!(client = key.number(), %address, "client connected");
        Some(id(key))
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// A client's socket is ready for something; it is read and written when the turn comes to that.
    pub(crate) fn on_ready(&mut self, key: Key, ready: Ready) {
        let Some(client) = self.client(key) else { return };
        client.ending |= ready.ending;
        client.writable |= ready.writable;
        let to_write = ready.writable && !client.out.is_empty() && !client.dirty;
        client.dirty |= to_write;
        let to_read = (ready.readable || ready.ending) && !client.unread;
        client.unread |= to_read;
        if to_write {
            self.dirty.push(key);
        }
        if to_read {
            self.unread.push(key);
        }
    }

    /// Whether some client may have bytes that no event will announce.
    pub(crate) fn has_unread(&self) -> bool {
        !self.frozen && !self.unread.is_empty()
    }

    /// Whether to leave what clients send in their sockets.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Reads from whoever has bytes, a turn's worth each.
    pub(crate) fn read_all(&mut self, registry: &Registry, now: Instant, events: &mut Vec<ClientEvent>) {
        if self.frozen {
            return;
        }
        let mut keys = std::mem::take(&mut self.unread);
        keys.retain(|&key| self.read_one(registry, now, key, events));
        keys.append(&mut self.unread);
        self.unread = keys;
    }

    /// Reads from one client. True: it stays listed, since more may be there.
    fn read_one(&mut self, registry: &Registry, now: Instant, key: Key, events: &mut Vec<ClientEvent>) -> bool {
        let Some(client) = self.clients.get_mut(key.index()).and_then(Option::as_mut) else { return false };
        if client.key != key {
            return false;
        }
        if client.paused || client.stalled {
            // Stays marked as unread, and is listed again when it may be read.
            return false;
        }
        if client.ended {
            return false;
        }
        let mut bytes = 0;
        loop {
            let outcome = self.read.read_from(&mut client.stream);
            let arrived = self.read.take(usize::MAX);
            if !arrived.is_empty() {
                bytes += arrived.len();
                client.heard = now;
                // A client that is being closed may go on talking; nobody listens.
                if client.closing.is_none() {
                    events.push(ClientEvent::Bytes(id(key), arrived));
                }
            }
            match outcome {
                Ok(ReadOutcome::Short) if !client.ending => break,
                Ok(ReadOutcome::Blocked) => break,
                Ok(ReadOutcome::More | ReadOutcome::Short) if bytes >= READ_BYTES_PER_TURN => return true,
                Ok(ReadOutcome::More | ReadOutcome::Short) => {}
                Ok(ReadOutcome::Closed) if client.closing.is_some() => {
                    self.gone(registry, key, events, &"closed by the client");
                    return false;
                }
                Ok(ReadOutcome::Closed) => {
                    // It may have shut down only its sending half, and wait for its replies.
                    client.ended = true;
                    events.push(ClientEvent::Ended(id(key)));
                    return false;
                }
                Err(error) => {
                    self.gone(registry, key, events, &error);
                    return false;
                }
            }
        }
        client.unread = false;
        false
    }

    fn gone(&mut self, registry: &Registry, key: Key, events: &mut Vec<ClientEvent>, reason: &dyn std::fmt::Display) {
        let Some(place) = self.clients.get_mut(key.index()) else { return };
        let Some(mut client) = place.take_if(|client| client.key == key) else { return };
        // A socket that cannot be deregistered is closed all the same when it is dropped.
        let _ = registry.deregister(&mut client.stream);
        self.free.push(key.index());
        self.count -= 1;
        if client.closing.is_none() {
            events.push(ClientEvent::Closed(id(key)));
        }
        debug!(client = key.number(), address = %client.address, %reason, "client gone");
    }

    /// The node wants nothing more from this client for now.
    pub(crate) fn pause(&mut self, client: ClientId) {
        if let Some(client) = self.client(Key::from_number(client.0)) {
            client.paused = true;
        }
    }

    /// The node takes bytes of this client again.
    pub(crate) fn resume(&mut self, client: ClientId) {
        let key = Key::from_number(client.0);
        if let Some(client) = self.client(key)
            && std::mem::replace(&mut client.paused, false)
        {
            self.list_unread(key);
        }
    }

    /// A client that may be read again has perhaps bytes whose event is long past.
    fn list_unread(&mut self, key: Key) {
        let Some(client) = self.client(key) else { return };
        if client.unread && !client.paused && !client.stalled {
            self.unread.push(key);
        }
    }

    /// Cuts off clients that are idle, stuck, or were to be gone by now.
    pub(crate) fn on_time(&mut self, registry: &Registry, now: Instant, events: &mut Vec<ClientEvent>) {
        if now < self.sweep {
            return;
        }
        self.sweep = now.plus_us(SWEEP_US);
        let idle_us = self.limits.idle_us;
        for index in 0..self.clients.len() {
            let Some(Some(client)) = self.clients.get(index) else { continue };
            let reason = match client.closing {
                Some(deadline) if now >= deadline => "closed",
                Some(_) => continue,
                None if !client.out.is_empty() && now.since_us(client.moved) >= WRITE_STUCK_US => {
                    "it does not read its replies"
                }
                None if idle_us.is_some_and(|idle_us| now.since_us(client.heard) >= idle_us) => {
                    "idle for client_idle_s"
                }
                None => continue,
            };
            let key = client.key;
            if client.closing.is_none() {
                self.report_cut(now, key, &reason);
            }
            self.gone(registry, key, events, &reason);
        }
    }

    /// When `on_time` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.count > 0).then_some(self.sweep)
    }
}
