//! Who should lead: heartbeats, quorum contact, back-off, and the two policies (rules 14 and 15). All of it is
//! advice; ballots alone decide who leads.

mod peers;

use alloc::vec::Vec;

use crate::ballot::Ballot;
use crate::config::{Config, ElectionPolicy};
use crate::membership::Membership;
use crate::mutants::{Mutant, mutant};
use crate::node_id::NodeId;
use crate::quorum::VoterSet;
use crate::rng::Rng;
use crate::slot::Slot;
use crate::time::Instant;
pub(crate) use peers::Heartbeating;
use peers::Peer;

/// How often a candidate's patience doubles at the most: up to 16 election time-outs.
const PATIENCE_DOUBLINGS_MAX: u32 = 4;

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
    /// Whether it lacked the contact to campaign when it last looked, and, once that is back, how long it leaves others
    /// alone.
    apart: bool,
    not_before: Instant,
    /// Since when a leader sees no quorum that can vote.
    barren_since: Option<Instant>,
    /// Since when another says besides that it does.
    outdone_since: Option<Instant>,
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
            apart: false,
            not_before: now,
            barren_since: None,
            outdone_since: None,
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
                waited.plus_us(self.lag_us()).plus_us(self.slowness_us()).max(self.not_before)
            }
            ElectionPolicy::HighestId => {
                let settled = self.started.plus_us(self.heartbeat_us.saturating_mul(2));
                settled.max(self.leaderless_since.plus_us(self.delay_us))
            }
        }
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
        if !self.could_lead(now, can_vote, membership) {
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
            // Who serves is left to serve until this replica has caught up and could do so itself.
            ElectionPolicy::HighestId if self.followed.is_some() && self.lags() => false,
            ElectionPolicy::HighestId => !self.higher_id_alive(now),
        }
    }

    /// Whether the voters in contact can make it a leader now and choose what it proposes.
    pub(crate) fn could_lead(&self, now: Instant, can_vote: bool, membership: &Membership) -> bool {
        let electors = self.electors(now, can_vote);
        membership.is_phase1_quorum(electors) && membership.is_phase2_quorum(electors)
    }

    /// What of it has consequences while the clock stands still: moments, delays and failures only say when something is
    /// due. What peers say of leaders counts again when the next heartbeat is heard, what they echo when reads wait.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(
        &self,
        now: Instant,
        ahead: crate::replica::Ahead,
        state: &mut H,
    ) {
        use core::hash::Hash;
        self.followed.hash(state);
        for peer in &self.peers {
            let heard = peer.heard.as_ref().map(|heard| &heard.heartbeat);
            (peer.boot, heard.map(|heartbeat| (heartbeat.first_unchosen, heartbeat.room))).hash(state);
            if ahead.heartbeats || ahead.reads {
                let said = heard.map(|heartbeat| (heartbeat.leading, heartbeat.contact, heartbeat.can_vote));
                (said, peer.echoed, self.reclaim).hash(state);
            }
            if ahead.reads {
                heard.map(|heartbeat| (heartbeat.round, heartbeat.sent_us, heartbeat.echo)).hash(state);
            }
        }
        if ahead.reads {
            self.heartbeat_due(now).hash(state);
        }
    }

    // --- what happened ---

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
        if self.lags() { self.timeout_us } else { 0 }
    }

    fn lags(&self) -> bool {
        let heard = self.peers.iter().filter_map(|peer| Some(peer.heard.as_ref()?.heartbeat.first_unchosen)).max();
        let furthest = heard.unwrap_or(self.my_first_unchosen).max(self.my_first_unchosen);
        let unknown = furthest.since(self.my_first_unchosen) > self.window_slots;
        let unapplied = self.my_first_unchosen.since(self.my_next_to_apply) > self.run_slots;
        unknown || unapplied
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

    /// Looks whether it is in contact. Contact returns to all at the same moment, and whose waits ended before would all
    /// campaign then: each waits a delay of its own first (rule 15).
    pub(crate) fn note_contact(&mut self, now: Instant, can_vote: bool, membership: &Membership) {
        let apart = !self.could_lead(now, can_vote, membership);
        if self.apart && !apart && self.policy == ElectionPolicy::Stable {
            let range_us = (self.timeout_us >> 2).saturating_add(1);
            self.not_before = now.plus_us(self.delay_us.checked_rem(range_us).unwrap_or(0));
        }
        self.apart = apart;
    }

    /// Whether a leader should give way since no quorum that it sees can vote. While the disks of all stall nobody could
    /// do better, and it stays: for long, but not for ever, as there may be one that it does not hear. Who says it could
    /// do better is believed when it has said so for a time-out: disks that stalled together answer one by one.
    pub(crate) fn is_barren(&mut self, now: Instant, can_vote: bool, membership: &Membership) -> bool {
        if membership.is_phase2_quorum(self.electors(now, can_vote)) {
            (self.barren_since, self.outdone_since) = (None, None);
            return false;
        }
        if !self.another_could_lead(now) {
            self.outdone_since = None;
        } else if self.outdone_since.is_none() {
            self.outdone_since = Some(now);
        }
        let barren_us = now.since_us(*self.barren_since.get_or_insert(now));
        let longest_us = self.timeout_us.checked_shl(PATIENCE_DOUBLINGS_MAX).unwrap_or(u64::MAX);
        barren_us > longest_us || self.outdone_since.is_some_and(|since| now.since_us(since) > self.timeout_us)
    }

    /// Leadership ended for lack of contact, or was given away.
    pub(crate) fn on_leadership_ended(&mut self, now: Instant) {
        self.wait_anew(now);
    }

    /// A campaign was won.
    pub(crate) fn on_won(&mut self) {
        (self.barren_since, self.outdone_since) = (None, None);
        self.failures >>= 1;
    }
}

#[cfg(test)]
mod tests;
