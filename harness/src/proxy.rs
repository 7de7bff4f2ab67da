//! A TCP proxy that is a bad link: it delays, stalls and cuts what passes, each way by itself, as it is told while it
//! runs. It knows nothing of what passes and serves any protocol; `peers` puts one into every link of a cluster.
//!
//! TCP never shows loss, only lateness or an end. So packets that are lost here come late and hold up all behind
//! them, and a cut link is silent for as long as the cut lasts, the end of a connection included; afterwards what was
//! held arrives, or, if it was thrown away, the connection is reset. A one-way cut is one for good: packets would not
//! do, since a sender whose acknowledgements are lost falls silent too.

mod link;
mod peers;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use link::Link;
pub use peers::PeerLinks;

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the one who connects to the target.
    There,
    /// From the target.
    Back,
}

impl Way {
    /// Both.
    pub const ALL: [Way; 2] = [Way::There, Way::Back];

    fn index(self) -> usize {
        match self {
            Way::There => 0,
            Way::Back => 1,
        }
    }
}

/// Whether bytes pass. While one way is not open, new connections wait: no handshake comes to an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flow {
    /// They do.
    #[default]
    Open,
    /// They are kept and arrive once the way is open again, late as they are.
    Held,
    /// They are thrown away; once the way is open again, every connection that lost something is reset.
    Lost,
}

/// How late bytes are that pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lateness {
    /// Of every piece.
    pub delay: Duration,
    /// On top, equally distributed up to this.
    pub jitter: Duration,
    /// How many of a thousand pieces are lost once, ...
    pub lost_permille: u32,
    /// ... and come so much later, with all that is behind them.
    pub resend: Duration,
}

/// A proxy in front of one address; what passes it ends with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    listening: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of the loopback, and connects to `target` for each who connects there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn before(target: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let link = Arc::new(Link::default());
        let serving = Arc::clone(&link);
        let listening = thread::Builder::new().name("proxy".into()).spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over() {
                    return;
                }
                // A connection that broke before it was accepted is none.
                let Ok(stream) = stream else { continue };
                let link = Arc::clone(&serving);
                // Without a thread to be had the connection is dropped, as a system without memory would do.
                let _ = thread::Builder::new().name("proxied".into()).spawn(move || link.serve(stream, target));
            }
        })?;
        Ok(Proxy { address, link, listening: Some(listening) })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens or cuts one way.
    pub fn set_flow(&self, way: Way, flow: Flow) {
        self.link.set_flow(way, flow);
    }

    /// Makes what passes one way later from now on.
    pub fn set_lateness(&self, way: Way, lateness: Lateness) {
        self.link.set_lateness(way, lateness);
    }

    /// Ends every connection; new ones are served.
    pub fn reset(&self) {
        self.link.reset();
    }

    /// Bytes that were handed on one way.
    pub fn passed(&self, way: Way) -> u64 {
        self.link.passed(way)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.end();
        // The listening thread looks whether all is over when somebody connects.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(listening)) = (woken, self.listening.take()) {
            // It never panics; and if it did, there is nobody left to serve.
            let _ = listening.join();
        }
    }
}

#[cfg(test)]
mod tests;
