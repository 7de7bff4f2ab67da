//! How long clients wait: scenarios in simulated time, each with a bound.

use std::collections::BTreeSet;

use node::limits::Limits;
use paxos_core::{
    Ballot, Config, ElectionPolicy, Genesis, Incarnation, Instant, Member, Membership, NodeId, QuorumSystem, Role,
};
use transport_sim::{
    Asks, DiskQuality, Fact, Fault, Manner, Moment, Observer, OperationId, Quality, START, Scenario, Trace, Violation,
    World,
};

use crate::invariants::Invariants;

/// The invariants, in a world with clients.
struct Judge(Invariants);

impl Default for Judge {
    fn default() -> Judge {
        Judge(Invariants::with_clients(Limits::default().sessions_max))
    }
}

/// Watches the leaders beside the invariants.
#[derive(Default)]
struct Watch {
    judge: Judge,
    /// Whoever became ready to serve last, and its ballot.
    leader: Option<(NodeId, Option<Ballot>)>,
    /// When the first one of all became ready.
    first_ready: Option<Instant>,
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
            Fact::Role { role: Role::Leading { ready }, ballot, .. } => {
                if let Some(killed) = &mut self.killed {
                    let us = now.since_us(killed.at);
                    killed.elected_us.get_or_insert(us);
                    if *ready {
                        killed.successor.get_or_insert(moment.node);
                        killed.ready_us.get_or_insert(us);
                    }
                }
                if *ready {
                    self.first_ready.get_or_insert(now);
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
        self.judge.0.see(moment, fact)
    }
}

/// So many voters on calm links, each client with so many commands outstanding and as many to come as it can make.
fn calm(seed: u64, voters: u32, config: Config, disk: DiskQuality, depth: usize) -> Result<Scenario, Violation> {
    let refused = |error: &dyn std::fmt::Display| Violation::new("start", error.to_string());
    let voters = (1..=voters)
        .map(|node| Member { node: NodeId(node), incarnation: Incarnation(u64::from(node)), generation: 0 })
        .collect();
    let membership = Membership::new(voters, Vec::new(), QuorumSystem::Majority).map_err(|error| refused(&error))?;
    let genesis = Genesis::new(membership, 4_096).map_err(|error| refused(&error))?;
    let asks = Asks::Drawn { operations: u64::MAX >> 8, think_us: 500, keys: 16, large: None };
    let manner = |client| Manner {
        client,
        begins_us: u64::from(client) * 1_000,
        depth,
        patience_us: 3_000_000,
        once: false,
        asks: asks.clone(),
    };
    let drawn = Scenario::draw(seed, ElectionPolicy::Stable).map_err(|error| refused(&error))?;
    Ok(Scenario {
        genesis,
        config,
        clients: (1..=4).map(manner).collect(),
        quality: Quality::CALM,
        disk,
        slow_disks: Vec::new(),
        limits: Limits::default(),
        late: Vec::new(),
        drift: 0,
        faults_us: u64::MAX >> 8,
        faults: Vec::new(),
        ..drawn
    })
}

/// Runs a world until a moment.
fn run_until(scenario: Scenario, until: Instant) -> Result<World<Watch>, Violation> {
    let mut world = World::new(scenario, Watch::default(), Trace::silent())?;
    while world.now() < until {
        world.run(world.report().steps + 1_000)?;
    }
    Ok(world)
}

/// Restarts a node under load, kills the leader a while later, and says how long clients waited.
fn restart_then_kill(seed: u64) -> Result<(NodeId, Killed), Violation> {
    let config = Config { run_entries_max: 8, window_slots: 64, ..Config::default() };
    let disk = DiskQuality { sync_us_min: 500, sync_jitter_us: 2_000 };
    let mut scenario = calm(seed, 3, config, disk, 8)?;
    let restarted = NodeId(1 + (seed % 3) as u32);
    let restart = START.plus_us(3_000_000);
    let kill = restart.plus_us(500_000);
    scenario.faults = vec![
        (restart, Fault::Crash { node: restarted, down_us: 50_000 }),
        (kill, Fault::Decapitate { down_us: 60_000_000 }),
    ];
    let world = run_until(scenario, kill.plus_us(1_500_000))?;
    let killed = world.observer.killed.ok_or_else(|| Violation::new("start", "nobody led"))?;
    Ok((restarted, killed))
}

/// An election time-out, the longest delay on top, and a few syncs.
const READY_US_MAX: u64 = 400_000;

fn ends_soon(case: &str, killed: &Killed) {
    let ready = killed.ready_us.is_some_and(|us| us <= READY_US_MAX);
    assert!(ready && killed.answered_us.is_some(), "{case}: {killed:?}");
}

#[test]
fn a_restarted_replica_lets_those_lead_who_have_applied_what_is_chosen() {
    for seed in 1..=8 {
        let (restarted, killed) = restart_then_kill(seed).expect("no invariant breaks");
        ends_soon(&format!("seed {seed}, {restarted:?} was restarted"), &killed);
    }
}

#[test]
fn a_killed_leader_that_is_back_within_the_election_time_out_makes_nobody_wait_longer() {
    for seed in 1..=4 {
        let mut scenario = calm(seed, 3, Config::default(), DiskQuality::CALM, 4).expect("a legal scenario");
        let kill = START.plus_us(1_000_000);
        scenario.faults = vec![(kill, Fault::Decapitate { down_us: 50_000 * seed })];
        let world = run_until(scenario, kill.plus_us(1_000_000)).expect("no invariant breaks");
        ends_soon(&format!("seed {seed}"), &world.observer.killed.expect("somebody led"));
    }
}

#[test]
fn disks_that_are_always_slower_than_the_election_time_out_still_make_a_leader() {
    /// Elections that may be tried in vain, each as long as a time-out and a sync.
    const ROUNDS_MAX: u64 = 20;
    for voters in [1, 3, 5] {
        for (seed, sync_ms) in [(1, 350), (2, 2_000)] {
            let sync_us = sync_ms * 1_000;
            let disk = DiskQuality { sync_us_min: sync_us, sync_jitter_us: sync_us / 10 };
            let scenario = calm(seed, voters, Config::default(), disk, 8).expect("a legal scenario");
            let ready_by = START.plus_us(ROUNDS_MAX * (Config::default().election_timeout_us + sync_us));
            let world = run_until(scenario, ready_by.plus_us(20 * sync_us)).expect("no invariant breaks");
            let (first_ready, answered) = (world.observer.first_ready, world.report().answered);
            let served = first_ready.is_some_and(|at| at <= ready_by) && answered >= 10;
            assert!(served, "{voters} voters, {sync_ms} ms: {first_ready:?}, {answered} answered");
        }
    }
}

#[test]
fn the_smallest_windows_decide_at_the_pace_of_messages_and_not_of_heartbeats() {
    for window_slots in [1, 2, 3, 4, 8] {
        let config = Config { window_slots, ..Config::default() };
        let scenario = calm(1, 3, config, DiskQuality::CALM, 8).expect("a legal scenario");
        let world = run_until(scenario, START.plus_us(2_000_000)).expect("no invariant breaks");
        // A round trip on calm links and two syncs take half a millisecond; a heartbeat interval is 50.
        let answered = world.report().answered;
        assert!(answered >= 1_000, "window {window_slots}: {answered} answered in 2 s");
    }
}
