//! Looks host names of peers up without making the event loop wait: one short-lived thread per question.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;
use paxos_core::NodeId;

/// What a question ends in.
pub(crate) type Answer = (NodeId, Result<Vec<SocketAddr>, String>);

/// Questions on their way. At most one per peer: `links.rs` asks again only after an answer.
#[derive(Debug)]
pub(crate) struct Resolver {
    answers: Arc<Mutex<Vec<Answer>>>,
    waker: Arc<Waker>,
}

impl Resolver {
    pub(crate) fn new(waker: Arc<Waker>) -> Resolver {
        Resolver { answers: Arc::default(), waker }
    }

    /// Asks for the addresses of a peer.
    pub(crate) fn ask(&self, node: NodeId, name: String) {
        let (answers, waker) = (Arc::clone(&self.answers), Arc::clone(&self.waker));
        let answer = move |result: Result<Vec<SocketAddr>, String>| {
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((node, result));
            // Without a waker the answer is found at the next turn, which a heartbeat brings soon.
            let _ = waker.wake();
        };
        let refused = answer.clone();
        let look_up = move || match name.to_socket_addrs() {
            Ok(addresses) => answer(Ok(addresses.collect())),
            Err(error) => answer(Err(format!("{name}: {error}"))),
        };
        if let Err(error) = std::thread::Builder::new().name("resolver".into()).spawn(look_up) {
            refused(Err(error.to_string()));
        }
    }

    /// The answers that came since the last call.
    pub(crate) fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
