//! The log of a real node, cut at every byte of its last records and damaged at random: what opens holds all that a
//! receipt covered, or it does not open. Most of it is tried on copies in memory with the shipped recovery code, a
//! few of each kind with whole processes.

use std::fs;
use std::path::Path;

use harness::fuzzing::wal::{GoodLog, Group};
use node::wal::{Corruption, Files, MemoryFiles, Wal, WalError, WalSettings};
use transport_mio::config::Layer;

use crate::damage::{refuses_to_start, segments};
use crate::trial::Trial;

const SEGMENT_BYTES: u64 = 64 << 10;
const SETTINGS: WalSettings = WalSettings { segment_bytes: SEGMENT_BYTES, align_bytes: 512 };

/// Three nodes that chose some hundred entries, a follower of which was stopped, and its log.
fn stopped(name: &str) -> (Trial, u32, GoodLog) {
    let settings = Layer { segment_bytes: Some(SEGMENT_BYTES), ..Layer::default() };
    let mut trial = Trial::start_with(name, 3, settings);
    let follower = trial.leader() % 3 + 1;
    let mut client = trial.client();
    for number in 0..100 {
        client.once(&["SET", &format!("key:{}", number % 10), &"x".repeat(number * 7 % 600)]).expect("an answer");
    }
    trial.converged();
    assert!(trial.cluster.node(follower).stop().expect("it ran").success());
    let log = GoodLog::new(in_memory(&trial.cluster.node(follower).data_dir()));
    assert!(log.groups.len() > 100, "{} groups", log.groups.len());
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

/// The last group that has records, the one before it, and the seal behind both.
fn last_groups(log: &GoodLog) -> [&Group; 3] {
    let [.., before, last, seal] = &log.groups[..] else { panic!("three groups") };
    assert_eq!((&before.name, &last.name), (&last.name, &seal.name), "in one segment");
    assert!(seal.found == last.found && last.found != before.found, "a seal, and records in the group before it");
    [before, last, seal]
}

fn damaged(log: &GoodLog, name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> MemoryFiles {
    let mut files = log.files.clone();
    files.edit(name, edit);
    files
}

#[test]
fn a_log_cut_at_every_byte_of_its_last_records_is_refused_or_holds_all_that_was_sealed() {
    let (mut trial, id, log) = stopped("cut");
    let [before, last, seal] = last_groups(&log);
    let name = &last.name;
    let (mut refused, mut torn) = (0, 0);
    for cut in before.at..seal.end {
        // The file ends here: segments have their whole length from the start on.
        let files = damaged(&log, name, |bytes| bytes.truncate(cut as usize));
        let opened = Wal::open(files, SETTINGS);
        let short = Corruption::Length { bytes: cut, expected: log.files.clone().len(name).expect("a file") };
        let Err(WalError::Corrupt { offset, reason, .. }) = opened else { panic!("cut at {cut}: {opened:?}") };
        assert_eq!((offset, reason), (cut, short));
        refused += 1;
    }
    // A group reads as zeros from here on, and what was written later is there: it was durable.
    for (group, cut) in [before, last].iter().flat_map(|group| (group.at..group.end).map(move |cut| (group, cut))) {
        let zeros = |bytes: &mut Vec<u8>| bytes[cut as usize..group.end as usize].fill(0);
        let files = damaged(&log, name, zeros);
        let same = (cut..group.end).all(|at| byte(&log.files, name, at) == 0);
        match Wal::open(files, SETTINGS) {
            Ok((_, found)) => assert!(same && log.passes(&log.files, &found), "zeros from {cut} on"),
            Err(WalError::Corrupt { offset, reason: Corruption::Group { .. }, .. }) => {
                assert!(!same && offset >= group.at && offset <= cut, "zeros from {cut} on, named at {offset}");
                refused += 1;
            }
            Err(error) => panic!("zeros from {cut} on: {error}"),
        }
    }
    // Nothing later was written either: as a write that a crash tore. It held no more than its own group.
    for cut in last.at..last.end {
        let files = damaged(&log, name, |bytes| bytes[cut as usize..].fill(0));
        match Wal::open(files, SETTINGS) {
            Ok((_, found)) if Some(&found) == before.found.as_ref() => torn += 1,
            Ok((_, found)) => assert!(Some(&found) == last.found.as_ref(), "zeros to the end from {cut}"),
            Err(WalError::Corrupt { reason: Corruption::Group { .. }, .. }) => refused += 1,
            Err(error) => panic!("zeros to the end from {cut}: {error}"),
        }
    }
    println!("{refused} damaged logs refused, {torn} torn tails dropped");
    assert!(refused > 500 && torn > 20);

    // The same with whole processes.
    let path = segments(&mut trial, id).into_iter().rfind(|path| path.ends_with(name)).expect("the segment");
    let whole = fs::read(&path).expect("a segment");
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

fn byte(files: &MemoryFiles, name: &str, at: u64) -> u8 {
    let mut byte = [0];
    files.clone().read_at(name, at, &mut byte).expect("memory");
    byte[0]
}

#[test]
fn random_damage_to_a_real_log_is_seen_through() {
    const TRIES: u64 = 4_000;
    let (trial, _, log) = stopped("random");
    drop(trial);
    let mut dice = 0u64;
    let mut draw = |end: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % end
    };
    let (mut refused, mut whole, mut torn) = (0, 0, 0);
    let [_, _, seal] = last_groups(&log);
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
