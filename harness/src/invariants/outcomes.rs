//! The ghost of the callers: every tag ends in exactly one outcome, and reads are never old.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos_core::{CommandId, Entry, NodeId, Slot, Tag};
use transport_sim::Violation;

/// What callers were told, and wait for. Commands of a world are all different, so that they name proposals.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    open: BTreeMap<Tag, Asked>,
    /// Commands that were bid for a slot, while there are tags to judge by them.
    bound: BTreeSet<Bytes>,
    refused: BTreeSet<Bytes>,
    tagged: bool,
    /// The slot in which each proposal was first applied, anywhere.
    slots: BTreeMap<CommandId, Slot>,
    /// No slot from here on was applied anywhere.
    applied_below: Option<Slot>,
}

#[derive(Debug)]
struct Asked {
    node: NodeId,
    what: What,
}

#[derive(Debug)]
enum What {
    Command(Bytes),
    /// A read must reflect every slot below, since they were applied somewhere before it was asked.
    Read(Slot),
}

impl Outcomes {
    pub(super) fn proposed(&mut self, node: NodeId, tag: Tag, command: &Bytes) -> Result<(), Violation> {
        self.tagged = true;
        self.open.insert(tag, Asked { node, what: What::Command(command.clone()) });
        Ok(())
    }

    pub(super) fn read(&mut self, node: NodeId, tag: Tag) -> Result<(), Violation> {
        let floor = self.applied_below.unwrap_or(Slot::FIRST);
        self.open.insert(tag, Asked { node, what: What::Read(floor) });
        Ok(())
    }

    pub(super) fn crashed(&mut self, node: NodeId) {
        self.open.retain(|_, asked| asked.node != node);
    }

    /// The tag's only outcome: it must be open here.
    fn end(&mut self, node: NodeId, tag: Tag) -> Result<What, Violation> {
        match self.open.remove(&tag) {
            Some(asked) if asked.node == node => Ok(asked.what),
            Some(_) | None => {
                Err(Violation::new("one-outcome-per-tag", format!("{node:?} ends {tag:?}, which is not open there")))
            }
        }
    }

    pub(super) fn ended(&mut self, node: NodeId, tag: Tag) -> Result<(), Violation> {
        self.end(node, tag).map(|_| ())
    }

    /// A refused proposal was never bound and never will be.
    pub(super) fn refused(&mut self, node: NodeId, tag: Tag) -> Result<(), Violation> {
        let What::Command(command) = self.end(node, tag)? else {
            return Err(Violation::new("one-outcome-per-tag", format!("{node:?} refuses the read {tag:?}")));
        };
        if self.bound.contains(&command) {
            let why = format!("{node:?} refused {tag:?}, which was bid for a slot");
            return Err(Violation::new("refused-is-never-bound", why));
        }
        self.refused.insert(command);
        Ok(())
    }

    /// An entry was bid for a slot.
    pub(super) fn bound(&mut self, slot: Slot, entry: &Entry) -> Result<(), Violation> {
        let Entry::Command { bytes, .. } = entry else { return Ok(()) };
        if !self.tagged {
            return Ok(());
        }
        if self.refused.contains(bytes) {
            let why = format!("{entry:?} was refused and is bid for slot {slot}");
            return Err(Violation::new("refused-is-never-bound", why));
        }
        self.bound.insert(bytes.clone());
        Ok(())
    }

    pub(super) fn applied(
        &mut self,
        node: NodeId,
        slot: Slot,
        entry: &Entry,
        tag: Option<Tag>,
    ) -> Result<(), Violation> {
        self.applied_below = self.applied_below.max(Some(slot.next()));
        if let Some(id) = entry.command_id() {
            let first = *self.slots.entry(id).or_insert(slot);
            if first != slot {
                let why = format!("{id:?} is chosen in slot {first} and in slot {slot}");
                return Err(Violation::new("one-slot-per-proposal", why));
            }
        }
        let Some(tag) = tag else { return Ok(()) };
        match (self.end(node, tag)?, entry) {
            (What::Command(command), Entry::Command { bytes, .. }) if command == *bytes => Ok(()),
            (What::Command(_) | What::Read(_), Entry::Command { .. } | Entry::Noop | Entry::Membership(_)) => {
                let why = format!("{node:?} says that {tag:?} is {entry:?} in slot {slot}");
                Err(Violation::new("tag-is-its-own-entry", why))
            }
        }
    }

    pub(super) fn read_ready(&mut self, node: NodeId, tag: Tag, slot: Slot) -> Result<(), Violation> {
        match self.end(node, tag)? {
            What::Read(floor) if slot >= floor => Ok(()),
            What::Read(floor) => {
                let why = format!("{node:?} reads {tag:?} at {slot}; slots below {floor} were applied before it came");
                Err(Violation::new("read-is-never-old", why))
            }
            What::Command(_) => {
                Err(Violation::new("one-outcome-per-tag", format!("{node:?} answers the proposal {tag:?} as a read")))
            }
        }
    }
}
