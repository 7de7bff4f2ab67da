//! The switchboard: carries events to roles and what they ask for to the outbox. No Paxos rule lives here.

use alloc::vec::Vec;

use thiserror::Error;

use crate::action::{Action, Role};
use crate::ballot::Ballot;
use crate::config::{Config, ConfigError};
use crate::event::Event;
use crate::node_id::NodeId;
use crate::persist::Recovered;
use crate::slot::Slot;
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
#[derive(Clone, Debug)]
pub struct Replica {
    config: Config,
}

impl Replica {
    /// A replica that goes on from what survived. `seed` spreads its election delays.
    ///
    /// # Errors
    /// `StartError` for a configuration that contradicts itself, or a boot that is not durable.
    pub fn new(config: Config, recovered: Recovered, now: Instant, seed: u64) -> Result<Replica, StartError> {
        let _ = (recovered, now, seed);
        Ok(Replica { config })
    }

    /// The one door: takes an event, appends what it asks for to `actions`. Never panics.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        let _ = (now, event, actions);
    }

    /// When to call `handle` with `Event::Tick` at the latest, and why. A moment in the past means now.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        None
    }

    /// What it is doing about leadership.
    pub fn role(&self) -> Role {
        Role::Following
    }

    /// The leader it knows, itself included.
    pub fn leader(&self) -> Option<NodeId> {
        None
    }

    /// The ballot it leads with, tries or follows.
    pub fn ballot(&self) -> Option<Ballot> {
        None
    }

    /// The highest ballot its acceptor has promised; it may not be durable yet.
    pub fn promised(&self) -> Option<Ballot> {
        None
    }

    /// The lowest slot that it does not know to be chosen.
    pub fn first_unchosen(&self) -> Slot {
        Slot::FIRST
    }

    /// The next slot to apply.
    pub fn next_to_apply(&self) -> Slot {
        Slot::FIRST
    }

    /// How many more proposals the window admits now; 0 unless it leads and is ready.
    pub fn propose_room(&self) -> usize {
        0
    }

    /// Counters since it was made.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A digest of its whole state, times taken relative to `now`: equal digests, equal futures.
    pub fn digest(&self, now: Instant) -> u64 {
        let _ = now;
        0
    }
}
