//! The room for hashes that every machine computes alike: the rolling hash of a trace, and short names of entries.

use std::hash::Hasher;

/// A fast 64-bit hash by folded multiplication; the same everywhere, good against accident, not against malice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest {
    state: u64,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { state: 0x243f_6a88_85a3_08d3 }
    }
}

impl Digest {
    /// The hash so far.
    pub fn value(self) -> u64 {
        fold(self.state, 0x9e37_79b9_7f4a_7c15)
    }

    /// The hash of one value.
    pub fn of(value: &impl std::hash::Hash) -> u64 {
        let mut digest = Digest::default();
        value.hash(&mut digest);
        digest.value()
    }
}

#[inline]
fn fold(one: u64, two: u64) -> u64 {
    let wide = u128::from(one) * u128::from(two);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Hasher for Digest {
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, 0x4528_21e6_38d0_1377).wrapping_add(word.rotate_left(29));
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0u8; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }
    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_every_byte_count() {
        let hash = |parts: &[&[u8]]| {
            let mut digest = Digest::default();
            parts.iter().for_each(|part| digest.write(part));
            digest.value()
        };
        let cases: [&[&[u8]]; 7] =
            [&[], &[b"\0"], &[b"\0\0"], &[b"ab"], &[b"ba"], &[b"01234567", b"8"], &[b"8", b"01234567"]];
        let mut hashes: Vec<u64> = cases.iter().map(|parts| hash(parts)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), cases.len());
    }
}
