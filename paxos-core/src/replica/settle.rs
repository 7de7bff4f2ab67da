//! Carrying on whatever an event set free until nothing moves: testimony, choices, applies, runs to peers.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Replica;
use crate::acceptor::promise_chunks;
use crate::action::{Action, RoleReason};
use crate::ballot::Ballot;
use crate::gate::Testimony;
use crate::limits::RUN_ENTRIES_MAX;
use crate::log::Retain;
use crate::message::{Accepted, Body, SuccessReply};
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Boot, NodeId};
use crate::outbox::Outbox;
use crate::proposer::{Limits, Proposer};
use crate::slot::Slot;

impl Replica {
    /// Sends what is bound: one record and one message for a run, shared by the disk and every peer.
    #[inline(never)]
    pub(super) fn flush(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &mut self.proposer else { return };
        let limits =
            Limits { entries: self.config.run_entries_max.min(RUN_ENTRIES_MAX), bytes: self.config.run_bytes_max };
        while let Some((first, entries)) = leading.next_pending(limits, self.log.spares()) {
            let out = outbox!(self, actions);
            // The ballot was durable before Prepare left, so the run need not wait for this disk (rule 6).
            leading.broadcast(first, entries.clone(), &self.log, out);
            self.acceptor.accept_own(leading.ballot(), first, entries, &mut self.log, out);
        }
    }

    /// Carries on whatever the event set free, until nothing moves. Most events set little free: what is rare is a
    /// call away, so that the rest costs a few comparisons.
    #[inline(never)]
    pub(super) fn settle(&mut self, actions: &mut Vec<Action>) {
        while self.fenced.is_none() && self.go_on(actions) {}
        if self.fenced.is_some() {
            return;
        }
        if let Proposer::Leading(leading) = &self.proposer {
            let lags = leading.somebody_lags(&self.log);
            if self.reads.len() > 0 {
                self.confirm_reads(actions);
            }
            if lags {
                self.replicate(actions);
            }
        }
    }

    /// One round of it; true if there is more to do.
    fn go_on(&mut self, actions: &mut Vec<Action>) -> bool {
        if self.gate.has_ready() {
            self.release(actions);
        }
        match &self.proposer {
            Proposer::Following => {}
            Proposer::Preparing(_) => self.prepare_on(actions),
            Proposer::Leading(leading) if !self.acceptor.allows(leading.ballot()) => {
                self.step_down(RoleReason::Outvoted, actions);
            }
            Proposer::Leading(_) => {}
        }
        if self.learner.next_to_apply() < self.log.first_unchosen() && self.fenced.is_none() {
            self.apply(actions);
        }
        let led = match &self.proposer {
            Proposer::Leading(leading) if !leading.is_ready() => self.lead_on(actions),
            Proposer::Following | Proposer::Preparing(_) | Proposer::Leading(_) => false,
        };
        led || self.gate.has_ready()
    }

    /// Says everything that is durable now.
    #[inline(never)]
    fn release(&mut self, actions: &mut Vec<Action>) {
        while let Some(testimony) = self.gate.release() {
            self.testify(testimony, actions);
        }
    }

    /// As candidate: gives way to a higher promise, or leads if a quorum promised.
    #[inline(never)]
    fn prepare_on(&mut self, actions: &mut Vec<Action>) {
        if self.proposer.ballot().is_some_and(|ballot| !self.acceptor.allows(ballot)) {
            self.step_down(RoleReason::Outvoted, actions);
        }
        self.lead_if_promised(actions);
    }

    /// More is known chosen: applies it, and keeps house.
    #[inline(never)]
    pub(super) fn apply(&mut self, actions: &mut Vec<Action>) {
        let out = outbox!(self, actions);
        self.learner.apply(&self.log, &self.config, &mut self.proposals, &mut self.stats, out);
        if let Proposer::Leading(leading) = &mut self.proposer {
            leading.forget_votes(&self.log);
        }
        // Marks are lazy, but what is not marked cannot be forgotten: a part of what a follower keeps is far enough.
        let lazy = u64::from(self.config.window_slots >> 5);
        if self.learner.unmarked(&self.log) > lazy || self.log.is_heavy() {
            self.learner.persist_mark(&self.log, outbox!(self, actions));
        }
        self.trim();
    }

    /// A promise shows what memory holds, and leaves out what is durably known chosen: nothing may lie between.
    fn trim(&mut self) {
        let retain = match self.proposer {
            Proposer::Leading(_) => Retain::Leader,
            Proposer::Following | Proposer::Preparing(_) => Retain::Follower,
        };
        self.log.trim(self.learner.durable_first_unchosen(), retain);
    }

    /// As leader: binds what was inherited and opens for commands once it is applied.
    #[inline(never)]
    pub(super) fn lead_on(&mut self, actions: &mut Vec<Action>) -> bool {
        let Proposer::Leading(leading) = &mut self.proposer else { return false };
        if leading.become_ready(self.learner.next_to_apply()) {
            self.announce(RoleReason::Ready, actions);
            return true;
        }
        let bound = !leading.is_ready() && leading.bind_inherited(&self.log, &self.config, &mut self.stats);
        if bound {
            self.flush(actions);
        }
        bound
    }

    #[inline(never)]
    pub(super) fn confirm_reads(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &self.proposer else { return };
        let (membership, newest) = (self.genesis.membership(), self.reads.round());
        let echoed = self.election.echoed_round(leading.ballot(), self.header.boot, newest, membership);
        let slot = self.learner.next_to_apply();
        while let Some(tag) = self.reads.pop_ready(echoed, slot) {
            actions.push(Action::ReadReady { tag, slot });
        }
    }

    #[inline(never)]
    pub(super) fn replicate(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &mut self.proposer else { return };
        let promised = self.acceptor.promised();
        leading.pump(&self.log, &self.config, promised, &mut self.stats, outbox!(self, actions));
    }

    /// Says what is durable now.
    #[inline(never)]
    pub(super) fn testify(&mut self, testimony: Testimony, actions: &mut Vec<Action>) {
        match testimony {
            Testimony::Promise { to, asker_boot, ballot, from } => {
                self.promise(to, asker_boot, ballot, from, actions);
            }
            Testimony::Accepted { to, ballot, slots } => {
                let (first_unchosen, room) = (self.learner.durable_first_unchosen(), self.log.room());
                let out = outbox!(self, actions);
                out.send(to, Body::Accepted(Accepted { ballot, slots, first_unchosen, room }));
            }
            Testimony::SuccessReply { to } => {
                let (first_unchosen, room) = (self.learner.durable_first_unchosen(), self.log.room());
                let out = outbox!(self, actions);
                out.send(to, Body::SuccessReply(SuccessReply { first_unchosen, room }));
            }
            Testimony::OwnPromise { ballot } => self.on_own_promise(ballot, actions),
            Testimony::OwnVote { ballot, slots } => {
                if let (Proposer::Leading(leading), Some(voter)) = (&mut self.proposer, self.voter)
                    && leading.ballot() == ballot
                {
                    if mutant(Mutant::AnsweredBeforeChosen) {
                        self.log.choose_accepted(slots, ballot);
                    }
                    let chosen = leading.on_votes(voter, slots, self.genesis.membership(), &mut self.log);
                    self.stats.slots_chosen = self.stats.slots_chosen.saturating_add(chosen);
                }
            }
            Testimony::FirstUnchosen(below) => {
                self.learner.on_durable(below);
                self.trim();
            }
        }
    }

    #[inline(never)]
    pub(super) fn promise(
        &mut self,
        to: NodeId,
        asker_boot: Boot,
        ballot: Ballot,
        from: Slot,
        actions: &mut Vec<Action>,
    ) {
        // Raised meanwhile: the asker is refused when it asks again.
        if self.acceptor.promised() != Some(ballot) {
            return;
        }
        let chunks = promise_chunks(
            ballot,
            asker_boot,
            from,
            self.learner.durable_first_unchosen(),
            &self.log,
            self.config.run_entries_max,
            self.config.run_bytes_max,
        );
        let out = outbox!(self, actions);
        for chunk in chunks {
            out.send(to, Body::Promise(Box::new(chunk)));
        }
    }
}
