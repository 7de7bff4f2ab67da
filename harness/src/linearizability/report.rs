//! Verdicts on histories of the store, in plain words.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use super::{Answer, Command, Offence, Operation, SlotViolation, Verdict};

/// Operations of a window that are listed.
const LISTED_MAX: usize = 40;

/// Characters of one operation that are shown; values may be long.
const SHOWN_CHARS_MAX: usize = 160;

type One = Operation<Command, Answer>;

/// What a check of a history of the store found, in some lines.
pub fn describe(history: &[One], verdict: &Verdict<Vec<u8>, Option<Arc<[u8]>>>) -> String {
    match verdict {
        Verdict::Linearizable { orders } => {
            let clients = history.iter().map(|operation| operation.client).collect::<BTreeSet<u64>>().len();
            let unknown = history.iter().filter(|operation| operation.returned.is_none()).count();
            format!(
                "linearizable: {} operations of {clients} clients on {} keys, {unknown} of them of unknown outcome",
                history.len(),
                orders.len()
            )
        }
        Verdict::NotLinearizable(offence) => offending(history, offence),
        Verdict::Unknown { key, exhausted } => {
            format!("unknown: the budget of {exhausted} ended before the operations on {} were in order", quoted(key))
        }
    }
}

fn offending(history: &[One], offence: &Offence<Vec<u8>, Option<Arc<[u8]>>>) -> String {
    let Offence { key, culprit, placed, states, more_states, window, before, .. } = offence;
    let mut text = format!("NOT linearizable: key {}\n", quoted(key));
    let value = |state: &Option<Arc<[u8]>>| state.as_deref().map_or("nothing".into(), |value| cut(quoted(value)));
    let mut values: Vec<String> = states.iter().map(value).collect();
    if *more_states {
        values.push("yet another value".into());
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {} (operation {})", line(&history[*culprit]), culprit + 1);
    let _ = writeln!(text, "  fits into no order of what was known when it returned.");
    let _ = writeln!(text, "  Whatever the order, the key then holds {}.", values.join(" or "));
    if !placed.is_empty() {
        let last = placed.iter().rev().take(5).rev().map(|at| cut(history[*at].command.to_string()));
        let more = if placed.len() > 5 { "… " } else { "" };
        let _ = writeln!(text, "  What returned earlier has an order: {more}{}", last.collect::<Vec<_>>().join(", "));
    }
    let _ = writeln!(
        text,
        "  The last {} operations before it, and {} that were open while it was (*):",
        before.len(),
        window.len()
    );
    for at in before {
        let _ = writeln!(text, "    {}", line(&history[*at]));
    }
    let skipped = window.len().saturating_sub(LISTED_MAX);
    if skipped > 0 {
        let _ = writeln!(text, "    … {skipped} more");
    }
    for at in &window[skipped..] {
        let _ = writeln!(text, "  {} {}", if at == culprit { "*" } else { " " }, line(&history[*at]));
    }
    text.truncate(text.trim_end().len());
    text
}

/// A violation of the slot order, with the operations that it is about.
pub fn describe_slots(history: &[One], violation: &SlotViolation) -> String {
    let places = match violation {
        SlotViolation::Absent(one) => vec![*one],
        SlotViolation::Shared(one, two, _) => vec![*one, *two],
        SlotViolation::Answer { operation, .. } | SlotViolation::Read { operation, .. } => vec![*operation],
        SlotViolation::Order { operation, earlier, .. } => vec![*earlier, *operation],
    };
    let mut text = format!("NOT in slot order: {violation}");
    for at in places {
        let slot = history[at].slot.map_or(String::new(), |slot| format!(", slot {slot}"));
        let _ = write!(text, "\n    operation {}: {}{slot}", at + 1, line(&history[at]));
    }
    text
}

fn line(operation: &One) -> String {
    let Operation { client, invoked, command, returned, .. } = operation;
    let command = cut(command.to_string());
    match returned {
        Some(returned) => {
            format!(
                "client {client}: {command} = {}, from {invoked} to {}",
                cut(returned.answer.to_string()),
                returned.at
            )
        }
        None => format!("client {client}: {command}, from {invoked}, outcome unknown"),
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// The text, or its ends if it is long: what was appended last is at the end.
fn cut(text: String) -> String {
    let count = text.chars().count();
    if count <= SHOWN_CHARS_MAX {
        return text;
    }
    let half = SHOWN_CHARS_MAX / 2;
    text.chars().take(half).chain(['…']).chain(text.chars().skip(count - half)).collect()
}
