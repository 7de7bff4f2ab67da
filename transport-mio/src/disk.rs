//! The thread that owns the log: appends everything that queued, syncs once, answers through a waker.
//!
//! Durability before testimony, literally: a ticket is redeemed only in `Worker::persist`, behind the `?` of a
//! sync that returned. After a failure the thread answers `Failed` once and ends; no sync is tried again,
//! since nobody can say what the first one left (rule 6; "fsyncgate").

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node::LogReadId;
use node::wal::{Files, Wal, WalError};
use paxos_core::{Entries, OutOfOrder, Receipt, Record, Slot, SlotRange, Ticket};
use tracing::{error, warn};

use crate::stop::Stop;

/// One sync covers at most about this much, so that receipts of a large backlog come in steps.
const GROUP_BYTES_MAX: usize = 2 << 20;

/// A sync that takes longer is worth a line.
const SLOW_SYNC: Duration = Duration::from_millis(100);

/// A request to read chosen entries back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRequest {
    pub(crate) id: LogReadId,
    pub(crate) slots: SlotRange,
    pub(crate) bytes_max: usize,
}

/// What the thread answers.
#[derive(Debug)]
pub(crate) enum Done {
    /// These records are durable.
    Persisted(Receipt),
    /// What was read; nothing if it could not be.
    Read { id: LogReadId, first: Slot, entries: Entries },
    /// The log takes nothing more.
    Failed(WalError),
}

#[derive(Debug, Default)]
struct Queue {
    persists: Vec<(Ticket, Record)>,
    reads: VecDeque<ReadRequest>,
    stopping: bool,
    /// The thread sleeps: whoever queues must wake it.
    waiting: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    queued: Condvar,
    done: Mutex<Vec<Done>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// A mutex is poisoned only by a panic of its other user; the queue in it is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn answer(&self, answers: &mut Vec<Done>) {
        let mut done = lock(&self.done);
        let wake = done.is_empty();
        done.append(answers);
        drop(done);
        if wake {
            (self.wake)();
        }
    }
}

/// The handle of the event loop on the disk thread.
pub(crate) struct Disk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread on this log. `wake` is called when answers wait and none waited before.
    pub(crate) fn start<F: Files + Send + 'static>(
        log: Wal<F>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Disk> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queued: Condvar::new(),
            done: Mutex::default(),
            wake: Box::new(wake),
        });
        let worker = Worker { log, shared: Arc::clone(&shared), answers: Vec::new() };
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || worker.run())?;
        Ok(Disk { shared, thread: Some(thread) })
    }

    /// Queues records, in order; empties `records`.
    pub(crate) fn persist(&self, records: &mut Vec<(Ticket, Record)>) {
        if records.is_empty() {
            return;
        }
        let mut queue = lock(&self.shared.queue);
        queue.persists.append(records);
        self.notify(queue);
    }

    /// Queues a read.
    pub(crate) fn read(&self, request: ReadRequest) {
        let mut queue = lock(&self.shared.queue);
        queue.reads.push_back(request);
        self.notify(queue);
    }

    fn notify(&self, mut queue: MutexGuard<'_, Queue>) {
        let waiting = std::mem::replace(&mut queue.waiting, false);
        drop(queue);
        if waiting {
            self.shared.queued.notify_one();
        }
    }

    /// Appends the answers that came since the last call.
    pub(crate) fn take_done(&self, answers: &mut Vec<Done>) {
        answers.append(&mut lock(&self.shared.done));
    }

    /// Makes everything queued durable and ends the thread.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.stopping = true;
        self.notify(queue);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its watch already.
            let _ = thread.join();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker<F: Files> {
    log: Wal<F>,
    shared: Arc<Shared>,
    answers: Vec<Done>,
}

/// Tells the event loop when the thread ends by a panic, so that it never waits for receipts for ever.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.answer(&mut vec![Done::Failed(WalError::Failed)]);
        }
    }
}

impl<F: Files> Worker<F> {
    fn run(mut self) {
        let _watch = Watch(Arc::clone(&self.shared));
        let mut persists = Vec::new();
        while let Some(read) = self.take(&mut persists) {
            if let Err(error) = self.turn(&mut persists, read) {
                self.answers.push(Done::Failed(error));
                self.shared.answer(&mut self.answers);
                return;
            }
        }
    }

    /// Waits for work: all records that are queued, and one read. `None`: the end.
    fn take(&mut self, persists: &mut Vec<(Ticket, Record)>) -> Option<Option<ReadRequest>> {
        let mut queue = lock(&self.shared.queue);
        loop {
            if !queue.persists.is_empty() || !queue.reads.is_empty() {
                persists.append(&mut queue.persists);
                return Some(queue.reads.pop_front());
            }
            if queue.stopping {
                return None;
            }
            queue.waiting = true;
            queue = self.shared.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting = false;
        }
    }

    /// One sync for all that queued, then at most one read, so that neither keeps the other waiting for long.
    fn turn(&mut self, persists: &mut Vec<(Ticket, Record)>, read: Option<ReadRequest>) -> Result<(), WalError> {
        let mut records = persists.drain(..).peekable();
        let mut group = Vec::new();
        while let Some((ticket, record)) = records.next() {
            self.log.append(&record)?;
            group.push(ticket);
            if records.peek().is_none() || self.log.pending_bytes() >= GROUP_BYTES_MAX {
                self.persist(&mut group)?;
            }
        }
        drop(records);
        if let Some(request) = read {
            self.read(request);
        }
        if self.log.wants_next() {
            self.prepare_next();
        }
        Ok(())
    }

    /// Syncs what was appended, and only then redeems its tickets.
    fn persist(&mut self, group: &mut Vec<Ticket>) -> Result<(), WalError> {
        let bytes = self.log.pending_bytes();
        let start = Instant::now();
        self.log.sync()?;
        let elapsed = start.elapsed();
        receipts(group.drain(..), &mut self.answers);
        self.shared.answer(&mut self.answers);
        if elapsed > SLOW_SYNC {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            warn!(ms, bytes, "slow sync of the log");
        }
        Ok(())
    }

    fn read(&mut self, request: ReadRequest) {
        let ReadRequest { id, slots, bytes_max } = request;
        let entries = self.log.read(slots, bytes_max).unwrap_or_else(|error| {
            error!(first = slots.first.get(), end = slots.end.get(), %error, "cannot read the log back");
            Entries::default()
        });
        self.answers.push(Done::Read { id, first: slots.first, entries });
        self.shared.answer(&mut self.answers);
    }

    fn prepare_next(&mut self) {
        // Not final: the log goes on to the end of its segment, and says so then if there is no room.
        if let Err(error) = self.log.prepare_next() {
            warn!(%error, "cannot make the next segment of the log ahead of its use");
        }
    }
}

/// Redeems tickets, as few receipts as there can be.
fn receipts(tickets: impl Iterator<Item = Ticket>, answers: &mut Vec<Done>) {
    let mut last: Option<Receipt> = None;
    for ticket in tickets {
        last = Some(match last {
            None => ticket.redeem(),
            Some(receipt) => match receipt.and(ticket) {
                Ok(receipt) => receipt,
                Err(OutOfOrder { receipt, ticket }) => {
                    answers.push(Done::Persisted(receipt));
                    ticket.redeem()
                }
            },
        });
    }
    answers.extend(last.map(Done::Persisted));
}

/// The line and exit code for a log that does not do what it was asked.
pub(crate) fn stop_of(dir: &Path, error: WalError) -> Stop {
    match error {
        WalError::NotFormatted => Stop::NotFormatted(dir.to_owned()),
        WalError::AlreadyFormatted { .. } => Stop::NotEmpty(dir.to_owned()),
        WalError::Settings { .. } => Stop::Config(error.to_string()),
        WalError::NoSpace { path, bytes_needed } => {
            Stop::NoSpace { detail: format!("{path} needs {bytes_needed} bytes") }
        }
        WalError::Corrupt { .. } | WalError::Impossible { .. } => {
            Stop::Corrupt { dir: dir.to_owned(), detail: error.to_string() }
        }
        WalError::Io { .. } | WalError::RecordTooLarge { .. } | WalError::NotHeld(_) | WalError::Failed => {
            Stop::Disk { detail: error.to_string() }
        }
    }
}
