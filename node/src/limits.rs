//! Every bound of the server, in one place, with how it was picked.
//!
//! Constants bound what all replicas must agree on or what no deployment needs to move; `Limits` holds what
//! a configuration may lower (tests do) or raise.

use thiserror::Error;

/// Most bytes in one argument of a command: what Redis users put into one value, with room for one entry
/// in a frame many times over.
pub const BULK_BYTES_MAX: usize = 1 << 20;
/// Most arguments of a command, its name included.
pub const COMMAND_ARGS_MAX: usize = 1_024;
/// Most bytes of a command as it arrives; one command is one log entry and must fit a frame.
pub const COMMAND_BYTES_MAX: usize = 3 << 20;
/// Most bytes of a command typed as a line.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// Most arrays within arrays that the reader of replies follows; requests are flat.
pub const NESTING_MAX: usize = 8;
/// Most bytes of the line that announces an array or an argument: a sign, 20 digits and some zeros.
pub const HEADER_LINE_BYTES_MAX: usize = 32;

/// Most bytes of a key. Replicated: every replica refuses the same commands.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a value, however it grew. Replicated.
pub const VALUE_BYTES_MAX: usize = BULK_BYTES_MAX;
/// Most bytes of one reply that gathers many values (MGET). Replicated.
pub const REPLY_BYTES_MAX: usize = 16 << 20;
/// Values of at least this many bytes stay slices of the frame that they came in; smaller ones are copied
/// out of it. A frame of many entries has 1 MiB by default, so what a value pins is at most four times its
/// size, sixteen times for the largest frame there is.
pub const SLICE_BYTES_MIN: usize = 256 << 10;

/// Sequences per session that are remembered with their replies. Replicated.
pub const SESSION_WINDOW: u64 = 64;
/// Most bytes of bulk replies remembered per session; beyond it the oldest become stale. Replicated.
pub const SESSION_REPLY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of bulk replies remembered by all sessions; beyond it the least recently used session goes. Replicated.
pub const SESSIONS_REPLY_BYTES_MAX: usize = 64 << 20;

/// Most keys that one SCAN looks at, whatever its COUNT says.
pub const SCAN_KEYS_MAX: usize = 1_000;
/// Reply bytes that commands run at the front of connections may make in one turn, over all connections; what
/// is left waits for the next turn, so that peers and the clock are not kept waiting: some ten milliseconds.
pub const TURN_WORK: usize = 8 << 20;
/// A connection keeps its output buffer for the next turn only if it sent no more than this.
pub const OUTPUT_KEPT_BYTES_MAX: usize = 4 << 10;
/// Most bytes of a glob pattern: matching costs its length times the key's at worst.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// Most slots that one LOG.RANGE answers.
pub const LOG_RANGE_SLOTS_MAX: u64 = 1_024;
/// Most payload bytes that one LOG.RANGE answers, but at least one entry.
pub const LOG_RANGE_BYTES_MAX: usize = 1 << 20;
/// Most reads of the log that clients have under way at once, over all connections; further ones wait.
pub const LOG_READS_MAX: usize = 32;
/// How many recent slots `Node::digest_at` remembers; a power of two.
pub const DIGESTS_KEPT: usize = 4_096;
/// Most bytes of the name and library strings of a connection.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;
/// Most lines of CLIENT LIST.
pub const CLIENT_LIST_MAX: usize = 1_024;
/// Commands are encoded into chunks of this many bytes that they share; a larger one gets its own.
pub const CHUNK_BYTES: usize = 64 << 10;

/// A connection that may not be parsed now is paused once this many bytes of it wait.
pub const PAUSE_BYTES: usize = 64 << 10;

/// The bounds that a configuration may move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most connections at once; further ones are told so and closed.
    pub clients_max: usize,
    /// Most unanswered requests per connection; then the node stops parsing it (`Output::PauseClient`).
    pub open_requests_max: usize,
    /// A connection with more unsent reply bytes than this is not parsed further, and reads that would add
    /// to it are refused.
    pub client_output_bytes_max: usize,
    /// Most received and not yet parsed bytes per connection; a driver that goes on delivering beyond it
    /// finds the connection closed.
    pub client_input_bytes_max: usize,
    /// Most requests, over all connections, that wait for a leader or for room in the window.
    pub parked_requests_max: usize,
    /// Most bytes of commands that wait so.
    pub parked_bytes_max: usize,
    /// How long a request waits for a leader before it is answered CLUSTERDOWN, in microseconds.
    pub park_us: u64,
    /// Most sessions; the least recently used one goes first. Replicated: **must be the same on every
    /// node of a cluster**, and is part of the digest so that a difference shows at once.
    pub sessions_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            clients_max: 16_384,
            open_requests_max: 1_024,
            client_output_bytes_max: 1 << 20,
            client_input_bytes_max: 8 << 20,
            parked_requests_max: 65_536,
            parked_bytes_max: 64 << 20,
            park_us: 1_500_000,
            sessions_max: 65_536,
        }
    }
}

/// A limit that contradicts another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{setting} {given} is outside {min}..={max}")]
pub struct LimitsError {
    /// Which limit.
    pub setting: &'static str,
    /// What was asked for.
    pub given: usize,
    /// The least that works.
    pub min: usize,
    /// The most that works.
    pub max: usize,
}

impl Limits {
    /// Checks every limit against what the server needs to work at all.
    ///
    /// # Errors
    /// `LimitsError` names the limit and its bounds.
    pub fn validate(&self) -> Result<(), LimitsError> {
        const ANY: usize = usize::MAX;
        let ranges = [
            ("clients_max", self.clients_max, 1, 1 << 24),
            ("open_requests_max", self.open_requests_max, 1, 1 << 20),
            ("client_output_bytes_max", self.client_output_bytes_max, 1, ANY),
            ("client_input_bytes_max", self.client_input_bytes_max, COMMAND_BYTES_MAX * 2, ANY),
            ("parked_requests_max", self.parked_requests_max, 1, ANY),
            ("parked_bytes_max", self.parked_bytes_max, COMMAND_BYTES_MAX, ANY),
            ("sessions_max", self.sessions_max, 1, 1 << 24),
        ];
        for (setting, given, min, max) in ranges {
            if !(min..=max).contains(&given) {
                return Err(LimitsError { setting, given, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_against_what_the_server_needs() {
        assert_eq!(Limits::default().validate(), Ok(()));
        let none = Limits { sessions_max: 0, ..Limits::default() };
        assert_eq!(none.validate().map_err(|error| error.setting), Err("sessions_max"));
        let small = Limits { client_input_bytes_max: 100, ..Limits::default() };
        assert_eq!(
            small.validate().map_err(|error| error.to_string()),
            Err(format!("client_input_bytes_max 100 is outside 6291456..={}", usize::MAX))
        );
    }
}
