//! Three replicas of raft-rs with its own in-memory storage, driven as its examples drive it.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::prelude::{Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use super::Trio;

/// Entries kept before the log is compacted, so that memory does not grow with the rounds.
const COMPACT_AT: u64 = 100_000;

/// Three replicas and the messages between them.
pub struct Raft {
    nodes: Vec<RawNode<MemStorage>>,
    leader: usize,
    in_flight: VecDeque<Message>,
    applied: [u64; 3],
    applied_index: [u64; 3],
    compacted: u64,
}

impl Default for Raft {
    fn default() -> Raft {
        Raft::new()
    }
}

impl Raft {
    /// Three replicas, of which one has been elected.
    pub fn new() -> Raft {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let nodes = (1..=3)
            .map(|id| {
                let config = Config {
                    id,
                    election_tick: 10,
                    heartbeat_tick: 3,
                    max_size_per_msg: 1 << 20,
                    max_inflight_msgs: 4_096,
                    ..Config::default()
                };
                let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
                RawNode::new(&config, storage, &logger).expect("a valid configuration")
            })
            .collect();
        let mut trio =
            Raft { nodes, leader: 0, in_flight: VecDeque::new(), applied: [0; 3], applied_index: [0; 3], compacted: 0 };
        trio.nodes[0].campaign().expect("a voter campaigns");
        trio.carry();
        assert_eq!(trio.nodes[0].raft.state, StateRole::Leader, "raft elected nobody");
        trio
    }

    fn carry(&mut self) {
        loop {
            for at in 0..self.nodes.len() {
                while self.nodes[at].has_ready() {
                    self.ready(at);
                }
            }
            if self.in_flight.is_empty() {
                return;
            }
            while let Some(message) = self.in_flight.pop_front() {
                let to = message.to as usize - 1;
                self.nodes[to].step(message).expect("a peer's message");
            }
        }
    }

    fn ready(&mut self, at: usize) {
        let store = self.nodes[at].raft.raft_log.store.clone();
        let mut ready = self.nodes[at].ready();
        self.in_flight.extend(ready.take_messages());
        self.apply(at, ready.take_committed_entries());
        if !ready.entries().is_empty() {
            store.wl().append(ready.entries()).expect("memory holds it");
        }
        if let Some(state) = ready.hs() {
            store.wl().set_hardstate(state.clone());
        }
        self.in_flight.extend(ready.take_persisted_messages());
        let mut light = self.nodes[at].advance(ready);
        if let Some(commit) = light.commit_index() {
            store.wl().mut_hard_state().set_commit(commit);
        }
        self.in_flight.extend(light.take_messages());
        self.apply(at, light.take_committed_entries());
        self.nodes[at].advance_apply();
    }

    fn apply(&mut self, at: usize, entries: Vec<Entry>) {
        for entry in entries {
            self.applied_index[at] = entry.index;
            if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                self.applied[at] += 1;
            }
        }
    }
}

impl Trio for Raft {
    fn choose(&mut self, payload: &Bytes, count: usize) {
        let wanted = self.applied[self.leader] + count as u64;
        // One proposal message with all entries is what raft-rs is fastest with.
        let entries: Vec<Entry> = (0..count).map(|_| Entry { data: payload.clone(), ..Entry::default() }).collect();
        let mut proposal = Message { from: self.leader as u64 + 1, ..Message::default() };
        proposal.set_msg_type(MessageType::MsgPropose);
        proposal.set_entries(entries.into());
        self.nodes[self.leader].raft.step(proposal).expect("the leader proposes");
        self.carry();
        assert_eq!(self.applied[self.leader], wanted, "everything proposed is committed and applied");
        let applied = self.applied_index.into_iter().min().unwrap_or(0);
        if applied - self.compacted > COMPACT_AT {
            for node in &self.nodes {
                node.raft.raft_log.store.wl().compact(applied).expect("it is applied everywhere");
            }
            self.compacted = applied;
        }
    }

    fn chosen(&self) -> u64 {
        self.applied[self.leader]
    }
}
