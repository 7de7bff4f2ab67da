//! The front of a connection: what is first in line there is run, read or answered.

use super::*;

impl Node {
    /// Answers requests from the front, as far as they can be answered.
    pub(super) fn settle(&mut self, place: u32, outputs: &mut Vec<Output>) {
        let bytes_max = self.settings.limits.client_output_bytes_max;
        loop {
            let Some(client) = self.clients.at(place) else { return };
            match client.open.front() {
                Some(Open::Answered(bytes)) => {
                    client.output.put_slice(bytes);
                    client.pop();
                    self.mark_dirty(place);
                }
                Some(Open::Ready(command)) if !client.stalled && client.output.len() < bytes_max => {
                    if self.turn_left == 0 {
                        return self.next_turn.push(place);
                    }
                    let (command, before) = (command.clone(), client.output.len());
                    if !self.run(place, &command, outputs) {
                        return;
                    }
                    let written = self.clients.at(place).map_or(0, |client| client.output.len().saturating_sub(before));
                    self.turn_left = self.turn_left.saturating_sub(written + work_of(&command));
                }
                Some(
                    Open::Ready(_)
                    | Open::Parked { .. }
                    | Open::Proposed { .. }
                    | Open::Reading { .. }
                    | Open::Fetching(_),
                )
                | None => return,
            }
        }
    }

    /// Runs the command at the front of a connection; false if its answer has to be fetched.
    pub(super) fn run(&mut self, place: u32, encoded: &Bytes, outputs: &mut Vec<Output>) -> bool {
        let Ok(command) = decode(encoded) else { return false };
        let Some(spec) = spec_of(command.number) else { return false };
        match spec.run {
            Run::Read(_) | Run::Browse(_) | Run::Length => self.reply(place, |machine| machine.read(encoded)),
            Run::Local(local) | Run::Turn(local) => self.run_local(place, local, command.args),
            Run::History => match Wanted::parse(command.args) {
                Err(fault) => self.reply(place, |_| Reply::Error(fault)),
                Ok(None) => self.reply(place, |_| Reply::array([])),
                Ok(Some(wanted)) => return self.run_history(place, wanted, outputs),
            },
            Run::Write(_) | Run::Once | Run::Barrier => return false, // only ever run by applying them
        }
        true
    }

    /// Answers the request at the front from the state.
    pub(super) fn reply<'a>(&'a mut self, place: u32, answer: impl FnOnce(&'a Machine) -> Reply<'a>) {
        let Some(client) = self.clients.at(place) else { return };
        answer(&self.machine).write(&mut Writer::new(&mut client.output, client.connection.protocol));
        client.pop();
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(place);
        }
    }

    pub(super) fn run_local(&mut self, place: u32, local: fn(&Node, &mut Turn<'_>), args: Args<'_>) {
        let Some(client) = self.clients.at(place) else { return };
        let mut connection = std::mem::take(&mut client.connection);
        let mut out = std::mem::take(&mut client.output);
        let mut turn = Turn { client: client.id, connection: &mut connection, args, out: &mut out, close: None };
        local(self, &mut turn);
        let close = turn.close;
        let Some(client) = self.clients.at(place) else { return };
        client.connection = connection;
        client.output = out;
        client.pop();
        self.mark_dirty(place);
        if let Some(reason) = close {
            self.close_when_answered(place, reason);
        }
    }

    pub(super) fn run_history(&mut self, place: u32, wanted: Wanted, outputs: &mut Vec<Output>) -> bool {
        let slots = wanted.readable(self.machine.next());
        if slots.is_empty() {
            self.reply(place, |_| if wanted.many { Reply::array([]) } else { Reply::Null });
            return true;
        }
        if self.client_log_reads >= LOG_READS_MAX {
            if let Some(client) = self.clients.at(place)
                && !client.waits_for_log
            {
                client.waits_for_log = true;
                self.log_waiting.push_back(place);
            }
            return false;
        }
        let Some(client) = self.clients.at(place) else { return false };
        let Some(front) = client.open.front_mut() else { return false };
        *front = Open::Fetching(wanted);
        self.client_log_reads += 1;
        let request = RequestId { place, sequence: client.first() };
        self.read_log(LogReader::Client(request), slots, LOG_RANGE_BYTES_MAX, outputs);
        false
    }

    pub(super) fn read_log(
        &mut self,
        reader: LogReader,
        slots: SlotRange,
        bytes_max: usize,
        outputs: &mut Vec<Output>,
    ) {
        self.log_reads_made = self.log_reads_made.wrapping_add(1);
        let id = LogReadId(self.log_reads_made);
        self.log_reads.insert(id, reader);
        outputs.push(Output::ReadLog { id, slots, bytes_max });
    }

    pub(super) fn on_log_read(&mut self, id: LogReadId, first: Slot, entries: Entries, outputs: &mut Vec<Output>) {
        let request = match self.log_reads.remove(&id) {
            Some(LogReader::Core(id)) => return self.step(Event::Fetched { id, first, entries }, outputs),
            Some(LogReader::Client(request)) => request,
            None => return,
        };
        self.client_log_reads = self.client_log_reads.saturating_sub(1);
        while let Some(waiting) = self.log_waiting.pop_front() {
            let Some(client) = self.clients.at(waiting).filter(|client| client.waits_for_log) else { continue };
            client.waits_for_log = false;
            self.activate(waiting);
            break;
        }
        let Some(Open::Fetching(wanted)) = self.clients.look(request) else { return };
        let wanted = *wanted;
        let Some(entry) = entries.first().filter(|_| first == wanted.first) else {
            return self.answer_error(request, "ERR the log could not be read");
        };
        let reply = if wanted.many {
            let count = usize::try_from(wanted.readable(self.machine.next()).count()).unwrap_or(usize::MAX);
            Reply::Array(entries.iter().take(count).map(shown).collect())
        } else {
            shown(entry)
        };
        let Some(client) = self.clients.at(request.place) else { return };
        reply.write(&mut Writer::new(&mut client.output, client.connection.protocol));
        client.pop(); // what is being fetched is at the front
        self.mark_dirty(request.place);
        self.activate(request.place);
    }
}
