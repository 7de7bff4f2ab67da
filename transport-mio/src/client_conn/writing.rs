//! Replies: queued, written, and cut off where nobody reads them.

use super::*;

impl Clients {
    /// Queues replies.
    pub(crate) fn send(&mut self, client: ClientId, bytes: Bytes) {
        let key = Key::from_number(client.0);
        let Some(client) = self.client(key) else { return };
        client.out.push(bytes);
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(key);
        }
    }

    /// The node is done with this client: close once it has its replies.
    pub(crate) fn close(&mut self, now: Instant, client: ClientId, reason: &'static str) {
        let key = Key::from_number(client.0);
        let Some(client) = self.client(key) else { return };
        let (ended, address) = (client.ended, client.address);
        // Whoever hung up first needs no explanation.
        if let (false, Some(suppressed)) = (ended, self.closings.line(now)) {
            info!(client = key.number(), %address, reason, suppressed, "closing client");
        }
        let Some(client) = self.client(key) else { return };
        client.closing = Some(now.plus_us(CLOSING_US));
        client.paused = false;
        client.stalled = false;
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(key);
        }
        self.list_unread(key);
    }

    /// Writes what the turn queued: one call per client in the common case.
    pub(crate) fn flush(&mut self, registry: &Registry, now: Instant, events: &mut Vec<ClientEvent>) {
        let mut keys = std::mem::take(&mut self.dirty);
        for key in keys.drain(..) {
            match self.flush_one(now, key, events) {
                Ok(false) => {}
                Ok(true) => self.gone(registry, key, events, &"closed"),
                Err(reason) => {
                    self.report_cut(now, key, &reason);
                    self.gone(registry, key, events, &reason);
                }
            }
        }
        self.dirty = keys;
    }

    /// Writes to one client. True: it has its last reply and is gone itself.
    pub(super) fn flush_one(&mut self, now: Instant, key: Key, events: &mut Vec<ClientEvent>) -> io::Result<bool> {
        let output_bytes_max = self.limits.output_bytes_max;
        let Some(client) = self.client(key) else { return Ok(false) };
        client.dirty = false;
        if client.writable {
            client.moved = now;
            client.writable = client.out.write_to(&mut client.stream)?;
        }
        let waiting = client.out.bytes();
        if waiting > output_bytes_max {
            return Err(io::Error::other(format!(
                "slow reader: {waiting} reply bytes wait, client_output_bytes_max is {output_bytes_max}"
            )));
        }
        if client.closing.is_some() {
            if waiting == 0 && client.ended {
                return Ok(true);
            }
            if waiting == 0 {
                // The last reply is read before the end: cutting the connection at once could reset it away.
                client.stream.shutdown(Shutdown::Write)?;
            }
        } else if waiting > STALLED_BYTES && !client.stalled {
            client.stalled = true;
            events.push(ClientEvent::Stalled(id(key)));
        } else if waiting <= STALLED_BYTES / 2 && client.stalled {
            client.stalled = false;
            events.push(ClientEvent::Drained(id(key)));
            self.list_unread(key);
        }
        Ok(false)
    }

    pub(super) fn report_cut(&mut self, now: Instant, key: Key, reason: &dyn std::fmt::Display) {
        let line = self.closings.line(now);
        if let (Some(suppressed), Some(client)) = (line, self.client(key)) {
            info!(client = key.number(), address = %client.address, %reason, suppressed, "client disconnected");
        }
    }
}
