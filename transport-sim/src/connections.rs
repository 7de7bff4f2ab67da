//! The room for what passes between clients and nodes: connections, their bytes in both directions, and their ends.

mod crowd;
#[cfg(test)]
mod tests;
mod unread;

use std::collections::VecDeque;

use bytes::Bytes;
use node::{ClientId, Input};
use paxos_core::{Instant, NodeId};

use crate::client::{Ask, Client, Operation, Wish};
use crate::decisions::Stream;
use crate::observer::{Fact, Mishap, Observer, Violation, Way};
use crate::scenario::START;
use crate::world::{Event, World};

use self::unread::Unread;

/// A client's connection to a node.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Whose; nobody's in particular if it belongs to a crowd.
    client: Option<usize>,
    seat: usize,
    life: u64,
    /// The node was told of it and not of its end.
    served: bool,
    /// The client still cares.
    wanted: bool,
    /// Bytes were lost on the way: nothing passes any more.
    broken: bool,
    paused: bool,
    /// What arrived while the node read nothing, the oldest first: what arrives later waits behind it.
    held: VecDeque<Bytes>,
    unread: Unread,
    /// What it says, if it belongs to a crowd.
    saying: usize,
    to_node_last: Instant,
    to_client_last: Instant,
}

impl Connection {
    fn new(client: Option<usize>, seat: usize, now: Instant) -> Connection {
        Connection {
            client,
            seat,
            life: 0,
            served: false,
            wanted: client.is_some(),
            broken: false,
            paused: false,
            held: VecDeque::new(),
            unread: Unread::default(),
            saying: 0,
            to_node_last: now,
            to_client_last: now,
        }
    }

    /// Whether the node reads what the client sends.
    fn is_read(&self) -> bool {
        !self.paused && !self.unread.stalled
    }
}

impl<O: Observer> World<O> {
    /// Tells a client something of a connection that it still cares for.
    pub(crate) fn tell(
        &mut self,
        connection: usize,
        what: impl FnOnce(&mut Client, Instant, &mut Vec<Wish>),
    ) -> Result<(), Violation> {
        let Connection { wanted, broken, client, .. } = self.connections[connection];
        match client {
            Some(client) if wanted && !broken => self.serve(client, what),
            Some(_) | None => Ok(()),
        }
    }

    /// Lets a client act, and does what it wishes.
    pub(crate) fn serve(
        &mut self,
        client: usize,
        what: impl FnOnce(&mut Client, Instant, &mut Vec<Wish>),
    ) -> Result<(), Violation> {
        let mut wishes = std::mem::take(&mut self.wishes);
        what(&mut self.clients[client], self.now, &mut wishes);
        let mut verdict = Ok(());
        for wish in wishes.drain(..) {
            verdict = verdict.and_then(|()| self.grant(client, wish));
        }
        self.wishes = wishes;
        verdict
    }

    fn grant(&mut self, client: usize, wish: Wish) -> Result<(), Violation> {
        if self.trace.prints() {
            let now = self.now;
            self.trace.line(
                self.report.steps,
                now,
                None,
                format_args!("c{} wishes {wish:?}", self.clients[client].name()),
            );
        }
        match wish {
            Wish::Connect(node) => {
                let seat = self.seats.iter().position(|seat| seat.id == node).unwrap_or(0);
                let connection = self.connections.len();
                self.connections.push(Connection::new(Some(client), seat, self.now));
                self.lines[client] = Some(connection);
                self.towards_node(connection, Event::Opened { connection });
            }
            Wish::Send(bytes) => {
                if let Some(connection) = self.lines[client] {
                    self.towards_node(connection, Event::ToNode { connection, bytes: bytes.clone() });
                    return self.carried(connection, Way::ToNode, &bytes);
                }
            }
            Wish::HangUp => {
                if let Some(connection) = self.lines[client].take() {
                    self.connections[connection].wanted = false;
                    self.towards_node(connection, Event::HungUp { connection });
                }
            }
            Wish::Wake(at) => self.heap.push(at, Event::Wake { client }),
            Wish::Asked(operation, due) => {
                if let Some(asks) = &mut self.asks {
                    let (Operation { id, args, .. }, due) = (&operation, due.max(START));
                    asks.entry(id.client).or_default().push(Ask { number: id.number, due, args: args.clone() });
                }
                self.report.asked += 1;
                self.trace.fold(self.now, NodeId(0), &(0u8, operation.id));
                return self.see(NodeId(0), &Fact::Asked(&operation));
            }
            Wish::Answered(id, reply) => {
                self.report.answered += 1;
                self.trace.fold(self.now, NodeId(0), &(1u8, id, &reply));
                return self.see(NodeId(0), &Fact::Answered { id, reply: &reply });
            }
            Wish::Unknown(id) => {
                self.report.unknown += 1;
                self.trace.fold(self.now, NodeId(0), &(2u8, id));
                return self.see(NodeId(0), &Fact::Unknown { id });
            }
            Wish::Nonsense(what) => {
                return Err(Violation::new(
                    "replies-make-sense",
                    format!("client {}: {what}", self.clients[client].name()),
                ));
            }
        }
        Ok(())
    }

    /// A client hears that its connection is gone.
    pub(crate) fn hear_closed(&mut self, connection: usize) -> Result<(), Violation> {
        let wanted = std::mem::replace(&mut self.connections[connection].wanted, false);
        let Some(client) = self.connections[connection].client.filter(|_| wanted) else { return Ok(()) };
        self.lines[client] = None;
        self.serve(client, Client::closed)
    }

    pub(crate) fn towards_node(&mut self, connection: usize, event: Event) {
        let delay = self.delay(connection, |client| Stream::ToNode { client });
        let line = &mut self.connections[connection];
        line.to_node_last = line.to_node_last.max(self.now.plus_us(delay));
        self.heap.push(line.to_node_last, event);
    }

    pub(crate) fn towards_client(&mut self, connection: usize, event: Event) {
        let delay = self.delay(connection, |client| Stream::ToClient { client });
        let line = &mut self.connections[connection];
        line.to_client_last = line.to_client_last.max(self.now.plus_us(delay));
        self.heap.push(line.to_client_last, event);
    }

    /// How long what passes on a connection takes, in microseconds; nothing of a crowd is late.
    fn delay(&mut self, connection: usize, stream: impl FnOnce(u32) -> Stream) -> u64 {
        match self.connections[connection].client {
            Some(client) => {
                let stream = stream(self.clients[client].name());
                self.network.client_delay(self.now, stream, &mut self.decisions)
            }
            None => self.network.delay_us_min(),
        }
    }

    fn carried(&mut self, connection: usize, way: Way, bytes: &Bytes) -> Result<(), Violation> {
        let line = &self.connections[connection];
        let Some(client) = line.client.map(|client| self.clients[client].name()) else { return Ok(()) };
        let arrives = match way {
            Way::ToNode => line.to_node_last,
            Way::ToClient => line.to_client_last,
        };
        self.see(self.seats[line.seat].id, &Fact::Carried { client, way, arrives, bytes })
    }

    pub(crate) fn opened(&mut self, connection: usize) -> Result<(), Violation> {
        /// How long a connection attempt that nobody answers takes to fail.
        const CONNECT_US: u64 = 500_000;
        let Connection { seat, client, .. } = self.connections[connection];
        if client.is_none() && self.healed.is_some() {
            return Ok(());
        }
        if self.unreachable.contains(&seat) {
            self.after(CONNECT_US, Event::Closed { connection });
            return Ok(());
        }
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::Opened { connection });
            return Ok(());
        }
        if self.seats[seat].node().is_none() {
            self.towards_client(connection, Event::Closed { connection });
            return Ok(());
        }
        self.connections[connection].life = self.seats[seat].life;
        self.connections[connection].served = true;
        self.towards_client(connection, Event::Connected { connection });
        self.input(seat, Input::ClientOpened { client: ClientId(connection as u64) })
    }

    /// Whether the node still serves this connection.
    fn is_served(&self, connection: usize) -> bool {
        let line = &self.connections[connection];
        line.served && !line.broken && self.seats[line.seat].life == line.life
    }

    pub(crate) fn arrive_at_node(&mut self, connection: usize, bytes: Bytes) -> Result<(), Violation> {
        let seat = self.connections[connection].seat;
        if self.unreachable.contains(&seat) {
            self.connections[connection].broken = true;
        }
        if !self.is_served(connection) {
            return Ok(());
        }
        let line = &mut self.connections[connection];
        if !line.is_read() || !line.held.is_empty() {
            line.held.push_back(bytes);
            return Ok(());
        }
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::ToNode { connection, bytes });
            return Ok(());
        }
        self.input(seat, Input::ClientBytes { client: ClientId(connection as u64), bytes })
    }

    pub(crate) fn hung_up(&mut self, connection: usize) -> Result<(), Violation> {
        let seat = self.connections[connection].seat;
        // It may not even have heard that this connection was opened.
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::HungUp { connection });
            return Ok(());
        }
        if !self.is_served(connection) {
            return Ok(());
        }
        self.left(connection)?;
        self.forget(connection)
    }

    /// The node hears that a connection is gone that it serves.
    fn forget(&mut self, connection: usize) -> Result<(), Violation> {
        let line = &mut self.connections[connection];
        line.served = false;
        line.unread = Unread::default();
        let seat = line.seat;
        self.input(seat, Input::ClientClosed { client: ClientId(connection as u64) })
    }

    /// Clients reach the node again: of connections that died meanwhile their ends hear now.
    pub(crate) fn end_broken(&mut self, seat: usize) -> Result<(), Violation> {
        let life = self.seats[seat].life;
        if self.seats[seat].node().is_none() || self.seats[seat].waits() {
            return Ok(());
        }
        for connection in 0..self.connections.len() {
            let line = &self.connections[connection];
            if line.seat == seat && line.life == life && line.served && line.broken {
                self.forget(connection)?;
            }
        }
        Ok(())
    }

    /// A node sends to a client.
    pub(crate) fn reply(&mut self, client: ClientId, bytes: Bytes) -> Result<(), Violation> {
        let connection = client.0 as usize;
        if self.unreachable.contains(&self.connections[connection].seat) {
            self.connections[connection].broken = true;
        }
        if self.is_unread(connection) {
            return self.keep_unread(connection, bytes);
        }
        self.deliver(connection, bytes)
    }

    fn deliver(&mut self, connection: usize, bytes: Bytes) -> Result<(), Violation> {
        self.towards_client(connection, Event::ToClient { connection, bytes: bytes.clone() });
        self.carried(connection, Way::ToClient, &bytes)
    }

    /// A node closes a client's connection. Nobody waits for a client to read the last replies.
    pub(crate) fn close(&mut self, client: ClientId, reason: &str) -> Result<(), Violation> {
        let connection = client.0 as usize;
        let line = &mut self.connections[connection];
        line.served = false;
        line.unread = Unread::default();
        let seat = line.seat;
        self.towards_client(connection, Event::Closed { connection });
        if reason.starts_with("max number of clients") {
            return self.see(self.seats[seat].id, &Fact::Connection(Mishap::NoRoom));
        }
        Ok(())
    }

    /// A node reads no more from a client, or reads on.
    pub(crate) fn pause_client(&mut self, client: ClientId, paused: bool) {
        let connection = client.0 as usize;
        self.connections[connection].paused = paused;
        self.read_on(connection);
    }

    /// A node that reads from a client again finds what arrived meanwhile, when its turn is over.
    fn read_on(&mut self, connection: usize) {
        let line = &self.connections[connection];
        if line.is_read() && !line.held.is_empty() {
            self.heap.push(self.now, Event::LetIn { connection });
        }
    }

    /// What arrived while a node read nothing from a client reaches it, as long as it reads on.
    pub(crate) fn let_in(&mut self, connection: usize) -> Result<(), Violation> {
        let seat = self.connections[connection].seat;
        if self.seats[seat].waits() {
            self.seats[seat].backlog.push(Event::LetIn { connection });
            return Ok(());
        }
        while self.is_served(connection)
            && self.connections[connection].is_read()
            && let Some(bytes) = self.connections[connection].held.pop_front()
        {
            self.input(seat, Input::ClientBytes { client: ClientId(connection as u64), bytes })?;
        }
        Ok(())
    }

    /// A process is gone and with it its connections; clients hear of it unless the whole host went.
    pub(crate) fn drop_connections(&mut self, seat: usize, told: bool) {
        let life = self.seats[seat].life;
        for connection in 0..self.connections.len() {
            let line = &mut self.connections[connection];
            if line.seat == seat && line.life == life && line.served {
                line.served = false;
                line.unread = Unread::default();
                if told {
                    self.towards_client(connection, Event::Closed { connection });
                } else {
                    self.connections[connection].broken = true;
                }
            }
        }
    }

    /// Every client connection of a node is reset.
    pub(crate) fn reset_clients(&mut self, seat: usize) -> Result<(), Violation> {
        let life = self.seats[seat].life;
        for connection in 0..self.connections.len() {
            let line = &self.connections[connection];
            if line.seat == seat && line.life == life && line.served {
                self.towards_client(connection, Event::Closed { connection });
                self.hung_up(connection)?;
            }
        }
        Ok(())
    }
}
