//! Whose proposal was it? Open tags by the sequence of their command; each ends exactly once (rule 17).

use crate::entry::CommandId;
use crate::event::Tag;
use crate::node_id::{Incarnation, NodeId};
use crate::trail::Trail;

#[derive(Clone, Hash, Debug)]
pub(crate) struct Proposals {
    node: NodeId,
    incarnation: Incarnation,
    boot: u64,
    /// The last sequence given; 0 before the first.
    sequence: u64,
    /// By rising sequence, which is also the order of their slots.
    open: Trail<(u64, Tag)>,
}

impl Proposals {
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, boot: u64) -> Proposals {
        Proposals { node, incarnation, boot, sequence: 0, open: Trail::new() }
    }

    /// What of it has consequences for others: not whose tag is open.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(&self, state: &mut H) {
        core::hash::Hash::hash(&self.sequence, state);
    }

    /// Opens a tag and names its command.
    pub(crate) fn open(&mut self, tag: Tag) -> CommandId {
        self.sequence = self.sequence.saturating_add(1);
        self.open.push((self.sequence, tag));
        CommandId { node: self.node, incarnation: self.incarnation, boot: self.boot, sequence: self.sequence }
    }

    /// Whether no tag is open.
    pub(crate) fn none_open(&self) -> bool {
        self.open.is_empty()
    }

    /// The tag of an applied command, if it is this boot's own and still open: by its id, never by its slot or
    /// its bytes.
    pub(crate) fn close_applied(&mut self, id: CommandId) -> Option<Tag> {
        let mine = id.node == self.node && id.incarnation == self.incarnation && id.boot == self.boot;
        let (sequence, tag) = *self.open.first()?;
        if !mine || sequence != id.sequence {
            return None;
        }
        self.open.forget(1);
        Some(tag)
    }

    /// Closes the newest tag: its command never left this replica.
    pub(crate) fn close_newest(&mut self) -> Option<Tag> {
        self.open.pop().map(|(_, tag)| tag)
    }

    /// Closes the oldest tag: nobody knows what becomes of its command.
    pub(crate) fn close_oldest(&mut self) -> Option<Tag> {
        let (_, tag) = *self.open.first()?;
        self.open.forget(1);
        Some(tag)
    }
}
