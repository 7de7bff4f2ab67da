//! Which cluster a command talks to, as said on the command line, and how to find all of its members.

use std::time::Duration;

use clap::Args;

use crate::client::{Connection, Reply};

/// For one member to say who the members are.
const ASK: Duration = Duration::from_millis(500);

/// Where the cluster is.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// Host of the one member to begin with.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Client port of the one member to begin with; the others are found through it.
    #[arg(short, long)]
    pub port: Option<u16>,
    /// Members, host:port each, with commas between [default: ports 7001, 7002 and 7003 of this machine]
    #[arg(long, value_delimiter = ',', conflicts_with = "port")]
    pub addresses: Vec<String>,
}

impl Target {
    /// The members named on the command line.
    pub fn named(&self) -> Vec<String> {
        match self.port {
            Some(port) => vec![format!("{}:{port}", self.host)],
            None if self.addresses.is_empty() => (7001..=7003).map(|port| format!("{}:{port}", self.host)).collect(),
            None => self.addresses.clone(),
        }
    }

    /// All members, as the first one that answers names them; those of the command line if none does.
    pub fn members(&self) -> Vec<String> {
        let named = self.named();
        for address in &named {
            let members = ask_members(address);
            if !members.is_empty() {
                // The one that answered comes first: it is known to be there.
                let others = members.into_iter().filter(|member| member != address);
                return std::iter::once(address.clone()).chain(others).collect();
            }
        }
        named
    }
}

fn ask_members(address: &str) -> Vec<String> {
    let Ok(mut connection) = Connection::open(address, ASK, ASK) else { return Vec::new() };
    let Ok(reply) = connection.call(&["PAXOS", "MEMBERS"]) else { return Vec::new() };
    let members = reply.array().unwrap_or(&[]);
    let address_of =
        |member: &Reply| Some(format!("{}:{}", field(member, "host")?.text()?, field(member, "port")?.integer()?));
    members.iter().filter_map(address_of).collect()
}

/// A field of a map, which RESP2 writes as an array of names and values in turn.
pub fn field<'a>(map: &'a Reply, name: &str) -> Option<&'a Reply> {
    match map {
        Reply::Map(pairs) => pairs.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value),
        Reply::Array(items) => items.chunks_exact(2).find(|pair| pair[0].text() == Some(name)).map(|pair| &pair[1]),
        _ => None,
    }
}
