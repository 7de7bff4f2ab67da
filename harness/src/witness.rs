//! Clients that contend for a few keys and write down what they asked, what they were answered, and when.
//!
//! They are few and unhurried: a history has to be judged afterwards, and what makes it telling is contention,
//! not volume. Some commands go through sessions and are repeated until they are answered, some are sent once and
//! may stay of unknown outcome, and some reads go through the log. Afterwards the log tells the slot of each write,
//! so that both checkers can judge.

mod log;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::{self, Judgement};
use crate::client::{Client, ClientError, Patience, Reply};
use crate::linearizability::{Action, Answer, Budget, Command, Condition, History, Operation, Returned};

/// What the witnesses do.
#[derive(Clone, Debug)]
pub struct WitnessOptions {
    /// Members, `host:port` each.
    pub addresses: Vec<String>,
    /// Clients, a thread each.
    pub clients: u64,
    /// Keys that they contend for.
    pub keys: u64,
    /// Between an answer and the next command of a client, half of it at least.
    pub pause: Duration,
    /// Most operations of all clients together.
    pub operations_max: u64,
    /// How long a client tries.
    pub patience: Patience,
    /// Prefix of the keys, which nobody else may write and no run used before.
    pub prefix: String,
}

impl WitnessOptions {
    /// Eight clients on five keys, at most 100,000 operations: about a minute.
    pub fn new(addresses: Vec<String>, prefix: String) -> WitnessOptions {
        let (pause, patience) = (Duration::from_millis(2), Patience::default());
        WitnessOptions { addresses, clients: 8, keys: 5, pause, operations_max: 100_000, patience, prefix }
    }
}

/// What the witnesses saw.
#[derive(Debug)]
pub struct Testimony {
    history: History,
    /// For each operation how to find it in the log.
    marks: Vec<Mark>,
    /// How long the log was before.
    from: u64,
}

/// How an operation is known in the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Mark {
    /// Not in the log: a read of the leader's state.
    Outside,
    /// Session and sequence.
    Once(String, u64),
    /// Its words, which no other command has.
    Plain(Vec<Vec<u8>>),
}

/// What one client must remember.
struct Witness<'a> {
    number: u64,
    options: &'a WitnessOptions,
    client: Client,
    begun: Instant,
    session: Option<(String, u64)>,
    dice: Dice,
    /// The value of each key as last seen, to be compared with.
    seen: Vec<Vec<u8>>,
    written: u64,
}

/// Lets the witnesses work until `stop` says so or they have done all they may. `answered` counts their answers as
/// they come.
///
/// # Errors
/// `ClientError` if the cluster does not answer before they begin.
pub fn run(
    options: &WitnessOptions,
    answered: &AtomicU64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Testimony, ClientError> {
    let mut client = Client::with_patience(options.addresses.clone(), options.patience);
    let from = log::length(&mut client)?;
    let begun = Instant::now();
    let left = AtomicU64::new(options.operations_max);
    let seen = thread::scope(|scope| {
        let work = |number| Witness::new(number, options, begun).work(&left, answered, stop);
        let threads: Vec<_> = (0..options.clients).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let (history, marks) = seen.into_iter().unzip();
    Ok(Testimony { history, marks, from })
}

impl Testimony {
    /// The history, with the slot of every operation that the log has.
    ///
    /// # Errors
    /// `ClientError` if the log cannot be read.
    pub fn with_slots(mut self, client: &mut Client) -> Result<History, ClientError> {
        let slots = log::slots(client, self.from)?;
        for (operation, mark) in self.history.iter_mut().zip(&self.marks) {
            operation.slot = slots.get(mark).copied();
        }
        Ok(self.history)
    }
}

/// What both checkers make of a history of witnesses: whether both find it right, and what they say.
pub fn judge(history: &History) -> (bool, String, Option<String>) {
    let (judgement, text, page) = check::judge(history, &Budget::default());
    (judgement == Judgement::Right, text, page)
}

impl Witness<'_> {
    fn new(number: u64, options: &WitnessOptions, begun: Instant) -> Witness<'_> {
        let client = Client::with_patience(options.addresses.clone(), options.patience);
        let seen = vec![Vec::new(); options.keys as usize];
        Witness { number, options, client, begun, session: None, dice: Dice(number), seen, written: 0 }
    }

    fn work(
        mut self,
        left: &AtomicU64,
        answered: &AtomicU64,
        stop: &dyn Fn() -> bool,
    ) -> Vec<(Operation<Command, Answer>, Mark)> {
        let mut done = Vec::new();
        let take = |left: u64| left.checked_sub(1);
        while !stop() && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            if let Some(seen) = self.turn() {
                answered.fetch_add(u64::from(seen.0.returned.is_some()), Ordering::Relaxed);
                done.push(seen);
            }
            let half_us = self.options.pause.as_micros() as u64 / 2;
            thread::sleep(Duration::from_micros(half_us + self.dice.below(half_us + 1)));
        }
        done
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// One command; nothing if it certainly did not run.
    fn turn(&mut self) -> Option<(Operation<Command, Answer>, Mark)> {
        let key = self.dice.below(self.options.keys.max(1));
        let (action, way) = self.choose(key);
        let command = Command { key: format!("{}:{key}", self.options.prefix).into_bytes(), action };
        let words = command.words();
        let (mark, words) = match way {
            Way::Read => (Mark::Outside, words),
            Way::Plain => (Mark::Plain(words.clone()), words),
            Way::Once => {
                let (id, sequence) = self.next_of_session()?;
                let head = [b"ONCE".to_vec(), id.clone().into_bytes(), sequence.to_string().into_bytes()];
                (Mark::Once(id, sequence), head.into_iter().chain(words).collect())
            }
        };
        let invoked = self.now_ns();
        let answered = match way {
            Way::Plain => self.client.call(&words),
            Way::Read | Way::Once => self.client.read(&words),
        };
        let at = self.now_ns();
        let answer = match answered {
            Ok(Reply::Error(text)) if text.starts_with("STALE") || text.starts_with("SESSIONEXPIRED") => {
                self.session = None;
                None
            }
            Ok(reply) => Some(answer_of(reply)),
            Err(ClientError::Unavailable(_)) => return None,
            Err(ClientError::InDoubt(_) | ClientError::SessionLost(_) | ClientError::Unexpected(_)) => None,
        };
        if let (Action::Get, Some(Answer::Text(value))) = (&command.action, &answer) {
            self.seen[key as usize].clone_from(value);
        }
        let returned = answer.map(|answer| Returned { at, answer });
        Some((Operation { client: self.number, invoked, command, returned, slot: None }, mark))
    }

    fn next_of_session(&mut self) -> Option<(String, u64)> {
        if self.session.is_none() {
            let id = self.client.read(&["ONCE", "NEW"]).ok()?.integer()?;
            self.session = Some((id.to_string(), 0));
        }
        let (id, sequence) = self.session.as_mut()?;
        *sequence += 1;
        Some((id.clone(), *sequence))
    }

    /// What to do to a key: to every third one arithmetic, to the others text.
    fn choose(&mut self, key: u64) -> (Action, Way) {
        self.written += 1;
        let value = || format!("{}-{}.", self.number, self.written).into_bytes();
        let seen = || self.seen[key as usize].clone();
        let arithmetic = key.is_multiple_of(3);
        let set = |value, condition| Action::Set { value, condition, get: false };
        match self.dice.below(20) {
            0..=6 => (Action::Get, Way::Read),
            7 => (Action::Length, Way::Read),
            8 => (Action::Get, Way::Once),
            9 => (Action::Delete, Way::Once),
            10 => (Action::GetDelete, Way::Once),
            _ if arithmetic => (Action::Add(1 + (self.written % 7) as i64), Way::Once),
            11..=13 => (set(value(), Condition::Always), Way::Plain),
            14 => (set(value(), Condition::Absent), Way::Plain),
            15 => (set(value(), Condition::Equal(seen())), Way::Once),
            16 => (Action::GetSet(value()), Way::Once),
            17 => (Action::DeleteIfEqual(seen()), Way::Once),
            18 => (Action::Append(value()), Way::Plain),
            _ => (Action::Append(value()), Way::Once),
        }
    }
}

/// How a command is sent.
#[derive(Clone, Copy)]
enum Way {
    /// Repeated until it is answered, by the leader alone.
    Read,
    /// Sent once.
    Plain,
    /// Through the session, repeated until it is answered.
    Once,
}

fn answer_of(reply: Reply) -> Answer {
    match reply {
        Reply::Status(text) => Answer::Text(text.into_bytes()),
        Reply::Bulk(bytes) => Answer::Text(bytes),
        Reply::Integer(number) => Answer::Integer(number),
        Reply::Nil => Answer::Nil,
        Reply::Error(text) => Answer::Error(text),
        // No command of the witnesses answers these.
        other @ (Reply::Boolean(_) | Reply::Array(_) | Reply::Map(_)) => Answer::Text(other.to_string().into_bytes()),
    }
}

/// A stream of numbers of its own for each client (SplitMix64), the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1 << 32);
        super::load::mix(self.0) % end.max(1)
    }
}

#[cfg(test)]
mod tests;
