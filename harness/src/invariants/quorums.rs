//! What a quorum is, counted here and not by the code under test: a majority of the voters, or so many of them.

use paxos_core::{Membership, QuorumSystem, VoterSet};

/// Whether these voters complete phase 1.
pub(super) fn is_phase1_quorum(membership: &Membership, voters: VoterSet) -> bool {
    is_quorum(membership, voters, |phase1, _| phase1)
}

/// Whether an entry that these voters accepted is chosen.
pub(super) fn is_phase2_quorum(membership: &Membership, voters: VoterSet) -> bool {
    is_quorum(membership, voters, |_, phase2| phase2)
}

fn is_quorum(membership: &Membership, voters: VoterSet, size: impl Fn(u8, u8) -> u8) -> bool {
    match membership.quorum() {
        QuorumSystem::Majority => voters.count() * 2 > membership.voters().len(),
        QuorumSystem::Flexible { phase1, phase2 } => voters.count() >= usize::from(size(phase1, phase2)),
    }
}
