//! A cluster of real node processes on this machine: prepared, started, stopped, killed and paused by `up` and
//! by the tests. Every process is this program again, as `paxos node --config DIR/node-<id>.toml`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use transport_mio::config::{Layer, Settings};
use transport_mio::{InitOptions, Stop, init};

/// How long a node may take to hand over, sync and exit before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Why a cluster cannot be prepared or run.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// What the node library says, with its exit code.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// What is there is not what was asked for.
    #[error("{0}")]
    Mismatch(String),
    /// The system refuses.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A node and, while it runs, its process.
#[derive(Debug)]
pub struct NodeProcess {
    id: u32,
    dir: PathBuf,
    client: String,
    peer: String,
    /// What its command line begins with.
    wrapper: Vec<String>,
    child: Option<Child>,
}

/// The nodes of one directory.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    nodes: Vec<NodeProcess>,
}

/// What kind of cluster is wanted; `None` takes what the directory has, or the default.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where everything is.
    pub dir: PathBuf,
    /// How many nodes.
    pub servers: Option<u32>,
    /// Client ports are this plus the id.
    pub base_port: Option<u16>,
    /// Settings that every node gets.
    pub settings: Layer,
}

/// Servers and base port of a new cluster unless others are asked for.
pub const SERVERS_DEFAULT: u32 = 3;
/// Client ports 7001, 7002, 7003.
pub const BASE_PORT_DEFAULT: u16 = 7000;

impl Cluster {
    /// Formats the directory if it is empty or missing, opens it otherwise, and merges the settings into the
    /// configuration of every node. `program` is the binary `paxos`. True if it was formatted.
    ///
    /// # Errors
    /// `ClusterError` if the directory holds something else than asked for, or cannot be prepared.
    pub fn prepare(program: &Path, wanted: &Wanted) -> Result<(Cluster, bool), ClusterError> {
        let found = configurations(&wanted.dir)?;
        let fresh = found.is_empty();
        if fresh {
            init::init(&InitOptions {
                servers: wanted.servers.unwrap_or(SERVERS_DEFAULT),
                dir: wanted.dir.clone(),
                base_port: wanted.base_port.unwrap_or(BASE_PORT_DEFAULT),
                settings: wanted.settings.clone(),
            })?;
        } else {
            merge(&found, &wanted.settings)?;
        }
        let cluster = Cluster::open(program, &wanted.dir)?;
        cluster.check(wanted)?;
        Ok((cluster, fresh))
    }

    /// The nodes whose configurations are in this directory.
    ///
    /// # Errors
    /// `ClusterError` if there are none, or one cannot be read.
    pub fn open(program: &Path, dir: &Path) -> Result<Cluster, ClusterError> {
        let mut nodes = Vec::new();
        for path in configurations(dir)? {
            let settings = Settings::complete(Layer::read(&path)?)?;
            nodes.push(NodeProcess {
                id: settings.id.0,
                dir: dir.to_owned(),
                client: settings.client_listen.to_string(),
                peer: settings.peer_listen.to_string(),
                wrapper: Vec::new(),
                child: None,
            });
        }
        if nodes.is_empty() {
            return Err(ClusterError::Mismatch(format!("{} holds no node-<id>.toml", dir.display())));
        }
        nodes.sort_by_key(|node| node.id);
        Ok(Cluster { program: program.to_owned(), nodes })
    }

    fn check(&self, wanted: &Wanted) -> Result<(), ClusterError> {
        if let Some(servers) = wanted.servers
            && servers as usize != self.nodes.len()
        {
            let text = format!("{} holds {} nodes, not {servers}", wanted.dir.display(), self.nodes.len());
            return Err(ClusterError::Mismatch(text));
        }
        let Some(base_port) = wanted.base_port else { return Ok(()) };
        for node in &self.nodes {
            let port = u32::from(base_port) + node.id;
            if !node.client.ends_with(&format!(":{port}")) {
                let text = format!("{} has node {} at {}, not port {port}", wanted.dir.display(), node.id, node.client);
                return Err(ClusterError::Mismatch(text));
            }
        }
        Ok(())
    }

    /// Its nodes, by rising id.
    pub fn nodes(&self) -> &[NodeProcess] {
        &self.nodes
    }

    /// Where clients reach its nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.clone()).collect()
    }

    /// The node with this id.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&mut self, id: u32) -> &mut NodeProcess {
        let found = self.nodes.iter_mut().find(|node| node.id == id);
        found.unwrap_or_else(|| panic!("no node {id}"))
    }

    /// Starts the process of a node; its output goes to `DIR/node-<id>.log`.
    ///
    /// # Errors
    /// `ClusterError::Io` if there is no process to be had.
    pub fn start(&mut self, id: u32) -> Result<(), ClusterError> {
        let program = self.program.clone();
        self.node(id).start(&program)
    }

    /// Starts every node that does not run.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_all(&mut self) -> Result<(), ClusterError> {
        let program = self.program.clone();
        self.nodes.iter_mut().filter(|node| node.child.is_none()).try_for_each(|node| node.start(&program))
    }

    /// Asks every node to stop, waits for all, and kills what does not. Those that did not exit cleanly.
    pub fn stop_all(&mut self) -> Vec<(u32, ExitStatus)> {
        for node in &self.nodes {
            node.signal(Signal::TERM);
        }
        let deadline = Instant::now() + STOP_MAX;
        let statuses: Vec<_> = self.nodes.iter_mut().map(|node| (node.id, node.wait_until(deadline))).collect();
        statuses
            .into_iter()
            .filter_map(|(id, status)| Some((id, status?)))
            .filter(|(_, status)| !status.success())
            .collect()
    }

    /// Kills every node at once.
    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(NodeProcess::kill);
    }
}

/// Whatever ends the owner ends the nodes, so that no test leaves processes behind.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl NodeProcess {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where clients reach it.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Where peers reach it.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join(format!("node-{}.toml", self.id))
    }

    /// Changes its configuration, which its process reads when it starts the next time.
    ///
    /// # Errors
    /// `ClusterError` if it cannot be read or written.
    pub fn reconfigure(&self, change: impl FnOnce(Layer) -> Layer) -> Result<(), ClusterError> {
        reconfigure(&self.config(), change)
    }

    /// Its data, where `Cluster::prepare` puts it.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(format!("node-{}", self.id))
    }

    /// What it says on standard error.
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("node-{}.log", self.id))
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join(format!("node-{}.pid", self.id))
    }

    /// The number of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The last line of its log, for messages.
    pub fn last_words(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next_back().unwrap_or("").to_string()
    }

    fn start(&mut self, program: &Path) -> Result<(), ClusterError> {
        let failed = |what: &Path, source| ClusterError::Io { what: what.display().to_string(), source };
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path).map_err(|error| failed(&path, error))?;
        let errors = log.try_clone().map_err(|error| failed(&path, error))?;
        let words = self.wrapper.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut words = words.collect::<Vec<_>>().into_iter();
        let child = Command::new(words.next().unwrap_or(program.as_os_str()))
            .args(words)
            .arg("node")
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C at the terminal is for the one who supervises, who then stops the nodes one signal each.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(program, error))?;
        let path = self.pid_file();
        let written = fs::write(&path, format!("{}\n", child.id()));
        self.child = Some(child);
        written.map_err(|error| failed(&path, error))
    }

    /// Starts its process through another program from now on, which must become the process itself, as `env` does.
    pub fn through(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
    }

    /// Sends a signal to its process, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid as i32)) {
            // The only failure is that it is gone already; `exited` will tell.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills its process as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_file(self.pid_file());
        }
    }

    /// Stops its process cleanly and waits until it is gone. `None` if it did not run.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait_until(Instant::now() + STOP_MAX)
    }

    /// How its process ended, if it did since the last call.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        let _ = fs::remove_file(self.pid_file());
        Some(status)
    }

    /// Waits for its process to end by itself, and kills it at the deadline.
    pub fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        self.child.as_ref()?;
        while Instant::now() < deadline {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        Some(ExitStatus::from_raw(Signal::KILL.as_raw()))
    }
}

/// The configurations in a directory; none if there is no directory.
fn configurations(dir: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    let failed = |source| ClusterError::Io { what: dir.display().to_string(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let id = name.strip_prefix("node-").and_then(|rest| rest.strip_suffix(".toml"));
        if id.is_some_and(|id| id.parse::<u32>().is_ok()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes settings common to all nodes into their configurations, over what these say.
fn merge(paths: &[PathBuf], settings: &Layer) -> Result<(), ClusterError> {
    if *settings == Layer::default() {
        return Ok(());
    }
    paths.iter().try_for_each(|path| reconfigure(path, |layer| settings.clone().over(layer)))
}

fn reconfigure(path: &Path, change: impl FnOnce(Layer) -> Layer) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Io { what: path.display().to_string(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    // Parsed, not read: the relative `data_dir` must stay relative.
    let layer = Layer::parse(&text).map_err(|error| Stop::Config(format!("{}: {error}", path.display())))?;
    let text = toml::to_string(&change(layer)).map_err(|error| Stop::Config(error.to_string()))?;
    fs::write(path, text).map_err(failed)
}
