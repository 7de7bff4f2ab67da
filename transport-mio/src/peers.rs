//! The other members: which link each has, and when those without one are dialled again. No socket is here.

use paxos_core::{Boot, Instant, NodeId};
use tracing::info;

use crate::hello::dials;
use crate::token::Key;

/// First pause before dialling again; doubles up to `REDIAL_US_MAX`. A restarted peer should not wait long
/// for those who dial it, and a connection attempt costs next to nothing.
const REDIAL_US: u64 = 20_000;
/// Longest pause before dialling again.
const REDIAL_US_MAX: u64 = 500_000;
/// Pause after a refusal, which only an operator can mend.
const REFUSED_US: u64 = 2_000_000;
/// Between lines that say that a peer still cannot be reached.
const UNREACHABLE_US: u64 = 60_000_000;

/// Another member.
#[derive(Debug)]
struct Peer {
    node: NodeId,
    address: String,
    contact: Contact,
    /// The newest boot it was seen with.
    boot: Option<Boot>,
    /// When it was last said in the log that it cannot be reached; `None` since there was a link.
    unreachable: Option<Instant>,
    /// Frames that were dropped since the last line about it, because its queue was full.
    frames_dropped: u64,
}

/// How things stand with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Contact {
    /// It dials; nothing to do but wait.
    Awaited,
    /// This side dials, at this moment.
    Resting { until: Instant, pause_us: u64 },
    /// It is due; its address is being looked up.
    Due { pause_us: u64 },
    /// This side dials right now.
    Dialling { key: Key, pause_us: u64 },
    /// There is a link.
    Open(Key),
}

/// Every other member.
#[derive(Debug)]
pub(crate) struct Peers {
    me: NodeId,
    peers: Vec<Peer>,
    jitter: u64,
}

impl Peers {
    /// Nobody has a link; those that this side dials are due at once.
    pub(crate) fn new(me: NodeId, addresses: Vec<(NodeId, String)>, seed: u64) -> Peers {
        let peers = addresses.into_iter().map(|(node, address)| {
            let contact = match dials(me, node) {
                true => Contact::Resting { until: Instant::from_us(0), pause_us: REDIAL_US },
                false => Contact::Awaited,
            };
            Peer { node, address, contact, boot: None, unreachable: None, frames_dropped: 0 }
        });
        Peers { me, peers: peers.collect(), jitter: seed }
    }

    fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// The newest boot that this peer was seen with.
    pub(crate) fn boot(&mut self, node: NodeId) -> Option<Boot> {
        self.peer(node)?.boot
    }

    /// The link of this peer.
    pub(crate) fn link(&mut self, node: NodeId) -> Option<Key> {
        match self.peer(node)?.contact {
            Contact::Open(key) => Some(key),
            Contact::Awaited | Contact::Resting { .. } | Contact::Due { .. } | Contact::Dialling { .. } => None,
        }
    }

    /// The peers that have a link.
    pub(crate) fn linked(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|peer| matches!(peer.contact, Contact::Open(_))).map(|peer| peer.node)
    }

    /// This is the link of this peer from now on; the one it replaces, if there was one.
    pub(crate) fn opened(&mut self, node: NodeId, key: Key, boot: Boot) -> Option<Key> {
        let before = self.link(node);
        let peer = self.peer(node)?;
        (peer.boot, peer.unreachable, peer.contact) = (Some(boot), None, Contact::Open(key));
        before
    }

    /// This link or dial of the peer is over: it is dialled again after a pause, or awaited.
    pub(crate) fn over(&mut self, now: Instant, node: NodeId, key: Key) {
        let random = self.draw();
        let dials = dials(self.me, node);
        let Some(peer) = self.peer(node) else { return };
        let pause_us = match peer.contact {
            Contact::Open(current) if current == key => REDIAL_US,
            Contact::Dialling { key: current, pause_us } if current == key => pause_us,
            // A newer one took its place.
            Contact::Open(_) | Contact::Dialling { .. } => return,
            Contact::Awaited | Contact::Resting { .. } | Contact::Due { .. } => return,
        };
        peer.contact = match dials {
            false => Contact::Awaited,
            true => {
                // Half of the pause is random: two nodes that lost each other do not call in step.
                let until = now.plus_us(pause_us / 2 + random % (pause_us / 2).max(1));
                Contact::Resting { until, pause_us: pause_us.saturating_mul(2).min(REDIAL_US_MAX) }
            }
        };
    }

    /// One side refused the other: if this one dials, it lets time pass first.
    pub(crate) fn refused(&mut self, now: Instant, node: NodeId, key: Key) {
        self.over(now, node, key);
        if let Some(peer) = self.peer(node)
            && let Contact::Resting { until, pause_us } = &mut peer.contact
        {
            (*until, *pause_us) = (now.plus_us(REFUSED_US), REDIAL_US_MAX);
        }
    }

    /// The next peer to dial by now, and its address: a dial or a failure must follow.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(NodeId, String)> {
        self.peers.iter_mut().find_map(|peer| match peer.contact {
            Contact::Resting { until, pause_us } if now >= until => {
                peer.contact = Contact::Due { pause_us };
                Some((peer.node, peer.address.clone()))
            }
            Contact::Awaited | Contact::Resting { .. } | Contact::Due { .. } => None,
            Contact::Dialling { .. } | Contact::Open(_) => None,
        })
    }

    /// Whether this peer is to be dialled now.
    pub(crate) fn is_due(&mut self, node: NodeId) -> bool {
        self.peer(node).is_some_and(|peer| matches!(peer.contact, Contact::Due { .. }))
    }

    /// This side dials a peer that was due.
    pub(crate) fn dialling(&mut self, node: NodeId, key: Key) {
        if let Some(peer) = self.peer(node)
            && let Contact::Due { pause_us } = peer.contact
        {
            peer.contact = Contact::Dialling { key, pause_us };
        }
    }

    /// A peer that was due could not even be dialled.
    pub(crate) fn dial_failed(&mut self, now: Instant, node: NodeId, reason: &dyn std::fmt::Display) {
        self.report_unreachable(now, node, reason);
        if let Some(peer) = self.peer(node) {
            peer.contact = Contact::Resting { until: now.plus_us(REDIAL_US_MAX), pause_us: REDIAL_US_MAX };
        }
    }

    /// When the next peer is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let dials = self.peers.iter().filter_map(|peer| match peer.contact {
            Contact::Resting { until, .. } => Some(until),
            Contact::Awaited | Contact::Due { .. } | Contact::Dialling { .. } | Contact::Open(_) => None,
        });
        dials.min()
    }

    /// A line when a peer is missed for the first time, and now and then while that lasts.
    pub(crate) fn report_unreachable(&mut self, now: Instant, node: NodeId, reason: &dyn std::fmt::Display) {
        let Some(peer) = self.peer(node) else { return };
        if peer.unreachable.is_none_or(|reported| now.since_us(reported) >= UNREACHABLE_US) {
            peer.unreachable = Some(now);
            info!(peer = node.0, address = peer.address, %reason, "cannot reach peer; dialling on");
        }
    }

    /// Counts a frame that was dropped; how many since `report` was last true.
    pub(crate) fn dropped(&mut self, node: NodeId, report: bool) -> Option<u64> {
        let peer = self.peer(node)?;
        peer.frames_dropped += 1;
        report.then(|| std::mem::take(&mut peer.frames_dropped))
    }

    /// A number to choose among the addresses of a name.
    pub(crate) fn draw(&mut self) -> u64 {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.jitter >> 33
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [u64; 3] = [1, 2, 3];

    fn key(number: usize) -> Key {
        Key::new(number, KEYS[number])
    }

    fn peers() -> Peers {
        let addresses = [1, 3].map(|node| (NodeId(node), format!("host-{node}:1")));
        Peers::new(NodeId(2), addresses.into(), 7)
    }

    /// Dials node 1 and fails, `times` times: the moments at which it was due.
    fn failures(peers: &mut Peers, times: usize) -> Vec<u64> {
        let mut moments = Vec::new();
        for _ in 0..times {
            let due = peers.deadline().expect("node 1 is dialled");
            assert_eq!(peers.take_due(due), Some((NodeId(1), "host-1:1".into())));
            assert!(peers.is_due(NodeId(1)));
            peers.dialling(NodeId(1), key(0));
            peers.over(due, NodeId(1), key(0));
            moments.push(due.as_us());
        }
        moments
    }

    #[test]
    fn the_lower_id_is_dialled_with_growing_pauses_and_the_higher_is_awaited() {
        let mut peers = peers();
        let moments = failures(&mut peers, 12);
        assert_eq!(moments[0], 0);
        let pauses: Vec<u64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut pause = REDIAL_US;
        for found in pauses {
            assert!((pause / 2..pause).contains(&found), "{found} of {pause}");
            pause = (pause * 2).min(REDIAL_US_MAX);
        }
        // A link that was open once begins with short pauses again.
        let due = peers.deadline().expect("node 1 is dialled");
        peers.take_due(due);
        peers.dialling(NodeId(1), key(1));
        peers.opened(NodeId(1), key(1), Boot { counter: 1, nonce: 1 });
        assert_eq!(peers.deadline(), None, "nobody else is dialled");
        peers.over(due, NodeId(1), key(1));
        assert!(peers.deadline().expect("dialled again").since_us(due) < REDIAL_US);
    }

    #[test]
    fn the_end_of_a_replaced_link_changes_nothing() {
        let mut peers = peers();
        let boot = Boot { counter: 1, nonce: 1 };
        assert_eq!(peers.opened(NodeId(3), key(0), boot), None);
        assert_eq!(peers.opened(NodeId(3), key(1), boot), Some(key(0)));
        peers.over(Instant::from_us(5), NodeId(3), key(0));
        assert_eq!(peers.link(NodeId(3)), Some(key(1)));
        peers.over(Instant::from_us(5), NodeId(3), key(1));
        assert_eq!((peers.link(NodeId(3)), peers.linked().count()), (None, 0));
        assert_eq!(peers.boot(NodeId(3)), Some(boot), "its boot is remembered");
    }

    #[test]
    fn after_a_refusal_time_passes() {
        let mut peers = peers();
        let start = Instant::from_us(0);
        peers.take_due(start);
        peers.dialling(NodeId(1), key(0));
        peers.refused(start, NodeId(1), key(0));
        assert_eq!(peers.deadline(), Some(start.plus_us(REFUSED_US)));
        assert_eq!(peers.take_due(start.plus_us(REFUSED_US - 1)), None);
    }
}
