//! The data commands: what they do to the keys, replied as Redis does. Pure: a write sees the keys, its slot
//! and its arguments, and nothing else. Arity was checked before a command came here.

use paxos_core::Slot;

use crate::command::Args;
use crate::kv::{Kv, Visit};
use crate::limits::{PATTERN_BYTES_MAX, REPLY_BYTES_MAX, SCAN_KEYS_MAX, VALUE_BYTES_MAX};
use crate::reply::{Fault, Reply};
use crate::resp::{DIGITS_MAX, decimal, integer};

/// What a write answers: owned, since sessions may remember it.
type Written = Reply<'static>;

fn next<'a>(args: &mut Args<'a>) -> &'a [u8] {
    args.next().unwrap_or(&[]) // arity was checked
}

fn slot_number(slot: Slot) -> Reply<'static> {
    Reply::Integer(i64::try_from(slot.get()).unwrap_or(i64::MAX))
}

/// `GET key`
pub(crate) fn get<'a>(kv: &'a Kv, mut args: Args<'_>) -> Reply<'a> {
    kv.value(next(&mut args)).map_or(Reply::Null, Reply::borrowed)
}

/// `MGET key [key …]`
pub(crate) fn mget<'a>(kv: &'a Kv, args: Args<'_>) -> Reply<'a> {
    let mut bytes = 0usize;
    let mut values = Vec::with_capacity(args.len());
    for key in args {
        let value = kv.value(key);
        bytes = bytes.saturating_add(value.map_or(0, <[u8]>::len));
        values.push(value.map_or(Reply::Null, Reply::borrowed));
    }
    if bytes > REPLY_BYTES_MAX {
        return Reply::Error(Fault::ReplyTooLong);
    }
    Reply::Array(values.into())
}

/// `EXISTS key [key …]`
pub(crate) fn exists<'a>(kv: &'a Kv, args: Args<'_>) -> Reply<'a> {
    Reply::count(args.filter(|key| kv.item(key).is_some()).count())
}

/// `TYPE key`
pub(crate) fn kind<'a>(kv: &'a Kv, mut args: Args<'_>) -> Reply<'a> {
    Reply::Simple(if kv.item(next(&mut args)).is_some() { "string" } else { "none" })
}

/// `STRLEN key`
pub(crate) fn strlen<'a>(kv: &'a Kv, mut args: Args<'_>) -> Reply<'a> {
    Reply::count(kv.value(next(&mut args)).map_or(0, <[u8]>::len))
}

/// `GETRANGE key start end`; negative offsets count from the end, both ends are included.
pub(crate) fn getrange<'a>(kv: &'a Kv, mut args: Args<'_>) -> Reply<'a> {
    let key = next(&mut args);
    let (Some(start), Some(end)) = (integer(next(&mut args)), integer(next(&mut args))) else {
        return Reply::Error(Fault::NotAnInteger);
    };
    let value = kv.value(key).unwrap_or(&[]);
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let from_front = |offset: i64| if offset < 0 { offset.saturating_add(length).max(0) } else { offset };
    if start < 0 && end < 0 && start > end {
        return Reply::borrowed(&[]);
    }
    let start = usize::try_from(from_front(start)).unwrap_or(usize::MAX);
    let end = usize::try_from(from_front(end)).unwrap_or(usize::MAX);
    Reply::borrowed(value.get(start..end.saturating_add(1).min(value.len())).unwrap_or(&[]))
}

/// `GETVER key`: the slot of the command that wrote the key.
pub(crate) fn getver<'a>(kv: &'a Kv, mut args: Args<'_>) -> Reply<'a> {
    kv.item(next(&mut args)).map_or(Reply::Null, |item| slot_number(item.slot()))
}

/// `DBSIZE`
pub(crate) fn dbsize<'a>(kv: &'a Kv, _: Args<'_>) -> Reply<'a> {
    Reply::count(kv.len())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(crate) fn scan<'a>(kv: &'a Kv, mut args: Args<'_>) -> Reply<'a> {
    /// Bytes of pattern times bytes of key that one call compares: about ten milliseconds of the worst pattern.
    const WORK_MAX: usize = 8 << 20;
    let Some(cursor) = std::str::from_utf8(next(&mut args)).ok().and_then(|cursor| cursor.parse().ok()) else {
        return Reply::Error(Fault::NotAnInteger);
    };
    let (mut pattern, mut count, mut strings): (Option<&[u8]>, usize, bool) = (None, 10, true);
    while let Some(option) = args.next() {
        let Some(value) = args.next() else { return Reply::Error(Fault::Syntax) };
        if option.eq_ignore_ascii_case(b"match") {
            pattern = Some(value);
        } else if option.eq_ignore_ascii_case(b"count") {
            match integer(value).map(usize::try_from) {
                Some(Ok(given)) if given > 0 => count = given.min(SCAN_KEYS_MAX),
                Some(_) => return Reply::Error(Fault::Syntax),
                None => return Reply::Error(Fault::NotAnInteger),
            }
        } else if option.eq_ignore_ascii_case(b"type") {
            strings = value.eq_ignore_ascii_case(b"string");
        } else {
            return Reply::Error(Fault::Syntax);
        }
    }
    if pattern.is_some_and(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
        return Reply::Error(Fault::Syntax);
    }
    let (mut keys, mut work, mut bytes) = (Vec::new(), 0usize, 0usize);
    let cursor: u64 = kv.scan(cursor, |key| {
        count = count.saturating_sub(1);
        let matches = pattern.is_none_or(|pattern| {
            work = work.saturating_add(pattern.len().saturating_mul(key.len()));
            glob_matches(pattern, key)
        });
        if matches && strings {
            bytes = bytes.saturating_add(key.len());
            keys.push(Reply::borrowed(key));
        }
        if count == 0 || work > WORK_MAX || bytes > REPLY_BYTES_MAX { Visit::Stop } else { Visit::GoOn }
    });
    Reply::array([Reply::owned(cursor.to_string().into_bytes()), Reply::Array(keys.into())])
}

/// `SET key value [NX | XX | IFEQ v | IFNE v] [GET] [KEEPTTL]`
pub(crate) fn set(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    let (key, value) = (next(&mut args), next(&mut args));
    let mut wants_old = false;
    let mut condition = None;
    while let Some(option) = args.next() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        let found = if is("get") {
            wants_old = true;
            continue;
        } else if is("keepttl") {
            continue; // nothing expires
        } else if is("nx") {
            Condition::Absent
        } else if is("xx") {
            Condition::Present
        } else if is("ifeq") {
            match args.next() {
                Some(value) => Condition::Equal(value),
                None => return Reply::Error(Fault::Syntax),
            }
        } else if is("ifne") {
            match args.next() {
                Some(value) => Condition::Unequal(value),
                None => return Reply::Error(Fault::Syntax),
            }
        } else if is("ex") || is("px") || is("exat") || is("pxat") {
            return Reply::Error(Fault::Expiry);
        } else {
            return Reply::Error(Fault::Syntax);
        };
        if condition.replace(found).is_some() {
            return Reply::Error(Fault::Syntax);
        }
    }
    let held = condition.is_none_or(|condition| condition.holds(kv.value(key)));
    let old = if wants_old { kv.value(key).map_or(Reply::Null, Reply::borrowed).into_owned() } else { Reply::Null };
    if held {
        kv.set(key, value, slot, || args.share(value));
    }
    match (wants_old, held) {
        (true, _) => old,
        (false, true) => Reply::OK,
        (false, false) => Reply::Null,
    }
}

/// When SET is to write.
enum Condition<'a> {
    Absent,
    Present,
    Equal(&'a [u8]),
    Unequal(&'a [u8]),
}

impl Condition<'_> {
    fn holds(&self, held: Option<&[u8]>) -> bool {
        match self {
            Condition::Absent => held.is_none(),
            Condition::Present => held.is_some(),
            Condition::Equal(value) => held == Some(*value),
            Condition::Unequal(value) => held != Some(*value),
        }
    }
}

/// `SETNX key value`
pub(crate) fn setnx(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    let (key, value) = (next(&mut args), next(&mut args));
    if kv.item(key).is_some() {
        return Reply::Integer(0);
    }
    kv.set(key, value, slot, || args.share(value));
    Reply::Integer(1)
}

/// `GETSET key value`
pub(crate) fn getset(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    let (key, value) = (next(&mut args), next(&mut args));
    let old = kv.remove(key).map_or(Reply::Null, |item| Reply::owned(item.into_value()));
    kv.set(key, value, slot, || args.share(value));
    old
}

/// `GETDEL key`
pub(crate) fn getdel(kv: &mut Kv, _: Slot, mut args: Args<'_>) -> Written {
    kv.remove(next(&mut args)).map_or(Reply::Null, |item| Reply::owned(item.into_value()))
}

/// `MSET key value [key value …]`
pub(crate) fn mset(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    if !args.len().is_multiple_of(2) {
        return Reply::Error(Fault::MsetArity);
    }
    while let (Some(key), Some(value)) = (args.next(), args.next()) {
        kv.set(key, value, slot, || args.share(value));
    }
    Reply::OK
}

/// `MSETNX key value [key value …]`
pub(crate) fn msetnx(kv: &mut Kv, slot: Slot, args: Args<'_>) -> Written {
    if !args.len().is_multiple_of(2) {
        return Reply::Error(Fault::MsetnxArity);
    }
    if args.clone().step_by(2).any(|key| kv.item(key).is_some()) {
        return Reply::Integer(0);
    }
    mset(kv, slot, args);
    Reply::Integer(1)
}

/// `DEL key [key …]`, `UNLINK key [key …]`
pub(crate) fn del(kv: &mut Kv, _: Slot, args: Args<'_>) -> Written {
    Reply::count(args.filter(|key| kv.remove(key).is_some()).count())
}

/// `DELIFEQ key value`
pub(crate) fn delifeq(kv: &mut Kv, _: Slot, mut args: Args<'_>) -> Written {
    let (key, value) = (next(&mut args), next(&mut args));
    if kv.value(key) != Some(value) {
        return Reply::Integer(0);
    }
    kv.remove(key);
    Reply::Integer(1)
}

/// `INCR key`
pub(crate) fn incr(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    add(kv, slot, next(&mut args), 1)
}

/// `DECR key`
pub(crate) fn decr(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    add(kv, slot, next(&mut args), -1)
}

/// `INCRBY key increment`
pub(crate) fn incrby(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    let key = next(&mut args);
    integer(next(&mut args)).map_or(Reply::Error(Fault::NotAnInteger), |by| add(kv, slot, key, by))
}

/// `DECRBY key decrement`
pub(crate) fn decrby(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    let key = next(&mut args);
    match integer(next(&mut args)) {
        None => Reply::Error(Fault::NotAnInteger),
        Some(by) => by.checked_neg().map_or(Reply::Error(Fault::Overflow), |by| add(kv, slot, key, by)),
    }
}

fn add(kv: &mut Kv, slot: Slot, key: &[u8], by: i64) -> Written {
    let Some(number) = kv.value(key).map_or(Some(0), integer) else { return Reply::Error(Fault::NotAnInteger) };
    let Some(sum) = number.checked_add(by) else { return Reply::Error(Fault::Overflow) };
    kv.edit(key, slot, |value| {
        let mut digits = [0; DIGITS_MAX];
        value.clear();
        value.extend_from_slice(decimal(sum, &mut digits));
    });
    Reply::Integer(sum)
}

/// `APPEND key value`
pub(crate) fn append(kv: &mut Kv, slot: Slot, mut args: Args<'_>) -> Written {
    let (key, tail) = (next(&mut args), next(&mut args));
    let length = kv.value(key).map_or(0, <[u8]>::len).saturating_add(tail.len());
    if length > VALUE_BYTES_MAX {
        return Reply::Error(Fault::ValueTooLong);
    }
    kv.edit(key, slot, |value| value.extend_from_slice(tail));
    Reply::count(length)
}

/// `LOG.APPEND value`: the log itself keeps the value; the answer is where.
pub(crate) fn log_append(_: &mut Kv, slot: Slot, _: Args<'_>) -> Written {
    slot_number(slot)
}

/// Whether a name matches a glob pattern: `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, and `\` before any of them.
///
/// Only the last `*` is ever gone back to, so the work is at most one length times the other.
pub(crate) fn glob_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() || p < pattern.len() {
        let step = match (pattern.get(p), name.get(n)) {
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            (Some(_), Some(&byte)) => one_matches(pattern.get(p..).unwrap_or(&[]), byte),
            (None, _) | (_, None) => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((star_p, star_n))) if star_n < name.len() => {
                star = Some((star_p, star_n + 1));
                p = star_p + 1;
                n = star_n + 1;
            }
            (None, _) => return false,
        }
    }
    true
}

/// How many bytes of the pattern, which is no `*`, this byte matches; `None` if it does not.
fn one_matches(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', class @ ..] => {
            let (negated, mut rest) = match class {
                [b'^', rest @ ..] => (true, rest),
                class => (false, class),
            };
            let mut found = false;
            loop {
                rest = match rest {
                    [] | [b']', ..] => break,
                    [b'\\', literal, rest @ ..] => {
                        found |= *literal == byte;
                        rest
                    }
                    [low, b'-', high, rest @ ..] => {
                        found |= (low.min(high)..=low.max(high)).contains(&&byte);
                        rest
                    }
                    [literal, rest @ ..] => {
                        found |= *literal == byte;
                        rest
                    }
                };
            }
            let closed = usize::from(!rest.is_empty());
            (found != negated).then_some(pattern.len() - rest.len() + closed)
        }
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_redis() {
        let cases: [(&str, &str, bool); 20] = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[ab]c", "bc", true),
            ("[^ab]c", "bc", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"[\]]", "]", true),
            ("user:*:name", "user:17:name", true),
            ("*a*a*b", "aaaaaaaaaaaaaaaa", false),
            ("[", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(glob_matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
