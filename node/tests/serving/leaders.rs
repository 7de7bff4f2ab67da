//! Who answers what when leaders come, go, or are not there.

use node::Input;
use paxos_core::{NodeId, Role, Slot};

use crate::world::World;

#[test]
fn a_follower_names_the_leader_in_three_parts() {
    let mut world = World::new(3, |_| {});
    let leader = world.elect();
    let follower = if leader == 1 { 2 } else { 1 };
    let client = world.connect(follower);
    let cases = [
        ("GET foo", 12_182),
        ("SET foo 1", 12_182),
        ("MSET bar 1 foo 2", 5_061),
        ("ONCE 5 1 SET foo 1", 12_182),
        ("ONCE NEW", 0),
        ("LOG.APPEND x", 0),
        ("LOG.LEN", 0),
        ("LOG.GET 1", 0),
        ("DBSIZE", 0),
    ];
    for (line, slot) in cases {
        assert_eq!(world.ask(client, line), format!("-MOVED {slot} 127.0.0.1:{}", 7_000 + leader), "{line}");
    }
    assert_eq!(world.ask(client, "PING"), "PONG");
    assert_eq!(world.ask(client, "ROLE"), format!("[\"slave\" \"127.0.0.1\" :{} \"connected\" :0]", 7_000 + leader));
}

#[test]
fn a_readonly_connection_reads_what_its_replica_applied() {
    let mut world = World::new(3, |_| {});
    let leader = world.elect();
    let follower = if leader == 1 { 2 } else { 1 };
    let (writer, reader) = (world.connect(leader), world.connect(follower));
    assert_eq!(world.ask(reader, "READONLY"), "OK");
    assert_eq!(world.ask(reader, "GET a"), "nil");
    assert_eq!(world.ask(writer, "SET a 1"), "OK");
    world.run_us(200_000); // the follower hears of it
    assert_eq!(world.ask(reader, "GET a"), "\"1\"");
    assert_eq!(world.ask(reader, "LOG.GET 1"), "[\"SET\" \"a\" \"1\"]");
    assert_eq!(world.ask(reader, "LOG.GET 2"), "nil");
    assert!(world.ask(reader, "SET a 2").starts_with("-MOVED"));
    assert_eq!(world.ask(reader, "READWRITE"), "OK");
    assert!(world.ask(reader, "GET a").starts_with("-MOVED"));
    assert_eq!(world.ask(reader, "LOG.GET 1"), "[\"SET\" \"a\" \"1\"]", "history is on every replica");
}

#[test]
fn without_a_leader_requests_wait_and_are_then_given_up() {
    let mut world = World::new(3, |_| {});
    for peer in [2, 3] {
        world.cut.extend([(1, peer), (peer, 1)]);
    }
    world.settle();
    let client = world.connect(1);
    world.send(client, "SET a 1\r\nGET a\r\nPING\r\nLOG.GET 1\r\n");
    world.run_us(1_400_000);
    assert_eq!(world.replies(client), Vec::<String>::new());
    assert_eq!(world.node(1).status().queue_bytes, 7 + 5 + 5, "the three that need the leader");
    world.run_us(200_000);
    let down = "-CLUSTERDOWN no leader is known; the command was not proposed";
    assert_eq!(world.replies(client), [down, down, "PONG", down]);
    assert_eq!(world.node(1).status().queue_bytes, 0);
    assert_eq!(world.ask(client, "CLUSTER SLOTS").matches("127.0.0.1").count(), 3, "never empty");
}

#[test]
fn what_waits_is_served_or_redirected_once_there_is_a_leader() {
    let mut world = World::new(3, |_| {});
    let clients: Vec<_> = (1..=3).map(|id| world.connect(id)).collect();
    for client in &clients {
        world.send(*client, "SET a 1\r\nGET a\r\n");
    }
    let leader = world.elect();
    for (id, client) in (1..).zip(&clients) {
        let moved = format!("-MOVED 15495 127.0.0.1:{}", 7_000 + leader);
        let expected = if id == leader { ["OK".to_owned(), "\"1\"".to_owned()] } else { [moved.clone(), moved] };
        assert_eq!(world.replies(*client), expected, "node {id}");
    }
}

#[test]
fn what_was_proposed_by_a_leader_that_fell_is_in_doubt_and_its_reads_are_redirected() {
    let mut world = World::new(3, |_| {});
    let old = world.elect();
    let client = world.connect(old);
    assert_eq!(world.ask(client, "SET a 1"), "OK");
    for peer in (1..=3).filter(|peer| *peer != old) {
        world.cut.extend([(old, peer), (peer, old)]);
    }
    world.send(client, "SET a 2\r\nGET a\r\nSET a 3\r\n");
    world.run_us(900_000);
    let new = world.leader().expect("the others elected one");
    assert_ne!(new, old);
    let in_doubt =
        "-INDOUBT the command may or may not have been applied, now or later; with ONCE it can be sent again";
    assert_eq!(world.replies(client), [in_doubt], "the read waits for a leader and the write waits for its turn");
    world.cut.clear();
    world.run_us(1_000_000);
    let moved = format!("-MOVED 15495 127.0.0.1:{}", 7_000 + world.leader().expect("somebody leads"));
    let replies = world.replies(client);
    assert_eq!(replies, [moved.as_str(), in_doubt]);
}

#[test]
fn a_retry_with_once_at_the_next_leader_runs_once() {
    let mut world = World::new(3, |_| {});
    let old = world.elect();
    let client = world.connect(old);
    assert_eq!(world.ask(client, "ONCE NEW"), ":1");
    assert_eq!(world.ask(client, "ONCE 1 1 INCR a"), ":1");
    world.run_us(200_000);
    for peer in (1..=3).filter(|peer| *peer != old) {
        world.cut.extend([(old, peer), (peer, old)]);
    }
    world.run_us(1_000_000);
    let new = world.leader().expect("the others elected one");
    let retry = world.connect(new);
    assert_eq!(world.ask(retry, "ONCE 1 1 INCR a"), ":1");
    assert_eq!(world.ask(retry, "ONCE 1 2 INCR a"), ":2");
    assert_eq!(world.ask(retry, "GET a"), "\"2\"");
}

#[test]
fn replicas_agree_on_the_digest_of_every_slot_and_a_restart_finds_it_again() {
    let mut world = World::new(3, |_| {});
    let leader = world.elect();
    let client = world.connect(leader);
    assert_eq!(world.ask(client, "ONCE NEW"), ":1");
    for number in 0..40 {
        world.ask(client, &format!("ONCE 1 {number} APPEND key{} {number}", number % 5));
    }
    world.run_us(500_000);
    let chain = |world: &World, id| -> Vec<Option<u64>> {
        (1..=41).map(|slot| world.node(id).digest_at(Slot::new(slot).expect("not 0"))).collect()
    };
    let first = chain(&world, 1);
    assert!(first.iter().all(Option::is_some));
    assert_eq!(chain(&world, 2), first);
    assert_eq!(chain(&world, 3), first);
    assert_eq!(world.node(1).digest_at(Slot::new(42).expect("not 0")), None);
    let follower = if leader == 1 { 2 } else { 1 };
    world.restart(follower);
    world.run_us(1_000_000);
    assert_eq!(chain(&world, follower), first);
    assert_eq!(world.node(follower).status().digest, world.node(leader).status().digest);
    assert_eq!(world.node(follower).status().sessions, 1);
    let reader = world.connect(follower);
    let answer = world.ask(reader, "PAXOS DIGEST 41");
    assert_eq!(answer, format!("[:41 \"{:016x}\"]", first[40].expect("it is known")));
}

#[test]
fn leadership_is_handed_over_on_demand() {
    let mut world = World::new(3, |_| {});
    let old = world.elect();
    let to = if old == 1 { 2 } else { 1 };
    let client = world.connect(old);
    assert_eq!(world.ask(client, "SET a 1"), "OK");
    world.run_us(200_000);
    world.input(old, Input::HandOver { to: NodeId(to) });
    world.run_us(200_000);
    assert_eq!(world.leader(), Some(to));
    assert_eq!(world.ask(client, "GET a"), format!("-MOVED 15495 127.0.0.1:{}", 7_000 + to));
}

#[test]
fn a_failed_disk_answers_everybody_before_it_ends_the_node() {
    let mut world = World::new(1, |_| {});
    world.elect();
    let client = world.connect(1);
    world.members.get_mut(&1).expect("a node").hold = true;
    world.send(client, "SET a 1\r\nGET a\r\nPING\r\n");
    world.settle();
    assert_eq!(world.replies(client), Vec::<String>::new());
    world.input(1, Input::PersistFailed);
    let replies = world.replies(client);
    assert!(replies[0].starts_with("-INDOUBT"), "{replies:?}");
    // What was not proposed can be asked of another node: to clients that is no error of the command.
    let refused = |reply: &String| reply.starts_with("-CLUSTERDOWN this node takes no part any more");
    assert!(replies[1..].iter().all(refused), "{replies:?}");
    assert_eq!(replies.len(), 3);
    assert_eq!(world.told, ["fenced: the disk failed"]);
    assert_eq!(world.closed.get(&client), Some(&"fenced"));
    let late = world.connect(1);
    assert!(world.ask(late, "GET a").starts_with("-CLUSTERDOWN this node takes no part any more"));
}

#[test]
fn a_node_that_stops_answers_everybody_first() {
    let mut world = World::new(3, |_| {});
    let leader = world.elect();
    let (client, idle) = (world.connect(leader), world.connect(leader));
    world.send(client, "SET a 1\r\nGET a\r\n");
    world.input(leader, Input::Stop);
    let replies = world.replies(client);
    assert!(replies[0].starts_with("-INDOUBT") && replies[1].starts_with("-CLUSTERDOWN"), "{replies:?}");
    assert_eq!(world.closed.get(&client), Some(&"stopped"));
    assert_eq!(world.closed.get(&idle), Some(&"stopped"));
    assert_eq!(
        world.node(leader).status().role,
        Role::Leading { ready: true },
        "stopping is not its replica's business"
    );
}

#[test]
fn a_frame_that_claims_another_sender_is_dropped_and_counted() {
    let mut world = World::new(3, |_| {});
    world.elect();
    let before = world.node(1).replica().stats();
    world.input(1, Input::PeerFrame { from: NodeId(2), frame: "nonsense".into() });
    assert_eq!(world.node(1).status().frames_refused, 1);
    assert_eq!(world.node(1).replica().stats(), before, "the replica never saw it");
}
