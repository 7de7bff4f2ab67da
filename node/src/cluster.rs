//! How the store looks to cluster clients: one shard with every slot, owned by the leader.

use std::fmt::Write as _;

use paxos_core::{Member, NodeId};

use crate::connection::{Turn, subcommand_unknown, wrong_arity};
use crate::digest::Digest;
use crate::node::Node;
use crate::resp::Writer;

/// How many hash slots a Redis cluster has.
const HASH_SLOTS: u16 = 16_384;

/// The hash slot of a key: CRC-16 (XMODEM) of the key, or of what its first `{…}` encloses.
pub fn hash_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|&byte| byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % HASH_SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0u16; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = (byte as u16) << 8;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc: u16, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The name of a node as cluster clients have it: 40 hexadecimal digits that do not give the cluster's id away,
/// which keeps the places of keys secret.
pub(crate) fn name_of(node: &Node, id: NodeId) -> String {
    let cluster = node.formatted().cluster.get();
    let one = Digest::EMPTY.word(cluster as u64).word((cluster >> 64) as u64);
    format!("{:016x}{:016x}{:08x}", one.number(), one.word(u64::from(id.0)).number(), id.0)
}

/// Members, the owner of the slots first.
fn owner_first(node: &Node) -> Vec<&Member> {
    let owner = node.slots_owner();
    let mut members: Vec<&Member> = node.formatted().genesis.membership().members().collect();
    members.sort_by_key(|member| member.node != owner);
    members
}

/// `CLUSTER SLOTS | SHARDS | NODES | INFO | MYID | KEYSLOT key`
pub(crate) fn cluster(node: &Node, turn: &mut Turn<'_>) {
    let mut args = turn.args.clone();
    let sub = args.next().unwrap_or(&[]).to_ascii_lowercase();
    let writer = &mut turn.writer();
    match (sub.as_slice(), args.next(), args.next()) {
        (b"slots", None, _) => slots(node, writer),
        (b"shards", None, _) => shards(node, writer),
        (b"nodes", None, _) => writer.text(&nodes(node)),
        (b"info", None, _) => writer.text(&info(node)),
        (b"myid", None, _) => writer.bulk(name_of(node, node.formatted().node).as_bytes()),
        (b"keyslot", Some(key), None) => writer.integer(i64::from(hash_slot(key))),
        (b"slots" | b"shards" | b"nodes" | b"info" | b"myid" | b"keyslot", _, _) => {
            wrong_arity(writer, &format!("cluster|{}", String::from_utf8_lossy(&sub)));
        }
        (other, _, _) => subcommand_unknown(writer, other, "CLUSTER"),
    }
}

fn slots(node: &Node, writer: &mut Writer<'_>) {
    let members = owner_first(node);
    writer.array(1);
    writer.array(2 + members.len());
    writer.integer(0);
    writer.integer(i64::from(HASH_SLOTS) - 1);
    for member in members {
        let address = node.address(member.node);
        writer.array(4);
        writer.bulk(address.host.as_bytes());
        writer.integer(i64::from(address.port));
        writer.bulk(name_of(node, member.node).as_bytes());
        writer.array(0);
    }
}

fn shards(node: &Node, writer: &mut Writer<'_>) {
    let members = owner_first(node);
    let owner = node.slots_owner();
    writer.array(1);
    writer.map(2);
    writer.bulk(b"slots");
    writer.array(2);
    writer.integer(0);
    writer.integer(i64::from(HASH_SLOTS) - 1);
    writer.bulk(b"nodes");
    writer.array(members.len());
    for member in members {
        let address = node.address(member.node);
        let role = if member.node == owner { "master" } else { "replica" };
        writer.map(7);
        let texts = [("id", name_of(node, member.node).as_str()), ("ip", &address.host), ("endpoint", &address.host)]
            .map(|(field, text)| (field, text.to_owned()));
        for (field, text) in &texts {
            writer.bulk(field.as_bytes());
            writer.bulk(text.as_bytes());
        }
        for (field, number) in [
            ("port", i64::from(address.port)),
            ("replication-offset", i64::try_from(node.machine().applied()).unwrap_or(i64::MAX)),
        ] {
            writer.bulk(field.as_bytes());
            writer.integer(number);
        }
        for (field, text) in [("role", role), ("health", "online")] {
            writer.bulk(field.as_bytes());
            writer.bulk(text.as_bytes());
        }
    }
}

fn nodes(node: &Node) -> String {
    let owner = node.slots_owner();
    let epoch = node.replica().ballot().map_or(0, |ballot| ballot.round);
    let mut text = String::new();
    for member in owner_first(node) {
        let address = node.address(member.node);
        let bus = u32::from(address.port) + 10_000;
        let myself = if member.node == node.formatted().node { "myself," } else { "" };
        let _ = write!(text, "{} {}:{}@{bus} {myself}", name_of(node, member.node), address.host, address.port);
        let _ = if member.node == owner {
            writeln!(text, "master - 0 0 {epoch} connected 0-{}", HASH_SLOTS - 1)
        } else {
            writeln!(text, "slave {} 0 0 {epoch} connected", name_of(node, owner))
        };
    }
    text
}

fn info(node: &Node) -> String {
    let state = if node.replica().leader().is_some() { "ok" } else { "fail" };
    let epoch = node.replica().ballot().map_or(0, |ballot| ballot.round);
    let known = node.formatted().genesis.membership().members().count();
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{HASH_SLOTS}\r\ncluster_slots_ok:{HASH_SLOTS}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{known}\r\ncluster_size:1\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n"
    )
}

/// `ROLE`
pub(crate) fn role(node: &Node, turn: &mut Turn<'_>) {
    let offset = i64::try_from(node.machine().applied()).unwrap_or(i64::MAX);
    let own = node.formatted().node;
    let writer = &mut turn.writer();
    if node.leads() {
        let followers: Vec<&Member> =
            node.formatted().genesis.membership().members().filter(|member| member.node != own).collect();
        writer.array(3);
        writer.bulk(b"master");
        writer.integer(offset);
        writer.array(followers.len());
        for follower in followers {
            let address = node.address(follower.node);
            writer.array(3);
            writer.bulk(address.host.as_bytes());
            writer.bulk(address.port.to_string().as_bytes());
            writer.bulk(offset.to_string().as_bytes());
        }
        return;
    }
    let leader = node.replica().leader().filter(|leader| *leader != own).map(|leader| node.address(leader));
    writer.array(5);
    writer.bulk(b"slave");
    writer.bulk(leader.map_or("", |address| &address.host).as_bytes());
    writer.integer(leader.map_or(0, |address| i64::from(address.port)));
    writer.bulk(if leader.is_some() { b"connected" } else { b"connect" });
    writer.integer(offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_slots_are_those_of_redis() {
        let cases: [(&[u8], u16); 9] = [
            (b"", 0),
            (b"123456789", 0x31c3 % HASH_SLOTS),
            (b"foo", 12_182),
            (b"bar", 5_061),
            (b"{user1000}.following", 3_443),
            (b"{user1000}.followers", 3_443),
            (b"foo{}{bar}", 8_363),
            (b"foo{{bar}}zap", 4_015),
            (b"foo{bar}{zap}", 5_061),
        ];
        for (key, slot) in cases {
            assert_eq!(hash_slot(key), slot, "{}", key.escape_ascii());
        }
    }
}
