//! The proposer: three states, left by being moved. Candidates prepare once for the whole log; leaders bind
//! entries to slots and count votes.

mod leading;
mod preparing;
mod progress;
mod tally;

pub(crate) use leading::{Leading, Limits, Report};
pub(crate) use preparing::{Bounds, Heard, Preparing};
pub(crate) use progress::{Progress, same_state};

use crate::ballot::Ballot;

/// What this replica proposes, if anything.
#[derive(Clone, Hash, Debug)]
pub(crate) enum Proposer {
    /// Proposes nothing.
    Following,
    /// Phase 1 is under way.
    Preparing(Preparing),
    /// Phase 1 is won.
    Leading(Leading),
}

impl Proposer {
    /// The ballot that is tried or led with.
    pub(crate) fn ballot(&self) -> Option<Ballot> {
        match self {
            Proposer::Following => None,
            Proposer::Preparing(preparing) => Some(preparing.ballot()),
            Proposer::Leading(leading) => Some(leading.ballot()),
        }
    }
}
