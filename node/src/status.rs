//! The room for what a node says about itself: `Status`, for the driver's metrics; PAXOS, INFO and CONFIG, for
//! clients.

use std::fmt::Write as _;

use paxos_core::{Ballot, NodeId, Role, Slot};

use crate::cluster::name_of;
use crate::connection::{REDIS_VERSION, Turn, subcommand_unknown, wrong_arity};
use crate::limits::PATTERN_BYTES_MAX;
use crate::node::Node;
use crate::resp::{Writer, integer};
use crate::strings::glob_matches;

/// What became of requests since the process started. Nothing decides by them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Commands handed to the core.
    pub proposals: u64,
    /// Of these, those answered after they were applied.
    pub proposals_applied: u64,
    /// Of these, those whose outcome is unknown (INDOUBT).
    pub in_doubt: u64,
    /// Reads handed to the core.
    pub reads: u64,
    /// Requests sent on to the leader (MOVED).
    pub moved: u64,
    /// Requests given up for want of a leader (CLUSTERDOWN).
    pub cluster_down: u64,
    /// Requests refused at a limit (BUSY).
    pub busy: u64,
    /// Connections ended for bytes that are no requests.
    pub protocol_errors: u64,
    /// Peer frames dropped: malformed, or claiming another sender than their link's.
    pub frames_refused: u64,
}

/// A node at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which node.
    pub node: NodeId,
    /// What it is doing about leadership.
    pub role: Role,
    /// The leader it knows, itself included.
    pub leader: Option<NodeId>,
    /// The ballot it leads with, tries or follows.
    pub ballot: Option<Ballot>,
    /// The lowest slot that it does not know to be chosen.
    pub first_unchosen: Slot,
    /// How many slots it has applied: the number of the last one.
    pub applied: u64,
    /// Connections.
    pub clients: usize,
    /// Commands applied since the process started; no-ops are none.
    pub commands: u64,
    /// The digest of everything applied: equal on all replicas that applied as many slots.
    pub digest: u64,
    /// Sessions in the table.
    pub sessions: usize,
    /// Keys.
    pub keys: usize,
    /// Bytes of commands that wait for a leader or for room in the window.
    pub queue_bytes: usize,
    /// Peer frames dropped: malformed, or claiming another sender than their link's.
    pub frames_refused: u64,
    /// What became of requests.
    pub counters: Counters,
}

/// `PAXOS STATUS | MEMBERS | DIGEST [slot]`
pub(crate) fn paxos(node: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    let sub = args.next().unwrap_or(&[]).to_ascii_lowercase();
    let writer = &mut turn.writer();
    match (sub.as_slice(), args.next(), args.next()) {
        (b"status", None, _) => write_status(node, writer),
        (b"members", None, _) => write_members(node, writer),
        (b"digest", None, _) => {
            writer.array(2);
            writer.integer(signed(node.machine().applied()));
            writer.bulk(hex(node.machine().digest()).as_bytes());
        }
        (b"digest", Some(slot), None) => {
            let slot = integer(slot).and_then(|slot| u64::try_from(slot).ok()).and_then(Slot::new);
            match slot.and_then(|slot| Some((slot, node.digest_at(slot)?))) {
                Some((slot, digest)) => {
                    writer.array(2);
                    writer.integer(signed(slot.get()));
                    writer.bulk(hex(digest).as_bytes());
                }
                None => writer.null(),
            }
        }
        (b"status" | b"members" | b"digest", _, _) => {
            wrong_arity(writer, &format!("paxos|{}", String::from_utf8_lossy(&sub)));
        }
        (other, _, _) => subcommand_unknown(writer, other, "PAXOS"),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}

/// The role in one word, as PAXOS STATUS and INFO say it.
fn role_word(role: Role) -> &'static str {
    match role {
        Role::Following => "following",
        Role::Preparing => "preparing",
        Role::Leading { ready: false } => "catching-up",
        Role::Leading { ready: true } => "leading",
    }
}

fn write_status(node: &Node, writer: &mut Writer<'_>) {
    let status = node.status();
    let texts = [
        ("cluster", node.formatted().cluster.to_string()),
        ("role", role_word(status.role).to_owned()),
        ("ballot", status.ballot.map_or_else(String::new, |ballot| ballot.to_string())),
        ("digest", hex(status.digest)),
    ];
    let numbers = [
        ("node", u64::from(status.node.0)),
        ("leader", status.leader.map_or(0, |leader| u64::from(leader.0))),
        ("first_unchosen", status.first_unchosen.get()),
        ("applied", status.applied),
        ("clients", status.clients as u64),
        ("commands", status.commands),
        ("sessions", status.sessions as u64),
        ("keys", status.keys as u64),
        ("queue_bytes", status.queue_bytes as u64),
        ("frames_refused", status.frames_refused),
        ("proposals", status.counters.proposals),
        ("in_doubt", status.counters.in_doubt),
        ("reads", status.counters.reads),
        ("moved", status.counters.moved),
        ("cluster_down", status.counters.cluster_down),
        ("busy", status.counters.busy),
        ("protocol_errors", status.counters.protocol_errors),
    ];
    writer.map(texts.len() + numbers.len());
    for (field, text) in texts {
        writer.bulk(field.as_bytes());
        writer.bulk(text.as_bytes());
    }
    for (field, number) in numbers {
        writer.bulk(field.as_bytes());
        writer.integer(signed(number));
    }
}

fn write_members(node: &Node, writer: &mut Writer<'_>) {
    let membership = node.formatted().genesis.membership();
    writer.array(membership.members().count());
    for member in membership.members() {
        let address = node.address(member.node);
        let kind = if membership.voter(member.node).is_some() { "voter" } else { "learner" };
        writer.map(5);
        writer.bulk(b"node");
        writer.integer(i64::from(member.node.0));
        writer.bulk(b"incarnation");
        writer.bulk(hex(member.incarnation.0).as_bytes());
        writer.bulk(b"kind");
        writer.bulk(kind.as_bytes());
        writer.bulk(b"host");
        writer.bulk(address.host.as_bytes());
        writer.bulk(b"port");
        writer.integer(i64::from(address.port));
    }
}

/// `CONFIG GET parameter [parameter …]`: what benchmarks and clients ask for.
pub(crate) fn config(_: &Node, turn: &mut Turn<'_>) {
    const KNOWN: [(&str, &str); 5] =
        [("appendonly", "yes"), ("cluster-enabled", "yes"), ("databases", "1"), ("maxmemory", "0"), ("save", "")];
    let mut args = turn.args.clone();
    let sub = args.next().unwrap_or(&[]);
    let writer = &mut turn.writer();
    if !sub.eq_ignore_ascii_case(b"get") {
        return subcommand_unknown(writer, sub, "CONFIG");
    }
    if args.len() == 0 {
        return wrong_arity(writer, "config|get");
    }
    let fits = |asked: &[u8]| asked.len() <= PATTERN_BYTES_MAX;
    let asked = |name: &str| {
        args.clone().any(|asked| fits(asked) && glob_matches(&asked.to_ascii_lowercase(), name.as_bytes()))
    };
    let found = KNOWN.iter().filter(|(name, _)| asked(name));
    writer.map(found.clone().count());
    for (name, value) in found {
        writer.bulk(name.as_bytes());
        writer.bulk(value.as_bytes());
    }
}

/// `INFO [section …]`
pub(crate) fn info(node: &Node, turn: &mut Turn<'_>) {
    let asked: Vec<String> = turn.args.clone().map(|section| String::from_utf8_lossy(section).to_lowercase()).collect();
    let all =
        asked.is_empty() || asked.iter().any(|section| matches!(section.as_str(), "all" | "everything" | "default"));
    let mut text = String::new();
    for (section, lines) in sections(node) {
        if all || asked.iter().any(|asked| *asked == section.to_lowercase()) {
            let _ = write!(text, "{}# {section}\r\n{lines}", if text.is_empty() { "" } else { "\r\n" });
        }
    }
    turn.writer().text(&text);
}

fn sections(node: &Node) -> [(&'static str, String); 8] {
    let status = node.status();
    let own = node.address(status.node);
    let members = node.formatted().genesis.membership().members().count();
    let server = format!(
        "redis_version:{REDIS_VERSION}\r\nredis_mode:cluster\r\narch_bits:{}\r\nrun_id:{}\r\ntcp_port:{}\r\n\
         uptime_in_seconds:{}\r\nserver_name:paxos-node\r\npaxos_version:{}\r\n",
        usize::BITS,
        name_of(node, status.node),
        own.port,
        node.uptime_us() / 1_000_000,
        env!("CARGO_PKG_VERSION"),
    );
    let clients = format!(
        "connected_clients:{}\r\ncluster_connections:0\r\nmaxclients:{}\r\nblocked_clients:0\r\n",
        status.clients,
        node.settings().limits.clients_max
    );
    let persistence = "loading:0\r\naof_enabled:1\r\n".to_owned();
    let stats = format!("total_commands_processed:{}\r\n", status.commands);
    let mut replication = format!(
        "role:{}\r\nconnected_slaves:{}\r\nmaster_repl_offset:{}\r\n",
        if node.leads() { "master" } else { "slave" },
        if node.leads() { members - 1 } else { 0 },
        status.applied
    );
    if !node.leads() {
        let leader = status.leader.map(|leader| node.address(leader));
        let _ = write!(
            replication,
            "master_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\nslave_repl_offset:{}\r\n",
            leader.map_or("", |address| &address.host),
            leader.map_or(0, |address| address.port),
            if leader.is_some() { "up" } else { "down" },
            status.applied
        );
    }
    let cluster = "cluster_enabled:1\r\n".to_owned();
    let keyspace = match status.keys {
        0 => String::new(),
        keys => format!("db0:keys={keys},expires=0,avg_ttl=0\r\n"),
    };
    let paxos = format!(
        "node:{}\r\npaxos_role:{}\r\nleader:{}\r\nballot:{}\r\nfirst_unchosen:{}\r\napplied:{}\r\ndigest:{}\r\n\
         sessions:{}\r\nqueue_bytes:{}\r\nframes_refused:{}\r\n",
        status.node,
        role_word(status.role),
        status.leader.map_or(0, |leader| leader.0),
        status.ballot.map_or_else(String::new, |ballot| ballot.to_string()),
        status.first_unchosen,
        status.applied,
        hex(status.digest),
        status.sessions,
        status.queue_bytes,
        status.frames_refused,
    );
    [
        ("Server", server),
        ("Clients", clients),
        ("Persistence", persistence),
        ("Stats", stats),
        ("Replication", replication),
        ("Cluster", cluster),
        ("Keyspace", keyspace),
        ("Paxos", paxos),
    ]
}
