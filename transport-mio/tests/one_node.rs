//! One node in this process, on real sockets and a real disk: it serves, remembers, and shrugs off nonsense.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use support::{Client, PATIENCE, Running, Scratch, ask_until, eventually, ok, prepare};
use transport_mio::config::Layer;

fn ready(node: &Running) -> Client {
    ask_until(node.client, "SET ready 1", |reply| reply == "+OK");
    Client::connect(node.client)
}

#[test]
fn it_serves_and_remembers_across_a_clean_stop() {
    let scratch = Scratch::new("one");
    let prepared = prepare(scratch.path(), 1);
    let node = Running::start(&prepared[0]);
    let mut client = ready(&node);
    assert_eq!(ok(client.ask("PING")), "+PONG");
    assert_eq!(ok(client.ask("SET a 1")), "+OK");
    assert_eq!(ok(client.ask("GET a")), "1");
    assert_eq!(ok(client.ask("INCR n")), ":1");
    ok(node.stop());

    let node = Running::start(&prepared[0]);
    let mut client = ready(&node);
    assert_eq!(ok(client.ask("GET a")), "1");
    assert_eq!(ok(client.ask("INCR n")), ":2");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let scratch = Scratch::new("pipeline");
    let node = Running::start(&prepare(scratch.path(), 1)[0]);
    let mut client = ready(&node);
    let commands: String = (0..2_000).map(|number| format!("SET k {number}\r\nGET k\r\n")).collect();
    let mut stream = ok(client.stream.try_clone());
    let writer = std::thread::spawn(move || stream.write_all(commands.as_bytes()));
    for number in 0..2_000 {
        assert_eq!(ok(client.line()), "+OK");
        let value = number.to_string();
        assert_eq!(ok(client.line()), format!("${}", value.len()));
        assert_eq!(ok(client.line()), value);
    }
    ok(ok(writer.join().map_err(|_| "the writer panicked")));
}

#[test]
fn who_stops_sending_still_gets_its_replies() {
    let scratch = Scratch::new("half-close");
    let node = Running::start(&prepare(scratch.path(), 1)[0]);
    let client = ready(&node);
    for _ in 0..20 {
        let mut stream = ok(TcpStream::connect(node.client));
        ok(stream.set_read_timeout(Some(PATIENCE)));
        ok(stream.write_all(b"SET a 1\r\nINCR a\r\nGET a\r\n"));
        ok(stream.shutdown(Shutdown::Write));
        let mut replies = String::new();
        ok(stream.read_to_string(&mut replies));
        assert_eq!(replies, "+OK\r\n:2\r\n$1\r\n2\r\n");
    }
    drop(client);
}

#[test]
fn what_is_not_redis_closes_that_connection_only() {
    let scratch = Scratch::new("garbage");
    let node = Running::start(&prepare(scratch.path(), 1)[0]);
    let mut client = ready(&node);
    let garbage: [&[u8]; 5] =
        [b"*1000000000\r\n", b"*1\r\n$99999999999\r\n", b"*1\r\n!\r\n", &[0xff; 100_000], b"GET / HTTP/1.0\r\n\r\n"];
    for bytes in garbage {
        let mut stranger = ok(TcpStream::connect(node.client));
        // The node may close, or reset, before all of it is written.
        let _ = stranger.write_all(bytes);
        let _ = stranger.shutdown(Shutdown::Write);
        ok(stranger.set_read_timeout(Some(PATIENCE)));
        let mut rest = Vec::new();
        let ended = stranger.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        assert_eq!(ok(client.ask("PING")), "+PONG");
    }
    for bytes in garbage.into_iter().chain([&b"PAXLINK1"[..], &[0, 0, 0, 0], &[16, 0, 0, 0, 1, 2, 3, 4]]) {
        let mut stranger = ok(TcpStream::connect(node.peer));
        let _ = stranger.write_all(bytes);
        let _ = stranger.shutdown(Shutdown::Write);
        ok(stranger.set_read_timeout(Some(PATIENCE)));
        let mut rest = Vec::new();
        let ended = stranger.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        assert_eq!(ok(client.ask("PING")), "+PONG");
    }
    assert!(node.is_running());
}

#[test]
fn a_hundred_silent_strangers_keep_nobody_out() {
    let scratch = Scratch::new("silent");
    let node = Running::start(&prepare(scratch.path(), 1)[0]);
    let mut client = ready(&node);
    let strangers: Vec<TcpStream> = (0..100).map(|_| ok(TcpStream::connect(node.peer))).collect();
    // More links without a hello than there is room for: the oldest are closed at once, the others in time.
    for stranger in &strangers {
        ok(stranger.set_read_timeout(Some(PATIENCE)));
        let ended = (&*stranger).read(&mut [0; 16]);
        assert!(
            matches!(ended, Ok(0)) || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    assert_eq!(ok(client.ask("PING")), "+PONG");
}

#[test]
fn a_client_too_many_is_told_so() {
    let scratch = Scratch::new("too-many");
    let layer = Layer { max_clients: Some(2), ..Layer::default() };
    let node = Running::start_with(&prepare(scratch.path(), 1)[0], layer);
    let first = ready(&node);
    let second = eventually("room for a second client", || {
        let mut client = Client::connect(node.client);
        matches!(client.ask("PING").as_deref(), Ok("+PONG")).then_some(client)
    });
    let mut third = Client::connect(node.client);
    assert!(ok(third.line()).starts_with("-ERR max number of clients"), "the third is refused");
    assert!(third.line().is_err(), "and closed");
    drop((first, second));
    ask_until(node.client, "PING", |reply| reply == "+PONG");
}

#[test]
fn who_is_idle_is_disconnected_if_that_is_wanted() {
    let scratch = Scratch::new("idle");
    let layer = Layer { client_idle_s: Some(1), ..Layer::default() };
    let node = Running::start_with(&prepare(scratch.path(), 1)[0], layer);
    let mut idle = Client::connect(node.client);
    let mut busy = ready(&node);
    eventually("the idle one is cut off", || {
        assert_eq!(ok(busy.ask("PING")), "+PONG");
        ok(idle.stream.set_nonblocking(true));
        match idle.stream.read(&mut [0; 1]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(()),
            Ok(_) => panic!("nobody asked anything"),
        }
    });
}

#[test]
fn who_does_not_read_is_disconnected_and_others_are_served() {
    let scratch = Scratch::new("slow-reader");
    let node = Running::start(&prepare(scratch.path(), 1)[0]);
    let mut client = ready(&node);
    let value = "v".repeat(60_000);
    assert_eq!(ok(client.ask(&format!("SET big {value}"))), "+OK");
    let mut slow = ok(TcpStream::connect(node.client));
    ok(slow.set_nonblocking(true));
    // Asks for far more than it reads: the node stops reading it, so that its writes stall.
    let commands = b"GET big\r\n".repeat(1_000);
    let mut written = 0;
    let start = std::time::Instant::now();
    while written < 16 << 20 && start.elapsed().as_secs() < 2 {
        match slow.write(&commands) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert_eq!(ok(client.ask("PING")), "+PONG");
    }
    assert!(written < 16 << 20, "the node must not swallow requests whose replies nobody reads");
    // What it does read then is whole.
    ok(slow.set_nonblocking(false));
    ok(slow.set_read_timeout(Some(PATIENCE)));
    let mut reply = vec![0; 60_000 + 10];
    for _ in 0..100 {
        ok(slow.read_exact(&mut reply));
        assert!(reply.starts_with(b"$60000\r\nvvv"));
    }
}
