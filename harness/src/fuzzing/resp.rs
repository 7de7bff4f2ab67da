//! Whatever arrives on a client port, against a whole server: no input panics, the split of the stream does not
//! matter, and every reply is well-formed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use node::{Address, ClientId, Input, Node, Output, Settings};
use paxos_core::{
    Boot, ClusterId, Entry, Formatted, Genesis, Incarnation, Instant, Member, Membership, NodeId, QuorumSystem, Record,
    Recovery, Slot, Ticket,
};

use crate::client::ReplyReader;

/// Bytes of one input; longer ones only slow a fuzzer down.
const BYTES_MAX: usize = 4_096;

/// Turns of 10 ms that an input is given: more than parking lasts.
const TURNS: usize = 300;

const CLIENT: ClientId = ClientId(1);

/// Runs one input.
///
/// # Panics
/// If pieces are read otherwise than the whole, a reply is malformed, or the server fences itself.
pub fn run(input: &[u8]) {
    let input = &input[..input.len().min(BYTES_MAX)];
    let whole = node::resp::requests(input, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(node::resp::requests(input, piece), whole, "in pieces of {piece}");
    }
    let replies = Server::new().serve(input);
    let mut reader = ReplyReader::default();
    reader.feed(&replies);
    let mut count = 0;
    loop {
        match reader.next_reply() {
            Ok(Some(_)) => count += 1,
            Ok(None) => break,
            Err(error) => panic!("reply {count} is malformed: {error}"),
        }
    }
    assert!(reader.is_empty(), "the last reply is cut off");
    // A command is answered once; a protocol error and QUIT end the connection with one more or the last answer.
    assert!(count <= whole.0.len() + 1, "{count} replies to {} commands", whole.0.len());
}

/// One node, alone, on a disk that costs nothing.
struct Server {
    node: Node,
    now_us: u64,
    log: BTreeMap<Slot, Entry>,
    replies: Vec<u8>,
    paused: bool,
    closed: bool,
}

impl Server {
    fn new() -> Server {
        let member = Member { node: NodeId(1), incarnation: Incarnation(1), generation: 0 };
        let membership = Membership::new(vec![member], vec![], QuorumSystem::Majority);
        let genesis = membership.and_then(|membership| Genesis::new(membership, 65_536));
        let genesis = genesis.unwrap_or_else(|error| panic!("a genesis of one voter: {error}"));
        let formatted =
            Formatted { cluster: ClusterId::new(1), node: member.node, incarnation: member.incarnation, genesis };
        let mut recovery = Recovery::new();
        let recovered = recovery.record(Record::Formatted(formatted)).and_then(|()| recovery.finish());
        let mut recovered = recovered.unwrap_or_else(|error| panic!("a fresh log: {error}"));
        let started = recovered.started(Boot { counter: 1, nonce: 1 });
        started.unwrap_or_else(|error| panic!("the first boot: {error}"));
        let addresses = [(member.node, Address::new("127.0.0.1", 7001))].into();
        let settings = Settings { addresses, ..Settings::default() };
        let node = Node::new(settings, recovered, Instant::from_us(0), 1);
        let node = node.unwrap_or_else(|error| panic!("the default settings: {error}"));
        let mut server =
            Server { node, now_us: 0, log: BTreeMap::new(), replies: Vec::new(), paused: false, closed: false };
        // Until it leads: two election time-outs are plenty for a lone voter.
        for _ in 0..100 {
            server.pass(10_000);
        }
        server
    }

    /// Lets time pass.
    fn pass(&mut self, us: u64) {
        self.now_us += us;
        self.handle(Input::Tick);
    }

    fn serve(mut self, input: &[u8]) -> Vec<u8> {
        self.handle(Input::ClientOpened { client: CLIENT });
        let mut pieces = input.chunks(512);
        for _ in 0..TURNS {
            if !self.paused
                && !self.closed
                && let Some(piece) = pieces.next()
            {
                self.handle(Input::ClientBytes { client: CLIENT, bytes: Bytes::copy_from_slice(piece) });
            }
            self.pass(10_000);
        }
        if !self.closed {
            self.handle(Input::ClientClosed { client: CLIENT });
        }
        self.replies
    }

    fn handle(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            self.node.handle(Instant::from_us(self.now_us), input, &mut outputs);
            for output in outputs {
                match output {
                    Output::ToClient { client, bytes } => {
                        assert_eq!(client, CLIENT);
                        self.replies.extend_from_slice(&bytes);
                    }
                    Output::CloseClient { client, .. } => {
                        assert_eq!(client, CLIENT);
                        self.closed = true;
                    }
                    Output::PauseClient { .. } => self.paused = true,
                    Output::ResumeClient { .. } => self.paused = false,
                    Output::Persist { ticket, record } => {
                        self.keep(record);
                        inputs.push_back(Input::Persisted(Ticket::redeem(ticket)));
                    }
                    Output::ReadLog { id, slots, .. } => {
                        let entries = slots.iter().map_while(|slot| self.log.get(&slot).cloned()).collect();
                        inputs.push_back(Input::LogRead { id, first: slots.first, entries });
                    }
                    Output::Fenced { reason } => panic!("fenced: {reason}"),
                    Output::ToPeers { .. } | Output::RoleChanged { .. } => {}
                }
            }
        }
    }

    fn keep(&mut self, record: Record) {
        match record {
            Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => {
                self.log.extend((0..).zip(entries.iter()).map(|(at, entry)| (first.plus(at), entry.clone())));
            }
            Record::Formatted(_) | Record::Started(_) | Record::Promised(_) | Record::Chosen { .. } => {}
        }
    }
}
