//! Three nodes in this process, on real sockets and real disks.

mod support;

use support::{Client, Running, Scratch, ask_cluster, eventually, ok, prepare};

#[test]
fn what_one_took_all_have_and_a_leader_that_stops_is_followed_by_another() {
    let scratch = Scratch::new("three");
    let prepared = prepare(scratch.path(), 3);
    let mut nodes: Vec<Option<Running>> = prepared.iter().map(|node| Some(Running::start(node))).collect();
    let addresses: Vec<_> = nodes.iter().flatten().map(|node| node.client).collect();
    for number in 0..20 {
        assert_eq!(ask_cluster(&addresses, &format!("SET key:{number} {number}")), "+OK");
    }

    // The leader says so; stop it cleanly, and another one serves at once.
    let leader = eventually("a leader", || {
        addresses.iter().position(|&address| {
            let mut client = Client::connect(address);
            ok(client.ask("ROLE")) == "*3" && ok(client.line()) == "$6" && ok(client.line()) == "master"
        })
    });
    ok(nodes[leader].take().expect("it runs").stop());
    let others: Vec<_> = nodes.iter().flatten().map(|node| node.client).collect();
    assert_eq!(ask_cluster(&others, "GET key:7"), "7");
    for number in 20..40 {
        assert_eq!(ask_cluster(&others, &format!("SET key:{number} {number}")), "+OK");
    }

    // Back again, it learns what it missed.
    nodes[leader] = Some(Running::start(&prepared[leader]));
    eventually("catching up", || {
        let mut client = Client::connect(addresses[leader]);
        assert_eq!(ok(client.ask("READONLY")), "+OK");
        (ok(client.ask("DBSIZE")) == ":40").then_some(())
    });
    for node in nodes.into_iter().flatten() {
        ok(node.stop());
    }
}
