//! The order of replies on one connection, and what its reads may see.

use crate::world::World;

/// One client sends all lines at once and hears the answers in order.
fn check(lines: &[&str], expected: &[&str]) {
    for piece in [1, 7, usize::MAX] {
        let mut world = World::new(3, |_| {});
        let leader = world.elect();
        let client = world.connect(leader);
        let bytes: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        for piece in bytes.as_bytes().chunks(piece) {
            world.send(client, piece);
        }
        world.settle();
        assert_eq!(world.replies(client), expected, "{lines:?}");
    }
}

#[test]
fn a_read_sees_the_writes_before_it_and_not_the_writes_behind_it() {
    check(
        &["GET a", "SET a 1", "GET a", "INCR a", "GET a", "MGET a b", "SET b 1", "GETDEL a", "EXISTS a b"],
        &["nil", "OK", "\"1\"", ":2", "\"2\"", "[\"2\" nil]", "OK", "\"2\"", ":1"],
    );
}

#[test]
fn replies_keep_the_order_of_requests_whatever_answers_them() {
    check(
        &["SET a 1", "PING", "GET a", "NOSUCH", "LOG.GET 1", "ECHO x", "INCR a", "LOG.GET 2", "GET", "GET a"],
        &[
            "OK",
            "PONG",
            "\"1\"",
            "-ERR unknown command 'NOSUCH', with args beginning with: ",
            "[\"SET\" \"a\" \"1\"]",
            "\"x\"",
            ":2",
            "[\"INCR\" \"a\"]",
            "-ERR wrong number of arguments for 'get' command",
            "\"2\"",
        ],
    );
}

#[test]
fn a_command_that_changes_the_connection_holds_for_what_is_behind_it_only() {
    check(
        &["GET a", "HELLO 3 SETNAME x", "GET a", "SET a 1", "RESET", "GET a", "CLIENT GETNAME", "QUIT", "PING"],
        &[
            "nil",
            "{\"server\": \"redis\", \"version\": \"7.2.4\", \"proto\": :3, \"id\": :1, \"mode\": \"cluster\", \
             \"role\": \"master\", \"modules\": []}",
            "nil",
            "OK",
            "RESET",
            "\"1\"",
            "nil",
            "OK",
        ],
    );
}

#[test]
fn nonsense_is_answered_in_its_turn_and_ends_the_connection() {
    let mut world = World::new(3, |_| {});
    let leader = world.elect();
    let client = world.connect(leader);
    world.send(client, "SET a 1\r\nGET a\r\n*x\r\nSET a 2\r\n");
    world.settle();
    let expected = ["OK", "\"1\"", "-ERR Protocol error: invalid multibulk length"];
    assert_eq!(world.replies(client), expected);
    assert_eq!(world.closed.get(&client), Some(&"protocol error"));
    let other = world.connect(leader);
    assert_eq!(world.ask(other, "GET a"), "\"1\"", "what was behind nonsense never ran");
}

#[test]
fn quit_answers_before_it_closes() {
    let mut world = World::new(1, |_| {});
    world.elect();
    let client = world.connect(1);
    assert_eq!(world.ask(client, "QUIT"), "OK");
    assert_eq!(world.closed.get(&client), Some(&"quit"));
    assert_eq!(world.node(1).status().clients, 0);
}

#[test]
fn what_a_turn_answers_a_client_leaves_in_one_piece_with_the_tick() {
    use node::{Input, Output};
    let mut world = World::new(1, |_| {});
    world.elect();
    let client = world.connect(1);
    let now = world.now;
    let node = &mut world.members.get_mut(&1).expect("a node").node;
    let mut outputs = Vec::new();
    for _ in 0..3 {
        node.handle(now, Input::ClientBytes { client, bytes: "PING\r\nPING\r\n".into() }, &mut outputs);
    }
    assert!(outputs.is_empty(), "{outputs:?}");
    assert!(node.deadline().is_some_and(|deadline| deadline <= now), "replies wait");
    node.handle(now, Input::Tick, &mut outputs);
    let sent: Vec<usize> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::ToClient { bytes, .. } => Some(bytes.len()),
            Output::CloseClient { .. }
            | Output::PauseClient { .. }
            | Output::ResumeClient { .. }
            | Output::ToPeers { .. }
            | Output::Persist { .. }
            | Output::ReadLog { .. }
            | Output::RoleChanged { .. }
            | Output::Fenced { .. } => None,
        })
        .collect();
    assert_eq!(sent, [6 * "+PONG\r\n".len()]);
    assert!(node.deadline().is_none_or(|deadline| deadline > now), "nothing waits");
}

/// What one Redis would answer to one connection, said as simply as possible. A slot is counted per write.
#[derive(Default)]
struct Twin {
    keys: std::collections::BTreeMap<u8, i64>,
    log: Vec<String>,
}

/// One step of a client: what it says and what one Redis answers.
fn said(twin: &mut Twin, pick: u8, key: u8) -> (String, String) {
    let value = |twin: &Twin| twin.keys.get(&key).map_or("nil".to_owned(), |value| format!("\"{value}\""));
    let logged = |twin: &mut Twin, line: &str| {
        let words: Vec<String> = line.split(' ').map(|word| format!("\"{word}\"")).collect();
        twin.log.push(format!("[{}]", words.join(" ")));
    };
    match pick % 8 {
        0 | 1 => (format!("GET k{key}"), value(twin)),
        2 => {
            let line = format!("SET k{key} {pick}");
            logged(twin, &line);
            twin.keys.insert(key, i64::from(pick));
            (line, "OK".to_owned())
        }
        3 => {
            let line = format!("INCR k{key}");
            logged(twin, &line);
            let number = twin.keys.entry(key).or_insert(0);
            *number += 1;
            (line, format!(":{number}"))
        }
        4 => {
            let line = format!("GETDEL k{key}");
            logged(twin, &line);
            let answer = value(twin);
            twin.keys.remove(&key);
            (line, answer)
        }
        5 => (format!("ECHO {pick}"), format!("\"{pick}\"")),
        6 => ("LOG.LEN".to_owned(), format!(":{}", twin.log.len())),
        _ => {
            let slot = usize::from(pick) % 20 + 1;
            (format!("LOG.GET {slot}"), twin.log.get(slot - 1).cloned().unwrap_or("nil".to_owned()))
        }
    }
}

quickcheck::quickcheck! {
    /// However the bytes are cut and whatever waits for quorums, disks and the window, one connection sees
    /// exactly what one Redis would show it.
    fn one_connection_sees_one_redis(steps: Vec<(u8, u8)>, piece: usize, window: u8, turns: Vec<u8>) -> bool {
        let mut world = World::new(3, |settings| {
            settings.paxos.window_slots = u32::from(window) % 30 + 8;
            settings.limits.open_requests_max = usize::from(window) % 40 + 2;
        });
        let leader = world.elect();
        let client = world.connect(leader);
        let mut twin = Twin::default();
        let (lines, expected): (Vec<String>, Vec<String>) =
            steps.iter().map(|(pick, key)| said(&mut twin, *pick, key % 3)).unzip();
        let bytes: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut turns = turns.iter().cycle();
        for piece in bytes.as_bytes().chunks(piece % 60 + 1) {
            world.send(client, piece);
            match turns.next().map_or(0, |turn| turn % 4) {
                0 => world.settle(),
                1 => world.input(leader, node::Input::Tick),
                _ => {}
            }
        }
        world.run_us(3_000_000);
        world.replies(client) == expected
    }
}
