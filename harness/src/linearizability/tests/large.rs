//! Long histories: quick enough to check after every test, and still rejected for one wrong answer.

use std::time::{Duration, Instant};

use crate::linearizability::tests::brute;
use crate::linearizability::{
    Action, Answer, Budget, Command, Condition, History, Model, Operation, Returned, Store, Verdict, check, check_slots,
};

/// What a history is made of.
struct Shape {
    operations: usize,
    keys: u64,
    clients: u64,
    /// Of a thousand operations, how many have an unknown outcome.
    unknown: u64,
}

/// The issue's: 10,000 operations of 16 clients on 10 keys.
const TARGET: Shape = Shape { operations: 10_000, keys: 10, clients: 16, unknown: 5 };

/// A stream of numbers that is the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Clients that have one operation open nearly always, each of which takes effect at a moment in between, in the
/// order of the slots. An operation of unknown outcome ends its client, as it would a connection; another one
/// takes its place.
fn valid(shape: &Shape, seed: u64) -> History {
    let mut dice = Dice(seed);
    let mut idle_from: Vec<u64> = (0..shape.clients).map(|_| dice.below(50)).collect();
    let mut planned = Vec::new();
    for number in 0..shape.operations as u64 {
        let client = (0..idle_from.len()).min_by_key(|client| idle_from[*client]).unwrap_or(0);
        let value = format!("v{number}").into_bytes();
        let action = match dice.below(20) {
            0..=7 => Action::Get,
            8..=11 => Action::Set { value, condition: Condition::Always, get: false },
            12..=14 => Action::Append(b"x".to_vec()),
            15 => Action::SetNew(value),
            16 => Action::GetSet(value),
            17 => Action::Set { value, condition: Condition::Present, get: false },
            18 => Action::Delete,
            _ => Action::Length,
        };
        let command = Command { key: format!("key{}", dice.below(shape.keys)).into_bytes(), action };
        let invoked = idle_from[client] + dice.below(10);
        let moment = invoked + 1 + dice.below(100);
        let end = moment + 1 + dice.below(100);
        idle_from[client] = end;
        let unknown = dice.below(1_000) < shape.unknown;
        let moment = match (unknown, dice.below(3)) {
            (true, 0) => None, // it never ran
            (true, 1) => Some(moment + 2_000),
            _ => Some(moment),
        };
        planned.push((moment, invoked, client as u64, command, (!unknown).then_some(end)));
    }
    planned.sort_by_key(|(moment, ..)| *moment);
    let mut states = std::collections::BTreeMap::new();
    let mut slot = 0;
    let run = |(moment, invoked, client, command, end): (Option<u64>, u64, u64, Command, Option<u64>)| {
        if moment.is_none() {
            return Operation { client, invoked, command, returned: None, slot: None };
        }
        let state = states.entry(command.key.clone()).or_insert(Store.initial());
        let (after, answer) = Store.run(state, &command);
        *state = after;
        let write = !Store.is_read(&command, None);
        slot += u64::from(write);
        let returned = end.map(|at| Returned { at, answer });
        Operation { client, invoked, command, returned, slot: write.then_some(slot) }
    };
    planned.into_iter().map(run).collect()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    println!("{what}: {took:.2?}");
    assert!(took < Duration::from_secs(10), "{what} took {took:?}");
    done
}

#[test]
fn ten_thousand_operations_of_16_clients_on_10_keys_take_less_than_10_s() {
    for seed in 0..3 {
        let history = valid(&TARGET, seed);
        let verdict = timed("the search", || check(&Store, &history, &Budget::default()));
        let Verdict::Linearizable { orders } = verdict else { panic!("seed {seed}: {verdict:?}") };
        assert_eq!(orders.len() as u64, TARGET.keys);
        for (key, order) in orders {
            let of_key = |operation: &&Operation<Command, Answer>| operation.command.key == key;
            let count = history.iter().filter(of_key).filter(|operation| operation.returned.is_some()).count();
            assert!(order.len() >= count && brute::is_order_of_members(&Store, &history, &order), "{key:?}");
        }
        let tally = timed("the oracle", || check_slots(&Store, &history)).expect("the log explains it");
        assert_eq!(tally.writes + tally.reads, history.iter().filter(|one| one.returned.is_some()).count());
    }
}

/// Sixteen writes open at any time have many more orders; the search tries about a hundred per return.
#[test]
fn sixteen_clients_on_one_key_take_longer_and_end() {
    let history = valid(&Shape { operations: 2_000, keys: 1, ..TARGET }, 1);
    let verdict = timed("one key", || check(&Store, &history, &Budget::default()));
    assert!(verdict.is_linearizable(), "{verdict:?}");
}

#[test]
fn one_stale_read_in_a_long_history_is_found() {
    let mut found = 0;
    for seed in 0..4 {
        let mut history = valid(&Shape { unknown: 1, ..TARGET }, seed);
        // A read gets the value that was read of its key long before.
        let reads: Vec<usize> = (0..history.len())
            .filter(|at| history[*at].command.action == Action::Get && history[*at].returned.is_some())
            .collect();
        let late = reads[reads.len() * 3 / 4 + seed as usize];
        let old = reads.iter().find(|old| {
            let values = [late, **old].map(|at| history[at].returned.as_ref().map(|returned| &returned.answer));
            history[**old].command == history[late].command && matches!(values[1], Some(Answer::Text(_)))
        });
        let stale = old.and_then(|old| history[*old].returned.clone()).expect("an earlier read").answer;
        let at = history[late].end();
        history[late].returned = Some(Returned { at, answer: stale });
        let verdict = timed("a stale read", || check(&Store, &history, &Budget::default()));
        let Verdict::NotLinearizable(offence) = verdict else { panic!("seed {seed}: {verdict:?}") };
        assert_eq!(offence.culprit, late);
        assert!(offence.window.len() < 100, "{} operations in the window", offence.window.len());
        assert!(check_slots(&Store, &history).is_err());
        found += 1;
    }
    assert_eq!(found, 4);
}
