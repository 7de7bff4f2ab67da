//! The room for the plan of a seed's faults: which kinds are on, how often they strike, and whom.

use paxos_core::{Genesis, Instant, NodeId};

use super::{AMBUSH, FIRST_KINDS, Fault, LATER_KINDS, Lone, Then};
use crate::lost::Remedy;
use crate::rng::Rng;

/// Draws the faults of a seed: when, and what. `only`: this kind alone, as often as it may be.
pub fn plan(genesis: &Genesis, start: Instant, us: u64, only: Option<usize>, rng: &mut Rng) -> Vec<(Instant, Fault)> {
    let nodes: Vec<NodeId> = genesis.membership().members().map(|member| member.node).collect();
    let mut plan = Vec::new();
    for kind in 0..FIRST_KINDS {
        // Every kind draws the same numbers whether it is on or not, so that kinds do not shift each other.
        let mut rng = rng.split();
        let most = match kind {
            0 | 3 | 4 => 24,
            5..=7 | 9 | 11 | 12 | AMBUSH => 12,
            1 | 2 | 8 | 10 => 6,
            _ => 1,
        };
        let (coin, drawn) = (rng.coin(), rng.log_uniform(1, most));
        let (on, times) = match only {
            Some(only) => (only == kind, most),
            None => (coin, drawn),
        };
        for _ in 0..times {
            let at = start.plus_us(rng.below(us));
            let fault = draw(kind, &nodes, genesis, &mut rng);
            if on && let Some(fault) = fault {
                plan.push((at, fault));
            }
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// Draws the faults of later kinds, and rings, to be planned beside the others.
pub fn plan_more(
    genesis: &Genesis,
    start: Instant,
    us: u64,
    only: Option<usize>,
    rng: &mut Rng,
) -> Vec<(Instant, Fault)> {
    let nodes: Vec<NodeId> = genesis.membership().members().map(|member| member.node).collect();
    let mut plan = Vec::new();
    for kind in FIRST_KINDS..=LATER_KINDS {
        let mut rng = rng.split();
        // A node is lost in few seeds, so that most have their clusters in full.
        let (chance, most) = match kind {
            15 | 16 | 19 => (4, 1),
            _ => (2, 6),
        };
        let (on, drawn) = (rng.below(chance) == 0, rng.log_uniform(1, most));
        let (on, times) = only.map_or((on, drawn), |only| (only == kind, most));
        for _ in 0..times {
            let at = start.plus_us(rng.below(us));
            let node = rng.pick(&nodes);
            let down_us = rng.log_uniform(1_000, 4_000_000);
            let us = rng.log_uniform(10_000, 6_000_000);
            let fault = match kind {
                15 => {
                    let remedy = if rng.below(4) == 0 { Remedy::Away } else { Remedy::Anew };
                    can_lose_one(genesis).then_some(Fault::Wipe { node, down_us, remedy })
                }
                16 => {
                    // Long enough for the restart in between to be heard of, most of the time.
                    let us = down_us + rng.log_uniform(10_000, 8_000_000);
                    can_lose_one(genesis).then_some(Fault::OldImage { node, us, down_us })
                }
                17 => Some(Fault::FreezeClock { node, us }),
                18 => Some(Fault::CutLeader { lone: rng.pick(&Lone::ALL), us }),
                19 => can_lose_one(genesis).then_some(Fault::Rot { node, down_us, number: us }),
                _ => Some(Fault::Partition { cuts: ring(&nodes, rng.coin()), us }),
            };
            plan.extend(fault.filter(|_| on).map(|fault| (at, fault)));
        }
    }
    plan
}

/// A cluster goes on as long as both its quorums can still be had.
fn can_lose_one(genesis: &Genesis) -> bool {
    let (quorum, voters) = (genesis.membership().quorum(), genesis.membership().voters().len());
    quorum.phase1_size(voters).max(quorum.phase2_size(voters)) < voters
}

/// Each node reaches its neighbours in a circle, or only the next one.
fn ring(nodes: &[NodeId], one_way: bool) -> Vec<(NodeId, NodeId)> {
    let count = nodes.len();
    let reaches = |one: usize, other: usize| (one + 1) % count == other || (!one_way && (other + 1) % count == one);
    let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
    pairs
        .filter(|(one, other)| one != other && !reaches(*one, *other))
        .map(|(one, other)| (nodes[one], nodes[other]))
        .collect()
}

fn draw(kind: usize, nodes: &[NodeId], genesis: &Genesis, rng: &mut Rng) -> Option<Fault> {
    let node = rng.pick(nodes);
    let down_us = rng.log_uniform(1_000, 8_000_000);
    let us = rng.log_uniform(10_000, 6_000_000);
    Some(match kind {
        0 => Fault::Crash { node, down_us },
        1 => Fault::PowerLoss { nodes: subset(nodes, rng), down_us },
        2 => Fault::Terminate { node, down_us },
        3 => Fault::Pause { node, us },
        4 => Fault::Partition { cuts: partition(nodes, rng), us },
        5 => Fault::Clog { from: node, to: rng.pick(nodes), us },
        6 => Fault::CutClients { node, us },
        7 => Fault::ResetClients { node },
        8 => Fault::HandOver { to: node },
        9 => Fault::DiskStall { node, us },
        10 => Fault::DiskFailure { node, operations: rng.below(6), once: rng.coin(), down_us },
        11 => Fault::Decapitate { down_us },
        12 => Fault::Storm {
            loss: rng.between(200_000, 800_000),
            us: rng.log_uniform(10_000, 2_000_000),
            down_us: rng.coin().then_some(down_us),
        },
        AMBUSH => {
            let late_us = rng.log_uniform(100_000, 3_000_000);
            // It stands until what was held back has arrived, and longer.
            // A learner promises nothing, so that it can best be asked for what is chosen.
            let learner = genesis.membership().learners().first().map_or(node, |learner| learner.node);
            let hears = if rng.coin() { learner } else { node };
            let stands = Then::Stands { us: late_us + rng.log_uniform(10_000, 2_000_000), hears };
            let then = if rng.coin() { stands } else { Then::Dies { down_us } };
            Fault::Ambush { late_us, us: rng.log_uniform(1_000, 50_000), then }
        }
        _ => {
            return can_lose_one(genesis).then_some(Fault::Remove { node });
        }
    })
}

fn subset(nodes: &[NodeId], rng: &mut Rng) -> Vec<NodeId> {
    if rng.coin() {
        return nodes.to_vec();
    }
    nodes.iter().copied().filter(|_| rng.coin()).collect()
}

/// A partition of any shape; half of all shapes cut one way only.
fn partition(nodes: &[NodeId], rng: &mut Rng) -> Vec<(NodeId, NodeId)> {
    let one_way = rng.coin();
    let shape = rng.below(5);
    let centre = rng.pick(nodes);
    let sides: Vec<bool> = nodes.iter().map(|_| rng.coin()).collect();
    let chance = rng.between(100_000, 900_000);
    let place = |node: NodeId| nodes.iter().position(|other| *other == node).unwrap_or(0);
    let mut cuts = Vec::new();
    for &from in nodes {
        for &to in nodes {
            if from == to {
                continue;
            }
            let (one, other) = (place(from), place(to));
            let cut = match shape {
                // One node alone; two sides; a hub that alone reaches all; a chain; any directed graph.
                0 => from == centre || (to == centre && !one_way),
                1 => sides[one] != sides[other] && (!one_way || sides[one]),
                2 => from != centre && to != centre,
                3 => one.abs_diff(other) > 1,
                _ => rng.chance(chance),
            };
            if cut {
                cuts.push((from, to));
            }
        }
    }
    cuts
}
