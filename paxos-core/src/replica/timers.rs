//! What time brings: heartbeats, contact that is lost, campaigns that are due, resends.

use alloc::boxed::Box;
use alloc::vec::Vec;

#[cfg(paxos_model)]
use super::Reason;
use super::Replica;
use crate::action::{Action, Recipients, RoleReason};
use crate::config::ElectionPolicy;
use crate::message::{Body, Echo, Heartbeat};
use crate::mutants::{Mutant, mutant, prefix_past_holes};
use crate::node_id::NodeId;
use crate::outbox::Outbox;
use crate::proposer::Proposer;
#[cfg(paxos_model)]
use crate::time::Instant;

/// What may still happen to a replica, as a model checker knows.
#[cfg(paxos_model)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    /// Heartbeats may be heard.
    pub heartbeats: bool,
    /// Commands may be proposed.
    pub commands: bool,
    /// Reads may be asked for, which takes heartbeats.
    pub reads: bool,
}

impl Replica {
    /// For model checkers: this timer fires now, whatever the clock and the election's conditions say, so that a
    /// checker explores every order of time-outs. Safety must not depend on any of them.
    #[cfg(paxos_model)]
    pub fn fire(&mut self, now: Instant, timer: Reason, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.fenced.is_some() {
            return;
        }
        match (timer, &mut self.proposer) {
            (Reason::Flush, _) => self.flush(actions),
            (Reason::Heartbeat, _) => {
                self.learner.persist_mark(&self.log, outbox!(self, actions));
                self.heartbeat_to_all(actions);
            }
            (Reason::Election, Proposer::Following) if self.voter.is_some() => {
                self.campaign(RoleReason::Campaign, actions);
            }
            (Reason::Election, Proposer::Following) => {}
            (Reason::Election, Proposer::Preparing(_)) => self.step_down(RoleReason::TimedOut, actions),
            (Reason::Election, Proposer::Leading(_)) => self.step_down(RoleReason::LostContact, actions),
            (Reason::Resend, Proposer::Following) => {}
            (Reason::Resend, Proposer::Preparing(_)) => self.ask(actions),
            (Reason::Resend, Proposer::Leading(leading)) => {
                leading.go_back(self.now, &self.config);
            }
        }
        self.settle(actions);
    }

    /// For model checkers: what of its state has consequences while the clock stands still and nothing but messages,
    /// receipts, what clients ask for and `fire` moves it. Equal hashes, equal futures, up to counters and, if reads are
    /// not ahead, tags.
    #[cfg(paxos_model)]
    pub fn hash_at_rest<H: core::hash::Hasher>(&self, ahead: Ahead, state: &mut H) {
        use core::hash::Hash;
        (&self.header, &self.gate, &self.acceptor, self.fenced).hash(state);
        self.log.hash_at_rest(|ballot| self.acceptor.allows(ballot), state);
        self.learner.hash_at_rest(|ballot| ahead.heartbeats || self.acceptor.allows(ballot), &self.log, state);
        self.proposer.hash_at_rest(&self.config, state);
        self.election.hash_at_rest(self.now, ahead, state);
        // A new ballot is above both.
        self.round_seen.max(self.acceptor.promised().map_or(0, |ballot| ballot.round)).hash(state);
        if ahead.reads {
            (&self.catch_up, &self.reads, &self.proposals, self.reconsider_at > self.now).hash(state);
            return;
        }
        self.catch_up.hash_at_rest(state);
        if ahead.commands {
            self.proposals.hash_at_rest(state);
        }
    }

    #[inline(never)]
    pub(super) fn on_time(&mut self, actions: &mut Vec<Action>) {
        self.flush(actions);
        // A leader under load is ticked every turn; looking around several times per interval is enough for it.
        let leads = matches!(self.proposer, Proposer::Leading(_));
        if !leads || self.now >= self.reconsider_at {
            self.reconsider_at = self.now.plus_us(self.config.heartbeat_us >> 3);
            self.reconsider(actions);
        }
        match &mut self.proposer {
            Proposer::Following => {}
            Proposer::Preparing(preparing) => {
                if preparing.gives_up_at().is_some_and(|at| self.now >= at) {
                    self.step_down(RoleReason::TimedOut, actions);
                } else if preparing.resend_at().is_some_and(|at| self.now >= at) {
                    self.ask(actions);
                }
            }
            Proposer::Leading(leading) => {
                let (election, now) = (&self.election, self.now);
                leading.note_heard(|node| election.is_heard(node, now));
                let lost = leading.on_time(self.now, &self.config);
                self.stats.entries_resent = self.stats.entries_resent.saturating_add(lost);
            }
        }
        let reads_leave = matches!(self.proposer, Proposer::Leading(_)) && self.reads.wants_round();
        if reads_leave {
            self.reads.start_round();
        }
        let due = self.election.heartbeat_due(self.now);
        if due {
            self.learner.persist_mark(&self.log, outbox!(self, actions));
            let teachers = self.election.teachers(self.log.first_unchosen(), self.now);
            self.catch_up.on_heartbeat_interval(teachers, &self.log, outbox!(self, actions));
        }
        if due || reads_leave {
            self.heartbeat_to_all(actions);
        }
    }

    /// Looks again at who should lead, now that time passed or a heartbeat came.
    #[inline(never)]
    pub(super) fn reconsider(&mut self, actions: &mut Vec<Action>) {
        let membership = self.genesis.membership();
        let can_vote = self.can_vote();
        match &mut self.proposer {
            Proposer::Following => {
                self.election.note_disk(self.gate.slowest_us());
                self.election.note_progress(self.log.first_unchosen(), self.learner.next_to_apply());
                if self.election.follow_best(self.now) {
                    let followed = self.election.followed();
                    let reason = if followed.is_some() { RoleReason::HeardLeader } else { RoleReason::LostLeader };
                    self.announce(reason, actions);
                    self.heartbeat_to_all(actions);
                }
                self.election.note_contact(self.now, can_vote, self.genesis.membership());
                if self.election.wants_campaign(self.now, can_vote, self.genesis.membership()) {
                    self.campaign(RoleReason::Campaign, actions);
                } else {
                    self.election.drop_stale_reclaim(self.now);
                }
            }
            Proposer::Preparing(preparing) => {
                let ballot = preparing.ballot();
                if self.election.best_leader(self.now).is_some_and(|(better, _)| better > ballot) {
                    self.step_down(RoleReason::HeardLeader, actions);
                }
            }
            Proposer::Leading(leading) => {
                let contact = self.election.contact(self.now);
                let better = self.election.best_leader(self.now).is_some_and(|(best, _)| best > leading.ballot());
                let yields =
                    self.config.election == ElectionPolicy::HighestId && self.election.higher_id_alive(self.now);
                let patience_us = self.config.election_timeout_us.saturating_mul(2);
                let untaught = leading.is_untaught(self.log.first_unchosen(), self.now, patience_us)
                    && self.election.could_lead(self.now, can_vote, membership);
                let barren = self.election.is_barren(self.now, can_vote, membership);
                // Its disk hangs, and so it can propose nothing more: if the others can choose without it, one of them
                // should lead.
                let hangs = self.log.is_backed_up()
                    && self.gate.overdue(self.now, patience_us)
                    && self.election.could_lead(self.now, false, membership);
                if better {
                    self.step_down(RoleReason::HeardLeader, actions);
                } else if !membership.is_phase2_quorum(contact) {
                    self.step_down(RoleReason::LostContact, actions);
                } else if hangs || barren {
                    self.step_down(RoleReason::DisksHang, actions);
                } else if yields {
                    self.step_down(RoleReason::HigherId, actions);
                } else if untaught {
                    self.campaign(RoleReason::Campaign, actions);
                }
            }
        }
    }

    #[inline(never)]
    pub(super) fn heartbeat_to_all(&mut self, actions: &mut Vec<Action>) {
        self.election.heartbeat_sent(self.now);
        let peers: Recipients = self.peers();
        for node in &peers {
            self.heartbeat_to(node, actions);
        }
    }

    pub(super) fn peers(&self) -> Recipients {
        let mut peers = Recipients::NONE;
        for node in self.election.peers() {
            peers.push(node);
        }
        peers
    }

    #[inline(never)]
    pub(super) fn heartbeat_to(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let can_vote = self.can_vote();
        let leading = match &self.proposer {
            Proposer::Leading(leading) => Some(leading.ballot()),
            Proposer::Following | Proposer::Preparing(_) => None,
        };
        let following = match &self.proposer {
            Proposer::Following => self.election.followed().map(|(ballot, _)| ballot),
            Proposer::Preparing(_) | Proposer::Leading(_) => None,
        };
        let echo: Option<Echo> = self.election.echo_for(node, self.acceptor.promised());
        let passes = mutant(Mutant::PrefixPassesUnbound) && leading.is_some();
        let prefix = if passes { prefix_past_holes(&self.log) } else { self.log.first_unchosen() };
        let membership = self.genesis.membership();
        let contact = match leading {
            Some(_) => membership.is_phase2_quorum(self.election.contact(self.now)),
            None => self.election.could_lead(self.now, can_vote, membership),
        };
        let heartbeat = Heartbeat {
            leading,
            following,
            contact,
            can_vote,
            prefix,
            first_unchosen: self.learner.durable_first_unchosen(),
            room: self.log.room(),
            round: self.reads.round(),
            sent_us: self.now.as_us(),
            echo,
        };
        let out = outbox!(self, actions);
        out.send(node, Body::Heartbeat(Box::new(heartbeat)));
    }
}
