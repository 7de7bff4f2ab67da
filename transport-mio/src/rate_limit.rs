//! Log lines that strangers can cause are rationed, so that nobody fills a disk by knocking at a port.

use paxos_core::Instant;

/// Lines let through per window.
const LINES_MAX: u32 = 10;

/// Length of a window.
const WINDOW_US: u64 = 10_000_000;

/// Lets through a few lines per window and counts the others.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Whether to log a line now: the number of lines kept back since the last one, or `None` to keep this one
    /// back too.
    pub(crate) fn line(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|start| now.since_us(start) >= WINDOW_US) {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines >= LINES_MAX {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// First pause between two lines that say the same, and the longest: it doubles with each line.
const REPEAT_US: u64 = 1_000_000;
const REPEAT_US_MAX: u64 = 64_000_000;

/// A state that is said when it begins, and then at growing intervals while it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasting {
    next: Instant,
    pause_us: u64,
}

impl Lasting {
    /// Whether to log a line now. `lasting` is `None` until the state begins, and again once it is over.
    pub(crate) fn line(lasting: &mut Option<Lasting>, now: Instant) -> bool {
        let pause_us = match lasting {
            None => REPEAT_US,
            Some(lasting) if now < lasting.next => return false,
            Some(lasting) => lasting.pause_us.saturating_mul(2).min(REPEAT_US_MAX),
        };
        *lasting = Some(Lasting { next: now.plus_us(pause_us), pause_us });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_said_when_it_begins_and_then_at_doubling_intervals() {
        let seconds = |lasting: &mut Option<Lasting>, from: u64| -> Vec<u64> {
            let says = |second: &u64| (0..10).any(|tenth| Lasting::line(lasting, moment(*second, tenth)));
            (from..from + 200).filter(says).collect()
        };
        fn moment(second: u64, tenth: u64) -> Instant {
            Instant::from_us(second * 1_000_000 + tenth * 100_000)
        }
        let mut lasting = None;
        assert_eq!(seconds(&mut lasting, 0), [0, 1, 3, 7, 15, 31, 63, 127, 191]);
        lasting = None;
        assert_eq!(seconds(&mut lasting, 500), [500, 501, 503, 507, 515, 531, 563, 627, 691]);
    }

    #[test]
    fn a_window_lets_through_a_few_lines_and_the_next_says_how_many_were_kept_back() {
        let mut limit = RateLimit::default();
        let start = Instant::from_us(5);
        let let_through = (0..25).filter(|_| limit.line(start).is_some()).count();
        assert_eq!(let_through, LINES_MAX as usize);
        assert_eq!(limit.line(start.plus_us(WINDOW_US)), Some(15));
        assert_eq!(limit.line(start.plus_us(WINDOW_US)), Some(0));
    }
}
