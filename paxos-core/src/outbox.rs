//! What a role may do in one step: send, persist, persist and then testify.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::action::{Action, Recipients};
use crate::event::FetchId;
use crate::gate::{Gate, Testimony};
use crate::message::Body;
use crate::node_id::NodeId;
use crate::persist::Record;
use crate::slot::SlotRange;
use crate::time::Instant;

/// Numbers for requests to the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchIds {
    last: u64,
}

/// Whoever awaits one has it; how many went before has no future.
impl Hash for FetchIds {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Where a step's results go. Borrowed by the switchboard for the length of one step.
pub(crate) struct Outbox<'a> {
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) gate: &'a mut Gate,
    pub(crate) fetch_ids: &'a mut FetchIds,
    pub(crate) now: Instant,
}

impl Outbox<'_> {
    /// Sends what testifies to nothing durable.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.send_all(Recipients::one(to), body);
    }

    /// The same message to several peers.
    pub(crate) fn send_all(&mut self, to: Recipients, body: Body) {
        if !to.is_empty() {
            self.actions.push(Action::Send { to, body });
        }
    }

    /// Asks for a record to be made durable.
    pub(crate) fn persist(&mut self, record: Record) {
        let ticket = self.gate.issue(self.now);
        self.actions.push(Action::Persist { ticket, record });
    }

    /// Testifies once this record, and every one before it, is durable.
    pub(crate) fn persist_then(&mut self, record: Record, testimony: Testimony) {
        self.persist(record);
        self.gate.hold(testimony);
    }

    /// Testifies once every record asked for so far is durable.
    pub(crate) fn then(&mut self, testimony: Testimony) {
        self.gate.hold_again(testimony);
    }

    /// Asks for chosen entries that only the disk holds.
    pub(crate) fn fetch(&mut self, slots: SlotRange, bytes_max: usize) -> FetchId {
        self.fetch_ids.last = self.fetch_ids.last.saturating_add(1);
        let id = FetchId(self.fetch_ids.last);
        self.actions.push(Action::FetchLog { id, slots, bytes_max });
        id
    }
}
