//! The room for the body of a record: heads in postcard, runs of entries as on the wire.

use bytes::Bytes;
use paxos_core::wire::{WireError, put_entries, take_entries};
use paxos_core::{
    Ballot, Boot, ClusterId, Entries, Formatted, Genesis, Incarnation, NodeId, Record, Slot, limits::ENTRY_HEAD_BYTES,
};
use serde::{Deserialize, Serialize};

use super::error::Corruption;

const FORMATTED: u8 = 1;
const STARTED: u8 = 2;
const PROMISED: u8 = 3;
const ACCEPTED: u8 = 4;
const LEARNED: u8 = 5;
const CHOSEN: u8 = 6;

#[derive(Serialize, Deserialize)]
struct FormattedBody {
    cluster: ClusterId,
    node: NodeId,
    incarnation: Incarnation,
    genesis: Genesis,
}

/// The number of a record's kind: append-only, never reused.
pub(super) fn kind(record: &Record) -> u8 {
    match record {
        Record::Formatted(_) => FORMATTED,
        Record::Started(_) => STARTED,
        Record::Promised(_) => PROMISED,
        Record::Accepted { .. } => ACCEPTED,
        Record::Learned { .. } => LEARNED,
        Record::Chosen { .. } => CHOSEN,
    }
}

/// Appends the body of a record. Payloads are copied here, and nowhere else on their way to the disk.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Formatted(Formatted { cluster, node, incarnation, genesis }) => {
            let body =
                FormattedBody { cluster: *cluster, node: *node, incarnation: *incarnation, genesis: genesis.clone() };
            put(&body, out);
        }
        Record::Started(boot) => put(boot, out),
        Record::Promised(ballot) => put(ballot, out),
        Record::Accepted { ballot, first, entries } => {
            put(&(ballot, first), out);
            put_run(entries, out);
        }
        Record::Learned { first, entries } => {
            put(first, out);
            put_run(entries, out);
        }
        Record::Chosen { below } => put(below, out),
    }
}

fn put_run(entries: &Entries, out: &mut Vec<u8>) {
    let payload: usize = entries.iter().map(|entry| entry.payload_bytes() + ENTRY_HEAD_BYTES).sum();
    out.reserve(payload);
    put_entries(entries, out);
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    struct Sink<'a>(&'a mut Vec<u8>);
    impl Extend<u8> for Sink<'_> {
        fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
            self.0.extend(bytes);
        }
    }
    let written = postcard::to_extend(value, Sink(out));
    debug_assert!(written.is_ok(), "postcard into a Vec cannot run out of room");
}

/// Reads a body whose checksum was right. Payloads are slices of it.
pub(super) fn decode(kind: u8, body: &Bytes) -> Result<Record, Corruption> {
    match kind {
        FORMATTED => {
            let FormattedBody { cluster, node, incarnation, genesis } = take(body)?;
            Ok(Record::Formatted(Formatted { cluster, node, incarnation, genesis }))
        }
        STARTED => Ok(Record::Started(take::<Boot>(body)?)),
        PROMISED => Ok(Record::Promised(take::<Ballot>(body)?)),
        ACCEPTED => {
            let ((ballot, first), run) = take_head::<(Ballot, Slot)>(body)?;
            Ok(Record::Accepted { ballot, first, entries: take_run(&run)? })
        }
        LEARNED => {
            let (first, run) = take_head::<Slot>(body)?;
            Ok(Record::Learned { first, entries: take_run(&run)? })
        }
        CHOSEN => Ok(Record::Chosen { below: take::<Slot>(body)? }),
        unknown => Err(Corruption::UnknownKind { kind: unknown }),
    }
}

/// The run of entries in a record, with the slot of the first; `None` for records that hold no slot.
pub(super) fn run(record: &Record) -> Option<(Slot, &Entries)> {
    match record {
        Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => Some((*first, entries)),
        Record::Formatted(_) | Record::Started(_) | Record::Promised(_) | Record::Chosen { .. } => None,
    }
}

/// Whether records of this kind hold slots.
pub(super) fn holds_slots(kind: u8) -> bool {
    kind == ACCEPTED || kind == LEARNED
}

fn take<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Corruption> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Corruption::Body),
    }
}

fn take_head<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<(T, Bytes), Corruption> {
    let (value, behind) = postcard::take_from_bytes(body).map_err(|_| Corruption::Body)?;
    Ok((value, body.slice_ref(behind)))
}

fn take_run(run: &Bytes) -> Result<Entries, Corruption> {
    take_entries(run).map_err(|error: WireError| Corruption::Entries(error))
}
