//! What the clients of a world did, judged by the checkers of `linearizability`: the search, which knows nothing of the
//! log, and the slot-order oracle, with the slots that the judge of the world found.
//!
//! The judge has an oracle of its own that looks at every reply as it comes (`invariants`); this one looks at whole
//! histories, by another model and another method.

use std::collections::BTreeMap;
use std::fmt;

use transport_sim::{Fact, Operation, OperationId, Reply, Violation};

use crate::invariants::TooLarge;
use crate::linearizability::{
    Answer, Budget, Command, History, Returned, Store, Verdict, check, check_slots, describe, describe_slots,
};

/// What the search of one key may spend: without a clock, so that the same seed always ends the same. Nine keys of ten
/// need less than a tenth of it; what needs more mostly needs more than anybody has, since the writes of unknown outcome
/// can have run in any subset.
const STEPS_MAX: u64 = 10_000;
/// The same once the log has said which writes of unknown outcome ran.
const STEPS_BY_LOG_MAX: u64 = 40_000;
/// The same for a key of the class below: one in ten thousand seeds has one that needs more than the others may.
const STEPS_IN_CLASS_MAX: u64 = 10_000_000;
const MEMORY_BYTES_MAX: usize = 1 << 30;

/// The class of keys for which the bounds always have to do: so many writes of unknown outcome that ran, and so many
/// operations open at once. Beyond it, a search that gives up is counted and the slot-order oracle stands alone.
const UNKNOWN_MAX: usize = 8;
const OPEN_MAX: usize = 8;

/// How much was judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Histories that were judged.
    pub histories: u64,
    /// Keys in them that the search put in order.
    pub keys: u64,
    /// Operations on these keys.
    pub operations: u64,
    /// Of these, the ones of unknown outcome.
    pub unknown: u64,
    /// Keys for which the log had to say which writes of unknown outcome ran.
    pub by_log: u64,
    /// Keys out of the search's class that it gave up.
    pub hard: u64,
    /// Operations on those.
    pub hard_operations: u64,
    /// Histories with a command that the model does not know, so that nobody judged them; only an edited script has one.
    pub unmodelled: u64,
}

impl Judged {
    /// Adds another one's counts.
    pub fn add(&mut self, other: &Judged) {
        self.histories += other.histories;
        self.keys += other.keys;
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.by_log += other.by_log;
        self.hard += other.hard;
        self.hard_operations += other.hard_operations;
        self.unmodelled += other.unmodelled;
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { histories, keys, operations, unknown, by_log, hard, hard_operations, unmodelled } = self;
        write!(
            f,
            "{histories} in slot order; searched: {operations} operations on {keys} keys, {unknown} of unknown "
        )?;
        write!(f, "outcome, {by_log} keys with the log's word on which ran; too hard for the search: {hard} keys of ")?;
        write!(f, "{hard_operations} operations; {unmodelled} histories with commands that the model lacks")
    }
}

type One = crate::linearizability::Operation<Command, Answer>;

/// Keeps what clients asked and were answered. Its clock counts facts: what a world does has one order, so that no two
/// operations touch that did not.
#[derive(Debug, Default)]
pub struct Recorder {
    moment: u64,
    operations: Vec<Recorded>,
    places: BTreeMap<OperationId, usize>,
}

#[derive(Debug)]
struct Recorded {
    operation: Operation,
    invoked: u64,
    replied: Option<(u64, Reply)>,
}

impl Recorder {
    /// Looks at one fact.
    pub fn see(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Asked(operation) => {
                self.moment += 1;
                self.places.insert(operation.id, self.operations.len());
                self.operations.push(Recorded { operation: (*operation).clone(), invoked: self.moment, replied: None });
            }
            Fact::Answered { id, reply } => {
                self.moment += 1;
                let recorded = self.places.get(id).and_then(|place| self.operations.get_mut(*place));
                if let Some(recorded) = recorded {
                    recorded.replied = Some((self.moment, (*reply).clone()));
                }
            }
            _ => {}
        }
    }

    /// The history, each operation with its slot as far as this knows one; `None` if the model lacks a command.
    pub fn history(&self, slot_of: impl Fn(&Operation) -> Option<u64>) -> Option<History> {
        // What was too large to be taken certainly did not run.
        let ran =
            |recorded: &&Recorded| recorded.replied.as_ref().is_none_or(|(_, reply)| TooLarge::of(reply).is_none());
        let operations = self.operations.iter().filter(ran).map(|Recorded { operation, invoked, replied }| {
            let returned = replied.as_ref().and_then(|(at, reply)| Some(Returned { at: *at, answer: answer(reply)? }));
            Some(One {
                client: u64::from(operation.id.client),
                invoked: *invoked,
                command: Command::parse(&operation.args).ok()?,
                returned,
                slot: slot_of(operation),
            })
        });
        operations.collect()
    }

    /// Judges the history.
    ///
    /// # Errors
    /// `history-linearizable`, `history-in-slot-order`, or `history-judged` if the search gives up on a history that it
    /// should have managed.
    pub fn judge(&self, slot_of: impl Fn(&Operation) -> Option<u64>) -> Result<Judged, Violation> {
        match self.history(slot_of) {
            Some(history) => judge(&history),
            None => Ok(Judged { unmodelled: 1, ..Judged::default() }),
        }
    }
}

/// What a reply tells of its command; nothing if the command may as well not have run.
fn answer(reply: &Reply) -> Option<Answer> {
    match reply {
        Reply::Status(status) => Some(Answer::Text(status.clone().into_bytes())),
        Reply::Number(number) => Some(Answer::Integer(*number)),
        Reply::Bulk(value) => Some(Answer::Text(value.to_vec())),
        Reply::Nil => Some(Answer::Nil),
        Reply::Error(line) if line.starts_with("SESSIONEXPIRED") || line.starts_with("STALE") => None,
        Reply::Error(line) => Some(Answer::Error(line.clone())),
        Reply::Array(_) => Some(Answer::Error("an array".into())),
    }
}

/// Both checkers on one history.
fn judge(history: &History) -> Result<Judged, Violation> {
    if let Err(violation) = check_slots(&Store, history) {
        return Err(Violation::new("history-in-slot-order", describe_slots(history, &violation)));
    }
    search(history)
}

/// The search alone, key by key: what is too much for one key takes nothing from the others.
fn search(history: &History) -> Result<Judged, Violation> {
    let mut keys: BTreeMap<&[u8], Vec<One>> = BTreeMap::new();
    for one in history {
        keys.entry(&one.command.key).or_default().push(one.clone());
    }
    let mut judged = Judged { histories: 1, ..Judged::default() };
    for members in keys.into_values() {
        let (size, unknown) = (members.len() as u64, unknown(&members) as u64);
        match search_key(members)? {
            Sought::Hard => {
                judged.hard += 1;
                judged.hard_operations += size;
                continue;
            }
            Sought::ByLog => judged.by_log += 1,
            Sought::Found => {}
        }
        judged.keys += 1;
        judged.operations += size;
        judged.unknown += unknown;
    }
    Ok(judged)
}

/// How an order was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sought {
    Found,
    /// Without the writes of unknown outcome that the log does not have.
    ByLog,
    /// It was not, and need not be.
    Hard,
}

fn search_key(mut members: Vec<One>) -> Result<Sought, Violation> {
    if is_in_order(&members, STEPS_MAX)? {
        return Ok(Sought::Found);
    }
    members.retain(|one| one.returned.is_some() || one.slot.is_some());
    if is_in_order(&members, STEPS_BY_LOG_MAX)? {
        return Ok(Sought::ByLog);
    }
    let (unknown, open) = (unknown(&members), open(&members));
    if unknown <= UNKNOWN_MAX && open <= OPEN_MAX {
        if is_in_order(&members, STEPS_IN_CLASS_MAX)? {
            return Ok(Sought::ByLog);
        }
        let (size, key) = (members.len(), members[0].command.key.escape_ascii());
        let why = format!("key {key}: {size} operations, {unknown} of unknown outcome, {open} open, are too many");
        return Err(Violation::new("history-judged", why));
    }
    Ok(Sought::Hard)
}

/// Whether the operations on one key have an order; false if it was not found with so many steps.
fn is_in_order(members: &History, steps_max: u64) -> Result<bool, Violation> {
    let budget = Budget { steps_max, time_max: std::time::Duration::MAX, memory_bytes_max: MEMORY_BYTES_MAX };
    let verdict = check(&Store, members, &budget);
    match &verdict {
        Verdict::Linearizable { .. } => Ok(true),
        Verdict::Unknown { .. } => Ok(false),
        Verdict::NotLinearizable(_) => Err(Violation::new("history-linearizable", describe(members, &verdict))),
    }
}

fn unknown(members: &[One]) -> usize {
    members.iter().filter(|one| one.returned.is_none()).count()
}

/// The most operations of known outcome that were open at once.
fn open(members: &[One]) -> usize {
    let ended = members.iter().filter(|one| one.returned.is_some());
    let mut events: Vec<(u64, isize)> = ended.flat_map(|one| [(one.invoked, 1), (one.end(), -1)]).collect();
    events.sort_unstable();
    let mut open = 0;
    let after_each = events.iter().map(|(_, change)| {
        open += change;
        open
    });
    after_each.max().unwrap_or(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use paxos_core::ElectionPolicy;
    use transport_sim::{Moment, Observer, Scenario, Trace, World};

    use super::*;
    use crate::invariants::Invariants;
    use crate::linearizability::Action;

    /// Records, and lets the judge find the slots if it is wanted; whatever the judge objects to is passed over.
    struct Watch {
        judge: Option<Invariants>,
        recorder: Recorder,
    }

    impl Observer for Watch {
        fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
            self.recorder.see(fact);
            self.judge.as_mut().map_or(Ok(()), |judge| judge.see(moment, fact))
        }
    }

    /// The history of a seed, with slots if the judge watches.
    fn history(seed: u64, judged: bool) -> History {
        let scenario = Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
        let judge = judged.then(|| Invariants::with_clients(scenario.limits.sessions_max));
        let watch = Watch { judge, recorder: Recorder::default() };
        let mut world = World::new(scenario, watch, Trace::silent()).expect("starts");
        // A rule that is broken may as well keep the world from its rest.
        let rested = world.run(u64::MAX);
        assert!(rested.is_ok() || !judged, "{rested:?}");
        let Watch { judge, recorder } = &world.observer;
        let slot_of = |operation: &Operation| judge.as_ref().and_then(|judge| judge.slot_of(operation));
        recorder.history(slot_of).expect("clients send what the model knows")
    }

    fn broken(history: &History) -> Option<&'static str> {
        judge(history).err().map(|violation| violation.invariant)
    }

    /// The places of acknowledged commands of one kind, behind a first acknowledged write of the same key.
    fn later(history: &History, wanted: impl Fn(&Action) -> bool) -> Vec<(usize, usize)> {
        let is_write = |one: &One| one.slot.is_some() && matches!(one.command.action, Action::Set { .. });
        let places = (0..history.len()).filter(|at| wanted(&history[*at].command.action));
        let behind = |at: usize| {
            let earlier = (0..at).find(|earlier| {
                let (write, one) = (&history[*earlier], &history[at]);
                is_write(write) && write.command.key == one.command.key && write.is_before(one)
            });
            earlier.filter(|_| history[at].returned.is_some()).map(|earlier| (earlier, at))
        };
        places.filter_map(behind).collect()
    }

    #[test]
    fn doctored_histories_of_a_world_are_rejected() {
        let right = history(3, true);
        let judged = judge(&right).expect("the world is right");
        assert_eq!((judged.histories, judged.hard), (1, 0), "{judged}");
        assert_eq!(judged.operations, right.len() as u64);
        let answered = |at: usize, answer: Answer| {
            let mut history = right.clone();
            history[at].returned.as_mut().expect("answered").answer = answer;
            history
        };
        // A read that sees nothing of what was acknowledged before it began; both checkers know.
        let reads = later(&right, |action| *action == Action::Get);
        let (_, read) = reads[reads.len() / 2];
        let stale = answered(read, Answer::Nil);
        assert_eq!(broken(&stale), Some("history-in-slot-order"));
        assert_eq!(search(&stale).err().map(|broken| broken.invariant), Some("history-linearizable"));
        // An append that tells of a value that was never there.
        let appends = later(&right, |action| matches!(action, Action::Append(_)));
        let (_, append) = appends[appends.len() / 2];
        let wrong = answered(append, Answer::Integer(1));
        assert_eq!(broken(&wrong), Some("history-in-slot-order"));
        assert_eq!(search(&wrong).err().map(|broken| broken.invariant), Some("history-linearizable"));
        // A write that the log has before one that had ended when it began: another order may do, the log's does not.
        let (first, second) = appends[appends.len() / 2];
        let mut swapped = right.clone();
        (swapped[first].slot, swapped[second].slot) = (swapped[second].slot, swapped[first].slot);
        assert_eq!(broken(&swapped), Some("history-in-slot-order"));
    }

    /// What was refused for its size is nothing that the models could explain.
    #[test]
    fn what_was_too_large_is_in_no_history() {
        let mut recorder = Recorder::default();
        let asked = |number: u64| {
            let args = vec!["SET".into(), "k".into(), "v".into()];
            Operation { id: OperationId { client: 1, number }, args, once: None }
        };
        (1..=2).for_each(|number| recorder.see(&Fact::Asked(&asked(number))));
        let refused = Reply::Error("ERR command exceeds maximum allowed size (9 bytes)".into());
        let kept = Reply::Status("OK".into());
        for (number, reply) in [(1, &refused), (2, &kept)] {
            recorder.see(&Fact::Answered { id: asked(number).id, reply });
        }
        let history = recorder.history(|_| None).expect("the model knows SET");
        assert_eq!(history.len(), 1);
        assert!(history[0].returned.is_some());
    }

    /// Writes of unknown outcome can have run in any subset: only the log can say, and where even that is too little, the
    /// key is counted and not passed off as judged.
    #[test]
    fn what_the_search_gives_up_is_counted_or_fails() {
        let one = |invoked: u64, action: Action, answer: Option<i64>, slot: Option<u64>| One {
            client: 1,
            invoked,
            command: Command { key: b"n".to_vec(), action },
            returned: answer.map(|answer| Returned { at: invoked + 1, answer: Answer::Integer(answer) }),
            slot,
        };
        // Many additions whose sums differ in every subset, then one whose answer no subset explains but one.
        let puzzle = |ran: u64, lost: u64| {
            let add = |at: u64| Action::Add(1 << at);
            let mut members: Vec<One> = (0..ran + lost).map(|at| one(at, add(at), None, None)).collect();
            (lost..lost + ran).for_each(|at| members[at as usize].slot = Some(at + 1));
            let sum = (lost..lost + ran).map(|at| 1 << at).sum::<i64>();
            members.push(one(100, Action::Add(0), Some(sum), Some(100)));
            members.push(one(102, Action::Add(0), Some(sum), Some(102)));
            members
        };
        assert_eq!(search_key(puzzle(2, 3)).map_err(|broken| broken.invariant), Ok(Sought::Found));
        assert_eq!(search_key(puzzle(2, 30)).map_err(|broken| broken.invariant), Ok(Sought::ByLog));
        let mut wrong = puzzle(8, 0);
        wrong[9].returned = Some(Returned { at: 103, answer: Answer::Integer(1) });
        assert_eq!(search_key(wrong).map_err(|broken| broken.invariant), Err("history-linearizable"));
        let mut hard = puzzle(40, 0);
        hard[41].returned = Some(Returned { at: 103, answer: Answer::Integer(1) });
        assert_eq!(search_key(hard).map_err(|broken| broken.invariant), Ok(Sought::Hard));
    }

    /// The recorder and the search need no other judge: a session's command that runs twice is seen by its clients.
    #[cfg(paxos_mutants)]
    #[test]
    fn mutant_of_the_sessions_is_seen_in_the_clients_histories_alone() {
        use paxos_core::mutants::{self, Mutant};
        const SEEDS_MAX: u64 = 60;
        mutants::set(Some(Mutant::SessionsIgnored));
        let seen = (1..=SEEDS_MAX).find_map(|seed| Some((seed, search(&history(seed, false)).err()?)));
        mutants::set(None);
        let (seed, violation) = seen.expect("caught");
        println!("SessionsIgnored: {} in seed {seed}", violation.invariant);
        assert_eq!(violation.invariant, "history-linearizable");
    }
}
