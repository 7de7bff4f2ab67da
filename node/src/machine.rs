//! The replicated state: sessions first, then the keys. What it does depends on the slots applied and on
//! nothing else, so every replica that applied the same slots holds the same state and gave the same replies.

use std::collections::VecDeque;

use bytes::Bytes;
use paxos_core::{Entry, Slot};

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
        let Some(once) = command.once else { return self.run(slot, command) };
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
