//! A client of a cluster: finds the leader, follows it through fail-overs, and says honestly what it does not know.
//!
//! `Client::call` sends a command at most once and reports `ClientError::InDoubt` when its outcome is unknown;
//! `Client::once` runs it exactly once through a session (`ONCE`), retrying by itself.

mod connection;
mod reply;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use connection::Connection;
pub use reply::{Reply, ReplyError, ReplyReader, encode_command};

/// A command: its name and arguments.
pub type Arguments = Vec<Vec<u8>>;

/// The sequences that a session remembers; a pipeline through a session is never longer.
pub const SESSION_WINDOW: usize = 64;

/// Longest pause between attempts; the first one is an eighth of it.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// Redirections followed without a pause: two nodes that each think the other leads are asked slowly.
const REDIRECTS_MAX: u32 = 3;

/// How long a client tries.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one connection to come up.
    pub connect: Duration,
    /// For one reply; a node that is silent for longer is given up.
    pub reply: Duration,
    /// For a command, over all attempts.
    pub overall: Duration,
}

impl Default for Patience {
    /// The node parks a command for up to 1.5 s during an election, so a reply may take that long.
    fn default() -> Patience {
        Patience {
            connect: Duration::from_millis(500),
            reply: Duration::from_millis(2_500),
            overall: Duration::from_secs(15),
        }
    }
}

/// Why a command has no reply of its own.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It may have run, once; it will not be tried again.
    #[error("the outcome is unknown: {0}")]
    InDoubt(String),
    /// It did not run: nobody took it in time.
    #[error("no node took the command in time: {0}")]
    Unavailable(String),
    /// The session is gone or no longer remembers this sequence: whether it ran is unknown.
    #[error("the session no longer answers for this command: {0}")]
    SessionLost(String),
    /// The server does not speak as expected.
    #[error("unexpected reply: {0}")]
    Unexpected(String),
}

/// What an error reply says about the command's fate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is an answer like any other.
    Answered,
    /// It did not run; the node at this address may run it.
    Moved(String),
    /// It did not run; later it may.
    NotNow,
    /// It did not run, and this node knows nobody who would run it; another one may.
    NoLeader,
    /// It may run, or have run.
    InDoubt,
}

/// Tells what a reply means for the command it answers.
pub fn fate(reply: &Reply) -> Fate {
    let Reply::Error(text) = reply else { return Fate::Answered };
    let mut words = text.split(' ');
    match words.next().unwrap_or("") {
        "MOVED" => words.nth(1).map_or(Fate::NotNow, |address| Fate::Moved(address.to_string())),
        "CLUSTERDOWN" => Fate::NoLeader,
        "TRYAGAIN" | "LOADING" | "BUSY" => Fate::NotNow,
        "INDOUBT" => Fate::InDoubt,
        _ => Fate::Answered,
    }
}

/// A client of one cluster; at most one connection at a time.
#[derive(Debug)]
pub struct Client {
    addresses: Vec<String>,
    /// Which address the connection goes to, or the next one will.
    at: usize,
    connection: Option<Connection>,
    patience: Patience,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    id: String,
    sequence: u64,
}

/// The state of one command of a pipeline.
enum Slot {
    Open { in_doubt: Option<String> },
    Done(Result<Reply, ClientError>),
}

impl Client {
    /// A client of the cluster with these members, `host:port` each; it connects when it must.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Client {
        Client::with_patience(addresses, Patience::default())
    }

    /// The same with its own time-outs.
    pub fn with_patience<A: Into<String>>(addresses: impl IntoIterator<Item = A>, patience: Patience) -> Client {
        let addresses = addresses.into_iter().map(Into::into).collect();
        Client { addresses, at: 0, connection: None, patience, session: None }
    }

    /// Where the connection goes, or the next one will.
    pub fn address(&self) -> Option<&str> {
        self.addresses.get(self.at).map(String::as_str)
    }

    /// Runs a command at most once.
    ///
    /// # Errors
    /// `InDoubt` if it may have run, `Unavailable` if it did not and patience ended.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Reply, ClientError> {
        single(self.pipeline(&[owned(arguments)]))
    }

    /// Runs commands at most once each, sent together.
    ///
    /// # Errors
    /// None as a whole: each command has its own result, in order.
    pub fn pipeline(&mut self, commands: &[Arguments]) -> Vec<Result<Reply, ClientError>> {
        self.attempt(commands, false)
    }

    /// Runs a command whose repetition does no harm (a read): an unknown outcome is simply tried again.
    ///
    /// # Errors
    /// `Unavailable` or `InDoubt` when patience ended.
    pub fn read<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Reply, ClientError> {
        single(self.attempt(&[owned(arguments)], true))
    }

    /// Runs a command exactly once, whatever happens to replies and leaders on the way.
    ///
    /// # Errors
    /// `Unavailable` or `InDoubt` when patience ended, `SessionLost` if the cluster forgot the session.
    pub fn once<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Reply, ClientError> {
        single(self.once_pipeline(&[owned(arguments)]))
    }

    /// Runs commands exactly once each, sent together. A pipeline longer than the session's window is cut.
    ///
    /// # Errors
    /// None as a whole: each command has its own result, in order.
    pub fn once_pipeline(&mut self, commands: &[Arguments]) -> Vec<Result<Reply, ClientError>> {
        let mut results = Vec::with_capacity(commands.len());
        for run in commands.chunks(SESSION_WINDOW) {
            let id = match self.session_id() {
                Ok(id) => id,
                Err(error) => {
                    results.push(Err(error));
                    results.extend(run.iter().skip(1).map(|_| Err(ClientError::Unavailable("no session".into()))));
                    continue;
                }
            };
            let wrapped: Vec<Arguments> = run.iter().map(|command| self.wrap(&id, command)).collect();
            let replies = self.attempt(&wrapped, true).into_iter().map(|result| match result {
                Ok(Reply::Error(text)) if text.starts_with("SESSIONEXPIRED") || text.starts_with("STALE") => {
                    Err(ClientError::SessionLost(text))
                }
                other => other,
            });
            results.extend(replies);
            if results.iter().any(|result| matches!(result, Err(ClientError::SessionLost(_)))) {
                self.session = None;
            }
        }
        results
    }

    /// The id of this client's session, which is opened if there is none.
    ///
    /// # Errors
    /// As `read`: opening one session too many does no harm.
    pub fn session_id(&mut self) -> Result<String, ClientError> {
        if let Some(session) = &self.session {
            return Ok(session.id.clone());
        }
        let reply = self.read(&["ONCE", "NEW"])?;
        let id = match &reply {
            Reply::Integer(id) => id.to_string(),
            other => other.text().ok_or_else(|| ClientError::Unexpected(other.to_string()))?.to_string(),
        };
        self.session = Some(Session { id: id.clone(), sequence: 0 });
        Ok(id)
    }

    fn wrap(&mut self, id: &str, command: &Arguments) -> Arguments {
        let sequence = self.session.as_mut().map_or(0, |session| {
            session.sequence += 1;
            session.sequence
        });
        let head = [b"ONCE".to_vec(), id.as_bytes().to_vec(), sequence.to_string().into_bytes()];
        head.into_iter().chain(command.iter().cloned()).collect()
    }

    /// Sends what is open, sorts the replies, and goes on until nothing is open or patience ends.
    fn attempt(&mut self, commands: &[Arguments], repeatable: bool) -> Vec<Result<Reply, ClientError>> {
        let mut slots: Vec<Slot> = commands.iter().map(|_| Slot::Open { in_doubt: None }).collect();
        let deadline = Instant::now() + self.patience.overall;
        let mut pause = PAUSE_MAX / 8;
        let mut redirects = 0;
        let mut trouble = String::from("no address");
        while slots.iter().any(|slot| matches!(slot, Slot::Open { .. })) {
            if Instant::now() >= deadline {
                break;
            }
            match self.round(commands, &mut slots, repeatable) {
                Ok(Progress::Redirected) if redirects < REDIRECTS_MAX => {
                    redirects += 1;
                    continue;
                }
                Ok(Progress::Redirected) => trouble = "nodes redirect to each other".into(),
                Ok(Progress::Wait(why)) => trouble = why,
                Err(error) => {
                    trouble = error.to_string();
                    self.next_address();
                }
            }
            if slots.iter().any(|slot| matches!(slot, Slot::Open { .. })) {
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        let finish = |slot| match slot {
            Slot::Done(result) => result,
            Slot::Open { in_doubt: Some(why) } => Err(ClientError::InDoubt(why)),
            Slot::Open { in_doubt: None } => Err(ClientError::Unavailable(trouble.clone())),
        };
        slots.into_iter().map(finish).collect()
    }

    /// One attempt at every open command, over one connection.
    fn round(&mut self, commands: &[Arguments], slots: &mut [Slot], repeatable: bool) -> io::Result<Progress> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let address = self.address().ok_or_else(|| io::Error::other("no address"))?;
                Connection::open(address, self.patience.connect, self.patience.reply)?
            }
        };
        let open: Vec<usize> = (0..slots.len()).filter(|at| matches!(slots[*at], Slot::Open { .. })).collect();
        open.iter().for_each(|at| connection.queue(&commands[*at]));
        let mut lost = connection.flush().err();
        let mut moved = None;
        let mut wait = None;
        let mut leaderless = false;
        for at in open {
            let reply = match &lost {
                Some(error) => Err(error.to_string()),
                None => connection.receive().map_err(|error| {
                    let why = error.to_string();
                    lost = Some(error);
                    why
                }),
            };
            let doubt = |why: String| match repeatable {
                true => Slot::Open { in_doubt: Some(why) },
                false => Slot::Done(Err(ClientError::InDoubt(why))),
            };
            match reply {
                Err(why) => slots[at] = doubt(why),
                Ok(reply) => match fate(&reply) {
                    Fate::Answered => slots[at] = Slot::Done(Ok(reply)),
                    Fate::Moved(address) => moved = Some(address),
                    Fate::NotNow => wait = Some(reply.to_string()),
                    Fate::NoLeader => {
                        leaderless = true;
                        wait = Some(reply.to_string());
                    }
                    Fate::InDoubt => {
                        slots[at] = doubt(reply.to_string());
                        wait = Some(reply.to_string());
                    }
                },
            }
        }
        if let Some(error) = lost {
            return Err(error);
        }
        if let Some(address) = moved {
            let progress = if self.address() == Some(address.as_str()) {
                Progress::Wait(format!("{address} redirects to itself"))
            } else {
                Progress::Redirected
            };
            self.go_to(address);
            return Ok(progress);
        }
        if leaderless {
            // It may be cut off, or no member at all, and never learn of a leader.
            self.next_address();
        } else {
            self.connection = Some(connection);
        }
        Ok(Progress::Wait(wait.unwrap_or_default()))
    }

    fn go_to(&mut self, address: String) {
        self.connection = None;
        self.at = self.addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
            self.addresses.push(address);
            self.addresses.len() - 1
        });
    }

    fn next_address(&mut self) {
        self.connection = None;
        self.at = (self.at + 1) % self.addresses.len().max(1);
    }
}

enum Progress {
    /// The leader is elsewhere, and where is known: go there at once.
    Redirected,
    /// What is still open must wait, for this reason.
    Wait(String),
}

fn owned<A: AsRef<[u8]>>(arguments: &[A]) -> Arguments {
    arguments.iter().map(|argument| argument.as_ref().to_vec()).collect()
}

fn single(mut results: Vec<Result<Reply, ClientError>>) -> Result<Reply, ClientError> {
    results.pop().unwrap_or_else(|| Err(ClientError::Unexpected("no result".into())))
}

#[cfg(test)]
mod tests;
