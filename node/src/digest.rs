//! The room for the rolling digest: one number that says what was applied, so that replicas can be compared.
//!
//! Multiply and fold, as wyhash does: a few cycles a word, the same on every machine. It finds accidents and
//! bugs; it is no defence against somebody who chooses the bytes.

use paxos_core::{CommandId, Entry, Slot};

use crate::reply::Reply;

/// A digest that more can be folded into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub(crate) const EMPTY: Digest = Digest(0x2545_f491_4f6c_dd1d);

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// What a slot held and what running it answered.
    pub(crate) fn applied(self, slot: Slot, entry: &Entry, reply: &Reply<'_>) -> Digest {
        let digest = self.word(slot.get());
        match entry {
            Entry::Noop => digest.word(0),
            Entry::Command { id, bytes } => digest.word(1).command_id(*id).bytes(bytes).reply(reply),
            Entry::Membership(membership) => membership.members().fold(digest.word(2), |digest, member| {
                digest.word(u64::from(member.node.0)).word(member.incarnation.0)
            }),
        }
    }

    pub(crate) fn word(self, word: u64) -> Digest {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(self.0 ^ word).wrapping_mul(u128::from(FACTOR));
        Digest((wide as u64) ^ (wide >> 64) as u64 ^ FACTOR.rotate_left(17))
    }

    fn bytes(self, bytes: &[u8]) -> Digest {
        let (words, tail) = bytes.as_chunks::<8>();
        let digest = words.iter().fold(self, |digest, word| digest.word(u64::from_le_bytes(*word)));
        let tail = tail.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        digest.word(tail).word(bytes.len() as u64)
    }

    fn command_id(self, id: CommandId) -> Digest {
        self.word(u64::from(id.node.0)).word(id.incarnation.0).word(id.boot).word(id.sequence)
    }

    fn reply(self, reply: &Reply<'_>) -> Digest {
        match reply {
            Reply::Simple(text) => self.word(1).bytes(text.as_bytes()),
            Reply::Null => self.word(2),
            Reply::Integer(number) => self.word(3).word(*number as u64),
            Reply::Bulk(bytes) => self.word(4).bytes(bytes),
            Reply::Error(fault) => self.word(5).word(*fault as u64),
            Reply::Array(replies) => replies.iter().fold(self.word(6).word(replies.len() as u64), Digest::reply_of),
        }
    }

    fn reply_of(self, reply: &Reply<'_>) -> Digest {
        self.reply(reply)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_digest_of_a_fixed_history_never_changes() {
        let digest = Digest::EMPTY.word(1).bytes(b"SET a 1").reply(&Reply::OK);
        assert_eq!(digest.number(), 0xbce7_9741_e4e4_fae7);
    }

    quickcheck! {
        fn different_bytes_have_different_digests(strings: BTreeSet<Vec<u8>>) -> bool {
            let digests: BTreeSet<u64> = strings.iter().map(|bytes| Digest::EMPTY.bytes(bytes).number()).collect();
            digests.len() == strings.len()
        }
    }
}
