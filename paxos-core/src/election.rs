//! Who should lead: heartbeats, quorum contact, back-off, and the two policies (rules 14 and 15). All of it is
//! advice; ballots alone decide who leads.

use alloc::vec::Vec;

use crate::ballot::Ballot;
use crate::config::{Config, ElectionPolicy};
use crate::membership::Membership;
use crate::message::{Echo, Heartbeat};
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Boot, NodeId};
use crate::quorum::VoterSet;
use crate::rng::Rng;
use crate::slot::Slot;
use crate::time::Instant;

/// How often a candidate's patience doubles at the most: up to 16 election time-outs.
const PATIENCE_DOUBLINGS_MAX: u32 = 4;

/// The newest heartbeat of a peer.
#[derive(Clone, Hash, Debug)]
struct Heard {
    at: Instant,
    heartbeat: Heartbeat,
}

#[derive(Clone, Hash, Debug)]
struct Peer {
    node: NodeId,
    voter: Option<VoterSet>,
    /// The newest boot that a heartbeat came from.
    boot: Option<Boot>,
    heard: Option<Heard>,
    /// When it last claimed to lead with contact.
    claimed: Option<Instant>,
    /// When the newest of our heartbeats that the peer echoed left: a round trip ended no earlier.
    echoed: Option<Instant>,
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

#[derive(Clone, Hash, Debug)]
pub(crate) struct Election {
    policy: ElectionPolicy,
    heartbeat_us: u64,
    timeout_us: u64,
    window_slots: u64,
    run_slots: u64,
    /// How far this replica itself knows what is chosen, and how far it has applied it.
    my_first_unchosen: Slot,
    my_next_to_apply: Slot,
    /// How long its own disk took of late.
    my_disk_us: u64,
    me: NodeId,
    my_voter: Option<VoterSet>,
    peers: Vec<Peer>,
    started: Instant,
    next_heartbeat: Instant,
    followed: Option<(Ballot, NodeId)>,
    /// Since when no leader was heard; only meaningful while none is followed.
    leaderless_since: Instant,
    /// Random, drawn anew for each wait (rule 15).
    delay_us: u64,
    /// Failed campaigns in a row; each doubles the range of the delay.
    failures: u32,
    /// When a refused leader may try again above the round that refused it, and the ballot it led with.
    reclaim: Option<(Instant, Ballot)>,
    rng: Rng,
}

impl Election {
    pub(crate) fn new(config: &Config, membership: &Membership, me: NodeId, now: Instant, seed: u64) -> Election {
        let peers = membership
            .members()
            .filter(|member| member.node != me)
            .map(|member| Peer {
                node: member.node,
                voter: membership.voter(member.node),
                boot: None,
                heard: None,
                claimed: None,
                echoed: None,
            })
            .collect();
        let at_once_us = config.heartbeat_us.saturating_add(config.heartbeat_us >> 2);
        let mut election = Election {
            policy: config.election,
            heartbeat_us: config.heartbeat_us,
            timeout_us: if mutant(Mutant::CampaignAtOnce) { at_once_us } else { config.election_timeout_us },
            window_slots: u64::from(config.window_slots),
            run_slots: config.run_entries_max as u64,
            my_first_unchosen: Slot::FIRST,
            my_next_to_apply: Slot::FIRST,
            my_disk_us: 0,
            me,
            my_voter: membership.voter(me),
            peers,
            started: now,
            next_heartbeat: now,
            followed: None,
            leaderless_since: now,
            delay_us: 0,
            failures: 0,
            reclaim: None,
            rng: Rng::new(seed),
        };
        election.wait_anew(now);
        election
    }

    // --- questions ---

    pub(crate) fn followed(&self) -> Option<(Ballot, NodeId)> {
        self.followed
    }

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

    /// How long a candidate waits for promises: longer with each failure, since disks may be slower than the election
    /// time-out, and candidates that give up before can never win.
    pub(crate) fn patience_us(&self) -> u64 {
        let doubled = self.timeout_us.checked_shl(self.failures.min(PATIENCE_DOUBLINGS_MAX)).unwrap_or(u64::MAX);
        doubled.saturating_add(self.slowness_us())
    }

    /// What a disk that is slow beside the election time-out adds to a wait for the disks of others, as its own is the
    /// best guess at theirs.
    fn slowness_us(&self) -> u64 {
        let most_us = self.timeout_us.checked_shl(PATIENCE_DOUBLINGS_MAX).unwrap_or(u64::MAX);
        let twice_us = self.my_disk_us.saturating_mul(2);
        if twice_us > self.timeout_us { twice_us.min(most_us) } else { 0 }
    }

    /// Voters with whom a round trip ended within the election time-out, this replica included if it can vote.
    pub(crate) fn contact(&self, now: Instant, can_vote: bool) -> VoterSet {
        let me = if can_vote { self.my_voter.unwrap_or_default() } else { VoterSet::EMPTY };
        self.peers.iter().filter(|peer| self.is_in_contact(peer, now)).fold(me, |set, peer| match peer.voter {
            Some(voter) => set.with(voter),
            None => set,
        })
    }

    /// What to say to a peer of its newest heartbeat. A ballot below the promise is not acknowledged.
    pub(crate) fn echo_for(&self, node: NodeId, promised: Option<Ballot>) -> Option<Echo> {
        let peer = self.peers.iter().find(|peer| peer.node == node)?;
        let heartbeat = &peer.heard.as_ref()?.heartbeat;
        let leading = heartbeat.leading.filter(|ballot| promised.is_none_or(|promised| promised <= *ballot));
        Some(Echo { boot: peer.boot?, sent_us: heartbeat.sent_us, leading, round: heartbeat.round })
    }

    /// Whether a heartbeat is due to everyone.
    pub(crate) fn heartbeat_due(&self, now: Instant) -> bool {
        now >= self.next_heartbeat
    }

    pub(crate) fn next_heartbeat(&self) -> Instant {
        self.next_heartbeat
    }

    /// When the followed leader is lost, or a campaign may begin, if nothing is heard until then.
    pub(crate) fn next_change(&self) -> Instant {
        let campaign = match self.reclaim {
            Some((at, _)) => at,
            None => self.campaign_at(),
        };
        match self.followed {
            Some((_, leader)) => self.heard_at(leader).map_or(campaign, |at| at.plus_us(self.timeout_us)),
            None => campaign,
        }
    }

    fn campaign_at(&self) -> Instant {
        match self.policy {
            // Alone there is nobody to wait for.
            ElectionPolicy::Stable if self.peers.iter().all(|peer| peer.voter.is_none()) => self.leaderless_since,
            ElectionPolicy::Stable => {
                let waited = self.leaderless_since.plus_us(self.timeout_us).plus_us(self.delay_us);
                waited.plus_us(self.lag_us()).plus_us(self.slowness_us())
            }
            ElectionPolicy::HighestId => {
                let settled = self.started.plus_us(self.heartbeat_us.saturating_mul(2));
                settled.max(self.leaderless_since.plus_us(self.delay_us))
            }
        }
    }

    fn heard_at(&self, node: NodeId) -> Option<Instant> {
        self.peers.iter().find(|peer| peer.node == node)?.heard.as_ref().map(|heard| heard.at)
    }

    fn is_fresh(&self, peer: &Peer, now: Instant) -> bool {
        peer.heard.as_ref().is_some_and(|heard| now.since_us(heard.at) <= self.timeout_us)
    }

    fn is_in_contact(&self, peer: &Peer, now: Instant) -> bool {
        peer.echoed.is_some_and(|echoed| now.since_us(echoed) <= self.timeout_us)
            && peer.heard.as_ref().is_some_and(|heard| heard.heartbeat.can_vote)
    }

    /// Voters, self included, whose fresh heartbeats say that they follow nobody. Fresh is what answers a heartbeat of
    /// ours: one that was held up on its way is heard now and says whom its sender followed long ago.
    fn leaderless(&self, now: Instant) -> VoterSet {
        let me = self.my_voter.unwrap_or_default();
        let fresh = self.peers.iter().filter(|peer| self.is_fresh(peer, now) && self.is_in_contact(peer, now));
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

    /// Whether to campaign now (`membership` rules every slot in the window).
    pub(crate) fn wants_campaign(&self, now: Instant, can_vote: bool, membership: &Membership) -> bool {
        // Under `highest-id` a lower leader that is followed does not hold the highest back.
        let bound = self.followed.is_some_and(|(_, leader)| match self.policy {
            ElectionPolicy::Stable => true,
            ElectionPolicy::HighestId => leader > self.me,
        });
        if self.my_voter.is_none() || bound || !can_vote {
            return false;
        }
        let contact = self.contact(now, can_vote);
        if !membership.is_phase1_quorum(contact) || !membership.is_phase2_quorum(contact) {
            return false;
        }
        if let Some((at, led)) = self.reclaim {
            return now >= at && !self.hears_above(led, now);
        }
        if now < self.campaign_at() {
            return false;
        }
        match self.policy {
            ElectionPolicy::Stable => membership.is_phase1_quorum(self.leaderless(now)),
            ElectionPolicy::HighestId => !self.higher_id_alive(now),
        }
    }

    /// Whether any fresh heartbeat leads with or follows a ballot above this one.
    fn hears_above(&self, ballot: Ballot, now: Instant) -> bool {
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

    /// Heartbeats left to everyone.
    pub(crate) fn heartbeat_sent(&mut self, now: Instant) {
        self.next_heartbeat = now.plus_us(self.heartbeat_us);
    }

    /// Looks again for whom to follow; true if that changed.
    pub(crate) fn follow_best(&mut self, now: Instant) -> bool {
        let best = self.best_leader(now);
        if best == self.followed {
            return false;
        }
        match (self.followed, best) {
            // The wait counts from the last word of the lost leader as a leader: it may have been started anew since.
            (Some((_, lost)), None) => {
                let claimed = self.peers.iter().find(|peer| peer.node == lost).and_then(|peer| peer.claimed);
                self.wait_anew(claimed.unwrap_or(now));
            }
            (_, Some(_)) => {
                self.failures = 0;
                self.reclaim = None;
            }
            (None, None) => {}
        }
        self.followed = best;
        true
    }

    /// Follows nobody: campaigns or leads itself.
    pub(crate) fn follow_nobody(&mut self) {
        self.followed = None;
        self.reclaim = None;
    }

    /// Waits for a leader from `since` on, with a delay drawn anew.
    fn wait_anew(&mut self, since: Instant) {
        self.leaderless_since = since;
        let range = match self.policy {
            ElectionPolicy::Stable => (self.timeout_us >> 2).checked_shl(self.failures.min(6)).unwrap_or(u64::MAX),
            ElectionPolicy::HighestId => 0,
        };
        let fixed = match self.policy {
            ElectionPolicy::Stable => 0,
            // Deterministic: every failure waits one interval more, up to eight.
            ElectionPolicy::HighestId => self.heartbeat_us.saturating_mul(u64::from(self.failures.min(8))),
        };
        self.delay_us = self.rng.up_to(range).saturating_add(fixed);
    }

    /// A replica that would have to catch up before it could serve lets others go first: advice only, since phase
    /// 1 brings the log. What it has not applied counts like what it does not know, for it could answer nobody: a
    /// replica that was started a moment ago knows what is chosen from its disk long before it has applied it.
    fn lag_us(&self) -> u64 {
        let heard = self.peers.iter().filter_map(|peer| Some(peer.heard.as_ref()?.heartbeat.first_unchosen)).max();
        let furthest = heard.unwrap_or(self.my_first_unchosen).max(self.my_first_unchosen);
        let unknown = furthest.since(self.my_first_unchosen) > self.window_slots;
        let unapplied = self.my_first_unchosen.since(self.my_next_to_apply) > self.run_slots;
        if unknown || unapplied { self.timeout_us } else { 0 }
    }

    /// How far this replica itself is; it only weighs in how long it lets others go first.
    pub(crate) fn note_progress(&mut self, first_unchosen: Slot, next_to_apply: Slot) {
        self.my_first_unchosen = first_unchosen;
        self.my_next_to_apply = next_to_apply;
    }

    /// How long its own disk took of late.
    pub(crate) fn note_disk(&mut self, us: u64) {
        self.my_disk_us = us;
    }

    /// It promised a candidate: now that one is waited for like a leader, since a higher ballot would only spoil it.
    pub(crate) fn on_promised(&mut self, now: Instant) {
        if self.followed.is_none() && self.policy == ElectionPolicy::Stable {
            self.leaderless_since = now;
        }
    }

    /// A campaign or a leadership ended because of a higher ballot, or without an answer.
    pub(crate) fn on_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.wait_anew(now);
    }

    /// A refused leader tries again soon, above the round that refused it, unless it hears of a better one.
    pub(crate) fn on_leader_refused(&mut self, led: Ballot, now: Instant) {
        self.on_failure(now);
        if self.policy == ElectionPolicy::HighestId {
            return; // its waits are deterministic, and nobody else tries
        }
        let range = self.heartbeat_us.checked_shl(self.failures.min(6)).unwrap_or(u64::MAX);
        let delay_us = self.rng.up_to(range);
        self.reclaim = Some((now.plus_us(delay_us), led));
    }

    /// A reclaim whose moment came and whose conditions do not hold is over: wait like a follower.
    pub(crate) fn drop_stale_reclaim(&mut self, now: Instant) {
        if self.reclaim.is_some_and(|(at, _)| now >= at) {
            self.reclaim = None;
        }
    }

    /// Leadership ended for lack of contact, or was given away.
    pub(crate) fn on_leadership_ended(&mut self, now: Instant) {
        self.wait_anew(now);
    }

    /// A campaign was won.
    pub(crate) fn on_won(&mut self) {
        self.failures >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Member;
    use crate::node_id::Incarnation;
    use crate::quorum::QuorumSystem;

    /// Three voters; the first one follows nobody, and neither does the second, whose heartbeats come.
    fn leaderless(first_unchosen: Slot, next_to_apply: Slot) -> (Election, Membership) {
        let member = |node| Member { node: NodeId(node), incarnation: Incarnation(1), generation: 0 };
        let membership = Membership::new((1..=3).map(member).collect(), Vec::new(), QuorumSystem::Majority);
        let membership = membership.expect("three voters");
        let mut election = Election::new(&Config::default(), &membership, NodeId(1), Instant::from_us(0), 1);
        election.note_progress(first_unchosen, next_to_apply);
        (election, membership)
    }

    fn hear(election: &mut Election, at_us: u64, first_unchosen: Slot) {
        let boot = |counter| Boot { counter, nonce: 1 };
        let heartbeat = Heartbeat {
            leading: None,
            following: None,
            contact: true,
            can_vote: true,
            prefix: first_unchosen,
            first_unchosen,
            room: 1,
            round: 0,
            sent_us: at_us,
            echo: Some(Echo { boot: boot(1), sent_us: at_us, leading: None, round: 0 }),
        };
        election.on_heartbeat(NodeId(2), boot(7), heartbeat, boot(1), Instant::from_us(at_us));
    }

    /// When it campaigns, in heartbeat intervals; how far the peer is.
    fn campaigns_after(first_unchosen: u64, next_to_apply: u64, peer: u64) -> u64 {
        let slot = |number| Slot::FIRST.plus(number);
        let (mut election, membership) = leaderless(slot(first_unchosen), slot(next_to_apply));
        for intervals in 1..100 {
            let at_us = intervals * Config::default().heartbeat_us;
            hear(&mut election, at_us, slot(peer));
            if election.wants_campaign(Instant::from_us(at_us), true, &membership) {
                return intervals;
            }
        }
        100
    }

    #[test]
    fn who_lags_lets_others_go_first_whether_it_knows_or_has_applied_too_little() {
        let timeout = Config::default().election_timeout_us / Config::default().heartbeat_us;
        let current = campaigns_after(9_000, 9_000, 9_000);
        assert!(current <= timeout + 2, "{current}");
        // A little behind is no reason to wait; a window in what it knows or a run in what it applied is, for one
        // time-out more.
        let cases = [(8_000, 8_000, 0), (4_000, 4_000, timeout), (9_000, 7_000, timeout), (9_000, 8_000, 0)];
        for (first_unchosen, next_to_apply, more) in cases {
            let after = campaigns_after(first_unchosen, next_to_apply, 9_000);
            assert_eq!(after, current + more, "first_unchosen {first_unchosen}, next_to_apply {next_to_apply}");
        }
    }

    /// A cut link that is mended delivers what it held: of one peer what it said when it had just lost the leader, of
    /// another what it says now, that it follows one. Together they are no reason to depose that one.
    #[test]
    fn a_heartbeat_that_was_held_up_is_no_fresh_word_of_following_nobody() {
        let (mut election, membership) = leaderless(Slot::FIRST, Slot::FIRST);
        let boot = |counter| Boot { counter, nonce: 1 };
        let healthy = Ballot { round: 2, node: NodeId(3), generation: 0 };
        let timeout_us = Config::default().election_timeout_us;
        for number in 1..100 {
            let now_us = 10 * timeout_us + number * Config::default().heartbeat_us;
            let now = Instant::from_us(now_us);
            let heartbeat = |following, sent_us, echoed_us| Heartbeat {
                leading: None,
                following,
                contact: true,
                can_vote: true,
                prefix: Slot::FIRST,
                first_unchosen: Slot::FIRST,
                room: 1,
                round: 0,
                sent_us,
                echo: Some(Echo { boot: boot(1), sent_us: echoed_us, leading: None, round: 0 }),
            };
            election.on_heartbeat(NodeId(2), boot(7), heartbeat(Some(healthy), now_us, now_us), boot(1), now);
            election.on_heartbeat(NodeId(3), boot(8), heartbeat(None, number, number), boot(1), now);
            election.follow_best(now);
            assert!(!election.wants_campaign(now, true, &membership), "heartbeat {number}");
        }
    }
}
