//! The links to all peers: who has one, who is dialled when, who is refused.
//!
//! The side with the higher id dials and dials again with growing, jittered pauses; the other side waits.
//! A newer link of the same peer replaces an older one, which may be half-open without this side knowing.
//! Nothing that comes over a link can make this room keep more than its bounds.

mod dialing;

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use paxos_core::{Boot, Instant, NodeId, Recipients};
use tracing::{debug, info, warn};

use crate::frame;
use crate::hello::{Greeting, Hello, Identity, Refusal, Side, dials};
use crate::peer_link::{Link, LinkError, LinkEvent, Stage};
use crate::rate_limit::{Lasting, RateLimit};
use crate::ready::Ready;
use crate::token::{Key, Source};

/// First pause before dialling again; doubles up to `REDIAL_US_MAX`. A restarted peer should not wait long
/// for those who dial it, and a connection attempt costs next to nothing.
const REDIAL_US: u64 = 20_000;
/// Longest pause before dialling again.
const REDIAL_US_MAX: u64 = 500_000;
/// Pause after a refusal, which only an operator can mend.
const REFUSED_US: u64 = 2_000_000;
/// A dial or a greeting that takes longer is given up.
const GREETING_US: u64 = 3_000_000;
/// How long the other side has to read a refusal.
const CLOSING_US: u64 = 1_000_000;
/// Most links that are not open yet; the oldest makes room. Members' own links pass through in microseconds.
const STRANGERS_MAX: usize = 32;

/// Another member.
#[derive(Debug)]
struct Peer {
    node: NodeId,
    address: String,
    contact: Contact,
    /// The newest boot it was seen with.
    boot: Option<Boot>,
    /// How often its name was looked up.
    dials: usize,
    /// Since there was a link it could not be reached.
    unreachable: Option<Lasting>,
    /// Frames that were dropped since the last line about it, because its queue was full.
    frames_dropped: u64,
}

/// How things stand with a peer.
#[derive(Clone, Copy, Debug)]
enum Contact {
    /// It dials; nothing to do but wait.
    Awaited,
    /// This side dials, at this moment.
    Resting { until: Instant, pause_us: u64 },
    /// The address is being looked up.
    Resolving { pause_us: u64 },
    /// This side dials right now.
    Dialling { key: Key, pause_us: u64 },
    /// There is a link.
    Open(Key),
}

/// Every link of this process.
#[derive(Debug)]
pub(crate) struct Links {
    identity: Identity,
    idle_us: u64,
    queue_bytes_max: usize,
    peers: Vec<Peer>,
    links: Vec<Option<Link>>,
    serial: u64,
    jitter: u64,
    refusals: RateLimit,
    failures: RateLimit,
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
        let start = Instant::from_us(0);
        let peers = addresses.into_iter().map(|(node, address)| {
            let contact = match dials(identity.node, node) {
                true => Contact::Resting { until: start, pause_us: REDIAL_US },
                false => Contact::Awaited,
            };
            Peer { node, address, contact, boot: None, dials: 0, unreachable: None, frames_dropped: 0 }
        });
        Links {
            peers: peers.collect(),
            identity,
            idle_us,
            queue_bytes_max,
            links: Vec::new(),
            serial: 0,
            jitter: seed,
            refusals: RateLimit::default(),
            failures: RateLimit::default(),
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

    fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.node == node)
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
        let newest = self.peer(hello.from).and_then(|peer| peer.boot);
        self.identity.judge(side, hello, newest).map_err(LinkError::Greeting)?;
        let answer = self.identity.hello(hello.from);
        let idle_us = self.idle_us;
        let Some(peer) = self.peer(hello.from) else { return Ok(()) };
        peer.boot = Some(hello.boot);
        peer.unreachable = None;
        let before = std::mem::replace(&mut peer.contact, Contact::Open(key));
        if let Contact::Open(old) = before {
            self.remove(registry, old);
            info!(peer = hello.from.0, "a newer link replaces the one to this peer");
        }
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
        let Some(link) = self.link(key) else { return };
        let (address, side) = (link.address, link.side);
        let peer = link.peer();
        if let Some(suppressed) = self.refusals.line(now) {
            warn!(%address, reason = %refusal, suppressed, "this node was refused by a peer");
        }
        let node = peer.or(match side {
            Side::Dialled(node) => Some(node),
            Side::Accepted => None,
        });
        self.close(registry, now, key, &"refused");
        if let Some(peer) = node.and_then(|node| self.peer(node))
            && let Contact::Resting { until, pause_us } = &mut peer.contact
        {
            (*until, *pause_us) = (now.plus_us(REFUSED_US), REDIAL_US_MAX);
        }
    }

    /// Tells the other side why it is refused, and closes once it had time to read that.
    fn refuse(&mut self, now: Instant, key: Key, refusal: Refusal) {
        let Some(link) = self.link(key) else { return };
        let address = link.address;
        let node = match (link.stage, link.side) {
            (Stage::Open(peer), _) | (_, Side::Dialled(peer)) => Some(peer),
            (_, Side::Accepted) => None,
        };
        link.greet(&Greeting::Refused(refusal));
        link.stage = Stage::Closing;
        link.deadline = now.plus_us(CLOSING_US);
        if let Some(suppressed) = self.refusals.line(now) {
            warn!(%address, reason = %refusal, suppressed, "refused a peer");
        }
        if let Some(node) = node {
            self.rest(now, node, key, Some(REFUSED_US));
        }
    }

    /// Ends a link.
    fn close(&mut self, registry: &Registry, now: Instant, key: Key, reason: &dyn std::fmt::Display) {
        let Some(link) = self.remove(registry, key) else { return };
        let address = link.address;
        match (link.stage, link.side) {
            (Stage::Open(peer), _) => {
                info!(peer = peer.0, %address, %reason, "link to peer closed");
                self.rest(now, peer, key, None);
            }
            (Stage::Closing, _) => debug!(%address, "refused link closed"),
            (Stage::Connecting | Stage::Greeting | Stage::Judging, Side::Dialled(peer)) => {
                self.report_unreachable(now, peer, reason);
                self.rest(now, peer, key, None);
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
            let Some(&Contact::Open(key)) = self.peer(node).map(|peer| &peer.contact) else { continue };
            let Some(link) = self.link(key) else { continue };
            if link.queue(head, payload, queue_bytes_max) {
                continue;
            }
            let line = self.failures.line(now);
            let Some(peer) = self.peer(node) else { continue };
            peer.frames_dropped += 1;
            if line.is_some() {
                let frames_dropped = std::mem::take(&mut peer.frames_dropped);
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

    /// When `on_time` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let links = self.links.iter().flatten().map(|link| link.deadline);
        let dials = self.peers.iter().filter_map(|peer| match peer.contact {
            Contact::Resting { until, .. } => Some(until),
            Contact::Awaited | Contact::Resolving { .. } | Contact::Dialling { .. } | Contact::Open(_) => None,
        });
        links.chain(dials).min()
    }

    /// The peers that have an open link.
    pub(crate) fn open_peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|peer| matches!(peer.contact, Contact::Open(_))).map(|peer| peer.node)
    }
}
