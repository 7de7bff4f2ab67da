//! Who is dialled when: pauses that grow, names that have to be looked up, links that take too long.

use super::*;

impl Links {
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
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers.get_mut(index) else { continue };
            let Contact::Resting { until, pause_us } = peer.contact else { continue };
            if now < until {
                continue;
            }
            peer.contact = Contact::Resolving { pause_us };
            let node = peer.node;
            match peer.address.parse() {
                Ok(address) => self.dial(registry, now, node, address),
                Err(_) => self.lookups.push((node, peer.address.clone())),
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
        let Some(peer) = self.peer(node) else { return };
        // A name may stand for several addresses, of which not all need answer: take turns.
        peer.dials = peer.dials.wrapping_add(1);
        let turn = peer.dials;
        match addresses {
            Ok(addresses) => match addresses.get(turn % addresses.len().max(1)) {
                Some(&address) => self.dial(registry, now, node, address),
                None => self.dial_failed(now, node, &"its name stands for no address"),
            },
            Err(error) => self.dial_failed(now, node, &error),
        }
    }

    pub(super) fn dial(&mut self, registry: &Registry, now: Instant, node: NodeId, address: SocketAddr) {
        let Some(&Contact::Resolving { pause_us }) = self.peer(node).map(|peer| &peer.contact) else { return };
        let dialled = TcpStream::connect(address)
            .and_then(|stream| self.add(registry, now, stream, address, Side::Dialled(node)));
        match dialled {
            Ok(key) => {
                if let Some(peer) = self.peer(node) {
                    peer.contact = Contact::Dialling { key, pause_us };
                }
            }
            Err(error) => self.dial_failed(now, node, &error),
        }
    }

    pub(super) fn dial_failed(&mut self, now: Instant, node: NodeId, error: &dyn std::fmt::Display) {
        self.report_unreachable(now, node, error);
        if let Some(peer) = self.peer(node) {
            peer.contact = Contact::Resting { until: now.plus_us(REDIAL_US_MAX), pause_us: REDIAL_US_MAX };
        }
    }

    /// The link is gone: the peer is to be dialled again, or awaited.
    pub(super) fn rest(&mut self, now: Instant, node: NodeId, key: Key, pause_at_least_us: Option<u64>) {
        let dials = dials(self.identity.node, node);
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = self.jitter >> 33;
        let Some(peer) = self.peer(node) else { return };
        let pause_us = match peer.contact {
            Contact::Open(current) if current == key => REDIAL_US,
            Contact::Dialling { key: current, pause_us } if current == key => pause_us,
            Contact::Open(_) | Contact::Dialling { .. } | Contact::Awaited => return,
            Contact::Resting { .. } | Contact::Resolving { .. } => return,
        };
        peer.contact = match dials {
            false => Contact::Awaited,
            true => {
                let pause = pause_at_least_us.unwrap_or(pause_us);
                let until = now.plus_us(pause / 2 + random % (pause / 2).max(1));
                Contact::Resting { until, pause_us: pause_us.saturating_mul(2).min(REDIAL_US_MAX) }
            }
        };
    }

    /// A line when a peer is missed for the first time, and ever more rarely while that lasts.
    pub(super) fn report_unreachable(&mut self, now: Instant, node: NodeId, reason: &dyn std::fmt::Display) {
        let Some(peer) = self.peer(node) else { return };
        if Lasting::line(&mut peer.unreachable, now) {
            info!(peer = node.0, address = peer.address, %reason, "cannot reach peer; dialling on");
        }
    }
}
