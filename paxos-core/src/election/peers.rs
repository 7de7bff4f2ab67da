//! What peers said of late: the newest heartbeat of each, and what can be asked of all of them together.

use crate::ballot::Ballot;
use crate::membership::Membership;
use crate::message::{Echo, Heartbeat};
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Boot, NodeId};
use crate::quorum::VoterSet;
use crate::slot::Slot;
use crate::time::Instant;

use super::Election;

/// The newest heartbeat of a peer.
#[derive(Clone, Hash, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) heartbeat: Heartbeat,
}

#[derive(Clone, Hash, Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) voter: Option<VoterSet>,
    /// The newest boot that a heartbeat came from.
    pub(super) boot: Option<Boot>,
    pub(super) heard: Option<Heard>,
    /// When it last claimed to lead with contact.
    pub(super) claimed: Option<Instant>,
    /// When the newest of our heartbeats that the peer echoed left: a round trip ended no earlier.
    pub(super) echoed: Option<Instant>,
}

/// What a heartbeat was good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heartbeating {
    /// Newer than every one before from this peer.
    Fresh {
        /// The peer was started anew since the last one.
        rebooted: bool,
        /// It asks for a read round not asked for before.
        asks: bool,
    },
    /// Late, repeated, or of an older boot.
    Stale,
}

impl Election {
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().map(|peer| peer.node)
    }

    /// Whether this peer's heartbeats still come.
    pub(crate) fn is_heard(&self, node: NodeId, now: Instant) -> bool {
        self.peers.iter().any(|peer| peer.node == node && self.is_fresh(peer, now))
    }

    /// Durable first_unchosen and room that the peer's newest heartbeat reported.
    pub(crate) fn reported(&self, node: NodeId) -> Option<(Slot, u32)> {
        let heard = self.peers.iter().find(|peer| peer.node == node)?.heard.as_ref()?;
        Some((heard.heartbeat.first_unchosen, heard.heartbeat.room))
    }

    /// Whether this is the boot that the peer's heartbeats come from: reports of another one are stale (rule 18).
    pub(crate) fn is_current(&self, node: NodeId, boot: Boot) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.boot == Some(boot))
    }

    /// The highest read round of this ballot that a phase-2 quorum echoed, this replica's own acceptor included.
    pub(crate) fn echoed_round(&self, ballot: Ballot, my_boot: Boot, newest: u64, membership: &Membership) -> u64 {
        let me = self.my_voter.unwrap_or_default();
        if membership.is_phase2_quorum(me) || mutant(Mutant::ReadWithoutRound) {
            return newest;
        }
        let echoed_by = |peer: &Peer| {
            let echo = peer.heard.as_ref()?.heartbeat.echo?;
            (echo.boot == my_boot && echo.leading == Some(ballot)).then_some(echo.round)
        };
        let reached = |round: u64| {
            let echoing = self.peers.iter().filter(|peer| echoed_by(peer).is_some_and(|echoed| echoed >= round));
            membership.is_phase2_quorum(echoing.fold(me, |set, peer| set.with(peer.voter.unwrap_or_default())))
        };
        self.peers.iter().filter_map(echoed_by).filter(|round| reached(*round)).max().unwrap_or(0)
    }

    /// The peers that are heard and know more slots chosen than these, and how far each is; by rising id.
    pub(crate) fn teachers(&self, first_unchosen: Slot, now: Instant) -> impl Iterator<Item = (NodeId, Slot)> + Clone {
        let fresh = self.peers.iter().filter(move |peer| self.is_fresh(peer, now));
        let known = fresh.filter_map(|peer| Some((peer.node, peer.heard.as_ref()?.heartbeat.first_unchosen)));
        known.filter(move |(_, known)| *known > first_unchosen)
    }

    /// Voters with whom a round trip ended within the election time-out, this replica included. Whether their disks
    /// answer is not asked: a leader whose reads they confirm needs none, and `is_barren` looks at the rest.
    pub(crate) fn contact(&self, now: Instant) -> VoterSet {
        let me = self.my_voter.unwrap_or_default();
        let voters = self.peers.iter().filter(|peer| self.is_in_contact(peer, now)).filter_map(|peer| peer.voter);
        voters.fold(me, VoterSet::with)
    }

    /// Those of them who could vote at once, this replica included if it can.
    pub(super) fn electors(&self, now: Instant, can_vote: bool) -> VoterSet {
        let me = if can_vote { self.my_voter.unwrap_or_default() } else { VoterSet::EMPTY };
        let voters = self.peers.iter().filter(|peer| self.is_elector(peer, now)).filter_map(|peer| peer.voter);
        voters.fold(me, VoterSet::with)
    }

    /// What to say to a peer of its newest heartbeat. A ballot below the promise is not acknowledged.
    pub(crate) fn echo_for(&self, node: NodeId, promised: Option<Ballot>) -> Option<Echo> {
        let peer = self.peers.iter().find(|peer| peer.node == node)?;
        let heartbeat = &peer.heard.as_ref()?.heartbeat;
        let leading = heartbeat.leading.filter(|ballot| promised.is_none_or(|promised| promised <= *ballot));
        Some(Echo { boot: peer.boot?, sent_us: heartbeat.sent_us, leading, round: heartbeat.round })
    }

    pub(super) fn heard_at(&self, node: NodeId) -> Option<Instant> {
        self.peers.iter().find(|peer| peer.node == node)?.heard.as_ref().map(|heard| heard.at)
    }

    fn is_fresh(&self, peer: &Peer, now: Instant) -> bool {
        peer.heard.as_ref().is_some_and(|heard| now.since_us(heard.at) <= self.timeout_us)
    }

    fn is_in_contact(&self, peer: &Peer, now: Instant) -> bool {
        peer.echoed.is_some_and(|echoed| now.since_us(echoed) <= self.timeout_us)
    }

    fn is_elector(&self, peer: &Peer, now: Instant) -> bool {
        self.is_in_contact(peer, now) && peer.heard.as_ref().is_some_and(|heard| heard.heartbeat.can_vote)
    }

    /// Voters, self included, whose fresh heartbeats say that they follow nobody. Fresh is what answers a heartbeat of
    /// ours: one that was held up on its way is heard now and says whom its sender followed long ago.
    pub(super) fn leaderless(&self, now: Instant) -> VoterSet {
        let me = self.my_voter.unwrap_or_default();
        let fresh = self.peers.iter().filter(|peer| self.is_fresh(peer, now) && self.is_elector(peer, now));
        fresh.fold(me, |set, peer| {
            let follows = peer
                .heard
                .as_ref()
                .is_some_and(|heard| heard.heartbeat.following.is_some() || heard.heartbeat.leading.is_some());
            match peer.voter {
                Some(voter) if !follows => set.with(voter),
                Some(_) | None => set,
            }
        })
    }

    /// Whether this peer is a voter that could vote at once.
    pub(crate) fn is_able(&self, node: NodeId, now: Instant) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.voter.is_some() && self.is_elector(peer, now))
    }

    /// Of the voters that could vote at once, the one that knows most slots chosen.
    pub(crate) fn ablest(&self, now: Instant) -> Option<NodeId> {
        let able = self.peers.iter().filter(|peer| peer.voter.is_some() && self.is_elector(peer, now));
        let known = able.filter_map(|peer| Some((peer.heard.as_ref()?.heartbeat.first_unchosen, peer.node)));
        known.max().map(|(_, node)| node)
    }

    /// Whether a voter that leads nobody says that it could: a quorum that can vote is in contact with it.
    pub(super) fn another_could_lead(&self, now: Instant) -> bool {
        self.peers.iter().filter(|peer| peer.voter.is_some() && self.is_fresh(peer, now)).any(|peer| {
            peer.heard.as_ref().is_some_and(|heard| heard.heartbeat.leading.is_none() && heard.heartbeat.contact)
        })
    }

    /// The highest ballot that a fresh sender with contact claims to lead with.
    pub(crate) fn best_leader(&self, now: Instant) -> Option<(Ballot, NodeId)> {
        let fresh = self.peers.iter().filter(|peer| self.is_fresh(peer, now));
        fresh
            .filter_map(|peer| {
                let heartbeat = &peer.heard.as_ref()?.heartbeat;
                heartbeat.leading.filter(|_| heartbeat.contact).map(|ballot| (ballot, peer.node))
            })
            .max()
    }

    /// Whether a voter with a higher id was heard within two heartbeat intervals (the lecture's rule).
    pub(crate) fn higher_id_alive(&self, now: Instant) -> bool {
        let recent_us = self.heartbeat_us.saturating_mul(2);
        self.peers.iter().any(|peer| {
            peer.voter.is_some()
                && peer.node > self.me
                && peer.heard.as_ref().is_some_and(|heard| now.since_us(heard.at) <= recent_us)
        })
    }

    /// Whether any fresh heartbeat leads with or follows a ballot above this one.
    pub(super) fn hears_above(&self, ballot: Ballot, now: Instant) -> bool {
        self.peers.iter().filter(|peer| self.is_fresh(peer, now)).any(|peer| {
            peer.heard.as_ref().is_some_and(|heard| {
                let (leading, following) = (heard.heartbeat.leading, heard.heartbeat.following);
                leading.is_some_and(|above| above > ballot) || following.is_some_and(|above| above > ballot)
            })
        })
    }

    // --- what happened ---

    /// Takes a peer's heartbeat. Evidence of an older boot, or older than what was heard, is stale (rule 18).
    pub(crate) fn on_heartbeat(
        &mut self,
        from: NodeId,
        boot: Boot,
        heartbeat: Heartbeat,
        my_boot: Boot,
        now: Instant,
    ) -> Heartbeating {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == from) else { return Heartbeating::Stale };
        let rebooted = peer.boot != Some(boot);
        if rebooted && peer.boot.is_some_and(|known| boot.counter <= known.counter) {
            return Heartbeating::Stale;
        }
        let before = peer.heard.as_ref().filter(|_| !rebooted).map(|heard| &heard.heartbeat);
        if before.is_some_and(|before| heartbeat.sent_us < before.sent_us) {
            return Heartbeating::Stale;
        }
        if rebooted {
            peer.echoed = None;
        }
        if let Some(echo) = heartbeat.echo
            && echo.boot == my_boot
            && echo.sent_us <= now.as_us()
        {
            peer.echoed = peer.echoed.max(Some(Instant::from_us(echo.sent_us)));
        }
        let asks = heartbeat.leading.is_some()
            && heartbeat.round > 0
            && before.is_none_or(|before| before.round < heartbeat.round || before.leading != heartbeat.leading);
        if heartbeat.leading.is_some() && heartbeat.contact {
            peer.claimed = Some(now);
        }
        peer.boot = Some(boot);
        peer.heard = Some(Heard { at: now, heartbeat });
        Heartbeating::Fresh { rebooted, asks }
    }
}
