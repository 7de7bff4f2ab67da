//! What clients do: they come, send, wait, leave; each request is taken in turn.

use super::*;

impl Node {
    pub(super) fn on_opened(&mut self, client: ClientId, outputs: &mut Vec<Output>) {
        if self.clients.len() < self.settings.limits.clients_max && self.clients.open(client).is_some() {
            return;
        }
        let bytes = Bytes::from_static(b"-ERR max number of clients reached\r\n");
        outputs.push(Output::ToClient { client, bytes });
        outputs.push(Output::CloseClient { client, reason: "max number of clients reached" });
    }

    pub(super) fn on_bytes(&mut self, client: ClientId, bytes: Bytes) {
        let Some(place) = self.clients.place(client) else { return };
        let Some(client) = self.clients.at(place) else { return };
        if client.closing.is_some() {
            return;
        }
        client.parser.feed(bytes);
        if client.parser.pending_bytes() > self.settings.limits.client_input_bytes_max {
            client.parser = Default::default();
            client.open.push_back(Open::Answered(Bytes::from_static(
                b"-ERR Protocol error: more unread bytes than client_input_bytes_max\r\n",
            )));
            client.closing = Some("input over client_input_bytes_max");
        }
        self.activate(place);
    }

    pub(super) fn on_ended(&mut self, client: ClientId) {
        let Some(place) = self.clients.place(client) else { return };
        if let Some(client) = self.clients.at(place) {
            client.ended = true;
            self.activate(place);
        }
    }

    pub(super) fn on_closed(&mut self, client: ClientId) {
        let Some(client) = self.clients.close(client) else { return };
        for open in &client.open {
            if let Open::Parked { command, .. } = open {
                self.parked_bytes = self.parked_bytes.saturating_sub(command.len());
            }
        }
    }

    pub(super) fn on_stalled(&mut self, client: ClientId) {
        if let Some(client) = self.clients.place(client).and_then(|place| self.clients.at(place)) {
            client.stalled = true;
        }
    }

    pub(super) fn on_drained(&mut self, client: ClientId) {
        let Some(place) = self.clients.place(client) else { return };
        if let Some(client) = self.clients.at(place) {
            client.stalled = false;
            self.activate(place);
        }
    }

    /// Moves every connection on that can move, and then what is parked.
    pub(super) fn serve(&mut self, outputs: &mut Vec<Output>) {
        loop {
            while let Some(place) = self.active.pop() {
                self.drive(place, outputs);
            }
            self.pump(outputs);
            if self.active.is_empty() {
                return;
            }
        }
    }

    /// Answers what can be answered and parses what may be parsed, in turns, until neither is possible.
    pub(super) fn drive(&mut self, place: u32, outputs: &mut Vec<Output>) {
        let Some(client) = self.clients.at(place) else { return };
        client.active = false;
        let mut parser = std::mem::take(&mut client.parser);
        let held = loop {
            self.settle(place, outputs);
            if !self.may_parse(place) {
                break true;
            }
            match parser.next() {
                Ok(Some(request)) => self.accept(place, &request, outputs),
                Ok(None) => {
                    if self.clients.at(place).is_some_and(|client| client.ended) {
                        self.close_when_answered(place, "closed by the client");
                    }
                    break false;
                }
                Err(error) => {
                    self.counters.protocol_errors += 1;
                    self.push_error(place, format_args!("ERR {error}"));
                    self.close_when_answered(place, "protocol error");
                }
            }
        };
        let Some(client) = self.clients.at(place) else { return };
        client.parser = parser;
        let waiting = client.parser.pending_bytes() >= PAUSE_BYTES;
        if held && waiting && !client.paused {
            client.paused = true;
            outputs.push(Output::PauseClient { client: client.id });
        }
        if client.paused && !(held && waiting) {
            client.paused = false;
            outputs.push(Output::ResumeClient { client: client.id });
        }
    }

    pub(super) fn may_parse(&mut self, place: u32) -> bool {
        let limits = &self.settings.limits;
        self.clients.at(place).is_some_and(|client| {
            client.closing.is_none()
                && !client.barrier
                && !client.stalled
                && client.open.len() < limits.open_requests_max
                && client.output.len() < limits.client_output_bytes_max
        })
    }

    /// Takes a request: it becomes the last open one of its connection, on its way.
    pub(super) fn accept(&mut self, place: u32, request: &Request<'_>, outputs: &mut Vec<Output>) {
        if let Some(ended) = self.ended {
            return self.push_error(place, ended);
        }
        let Asked { spec, once, args_from } = match understand(request) {
            Ok(asked) => asked,
            Err(error) => return self.push_error(place, error),
        };
        let bytes_max = self.settings.paxos.entry_bytes_max;
        let command = self.chunk.encode(once, spec.number, request.args_from(args_from));
        if command.len() > bytes_max {
            return self
                .push_error(place, format_args!("ERR command exceeds maximum allowed size ({bytes_max} bytes)"));
        }
        let Some(client) = self.clients.at(place) else { return };
        match spec.run {
            _ if once.is_some() => self.propose_or_park(place, command, outputs),
            Run::Write(_) | Run::Barrier | Run::Once => self.propose_or_park(place, command, outputs),
            Run::Read(_) | Run::Browse(_) | Run::Length if !client.connection.readonly => {
                self.read_or_park(place, command, outputs);
            }
            Run::Read(_) | Run::Browse(_) | Run::Length | Run::Local(_) => {
                client.push(Open::Ready(command));
            }
            Run::Turn(_) => {
                client.push(Open::Ready(command));
                client.barrier = true;
            }
            Run::History => {
                let beyond = decode(&command)
                    .is_ok_and(|command| matches!(Wanted::parse(command.args), Ok(Some(wanted)) if wanted.last >= self.machine.next()));
                client.barrier = true;
                if beyond && !client.connection.readonly {
                    self.read_or_park(place, command, outputs); // the leader knows whether there is more
                } else {
                    client.push(Open::Ready(command));
                }
            }
        }
    }
}
