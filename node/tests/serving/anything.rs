//! Whatever clients say: every request gets exactly one reply, nothing panics, and replicas stay equal.

use node::{COMMANDS, Input};
use quickcheck::{Arbitrary, Gen, quickcheck};

use crate::world::World;

/// A command of the table with arguments that often make sense.
#[derive(Clone, Debug)]
struct Said(Vec<String>);

impl Arbitrary for Said {
    fn arbitrary(g: &mut Gen) -> Said {
        const WORDS: [&str; 40] = [
            "a",
            "b",
            "k1",
            "k2",
            "1",
            "2",
            "0",
            "-1",
            "64",
            "9223372036854775807",
            "x",
            "",
            "NX",
            "XX",
            "GET",
            "IFEQ",
            "MATCH",
            "COUNT",
            "*",
            "[a-",
            "NEW",
            "SET",
            "INCR",
            "LOG.APPEND",
            "SLOTS",
            "NODES",
            "INFO",
            "LIST",
            "DOCS",
            "GETKEYS",
            "SETNAME",
            "STATUS",
            "DIGEST",
            "MEMBERS",
            "default",
            "AUTH",
            "3",
            "2",
            "on",
            "SHARDS",
        ];
        let spec = g.choose(COMMANDS).unwrap_or(&COMMANDS[0]);
        let least = usize::from(spec.arity.unsigned_abs()) - 1;
        let more = if spec.arity < 0 { usize::arbitrary(g) % 4 } else { usize::from(u8::arbitrary(g) % 16 == 0) };
        let args = (0..least + more).map(|_| g.choose(&WORDS).copied().unwrap_or("a").to_owned());
        Said(std::iter::once(spec.name.to_lowercase()).chain(args).collect())
    }
}

fn bytes(said: &[Said]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Said(words) in said {
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        words.iter().for_each(|word| bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes()));
    }
    bytes
}

quickcheck! {
    fn every_request_gets_exactly_one_reply(said: Vec<Said>, piece: usize) -> bool {
        let mut world = World::new(3, |_| {});
        let leader = world.elect();
        let client = world.connect(leader);
        for piece in bytes(&said).chunks(piece % 200 + 1) {
            world.send(client, piece);
        }
        world.run_us(500_000);
        let until_quit = said.iter().position(|said| said.0[0] == "quit").map_or(said.len(), |quit| quit + 1);
        let digests: Vec<u64> = (1..=3).map(|id| world.node(id).status().digest).collect();
        world.replies(client).len() == until_quit && digests.iter().all(|digest| *digest == digests[0])
    }

    fn any_bytes_at_any_moment_are_no_panic(said: Vec<Said>, noise: Vec<(u16, u8)>, moves: Vec<u8>) -> bool {
        let mut world = World::new(3, |settings| {
            settings.limits.open_requests_max = 3;
            settings.limits.parked_requests_max = 3;
            settings.limits.client_output_bytes_max = 200;
            settings.limits.sessions_max = 2;
        });
        let mut bytes = bytes(&said);
        for (at, byte) in noise {
            let length = bytes.len().max(1);
            if let Some(place) = bytes.get_mut(usize::from(at) % length) {
                *place = byte;
            }
        }
        let clients: Vec<_> = (1..=3).map(|id| world.connect(id)).collect();
        let mut pieces = bytes.chunks(97).cycle();
        for step in &moves {
            let id = u32::from(step / 3 % 3) + 1;
            let client = clients[id as usize - 1];
            match step % 16 {
                0 => world.input(id, Input::ClientStalled { client }),
                1 => world.input(id, Input::ClientDrained { client }),
                2 => world.run_us(u64::from(*step) * 10_000),
                3 => world.cut.extend([(1, id), (id, 1)]),
                4 => world.cut.clear(),
                5 => world.input(id, Input::PeerFrame { from: paxos_core::NodeId(id % 3 + 1), frame: bytes.clone().into() }),
                _ if bytes.is_empty() => {}
                _ => world.send(client, pieces.next().unwrap_or(b"")),
            }
        }
        world.cut.clear();
        world.run_us(3_000_000);
        clients.iter().for_each(|client| drop(world.replies(*client)));
        true
    }
}
