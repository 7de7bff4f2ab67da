//! The room for the fault that makes gaps: a leader loses one Accept and not the next, and is gone.
//!
//! Chance alone hardly ever does that: an Accept that is lost is repeated soon, and few leaders die in between. But it
//! is what no-ops, adopted values and repeated choices are for, so that the fault looks at what is sent.

use paxos_core::{Ballot, Body, Instant, Message, NodeId, Slot};

use crate::nemesis::Then;
use crate::observer::{Observer, Violation};
use crate::world::{Event, World};

/// An ambush that lies in wait, or holds its victim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambush {
    pub(crate) late_us: u64,
    pub(crate) us: u64,
    pub(crate) then: Then,
    pub(crate) victim: Option<Victim>,
}

/// A leader, and what of it is held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Victim {
    node: NodeId,
    ballot: Ballot,
    slot: Slot,
    /// When what is held back arrives.
    arrives: Instant,
    /// It has sent an Accept for later slots.
    doomed: bool,
}

impl<O: Observer> World<O> {
    /// How much later than it would a message arrives, because of an ambush, in microseconds.
    pub(crate) fn held_back_us(&mut self, node: NodeId, message: &Message) -> u64 {
        let Some(Ambush { late_us, us, victim, .. }) = &mut self.ambush else { return 0 };
        let Body::Accept(accept) = &message.body else { return 0 };
        let (late_us, us) = (*late_us, *us);
        let arrives = self.now.plus_us(late_us);
        let new = Victim { node, ballot: accept.ballot, slot: accept.first, arrives, doomed: false };
        if victim.is_none() {
            *victim = Some(new);
            self.deafen(node, late_us);
            return late_us;
        }
        let Some(Ambush { victim: Some(victim), .. }) = &mut self.ambush else { return 0 };
        if victim.node != node || victim.ballot != accept.ballot {
            return 0;
        }
        let end = accept.first.plus(accept.entries.len() as u64);
        if (accept.first..end).contains(&victim.slot) {
            return late_us;
        }
        if accept.first > victim.slot && !victim.doomed {
            victim.doomed = true;
            let seat = self.seat_of(node);
            let life = self.seats[seat].life;
            self.after(us, Event::Spring { seat, life });
        }
        0
    }

    /// Whoever will be heard by the leader hears nobody else until shortly before what was held back arrives: it takes
    /// no part in what is chosen meanwhile, and learns of it without having promised anything.
    fn deafen(&mut self, victim: NodeId, late_us: u64) {
        /// Enough to be taught, in microseconds.
        const TAUGHT_US: u64 = 200_000;
        let Some(Ambush { then: Then::Stands { hears, .. }, .. }) = self.ambush else { return };
        if hears == victim || late_us <= TAUGHT_US {
            return;
        }
        let others = self.seats.iter().map(|seat| seat.id).filter(|other| *other != victim && *other != hears);
        let cuts: Vec<(NodeId, NodeId)> = others.map(|other| (other, hears)).collect();
        cuts.iter().for_each(|(from, to)| self.network.cut(*from, *to));
        self.after(late_us - TAUGHT_US, Event::Mend { cuts });
    }

    /// The leader goes.
    pub(crate) fn spring(&mut self, seat: usize, life: u64) -> Result<(), Violation> {
        /// So long before what was held back arrives the leader can be told.
        const TOLD_US: u64 = 2_000;
        let Some(Ambush { then, victim: Some(victim), .. }) = self.ambush.take() else { return Ok(()) };
        if self.seats[seat].life != life || self.healed.is_some() {
            return Ok(());
        }
        match then {
            Then::Dies { down_us } => self.crash(seat, Some(down_us), true),
            Then::Stands { us, hears } => {
                let node = self.seats[seat].id;
                // What is left for it when it goes on begins with the answer to what was held back.
                self.unreachable.insert(seat);
                self.after(us, Event::MendClients { seat });
                let others = self.seats.iter().map(|seat| seat.id).filter(|other| *other != node);
                let (heard, unheard): (Vec<_>, Vec<_>) =
                    others.map(|other| (other, node)).partition(|(other, _)| *other == hears);
                heard.iter().chain(&unheard).for_each(|(from, to)| self.network.cut(*from, *to));
                let told_us = victim.arrives.since_us(self.now).saturating_sub(TOLD_US);
                self.after(told_us, Event::Mend { cuts: heard });
                self.after(us, Event::Mend { cuts: unheard });
                self.pause(seat, us)
            }
        }
    }
}
