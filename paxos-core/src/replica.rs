//! The switchboard: carries events to roles and what they ask for to the outbox. No Paxos rule lives here.
//!
//! Reading order: `handle`, then the `on_*` of the event, then `settle`, which carries on whatever an event set
//! free until nothing moves.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use bytes::Bytes;
use thiserror::Error;

use crate::acceptor::{Acceptor, promise_chunks};
use crate::action::{Action, FenceReason, ProposeError, ReadError, Recipients, Role, RoleReason};
use crate::ballot::Ballot;
use crate::catch_up::CatchUp;
use crate::config::{Config, ConfigError, ElectionPolicy};
use crate::digest::RelativeHasher;
use crate::election::{Election, Heartbeating};
use crate::entry::{Entries, Entry};
use crate::event::{Event, FetchId, Tag};
use crate::gate::{Gate, Testimony};
use crate::learner::{Learner, Page};
use crate::limits::{ROUND_LEAP_MAX, RUN_ENTRIES_MAX};
use crate::log::Log;
use crate::membership::Genesis;
use crate::message::{
    Accept, Accepted, Body, Echo, HandOver, Header, Heartbeat, Message, Prepare, Promise, Refused, Success,
    SuccessReply,
};
use crate::node_id::{Boot, NodeId};
use crate::outbox::{FetchIds, Outbox};
use crate::persist::{Owner, Receipt, Recovered};
use crate::proposals::Proposals;
use crate::proposer::{Heard, Leading, Limits, Preparing, Progress, Proposer};
use crate::quorum::VoterSet;
use crate::read::Reads;
use crate::slot::{Slot, SlotRange};
use crate::stats::Stats;
use crate::time::Instant;

/// Why a replica cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StartError {
    /// The configuration contradicts itself or genesis.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `Record::Started` must be durable before the replica says its first word.
    #[error("no boot record is durable")]
    NotStarted,
    /// A log that holds more undecided slots than the window admits was written with a larger window.
    #[error("the log holds slot {slot}, {held} slots above the chosen prefix; window_slots admits {room}")]
    WindowTooSmall {
        /// The last slot held.
        slot: Slot,
        /// Its distance from the chosen prefix.
        held: u64,
        /// What the configuration admits.
        room: u64,
    },
}

/// Why `Replica::deadline` wants a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Proposals or reads wait to leave together: now.
    Flush,
    /// A heartbeat is due.
    Heartbeat,
    /// An election may be due, or contact may be lost.
    Election,
    /// Something unacknowledged may have to be sent again.
    Resend,
}

/// One member of a Multi-Paxos group.
#[derive(Clone, Hash, Debug)]
pub struct Replica {
    config: Config,
    genesis: Genesis,
    header: Header,
    generation: u64,
    voter: Option<VoterSet>,
    now: Instant,
    gate: Gate,
    log: Log,
    acceptor: Acceptor,
    learner: Learner,
    proposer: Proposer,
    election: Election,
    reads: Reads,
    proposals: Proposals,
    catch_up: CatchUp,
    fetch_ids: FetchIds,
    /// When a leader looks again at whom it is in contact with.
    reconsider_at: Instant,
    /// The highest round heard of, below which no campaign is worth its while.
    round_seen: u64,
    fenced: Option<FenceReason>,
    stats: Stats,
}

/// The outbox of this step, borrowing only what it needs, so that roles can be borrowed beside it.
macro_rules! outbox {
    ($replica:ident, $actions:ident) => {
        &mut Outbox {
            actions: $actions,
            gate: &mut $replica.gate,
            fetch_ids: &mut $replica.fetch_ids,
            header: $replica.header,
            now: $replica.now,
        }
    };
}

impl Replica {
    /// A replica that goes on from what survived. `seed` spreads its election delays.
    ///
    /// # Errors
    /// `StartError` for a configuration that contradicts itself, or a boot that is not durable.
    pub fn new(config: Config, recovered: Recovered, now: Instant, seed: u64) -> Result<Replica, StartError> {
        let Recovered { formatted, boot, promised, first_unchosen, held } = recovered;
        config.validate(&formatted.genesis)?;
        let boot = boot.ok_or(StartError::NotStarted)?;
        let membership = formatted.genesis.membership();
        let member = membership.member(formatted.node).copied();
        let mut log = Log::new(&config, first_unchosen);
        for (slot, recovered) in held {
            if !log.admits_recovered(slot) {
                let room = log.recovered_slots();
                return Err(StartError::WindowTooSmall { slot, held: slot.since(first_unchosen), room });
            }
            match recovered.accepted {
                Some(ballot) => log.accept(slot, ballot, recovered.entry),
                None => {
                    log.learn(slot, recovered.entry);
                }
            }
        }
        log.advance();
        let header =
            Header { cluster: formatted.cluster, from: formatted.node, incarnation: formatted.incarnation, boot };
        let owner = Owner { node: formatted.node, incarnation: formatted.incarnation, boot };
        Ok(Replica {
            header,
            generation: member.map_or(0, |member| member.generation),
            voter: membership.voter(formatted.node),
            now,
            gate: Gate::new(owner, config.window_slots),
            log,
            acceptor: Acceptor::new(promised),
            learner: Learner::new(first_unchosen),
            proposer: Proposer::Following,
            election: Election::new(&config, membership, formatted.node, now, seed),
            reads: Reads::default(),
            proposals: Proposals::new(formatted.node, formatted.incarnation, boot.counter),
            catch_up: CatchUp::new(),
            fetch_ids: FetchIds::default(),
            reconsider_at: now,
            round_seen: promised.map_or(0, |ballot| ballot.round),
            fenced: None,
            stats: Stats::default(),
            genesis: formatted.genesis,
            config,
        })
    }

    /// The one door: takes an event, appends what it asks for to `actions`. Never panics.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.fenced.is_some() {
            refuse_fenced(event, actions);
            return;
        }
        match event {
            Event::Propose { tag, command } => return self.propose(tag, command, actions),
            Event::Read { tag } => return self.read(tag, actions),
            Event::Message(message) => self.on_message(message, actions),
            Event::Persisted(receipt) => self.on_persisted(&receipt),
            Event::PersistFailed => self.fence(FenceReason::PersistFailed, actions),
            Event::Fetched { id, first, entries } => self.on_fetched(id, first, entries, actions),
            Event::HandOver { to } => self.hand_over(to, actions),
            Event::Tick => self.on_time(actions),
        }
        self.settle(actions);
    }

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

    /// When to call `handle` with `Event::Tick` at the latest, and why. A moment in the past means now.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        if self.fenced.is_some() {
            return None;
        }
        let mut first = (self.election.next_heartbeat(), Reason::Heartbeat);
        let mut consider = |at: Option<Instant>, reason| {
            if let Some(at) = at
                && at < first.0
            {
                first = (at, reason);
            }
        };
        match &self.proposer {
            Proposer::Following => {
                // In the past, it waits for a heartbeat to change its mind, not for time.
                let at = self.election.next_change();
                consider((at > self.now).then_some(at), Reason::Election);
            }
            Proposer::Preparing(preparing) => {
                consider(preparing.resend_at(), Reason::Resend);
                consider(Some(preparing.begun().plus_us(self.config.election_timeout_us)), Reason::Election);
            }
            Proposer::Leading(leading) => {
                consider(leading.resend_at(), Reason::Resend);
                let flush = leading.has_pending() || self.reads.wants_round();
                consider(flush.then_some(self.now), Reason::Flush);
            }
        }
        Some(first)
    }

    // --- questions ---

    /// What it is doing about leadership.
    pub fn role(&self) -> Role {
        match &self.proposer {
            Proposer::Following => Role::Following,
            Proposer::Preparing(_) => Role::Preparing,
            Proposer::Leading(leading) => Role::Leading { ready: leading.is_ready() },
        }
    }

    /// The leader it knows, itself included.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.proposer {
            Proposer::Leading(_) => Some(self.header.from),
            Proposer::Following | Proposer::Preparing(_) => self.election.followed().map(|(_, node)| node),
        }
    }

    /// The ballot it leads with, tries or follows.
    pub fn ballot(&self) -> Option<Ballot> {
        self.proposer.ballot().or(self.election.followed().map(|(ballot, _)| ballot))
    }

    /// Since when it leads, if it does.
    pub fn leading_since(&self) -> Option<Instant> {
        match &self.proposer {
            Proposer::Leading(leading) => Some(leading.since()),
            Proposer::Following | Proposer::Preparing(_) => None,
        }
    }

    /// The highest ballot its acceptor has promised; it may not be durable yet.
    pub fn promised(&self) -> Option<Ballot> {
        self.acceptor.promised()
    }

    /// The lowest slot that it does not know to be chosen.
    pub fn first_unchosen(&self) -> Slot {
        self.log.first_unchosen()
    }

    /// As `first_unchosen`, as far as it would survive a crash now.
    pub fn durable_first_unchosen(&self) -> Slot {
        self.learner.durable_first_unchosen()
    }

    /// The next slot to apply.
    pub fn next_to_apply(&self) -> Slot {
        self.learner.next_to_apply()
    }

    /// How many more proposals the window admits now; 0 unless it leads and is ready.
    pub fn propose_room(&self) -> usize {
        match &self.proposer {
            Proposer::Leading(leading) => leading.room(&self.log, &self.config),
            Proposer::Following | Proposer::Preparing(_) => 0,
        }
    }

    /// What is known of a slot: the ballot it was accepted under (`None` once chosen) and the entry. Nothing for
    /// slots that were never seen or are on disk only. For checkers and for humans.
    pub fn held(&self, slot: Slot) -> Option<(Option<Ballot>, &Entry)> {
        let cell = self.log.cell(slot)?;
        match cell.state {
            crate::log::State::Empty => None,
            crate::log::State::Accepted(ballot) => Some((Some(ballot), &cell.entry)),
            crate::log::State::Chosen => Some((None, &cell.entry)),
        }
    }

    /// The slots that `held` can answer for.
    pub fn window(&self) -> SlotRange {
        SlotRange { first: self.log.base(), end: self.log.end() }
    }

    /// The most payload and head bytes of entries held in memory now.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Who it is: the header of every message that it sends.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Why it takes no part any more, if it is fenced.
    pub fn fenced(&self) -> Option<FenceReason> {
        self.fenced
    }

    /// Counters since it was made.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A digest of its whole state, times taken relative to `now`: equal digests, equal futures.
    pub fn digest(&self, now: Instant) -> u64 {
        let mut hasher = RelativeHasher::new(now);
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn can_vote(&self) -> bool {
        self.voter.is_some() && !self.gate.overdue(self.now, self.config.election_timeout_us)
    }

    // --- the caller's commands ---

    fn propose(&mut self, tag: Tag, command: Bytes, actions: &mut Vec<Action>) {
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

    fn may_propose(&self, bytes: usize) -> Result<(), ProposeError> {
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

    fn read(&mut self, tag: Tag, actions: &mut Vec<Action>) {
        let error = match &self.proposer {
            Proposer::Leading(leading) if !leading.is_ready() => ReadError::CatchingUp,
            Proposer::Leading(_) if self.reads.len() >= self.config.reads_max => ReadError::TooMany,
            Proposer::Leading(_) => {
                self.reads.push(tag, self.log.first_unchosen());
                return;
            }
            Proposer::Following | Proposer::Preparing(_) => ReadError::NotLeader { hint: self.leader() },
        };
        actions.push(Action::ReadFailed { tag, error });
    }

    fn hand_over(&mut self, to: NodeId, actions: &mut Vec<Action>) {
        let voter = self.genesis.membership().voter(to).is_some();
        let Proposer::Leading(leading) = &self.proposer else { return };
        if !voter || !self.election.is_heard(to, self.now) {
            return;
        }
        let (ballot, prefix) = (leading.ballot(), self.log.first_unchosen());
        self.flush(actions);
        // Before the heartbeat of stepping down: who no longer hears a claim follows nobody, and takes over from nobody.
        let out = outbox!(self, actions);
        out.send(to, Body::HandOver(HandOver { ballot, prefix }));
        self.step_down(RoleReason::HandedOver, actions);
    }

    fn on_persisted(&mut self, receipt: &Receipt) {
        if !self.gate.redeem(receipt, self.now) {
            self.stats.receipts_foreign = self.stats.receipts_foreign.saturating_add(1);
        }
    }

    fn on_fetched(&mut self, id: FetchId, first: Slot, entries: Entries, actions: &mut Vec<Action>) {
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

    // --- messages ---

    fn on_message(&mut self, message: Message, actions: &mut Vec<Action>) {
        let header = message.header;
        if !self.is_member(&header) {
            self.stats.messages_foreign = self.stats.messages_foreign.saturating_add(1);
            return;
        }
        let promised_round = self.acceptor.promised().map_or(0, |ballot| ballot.round);
        let horizon = self.round_seen.max(promised_round).saturating_add(ROUND_LEAP_MAX);
        if highest_round(&message.body) > horizon {
            self.stats.messages_absurd = self.stats.messages_absurd.saturating_add(1);
            return;
        }
        let (from, boot) = (header.from, header.boot);
        match message.body {
            Body::Prepare(prepare) => self.acceptor.on_prepare(from, boot, &prepare, outbox!(self, actions)),
            Body::Promise(promise) => self.on_promise(from, boot, promise),
            Body::Refused(refused) => self.on_refused(&refused, actions),
            Body::Accept(ref accept) => self.on_accept(from, boot, accept, actions),
            Body::Accepted(ref accepted) => self.on_accepted(from, boot, accepted),
            Body::Success(ref success) => self.on_success(from, success, actions),
            Body::SuccessReply(reply) => self.on_report(from, boot, reply.first_unchosen, reply.room),
            Body::Heartbeat(heartbeat) => self.on_heartbeat(from, boot, *heartbeat, actions),
            Body::Fetch(fetch) => {
                let promised = self.acceptor.promised();
                let out = outbox!(self, actions);
                self.catch_up.on_fetch(from, &fetch, &self.log, promised, &self.config, out);
            }
            Body::HandOver(hand_over) => {
                // Only the word of the leader that is followed: then without waiting (rule 14).
                if self.election.followed() == Some((hand_over.ballot, from)) && self.voter.is_some() {
                    self.campaign(RoleReason::HandOver, actions);
                }
            }
        }
    }

    fn is_member(&self, header: &Header) -> bool {
        let member = self.genesis.membership().member(header.from);
        let known = member.is_some_and(|member| member.incarnation == header.incarnation);
        known && header.cluster == self.header.cluster && header.from != self.header.from
    }

    fn on_promise(&mut self, from: NodeId, boot: Boot, promise: Promise) {
        if promise.asker_boot != self.header.boot {
            self.stats.messages_stale = self.stats.messages_stale.saturating_add(1);
            return;
        }
        let (Some(voter), Proposer::Preparing(preparing)) = (self.genesis.membership().voter(from), &mut self.proposer)
        else {
            return; // a promise that comes late changes nothing that is bound
        };
        match preparing.on_promise(from, voter, boot, promise) {
            Heard::Joined => {}
            Heard::Stale => self.stats.messages_stale = self.stats.messages_stale.saturating_add(1),
            Heard::Malformed => self.stats.messages_malformed = self.stats.messages_malformed.saturating_add(1),
        }
    }

    fn on_refused(&mut self, refused: &Refused, actions: &mut Vec<Action>) {
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

    fn on_accept(&mut self, from: NodeId, boot: Boot, accept: &Accept, actions: &mut Vec<Action>) {
        let out = outbox!(self, actions);
        self.acceptor.on_accept(from, boot, accept, &mut self.log, &mut self.stats, out);
        let slots = SlotRange::of(accept.first, accept.entries.len());
        self.learner.on_accepted_below_prefix(accept.ballot, slots, &mut self.log, &mut self.stats);
        self.learner.on_prefix(accept.ballot, accept.prefix, &mut self.log, &mut self.stats);
    }

    fn on_accepted(&mut self, from: NodeId, boot: Boot, accepted: &Accepted) {
        // A vote of an earlier boot is still a vote; its report is not.
        if let Proposer::Leading(leading) = &mut self.proposer
            && leading.ballot() == accepted.ballot
        {
            if let Some(voter) = self.genesis.membership().voter(from) {
                let chosen = leading.on_votes(voter, accepted.slots, self.genesis.membership(), &mut self.log);
                self.stats.slots_chosen = self.stats.slots_chosen.saturating_add(chosen);
            }
            leading.on_acknowledged(from, accepted.slots, self.now, &self.config);
        }
        self.on_report(from, boot, accepted.first_unchosen, accepted.room);
    }

    fn on_success(&mut self, from: NodeId, success: &Success, actions: &mut Vec<Action>) {
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
        if progressed && self.lacks_inherited() {
            self.pull(actions);
        }
    }

    /// Whether this leader must fetch what earlier leaders chose before it can serve.
    fn lacks_inherited(&self) -> bool {
        match &self.proposer {
            Proposer::Leading(leading) => leading.floor() > self.log.first_unchosen(),
            Proposer::Following | Proposer::Preparing(_) => false,
        }
    }

    fn pull(&mut self, actions: &mut Vec<Action>) {
        let furthest = self.election.furthest(self.now);
        self.catch_up.pull(furthest, &self.log, outbox!(self, actions));
    }

    /// What a peer says of itself outside heartbeats.
    fn on_report(&mut self, from: NodeId, boot: Boot, first_unchosen: Slot, room: u32) {
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

    fn on_heartbeat(&mut self, from: NodeId, boot: Boot, heartbeat: Heartbeat, actions: &mut Vec<Action>) {
        let Heartbeat { leading: claims, prefix, first_unchosen, room, .. } = heartbeat;
        let heard = self.election.on_heartbeat(from, boot, heartbeat, self.header.boot, self.now);
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

    // --- time ---

    fn on_time(&mut self, actions: &mut Vec<Action>) {
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
                if self.now.since_us(preparing.begun()) >= self.config.election_timeout_us {
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
            let furthest = self.election.furthest(self.now);
            self.catch_up.on_heartbeat_interval(furthest, &self.log, outbox!(self, actions));
        }
        if due || reads_leave {
            self.heartbeat_to_all(actions);
        }
    }

    /// Looks again at who should lead, now that time passed or a heartbeat came.
    fn reconsider(&mut self, actions: &mut Vec<Action>) {
        let membership = self.genesis.membership();
        let can_vote = self.can_vote();
        match &mut self.proposer {
            Proposer::Following => {
                self.election.note_progress(self.log.first_unchosen());
                if self.election.follow_best(self.now) {
                    let followed = self.election.followed();
                    let reason = if followed.is_some() { RoleReason::HeardLeader } else { RoleReason::LostLeader };
                    self.announce(reason, actions);
                    self.heartbeat_to_all(actions);
                }
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
                let contact = self.election.contact(self.now, can_vote);
                let better = self.election.best_leader(self.now).is_some_and(|(best, _)| best > leading.ballot());
                let yields =
                    self.config.election == ElectionPolicy::HighestId && self.election.higher_id_alive(self.now);
                let patience_us = self.config.election_timeout_us.saturating_mul(2);
                let untaught = leading.is_untaught(self.log.first_unchosen(), self.now, patience_us);
                if better {
                    self.step_down(RoleReason::HeardLeader, actions);
                } else if !membership.is_phase2_quorum(contact) {
                    self.step_down(RoleReason::LostContact, actions);
                } else if yields {
                    self.step_down(RoleReason::HigherId, actions);
                } else if untaught {
                    self.campaign(RoleReason::Campaign, actions);
                }
            }
        }
    }

    fn heartbeat_to_all(&mut self, actions: &mut Vec<Action>) {
        self.election.heartbeat_sent(self.now);
        let peers: Recipients = self.peers();
        for node in &peers {
            self.heartbeat_to(node, actions);
        }
    }

    fn peers(&self) -> Recipients {
        let mut peers = Recipients::NONE;
        for node in self.election.peers() {
            peers.push(node);
        }
        peers
    }

    fn heartbeat_to(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let can_vote = self.can_vote();
        let contact = self.election.contact(self.now, can_vote);
        let leading = match &self.proposer {
            Proposer::Leading(leading) => Some(leading.ballot()),
            Proposer::Following | Proposer::Preparing(_) => None,
        };
        let following = match &self.proposer {
            Proposer::Following => self.election.followed().map(|(ballot, _)| ballot),
            Proposer::Preparing(_) | Proposer::Leading(_) => None,
        };
        let echo: Option<Echo> = self.election.echo_for(node, self.acceptor.promised());
        let heartbeat = Heartbeat {
            leading,
            following,
            contact: self.genesis.membership().is_phase2_quorum(contact),
            can_vote,
            prefix: self.log.first_unchosen(),
            first_unchosen: self.learner.durable_first_unchosen(),
            room: self.log.room(),
            round: self.reads.round(),
            sent_us: self.now.as_us(),
            echo,
        };
        let out = outbox!(self, actions);
        out.send(node, Body::Heartbeat(Box::new(heartbeat)));
    }

    // --- changes of role ---

    fn campaign(&mut self, reason: RoleReason, actions: &mut Vec<Action>) {
        let promised_round = self.acceptor.promised().map_or(0, |ballot| ballot.round);
        let round = promised_round.max(self.round_seen).saturating_add(1);
        let ballot = Ballot { round, node: self.header.from, generation: self.generation };
        self.step_down_quietly(actions);
        self.round_seen = round;
        self.election.follow_nobody();
        self.stats.campaigns = self.stats.campaigns.saturating_add(1);
        let from = self.log.first_unchosen();
        let preparing = Preparing::new(ballot, from, self.config.resend_us, self.config.window_slots, self.now);
        self.proposer = Proposer::Preparing(preparing);
        self.acceptor.promise_own(ballot, outbox!(self, actions));
        self.announce(reason, actions);
    }

    /// The own promise is durable: the ballot may be used.
    fn on_own_promise(&mut self, ballot: Ballot, actions: &mut Vec<Action>) {
        let Proposer::Preparing(preparing) = &mut self.proposer else { return };
        let Some(voter) = self.voter else { return };
        if preparing.ballot() != ballot || preparing.asking() {
            return;
        }
        let first_unchosen = self.log.first_unchosen();
        let chunks =
            promise_chunks(ballot, self.header.boot, first_unchosen, first_unchosen, &self.log, usize::MAX, usize::MAX);
        let held = chunks.into_iter().flat_map(|chunk| chunk.held).collect();
        preparing.may_ask();
        preparing.on_own_promise(voter, held, first_unchosen);
        self.ask(actions);
    }

    /// Sends `Prepare` to every voter whose promise is not complete.
    fn ask(&mut self, actions: &mut Vec<Action>) {
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

    fn lead_if_promised(&mut self, actions: &mut Vec<Action>) -> bool {
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
            self.pull(actions);
        }
        true
    }

    fn step_down(&mut self, reason: RoleReason, actions: &mut Vec<Action>) {
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
    fn step_down_quietly(&mut self, actions: &mut Vec<Action>) {
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
            actions.push(Action::InDoubt { tag });
        }
        while let Some(tag) = self.reads.pop() {
            actions.push(Action::ReadFailed { tag, error: ReadError::LostLeadership });
        }
    }

    fn announce(&self, reason: RoleReason, actions: &mut Vec<Action>) {
        let (role, leader, ballot) = (self.role(), self.leader(), self.ballot());
        actions.push(Action::RoleChanged { role, leader, ballot, reason });
    }

    fn fence(&mut self, reason: FenceReason, actions: &mut Vec<Action>) {
        self.step_down_quietly(actions);
        self.fenced = Some(reason);
        actions.push(Action::Fenced { reason });
    }

    // --- carrying on ---

    /// Sends what is bound: one record and one message for a run, shared by the disk and every peer.
    fn flush(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &mut self.proposer else { return };
        let limits =
            Limits { entries: self.config.run_entries_max.min(RUN_ENTRIES_MAX), bytes: self.config.run_bytes_max };
        while let Some((first, entries)) = leading.next_pending(limits) {
            let out = outbox!(self, actions);
            // The ballot was durable before Prepare left, so the run need not wait for this disk (rule 6).
            leading.broadcast(first, entries.clone(), &self.log, out);
            self.acceptor.accept_own(leading.ballot(), first, entries, &mut self.log, out);
        }
    }

    /// Carries on whatever the event set free, until nothing moves.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        loop {
            let mut moved = false;
            while let Some(testimony) = self.gate.release() {
                self.testify(testimony, actions);
                moved = true;
            }
            if self.fenced.is_some() {
                return;
            }
            if self.proposer.ballot().is_some_and(|ballot| !self.acceptor.allows(ballot)) {
                self.step_down(RoleReason::Outvoted, actions);
            }
            moved |= self.lead_if_promised(actions);
            if self.fenced.is_some() {
                return;
            }
            moved |= self.log.advance();
            if self.learner.next_to_apply() < self.log.first_unchosen() {
                self.apply(actions);
            }
            let led = self.lead_on(actions);
            if !(led || moved && self.gate.has_ready()) {
                break;
            }
        }
        self.confirm_reads(actions);
        self.replicate(actions);
        // Marks are lazy, but an eighth of the window behind is far enough.
        let lazy = u64::from(self.config.window_slots >> 3);
        if self.learner.unmarked(&self.log) > lazy || self.log.is_heavy() {
            self.learner.persist_mark(&self.log, outbox!(self, actions));
        }
        // A promise shows what memory holds, and leaves out what is durably known chosen: nothing may lie between.
        self.log.trim(self.learner.durable_first_unchosen());
    }

    fn apply(&mut self, actions: &mut Vec<Action>) {
        let page = Page { entries: self.config.run_entries_max as u64, bytes: self.config.run_bytes_max };
        let proposals = &mut self.proposals;
        let out = outbox!(self, actions);
        let tag_of = |id| proposals.close_applied(id);
        self.learner.apply(&self.log, page, tag_of, &mut self.stats, out);
    }

    /// As leader: binds what was inherited and opens for commands once it is applied.
    fn lead_on(&mut self, actions: &mut Vec<Action>) -> bool {
        let Proposer::Leading(leading) = &mut self.proposer else { return false };
        leading.forget_votes(&self.log);
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

    fn confirm_reads(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &self.proposer else { return };
        if self.reads.len() == 0 {
            return;
        }
        let (membership, newest) = (self.genesis.membership(), self.reads.round());
        let echoed = self.election.echoed_round(leading.ballot(), self.header.boot, newest, membership);
        let slot = self.learner.next_to_apply();
        while let Some(tag) = self.reads.pop_ready(echoed, slot) {
            actions.push(Action::ReadReady { tag, slot });
        }
    }

    fn replicate(&mut self, actions: &mut Vec<Action>) {
        let Proposer::Leading(leading) = &mut self.proposer else { return };
        let promised = self.acceptor.promised();
        leading.pump(&self.log, &self.config, promised, &mut self.stats, outbox!(self, actions));
    }

    /// Says what is durable now.
    fn testify(&mut self, testimony: Testimony, actions: &mut Vec<Action>) {
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
                    let chosen = leading.on_votes(voter, slots, self.genesis.membership(), &mut self.log);
                    self.stats.slots_chosen = self.stats.slots_chosen.saturating_add(chosen);
                }
            }
            Testimony::FirstUnchosen(below) => self.learner.on_durable(below),
        }
    }

    fn promise(&mut self, to: NodeId, asker_boot: Boot, ballot: Ballot, from: Slot, actions: &mut Vec<Action>) {
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
            out.send(to, Body::Promise(chunk));
        }
    }
}

/// Every tag ends, even on a fenced replica.
fn refuse_fenced(event: Event, actions: &mut Vec<Action>) {
    match event {
        Event::Propose { tag, .. } => actions.push(Action::ProposalRefused { tag, error: ProposeError::Fenced }),
        Event::Read { tag } => actions.push(Action::ReadFailed { tag, error: ReadError::Fenced }),
        Event::Message(_)
        | Event::Persisted(_)
        | Event::PersistFailed
        | Event::Fetched { .. }
        | Event::HandOver { .. }
        | Event::Tick => {}
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
