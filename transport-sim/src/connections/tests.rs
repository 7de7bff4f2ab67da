//! Clients at their worst: what becomes of them, and that nobody else suffers.

use paxos_core::limits::ENTRY_HEAD_BYTES;
use paxos_core::{ElectionPolicy, QuorumSystem};

use super::*;
use crate::client::{Asks, Manner, OperationId};
use crate::nemesis::Fault;
use crate::observer::Moment;
use crate::resp::Reply;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// What befell connections, and what clients were answered and when.
#[derive(Debug, Default)]
struct Seen {
    mishaps: Vec<Mishap>,
    answers: Vec<(OperationId, Reply, Instant)>,
}

impl Observer for Seen {
    fn see(&mut self, moment: Moment, fact: &Fact<'_>) -> Result<(), Violation> {
        match fact {
            Fact::Connection(mishap) => self.mishaps.push(*mishap),
            Fact::Answered { id, reply } => self.answers.push((*id, (*reply).clone(), moment.now)),
            _ => {}
        }
        Ok(())
    }
}

impl Seen {
    fn has(&self, mishap: Mishap) -> bool {
        self.mishaps.contains(&mishap)
    }

    fn of(&self, client: u32) -> impl Iterator<Item = &(OperationId, Reply, Instant)> {
        self.answers.iter().filter(move |(id, ..)| id.client == client)
    }
}

/// A client that asks for this at these times, in microseconds.
fn client(client: u32, asks: Vec<(u64, Vec<Bytes>)>) -> Manner {
    let asks = (1..).zip(asks).map(|(number, (us, args))| Ask { number, due: START.plus_us(us), args });
    let asks = Asks::Listed(asks.collect());
    Manner { client, begins_us: 1_000, depth: 16, patience_us: 8_000_000, once: false, asks }
}

fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn set(key: &str, bytes: usize) -> Vec<Bytes> {
    vec!["SET".into(), Bytes::copy_from_slice(key.as_bytes()), vec![b'x'; bytes].into()]
}

/// Three voters and nothing wrong but these clients and faults.
fn scenario(clients: Vec<Manner>, faults: &[(u64, Fault)]) -> Scenario {
    let three = |scenario: &Scenario| {
        let membership = scenario.genesis.membership();
        membership.voters().len() == 3 && membership.quorum() == QuorumSystem::Majority && scenario.is_calm()
    };
    let drawn = |seed| Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
    let calm = (1..).map(drawn).find(three).expect("one of eight seeds is calm");
    let faults = faults.iter().map(|(at, fault)| (START.plus_us(*at), fault.clone())).collect();
    let (config, limits) = (paxos_core::Config { window_slots: 64, ..Default::default() }, Default::default());
    Scenario { clients, faults, config, limits, faults_us: 12_000_000, ..calm }
}

fn world(scenario: Scenario) -> World<Seen> {
    World::new(scenario, Seen::default(), Trace::silent()).expect("a world")
}

fn run(scenario: Scenario) -> World<Seen> {
    let mut world = world(scenario);
    world.run(u64::MAX).expect("comes to rest");
    world
}

#[test]
fn what_is_just_too_large_is_refused_and_what_fits_is_kept() {
    const BYTES_MAX: usize = 4_096;
    // Two bytes of head, the number of arguments, a key of two bytes and its length, and the length of the value.
    let fits = BYTES_MAX - (2 + 1 + 3 + 2);
    let asks = vec![
        (2_000_000, set("l0", fits)),
        (3_000_000, set("l0", fits + 1)),
        (4_000_000, words("STRLEN l0")),
        (5_000_000, set("l0", (1 << 20) + 1)),
        (6_000_000, words("STRLEN l0")),
    ];
    let mut scenario = scenario(vec![client(1, asks)], &[]);
    (scenario.config.entry_bytes_max, scenario.config.window_bytes) = (BYTES_MAX, BYTES_MAX + ENTRY_HEAD_BYTES);
    let world = run(scenario);
    let replies: Vec<String> = world.observer.of(1).map(|(_, reply, _)| format!("{reply:?}")).collect();
    let expected = [
        "Status(\"OK\")",
        "Error(\"ERR command exceeds maximum allowed size (4096 bytes)\")",
        &format!("Number({fits})"),
        "Error(\"ERR Protocol error: invalid bulk length",
        &format!("Number({fits})"),
    ];
    assert_eq!(replies.len(), expected.len(), "{replies:?}");
    for (reply, expected) in replies.iter().zip(expected) {
        assert!(reply.starts_with(expected), "{reply} is not {expected}");
    }
    let commands: Vec<u64> = world.nodes().map(|node| node.machine().commands()).collect();
    assert_eq!(commands, [1, 1, 1], "what was refused is in no log");
}

/// A client that asks for a large value sixteen times and does not read; another one that goes on meanwhile.
fn unread(output_bytes_max: usize) -> Scenario {
    const VALUE_BYTES: usize = 3_000;
    let mut asks = vec![(2_000_000, set("l0", VALUE_BYTES))];
    asks.extend((0..16).map(|_| (3_000_000, words("GET l0"))));
    let others = (0..200).map(|at| (2_000_000 + at * 20_000, words("INCRBY n 1"))).collect();
    let slow = Fault::SlowReader { client: 1, us: 3_000_000 };
    let mut scenario = scenario(vec![client(1, asks), client(2, others)], &[(2_999_999, slow)]);
    scenario.limits.client_output_bytes_max = output_bytes_max;
    scenario
}

/// When the slow reader of `unread` reads again.
fn reads_again() -> Instant {
    START.plus_us(2_999_999 + 3_000_000)
}

#[test]
fn a_slow_reader_is_answered_no_further_until_it_reads() {
    let seen = run(unread(64 << 10)).observer;
    assert_eq!(seen.mishaps, [Mishap::Stalled, Mishap::Drained]);
    let late = seen.of(1).filter(|(_, reply, at)| matches!(reply, Reply::Bulk(_)) && *at >= reads_again()).count();
    assert_eq!(late, 16, "it reads all of them in the end");
    let (longest, answered) = seen.of(2).fold((0, 0), |(longest, count), (id, _, at)| {
        let due = START.plus_us(2_000_000 + (id.number - 1) * 20_000);
        (at.since_us(due).max(longest), count + 1)
    });
    assert_eq!(answered, 200);
    assert!(longest < 100_000, "the other client waited for {longest} us");
}

/// The node is told while later requests of the same connection wait for their quorum.
#[test]
fn what_a_slow_reader_asked_before_its_node_was_told_waits_too() {
    /// The second half of the requests arrives before the first is answered, and is ready behind it.
    const LATER_US: u64 = 80;
    let mut scenario = unread(64 << 10);
    if let Asks::Listed(asks) = &mut scenario.clients[0].asks {
        asks.iter_mut().skip(1 + 8).for_each(|ask| ask.due = ask.due.plus_us(LATER_US));
    }
    let mut world = world(scenario);
    while world.now().plus_us(1_000_000) < reads_again() {
        world.run(world.report().steps + 1).expect("nothing is wrong");
    }
    let waiting: Vec<usize> = world.connections.iter().map(|line| line.unread.replies().len()).collect();
    assert_eq!(waiting.iter().sum::<usize>(), 8, "{waiting:?}");
    world.run(u64::MAX).expect("comes to rest");
    assert_eq!(world.observer.of(1).count(), 17);
}

#[test]
fn a_slow_reader_for_whom_too_much_waits_is_cut_off() {
    let world = run(unread(4 << 10));
    let seen = &world.observer;
    assert!(seen.has(Mishap::Cut), "{:?}", seen.mishaps);
    assert_eq!(seen.of(2).count(), 200);
    assert!(world.report().unknown > 0 || seen.of(1).count() == 17, "its reads ended with the connection");
}

#[test]
fn a_node_that_keeps_more_than_its_bound_for_a_slow_reader_is_noticed() {
    let mut world = world(unread(1 << 20));
    // The nodes are up with the bound that they know, and are judged by another one.
    world.run(2).expect("they start");
    while world.nodes().count() < 3 {
        world.run(world.report().steps + 1).expect("they start");
    }
    world.scenario.limits.client_output_bytes_max = 1 << 10;
    let violation = world.run(u64::MAX).expect_err("48,000 bytes wait");
    assert_eq!(violation.invariant, "bounded-replies", "{violation}");
}

#[test]
fn a_crowd_takes_all_room_and_leaves_nothing_behind() {
    const CLIENTS_MAX: usize = 20;
    let crowds: Vec<(u64, Fault)> =
        (1..=3).map(|node| (3_000_000, Fault::Crowd { node: NodeId(node), connections: 200, us: 2_000_000 })).collect();
    // The second one connects when all places are taken.
    const LATE_US: u64 = 3_005_000;
    let late = Manner { begins_us: LATE_US, ..client(2, vec![(LATE_US, words("INCRBY n 1"))]) };
    let early = (0..100).map(|at| (2_000_000 + at * 40_000, words("INCRBY n 1"))).collect();
    let mut scenario = scenario(vec![client(1, early), late], &crowds);
    scenario.limits.clients_max = CLIENTS_MAX;
    let mut world = run(scenario);
    let seen = &world.observer;
    assert!(seen.has(Mishap::NoRoom) && seen.has(Mishap::LeftOpen));
    assert_eq!((seen.of(1).count(), seen.of(2).count()), (100, 1));
    let (_, reply, at) = seen.of(2).next().expect("answered");
    let waited_us = at.since_us(START.plus_us(LATE_US));
    assert!(matches!(reply, Reply::Number(_)) && waited_us > 10_000, "{reply:?} after {waited_us} us");
    let known: usize = world.nodes().map(|node| node.status().clients).sum();
    assert!(known <= 2, "{known}");
    // A connection that its node should have forgotten.
    let line = world.connections.iter_mut().find(|line| line.served).expect("somebody is connected");
    line.served = false;
    let forgotten = world.counts_connections().expect_err("one too many");
    assert_eq!(forgotten.invariant, "clients-are-forgotten");
}

/// Whoever gives up while a process stands still is gone when it goes on, also if the process had not yet heard of it.
#[test]
fn a_process_that_stood_still_forgets_who_came_and_left_meanwhile() {
    let impatient = Manner { patience_us: 300_000, ..client(1, vec![(2_000_000, words("SET k0 1"))]) };
    let pause = |node| (1_900_000, Fault::Pause { node: NodeId(node), us: 4_000_000 });
    let world = run(scenario(vec![impatient], &[pause(1), pause(2), pause(3)]));
    let tried = world.connections.len();
    assert!(tried > 5, "{tried} connections");
    let known: usize = world.nodes().map(|node| node.status().clients).sum();
    assert!(known <= 1, "{known} of {tried} connections are still known");
}

/// Requests at these times, in microseconds, each of which is told what the one before it left.
fn chain(times: impl Iterator<Item = u64>) -> Vec<(u64, Vec<Bytes>)> {
    (1..).zip(times).map(|(number, at)| (at, words(&format!("GETSET k {number}")))).collect()
}

/// None of a chain overtook another, and all of them were answered.
fn is_chain(answers: &[&Reply], count: usize) -> bool {
    let left = (1..count).map(|number| Reply::Bulk(number.to_string().into()));
    answers.iter().copied().eq(std::iter::once(Reply::Nil).chain(left).collect::<Vec<_>>().iter())
}

/// What had waited at the node was sent once more, and what was on its way overtook it: seed 28270 of `stable`.
#[test]
fn what_waits_at_a_node_that_does_not_read_is_not_overtaken() {
    const VALUE_BYTES: usize = 3_000;
    const READS_US: u64 = 4_000_000;
    const REQUESTS: usize = 12;
    let mut asks = vec![(2_000_000, set("l0", VALUE_BYTES)), (3_000_000, words("GET l0"))];
    asks.extend(chain((0..REQUESTS as u64).map(|at| READS_US - 600 + at * 100)));
    let slow = Fault::SlowReader { client: 1, us: READS_US - 2_999_999 };
    let mut scenario = scenario(vec![client(1, asks)], &[(2_999_999, slow)]);
    // The value alone stalls the connection, and does not end it.
    scenario.limits.client_output_bytes_max = VALUE_BYTES + VALUE_BYTES / 2;
    let seen = run(scenario).observer;
    assert_eq!(seen.mishaps, [Mishap::Stalled, Mishap::Drained]);
    let answers: Vec<&Reply> = seen.of(1).skip(2).map(|(_, reply, _)| reply).collect();
    assert!(is_chain(&answers, REQUESTS), "{answers:?}");
}

/// What came while a process stood still is there before what comes at the very moment when it goes on.
#[test]
fn what_waits_at_a_process_that_stood_still_is_not_overtaken() {
    const PAUSED_US: u64 = 3_000_000;
    const REQUESTS: usize = 16;
    for us in 50..250 {
        let mut asks = vec![(2_000_000, words("SET other 1"))];
        asks.extend(chain((0..REQUESTS as u64).map(|at| PAUSED_US + at * 10)));
        let pause = |node| (PAUSED_US, Fault::Pause { node: NodeId(node), us });
        let mut scenario = scenario(vec![client(1, asks)], &[pause(1), pause(2), pause(3)]);
        scenario.faults_us = 4_000_000;
        let seen = run(scenario).observer;
        let answers: Vec<&Reply> = seen.of(1).skip(1).map(|(_, reply, _)| reply).collect();
        assert!(is_chain(&answers, REQUESTS), "{us}: {answers:?}");
    }
}
