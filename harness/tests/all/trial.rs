//! What the process tests share: a cluster of their own, conditions with deadlines, and the skip.

use std::fs::{self, File};
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use harness::client::{Client, Patience, Reply};
use harness::cluster::{Cluster, Wanted};
use harness::linearizability::write_history;
use harness::load::{Check, Limit, LoadOptions};
use harness::status::{self, NodeStatus};
use harness::witness::{self, WitnessOptions};
use transport_mio::config::Layer;

/// The binary under test.
pub const PAXOS: &str = env!("CARGO_BIN_EXE_paxos");

/// For anything that should happen soon, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(30);

/// Answers that witnesses wait for before a fault, and behind it.
const ANSWERS_MIN: u64 = 400;

/// Election time-outs are real time: one cluster at a time has the machine.
static MACHINE: Mutex<()> = Mutex::new(());

/// Waits until `look` finds something.
///
/// # Panics
/// If it does not in time.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says why a test cannot run here; in CI that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {reason}");
    println!("skipped: {reason}");
}

/// Whether a program can be run.
pub fn has(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// A directory that goes when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("paxos-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A base port such that the ports of a cluster above it are free: below what the system hands out by itself.
pub fn free_base_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 50) as u16 * 400;
    for _ in 0..200 {
        let base = 10_000 + (start + NEXT.fetch_add(10, Ordering::Relaxed)) % 20_000;
        let ports = (1..=9).flat_map(|id| [base + id, base + 100 + id]);
        if ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no free ports");
}

/// A running cluster that has the machine for itself.
pub struct Trial {
    pub cluster: Cluster,
    pub scratch: Scratch,
    _machine: MutexGuard<'static, ()>,
}

/// Takes the machine, for a test that starts its processes itself.
pub fn machine() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason for this one to fail.
    MACHINE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Trial {
    /// A started cluster of so many servers with default settings.
    pub fn start(name: &str, servers: u32) -> Trial {
        Trial::start_with(name, servers, Layer::default())
    }

    /// The same with settings.
    pub fn start_with(name: &str, servers: u32, settings: Layer) -> Trial {
        let mut trial = Trial::prepare(name, servers, settings);
        trial.cluster.start_all().expect("the nodes start");
        trial
    }

    /// A cluster that is only prepared.
    pub fn prepare(name: &str, servers: u32, settings: Layer) -> Trial {
        let machine = machine();
        let scratch = Scratch::new(name);
        let wanted = Wanted {
            dir: scratch.path().join("cluster"),
            servers: Some(servers),
            base_port: Some(free_base_port()),
            settings,
        };
        let (cluster, fresh) = Cluster::prepare(Path::new(PAXOS), &wanted).expect("a fresh directory");
        assert!(fresh);
        Trial { cluster, scratch, _machine: machine }
    }

    /// A client of all nodes, patient enough for an election on a busy machine.
    pub fn client(&self) -> Client {
        let patience = Patience { overall: SOON, ..Patience::default() };
        Client::with_patience(self.cluster.addresses(), patience)
    }

    /// Asks one node what it knows about itself.
    pub fn status(&self, id: u32) -> Option<NodeStatus> {
        let node = self.cluster.nodes().iter().find(|node| node.id() == id)?;
        status::ask(node.client()).ok()
    }

    /// Waits until some node leads and serves, and says which.
    pub fn leader(&self) -> u32 {
        self.leader_other_than(&[])
    }

    /// Waits until a node other than these leads and serves.
    pub fn leader_other_than(&self, others: &[u32]) -> u32 {
        eventually("a leader", || {
            let ids = self.cluster.nodes().iter().filter(|node| node.pid().is_some()).map(|node| node.id());
            ids.filter(|id| !others.contains(id)).find(|id| self.status(*id).is_some_and(|status| status.is_leading()))
        })
    }

    /// Waits until all running nodes applied the same slots with the same digest, and says how many slots.
    pub fn converged(&self) -> i64 {
        eventually("equal digests on all nodes", || {
            let running = self.cluster.nodes().iter().filter(|node| node.pid().is_some());
            let statuses: Vec<NodeStatus> = running.map(|node| self.status(node.id())).collect::<Option<_>>()?;
            let first = statuses.first()?;
            let equal =
                statuses.iter().all(|status| (status.applied, &status.digest) == (first.applied, &first.digest));
            equal.then_some(first.applied)
        })
    }

    /// Options of a load whose writes can be looked for afterwards.
    pub fn checked_load(&self, time: Duration) -> LoadOptions {
        LoadOptions {
            addresses: self.cluster.addresses(),
            clients: 8,
            pipeline: 4,
            value_bytes: 64,
            reads_percent: 10,
            keys: 1,
            limit: Limit::Time(time),
            check: Check::Appends,
            prefix: "checked".into(),
        }
    }

    /// Runs clients that contend for a few keys before, while and after `during` happens, and has both checkers
    /// judge what they saw. The history stays with the cluster's files if it is not right.
    pub fn witnessed<T>(&mut self, addresses: Vec<String>, during: impl FnOnce(&mut Trial) -> T) -> T {
        let mut options = WitnessOptions::new(addresses, "witness".into());
        options.patience.overall = SOON;
        let (answered, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let more = || {
            let before = answered.load(Ordering::Relaxed);
            eventually("answers", || (answered.load(Ordering::Relaxed) > before + ANSWERS_MIN).then_some(()));
        };
        let (done, testimony) = std::thread::scope(|scope| {
            let witnesses = scope.spawn(|| witness::run(&options, &answered, &|| over.load(Ordering::Relaxed)));
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| {
                more();
                let done = during(self);
                more();
                done
            }));
            over.store(true, Ordering::Relaxed);
            (done, witnesses.join().expect("witnesses end"))
        });
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let testimony = testimony.expect("the cluster answers");
        let history = testimony.with_slots(&mut self.client()).expect("the log can be read");
        let (right, found, page) = witness::judge(&history);
        println!("{found}");
        if !right {
            let path = self.scratch.path().join("history.jsonl");
            write_history(&history, File::create(&path).expect("a file")).expect("it is written");
            fs::write(path.with_extension("html"), page.unwrap_or_default()).expect("it is written");
            panic!("see {}: {found}", path.display());
        }
        done
    }

    /// Waits until the process of a node ended by itself, and says with which code.
    pub fn exit_code(&mut self, id: u32) -> Option<i32> {
        let status = self.cluster.node(id).wait_until(Instant::now() + SOON).expect("it was started");
        status.code()
    }

    /// What a node wrote to its log so far.
    pub fn log_of(&self, id: u32) -> String {
        let node = self.cluster.nodes().iter().find(|node| node.id() == id).expect("a node");
        String::from_utf8_lossy(&fs::read(node.log()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.cluster.nodes() {
            let log = self.log_of(node.id());
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("--- node {} ({}):", node.id(), node.client());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The number in a reply.
pub fn integer(reply: &Reply) -> i64 {
    reply.integer().unwrap_or_else(|| panic!("not a number: {reply}"))
}
