//! The room for quorum systems and for the sets of voters that they judge.

use serde::{Deserialize, Serialize};

/// How many voters make a quorum. Safety needs every phase-1 quorum to meet every phase-2 quorum
/// (Howard, Malkhi, Spiegelman, "Flexible Paxos"); `Membership::new` checks it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum QuorumSystem {
    /// More than half, for both phases.
    Majority,
    /// Sizes of their own for each phase.
    Flexible {
        /// Voters whose promises complete phase 1.
        phase1: u8,
        /// Voters whose acceptance chooses.
        phase2: u8,
    },
}

impl QuorumSystem {
    /// Voters in a phase-1 quorum, of `voters` in all.
    pub fn phase1_size(self, voters: usize) -> usize {
        match self {
            QuorumSystem::Majority => majority(voters),
            QuorumSystem::Flexible { phase1, .. } => usize::from(phase1),
        }
    }

    /// Voters in a phase-2 quorum, of `voters` in all.
    pub fn phase2_size(self, voters: usize) -> usize {
        match self {
            QuorumSystem::Majority => majority(voters),
            QuorumSystem::Flexible { phase2, .. } => usize::from(phase2),
        }
    }
}

fn majority(voters: usize) -> usize {
    (voters >> 1).saturating_add(1)
}

/// A set of voters of one membership, as a bit mask over their positions in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VoterSet {
    bits: u16,
}

impl VoterSet {
    /// The empty set.
    pub const EMPTY: VoterSet = VoterSet { bits: 0 };

    /// The set of the voter at `position`; empty for a position that no tally can count.
    pub(crate) fn single(position: usize) -> VoterSet {
        VoterSet { bits: u32::try_from(position).ok().and_then(|shift| 1u16.checked_shl(shift)).unwrap_or(0) }
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: VoterSet) -> VoterSet {
        VoterSet { bits: self.bits | other.bits }
    }

    /// Whether this set holds all of `other`.
    pub fn has(self, other: VoterSet) -> bool {
        self.bits & other.bits == other.bits
    }

    /// For broken tallies (see `mutants`): somebody more, unless there is nobody.
    pub(crate) fn one_more(self) -> VoterSet {
        let lowest_missing = !self.bits & self.bits.saturating_add(1);
        VoterSet { bits: if self.bits == 0 { 0 } else { self.bits | lowest_missing } }
    }

    /// A broken tally, in which a repeated vote counts as somebody else's (see `mutants`).
    pub(crate) fn twice(self, other: VoterSet) -> VoterSet {
        if self.has(other) { self.one_more() } else { self.with(other) }
    }

    /// How many voters are in the set.
    pub fn count(self) -> usize {
        self.bits.count_ones() as usize
    }
}
