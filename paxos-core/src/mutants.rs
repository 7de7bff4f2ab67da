//! Rules broken on purpose, to show that the checks see it. Only a build with `--cfg paxos_mutants` can break one; in
//! every other build `mutant` is constant false and the compiler drops what it guards.
//!
//! A hook is one line at the place that holds the rule: `if mutant(Mutant::…)`. What it breaks is told here, so that
//! whoever moves the place knows what has to move with it. What must catch each of them is in
//! `harness/src/sim/mutants.rs`; numbers of rules are those of docs/protocol.md.

use crate::entry::Entries;
use crate::log::{Log, State};
use crate::message::Promise;
use crate::slot::Slot;

/// A rule that can be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Rule 1: one promise less than a phase-1 quorum is taken for one.
    Phase1QuorumTooSmall,
    /// Rule 5: one vote less than a phase-2 quorum is taken for one (never none at all).
    Phase2QuorumTooSmall,
    /// Rule 2: of the values that promises show for a slot, the first one heard wins, not that of the highest ballot.
    FirstValueWins,
    /// Rule 2: a promise leaves out what is known chosen in memory only, though its mark is not durable.
    PromiseForgetsBelowMark,
    /// Rule 4: one variable holds promised and accepted ballot, so that a promise shows every entry as if it had been
    /// accepted under the last ballot before the one that it promises.
    OneBallotVariable,
    /// Rule 1: the last chunk of a promise counts though one before it was lost.
    PromiseGapIgnored,
    /// Rule 18: chunks of a promise join across a restart of their sender.
    StaleBootChunkCounted,
    /// Rule 6: a promise leaves before it is durable.
    PromiseBeforeSync,
    /// Rule 6: a vote leaves, or counts for its own leader, before it is durable.
    VoteBeforeSync,
    /// Rule 4: the ballot of a candidate is not written down, so that a restart uses it again.
    BallotNotWritten,
    /// Rule 6: a leader takes for chosen, applies and answers what only itself has voted for.
    AnsweredBeforeChosen,
    /// Rule 5: a repeated acknowledgement counts as another vote.
    VoteCountedTwice,
    /// Rule 5: an acknowledgement of another ballot counts.
    ForeignVoteCounted,
    /// Rule 5: the acknowledgement of a learner counts as a vote.
    LearnerVoteCounted,
    /// Rule 10: a new leader waits at a gap instead of filling it with a no-op.
    GapNotFilled,
    /// Rule 10 and apply in order: what is chosen behind a hole is applied as if the hole were not there.
    HoleSkipped,
    /// Rule 7: the prefix marks whatever is held below it, as the lecture's firstUnchosenIndex does.
    PlainFirstUnchosenIndex,
    /// Rule 7: the prefix of a leader's heartbeat passes a slot that is neither bound nor known chosen.
    PrefixPassesUnbound,
    /// Rule 4: a promise that comes when the slots are bound changes what is bound.
    LatePromiseRebinds,
    /// Rule 3: an acceptor accepts below its promise.
    AcceptBelowPromise,
    /// Rule 3: accepting does not raise the promise.
    AcceptRaisesNothing,
    /// Rule 9: an acceptor votes for another entry in a slot that it knows chosen.
    ChosenOverwritten,
    /// Rule 11: what was not acknowledged is never sent again.
    NothingSentAgain,
    /// Rule 14: a heartbeat that is a little late is taken for a leader that is lost.
    CampaignAtOnce,
    /// Rule 13: rounds that no honest replica can have reached are believed.
    AbsurdRoundBelieved,
    /// Rule 17: a proposal that was sent and is in doubt is reported refused.
    DoubtReportedRefused,
    /// §4: a leader reads before it has applied what earlier leaders left.
    ReadBeforeInherited,
    /// §4: a leader reads without asking a quorum whether it still leads.
    ReadWithoutRound,
    /// §1: a process starts without the promise that its disk holds.
    PromiseForgottenAtStart,
    /// §1: a process starts without the votes that its disk holds.
    VotesForgottenAtStart,
    /// §7: a damaged group in the middle of the log is dropped with all behind it, as if a crash had torn it.
    CorruptionTakenForTorn,
    /// Rule 16: a repeated request of a session runs again.
    SessionsIgnored,
    /// Rule 16: sessions are closed by a replica's own clock, not by what the log holds.
    SessionsCloseByClock,
}

#[cfg(paxos_mutants)]
mod switch {
    use std::cell::Cell;
    use std::thread_local;

    use super::Mutant;

    thread_local! {
        /// Of a thread, so that campaigns of different mutants, and tests of none, run side by side.
        static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Breaks one rule for this thread, or none.
    pub fn set(mutant: Option<Mutant>) {
        BROKEN.set(mutant);
    }

    /// Whether this rule is broken.
    pub fn mutant(mutant: Mutant) -> bool {
        BROKEN.get() == Some(mutant)
    }
}

#[cfg(paxos_mutants)]
pub use switch::{mutant, set};

/// Whether this rule is broken: never, in this build.
#[cfg(not(paxos_mutants))]
#[inline(always)]
pub const fn mutant(_: Mutant) -> bool {
    false
}

/// What `LatePromiseRebinds` does: slots that are bound under the promised ballot hold what the promise shows.
pub(crate) fn rebind(log: &mut Log, promise: &Promise) {
    for held in &promise.held {
        if log.state(held.slot) == State::Accepted(promise.ballot) {
            log.accept_run(held.slot, promise.ballot, Entries::one(held.entry.clone()));
        }
    }
}

/// What `PrefixPassesUnbound` tells: the slot after the last one chosen below everything accepted, holes or not.
pub(crate) fn prefix_past_holes(log: &Log) -> Slot {
    let (mut slot, mut prefix) = (log.first_unchosen(), log.first_unchosen());
    while slot < log.end() {
        match log.state(slot) {
            State::Accepted(_) => break,
            State::Chosen => prefix = slot.next(),
            State::Empty => {}
        }
        slot = slot.next();
    }
    prefix
}
