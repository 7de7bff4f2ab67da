//! The room for exactly once: sessions remember what their last requests answered. Replicated, so pure:
//! whoever is evicted is decided by slots, never by a clock.
//!
//! A session has a window of sequences. A repeated one in it gets its stored reply; an unseen one in or above
//! it runs, so pipelines and reconnects may reorder; one below it is stale: it ran or never will.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use paxos_core::Slot;

use crate::command::{Once, SessionId};
use crate::limits::{SESSION_REPLY_BYTES_MAX, SESSION_WINDOW, SESSIONS_REPLY_BYTES_MAX};
use crate::reply::{Fault, Reply};

/// What may be remembered of replies longer than an integer; constants of all replicas, smaller in tests.
#[derive(Clone, Copy, Debug)]
struct ReplyBounds {
    session_bytes_max: usize,
    sessions_bytes_max: usize,
}

/// The table of sessions.
#[derive(Debug)]
pub struct Sessions {
    sessions_max: usize,
    bounds: ReplyBounds,
    /// Never iterated, so its order decides nothing.
    open: HashMap<SessionId, Session, BuildHasherDefault<DefaultHasher>>,
    /// Which slot used which session, the oldest use first. Only the last use of a session counts; the others
    /// are dropped when they come to the front, and all at once when they are most of the queue.
    uses: VecDeque<(Slot, SessionId)>,
    reply_bytes: usize,
}

#[derive(Debug)]
struct Session {
    used: Slot,
    /// The lowest sequence of the window.
    floor: u64,
    /// What the sequences from `floor` on answered; `None` has not run. At most `SESSION_WINDOW` long.
    replies: VecDeque<Option<Reply<'static>>>,
    reply_bytes: usize,
}

/// What to do with a request of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has not run: run it, then `remember` its reply.
    Run,
    /// Answer this: the stored reply, or why there is none.
    Answer(Reply<'static>),
}

impl Sessions {
    /// No session yet; at most `sessions_max` at once, the same on every replica.
    pub fn new(sessions_max: usize) -> Sessions {
        Sessions {
            sessions_max: sessions_max.max(1),
            bounds: ReplyBounds {
                session_bytes_max: SESSION_REPLY_BYTES_MAX,
                sessions_bytes_max: SESSIONS_REPLY_BYTES_MAX,
            },
            open: HashMap::default(),
            uses: VecDeque::new(),
            reply_bytes: 0,
        }
    }

    /// How many sessions are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens the session named after this slot.
    pub fn open(&mut self, slot: Slot) -> SessionId {
        while self.open.len() >= self.sessions_max && self.evict() {}
        let id = SessionId(slot.get());
        self.open.insert(id, Session { used: slot, floor: 0, replies: VecDeque::new(), reply_bytes: 0 });
        self.used(slot, id);
        id
    }

    /// What to do with this request, which is in this slot. Asking is using: the session is evicted last.
    pub fn check(&mut self, once: Once, slot: Slot) -> Verdict {
        let Some(session) = self.open.get_mut(&once.session) else {
            return Verdict::Answer(Reply::Error(Fault::SessionExpired));
        };
        session.used = slot;
        let verdict = session.verdict(once.sequence);
        self.used(slot, once.session);
        verdict
    }

    /// Remembers what a request answered that was to run.
    pub fn remember(&mut self, once: Once, reply: &Reply<'static>) {
        let Some(session) = self.open.get_mut(&once.session) else { return };
        let before = session.reply_bytes;
        session.remember(once.sequence, reply, self.bounds.session_bytes_max);
        self.reply_bytes = self.reply_bytes.saturating_sub(before).saturating_add(session.reply_bytes);
        // Never this session: it was used last.
        while self.reply_bytes > self.bounds.sessions_bytes_max && self.open.len() > 1 && self.evict() {}
    }

    fn used(&mut self, slot: Slot, id: SessionId) {
        self.uses.push_back((slot, id));
        if self.uses.len() > self.open.len().saturating_mul(2).max(USES_MIN) {
            let open = &self.open;
            self.uses.retain(|(slot, id)| open.get(id).is_some_and(|session| session.used == *slot));
        }
    }

    /// Makes room for nobody (see `mutants` of the core).
    pub(crate) fn close_oldest(&mut self) {
        self.evict();
    }

    /// Drops the session whose last use is the oldest; false if there is none.
    fn evict(&mut self) -> bool {
        while let Some((slot, id)) = self.uses.pop_front() {
            if self.open.get(&id).is_none_or(|session| session.used != slot) {
                continue; // it was used again later
            }
            if let Some(session) = self.open.remove(&id) {
                self.reply_bytes = self.reply_bytes.saturating_sub(session.reply_bytes);
            }
            return true;
        }
        false
    }
}

/// The queue of uses is not tidied below this length.
const USES_MIN: usize = 64;

impl Session {
    fn verdict(&self, sequence: u64) -> Verdict {
        let Some(offset) = sequence.checked_sub(self.floor) else {
            return Verdict::Answer(Reply::Error(Fault::Stale));
        };
        match usize::try_from(offset).ok().and_then(|offset| self.replies.get(offset)) {
            Some(Some(reply)) => Verdict::Answer(reply.clone()),
            Some(None) | None => Verdict::Run,
        }
    }

    fn remember(&mut self, sequence: u64, reply: &Reply<'static>, bytes_max: usize) {
        let Some(offset) = sequence.checked_sub(self.floor) else { return };
        for _ in 0..(offset.saturating_add(1).saturating_sub(SESSION_WINDOW)).min(self.replies.len() as u64) {
            self.forget_lowest();
        }
        self.floor = self.floor.max(sequence.saturating_sub(SESSION_WINDOW - 1));
        let offset = usize::try_from(sequence.saturating_sub(self.floor)).unwrap_or(0); // below SESSION_WINDOW now
        if self.replies.len() <= offset {
            self.replies.resize(offset + 1, None);
        }
        if let Some(place) = self.replies.get_mut(offset) {
            *place = Some(reply.clone());
            self.reply_bytes = self.reply_bytes.saturating_add(reply.heap_bytes());
        }
        while self.reply_bytes > bytes_max && self.replies.len() > 1 {
            self.forget_lowest(); // even this one, if higher ones ran before it
        }
    }

    fn forget_lowest(&mut self) {
        if let Some(forgotten) = self.replies.pop_front() {
            self.reply_bytes = self.reply_bytes.saturating_sub(forgotten.map_or(0, |reply| reply.heap_bytes()));
            self.floor = self.floor.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    fn slot(number: u64) -> Slot {
        Slot::new(number).unwrap_or(Slot::FIRST)
    }

    fn once(session: SessionId, sequence: u64) -> Once {
        Once { session, sequence }
    }

    /// Runs one request as the machine does: the reply is the count of runs so far.
    fn request(sessions: &mut Sessions, runs: &mut i64, id: SessionId, sequence: u64, at: u64) -> Reply<'static> {
        match sessions.check(once(id, sequence), slot(at)) {
            Verdict::Answer(reply) => reply,
            Verdict::Run => {
                *runs += 1;
                let reply = Reply::Integer(*runs);
                sessions.remember(once(id, sequence), &reply);
                reply
            }
        }
    }

    #[test]
    fn a_sequence_runs_once_within_the_window_and_never_below_it() {
        let mut sessions = Sessions::new(4);
        let id = sessions.open(slot(1));
        let stale = Reply::Error(Fault::Stale);
        let script: [(u64, Reply<'static>); 10] = [
            (5, Reply::Integer(1)),
            (5, Reply::Integer(1)),
            (3, Reply::Integer(2)), // unseen in the window: runs
            (3, Reply::Integer(2)),
            (68, Reply::Integer(3)), // the window is now 5..=68
            (5, Reply::Integer(1)),
            (4, stale.clone()),
            (3, stale.clone()), // it ran, its reply is gone
            (u64::MAX, Reply::Integer(4)),
            (68, stale),
        ];
        let mut runs = 0;
        for (at, (sequence, expected)) in (2..).zip(script) {
            assert_eq!(request(&mut sessions, &mut runs, id, sequence, at), expected, "sequence {sequence}");
        }
    }

    #[test]
    fn the_least_recently_used_session_goes_first_and_never_runs_again() {
        let mut sessions = Sessions::new(2);
        let mut runs = 0;
        let one = sessions.open(slot(1));
        let two = sessions.open(slot(2));
        assert_eq!(request(&mut sessions, &mut runs, one, 1, 3), Reply::Integer(1));
        let three = sessions.open(slot(4));
        assert_eq!(request(&mut sessions, &mut runs, two, 1, 5), Reply::Error(Fault::SessionExpired));
        assert_eq!(request(&mut sessions, &mut runs, one, 1, 6), Reply::Integer(1));
        assert_eq!(request(&mut sessions, &mut runs, three, 1, 7), Reply::Integer(2));
        assert_eq!(request(&mut sessions, &mut runs, SessionId(99), 1, 8), Reply::Error(Fault::SessionExpired));
        assert_eq!((sessions.len(), runs), (2, 2));
    }

    #[test]
    fn long_replies_are_bounded_per_session_and_over_all() {
        let mut sessions = Sessions::new(8);
        sessions.bounds = ReplyBounds { session_bytes_max: 100, sessions_bytes_max: 250 };
        let long = Reply::owned(vec![b'v'; 60]);
        let ids: Vec<SessionId> = (1..=5).map(|at| sessions.open(slot(at))).collect();
        for (at, id) in (10..).zip(&ids) {
            assert_eq!(sessions.check(once(*id, 1), slot(at)), Verdict::Run);
            sessions.remember(once(*id, 1), &long);
        }
        assert_eq!(sessions.len(), 4, "five times 60 bytes are too many");
        let last = ids[4];
        assert_eq!(sessions.check(once(last, 2), slot(20)), Verdict::Run);
        sessions.remember(once(last, 2), &long);
        assert_eq!(sessions.check(once(last, 1), slot(21)), Verdict::Answer(Reply::Error(Fault::Stale)));
        assert_eq!(sessions.check(once(last, 2), slot(22)), Verdict::Answer(long));
        assert!(sessions.reply_bytes <= 250, "{}", sessions.reply_bytes);
    }

    /// The rules of the table said once more, as slowly as possible.
    #[derive(Default)]
    struct Twin {
        sessions: Vec<TwinSession>,
    }

    /// Its id, its last use, what ran.
    type TwinSession = (SessionId, u64, Vec<(u64, i64)>);

    impl Twin {
        fn open(&mut self, max: usize, at: u64) -> SessionId {
            while self.sessions.len() >= max {
                let oldest = self.sessions.iter().map(|(_, used, _)| *used).min();
                self.sessions.retain(|(_, used, _)| Some(*used) != oldest);
            }
            self.sessions.push((SessionId(at), at, Vec::new()));
            SessionId(at)
        }

        fn request(&mut self, runs: &mut i64, id: SessionId, sequence: u64, at: u64) -> Reply<'static> {
            let Some((_, used, ran)) = self.sessions.iter_mut().find(|(open, _, _)| *open == id) else {
                return Reply::Error(Fault::SessionExpired);
            };
            *used = at;
            let highest = ran.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
            if sequence.saturating_add(64) <= highest {
                return Reply::Error(Fault::Stale);
            }
            if let Some((_, reply)) = ran.iter().find(|(seen, _)| *seen == sequence) {
                return Reply::Integer(*reply);
            }
            *runs += 1;
            ran.push((sequence, *runs));
            Reply::Integer(*runs)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open,
        Request { session: usize, sequence: u64 },
    }

    impl Arbitrary for Step {
        fn arbitrary(g: &mut Gen) -> Step {
            if u8::arbitrary(g) % 8 == 0 {
                return Step::Open;
            }
            let span = *g.choose(&[4, 70, 200]).unwrap_or(&4);
            Step::Request { session: usize::arbitrary(g) % 6, sequence: u64::arbitrary(g) % span }
        }
    }

    quickcheck! {
        fn the_table_answers_what_its_naive_twin_answers(steps: Vec<Step>, max: usize) -> bool {
            let max = max % 4 + 1;
            let (mut sessions, mut twin) = (Sessions::new(max), Twin::default());
            let (mut runs, mut twin_runs) = (0, 0);
            let mut ids = vec![SessionId(0)];
            (1..).zip(steps).all(|(at, step)| match step {
                Step::Open => {
                    let id = sessions.open(slot(at));
                    ids.push(id);
                    id == twin.open(max, at) && sessions.len() == twin.sessions.len()
                }
                Step::Request { session, sequence } => {
                    let id = ids[ids.len() - 1 - session.min(ids.len() - 1)];
                    let reply = request(&mut sessions, &mut runs, id, sequence, at);
                    reply == twin.request(&mut twin_runs, id, sequence, at)
                }
            })
        }
    }
}
