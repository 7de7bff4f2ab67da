//! A proxy before an echo: what passes, when, and what does not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Flow, Lateness, Proxy, Way};

const SOON: Duration = Duration::from_secs(20);
/// Long enough for anything that is going to pass to have passed.
const A_WHILE: Duration = Duration::from_millis(150);

/// A server that says everything again, on every connection.
fn echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut from, mut to) = (stream.try_clone().expect("a socket"), stream);
                // It ends with its client, in whatever way.
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    Proxy::before(address).expect("a port")
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

fn say(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).expect("it takes them");
}

fn hear(stream: &mut TcpStream, words: &[u8]) {
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).expect("an echo");
    assert_eq!(heard, words);
}

fn hears_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(A_WHILE)).expect("a socket");
    let heard = stream.read(&mut [0; 16]);
    let silent = |kind| matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    assert!(heard.as_ref().is_err_and(|error| silent(error.kind())), "{heard:?}");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
}

#[test]
fn what_is_held_arrives_later_and_in_order() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    say(&mut stream, b"one");
    hear(&mut stream, b"one");
    for way in Way::ALL {
        proxy.set_flow(way, Flow::Held);
        say(&mut stream, b"two");
        say(&mut stream, b"three");
        hears_nothing(&mut stream);
        proxy.set_flow(way, Flow::Open);
        hear(&mut stream, b"twothree");
    }
    assert_eq!((proxy.passed(Way::There), proxy.passed(Way::Back)), (19, 19));
}

#[test]
fn a_one_way_cut_lets_the_other_way_pass() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    say(&mut stream, b"one");
    hear(&mut stream, b"one");
    proxy.set_flow(Way::Back, Flow::Lost);
    say(&mut stream, b"two");
    hears_nothing(&mut stream);
    assert_eq!((proxy.passed(Way::There), proxy.passed(Way::Back)), (6, 3));
    // Its answer was lost, so the stream can never be whole again: a reset, and a new connection works.
    proxy.set_flow(Way::Back, Flow::Open);
    assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)), "the stream goes on with a gap");
    let mut stream = connect(&proxy);
    say(&mut stream, b"three");
    hear(&mut stream, b"three");
}

#[test]
fn a_cut_connection_that_lost_nothing_goes_on() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    say(&mut stream, b"one");
    hear(&mut stream, b"one");
    Way::ALL.iter().for_each(|way| proxy.set_flow(*way, Flow::Lost));
    Way::ALL.iter().for_each(|way| proxy.set_flow(*way, Flow::Open));
    say(&mut stream, b"two");
    hear(&mut stream, b"two");
}

#[test]
fn nobody_connects_over_a_cut_link_and_nobody_hears_of_an_end() {
    let proxy = echo();
    let mut before = connect(&proxy);
    say(&mut before, b"one");
    hear(&mut before, b"one");
    proxy.set_flow(Way::There, Flow::Held);
    let mut during = connect(&proxy);
    say(&mut during, b"two");
    hears_nothing(&mut during);
    before.shutdown(std::net::Shutdown::Write).expect("a socket");
    hears_nothing(&mut before);
    proxy.set_flow(Way::There, Flow::Open);
    hear(&mut during, b"two");
    assert_eq!(before.read(&mut [0; 16]).expect("an end"), 0, "the echo ends with what it echoes");
}

#[test]
fn pieces_are_late_and_in_order() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    let delay = Duration::from_millis(30);
    proxy.set_lateness(Way::There, Lateness { delay, ..Lateness::default() });
    let begun = Instant::now();
    say(&mut stream, b"one");
    hear(&mut stream, b"one");
    assert!(begun.elapsed() >= delay);
    let resend = Duration::from_millis(100);
    proxy.set_lateness(Way::There, Lateness { lost_permille: 1_000, resend, ..Lateness::default() });
    let begun = Instant::now();
    say(&mut stream, b"two");
    hear(&mut stream, b"two");
    assert!(begun.elapsed() >= resend);
    // Every second piece is lost, and each is later than others by chance: they arrive in order.
    let jitter = Duration::from_millis(5);
    proxy.set_lateness(Way::There, Lateness { jitter, lost_permille: 500, resend: jitter, ..Lateness::default() });
    let words: Vec<u8> = (0..100).collect();
    words.iter().for_each(|word| say(&mut stream, &[*word]));
    hear(&mut stream, &words);
}

#[test]
fn a_reset_ends_connections_and_a_gone_target_is_noticed() {
    let proxy = echo();
    let mut stream = connect(&proxy);
    say(&mut stream, b"one");
    hear(&mut stream, b"one");
    proxy.reset();
    assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)));
    let mut stream = connect(&proxy);
    say(&mut stream, b"two");
    hear(&mut stream, b"two");

    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it was bound");
    let proxy = Proxy::before(nobody).expect("a port");
    assert!(matches!(connect(&proxy).read(&mut [0; 16]), Ok(0) | Err(_)));
}
