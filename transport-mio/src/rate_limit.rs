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

#[cfg(test)]
mod tests {
    use super::*;

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
