//! The room for clients that do not read: their replies wait in the node's process, which has its bounds.
//!
//! This is what the driver of real sockets does (`transport-mio`, `client_conn`): from some waiting bytes on the node is
//! told to answer no more and nothing more is read from the client, and beyond `client_output_bytes_max` the connection
//! is closed. The buffers of kernels are left out, so that every reply waits here.

use std::collections::VecDeque;

use bytes::Bytes;
use node::{ClientId, Input};
use paxos_core::Instant;

use super::Connection;
use crate::client::Client;
use crate::observer::{Fact, Mishap, Observer, Violation};
use crate::resp::Replies;
use crate::world::{Event, World};

/// Replies that a client does not read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// What the node sent, the oldest first; each is whole replies.
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// The node was told.
    pub(super) stalled: bool,
}

impl Unread {
    /// The sizes of the replies that wait, in bytes.
    pub(super) fn replies(&self) -> Vec<usize> {
        let mut sizes = Vec::new();
        for chunk in &self.chunks {
            let mut replies = Replies::default();
            replies.feed(chunk);
            let mut left = chunk.len();
            // What is no reply is for the client to complain about.
            while let Ok(Some(_)) = replies.next_reply() {
                let behind = replies.waiting();
                sizes.push(left - behind);
                left = behind;
            }
        }
        sizes
    }
}

impl<O: Observer> World<O> {
    /// A client asks for what it wants next, and reads nothing for a while.
    pub(crate) fn stop_reading(&mut self, client: u32, us: u64) -> Result<(), Violation> {
        let Some(client) = self.clients.iter().position(|one| one.name() == client) else { return Ok(()) };
        let until = self.now.plus_us(us);
        self.slow.insert(client, until);
        self.heap.push(until, Event::Reads { client, until });
        self.serve(client, Client::ask_soon)
    }

    /// A client reads again what waits for it, unless it has stopped once more since.
    pub(crate) fn reads_again(&mut self, client: usize, until: Instant) -> Result<(), Violation> {
        if self.slow.get(&client) != Some(&until) {
            return Ok(());
        }
        self.slow.remove(&client);
        self.lines[client].map_or(Ok(()), |connection| self.drain(connection))
    }

    /// What waits for a client that reads is written to it, as soon as the process that holds it does anything.
    pub(crate) fn drain(&mut self, connection: usize) -> Result<(), Violation> {
        let line = &mut self.connections[connection];
        if line.unread.chunks.is_empty() || line.client.is_some_and(|client| self.slow.contains_key(&client)) {
            return Ok(());
        }
        if self.seats[line.seat].waits() {
            self.seats[line.seat].backlog.push(Event::Drain { connection });
            return Ok(());
        }
        let unread = std::mem::take(&mut line.unread);
        for bytes in unread.chunks {
            self.deliver(connection, bytes)?;
        }
        if unread.stalled && self.is_served(connection) {
            let seat = self.connections[connection].seat;
            self.see(self.seats[seat].id, &Fact::Connection(Mishap::Drained))?;
            self.read_on(connection);
            return self.input(seat, Input::ClientDrained { client: ClientId(connection as u64) });
        }
        Ok(())
    }

    /// Whether what a node sends on a connection waits for its client.
    pub(super) fn is_unread(&self, connection: usize) -> bool {
        let Connection { client, wanted, broken, served, unread, .. } = &self.connections[connection];
        let slow = client.is_some_and(|client| self.slow.contains_key(&client));
        *served && *wanted && !*broken && (slow || !unread.chunks.is_empty())
    }

    /// Keeps what nobody reads; the node hears of it when its turn is over.
    pub(super) fn keep_unread(&mut self, connection: usize, bytes: Bytes) -> Result<(), Violation> {
        let unread = &mut self.connections[connection].unread;
        unread.bytes += bytes.len();
        unread.chunks.push_back(bytes);
        self.pressed.push(connection);
        self.is_bounded(connection)
    }

    /// What waits for a client is bounded: each turn a node runs reads of it only until so many reply bytes are there,
    /// and the connection is closed when too many wait. What writes answer comes on top.
    fn is_bounded(&self, connection: usize) -> Result<(), Violation> {
        let bytes_max = self.scenario.limits.client_output_bytes_max;
        let line = &self.connections[connection];
        let Some(client) = line.client.filter(|_| line.unread.bytes > 3 * bytes_max) else { return Ok(()) };
        let mut sizes = line.unread.replies();
        sizes.sort_unstable();
        let largest = sizes.last().copied().unwrap_or(0);
        let writes = self.clients[client].writes_open();
        let of_writes: usize = sizes.iter().rev().take(writes).sum();
        // What waited and was no reason to close, what a turn may add, one reply that goes beyond it, and small errors.
        let most = 3 * bytes_max + largest + of_writes;
        if line.unread.bytes <= most {
            return Ok(());
        }
        let name = self.clients[client].name();
        let why = format!("{} bytes wait for client {name}, {most} are the most; {sizes:?}", line.unread.bytes);
        Err(Violation::new("bounded-replies", why))
    }

    /// A node whose turn is over hears of clients that do not read, and loses those that let too much wait.
    pub(crate) fn press(&mut self, seat: usize) -> Result<(), Violation> {
        /// The node is told when so much of what may wait does.
        const STALLED_PART: usize = 4;
        while let Some(connection) = self.pressed.pop() {
            let bytes_max = self.scenario.limits.client_output_bytes_max;
            let line = &mut self.connections[connection];
            let (client, id) = (ClientId(connection as u64), self.seats[seat].id);
            if line.seat != seat || !line.served {
                continue;
            }
            if line.unread.bytes > bytes_max {
                self.see(id, &Fact::Connection(Mishap::Cut))?;
                self.towards_client(connection, Event::Closed { connection });
                self.forget(connection)?;
            } else if line.unread.bytes > bytes_max / STALLED_PART && !line.unread.stalled {
                line.unread.stalled = true;
                self.see(id, &Fact::Connection(Mishap::Stalled))?;
                self.input(seat, Input::ClientStalled { client })?;
            }
        }
        Ok(())
    }
}
