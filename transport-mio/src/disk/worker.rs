//! What the disk thread does in each of its turns.

use super::*;

pub(super) struct Worker<F: Files> {
    pub(super) log: Wal<F>,
    pub(super) shared: Arc<Shared>,
    pub(super) answers: Vec<Done>,
    /// Groups were written since the log was last sealed.
    pub(super) unsealed: bool,
    /// The thread that makes the next segment.
    pub(super) preparing: Option<JoinHandle<()>>,
    /// How full this segment was when the next one was begun.
    pub(super) prepare_from_permille: u64,
    /// After a failure, not before this.
    pub(super) prepare_after: Instant,
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

/// Hands the result of a preparation to the disk thread when the thread that made it ends, however it ends.
struct Handing {
    shared: Arc<Shared>,
    prepared: Option<Result<Prepared, WalError>>,
}

impl Drop for Handing {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.prepared = self.prepared.take();
        self.shared.notify(queue);
    }
}

/// What the worker found when it looked for work.
enum Work {
    /// Records are in the list; and perhaps one read.
    Turn(Option<ReadRequest>),
    /// The next segment was made, or not.
    Prepared(Result<Prepared, WalError>),
    /// Nothing came for a while.
    Idle,
    /// Nothing will come any more.
    End,
}

impl<F: Files> Worker<F> {
    pub(super) fn run(mut self) -> Result<(), WalError> {
        let _watch = Watch(Arc::clone(&self.shared));
        let result = self.work();
        if let Some(preparing) = self.preparing.take() {
            // Its panic costs nothing but the segment it would have made.
            let _ = preparing.join();
        }
        match result {
            Ok(()) => self.log.seal(),
            Err(error) => {
                self.answers.push(Done::Failed(error));
                self.shared.answer(&mut self.answers);
                Err(WalError::Failed)
            }
        }
    }

    fn work(&mut self) -> Result<(), WalError> {
        let mut persists = Vec::new();
        loop {
            match self.wait(&mut persists) {
                Work::Turn(read) => self.turn(&mut persists, read)?,
                Work::Prepared(prepared) => self.adopt(prepared),
                Work::Idle => {
                    self.log.seal()?;
                    self.unsealed = false;
                }
                Work::End => return Ok(()),
            }
        }
    }

    /// Waits for work: all records that are queued, and one read.
    fn wait(&mut self, persists: &mut Vec<(Ticket, Record)>) -> Work {
        let mut queue = lock(&self.shared.queue);
        loop {
            if let Some(prepared) = queue.prepared.take() {
                return Work::Prepared(prepared);
            }
            if !queue.is_empty() {
                persists.append(&mut queue.persists);
                return Work::Turn(queue.reads.pop_front());
            }
            if queue.stopping {
                return Work::End;
            }
            queue.waiting = true;
            let timed_out;
            (queue, timed_out) = if self.unsealed {
                let waited = self.shared.queued.wait_timeout(queue, SEAL_AFTER);
                let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                (queue, timeout.timed_out())
            } else {
                (self.shared.queued.wait(queue).unwrap_or_else(PoisonError::into_inner), false)
            };
            queue.waiting = false;
            if timed_out && queue.is_empty() && !queue.stopping {
                return Work::Idle;
            }
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
        if self.preparing.is_some() {
            // The next segment should be there when this one is nine tenths full.
            let (from, used) = (self.prepare_from_permille, self.log.used_permille());
            self.shared.pace.due(used.saturating_sub(from) * 1_000 / 900u64.saturating_sub(from).max(1));
        } else if self.log.wants_next() && Instant::now() >= self.prepare_after {
            self.prepare();
        }
        Ok(())
    }

    /// Syncs what was appended, and only then redeems its tickets.
    fn persist(&mut self, group: &mut Vec<Ticket>) -> Result<(), WalError> {
        let bytes = self.log.pending_bytes();
        let start = Instant::now();
        if !self.log.has_room() {
            self.await_prepared();
        }
        self.unsealed = true;
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

    /// Has the next segment made while this thread goes on: zeroing it takes far longer than a sync.
    fn prepare(&mut self) {
        let preparation = self.log.preparation();
        let shared = Arc::clone(&self.shared);
        self.prepare_from_permille = self.log.used_permille();
        shared.pace.due(0);
        let make = move || {
            // Whatever happens, the log hears of it: it may be waiting.
            let mut result = Handing { shared: Arc::clone(&shared), prepared: Some(Err(WalError::Failed)) };
            result.prepared = Some((shared.prepare)(preparation, &shared.pace));
        };
        match std::thread::Builder::new().name("segment".into()).spawn(make) {
            Ok(thread) => self.preparing = Some(thread),
            Err(error) => self.not_prepared(&error),
        }
    }

    /// Waits for the segment that is being made: the sync that comes now would have to make one itself.
    fn await_prepared(&mut self) {
        if self.preparing.is_none() {
            return;
        }
        self.shared.pace.due(1_000);
        let mut queue = lock(&self.shared.queue);
        let prepared = loop {
            if let Some(prepared) = queue.prepared.take() {
                break prepared;
            }
            queue.waiting = true;
            queue = self.shared.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting = false;
        };
        drop(queue);
        self.adopt(prepared);
    }

    fn adopt(&mut self, prepared: Result<Prepared, WalError>) {
        self.preparing = None;
        if let Err(error) = prepared.and_then(|prepared| self.log.adopt(prepared)) {
            self.not_prepared(&error);
        }
    }

    /// Not final: the log goes on to the end of its segment, and says so then if there is no room.
    fn not_prepared(&mut self, error: &dyn std::fmt::Display) {
        warn!(%error, "cannot make the next segment of the log ahead of its use");
        self.prepare_after = Instant::now() + PREPARE_PAUSE;
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
