//! A linearizability checker that can be used alone: it knows nothing of the rest of this crate.
//!
//! Give it a [`Model`], the sequential specification of an object, and a history, which is a list of
//! [`Operation`]s with the times at which they were invoked and returned. [`check`] says whether there is one
//! order of the operations that agrees with all answers and with real time (Herlihy and Wing, 1990), and if not,
//! which operation fits into no order. [`Store`] is the model of a key-value store with Redis' commands;
//! histories of it are read and written as lines of JSON ([`read_history`], [`write_history`]; the format is in
//! docs/verification.md), and [`picture`] draws what is wrong as an HTML page.
//!
//! [`check_slots`] is a second opinion for histories that know the slot of the log at which each write was
//! applied. It takes one pass and trusts the log's order instead of searching for one, so it also finds a log
//! that disagrees with the answers where another order would do.
//!
//! ```
//! use harness::linearizability::{Budget, Model, Operation, Returned, Verdict, check};
//!
//! /// A register that holds a number, 0 at first.
//! struct Register;
//!
//! #[derive(PartialEq, Eq, Hash)]
//! enum Command {
//!     Write(u64),
//!     Read,
//! }
//!
//! impl Model for Register {
//!     type Key = ();
//!     type Command = Command;
//!     type Answer = u64;
//!     type State = u64;
//!
//!     fn key(&self, _: &Command) {}
//!
//!     fn initial(&self) -> u64 {
//!         0
//!     }
//!
//!     fn run(&self, state: &u64, command: &Command) -> (u64, u64) {
//!         match command {
//!             Command::Write(value) => (*value, *value),
//!             Command::Read => (*state, *state),
//!         }
//!     }
//!
//!     fn agrees(&self, expected: &u64, given: &u64) -> bool {
//!         expected == given
//!     }
//! }
//!
//! let operation = |client, invoked, command, at, answer| Operation {
//!     client,
//!     invoked,
//!     command,
//!     returned: Some(Returned { at, answer }),
//!     slot: None,
//! };
//! // The second client reads while the first one writes: either value will do, but not the new one before the old.
//! let mut history = vec![
//!     operation(1, 0, Command::Write(7), 100, 7),
//!     operation(2, 10, Command::Read, 20, 0),
//!     operation(2, 30, Command::Read, 40, 7),
//! ];
//! assert!(check(&Register, &history, &Budget::default()).is_linearizable());
//!
//! history.push(operation(2, 50, Command::Read, 60, 0));
//! let Verdict::NotLinearizable(offence) = check(&Register, &history, &Budget::default()) else {
//!     panic!("a read of a value that was overwritten");
//! };
//! assert_eq!((offence.culprit, offence.states), (3, vec![7]));
//! ```

mod bits;
mod explain;
mod history;
mod lines;
mod model;
mod picture;
mod report;
mod search;
mod slots;
mod store;
mod verdict;

use std::collections::BTreeMap;

pub use history::{Operation, Returned};
pub use lines::{History, HistoryError, read_history, write_history};
pub use model::Model;
pub use picture::picture;
pub use report::{describe, describe_slots};
pub use slots::{SlotTally, SlotViolation, check_slots};
pub use store::{Action, Answer, Command, CommandError, Condition, Store};
pub use verdict::{BEFORE_SHOWN_MAX, Budget, Exhausted, Offence, STATES_SHOWN_MAX, Verdict};

use explain::explain;
use search::{END, Found, search};
use verdict::Purse;

/// Whether there is an order of the operations that agrees with the model, all answers and real time.
///
/// Each key is searched apart. If several have no order, the one whose culprit returned first is reported.
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Command, M::Answer>],
    budget: &Budget,
) -> Verdict<M::Key, M::State> {
    let mut keys = BTreeMap::<M::Key, Vec<usize>>::new();
    for (at, operation) in history.iter().enumerate() {
        keys.entry(model.key(&operation.command)).or_default().push(at);
    }
    let mut purse = Purse::new(budget);
    let mut orders = BTreeMap::new();
    let mut offence: Option<Offence<M::Key, M::State>> = None;
    let mut unknown = None;
    for (key, members) in keys {
        purse.refill_memory();
        match search(model, history, &members, END, &mut purse) {
            Ok(Found::Order(order)) => {
                orders.insert(key, order);
            }
            Ok(Found::Nothing(end)) => {
                let found = explain(model, history, key, &members, end, &mut purse);
                let earlier = |known: &Offence<_, _>| history[known.culprit].end() <= history[found.culprit].end();
                if !offence.as_ref().is_some_and(earlier) {
                    offence = Some(found);
                }
            }
            Err(exhausted) => {
                unknown.get_or_insert((key, exhausted));
            }
        }
    }
    match (offence, unknown) {
        (Some(offence), _) => Verdict::NotLinearizable(Box::new(offence)),
        (None, Some((key, exhausted))) => Verdict::Unknown { key, exhausted },
        (None, None) => Verdict::Linearizable { orders },
    }
}

#[cfg(test)]
mod tests;
