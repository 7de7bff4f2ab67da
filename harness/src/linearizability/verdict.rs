//! What the checker found, and how much it may spend to find it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What a check may spend. The question is NP-complete: a bound is the only promise that it ends.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Commands that the model runs, over all keys.
    pub steps_max: u64,
    /// Wall time.
    pub time_max: Duration,
    /// About how much memory the search remembers things in.
    pub memory_bytes_max: usize,
}

impl Default for Budget {
    /// A minute and a gigabyte: histories of fault tests need milliseconds, so more would not help a hard one.
    fn default() -> Budget {
        Budget { steps_max: u64::MAX, time_max: Duration::from_secs(60), memory_bytes_max: 1 << 30 }
    }
}

/// Which part of the budget was not enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exhausted {
    /// `steps_max`.
    Steps,
    /// `time_max`.
    Time,
    /// `memory_bytes_max`.
    Memory,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exhausted::Steps => "steps",
            Exhausted::Time => "time",
            Exhausted::Memory => "memory",
        })
    }
}

/// What is known of a history. Operations are named by their place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<K, S> {
    /// It has an order. The proof: for each key one order in which the model gives every answer.
    Linearizable {
        /// Every operation with a known outcome, and of the others those that ran.
        orders: BTreeMap<K, Vec<usize>>,
    },
    /// It has none.
    NotLinearizable(Box<Offence<K, S>>),
    /// The budget did not suffice for this key; no other key was found to have no order.
    Unknown {
        /// The first such key.
        key: K,
        /// What was used up.
        exhausted: Exhausted,
    },
}

impl<K, S> Verdict<K, S> {
    /// Whether an order was found.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Verdict::Linearizable { .. })
    }
}

/// Why a history has no order: up to some moment it has one, and then an operation returns that fits into none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offence<K, S> {
    /// The object.
    pub key: K,
    /// The operation whose return makes an order impossible: what was known before it has one.
    pub culprit: usize,
    /// That order: everything that returned earlier, and what of the open operations, the culprit perhaps among
    /// them with another answer, must have run by then.
    pub placed: Vec<usize>,
    /// What else was open when the culprit returned.
    pub open: Vec<usize>,
    /// States in which the object can be when the culprit returns, in none of which its answer is right; at most
    /// `STATES_SHOWN_MAX` of them.
    pub states: Vec<S>,
    /// Whether there are more such states.
    pub more_states: bool,
    /// The smallest part of the history that shows it, given the order of what returned earlier: everything that
    /// was open at some time while the culprit was, itself included, by rising time of invocation; without operations
    /// of unknown outcome that do not matter then.
    pub window: Vec<usize>,
    /// The last operations before the window, for orientation.
    pub before: Vec<usize>,
}

/// States that an `Offence` names.
pub const STATES_SHOWN_MAX: usize = 8;

/// Operations before the window that an `Offence` names: enough to see where a stale value came from.
pub const BEFORE_SHOWN_MAX: usize = 8;

/// What is left of a budget.
#[derive(Debug)]
pub(super) struct Purse {
    steps: u64,
    bytes: usize,
    memory_bytes_max: usize,
    until: Option<Instant>,
}

/// The clock is asked once in so many steps.
const STEPS_PER_LOOK: u64 = 256;

impl Purse {
    pub(super) fn new(budget: &Budget) -> Purse {
        let until = Instant::now().checked_add(budget.time_max);
        let bytes = budget.memory_bytes_max;
        Purse { steps: budget.steps_max, bytes, memory_bytes_max: bytes, until }
    }

    /// Pays for one step of the model.
    pub(super) fn step(&mut self) -> Result<(), Exhausted> {
        self.steps = self.steps.checked_sub(1).ok_or(Exhausted::Steps)?;
        if self.steps.is_multiple_of(STEPS_PER_LOOK) && self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Exhausted::Time);
        }
        Ok(())
    }

    /// Pays for something to be remembered.
    pub(super) fn remember(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Exhausted::Memory)?;
        Ok(())
    }

    /// Gets back what was paid for something that is dropped.
    pub(super) fn forget(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Forgets what the search of one key remembered.
    pub(super) fn refill_memory(&mut self) {
        self.bytes = self.memory_bytes_max;
    }
}
