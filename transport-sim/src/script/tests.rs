//! Scripts say all there is to say of a run, and whoever writes one by hand is told what is wrong with it.

use paxos_core::{ElectionPolicy, Slot};

use super::*;
use crate::nemesis::Lone;
use crate::trace::Trace;
use crate::world::World;

/// Runs a seed and writes its decisions down: the script, the hash, and how many steps it took.
fn recorded(seed: u64) -> (Script, u64, u64) {
    let mut scenario = Scenario::draw(seed, ElectionPolicy::Stable).expect("a legal scenario");
    // Long enough for faults of every kind to strike over some seeds.
    scenario.faults_us = 10_000_000;
    let mut world = World::new(scenario, (), Trace::silent()).expect("a world");
    world.keep_decisions();
    world.run(u64::MAX).expect("no violation");
    (world.script(), world.trace.hash(), world.report().asked)
}

fn replayed(script: &Script) -> (u64, u64) {
    let mut world = World::replay(script, (), Trace::silent()).expect("a world");
    world.run(u64::MAX).expect("no violation");
    (world.trace.hash(), world.report().asked)
}

#[test]
fn a_script_survives_its_text_and_its_run_is_the_recorded_one() {
    for seed in 1..=12 {
        let (script, hash, asked) = recorded(seed);
        let text = script.to_string();
        let again: Script = text.parse().expect("what was written can be read");
        assert!(again == script, "seed {seed}");
        assert_eq!(replayed(&again), (hash, asked), "seed {seed}");
    }
}

#[test]
fn a_seed_decides_something_of_every_kind() {
    let decisions: Vec<Decision> = (1..=12).flat_map(|seed| recorded(seed).0.decisions).collect();
    let kinds: std::collections::BTreeSet<String> = decisions
        .iter()
        .map(|decision| {
            let (stream, departure) = (format!("{:?}", decision.stream), format!("{:?}", decision.departure));
            let head = |text: &str| text.split([' ', '(']).next().unwrap_or_default().to_owned();
            format!("{} {}", head(&stream), head(&departure))
        })
        .collect();
    for kind in ["Link Late", "Link Lost", "Link Again", "Link Astray", "ToNode Late", "ToClient Late", "Sync Late"] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
    assert!(kinds.contains("Crash Torn"), "{kinds:?}");
}

#[test]
fn what_is_taken_out_does_not_happen() {
    let (mut script, ..) = recorded(3);
    script.decisions.clear();
    script.scenario.faults.clear();
    let mut world = World::replay(&script, (), Trace::silent()).expect("a world");
    world.run(u64::MAX).expect("no violation");
    let report = world.report();
    assert_eq!((report.mischief.lost, report.mischief.duplicated, report.faults), (0, 0, Default::default()));
    assert_eq!(report.asked, report.answered, "nothing stands in the way of clients");
}

#[test]
fn every_setting_and_every_fault_survives_the_text() {
    let (mut script, ..) = recorded(1);
    let scenario = &mut script.scenario;
    let (one, two) = (NodeId(1), NodeId(1));
    scenario.config.election = ElectionPolicy::HighestId;
    scenario.config.last_slot = Slot::new(9);
    scenario.limits.park_us = 7;
    scenario.slow_disks = vec![(one, DiskQuality { sync_us_min: 9, sync_jitter_us: 0 })];
    scenario.late = vec![(one, moment(17))];
    scenario.faults = vec![
        Fault::Crash { node: one, down_us: 1 },
        Fault::PowerLoss { nodes: vec![one, two], down_us: 2 },
        Fault::PowerLoss { nodes: vec![], down_us: 2 },
        Fault::Terminate { node: one, down_us: 3 },
        Fault::Pause { node: one, us: 4 },
        Fault::Partition { cuts: vec![(one, two), (two, one)], us: 5 },
        Fault::Clog { from: one, to: two, us: 6 },
        Fault::CutClients { node: one, us: 7 },
        Fault::ResetClients { node: one },
        Fault::HandOver { to: one },
        Fault::DiskStall { node: one, us: 8 },
        Fault::DiskFailure { node: one, operations: 9, once: false, down_us: 10 },
        Fault::DiskFailure { node: one, operations: 9, once: true, down_us: 10 },
        Fault::Decapitate { down_us: 11 },
        Fault::Storm { loss: 12, us: 13, down_us: Some(14) },
        Fault::Storm { loss: 12, us: 13, down_us: None },
        Fault::Remove { node: one },
        Fault::Wipe { node: one, down_us: 21, remedy: Remedy::Away },
        Fault::Wipe { node: one, down_us: 21, remedy: Remedy::Anew },
        Fault::OldImage { node: one, us: 22, down_us: 23 },
        Fault::Rot { node: one, down_us: 24, number: 25 },
        Fault::FreezeClock { node: one, us: 24 },
        Fault::CutLeader { lone: Lone::Mute, us: 25 },
        Fault::CutLeader { lone: Lone::Gone, us: 26 },
        Fault::SlowReader { client: 1, us: 27 },
        Fault::Crowd { node: one, connections: 28, us: 29 },
        Fault::Ambush { late_us: 15, us: 16, then: Then::Dies { down_us: 17 } },
        Fault::Ambush { late_us: 18, us: 19, then: Then::Stands { us: 20, hears: one } },
    ]
    .into_iter()
    .map(|fault| (moment(99), fault))
    .collect();
    if let Some(Manner { asks: Asks::Listed(asks), .. }) = scenario.clients.first_mut() {
        let long = |head: &str, byte| [head.as_bytes(), &vec![byte; 4_096][..]].concat().into();
        asks[0].args =
            vec!["a b\\\n\u{e9}".into(), long("1.2.", b'x'), long("\\+7", b'\\'), long("", b' '), long("", 0)];
        asks[0].args.extend(["\\+64".into(), "x".repeat(65).into(), "x".repeat(64).into()]);
    }
    let large = Some(Large { every: 5, edge_bytes: 4_096 });
    let drawn = Asks::Drawn { operations: 3, think_us: 4, keys: 5, large };
    let last = scenario.clients.iter().map(|manner| manner.client).max().unwrap_or(0);
    for (client, asks) in
        [drawn, Asks::Drawn { operations: 3, think_us: 4, keys: 5, large: None }].into_iter().enumerate()
    {
        let client = last + 1 + client as u32;
        scenario.clients.push(Manner { client, begins_us: 1, depth: 1, patience_us: 1, once: true, asks });
    }
    let node = one;
    let link = Stream::Link { from: one, to: two };
    script.decisions = [
        (Stream::Crash { node }, Departure::Kept),
        (Stream::Crash { node }, Departure::Torn(77)),
        (link, Departure::Garbled(Garble::Short(9))),
        (link, Departure::Garbled(Garble::Joined)),
        (link, Departure::Garbled(Garble::Foreign)),
    ]
    .map(|(stream, departure)| Decision { stream, number: 3, departure })
    .into();
    script.decisions.sort_unstable();
    let again: Script = script.to_string().parse().expect("what was written can be read");
    assert!(again == script, "{again}");
}

#[test]
fn malformed_scripts_are_refused_with_the_line() {
    const MEMBER: &str = "voter 1 incarnation 1";
    let cases = [
        ("", 1, "a script begins with"),
        ("paxos-script 9", 1, "a script begins with"),
        ("paxos-script 1\n", 2, "at least one voter"),
        ("paxos-script 1\n\n# a remark\nvoters 1", 4, "\"voters\" is no statement"),
        ("paxos-script 1\nseed", 2, "a number is missing"),
        ("paxos-script 1\nseed -1", 2, "\"-1\" is no number"),
        ("paxos-script 1\nseed 1 2", 2, "\"2\" is too much"),
        ("paxos-script 1\nvoter 1 incarnation xyz", 2, "no hexadecimal"),
        ("paxos-script 1\nconfig window_slot 3", 2, "\"window_slot\" is no setting"),
        ("paxos-script 1\nlimit sessions_max many", 2, "\"many\" is no number"),
        ("paxos-script 1\nlink reorders maybe", 2, "neither yes nor no"),
        ("paxos-script 1\nask 1.1 at 0 GET k", 2, "client 1 is not there yet"),
        ("paxos-script 1\nclient 1 begins_us 0 depth 1 patience_us 5 once no\nask 1 at 0 GET k", 3, "no client.number"),
        ("paxos-script 1\nclient 1 begins_us 0 depth 1 patience_us 5 once no\nask 1.1 at 0", 3, "command is missing"),
        ("paxos-script 1\nclient 1 begins_us 0 depth 1 patience_us 5 once no\nask 1.1 at 0 \\xg0", 3, "two digits"),
        (
            "paxos-script 1\nclient 1 begins_us 0 depth 1 patience_us 5 once no\nask 1.1 at 0 \\+5",
            3,
            "the byte before it",
        ),
        (
            "paxos-script 1\nclient 1 begins_us 0 depth 1 patience_us 5 once no\nask 1.1 at 0 x\\+9999999",
            3,
            "more than",
        ),
        ("paxos-script 1\nclient 1 begins_us 0 depth 1 patience_us 5 once no\nask 1.1 at 0 x\\+5y", 3, "no number"),
        ("paxos-script 1\nfault at 7 crowd 1 us 5", 2, "\"us\" where connections belongs"),
        ("paxos-script 1\nfault at 7 flood 1", 2, "\"flood\" is no fault"),
        ("paxos-script 1\nfault at 7 crash 1 us 5", 2, "\"us\" where down_us belongs"),
        ("paxos-script 1\nfault at 7 partition us 5 cuts 1-2", 2, "\"1-2\" is no link"),
        ("paxos-script 1\nmessage 1>2 7 torn 5", 2, "nothing that can be decided there"),
        ("paxos-script 1\nsync 2 7 lost", 2, "nothing that can be decided there"),
    ];
    for (text, line, why) in cases {
        let misread = text.parse::<Script>().expect_err(text);
        assert!(misread.line == line && misread.why.contains(why), "{text:?}: {misread}");
    }
    let whole = [
        ("alpha 0", "alpha must be at least 1"),
        ("alpha 5", "window_slots 4096 is above"),
        ("fault at 7 crash 9 down_us 5", "node 9, which is no member"),
        ("quorum flexible 2 1", "quorums of 2 and 1"),
        (
            "client 1 begins_us 0 depth 1 patience_us 5 once no\nask 1.1 at 9 GET k\nask 1.2 at 8 GET k",
            "ordered by their time",
        ),
    ];
    for (text, why) in whole {
        let text = format!("paxos-script 1\n{MEMBER}\n{text}");
        let misread = text.parse::<Script>().expect_err(&text);
        assert!(misread.line == text.lines().count() + 1 && misread.why.contains(why), "{text:?}: {misread}");
    }
}
