//! The rules that must hold in every state, looked up from disks and replicas as they are.

use std::collections::BTreeMap;

use paxos_core::{Ballot, Entry, NodeId, Slot};

use super::node::{Applied, Node};

/// A rule that does not hold in some state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Broken {
    /// Two entries were chosen in a slot.
    ChosenTwice(Slot),
    /// Two entries were accepted in a slot under one ballot.
    TwoEntriesOfABallot(Slot, Ballot),
    /// A replica holds for chosen what no quorum voted for.
    NotChosen(NodeId, Slot),
    /// A replica applied a slot out of order, or another entry than was chosen.
    AppliedWrongly(NodeId, Slot),
    /// A replica fenced itself.
    Fenced(NodeId),
    /// A replica could not start from its own disk.
    NoRecovery(NodeId, String),
    /// The exploration took a message to be of no more use that still does something.
    ForgottenTooEarly(NodeId),
    /// A read was granted that does not reflect what was acknowledged before it began.
    StaleRead(NodeId, Slot),
}

/// What a node counts for in the rules: all that they look at.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Testament {
    node: NodeId,
    /// Durable votes, each once.
    votes: Vec<(Slot, Ballot, Entry)>,
    /// What it holds for chosen.
    chosen: Vec<(Slot, Entry)>,
}

impl Testament {
    pub(super) fn of(node: &Node) -> Testament {
        let mut votes: Vec<(Slot, Ballot, Entry)> = Vec::new();
        for (slot, ballot, entry) in node.disk.votes() {
            let vote = (slot, ballot, entry.clone());
            if !votes.contains(&vote) {
                votes.push(vote);
            }
        }
        votes.sort_by_key(|(slot, ballot, _)| (*slot, *ballot));
        let held = node.replica.window().iter().filter_map(|slot| Some((slot, node.replica.held(slot)?)));
        let chosen = held.filter(|(_, held)| held.0.is_none()).map(|(slot, held)| (slot, held.1.clone())).collect();
        Testament { node: node.replica.header().from, votes, chosen }
    }

    fn has_vote(&self, slot: Slot, ballot: Ballot, entry: &Entry) -> bool {
        self.votes.iter().any(|(of, under, vote)| (*of, *under) == (slot, ballot) && vote == entry)
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The first rule that does not hold.
pub(super) fn verdict(nodes: &[&Testament]) -> Option<Broken> {
    let mut entries: BTreeMap<(Slot, Ballot), (&Entry, usize)> = BTreeMap::new();
    for (slot, ballot, entry) in nodes.iter().flat_map(|node| &node.votes) {
        let known = entries.entry((*slot, *ballot)).or_insert((entry, 0));
        known.1 += 1;
        if known.0 != entry {
            return Some(Broken::TwoEntriesOfABallot(*slot, *ballot));
        }
    }
    let mut chosen: BTreeMap<Slot, &Entry> = BTreeMap::new();
    for ((slot, _), (entry, votes)) in entries {
        if votes >= quorum(nodes.len()) && *chosen.entry(slot).or_insert(entry) != entry {
            return Some(Broken::ChosenTwice(slot));
        }
    }
    let held = nodes.iter().flat_map(|node| node.chosen.iter().map(|held| (node.node, held)));
    let mut wrong = held.filter(|(_, (slot, entry))| chosen.get(slot) != Some(&entry));
    wrong.next().map(|(node, (slot, _))| Broken::NotChosen(node, *slot))
}

/// Whether a quorum had voted for what this node applied, when it applied it. Disks forget nothing, so the votes of a
/// quorum are a choice for good.
pub(super) fn was_chosen(applied: &Applied, others: &[&Testament]) -> bool {
    let Applied { slot, entry, own_votes } = applied;
    let votes_under = |ballot: Ballot| {
        let others = others.iter().filter(|node| node.has_vote(*slot, ballot, entry)).count();
        others + usize::from(own_votes.contains(&ballot))
    };
    let voted = others.iter().flat_map(|node| &node.votes).map(|(_, ballot, _)| *ballot);
    voted.chain(own_votes.iter().copied()).any(|ballot| votes_under(ballot) >= quorum(others.len() + 1))
}
