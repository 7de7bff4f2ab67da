//! Histories of the store as lines of JSON, one operation each; the format is in docs/verification.md.

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::{Answer, Command, Operation, Returned};

/// A history of the store.
pub type History = Vec<Operation<Command, Answer>>;

/// The longest line that is read: an operation with the largest value of the store, every byte of it escaped.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Most operations of one file.
const OPERATIONS_MAX: usize = 10_000_000;

/// Why a history cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A line is none of the format.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    client: u64,
    invoke: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#return: Option<u64>,
    op: Vec<Word>,
    /// `null` is an answer, no field is none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    result: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slot: Option<u64>,
}

/// Bytes: a string if they are UTF-8, else an object with their hexadecimal digits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    #[serde(with = "hex")]
    Bytes(Vec<u8>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Outcome {
    Nil(()),
    Integer(i64),
    Text(Word),
    Error { error: String },
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Outcome>, D::Error> {
    Outcome::deserialize(deserializer).map(Some)
}

mod hex {
    //! `{"hex":"00ff"}`

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Hex {
        hex: String,
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Hex { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let Hex { hex } = Hex::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("hex digits come in pairs"))
    }
}

impl Word {
    fn new(bytes: &[u8]) -> Word {
        match std::str::from_utf8(bytes) {
            Ok(text) => Word::Text(text.into()),
            Err(_) => Word::Bytes(bytes.to_vec()),
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Word::Text(text) => text.into_bytes(),
            Word::Bytes(bytes) => bytes,
        }
    }
}

/// Reads a history; empty lines are skipped.
///
/// # Errors
/// `HistoryError` with the number of the line that is wrong.
pub fn read_history(mut from: impl BufRead) -> Result<History, HistoryError> {
    let mut history = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        let wrong = |why: &dyn fmt::Display| HistoryError::Line { line: number, why: why.to_string() };
        line.clear();
        if from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == LINE_BYTES_MAX {
            return Err(wrong(&format_args!("longer than {LINE_BYTES_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if history.len() == OPERATIONS_MAX {
            return Err(wrong(&format_args!("more than {OPERATIONS_MAX} operations")));
        }
        let line: Line = serde_json::from_slice(&line).map_err(|error| wrong(&Unplaced(&error)))?;
        history.push(operation(line).map_err(|why| wrong(&why))?);
    }
    Ok(history)
}

/// The message of an error in one line of JSON: "at line 1" would be misread.
struct Unplaced<'a>(&'a serde_json::Error);

impl fmt::Display for Unplaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let message = text.split_once(" at line ").map_or(&text[..], |(message, _)| message);
        write!(f, "{message} (column {})", self.0.column())
    }
}

fn operation(line: Line) -> Result<Operation<Command, Answer>, String> {
    let Line { client, invoke: invoked, r#return, op, result, slot } = line;
    let words: Vec<Vec<u8>> = op.into_iter().map(Word::into_bytes).collect();
    let command = Command::parse(&words).map_err(|error| error.to_string())?;
    let returned = match (r#return, result) {
        (None, None) => None,
        (Some(at), Some(_)) if at < invoked => return Err(format!("returns at {at}, before it is invoked")),
        (Some(at), Some(result)) => Some(Returned { at, answer: answer(result) }),
        (Some(_), None) => return Err("`return` without `result`".into()),
        (None, Some(_)) => return Err("`result` without `return`".into()),
    };
    Ok(Operation { client, invoked, command, returned, slot })
}

fn answer(result: Outcome) -> Answer {
    match result {
        Outcome::Nil(()) => Answer::Nil,
        Outcome::Integer(number) => Answer::Integer(number),
        Outcome::Text(word) => Answer::Text(word.into_bytes()),
        Outcome::Error { error } => Answer::Error(error),
    }
}

/// Writes a history as `read_history` reads it.
///
/// # Errors
/// What the system says.
pub fn write_history(history: &[Operation<Command, Answer>], mut to: impl Write) -> io::Result<()> {
    for Operation { client, invoked, command, returned, slot } in history {
        let result = |answer: &Answer| match answer {
            Answer::Nil => Outcome::Nil(()),
            Answer::Integer(number) => Outcome::Integer(*number),
            Answer::Text(text) => Outcome::Text(Word::new(text)),
            Answer::Error(error) => Outcome::Error { error: error.clone() },
        };
        let line = Line {
            client: *client,
            invoke: *invoked,
            r#return: returned.as_ref().map(|returned| returned.at),
            op: command.words().iter().map(|word| Word::new(word)).collect(),
            result: returned.as_ref().map(|returned| result(&returned.answer)),
            slot: *slot,
        };
        serde_json::to_writer(&mut to, &line)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"client":1,"invoke":0,"return":10,"op":["SET","k","1"],"result":"OK","slot":3}
{"client":2,"invoke":5,"op":["SET","k","2","IFEQ","1"]}
{"client":1,"invoke":11,"return":12,"op":["GET","k"],"result":null}
{"client":1,"invoke":13,"return":13,"op":["INCRBY","k","-2"],"result":-1}
{"client":1,"invoke":14,"return":15,"op":["APPEND","k",{"hex":"00ff"}],"result":{"error":"ERR"}}
{"client":1,"invoke":16,"return":17,"op":["GET","k"],"result":{"hex":"fe"}}
"#;

    #[test]
    fn histories_are_read_and_written_as_documented() {
        let history = read_history(LINES.as_bytes()).unwrap();
        assert_eq!(history.len(), 6);
        assert_eq!((history[0].slot, history[1].returned.is_none()), (Some(3), true));
        let answers: Vec<&Answer> = history.iter().filter_map(|one| Some(&one.returned.as_ref()?.answer)).collect();
        let text = |bytes: &[u8]| Answer::Text(bytes.to_vec());
        let expected = [text(b"OK"), Answer::Nil, Answer::Integer(-1), Answer::Error("ERR".into()), text(&[0xfe])];
        assert_eq!(answers, expected.iter().collect::<Vec<_>>());
        let mut written = Vec::new();
        write_history(&history, &mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), LINES);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let cases = [
            ("nonsense", "line 2: expected ident (column 2)"),
            (r#"{"client":1,"invoke":0,"op":["GET","k"],"more":1}"#, "line 2: unknown field `more`, expected one of"),
            (r#"{"client":1,"invoke":-1,"op":["GET","k"]}"#, "line 2: invalid value: integer `-1`, expected u64"),
            (r#"{"client":1,"invoke":9,"return":8,"op":["GET","k"],"result":null}"#, "line 2: returns at 8, before"),
            (r#"{"client":1,"invoke":0,"return":8,"op":["GET","k"]}"#, "line 2: `return` without `result`"),
            (r#"{"client":1,"invoke":0,"op":["GET","k"],"result":"x"}"#, "line 2: `result` without `return`"),
            (r#"{"client":1,"invoke":0,"op":["MGET","k","l"]}"#, "line 2: `MGET k l` is no command about one key"),
            (r#"{"client":1,"invoke":0,"op":["GET",{"hex":"f"}]}"#, "line 2: data did not match"),
            (r#"{"client":1,"invoke":0,"return":1,"op":["GET","k"],"result":1.5}"#, "line 2: data did not match"),
        ];
        for (line, said) in cases {
            let file = format!("\n{line}\n");
            let error = read_history(file.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(said), "{line}: {error}");
        }
    }
}
