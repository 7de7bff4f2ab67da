//! The room for what clients ask for: drawn or listed, and when the next of it is due.

use bytes::Bytes;
use paxos_core::Instant;

use super::{Client, Wish};
use crate::rng::Rng;

/// Names one operation of one client, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId {
    /// Which client.
    pub client: u32,
    /// From 1.
    pub number: u64,
}

/// What a client asks for, however often it has to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// The command, without the ONCE before it.
    pub args: Vec<Bytes>,
    /// Session and sequence, if it is to run at most once however often it is sent.
    pub once: Option<(Bytes, u64)>,
}

impl Operation {
    /// Whether it changes nothing, so that it can be asked again.
    pub fn is_read(&self) -> bool {
        matches!(self.args.first().map(|verb| &verb[..]), Some(b"GET" | b"STRLEN" | b"EXISTS" | b"MGET"))
    }
}

/// How a client behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Its name.
    pub client: u32,
    /// When it begins, in microseconds of the world.
    pub begins_us: u64,
    /// Most operations without a reply at once.
    pub depth: usize,
    /// Gives up a connection on which a reply is late by this much, in microseconds.
    pub patience_us: u64,
    /// Uses a session for what writes.
    pub once: bool,
    /// What it asks for.
    pub asks: Asks,
}

/// What a client asks for, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asks {
    /// Drawn from the seed.
    Drawn {
        /// How many operations it begins in all.
        operations: u64,
        /// Between bursts, in microseconds on average.
        think_us: u64,
        /// How many keys there are.
        keys: u64,
    },
    /// One by one, by rising time; those of one moment are sent together.
    Listed(Vec<Ask>),
}

/// One operation of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Its number among its client's, for ever.
    pub number: u64,
    /// It begins no earlier.
    pub due: Instant,
    /// The command, without the ONCE before it.
    pub args: Vec<Bytes>,
}

impl Asks {
    /// How many operations there are.
    pub fn count(&self) -> u64 {
        match self {
            Asks::Drawn { operations, .. } => *operations,
            Asks::Listed(asks) => asks.len() as u64,
        }
    }
}

impl Client {
    /// What it begins next, and when that is due. It acts on what is due although it cannot begin it yet: it connects,
    /// and opens a session.
    pub fn next_ask(&self) -> Option<Ask> {
        match &self.manner.asks {
            Asks::Drawn { operations, think_us, keys } if self.begun < *operations => {
                let (mut wants, number) = (self.wants.clone(), self.begun + 1);
                self.draw_burst(&mut wants, *think_us);
                let args = drawn(&mut wants, self.manner.client, number, *keys);
                Some(Ask { number, due: self.next_burst, args })
            }
            Asks::Drawn { .. } => None,
            Asks::Listed(asks) => asks.get(self.begun as usize).cloned(),
        }
    }

    /// Begins what is due together, and notes when the next operations are.
    pub(super) fn begin_burst(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        match &self.manner.asks {
            Asks::Drawn { operations, think_us, keys } => {
                let (due, keys, operations) = (self.next_burst, *keys, *operations);
                let mut wants = self.wants.clone();
                let (burst, pause_us) = self.draw_burst(&mut wants, *think_us);
                self.wants = wants;
                self.next_burst = now.plus_us(pause_us);
                for _ in 0..burst.min(operations - self.begun) {
                    let args = drawn(&mut self.wants, self.manner.client, self.begun + 1, keys);
                    self.begin(Ask { number: self.begun + 1, due, args }, wishes);
                }
            }
            Asks::Listed(asks) => {
                let rest = &asks[self.begun as usize..];
                let due = rest.first().map(|ask| ask.due);
                let burst: Vec<Ask> = rest.iter().take_while(|ask| Some(ask.due) == due).cloned().collect();
                if let Some(next) = rest.get(burst.len()) {
                    self.next_burst = next.due;
                }
                burst.into_iter().for_each(|ask| self.begin(ask, wishes));
            }
        }
    }

    /// How many operations begin together, and for how long nothing more does, in microseconds.
    fn draw_burst(&self, wants: &mut Rng, think_us: u64) -> (u64, u64) {
        let burst = wants.between(1, self.manner.depth as u64);
        // Never in the same moment, so that the times of a list tell bursts apart.
        (burst, (wants.exponential(think_us) * burst).max(1))
    }

    fn begin(&mut self, ask: Ask, wishes: &mut Vec<Wish>) {
        self.begun += 1;
        self.last_due = ask.due;
        let id = OperationId { client: self.manner.client, number: ask.number };
        let mut operation = Operation { id, args: ask.args, once: None };
        if self.manner.once && !operation.is_read() {
            self.sequence += 1;
            operation.once = self.session.clone().map(|session| (session, self.sequence));
        }
        wishes.push(Wish::Asked(operation.clone(), ask.due));
        self.waiting.push_back(operation);
    }
}

/// What a client asks for next. Every write is different from all others, so that the log tells whose it is.
fn drawn(rng: &mut Rng, client: u32, number: u64, keys: u64) -> Vec<Bytes> {
    let key = rng.below(keys);
    let token = format!("{client}.{number}");
    let words: Vec<String> = match rng.below(16) {
        0..4 => vec!["GET".into(), format!("k{key}")],
        4 => vec!["GET".into(), format!("n{key}")],
        5..8 => vec!["SET".into(), format!("k{key}"), token],
        8..11 => vec!["APPEND".into(), format!("k{key}"), format!("[{token}]")],
        11..14 => {
            // A sum in which every addend can be told apart, and which never overflows.
            let addend = u64::from(client) * 1_000_000 + number;
            vec!["INCRBY".into(), format!("n{key}"), addend.to_string()]
        }
        14 => vec!["GETSET".into(), format!("k{key}"), token],
        _ => vec!["SET".into(), format!("k{key}"), token, "NX".into()],
    };
    words.into_iter().map(Bytes::from).collect()
}
