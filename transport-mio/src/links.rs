//! The links to all peers: who is let in, who is refused, and what passes over them.
//!
//! When whom to dial is the business of `peers.rs`, bytes and stages of one link that of `peer_link.rs`. A newer link of the same peer replaces an older one, which may be half-open without this side knowing.
//! Nothing that comes over a link can make this room keep more than its bounds.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use paxos_core::{Instant, NodeId, Recipients};
use tracing::{debug, info, warn};

use crate::frame;
use crate::hello::{Greeting, Hello, Identity, Refusal, Side};
use crate::peer_link::{Link, LinkError, LinkEvent, Stage};
use crate::peers::Peers;
use crate::rate_limit::RateLimit;
use crate::token::{Key, Source};

/// A dial or a greeting that takes longer is given up.
const GREETING_US: u64 = 3_000_000;
/// How long the other side has to read a refusal.
const CLOSING_US: u64 = 1_000_000;
/// Most links that are not open yet; the oldest makes room. Members' own links pass through in microseconds.
const STRANGERS_MAX: usize = 32;

/// Every link of this process.
#[derive(Debug)]
pub(crate) struct Links {
    identity: Identity,
    idle_us: u64,
    queue_bytes_max: usize,
    peers: Peers,
    links: Vec<Option<Link>>,
    serial: u64,
    refusals: RateLimit,
    drops: RateLimit,
    events: Vec<LinkEvent>,
    lookups: Vec<(NodeId, String)>,
}

impl Links {
    /// No link yet; the first `on_time` dials.
    pub(crate) fn new(
        identity: Identity,
        addresses: Vec<(NodeId, String)>,
        queue_bytes_max: usize,
        idle_us: u64,
        seed: u64,
    ) -> Links {
        Links {
            peers: Peers::new(identity.node, addresses, seed),
            identity,
            idle_us,
            queue_bytes_max,
            links: Vec::new(),
            serial: 0,
            refusals: RateLimit::default(),
            drops: RateLimit::default(),
            events: Vec::new(),
            lookups: Vec::new(),
        }
    }

    /// Somebody connected to the peer port.
    pub(crate) fn accept(&mut self, registry: &Registry, now: Instant, stream: TcpStream, address: SocketAddr) {
        let strangers =
            || self.links.iter().flatten().filter(|link| link.peer().is_none() && link.side == Side::Accepted);
        if strangers().count() >= STRANGERS_MAX
            && let Some(oldest) = strangers().min_by_key(|link| link.deadline).map(|link| link.key)
        {
            self.close(registry, now, oldest, &"too many links without a hello");
        }
        if let Err(error) = self.add(registry, now, stream, address, Side::Accepted) {
            warn!(%address, %error, "cannot take a peer's connection");
        }
    }

    fn add(
        &mut self,
        registry: &Registry,
        now: Instant,
        mut stream: TcpStream,
        address: SocketAddr,
        side: Side,
    ) -> io::Result<Key> {
        let index = match self.links.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.links.push(None);
                self.links.len() - 1
            }
        };
        self.serial += 1;
        let key = Key::new(index, self.serial);
        registry.register(&mut stream, Token::from(Source::Link(key)), Interest::READABLE | Interest::WRITABLE)?;
        // Without it small frames wait for acknowledgements of earlier ones.
        stream.set_nodelay(true)?;
        if let Some(place) = self.links.get_mut(index) {
            *place = Some(Link::new(stream, key, address, side, now.plus_us(GREETING_US)));
        }
        Ok(key)
    }

    fn link(&mut self, key: Key) -> Option<&mut Link> {
        self.links.get_mut(key.index())?.as_mut().filter(|link| link.key == key)
    }

    /// The sockets of this link are ready for something; frames for the node are appended to `frames`.
    pub(crate) fn on_ready(
        &mut self,
        registry: &Registry,
        now: Instant,
        key: Key,
        ready: Ready,
        frames: &mut Vec<(NodeId, Bytes)>,
    ) {
        let Some(link) = self.link(key) else { return };
        link.ending |= ready.ending;
        if ready.writable {
            match (link.on_writable(), link.side) {
                (Ok(true), Side::Dialled(peer)) => {
                    let hello = self.identity.hello(peer);
                    if let Some(link) = self.link(key) {
                        link.greet(&Greeting::Hello(hello));
                    }
                }
                (Ok(_), _) => {}
                (Err(error), _) => return self.close(registry, now, key, &error),
            }
        }
        if ready.readable || ready.ending {
            self.read(registry, now, key, frames);
        }
    }

    fn read(&mut self, registry: &Registry, now: Instant, key: Key, frames: &mut Vec<(NodeId, Bytes)>) {
        let mut events = std::mem::take(&mut self.events);
        let idle_us = self.idle_us;
        let Some(link) = self.link(key) else { return };
        let result = link.read(&mut events);
        if let (Ok(true), Stage::Open(_)) = (&result, link.stage) {
            link.deadline = now.plus_us(idle_us);
        }
        let mut result = result.map(|_| ());
        let mut index = 0;
        // A hello may uncover frames behind it, so the list can grow while it is walked.
        while let Some(event) = events.get_mut(index) {
            match std::mem::replace(event, LinkEvent::Refused(Refusal::Malformed)) {
                LinkEvent::Frame(peer, frame) => frames.push((peer, frame)),
                LinkEvent::Hello(hello) => {
                    if let Err(error) = self.on_hello(registry, now, key, &hello, &mut events) {
                        result = Err(error);
                    }
                }
                LinkEvent::Refused(refusal) => self.on_refused(registry, now, key, refusal),
            }
            index += 1;
        }
        events.clear();
        self.events = events;
        match result {
            Ok(()) => {}
            Err(LinkError::Greeting(refusal)) => self.refuse(now, key, refusal),
            Err(error) => self.close(registry, now, key, &error),
        }
    }

    fn on_hello(
        &mut self,
        registry: &Registry,
        now: Instant,
        key: Key,
        hello: &Hello,
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), LinkError> {
        let Some(link) = self.link(key) else { return Ok(()) };
        if link.stage != Stage::Judging {
            return Err(LinkError::Greeting(Refusal::Malformed));
        }
        let (side, address) = (link.side, link.address);
        let newest = self.peers.boot(hello.from);
        self.identity.judge(side, hello, newest).map_err(LinkError::Greeting)?;
        if let Some(replaced) = self.peers.opened(hello.from, key, hello.boot) {
            self.remove(registry, replaced);
            info!(peer = hello.from.0, "a newer link replaces the one to this peer");
        }
        let answer = self.identity.hello(hello.from);
        let idle_us = self.idle_us;
        info!(peer = hello.from.0, %address, boot = hello.boot.counter, "peer connected");
        let Some(link) = self.link(key) else { return Ok(()) };
        if side == Side::Accepted {
            link.greet(&Greeting::Hello(answer));
        }
        link.deadline = now.plus_us(idle_us);
        link.open(hello.from, events)
    }

    /// The other side would not talk to this node.
    fn on_refused(&mut self, registry: &Registry, now: Instant, key: Key, refusal: Refusal) {
        let Some(link) = self.remove(registry, key) else { return };
        if let Some(suppressed) = self.refusals.line(now) {
            warn!(address = %link.address, reason = %refusal, suppressed, "this node was refused by a peer");
        }
        if let Some(node) = link.wanted() {
            self.peers.refused(now, node, key);
        }
    }

    /// Tells the other side why it is refused, and closes once it had time to read that.
    fn refuse(&mut self, now: Instant, key: Key, refusal: Refusal) {
        let Some(link) = self.link(key) else { return };
        let (address, node) = (link.address, link.wanted());
        link.greet(&Greeting::Refused(refusal));
        link.stage = Stage::Closing;
        link.deadline = now.plus_us(CLOSING_US);
        if let Some(suppressed) = self.refusals.line(now) {
            warn!(%address, reason = %refusal, suppressed, "refused a peer");
        }
        if let Some(node) = node {
            self.peers.refused(now, node, key);
        }
    }

    /// Ends a link.
    fn close(&mut self, registry: &Registry, now: Instant, key: Key, reason: &dyn std::fmt::Display) {
        let Some(link) = self.remove(registry, key) else { return };
        let address = link.address;
        match (link.stage, link.side) {
            (Stage::Open(peer), _) => {
                info!(peer = peer.0, %address, %reason, "link to peer closed");
                self.peers.over(now, peer, key);
            }
            (Stage::Closing, _) => debug!(%address, "refused link closed"),
            (Stage::Connecting | Stage::Greeting | Stage::Judging, Side::Dialled(peer)) => {
                self.peers.report_unreachable(now, peer, reason);
                self.peers.over(now, peer, key);
            }
            (Stage::Connecting | Stage::Greeting | Stage::Judging, Side::Accepted) => {
                if let Some(suppressed) = self.refusals.line(now) {
                    warn!(%address, %reason, suppressed, "refused a peer: no valid hello");
                }
            }
        }
    }

    fn remove(&mut self, registry: &Registry, key: Key) -> Option<Link> {
        let place = self.links.get_mut(key.index())?;
        let mut link = place.take_if(|link| link.key == key)?;
        // A socket that cannot be deregistered is closed all the same when it is dropped.
        let _ = registry.deregister(&mut link.stream);
        Some(link)
    }

    /// Queues a frame for these peers; without a link, or with a full queue, it is lost, and the protocol
    /// sends it again.
    pub(crate) fn send(&mut self, now: Instant, to: Recipients, payload: &Bytes) {
        let head = frame::head(payload);
        for node in &to {
            let queue_bytes_max = self.queue_bytes_max;
            let Some(key) = self.peers.link(node) else { continue };
            let Some(link) = self.link(key) else { continue };
            if link.queue(head, payload, queue_bytes_max) {
                continue;
            }
            let report = self.drops.line(now).is_some();
            if let Some(frames_dropped) = self.peers.dropped(node, report) {
                warn!(peer = node.0, frames_dropped, "queue to peer is full: frames dropped, to be sent again later");
            }
        }
    }

    /// Writes what the turn queued: one call per peer in the common case.
    pub(crate) fn flush(&mut self, registry: &Registry, now: Instant) {
        for index in 0..self.links.len() {
            let Some(Some(link)) = self.links.get_mut(index) else { continue };
            if let Err(error) = link.flush() {
                let key = link.key;
                self.close(registry, now, key, &error);
            }
        }
    }

    /// Reads on where the last turn left bytes in sockets.
    pub(crate) fn read_rest(&mut self, registry: &Registry, now: Instant, frames: &mut Vec<(NodeId, Bytes)>) {
        for index in 0..self.links.len() {
            if let Some(Some(link)) = self.links.get(index)
                && link.unread
            {
                let key = link.key;
                self.read(registry, now, key, frames);
            }
        }
    }

    /// Whether a socket may hold bytes that no event will announce.
    pub(crate) fn has_unread(&self) -> bool {
        self.links.iter().flatten().any(|link| link.unread)
    }

    /// Dials who is due, and gives up on links that took too long or fell silent.
    pub(crate) fn on_time(&mut self, registry: &Registry, now: Instant) {
        for index in 0..self.links.len() {
            let Some(Some(link)) = self.links.get(index) else { continue };
            if now < link.deadline {
                continue;
            }
            let reason = match link.stage {
                Stage::Connecting => "no answer",
                Stage::Greeting | Stage::Judging => "no hello in time",
                Stage::Open(_) => "silent for too long",
                Stage::Closing => "closed",
            };
            let key = link.key;
            self.close(registry, now, key, &reason);
        }
        while let Some((node, address)) = self.peers.take_due(now) {
            match address.parse() {
                Ok(address) => self.dial(registry, now, node, address),
                Err(_) => self.lookups.push((node, address)),
            }
        }
    }

    /// Host names to look up; the answers come back through `resolved`.
    pub(crate) fn take_lookups(&mut self) -> Vec<(NodeId, String)> {
        std::mem::take(&mut self.lookups)
    }

    /// A host name was looked up.
    pub(crate) fn resolved(
        &mut self,
        registry: &Registry,
        now: Instant,
        node: NodeId,
        addresses: Result<Vec<SocketAddr>, String>,
    ) {
        let draw = self.peers.draw() as usize;
        match addresses {
            // A name may stand for several addresses, of which not all need answer: now this one, now that.
            Ok(addresses) => match addresses.get(draw % addresses.len().max(1)) {
                Some(&address) => self.dial(registry, now, node, address),
                None => self.peers.dial_failed(now, node, &"its name stands for no address"),
            },
            Err(error) => self.peers.dial_failed(now, node, &error),
        }
    }

    fn dial(&mut self, registry: &Registry, now: Instant, node: NodeId, address: SocketAddr) {
        if !self.peers.is_due(node) {
            return;
        }
        let dialled = TcpStream::connect(address)
            .and_then(|stream| self.add(registry, now, stream, address, Side::Dialled(node)));
        match dialled {
            Ok(key) => self.peers.dialling(node, key),
            Err(error) => self.peers.dial_failed(now, node, &error),
        }
    }

    /// When `on_time` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let links = self.links.iter().flatten().map(|link| link.deadline);
        links.chain(self.peers.deadline()).min()
    }

    /// The peers that have an open link.
    pub(crate) fn open_peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.linked()
    }
}

/// What a socket is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side closed its half, or the connection failed: reading will tell.
    pub(crate) ending: bool,
}

impl From<&mio::event::Event> for Ready {
    fn from(event: &mio::event::Event) -> Ready {
        Ready {
            readable: event.is_readable(),
            writable: event.is_writable(),
            ending: event.is_read_closed() || event.is_error(),
        }
    }
}
