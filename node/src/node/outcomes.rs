//! What the core asks for and what became of proposals and reads, told to those who wait.

use super::*;

impl Node {
    pub(super) fn on_frame(&mut self, from: NodeId, frame: &Bytes, outputs: &mut Vec<Output>) {
        match wire::decode(frame) {
            Ok(message) if message.header.from == from => self.step(Event::Message(message), outputs),
            Ok(_) | Err(_) => self.counters.frames_refused += 1,
        }
    }

    /// Hands an event to the replica and carries out what it asks for.
    pub(super) fn step(&mut self, event: Event, outputs: &mut Vec<Output>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.replica.handle(self.now, event, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { to, body } => {
                    let mut frame = Vec::new();
                    wire::encode(&self.replica.header(), &body, &mut frame);
                    outputs.push(Output::ToPeers { to, frame: frame.into() });
                }
                Action::Persist { ticket, record } => outputs.push(Output::Persist { ticket, record }),
                Action::Apply { first, entries, tag } => {
                    for (slot, entry, tag) in applied(first, &entries, tag) {
                        self.on_apply(slot, entry, tag, outputs);
                    }
                }
                Action::ProposalRefused { tag, error } => self.on_refused(RequestId::of(tag), error),
                Action::InDoubt { tag } => {
                    self.counters.in_doubt += 1;
                    self.answer_error(RequestId::of(tag), IN_DOUBT);
                }
                Action::ReadReady { tag, slot: _ } => self.on_read_ready(RequestId::of(tag)),
                Action::ReadFailed { tag, error } => self.on_read_failed(RequestId::of(tag), error),
                Action::FetchLog { id, slots, bytes_max } => {
                    self.read_log(LogReader::Core(id), slots, bytes_max, outputs);
                }
                Action::RoleChanged { role, leader, ballot, reason } => {
                    self.last_leader = leader.or(self.last_leader);
                    outputs.push(Output::RoleChanged { role, leader, ballot, reason });
                }
                Action::Fenced { reason } => {
                    self.end(End::Fenced(reason));
                    self.serve_ended(outputs);
                    outputs.push(Output::Fenced { reason });
                }
            }
        }
        self.actions = actions;
    }

    pub(super) fn on_apply(&mut self, slot: Slot, entry: &Entry, tag: Option<Tag>, outputs: &mut Vec<Output>) {
        if mutant(Mutant::SessionsCloseByClock) {
            self.machine.close_session_by_clock(self.now);
        }
        let Some(request) = tag.map(RequestId::of) else {
            self.machine.apply(slot, entry);
            return;
        };
        self.counters.proposals_applied += 1;
        self.settle_before(request, outputs);
        let reply = self.machine.apply(slot, entry);
        let Some(client) = self.clients.at(request.place) else { return };
        match client.position(request.sequence) {
            Some(0) => {
                reply.write(&mut Writer::new(&mut client.output, client.connection.protocol));
                client.pop();
            }
            Some(_) => {
                let protocol = client.connection.protocol;
                let kept = self.chunk.keep(|out| reply.write(&mut Writer::new(out, protocol)));
                self.turn_into(request, Open::Answered(kept));
            }
            None => return,
        }
        self.mark_dirty(request.place);
        self.activate(request.place);
    }

    /// Evaluates the reads that a client sent before this write, now that the write is about to be applied.
    pub(super) fn settle_before(&mut self, request: RequestId, outputs: &mut Vec<Output>) {
        loop {
            let Some(client) = self.clients.at(request.place) else { return };
            if client.position(request.sequence).is_none_or(|position| position == 0) {
                return;
            }
            let command = match client.open.front() {
                Some(Open::Answered(bytes)) => {
                    client.output.put_slice(bytes);
                    client.pop();
                    continue;
                }
                Some(Open::Ready(command) | Open::Reading { command, .. }) => command.clone(),
                Some(Open::Parked { command, .. }) if !goes_through_log(command) => {
                    self.parked_bytes = self.parked_bytes.saturating_sub(command.len());
                    command.clone()
                }
                Some(Open::Parked { .. } | Open::Proposed { .. } | Open::Fetching(_)) | None => return,
            };
            if client.output.len() >= self.settings.limits.client_output_bytes_max {
                let mut writer = Writer::new(&mut client.output, client.connection.protocol);
                writer.error(BUSY_OUTPUT);
                client.pop();
                self.counters.busy += 1;
            } else if !self.run(request.place, &command, outputs) {
                return;
            }
        }
    }

    pub(super) fn on_refused(&mut self, request: RequestId, error: ProposeError) {
        self.counters.proposals = self.counters.proposals.saturating_sub(1);
        match error {
            ProposeError::NotLeader { .. }
            | ProposeError::WindowFull
            | ProposeError::CatchingUp
            | ProposeError::Reconfiguring => self.park_again(request),
            ProposeError::TooLarge { .. } | ProposeError::LogFull => {
                self.answer_error(request, format_args!("ERR {error}"));
            }
            ProposeError::Fenced => self.answer_error(request, FENCED),
        }
    }

    pub(super) fn on_read_ready(&mut self, request: RequestId) {
        let Some(open) = self.clients.request(request) else { return };
        if let Open::Reading { command, .. } = open {
            *open = Open::Ready(std::mem::take(command));
            self.activate(request.place);
        }
    }

    pub(super) fn on_read_failed(&mut self, request: RequestId, error: ReadError) {
        if !matches!(self.clients.request(request), Some(Open::Reading { .. })) {
            return; // evaluated before a later write, or its client left
        }
        match error {
            ReadError::NotLeader { .. } | ReadError::LostLeadership | ReadError::CatchingUp => self.park_again(request),
            ReadError::TooMany => {
                self.counters.busy += 1;
                self.answer_error(request, BUSY_READS);
            }
            ReadError::Fenced => self.answer_error(request, FENCED),
        }
    }
}
