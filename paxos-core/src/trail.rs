//! The room for a list that grows at its end and is forgotten from its front. What is left is one slice, so that
//! looking at it costs what looking at a slice costs.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::{Deref, DerefMut};

#[derive(Clone, Debug)]
pub(crate) struct Trail<T> {
    items: Vec<T>,
    /// How many of `items` are forgotten.
    gone: usize,
}

/// Forgotten items that are not worth moving the others for.
const GONE_MIN: usize = 64;

impl<T> Trail<T> {
    pub(crate) const fn new() -> Trail<T> {
        Trail { items: Vec::new(), gone: 0 }
    }

    /// One item: as `get` of the slice, with one comparison less.
    #[inline]
    pub(crate) fn at(&self, at: usize) -> Option<&T> {
        self.items.get(self.gone.saturating_add(at))
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, at: usize) -> Option<&mut T> {
        self.items.get_mut(self.gone.saturating_add(at))
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        self.items.push(item);
    }

    pub(crate) fn insert(&mut self, at: usize, item: T) {
        let at = self.gone.saturating_add(at).min(self.items.len());
        self.items.insert(at, item);
    }

    /// Takes the items from `from` to `to` out.
    pub(crate) fn remove(&mut self, from: usize, to: usize) {
        let (from, to) = (self.gone.saturating_add(from), self.gone.saturating_add(to).min(self.items.len()));
        self.items.drain(from.min(to)..to);
    }

    /// Takes the last item out.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.is_empty() { None } else { self.items.pop() }
    }

    /// Forgets the first items. They are dropped some time later: whoever cares what they hold takes it first.
    #[inline]
    pub(crate) fn forget(&mut self, count: usize) {
        self.gone = self.gone.saturating_add(count);
        if self.gone >= self.items.len() {
            self.items.clear();
            self.gone = 0;
        } else if self.gone >= GONE_MIN && self.gone >= self.items.len() >> 1 {
            // No more are moved than were forgotten since the last time.
            self.items.drain(..self.gone);
            self.gone = 0;
        }
    }
}

impl<T> Default for Trail<T> {
    fn default() -> Trail<T> {
        Trail::new()
    }
}

impl<T> Deref for Trail<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.items.get(self.gone..).unwrap_or(&[])
    }
}

impl<T> DerefMut for Trail<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.items.get_mut(self.gone..).unwrap_or(&mut [])
    }
}

impl<T: Hash> Hash for Trail<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T> Extend<T> for Trail<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        self.items.extend(items);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;

    use super::*;

    #[test]
    fn a_trail_is_a_deque_that_is_one_slice() {
        let (mut trail, mut deque) = (Trail::new(), VecDeque::new());
        for step in 0..10_000u32 {
            let busy = step % 900 < 600;
            match (step.wrapping_mul(2_654_435_761) >> 24) % 16 {
                0..=8 if busy => {
                    trail.push(step);
                    deque.push_back(step);
                }
                9 => {
                    let at = deque.len() / 3;
                    trail.insert(at, step);
                    deque.insert(at, step);
                }
                10 if deque.len() > 4 => {
                    trail.remove(1, 3);
                    deque.drain(1..3);
                }
                11 => assert_eq!(trail.pop(), deque.pop_back()),
                _ => {
                    let count = deque.len().min(2);
                    trail.forget(count);
                    deque.drain(..count);
                }
            }
            assert_eq!(*trail, *deque.make_contiguous());
        }
    }
}
