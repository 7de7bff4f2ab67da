//! Who a readiness event is for: one word that names a kind and, for connections, never the same one twice.

use mio::Token;

const KIND_SHIFT: u32 = 60;
const KIND_LISTENER: usize = 0;
const KIND_LINK: usize = 1;
const KIND_CLIENT: usize = 2;

/// The source of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// Another thread has something to say.
    Waker,
    /// A signal came.
    Signals,
    /// Somebody connects as a client.
    ClientListener,
    /// Somebody connects as a peer.
    PeerListener,
    /// The link with this key.
    Link(Key),
    /// The client with this key.
    Client(Key),
}

/// Names a connection within the process: its place in a table, and a serial number that is never reused, so
/// that an event for a connection that is gone finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key(u64);

impl Key {
    const INDEX_BITS: u32 = 20;

    /// Most places a table can have.
    pub(crate) const INDEX_MAX: usize = (1 << Key::INDEX_BITS) - 1;

    /// The key of place `index` with the `serial`-th connection; serial numbers wrap after 2^40.
    pub(crate) fn new(index: usize, serial: u64) -> Key {
        let serial = serial & ((1 << (KIND_SHIFT - Key::INDEX_BITS)) - 1);
        Key(serial << Key::INDEX_BITS | (index & Key::INDEX_MAX) as u64)
    }

    /// The place in the table.
    pub(crate) fn index(self) -> usize {
        (self.0 as usize) & Key::INDEX_MAX
    }

    /// The whole key as a number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The key with this number.
    pub(crate) fn from_number(number: u64) -> Key {
        Key(number)
    }
}

impl From<Source> for Token {
    fn from(source: Source) -> Token {
        let keyed = |kind: usize, key: Key| Token(kind << KIND_SHIFT | key.0 as usize);
        match source {
            Source::Waker => Token(0),
            Source::Signals => Token(1),
            Source::ClientListener => Token(2),
            Source::PeerListener => Token(3),
            Source::Link(key) => keyed(KIND_LINK, key),
            Source::Client(key) => keyed(KIND_CLIENT, key),
        }
    }
}

impl Source {
    /// The source that a token was made from.
    pub(crate) fn of(Token(token): Token) -> Option<Source> {
        let key = Key((token & ((1 << KIND_SHIFT) - 1)) as u64);
        match token >> KIND_SHIFT {
            KIND_LINK => Some(Source::Link(key)),
            KIND_CLIENT => Some(Source::Client(key)),
            KIND_LISTENER => match token {
                0 => Some(Source::Waker),
                1 => Some(Source::Signals),
                2 => Some(Source::ClientListener),
                3 => Some(Source::PeerListener),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source() {
        let key = Key::new(Key::INDEX_MAX, 77);
        let sources = [
            Source::Waker,
            Source::Signals,
            Source::ClientListener,
            Source::PeerListener,
            Source::Link(key),
            Source::Client(Key::new(3, u64::MAX)),
        ];
        for source in sources {
            assert_eq!(Source::of(Token::from(source)), Some(source));
        }
        assert_eq!(key.index(), Key::INDEX_MAX);
        assert_ne!(Key::new(1, 1), Key::new(1, 2));
        assert_eq!(Source::of(Token(9)), None);
    }
}
