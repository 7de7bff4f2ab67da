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
#[cfg(paxos_model)]
use crate::config::Config;

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

    /// What of it has consequences while the clock stands still.
    #[cfg(paxos_model)]
    pub(crate) fn hash_at_rest<H: core::hash::Hasher>(&self, config: &Config, state: &mut H) {
        use core::hash::Hash;
        match self {
            Proposer::Following => 0.hash(state),
            Proposer::Preparing(preparing) => preparing.hash_at_rest(state),
            Proposer::Leading(leading) => leading.hash_at_rest(config, state),
        }
    }
}
