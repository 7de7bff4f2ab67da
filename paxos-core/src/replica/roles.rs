//! Changes of role: campaign, lead, step down, fence; every open tag ends with them.

use alloc::vec::Vec;

use super::Replica;
use crate::acceptor::promise_chunks;
use crate::action::{Action, FenceReason, ProposeError, ReadError, RoleReason};
use crate::ballot::Ballot;
use crate::entry::Entries;
use crate::message::{Body, Prepare};
use crate::mutants::{Mutant, mutant};
use crate::outbox::Outbox;
use crate::proposer::{Bounds, Leading, Preparing, Progress, Proposer};

impl Replica {
    #[inline(never)]
    pub(super) fn campaign(&mut self, reason: RoleReason, actions: &mut Vec<Action>) {
        let promised_round = self.acceptor.promised().map_or(0, |ballot| ballot.round);
        let round = promised_round.max(self.round_seen).saturating_add(1);
        let ballot = Ballot { round, node: self.header.from, generation: self.generation };
        self.step_down_quietly(actions);
        self.round_seen = round;
        self.election.follow_nobody();
        self.stats.campaigns = self.stats.campaigns.saturating_add(1);
        let from = self.log.first_unchosen();
        let resend_us = self.config.resend_us;
        let bounds = Bounds::of(&self.config, self.genesis.alpha());
        self.proposer = Proposer::Preparing(Preparing::new(ballot, from, resend_us, bounds, self.now));
        self.acceptor.promise_own(ballot, outbox!(self, actions));
        self.announce(reason, actions);
    }

    /// The own promise is durable: the ballot may be used.
    #[inline(never)]
    pub(super) fn on_own_promise(&mut self, ballot: Ballot, actions: &mut Vec<Action>) {
        let Proposer::Preparing(preparing) = &mut self.proposer else { return };
        let Some(voter) = self.voter else { return };
        if preparing.ballot() != ballot || preparing.asking() {
            return;
        }
        let first_unchosen = self.log.first_unchosen();
        let chunks =
            promise_chunks(ballot, self.header.boot, first_unchosen, first_unchosen, &self.log, usize::MAX, usize::MAX);
        let held = chunks.into_iter().flat_map(|chunk| chunk.held).collect();
        self.election.note_disk(self.gate.slowest_us());
        preparing.may_ask(self.election.patience_us(), self.now);
        preparing.on_own_promise(voter, held, first_unchosen);
        self.ask(actions);
    }

    /// Sends `Prepare` to every voter whose promise is not complete.
    pub(super) fn ask(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Preparing(preparing) = &mut self.proposer else { return };
        preparing.asked(self.now);
        let ballot = preparing.ballot();
        for member in self.genesis.membership().voters().iter().filter(|member| member.node != self.header.from) {
            let Some(voter) = self.genesis.membership().voter(member.node) else { continue };
            if let Some(from) = preparing.wants(member.node, voter) {
                let out = outbox!(self, actions);
                out.send(member.node, Body::Prepare(Prepare { ballot, from }));
            }
        }
    }

    #[inline(never)]
    pub(super) fn lead_if_promised(&mut self, actions: &mut Vec<Action>) -> bool {
        if !matches!(self.proposer, Proposer::Preparing(_)) {
            return false;
        }
        let won = match core::mem::replace(&mut self.proposer, Proposer::Following) {
            Proposer::Preparing(preparing) if preparing.has_quorum(self.genesis.membership()) => preparing.into_won(),
            other => {
                self.proposer = other;
                return false;
            }
        };
        // What a promise shows chosen is learned, not proposed again (rule 10).
        for (slot, found) in won.found.iter().filter(|(_, found)| found.accepted.is_none()) {
            let entries = Entries::one(found.entry.clone());
            let out = outbox!(self, actions);
            if let Err(reason) = self.learner.on_success(None, *slot, &entries, &mut self.log, out) {
                self.fence(reason, actions);
                return false;
            }
        }
        let mut peers = Vec::new();
        for node in self.election.peers() {
            let mut progress = Progress::new(node, self.genesis.membership().voter(node), &self.config);
            if let Some((first_unchosen, room)) = self.election.reported(node) {
                progress.on_report(first_unchosen, room, self.now, &self.config);
            }
            progress.set_heard(self.election.is_heard(node, self.now));
            peers.push(progress);
        }
        self.election.on_won();
        self.proposer = Proposer::Leading(Leading::new(won, &self.log, peers, self.now));
        self.announce(RoleReason::Promised, actions);
        self.heartbeat_to_all(actions);
        if self.lacks_inherited() {
            self.pull(None, actions);
        }
        true
    }

    #[inline(never)]
    pub(super) fn step_down(&mut self, reason: RoleReason, actions: &mut Vec<Action>) {
        let led = match &self.proposer {
            Proposer::Following => return,
            Proposer::Preparing(_) => None,
            Proposer::Leading(leading) => Some(leading.ballot()),
        };
        self.step_down_quietly(actions);
        match (reason, led) {
            (RoleReason::Refused, Some(led)) => self.election.on_leader_refused(led, self.now),
            (RoleReason::Refused | RoleReason::TimedOut | RoleReason::Outvoted, None) => {
                self.election.on_failure(self.now);
            }
            _ => self.election.on_leadership_ended(self.now),
        }
        self.announce(reason, actions);
        self.heartbeat_to_all(actions);
    }

    /// Ends every open tag: what never left is refused, the rest is in doubt (rule 17).
    pub(super) fn step_down_quietly(&mut self, actions: &mut Vec<Action>) {
        let unsent = match &self.proposer {
            Proposer::Following | Proposer::Preparing(_) => 0,
            // Slots inherited from earlier leaders come first in what is pending and have no tag.
            Proposer::Leading(leading) if leading.is_ready() => leading.pending_count(),
            Proposer::Leading(_) => 0,
        };
        self.proposer = Proposer::Following;
        let hint = self.leader();
        for _ in 0..unsent {
            if let Some(tag) = self.proposals.close_newest() {
                actions.push(Action::ProposalRefused { tag, error: ProposeError::NotLeader { hint } });
            }
        }
        while let Some(tag) = self.proposals.close_oldest() {
            actions.push(match mutant(Mutant::DoubtReportedRefused) {
                true => Action::ProposalRefused { tag, error: ProposeError::NotLeader { hint } },
                false => Action::InDoubt { tag },
            });
        }
        while let Some(tag) = self.reads.pop() {
            actions.push(Action::ReadFailed { tag, error: ReadError::LostLeadership });
        }
    }

    #[inline(never)]
    pub(super) fn announce(&self, reason: RoleReason, actions: &mut Vec<Action>) {
        let (role, leader, ballot) = (self.role(), self.leader(), self.ballot());
        actions.push(Action::RoleChanged { role, leader, ballot, reason });
    }

    #[inline(never)]
    pub(super) fn fence(&mut self, reason: FenceReason, actions: &mut Vec<Action>) {
        self.step_down_quietly(actions);
        self.fenced = Some(reason);
        actions.push(Action::Fenced { reason });
    }
}
