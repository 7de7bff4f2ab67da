//! The slot-order oracle: replies are what a model says that applies the chosen entries in slot order, once per
//! session and sequence, and each operation takes effect between its begin and its end.
//!
//! The log fixes the order, so linearizability takes one pass: a write's point is its slot; a read's point is the
//! earliest one at or after everything that had ended before the read began at which its key had that value.
//! Operations without a reply may or may not have a slot. The model knows the commands of the simulated clients
//! and is written apart from the server's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos_core::{Entry, Slot};
use transport_sim::{Operation, OperationId, Reply, Violation};

/// Sequences per session that are remembered.
const WINDOW: u64 = 64;

/// What clients did, and what the log makes of it.
#[derive(Debug, Default)]
pub(super) struct History {
    model: Model,
    open: BTreeMap<OperationId, Open>,
    /// The latest point of any operation that has ended: what begins now comes behind it.
    floor: u64,
}

#[derive(Debug)]
struct Open {
    operation: Operation,
    floor: u64,
}

/// The state after every chosen slot so far, and what each write answered.
#[derive(Debug, Default)]
struct Model {
    /// The number of the last slot that was applied.
    applied: u64,
    /// Each key's values, with the slot from which on it had them.
    keys: BTreeMap<Bytes, Vec<(u64, Bytes)>>,
    sessions: BTreeMap<u64, Session>,
    sessions_max: usize,
    /// Most bytes of an entry, if that is known.
    entry_bytes_max: Option<usize>,
    /// What clients were told to be too large.
    refused: BTreeSet<Identity>,
    /// Commands of sessions that had run already.
    repeats: u64,
    /// Requests that were repeated or came late, when their session was closed already.
    expired: BTreeSet<Identity>,
    outcomes: BTreeMap<Identity, (u64, Reply)>,
}

#[derive(Debug, Default)]
struct Session {
    /// The last slot that asked for it.
    used: u64,
    highest: u64,
    done: BTreeMap<u64, Reply>,
}

/// What names a write in the log: its session and sequence, or its arguments, which are unlike any other's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Identity {
    Once(u64, u64),
    Plain(Vec<Bytes>),
}

impl Identity {
    fn of(operation: &Operation) -> Identity {
        match &operation.once {
            Some((session, sequence)) => {
                let session = std::str::from_utf8(session).ok().and_then(|session| session.parse().ok());
                Identity::Once(session.unwrap_or(0), *sequence)
            }
            None => Identity::Plain(operation.args.clone()),
        }
    }
}

impl History {
    pub(super) fn new(sessions_max: usize) -> History {
        History { model: Model { sessions_max, ..Model::default() }, ..History::default() }
    }

    /// No entry has more bytes.
    pub(super) fn bound(&mut self, entry_bytes_max: usize) {
        self.model.entry_bytes_max = Some(entry_bytes_max);
    }

    pub(super) fn asked(&mut self, operation: &Operation) {
        let open = Open { operation: operation.clone(), floor: self.floor };
        self.open.insert(operation.id, open);
    }

    pub(super) fn unknown(&mut self, id: OperationId) {
        self.open.remove(&id);
    }

    /// The entry of the next slot is known to be chosen.
    pub(super) fn chosen(&mut self, slot: Slot, entry: &Entry) -> Result<(), Violation> {
        self.model.apply(slot, entry)
    }

    /// How often a command of a session came that had run already.
    pub(super) fn repeats(&self) -> u64 {
        self.model.repeats
    }

    /// The number of the last slot that the model knows.
    pub(super) fn applied(&self) -> u64 {
        self.model.applied
    }

    /// In which slot a write ran, as far as is known.
    pub(super) fn slot(&self, operation: &Operation) -> Option<u64> {
        self.model.outcomes.get(&Identity::of(operation)).map(|(slot, _)| *slot)
    }

    /// An operation ended with a reply.
    pub(super) fn answered(&mut self, id: OperationId, reply: &Reply) -> Result<(), Violation> {
        let Some(Open { operation, floor }) = self.open.remove(&id) else {
            return Err(Violation::new("one-reply-per-operation", format!("{id:?} ended twice or never began")));
        };
        if let Some(refusal) = TooLarge::of(reply) {
            return self.model.refuse(&operation, refusal, reply);
        }
        let point = if operation.is_read() {
            self.model.read_point(&operation, floor, reply)?
        } else {
            self.model.write_point(&operation, floor, reply)?
        };
        self.floor = self.floor.max(point);
        Ok(())
    }
}

impl Model {
    fn apply(&mut self, slot: Slot, entry: &Entry) -> Result<(), Violation> {
        let number = slot.get();
        self.applied = number;
        let Entry::Command { bytes, .. } = entry else { return Ok(()) };
        if self.entry_bytes_max.is_some_and(|bytes_max| bytes.len() > bytes_max) {
            let why = format!("slot {slot} holds {} bytes, {:?} are the most", bytes.len(), self.entry_bytes_max);
            return Err(Violation::new("bounded-window", why));
        }
        let Some((once, args)) = command_of(bytes) else {
            return Err(Violation::new("log-holds-commands", format!("slot {slot} holds {bytes:?}")));
        };
        if args.first().is_some_and(|verb| &verb[..] == b"ONCE") {
            self.open_session(number);
            return Ok(());
        }
        let identity = match once {
            Some((session, sequence)) => Identity::Once(session, sequence),
            None => Identity::Plain(args.clone()),
        };
        if self.refused.contains(&identity) {
            return Err(Violation::new("refused-is-never-bound", format!("slot {slot} holds {identity:?}")));
        }
        match once {
            None => {
                let reply = self.run(number, &args);
                let earlier = self.outcomes.insert(Identity::Plain(args), (number, reply));
                match earlier {
                    Some((earlier, _)) => {
                        let why = format!("slots {earlier} and {slot} both hold {bytes:?}, which was sent once");
                        Err(Violation::new("plain-commands-are-never-repeated", why))
                    }
                    None => Ok(()),
                }
            }
            Some((session, sequence)) => {
                self.run_once(number, session, sequence, args);
                Ok(())
            }
        }
    }

    /// Who was used least recently makes room.
    fn open_session(&mut self, number: u64) {
        while self.sessions.len() >= self.sessions_max
            && let Some(oldest) = self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id)
        {
            self.sessions.remove(&oldest);
        }
        self.sessions.insert(number, Session { used: number, ..Session::default() });
    }

    /// Runs a command of a session unless it ran before.
    fn run_once(&mut self, number: u64, id: u64, sequence: u64, args: Vec<Bytes>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            self.expired.insert(Identity::Once(id, sequence));
            return;
        };
        session.used = number;
        let stale = sequence + WINDOW <= session.highest;
        let repeated = session.done.contains_key(&sequence);
        if stale || repeated {
            self.repeats += u64::from(repeated);
            return;
        }
        let reply = self.run(number, &args);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.highest = session.highest.max(sequence);
            session.done.insert(sequence, reply.clone());
        }
        self.outcomes.insert(Identity::Once(id, sequence), (number, reply));
    }

    fn value(&self, key: &Bytes) -> Option<&Bytes> {
        self.keys.get(key)?.last().map(|(_, value)| value)
    }

    fn set(&mut self, number: u64, key: &Bytes, value: Bytes) {
        self.keys.entry(key.clone()).or_default().push((number, value));
    }

    fn run(&mut self, number: u64, args: &[Bytes]) -> Reply {
        let bulk = |value: Option<&Bytes>| value.map_or(Reply::Nil, |value| Reply::Bulk(value.clone()));
        match args {
            [verb, key, value] if &verb[..] == b"SET" => {
                self.set(number, key, value.clone());
                Reply::Status("OK".into())
            }
            [verb, key, value, flag] if &verb[..] == b"SET" && &flag[..] == b"NX" => {
                if self.value(key).is_some() {
                    return Reply::Nil;
                }
                self.set(number, key, value.clone());
                Reply::Status("OK".into())
            }
            [verb, key, value] if &verb[..] == b"GETSET" => {
                let reply = bulk(self.value(key));
                self.set(number, key, value.clone());
                reply
            }
            [verb, key, value] if &verb[..] == b"APPEND" => {
                let mut whole = self.value(key).map(|value| value.to_vec()).unwrap_or_default();
                whole.extend_from_slice(value);
                let length = whole.len() as i64;
                self.set(number, key, whole.into());
                Reply::Number(length)
            }
            [verb, key, addend] if &verb[..] == b"INCRBY" => {
                let read = |value: &Bytes| std::str::from_utf8(value).ok()?.parse::<i64>().ok();
                let sum = self.value(key).map_or(Some(0), read).zip(read(addend)).map(|(one, two)| one + two);
                let Some(sum) = sum else { return Reply::Error("no integer".into()) };
                self.set(number, key, Bytes::from(sum.to_string()));
                Reply::Number(sum)
            }
            [verb, key] if &verb[..] == b"GET" => bulk(self.value(key)),
            _ => Reply::Error("unknown to the model".into()),
        }
    }

    /// A command was refused because of its size: it must be too large, be in no slot, and come into none.
    fn refuse(&mut self, operation: &Operation, refusal: TooLarge, reply: &Reply) -> Result<(), Violation> {
        let identity = Identity::of(operation);
        if self.outcomes.contains_key(&identity) {
            let why = format!("{identity:?} was answered {reply:?} and ran");
            return Err(Violation::new("refused-is-never-bound", why));
        }
        let too_large = match refusal {
            TooLarge::Entry => self.entry_bytes_max.is_none_or(|bytes_max| command_bytes(operation) > bytes_max),
            TooLarge::Argument => operation.args.iter().any(|arg| arg.len() > ARGUMENT_BYTES_MAX),
        };
        if !too_large {
            let why = format!("{} bytes were answered {reply:?}", command_bytes(operation));
            return Err(Violation::new("refusal-has-reason", why));
        }
        self.refused.insert(identity);
        Ok(())
    }

    /// Where in the log a write took effect: behind everything that had ended before it began, and with this reply.
    fn write_point(&self, operation: &Operation, floor: u64, reply: &Reply) -> Result<u64, Violation> {
        let identity = Identity::of(operation);
        let broken = |why: String| Violation::new("linearizable", format!("{operation:?}: {why}"));
        // It ran before its session was closed, or never will: nobody can say, and nothing follows from it.
        if matches!(reply, Reply::Error(line) if line.starts_with("SESSIONEXPIRED")) {
            let expired = self.expired.contains(&identity);
            return if expired {
                Ok(floor)
            } else {
                Err(broken(format!("was answered {reply:?}, its session is open")))
            };
        }
        let Some((slot, expected)) = self.outcomes.get(&identity) else {
            return Err(broken(format!("was answered {reply:?} and is in no chosen slot")));
        };
        if expected != reply {
            return Err(broken(format!("was answered {reply:?}; slot {slot} says {expected:?}")));
        }
        if *slot <= floor {
            return Err(broken(format!("took effect in slot {slot}, before something that ended earlier at {floor}")));
        }
        Ok(*slot)
    }

    /// The earliest point from `floor` on at which the key had the value that was read.
    fn read_point(&self, operation: &Operation, floor: u64, reply: &Reply) -> Result<u64, Violation> {
        let values = operation.args.get(1).and_then(|key| self.keys.get(key)).map_or(&[][..], Vec::as_slice);
        // What the key held at `floor`, then everything that it held later.
        let from = values.partition_point(|(slot, _)| *slot <= floor);
        let at_floor = from.checked_sub(1).map(|last| &values[last].1);
        let is = |value: Option<&Bytes>| match (value, reply) {
            (Some(value), Reply::Bulk(read)) => value == read,
            (None, Reply::Nil) => true,
            (Some(_) | None, _) => false,
        };
        if is(at_floor) {
            return Ok(floor);
        }
        let later = values[from..].iter().find(|(_, value)| is(Some(value)));
        later.map(|(slot, _)| *slot).ok_or_else(|| {
            let why =
                format!("read {reply:?}; from point {floor} on the key held {at_floor:?} and {:?}", &values[from..]);
            Violation::new("linearizable", format!("{operation:?}: {why}"))
        })
    }
}

/// Most bytes of one argument.
const ARGUMENT_BYTES_MAX: usize = 1 << 20;

/// How a command can be too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooLarge {
    /// For an entry of the log.
    Entry,
    /// It has an argument that the protocol does not take.
    Argument,
}

impl TooLarge {
    /// What a reply says of the size of its command, if that is why it did not run.
    pub(crate) fn of(reply: &Reply) -> Option<TooLarge> {
        let Reply::Error(line) = reply else { return None };
        if line.starts_with("ERR command exceeds maximum allowed size") {
            return Some(TooLarge::Entry);
        }
        line.starts_with("ERR Protocol error: invalid bulk length").then_some(TooLarge::Argument)
    }
}

/// Bytes of a command in the log: a head of two bytes, session and sequence if it has them, and the number, lengths and
/// bytes of its arguments behind its name.
fn command_bytes(operation: &Operation) -> usize {
    let varint = |number: u64| (64 - (number | 1).leading_zeros() as usize).div_ceil(7);
    let once = match Identity::of(operation) {
        Identity::Once(session, sequence) => varint(session) + varint(sequence),
        Identity::Plain(_) => 0,
    };
    let args = operation.args.get(1..).unwrap_or_default();
    let bytes: usize = args.iter().map(|arg| varint(arg.len() as u64) + arg.len()).sum();
    2 + once + varint(args.len() as u64) + bytes
}

/// Session and sequence, if any, and the command with its name first.
type Logged = (Option<(u64, u64)>, Vec<Bytes>);

fn command_of(bytes: &Bytes) -> Option<Logged> {
    let command = node::decode(bytes).ok()?;
    let spec = node::COMMANDS.iter().find(|spec| spec.number == command.number)?;
    let args = command.args.clone();
    let mut words = vec![Bytes::from_static(spec.name.as_bytes())];
    words.extend(command.args.map(|arg| args.share(arg)));
    Some((command.once.map(|once| (once.session.0, once.sequence)), words))
}

#[cfg(test)]
mod tests {
    use paxos_core::{CommandId, Incarnation, NodeId};

    use super::*;

    fn words(text: &str) -> Vec<Bytes> {
        text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    /// A history in a few letters: `slot N command`, `ask N command`, `got N reply`.
    fn check(script: &[&str]) -> Result<(), Violation> {
        let mut history = History::new(8);
        for line in script {
            let mut parts = line.splitn(3, ' ');
            let (verb, number, rest) = (parts.next(), parts.next(), parts.next().unwrap_or(""));
            let number: u64 = number.and_then(|number| number.parse().ok()).unwrap_or(0);
            let id = OperationId { client: 1, number };
            match verb {
                Some("slot") => {
                    let reply = history.model.run(number, &words(rest));
                    history.model.applied = number;
                    history.model.outcomes.insert(Identity::Plain(words(rest)), (number, reply));
                }
                Some("ask") => history.asked(&Operation { id, args: words(rest), once: None }),
                Some("got") => {
                    let reply = match rest {
                        "OK" => Reply::Status("OK".into()),
                        "nil" => Reply::Nil,
                        _ => rest.parse().map_or(Reply::Bulk(Bytes::copy_from_slice(rest.as_bytes())), Reply::Number),
                    };
                    history.answered(id, &reply)?;
                }
                _ => unreachable!("{line}"),
            }
        }
        Ok(())
    }

    #[test]
    fn legal_histories_pass() {
        let cases: [&[&str]; 4] = [
            &["ask 1 SET k a", "slot 1 SET k a", "got 1 OK", "ask 2 GET k", "got 2 a"],
            // Concurrent with the write: both values are right, in an order that some point explains.
            &["ask 1 SET k a", "ask 2 GET k", "slot 1 SET k a", "got 2 nil", "ask 3 GET k", "got 3 a", "got 1 OK"],
            // Nobody knows of the first write; a read may see it much later.
            &["ask 1 SET k a", "ask 2 GET k", "got 2 nil", "slot 1 SET k a", "ask 3 GET k", "got 3 a"],
            &["ask 1 INCRBY n 5", "slot 1 INCRBY n 5", "got 1 5"],
        ];
        for case in cases {
            assert_eq!(check(case), Ok(()), "{case:?}");
        }
    }

    /// A history that knows how large entries may be, and is asked for a value of so many bytes.
    fn asked(value_bytes: usize) -> (History, Operation) {
        let mut history = History::new(8);
        history.bound(100);
        let args = vec!["SET".into(), "k".into(), vec![b'x'; value_bytes].into()];
        let operation = Operation { id: OperationId { client: 1, number: 1 }, args, once: None };
        history.asked(&operation);
        (history, operation)
    }

    fn entry(operation: &Operation) -> Entry {
        let spec = node::COMMANDS.iter().find(|spec| spec.name == "SET").expect("there is SET");
        let args: Vec<&[u8]> = operation.args[1..].iter().map(|arg| &arg[..]).collect();
        let bytes = node::Chunk::default().encode(None, spec.number, args.into_iter());
        let id = CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence: 1 };
        Entry::Command { id, bytes }
    }

    #[test]
    fn what_is_refused_for_its_size_is_too_large_and_never_bound() {
        let refusal = Reply::Error("ERR command exceeds maximum allowed size (100 bytes)".into());
        let broken = |verdict: Result<(), Violation>| verdict.err().map(|violation| violation.invariant);
        let largest = 100 - (2 + 1 + 2 + 1);
        for (value_bytes, expected) in [(largest, Some("refusal-has-reason")), (largest + 1, None)] {
            let (mut history, operation) = asked(value_bytes);
            assert_eq!(broken(history.answered(operation.id, &refusal)), expected, "{value_bytes}");
            let Entry::Command { bytes, .. } = entry(&operation) else { unreachable!("a command") };
            assert_eq!(command_bytes(&operation), bytes.len());
        }
        let (mut history, operation) = asked(largest + 1);
        assert_eq!(broken(history.chosen(Slot::FIRST, &entry(&operation))), Some("bounded-window"));
        // The bound of another node must have been another one.
        history.model.entry_bytes_max = None;
        assert_eq!(broken(history.answered(operation.id, &refusal)), None);
        assert_eq!(broken(history.chosen(Slot::FIRST, &entry(&operation))), Some("refused-is-never-bound"));
        let (mut history, operation) = asked(largest);
        assert_eq!(broken(history.chosen(Slot::FIRST, &entry(&operation))), None);
        assert_eq!(broken(history.answered(operation.id, &refusal)), Some("refused-is-never-bound"));
        let protocol = Reply::Error("ERR Protocol error: invalid bulk length (at most 1048576 bytes)".into());
        for (value_bytes, expected) in [(1 << 20, Some("refusal-has-reason")), ((1 << 20) + 1, None)] {
            let (mut history, operation) = asked(value_bytes);
            assert_eq!(broken(history.answered(operation.id, &protocol)), expected, "{value_bytes}");
        }
    }

    #[test]
    fn a_session_is_expired_only_when_others_took_its_place() {
        let mut history = History::new(2);
        (1..=2).for_each(|slot| history.model.open_session(slot));
        history.model.run_once(3, 1, 1, words("INCRBY n 1"));
        // Session 1 was used later than session 2, which makes room.
        history.model.open_session(4);
        (5..).zip([(1, 2), (2, 1), (4, 1)]).for_each(|(slot, (session, sequence))| {
            history.model.run_once(slot, session, sequence, words("INCRBY n 1"));
        });
        let expired = Reply::Error("SESSIONEXPIRED its place was taken".into());
        let mut verdict = |number: u64, session: &str, reply: &Reply| {
            let id = OperationId { client: 1, number };
            let once = Some((Bytes::copy_from_slice(session.as_bytes()), 1));
            history.asked(&Operation { id, args: words("INCRBY n 1"), once });
            history.answered(id, reply).map_err(|broken| broken.invariant)
        };
        assert_eq!(verdict(1, "2", &expired), Ok(()));
        assert_eq!(verdict(2, "1", &expired), Err("linearizable"));
        assert_eq!(verdict(3, "2", &Reply::Number(3)), Err("linearizable"), "it never ran");
        assert_eq!(verdict(4, "4", &Reply::Number(3)), Ok(()));
    }

    #[test]
    fn planted_violations_are_rejected() {
        let cases: [&[&str]; 6] = [
            // A stale read: the write had ended.
            &["ask 1 SET k a", "slot 1 SET k a", "got 1 OK", "ask 2 GET k", "got 2 nil"],
            // Reads that go back in time.
            &["slot 1 SET k a", "ask 1 GET k", "got 1 a", "ask 2 GET k", "got 2 nil"],
            // An acknowledged write that no slot holds.
            &["ask 1 SET k a", "got 1 OK"],
            // A value that nobody wrote.
            &["ask 1 GET k", "got 1 b"],
            // A write in a slot before one that had ended when it began.
            &["slot 1 SET k b", "ask 1 SET k a", "slot 2 SET k a", "got 1 OK", "ask 2 SET k b", "got 2 OK"],
            // A reply that is another one's.
            &["ask 1 INCRBY n 5", "slot 1 INCRBY n 7", "slot 2 INCRBY n 5", "got 1 5"],
        ];
        for case in cases {
            assert_eq!(check(case).map_err(|broken| broken.invariant), Err("linearizable"), "{case:?}");
        }
    }
}
