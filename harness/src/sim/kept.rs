//! The scripts that are kept: the smallest runs that showed a defect, replayed for ever.

use std::path::{Path, PathBuf};

use transport_sim::{Script, Trace};

use super::cluster;

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
fn kept_scripts_break_nothing() {
    let names = names();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let text = std::fs::read_to_string(path(&name, "script")).expect("a script");
        let script: Script = text.parse().unwrap_or_else(|misread| panic!("{name}: {misread}"));
        let outcome = cluster::replay(&script, None, Trace::silent());
        assert_eq!(outcome.violation, None, "{name}");
    }
}
