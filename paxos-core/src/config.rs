//! The room for the settings of a replica, their checks, and the memory that they allow.
//!
//! Nothing here decides a quorum: who votes comes from the durable genesis in `Recovered`.

use thiserror::Error;

use crate::limits::{ENTRY_HEAD_BYTES, FRAME_BYTES_MAX, FRAME_HEAD_BYTES_MAX, RUN_ENTRIES_MAX};
use crate::membership::Genesis;
use crate::slot::Slot;

/// Who should try to lead. Advice only: safety never depends on it (rule 14).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ElectionPolicy {
    /// A leader stays until it loses contact; campaigns need a quorum that follows nobody.
    #[default]
    Stable,
    /// The lecture's: the highest id heard within two heartbeat intervals leads. Owes liveness only under
    /// full connectivity.
    HighestId,
}

/// The settings of a replica. Replicas of one cluster may differ in all of them, but a leader's runs must
/// fit the followers' windows, so keep windows and entry sizes equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Who should try to lead.
    pub election: ElectionPolicy,
    /// Between heartbeats, in microseconds.
    pub heartbeat_us: u64,
    /// Without contact for this long a leader steps down and a follower looks for another, in microseconds.
    pub election_timeout_us: u64,
    /// First resend of what was not acknowledged, in microseconds; doubles at each further one.
    pub resend_us: u64,
    /// Longest pause between resends, in microseconds.
    pub resend_us_max: u64,
    /// Most slots that are undecided at once; never more than α.
    pub window_slots: u32,
    /// Most payload and head bytes that are undecided at once.
    pub window_bytes: usize,
    /// Largest command, in bytes.
    pub entry_bytes_max: usize,
    /// Most entries in one message or record.
    pub run_entries_max: usize,
    /// Most payload and head bytes in one message or record; one entry always fits.
    pub run_bytes_max: usize,
    /// Most reads that wait for a quorum at once.
    pub reads_max: usize,
    /// The last slot that takes a command, if the log is to end: `Some(Slot::FIRST)` is single-decree Paxos.
    pub last_slot: Option<Slot>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            election: ElectionPolicy::Stable,
            heartbeat_us: 50_000,
            election_timeout_us: 300_000,
            resend_us: 40_000,
            resend_us_max: 1_000_000,
            window_slots: 4_096,
            window_bytes: 16 << 20,
            entry_bytes_max: 3 << 20,
            run_entries_max: 1_024,
            run_bytes_max: 1 << 20,
            reads_max: 65_536,
            last_slot: None,
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// A setting that must not be zero is.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// A follower that misses one heartbeat would look for another leader.
    #[error("election_timeout_us {election_timeout_us} must be at least 3 x heartbeat_us {heartbeat_us}")]
    TimeoutTooShort {
        /// The time-out asked for.
        election_timeout_us: u64,
        /// The heartbeat interval asked for.
        heartbeat_us: u64,
    },
    /// The back-off would shrink.
    #[error("resend_us {resend_us} is above resend_us_max {resend_us_max}")]
    ResendAboveMax {
        /// The first pause.
        resend_us: u64,
        /// The longest pause.
        resend_us_max: u64,
    },
    /// More slots could be undecided than genesis allows.
    #[error("window_slots {window_slots} is above the genesis alpha {alpha}")]
    WindowAboveAlpha {
        /// The window asked for.
        window_slots: u32,
        /// α of genesis.
        alpha: u64,
    },
    /// One entry would not fit.
    #[error("{setting} {given} is outside {min}..={max}")]
    OutOfRange {
        /// Which setting.
        setting: &'static str,
        /// What was asked for.
        given: usize,
        /// The least that works.
        min: usize,
        /// The most that works.
        max: usize,
    },
}

impl Config {
    /// Checks every setting against the others and against genesis.
    ///
    /// # Errors
    /// `ConfigError` names the setting and its bound.
    pub fn validate(&self, genesis: &Genesis) -> Result<(), ConfigError> {
        let positive = [
            ("heartbeat_us", self.heartbeat_us),
            ("resend_us", self.resend_us),
            ("window_slots", u64::from(self.window_slots)),
            ("reads_max", self.reads_max as u64),
        ];
        if let Some((setting, _)) = positive.iter().find(|(_, given)| *given == 0) {
            return Err(ConfigError::Zero(setting));
        }
        if self.election_timeout_us < self.heartbeat_us.saturating_mul(3) {
            return Err(ConfigError::TimeoutTooShort {
                election_timeout_us: self.election_timeout_us,
                heartbeat_us: self.heartbeat_us,
            });
        }
        if self.resend_us > self.resend_us_max {
            return Err(ConfigError::ResendAboveMax { resend_us: self.resend_us, resend_us_max: self.resend_us_max });
        }
        if u64::from(self.window_slots) > genesis.alpha() {
            return Err(ConfigError::WindowAboveAlpha { window_slots: self.window_slots, alpha: genesis.alpha() });
        }
        let frame_room = FRAME_BYTES_MAX.saturating_sub(FRAME_HEAD_BYTES_MAX);
        let entry_room = frame_room.saturating_sub(ENTRY_HEAD_BYTES);
        let one_entry = self.entry_bytes_max.saturating_add(ENTRY_HEAD_BYTES);
        let ranges = [
            ("entry_bytes_max", self.entry_bytes_max, 1, entry_room),
            ("run_entries_max", self.run_entries_max, 1, RUN_ENTRIES_MAX),
            ("run_bytes_max", self.run_bytes_max, ENTRY_HEAD_BYTES, frame_room),
            ("window_bytes", self.window_bytes, one_entry, usize::MAX),
        ];
        for (setting, given, min, max) in ranges {
            if !(min..=max).contains(&given) {
                return Err(ConfigError::OutOfRange { setting, given, min, max });
            }
        }
        Ok(())
    }

    /// The most bytes that a replica's log, its inherited entries and its queues may hold: two windows of undecided
    /// entries, eight inherited from promises, and four of chosen ones that wait for their mark to be durable.
    pub fn memory_bytes_max(&self) -> usize {
        /// What a slot costs beside its payload at the most: a run of its own in the log (80 bytes, and as much again
        /// while the list of runs grows) and its entry in a list of its own (112); a read in its queue.
        const SLOT_BYTES: usize = 320;
        const READ_BYTES: usize = 64;
        let windows = self.window_bytes.saturating_add(self.entry_bytes_max).saturating_mul(14);
        let slots = (self.window_slots as usize).saturating_mul(SLOT_BYTES).saturating_mul(8);
        let reads = self.reads_max.saturating_mul(READ_BYTES);
        windows.saturating_add(slots).saturating_add(reads)
    }
}
