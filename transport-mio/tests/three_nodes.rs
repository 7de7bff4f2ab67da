//! Three nodes in this process, on real sockets and real disks.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use support::{Client, PATIENCE, Running, Scratch, ask_cluster, eventually, ok, prepare};

/// Adds one, wherever that is possible now: whether it was done, if anybody knows.
fn increment(addresses: &[SocketAddr]) -> Option<bool> {
    for &address in addresses {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        ok(stream.set_read_timeout(Some(PATIENCE)));
        let mut reply = String::new();
        let asked = stream.write_all(b"INCR n\r\n").and_then(|()| stream.shutdown(Shutdown::Write));
        if asked.and_then(|()| stream.read_to_string(&mut reply)).is_err() || reply.is_empty() {
            return None;
        }
        match reply.as_bytes()[0] {
            b':' => return Some(true),
            _ if reply.starts_with("-INDOUBT") => return None,
            _ => {}
        }
    }
    Some(false)
}

#[test]
fn a_leader_that_stops_under_load_loses_and_repeats_nothing() {
    let scratch = Scratch::new("handover");
    let prepared = prepare(scratch.path(), 3);
    let mut nodes: Vec<Option<Running>> = prepared.iter().map(|node| Some(Running::start(node))).collect();
    let addresses: Vec<_> = nodes.iter().flatten().map(|node| node.client).collect();
    assert_eq!(ask_cluster(&addresses, "SET n 0"), "+OK");
    let (mut done, mut in_doubt) = (0, 0);
    let mut counts = |addresses: &[SocketAddr], times: usize| {
        for _ in 0..times {
            match increment(addresses) {
                Some(true) => done += 1,
                Some(false) => {}
                None => in_doubt += 1,
            }
        }
        (done, in_doubt)
    };
    for _ in 0..2 {
        counts(&addresses, 50);
        let leader = leader_of(&addresses);
        let stopping = nodes[leader].take().expect("it runs");
        let stopped = std::thread::spawn(move || stopping.stop());
        counts(&addresses, 100);
        ok(stopped.join().expect("it does not panic"));
        nodes[leader] = Some(Running::start(&prepared[leader]));
    }
    let (done, in_doubt) = counts(&addresses, 50);
    let total: u64 = ok(ask_cluster(&addresses, "GET n").parse());
    assert!((done..=done + in_doubt).contains(&total), "{total} counted, {done} done, {in_doubt} in doubt");
}

fn leader_of(addresses: &[SocketAddr]) -> usize {
    eventually("a leader", || {
        addresses.iter().position(|&address| {
            let mut client = Client::connect(address);
            ok(client.ask("ROLE")) == "*3" && ok(client.line()) == "$6" && ok(client.line()) == "master"
        })
    })
}

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
    let leader = leader_of(&addresses);
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
