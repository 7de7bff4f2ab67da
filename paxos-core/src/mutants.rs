//! Rules broken on purpose, to show that the checks see it. Only a build with `--cfg paxos_mutants` has them; in
//! every other build `mutant` is constant false and the compiler drops what it guards.

/// A rule that can be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Rule 5: a repeated acknowledgement counts as another vote.
    VoteCountedTwice,
    /// Rule 6: testimony leaves before its record is durable.
    TestimonyBeforeSync,
    /// Rule 7: the prefix marks whatever is held below it, as the lecture's firstUnchosenIndex does.
    PlainFirstUnchosenIndex,
}

#[cfg(paxos_mutants)]
mod switch {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static BROKEN: AtomicU8 = AtomicU8::new(0);

    const fn number(mutant: Mutant) -> u8 {
        match mutant {
            Mutant::VoteCountedTwice => 1,
            Mutant::TestimonyBeforeSync => 2,
            Mutant::PlainFirstUnchosenIndex => 3,
        }
    }

    /// Breaks one rule for the whole process, or none.
    pub fn set(mutant: Option<Mutant>) {
        BROKEN.store(mutant.map_or(0, number), Ordering::SeqCst);
    }

    /// Whether this rule is broken.
    pub fn mutant(mutant: Mutant) -> bool {
        BROKEN.load(Ordering::Relaxed) == number(mutant)
    }
}

#[cfg(paxos_mutants)]
pub use switch::{mutant, set};

/// Whether this rule is broken: never, in this build.
#[cfg(not(paxos_mutants))]
#[inline(always)]
pub(crate) const fn mutant(_: Mutant) -> bool {
    false
}
