//! The corruption matrix of "Protocol-Aware Recovery for Consensus-Based Storage" (Alagappan et al., FAST 2018):
//! three nodes that hold the same four chosen slots are stopped, each of the twelve records is left good or made
//! bad, in every one of the 4,096 combinations, and all are started again on the real recovery code.
//!
//! A combination is *recoverable* if every slot has a good copy somewhere: 7^4 = 2,401 are. It *comes back* if the
//! cluster serves again without an operator. It is *unsafe* if a node starts on a log with a bad record, refuses a
//! good one or for a wrong reason, if anything chosen is missing or different in what is served, or if a cluster
//! without a quorum of good disks serves. Repair from peers does not exist yet: a log with a bad record is refused
//! as a whole, so only a quorum of nodes without any comes back.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use node::wal::{Inspect, Item, MemoryFiles, Wal, WalError, WalSettings};
use node::{Address, Settings};
use paxos_core::{
    ClusterId, Formatted, Genesis, Incarnation, Member, Membership, NodeId, QuorumSystem, Record, Recovered, Role, Slot,
};
use transport_sim::{Calm, Reply, Violation};

const NODES: u32 = 3;
const SLOTS: u32 = 4;
/// One bit for each record: set, it is bad.
const COMBINATIONS: u32 = 1 << (NODES * SLOTS);
const QUORUM: usize = NODES as usize / 2 + 1;

const WAL: WalSettings = WalSettings { segment_bytes: 16 << 10, align_bytes: 512 };

/// Twenty election time-outs: what a cluster with a quorum may take to serve (docs/verification.md).
const SERVES_WITHIN_US: u64 = 20 * 300_000;

/// What becomes of a bad record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rot {
    /// One bit of its body is another one.
    OneBit,
    /// It reads as zeros, as a block that was lost does.
    Zeros,
    /// It reads as something else.
    Garbage,
}

impl Rot {
    /// All of them.
    pub const ALL: [Rot; 3] = [Rot::OneBit, Rot::Zeros, Rot::Garbage];

    fn spoil(self, record: &mut [u8]) {
        match self {
            Rot::OneBit => {
                let middle = record.len() / 2;
                record[middle] ^= 0x10;
            }
            Rot::Zeros => record.fill(0),
            Rot::Garbage => {
                let noise = (0u32..).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 1);
                record.iter_mut().zip(noise).for_each(|(byte, noise)| *byte ^= noise);
            }
        }
    }
}

/// What all combinations came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Matrix {
    /// Every way in which twelve records can be good or bad.
    pub combinations: u32,
    /// Of these, those in which each slot has a good copy.
    pub recoverable: u32,
    /// Those that served again without an operator.
    pub came_back: u32,
    /// Logs that were opened.
    pub starts: u32,
    /// Logs that were refused, each with the place of its first bad record.
    pub refusals: u32,
    /// From the start to the first new write, at most, in microseconds of simulated time.
    pub slowest_us: u64,
    /// What must not be, a line each.
    pub unsafe_because: Vec<String>,
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix { combinations, recoverable, came_back, starts, refusals, slowest_us, unsafe_because } = self;
        write!(
            f,
            "{combinations} combinations: {recoverable} recoverable, {came_back} came back without an operator, {} \
             stayed unavailable, {} unsafe; {starts} logs opened, {refusals} refused; slowest new write after {} ms",
            combinations - came_back,
            unsafe_because.len(),
            slowest_us / 1_000
        )
    }
}

/// Carries out `paxos corrupt-disks`: a line for each kind of damage; fails if anything is unsafe.
pub fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let mut safe = true;
    for rot in Rot::ALL {
        let said = match run(rot) {
            Ok(matrix) => {
                safe &= matrix.unsafe_because.is_empty();
                let found = matrix.unsafe_because.iter().map(|line| format!("\nUNSAFE: {line}")).collect::<String>();
                writeln!(out, "{rot:?}: {matrix}{found}")
            }
            Err(violation) => {
                safe = false;
                writeln!(out, "{rot:?}: {} broken: {}", violation.invariant, violation.detail)
            }
        };
        if said.is_err() {
            break; // nobody reads on
        }
    }
    if safe { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tries every combination.
///
/// # Errors
/// The first invariant that is broken before any disk is touched.
pub fn run(rot: Rot) -> Result<Matrix, Violation> {
    let base = Base::make()?;
    let mut matrix = Matrix::default();
    for combination in 0..COMBINATIONS {
        let case = Case { base: &base, rot, combination };
        matrix.combinations += 1;
        matrix.recoverable += u32::from(case.is_recoverable());
        if let Err(violation) = case.judge(&mut matrix) {
            let Violation { invariant, detail } = violation;
            matrix.unsafe_because.push(format!("{rot:?} in combination {combination:012b}: {invariant}: {detail}"));
        }
    }
    Ok(matrix)
}

/// A cluster that was stopped after it had chosen four slots.
struct Base {
    disks: Vec<Disk>,
    /// What `LOG.GET` answers, from slot 1 on.
    log: Vec<Reply>,
    digest: u64,
}

struct Disk {
    node: NodeId,
    files: MemoryFiles,
    /// Where the record of each slot lies, from slot 1 on.
    records: Vec<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    segment: u64,
    from: u64,
    to: u64,
}

fn unexpected(what: impl fmt::Display) -> Violation {
    Violation::new("start", what.to_string())
}

fn settings() -> Settings {
    let addresses = (1..=NODES).map(|node| (NodeId(node), Address::new(format!("n{node}"), 7_000)));
    Settings { addresses: addresses.collect(), ..Settings::default() }
}

fn formatted() -> Result<Vec<Formatted>, Violation> {
    let incarnation = |node: u32| Incarnation(u64::from(node) * 11);
    let member = |node| Member { node: NodeId(node), incarnation: incarnation(node), generation: 0 };
    let membership = Membership::new((1..=NODES).map(member).collect(), Vec::new(), QuorumSystem::Majority);
    let genesis = membership.and_then(|membership| Genesis::new(membership, 65_536)).map_err(unexpected)?;
    let of = |node| Formatted {
        cluster: ClusterId::new(0xc7),
        node: NodeId(node),
        incarnation: incarnation(node),
        genesis: genesis.clone(),
    };
    Ok((1..=NODES).map(of).collect())
}

fn key(slot: u32) -> String {
    format!("key{slot}")
}

impl Base {
    fn make() -> Result<Base, Violation> {
        let mut cluster = Calm::new(settings());
        for formatted in formatted()? {
            let mut files = MemoryFiles::new();
            Wal::format(&mut files, WAL, formatted).map_err(unexpected)?;
            let (log, recovered) = Wal::open(files, WAL).map_err(unexpected)?;
            cluster.start(log, recovered)?;
        }
        let leader = leader(&mut cluster)?.ok_or_else(|| unexpected("nobody leads"))?;
        for slot in 1..=SLOTS {
            let reply = cluster.ask(leader, &["SET", &key(slot), &format!("value {slot}")], SERVES_WITHIN_US)?;
            if reply != Some(Reply::Status("OK".into())) {
                return Err(unexpected(format!("{reply:?}")));
            }
        }
        // Followers learn at the next heartbeat, and write down what they learned soon after.
        cluster.run_us(1_000_000)?;
        let mut log = Vec::new();
        for slot in 1..=SLOTS {
            let reply = cluster.ask(leader, &["LOG.GET", &slot.to_string()], 0)?;
            log.push(reply.ok_or_else(|| unexpected("no answer"))?);
        }
        let last = Slot::FIRST.plus(u64::from(SLOTS - 1));
        let digests: Vec<Option<u64>> = cluster.nodes().map(|node| node.digest_at(last)).collect();
        let digest = digests.first().copied().flatten().ok_or_else(|| unexpected("the slots are not applied"))?;
        if digests.iter().any(|other| *other != Some(digest)) {
            return Err(unexpected(format!("digests {digests:?}")));
        }
        let disks = cluster.stop()?.into_iter().map(|(node, files)| {
            let records = places(&files)?;
            Ok(Disk { node, files, records })
        });
        Ok(Base { disks: disks.collect::<Result<_, Violation>>()?, log, digest })
    }
}

/// The record of each slot on a disk, from slot 1 on: one alone, or this is no test of records.
fn places(files: &MemoryFiles) -> Result<Vec<Place>, Violation> {
    /// The head of a group (docs/storage.md §3).
    const GROUP_HEAD_BYTES: u64 = 40;
    let mut places = Vec::new();
    let mut group_end = 0;
    let mut open: Option<Place> = None;
    for shown in Inspect::new(files.clone()).map_err(unexpected)? {
        let item = shown.item.map_err(unexpected)?;
        if let Some(place) = open.take() {
            places.push(Place { to: group_end.min(shown.offset), ..place });
        }
        match item {
            Item::Group { bytes, .. } => group_end = shown.offset + GROUP_HEAD_BYTES + u64::from(bytes),
            Item::Record(Record::Accepted { first, entries, .. } | Record::Learned { first, entries }) => {
                if first.get() != places.len() as u64 + 1 || entries.len() != 1 {
                    return Err(unexpected(format!("slot {first} and {} more in a record", entries.len() - 1)));
                }
                open = Some(Place { segment: shown.segment, from: shown.offset, to: group_end });
            }
            Item::Record(_) | Item::Segment { .. } | Item::End | Item::Torn { .. } | Item::Unused { .. } => {}
        }
    }
    if places.len() != SLOTS as usize {
        return Err(unexpected(format!("{} records of {SLOTS} slots", places.len())));
    }
    Ok(places)
}

/// Waits until some node leads and serves.
fn leader(cluster: &mut Calm) -> Result<Option<NodeId>, Violation> {
    /// How often it is looked.
    const LOOK_US: u64 = 10_000;
    for _ in 0..SERVES_WITHIN_US / LOOK_US {
        cluster.run_us(LOOK_US)?;
        let mut statuses = cluster.nodes().map(|node| node.status());
        if let Some(status) = statuses.find(|status| status.role == Role::Leading { ready: true }) {
            return Ok(Some(status.node));
        }
    }
    Ok(None)
}

/// One combination.
struct Case<'a> {
    base: &'a Base,
    rot: Rot,
    combination: u32,
}

impl Case<'_> {
    fn is_bad(&self, node: NodeId, slot: u32) -> bool {
        self.combination >> ((node.0 - 1) * SLOTS + slot - 1) & 1 == 1
    }

    fn is_recoverable(&self) -> bool {
        (1..=SLOTS).all(|slot| self.base.disks.iter().any(|disk| !self.is_bad(disk.node, slot)))
    }

    fn judge(&self, matrix: &mut Matrix) -> Result<(), Violation> {
        let mut cluster = Calm::new(settings());
        let mut running = 0;
        for disk in &self.base.disks {
            match self.open(disk)? {
                Some((log, recovered)) => {
                    matrix.starts += 1;
                    running += 1;
                    cluster.start(log, recovered)?;
                }
                None => matrix.refusals += 1,
            }
        }
        if running >= QUORUM {
            let served_us = self.serves(&mut cluster)?;
            matrix.came_back += 1;
            matrix.slowest_us = matrix.slowest_us.max(served_us);
        } else if running > 0 {
            self.serves_nothing(&mut cluster)?;
        }
        self.shows_what_was_chosen(&mut cluster)
    }

    /// The log of a node after the damage, if it opens. It does if and only if nothing in it is bad.
    #[allow(clippy::type_complexity, reason = "what opening a log returns")]
    fn open(&self, disk: &Disk) -> Result<Option<(Wal<MemoryFiles>, Recovered)>, Violation> {
        let mut files = disk.files.clone();
        let bad: Vec<Place> = (1..=SLOTS)
            .filter(|slot| self.is_bad(disk.node, *slot))
            .map(|slot| disk.records[slot as usize - 1])
            .collect();
        for place in &bad {
            let name = format!("{:016}.wal", place.segment);
            files.edit(&name, |bytes| self.rot.spoil(&mut bytes[place.from as usize..place.to as usize]));
        }
        let wrong = |what: String| Err(Violation::new("starts-right-or-refuses", format!("{:?}: {what}", disk.node)));
        match (bad.first(), Wal::open(files, WAL)) {
            (None, Ok(opened)) => Ok(Some(opened)),
            (None, Err(error)) => wrong(format!("a good log is refused: {error}")),
            (Some(place), Ok(_)) => wrong(format!("a log with a bad record at {} is opened", place.from)),
            (Some(place), Err(WalError::Corrupt { segment, offset, .. }))
                if segment == place.segment && offset == place.from =>
            {
                Ok(None)
            }
            (Some(place), Err(error)) => wrong(format!("a bad record at {}, and the reason is: {error}", place.from)),
        }
    }

    /// A quorum of good disks serves: what was chosen before, and something new. How long that took.
    fn serves(&self, cluster: &mut Calm) -> Result<u64, Violation> {
        let wrong = |what: String| Violation::new("a-quorum-serves", what);
        let begun = cluster.now();
        let leader = leader(cluster)?.ok_or_else(|| wrong("nobody leads".into()))?;
        let reply = cluster.ask(leader, &["SET", "new", "1"], SERVES_WITHIN_US)?;
        let served_us = cluster.now().since_us(begun);
        if reply != Some(Reply::Status("OK".into())) || served_us > SERVES_WITHIN_US {
            return Err(wrong(format!("a new write is answered {reply:?} after {served_us} us")));
        }
        for slot in 1..=SLOTS {
            let reply = cluster.ask(leader, &["GET", &key(slot)], SERVES_WITHIN_US)?;
            let value = format!("value {slot}");
            if !matches!(&reply, Some(Reply::Bulk(bytes)) if *bytes == value) {
                return Err(Violation::new("chosen-stays-chosen", format!("{} is answered {reply:?}", key(slot))));
            }
        }
        cluster.run_us(1_000_000)?;
        let last = Slot::FIRST.plus(u64::from(SLOTS - 1));
        match cluster.nodes().find(|node| node.digest_at(last) != Some(self.base.digest)) {
            Some(node) => Err(Violation::new("digests-agree", format!("{:?}", node.status()))),
            None => Ok(served_us),
        }
    }

    /// Without a quorum nothing is promised to anybody.
    fn serves_nothing(&self, cluster: &mut Calm) -> Result<(), Violation> {
        let ids: Vec<NodeId> = cluster.nodes().map(|node| node.status().node).collect();
        for id in ids {
            for words in [&["SET", "new", "1"][..], &["GET", "key1"]] {
                let reply = cluster.ask(id, words, SERVES_WITHIN_US)?;
                if !matches!(&reply, None | Some(Reply::Error(_))) {
                    let why = format!("{id:?} alone answers {words:?} with {reply:?}");
                    return Err(Violation::new("no-quorum-serves-nothing", why));
                }
            }
        }
        Ok(())
    }

    /// History at a slot: any node may answer what it knows to be chosen, and nothing else.
    fn shows_what_was_chosen(&self, cluster: &mut Calm) -> Result<(), Violation> {
        let ids: Vec<NodeId> = cluster.nodes().map(|node| node.status().node).collect();
        for id in ids {
            for (slot, chosen) in (1..).zip(&self.base.log) {
                match cluster.ask(id, &["LOG.GET", &format!("{slot}")], SERVES_WITHIN_US)? {
                    Some(reply) if reply == *chosen => {}
                    None | Some(Reply::Nil | Reply::Error(_)) => {}
                    other => {
                        let why = format!("{id:?} shows {other:?} in slot {slot}, where {chosen:?} is chosen");
                        return Err(Violation::new("chosen-stays-chosen", why));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes without a bad record: 3 × 15 combinations; all three: one more. A cluster that repaired records from
    /// peers would come back in all 2,401.
    #[test]
    fn no_combination_of_corrupt_records_is_unsafe_and_a_quorum_of_good_disks_comes_back() {
        for rot in Rot::ALL {
            let matrix = run(rot).expect("a cluster that chooses four slots");
            println!("{rot:?}: {matrix}");
            assert_eq!(matrix.unsafe_because, Vec::<String>::new());
            assert_eq!((matrix.combinations, matrix.recoverable, matrix.came_back), (4_096, 2_401, 46));
            // A node has 16 patterns of bad records, of which one is none.
            assert_eq!((matrix.starts, matrix.refusals), (3 * 4_096 / 16, 3 * 4_096 / 16 * 15));
        }
    }

    /// The judge sees what it is there to see.
    #[test]
    fn a_log_that_lost_a_chosen_slot_unnoticed_is_found() {
        let base = Base::make().expect("a cluster that chooses four slots");
        let case = Case { base: &base, rot: Rot::Zeros, combination: 0 };
        let good = |disk: &Disk| Wal::open(disk.files.clone(), WAL).expect("a good log");
        // Node 1 and 2 as an earlier life of theirs: formatted, and nothing chosen yet.
        let mut cluster = Calm::new(settings());
        for formatted in formatted().expect("a membership").into_iter().take(2) {
            let mut files = MemoryFiles::new();
            Wal::format(&mut files, WAL, formatted).expect("memory");
            let (log, recovered) = Wal::open(files, WAL).expect("memory");
            cluster.start(log, recovered).expect("it starts");
        }
        let found = case.serves(&mut cluster).map_err(|violation| violation.invariant);
        assert_eq!(found, Err("chosen-stays-chosen"));
        assert_eq!(
            case.serves_nothing(&mut cluster).map_err(|violation| violation.invariant),
            Err("no-quorum-serves-nothing")
        );
        let found = case.shows_what_was_chosen(&mut cluster).map_err(|violation| violation.invariant);
        assert_eq!(found, Err("chosen-stays-chosen"));
        // One bad record is refused; a good log under the same pattern, as if recovery had not seen it, is not.
        let case = Case { base: &base, rot: Rot::OneBit, combination: 1 };
        assert!(case.open(&base.disks[0]).expect("the right reason").is_none());
        let mut cluster = Calm::new(settings());
        for disk in &base.disks {
            let (log, recovered) = good(disk);
            cluster.start(log, recovered).expect("it starts");
        }
        case.serves(&mut cluster).expect("three good disks serve");
    }
}
