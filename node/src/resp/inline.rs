//! Commands as lines typed by hand.

use bytes::Bytes;

use super::parser::ProtocolError;
use crate::limits::COMMAND_ARGS_MAX;

/// Splits a typed line at blanks, with quotes and escapes as redis-cli has them. The spans name parts of the
/// answer, which is the line itself unless something was quoted.
pub(super) fn split_line(line: Bytes, spans: &mut Vec<(u32, u32)>) -> Result<Bytes, ProtocolError> {
    spans.clear();
    if line.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        return split_quoted(&line, spans);
    }
    let mut start = None;
    for (at, byte) in (0u32..).zip(line.iter().chain(b" ")) {
        match (start, byte.is_ascii_whitespace()) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                push_argument(spans, from, at)?;
                start = None;
            }
            (None, true) | (Some(_), false) => {}
        }
    }
    Ok(line)
}

fn push_argument(spans: &mut Vec<(u32, u32)>, start: u32, end: u32) -> Result<(), ProtocolError> {
    if spans.len() >= COMMAND_ARGS_MAX {
        return Err(ProtocolError::TooManyArguments);
    }
    spans.push((start, end));
    Ok(())
}

fn split_quoted(line: &[u8], spans: &mut Vec<(u32, u32)>) -> Result<Bytes, ProtocolError> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return Ok(plain.into());
        }
        let start = plain.len() as u32;
        while let Some(byte) = rest.next_if(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'"' | b'\'' => {
                    unquote(byte, &mut rest, &mut plain)?;
                    if rest.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                        return Err(ProtocolError::Quotes); // a closing quote ends its argument
                    }
                }
                other => plain.push(other),
            }
        }
        push_argument(spans, start, plain.len() as u32)?;
    }
}

/// Reads up to the closing quote. Single quotes know only `\'`.
fn unquote(
    quote: u8,
    rest: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>,
    plain: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    while let Some(byte) = rest.next() {
        if byte == quote {
            return Ok(());
        }
        if byte != b'\\' || (quote == b'\'' && rest.peek() != Some(&b'\'')) {
            plain.push(byte);
            continue;
        }
        plain.push(match rest.next().ok_or(ProtocolError::Quotes)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'a' => 7,
            b'x' => {
                let mut ahead = rest.clone();
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        *rest = ahead;
                        (high * 16 + low) as u8
                    }
                    (_, _) => b'x',
                }
            }
            other => other,
        });
    }
    Err(ProtocolError::Quotes)
}
