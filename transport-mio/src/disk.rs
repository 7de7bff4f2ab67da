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
use node::wal::{Files, Preparation, Prepared, Wal, WalError};
use paxos_core::{Entries, OutOfOrder, Receipt, Record, Slot, SlotRange, Ticket};
use tracing::{error, warn};

use crate::files::Pace;
use crate::stop::Stop;

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

struct Worker<F: Files> {
    log: Wal<F>,
    shared: Arc<Shared>,
    answers: Vec<Done>,
    /// Groups were written since the log was last sealed.
    unsealed: bool,
    /// The thread that makes the next segment.
    preparing: Option<JoinHandle<()>>,
    /// How full this segment was when the next one was begun.
    prepare_from_permille: u64,
    /// After a failure, not before this.
    prepare_after: Instant,
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
    fn run(mut self) -> Result<(), WalError> {
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
mod tests {
    use std::sync::mpsc;

    use bytes::Bytes;
    use node::wal::{MemoryFiles, WalSettings};
    use paxos_core::{
        Action, ClusterId, Config, Event, Formatted, Genesis, Incarnation, Member, Membership, NodeId, QuorumSystem,
        Replica, Slot, Tag,
    };

    use super::*;

    const SETTINGS: WalSettings = WalSettings { segment_bytes: 64 << 10, align_bytes: 512 };

    /// A directory in memory that two threads may use.
    #[derive(Clone)]
    struct Shared(Arc<Mutex<MemoryFiles>>);

    impl Files for Shared {
        fn list(&mut self) -> io::Result<Vec<String>> {
            lock(&self.0).list()
        }
        fn len(&mut self, name: &str) -> io::Result<u64> {
            lock(&self.0).len(name)
        }
        fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            lock(&self.0).read_at(name, offset, buffer)
        }
        fn create(&mut self, name: &str, bytes_zeroed: u64) -> io::Result<()> {
            lock(&self.0).create(name, bytes_zeroed)
        }
        fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
            lock(&self.0).write_at(name, offset, bytes)
        }
        fn sync(&mut self, name: &str) -> io::Result<()> {
            lock(&self.0).sync(name)
        }
        fn sync_dir(&mut self) -> io::Result<()> {
            lock(&self.0).sync_dir()
        }
        fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
            lock(&self.0).rename(from, to)
        }
        fn remove(&mut self, name: &str) -> io::Result<()> {
            lock(&self.0).remove(name)
        }
    }

    /// A lone replica and the disk thread that keeps its records.
    struct Bench {
        files: Shared,
        disk: Disk,
        replica: Replica,
        woken: mpsc::Receiver<()>,
        now_us: u64,
    }

    impl Bench {
        fn new() -> Bench {
            let files = Shared(Arc::default());
            let member = Member { node: NodeId(1), incarnation: Incarnation(7), generation: 0 };
            let membership = Membership::new(vec![member], vec![], QuorumSystem::Majority).expect("one voter");
            let genesis = Genesis::new(membership, 65_536).expect("alpha is positive");
            let formatted =
                Formatted { cluster: ClusterId::new(1), node: NodeId(1), incarnation: Incarnation(7), genesis };
            Wal::format(files.clone(), SETTINGS, formatted).expect("an empty directory");
            let (mut log, mut recovered) = Wal::open(files.clone(), SETTINGS).expect("just formatted");
            let boot = recovered.next_boot(3);
            log.append(&Record::Started(boot)).and_then(|()| log.sync()).expect("a sound disk");
            recovered.started(boot).expect("the next boot");
            let (wake, woken) = mpsc::channel();
            let wake = move || {
                let _ = wake.send(());
            };
            let ahead = files.clone();
            let prepare = move |preparation: Preparation, _: &Arc<Pace>| preparation.run(&mut ahead.clone());
            let disk = Disk::start(log, wake, prepare).expect("a thread");
            let replica = Replica::new(Config::default(), recovered, paxos_core::Instant::from_us(0), 1);
            Bench { files, disk, replica: replica.expect("valid"), woken, now_us: 0 }
        }

        /// Steps the replica and queues what it wants durable.
        fn step(&mut self, event: Event) -> Vec<Action> {
            let mut actions = Vec::new();
            self.replica.handle(paxos_core::Instant::from_us(self.now_us), event, &mut actions);
            let mut persists = Vec::new();
            let mut rest = Vec::new();
            for action in actions {
                match action {
                    Action::Persist { ticket, record } => persists.push((ticket, record)),
                    other => rest.push(other),
                }
            }
            self.disk.persist(&mut persists);
            rest
        }

        /// Waits for the next answers.
        fn answers(&mut self) -> Vec<Done> {
            let mut done = Vec::new();
            while done.is_empty() {
                self.woken.recv_timeout(Duration::from_secs(20)).expect("the disk answers");
                self.disk.take_done(&mut done);
            }
            done
        }

        /// Goes on until the replica did what was asked.
        fn until(&mut self, mut is_it: impl FnMut(&Action) -> bool) {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_secs(20) {
                let mut actions = self.step(Event::Tick);
                let mut done = Vec::new();
                self.disk.take_done(&mut done);
                let idle = done.is_empty();
                for done in done {
                    let Done::Persisted(receipt) = done else { panic!("{done:?}") };
                    actions.extend(self.step(Event::Persisted(receipt)));
                }
                if actions.iter().any(&mut is_it) {
                    return;
                }
                // The replica's clock is slower than the machine's, so that a busy machine is no disk that hangs.
                if idle {
                    let _ = self.woken.recv_timeout(Duration::from_millis(2));
                    self.now_us += 1_000;
                }
            }
            panic!("the replica never did it");
        }

        fn lead(&mut self) {
            self.until(|action| {
                matches!(action, Action::RoleChanged { role: paxos_core::Role::Leading { ready: true }, .. })
            });
        }

        fn propose(&mut self, tag: u64, bytes: usize) {
            let command = Bytes::from(vec![tag as u8; bytes]);
            self.step(Event::Propose { tag: Tag(tag), command });
        }
    }

    #[test]
    fn what_was_receipted_is_there_after_power_is_lost() {
        let mut bench = Bench::new();
        bench.lead();
        for tag in 0..300 {
            bench.propose(tag, 1_000);
            bench.until(|action| matches!(action, Action::Apply { tag: Some(Tag(applied)), .. } if *applied == tag));
        }
        let applied = bench.replica.first_unchosen();
        let Bench { files, disk, .. } = bench;
        lock(&files.0).crash(|| node::wal::Fate::Dropped);
        drop(disk);
        let (_, recovered) = Wal::open(files, SETTINGS).expect("a sound log");
        let held = recovered.first_unchosen().get() + recovered.held_slots() as u64;
        assert!(held >= applied.get(), "{held} of {applied} slots");
    }

    #[test]
    fn a_failed_sync_redeems_nothing_and_is_final() {
        let mut bench = Bench::new();
        bench.lead();
        // The write succeeds, the sync behind it fails.
        lock(&bench.files.0).fail_after(1);
        bench.propose(1, 100);
        bench.step(Event::Tick);
        let answers = bench.answers();
        assert!(matches!(answers[..], [Done::Failed(_)]), "{answers:?}");
        let Bench { disk, .. } = bench;
        assert!(matches!(disk.stop(), Err(WalError::Failed)));
    }

    #[test]
    fn chosen_entries_are_read_back() {
        let mut bench = Bench::new();
        bench.lead();
        bench.propose(9, 100);
        let mut slot = Slot::FIRST;
        bench.until(|action| match action {
            Action::Apply { first: applied, tag: Some(_), .. } => {
                slot = *applied;
                true
            }
            _ => false,
        });
        let slots = SlotRange { first: slot, end: slot.next() };
        bench.disk.read(ReadRequest { id: LogReadId(5), slots, bytes_max: 1 << 20 });
        let entries = loop {
            let found = bench.answers().into_iter().find_map(|done| match done {
                Done::Read { id: LogReadId(5), first, entries } if first == slot => Some(entries),
                _ => None,
            });
            if let Some(entries) = found {
                break entries;
            }
        };
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].payload_bytes(), 100);
    }

    #[test]
    fn a_stop_makes_durable_what_was_queued() {
        let mut bench = Bench::new();
        bench.lead();
        bench.propose(1, 200);
        bench.step(Event::Tick);
        let Bench { files, disk, .. } = bench;
        disk.stop().expect("a sound disk");
        lock(&files.0).crash(|| node::wal::Fate::Dropped);
        let (_, recovered) = Wal::open(files, SETTINGS).expect("a sound log");
        assert!(recovered.held_slots() > 0);
    }
}
