//! `paxos sim` and `paxos replay` as processes: equal runs have equal hashes, whoever runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn paxos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_paxos")).args(arguments).output().expect("paxos runs")
}

/// A new directory for one test.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}-{}", std::process::id()));
    fs::create_dir_all(&path).expect("a directory");
    path
}

/// What a run says of itself, from its steps to its hash.
fn run_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains(" steps, ")).unwrap_or_else(|| panic!("no run: {output:?}"));
    line.split_once(": ").expect("a name before the run").1.to_owned()
}

#[test]
fn the_same_seed_twice_and_its_replay_are_three_equal_runs() {
    let dir = directory("equal");
    for (seed, election) in [("3", "stable"), ("4", "stable"), ("5", "highest-id")] {
        let log = dir.join(format!("{seed}.script"));
        let log = log.to_str().expect("a path in UTF-8");
        let first = paxos(&["sim", "--seed", seed, "--election", election, "--log", log]);
        let second = paxos(&["sim", "--seed", seed, "--election", election]);
        let replay = paxos(&["replay", log]);
        assert!(first.status.success() && second.status.success() && replay.status.success(), "{first:?} {replay:?}");
        let run = run_line(&first);
        assert!(run.contains("hash "), "{run}");
        assert_eq!(run, run_line(&second), "seed {seed}, twice");
        assert_eq!(run, run_line(&replay), "seed {seed}, replayed");
    }
    fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn an_edited_script_is_another_run_and_a_malformed_one_is_named_with_its_line() {
    let dir = directory("edited");
    let (log, edited) = (dir.join("seed.script"), dir.join("edited.script"));
    let first = paxos(&["sim", "--seed", "3", "--log", log.to_str().expect("UTF-8")]);
    let text = fs::read_to_string(&log).expect("a script");
    let without_asks: Vec<&str> = text.lines().filter(|line| !line.starts_with("ask 1.")).collect();
    assert!(without_asks.len() < text.lines().count(), "the script lists commands");
    fs::write(&edited, without_asks.join("\n")).expect("written");
    let run = paxos(&["replay", edited.to_str().expect("UTF-8")]);
    assert!(run.status.success(), "{run:?}");
    assert_ne!(run_line(&first), run_line(&run));

    fs::write(&edited, text.replacen("quorum ", "quorum half ", 1)).expect("written");
    let refused = paxos(&["replay", edited.to_str().expect("UTF-8")]);
    let line = 1 + text.lines().position(|line| line.starts_with("quorum")).expect("a quorum");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("line {line}: ")) && said.contains("\"half\""), "{said}");
    fs::remove_dir_all(dir).expect("the directory is ours");
}
