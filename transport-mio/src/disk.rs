//! The thread that owns the log: appends everything that queued, syncs once, answers through a waker.
//!
//! Durability before testimony, literally: a ticket is redeemed only in `Worker::persist`, behind the `?` of a
//! sync that returned. After a failure the thread answers `Failed` once and ends; no sync is tried again,
//! since nobody can say what the first one left (rule 6; "fsyncgate").

mod worker;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node::LogReadId;
use node::wal::{Files, Preparation, Prepared, Wal, WalError};
use paxos_core::{Entries, OutOfOrder, Receipt, Record, Slot, SlotRange, Ticket};
use tracing::{error, warn};

use crate::files::Pace;
use crate::stop::Stop;
use worker::Worker;

/// One sync covers at most about this much, so that receipts of a large backlog come in steps.
const GROUP_BYTES_MAX: usize = 2 << 20;

/// A sync that takes longer is worth a line.
const SLOW_SYNC: Duration = Duration::from_millis(100);

/// Without work for this long the last group is sealed, so that rot in it is told from a torn write.
const SEAL_AFTER: Duration = Duration::from_millis(20);

/// Pause after the next segment could not be made ahead of its use.
const PREPARE_PAUSE: Duration = Duration::from_secs(5);

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

/// What the thread has to do.
#[derive(Debug, Default)]
struct Queue {
    persists: Vec<(Ticket, Record)>,
    reads: VecDeque<ReadRequest>,
    /// The next segment, from the thread that made it.
    prepared: Option<Result<Prepared, WalError>>,
    stopping: bool,
    /// The thread sleeps: whoever queues must wake it.
    waiting: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.persists.is_empty() && self.reads.is_empty() && self.prepared.is_none()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    queued: Condvar,
    done: Mutex<Vec<Done>>,
    wake: Box<dyn Fn() + Send + Sync>,
    prepare: Box<Prepare>,
    /// Of the segment that is being made.
    pace: Arc<Pace>,
}

/// Makes a segment ahead of its use, at this pace.
type Prepare = dyn Fn(Preparation, &Arc<Pace>) -> Result<Prepared, WalError> + Send + Sync;

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

    fn notify(&self, mut queue: MutexGuard<'_, Queue>) {
        let waiting = std::mem::replace(&mut queue.waiting, false);
        drop(queue);
        if waiting {
            self.queued.notify_one();
        }
    }
}

/// The handle of the event loop on the disk thread.
pub(crate) struct Disk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), WalError>>>,
}

impl Disk {
    /// Starts the thread on this log. `wake` is called when answers wait and none waited before; `prepare` makes
    /// segments ahead of their use, on a thread of its own.
    pub(crate) fn start<F: Files + Send + 'static>(
        log: Wal<F>,
        wake: impl Fn() + Send + Sync + 'static,
        prepare: impl Fn(Preparation, &Arc<Pace>) -> Result<Prepared, WalError> + Send + Sync + 'static,
    ) -> io::Result<Disk> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queued: Condvar::new(),
            done: Mutex::default(),
            wake: Box::new(wake),
            prepare: Box::new(prepare),
            pace: Arc::default(),
        });
        let worker = Worker {
            log,
            shared: Arc::clone(&shared),
            answers: Vec::new(),
            unsealed: true,
            preparing: None,
            prepare_from_permille: 0,
            prepare_after: Instant::now(),
        };
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
        self.shared.notify(queue);
    }

    /// Queues a read.
    pub(crate) fn read(&self, request: ReadRequest) {
        let mut queue = lock(&self.shared.queue);
        queue.reads.push_back(request);
        self.shared.notify(queue);
    }

    /// Appends the answers that came since the last call.
    pub(crate) fn take_done(&self, answers: &mut Vec<Done>) {
        answers.append(&mut lock(&self.shared.done));
    }

    /// Makes everything queued durable, seals the log and ends the thread.
    pub(crate) fn stop(mut self) -> Result<(), WalError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), WalError> {
        self.shared.pace.abandon();
        let mut queue = lock(&self.shared.queue);
        queue.stopping = true;
        self.shared.notify(queue);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // A panic of the thread was reported by its watch already.
            Some(Err(_)) => Err(WalError::Failed),
            None => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `stop`.
        let _ = self.end();
    }
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

#[cfg(test)]
mod tests;
