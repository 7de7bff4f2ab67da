//! That the checker is right: planted violations, and thousands of small histories beside an exhaustive tester.

mod brute;
mod large;
mod planted;
mod random;
mod shown;
mod stateright;

/// The module can be taken elsewhere as it is.
#[test]
fn the_checker_uses_nothing_else_of_this_crate() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/linearizability");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let source = std::fs::read_to_string(&path).unwrap();
            let foreign = source.lines().find(|line| line.contains("crate::") || line.contains("super::super"));
            // The example in the module's documentation is a user's.
            assert!(foreign.is_none_or(|line| line.starts_with("//!")), "{}: {foreign:?}", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 8);
}
