//! Replays what the fuzz targets are seeded with, and what they once found.

use std::fs;
use std::path::{Path, PathBuf};

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("a directory entry").path());
    paths.map(|path| (path.clone(), fs::read(&path).expect("a seed"))).collect()
}

fn check(target: &str, run: fn(&[u8]), seeds_min: usize) {
    let inputs = inputs(target);
    assert!(inputs.len() >= seeds_min, "{} seeds of {target}; at least {seeds_min} are expected", inputs.len());
    for (path, input) in inputs {
        println!("{}", path.display());
        run(&input);
    }
}

#[test]
fn the_corpus_of_wire_runs_clean() {
    check("wire", harness::fuzzing::wire::run, 40);
}

#[test]
fn the_corpus_of_resp_runs_clean() {
    check("resp", harness::fuzzing::resp::run, 20);
}

#[test]
fn the_corpus_of_wal_runs_clean() {
    check("wal", harness::fuzzing::wal::run, 13);
}

#[test]
fn the_corpus_of_steps_runs_clean() {
    check("steps", harness::fuzzing::steps::run, 8);
}

#[test]
fn the_corpus_of_frame_runs_clean() {
    check("frame", harness::fuzzing::frame::run, 5);
}

#[test]
fn the_corpus_of_records_runs_clean() {
    check("records", harness::fuzzing::records::run, 6);
}

#[test]
fn the_dictionary_of_resp_has_the_words_of_all_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/dictionaries/resp.dict");
    let written = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(written, harness::fuzzing::seeds::resp_dictionary(), "`paxos fuzz-seeds` writes it anew");
}

#[test]
fn the_corpus_of_configuration_runs_clean() {
    check("configuration", harness::fuzzing::configuration::run, 12);
}

/// The seeds of `configuration` that are named after what is wrong with them are refused, and the others complete: a
/// corpus that nothing understands would try little.
#[test]
fn the_seeds_of_configuration_are_what_their_names_say() {
    use transport_mio::config::{Layer, Settings};
    for (path, input) in inputs("configuration") {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if name.starts_with("found") || name.starts_with("peer") {
            continue;
        }
        let text = String::from_utf8(input).expect("text");
        let settings = Layer::parse(&text).ok().and_then(|layer| Settings::complete(layer).ok());
        assert_eq!(settings.is_none(), name.starts_with("wrong"), "{name}");
    }
}

/// Every seed of `wire` is a frame that this version understands: a change of the bytes on the wire that would
/// make old and new nodes strangers shows here.
#[test]
fn the_seeds_of_wire_are_frames() {
    for (path, input) in inputs("wire").iter().filter(|(path, _)| !path.to_string_lossy().contains("found")) {
        let message = paxos_core::wire::decode(&input.clone().into());
        let message = message.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut written = Vec::new();
        paxos_core::wire::encode(&message.header, &message.body, &mut written);
        assert_eq!(&written, input, "{}", path.display());
    }
}
