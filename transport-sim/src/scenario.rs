//! The room for what a seed is about: who takes part, how good network, disks and clocks are, what clients want,
//! and what goes wrong when.

mod rude;

use node::limits::Limits;
use node::wal::WalSettings;
use paxos_core::limits::ENTRY_HEAD_BYTES;
use paxos_core::{
    Config, ElectionPolicy, Genesis, Incarnation, Instant, Member, Membership, MembershipError, NodeId, QuorumSystem,
};

use crate::client::{Asks, Manner};
use crate::clock::{self, DRIFT_MAX};
use crate::nemesis::{self, Fault};
use crate::network::Quality;
use crate::rng::{Concern, Rng};

/// How good disks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskQuality {
    /// No sync is faster, in microseconds.
    pub sync_us_min: u64,
    /// What comes on top, exponential with this mean, in microseconds.
    pub sync_jitter_us: u64,
}

impl DiskQuality {
    /// A fast disk.
    pub const CALM: DiskQuality = DiskQuality { sync_us_min: 50, sync_jitter_us: 50 };
}

/// Everything that a world is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Seeds every stream.
    pub seed: u64,
    /// Who votes, by which quorums, and α.
    pub genesis: Genesis,
    /// The settings of every replica.
    pub config: Config,
    /// The bounds of every server.
    pub limits: Limits,
    /// The settings of every log.
    pub wal: WalSettings,
    /// How each client behaves.
    pub clients: Vec<Manner>,
    /// Links while there are faults.
    pub quality: Quality,
    /// Disks.
    pub disk: DiskQuality,
    /// Disks that are worse while there are faults.
    pub slow_disks: Vec<(NodeId, DiskQuality)>,
    /// Nodes whose process starts for the first time only later, and when.
    pub late: Vec<(NodeId, Instant)>,
    /// How far clocks may be from the true rate, in 1/1024 (`Clock::new`).
    pub drift: u64,
    /// How long the phase with faults takes, in microseconds.
    pub faults_us: u64,
    /// From when on judges may count on that nothing goes wrong, in microseconds of the world; if it is not said, the
    /// faults tell.
    pub calm_us: Option<u64>,
    /// How long the world may take to come to rest once the faults are over, in microseconds; if it is not said, what
    /// clients have left to do then tells.
    pub rest_us: Option<u64>,
    /// What goes wrong.
    pub faults: Vec<(Instant, Fault)>,
}

/// When worlds begin.
pub const START: Instant = Instant::from_us(1_000_000);

/// Commands that a campaign's seed has at least.
pub const COMMANDS_MIN: u64 = 200;
/// How long a campaign's seed is at least, in microseconds.
pub const FAULTS_US_MIN: u64 = 30_000_000;

impl Scenario {
    /// What a seed of a campaign is about.
    ///
    /// # Errors
    /// Never in practice: the shapes drawn are all legal memberships.
    pub fn draw(seed: u64, election: ElectionPolicy) -> Result<Scenario, MembershipError> {
        let mut topology = Rng::new(seed, Concern::Topology);
        let voters = topology.pick(&[1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 7, 3]);
        let window = topology.log_uniform(1, 512) as u32;
        let genesis = genesis(voters, quorum(voters, &mut topology), u64::from(window), &mut topology)?;
        let config = config(election, window, &mut topology);
        let wal = WalSettings {
            segment_bytes: topology.log_uniform(16 << 10, 256 << 10),
            align_bytes: topology.pick(&[8, 512, 512, 512]),
        };
        let mut nemesis = Rng::new(seed, Concern::Nemesis);
        let mut edges = Rng::new(seed, Concern::Edges);
        // Every eighth seed is calm: no fault at all. Every eighth has one kind of fault at full strength and calm links.
        let (calm, single) = match nemesis.below(8) {
            0 => (true, None),
            1 => (false, Some(single_kind(&mut edges.split()))),
            _ => (false, None),
        };
        let faults_us = FAULTS_US_MIN;
        let mut later = Rng::new(seed, Concern::Later);
        let single = single.map(|kind| later_kind(&mut later).unwrap_or(kind));
        let mut planned = nemesis::plan(&genesis, START, faults_us, single, &mut nemesis);
        planned.extend(nemesis::plan_more(&genesis, START, faults_us, single, &mut later));
        planned.sort_by_key(|(at, _)| *at);
        let rough = rougher(quality(&mut Rng::new(seed, Concern::Network)), &mut later);
        let late = late(&genesis, faults_us, &mut nemesis);
        let drift = Rng::new(seed, Concern::Clock).pick(&[0, 0, 10, 256]);
        // Under `highest-id` a heartbeat must come within two intervals by any clock, so that they must not be that far
        // apart.
        let wide = later.below(8) == 0 && election == ElectionPolicy::Stable;
        let drift = if wide { DRIFT_MAX } else { drift };
        let (config, limits) = tightened(config, &mut edges);
        let slow_disks = slow_disks(&genesis, config.election_timeout_us, &mut edges);
        let mut scenario = Scenario {
            seed,
            genesis,
            config,
            limits,
            slow_disks: if calm { Vec::new() } else { slow_disks },
            wal,
            clients: manners(&mut Rng::new(seed, Concern::Workload), faults_us),
            quality: if calm || single.is_some() { Quality::CALM } else { rough },
            disk: disk(&mut Rng::new(seed, Concern::Disk)),
            late: if calm { Vec::new() } else { late },
            drift: if calm { 0 } else { drift },
            faults_us,
            calm_us: None,
            rest_us: None,
            faults: if calm { Vec::new() } else { planned },
        };
        rude::worsen(&mut scenario, calm, single.is_some(), &mut Rng::new(seed, Concern::Manners));
        Ok(scenario)
    }
}

impl Scenario {
    /// Whether nothing at all goes wrong.
    pub fn is_calm(&self) -> bool {
        let disturbed = !self.faults.is_empty() || !self.late.is_empty() || !self.slow_disks.is_empty();
        !disturbed && self.quality == Quality::CALM && self.drift == 0
    }

    /// The election time-out as the world sees it at the slowest clock, in microseconds.
    pub fn election_timeout_us(&self) -> u64 {
        clock::stretched(self.config.election_timeout_us, self.drift)
    }

    /// From when on all is well. What a link held back when the faults end arrives later, and what follows on that link
    /// waits behind it.
    pub fn calm_from(&self) -> Instant {
        if let Some(calm_us) = self.calm_us {
            return START.plus_us(calm_us);
        }
        if self.is_calm() {
            return START;
        }
        let held_back = self.faults.iter().filter_map(|(at, fault)| match fault {
            Fault::Clog { us, .. } => Some(at.plus_us(*us)),
            Fault::Ambush { late_us, .. } => Some(at.plus_us(*late_us)),
            _ => None,
        });
        held_back.fold(START.plus_us(self.faults_us), Instant::max)
    }
}

/// Half of the time the kind that needs quiet around it to reach what it is for.
fn single_kind(rng: &mut Rng) -> usize {
    if rng.coin() { nemesis::AMBUSH } else { rng.below(nemesis::FIRST_KINDS as u64) as usize }
}

/// One in four of the seeds with one kind of fault has one of the later kinds.
fn later_kind(rng: &mut Rng) -> Option<usize> {
    let kind = rng.between(nemesis::FIRST_KINDS as u64, nemesis::LATER_KINDS as u64 - 1) as usize;
    (rng.below(4) == 0).then_some(kind)
}

/// In one seed of four frames are garbled, in one of eight messages come again up to a minute later, from before
/// restarts too.
fn rougher(quality: Quality, rng: &mut Rng) -> Quality {
    const REPLAY_US_MAX: u64 = 60_000_000;
    let garbled = rng.log_uniform(100, 50_000);
    let (garbles, replays) = (rng.below(4) == 0, rng.below(8) == 0);
    Quality {
        garbled: if garbles { garbled } else { 0 },
        replay_us_max: if replays { REPLAY_US_MAX } else { quality.replay_us_max },
        duplication: if replays { quality.duplication.max(10_000) } else { quality.duplication },
        ..quality
    }
}

fn quorum(voters: u32, rng: &mut Rng) -> QuorumSystem {
    let phase1 = rng.between(1, u64::from(voters)) as u8;
    let flexible = QuorumSystem::Flexible { phase1, phase2: voters as u8 + 1 - phase1 };
    if rng.below(4) == 0 { flexible } else { QuorumSystem::Majority }
}

fn genesis(voters: u32, quorum: QuorumSystem, alpha: u64, rng: &mut Rng) -> Result<Genesis, MembershipError> {
    let voters = (1..=voters)
        .map(|node| Member { node: NodeId(node), incarnation: Incarnation(rng.draw()), generation: 0 })
        .collect();
    let learners = rng.pick(&[0, 0, 0, 0, 1, 2]);
    let learners = (0..learners)
        .map(|learner| Member { node: NodeId(100 + learner), incarnation: Incarnation(rng.draw()), generation: 0 })
        .collect();
    Genesis::new(Membership::new(voters, learners, quorum)?, alpha)
}

/// Every eighth cluster begins without one of its nodes.
fn late(genesis: &Genesis, us: u64, rng: &mut Rng) -> Vec<(NodeId, Instant)> {
    let members: Vec<NodeId> = genesis.membership().members().map(|member| member.node).collect();
    let (node, at) = (rng.pick(&members), START.plus_us(rng.below(us)));
    if rng.below(8) == 0 { vec![(node, at)] } else { Vec::new() }
}

fn config(election: ElectionPolicy, window: u32, rng: &mut Rng) -> Config {
    let heartbeat_us = rng.pick(&[50_000, 50_000, 100_000]);
    let run = rng.log_uniform(1, 1_024) as usize;
    Config {
        election,
        heartbeat_us,
        election_timeout_us: heartbeat_us * 6,
        window_slots: window,
        run_entries_max: run,
        run_bytes_max: rng.pick(&[512, 4 << 10, 1 << 20]),
        ..Config::default()
    }
}

/// Two seeds of five have a bound that is as tight as it may be, and is met all the time; each draws the same numbers
/// whether it is on or not.
fn tightened(config: Config, rng: &mut Rng) -> (Config, Limits) {
    const ENTRY_BYTES: usize = 256;
    let mut on = |value: u64| (rng.below(8) == 0).then_some(value);
    let kinds: Vec<Option<u64>> = (0..4).map(&mut on).collect();
    let window_slots = rng.between(1, 8) as u32;
    let run_entries_max = rng.between(1, 4) as usize;
    let more_bytes = rng.log_uniform(1, 4_096) as usize;
    let sessions_max = rng.between(1, 8) as usize;
    let mut limits = Limits::default();
    let mut config = config;
    for kind in kinds.into_iter().flatten() {
        match kind {
            0 => config.window_slots = config.window_slots.min(window_slots),
            1 => config.run_entries_max = run_entries_max,
            2 => {
                config.entry_bytes_max = ENTRY_BYTES;
                config.window_bytes = ENTRY_BYTES + ENTRY_HEAD_BYTES + more_bytes;
            }
            _ => limits.sessions_max = sessions_max,
        }
    }
    (config, limits)
}

/// In every eighth cluster one disk, or each of them, is slower than elections have patience for.
fn slow_disks(genesis: &Genesis, election_timeout_us: u64, rng: &mut Rng) -> Vec<(NodeId, DiskQuality)> {
    let members: Vec<NodeId> = genesis.membership().members().map(|member| member.node).collect();
    let sync_us_min = election_timeout_us / 2 + rng.log_uniform(1_000, election_timeout_us * 3);
    let slow = DiskQuality { sync_us_min, sync_jitter_us: rng.log_uniform(1_000, election_timeout_us) };
    let one = rng.pick(&members);
    match rng.below(16) {
        0 => vec![(one, slow)],
        1 => members.into_iter().map(|node| (node, slow)).collect(),
        _ => Vec::new(),
    }
}

fn quality(rng: &mut Rng) -> Quality {
    let rough = Quality {
        delay_us_min: rng.log_uniform(50, 15_000),
        jitter_us: rng.log_uniform(50, 30_000),
        loss: rng.log_uniform(100, 200_000),
        duplication: rng.log_uniform(100, 300_000),
        replay_us_max: rng.log_uniform(1_000, 20_000_000),
        misrouted: rng.log_uniform(10, 10_000),
        garbled: 0,
        reorders: rng.coin(),
    };
    Quality {
        loss: if rng.coin() { rough.loss } else { 0 },
        duplication: if rng.coin() { rough.duplication } else { 0 },
        misrouted: if rng.coin() { rough.misrouted } else { 0 },
        ..rough
    }
}

fn disk(rng: &mut Rng) -> DiskQuality {
    DiskQuality { sync_us_min: rng.log_uniform(20, 5_000), sync_jitter_us: rng.log_uniform(20, 20_000) }
}

fn manners(rng: &mut Rng, us: u64) -> Vec<Manner> {
    /// Within this time after the begin of the world all clients have begun.
    const BEGIN_US: u64 = 1_000_000;
    let clients = rng.log_uniform(1, 12);
    let commands = rng.log_uniform(COMMANDS_MIN, COMMANDS_MIN * 8);
    let keys = rng.log_uniform(1, 32);
    let operations = commands.div_ceil(clients);
    // Spread over three quarters of the faults, so that each sees some of them.
    let think_us = us * 3 / 4 / operations;
    (1..=clients)
        .map(|client| Manner {
            client: client as u32,
            depth: rng.log_uniform(1, 16) as usize,
            patience_us: rng.log_uniform(300_000, 2_500_000),
            once: rng.coin(),
            begins_us: rng.below(BEGIN_US),
            asks: Asks::Drawn { operations, think_us, keys, large: None },
        })
        .collect()
}
