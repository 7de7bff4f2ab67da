//! What a request asks for: looked up in the table of commands, and checked as far as that is possible before
//! anything is done for it.

use bytes::Bytes;

use crate::command::{Once, SessionId, decode};
use crate::commands::{Run, Spec, find, spec_of};
use crate::limits::KEY_BYTES_MAX;
use crate::resp::{Request, integer};

/// A request that makes sense so far.
pub(crate) struct Asked {
    pub(crate) spec: &'static Spec,
    pub(crate) once: Option<Once>,
    /// Where its arguments begin in the request.
    pub(crate) args_from: usize,
}

/// Whether running this command is applying it.
pub(crate) fn goes_through_log(command: &Bytes) -> bool {
    decode(command).is_ok_and(|command| {
        command.once.is_some()
            || spec_of(command.number).is_some_and(|spec| matches!(spec.run, Run::Write(_) | Run::Barrier | Run::Once))
    })
}

/// Looks a request up in the table and checks what can be checked before anything is done for it.
pub(crate) fn understand(request: &Request<'_>) -> Result<Asked, String> {
    let name = request.arg(0).unwrap_or(&[]);
    let spec = find(name).ok_or_else(|| unknown(request))?;
    let arity = |spec: &Spec| format!("ERR wrong number of arguments for '{}' command", spec.name.to_lowercase());
    if !spec.takes(request.len()) {
        return Err(arity(spec));
    }
    let mut asked = Asked { spec, once: None, args_from: 1 };
    if matches!(spec.run, Run::Once) {
        let first = request.arg(1).unwrap_or(&[]);
        if first.eq_ignore_ascii_case(b"new") {
            return if request.len() == 2 { Ok(asked) } else { Err(arity(spec)) };
        }
        let number = |at| request.arg(at).and_then(integer).and_then(|number| u64::try_from(number).ok());
        let (Some(session), Some(sequence)) = (number(1), number(2)) else {
            return Err("ERR session and sequence must be integers from 0 on".to_owned());
        };
        let inner = request.arg(3).ok_or_else(|| arity(spec))?;
        let inner = find(inner).ok_or_else(|| unknown(request))?;
        if !inner.takes(request.len() - 3) {
            return Err(arity(inner));
        }
        if !inner.runs_once() {
            return Err(format!("ERR ONCE cannot run '{}'", inner.name.to_lowercase()));
        }
        asked = Asked { spec: inner, once: Some(Once { session: SessionId(session), sequence }), args_from: 4 };
    }
    let before_args = asked.args_from - 1;
    for position in asked.spec.key_positions(request.len() - before_args) {
        if request.arg(position + before_args).is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(format!("ERR key exceeds maximum allowed size ({KEY_BYTES_MAX} bytes)"));
        }
    }
    Ok(asked)
}

/// As Redis says it, with the reason where there is one.
fn unknown(request: &Request<'_>) -> String {
    let name = request.arg(0).unwrap_or(&[]);
    let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    if is(&["multi", "exec", "discard", "watch", "unwatch"]) {
        return "ERR transactions are not supported by this version".to_owned();
    }
    if is(&["expire", "pexpire", "expireat", "pexpireat", "ttl", "pttl", "persist", "getex", "setex", "psetex"]) {
        return "ERR expiry is not supported by this version".to_owned();
    }
    let cut = |arg: &[u8]| String::from_utf8_lossy(arg.get(..arg.len().min(128)).unwrap_or(arg)).into_owned();
    let args: String = request.args().skip(1).take(8).map(|arg| format!("'{}' ", cut(arg))).collect();
    format!("ERR unknown command '{}', with args beginning with: {args}", cut(name))
}

/// What running a command from the front costs beside writing its reply, in reply bytes that cost as much.
pub(crate) fn work_of(command: &Bytes) -> usize {
    /// Looking a key up and writing its reply, in tens of nanoseconds.
    const ANY: usize = 32;
    /// A scan of its largest batch with a pattern that matches nothing.
    const BROWSE: usize = 256 << 10;
    let browses = decode(command)
        .is_ok_and(|command| spec_of(command.number).is_some_and(|spec| matches!(spec.run, Run::Browse(_))));
    if browses { BROWSE } else { ANY }
}
