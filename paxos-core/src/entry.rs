//! The room for `Entry`, what a slot holds, and `Entries`, a run of them that is cheap to share.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::membership::Membership;
use crate::node_id::{Incarnation, NodeId};

/// Which proposal an entry is: unique for ever, so that a proposer can tell its own from an equal one (rule 17).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CommandId {
    /// The node that took the proposal.
    pub node: NodeId,
    /// That node's incarnation.
    pub incarnation: Incarnation,
    /// The boot counter of that node's process.
    pub boot: u64,
    /// From 1, one more at each proposal of that boot.
    pub sequence: u64,
}

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Entry {
    /// Fills a gap; means nothing to the state machine.
    #[default]
    Noop,
    /// A proposal: opaque bytes for the state machine.
    Command {
        /// Which proposal this is.
        id: CommandId,
        /// What the state machine is to apply; a slice of the frame it came in, never copied by the core.
        bytes: Bytes,
    },
    /// A membership (reserved: no proposer of this version makes one).
    Membership(Arc<Membership>),
}

impl Entry {
    /// Bytes of payload, what windows and message limits count; no-ops and memberships count as 0.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Entry::Command { bytes, .. } => bytes.len(),
            Entry::Noop | Entry::Membership(_) => 0,
        }
    }

    /// The id of the proposal in this entry, if it is one.
    pub fn command_id(&self) -> Option<CommandId> {
        match self {
            Entry::Command { id, .. } => Some(*id),
            Entry::Noop | Entry::Membership(_) => None,
        }
    }
}

/// The entries of consecutive slots, immutable and cheap to clone: one message to many peers and one record
/// share them. A run of one is held in place, so that a lone command costs no allocation.
#[derive(Clone, Debug)]
pub enum Entries {
    /// Exactly one entry.
    One([Entry; 1]),
    /// Any number of entries.
    Many(Arc<[Entry]>),
}

impl Entries {
    /// A run of one entry.
    pub fn one(entry: Entry) -> Entries {
        Entries::One([entry])
    }
}

impl Default for Entries {
    fn default() -> Entries {
        Entries::Many(Arc::default())
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        match self {
            Entries::One(entry) => entry,
            Entries::Many(entries) => entries,
        }
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl core::hash::Hash for Entries {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(mut entries: Vec<Entry>) -> Entries {
        if entries.len() == 1
            && let Some(entry) = entries.pop()
        {
            return Entries::one(entry);
        }
        Entries::Many(entries.into())
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Entries {
        let mut entries = entries.into_iter().peekable();
        let Some(first) = entries.next() else { return Entries::default() };
        if entries.peek().is_none() {
            return Entries::one(first);
        }
        Entries::Many(core::iter::once(first).chain(entries).collect())
    }
}
