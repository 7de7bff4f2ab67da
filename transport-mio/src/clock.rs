//! The one clock of the process: microseconds since it was made, monotonic.

use std::time::{Duration, Instant as SystemInstant};

use paxos_core::Instant;

/// Reads the system's monotonic clock as the core's `Instant`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: SystemInstant,
}

impl Clock {
    /// A clock that reads 0 now.
    pub(crate) fn start() -> Clock {
        Clock { start: SystemInstant::now() }
    }

    /// This moment. Sample it after the bytes of an event were read, never before.
    pub(crate) fn now(&self) -> Instant {
        let elapsed = self.start.elapsed().as_micros();
        Instant::from_us(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

/// How long from `now` to `then`; zero if that is past.
pub(crate) fn until(now: Instant, then: Instant) -> Duration {
    Duration::from_micros(then.since_us(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::start();
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert_eq!(until(last, Instant::from_us(0)), Duration::ZERO);
    }
}
