//! A digest of a replica's state in which every moment counts relative to now: equal digests, equal futures.

use core::hash::{Hash, Hasher};

use crate::time::Instant;

/// FNV-1a over what `Hash` feeds, with instants turned into distances from `now`. `Instant` is the only type of
/// this crate that hashes an `i64`, and this is how it is told apart.
pub(crate) struct RelativeHasher {
    now: Instant,
    state: u64,
}

impl RelativeHasher {
    pub(crate) fn new(now: Instant) -> RelativeHasher {
        RelativeHasher { now, state: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Hasher for RelativeHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = (self.state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_i64(&mut self, us: i64) {
        let relative = us.wrapping_sub(self.now.as_us() as i64);
        self.write(&relative.to_le_bytes());
    }
}

impl Hash for Instant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_i64(self.as_us() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(value: &impl Hash, now_us: u64) -> u64 {
        let mut hasher = RelativeHasher::new(Instant::from_us(now_us));
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn only_distances_from_now_count() {
        let at = |us| (7u64, Some(Instant::from_us(us)));
        assert_eq!(digest(&at(10), 4), digest(&at(110), 104));
        assert_ne!(digest(&at(10), 4), digest(&at(11), 4));
    }
}
