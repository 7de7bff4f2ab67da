//! Where a command goes: into the log, to whoever leads, or into the queue of those that wait for either.

use super::*;

impl Node {
    pub(super) fn standing(&self) -> Standing {
        match self.replica.role() {
            Role::Leading { ready: true } => Standing::Serve,
            Role::Leading { ready: false } | Role::Preparing => Standing::Wait,
            Role::Following => match self.replica.leader() {
                Some(leader) if leader != self.formatted.node && self.settings.addresses.contains_key(&leader) => {
                    Standing::Moved(leader)
                }
                Some(_) | None => Standing::Wait,
            },
        }
    }

    /// Whether the core would take a proposal, or refuse it for good.
    pub(super) fn has_room(&self) -> bool {
        let log_is_full = self.settings.paxos.last_slot.is_some_and(|last| self.machine.next() > last);
        log_is_full || self.replica.propose_room() > 0
    }

    pub(super) fn propose_or_park(&mut self, place: u32, command: Bytes, outputs: &mut Vec<Output>) {
        let deadline = self.now.plus_us(self.settings.limits.park_us);
        match self.standing() {
            Standing::Moved(leader) => self.push_moved(place, leader, &command),
            Standing::Serve if self.parked.is_empty() && self.has_room() => {
                let Some(client) = self.clients.at(place) else { return };
                let sequence = client.push(Open::Proposed { command: command.clone(), deadline });
                let tag = RequestId { place, sequence }.tag();
                self.counters.proposals += 1;
                self.step(Event::Propose { tag, command }, outputs);
            }
            Standing::Serve | Standing::Wait => self.push_parked(place, command, deadline),
        }
    }

    pub(super) fn read_or_park(&mut self, place: u32, command: Bytes, outputs: &mut Vec<Output>) {
        let deadline = self.now.plus_us(self.settings.limits.park_us);
        match self.standing() {
            Standing::Moved(leader) => self.push_moved(place, leader, &command),
            Standing::Serve => {
                let Some(client) = self.clients.at(place) else { return };
                let sequence = client.push(Open::Reading { command, deadline });
                self.counters.reads += 1;
                self.step(Event::Read { tag: RequestId { place, sequence }.tag() }, outputs);
            }
            Standing::Wait => self.push_parked(place, command, deadline),
        }
    }

    pub(super) fn push_parked(&mut self, place: u32, command: Bytes, deadline: Instant) {
        let limits = &self.settings.limits;
        let bytes = self.parked_bytes.saturating_add(command.len());
        if self.parked.len() >= limits.parked_requests_max || bytes > limits.parked_bytes_max {
            self.counters.busy += 1;
            return self.push_error(place, BUSY_PARKED);
        }
        let Some(client) = self.clients.at(place) else { return };
        let sequence = client.push(Open::Parked { command, deadline });
        self.parked.push_back(RequestId { place, sequence });
        self.parked_bytes = bytes;
    }

    /// Moves what is parked: to the leader's address, into the window, or to its end.
    pub(super) fn pump(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&request) = self.parked.front() {
            let Some(Open::Parked { command, deadline }) = self.clients.look(request).cloned() else {
                self.parked.pop_front();
                continue;
            };
            let in_log = goes_through_log(&command);
            let open = match self.standing() {
                Standing::Wait if deadline > self.now => return,
                Standing::Serve if in_log && !self.has_room() => return,
                Standing::Wait => {
                    self.counters.cluster_down += 1;
                    Open::Answered(self.error(CLUSTER_DOWN))
                }
                Standing::Moved(leader) => Open::Answered(self.moved(leader, &command)),
                Standing::Serve if in_log => Open::Proposed { command: command.clone(), deadline },
                Standing::Serve => Open::Reading { command: command.clone(), deadline },
            };
            self.parked.pop_front();
            self.parked_bytes = self.parked_bytes.saturating_sub(command.len());
            let event = match &open {
                Open::Proposed { .. } => {
                    self.counters.proposals += 1;
                    Some(Event::Propose { tag: request.tag(), command })
                }
                Open::Reading { .. } => {
                    self.counters.reads += 1;
                    Some(Event::Read { tag: request.tag() })
                }
                Open::Parked { .. } | Open::Ready(_) | Open::Fetching(_) | Open::Answered(_) => None,
            };
            self.turn_into(request, open);
            if let Some(event) = event {
                self.step(event, outputs);
                if self.parked.front() == Some(&request) {
                    return; // refused for lack of room: its turn comes with the next applied slot
                }
            }
        }
    }

    /// What was never proposed and cannot be served now waits again, before what came later.
    pub(super) fn park_again(&mut self, request: RequestId) {
        let Some(open) = self.clients.request(request) else { return };
        let (Open::Proposed { command, deadline } | Open::Reading { command, deadline }) = open else { return };
        self.parked_bytes = self.parked_bytes.saturating_add(command.len());
        *open = Open::Parked { command: std::mem::take(command), deadline: *deadline };
        self.parked.push_front(request);
    }
}
