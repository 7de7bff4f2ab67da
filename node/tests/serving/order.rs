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
