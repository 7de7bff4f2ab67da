//! The room for the replica's randomness: SplitMix64 (Steele, Lea, Flood 2014) from the caller's seed.
//!
//! It only spreads election delays (rule 15), so a small fast generator is enough; nothing secret comes from it.

/// A seeded stream of random numbers.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound`, both possible; the bias of the multiplication is below 2^-40 for delays.
    pub(crate) fn up_to(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()).wrapping_mul(u128::from(bound).wrapping_add(1));
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_the_bound_and_repeat_for_a_seed() {
        let mut one = Rng::new(7);
        let mut two = Rng::new(7);
        let mut seen = [0u32; 4];
        for _ in 0..4_000 {
            let drawn = one.up_to(3);
            assert_eq!(drawn, two.up_to(3));
            seen[drawn as usize] += 1;
        }
        assert!(seen.iter().all(|&times| times > 800), "{seen:?}");
    }
}
