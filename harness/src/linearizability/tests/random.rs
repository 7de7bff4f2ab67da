//! Small random histories, valid, mutated and arbitrary: the checker and the exhaustive tester say the same.

use std::cell::Cell;

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::{brute, stateright};
use crate::linearizability::{
    Action, Answer, Budget, Command, Condition, Model, Operation, Returned, Store, Verdict, check, check_slots,
    read_history, write_history,
};

type Small = Vec<Operation<Command, Answer>>;

/// Most operations of a history: the exhaustive tester tries up to 7! orders.
const OPERATIONS_MAX: usize = 7;

/// Few values, so that operations meet.
fn value(choice: u8) -> Vec<u8> {
    vec![b"123"[choice as usize % 3]]
}

fn action(choice: u8, argument: u8) -> Action {
    match choice % 14 {
        0..=3 => Action::Get,
        4 | 5 => Action::Set { value: value(argument), condition: Condition::Always, get: false },
        6 => Action::Set { value: value(argument), condition: Condition::Equal(value(argument / 3)), get: false },
        7 => Action::Set { value: value(argument), condition: Condition::Absent, get: argument > 99 },
        8 => Action::SetNew(value(argument)),
        9 => Action::GetSet(value(argument)),
        10 => Action::Append(value(argument)),
        11 => Action::Add(i64::from(argument % 2) * 2 - 1),
        12 => Action::DeleteIfEqual(value(argument)),
        _ => {
            if argument.is_multiple_of(2) {
                Action::Delete
            } else {
                Action::GetDelete
            }
        }
    }
}

/// What one operation is made of; shrinks to fewer and smaller ones.
type Seed = (u8, u8, u8, u8);

/// A history of a register that ran the operations one after the other, each at a moment of its own between its
/// invocation and its return. Some outcomes are unknown; of those, some never ran.
fn valid(seeds: &[Seed]) -> Small {
    let mut state = Store.initial();
    let mut slot = 0;
    let mut history = Vec::new();
    for (at, (choice, argument, before, after)) in seeds.iter().take(OPERATIONS_MAX).enumerate() {
        let command = Command { key: b"k".to_vec(), action: action(*choice, *argument) };
        let moment = 40 + 10 * at as u64;
        let invoked = moment - u64::from(before % 40);
        let unknown = *after >= 200;
        let (mut returned, mut place) = (None, None);
        if !unknown || after % 2 == 0 {
            let (next, answer) = Store.run(&state, &command);
            state = next;
            slot += 1;
            place = Some(slot);
            returned = (!unknown).then_some(Returned { at: moment + u64::from(after % 40), answer });
        }
        // A read may know where it was served, in the log or not.
        let slot = place.filter(|_| argument % 2 == 0 || !Store.is_read(&command, None));
        history.push(Operation { client: at as u64, invoked, command, returned, slot });
    }
    history
}

fn answer(choice: u8) -> Answer {
    match choice % 8 {
        0 => Answer::Nil,
        1 => Answer::Text(b"OK".to_vec()),
        2 => Answer::Integer(0),
        3 => Answer::Integer(1),
        4 => Answer::Integer(2),
        5 => Answer::Error("x".into()),
        _ => Answer::Text(value(choice / 8)),
    }
}

/// What is done to a valid history. Not every mutation makes it invalid: the exhaustive tester decides.
fn mutated(seeds: &[Seed], (kind, at, other, choice): Seed) -> Small {
    let mut history = valid(seeds);
    if history.is_empty() {
        return history;
    }
    let (at, other) = (at as usize % history.len(), other as usize % history.len());
    match kind % 6 {
        // Another answer.
        0 | 1 => {
            if let Some(returned) = &mut history[at].returned {
                returned.answer = answer(choice);
            }
        }
        // The answer of another operation.
        2 => {
            let stolen = history[other].returned.as_ref().map(|returned| returned.answer.clone());
            if let (Some(returned), Some(stolen)) = (&mut history[at].returned, stolen) {
                returned.answer = stolen;
            }
        }
        // It was lost, or written by nobody.
        3 => {
            history.remove(at);
        }
        // It ran once more than it was asked to.
        4 => {
            let Operation { command, .. } = history[at].clone();
            let twice = seeds
                .iter()
                .take(OPERATIONS_MAX)
                .enumerate()
                .flat_map(|(place, seed)| std::iter::repeat_n(*seed, if place == at { 2 } else { 1 }));
            let mut doubled = valid(&twice.take(OPERATIONS_MAX).collect::<Vec<Seed>>());
            if at + 1 < doubled.len() && doubled[at + 1].command == command {
                doubled.remove(at);
            }
            history = doubled;
        }
        // It happened at the time of another one.
        _ => {
            let (invoked, end) = (history[other].invoked, history[other].end());
            history[at].invoked = invoked;
            if let Some(returned) = &mut history[at].returned {
                returned.at = if end == u64::MAX { invoked + 5 } else { end };
            }
        }
    }
    history
}

/// Anything: most of these have no order.
fn arbitrary(seeds: &[Seed]) -> Small {
    let operation = |(at, (choice, argument, begin, end)): (usize, &Seed)| {
        let invoked = u64::from(begin % 32);
        let command = Command { key: b"k".to_vec(), action: action(*choice, *argument) };
        let returned = (*end < 220)
            .then(|| Returned { at: invoked + u64::from(end % 16), answer: answer(argument ^ choice.rotate_left(3)) });
        Operation { client: at as u64, invoked, command, returned, slot: None }
    };
    seeds.iter().take(OPERATIONS_MAX).enumerate().map(operation).collect()
}

/// The verdict, after everything that it claims has been checked.
fn agrees(history: &Small) -> Result<bool, String> {
    let expected = brute::has_order(&Store, history);
    let found = match check(&Store, history, &Budget::default()) {
        Verdict::Linearizable { orders } => {
            for order in orders.values() {
                if !brute::is_order(&Store, history, order) {
                    return Err(format!("{order:?} is no order"));
                }
            }
            true
        }
        Verdict::NotLinearizable(offence) => {
            // With what was known at the culprit's return there is no order; with what was known before, `placed`.
            let moment = (history[offence.culprit].end(), offence.culprit);
            let known = |before: bool| -> Small {
                let hide = |(at, operation): (usize, &Operation<Command, Answer>)| {
                    let mut operation = operation.clone();
                    let seen = |end: u64| (end, at) < moment || !before && at == offence.culprit;
                    operation.returned = operation.returned.filter(|returned| seen(returned.at));
                    operation
                };
                history.iter().enumerate().map(hide).collect()
            };
            if brute::has_order(&Store, &known(false)) {
                return Err(format!("the history has an order up to the culprit: {offence:?}"));
            }
            if !offence.placed.iter().all(|at| history[*at].invoked <= moment.0)
                || !brute::is_order(&Store, &known(true), &offence.placed)
            {
                return Err(format!("what is placed has not this order: {offence:?}"));
            }
            if !offence.window.contains(&offence.culprit) || offence.states.is_empty() {
                return Err(format!("the culprit is in the window, and some state is possible: {offence:?}"));
            }
            false
        }
        Verdict::Unknown { key, exhausted } => return Err(format!("unknown: {key:?} {exhausted}")),
    };
    if !found && history.iter().any(|operation| operation.slot.is_some()) && check_slots(&Store, history).is_ok() {
        return Err("the oracle passes what has no order".into());
    }
    if found == expected { Ok(found) } else { Err(format!("found {found}, the exhaustive tester {expected}")) }
}

/// A kind of history made of seeds.
#[derive(Clone, Debug)]
struct Seeds(Vec<Seed>, Seed);

impl Arbitrary for Seeds {
    fn arbitrary(g: &mut Gen) -> Seeds {
        let count = usize::arbitrary(g) % (OPERATIONS_MAX + 1);
        Seeds((0..count).map(|_| Arbitrary::arbitrary(g)).collect(), Arbitrary::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Seeds>> {
        Box::new((self.0.clone(), self.1).shrink().map(|(seeds, mutation)| Seeds(seeds, mutation)))
    }
}

/// How to make a history.
type Make = fn(&Seeds) -> Small;

/// Runs the property over so many histories and says how many of them had an order.
fn share_with_order(tests: u64, make: Make) -> (u64, u64) {
    thread_local! {
        static WITH: Cell<u64> = const { Cell::new(0) };
        static WITHOUT: Cell<u64> = const { Cell::new(0) };
        static MAKE: Cell<Option<Make>> = const { Cell::new(None) };
    }
    fn property(seeds: Seeds) -> Result<bool, String> {
        let Some(make) = MAKE.get() else { return Err("no kind of history".into()) };
        let history = make(&seeds);
        let count = if agrees(&history).map_err(|error| format!("{error}\n{history:#?}"))? { &WITH } else { &WITHOUT };
        count.set(count.get() + 1);
        Ok(true)
    }
    MAKE.set(Some(make));
    WITH.set(0);
    WITHOUT.set(0);
    QuickCheck::new().tests(tests).max_tests(tests).quickcheck(property as fn(Seeds) -> Result<bool, String>);
    (WITH.get(), WITHOUT.get())
}

#[test]
fn valid_histories_have_an_order() {
    let (with, without) = share_with_order(10_000, |Seeds(seeds, _)| valid(seeds));
    assert_eq!((with, without), (10_000, 0));
}

#[test]
fn the_tester_of_stateright_agrees() {
    fn property(Seeds(seeds, mutation): Seeds) -> Result<(), String> {
        for history in [valid(&seeds), mutated(&seeds, mutation), arbitrary(&seeds)] {
            let (found, theirs) =
                (check(&Store, &history, &Budget::default()).is_linearizable(), stateright::has_order(&history));
            if found != theirs {
                return Err(format!("found {found}, stateright {theirs}\n{history:#?}"));
            }
        }
        Ok(())
    }
    QuickCheck::new().tests(3_000).quickcheck(property as fn(Seeds) -> Result<(), String>);
}

#[test]
fn histories_survive_being_written_and_read() {
    fn property(Seeds(seeds, _): Seeds, key: Vec<u8>) -> Result<(), String> {
        let mut history = valid(&seeds);
        for operation in &mut history {
            operation.command.key.clone_from(&key);
            if let Some(Returned { answer: Answer::Text(text), .. }) = &mut operation.returned {
                text.extend_from_slice(&key);
            }
        }
        let mut lines = Vec::new();
        write_history(&history, &mut lines).map_err(|error| error.to_string())?;
        let read = read_history(&lines[..]).map_err(|error| error.to_string())?;
        if read == history { Ok(()) } else { Err(format!("{read:#?}\n{}", String::from_utf8_lossy(&lines))) }
    }
    QuickCheck::new().tests(2_000).quickcheck(property as fn(Seeds, Vec<u8>) -> Result<(), String>);
}

#[test]
fn the_oracle_passes_valid_histories() {
    fn property(Seeds(seeds, _): Seeds) -> Result<(), String> {
        let history = valid(&seeds);
        check_slots(&Store, &history).map(|_| ()).map_err(|violation| format!("{violation}\n{history:#?}"))
    }
    QuickCheck::new().tests(10_000).quickcheck(property as fn(Seeds) -> Result<(), String>);
}

#[test]
fn mutated_histories_are_rejected_exactly_when_the_exhaustive_tester_rejects_them() {
    let (with, without) = share_with_order(20_000, |Seeds(seeds, mutation)| mutated(seeds, *mutation));
    assert!(with > 2_000 && without > 2_000, "{with} with an order, {without} without");
    println!("mutated: {with} with an order, {without} without");
}

#[test]
fn arbitrary_histories_are_judged_as_the_exhaustive_tester_judges_them() {
    let (with, without) = share_with_order(20_000, |Seeds(seeds, _)| arbitrary(seeds));
    assert!(with > 2_000 && without > 2_000, "{with} with an order, {without} without");
    println!("arbitrary: {with} with an order, {without} without");
}
