//! The room for `Ballot`, the totally ordered number under which a proposer proposes.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::node_id::NodeId;

/// Ordered by round, then node, then generation ("Part-Time Parliament", §2.2: ballots are unique to their owner).
///
/// There is no zero ballot: "none yet" is `Option<Ballot>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Raised above every round seen before each campaign.
    pub round: u64,
    /// The only node that may propose under this ballot.
    pub node: NodeId,
    /// The slot of the membership entry that admitted the owner's incarnation, 0 for genesis: a node
    /// that is wiped and admitted again can never reuse a ballot of its earlier life.
    pub generation: u64,
}

impl Ballot {
    /// The highest ballot of the round before (see `mutants`).
    pub(crate) fn just_below(self) -> Ballot {
        Ballot { round: self.round.saturating_sub(1), node: NodeId(u32::MAX), generation: u64::MAX }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{self}")
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.node)?;
        if self.generation > 0 {
            write!(f, ".{}", self.generation)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballots_are_ordered_by_round_then_node_then_generation() {
        let ballot = |round, node, generation| Ballot { round, node: NodeId(node), generation };
        let rising = [ballot(1, 1, 0), ballot(1, 1, 9), ballot(1, 2, 0), ballot(2, 1, 0), ballot(2, 1, 1)];
        assert!(rising.is_sorted_by(|a, b| a < b));
    }
}
