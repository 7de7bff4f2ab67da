//! The one table of commands. The dispatcher, COMMAND and docs/commands.md all come from it.
//!
//! `number` is what the log holds for a command: append-only, never reused.

use bytes::Bytes;
use paxos_core::Slot;

use crate::cluster;
use crate::command::{Args, decode};
use crate::connection::{self, Turn};
use crate::introspection;
use crate::kv::Kv;
use crate::node::Node;
use crate::reply::Reply;
use crate::status;
use crate::strings;

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name in upper case.
    pub name: &'static str,
    /// Its number in the log.
    pub number: u8,
    /// How many arguments it takes, its name included; negative: at least so many.
    pub arity: i8,
    /// What kind it is, as COMMAND says.
    pub flags: &'static [&'static str],
    /// Where its keys are.
    pub keys: Keys,
    /// What it belongs to.
    pub group: &'static str,
    /// How it is written.
    pub syntax: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What runs it.
    pub run: Run,
}

/// Where the keys of a command are, its name at 0; `first` 0: it has none; negative `last`: from the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// The first one.
    pub first: i8,
    /// The last one.
    pub last: i8,
    /// From one to the next.
    pub step: i8,
}

type Read = for<'a> fn(&'a Kv, Args<'_>) -> Reply<'a>;
type Write = fn(&mut Kv, Slot, Args<'_>) -> Reply<'static>;
type Local = fn(&Node, &mut Turn<'_>);

/// What runs a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Goes through the log and changes keys.
    Write(Write),
    /// Shows keys, linearizably. In a session it goes through the log.
    Read(Read),
    /// Shows keys in an order that only this process knows: never in the log.
    Browse(Read),
    /// Opens a session, or runs the command that follows once.
    Once,
    /// Consumes a slot and shows the one before.
    Barrier,
    /// The length of the log, linearizably.
    Length,
    /// Shows what the log holds. Nothing behind it on its connection is looked at before it is answered.
    History,
    /// Answered by this node alone, when its turn comes.
    Local(Local),
    /// The same, but it changes the connection: nothing behind it is looked at before it ran.
    Turn(Local),
}

const NO_KEYS: Keys = Keys { first: 0, last: 0, step: 0 };
const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1 };
const ALL_KEYS: Keys = Keys { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };

const READS: &[&str] = &["readonly"];
const READS_FAST: &[&str] = &["readonly", "fast"];
const WRITES: &[&str] = &["write", "denyoom"];
const WRITES_FAST: &[&str] = &["write", "denyoom", "fast"];
const CONNECTION: &[&str] = &["loading", "stale", "fast"];
const ADMIN: &[&str] = &["admin", "loading", "stale"];
const ONCE_FLAGS: &[&str] = &["write", "denyoom", "movablekeys"];

/// The number of LOG.APPEND, whose slots show their value.
pub(crate) const LOG_APPEND: u8 = 31;
/// The number of ONCE, which in the log is only ever ONCE NEW.
pub(crate) const ONCE: u8 = 30;

struct Group {
    name: &'static str,
    flags: &'static [&'static str],
    keys: Keys,
}

const fn group(name: &'static str, flags: &'static [&'static str], keys: Keys) -> Group {
    Group { name, flags, keys }
}

const fn spec(
    (name, number, arity): (&'static str, u8, i8),
    group: Group,
    run: Run,
    syntax: &'static str,
    summary: &'static str,
) -> Spec {
    Spec { name, number, arity, flags: group.flags, keys: group.keys, group: group.name, syntax, summary, run }
}

/// Every command, by rising name.
#[rustfmt::skip]
pub const COMMANDS: &[Spec] = &[
    spec(("APPEND", 17, 3), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::append),
        "APPEND key value", "Appends to a value and answers its new length."),
    spec(("ASKING", 112, 1), group("cluster", CONNECTION, NO_KEYS), Run::Local(connection::ok),
        "ASKING", "Accepted and without effect: slots never move."),
    spec(("AUTH", 104, -2), group("connection", CONNECTION, NO_KEYS), Run::Turn(connection::auth),
        "AUTH [username] password", "Accepts the user `default`; no password is set."),
    spec(("CLIENT", 107, -2), group("connection", CONNECTION, NO_KEYS), Run::Turn(connection::client),
        "CLIENT ID | SETNAME name | GETNAME | SETINFO attribute value | LIST | INFO | NO-EVICT on|off | NO-TOUCH on|off",
        "Names and shows connections."),
    spec(("CLUSTER", 109, -2), group("cluster", CONNECTION, NO_KEYS), Run::Local(cluster::cluster),
        "CLUSTER SLOTS | SHARDS | NODES | INFO | MYID | KEYSLOT key",
        "Shows one shard with all slots, owned by the leader or the last one known."),
    spec(("COMMAND", 108, -1), group("server", CONNECTION, NO_KEYS), Run::Local(introspection::command),
        "COMMAND [COUNT | LIST | INFO [name …] | DOCS [name …] | GETKEYS command …]", "Shows this table."),
    spec(("CONFIG", 115, -2), group("server", ADMIN, NO_KEYS), Run::Local(status::config),
        "CONFIG GET parameter [parameter …]", "Shows the few settings that clients ask for; nothing for others."),
    spec(("DBSIZE", 22, 1), group("server", READS_FAST, NO_KEYS), Run::Read(strings::dbsize),
        "DBSIZE", "How many keys there are."),
    spec(("DECR", 14, 2), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::decr),
        "DECR key", "Subtracts 1 from an integer."),
    spec(("DECRBY", 16, 3), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::decrby),
        "DECRBY key decrement", "Subtracts from an integer."),
    spec(("DEL", 9, -2), group("generic", &["write"], ALL_KEYS), Run::Write(strings::del),
        "DEL key [key …]", "Removes keys and answers how many there were."),
    spec(("DELIFEQ", 20, 3), group("string", &["write", "fast"], ONE_KEY), Run::Write(strings::delifeq),
        "DELIFEQ key value", "Removes a key if it holds this value."),
    spec(("ECHO", 101, 2), group("connection", CONNECTION, NO_KEYS), Run::Local(connection::echo),
        "ECHO message", "Answers the message."),
    spec(("EXISTS", 11, -2), group("generic", READS_FAST, ALL_KEYS), Run::Read(strings::exists),
        "EXISTS key [key …]", "How many of the keys there are."),
    spec(("GET", 1, 2), group("string", READS_FAST, ONE_KEY), Run::Read(strings::get),
        "GET key", "The value of a key."),
    spec(("GETDEL", 5, 2), group("string", &["write", "fast"], ONE_KEY), Run::Write(strings::getdel),
        "GETDEL key", "Removes a key and answers its value."),
    spec(("GETRANGE", 19, 4), group("string", READS, ONE_KEY), Run::Read(strings::getrange),
        "GETRANGE key start end", "A part of a value; negative offsets count from its end."),
    spec(("GETSET", 4, 3), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::getset),
        "GETSET key value", "Sets a value and answers the one before."),
    spec(("GETVER", 21, 2), group("string", READS_FAST, ONE_KEY), Run::Read(strings::getver),
        "GETVER key", "The slot of the command that wrote the key: a fencing token."),
    spec(("HELLO", 103, -1), group("connection", CONNECTION, NO_KEYS), Run::Turn(connection::hello),
        "HELLO [2|3 [AUTH username password] [SETNAME name]]", "Chooses the version of the protocol."),
    spec(("INCR", 13, 2), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::incr),
        "INCR key", "Adds 1 to an integer."),
    spec(("INCRBY", 15, 3), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::incrby),
        "INCRBY key increment", "Adds to an integer."),
    spec(("INFO", 114, -1), group("server", CONNECTION, NO_KEYS), Run::Local(status::info),
        "INFO [section …]", "Facts about this node."),
    spec(("LOG.APPEND", LOG_APPEND, 2), group("log", WRITES_FAST, NO_KEYS), Run::Write(strings::log_append),
        "LOG.APPEND value", "Puts a value into the log and answers its slot."),
    spec(("LOG.BARRIER", 32, 1), group("log", WRITES_FAST, NO_KEYS), Run::Barrier,
        "LOG.BARRIER", "Consumes a slot I and answers I and the entry of slot I - 1: a read through the log."),
    spec(("LOG.GET", 34, 2), group("log", READS, NO_KEYS), Run::History,
        "LOG.GET slot", "The entry chosen in a slot; nothing if none is known to be. Any replica answers slots that it applied."),
    spec(("LOG.LEN", 33, 1), group("log", READS_FAST, NO_KEYS), Run::Length,
        "LOG.LEN", "How many slots are chosen: the number of the last one."),
    spec(("LOG.RANGE", 35, 3), group("log", READS, NO_KEYS), Run::History,
        "LOG.RANGE from to", "The entries of the slots from `from` to `to`, both included, as many as fit one answer."),
    spec(("MGET", 6, -2), group("string", READS_FAST, ALL_KEYS), Run::Read(strings::mget),
        "MGET key [key …]", "The values of keys, at one moment."),
    spec(("MSET", 7, -3), group("string", WRITES, PAIRS), Run::Write(strings::mset),
        "MSET key value [key value …]", "Sets keys, all at once."),
    spec(("MSETNX", 8, -3), group("string", WRITES, PAIRS), Run::Write(strings::msetnx),
        "MSETNX key value [key value …]", "Sets keys, all at once, if none of them exists."),
    spec(("ONCE", ONCE, -2), group("session", ONCE_FLAGS, NO_KEYS), Run::Once,
        "ONCE NEW | ONCE session sequence command [argument …]",
        "Opens a session; runs a command at most once per session and sequence, however often it is sent."),
    spec(("PAXOS", 116, -2), group("server", ADMIN, NO_KEYS), Run::Local(status::paxos),
        "PAXOS STATUS | MEMBERS | DIGEST [slot]", "Facts about the replica of this node."),
    spec(("PING", 100, -1), group("connection", CONNECTION, NO_KEYS), Run::Local(connection::ping),
        "PING [message]", "Answers PONG or the message."),
    spec(("QUIT", 102, -1), group("connection", CONNECTION, NO_KEYS), Run::Turn(connection::quit),
        "QUIT", "Closes the connection."),
    spec(("READONLY", 110, 1), group("cluster", CONNECTION, NO_KEYS), Run::Turn(connection::readonly),
        "READONLY", "From now on this connection reads what this replica has applied: it may be stale."),
    spec(("READWRITE", 111, 1), group("cluster", CONNECTION, NO_KEYS), Run::Turn(connection::readwrite),
        "READWRITE", "From now on this connection reads linearizably again."),
    spec(("RESET", 106, 1), group("connection", CONNECTION, NO_KEYS), Run::Turn(connection::reset),
        "RESET", "Makes the connection as it was when it opened."),
    spec(("ROLE", 113, 1), group("server", CONNECTION, NO_KEYS), Run::Local(cluster::role),
        "ROLE", "`master` on the leader, `slave` elsewhere."),
    spec(("SCAN", 23, -2), group("generic", READS, NO_KEYS), Run::Browse(strings::scan),
        "SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]", "A part of the keys, and the cursor of the next part."),
    spec(("SELECT", 105, 2), group("connection", CONNECTION, NO_KEYS), Run::Turn(connection::select),
        "SELECT 0", "There is one database."),
    spec(("SET", 2, -3), group("string", WRITES, ONE_KEY), Run::Write(strings::set),
        "SET key value [NX | XX | IFEQ value | IFNE value] [GET] [KEEPTTL]",
        "Sets a value, if the condition holds; with GET it answers the one before."),
    spec(("SETNX", 3, 3), group("string", WRITES_FAST, ONE_KEY), Run::Write(strings::setnx),
        "SETNX key value", "Sets a value if the key does not exist."),
    spec(("STRLEN", 18, 2), group("string", READS_FAST, ONE_KEY), Run::Read(strings::strlen),
        "STRLEN key", "The length of a value."),
    spec(("TYPE", 12, 2), group("generic", READS_FAST, ONE_KEY), Run::Read(strings::kind),
        "TYPE key", "`string`, or `none` if the key does not exist."),
    spec(("UNLINK", 10, -2), group("generic", &["write", "fast"], ALL_KEYS), Run::Write(strings::del),
        "UNLINK key [key …]", "The same as DEL."),
];

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    /// The names as numbers, in the same order.
    const NAMES: [u128; COMMANDS.len()] = {
        let mut names = [0; COMMANDS.len()];
        let mut place = 0;
        while place < COMMANDS.len() {
            names[place] = packed(COMMANDS[place].name.as_bytes());
            place += 1;
        }
        names
    };
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let place = NAMES.binary_search(&packed(name)).ok()?;
    COMMANDS.get(place).filter(|spec| spec.name.len() == name.len()) // a zero byte packs like no byte
}

/// What a packed name has room for.
const NAME_BYTES_MAX: usize = size_of::<u128>();

/// A name in upper case as one number, so that looking it up compares numbers; ordered as names are.
const fn packed(name: &[u8]) -> u128 {
    let mut number = 0;
    let mut place = 0;
    while place < NAME_BYTES_MAX {
        number = number << 8 | if place < name.len() { name[place].to_ascii_uppercase() as u128 } else { 0 };
        place += 1;
    }
    number
}

/// The command of this number.
pub fn spec_of(number: u8) -> Option<&'static Spec> {
    /// Places in the table by number; the length of the table says that there is none.
    const PLACES: [u8; 256] = {
        let mut places = [COMMANDS.len() as u8; 256];
        let mut place = 0;
        while place < COMMANDS.len() {
            places[COMMANDS[place].number as usize] = place as u8;
            place += 1;
        }
        places
    };
    COMMANDS.get(usize::from(*PLACES.get(usize::from(number))?))
}

impl Spec {
    /// Whether it takes this many arguments, its name included.
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }

    /// Whether it may run in a session.
    pub fn runs_once(&self) -> bool {
        match self.run {
            Run::Write(_) | Run::Read(_) | Run::Barrier | Run::Length => true,
            Run::Browse(_) | Run::Once | Run::History | Run::Local(_) | Run::Turn(_) => false,
        }
    }

    /// Where its keys are among `count` arguments, its name at 0.
    pub fn key_positions(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let first = usize::try_from(self.keys.first).unwrap_or(0);
        let last = match usize::try_from(self.keys.last) {
            Ok(last) => last,
            Err(_) => count.saturating_sub(usize::from(self.keys.last.unsigned_abs())),
        };
        let positions = if first == 0 { 1..1 } else { first..last.saturating_add(1).min(count) };
        positions.step_by(usize::try_from(self.keys.step).unwrap_or(1).max(1))
    }
}

/// The first key of an encoded command: where a cluster client would have to go for it.
pub(crate) fn first_key(command: &Bytes) -> Option<&[u8]> {
    let command = decode(command).ok()?;
    let position = spec_of(command.number)?.key_positions(command.args.len() + 1).next()?;
    command.args.clone().nth(position.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_numbers_are_unique() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        let numbers: BTreeSet<u8> = COMMANDS.iter().map(|spec| spec.number).collect();
        assert_eq!(numbers.len(), COMMANDS.len());
        for spec in COMMANDS {
            assert_eq!(find(spec.name.to_lowercase().as_bytes()).map(|found| found.number), Some(spec.number));
            assert_eq!(spec_of(spec.number).map(|found| found.name), Some(spec.name));
            assert!(spec.name.len() <= NAME_BYTES_MAX, "{}", spec.name);
            assert!(spec.syntax.starts_with(spec.name), "{}", spec.name);
            assert!(spec.syntax.is_ascii() || spec.syntax.contains('…'), "{}", spec.name);
        }
        for name in [b"NOSUCH".as_slice(), b"", b"GET\0", b"a name that is longer than any", &[0xff; 16]] {
            assert!(find(name).is_none(), "{}", name.escape_ascii());
        }
        assert!(spec_of(0).is_none());
    }

    /// What logs on disks mean by a number: only ever add a line.
    #[test]
    fn the_numbers_in_the_log_never_change() {
        let logged: Vec<(u8, &str)> = {
            let mut logged: Vec<(u8, &str)> = COMMANDS
                .iter()
                .filter(|spec| spec.runs_once() || spec.number == ONCE)
                .map(|spec| (spec.number, spec.name))
                .collect();
            logged.sort_unstable();
            logged
        };
        let golden = [
            (1, "GET"),
            (2, "SET"),
            (3, "SETNX"),
            (4, "GETSET"),
            (5, "GETDEL"),
            (6, "MGET"),
            (7, "MSET"),
            (8, "MSETNX"),
            (9, "DEL"),
            (10, "UNLINK"),
            (11, "EXISTS"),
            (12, "TYPE"),
            (13, "INCR"),
            (14, "DECR"),
            (15, "INCRBY"),
            (16, "DECRBY"),
            (17, "APPEND"),
            (18, "STRLEN"),
            (19, "GETRANGE"),
            (20, "DELIFEQ"),
            (21, "GETVER"),
            (22, "DBSIZE"),
            (30, "ONCE"),
            (31, "LOG.APPEND"),
            (32, "LOG.BARRIER"),
            (33, "LOG.LEN"),
        ];
        assert_eq!(logged, golden);
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let cases: [(&[u8], usize, &[usize]); 5] =
            [(b"get", 2, &[1]), (b"mget", 4, &[1, 2, 3]), (b"mset", 5, &[1, 3]), (b"ping", 2, &[]), (b"set", 5, &[1])];
        for (name, count, expected) in cases {
            let positions: Vec<usize> = find(name).map(|spec| spec.key_positions(count).collect()).unwrap_or_default();
            assert_eq!(positions, expected, "{}", name.escape_ascii());
        }
    }
}
