//! The sources keep their shape: what house style asks for that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The crates and which of the others they may name, as in ARCHITECTURE.md: dependencies go one way.
const ARROWS: [(&str, &[&str]); 5] = [
    ("paxos-core", &[]),
    ("node", &["paxos-core"]),
    ("transport-mio", &["paxos-core", "node"]),
    ("transport-sim", &["paxos-core", "node"]),
    ("harness", &["paxos-core", "node", "transport-mio", "transport-sim"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if !["target", "corpus", "artifacts", ".git"].contains(&name) {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_source_says_what_it_is_for() {
    let mut files = Vec::new();
    for dir in ARROWS.iter().map(|(name, _)| *name).chain(["fuzz", "probe"]) {
        sources(&root().join(dir), &mut files);
    }
    assert!(files.len() > 60, "{} sources found", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        assert!(text.starts_with("//! "), "{} does not open with //!", file.display());
    }
}

struct Package {
    name: String,
    /// Name, whether for tests only, whether optional.
    dependencies: Vec<(String, bool)>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_string();
    let packages = metadata["packages"].as_array().expect("packages").iter().map(|package| Package {
        name: text(&package["name"]),
        dependencies: package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
            .collect(),
    });
    packages.collect()
}

#[test]
fn crates_depend_one_way() {
    let ours: BTreeMap<&str, &[&str]> = ARROWS.into();
    let packages = packages();
    assert_eq!(packages.len(), ours.len());
    for Package { name, dependencies } in packages {
        let allowed = ours.get(name.as_str()).unwrap_or_else(|| panic!("{name} is a new crate"));
        for (dependency, _) in dependencies.iter().filter(|(dependency, _)| ours.contains_key(dependency.as_str())) {
            let itself = *dependency == name;
            assert!(itself || allowed.contains(&dependency.as_str()), "{name} must not name {dependency}");
        }
    }
}

/// The first cells of the rows of the Markdown table behind this heading.
fn first_cells(document: &str, heading: &str) -> BTreeSet<String> {
    let behind = document.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let rows = behind.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).filter_map(|row| Some(row.split('|').nth(1)?.trim().trim_matches('`').to_string())).collect()
}

#[test]
fn the_dependency_table_is_complete_and_true() {
    let ours: BTreeMap<&str, &[&str]> = ARROWS.into();
    let used: BTreeSet<String> = packages()
        .into_iter()
        .flat_map(|package| package.dependencies)
        .map(|(name, _)| name)
        .filter(|name| !ours.contains_key(name.as_str()))
        .collect();
    let listed = first_cells(&read("ARCHITECTURE.md"), "## Dependencies");
    assert_eq!(used, listed, "left: in the manifests; right: in ARCHITECTURE.md");
}

#[test]
fn the_message_table_is_complete_and_true() {
    let source = read("paxos-core/src/message.rs");
    let body = source.split_once("pub enum Body {").expect("the messages").1;
    let body = body.split_once("\n}").expect("its end").0;
    let messages: BTreeSet<String> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('(')?.0.to_string()))
        .collect();
    assert!(messages.len() >= 10);
    let listed = first_cells(&read("ARCHITECTURE.md"), "## Messages");
    assert_eq!(messages, listed, "left: in message.rs; right: in ARCHITECTURE.md");
}

#[test]
fn architecture_fits_in_200_lines() {
    assert!(read("ARCHITECTURE.md").lines().count() <= 200);
}

const DOCUMENTS: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/commands.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/protocol.md",
    "docs/storage.md",
    "docs/verification.md",
];

#[test]
fn every_document_is_read_here() {
    let entries = fs::read_dir(root().join("docs")).expect("the documents");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let found: BTreeSet<String> = names.map(|name| format!("docs/{name}")).collect();
    let known = DOCUMENTS.iter().filter(|name| name.starts_with("docs/")).map(|name| (*name).to_string());
    assert_eq!(found, known.collect());
}

#[test]
fn files_that_documents_name_exist() {
    for document in DOCUMENTS {
        let text = read(document);
        let dir = root().join(document).parent().expect("a directory").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let path = link.split('#').next().unwrap_or(link);
            assert!(dir.join(path).exists(), "{document} names {path}, which is not there");
        }
    }
}

/// Everything between backticks of a document, its blocks of code left out.
fn quoted(document: &str) -> Vec<String> {
    let mut in_block = false;
    let prose = document.lines().filter(|line| {
        let fence = line.starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>()).collect()
}

#[test]
fn tests_scripts_and_sources_that_documents_name_exist() {
    let mut files = Vec::new();
    for dir in ARROWS.iter().map(|(name, _)| *name).chain(["fuzz", "probe"]) {
        sources(&root().join(dir), &mut files);
    }
    let code: String = files.iter().map(|file| fs::read_to_string(file).expect("a source")).collect();
    let (mut tests, mut paths) = (0, 0);
    for document in DOCUMENTS {
        for name in quoted(&read(document)) {
            let word =
                name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
            // Tests have names like sentences; nothing else in a document has so many words.
            if word && name.matches('_').count() >= 4 {
                assert!(code.contains(&format!("fn {name}(")), "{document} names {name}, which is no function");
                tests += 1;
            }
            let scenario = name.ends_with(".txt") && !name.contains(['/', '*']);
            let path = if scenario { format!("harness/scenarios/{name}") } else { name.clone() };
            let from_root = ARROWS.iter().any(|(name, _)| path.starts_with(&format!("{name}/")));
            let plain = !path.contains(['*', ' ', '<', '…']) && !path.contains("NAME");
            if (scenario || from_root) && plain && path.contains('.') {
                assert!(root().join(&path).exists(), "{document} names {path}, which is not there");
                paths += 1;
            }
        }
    }
    assert!(tests > 40 && paths > 20, "{tests} tests and {paths} files are named");
}

#[test]
fn every_rule_has_a_row_and_what_holds_it() {
    let protocol = read("docs/protocol.md");
    for rule in 1..=18 {
        let row = protocol.lines().find(|line| line.starts_with(&format!("| {rule} | **")));
        let held_by = row.and_then(|row| row.split(" | ").nth(2)).unwrap_or_else(|| panic!("no row for rule {rule}"));
        assert!(!quoted(held_by).is_empty(), "rule {rule} is held by nothing");
    }
}

/// The names that violations are made with in this source, its tests left out.
fn names_of_violations(source: &str) -> BTreeSet<String> {
    let code = source.split_once("#[cfg(test)]\nmod tests {").map_or(source, |(code, _)| code);
    let made = ["Violation::new(", "broken("].into_iter().flat_map(|made| code.split(made).skip(1));
    let names = made.filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split_once('"')?.0.to_string()));
    names.collect()
}

#[test]
fn every_violation_has_its_name_in_the_document() {
    let mut files = Vec::new();
    for dir in ["harness/src/invariants", "harness/src/sim", "transport-sim/src"] {
        sources(&root().join(dir), &mut files);
    }
    let made = files.iter().map(|file| names_of_violations(&fs::read_to_string(file).expect("a source")));
    let made: BTreeSet<String> = made.flatten().collect();
    assert!(made.len() >= 60, "{made:?}");
    let told: BTreeSet<String> = quoted(&read("docs/verification.md")).into_iter().collect();
    let missing: Vec<_> = made.difference(&told).collect();
    assert!(missing.is_empty(), "docs/verification.md does not tell of {missing:?}");
}
