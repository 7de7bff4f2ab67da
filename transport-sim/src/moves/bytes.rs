//! The room for moves as bytes.

use super::{Blow, MOVE_BYTES, Move};

/// Kinds of moves are taken modulo this, so that a new kind leaves old schedules as they are.
pub(super) const KINDS_ROOM: usize = 32;

/// The bits of a schedule's second byte that let clocks drift, and that keep messages short.
pub(super) const DRIFT: u8 = 0xc0;
pub(super) const SHORT_RUNS: u8 = 0x30;

/// The bit of a schedule's first byte that says who should lead.
pub(super) const HIGHEST_ID: u8 = 0x08;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Deliver,
    Sync,
    Run,
    Tick,
    Propose,
    Read,
    Drop,
    Lose,
    Repeat,
    Pass,
    Crash,
    Restart,
    Cut,
    Heal,
    HandOver,
    FailDisk,
    Split,
    Depose,
    Mend,
    Wake,
}

impl Kind {
    pub(super) const ALL: [Kind; 20] = [
        Kind::Deliver,
        Kind::Sync,
        Kind::Run,
        Kind::Tick,
        Kind::Propose,
        Kind::Read,
        Kind::Drop,
        Kind::Lose,
        Kind::Repeat,
        Kind::Pass,
        Kind::Crash,
        Kind::Restart,
        Kind::Cut,
        Kind::Heal,
        Kind::HandOver,
        Kind::FailDisk,
        Kind::Split,
        Kind::Depose,
        Kind::Mend,
        Kind::Wake,
    ];
}

impl Kind {
    /// Without these nothing is decided.
    pub(super) fn is_needed(self) -> bool {
        matches!(self, Kind::Deliver | Kind::Sync | Kind::Run | Kind::Propose | Kind::Restart | Kind::Heal | Kind::Wake)
    }

    /// How often it is drawn at the most, beside the others.
    pub(super) fn weight_max(self) -> u64 {
        match self {
            Kind::Deliver | Kind::Sync => 300,
            Kind::Run | Kind::Tick | Kind::Propose | Kind::Read => 60,
            Kind::Crash
            | Kind::Cut
            | Kind::Split
            | Kind::Pass
            | Kind::Repeat
            | Kind::Drop
            | Kind::Lose
            | Kind::Restart
            | Kind::Wake
            | Kind::Mend
            | Kind::Heal => 30,
            Kind::HandOver | Kind::FailDisk | Kind::Depose => 8,
        }
    }
}

impl Move {
    /// Reads a move from any bytes.
    pub fn decode([kind, one, two, three]: [u8; MOVE_BYTES]) -> Move {
        // Most picks are near the oldest message, as on real links; the rest reach anywhere.
        let pick = if two < 0xc0 { u16::from(one & 0x07) } else { u16::from_le_bytes([one, two]) };
        match Kind::ALL.get(usize::from(kind) % KINDS_ROOM).copied().unwrap_or(Kind::Deliver) {
            Kind::Deliver => Move::Deliver { pick },
            Kind::Repeat => Move::Repeat { pick },
            Kind::Drop => Move::Drop { pick },
            Kind::Lose => Move::Lose { node: one, kind: two },
            Kind::Propose => Move::Propose { node: one, count: 1 + two % 4 },
            Kind::Read => Move::Read { node: one },
            Kind::Sync => Move::Sync { node: one, count: 1 + two % 8 },
            Kind::Tick => Move::Tick { node: one },
            Kind::Pass => Move::Pass { ms: u16::from(one) * 2 },
            Kind::Run => {
                // Few runs are long: what is undecided when the next fault strikes is what matters.
                let ms = 1 + (u16::from(one) * u16::from(one)) / 64;
                Move::Run {
                    ms,
                    loss: two.saturating_sub(0x80) * u8::from(two & 1 == 1),
                    twice: (three & 0x0f).saturating_sub(0x08) * 0x20,
                    lazy: (three >> 4).saturating_sub(0x07) * 0x1f,
                    late: if two & 0x81 == 1 { two << 1 } else { 0 },
                }
            }
            Kind::Crash => Move::Crash { node: one, keep: two % 8 },
            Kind::Restart => Move::Restart { node: one },
            Kind::FailDisk => Move::FailDisk { node: one },
            Kind::Cut => Move::Cut { link: one, both: two & 1 == 1 },
            Kind::Split => Move::Split { side: one },
            Kind::Heal => Move::Heal,
            Kind::HandOver => Move::HandOver { to: one },
            Kind::Depose => {
                let how = match three % 6 {
                    0 | 1 => Blow::Crash { keep: three >> 5 },
                    2 => Blow::Pause,
                    3 => Blow::Mute,
                    4 => Blow::Deaf,
                    _ => Blow::Alone,
                };
                Move::Depose { node: one, side: two, how }
            }
            Kind::Mend => Move::Mend { link: one, both: two & 1 == 1 },
            Kind::Wake => Move::Wake,
        }
    }
}
