//! A cluster of nodes in one thread for tests: frames are delivered in order, syncs succeed at once unless they
//! are held, time stands still unless nothing else can happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use node::resp::Value;
use node::{Address, ClientId, Input, Node, Output, Settings};
use paxos_core::{
    Boot, ClusterId, Entries, Entry, Formatted, Genesis, Incarnation, Instant, Member, Membership, NodeId,
    QuorumSystem, Record, Recovery, Slot, Ticket,
};

/// One node with its disk.
pub struct Server {
    pub node: Node,
    records: Vec<Record>,
    /// What the log holds by slot, the last record of each.
    entries: BTreeMap<Slot, Entry>,
    /// Syncs do not return.
    pub hold: bool,
    held: VecDeque<Ticket>,
}

pub struct World {
    pub now: Instant,
    pub members: BTreeMap<u32, Server>,
    queue: VecDeque<(u32, Input)>,
    /// Links that lose everything.
    pub cut: BTreeSet<(u32, u32)>,
    /// What arrived at each client.
    pub received: BTreeMap<ClientId, Vec<u8>>,
    pub closed: BTreeMap<ClientId, &'static str>,
    /// Outputs that are no bytes, by name, in order.
    pub told: Vec<String>,
    home: BTreeMap<ClientId, u32>,
    clients_made: u64,
    settings: Settings,
}

fn formatted(node: u32, count: u32) -> Formatted {
    let members = (1..=count)
        .map(|node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node) * 11), generation: 0 })
        .collect();
    let membership = Membership::new(members, Vec::new(), QuorumSystem::Majority).expect("a membership");
    Formatted {
        cluster: ClusterId::new(0xc1),
        node: NodeId(node),
        incarnation: Incarnation(u64::from(node) * 11),
        genesis: Genesis::new(membership, 65_536).expect("a genesis"),
    }
}

impl World {
    pub fn new(count: u32, change: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings::default();
        for node in 1..=count {
            settings.addresses.insert(NodeId(node), Address::new("127.0.0.1", 7000 + node as u16));
        }
        change(&mut settings);
        let mut world = World {
            now: Instant::from_us(1_000_000),
            members: BTreeMap::new(),
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            received: BTreeMap::new(),
            closed: BTreeMap::new(),
            told: Vec::new(),
            home: BTreeMap::new(),
            clients_made: 0,
            settings,
        };
        for node in 1..=count {
            world.start(node, vec![Record::Formatted(formatted(node, count))], BTreeMap::new());
        }
        world
    }

    fn start(&mut self, id: u32, mut records: Vec<Record>, entries: BTreeMap<Slot, Entry>) {
        let mut recovery = Recovery::new();
        for record in &records {
            recovery.record(record.clone()).expect("its own records");
        }
        let mut recovered = recovery.finish().expect("formatted");
        let boot: Boot = recovered.next_boot(u64::from(id));
        recovered.started(boot).expect("the next boot");
        records.push(Record::Started(boot));
        let node = Node::new(self.settings.clone(), recovered, self.now, u64::from(id)).expect("valid settings");
        self.members.insert(id, Server { node, records, entries, hold: false, held: VecDeque::new() });
    }

    /// Kills a node and starts it on the same disk; its clients are gone.
    pub fn restart(&mut self, id: u32) {
        let member = self.members.remove(&id).expect("a node");
        self.queue.retain(|(to, _)| *to != id);
        self.home.retain(|_, home| *home != id);
        self.start(id, member.records, member.entries);
    }

    pub fn node(&self, id: u32) -> &Node {
        &self.members[&id].node
    }

    pub fn leader(&self) -> Option<u32> {
        let leads = |node: &Node| node.status().role == paxos_core::Role::Leading { ready: true };
        self.members.iter().filter(|(_, member)| leads(&member.node)).map(|(id, _)| *id).next_back()
    }

    /// Runs until some node leads and all that it asked for happened.
    pub fn elect(&mut self) -> u32 {
        let limit = self.now.plus_us(20_000_000);
        while self.leader().is_none() {
            assert!(self.now < limit, "nobody leads");
            self.run_us(10_000);
        }
        self.run_us(200_000); // everybody has heard
        self.leader().expect("nothing deposes it")
    }

    pub fn connect(&mut self, id: u32) -> ClientId {
        self.clients_made += 1;
        let client = ClientId(self.clients_made);
        self.home.insert(client, id);
        self.input(id, Input::ClientOpened { client });
        client
    }

    /// Hands bytes to the node, without letting anything else happen.
    pub fn send(&mut self, client: ClientId, bytes: impl AsRef<[u8]>) {
        let id = self.home[&client];
        self.input(id, Input::ClientBytes { client, bytes: Bytes::copy_from_slice(bytes.as_ref()) });
    }

    pub fn input(&mut self, id: u32, input: Input) {
        let mut outputs = Vec::new();
        let Some(member) = self.members.get_mut(&id) else { return };
        member.node.handle(self.now, input, &mut outputs);
        for output in outputs {
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: u32, output: Output) {
        match output {
            Output::ToClient { client, bytes } => self.received.entry(client).or_default().extend_from_slice(&bytes),
            Output::CloseClient { client, reason } => {
                self.closed.insert(client, reason);
            }
            Output::PauseClient { client } => self.told.push(format!("pause {}", client.0)),
            Output::ResumeClient { client } => self.told.push(format!("resume {}", client.0)),
            Output::RoleChanged { .. } => {}
            Output::Fenced { reason } => self.told.push(format!("fenced: {reason}")),
            Output::ToPeers { to, frame } => {
                for peer in &to {
                    if !self.cut.contains(&(id, peer.0)) {
                        self.queue.push_back((peer.0, Input::PeerFrame { from: NodeId(id), frame: frame.clone() }));
                    }
                }
            }
            Output::Persist { ticket, record } => {
                let Some(member) = self.members.get_mut(&id) else { return };
                if let Record::Accepted { first, entries, .. } | Record::Learned { first, entries } = &record {
                    for (offset, entry) in (0..).zip(entries.iter()) {
                        member.entries.insert(first.plus(offset), entry.clone());
                    }
                }
                member.records.push(record);
                member.held.push_back(ticket);
            }
            Output::ReadLog { id: read, slots, .. } => {
                let Some(member) = self.members.get(&id) else { return };
                let entries: Entries = slots.iter().map_while(|slot| member.entries.get(&slot).cloned()).collect();
                self.queue.push_back((id, Input::LogRead { id: read, first: slots.first, entries }));
            }
        }
    }

    /// Lets everything happen that needs no time.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let ids: Vec<u32> = self.members.keys().copied().collect();
            let mut quiet = true;
            while let Some((id, input)) = self.queue.pop_front() {
                self.input(id, input);
                quiet = false;
            }
            for id in ids {
                while let Some(ticket) = self.members.get_mut(&id).filter(|m| !m.hold).and_then(|m| m.held.pop_front())
                {
                    self.input(id, Input::Persisted(ticket.redeem()));
                    quiet = false;
                }
                if self.node(id).deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.input(id, Input::Tick);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the cluster never comes to rest");
    }

    /// Lets this much time pass.
    pub fn run_us(&mut self, us: u64) {
        let end = self.now.plus_us(us);
        loop {
            self.settle();
            let next = self.members.values().filter_map(|member| member.node.deadline()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = end;
        self.settle();
    }

    /// Takes the replies that arrived, each as a short text.
    pub fn replies(&mut self, client: ClientId) -> Vec<String> {
        let bytes = self.received.remove(&client).unwrap_or_default();
        let mut texts = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((value, length)) = Value::read(rest).expect("a reply") {
            texts.push(text(&value));
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "half a reply: {}", rest.escape_ascii());
        texts
    }

    /// Sends a line and answers what came back at once.
    pub fn ask(&mut self, client: ClientId, line: &str) -> String {
        self.send(client, format!("{line}\r\n"));
        self.settle();
        self.replies(client).join(" / ")
    }
}

/// A reply as a short text: `OK`, `:7`, `"v"`, `nil`, `[… …]`, `{k: v}`, `-ERR …`.
pub fn text(value: &Value) -> String {
    match value {
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("-{text}"),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Value::Null => "nil".to_owned(),
        Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", text(key), text(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}
