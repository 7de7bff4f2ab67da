//! What happens at the limits: nothing grows without bound, and nobody is dropped in silence.

use node::Input;

use crate::world::World;

#[test]
fn a_full_window_makes_writes_wait_in_order() {
    let mut world = World::new(3, |settings| settings.paxos.window_slots = 4);
    let leader = world.elect();
    let (client, other) = (world.connect(leader), world.connect(leader));
    let many: String = (0..50).map(|number| format!("APPEND a {}\r\n", number % 10)).collect();
    world.send(client, &many);
    world.send(other, "INCR n\r\nGET n\r\n");
    assert!(world.node(leader).status().queue_bytes > 0);
    world.run_us(1_000_000); // followers learn what is chosen, and have room again, with heartbeats
    let lengths: Vec<String> = (1..=50).map(|length| format!(":{length}")).collect();
    assert_eq!(world.replies(client), lengths);
    assert_eq!(world.replies(other), [":1", "\"1\""]);
    assert_eq!(world.node(leader).status().queue_bytes, 0);
    assert_eq!(world.ask(client, "GETRANGE a 0 19"), "\"01234567890123456789\"");
}

#[test]
fn a_window_full_of_bytes_makes_writes_wait_too() {
    let mut world = World::new(3, |settings| {
        settings.paxos.window_bytes = 4 << 20;
        settings.paxos.run_bytes_max = 1 << 20;
    });
    let leader = world.elect();
    let client = world.connect(leader);
    let value = "v".repeat(900_000);
    for _ in 0..12 {
        world.send(client, format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n", value.len()));
    }
    world.settle();
    assert_eq!(world.replies(client), ["OK"; 12]);
    assert_eq!(world.ask(client, "STRLEN a"), ":900000");
}

#[test]
fn too_many_that_wait_are_told_so() {
    let mut world = World::new(3, |settings| settings.limits.parked_requests_max = 2);
    let client = world.connect(1);
    world.send(client, "SET a 1\r\nSET a 2\r\nSET a 3\r\n");
    world.run_us(2_000_000);
    let replies = world.replies(client);
    assert_eq!(replies.len(), 3);
    assert!(replies[2].starts_with("-BUSY"), "{replies:?}");
}

#[test]
fn a_client_with_too_many_open_requests_is_paused_until_they_are_answered() {
    let mut world = World::new(1, |settings| settings.limits.open_requests_max = 8);
    world.elect();
    let client = world.connect(1);
    world.members.get_mut(&1).expect("a node").hold = true;
    let lines = "SET a 1\r\n".repeat(10_000);
    world.send(client, &lines);
    world.settle();
    assert_eq!(world.told, ["pause 1"]);
    assert_eq!(world.node(1).replica().next_to_apply().get(), 1);
    world.members.get_mut(&1).expect("a node").hold = false;
    world.settle();
    assert_eq!(world.told, ["pause 1", "resume 1"]);
    assert_eq!(world.replies(client).len(), 10_000);
}

#[test]
fn a_client_that_does_not_read_is_answered_no_further() {
    let mut world = World::new(1, |settings| settings.limits.client_output_bytes_max = 100_000);
    world.elect();
    let client = world.connect(1);
    let value = "v".repeat(50_000);
    assert_eq!(world.ask(client, &format!("SET a {value}")), "OK");
    world.input(1, Input::ClientStalled { client });
    world.send(client, "GET a\r\n".repeat(1_000));
    world.settle();
    assert!(world.received.get(&client).is_none_or(|received| received.is_empty()));
    world.input(1, Input::ClientDrained { client });
    let mut outputs = Vec::new();
    let now = world.now;
    let node = &mut world.members.get_mut(&1).expect("a node").node;
    node.handle(now, Input::Tick, &mut outputs);
    node.handle(now, Input::Tick, &mut outputs);
    let largest = outputs.iter().map(|output| match output {
        node::Output::ToClient { bytes, .. } => bytes.len(),
        _ => 0,
    });
    assert!(largest.max().is_some_and(|bytes| bytes < 160_000), "a turn answers up to the cap and one reply");
    world.settle();
    assert!(!world.replies(client).is_empty());
    world.run_us(10_000);
}

#[test]
fn unread_bytes_beyond_the_cap_end_the_connection_with_a_reason() {
    let mut world = World::new(1, |_| {});
    world.elect();
    let client = world.connect(1);
    world.members.get_mut(&1).expect("a node").hold = true;
    for _ in 0..5 {
        world.send(client, "SET a 1\r\n".repeat(300_000));
    }
    world.members.get_mut(&1).expect("a node").hold = false;
    world.settle();
    assert_eq!(world.closed.get(&client), Some(&"input over client_input_bytes_max"));
    let replies = world.replies(client);
    assert_eq!(replies.len(), 1_025);
    assert!(replies[1_024].starts_with("-ERR Protocol error"), "{}", replies[1_024]);
}

#[test]
fn sizes_beyond_their_limits_are_refused_by_name() {
    let mut world = World::new(1, |settings| settings.limits.clients_max = 1);
    world.elect();
    let client = world.connect(1);
    let second = world.connect(1);
    assert_eq!(world.replies(second), ["-ERR max number of clients reached"]);
    assert!(world.closed.contains_key(&second));

    let key = "k".repeat(70_000);
    let send = |world: &mut World, args: &[&str]| {
        let mut bytes = format!("*{}\r\n", args.len());
        args.iter().for_each(|arg| bytes += &format!("${}\r\n{arg}\r\n", arg.len()));
        world.send(client, bytes);
        world.settle();
        world.replies(client).join(" / ")
    };
    assert_eq!(send(&mut world, &["SET", &key, "1"]), "-ERR key exceeds maximum allowed size (65536 bytes)");
    assert_eq!(send(&mut world, &["MSET", "a", "1", &key, "1"]), "-ERR key exceeds maximum allowed size (65536 bytes)");
    let value = "v".repeat(1 << 20);
    assert_eq!(send(&mut world, &["SET", "a", &value]), "OK");
    assert_eq!(send(&mut world, &["APPEND", "a", "v"]), "-ERR string exceeds maximum allowed size (1048576 bytes)");
    let keys = ["MGET"; 1].into_iter().chain(["a"; 20]).collect::<Vec<_>>();
    assert_eq!(send(&mut world, &keys), "-ERR reply exceeds maximum allowed size (16777216 bytes)");
    assert_eq!(send(&mut world, &["DEL", "a"]), ":1");
}

#[test]
fn reads_of_the_log_wait_for_each_other_beyond_their_limit() {
    let mut world = World::new(1, |_| {});
    world.elect();
    let writer = world.connect(1);
    assert_eq!(world.ask(writer, "LOG.APPEND one"), ":1");
    let clients: Vec<_> = (0..node::limits::LOG_READS_MAX * 3).map(|_| world.connect(1)).collect();
    for client in &clients {
        world.send(*client, "LOG.GET 1\r\nPI");
    }
    for client in &clients {
        world.send(*client, "NG\r\n"); // asking again does not queue again
    }
    world.settle();
    for client in &clients {
        assert_eq!(world.replies(*client), ["\"one\"", "PONG"]);
    }
}

#[test]
fn a_turn_does_a_bounded_part_of_what_connections_ask() {
    let mut world = World::new(1, |_| {});
    world.elect();
    let clients: Vec<_> = (0..100).map(|_| world.connect(1)).collect();
    for client in &clients {
        assert_eq!(world.ask(*client, "READONLY"), "OK");
    }
    for client in &clients {
        world.send(*client, "SCAN 0\r\n".repeat(5) + "PING\r\n");
    }
    world.input(1, Input::Tick);
    let answered = |world: &World| world.received.values().filter(|received| !received.is_empty()).count();
    assert!((1..50).contains(&answered(&world)), "{} connections were answered in one turn", answered(&world));
    assert!(world.node(1).deadline().is_some_and(|deadline| deadline <= world.now), "there is more to do");
    world.settle();
    for client in &clients {
        assert_eq!(world.replies(*client).len(), 6);
    }
}
