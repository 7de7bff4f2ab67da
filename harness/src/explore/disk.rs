//! The disk of an explored node: its durable records, and what can be read from them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use paxos_core::{
    Ballot, Boot, ClusterId, Entry, Formatted, Genesis, Incarnation, Member, Membership, NodeId, QuorumSystem, Record,
    Recovered, Recovery, Slot,
};

/// Durable records, oldest first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Disk {
    records: Vec<Record>,
}

impl Disk {
    /// A disk that was formatted for one of so many voters.
    pub(super) fn formatted(voters: usize, at: usize) -> Disk {
        let member = |at: usize| Member { node: id(at), incarnation: Incarnation(at as u64 + 1), generation: 0 };
        let membership = Membership::new((0..voters).map(member).collect(), vec![], QuorumSystem::Majority);
        let genesis = membership.and_then(|membership| Genesis::new(membership, 8)).expect("distinct voters");
        let incarnation = Incarnation(at as u64 + 1);
        let formatted = Formatted { cluster: ClusterId::new(1), node: id(at), incarnation, genesis };
        Disk { records: vec![Record::Formatted(formatted)] }
    }

    /// What of it has consequences, whatever the order it was written in: what a process that starts finds, if one may still
    /// start; what can be read back; and every vote.
    pub(super) fn hash_at_rest(&self, may_restart: bool, state: &mut impl Hasher) {
        match self.read() {
            Ok(recovered) if may_restart => format!("{recovered:?}").hash(state),
            Ok(_) => (),
            Err(_) => self.records.hash(state),
        }
        (self.promised(), self.kept()).hash(state);
        let votes: BTreeSet<(Slot, Ballot, u64)> = self
            .votes()
            .map(|(slot, ballot, entry)| {
                let mut hasher = DefaultHasher::new();
                entry.hash(&mut hasher);
                (slot, ballot, hasher.finish())
            })
            .collect();
        votes.hash(state);
    }

    fn read(&self) -> Result<Recovered, String> {
        let mut recovery = Recovery::new();
        for record in &self.records {
            recovery.record(record.clone()).map_err(|error| error.to_string())?;
        }
        recovery.finish().map_err(|error| error.to_string())
    }

    /// What a process that starts now finds; its boot is on the disk then.
    pub(super) fn recover(&mut self) -> Result<Recovered, String> {
        let mut recovered = self.read()?;
        let boot = recovered.next_boot(recovered.boot().map_or(1, |boot: Boot| boot.counter + 1));
        recovered.started(boot).map_err(|error| error.to_string())?;
        self.records.push(Record::Started(boot));
        Ok(recovered)
    }

    /// A record that says again what the last one of its slots said changes nothing on a disk.
    pub(super) fn write(&mut self, record: Record) {
        let slots = |record: &Record| match record {
            Record::Accepted { first, entries, .. } | Record::Learned { first, entries } => {
                Some((*first, first.plus(entries.len() as u64)))
            }
            Record::Formatted(_) | Record::Started(_) | Record::Promised(_) | Record::Chosen { .. } => None,
        };
        if let Some((first, end)) = slots(&record) {
            let touches = |held: &&Record| slots(held).is_some_and(|held| held.0 < end && first < held.1);
            if self.records.iter().rev().find(touches) == Some(&record) {
                return;
            }
        }
        self.records.push(record);
    }

    /// The highest ballot promised.
    pub(super) fn promised(&self) -> Option<Ballot> {
        let promised = self.records.iter().filter_map(|record| match record {
            Record::Promised(ballot) => Some(*ballot),
            _ => None,
        });
        promised.max()
    }

    /// The last entry of each slot.
    pub(super) fn kept(&self) -> BTreeMap<Slot, &Entry> {
        let mut kept = BTreeMap::new();
        for record in &self.records {
            if let Record::Accepted { first, entries, .. } | Record::Learned { first, entries } = record {
                kept.extend((0..).zip(entries.iter()).map(|(place, entry)| (first.plus(place), entry)));
            }
        }
        kept
    }

    /// Every vote that was ever cast: disks forget nothing.
    pub(super) fn votes(&self) -> impl Iterator<Item = (Slot, Ballot, &Entry)> {
        let votes = self.records.iter().filter_map(|record| match record {
            Record::Accepted { ballot, first, entries } => Some((*ballot, *first, entries)),
            _ => None,
        });
        votes.flat_map(|(ballot, first, entries)| {
            (0..).zip(entries.iter()).map(move |(place, entry)| (first.plus(place), ballot, entry))
        })
    }
}

/// The node at a place.
pub(super) fn id(at: usize) -> NodeId {
    NodeId(at as u32 + 1)
}

/// The place of a node.
pub(super) fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}
