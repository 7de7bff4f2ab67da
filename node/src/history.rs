//! The room for the log as clients see it: LOG.GET, LOG.RANGE and LOG.BARRIER show entries as written here.
//!
//! The slot of a LOG.APPEND shows its value; any other command shows as the array of its name and arguments,
//! behind `ONCE id seq` if it was one; a slot that a leader filled shows as the array `NOOP`.

use paxos_core::{Entry, Slot, SlotRange};

use crate::command::{Args, Command, decode};
use crate::commands::{LOG_APPEND, spec_of};
use crate::limits::LOG_RANGE_SLOTS_MAX;
use crate::reply::{Fault, Reply};
use crate::resp::integer;

/// The entry as clients see it.
pub(crate) fn shown(entry: &Entry) -> Reply<'_> {
    match entry {
        Entry::Noop => Reply::array([Reply::borrowed(b"NOOP")]),
        Entry::Membership(_) => Reply::array([Reply::borrowed(b"MEMBERSHIP")]),
        Entry::Command { bytes, .. } => match decode(bytes) {
            Ok(command) => shown_command(command),
            Err(_) => Reply::array([Reply::borrowed(b"UNREADABLE"), Reply::borrowed(bytes)]),
        },
    }
}

fn shown_command(command: Command<'_>) -> Reply<'_> {
    let mut args = command.args;
    if command.number == LOG_APPEND {
        return args.next().map_or(Reply::Null, Reply::borrowed);
    }
    let mut shown = Vec::with_capacity(args.len() + 4);
    if let Some(once) = command.once {
        shown.push(Reply::borrowed(b"ONCE"));
        shown.push(Reply::owned(once.session.0.to_string().into_bytes()));
        shown.push(Reply::owned(once.sequence.to_string().into_bytes()));
    }
    shown.push(Reply::borrowed(spec_of(command.number).map_or(b"UNKNOWN", |spec| spec.name.as_bytes())));
    shown.extend(args.map(Reply::borrowed));
    Reply::Array(shown.into())
}

/// The slots that a LOG.GET or LOG.RANGE asks for, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) first: Slot,
    pub(crate) last: Slot,
    /// LOG.RANGE answers an array, LOG.GET its only entry.
    pub(crate) many: bool,
}

impl Wanted {
    /// Reads `slot` or `from to`. A range that begins behind its end is empty and asks for `None`.
    ///
    /// # Errors
    /// `Fault::NotAnInteger` for what is no slot.
    pub(crate) fn parse(mut args: Args<'_>) -> Result<Option<Wanted>, Fault> {
        let slot = |arg: Option<&[u8]>| {
            let number = arg.and_then(integer).and_then(|number| u64::try_from(number).ok());
            number.and_then(Slot::new).ok_or(Fault::NotAnInteger)
        };
        let first = slot(args.next())?;
        if args.len() == 0 {
            return Ok(Some(Wanted { first, last: first, many: false }));
        }
        let last = slot(args.next())?;
        Ok((first <= last).then_some(Wanted { first, last, many: true }))
    }

    /// The part of it that can be read where slots below `known_below` are applied.
    pub(crate) fn readable(self, known_below: Slot) -> SlotRange {
        let end = self.last.next().min(known_below).min(self.first.plus(LOG_RANGE_SLOTS_MAX));
        SlotRange { first: self.first, end: end.max(self.first) }
    }
}
