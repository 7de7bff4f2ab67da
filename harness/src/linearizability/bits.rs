//! Sets of small numbers, without trailing zeros: equal sets are equal words, and the empty set owns no memory.

/// A set of small numbers.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, number: u32) {
        let at = number as usize / 64;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (number % 64);
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub(super) fn is_subset_of(&self, other: &Bits) -> bool {
        self.0.len() <= other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| one & !two == 0)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    fn bits(numbers: &BTreeSet<u32>) -> Bits {
        let mut bits = Bits::default();
        numbers.iter().for_each(|number| bits.insert(*number));
        bits
    }

    quickcheck! {
        fn bits_are_a_set(one: Vec<u8>, two: Vec<u8>) -> bool {
            let [one, two] = [one, two].map(|numbers| numbers.into_iter().map(u32::from).collect::<BTreeSet<u32>>());
            let mut left = bits(&one);
            let same = (0..256).all(|number| left.contains(number) == one.contains(&number))
                && bits(&one).is_subset_of(&bits(&two)) == one.is_subset(&two);
            two.iter().for_each(|number| left.remove(*number));
            same && left == bits(&(&one - &two))
        }
    }
}
