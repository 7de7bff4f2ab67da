//! The replicated state: sessions first, then the keys. What it does depends on the slots applied and on
//! nothing else, so every replica that applied the same slots holds the same state and gave the same replies.

use std::collections::VecDeque;

use bytes::Bytes;
use paxos_core::mutants::{Mutant, mutant};
use paxos_core::{Entry, Instant, Slot};

use crate::command::{Command, decode};
use crate::commands::{Run, spec_of};
use crate::digest::Digest;
use crate::history::shown;
use crate::kv::Kv;
use crate::limits::DIGESTS_KEPT;
use crate::reply::{Fault, Reply};
use crate::session::{Sessions, Verdict};

/// The state that the log makes.
#[derive(Debug)]
pub struct Machine {
    kv: Kv,
    sessions: Sessions,
    /// The slot to be applied next.
    next: Slot,
    /// What the slot before it held.
    last: Entry,
    digest: Digest,
    /// The digests after the last slots, the newest at the end.
    digests: VecDeque<u64>,
    commands: u64,
}

impl Machine {
    /// The state before slot 1. `sessions_max` is part of it, and so of the digest; `secret`, the same on all
    /// replicas, only spreads keys.
    pub fn new(sessions_max: usize, secret: u128) -> Machine {
        Machine {
            kv: Kv::new(secret),
            sessions: Sessions::new(sessions_max),
            next: Slot::FIRST,
            last: Entry::Noop,
            digest: Digest::EMPTY.word(sessions_max as u64),
            digests: VecDeque::with_capacity(DIGESTS_KEPT),
            commands: 0,
        }
    }

    /// Applies what was chosen in the next slot, and says what its proposer is to be answered.
    pub fn apply(&mut self, slot: Slot, entry: &Entry) -> Reply<'static> {
        let reply = match entry {
            Entry::Noop | Entry::Membership(_) => Reply::Null,
            Entry::Command { bytes, .. } => {
                self.commands += 1;
                decode(bytes).map_or(Reply::Error(Fault::Unreadable), |command| self.check(slot, command))
            }
        };
        self.digest = self.digest.applied(slot, entry, &reply);
        if self.digests.len() == DIGESTS_KEPT {
            self.digests.pop_front();
        }
        self.digests.push_back(self.digest.number());
        self.last = entry.clone();
        self.next = slot.next();
        reply
    }

    /// A request of a session runs once; anything else runs.
    fn check(&mut self, slot: Slot, command: Command<'_>) -> Reply<'static> {
        let sessions_count = !mutant(Mutant::SessionsIgnored);
        let Some(once) = command.once.filter(|_| sessions_count) else { return self.run(slot, command) };
        match self.sessions.check(once, slot) {
            Verdict::Answer(reply) => reply,
            Verdict::Run => {
                let reply = self.run(slot, command);
                self.sessions.remember(once, &reply);
                reply
            }
        }
    }

    fn run(&mut self, slot: Slot, command: Command<'_>) -> Reply<'static> {
        let Some(spec) = spec_of(command.number) else { return Reply::Error(Fault::Unreadable) };
        match spec.run {
            Run::Write(write) => write(&mut self.kv, slot, command.args),
            Run::Read(read) => read(&self.kv, command.args).into_owned(),
            Run::Once => Reply::Integer(i64::try_from(self.sessions.open(slot).0).unwrap_or(i64::MAX)),
            Run::Barrier => {
                let before = if slot == Slot::FIRST { Reply::Null } else { shown(&self.last).into_owned() };
                Reply::array([Reply::Integer(i64::try_from(slot.get()).unwrap_or(i64::MAX)), before])
            }
            Run::Length => Reply::Integer(i64::try_from(slot.get() - 1).unwrap_or(i64::MAX)),
            Run::Browse(_) | Run::Local(_) | Run::Turn(_) | Run::History => Reply::Error(Fault::Unreadable),
        }
    }

    /// Evaluates a read in the state as it is.
    pub fn read<'a>(&'a self, command: &Bytes) -> Reply<'a> {
        let Ok(command) = decode(command) else { return Reply::Error(Fault::Unreadable) };
        let Some(spec) = spec_of(command.number) else { return Reply::Error(Fault::Unreadable) };
        match spec.run {
            Run::Read(read) | Run::Browse(read) => read(&self.kv, command.args),
            Run::Length => Reply::Integer(i64::try_from(self.applied()).unwrap_or(i64::MAX)),
            Run::Write(_) | Run::Once | Run::Barrier | Run::Local(_) | Run::Turn(_) | Run::History => {
                Reply::Error(Fault::Unreadable)
            }
        }
    }

    /// Closes a session when a clock says so (see `mutants` of the core).
    pub(crate) fn close_session_by_clock(&mut self, now: Instant) {
        /// One slot of so many, by how the clock stands when it is applied.
        const SLOTS_PER_CLOSING: u64 = 64;
        if now.as_us().is_multiple_of(SLOTS_PER_CLOSING) {
            self.sessions.close_oldest();
        }
    }

    /// The slot to be applied next.
    pub fn next(&self) -> Slot {
        self.next
    }

    /// How many slots were applied.
    pub fn applied(&self) -> u64 {
        self.next.get() - 1
    }

    /// How many of them were commands.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// The digest of all that was applied.
    pub fn digest(&self) -> u64 {
        self.digest.number()
    }

    /// The digest after this slot, if it is among the last `DIGESTS_KEPT`.
    pub fn digest_at(&self, slot: Slot) -> Option<u64> {
        let back = usize::try_from(self.applied().checked_sub(slot.get())?).ok()?;
        self.digests.get(self.digests.len().checked_sub(back.checked_add(1)?)?).copied()
    }

    /// The keys.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{CommandId, Incarnation, NodeId};

    use super::*;
    use crate::command::{Chunk, Once, SessionId};
    use crate::commands::find;

    fn entry(once: Option<Once>, line: &str) -> Entry {
        let mut words = line.split(' ').map(str::as_bytes);
        let number = words.next().and_then(find).map_or(0, |spec| spec.number);
        let args: Vec<&[u8]> = words.collect();
        let id = CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence: 1 };
        Entry::Command { id, bytes: Chunk::default().encode(once, number, args.iter().copied()) }
    }

    fn applied(entries: &[Entry]) -> (Machine, Vec<Reply<'static>>) {
        let mut machine = Machine::new(4, 7);
        let replies = entries.iter().map(|entry| machine.apply(machine.next(), entry)).collect();
        (machine, replies)
    }

    #[test]
    fn the_same_slots_make_the_same_state_and_replies() {
        let history = [entry(None, "SET a 1"), Entry::Noop, entry(None, "INCR a"), entry(None, "LOG.BARRIER")];
        let (one, replies) = applied(&history);
        assert_eq!(replies[2], Reply::Integer(2));
        assert_eq!(
            replies[3],
            Reply::array([Reply::Integer(4), Reply::array([Reply::borrowed(b"INCR"), Reply::borrowed(b"a")])])
        );
        let (two, _) = applied(&history);
        assert_eq!(one.digest(), two.digest());
        assert_eq!((one.applied(), one.commands()), (4, 3));
        let (other, _) = applied(&[entry(None, "SET a 1"), Entry::Noop, entry(None, "INCR a")]);
        assert_eq!(Some(other.digest()), one.digest_at(Slot::FIRST.plus(2)));
        assert_ne!(other.digest(), one.digest());
        assert_ne!(Machine::new(4, 7).digest(), Machine::new(5, 7).digest(), "how many sessions is part of the state");
    }

    #[test]
    fn a_session_runs_a_sequence_once_and_another_as_told() {
        let once = |session, sequence| Some(Once { session: SessionId(session), sequence });
        let (_, replies) = applied(&[
            entry(None, "ONCE NEW"),
            entry(once(1, 0), "INCR a"),
            entry(once(1, 0), "INCR a"),
            entry(once(1, 1), "GET a"),
            entry(once(9, 0), "INCR a"),
            entry(once(1, 2), "LOG.LEN"),
        ]);
        let expected = [
            Reply::Integer(1),
            Reply::Integer(1),
            Reply::Integer(1),
            Reply::borrowed(b"1"),
            Reply::Error(Fault::SessionExpired),
            Reply::Integer(5),
        ];
        assert_eq!(replies, expected);
    }

    #[test]
    fn what_this_version_cannot_run_changes_nothing_and_is_the_same_everywhere() {
        let id = CommandId { node: NodeId(1), incarnation: Incarnation(1), boot: 1, sequence: 1 };
        let unreadable: [&'static [u8]; 4] = [b"", b"\x09", b"\x01\xfe\x00", b"\x01\x64\x00"];
        for bytes in unreadable {
            let (machine, replies) = applied(&[Entry::Command { id, bytes: Bytes::from_static(bytes) }]);
            assert_eq!(replies, [Reply::Error(Fault::Unreadable)]);
            assert!(machine.kv().is_empty());
            assert_eq!(machine.applied(), 1);
        }
    }

    #[test]
    fn digests_are_kept_for_the_last_slots_only() {
        let mut machine = Machine::new(4, 7);
        let mut all = Vec::new();
        for _ in 0..DIGESTS_KEPT + 10 {
            machine.apply(machine.next(), &Entry::Noop);
            all.push(machine.digest());
        }
        assert_eq!(machine.digest_at(Slot::FIRST.plus(9)), None);
        for slot in [11, 12, DIGESTS_KEPT + 10] {
            assert_eq!(machine.digest_at(Slot::FIRST.plus(slot as u64 - 1)), Some(all[slot - 1]));
        }
        assert_eq!(machine.digest_at(machine.next()), None);
    }
}
