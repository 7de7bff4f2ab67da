//! From settings to a running node: the order of a start, in which every failure has its own line and code.
//!
//! 1. lock the data directory;
//! 2. read and check the whole log;
//! 3. compare its identity and its genesis with the configuration;
//! 4. take the addresses;
//! 5. make the boot record durable;
//! 6. only then make the node, which may speak.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant as SystemInstant;

use mio::net::TcpListener;
use mio::{Interest, Poll, Token, Waker};
use node::wal::{Preparation, TornTail, Wal, WalError};
use node::{Address, Node};
use paxos_core::limits::FRAME_BYTES_MAX;
use paxos_core::{NodeId, Record, Recovered};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use tracing::{info, warn};

use crate::client_conn::{ClientLimits, Clients};
use crate::clock::Clock;
use crate::config::{Settings, host_and_port};
use crate::descriptors;
use crate::disk::{Disk, stop_of};
use crate::event_loop::EventLoop;
use crate::files::{Directory, Pace};
use crate::hello::{Identity, genesis_digest};
use crate::init::{random_u64, wal_settings};
use crate::links::Links;
use crate::lock::DirectoryLock;
use crate::resolver::Resolver;
use crate::stop::{Mismatch, Stop};
use crate::token::Source;

/// A peer that says nothing for this many election time-outs has a dead link, whatever TCP thinks.
const IDLE_ELECTION_TIMEOUTS: u64 = 10;
/// But it always gets this long.
const IDLE_US_MIN: u64 = 5_000_000;

/// A node that is ready to run.
pub struct Server {
    event_loop: EventLoop,
    stopper: Stopper,
    client_address: SocketAddr,
    peer_address: SocketAddr,
    _lock: DirectoryLock,
}

/// Asks a running server to stop: once for a clean stop, twice to stop at once.
#[derive(Clone, Debug)]
pub struct Stopper {
    requests: Arc<AtomicU32>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Asks; the server's `run` returns soon after.
    pub fn stop(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        // If the waker fails, the loop sees the request at its next turn, which a heartbeat brings soon.
        let _ = self.waker.wake();
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// SIGTERM and SIGINT, caught from now on. Catch them before the start, so that none is lost.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Catches the signals of the process.
    ///
    /// # Errors
    /// `Stop::System` if the handlers cannot be installed.
    pub fn catch() -> Result<StopSignals, Stop> {
        Signals::new([SIGTERM, SIGINT]).map(StopSignals).map_err(|source| system("signal handlers", source))
    }
}

impl Server {
    /// Does everything up to the first turn of the event loop.
    ///
    /// # Errors
    /// `Stop` with the line and the exit code of what went wrong; nothing was promised to anybody then.
    pub fn start(settings: &Settings) -> Result<Server, Stop> {
        let dir = &settings.data_dir;
        let lock = DirectoryLock::take(dir)?;
        let (mut log, mut recovered) = open_log(settings)?;
        check_identity(settings, &recovered)?;
        settings.check_against(&recovered.formatted().genesis)?;

        let poll = Poll::new().map_err(|source| system("poll", source))?;
        let waker =
            Waker::new(poll.registry(), Token::from(Source::Waker)).map_err(|source| system("waker", source))?;
        let waker = Arc::new(waker);
        let client_listener = listen(&poll, settings.client_listen, Source::ClientListener, "clients")?;
        let peer_listener = listen(&poll, settings.peer_listen, Source::PeerListener, "peers")?;
        let address_of = |listener: &TcpListener| listener.local_addr().map_err(|source| system("listener", source));
        let (client_address, peer_address) = (address_of(&client_listener)?, address_of(&peer_listener)?);

        let boot = recovered.next_boot(random_u64()?);
        log.append(&Record::Started(boot)).map_err(|error| stop_of(dir, error))?;
        log.sync().map_err(|error| stop_of(dir, error))?;
        recovered.started(boot).map_err(|error| Stop::Corrupt { dir: dir.clone(), detail: error.to_string() })?;

        let formatted = recovered.formatted();
        let identity = Identity {
            cluster: formatted.cluster,
            node: formatted.node,
            incarnation: formatted.incarnation,
            boot,
            members: formatted.genesis.membership().members().copied().collect(),
            genesis: genesis_digest(&formatted.genesis),
        };
        info!(
            node = identity.node.0, cluster = %identity.cluster, boot = boot.counter, clients = %client_address,
            peers = %peer_address, "node starts"
        );
        let clock = Clock::start();
        let clients_max = descriptors::clients_max(settings.max_clients);
        let node_settings = node_settings(settings, client_address, clients_max)?;
        let node = Node::new(node_settings, recovered, clock.now(), random_u64()?)
            .map_err(|error| Stop::Config(error.to_string()))?;
        let disk_waker = Arc::clone(&waker);
        let wake = move || {
            // A wake that fails is made up for by the next turn, which a heartbeat brings soon.
            let _ = disk_waker.wake();
        };
        let prepare_in = dir.clone();
        let prepare = move |preparation: Preparation, pace: &Arc<Pace>| {
            let path = || prepare_in.display().to_string();
            let files = Directory::open(&prepare_in).map_err(|source| WalError::Io {
                operation: "open",
                path: path(),
                source,
            })?;
            preparation.run(&mut files.paced(Arc::clone(pace)))
        };
        let disk = Disk::start(log, wake, prepare).map_err(|source| system("disk thread", source))?;
        let stopper = Stopper { requests: Arc::default(), waker: Arc::clone(&waker) };
        let addresses = settings.peers.iter().map(|peer| (NodeId(peer.id), peer.peer_addr.clone())).collect();
        let idle_us = (settings.core.election_timeout_us * IDLE_ELECTION_TIMEOUTS).max(IDLE_US_MIN);
        let links = Links::new(identity, addresses, settings.peer_queue_bytes_max, idle_us, random_u64()?);
        let clients = Clients::new(ClientLimits {
            clients_max,
            output_bytes_max: settings.client_output_bytes_max,
            idle_us: (settings.client_idle_s > 0).then(|| u64::from(settings.client_idle_s) * 1_000_000),
        });
        let resolver = Resolver::new(waker);
        let event_loop = EventLoop::new(
            poll,
            clock,
            node,
            disk,
            links,
            clients,
            (client_listener, peer_listener),
            resolver,
            stopper.clone(),
            dir.clone(),
        );
        Ok(Server { event_loop, stopper, client_address, peer_address, _lock: lock })
    }

    /// Lets these signals stop the server: the first one cleanly, the second one at once.
    ///
    /// # Errors
    /// `Stop::System` if they cannot be waited for.
    pub fn stop_on(&mut self, signals: StopSignals) -> Result<(), Stop> {
        self.event_loop.stop_on(signals.0).map_err(|source| system("signals", source))
    }

    /// Where clients connect: the configured address, with the port that was found for port 0.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where peers connect.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// A handle that stops the server from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// Why it stopped by itself.
    pub fn run(self) -> Result<(), Stop> {
        self.event_loop.run()
    }
}

fn system(what: &str, source: io::Error) -> Stop {
    Stop::System { what: what.into(), source }
}

fn open_log(settings: &Settings) -> Result<(Wal<Directory>, Recovered), Stop> {
    let dir = &settings.data_dir;
    let start = SystemInstant::now();
    let (log, recovered) = open_directory(dir, settings)?;
    info!(
        ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        first_unchosen = recovered.first_unchosen().get(),
        undecided = recovered.held_slots(),
        "log read"
    );
    if let Some(torn) = log.torn_tail() {
        let TornTail { segment, offset, bytes } = torn;
        warn!(
            segment,
            offset, bytes, "dropped a group that the last process did not finish: it was never acknowledged"
        );
    }
    Ok((log, recovered))
}

fn open_directory(dir: &Path, settings: &Settings) -> Result<(Wal<Directory>, Recovered), Stop> {
    let files = Directory::open(dir).map_err(|error| Stop::disk("open", dir, &error))?;
    Wal::open(files, wal_settings(settings)).map_err(|error| stop_of(dir, error))
}

fn check_identity(settings: &Settings, recovered: &Recovered) -> Result<(), Stop> {
    let formatted = recovered.formatted();
    let differs = |mismatch: Mismatch| Err(Stop::Identity { dir: settings.data_dir.clone(), mismatch });
    if let Some(configured) = settings.cluster_id
        && configured != formatted.cluster
    {
        return differs(Mismatch::Cluster { found: formatted.cluster, configured });
    }
    if formatted.node != settings.id {
        return differs(Mismatch::Node { found: formatted.node, configured: settings.id });
    }
    let mut found: Vec<NodeId> = formatted.genesis.membership().members().map(|member| member.node).collect();
    found.sort_unstable();
    let configured = settings.members();
    if found != configured {
        return differs(Mismatch::Members { found, configured });
    }
    Ok(())
}

fn listen(poll: &Poll, address: SocketAddr, source: Source, whom: &'static str) -> Result<TcpListener, Stop> {
    let failed = |source| Stop::Listen { address, whom, source };
    let mut listener = TcpListener::bind(address).map_err(failed)?;
    poll.registry().register(&mut listener, Token::from(source), Interest::READABLE).map_err(failed)?;
    Ok(listener)
}

fn node_settings(settings: &Settings, client_address: SocketAddr, clients_max: usize) -> Result<node::Settings, Stop> {
    let own = settings.client_advertise.clone().unwrap_or_else(|| client_address.to_string());
    let others = settings.peers.iter().map(|peer| (NodeId(peer.id), peer.client_addr.as_str()));
    let mut addresses = BTreeMap::new();
    for (node, text) in others.chain([(settings.id, own.as_str())]) {
        let (host, port) = host_and_port(text)
            .ok_or_else(|| Stop::Config(format!("address {text:?} of node {node} is not host:port")))?;
        addresses.insert(node, Address::new(host, port));
    }
    let limits = node::limits::Limits { clients_max, sessions_max: settings.sessions_max, ..Default::default() };
    debug_assert!(settings.peer_queue_bytes_max > FRAME_BYTES_MAX);
    Ok(node::Settings { paxos: settings.core.clone(), addresses, limits })
}
