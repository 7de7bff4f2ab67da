//! The room for `Entry`, what a slot holds, and `Entries`, a run of them that is cheap to share.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::{Deref, Range};

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

    /// What the state machine is to apply, if it is a proposal.
    pub fn command(&self) -> Option<&Bytes> {
        match self {
            Entry::Command { bytes, .. } => Some(bytes),
            Entry::Noop | Entry::Membership(_) => None,
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

/// The entries of consecutive slots, immutable, and cheap to clone and to cut: one message to many peers, one record
/// and the logs of both ends share them. Two words, so that passing them on costs no more than passing a slice.
#[derive(Clone, Default)]
pub struct Entries {
    run: Option<Arc<Vec<Entry>>>,
    from: u32,
    to: u32,
}

impl Entries {
    /// A run of one entry.
    pub fn one(entry: Entry) -> Entries {
        vec![entry].into()
    }

    /// Some of these entries, as far as there are such; shared with the rest, not copied.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Entries {
        let range = range.start.min(self.len())..range.end.min(self.len());
        if range.is_empty() {
            return Entries::default();
        }
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX).saturating_add(self.from);
        Entries { run: self.run.clone(), from: place(range.start), to: place(range.end) }
    }
}

/// Runs that nobody needs any more, emptied: a leader in its steady state fills them again and allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    runs: Vec<Arc<Vec<Entry>>>,
    /// Entries that all of them together have room for.
    room: usize,
}

/// A copy of a log has no spares: what two of them share, neither may fill.
impl Clone for Spares {
    fn clone(&self) -> Spares {
        Spares::default()
    }
}

impl Spares {
    /// Keeps the memory of a run, if nobody else shares it and no more than `room_max` entries are kept room for.
    pub(crate) fn keep(&mut self, entries: Entries, room_max: usize) {
        let Some(mut run) = entries.run else { return };
        let Some(unshared) = Arc::get_mut(&mut run) else { return };
        let room = self.room.saturating_add(unshared.capacity());
        if room <= room_max {
            unshared.clear();
            self.room = room;
            self.runs.push(run);
        }
    }

    /// Makes a run of these entries, and leaves an empty list in their place.
    pub(crate) fn wrap(&mut self, entries: &mut Vec<Entry>) -> Entries {
        let Some(mut run) = self.runs.pop() else { return core::mem::take(entries).into() };
        let Some(unshared) = Arc::get_mut(&mut run) else { return core::mem::take(entries).into() };
        self.room = self.room.saturating_sub(unshared.capacity());
        core::mem::swap(unshared, entries);
        let to = u32::try_from(unshared.len()).unwrap_or(u32::MAX);
        Entries { run: Some(run), from: 0, to }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        match &self.run {
            None => &[],
            Some(run) => run.get(self.from as usize..self.to as usize).unwrap_or(&[]),
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Entries {
        // Runs have at most `RUN_ENTRIES_MAX` entries; what could not be counted would not be shown.
        let to = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        Entries { run: (to > 0).then(|| Arc::new(entries)), from: 0, to }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Entries {
        entries.into_iter().collect::<Vec<Entry>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_run_is_what_a_slice_of_it_is() {
        let id = |sequence| CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence };
        for count in 0..5u64 {
            let all: Vec<Entry> = (0..count).map(|n| Entry::Command { id: id(n), bytes: Bytes::new() }).collect();
            let run: Entries = all.clone().into();
            assert_eq!(&*run, &all[..]);
            for from in 0..=count as usize {
                for to in from..=count as usize {
                    let part = run.slice(from..to);
                    assert_eq!(&*part, &all[from..to]);
                    assert_eq!(&*part.slice(1..9), all[from..to].get(1..).unwrap_or(&[]), "a part of a part");
                }
            }
            assert_eq!(run.slice(count as usize..usize::MAX).len(), 0);
        }
    }
}
