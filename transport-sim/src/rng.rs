//! The room for randomness: one seed, one stream for each concern, so that removing one kind of fault does not
//! shift the others. SplitMix64 (Steele, Lea, Flood 2014); integers only, so that every machine draws the same.

/// What a stream of random numbers decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Concern {
    /// How many nodes and clients, which quorums, which settings.
    Topology,
    /// Delays, losses, duplicates.
    Network,
    /// Sync times, what a crash leaves of unsynced bytes.
    Disk,
    /// Clock rates and offsets.
    Clock,
    /// Crashes, restarts, boot nonces, the seeds of replicas.
    Process,
    /// What clients ask for, and when.
    Workload,
    /// Which faults happen when.
    Nemesis,
    /// Moves of a schedule of bare replicas.
    Schedule,
    /// Which bounds are tight and which disks are far too slow.
    Edges,
    /// Faults of later kinds, when, and how often frames are garbled.
    Later,
    /// Huge values, slow readers and crowds: which seeds have them, how large and how many.
    Manners,
}

/// A seeded stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of one concern under a seed.
    pub fn new(seed: u64, concern: Concern) -> Rng {
        let mut rng = Rng { state: seed ^ (concern as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03) };
        rng.state = rng.draw() ^ seed.rotate_left(32);
        rng
    }

    /// The stream of one thing among many of a concern, named by two numbers.
    pub fn keyed(seed: u64, concern: Concern, one: u64, two: u64) -> Rng {
        let mut rng = Rng::new(seed, concern);
        rng.state ^= one.wrapping_mul(0xa24b_aed4_963e_e407);
        rng.state = rng.draw() ^ two.wrapping_mul(0x9fb2_1c65_1e98_df25);
        Rng { state: rng.draw() }
    }

    /// A stream for each number, all from one base.
    #[inline]
    pub fn numbered(base: u64, number: u64) -> Rng {
        let mut rng = Rng { state: base ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93) };
        Rng { state: rng.draw() }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both possible.
    #[inline]
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True this many times in a million.
    #[inline]
    pub fn chance(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.draw() >> 63 == 1
    }

    /// One of the choices; they must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A number from `low` to `high` whose logarithm is uniform: every power of two is equally likely.
    /// `low` must be at least 1.
    pub fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        let (low_log, high_log) = (log2_16(low), log2_16(high));
        exp2_16(self.between(low_log, high_log)).clamp(low, high)
    }

    /// About exponential with this mean: the leading zeros of a draw are geometric, the bits behind them fill in.
    #[inline]
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let drawn = self.draw() | 1;
        let zeros = drawn.leading_zeros();
        let fraction = 0xffff - ((drawn << zeros << 1) >> 48);
        let halvings = (u64::from(zeros) << 16) + fraction;
        // mean * ln 2 * halvings, with 16 bits behind the point in both factors; ln 2 = 45426 / 65536.
        ((u128::from(mean) * u128::from(halvings) * 45_426) >> 32) as u64
    }

    /// A stream split off this one.
    pub fn split(&mut self) -> Rng {
        Rng { state: self.draw() }
    }
}

/// log2 with 16 bits behind the point, the mantissa interpolated linearly.
fn log2_16(number: u64) -> u64 {
    let number = number.max(1);
    let whole = 63 - number.leading_zeros();
    let mantissa = if whole >= 16 { number >> (whole - 16) } else { number << (16 - whole) };
    (u64::from(whole) << 16) + (mantissa & 0xffff)
}

/// The inverse of `log2_16`.
fn exp2_16(log: u64) -> u64 {
    let whole = (log >> 16).min(62);
    let mantissa = 0x1_0000 + (log & 0xffff);
    if whole >= 16 { mantissa << (whole - 16) } else { mantissa >> (16 - whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let mut network = Rng::new(7, Concern::Network);
        let mut again = Rng::new(7, Concern::Network);
        let mut disk = Rng::new(7, Concern::Disk);
        let drawn: Vec<u64> = (0..8).map(|_| network.draw()).collect();
        assert_eq!(drawn, (0..8).map(|_| again.draw()).collect::<Vec<_>>());
        assert_ne!(drawn, (0..8).map(|_| disk.draw()).collect::<Vec<_>>());
    }

    #[test]
    fn exponential_has_its_mean_and_log_uniform_its_bounds() {
        let mut rng = Rng::new(1, Concern::Network);
        let total: u64 = (0..100_000).map(|_| rng.exponential(10_000)).sum();
        let mean = total / 100_000;
        assert!((9_500..10_500).contains(&mean), "{mean}");
        let mut small = 0;
        for _ in 0..10_000 {
            let drawn = rng.log_uniform(10, 100_000);
            assert!((10..=100_000).contains(&drawn));
            small += u64::from(drawn < 1_000);
        }
        assert!((4_500..5_500).contains(&small), "half of the decades are below 1000: {small}");
    }
}
