//! Linearizable reads: a read waits for a quorum to echo a heartbeat round that began after the read arrived
//! (docs/protocol.md, §4; Ongaro's dissertation, §6.4, calls it ReadIndex). Many reads share a round.

use alloc::collections::VecDeque;

use crate::event::Tag;
use crate::slot::Slot;

#[derive(Clone, Hash, Debug)]
struct Waiting {
    tag: Tag,
    /// The round that must be echoed.
    round: u64,
    /// The chosen prefix when the read arrived.
    prefix: Slot,
}

#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Reads {
    /// By rising round.
    waiting: VecDeque<Waiting>,
    /// The newest round that left; never reused within a boot.
    round: u64,
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The newest round that left.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Takes a read for the next round.
    pub(crate) fn push(&mut self, tag: Tag, prefix: Slot) {
        self.waiting.push_back(Waiting { tag, round: self.round.saturating_add(1), prefix });
    }

    /// Whether reads wait for a round that has not left.
    pub(crate) fn wants_round(&self) -> bool {
        self.waiting.back().is_some_and(|last| last.round > self.round)
    }

    /// The next round leaves now.
    pub(crate) fn start_round(&mut self) -> u64 {
        self.round = self.round.saturating_add(1);
        self.round
    }

    /// The first read whose round a quorum echoed and whose prefix is applied.
    pub(crate) fn pop_ready(&mut self, echoed: u64, next_to_apply: Slot) -> Option<Tag> {
        let first = self.waiting.front()?;
        if first.round > echoed || first.prefix > next_to_apply {
            return None;
        }
        self.waiting.pop_front().map(|read| read.tag)
    }

    /// Any read; they all fail together.
    pub(crate) fn pop(&mut self) -> Option<Tag> {
        self.waiting.pop_front().map(|read| read.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_a_round_that_began_after_it_and_for_its_prefix() {
        let mut reads = Reads::default();
        reads.push(Tag(1), Slot::FIRST);
        assert!(reads.wants_round());
        assert_eq!(reads.start_round(), 1);
        assert!(!reads.wants_round());
        reads.push(Tag(2), Slot::FIRST.plus(4));
        assert_eq!(reads.pop_ready(1, Slot::FIRST), Some(Tag(1)));
        assert_eq!(reads.pop_ready(1, Slot::FIRST.plus(4)), None, "round 1 began before read 2 arrived");
        assert_eq!(reads.start_round(), 2);
        assert_eq!(reads.pop_ready(2, Slot::FIRST.plus(3)), None, "its prefix is not applied");
        assert_eq!(reads.pop_ready(2, Slot::FIRST.plus(4)), Some(Tag(2)));
        assert_eq!(reads.len(), 0);
    }
}
