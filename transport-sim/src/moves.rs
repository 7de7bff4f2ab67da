//! The room for schedules of bare replicas: what may happen next, as values, as bytes for fuzzers, and drawn from a
//! seed.

mod bytes;
mod episodes;

use paxos_core::{Config, ElectionPolicy, QuorumSystem};

use self::bytes::{DRIFT, HIGHEST_ID, Kind, SHORT_RUNS};
use crate::rng::{Concern, Rng};

/// One decision of a schedule. Numbers are reduced to what exists when the move is made, so that every schedule
/// is possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// A message in flight arrives; 0 is the oldest.
    Deliver {
        /// Which one.
        pick: u16,
    },
    /// A message in flight arrives and may arrive again.
    Repeat {
        /// Which one.
        pick: u16,
    },
    /// A message in flight is lost.
    Drop {
        /// Which one.
        pick: u16,
    },
    /// A client proposes so many commands at a node.
    Propose {
        /// Where; from 128 on, at whoever leads.
        node: u8,
        /// How many.
        count: u8,
    },
    /// A client reads at a node.
    Read {
        /// Where; from 128 on, at whoever leads.
        node: u8,
    },
    /// The first records that wait for the disk become durable, and the node is told.
    Sync {
        /// Whose disk.
        node: u8,
        /// How many records.
        count: u8,
    },
    /// A node is told the time.
    Tick {
        /// Which one.
        node: u8,
    },
    /// Time passes, and nobody is told.
    Pass {
        /// How long.
        ms: u16,
    },
    /// For so long everything works, but for links that are cut.
    Run {
        /// How long.
        ms: u16,
        /// How many of 256 messages are lost.
        loss: u8,
        /// How many of 256 messages arrive twice.
        twice: u8,
        /// How many of 256 times a disk is not ready in a round.
        lazy: u8,
        /// How many of 256 messages take far longer than others, up to seconds.
        late: u8,
    },
    /// All messages of one kind in flight from a node are lost.
    Lose {
        /// Sender.
        node: u8,
        /// Which kind.
        kind: u8,
    },
    /// A process dies; so many of the records that waited for its disk are found after all.
    Crash {
        /// Which one.
        node: u8,
        /// How many.
        keep: u8,
    },
    /// A dead process starts again.
    Restart {
        /// Which one.
        node: u8,
    },
    /// The disk of a node fails.
    FailDisk {
        /// Which one.
        node: u8,
    },
    /// Messages from one node to another are held until the link heals.
    Cut {
        /// Sender and receiver.
        link: u8,
        /// In both directions.
        both: bool,
    },
    /// Messages between two sides are held until the links heal.
    Split {
        /// The nodes of one side, as bits.
        side: u8,
    },
    /// No link is cut any more.
    Heal,
    /// The operator asks for another leader.
    HandOver {
        /// Who is to lead.
        to: u8,
    },
    /// Something befalls whoever leads, or is about to.
    Depose {
        /// Which one; from 128 on, whoever leads.
        node: u8,
        /// With whom it loses touch, as bits.
        side: u8,
        /// What happens.
        how: Blow,
    },
    /// One link is cut no longer.
    Mend {
        /// Sender and receiver.
        link: u8,
        /// In both directions.
        both: bool,
    },
    /// Processes that stood still go on.
    Wake,
}

/// What can befall a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blow {
    /// Its process dies; so many of the records that waited for its disk are found after all.
    Crash {
        /// How many.
        keep: u8,
    },
    /// Its process stands still.
    Pause,
    /// Nobody of the others hears it.
    Mute,
    /// It hears nobody of the others.
    Deaf,
    /// Both.
    Alone,
}

/// Bytes of one encoded move.
pub const MOVE_BYTES: usize = 4;
/// Bytes before the moves of an encoded schedule.
pub const HEAD_BYTES: usize = 4;

/// A whole schedule: who takes part, and what happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// How many voters.
    pub voters: u8,
    /// Which quorums.
    pub quorum: QuorumSystem,
    /// Who should lead.
    pub election: ElectionPolicy,
    /// The window, and α.
    pub window: u32,
    /// Whether clocks run at different rates.
    pub drift: bool,
    /// Most entries in one message.
    pub run_entries_max: usize,
    /// Seeds the replicas.
    pub seed: u64,
    /// What happens.
    pub moves: Vec<Move>,
}

impl Schedule {
    /// Reads a schedule from any bytes; a tail that is no whole move is ignored.
    pub fn decode(bytes: &[u8]) -> Option<Schedule> {
        let ([shape, windows, one, two], rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let (moves, _) = rest.as_chunks::<MOVE_BYTES>();
        let (voters, quorum) = match shape & 0x07 {
            0 => (1, QuorumSystem::Majority),
            1 => (2, QuorumSystem::Majority),
            2..=4 => (3, QuorumSystem::Majority),
            5 => (4, QuorumSystem::Flexible { phase1: 3, phase2: 2 }),
            6 => (3, QuorumSystem::Flexible { phase1: 1, phase2: 3 }),
            _ => (5, QuorumSystem::Majority),
        };
        Some(Schedule {
            voters,
            quorum,
            election: if shape & HIGHEST_ID == 0 { ElectionPolicy::Stable } else { ElectionPolicy::HighestId },
            window: 1 << (windows & 0x07),
            drift: windows & DRIFT == DRIFT,
            run_entries_max: if windows & SHORT_RUNS == SHORT_RUNS { 2 } else { 16 },
            seed: u64::from(*one) << 8 | u64::from(*two),
            moves: moves.iter().map(|bytes| Move::decode(*bytes)).collect(),
        })
    }

    /// The settings of every replica: tight bounds, so that they are met often.
    pub fn config(&self) -> Config {
        Config {
            election: self.election,
            window_slots: self.window,
            window_bytes: 64 << 10,
            entry_bytes_max: 1 << 10,
            run_entries_max: self.run_entries_max,
            run_bytes_max: 2 << 10,
            reads_max: 64,
            ..Config::default()
        }
    }

    /// A schedule from a seed: each kind of move is on or off, and how often it is drawn differs by seed.
    pub fn random(seed: u64, election: ElectionPolicy, moves: usize) -> Schedule {
        let bytes = Schedule::random_bytes(seed, election, moves);
        let mut schedule = Schedule::decode(&bytes).unwrap_or_else(|| unreachable!("the head is whole"));
        schedule.seed = seed;
        schedule
    }

    /// The same as bytes, as a fuzzer would make them.
    pub fn random_bytes(seed: u64, election: ElectionPolicy, moves: usize) -> Vec<u8> {
        let mut shape = Rng::new(seed, Concern::Topology);
        let mut bytes: Vec<u8> = (0..HEAD_BYTES).map(|_| shape.draw() as u8).collect();
        bytes[0] = match election {
            ElectionPolicy::Stable => bytes[0] & !HIGHEST_ID,
            ElectionPolicy::HighestId => bytes[0] | HIGHEST_ID,
        };
        let mut rng = Rng::new(seed, Concern::Schedule);
        if rng.coin() {
            // Leaders that lose office in mid-work are rare in a random walk, and most rules are about them. Quorums
            // that leave somebody out need five.
            if rng.coin() {
                bytes[0] |= 0x07;
            }
            bytes[1] |= rng.pick(&[0, DRIFT, SHORT_RUNS, DRIFT | SHORT_RUNS]);
            // Its moves are long ones.
            episodes::draw(&mut rng, moves / 10 + 30, &mut bytes);
            return bytes;
        }
        let mut weights: Vec<(Kind, u64)> = Vec::new();
        for kind in Kind::ALL {
            let on = kind.is_needed() || rng.coin();
            let weight = rng.log_uniform(1, kind.weight_max());
            if on {
                weights.push((kind, weight));
            }
        }
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        // Half of the schedules begin with a leader, as most of a cluster's life does.
        if rng.coin() {
            bytes.extend([Kind::Run as u8, 0xff, 0, 0]);
        }
        for _ in 0..moves {
            let mut drawn = rng.below(total);
            let mut picked = Kind::Deliver;
            for (kind, weight) in &weights {
                if drawn < *weight {
                    picked = *kind;
                    break;
                }
                drawn -= weight;
            }
            let bits = rng.draw();
            bytes.extend([picked as u8, bits as u8, (bits >> 8) as u8, (bits >> 16) as u8]);
        }
        bytes
    }
}
