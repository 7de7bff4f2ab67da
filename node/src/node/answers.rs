//! Answers and errors, in the order of the requests, and what is left of a connection behind them.

use super::*;

impl Node {
    pub(super) fn error(&mut self, error: impl std::fmt::Display) -> Bytes {
        self.chunk.keep(|out| Writer::new(out, Default::default()).error(error))
    }

    pub(super) fn moved(&mut self, leader: NodeId, command: &Bytes) -> Bytes {
        self.counters.moved += 1;
        let slot = first_key(command).map_or(0, hash_slot);
        let Address { host, port } = self.settings.addresses.get(&leader).unwrap_or(&self.nowhere);
        self.chunk.keep(|out| Writer::new(out, Default::default()).error(format_args!("MOVED {slot} {host}:{port}")))
    }

    pub(super) fn push_moved(&mut self, place: u32, leader: NodeId, command: &Bytes) {
        let moved = self.moved(leader, command);
        if let Some(client) = self.clients.at(place) {
            client.push(Open::Answered(moved));
        }
    }

    pub(super) fn push_error(&mut self, place: u32, error: impl std::fmt::Display) {
        let error = self.error(error);
        if let Some(client) = self.clients.at(place) {
            client.push(Open::Answered(error));
        }
    }

    pub(super) fn answer_error(&mut self, request: RequestId, error: impl std::fmt::Display) {
        let error = self.error(error);
        self.turn_into(request, Open::Answered(error));
    }

    /// Changes what an open request waits for.
    pub(super) fn turn_into(&mut self, request: RequestId, becomes: Open) {
        let Some(open) = self.clients.request(request) else { return };
        let answered = matches!(becomes, Open::Answered(_));
        *open = becomes;
        if answered {
            self.activate(request.place);
        }
    }

    pub(super) fn activate(&mut self, place: u32) {
        if let Some(client) = self.clients.at(place)
            && !client.active
        {
            client.active = true;
            self.active.push(place);
        }
    }

    pub(super) fn mark_dirty(&mut self, place: u32) {
        if let Some(client) = self.clients.at(place)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(place);
        }
    }

    pub(super) fn close_when_answered(&mut self, place: u32, reason: &'static str) {
        if let Some(client) = self.clients.at(place) {
            client.closing = Some(reason);
            client.parser = Default::default();
            self.mark_dirty(place);
        }
    }

    /// Replies leave, and connections end that have nothing more to say.
    pub(super) fn flush(&mut self, outputs: &mut Vec<Output>) {
        let bytes_max = self.settings.limits.client_output_bytes_max;
        self.turn_left = TURN_WORK;
        for place in std::mem::take(&mut self.next_turn) {
            self.activate(place);
        }
        for place in std::mem::take(&mut self.dirty) {
            let Some(client) = self.clients.at(place) else { continue };
            client.dirty = false;
            let was_full = client.output.len() >= bytes_max;
            if !client.output.is_empty() {
                let bytes = client.output.split().freeze();
                if bytes.len() > OUTPUT_KEPT_BYTES_MAX {
                    client.output = BytesMut::new();
                }
                outputs.push(Output::ToClient { client: client.id, bytes });
            }
            if let (Some(reason), true) = (client.closing, client.open.is_empty()) {
                let client = client.id;
                outputs.push(Output::CloseClient { client, reason });
                self.on_closed(client);
            } else if was_full {
                self.activate(place); // its unsent replies held it up
            }
        }
    }
}
