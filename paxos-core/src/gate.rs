//! The gate: testimony waits here until the records that it speaks of are durable (rule 6).
//!
//! There is no accessor: what waits leaves only when `Replica` hands in a receipt that covers its ticket, up to
//! the first gap. A lost ticket withholds; it never lets anything through.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::ballot::Ballot;
use crate::mutants::{Mutant, mutant};
use crate::node_id::{Boot, NodeId};
use crate::persist::{Owner, Receipt, Ticket};
use crate::slot::{Slot, SlotRange};
use crate::time::Instant;
use crate::trail::Trail;

/// A statement about durable state. Its message is made when it is released, from what is durable then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Testimony {
    /// To a proposer: promised, and what is held from a slot on.
    Promise { to: NodeId, asker_boot: Boot, ballot: Ballot, from: Slot },
    /// To a leader: voted for these slots.
    Accepted { to: NodeId, ballot: Ballot, slots: SlotRange },
    /// To whoever told of chosen entries: they are durable here too.
    SuccessReply { to: NodeId },
    /// To the own proposer: its ballot may be used, and its own acceptor promised it.
    OwnPromise { ballot: Ballot },
    /// To the own proposer: its own acceptor voted.
    OwnVote { ballot: Ballot, slots: SlotRange },
    /// To everyone: every slot below is durably known chosen.
    FirstUnchosen(Slot),
}

impl Testimony {
    /// Whether whoever waits for it asks again.
    fn is_asked_again(&self) -> bool {
        match self {
            Testimony::Promise { .. } | Testimony::Accepted { .. } | Testimony::SuccessReply { .. } => true,
            Testimony::OwnPromise { .. } | Testimony::OwnVote { .. } | Testimony::FirstUnchosen(_) => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    owner: Owner,
    /// The sequence of the last ticket issued; 0 before the first.
    issued: u64,
    /// Every ticket up to this one is redeemed.
    redeemed: u64,
    /// Redeemed runs above the first gap, rising and apart.
    islands: Vec<(u64, u64)>,
    waiting: Trail<(u64, Testimony)>,
    waiting_max: usize,
    /// Marks that wait: whatever one receipt sets free with a mark shall report it, and so they leave first.
    marks: Vec<(u64, Slot)>,
    /// The ticket that the first of all of these waits for; `NOTHING_WAITS` if none does.
    next: u64,
    /// Since when the disk owes an answer; restarts with each answer.
    owing_since: Option<Instant>,
    /// How long answers took of late: the longest, halved with each one that was faster.
    slowest_us: u64,
}

/// A disk that is slow but steady does not hang: it may take twice as long as of late, and at the most so many times
/// what is allowed a disk that nothing is known of.
const SLOWNESS_MAX: u64 = 16;

/// No ticket has this sequence.
const NOTHING_WAITS: u64 = u64::MAX;

impl Gate {
    pub(crate) fn new(owner: Owner, window_slots: u32) -> Gate {
        Gate {
            owner,
            issued: 0,
            redeemed: 0,
            islands: Vec::new(),
            waiting: Trail::new(),
            // A vote for each slot of two windows and their repeats; beyond it the peers ask again anyway.
            waiting_max: (window_slots as usize).saturating_mul(4).saturating_add(64),
            marks: Vec::new(),
            next: NOTHING_WAITS,
            owing_since: None,
            slowest_us: 0,
        }
    }

    pub(crate) fn issue(&mut self, now: Instant) -> Ticket {
        self.issued = self.issued.saturating_add(1);
        self.owing_since.get_or_insert(now);
        Ticket::new(self.owner, self.issued)
    }

    /// Holds this until every ticket issued so far is redeemed. What others would ask for again is dropped
    /// when too much waits; what the own proposer needs never is, and its windows bound it.
    #[inline]
    pub(crate) fn hold(&mut self, testimony: Testimony) {
        if let Testimony::FirstUnchosen(below) = testimony {
            self.marks.push((self.issued, below));
        } else if self.waiting.len() < self.waiting_max || !testimony.is_asked_again() {
            self.waiting.push((self.issued, testimony));
        } else {
            return;
        }
        self.next = self.next.min(self.issued);
    }

    /// The same for what may have been asked for once more: if it waits already, that is enough. A reply to Success
    /// tells how far everything is durable, and so one for each record that was asked for meanwhile.
    pub(crate) fn hold_again(&mut self, testimony: Testimony) {
        let timeless = !matches!(testimony, Testimony::SuccessReply { .. });
        let says_it = |(sequence, waiting): &(u64, Testimony)| {
            *waiting == testimony && *sequence > self.redeemed && (timeless || *sequence == self.issued)
        };
        let waits = testimony.is_asked_again() && self.waiting.iter().any(says_it);
        if !waits {
            self.hold(testimony);
        }
    }

    /// Takes a receipt; false if it is not this process's, or speaks of tickets never issued.
    pub(crate) fn redeem(&mut self, receipt: &Receipt, now: Instant) -> bool {
        if receipt.owner() != self.owner || receipt.last() > self.issued {
            return false;
        }
        if receipt.last() <= self.redeemed {
            return true;
        }
        if self.islands.is_empty() && receipt.first() <= self.redeemed.saturating_add(1) {
            self.redeemed = receipt.last();
            self.answered(now);
            return true;
        }
        let at = self.islands.partition_point(|island| island.0 < receipt.first());
        self.islands.insert(at, (receipt.first(), receipt.last()));
        while let Some(&(first, last)) = self.islands.first() {
            if first > self.redeemed.saturating_add(1) {
                break;
            }
            self.redeemed = self.redeemed.max(last);
            self.islands.remove(0);
        }
        self.answered(now);
        true
    }

    fn answered(&mut self, now: Instant) {
        let took_us = self.owing_since.map_or(0, |since| now.since_us(since));
        self.slowest_us = took_us.max(self.slowest_us >> 1);
        self.owing_since = (self.redeemed < self.issued).then_some(now);
    }

    /// Whether anything may leave now.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        self.next <= self.redeemed || self.somebody_leaves_early()
    }

    /// Whether the first that waits does not wait for the disk (see `mutants`).
    #[inline(always)]
    fn somebody_leaves_early(&self) -> bool {
        let broken = mutant(Mutant::PromiseBeforeSync) || mutant(Mutant::VoteBeforeSync);
        broken && self.waiting.at(0).is_some_and(|(_, testimony)| leaves_early(*testimony))
    }

    /// The next testimony whose ticket is redeemed.
    #[inline]
    pub(crate) fn release(&mut self) -> Option<Testimony> {
        if !self.has_ready() {
            return None;
        }
        let mark_is_due = self.marks.first().is_some_and(|(sequence, _)| *sequence <= self.redeemed);
        let released = if mark_is_due { self.take_marks() } else { self.take_waiting() };
        let mark = self.marks.first().map_or(NOTHING_WAITS, |(sequence, _)| *sequence);
        self.next = self.waiting.at(0).map_or(mark, |(sequence, _)| mark.min(*sequence));
        released
    }

    /// The last of the marks that are durable, which says what the others say.
    #[inline(never)]
    fn take_marks(&mut self) -> Option<Testimony> {
        let durable = self.marks.iter().take_while(|(sequence, _)| *sequence <= self.redeemed).count();
        self.marks.drain(..durable).next_back().map(|(_, below)| Testimony::FirstUnchosen(below))
    }

    #[inline]
    fn take_waiting(&mut self) -> Option<Testimony> {
        let (sequence, testimony) = *self.waiting.at(0)?;
        if sequence > self.redeemed && !leaves_early(testimony) {
            return None;
        }
        self.waiting.forget(1);
        Some(match testimony {
            Testimony::Accepted { to, ballot, slots } => self.merged(to, ballot, slots),
            Testimony::Promise { .. }
            | Testimony::SuccessReply { .. }
            | Testimony::OwnPromise { .. }
            | Testimony::OwnVote { .. }
            | Testimony::FirstUnchosen(_) => testimony,
        })
    }

    /// Joins votes for runs that touch: one sync for many, one message for many.
    fn merged(&mut self, to: NodeId, ballot: Ballot, mut slots: SlotRange) -> Testimony {
        while let Some((sequence, Testimony::Accepted { to: next_to, ballot: next_ballot, slots: next })) =
            self.waiting.first()
        {
            let same = *sequence <= self.redeemed && *next_to == to && *next_ballot == ballot;
            if !same || next.first != slots.end {
                break;
            }
            slots.end = next.end;
            self.waiting.forget(1);
        }
        Testimony::Accepted { to, ballot, slots }
    }

    /// How long the disk's answers took of late, in microseconds.
    pub(crate) fn slowest_us(&self) -> u64 {
        self.slowest_us
    }

    /// Whether the disk has owed an answer for longer than this, and far longer than it usually takes.
    pub(crate) fn overdue(&self, now: Instant, limit_us: u64) -> bool {
        let usual_us = self.slowest_us.saturating_mul(2).min(limit_us.saturating_mul(SLOWNESS_MAX));
        self.owing_since.is_some_and(|since| now.since_us(since) > limit_us.max(usual_us))
    }
}

/// Whether it does not wait for the disk, in a build that breaks rules.
#[inline]
fn leaves_early(testimony: Testimony) -> bool {
    match testimony {
        Testimony::Promise { .. } | Testimony::OwnPromise { .. } => mutant(Mutant::PromiseBeforeSync),
        Testimony::Accepted { .. } | Testimony::OwnVote { .. } => mutant(Mutant::VoteBeforeSync),
        Testimony::SuccessReply { .. } | Testimony::FirstUnchosen(_) => false,
    }
}

/// Tickets count from the last one redeemed: how many went before has no future.
impl Hash for Gate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let from_here = |sequence: u64| sequence.wrapping_sub(self.redeemed);
        (self.owner, from_here(self.issued), self.waiting_max, self.owing_since, self.slowest_us).hash(state);
        self.islands.iter().for_each(|(first, last)| (from_here(*first), from_here(*last)).hash(state));
        self.waiting.iter().for_each(|(sequence, testimony)| (from_here(*sequence), testimony).hash(state));
        self.marks.iter().for_each(|(sequence, below)| (from_here(*sequence), below).hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_id::Incarnation;

    fn owner(nonce: u64) -> Owner {
        Owner { node: NodeId(1), incarnation: Incarnation(1), boot: Boot { counter: 1, nonce } }
    }

    fn mark(number: u64) -> Testimony {
        Testimony::FirstUnchosen(Slot::FIRST.plus(number))
    }

    fn reply(number: u32) -> Testimony {
        Testimony::SuccessReply { to: NodeId(number) }
    }

    fn gate() -> (Gate, Vec<Ticket>) {
        let mut gate = Gate::new(owner(1), 8);
        let mut tickets = Vec::new();
        for number in 0..4 {
            tickets.push(gate.issue(Instant::from_us(0)));
            gate.hold(reply(number));
        }
        (gate, tickets)
    }

    #[test]
    fn release_stops_at_the_first_gap() {
        let (mut gate, mut tickets) = gate();
        let (fourth, third) = (tickets.pop().expect("4"), tickets.pop().expect("3"));
        let (second, first) = (tickets.pop().expect("2"), tickets.pop().expect("1"));
        let now = Instant::from_us(5);
        assert!(gate.redeem(&third.redeem().and(fourth).expect("follows"), now));
        assert_eq!(gate.release(), None);
        assert!(gate.redeem(&first.redeem(), now));
        assert_eq!((gate.release(), gate.release()), (Some(reply(0)), None));
        assert!(gate.redeem(&second.redeem(), now));
        assert_eq!((gate.release(), gate.release(), gate.release()), (Some(reply(1)), Some(reply(2)), Some(reply(3))));
        assert!(!gate.overdue(Instant::from_us(1_000_000), 1));
    }

    #[test]
    fn a_lost_ticket_only_withholds() {
        let (mut gate, mut tickets) = gate();
        let last = tickets.pop().expect("4");
        drop(tickets);
        assert!(gate.redeem(&last.redeem(), Instant::from_us(5)));
        assert_eq!(gate.release(), None);
        assert!(gate.overdue(Instant::from_us(16), 1), "twice as long as the last answer took");
    }

    #[test]
    fn foreign_and_future_receipts_are_refused() {
        let (mut gate, _tickets) = gate();
        let now = Instant::from_us(5);
        assert!(!gate.redeem(&Ticket::new(owner(2), 1).redeem(), now));
        assert!(!gate.redeem(&Ticket::new(owner(1), 5).redeem(), now));
        assert_eq!(gate.release(), None);
    }

    #[test]
    fn what_a_receipt_sets_free_with_a_mark_reports_the_mark() {
        let mut gate = Gate::new(owner(1), 8);
        let record = gate.issue(Instant::from_us(0));
        gate.hold(reply(2));
        let marks: Vec<Ticket> = (1..3)
            .map(|number| {
                let ticket = gate.issue(Instant::from_us(0));
                gate.hold(mark(number));
                ticket
            })
            .collect();
        let receipt = marks.into_iter().try_fold(record.redeem(), Receipt::and).expect("follow each other");
        assert!(gate.redeem(&receipt, Instant::from_us(1)));
        assert_eq!((gate.release(), gate.release(), gate.release()), (Some(mark(2)), Some(reply(2)), None));
    }

    #[test]
    fn what_is_asked_for_again_while_it_waits_is_said_once() {
        let mut gate = Gate::new(owner(1), 8);
        let first = gate.issue(Instant::from_us(0));
        gate.hold(reply(2));
        let second = gate.issue(Instant::from_us(0));
        gate.hold(reply(3));
        (0..100).for_each(|_| gate.hold_again(reply(3)));
        let receipt = first.redeem().and(second).expect("follows");
        assert!(gate.redeem(&receipt, Instant::from_us(1)));
        assert_eq!((gate.release(), gate.release(), gate.release()), (Some(reply(2)), Some(reply(3)), None));
        gate.hold_again(reply(2));
        assert_eq!((gate.release(), gate.release()), (Some(reply(2)), None), "nothing to wait for");
        // How far it is durable is news with each record; a vote is not.
        let vote = Testimony::Accepted {
            to: NodeId(2),
            ballot: Ballot { round: 1, node: NodeId(2), generation: 0 },
            slots: SlotRange::of(Slot::FIRST, 1),
        };
        let mut tickets = Vec::new();
        for _ in 0..3 {
            tickets.push(gate.issue(Instant::from_us(1)));
            gate.hold_again(reply(2));
            gate.hold_again(vote);
        }
        let mut tickets = tickets.into_iter();
        let first = tickets.next().expect("three").redeem();
        assert!(gate.redeem(&first, Instant::from_us(2)));
        assert_eq!((gate.release(), gate.release(), gate.release()), (Some(reply(2)), Some(vote), None));
        let rest = tickets.map(Ticket::redeem).map(|receipt| gate.redeem(&receipt, Instant::from_us(3)));
        assert!(rest.collect::<Vec<_>>().into_iter().all(|taken| taken));
        assert_eq!((gate.release(), gate.release(), gate.release()), (Some(reply(2)), Some(reply(2)), None));
    }

    #[test]
    fn a_disk_that_is_always_slow_does_not_hang_and_one_that_stops_does() {
        const LIMIT_US: u64 = 100;
        let mut gate = Gate::new(owner(1), 8);
        let mut now_us = 0;
        for round in 0..8 {
            let ticket = gate.issue(Instant::from_us(now_us));
            now_us += 150;
            let first = round == 0;
            assert_eq!(gate.overdue(Instant::from_us(now_us), LIMIT_US), first, "round {round}");
            assert!(gate.redeem(&ticket.redeem(), Instant::from_us(now_us)));
        }
        let _lost = gate.issue(Instant::from_us(now_us));
        assert!(gate.overdue(Instant::from_us(now_us + 301), LIMIT_US));
    }

    #[test]
    fn votes_for_runs_that_touch_leave_as_one() {
        let mut gate = Gate::new(owner(1), 8);
        let ballot = Ballot { round: 1, node: NodeId(2), generation: 0 };
        let run = |first: u64, count| SlotRange::of(Slot::FIRST.plus(first), count);
        let vote = |slots| Testimony::Accepted { to: NodeId(2), ballot, slots };
        let one = gate.issue(Instant::from_us(0));
        gate.hold(vote(run(0, 2)));
        let two = gate.issue(Instant::from_us(0));
        gate.hold(vote(run(2, 1)));
        gate.hold(vote(run(5, 1)));
        let receipt = one.redeem().and(two).expect("follows");
        assert!(gate.redeem(&receipt, Instant::from_us(1)));
        assert_eq!(gate.release(), Some(vote(run(0, 3))));
        assert_eq!(gate.release(), Some(vote(run(5, 1))));
    }
}
