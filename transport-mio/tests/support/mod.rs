//! What the tests of this crate share: directories that vanish, servers in threads, a client of few words.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use transport_mio::config::{Layer, Settings};
use transport_mio::init::init;
use transport_mio::{InitOptions, PreparedNode, Server, Stop, Stopper};

/// The longest that anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A new empty directory, removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("paxos-mio-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks until the answer is some, for as long as patience lasts.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A base port whose client and peer ports were free a moment ago.
pub fn free_base_port(servers: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = 20_000 + std::process::id() % 300 * 100;
    eventually("free ports", || {
        let base = start + NEXT.fetch_add(1, Ordering::Relaxed) * 10;
        let base = u16::try_from(20_000 + base % 12_000).ok()?;
        let ports = (1..=servers).flat_map(|id| [base + id, base + 100 + id]);
        ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()).then_some(base)
    })
}

/// Prepares a cluster with small segments.
pub fn prepare(dir: &Path, servers: u16) -> Vec<PreparedNode> {
    let settings = Layer { segment_bytes: Some(1 << 20), log: Some("warn".into()), ..Layer::default() };
    let options =
        InitOptions { servers: servers.into(), dir: dir.join("cluster"), base_port: free_base_port(servers), settings };
    init(&options).expect("an empty directory")
}

/// A server in a thread of this process, stopped when dropped.
pub struct Running {
    pub client: SocketAddr,
    pub peer: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), Stop>>>,
}

impl Running {
    pub fn start(node: &PreparedNode) -> Running {
        Running::start_with(node, Layer::default())
    }

    pub fn start_with(node: &PreparedNode, layer: Layer) -> Running {
        let file = Layer::read(&node.config).expect("as prepared");
        let settings = Settings::complete(layer.over(file)).expect("as prepared");
        let server = Server::start(&settings).expect("a prepared node starts");
        let (client, peer, stopper) = (server.client_address(), server.peer_address(), server.stopper());
        let thread = std::thread::spawn(move || server.run());
        Running { client, peer, stopper, thread: Some(thread) }
    }

    /// Stops it cleanly and says how that went.
    pub fn stop(mut self) -> Result<(), Stop> {
        self.stopper.stop();
        let thread = self.thread.take().expect("taken only here and in drop");
        thread.join().expect("the server does not panic")
    }

    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection that writes lines and reads whatever comes.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = eventually("connection", || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Client { stream, buffer: Vec::new() }
    }

    /// Sends an inline command.
    pub fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).expect("the connection is open");
    }

    /// Reads the next line, without its end.
    pub fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            let mut room = [0; 4096];
            match self.stream.read(&mut room)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&room[..count]),
            }
        }
    }

    /// Sends a command and reads its reply: a line, or the body of a bulk string.
    pub fn ask(&mut self, command: &str) -> std::io::Result<String> {
        self.send(command);
        let line = self.line()?;
        match line.strip_prefix('$') {
            Some("-1") => Ok("(nil)".into()),
            Some(_) => self.line(),
            None => Ok(line),
        }
    }
}

/// Asks one node until it answers as wanted; a new connection each time.
pub fn ask_until(address: SocketAddr, command: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let mut client = Client::connect(address);
        match client.ask(command) {
            Ok(reply) if wanted(&reply) => return reply,
            Ok(reply) => last = reply,
            Err(error) => last = error.to_string(),
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{command} at {address} went on answering {last:?}");
}

/// Sends a command to whoever takes it, following MOVED by trying everybody.
pub fn ask_cluster(addresses: &[SocketAddr], command: &str) -> String {
    eventually(command, || {
        addresses.iter().find_map(|&address| {
            let mut client = Client::connect(address);
            let reply = client.ask(command).ok()?;
            let redirected = ["-MOVED", "-CLUSTERDOWN", "-INDOUBT"].iter().any(|prefix| reply.starts_with(prefix));
            (!redirected).then_some(reply)
        })
    })
}

/// The value, or the error as the failure of the test.
pub fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("no error was expected")
}
