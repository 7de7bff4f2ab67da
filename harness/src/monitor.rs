//! The consistency monitor: do all replicas hold the same state after the same slots?

use std::fmt;
use std::time::Duration;

use crate::client::{Connection, Reply};

/// For one replica to answer.
const ASK: Duration = Duration::from_millis(400);

/// Compares the digests that replicas report for equal slots.
#[derive(Debug)]
pub struct Monitor {
    replicas: Vec<Replica>,
    /// How often all replicas that answered were found equal, at least two of them.
    pub compared: u64,
    /// The last slot compared.
    pub slot: i64,
}

#[derive(Debug)]
struct Replica {
    address: String,
    connection: Option<Connection>,
}

/// Two replicas that applied the same slots and hold different state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// After this slot.
    pub slot: i64,
    /// Who says what.
    pub digests: Vec<(String, String)>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "REPLICAS DIVERGED after slot {}: {:?}", self.slot, self.digests)
    }
}

impl Monitor {
    /// A monitor of these replicas.
    pub fn new(addresses: &[String]) -> Monitor {
        let replica = |address: &String| Replica { address: address.clone(), connection: None };
        Monitor { replicas: addresses.iter().map(replica).collect(), compared: 0, slot: 0 }
    }

    /// Compares once, at the last slot that every replica which answers has applied. Replicas that do not
    /// answer, or no longer remember the digest of that slot, are left out.
    ///
    /// # Errors
    /// The divergence.
    pub fn compare(&mut self) -> Result<(), Divergence> {
        let applied: Vec<(usize, i64)> =
            (0..self.replicas.len()).filter_map(|at| Some((at, self.replicas[at].digest(None)?.0))).collect();
        let Some(slot) = applied.iter().map(|(_, applied)| *applied).min().filter(|slot| *slot > 0) else {
            return Ok(());
        };
        let mut digests = Vec::new();
        for (at, _) in applied {
            if let Some((_, digest)) = self.replicas[at].digest(Some(slot)) {
                digests.push((self.replicas[at].address.clone(), digest));
            }
        }
        if digests.iter().any(|(_, digest)| *digest != digests[0].1) {
            return Err(Divergence { slot, digests });
        }
        if digests.len() > 1 {
            self.compared += 1;
            self.slot = slot;
        }
        Ok(())
    }
}

impl Replica {
    /// The digest after a slot, or after the last one applied; with the slot.
    fn digest(&mut self, slot: Option<i64>) -> Option<(i64, String)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&self.address, ASK, ASK).ok()?),
        };
        let reply = match slot {
            None => connection.call(&["PAXOS", "DIGEST"]),
            Some(slot) => connection.call(&["PAXOS", "DIGEST", &slot.to_string()]),
        };
        match reply {
            Ok(Reply::Array(parts)) => Some((parts.first()?.integer()?, parts.get(1)?.text()?.to_string())),
            Ok(_) => None,
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A replica that answers DIGEST without a slot, then with one.
    fn replica(applied: i64, digest: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 1024];
            while stream.read(&mut bytes).unwrap() > 0 {
                write!(stream, "*2\r\n:{applied}\r\n${}\r\n{digest}\r\n", digest.len()).unwrap();
            }
        });
        address
    }

    #[test]
    fn equal_digests_are_counted_and_different_ones_reported() {
        let mut monitor = Monitor::new(&[replica(7, "ab"), replica(7, "ab"), "127.0.0.1:1".into()]);
        assert_eq!(monitor.compare(), Ok(()));
        assert_eq!((monitor.compared, monitor.slot), (1, 7));

        let mut monitor = Monitor::new(&[replica(7, "ab"), replica(7, "cd")]);
        let divergence = monitor.compare().unwrap_err();
        assert_eq!(divergence.slot, 7);
        assert_eq!(divergence.digests.len(), 2);
    }

    #[test]
    fn one_replica_alone_proves_nothing() {
        let mut monitor = Monitor::new(&[replica(7, "ab")]);
        assert_eq!(monitor.compare(), Ok(()));
        assert_eq!(monitor.compared, 0);
    }
}
