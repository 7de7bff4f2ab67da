//! The room for what concerns only this process's clients: their connections and the requests that are open,
//! in the order in which they must be answered. Nothing here is replicated.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use paxos_core::{Instant, Tag};

use crate::connection::Connection;
use crate::history::Wanted;
use crate::output::ClientId;
use crate::resp::Parser;

/// A request that was read and is not answered.
#[derive(Clone, Debug)]
pub(crate) enum Open {
    /// Waits for a leader, or for room in the window; never proposed.
    Parked {
        command: Bytes,
        /// When it is given up.
        deadline: Instant,
    },
    /// In the core: it may be chosen.
    Proposed {
        command: Bytes,
        /// When it is given up, should the core refuse it.
        deadline: Instant,
    },
    /// A read in the core.
    Reading { command: Bytes, deadline: Instant },
    /// Is run when it is at the front: an answered read point, a local command, history.
    Ready(Bytes),
    /// The log is being read for it.
    Fetching(Wanted),
    /// The reply, waiting for those before it.
    Answered(Bytes),
}

/// Names a request within this process: the place of its client, and its number among the client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RequestId {
    pub(crate) place: u32,
    pub(crate) sequence: u32,
}

impl RequestId {
    pub(crate) fn tag(self) -> Tag {
        Tag(u64::from(self.place) << 32 | u64::from(self.sequence))
    }

    pub(crate) fn of(tag: Tag) -> RequestId {
        RequestId { place: (tag.0 >> 32) as u32, sequence: tag.0 as u32 }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) parser: Parser,
    pub(crate) connection: Connection,
    /// Requests in the order of their replies.
    pub(crate) open: VecDeque<Open>,
    /// The number of the one at the front.
    first: u32,
    /// Replies that leave with the next tick.
    pub(crate) output: BytesMut,
    /// The last request changes how what follows must be read: nothing is parsed before it ran.
    pub(crate) barrier: bool,
    /// Nothing more comes: once what came is parsed, it is closing.
    pub(crate) ended: bool,
    /// The driver holds enough replies for it.
    pub(crate) stalled: bool,
    /// The driver was asked not to read from it.
    pub(crate) paused: bool,
    /// Nothing more is parsed; once all is answered the connection ends, for this reason.
    pub(crate) closing: Option<&'static str>,
    /// Is in the list of those with output.
    pub(crate) dirty: bool,
    /// Is in the list of those that may move.
    pub(crate) active: bool,
    /// Is in the list of those whose read of the log has to wait.
    pub(crate) waits_for_log: bool,
}

impl Client {
    pub(crate) fn push(&mut self, open: Open) -> u32 {
        let sequence = self.first.wrapping_add(self.open.len() as u32);
        self.open.push_back(open);
        sequence
    }

    /// The number of the request at the front.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// Where among the open requests this one is, unless it was answered.
    pub(crate) fn position(&self, sequence: u32) -> Option<usize> {
        let position = sequence.wrapping_sub(self.first) as usize;
        (position < self.open.len()).then_some(position)
    }

    pub(crate) fn request(&mut self, sequence: u32) -> Option<&mut Open> {
        let position = self.position(sequence)?;
        self.open.get_mut(position)
    }

    pub(crate) fn pop(&mut self) -> Option<Open> {
        let popped = self.open.pop_front()?;
        self.first = self.first.wrapping_add(1);
        self.barrier &= !self.open.is_empty(); // a barrier is always the last one
        Some(popped)
    }
}

/// The table of connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    places: Vec<Place>,
    free: Vec<u32>,
    by_id: BTreeMap<ClientId, u32>,
}

/// A place in the table. Request numbers go on from one client to the next, so that a tag of an earlier one
/// never names a request of a later one.
#[derive(Debug)]
enum Place {
    Taken(Box<Client>),
    Free { first: u32 },
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Makes a place for this connection; `None` if it has one.
    pub(crate) fn open(&mut self, id: ClientId) -> Option<u32> {
        if self.by_id.contains_key(&id) {
            return None;
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.places.len()).ok()?;
                self.places.push(Place::Free { first: 0 });
                place
            }
        };
        let slot = self.places.get_mut(place as usize)?;
        let first = match slot {
            Place::Free { first } => *first,
            Place::Taken(_) => return None,
        };
        *slot = Place::Taken(Box::new(Client {
            id,
            parser: Parser::default(),
            connection: Connection::default(),
            open: VecDeque::new(),
            first,
            output: BytesMut::new(),
            barrier: false,
            stalled: false,
            paused: false,
            closing: None,
            ended: false,
            dirty: false,
            active: false,
            waits_for_log: false,
        }));
        self.by_id.insert(id, place);
        Some(place)
    }

    /// Forgets a connection and answers what it left.
    pub(crate) fn close(&mut self, id: ClientId) -> Option<Box<Client>> {
        let place = self.by_id.remove(&id)?;
        let slot = self.places.get_mut(place as usize)?;
        match std::mem::replace(slot, Place::Free { first: 0 }) {
            Place::Taken(client) => {
                *slot = Place::Free { first: client.first.wrapping_add(client.open.len() as u32) };
                self.free.push(place);
                Some(client)
            }
            free @ Place::Free { .. } => {
                *slot = free;
                None
            }
        }
    }

    pub(crate) fn place(&self, id: ClientId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn at(&mut self, place: u32) -> Option<&mut Client> {
        match self.places.get_mut(place as usize)? {
            Place::Taken(client) => Some(client),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn request(&mut self, request: RequestId) -> Option<&mut Open> {
        self.at(request.place)?.request(request.sequence)
    }

    pub(crate) fn look(&self, request: RequestId) -> Option<&Open> {
        match self.places.get(request.place as usize)? {
            Place::Taken(client) => client.open.get(client.position(request.sequence)?),
            Place::Free { .. } => None,
        }
    }

    /// Every connection by rising id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_id.values().filter_map(|place| match self.places.get(*place as usize)? {
            Place::Taken(client) => Some(&**client),
            Place::Free { .. } => None,
        })
    }

    /// Every place that is taken.
    pub(crate) fn taken(&self) -> Vec<u32> {
        self.by_id.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_an_earlier_client_names_no_request_of_a_later_one() {
        let mut clients = Clients::default();
        let place = clients.open(ClientId(1)).expect("a place");
        assert_eq!(clients.open(ClientId(1)), None);
        let open = Open::Answered(Bytes::new());
        let sequence = clients.at(place).map(|client| client.push(open.clone())).expect("it is open");
        let old = RequestId { place, sequence };
        assert_eq!(RequestId::of(old.tag()), old);
        assert!(clients.request(old).is_some());
        assert!(clients.close(ClientId(1)).is_some());
        assert!(clients.request(old).is_none());
        assert_eq!(clients.open(ClientId(2)), Some(place), "places are used again");
        let later = clients.at(place).map(|client| client.push(open)).expect("it is open");
        assert_ne!(later, sequence);
        assert!(clients.request(old).is_none());
        assert_eq!(clients.len(), 1);
    }

    #[test]
    fn requests_are_found_until_they_are_answered_across_the_wrap_of_their_numbers() {
        let mut clients = Clients::default();
        let place = clients.open(ClientId(1)).expect("a place");
        let client = clients.at(place).expect("it is open");
        client.first = u32::MAX;
        let sequences: Vec<u32> = (0..3).map(|_| client.push(Open::Answered(Bytes::new()))).collect();
        assert_eq!(sequences, [u32::MAX, 0, 1]);
        assert_eq!(client.position(1), Some(2));
        client.pop();
        assert_eq!(client.position(u32::MAX), None);
        assert_eq!(client.position(1), Some(1));
    }
}
