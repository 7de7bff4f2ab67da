//! One replica under a test's hands: its messages, its disk and its clock.

use super::*;

/// One replica with a hand-held disk: tickets pile up until `sync`.
pub(super) struct Lone {
    pub(super) replica: Replica,
    pub(super) now_us: u64,
    pub(super) records: Vec<Record>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) sent: Vec<(NodeId, Body)>,
    pub(super) others: Vec<Action>,
}

impl Lone {
    pub(super) fn new(node: u32, voters: u32) -> Lone {
        Lone::with(node, voters, Config::default())
    }

    pub(super) fn with(node: u32, voters: u32, config: Config) -> Lone {
        let formatted = Formatted {
            cluster: CLUSTER,
            node: NodeId(node),
            incarnation: incarnation(node),
            genesis: genesis(voters),
        };
        Lone::recover(vec![Record::Formatted(formatted), Record::Started(BOOT)], config)
    }

    pub(super) fn recover(records: Vec<Record>, config: Config) -> Lone {
        let mut recovery = Recovery::new();
        records.iter().for_each(|record| recovery.record(record.clone()).expect("what a replica wrote"));
        let recovered = recovery.finish().expect("formatted");
        let replica = Replica::new(config, recovered, Instant::from_us(0), 5).expect("starts");
        Lone { replica, now_us: 0, records, tickets: vec![], sent: vec![], others: vec![] }
    }

    /// The process stops; what was synced is still there, and a new boot begins.
    pub(super) fn restart(mut self) -> Lone {
        let durable = self.records.len() - self.tickets.len();
        self.records.truncate(durable);
        let counter = self.replica.header().boot.counter + 1;
        self.records.push(Record::Started(Boot { counter, nonce: counter }));
        Lone::recover(self.records, self.replica.config().clone())
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.replica.handle(Instant::from_us(self.now_us), event, &mut actions);
        for action in actions {
            match action {
                Action::Send { to, body } => {
                    self.sent.extend(to.into_iter().map(|node| (node, body.clone())));
                }
                Action::Persist { ticket, record } => {
                    self.records.push(record);
                    self.tickets.push(ticket);
                }
                other => self.others.push(other),
            }
        }
    }

    pub(super) fn hear_boot(&mut self, from: u32, counter: u64, body: Body) {
        let header = Header {
            cluster: CLUSTER,
            from: NodeId(from),
            incarnation: incarnation(from),
            boot: Boot { counter, nonce: u64::from(from) },
        };
        self.event(Event::Message(Message { header, body }));
    }

    pub(super) fn hear(&mut self, from: u32, body: Body) {
        self.hear_boot(from, 1, body);
    }

    pub(super) fn sync(&mut self) {
        for ticket in std::mem::take(&mut self.tickets) {
            self.event(Event::Persisted(ticket.redeem()));
        }
    }

    pub(super) fn wait(&mut self, us: u64) {
        self.now_us += us;
        self.event(Event::Tick);
    }

    /// What it said since the last time, heartbeats apart.
    pub(super) fn said(&mut self) -> Vec<(NodeId, Body)> {
        let said = std::mem::take(&mut self.sent);
        said.into_iter().filter(|(_, body)| !matches!(body, Body::Heartbeat(_))).collect()
    }

    pub(super) fn applied(&self) -> Vec<Entry> {
        let applied = self.others.iter().map(|action| match action {
            Action::Apply { entries, .. } => entries.to_vec(),
            _ => vec![],
        });
        applied.flatten().collect()
    }

    /// Peers that can be reached and follow nobody, until it campaigns; its ballot.
    pub(super) fn campaign(&mut self, peers: &[u32]) -> Ballot {
        for _ in 0..100 {
            self.keep_contact(peers);
            self.wait(10_000);
            if self.replica.role() == Role::Preparing {
                return self.replica.ballot().expect("a candidate has a ballot");
            }
        }
        panic!("no campaign within a second: {:?}", self.replica);
    }

    /// Promises a peer's ballot, so that its own next one is above it.
    pub(super) fn promise_away(&mut self, ballot: Ballot) {
        self.hear(ballot.node.0, Body::Prepare(Prepare { ballot, from: slot(1) }));
        self.sync();
        self.said();
    }

    pub(super) fn keep_contact(&mut self, peers: &[u32]) {
        for peer in peers {
            let echo = Echo { boot: self.replica.header().boot, sent_us: self.now_us, leading: None, round: 0 };
            let heard = Heartbeat { echo: Some(echo), ..heartbeat(None, 1, self.now_us) };
            self.hear(*peer, Body::Heartbeat(Box::new(heard)));
        }
    }

    pub(super) fn promise(&mut self, from: u32, ballot: Ballot, held: Vec<Held>, first_unchosen: u64) {
        let end = held.last().map_or(slot(1), |held| held.slot.next());
        let body = Promise {
            ballot,
            asker_boot: self.replica.header().boot,
            covers: SlotRange { first: slot(1), end },
            held,
            last: true,
            first_unchosen: slot(first_unchosen),
        };
        self.hear(from, Body::Promise(Box::new(body)));
    }

    /// Wins phase 1 with an empty promise of node 2.
    pub(super) fn lead(&mut self) -> Ballot {
        let ballot = self.campaign(&[2, 3]);
        self.sync();
        self.promise(2, ballot, vec![], 1);
        assert_eq!(self.replica.role(), Role::Leading { ready: true });
        self.said();
        ballot
    }

    pub(super) fn propose(&mut self, tag: u64, text: &'static str) {
        self.event(Event::Propose { tag: Tag(tag), command: Bytes::from_static(text.as_bytes()) });
    }

    pub(super) fn accepted(&mut self, from: u32, ballot: Ballot, first: u64, count: usize) {
        let body = Accepted { ballot, slots: SlotRange::of(slot(first), count), first_unchosen: slot(1), room: 8_192 };
        self.hear(from, Body::Accepted(body));
    }
}
