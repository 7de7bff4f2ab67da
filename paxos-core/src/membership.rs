//! The room for who the members are: `Membership` and `Genesis`, the membership of slot 1.
//!
//! Membership changes (Lamport's α) are foreseen in the shapes: a ballot names its owner's generation, an entry
//! can hold a membership, α is fixed at genesis. This version rules every slot by the genesis membership.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{PEERS_MAX, VOTERS_MAX};
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Incarnation, NodeId};
use crate::quorum::{QuorumSystem, VoterSet};

/// A member: which node, in which life of its disk, admitted by which slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The node's number.
    pub node: NodeId,
    /// The incarnation that was admitted; another one takes no part.
    pub incarnation: Incarnation,
    /// The slot of the entry that admitted this incarnation as a voter, 0 in genesis.
    pub generation: u64,
}

/// Who votes and who learns, and how many make a quorum.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Membership {
    voters: Vec<Member>,
    learners: Vec<Member>,
    quorum: QuorumSystem,
}

/// Why a membership is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MembershipError {
    /// A membership without voters can choose nothing.
    #[error("a membership needs at least one voter")]
    NoVoters,
    /// More voters than tallies can count.
    #[error("{count} voters; at most {VOTERS_MAX} are possible")]
    TooManyVoters {
        /// How many were asked for.
        count: usize,
    },
    /// More members than recipients can be named in one action.
    #[error("{count} members; at most {} are possible", PEERS_MAX + 1)]
    TooManyMembers {
        /// How many were asked for.
        count: usize,
    },
    /// The same node twice would count twice.
    #[error("node {0} is named twice")]
    NamedTwice(NodeId),
    /// Some phase-1 quorum would not meet some phase-2 quorum, or is larger than the membership.
    #[error("quorums of {phase1} and {phase2} do not intersect among {voters} voters, or are impossible")]
    Disjoint {
        /// Voters in a phase-1 quorum.
        phase1: usize,
        /// Voters in a phase-2 quorum.
        phase2: usize,
        /// Voters in all.
        voters: usize,
    },
    /// α bounds the window of slots that are undecided at once, so 0 would admit none.
    #[error("alpha must be at least 1")]
    AlphaZero,
}

impl Membership {
    /// A membership whose every phase-1 quorum meets its every phase-2 quorum.
    ///
    /// # Errors
    /// `MembershipError` says which rule the arguments break.
    pub fn new(
        mut voters: Vec<Member>,
        mut learners: Vec<Member>,
        quorum: QuorumSystem,
    ) -> Result<Membership, MembershipError> {
        if voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        if voters.len() > VOTERS_MAX {
            return Err(MembershipError::TooManyVoters { count: voters.len() });
        }
        let count = voters.len().saturating_add(learners.len());
        if count > PEERS_MAX.saturating_add(1) {
            return Err(MembershipError::TooManyMembers { count });
        }
        voters.sort_unstable();
        learners.sort_unstable();
        let mut nodes: Vec<NodeId> = voters.iter().chain(&learners).map(|member| member.node).collect();
        nodes.sort_unstable();
        if let Some(twice) = nodes.windows(2).find_map(|pair| match pair {
            [one, two] if one == two => Some(*one),
            _ => None,
        }) {
            return Err(MembershipError::NamedTwice(twice));
        }
        let (phase1, phase2) = (quorum.phase1_size(voters.len()), quorum.phase2_size(voters.len()));
        let possible = (1..=voters.len()).contains(&phase1) && (1..=voters.len()).contains(&phase2);
        if !possible || phase1.saturating_add(phase2) <= voters.len() {
            return Err(MembershipError::Disjoint { phase1, phase2, voters: voters.len() });
        }
        Ok(Membership { voters, learners, quorum })
    }

    /// Those whose votes count, by rising node id.
    pub fn voters(&self) -> &[Member] {
        &self.voters
    }

    /// Those who learn but never vote, by rising node id.
    pub fn learners(&self) -> &[Member] {
        &self.learners
    }

    /// How many votes make a quorum.
    pub fn quorum(&self) -> QuorumSystem {
        self.quorum
    }

    /// Every member, voters first.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.learners)
    }

    /// The member with this id, voter or learner.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members().find(|member| member.node == node)
    }

    /// The set that holds just this voter; `None` for a learner or a stranger, whose votes never count.
    pub fn voter(&self, node: NodeId) -> Option<VoterSet> {
        let position = self.voters.iter().position(|member| member.node == node)?;
        Some(VoterSet::single(position))
    }

    /// Whether these voters are a phase-1 quorum.
    pub fn is_phase1_quorum(&self, voters: VoterSet) -> bool {
        let voters = if mutant(Mutant::Phase1QuorumTooSmall) { voters.one_more() } else { voters };
        voters.count() >= self.quorum.phase1_size(self.voters.len())
    }

    /// Whether these voters are a phase-2 quorum.
    pub fn is_phase2_quorum(&self, voters: VoterSet) -> bool {
        let voters = if mutant(Mutant::Phase2QuorumTooSmall) { voters.one_more() } else { voters };
        voters.count() >= self.quorum.phase2_size(self.voters.len())
    }
}

/// The membership of slot 1 with α: durable on every node before it votes, the same on all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Genesis {
    /// Boxed, so that what holds a genesis is not the largest of its kind.
    membership: Box<Membership>,
    alpha: u64,
}

impl Genesis {
    /// A genesis; `alpha` is how many slots may be undecided at once (Lamport's α; 1 is "R_1").
    ///
    /// # Errors
    /// `MembershipError::AlphaZero` for α = 0.
    pub fn new(membership: Membership, alpha: u64) -> Result<Genesis, MembershipError> {
        if alpha == 0 {
            return Err(MembershipError::AlphaZero);
        }
        Ok(Genesis { membership: Box::new(membership), alpha })
    }

    /// The membership of slot 1.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// At most this many slots are undecided at once.
    pub fn alpha(&self) -> u64 {
        self.alpha
    }

    /// The same checks again, for a genesis that was decoded from bytes.
    ///
    /// # Errors
    /// As `Membership::new` and `Genesis::new`.
    pub fn validated(self) -> Result<Genesis, MembershipError> {
        let Membership { voters, learners, quorum } = *self.membership;
        Genesis::new(Membership::new(voters, learners, quorum)?, self.alpha)
    }
}
