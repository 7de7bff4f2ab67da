//! `paxos up`: a local cluster in the foreground, with a live line per node.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::cluster::{Cluster, ClusterError};
use crate::load::{self, Check, Limit, LoadOptions, LoadReport};
use crate::monitor::{Divergence, Monitor};
use crate::status::{self, NodeStatus};

/// Between looks at the nodes.
const TURN: Duration = Duration::from_millis(250);

/// Without a terminal a line per node is printed when its role changes, and at least this often.
const LINES_EVERY: Duration = Duration::from_secs(10);

/// For the last comparison, when the load is over.
const REST: Duration = Duration::from_secs(3);

/// For one node to answer; a node that is slower is shown as silent.
const ASK: Duration = Duration::from_millis(400);

/// What stops the loop.
#[derive(Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag that SIGINT, SIGTERM and SIGHUP raise.
    ///
    /// # Errors
    /// What the system says.
    pub fn on_signals() -> io::Result<StopFlag> {
        let flag = StopFlag::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag.0))?;
        }
        Ok(flag)
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the nodes until a signal comes, the last of them is gone, or replicas diverge. True if all was well.
///
/// # Errors
/// `ClusterError` if a process cannot be started.
pub fn run(mut cluster: Cluster, fresh: bool, clients: usize, stop: &StopFlag) -> Result<bool, ClusterError> {
    cluster.start_all()?;
    greet(&cluster, fresh);
    let load = (clients > 0).then(|| Load::start(cluster.addresses(), clients));
    let mut watch = Watch::new(&cluster, clients > 0);
    let mut fine = true;
    while !stop.is_raised() {
        watch.look(&mut cluster);
        if let Err(divergence) = watch.compare() {
            say(&divergence.to_string());
            fine = false;
            break;
        }
        watch.show(load.as_ref());
        if cluster.nodes().iter().all(|node| node.pid().is_none()) {
            say("no node runs any more");
            fine = false;
            break;
        }
        thread::sleep(TURN);
    }
    say("stopping …");
    if let Some(load) = load {
        fine &= load.finish();
        fine &= watch.compare_at_rest();
    }
    for (id, status) in cluster.stop_all() {
        say(&format!("node {id} did not stop cleanly: {status}"));
        fine = false;
    }
    if let Some(monitor) = &watch.monitor {
        say(&format!("monitor: {} comparisons up to slot {}, all equal: {fine}", monitor.compared, monitor.slot));
    }
    say("stopped; the data stays, and the same command starts it again");
    Ok(fine)
}

fn greet(cluster: &Cluster, fresh: bool) {
    let dir =
        cluster.nodes().first().map(|node| node.config()).and_then(|path| path.parent().map(|dir| dir.to_owned()));
    let dir = dir.unwrap_or_default();
    let count = cluster.nodes().len();
    let how = if fresh { "formatted" } else { "recovers" };
    say(&format!("{how} {count} node{} in {}", if count == 1 { "" } else { "s" }, dir.display()));
    let port = cluster.nodes().first().and_then(|node| node.client().rsplit(':').next()).unwrap_or("7001");
    say(&format!("connect:  redis-cli -c -p {port}    or    paxos cli -p {port}"));
    say("kill one: kill -9 $(cat DIR/node-<id>.pid); start it again: paxos node --config DIR/node-<id>.toml");
    say("stop all: Ctrl-C");
}

/// A pipe that nobody reads any more must not stop the cluster.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The nodes as last seen.
struct Watch {
    nodes: Vec<Watched>,
    monitor: Option<Monitor>,
    terminal: bool,
    /// Lines of the last picture, to be drawn over.
    drawn: usize,
    lines_at: Option<Instant>,
}

struct Watched {
    id: u32,
    address: String,
    connection: Option<Connection>,
    now: Result<NodeStatus, String>,
    /// Commands applied when it was last asked, and when that was.
    rate_from: Option<(i64, Instant)>,
    rate: f64,
    told: String,
    exited: bool,
}

impl Watch {
    fn new(cluster: &Cluster, monitored: bool) -> Watch {
        let watched = |node: &crate::cluster::NodeProcess| Watched {
            id: node.id(),
            address: node.client().to_string(),
            connection: None,
            now: Err("starts".into()),
            rate_from: None,
            rate: 0.0,
            told: String::new(),
            exited: false,
        };
        Watch {
            nodes: cluster.nodes().iter().map(watched).collect(),
            monitor: monitored.then(|| Monitor::new(&cluster.addresses())),
            terminal: io::stdout().is_terminal(),
            drawn: 0,
            lines_at: None,
        }
    }

    fn look(&mut self, cluster: &mut Cluster) {
        for watched in &mut self.nodes {
            watched.ask();
            let process = cluster.node(watched.id);
            if let Some(status) = process.exited() {
                watched.exited = true;
                let words = process.last_words();
                self.drawn = 0;
                say(&format!("node {} ended: {status}; its last line: {words}", watched.id));
            }
        }
    }

    /// Compares once more, now that nothing is written; false if replicas diverged. Those that do not answer in time
    /// are left out, as always.
    fn compare_at_rest(&mut self) -> bool {
        let Some(monitor) = &mut self.monitor else { return true };
        let (before, begun) = (monitor.compared, Instant::now());
        while monitor.compared == before && begun.elapsed() < REST {
            if let Err(divergence) = monitor.compare() {
                say(&divergence.to_string());
                return false;
            }
            thread::sleep(TURN / 10);
        }
        true
    }

    fn compare(&mut self) -> Result<(), Divergence> {
        self.monitor.as_mut().map_or(Ok(()), Monitor::compare)
    }

    fn show(&mut self, load: Option<&Load>) {
        let monitor = self.monitor.as_ref().map(|monitor| {
            let answered = load.map_or(0, |load| load.answered.load(Ordering::Relaxed));
            format!(
                "monitor: {} comparisons up to slot {}, all equal; load runs {answered}",
                monitor.compared, monitor.slot
            )
        });
        if self.terminal {
            let mut picture = String::new();
            if self.drawn > 0 {
                picture.push_str(&format!("\x1b[{}A", self.drawn));
            }
            let lines: Vec<String> = self.nodes.iter().map(Watched::line).chain(monitor).collect();
            for line in &lines {
                picture.push_str(&format!("\x1b[2K{line}\n"));
            }
            self.drawn = lines.len();
            let _ = io::stdout().write_all(picture.as_bytes());
            let _ = io::stdout().flush();
            return;
        }
        let all = self.lines_at.is_none_or(|at| at.elapsed() >= LINES_EVERY);
        if all {
            self.lines_at = Some(Instant::now());
        }
        for watched in &mut self.nodes {
            let news = watched.news();
            if all || news != watched.told {
                say(&watched.line());
                watched.told = news;
            }
        }
        if let Some(line) = monitor.filter(|_| all) {
            say(&line);
        }
    }
}

impl Watched {
    fn ask(&mut self) {
        let asked = match &mut self.connection {
            Some(connection) => status::ask_over(connection, &self.address),
            None => match Connection::open(&self.address, ASK, ASK) {
                Ok(connection) => status::ask_over(self.connection.insert(connection), &self.address),
                Err(error) => Err(error.to_string()),
            },
        };
        if asked.is_err() {
            self.connection = None;
        }
        if let Ok(status) = &asked {
            let now = Instant::now();
            if let Some((commands, at)) = self.rate_from {
                self.rate =
                    (status.commands - commands).max(0) as f64 / now.duration_since(at).as_secs_f64().max(0.001);
            }
            self.rate_from = Some((status.commands, now));
            self.exited = false;
        }
        self.now = asked;
    }

    fn line(&self) -> String {
        match &self.now {
            Ok(status) => format!("{status}  {:.0} commands/s", self.rate),
            Err(_) if self.exited => format!("node {}  {:<21}  down", self.id, self.address),
            Err(why) => format!("node {}  {:<21}  no answer: {why}", self.id, self.address),
        }
    }

    /// What is worth a line of its own when it changes.
    fn news(&self) -> String {
        match &self.now {
            Ok(status) => format!("{} {}", status.role, status.ballot),
            Err(_) => "down".into(),
        }
    }
}

/// Load in a thread of its own: short runs, one after the other, so that its counts can be shown.
struct Load {
    stop: StopFlag,
    answered: Arc<std::sync::atomic::AtomicU64>,
    thread: JoinHandle<LoadReport>,
}

impl Load {
    fn start(addresses: Vec<String>, clients: usize) -> Load {
        let stop = StopFlag::default();
        let answered = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (flag, count) = (stop.clone(), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let options = LoadOptions {
                addresses,
                clients,
                pipeline: 1,
                value_bytes: 100,
                reads_percent: 50,
                keys: 10_000,
                limit: Limit::Time(Duration::from_secs(2)),
                check: Check::None,
                prefix: "load".into(),
            };
            let mut total = LoadReport::default();
            while !flag.is_raised() {
                match load::run(&options, &|| flag.is_raised()) {
                    Ok((report, _)) => {
                        total.answered += report.answered;
                        total.errors += report.errors;
                        total.in_doubt += report.in_doubt;
                        total.first_error = total.first_error.or(report.first_error);
                        count.store(total.answered, Ordering::Relaxed);
                    }
                    // No leader for longer than the load's patience; the next run may find one.
                    Err(_) => thread::sleep(TURN),
                }
            }
            total
        });
        Load { stop, answered, thread }
    }

    /// Stops it and says what it did. False if anything was answered with an error.
    fn finish(self) -> bool {
        self.stop.raise();
        let Ok(total) = self.thread.join() else { return false };
        say(&format!("load: {} answered, {} errors, {} in doubt", total.answered, total.errors, total.in_doubt));
        if let Some(error) = &total.first_error {
            say(&format!("load: first error: {error}"));
        }
        total.errors == 0
    }
}
