//! The room for crowds: many connections at once that are nobody's in particular. They say little, and some of it is no
//! whole command; nothing that they say writes.

use bytes::Bytes;

use super::Connection;
use crate::observer::{Fact, Mishap, Observer, Violation};
use crate::world::{Event, World};

/// What one of a crowd says: each of these in turn.
const SAYINGS: [&[u8]; 4] = [
    b"",
    b"*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$100\r\nhalf",
    b"*2\r\n$3\r\nGET\r\n$2\r\nk0\r\n",
    b"PING\r\n*2\r\n$3\r\nGE",
];
/// Which of them end in the midst of a command.
const UNFINISHED: [bool; 4] = [false, true, false, true];

impl<O: Observer> World<O> {
    /// Many connect to a node, and leave one after the other until the last one has left.
    pub(crate) fn crowd(&mut self, seat: usize, connections: u64, us: u64) {
        /// Who comes next leaves so many places later: those who came first and got room leave at all times.
        const STRIDE: u64 = 61;
        for number in 0..connections {
            let connection = self.connections.len();
            let mut line = Connection::new(None, seat, self.now);
            line.saying = number as usize % SAYINGS.len();
            let saying = SAYINGS[line.saying];
            self.connections.push(line);
            self.towards_node(connection, Event::Opened { connection });
            if !saying.is_empty() {
                self.towards_node(connection, Event::ToNode { connection, bytes: Bytes::from_static(saying) });
            }
            let leaves = self.now.plus_us(us * (1 + number * STRIDE % connections) / connections);
            let line = &mut self.connections[connection];
            line.to_node_last = line.to_node_last.max(leaves);
            self.heap.push(line.to_node_last, Event::HungUp { connection });
        }
    }

    /// A connection ends that its node serves.
    pub(super) fn left(&mut self, connection: usize) -> Result<(), Violation> {
        let line = &self.connections[connection];
        if line.client.is_none() && UNFINISHED[line.saying] {
            return self.see(self.seats[line.seat].id, &Fact::Connection(Mishap::LeftOpen));
        }
        Ok(())
    }

    /// Faults are over: clients read, connections that died are noticed, and crowds have left.
    pub(crate) fn end_bad_manners(&mut self) -> Result<(), Violation> {
        for (client, until) in self.slow.clone() {
            self.reads_again(client, until)?;
        }
        for seat in 0..self.seats.len() {
            self.end_broken(seat)?;
        }
        for connection in 0..self.connections.len() {
            if self.connections[connection].client.is_none() {
                self.hung_up(connection)?;
            }
        }
        Ok(())
    }

    /// A node at rest knows the connections that it serves and no others.
    pub(crate) fn counts_connections(&self) -> Result<(), Violation> {
        for (at, seat) in self.seats.iter().enumerate() {
            let Some(node) = seat.node() else { continue };
            let served = |line: &&Connection| line.seat == at && line.life == seat.life && line.served;
            let (known, serves) = (node.status().clients, self.connections.iter().filter(served).count());
            if known != serves {
                let why = format!("{:?} counts {known} clients, {serves} are there", seat.id);
                return Err(Violation::new("clients-are-forgotten", why));
            }
        }
        Ok(())
    }
}
