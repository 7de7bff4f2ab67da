//! The room for bounds that no configuration can move.

/// Most voters in a membership: tallies are bit masks and runs of recipients are arrays of this length.
pub const VOTERS_MAX: usize = 9;

/// Most other members, voters and learners together, that a replica talks to.
pub const PEERS_MAX: usize = 11;

/// Most bytes in one frame, checked before allocation; one entry always fits (`Config` checks it).
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Bytes of a frame that are left for everything but entries: a frame's worth of entries may have
/// `FRAME_BYTES_MAX - FRAME_HEAD_BYTES_MAX` payload bytes, `ENTRY_HEAD_BYTES` of head for each included.
pub const FRAME_HEAD_BYTES_MAX: usize = 64 << 10;

/// What an entry takes beside its payload, in frames, records and window accounting (id, length, ballot).
pub const ENTRY_HEAD_BYTES: usize = 96;

/// Most entries in one message or record, whatever the configuration says: an array length read from a
/// frame is never trusted beyond this.
pub const RUN_ENTRIES_MAX: usize = 16_384;

/// Rounds further than this above any used or accepted are absurd and ignored (rule 13): a single
/// nonsense message can then not exhaust the rounds.
pub const ROUND_LEAP_MAX: u64 = 1 << 32;
