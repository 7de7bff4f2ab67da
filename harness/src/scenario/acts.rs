//! What replicas ask for, carried out and written into the transcript.

use paxos_core::{Action, Body, Event, Header, Message, applied};
use transport_sim::Fact;

use super::show;
use super::stage::{Envelope, Stage};

impl Stage {
    /// The first records that wait become durable, and the node is told.
    pub(super) fn write(&mut self, seat: usize, count: usize) -> Result<(), String> {
        for _ in 0..count {
            let Some((ticket, record)) = self.seats[seat].waiting.pop_front() else { break };
            let node = self.seats[seat].node;
            self.see(node, &Fact::Durable(&record))?;
            self.seats[seat].durable.push(record);
            self.handle(seat, Event::Persisted(ticket.redeem()))?;
        }
        while let Some((id, slots)) = self.seats[seat].fetches.pop_front() {
            let entries = self.seats[seat].read(slots);
            self.handle(seat, Event::Fetched { id, first: slots.first, entries })?;
        }
        Ok(())
    }

    pub(super) fn handle(&mut self, seat: usize, event: Event) -> Result<(), String> {
        let Some(mut replica) = self.seats[seat].replica.take() else { return Ok(()) };
        self.step += 1;
        let mut actions = Vec::new();
        replica.handle(self.seats[seat].now, event, &mut actions);
        let node = self.seats[seat].node;
        let seen = self.see(node, &Fact::Stepped { replica: &replica, outputs: actions.len() });
        let header = replica.header();
        self.seats[seat].replica = Some(replica);
        seen?;
        actions.into_iter().try_for_each(|action| self.act(seat, &header, action))?;
        if self.seats[seat].waits { Ok(()) } else { self.write(seat, usize::MAX) }
    }

    fn act(&mut self, seat: usize, header: &Header, action: Action) -> Result<(), String> {
        let node = self.seats[seat].node;
        match action {
            Action::Send { to, body } => {
                let message = Message { header: *header, body };
                self.see(node, &Fact::Sent { to: &to, message: &message })?;
                if !matches!(message.body, Body::Heartbeat(_)) {
                    let receivers: Vec<String> = to.into_iter().map(|to| to.to_string()).collect();
                    self.heard.push(format!("{node}>{} {}", receivers.join(","), show::body(&message.body)));
                }
                self.flight.extend(to.into_iter().map(|to| Envelope { to, message: message.clone() }));
            }
            Action::Persist { ticket, record } => {
                self.heard.push(format!("{node} writes {}", show::record(&record)));
                self.seats[seat].waiting.push_back((ticket, record));
            }
            Action::Apply { first, entries, tag } => {
                for (slot, entry, tag) in applied(first, &entries, tag) {
                    self.see(node, &Fact::Applied { slot, entry, tag })?;
                    let shown = show::entry(entry);
                    self.heard.push(format!("{node} applies {slot}={shown}"));
                    self.seats[seat].applied.push(shown);
                    if let Some(tag) = tag {
                        self.end(node, tag, format!("applied {slot}"));
                    }
                }
            }
            Action::ProposalRefused { tag, error } => {
                self.see(node, &Fact::Refused { tag, error })?;
                self.end(node, tag, "refused".into());
            }
            Action::InDoubt { tag } => {
                self.see(node, &Fact::InDoubt { tag })?;
                self.end(node, tag, "in-doubt".into());
            }
            Action::ReadReady { tag, slot } => {
                self.see(node, &Fact::ReadReady { tag, slot })?;
                self.end(node, tag, format!("ready {slot}"));
            }
            Action::ReadFailed { tag, error } => {
                self.see(node, &Fact::ReadFailed { tag, error })?;
                self.end(node, tag, "failed".into());
            }
            Action::FetchLog { id, slots, .. } => self.seats[seat].fetches.push_back((id, slots)),
            Action::RoleChanged { role, ballot, reason, .. } => {
                self.see(node, &Fact::Role { role, ballot, reason })?;
                let of = ballot.map_or(String::new(), |ballot| format!(" {ballot}"));
                self.heard.push(format!("{node} is {}{of}: {reason}", show::role(role)));
            }
            Action::Fenced { reason } => {
                self.see(node, &Fact::Fenced { reason })?;
                self.heard.push(format!("{node} is fenced: {reason}"));
            }
        }
        Ok(())
    }
}
