//! The disk thread over files in memory that lose power.

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
        let formatted = Formatted { cluster: ClusterId::new(1), node: NodeId(1), incarnation: Incarnation(7), genesis };
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
