//! The peer port of one node, met by strangers who know the wire: who gets in, who is told why not.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use node::wal::{Inspect, Item};
use paxos_core::limits::FRAME_BYTES_MAX;
use paxos_core::{Boot, ClusterId, Formatted, Incarnation, NodeId, Record};
use support::{PATIENCE, Running, Scratch, eventually, ok, prepare};
use transport_mio::config::{Layer, PeerSetting};
use transport_mio::files::Directory;
use transport_mio::frame;
use transport_mio::hello::{Greeting, Hello, Identity, Refusal, decode, encode, genesis_digest};

/// Whose disk this is.
fn formatted(dir: &Path) -> Formatted {
    let inspect = ok(Inspect::new(ok(Directory::open_to_read(dir))));
    let formatted = inspect.filter_map(|inspected| match inspected.item {
        Ok(Item::Record(Record::Formatted(formatted))) => Some(formatted),
        _ => None,
    });
    formatted.last().expect("a formatted directory")
}

/// The identity of this disk at this start.
fn identity(dir: &Path, boot: Boot) -> Identity {
    let formatted = formatted(dir);
    Identity {
        cluster: formatted.cluster,
        node: formatted.node,
        incarnation: formatted.incarnation,
        boot,
        members: formatted.genesis.membership().members().copied().collect(),
        genesis: genesis_digest(&formatted.genesis),
    }
}

fn send(stream: &mut TcpStream, payload: &[u8]) {
    ok(stream.write_all(&[&frame::head(payload)[..], payload].concat()));
}

/// The next frame, or `None` at the end.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; frame::FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).ok()?;
    let bytes = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let mut payload = vec![0; bytes];
    stream.read_exact(&mut payload).ok()?;
    assert_eq!(frame::head(&payload), head);
    Some(payload)
}

fn call(address: SocketAddr, hello: Hello) -> (TcpStream, Greeting) {
    let mut stream = ok(TcpStream::connect(address));
    ok(stream.set_read_timeout(Some(PATIENCE)));
    send(&mut stream, &encode(&Greeting::Hello(hello)));
    let answer = receive(&mut stream).expect("an answer");
    (stream, decode(&answer).expect("a greeting"))
}

const BOOT: Boot = Boot { counter: 3, nonce: 33 };

#[test]
fn members_get_in_and_everybody_else_is_told_why_not() {
    let scratch = Scratch::new("peer-port");
    let nodes = prepare(scratch.path(), 3);
    let node = Running::start(&nodes[1]);
    let good = identity(&nodes[2].data_dir, BOOT).hello(NodeId(2));

    let (mut link, answer) = call(node.peer, good);
    let Greeting::Hello(answer) = answer else { panic!("{answer:?}") };
    assert_eq!((answer.from, answer.to), (NodeId(2), NodeId(3)));
    let frame = receive(&mut link).expect("a node says something to its peers");
    assert!(paxos_core::wire::decode(&frame.into()).is_ok());

    let refused = [
        (Hello { cluster: ClusterId::new(1), ..good }, Refusal::Cluster { found: ClusterId::new(1) }),
        (Hello { from: NodeId(9), ..good }, Refusal::Stranger(NodeId(9))),
        (Hello { from: NodeId(2), ..good }, Refusal::Myself(NodeId(2))),
        (identity(&nodes[0].data_dir, BOOT).hello(NodeId(2)), Refusal::WrongWay(NodeId(1))),
        (
            Hello { incarnation: Incarnation(1), ..good },
            Refusal::Incarnation { node: NodeId(3), found: 1, member: good.incarnation.0 },
        ),
        (Hello { wire_min: 77, wire_max: 78, ..good }, Refusal::Version { min: 77, max: 78 }),
        (
            Hello { boot: Boot { counter: 2, nonce: 1 }, ..good },
            Refusal::OldBoot { node: NodeId(3), found: 2, newest: 3 },
        ),
        (Hello { boot: Boot { counter: 3, nonce: 1 }, ..good }, Refusal::Duplicate { node: NodeId(3), boot: 3 }),
    ];
    for (hello, reason) in refused {
        let (mut stranger, answer) = call(node.peer, hello);
        assert_eq!(answer, Greeting::Refused(reason));
        assert!(receive(&mut stranger).is_none(), "a refused link ends");
    }

    // The good link is still the link.
    assert!(receive(&mut link).is_some());
    // A newer one of the same process takes its place.
    let (mut newer, answer) = call(node.peer, good);
    assert!(matches!(answer, Greeting::Hello(_)));
    assert!(receive(&mut newer).is_some());
    eventually("the older link ends", || receive(&mut link).is_none().then_some(()));
}

#[test]
fn nonsense_on_an_accepted_link_ends_it_and_nothing_else() {
    let scratch = Scratch::new("peer-nonsense");
    let nodes = prepare(scratch.path(), 3);
    let node = Running::start(&nodes[1]);
    let hello = identity(&nodes[2].data_dir, BOOT).hello(NodeId(2));
    let too_long = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits").to_le_bytes();
    let mut bad_sum = frame::head(b"payload").to_vec();
    bad_sum.extend_from_slice(b"pAyload");
    let second_hello = encode(&Greeting::Hello(hello));
    let second_hello = [&frame::head(&second_hello)[..], &second_hello].concat();
    let cases: [(&str, &[u8]); 3] =
        [("a frame too long", &too_long), ("a bad checksum", &bad_sum), ("a second hello", &second_hello)];
    for (what, bytes) in cases {
        let (mut link, answer) = call(node.peer, hello);
        assert!(matches!(answer, Greeting::Hello(_)), "{what}: {answer:?}");
        let padded = [bytes, &[0; 8]].concat();
        ok(link.write_all(&padded));
        eventually(what, || receive(&mut link).is_none().then_some(()));
    }
    // Whole frames that are no messages are for the node to drop: the link stays.
    let (mut link, _) = call(node.peer, hello);
    for garbage in [&b""[..], b"garbage", &[1; 5_000]] {
        send(&mut link, garbage);
    }
    (0..5).for_each(|_| assert!(receive(&mut link).is_some()));
    assert!(node.is_running());
}

#[test]
fn a_node_that_is_refused_when_it_dials_keeps_trying_and_harms_nobody() {
    let scratch = Scratch::new("peer-refused");
    let nodes = prepare(scratch.path(), 2);
    let listener = ok(TcpListener::bind("127.0.0.1:0"));
    // A name, which may stand for an IPv6 address first: where nobody answers, the next one is tried.
    let peer_addr = format!("localhost:{}", ok(listener.local_addr()).port());
    let peers = Some(vec![PeerSetting { id: 1, peer_addr, client_addr: "127.0.0.1:1".into() }]);
    let node = Running::start_with(&nodes[1], Layer { peers, ..Layer::default() });
    for _ in 0..2 {
        let (mut stream, _) = ok(listener.accept());
        ok(stream.set_read_timeout(Some(PATIENCE)));
        let greeting = decode(&receive(&mut stream).expect("a hello")).expect("a greeting");
        let Greeting::Hello(hello) = greeting else { panic!("{greeting:?}") };
        assert_eq!((hello.from, hello.to), (NodeId(2), NodeId(1)));
        send(&mut stream, &encode(&Greeting::Refused(Refusal::Genesis)));
        assert!(receive(&mut stream).is_none(), "it hangs up");
    }
    // Then the real node 1 answers at last, with the right identity, and gets the link.
    let (mut stream, _) = ok(listener.accept());
    ok(stream.set_read_timeout(Some(PATIENCE)));
    receive(&mut stream).expect("a hello");
    let answer = identity(&nodes[0].data_dir, BOOT).hello(NodeId(2));
    send(&mut stream, &encode(&Greeting::Hello(answer)));
    assert!(paxos_core::wire::decode(&receive(&mut stream).expect("a message").into()).is_ok());
    assert!(node.is_running());
}
