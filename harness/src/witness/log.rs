//! Where in the log the operations of witnesses are.

use std::collections::BTreeMap;

use super::Mark;
use crate::client::{Client, ClientError, Reply};

/// Slots asked for at once; the server may answer fewer.
const SLOTS_PER_READ: u64 = 1_000;

/// How many slots are chosen.
pub(super) fn length(client: &mut Client) -> Result<u64, ClientError> {
    let reply = client.read(&["LOG.LEN"])?;
    let length = reply.integer().and_then(|length| u64::try_from(length).ok());
    length.ok_or_else(|| ClientError::Unexpected(reply.to_string()))
}

/// The first slot of every command behind slot `from`. A later one of the same session and sequence did nothing.
pub(super) fn slots(client: &mut Client, from: u64) -> Result<BTreeMap<Mark, u64>, ClientError> {
    let last = length(client)?;
    let mut slots = BTreeMap::new();
    let mut slot = from + 1;
    while slot <= last {
        let until = last.min(slot + SLOTS_PER_READ - 1);
        let reply = client.read(&["LOG.RANGE".to_string(), slot.to_string(), until.to_string()])?;
        let entries = match reply {
            Reply::Array(entries) if !entries.is_empty() => entries,
            other => return Err(ClientError::Unexpected(format!("slots {slot} to {until}: {other}"))),
        };
        for entry in entries {
            if let Some(mark) = mark(entry) {
                slots.entry(mark).or_insert(slot);
            }
            slot += 1;
        }
    }
    Ok(slots)
}

fn mark(entry: Reply) -> Option<Mark> {
    let Reply::Array(words) = entry else { return None };
    if let [once, id, sequence, _, ..] = &words[..]
        && once.text() == Some("ONCE")
    {
        return Some(Mark::Once(id.text()?.to_string(), u64::try_from(sequence.integer()?).ok()?));
    }
    let bytes = |word| match word {
        Reply::Bulk(bytes) => Some(bytes),
        _ => None,
    };
    Some(Mark::Plain(words.into_iter().map(bytes).collect::<Option<_>>()?))
}
