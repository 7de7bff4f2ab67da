//! Arbitrary event sequences, crashes and reordering into whole replicas, judged by the invariants.

use transport_sim::{Bare, Schedule, Trace, Violation};

use crate::invariants::Invariants;

/// Most moves of one input: longer ones only slow a fuzzer down.
const MOVES_MAX: usize = 4_096;

/// Runs one input.
///
/// # Panics
/// If an invariant breaks: that is how a fuzzer learns of it.
pub fn run(input: &[u8]) {
    if let Err(violation) = judge(input) {
        panic!("{violation}");
    }
}

/// Runs one input; an input that is no schedule breaks nothing.
///
/// # Errors
/// The broken invariant.
pub fn judge(input: &[u8]) -> Result<(), Violation> {
    let Some(mut schedule) = Schedule::decode(input) else { return Ok(()) };
    schedule.moves.truncate(MOVES_MAX);
    Bare::run(&schedule, Invariants::new(), Trace::silent()).map(|_| ())
}
