//! The room for links and time of bare replicas: what is cut, and what happens by itself while everything works.

use paxos_core::{Body, Event, Instant, NodeId};

use super::{Bare, Envelope, RATE, ROUND_US, Weather, cut};
use crate::observer::{Observer, Violation};

impl<O: Observer> Bare<O> {
    pub(super) fn split(&mut self, side: u8) {
        let on_side = |at: usize| side >> (at % 8) & 1 == 1;
        for (one, from) in self.seats.iter().enumerate() {
            for (other, to) in self.seats.iter().enumerate() {
                if on_side(one) != on_side(other) {
                    cut(&mut self.cut, from.node, to.node);
                }
            }
        }
    }

    /// The seat that a client turns to; of two leaders, the first for even numbers and the last for odd ones.
    pub(super) fn link(&self, link: usize) -> (NodeId, NodeId) {
        let seats = self.seats.len();
        (self.seats[link % seats].node, self.seats[link / seats % seats].node)
    }

    pub(super) fn cut(&mut self, link: usize, both: bool) {
        let (from, to) = self.link(link);
        cut(&mut self.cut, from, to);
        if both {
            cut(&mut self.cut, to, from);
        }
    }

    /// Everything works for so long: messages take a millisecond, disks too, timers are on time.
    pub(super) fn flow(&mut self, us: u64, weather: Weather) -> Result<(), Violation> {
        let until = self.now.plus_us(us);
        while self.now < until {
            let mut busy = false;
            for _ in 0..self.flight.len() {
                let Some(mut envelope) = self.flight.pop_front() else { break };
                if self.waits(&envelope) {
                    self.flight.push_back(envelope);
                    continue;
                }
                busy = true;
                if self.strikes(weather.loss) {
                    continue;
                }
                if !std::mem::replace(&mut envelope.weighed, true) {
                    if self.strikes(weather.twice) {
                        let due = self.later();
                        self.flight.push_back(Envelope { due, message: envelope.message.clone(), ..envelope });
                    }
                    // Late heartbeats only keep anybody from leading; what leaders do is what should go wrong.
                    let rarely = matches!(envelope.message.body, Body::Heartbeat(_) | Body::HandOver(_));
                    if self.strikes(weather.late >> if rarely { 3 } else { 0 }) {
                        envelope.due = self.later();
                        self.flight.push_back(envelope);
                        continue;
                    }
                }
                self.deliver(envelope.to, envelope.message)?;
            }
            for seat in 0..self.seats.len() {
                if self.seats[seat].paused {
                    continue;
                }
                busy |= !self.seats[seat].disk.waiting.is_empty() || !self.seats[seat].disk.fetches.is_empty();
                if !self.strikes(weather.lazy) {
                    self.sync(seat, usize::MAX)?;
                    self.fetch(seat)?;
                }
                if self.deadline(seat).is_some_and(|due| due <= self.now) {
                    busy = true;
                    self.handle(seat, Event::Tick)?;
                }
            }
            let arrivals = self.flight.iter().map(|envelope| envelope.due).filter(|due| *due > self.now);
            let next = (0..self.seats.len()).filter_map(|seat| self.deadline(seat)).chain(arrivals).min();
            let next = next.unwrap_or(until);
            let soon = self.now.plus_us(ROUND_US);
            self.now = if busy { soon } else { next.clamp(soon, until.max(soon)) };
        }
        Ok(())
    }

    fn waits(&self, envelope: &Envelope) -> bool {
        let paused = self.seats.iter().any(|seat| seat.paused && seat.node == envelope.to);
        paused || envelope.due > self.now || self.cut.contains(&(envelope.message.header.from, envelope.to))
    }

    /// When a message arrives that takes long: often after a few others, at times after a whole leadership.
    fn later(&mut self) -> Instant {
        self.now.plus_us(self.rng.log_uniform(2_000, 3_000_000))
    }

    /// What the clock of a seat shows.
    pub(super) fn local(&self, seat: usize) -> Instant {
        Instant::from_us(self.now.as_us() / RATE * self.seats[seat].rate)
    }

    fn strikes(&mut self, of_256: u8) -> bool {
        of_256 > 0 && self.rng.below(256) < u64::from(of_256)
    }

    fn deadline(&self, seat: usize) -> Option<Instant> {
        let seat = &self.seats[seat];
        let (due, _) = seat.replica.as_ref().filter(|_| !seat.paused)?.deadline()?;
        // When its clock shows that, rounded up.
        Some(Instant::from_us(due.as_us().div_ceil(seat.rate) * RATE))
    }
}
