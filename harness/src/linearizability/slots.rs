//! The slot-order oracle: one pass over a history that knows where in the log its writes are.
//!
//! The log fixes the order, so nothing is searched for. Writes run in the order of their slots and must answer
//! as they did; an operation that returned before another was invoked has no later place; a read has a place
//! behind every write that was acknowledged before it began, and answers what its key held there.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::{Model, Operation};

/// What the oracle went over when it found nothing wrong.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SlotTally {
    /// Writes with an answer.
    pub writes: usize,
    /// Writes without an answer that are in the log.
    pub applied_unknown: usize,
    /// Writes without an answer that are not.
    pub absent_unknown: usize,
    /// Reads with an answer.
    pub reads: usize,
}

impl fmt::Display for SlotTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlotTally { writes, applied_unknown, absent_unknown, reads } = self;
        write!(f, "in slot order: {writes} writes and {reads} reads; ")?;
        write!(f, "of the writes of unknown outcome {applied_unknown} are in the log and {absent_unknown} are not")
    }
}

/// Which rule a history breaks. Operations are named by their place in it, in words counted from 1.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SlotViolation {
    /// A write out of nothing: it was acknowledged, and the log does not have it.
    #[error("operation {} was answered and is in no slot", .0 + 1)]
    Absent(usize),
    /// Two writes claim one slot.
    #[error("operations {} and {} are both in slot {slot}", .0 + 1, .1 + 1, slot = .2)]
    Shared(usize, usize, u64),
    /// The log disagrees with an answer.
    #[error("operation {} in slot {slot} was answered otherwise than a replay of the log answers", operation + 1)]
    Answer {
        /// Whose answer.
        operation: usize,
        /// Where it ran.
        slot: u64,
    },
    /// It took its place before something that had ended when it began.
    #[error("operation {} has slot {slot}, but began after operation {} ended, which has {at}", operation + 1, earlier + 1)]
    Order {
        /// What came too late for its slot.
        operation: usize,
        /// Its slot.
        slot: u64,
        /// What had ended.
        earlier: usize,
        /// The place of that.
        at: u64,
    },
    /// A read without a slot answers what its key held at no time from its begin on.
    #[error("operation {} read what its key holds at no slot from {from} to {to}", operation + 1)]
    Read {
        /// The read.
        operation: usize,
        /// The latest place of anything that had ended when it began.
        from: u64,
        /// The last slot that was written when it ended.
        to: u64,
    },
}

/// Whether the slots of a history explain it. Histories without slots are refused: their writes are absent.
///
/// A read (see [`Model::is_read`]) may have a slot, then it is served behind that slot, or none, then it is
/// placed at the first one where its answer is right, which leaves the most room for all others.
///
/// # Errors
/// The first violation found.
pub fn check_slots<M: Model>(
    model: &M,
    history: &[Operation<M::Command, M::Answer>],
) -> Result<SlotTally, SlotViolation> {
    let replay = Replay::new(model, history)?;
    let mut tally = SlotTally::default();
    // At equal times invocations come first: operations that touch are concurrent.
    let mut events = Vec::with_capacity(history.len() * 2);
    for (at, operation) in history.iter().enumerate() {
        events.push((operation.invoked, false, at));
        events.extend(operation.returned.as_ref().map(|returned| (returned.at.max(operation.invoked), true, at)));
    }
    events.sort_unstable();
    // The latest place of anything that ended, and whose it is; for each open operation as it was when it began.
    let mut floor = (0, 0);
    let mut floors = vec![(0, 0); history.len()];
    for (_, returns, at) in events {
        let operation = &history[at];
        let read = model.is_read(&operation.command, None);
        if !returns {
            floors[at] = floor;
            let (place, earlier) = floor;
            if let Some(slot) = operation.slot
                && (slot < place || slot == place && !read && place > 0)
            {
                return Err(SlotViolation::Order { operation: at, slot, earlier, at: place });
            }
            match (operation.slot, &operation.returned) {
                _ if read => {}
                (_, Some(_)) => tally.writes += 1,
                (Some(_), None) => tally.applied_unknown += 1,
                (None, None) => tally.absent_unknown += 1,
            }
            continue;
        }
        let place = match operation.slot {
            Some(slot) => slot,
            None if !read => return Err(SlotViolation::Absent(at)),
            None => replay.place_of_read(at, floors[at].0)?,
        };
        if read {
            tally.reads += 1;
        }
        if place > floor.0 {
            floor = (place, at);
        }
    }
    Ok(tally)
}

/// The log run through the model.
struct Replay<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Command, M::Answer>],
    /// The states of each key, with the slot that made them; the initial one with slot 0.
    states: BTreeMap<M::Key, Vec<(u64, M::State)>>,
    last: u64,
}

impl<'a, M: Model> Replay<'a, M> {
    /// Runs every write in the order of the slots, and compares the answers of all that has a slot.
    fn new(model: &'a M, history: &'a [Operation<M::Command, M::Answer>]) -> Result<Replay<'a, M>, SlotViolation> {
        // Reads come behind the write of their slot.
        let mut slots: Vec<(u64, bool, usize)> = Vec::new();
        for (at, operation) in history.iter().enumerate() {
            slots.extend(operation.slot.map(|slot| (slot, model.is_read(&operation.command, None), at)));
        }
        slots.sort_unstable();
        let writes: Vec<&(u64, bool, usize)> = slots.iter().filter(|(_, read, _)| !read).collect();
        if let Some(pair) = writes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(SlotViolation::Shared(pair[0].2, pair[1].2, pair[0].0));
        }
        let last = slots.last().map_or(0, |(slot, ..)| *slot);
        let mut replay = Replay { model, history, states: BTreeMap::new(), last };
        for (slot, read, at) in slots {
            let command = &history[at].command;
            let states = replay.states.entry(model.key(command)).or_insert_with(|| vec![(0, model.initial())]);
            let Some((_, state)) = states.last() else { continue };
            let (after, answer) = model.run(state, command);
            let right = history[at].returned.as_ref().is_none_or(|returned| model.agrees(&answer, &returned.answer));
            if !right {
                return Err(SlotViolation::Answer { operation: at, slot });
            }
            if !read && after != *state {
                states.push((slot, after));
            }
        }
        Ok(replay)
    }

    /// The first slot from `floor` on behind which the answer of a read is right.
    fn place_of_read(&self, at: usize, floor: u64) -> Result<u64, SlotViolation> {
        let operation = &self.history[at];
        let initial = [(0, self.model.initial())];
        let states = self.states.get(&self.model.key(&operation.command)).map_or(&initial[..], Vec::as_slice);
        let from = states.partition_point(|(slot, _)| *slot <= floor).saturating_sub(1);
        let right = |(_, state): &&(u64, M::State)| {
            let (_, answer) = self.model.run(state, &operation.command);
            operation.returned.as_ref().is_none_or(|returned| self.model.agrees(&answer, &returned.answer))
        };
        let found = states[from..].iter().find(right).map(|(slot, _)| (*slot).max(floor));
        found.ok_or(SlotViolation::Read { operation: at, from: floor, to: self.last })
    }
}
