//! The room for plain counters: what a replica saw, for metrics and tests. Nothing decides by them.

use core::hash::{Hash, Hasher};

/// Counters since this replica was made; they only go up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Messages of another cluster, or claiming an unknown sender or an incarnation that is no member.
    pub messages_foreign: u64,
    /// Messages whose round no honest replica could have reached.
    pub messages_absurd: u64,
    /// Evidence of an older boot of its sender or of this replica.
    pub messages_stale: u64,
    /// Messages that contradict themselves or the protocol.
    pub messages_malformed: u64,
    /// Receipts of another process or another boot.
    pub receipts_foreign: u64,
    /// Accepts for slots beyond this replica's room.
    pub accepts_beyond_room: u64,
    /// Campaigns begun.
    pub campaigns: u64,
    /// Refusals received while preparing or leading.
    pub refusals: u64,
    /// Slots that this replica, leading, saw chosen.
    pub slots_chosen: u64,
    /// Slots applied.
    pub slots_applied: u64,
    /// No-ops bound to fill gaps.
    pub noops_bound: u64,
    /// Entries sent again because no acknowledgement came.
    pub entries_resent: u64,
    /// Chosen entries sent to replicas that lacked them.
    pub entries_repaired: u64,
    /// Prefix marks that did not mark, because the slot held another ballot's entry.
    pub marks_withheld: u64,
}

/// Nothing decides by them: replicas that differ in nothing else have the same future, and the same digest.
impl Hash for Stats {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
