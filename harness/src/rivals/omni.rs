//! Three replicas of omnipaxos with a storage of plain vectors.

use std::ops::Range;

use bytes::Bytes;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot, StopSign, Storage, StorageOp, StorageResult};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};

use super::Trio;

/// Entries kept before the log is trimmed, so that memory does not grow with the rounds.
const TRIM_AT: usize = 100_000;

#[derive(Clone, Debug)]
struct Value(Bytes);

impl Entry for Value {
    type Snapshot = NoSnapshot;
}

/// Three replicas and the messages between them.
pub struct Omni {
    nodes: Vec<OmniPaxos<Value, Memory>>,
    leader: usize,
    outgoing: Vec<Message<Value>>,
    inherited: u64,
    /// Entries read back, by replica, and their bytes.
    applied: [usize; 3],
    payload_bytes: u64,
}

impl Omni {
    /// Three replicas, of which one has been elected; appended entries leave in batches of `batch`.
    pub fn new(batch: usize) -> Omni {
        let nodes = (1..=3)
            .map(|pid| {
                let server_config = ServerConfig { pid, batch_size: batch, ..ServerConfig::default() };
                let cluster_config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
                let config = OmniPaxosConfig { cluster_config, server_config };
                config.build(Memory::default()).expect("a valid configuration")
            })
            .collect();
        let mut trio = Omni { nodes, leader: 0, outgoing: Vec::new(), inherited: 0, applied: [0; 3], payload_bytes: 0 };
        for _ in 0..1_000 {
            trio.nodes.iter_mut().for_each(OmniPaxos::tick);
            trio.carry();
            if let Some((leader, true)) = trio.nodes[0].get_current_leader() {
                trio.leader = place(leader);
                trio.inherited = trio.nodes[trio.leader].get_decided_idx() as u64;
                return trio;
            }
        }
        panic!("omnipaxos elected nobody");
    }

    fn carry(&mut self) {
        loop {
            for node in &mut self.nodes {
                node.take_outgoing_messages(&mut self.outgoing);
            }
            if self.outgoing.is_empty() {
                return;
            }
            for message in self.outgoing.drain(..) {
                self.nodes[place(message.get_receiver())].handle_incoming(message);
            }
        }
    }
}

impl Omni {
    /// Every replica takes what was decided since the last time, as its application would.
    fn apply(&mut self) {
        for (node, applied) in self.nodes.iter().zip(&mut self.applied) {
            let decided = node.get_decided_idx();
            if decided == *applied {
                continue;
            }
            for entry in node.read_decided_suffix(*applied).unwrap_or_default() {
                if let LogEntry::Decided(Value(bytes)) = entry {
                    self.payload_bytes += bytes.len() as u64;
                }
            }
            *applied = decided;
        }
    }
}

impl Trio for Omni {
    fn choose(&mut self, payload: &Bytes, count: usize) {
        let leader = &mut self.nodes[self.leader];
        let wanted = leader.get_decided_idx() + count;
        for _ in 0..count {
            leader.append(Value(payload.clone())).expect("the leader appends");
        }
        self.carry();
        self.apply();
        assert_eq!(self.applied[self.leader], wanted, "everything appended is decided and read");
        let leader = &mut self.nodes[self.leader];
        if wanted - leader.get_compacted_idx() > TRIM_AT {
            // Only what all three decided may be trimmed; they all have, since nothing is in flight.
            leader.trim(Some(wanted)).expect("everything is decided everywhere");
            self.carry();
        }
    }

    fn chosen(&self) -> u64 {
        self.nodes[self.leader].get_decided_idx() as u64 - self.inherited
    }
}

fn place(pid: u64) -> usize {
    pid as usize - 1
}

/// What omnipaxos wants kept, in the plainest form.
#[derive(Default)]
struct Memory {
    log: Vec<Value>,
    trimmed: usize,
    compacted: usize,
    promise: Option<Ballot>,
    accepted: Option<Ballot>,
    decided: usize,
    stop_sign: Option<StopSign>,
}

impl Memory {
    fn range(&self, range: Range<usize>) -> Vec<Value> {
        let range = range.start - self.trimmed..range.end - self.trimmed;
        self.log.get(range).map(<[Value]>::to_vec).unwrap_or_default()
    }
}

impl Storage<Value> for Memory {
    fn write_atomically(&mut self, operations: Vec<StorageOp<Value>>) -> StorageResult<()> {
        for operation in operations {
            match operation {
                StorageOp::AppendEntry(entry) => self.append_entry(entry)?,
                StorageOp::AppendEntries(entries) => self.append_entries(entries)?,
                StorageOp::AppendOnPrefix(from, entries) => self.append_on_prefix(from, entries)?,
                StorageOp::SetPromise(ballot) => self.set_promise(ballot)?,
                StorageOp::SetDecidedIndex(index) => self.set_decided_idx(index)?,
                StorageOp::SetAcceptedRound(ballot) => self.set_accepted_round(ballot)?,
                StorageOp::SetCompactedIdx(index) => self.set_compacted_idx(index)?,
                StorageOp::Trim(index) => self.trim(index)?,
                StorageOp::SetStopsign(sign) => self.set_stopsign(sign)?,
                StorageOp::SetSnapshot(snapshot) => self.set_snapshot(snapshot)?,
            }
        }
        Ok(())
    }

    fn append_entry(&mut self, entry: Value) -> StorageResult<()> {
        self.log.push(entry);
        Ok(())
    }

    fn append_entries(&mut self, entries: Vec<Value>) -> StorageResult<()> {
        self.log.extend(entries);
        Ok(())
    }

    fn append_on_prefix(&mut self, from: usize, entries: Vec<Value>) -> StorageResult<()> {
        self.log.truncate(from - self.trimmed);
        self.log.extend(entries);
        Ok(())
    }

    fn set_promise(&mut self, promise: Ballot) -> StorageResult<()> {
        self.promise = Some(promise);
        Ok(())
    }

    fn set_decided_idx(&mut self, decided: usize) -> StorageResult<()> {
        self.decided = decided;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        Ok(self.decided)
    }

    fn set_accepted_round(&mut self, accepted: Ballot) -> StorageResult<()> {
        self.accepted = Some(accepted);
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.accepted)
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<Value>> {
        Ok(self.range(from..to))
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        Ok(self.log.len())
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<Value>> {
        Ok(self.range(from..self.trimmed + self.log.len()))
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.promise)
    }

    fn set_stopsign(&mut self, sign: Option<StopSign>) -> StorageResult<()> {
        self.stop_sign = sign;
        Ok(())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.stop_sign.clone())
    }

    fn trim(&mut self, index: usize) -> StorageResult<()> {
        self.log.drain(..index.saturating_sub(self.trimmed).min(self.log.len()));
        self.trimmed = self.trimmed.max(index);
        Ok(())
    }

    fn set_compacted_idx(&mut self, index: usize) -> StorageResult<()> {
        self.compacted = index;
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        Ok(self.compacted)
    }

    fn set_snapshot(&mut self, _snapshot: Option<NoSnapshot>) -> StorageResult<()> {
        Ok(())
    }

    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        Ok(None)
    }
}
