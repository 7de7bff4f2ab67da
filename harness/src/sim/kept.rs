//! The scripts that are kept: the smallest runs that showed a defect, replayed for ever.

use std::path::{Path, PathBuf};

use transport_sim::Script;

use super::cluster::{self, Wanted};

/// A file of the kept scripts.
pub(super) fn path(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(format!("{name}.{extension}"))
}

/// Every kept script, by name.
fn names() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("the scripts are there")
        .filter_map(|entry| {
            entry.expect("an entry").file_name().into_string().ok()?.strip_suffix(".script").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

#[test]
fn kept_scripts_break_nothing_and_run_as_transcribed() {
    let names = names();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let text = std::fs::read_to_string(path(&name, "script")).expect("a script");
        let script: Script = text.parse().unwrap_or_else(|misread| panic!("{name}: {misread}"));
        let run = cluster::replay(&script, Wanted { chart: true, ..Wanted::nothing() });
        assert_eq!(run.outcome.violation, None, "{name}");
        let found = run.chart.expect("it was wanted").transcript(None);
        if std::env::var_os("PAXOS_BLESS").is_some() {
            std::fs::write(path(&name, "transcript"), &found).expect("the transcript is written");
        }
        let expected = std::fs::read_to_string(path(&name, "transcript")).expect("a transcript");
        let differs = expected.lines().zip(found.lines()).position(|(expected, found)| expected != found);
        assert!(
            expected == found,
            "{name} runs otherwise from line {} on; if that is meant, PAXOS_BLESS=1 keeps the new transcript:\n{found}",
            1 + differs.unwrap_or(expected.lines().count().min(found.lines().count()))
        );
    }
}
