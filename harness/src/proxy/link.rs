//! The room for what passes a proxy: for each connection and each way one thread that reads and one that writes, and
//! between them a queue with the moment at which each piece is due.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::{Flow, Lateness, Way};

/// A way that holds so many bytes takes no more: whoever sends must wait, as on any full link.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Read at once at the most: about what one packet of the loopback carries.
const PIECE_BYTES: usize = 64 << 10;

/// Everything that the threads of one proxy share.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: Mutex<State>,
    /// Anything in it changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ways: [Lane; 2],
    connections: BTreeMap<u64, Connection>,
    connections_made: u64,
    over: bool,
}

/// One way, for all connections.
#[derive(Debug, Default)]
struct Lane {
    flow: Flow,
    lateness: Lateness,
    passed: u64,
    /// Drawn so far; the numbers are the same in every run.
    draws: u64,
}

#[derive(Debug)]
struct Connection {
    /// Who connected, and the target.
    ends: [TcpStream; 2],
    pipes: [Pipe; 2],
}

/// One way of one connection.
#[derive(Debug, Default)]
struct Pipe {
    queue: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the last piece is due: what is behind it is never earlier.
    due: Option<Instant>,
    /// The sender will send no more.
    ended: bool,
    /// Something was thrown away, so that nothing behind it makes sense.
    torn: bool,
}

impl Lane {
    fn draw(&mut self) -> u64 {
        self.draws += 1;
        crate::load::mix(self.draws << 32)
    }

    /// When a piece that arrives now is due.
    fn due(&mut self, now: Instant) -> Instant {
        let Lateness { delay, jitter, lost_permille, resend } = self.lateness;
        let jitter_us = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
        let more = std::time::Duration::from_micros(self.draw() % jitter_us.saturating_add(1).max(1));
        let lost = self.draw() % 1_000 < u64::from(lost_permille);
        now + delay + more + if lost { resend } else { std::time::Duration::ZERO }
    }
}

impl State {
    fn is_open(&self) -> bool {
        self.ways.iter().all(|lane| lane.flow == Flow::Open)
    }

    fn end(&mut self, connection: u64) {
        if let Some(Connection { ends, .. }) = self.connections.remove(&connection) {
            // What is shut down already stays so.
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        // Its threads do nothing that panics while they hold it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().over
    }

    pub(super) fn end(&self) {
        self.state().over = true;
        self.reset();
    }

    pub(super) fn reset(&self) {
        let mut state = self.state();
        let connections: Vec<u64> = state.connections.keys().copied().collect();
        connections.into_iter().for_each(|connection| state.end(connection));
        self.changed.notify_all();
    }

    pub(super) fn set_flow(&self, way: Way, flow: Flow) {
        let mut state = self.state();
        state.ways[way.index()].flow = flow;
        let pipe = |connection: &Connection| connection.pipes[way.index()].torn;
        match flow {
            Flow::Held => {}
            Flow::Open => {
                let torn = state.connections.iter().filter(|(_, connection)| pipe(connection));
                let torn: Vec<u64> = torn.map(|(connection, _)| *connection).collect();
                torn.into_iter().for_each(|connection| state.end(connection));
            }
            Flow::Lost => {
                for connection in state.connections.values_mut() {
                    let pipe = &mut connection.pipes[way.index()];
                    pipe.torn |= !pipe.queue.is_empty();
                    pipe.queue.clear();
                    pipe.bytes = 0;
                }
            }
        }
        self.changed.notify_all();
    }

    pub(super) fn set_lateness(&self, way: Way, lateness: Lateness) {
        self.state().ways[way.index()].lateness = lateness;
    }

    pub(super) fn passed(&self, way: Way) -> u64 {
        self.state().ways[way.index()].passed
    }

    /// Serves one who connected, to the end.
    pub(super) fn serve(&self, dialler: TcpStream, target: SocketAddr) {
        let mut state = self.state();
        while !state.is_open() && !state.over {
            state = self.wait(state);
        }
        if state.over {
            return;
        }
        drop(state);
        // Nobody there: the one who connected finds the connection closed.
        let Ok(target) = TcpStream::connect(target) else { return };
        let ends = || Some([dialler.try_clone().ok()?, target.try_clone().ok()?]);
        let Some(kept) = ends() else { return };
        // Small messages must not wait for acknowledgements, since they would not without a proxy.
        kept.iter().for_each(|end| drop(end.set_nodelay(true)));
        let mut state = self.state();
        if state.over {
            return;
        }
        state.connections_made += 1;
        let connection = state.connections_made;
        state.connections.insert(connection, Connection { ends: kept, pipes: Default::default() });
        drop(state);
        thread::scope(|scope| {
            scope.spawn(|| self.read(connection, Way::There, &dialler));
            scope.spawn(|| self.read(connection, Way::Back, &target));
            scope.spawn(|| self.write(connection, Way::There, &target));
            self.write(connection, Way::Back, &dialler);
        });
        self.state().end(connection);
    }

    /// Takes what one end sends, until it ends or the connection does.
    fn read(&self, connection: u64, way: Way, mut from: &TcpStream) {
        let mut bytes = vec![0; PIECE_BYTES];
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            let mut state = self.state();
            let State { ways, connections, .. } = &mut *state;
            let (lane, pipe) = match connections.get_mut(&connection) {
                Some(open) => (&mut ways[way.index()], &mut open.pipes[way.index()]),
                None => return,
            };
            match (count, lane.flow) {
                (0, flow) => {
                    pipe.ended = true;
                    pipe.torn |= flow == Flow::Lost;
                    self.changed.notify_all();
                    return;
                }
                (_, Flow::Lost) => pipe.torn = true,
                // Behind a gap nothing makes sense.
                (_, Flow::Open | Flow::Held) if pipe.torn => {}
                (_, Flow::Open | Flow::Held) => {
                    let now = Instant::now();
                    let due = pipe.due.map_or(now, |due| due.max(now)).max(lane.due(now));
                    pipe.due = Some(due);
                    pipe.bytes += count;
                    pipe.queue.push_back((due, bytes[..count].to_vec()));
                    self.changed.notify_all();
                }
            }
            let full = |state: &State| {
                let open = state.connections.get(&connection);
                open.is_some_and(|open| open.pipes[way.index()].bytes > QUEUE_BYTES_MAX)
            };
            while full(&state) {
                state = self.wait(state);
            }
        }
    }

    /// Hands on what is due while the way is open, until all is handed on or the connection ends.
    fn write(&self, connection: u64, way: Way, mut to: &TcpStream) {
        while let Some(piece) = self.next(connection, way) {
            if to.write_all(&piece).is_err() {
                // The receiver is gone; the sender hears of it as soon as this way is open, that is now.
                self.state().end(connection);
                self.changed.notify_all();
                return;
            }
        }
        // Whoever is gone already needs no end.
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Waits for the next piece; `None` at the end.
    fn next(&self, connection: u64, way: Way) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            let State { ways, connections, .. } = &mut *state;
            let pipe = &mut connections.get_mut(&connection)?.pipes[way.index()];
            let open = ways[way.index()].flow == Flow::Open;
            let now = Instant::now();
            match pipe.queue.front() {
                None if open && pipe.ended => return None,
                Some((due, _)) if open && *due <= now => {
                    let (_, piece) = pipe.queue.pop_front()?;
                    pipe.bytes -= piece.len();
                    // Before anybody can have received it.
                    ways[way.index()].passed += piece.len() as u64;
                    self.changed.notify_all();
                    return Some(piece);
                }
                Some((due, _)) if open => {
                    let wait = due.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
                    state = waited.0;
                }
                None | Some(_) => state = self.wait(state),
            }
        }
    }
}
