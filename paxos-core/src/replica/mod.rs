//! The switchboard: carries events to roles and what they ask for to the outbox. No Paxos rule lives here.
//!
//! Reading order: `handle` here, the `on_*` of the event in `commands`, `messages` or `timers`, then `settle`, which
//! carries on whatever an event set free until nothing moves; `roles` holds the changes between them.

/// The outbox of this step, borrowing only what it needs, so that roles can be borrowed beside it.
macro_rules! outbox {
    ($replica:ident, $actions:ident) => {
        &mut Outbox {
            actions: $actions,
            gate: &mut $replica.gate,
            fetch_ids: &mut $replica.fetch_ids,
            now: $replica.now,
        }
    };
}

mod commands;
mod messages;
mod roles;
mod settle;
mod timers;

#[cfg(paxos_model)]
pub use timers::Ahead;

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use thiserror::Error;

use crate::acceptor::Acceptor;
use crate::action::{Action, FenceReason, ProposeError, ReadError, Role};
use crate::ballot::Ballot;
use crate::catch_up::CatchUp;
use crate::config::{Config, ConfigError};
use crate::digest::RelativeHasher;
use crate::election::Election;
use crate::entry::Entry;
use crate::event::Event;
use crate::gate::Gate;
use crate::learner::Learner;
use crate::log::{Log, State};
use crate::membership::Genesis;
use crate::message::{Body, Header, Message};
use crate::mutants::{Mutant, mutant};
use crate::node_id::NodeId;
use crate::outbox::FetchIds;
use crate::persist::{Owner, Recovered};
use crate::proposals::Proposals;
use crate::proposer::Proposer;
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

impl Replica {
    /// A replica that goes on from what survived. `seed` spreads its election delays.
    ///
    /// # Errors
    /// `StartError` for a configuration that contradicts itself, or a boot that is not durable.
    pub fn new(config: Config, recovered: Recovered, now: Instant, seed: u64) -> Result<Replica, StartError> {
        let Recovered { formatted, boot, promised, first_unchosen, held } = recovered;
        config.validate(&formatted.genesis)?;
        let boot = boot.ok_or(StartError::NotStarted)?;
        let promised = promised.filter(|_| !mutant(Mutant::PromiseForgottenAtStart));
        let membership = formatted.genesis.membership();
        let member = membership.member(formatted.node).copied();
        let mut log = Log::new(&config, first_unchosen);
        for (slot, recovered) in held {
            if !log.admits_recovered(slot) {
                let room = log.recovered_slots();
                return Err(StartError::WindowTooSmall { slot, held: slot.since(first_unchosen), room });
            }
            if recovered.accepted.is_some() && mutant(Mutant::VotesForgottenAtStart) {
                continue;
            }
            log.restore(slot, recovered.accepted.map_or(State::Chosen, State::Accepted), recovered.entry);
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
            Event::Message(Message { header, body }) => self.on_message(&header, &body, actions),
            Event::Persisted(receipt) => self.on_persisted(&receipt),
            Event::PersistFailed => self.fence(FenceReason::PersistFailed, actions),
            Event::Fetched { id, first, entries } => self.on_fetched(id, first, entries, actions),
            Event::HandOver { to } => self.hand_over(to, actions),
            Event::Tick => self.on_time(actions),
        }
        self.settle(actions);
    }

    /// The same as `handle` with `Event::Message`, for callers who keep the message: its entries are shared.
    pub fn receive(&mut self, now: Instant, header: &Header, body: &Body, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.fenced.is_none() {
            self.on_message(header, body, actions);
            self.settle(actions);
        }
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
                consider(preparing.gives_up_at(), Reason::Election);
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

    /// The voter that should lead next if this one may choose: in contact, its disk answers, and of those the one that
    /// knows most slots chosen.
    pub fn successor(&self) -> Option<NodeId> {
        self.election.ablest(self.now)
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
        let entry = self.log.entry(slot)?;
        match self.log.state(slot) {
            State::Empty => None,
            State::Accepted(ballot) => Some((Some(ballot), entry)),
            State::Chosen => Some((None, entry)),
        }
    }

    /// The slots that `held` can answer for.
    pub fn window(&self) -> SlotRange {
        SlotRange { first: self.log.base(), end: self.log.end() }
    }

    /// Who belongs to the cluster.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Who it is: the header of every message that it sends, the same as long as it lives.
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
