//! The model of a key-value store with the commands of Redis that are about one key.
//!
//! Written apart from the server's, of which it is to be the judge. Commands about several keys are not in it:
//! they would tie the keys together, and each key is searched apart.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::Model;

/// A key-value store; each key is one object, without a value at first.
#[derive(Clone, Copy, Default, Debug)]
pub struct Store;

/// A command about one key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Command {
    /// The key.
    pub key: Vec<u8>,
    /// What is done to it.
    pub action: Action,
}

/// What a command does to its key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// `GET`
    Get,
    /// `STRLEN`
    Length,
    /// `EXISTS`
    Exists,
    /// `SET value [NX | XX | IFEQ v | IFNE v] [GET]`
    Set {
        /// The new value.
        value: Vec<u8>,
        /// When it is written.
        condition: Condition,
        /// Whether the answer is the value before.
        get: bool,
    },
    /// `SETNX value`, which answers 1 or 0
    SetNew(Vec<u8>),
    /// `GETSET value`
    GetSet(Vec<u8>),
    /// `APPEND value`
    Append(Vec<u8>),
    /// `INCR`, `DECR`, `INCRBY n`, `DECRBY n`, as what is added
    Add(i64),
    /// `DEL`
    Delete,
    /// `GETDEL`
    GetDelete,
    /// `DELIFEQ value`
    DeleteIfEqual(Vec<u8>),
}

/// When `SET` writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// In any case.
    Always,
    /// `NX`: without a value.
    Absent,
    /// `XX`: with a value.
    Present,
    /// `IFEQ`: with this value.
    Equal(Vec<u8>),
    /// `IFNE`: without this value.
    Unequal(Vec<u8>),
}

/// What the store answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// A value, or the status OK.
    Text(Vec<u8>),
    /// The command could not be done, and changed nothing. The words do not count.
    Error(String),
}

/// Words that are no command of this model.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// Another name, or one that takes other arguments.
    #[error("`{0}` is no command about one key that the model knows, or has other arguments")]
    Unknown(String),
    /// A number was expected.
    #[error("`{0}` is no number of 64 bits")]
    Number(String),
}

/// The value of a key.
type Value = Option<Arc<[u8]>>;

impl Command {
    /// Reads a command as clients send it: its name, in any case, and its arguments.
    ///
    /// # Errors
    /// `CommandError` for anything else.
    pub fn parse<W: AsRef<[u8]>>(words: &[W]) -> Result<Command, CommandError> {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let unknown = || CommandError::Unknown(shown_words(&words));
        let [name, key, rest @ ..] = &words[..] else { return Err(unknown()) };
        let action = match (&name.to_ascii_uppercase()[..], rest) {
            (b"GET", []) => Action::Get,
            (b"STRLEN", []) => Action::Length,
            (b"EXISTS", []) => Action::Exists,
            (b"SET", [value, options @ ..]) => set(value, options).ok_or_else(unknown)?,
            (b"SETNX", [value]) => Action::SetNew(value.to_vec()),
            (b"GETSET", [value]) => Action::GetSet(value.to_vec()),
            (b"APPEND", [value]) => Action::Append(value.to_vec()),
            (b"INCR", []) => Action::Add(1),
            (b"DECR", []) => Action::Add(-1),
            (b"INCRBY", [by]) => Action::Add(addend(by)?),
            (b"DECRBY", [by]) => Action::Add(addend(by)?.checked_neg().ok_or_else(unknown)?),
            (b"DEL", []) => Action::Delete,
            (b"GETDEL", []) => Action::GetDelete,
            (b"DELIFEQ", [value]) => Action::DeleteIfEqual(value.to_vec()),
            _ => return Err(unknown()),
        };
        Ok(Command { key: key.to_vec(), action })
    }

    /// The command as clients send it.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let (name, arguments): (&str, Vec<&[u8]>) = match &self.action {
            Action::Get => ("GET", vec![]),
            Action::Length => ("STRLEN", vec![]),
            Action::Exists => ("EXISTS", vec![]),
            Action::Set { value, condition, get } => {
                let mut arguments = vec![&value[..]];
                match condition {
                    Condition::Always => {}
                    Condition::Absent => arguments.push(b"NX"),
                    Condition::Present => arguments.push(b"XX"),
                    Condition::Equal(value) => arguments.extend([b"IFEQ", &value[..]]),
                    Condition::Unequal(value) => arguments.extend([b"IFNE", &value[..]]),
                }
                if *get {
                    arguments.push(b"GET");
                }
                ("SET", arguments)
            }
            Action::SetNew(value) => ("SETNX", vec![value]),
            Action::GetSet(value) => ("GETSET", vec![value]),
            Action::Append(value) => ("APPEND", vec![value]),
            Action::Add(by) => {
                let by = by.to_string().into_bytes();
                return vec![b"INCRBY".to_vec(), self.key.clone(), by];
            }
            Action::Delete => ("DEL", vec![]),
            Action::GetDelete => ("GETDEL", vec![]),
            Action::DeleteIfEqual(value) => ("DELIFEQ", vec![value]),
        };
        let head = [name.as_bytes().to_vec(), self.key.clone()];
        head.into_iter().chain(arguments.into_iter().map(<[u8]>::to_vec)).collect()
    }
}

fn set(value: &[u8], options: &[&[u8]]) -> Option<Action> {
    let (mut condition, mut get) = (Condition::Always, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let found = match &option.to_ascii_uppercase()[..] {
            b"GET" if !get => {
                get = true;
                continue;
            }
            b"NX" => Condition::Absent,
            b"XX" => Condition::Present,
            b"IFEQ" => Condition::Equal(options.next()?.to_vec()),
            b"IFNE" => Condition::Unequal(options.next()?.to_vec()),
            _ => return None,
        };
        if std::mem::replace(&mut condition, found) != Condition::Always {
            return None;
        }
    }
    Some(Action::Set { value: value.to_vec(), condition, get })
}

/// An integer as the store writes one: without a plus, a leading zero or a space.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn addend(text: &[u8]) -> Result<i64, CommandError> {
    integer(text).ok_or_else(|| CommandError::Number(shown(text)))
}

impl Model for Store {
    type Key = Vec<u8>;
    type Command = Command;
    type Answer = Answer;
    type State = Value;

    fn key(&self, command: &Command) -> Vec<u8> {
        command.key.clone()
    }

    fn initial(&self) -> Value {
        None
    }

    fn run(&self, state: &Value, command: &Command) -> (Value, Answer) {
        let held = || state.as_deref().map_or(Answer::Nil, |value| Answer::Text(value.to_vec()));
        let put = |value: &[u8]| Some(Arc::from(value));
        let count = |yes: bool| Answer::Integer(i64::from(yes));
        match &command.action {
            Action::Get => (state.clone(), held()),
            Action::Length => (state.clone(), length(state.as_deref().unwrap_or(&[]))),
            Action::Exists => (state.clone(), count(state.is_some())),
            Action::Set { value, condition, get } => {
                let holds = match condition {
                    Condition::Always => true,
                    Condition::Absent => state.is_none(),
                    Condition::Present => state.is_some(),
                    Condition::Equal(value) => state.as_deref() == Some(value),
                    Condition::Unequal(value) => state.as_deref() != Some(value),
                };
                let answer = match (get, holds) {
                    (true, _) => held(),
                    (false, true) => Answer::Text(b"OK".to_vec()),
                    (false, false) => Answer::Nil,
                };
                (if holds { put(value) } else { state.clone() }, answer)
            }
            Action::SetNew(value) if state.is_none() => (put(value), count(true)),
            Action::SetNew(_) => (state.clone(), count(false)),
            Action::GetSet(value) => (put(value), held()),
            Action::Append(tail) => {
                let whole = [state.as_deref().unwrap_or(&[]), tail].concat();
                let answer = length(&whole);
                (put(&whole), answer)
            }
            Action::Add(by) => match state.as_deref().map_or(Some(0), integer) {
                None => (state.clone(), Answer::Error("no integer".into())),
                Some(number) => match number.checked_add(*by) {
                    None => (state.clone(), Answer::Error("overflow".into())),
                    Some(sum) => (put(sum.to_string().as_bytes()), Answer::Integer(sum)),
                },
            },
            Action::Delete => (None, count(state.is_some())),
            Action::GetDelete => (None, held()),
            Action::DeleteIfEqual(value) if state.as_deref() == Some(value) => (None, count(true)),
            Action::DeleteIfEqual(_) => (state.clone(), count(false)),
        }
    }

    fn agrees(&self, expected: &Answer, given: &Answer) -> bool {
        match (expected, given) {
            (Answer::Error(_), Answer::Error(_)) => true,
            (Answer::Nil | Answer::Integer(_) | Answer::Text(_) | Answer::Error(_), _) => expected == given,
        }
    }

    fn is_read(&self, command: &Command, answer: Option<&Answer>) -> bool {
        if let Some(Answer::Error(_)) = answer {
            return true;
        }
        match &command.action {
            Action::Get | Action::Length | Action::Exists => true,
            // Refused: it found the key not as it wished.
            Action::Set { condition, get: false, .. } => {
                *condition != Condition::Always && answer == Some(&Answer::Nil)
            }
            Action::SetNew(_) | Action::Delete | Action::DeleteIfEqual(_) => answer == Some(&Answer::Integer(0)),
            Action::GetDelete => answer == Some(&Answer::Nil),
            Action::Set { get: true, .. } | Action::GetSet(_) | Action::Append(_) | Action::Add(_) => false,
        }
    }

    fn state_bytes(&self, state: &Value) -> usize {
        state.as_deref().map_or(0, <[u8]>::len)
    }
}

fn length(value: &[u8]) -> Answer {
    Answer::Integer(i64::try_from(value.len()).unwrap_or(i64::MAX))
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn shown_words<W: AsRef<[u8]>>(words: &[W]) -> String {
    words.iter().map(|word| shown(word.as_ref())).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_words(&self.words()))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Nil => f.write_str("nil"),
            Answer::Integer(number) => write!(f, "{number}"),
            Answer::Text(text) => write!(f, "\"{}\"", shown(text)),
            Answer::Error(text) => write!(f, "error {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn text(text: &str) -> Answer {
        Answer::Text(text.into())
    }

    #[test]
    fn commands_do_and_answer_what_the_documentation_says() {
        let (nil, ok, number) = (Answer::Nil, text("OK"), Answer::Integer);
        let error = || Answer::Error(String::new());
        // One key after the other command: what it answers, and what the key holds then.
        let script = [
            ("GET k", nil.clone(), None),
            ("STRLEN k", number(0), None),
            ("EXISTS k", number(0), None),
            ("DEL k", number(0), None),
            ("GETDEL k", nil.clone(), None),
            ("SET k a XX", nil.clone(), None),
            ("SET k a IFEQ b", nil.clone(), None),
            ("SETNX k 1", number(1), Some("1")),
            ("SETNX k 2", number(0), Some("1")),
            ("SET k 2 NX", nil.clone(), Some("1")),
            ("SET k 2 NX GET", text("1"), Some("1")),
            ("INCR k", number(2), Some("2")),
            ("DECR k", number(1), Some("1")),
            ("DECRBY k 5", number(-4), Some("-4")),
            ("INCRBY k 14", number(10), Some("10")),
            ("APPEND k 0", number(3), Some("100")),
            ("incrby k 9223372036854775807", error(), Some("100")),
            ("STRLEN k", number(3), Some("100")),
            ("EXISTS k", number(1), Some("100")),
            ("SET k b IFEQ 1", nil.clone(), Some("100")),
            ("SET k b IFEQ 100", ok.clone(), Some("b")),
            ("SET k c IFNE b", nil.clone(), Some("b")),
            ("SET k 07 IFNE x GET", text("b"), Some("07")),
            ("INCR k", error(), Some("07")),
            ("GETSET k d", text("07"), Some("d")),
            ("DELIFEQ k e", number(0), Some("d")),
            ("DELIFEQ k d", number(1), None),
            ("APPEND k e", number(1), Some("e")),
            ("GETDEL k", text("e"), None),
            ("INCR k", number(1), Some("1")),
            ("DEL k", number(1), None),
            ("SET k f", ok, Some("f")),
            ("GET k", text("f"), Some("f")),
        ];
        let mut state = Store.initial();
        for (line, answer, after) in script {
            let command = Command::parse(&words(line)).unwrap();
            let (next, answered) = Store.run(&state, &command);
            assert!(Store.agrees(&answer, &answered), "{line}: {answered}");
            assert_eq!(next.as_deref(), after.map(str::as_bytes), "{line}");
            // What is called a read leaves every state alone in which it answers so.
            assert!(!Store.is_read(&command, Some(&answered)) || next == state, "{line}");
            assert!(!Store.is_read(&command, None) || next == state, "{line}");
            assert_eq!(Command::parse(&command.words()), Ok(command), "{line}");
            state = next;
        }
    }

    #[test]
    fn other_commands_are_refused_by_name() {
        for line in ["GET", "PING", "MGET a b", "DEL a b", "SET k", "SET k v NX XX", "SET k v IFEQ", "SET k v EX 1"] {
            let refused = Command::parse(&words(line));
            assert_eq!(refused, Err(CommandError::Unknown(line.into())));
        }
        assert_eq!(Command::parse(&words("INCRBY k 01")), Err(CommandError::Number("01".into())));
    }

    #[test]
    fn answers_of_different_kinds_never_agree() {
        let answers = [Answer::Nil, Answer::Integer(1), text("1"), text(""), Answer::Error("x".into())];
        for (at, one) in answers.iter().enumerate() {
            for (other_at, other) in answers.iter().enumerate() {
                assert_eq!(Store.agrees(one, other), at == other_at, "{one} and {other}");
            }
        }
    }
}
