//! The room for the clocks of nodes: monotonic, each with its own start and its own rate.

use paxos_core::Instant;

use crate::rng::Rng;

/// A rate of 1, in the units of `Clock::rate`.
const RATE_ONE: u64 = 1 << 10;

/// The most that a clock may be off: from half to twice the rate.
pub const DRIFT_MAX: u64 = RATE_ONE;

/// How long the world takes while the slowest of such clocks shows that a time has passed, in microseconds.
pub fn stretched(us: u64, drift: u64) -> u64 {
    us * (RATE_ONE + drift.min(DRIFT_MAX)) / RATE_ONE
}

/// A node's monotonic clock as a function of the world's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// What it shows at `since`.
    start_us: u64,
    since: Instant,
    /// In 1/1024.
    rate: u64,
    /// From when until when it stands still, if it did lately.
    frozen: (Instant, Instant),
}

impl Clock {
    /// A clock that starts anywhere. `drift` says how much faster than the world it may be, in 1/1024, or slower by the
    /// same factor: 1024 is from half to twice the rate.
    pub fn new(now: Instant, drift: u64, rng: &mut Rng) -> Clock {
        let fastest = RATE_ONE + drift.min(DRIFT_MAX);
        let start_us = rng.below(1 << 40);
        let rate = rng.between((RATE_ONE * RATE_ONE).div_ceil(fastest), fastest);
        Clock { start_us, since: now, rate, frozen: (now, now) }
    }

    /// It stands still for so long.
    pub fn freeze(&mut self, now: Instant, us: u64) {
        self.thaw(now);
        self.frozen = (now, now.plus_us(us));
    }

    /// If it stands still it goes on, from what it shows.
    pub fn thaw(&mut self, now: Instant) {
        *self = Clock { start_us: self.read(now).as_us(), since: now, frozen: (now, now), ..*self };
    }

    /// What the clock shows at a moment of the world.
    #[inline]
    pub fn read(&self, now: Instant) -> Instant {
        let (from, until) = self.frozen;
        let stood_us = now.min(until).since_us(from);
        Instant::from_us(self.start_us + (now.since_us(self.since) - stood_us) * self.rate / RATE_ONE)
    }

    /// The first moment of the world at which the clock shows `local` or more.
    #[inline]
    pub fn when(&self, local: Instant) -> Instant {
        let us = local.as_us().saturating_sub(self.start_us);
        let when = self.since.plus_us((us.saturating_mul(RATE_ONE)).div_ceil(self.rate));
        let (from, until) = self.frozen;
        if when > from { when.plus_us(until.since_us(from)) } else { when }
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
            let mut clock = Clock::new(since, DRIFT_MAX, &mut rng);
            assert!((RATE_ONE / 2..=RATE_ONE * 2).contains(&clock.rate));
            if rng.coin() {
                let froze = since.plus_us(rng.below(1 << 20));
                let shown = clock.read(froze);
                clock.freeze(froze, rng.below(1 << 29));
                assert_eq!(clock.read(froze), shown);
            }
            let since = clock.since;
            let local = clock.read(since).plus_us(rng.below(1 << 30));
            let when = clock.when(local);
            assert!(clock.read(when) >= local);
            assert!(when == since || clock.read(Instant::from_us(when.as_us() - 1)) < local);
        }
    }
}
