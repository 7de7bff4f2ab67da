//! Catching up without waiting for traffic: pulls chosen entries from whoever has them, and serves those who pull
//! (Fetch; rule 10).

use alloc::vec::Vec;

use crate::ballot::Ballot;
use crate::config::Config;
use crate::entry::Entries;
use crate::event::FetchId;
use crate::limits::PEERS_MAX;
use crate::log::{Log, State};
use crate::message::{Body, Fetch, Success};
use crate::node_id::NodeId;
use crate::outbox::Outbox;
use crate::proposer::same_state;
use crate::slot::{Slot, SlotRange};

#[derive(Clone, Hash, Debug)]
pub(crate) struct CatchUp {
    /// first_unchosen at the last heartbeat: without progress since, nobody is repairing this replica.
    seen: Slot,
    /// Who was asked last, and from which slot on.
    asked: Option<(NodeId, Slot)>,
    /// Runs being read from the log for peers that asked; one per peer.
    serving: Vec<(FetchId, NodeId)>,
}

impl CatchUp {
    pub(crate) fn new() -> CatchUp {
        CatchUp { seen: Slot::FIRST, asked: None, serving: Vec::new() }
    }

    /// What of it has consequences while no heartbeat is due.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(&self, state: &mut H) {
        use core::hash::Hash;
        (self.asked, &self.serving).hash(state);
    }

    /// Once per heartbeat interval: asks for what is missing if nothing came since the last time.
    pub(crate) fn on_heartbeat_interval(
        &mut self,
        teachers: impl Iterator<Item = (NodeId, Slot)> + Clone,
        log: &Log,
        out: &mut Outbox,
    ) {
        let stalled = self.seen == log.first_unchosen();
        self.seen = log.first_unchosen();
        if stalled {
            self.pull(None, teachers, log, out);
        }
    }

    /// Asks one of those who know more for what is missing here: who has just answered, or the furthest. If nothing
    /// came of the last request it is the next one, since a peer can be heard of and yet be dead, or have nothing to
    /// give.
    pub(crate) fn pull(
        &mut self,
        answered: Option<NodeId>,
        teachers: impl Iterator<Item = (NodeId, Slot)> + Clone,
        log: &Log,
        out: &mut Outbox,
    ) {
        let first = log.first_unchosen();
        let proven = teachers.clone().find(|(node, _)| Some(*node) == answered);
        let teacher = proven.or_else(|| match self.asked {
            Some((mute, asked_from)) if asked_from == first => {
                teachers.clone().find(|(node, _)| *node > mute).or_else(|| teachers.clone().next())
            }
            Some(_) | None => teachers.clone().max_by_key(|(_, end)| *end),
        });
        if let Some((node, end)) = teacher {
            self.asked = Some((node, first));
            out.send(node, Body::Fetch(Fetch { slots: SlotRange { first, end } }));
        }
    }

    /// A peer asks for chosen entries: from memory, or once the log is read.
    pub(crate) fn on_fetch(
        &mut self,
        from: NodeId,
        fetch: &Fetch,
        log: &Log,
        promised: Option<Ballot>,
        config: &Config,
        out: &mut Outbox,
    ) {
        let first = fetch.slots.first;
        let end = fetch.slots.end.min(log.first_unchosen()).min(first.plus(config.run_entries_max as u64));
        if first >= end {
            return;
        }
        if first >= log.base() {
            let run = same_state(first, State::Chosen, end, log, config.run_bytes_max);
            out.send(from, Body::Success(Success { ballot: promised, first, entries: log.entries(run) }));
            return;
        }
        if self.serving.len() >= PEERS_MAX || self.serving.iter().any(|(_, node)| *node == from) {
            return;
        }
        let slots = SlotRange { first, end: end.min(log.base()) };
        self.serving.push((out.fetch(slots, config.run_bytes_max), from));
    }

    /// Chosen entries that were read for a peer.
    pub(crate) fn on_fetched(
        &mut self,
        id: FetchId,
        first: Slot,
        entries: Entries,
        promised: Option<Ballot>,
        out: &mut Outbox,
    ) {
        let Some(at) = self.serving.iter().position(|(serving, _)| *serving == id) else { return };
        let (_, node) = self.serving.swap_remove(at);
        if !entries.is_empty() {
            out.send(node, Body::Success(Success { ballot: promised, first, entries }));
        }
    }
}
