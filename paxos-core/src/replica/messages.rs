//! What peers say: checked for sender and sense, then carried to the role that it is for.

use alloc::vec::Vec;

use super::Replica;
use crate::acceptor::Outvoted;
use crate::action::{Action, RoleReason};
use crate::ballot::Ballot;
use crate::election::Heartbeating;
use crate::limits::ROUND_LEAP_MAX;
use crate::message::{Accept, Accepted, Body, Header, Heartbeat, Promise, Refused, Success};
use crate::mutants::{Mutant, mutant, rebind};
use crate::node_id::{Boot, NodeId};
use crate::outbox::Outbox;
use crate::proposer::{Heard, Proposer, Report};
use crate::slot::{Slot, SlotRange};

impl Replica {
    #[inline(always)]
    pub(super) fn on_message(&mut self, header: &Header, body: &Body, actions: &mut Vec<Action>) {
        if !self.is_member(header) {
            self.stats.messages_foreign = self.stats.messages_foreign.saturating_add(1);
            return;
        }
        let promised_round = self.acceptor.promised().map_or(0, |ballot| ballot.round);
        let horizon = self.round_seen.max(promised_round).saturating_add(ROUND_LEAP_MAX);
        if highest_round(body) > horizon && !mutant(Mutant::AbsurdRoundBelieved) {
            self.stats.messages_absurd = self.stats.messages_absurd.saturating_add(1);
            return;
        }
        let (from, boot) = (header.from, header.boot);
        match body {
            Body::Prepare(prepare) => {
                let before = self.acceptor.promised();
                self.acceptor.on_prepare(from, boot, prepare, outbox!(self, actions));
                if self.acceptor.promised() > before {
                    self.election.on_promised(self.now);
                }
            }
            Body::Promise(promise) => self.on_promise(from, boot, promise),
            Body::Refused(refused) => self.on_refused(refused, actions),
            Body::Accept(accept) => self.on_accept(from, boot, accept, actions),
            Body::Accepted(accepted) => self.on_accepted(from, boot, accepted),
            Body::Success(success) => self.on_success(from, success, actions),
            Body::SuccessReply(reply) => self.on_report(from, boot, reply.first_unchosen, reply.room),
            Body::Heartbeat(heartbeat) => self.on_heartbeat(from, boot, heartbeat, actions),
            Body::Fetch(fetch) => {
                let promised = self.acceptor.promised();
                let out = outbox!(self, actions);
                self.catch_up.on_fetch(from, fetch, &self.log, promised, &self.config, out);
            }
            Body::HandOver(hand_over) => {
                // Only the word of the leader that is followed: then without waiting (rule 14).
                if self.election.followed() == Some((hand_over.ballot, from)) && self.voter.is_some() {
                    self.campaign(RoleReason::HandOver, actions);
                }
            }
        }
    }

    pub(super) fn is_member(&self, header: &Header) -> bool {
        let member = self.genesis.membership().member(header.from);
        let known = member.is_some_and(|member| member.incarnation == header.incarnation);
        known && header.cluster == self.header.cluster && header.from != self.header.from
    }

    #[inline(never)]
    pub(super) fn on_promise(&mut self, from: NodeId, boot: Boot, promise: &Promise) {
        if promise.asker_boot != self.header.boot {
            self.stats.messages_stale = self.stats.messages_stale.saturating_add(1);
            return;
        }
        let (Some(voter), Proposer::Preparing(preparing)) = (self.genesis.membership().voter(from), &mut self.proposer)
        else {
            if mutant(Mutant::LatePromiseRebinds) {
                rebind(&mut self.log, promise);
            }
            return; // a promise that comes late changes nothing that is bound
        };
        match preparing.on_promise(from, voter, boot, promise) {
            Heard::Joined => {}
            Heard::Stale => self.stats.messages_stale = self.stats.messages_stale.saturating_add(1),
            Heard::Malformed => self.stats.messages_malformed = self.stats.messages_malformed.saturating_add(1),
        }
    }

    #[inline(never)]
    pub(super) fn on_refused(&mut self, refused: &Refused, actions: &mut Vec<Action>) {
        if refused.asker_boot != self.header.boot || refused.promised <= refused.ballot {
            self.stats.messages_stale = self.stats.messages_stale.saturating_add(1);
            return;
        }
        self.round_seen = self.round_seen.max(refused.promised.round);
        if self.proposer.ballot() == Some(refused.ballot) {
            self.stats.refusals = self.stats.refusals.saturating_add(1);
            self.step_down(RoleReason::Refused, actions);
        }
    }

    #[inline(never)]
    pub(super) fn on_accept(&mut self, from: NodeId, boot: Boot, accept: &Accept, actions: &mut Vec<Action>) {
        let (ballot, prefix) = (accept.ballot, accept.prefix);
        let slots = SlotRange::of(accept.first, accept.entries.len());
        let out = outbox!(self, actions);
        if self.acceptor.on_accept(from, boot, accept, &mut self.log, &mut self.stats, out) == Err(Outvoted) {
            return;
        }
        self.learner.on_accepted_below_prefix(ballot, slots, &mut self.log, &mut self.stats);
        self.learner.on_prefix(ballot, prefix, &mut self.log, &mut self.stats);
    }

    #[inline(never)]
    pub(super) fn on_accepted(&mut self, from: NodeId, boot: Boot, accepted: &Accepted) {
        // A vote of an earlier boot is still a vote; its report is not (rule 18).
        let report = if self.election.is_current(from, boot) { Report::Current } else { Report::Stale };
        if report == Report::Stale {
            self.stats.messages_stale = self.stats.messages_stale.saturating_add(1);
        }
        if let Proposer::Leading(leading) = &mut self.proposer
            && let Some(place) = leading.place_of(from)
        {
            let chosen = leading.on_peer_votes(place, accepted, self.genesis.membership(), &mut self.log);
            self.stats.slots_chosen = self.stats.slots_chosen.saturating_add(chosen);
            leading.on_peer_progress(place, accepted, report, self.now, &self.config);
        }
    }

    #[inline(never)]
    pub(super) fn on_success(&mut self, from: NodeId, success: &Success, actions: &mut Vec<Action>) {
        let slots = SlotRange::of(success.first, success.entries.len());
        if let Proposer::Leading(leading) = &self.proposer {
            let mut taught = slots.iter().zip(success.entries.iter());
            if taught.any(|(slot, entry)| leading.is_overtaken_by(slot, entry, &self.log)) {
                self.step_down(RoleReason::ChosenOtherwise, actions);
            }
        }
        let before = self.log.first_unchosen();
        let out = outbox!(self, actions);
        let learned = self.learner.on_success(Some(from), success.first, &success.entries, &mut self.log, out);
        if let Err(reason) = learned {
            self.fence(reason, actions);
            return;
        }
        let progressed = self.log.first_unchosen() > before;
        // Whom it follows feeds it unasked; anybody else answered a pull, and is asked for the next run at once.
        let fed = self.election.followed().is_some_and(|(_, leader)| leader == from);
        if progressed && !fed {
            self.pull(Some(from), actions);
        }
    }

    /// Whether this leader must fetch what earlier leaders chose before it can serve.
    pub(super) fn lacks_inherited(&self) -> bool {
        match &self.proposer {
            Proposer::Leading(leading) => leading.floor() > self.log.first_unchosen(),
            Proposer::Following | Proposer::Preparing(_) => false,
        }
    }

    #[inline(never)]
    pub(super) fn pull(&mut self, answered: Option<NodeId>, actions: &mut Vec<Action>) {
        let teachers = self.election.teachers(self.log.first_unchosen(), self.now);
        self.catch_up.pull(answered, teachers, &self.log, outbox!(self, actions));
    }

    /// What a peer says of itself outside heartbeats.
    pub(super) fn on_report(&mut self, from: NodeId, boot: Boot, first_unchosen: Slot, room: u32) {
        if !self.election.is_current(from, boot) {
            self.stats.messages_stale = self.stats.messages_stale.saturating_add(1);
            return;
        }
        if let Proposer::Leading(leading) = &mut self.proposer
            && let Some(peer) = leading.peer_mut(from)
        {
            peer.on_report(first_unchosen, room, self.now, &self.config);
        }
    }

    #[inline(never)]
    pub(super) fn on_heartbeat(&mut self, from: NodeId, boot: Boot, heartbeat: &Heartbeat, actions: &mut Vec<Action>) {
        let &Heartbeat { leading: claims, prefix, first_unchosen, room, .. } = heartbeat;
        let heard = self.election.on_heartbeat(from, boot, heartbeat.clone(), self.header.boot, self.now);
        let Heartbeating::Fresh { rebooted, asks } = heard else {
            self.stats.messages_stale = self.stats.messages_stale.saturating_add(1);
            return;
        };
        if let Proposer::Leading(leading) = &mut self.proposer
            && let Some(peer) = leading.peer_mut(from)
        {
            if rebooted {
                peer.on_reboot(&self.config);
            }
            peer.set_heard(true);
            peer.on_report(first_unchosen, room, self.now, &self.config);
        }
        if let Some(ballot) = claims {
            self.learner.on_prefix(ballot, prefix, &mut self.log, &mut self.stats);
            self.acceptor.on_claim(from, boot, ballot, outbox!(self, actions));
        }
        self.reconsider(actions);
        if asks {
            self.heartbeat_to(from, actions);
        }
    }
}

/// The highest round that a message mentions: checked before anything remembers it (rule 13).
fn highest_round(body: &Body) -> u64 {
    let round = |ballot: Option<Ballot>| ballot.map_or(0, |ballot| ballot.round);
    match body {
        Body::Prepare(prepare) => prepare.ballot.round,
        Body::Promise(promise) => {
            let held = promise.held.iter().map(|held| round(held.accepted)).max().unwrap_or(0);
            promise.ballot.round.max(held)
        }
        Body::Refused(refused) => refused.ballot.round.max(refused.promised.round),
        Body::Accept(accept) => accept.ballot.round,
        Body::Accepted(accepted) => accepted.ballot.round,
        Body::Success(success) => round(success.ballot),
        Body::SuccessReply(_) | Body::Fetch(_) => 0,
        Body::Heartbeat(heartbeat) => {
            let echoed = heartbeat.echo.and_then(|echo| echo.leading);
            round(heartbeat.leading).max(round(heartbeat.following)).max(round(echoed))
        }
        Body::HandOver(hand_over) => hand_over.ballot.round,
    }
}
