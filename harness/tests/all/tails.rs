//! The log of a real node, cut at every byte of its last records and damaged at random: what opens holds all that a
//! receipt covered, or it does not open. Most of it is tried on copies in memory with the shipped recovery code, a
//! few of each kind with whole processes.

use std::fs;
use std::path::Path;

use harness::fuzzing::wal::{GoodLog, Group};
use node::wal::{Corruption, Files, MemoryFiles, Wal, WalError, WalSettings};
use paxos_core::Recovered;
use transport_mio::config::Layer;

use crate::damage::{refuses_to_start, segments};
use crate::trial::Trial;

const SETTINGS: WalSettings = WalSettings { segment_bytes: 64 << 10, align_bytes: 512 };

/// Three nodes that chose some hundred entries, a follower of which was stopped, and its log.
fn stopped(name: &str, segment_bytes: u64) -> (Trial, u32, GoodLog) {
    let settings = Layer { segment_bytes: Some(segment_bytes), ..Layer::default() };
    let mut trial = Trial::start_with(name, 3, settings);
    let follower = trial.leader() % 3 + 1;
    let mut client = trial.client();
    for number in 0..100 {
        client.once(&["SET", &format!("key:{}", number % 10), &"x".repeat(number * 7 % 600)]).expect("an answer");
    }
    trial.converged();
    assert!(trial.cluster.node(follower).stop().expect("it ran").success());
    let log = GoodLog::new(in_memory(&trial.cluster.node(follower).data_dir()));
    // Entries that it learned later come many to a group.
    assert!(log.groups.len() > 10, "{} groups", log.groups.len());
    (trial, follower, log)
}

fn in_memory(dir: &Path) -> MemoryFiles {
    let mut files = MemoryFiles::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        let bytes = fs::read(entry.path()).expect("a file");
        files.create(&name, bytes.len() as u64).and_then(|()| files.write_at(&name, 0, &bytes)).expect("memory");
    }
    files
}

/// The last two groups that bring entries, each with the group before it.
fn last_with_entries(log: &GoodLog) -> Vec<(&Group, &Group)> {
    // Marking entries chosen changes nothing in the sum.
    let reach = |found: &Recovered| found.first_unchosen().get() + found.held_slots() as u64;
    let held = |group: &Group| group.found.as_ref().map_or(0, reach);
    let pairs = log.groups.windows(2).map(|pair| (&pair[0], &pair[1]));
    let with_entries: Vec<(&Group, &Group)> = pairs.filter(|(before, group)| held(group) > held(before)).collect();
    let seal = log.groups.last().expect("groups");
    let last = with_entries.into_iter().rev().take(2).collect::<Vec<_>>();
    assert!(last.len() == 2 && last.iter().all(|(_, group)| group.name == seal.name && group.end < seal.at));
    last
}

fn damaged(log: &GoodLog, name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> MemoryFiles {
    let mut files = log.files.clone();
    files.edit(name, edit);
    files
}

#[test]
fn a_log_cut_at_every_byte_of_its_last_records_is_refused_or_holds_all_that_was_sealed() {
    // All in one segment.
    let (mut trial, id, log) = stopped("cut", 256 << 10);
    let groups = last_with_entries(&log);
    let name = &groups[0].1.name;
    let (mut refused, mut torn) = (0, 0);
    for (before, group) in &groups {
        for cut in group.at..group.end {
            let zeros = |end: u64| move |bytes: &mut Vec<u8>| bytes[cut as usize..end as usize].fill(0);
            // The file ends here: segments have their whole length from the start on.
            let opened = Wal::open(damaged(&log, name, |bytes| bytes.truncate(cut as usize)), SETTINGS);
            let short = Corruption::Length { bytes: cut, expected: length(&log, name) };
            let Err(WalError::Corrupt { offset, reason, .. }) = opened else { panic!("cut at {cut}: {opened:?}") };
            assert_eq!((offset, reason), (cut, short));
            refused += 1;

            // The group reads as zeros from here on, and what was written later is there: it was durable.
            let same = (cut..group.end).all(|at| byte(&log, name, at) == 0);
            match Wal::open(damaged(&log, name, zeros(group.end)), SETTINGS) {
                Ok((_, found)) => assert!(same && log.passes(&log.files, &found), "a hole from {cut} on"),
                Err(WalError::Corrupt { offset, reason: Corruption::Group { .. }, .. }) => {
                    assert!(!same && offset >= group.at && offset <= cut, "a hole from {cut} on, named at {offset}");
                    refused += 1;
                }
                Err(error) => panic!("a hole from {cut} on: {error}"),
            }

            // Nothing later was written either: a write that a crash tore, and nothing is lost but its own group.
            match Wal::open(damaged(&log, name, zeros(length(&log, name))), SETTINGS) {
                Ok((wal, found)) if Some(&found) == before.found.as_ref() => {
                    assert!(cut == group.at || wal.torn_tail().is_some());
                    torn += 1;
                }
                Ok((_, found)) => assert!(same && Some(&found) == group.found.as_ref(), "zeros from {cut} on"),
                Err(WalError::Corrupt { reason: Corruption::Group { .. }, .. }) => refused += 1,
                Err(error) => panic!("zeros from {cut} on: {error}"),
            }
        }
    }
    println!("{refused} damaged logs refused, {torn} torn tails dropped");
    assert!(refused > 400 && torn > 200);

    // The same with whole processes.
    let path = segments(&mut trial, id).into_iter().rfind(|path| path.ends_with(name)).expect("the segment");
    let whole = fs::read(&path).expect("a segment");
    let last = groups[0].1;
    let middle = ((last.at + last.end) / 2) as usize;
    let mut hole = whole.clone();
    hole[middle..last.end as usize].fill(0);
    for (bytes, words) in [(&whole[..middle], ["corrupt log", "instead of"]), (&hole, ["corrupt log", "later group"])] {
        fs::write(&path, bytes).expect("a file");
        refuses_to_start(&mut trial, id, 8, &words);
        assert_eq!(fs::read(&path).expect("a file"), bytes, "a refused log is left as it is");
    }
    let mut tail = whole;
    tail[middle..].fill(0);
    fs::write(&path, tail).expect("a file");
    trial.cluster.start(id).expect("a process");
    trial.converged();
    assert!(trial.log_of(id).contains("dropped a group"), "it says so");
}

fn byte(log: &GoodLog, name: &str, at: u64) -> u8 {
    let mut byte = [0];
    log.files.clone().read_at(name, at, &mut byte).expect("memory");
    byte[0]
}

fn length(log: &GoodLog, name: &str) -> u64 {
    log.files.clone().len(name).expect("a file")
}

#[test]
fn random_damage_to_a_real_log_is_seen_through() {
    const TRIES: u64 = 4_000;
    // In several segments.
    let (trial, _, log) = stopped("random", SETTINGS.segment_bytes);
    drop(trial);
    let mut dice = 0u64;
    let mut draw = |end: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % end
    };
    let (mut refused, mut whole, mut torn) = (0, 0, 0);
    let seal = log.groups.last().expect("a clean stop seals");
    let names = log.files.clone().list().expect("memory");
    let names: Vec<&String> = names.iter().filter(|name| name.ends_with(".wal")).collect();
    for _ in 0..TRIES {
        let name = names[draw(names.len())];
        let used = log.groups.iter().filter(|group| group.name == *name).map(|group| group.end).max().unwrap_or(64);
        // Up to three bits, or a stretch of up to two sectors; the seal is not wiped out with all that is before it,
        // since a disk that lost its last writes altogether is none the wiser (docs/storage.md §6).
        let files = damaged(&log, name, |bytes| match draw(4) {
            0 => {
                let from = draw(used as usize);
                let end = if *name == seal.name { seal.at } else { used };
                bytes[from.min(end as usize)..(from + draw(1_024)).min(end as usize)].fill(0);
            }
            flips => (0..flips).for_each(|_| bytes[draw(used as usize)] ^= 1 << draw(8)),
        });
        match Wal::open(files.clone(), SETTINGS) {
            Ok((_, found)) => {
                assert!(log.passes(&files, &found), "damage passes for another log");
                let all = log.groups.last().and_then(|last| last.found.as_ref()) == Some(&found);
                *if all { &mut whole } else { &mut torn } += 1;
            }
            Err(WalError::Corrupt { .. } | WalError::Impossible { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!(
        "{refused} of {TRIES} damaged logs refused, {whole} damaged where nothing is written, {torn} torn at the end"
    );
    assert!(refused > TRIES / 4);
}
