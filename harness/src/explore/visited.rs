//! Which states were visited: their fingerprints, eight bytes each, and little more.
//!
//! Two states with one fingerprint would be taken for one. With n states the odds that any two of them have one are below
//! n² / 2^65: 3 in a hundred for 10^9 states, 3 in a million for 10^7.

/// How many parts the set has: each grows by itself, so that growing never takes twice the memory.
const PARTS: usize = 1 << 10;

/// A set of fingerprints, which are taken to be spread evenly.
pub(super) struct Visited {
    parts: Vec<Part>,
    len: usize,
}

/// Open addressing in the order of fingerprints; 0 is an empty place.
#[derive(Clone)]
struct Part {
    places: Vec<u64>,
    len: usize,
}

impl Visited {
    pub(super) fn new() -> Visited {
        Visited { parts: vec![Part { places: vec![0; 16], len: 0 }; PARTS], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.places.capacity() * size_of::<u64>()).sum()
    }

    /// Adds a fingerprint; whether it was not there.
    pub(super) fn insert(&mut self, fingerprint: u64) -> bool {
        let fingerprint = fingerprint.max(1);
        let part = &mut self.parts[fingerprint as usize % PARTS];
        let new = part.insert(fingerprint);
        self.len += usize::from(new);
        new
    }
}

impl Part {
    fn insert(&mut self, fingerprint: u64) -> bool {
        if self.len * 8 >= self.places.len() * 7 {
            let larger = vec![0; self.places.len() + self.places.len() / 2];
            let before = std::mem::replace(&mut self.places, larger);
            for moved in before.into_iter().filter(|moved| *moved != 0) {
                let at = self.find(moved);
                self.places[at] = moved;
            }
        }
        let at = self.find(fingerprint);
        let new = self.places[at] == 0;
        self.places[at] = fingerprint;
        self.len += usize::from(new);
        new
    }

    /// Where it is, or belongs.
    fn find(&self, fingerprint: u64) -> usize {
        let places = self.places.len();
        let mut at = ((u128::from(fingerprint) * places as u128) >> 64) as usize;
        while self.places[at] != 0 && self.places[at] != fingerprint {
            at = if at + 1 == places { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::catalogue::mixed;
    use super::*;

    #[test]
    fn it_is_a_set() {
        let (mut visited, mut set) = (Visited::new(), BTreeSet::new());
        for number in 0..200_000u64 {
            let fingerprint = mixed(number % 70_001);
            assert_eq!(visited.insert(fingerprint), set.insert(fingerprint.max(1)), "{number}");
        }
        assert_eq!(visited.len(), set.len());
        assert!(visited.bytes() < set.len() * 16 + PARTS * 128, "{} bytes", visited.bytes());
    }
}
