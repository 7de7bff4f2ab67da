//! What the checker must be told of a sequential object.

use std::fmt::Debug;
use std::hash::Hash;

/// A sequential specification: what each command does to a state, and what it answers there.
///
/// It is deterministic. Where the specification leaves an answer open, `agrees` says which answers are right.
pub trait Model {
    /// Names the object that a command is about; objects are checked apart from each other, which is sound
    /// because linearizability is local (Herlihy and Wing, theorem 1). `()` if there is only one.
    type Key: Ord + Clone + Debug;
    /// What is asked of it.
    type Command: Eq + Hash;
    /// What it answers.
    type Answer;
    /// The state of one object. Cloned, hashed and compared for every step: keep it cheap, behind an `Arc` if long.
    type State: Clone + Eq + Hash + Debug;

    /// The object that a command is about.
    fn key(&self, command: &Self::Command) -> Self::Key;

    /// The state of every object before the first command.
    fn initial(&self) -> Self::State;

    /// The state after the command ran in `state`, and what it answered.
    fn run(&self, state: &Self::State, command: &Self::Command) -> (Self::State, Self::Answer);

    /// Whether `given` is a right answer where the model says `expected`.
    fn agrees(&self, expected: &Self::Answer, given: &Self::Answer) -> bool;

    /// Whether a command never changes a state in which it gives this answer, or any answer if `None`.
    ///
    /// True lets the checker place it without trying the alternatives, which is most of its speed. False is
    /// always right; true for a command that may change the state makes verdicts wrong.
    fn is_read(&self, _command: &Self::Command, _answer: Option<&Self::Answer>) -> bool {
        false
    }

    /// About how many bytes a state holds outside of its own size, for the bound on memory.
    fn state_bytes(&self, _state: &Self::State) -> usize {
        0
    }
}
