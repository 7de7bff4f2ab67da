//! The room for processes of bare replicas and their disks: how they die and start, and how their wishes are carried
//! out.

use paxos_core::{Action, Event, Header, Message, NodeId, Receipt, Record, Recovery, Replica, applied};

use super::{Bare, Envelope, FLIGHT_MAX};
use crate::observer::{Fact, Moment, Observer, Violation};

impl<O: Observer> Bare<O> {
    pub(super) fn sync(&mut self, seat: usize, count: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_none() || self.seats[seat].paused {
            return Ok(());
        }
        let node = self.seats[seat].node;
        let mut receipt: Option<Receipt> = None;
        for _ in 0..count {
            let Some((ticket, record)) = self.seats[seat].disk.waiting.pop_front() else { break };
            self.see(node, &Fact::Durable(&record))?;
            self.seats[seat].disk.durable.push(record);
            receipt = match receipt.take() {
                None => Some(ticket.redeem()),
                Some(receipt) => match receipt.and(ticket) {
                    Ok(receipt) => Some(receipt),
                    Err(apart) => {
                        self.handle(seat, Event::Persisted(apart.receipt))?;
                        Some(apart.ticket.redeem())
                    }
                },
            };
        }
        match receipt {
            Some(receipt) => self.handle(seat, Event::Persisted(receipt)),
            None => Ok(()),
        }
    }

    pub(super) fn fetch(&mut self, seat: usize) -> Result<(), Violation> {
        while let Some((id, slots, bytes_max)) = self.seats[seat].disk.fetches.pop_front() {
            let entries = self.seats[seat].disk.read(slots, bytes_max);
            self.handle(seat, Event::Fetched { id, first: slots.first, entries })?;
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, seat: usize, keep: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.take().is_none() {
            return Ok(());
        }
        self.seats[seat].paused = false;
        let node = self.seats[seat].node;
        self.see(node, &Fact::Crashed)?;
        for _ in 0..keep {
            let Some((_, record)) = self.seats[seat].disk.waiting.pop_front() else { break };
            self.see(node, &Fact::Durable(&record))?;
            self.seats[seat].disk.durable.push(record);
        }
        let disk = &mut self.seats[seat].disk;
        disk.waiting.clear();
        disk.fetches.clear();
        disk.reread();
        Ok(())
    }

    pub(super) fn start(&mut self, seat: usize) -> Result<(), Violation> {
        if self.seats[seat].replica.is_some() {
            return Ok(());
        }
        let broken = |error: &dyn std::fmt::Display| Violation::new("recovery", error.to_string());
        let mut recovery = Recovery::new();
        for record in &self.seats[seat].disk.durable {
            recovery.record(record.clone()).map_err(|error| broken(&error))?;
        }
        let mut recovered = recovery.finish().map_err(|error| broken(&error))?;
        let boot = recovered.next_boot(self.rng.draw());
        recovered.started(boot).map_err(|error| broken(&error))?;
        let node = self.seats[seat].node;
        self.seats[seat].disk.durable.push(Record::Started(boot));
        self.see(node, &Fact::Started { boot })?;
        let seed = self.rng.draw();
        let now = self.local(seat);
        let replica = Replica::new(self.config.clone(), recovered, now, seed).map_err(|error| broken(&error))?;
        self.see(node, &Fact::Recovered { replica: &replica })?;
        self.seats[seat].replica = Some(replica);
        Ok(())
    }

    pub(super) fn see(&mut self, node: NodeId, fact: &Fact<'_>) -> Result<(), Violation> {
        let moment = Moment { step: self.step, now: self.now, node };
        self.observer.see(moment, fact)
    }

    /// Hands one event to a replica and carries out what it asks for.
    pub(super) fn handle(&mut self, seat: usize, event: Event) -> Result<(), Violation> {
        let now = self.local(seat);
        if self.seats[seat].paused {
            return Ok(());
        }
        let Some(mut replica) = self.seats[seat].replica.take() else { return Ok(()) };
        let node = self.seats[seat].node;
        self.step += 1;
        if self.trace.prints() {
            self.trace.line(self.step, self.now, Some(node), format_args!("<- {event:?}"));
        }
        let mut actions = std::mem::take(&mut self.actions);
        replica.handle(now, event, &mut actions);
        let (outputs, header) = (actions.len(), replica.header());
        let mut verdict = self.see(node, &Fact::Stepped { replica: &replica, outputs });
        self.seats[seat].replica = Some(replica);
        for action in actions.drain(..) {
            if self.trace.prints() {
                self.trace.line(self.step, self.now, Some(node), format_args!("-> {action:?}"));
            }
            verdict = verdict.and_then(|()| self.carry_out(seat, &header, action));
        }
        self.actions = actions;
        verdict
    }

    fn carry_out(&mut self, seat: usize, header: &Header, action: Action) -> Result<(), Violation> {
        let node = self.seats[seat].node;
        let now = self.now;
        match action {
            Action::Send { to, body } => {
                let message = Message { header: *header, body };
                self.trace.fold(now, node, &message);
                self.see(node, &Fact::Sent { to: &to, message: &message })?;
                for to in &to {
                    if self.flight.len() >= FLIGHT_MAX {
                        self.flight.pop_front();
                    }
                    self.flight.push_back(Envelope { to, message: message.clone(), due: now, weighed: false });
                }
                Ok(())
            }
            Action::Persist { ticket, record } => {
                self.trace.fold(now, node, &record);
                self.seats[seat].disk.note(&record);
                self.seats[seat].disk.waiting.push_back((ticket, record));
                Ok(())
            }
            Action::Apply { first, entries, tag } => {
                for (slot, entry, tag) in applied(first, &entries, tag) {
                    self.trace.fold(now, node, &(slot, entry, tag));
                    self.see(node, &Fact::Applied { slot, entry, tag })?;
                }
                Ok(())
            }
            Action::ProposalRefused { tag, error } => {
                self.trace.fold(now, node, &(1u8, tag));
                self.see(node, &Fact::Refused { tag, error })
            }
            Action::InDoubt { tag } => {
                self.trace.fold(now, node, &(2u8, tag));
                self.see(node, &Fact::InDoubt { tag })
            }
            Action::ReadReady { tag, slot } => {
                self.trace.fold(now, node, &(3u8, tag, slot));
                self.see(node, &Fact::ReadReady { tag, slot })
            }
            Action::ReadFailed { tag, error } => {
                self.trace.fold(now, node, &(4u8, tag));
                self.see(node, &Fact::ReadFailed { tag, error })
            }
            Action::FetchLog { id, slots, bytes_max } => {
                self.trace.fold(now, node, &(5u8, slots));
                self.seats[seat].disk.fetches.push_back((id, slots, bytes_max));
                Ok(())
            }
            Action::RoleChanged { role, ballot, reason, .. } => {
                self.trace.fold(now, node, &(6u8, role, ballot));
                self.see(node, &Fact::Role { role, ballot, reason })
            }
            Action::Fenced { reason } => {
                self.trace.fold(now, node, &(7u8, reason));
                self.see(node, &Fact::Fenced { reason })
            }
        }
    }
}
