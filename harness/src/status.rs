//! `paxos status` and the live lines of `up`: what each member says about itself, side by side.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::client::Connection;
use crate::target::field;

/// For one member to answer.
const ASK: Duration = Duration::from_millis(400);

/// What one member says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeStatus {
    /// Its id.
    pub node: i64,
    /// Where it was asked.
    pub address: String,
    /// What it is doing about leadership.
    pub role: String,
    /// The leader it knows; 0: none.
    pub leader: i64,
    /// The ballot it leads with, tries or follows.
    pub ballot: String,
    /// The lowest slot that it does not know to be chosen.
    pub first_unchosen: i64,
    /// Slots applied.
    pub applied: i64,
    /// Its connections.
    pub clients: i64,
    /// Commands applied since it started.
    pub commands: i64,
    /// Keys it holds.
    pub keys: i64,
    /// Digest of everything applied.
    pub digest: String,
}

/// Asks a member.
///
/// # Errors
/// One line that says why it did not answer.
pub fn ask(address: &str) -> Result<NodeStatus, String> {
    let mut connection = Connection::open(address, ASK, ASK).map_err(|error| error.to_string())?;
    ask_over(&mut connection, address)
}

/// The same over a connection that is there already.
///
/// # Errors
/// As `ask`.
pub fn ask_over(connection: &mut Connection, address: &str) -> Result<NodeStatus, String> {
    let reply = connection.call(&["PAXOS", "STATUS"]).map_err(|error| error.to_string())?;
    let text = |name| field(&reply, name).and_then(|value| value.text()).map(str::to_string);
    let number = |name| field(&reply, name).and_then(|value| value.integer());
    let all = || {
        Some(NodeStatus {
            node: number("node")?,
            address: address.to_string(),
            role: text("role")?,
            leader: number("leader")?,
            ballot: text("ballot")?,
            first_unchosen: number("first_unchosen")?,
            applied: number("applied")?,
            clients: number("clients")?,
            commands: number("commands")?,
            keys: number("keys")?,
            digest: text("digest")?,
        })
    };
    all().ok_or_else(|| format!("unexpected answer: {reply}"))
}

impl NodeStatus {
    /// Whether it serves writes.
    pub fn is_leading(&self) -> bool {
        self.role == "leading"
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {}  {:<21}  {:<11}  ballot {:<6}  first_unchosen {:<9}  applied {:<9}  keys {:<7}  clients {:<4}",
            self.node,
            self.address,
            self.role,
            if self.ballot.is_empty() { "-" } else { &self.ballot },
            self.first_unchosen,
            self.applied,
            self.keys,
            self.clients,
        )
    }
}

/// Prints one line per member, or JSON. True if all answered.
pub fn print(addresses: &[String], json: bool) -> bool {
    let answers: Vec<(&String, Result<NodeStatus, String>)> =
        addresses.iter().map(|address| (address, ask(address))).collect();
    let all_there = answers.iter().all(|(_, answer)| answer.is_ok());
    if json {
        let shown: Vec<serde_json::Value> = answers
            .into_iter()
            .map(|(address, answer)| match answer {
                Ok(status) => serde_json::json!(status),
                Err(why) => serde_json::json!({ "address": address, "down": why }),
            })
            .collect();
        println!("{}", serde_json::Value::Array(shown));
        return all_there;
    }
    for (address, answer) in answers {
        match answer {
            Ok(status) => println!("{status}  digest {}", status.digest),
            Err(why) => println!("node ?  {address:<21}  down: {why}"),
        }
    }
    all_there
}
