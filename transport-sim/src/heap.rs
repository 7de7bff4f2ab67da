//! The room for what is still to happen: an event heap in virtual time. Equal times keep their order of arrival.
//! Nothing is ever removed from the middle: whoever cancels a timer ignores it when it comes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use paxos_core::Instant;

/// Events in the order of their time, then of their arrival.
#[derive(Debug)]
pub struct Heap<E> {
    heap: BinaryHeap<Reverse<Due<E>>>,
    pushed: u64,
}

#[derive(Debug)]
struct Due<E> {
    at: Instant,
    /// Comes after all of its moment that are not late.
    late: bool,
    order: u64,
    event: E,
}

impl<E> Default for Heap<E> {
    fn default() -> Heap<E> {
        Heap { heap: BinaryHeap::new(), pushed: 0 }
    }
}

impl<E> Heap<E> {
    /// Makes an event happen at a moment.
    #[inline]
    pub fn push(&mut self, at: Instant, event: E) {
        self.pushed += 1;
        self.heap.push(Reverse(Due { at, late: true, order: self.pushed, event }));
    }

    /// The same for what was there before everything that `push` has for that moment.
    pub fn push_first(&mut self, at: Instant, event: E) {
        self.pushed += 1;
        self.heap.push(Reverse(Due { at, late: false, order: self.pushed, event }));
    }

    /// The next event and its moment.
    #[inline]
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        self.heap.pop().map(|Reverse(due)| (due.at, due.event))
    }

    /// How many events are still to come, cancelled ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Due<E>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Due<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Due<E>) -> Ordering {
        (self.at, self.late, self.order).cmp(&(other.at, other.late, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_arrival() {
        let mut heap = Heap::default();
        for (at, event) in [(5, 'd'), (3, 'a'), (5, 'e'), (3, 'b'), (4, 'c')] {
            heap.push(Instant::from_us(at), event);
        }
        let order: String = std::iter::from_fn(|| heap.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcde");
    }

    #[test]
    fn what_was_there_before_comes_first() {
        let mut heap = Heap::default();
        heap.push(Instant::from_us(3), 'c');
        heap.push_first(Instant::from_us(3), 'a');
        heap.push(Instant::from_us(3), 'd');
        heap.push_first(Instant::from_us(3), 'b');
        heap.push_first(Instant::from_us(4), 'e');
        let order: String = std::iter::from_fn(|| heap.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcde");
    }
}
