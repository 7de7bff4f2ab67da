//! What the caller asks for: proposals, reads, hand-over, and its answers about the disk.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Replica;
use crate::action::{Action, ProposeError, ReadError, RoleReason};
use crate::entry::{Entries, Entry};
use crate::event::{FetchId, Tag};
use crate::message::{Body, HandOver};
use crate::mutants::{Mutant, mutant};
use crate::node_id::NodeId;
use crate::outbox::Outbox;
use crate::persist::Receipt;
use crate::proposer::Proposer;
use crate::slot::Slot;

impl Replica {
    #[inline(never)]
    pub(super) fn propose(&mut self, tag: Tag, command: Bytes, actions: &mut Vec<Action>) {
        if let Err(error) = self.may_propose(command.len()) {
            actions.push(Action::ProposalRefused { tag, error });
            return;
        }
        let Proposer::Leading(leading) = &mut self.proposer else { return };
        let id = self.proposals.open(tag);
        leading.bind(Entry::Command { id, bytes: command });
        if leading.pending_count() >= self.config.run_entries_max {
            self.flush(actions);
        }
    }

    pub(super) fn may_propose(&self, bytes: usize) -> Result<(), ProposeError> {
        let Proposer::Leading(leading) = &self.proposer else {
            return Err(ProposeError::NotLeader { hint: self.leader() });
        };
        if bytes > self.config.entry_bytes_max {
            return Err(ProposeError::TooLarge { bytes_max: self.config.entry_bytes_max });
        }
        if !leading.is_ready() {
            return Err(ProposeError::CatchingUp);
        }
        if leading.log_full(&self.config) {
            return Err(ProposeError::LogFull);
        }
        if !leading.admits(bytes, &self.log, &self.config) {
            return Err(ProposeError::WindowFull);
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn read(&mut self, tag: Tag, actions: &mut Vec<Action>) {
        let error = match &self.proposer {
            Proposer::Leading(leading) if !leading.is_ready() && !mutant(Mutant::ReadBeforeInherited) => {
                ReadError::CatchingUp
            }
            Proposer::Leading(_) if self.reads.len() >= self.config.reads_max => ReadError::TooMany,
            Proposer::Leading(_) => {
                self.reads.push(tag, self.log.first_unchosen());
                return;
            }
            Proposer::Following | Proposer::Preparing(_) => ReadError::NotLeader { hint: self.leader() },
        };
        actions.push(Action::ReadFailed { tag, error });
    }

    #[inline(never)]
    pub(super) fn hand_over(&mut self, to: NodeId, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &self.proposer else { return };
        if !self.election.is_able(to, self.now) {
            return;
        }
        let (ballot, prefix) = (leading.ballot(), self.log.first_unchosen());
        self.flush(actions);
        // Before the heartbeat of stepping down: who no longer hears a claim follows nobody, and takes over from nobody.
        let out = outbox!(self, actions);
        out.send(to, Body::HandOver(HandOver { ballot, prefix }));
        self.step_down(RoleReason::HandedOver, actions);
    }

    pub(super) fn on_persisted(&mut self, receipt: &Receipt) {
        if !self.gate.redeem(receipt, self.now) {
            self.stats.receipts_foreign = self.stats.receipts_foreign.saturating_add(1);
        }
    }

    #[inline(never)]
    pub(super) fn on_fetched(&mut self, id: FetchId, first: Slot, entries: Entries, actions: &mut Vec<Action>) {
        let promised = self.acceptor.promised();
        let out = outbox!(self, actions);
        if self.learner.awaits(id) {
            let replayed = self.learner.on_replayed(first, &entries, &self.log, &mut self.stats, out);
            if let Err(reason) = replayed {
                self.fence(reason, actions);
            }
            return;
        }
        if let Proposer::Leading(leading) = &mut self.proposer
            && leading.on_fetched(id, first, &entries, promised, &mut self.stats, out)
        {
            return;
        }
        self.catch_up.on_fetched(id, first, entries, promised, out);
    }
}
