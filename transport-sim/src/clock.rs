//! The room for the clocks of nodes: monotonic, each with its own start and its own rate.

use paxos_core::Instant;

use crate::rng::Rng;

/// A rate of 1, in the units of `Clock::rate`.
const RATE_ONE: u64 = 1 << 10;

/// A node's monotonic clock as a function of the world's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// What it shows at `since`.
    start_us: u64,
    since: Instant,
    /// In 1/1024.
    rate: u64,
}

impl Clock {
    /// A clock that starts anywhere. `drift` is how far its rate may be from 1, in 1/1024 either way.
    pub fn new(now: Instant, drift: u64, rng: &mut Rng) -> Clock {
        let drift = drift.min(RATE_ONE - 1);
        Clock { start_us: rng.below(1 << 40), since: now, rate: rng.between(RATE_ONE - drift, RATE_ONE + drift) }
    }

    /// What the clock shows at a moment of the world.
    #[inline]
    pub fn read(&self, now: Instant) -> Instant {
        Instant::from_us(self.start_us + now.since_us(self.since) * self.rate / RATE_ONE)
    }

    /// The first moment of the world at which the clock shows `local` or more.
    #[inline]
    pub fn when(&self, local: Instant) -> Instant {
        let us = local.as_us().saturating_sub(self.start_us);
        self.since.plus_us((us.saturating_mul(RATE_ONE)).div_ceil(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Concern;

    #[test]
    fn when_is_the_first_moment_that_reads_so() {
        let mut rng = Rng::new(3, Concern::Clock);
        for _ in 0..1_000 {
            let since = Instant::from_us(rng.below(1 << 30));
            let clock = Clock::new(since, 512, &mut rng);
            let local = clock.read(since).plus_us(rng.below(1 << 30));
            let when = clock.when(local);
            assert!(clock.read(when) >= local);
            assert!(when == since || clock.read(Instant::from_us(when.as_us() - 1)) < local);
        }
    }
}
