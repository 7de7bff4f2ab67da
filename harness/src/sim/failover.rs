//! How long clients wait when the leader is killed: scenarios in simulated time, each with a bound.

use std::collections::BTreeSet;

use paxos_core::{Ballot, Config, ElectionPolicy, Instant, NodeId, Role};
use transport_sim::{
    DiskQuality, Fact, Fault, Manner, Moment, Observer, OperationId, Quality, START, Scenario, Trace, Violation, World,
};

use crate::invariants::Invariants;

/// Watches the leaders beside the invariants.
struct Watch {
    judge: Invariants,
    /// Whoever became ready to serve last, and its ballot.
    leader: Option<(NodeId, Option<Ballot>)>,
    writes: BTreeSet<OperationId>,
    killed: Option<Killed>,
}

/// What followed the death of a leader.
#[derive(Clone, Copy, Debug)]
struct Killed {
    at: Instant,
    /// The next one to serve.
    successor: Option<NodeId>,
    elected_us: Option<u64>,
    ready_us: Option<u64>,
    /// The first write that was acknowledged.
    answered_us: Option<u64>,
}

impl Observer for Watch {
    fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
        let now = moment.now;
        match fact {
            Fact::Crashed if self.leader.map(|(node, _)| node) == Some(moment.node) => {
                self.leader = None;
                self.killed =
                    Some(Killed { at: now, successor: None, elected_us: None, ready_us: None, answered_us: None });
            }
            Fact::Role { role: Role::Leading { ready }, ballot } => {
                if let Some(killed) = &mut self.killed {
                    let us = now.since_us(killed.at);
                    killed.elected_us.get_or_insert(us);
                    if *ready {
                        killed.successor.get_or_insert(moment.node);
                        killed.ready_us.get_or_insert(us);
                    }
                }
                if *ready {
                    self.leader = Some((moment.node, *ballot));
                }
            }
            Fact::Asked(operation) if !operation.is_read() => {
                self.writes.insert(operation.id);
            }
            Fact::Answered { id, .. } if self.writes.contains(id) => {
                if let Some(killed) = &mut self.killed
                    && killed.ready_us.is_some()
                {
                    killed.answered_us.get_or_insert(now.since_us(killed.at));
                }
            }
            _ => {}
        }
        self.judge.see(moment, fact)
    }
}

/// Restarts a node under load, kills the leader a while later, and says how long clients waited.
fn restart_then_kill(seed: u64) -> Result<(NodeId, Killed), Violation> {
    let mut scenario =
        Scenario::draw(seed, ElectionPolicy::Stable).map_err(|error| Violation::new("start", error.to_string()))?;
    scenario.genesis = three(&scenario);
    scenario.quality = Quality::CALM;
    scenario.disk = DiskQuality { sync_us_min: 500, sync_jitter_us: 2_000 };
    scenario.late = Vec::new();
    scenario.drift = 0;
    scenario.config = Config { run_entries_max: 8, window_slots: 64, ..Config::default() };
    scenario.faults_us = 60_000_000;
    let manner =
        Manner { operations: u64::MAX >> 8, depth: 8, think_us: 500, patience_us: 1_000_000, once: false, keys: 16 };
    scenario.clients = vec![manner; 4];
    let restarted = NodeId(1 + (seed % 3) as u32);
    let restart = START.plus_us(3_000_000);
    let kill = restart.plus_us(500_000);
    scenario.faults = vec![
        (restart, Fault::Crash { node: restarted, down_us: 50_000 }),
        (kill, Fault::Decapitate { down_us: 60_000_000 }),
    ];
    let watch = Watch { judge: Invariants::with_clients(), leader: None, writes: BTreeSet::new(), killed: None };
    let mut world = World::new(scenario, watch, Trace::silent())?;
    while world.now() < kill.plus_us(1_500_000) {
        world.run(world.report().steps + 1_000)?;
    }
    let killed = world.observer.killed.ok_or_else(|| Violation::new("start", "nobody led"))?;
    Ok((restarted, killed))
}

fn three(scenario: &Scenario) -> paxos_core::Genesis {
    use paxos_core::{Genesis, Incarnation, Member, Membership, QuorumSystem};
    let voters = (1..=3)
        .map(|node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node)), generation: 0 })
        .collect();
    match Membership::new(voters, Vec::new(), QuorumSystem::Majority).and_then(|members| Genesis::new(members, 4_096)) {
        Ok(genesis) => genesis,
        Err(_) => scenario.genesis.clone(),
    }
}

#[test]
fn a_restarted_replica_lets_those_lead_who_have_applied_what_is_chosen() {
    /// An election time-out, the longest delay on top, and a few syncs.
    const READY_US_MAX: u64 = 400_000;
    for seed in 1..=8 {
        let (restarted, killed) = restart_then_kill(seed).expect("no invariant breaks");
        let ready = killed.ready_us.is_some_and(|us| us <= READY_US_MAX);
        assert!(ready && killed.answered_us.is_some(), "seed {seed}, {restarted:?} was restarted: {killed:?}");
    }
}
