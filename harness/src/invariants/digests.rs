//! Equal digests: every node that has applied a slot has the digest there that the first one had.

use std::collections::BTreeMap;

use node::Node;
use paxos_core::{NodeId, Slot};
use transport_sim::Violation;

/// The digest after each slot, and how far each node has come.
#[derive(Debug, Default)]
pub(super) struct Digests {
    digests: Vec<u64>,
    applied: BTreeMap<NodeId, u64>,
}

impl Digests {
    pub(super) fn crashed(&mut self, node: NodeId) {
        self.applied.remove(&node);
    }

    /// Compares every slot that the node has applied since it was looked at.
    pub(super) fn served(&mut self, id: NodeId, node: &Node) -> Result<(), Violation> {
        let applied = node.status().applied;
        let before = self.applied.insert(id, applied).unwrap_or(0);
        if applied < before {
            return Err(Violation::new(
                "applied-never-falls",
                format!("{id:?} applied {before} and then {applied} slots"),
            ));
        }
        for number in before + 1..=applied {
            let Some(digest) = Slot::new(number).and_then(|slot| node.digest_at(slot)) else { continue };
            let known = self.digests.len() as u64;
            if number == known + 1 {
                self.digests.push(digest);
            } else if number <= known && self.digests[number as usize - 1] != digest {
                let why = format!(
                    "{id:?} has {digest:016x} at slot {number}, not {:016x}",
                    self.digests[number as usize - 1]
                );
                return Err(Violation::new("equal-digests", why));
            }
        }
        Ok(())
    }
}
