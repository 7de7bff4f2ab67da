//! The room for what clients ask for: drawn or listed, and when the next of it is due.

use bytes::Bytes;
use node::limits::BULK_BYTES_MAX;
use paxos_core::Instant;

use super::{Asked, Client, Sent, Wish};
use crate::rng::{Concern, Rng};

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
        /// Commands with huge values among them.
        large: Option<Large>,
    },
    /// One by one, by rising time; those of one moment are sent together.
    Listed(Vec<Ask>),
}

/// Commands that are as large as servers take, or just larger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Large {
    /// One operation of so many is about a key with huge values.
    pub every: u64,
    /// About so many bytes are the most that a server takes in a command.
    pub edge_bytes: usize,
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
            Asks::Drawn { operations, think_us, keys, large } if self.begun < *operations => {
                let (mut wants, number) = (self.wants.clone(), self.begun + 1);
                self.draw_burst(&mut wants, *think_us);
                let args = self.draw(&mut wants, number, *keys, *large);
                Some(Ask { number, due: self.next_burst, args })
            }
            Asks::Drawn { .. } => None,
            Asks::Listed(asks) => asks.get(self.begun as usize).cloned(),
        }
    }

    /// For how long operations will still become due, in microseconds.
    pub fn due_for_us(&self, now: Instant) -> u64 {
        match &self.manner.asks {
            Asks::Drawn { .. } => 0,
            Asks::Listed(asks) => asks.last().map_or(0, |last| last.due.since_us(now)),
        }
    }

    /// Operations on their way whose replies are not those of reads.
    pub(crate) fn writes_open(&self) -> usize {
        let is_write = |sent: &&Sent| match &sent.what {
            Asked::Operation(operation) => !operation.is_read(),
            Asked::Session => true,
        };
        self.sent.iter().filter(is_write).count()
    }

    /// Begins what is due together, and notes when the next operations are.
    pub(super) fn begin_burst(&mut self, now: Instant, wishes: &mut Vec<Wish>) {
        match &self.manner.asks {
            Asks::Drawn { operations, think_us, keys, large } => {
                let (due, keys, operations, large) = (self.next_burst, *keys, *operations, *large);
                let mut wants = self.wants.clone();
                let (burst, pause_us) = self.draw_burst(&mut wants, *think_us);
                self.next_burst = now.plus_us(pause_us);
                for _ in 0..burst.min(operations - self.begun) {
                    let args = self.draw(&mut wants, self.begun + 1, keys, large);
                    self.begin(Ask { number: self.begun + 1, due, args }, wishes);
                }
                self.wants = wants;
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

    /// What it asks for next. A huge one takes the place of another, which is drawn all the same.
    fn draw(&self, wants: &mut Rng, number: u64, keys: u64, large: Option<Large>) -> Vec<Bytes> {
        let usual = drawn(wants, self.manner.client, number, keys);
        let huge = large.and_then(|large| {
            let mut rng = Rng::keyed(self.seed, Concern::Manners, u64::from(self.manner.client), number);
            drawn_large(&mut rng, self.manner.client, number, large)
        });
        huge.unwrap_or(usual)
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

/// Something about a key with huge values, if this operation is; each write is different from all others.
fn drawn_large(rng: &mut Rng, client: u32, number: u64, large: Large) -> Option<Vec<Bytes>> {
    /// Few, so that what is read is mostly huge.
    const KEYS: u64 = 3;
    /// Around the edge, so many bytes: what comes with a value in a command takes some of them, so that about half of
    /// these commands are just small enough.
    const BELOW_BYTES: u64 = 64;
    const ABOVE_BYTES: u64 = 16;
    if rng.below(large.every) != 0 {
        return None;
    }
    let key = Bytes::from(format!("l{}", rng.below(KEYS)));
    let edge_bytes = large.edge_bytes as u64;
    let bytes = match rng.below(4) {
        0 => rng.log_uniform(edge_bytes.div_ceil(16), edge_bytes),
        1 => edge_bytes.div_ceil(2),
        _ => edge_bytes.saturating_sub(BELOW_BYTES) + rng.below(BELOW_BYTES + ABOVE_BYTES + 1),
    };
    let verb: &[u8] = match rng.below(16) {
        0..8 => return Some(vec![Bytes::from_static(b"GET"), key]),
        8..14 => b"SET",
        // What grows may pass the largest value that there is, which is in no model.
        14 if large.edge_bytes < BULK_BYTES_MAX => b"APPEND",
        _ => b"GETSET",
    };
    let mut value = format!("{client}.{number}.").into_bytes();
    value.resize(value.len().max(bytes as usize), b'x');
    Some(vec![Bytes::copy_from_slice(verb), key, value.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_values_lie_on_both_sides_of_the_edge_and_are_all_different() {
        let large = Large { every: 2, edge_bytes: 4_096 };
        let drawn = |number: u64| {
            let mut rng = Rng::keyed(1, Concern::Manners, 7, number);
            drawn_large(&mut rng, 7, number, large)
        };
        let huge: Vec<Vec<Bytes>> = (1..=2_000).filter_map(drawn).collect();
        assert!((800..1_200).contains(&huge.len()), "one of two: {}", huge.len());
        let values: std::collections::BTreeSet<&Bytes> = huge.iter().filter_map(|args| args.get(2)).collect();
        let writes = huge.iter().filter(|args| args.len() == 3).count();
        assert_eq!(values.len(), writes);
        let beyond = values.iter().filter(|value| value.len() > large.edge_bytes).count();
        let just_within = values.iter().filter(|value| (4_000..=4_096).contains(&value.len())).count();
        assert!(beyond > 20 && just_within > 20, "{beyond} above, {just_within} just within");
        assert!(values.iter().all(|value| value.len() <= large.edge_bytes + 16));
    }
}
