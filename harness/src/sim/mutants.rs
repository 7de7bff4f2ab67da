//! Rules broken on purpose are caught within a budget of seeds, each by the worlds that can show it. A hook may move
//! and a rule be told anew; a mutant that survives is a hole in the checks.
//!
//! `RUSTFLAGS="--cfg paxos_mutants" CARGO_TARGET_DIR=target/mutants cargo test -p harness --lib mutant -- --nocapture`
//!
//! runs each mutant in the world that is best at it, from seed 1 on. `MUTANT_STARTS=5` before it takes as many disjoint
//! ranges of seeds in all its worlds: the table of docs/verification.md.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paxos_core::mutants::{self, Mutant};
use transport_sim::{Concern, Rng};

use super::{Args, Election, WorldKind, run_seed};
use crate::{fuzzing, scenario};

/// Where seeds are run.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// Whole nodes, links, disks and clients.
    Node,
    /// Bare replicas.
    Bare,
    /// Logs with random damage.
    Log,
    /// The script about it: what random schedules do not hit, or what only a liar can say.
    Script(&'static str),
}

use Where::{Bare, Log, Node, Script};

const CHUNKS_OF_TWO_BOOTS: &str = include_str!("../../scenarios/rule-18-chunks-of-two-boots.txt");
const DELAYED_ACCEPT: &str = include_str!("../../scenarios/rule-9-delayed-accept.txt");
const DEPOSED_LEADER_READ: &str = include_str!("../../scenarios/deposed-leader-read.txt");
const STALE_ACKNOWLEDGEMENTS: &str = include_str!("../../scenarios/stale-acknowledgements.txt");
const ABSURD_ROUNDS: &str = include_str!("../../scenarios/absurd-rounds.txt");

/// Seeds that one start may take, and how long: a minute, three times over where others slow the machine down.
const SEEDS_MAX: u64 = 5_000;
const SECONDS_MAX: Duration = Duration::from_secs(180);
/// Starts are so many seeds apart.
const STARTS_APART: u64 = 100_000;

/// Mutant, rule, and the worlds that catch it within the budget, the best one first. Where only bare replicas are named,
/// whole nodes take more than a minute: their faults are spread over half a minute of service each.
const CASES: &[(Mutant, &str, &[Where])] = &[
    (Mutant::Phase1QuorumTooSmall, "1", &[Bare, Node]),
    (Mutant::Phase2QuorumTooSmall, "5", &[Bare, Node]),
    (Mutant::FirstValueWins, "2", &[Bare]),
    (Mutant::PromiseForgetsBelowMark, "2", &[Bare, Node]),
    (Mutant::OneBallotVariable, "4", &[Bare, Node]),
    (Mutant::PromiseGapIgnored, "1", &[Bare]),
    (Mutant::StaleBootChunkCounted, "18", &[Script(CHUNKS_OF_TWO_BOOTS)]),
    (Mutant::AbsurdRoundBelieved, "13", &[Script(ABSURD_ROUNDS)]),
    (Mutant::PromiseBeforeSync, "6", &[Bare, Node]),
    (Mutant::VoteBeforeSync, "6", &[Bare, Node]),
    (Mutant::BallotNotWritten, "4", &[Bare, Node]),
    (Mutant::AnsweredBeforeChosen, "6", &[Bare, Node]),
    (Mutant::VoteCountedTwice, "5", &[Bare, Node]),
    (Mutant::ForeignVoteCounted, "5", &[Script(STALE_ACKNOWLEDGEMENTS)]),
    (Mutant::LearnerVoteCounted, "5", &[Node]),
    (Mutant::GapNotFilled, "10", &[Bare]),
    (Mutant::HoleSkipped, "10", &[Bare, Node]),
    (Mutant::PlainFirstUnchosenIndex, "7", &[Bare, Node]),
    (Mutant::PrefixPassesUnbound, "7", &[Bare]),
    (Mutant::LatePromiseRebinds, "4", &[Bare, Node]),
    (Mutant::AcceptBelowPromise, "3", &[Bare, Node]),
    (Mutant::AcceptRaisesNothing, "3", &[Bare, Node]),
    (Mutant::ChosenOverwritten, "9", &[Script(DELAYED_ACCEPT)]),
    (Mutant::NothingSentAgain, "11", &[Node]),
    (Mutant::CampaignAtOnce, "14", &[Node]),
    (Mutant::DoubtReportedRefused, "17", &[Bare, Node]),
    (Mutant::ReadBeforeInherited, "§4", &[Bare]),
    (Mutant::ReadWithoutRound, "§4", &[Script(DEPOSED_LEADER_READ), Bare]),
    (Mutant::PromiseForgottenAtStart, "§1", &[Bare, Node]),
    (Mutant::VotesForgottenAtStart, "§1", &[Bare, Node]),
    (Mutant::CorruptionTakenForTorn, "§7", &[Log]),
    (Mutant::SessionsIgnored, "16", &[Node]),
    (Mutant::SessionsCloseByClock, "16", &[Node]),
];

/// The mutants that whole nodes catch.
pub(super) fn of_whole_nodes() -> impl Iterator<Item = Mutant> {
    CASES.iter().filter(|(_, _, places)| places.iter().any(|place| matches!(place, Node))).map(|(mutant, ..)| *mutant)
}

impl Where {
    fn name(self) -> &'static str {
        match self {
            Where::Node => "node",
            Where::Bare => "bare",
            Where::Log => "log",
            Where::Script(_) => "script",
        }
    }
}

/// How a mutant was caught.
#[derive(Clone, Debug)]
struct Caught {
    seeds: u64,
    seconds: f64,
    invariant: String,
}

/// The invariant that this seed sees broken.
fn seen(place: Where, seed: u64) -> Option<String> {
    let world = |kind| run_seed(&Args::of(kind, Election::Stable), seed).violation;
    match place {
        Where::Node => world(WorldKind::Node).map(|broken| broken.invariant.to_owned()),
        Where::Bare => world(WorldKind::Bare).map(|broken| broken.invariant.to_owned()),
        Where::Log => {
            let mut rng = Rng::new(seed, Concern::Disk);
            let edits = rng.between(1, 4) * 8;
            let input: Vec<u8> = (0..=edits).map(|_| rng.draw() as u8).collect();
            catch_unwind(AssertUnwindSafe(|| fuzzing::wal::run(&input))).err().map(|_| "no-damage-is-lost".to_owned())
        }
        Where::Script(script) => scenario::check(script).err().map(|error| error.what),
    }
}

/// Runs seeds until one sees the mutant, from the first one of this start on.
fn hunt(mutant: Mutant, place: Where, start: u64) -> Option<Caught> {
    let began = Instant::now();
    mutants::set(Some(mutant));
    let found = (1..=SEEDS_MAX).take_while(|_| began.elapsed() < SECONDS_MAX).find_map(|seeds| {
        let invariant = seen(place, start * STARTS_APART + seeds)?;
        Some(Caught { seeds, seconds: began.elapsed().as_secs_f64(), invariant })
    });
    mutants::set(None);
    found
}

/// All starts of one mutant in one world, as a line of the table.
fn line(mutant: Mutant, rule: &str, place: Where, caught: &[Option<Caught>]) -> String {
    let mut found: Vec<&Caught> = caught.iter().flatten().collect();
    found.sort_by_key(|one| one.seeds);
    let mut invariants: Vec<&str> = found.iter().map(|caught| &*caught.invariant).collect();
    invariants.sort_unstable();
    invariants.dedup();
    let median = found.get(found.len() / 2);
    let (seeds, seconds) = median.map_or(("-".to_owned(), "-".to_owned()), |caught| {
        (caught.seeds.to_string(), format!("{:.2}", caught.seconds))
    });
    let most = found.last().map_or(0, |caught| caught.seeds);
    let place = place.name();
    let missed =
        if found.len() < caught.len() { format!(" ({} missed)", caught.len() - found.len()) } else { String::new() };
    format!("| `{mutant:?}` | {rule} | {place} | {} | {seeds} | {most} | {seconds} |{missed}", invariants.join(", "))
}

#[test]
fn mutants_are_caught() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let starts = number("MUTANT_STARTS").unwrap_or(1).max(1);
    // `MUTANT_ONLY` picks some: "Vote", "bare", "SessionsIgnored node".
    let only = std::env::var("MUTANT_ONLY").unwrap_or_default();
    let jobs: Vec<(Mutant, &str, Where)> = CASES
        .iter()
        .flat_map(|(mutant, rule, places)| {
            let places = if starts == 1 && only.is_empty() { &places[..1] } else { places };
            places.iter().map(move |place| (*mutant, *rule, *place))
        })
        .filter(|(mutant, _, place)| format!("{mutant:?} {}", place.name()).contains(&only))
        .collect();
    let next = AtomicUsize::new(0);
    let lines: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());
    let missed: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, (mutant, rule, place))) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(at).map(|job| (at, *job))
                } {
                    let caught: Vec<Option<Caught>> = (0..starts).map(|start| hunt(mutant, place, start)).collect();
                    let line = line(mutant, rule, place, &caught);
                    println!("{line}");
                    if caught.iter().any(Option::is_none) {
                        missed.lock().unwrap().push(line.clone());
                    }
                    lines.lock().unwrap().push((at, line));
                }
            });
        }
    });
    let mut lines = lines.into_inner().unwrap();
    lines.sort_unstable();
    println!(
        "\n| mutant | rule | world | caught by | median seeds | most | median s |\n| --- | --- | --- | --- | ---: | ---: | ---: |"
    );
    lines.iter().for_each(|(_, line)| println!("{line}"));
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "survived {SEEDS_MAX} seeds or {SECONDS_MAX:?}: {missed:#?}");
}
