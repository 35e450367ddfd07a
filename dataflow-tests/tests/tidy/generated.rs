//! Things that must be there and current: the parts of each protocol.

use super::files;

/// Every protocol has the same parts, so that the next one is written by imitation, and a fuzz
/// target, so that wire bytes cannot end the process.
#[test]
fn protocols_are_whole() {
    let paths = files::with_extension(&["rs"]);
    let has = |path: &str| paths.iter().any(|have| have == path);
    let mut wrong = Vec::new();
    for name in protocols(&paths) {
        let base = format!("sources/protocols/src/{name}");
        for part in ["types", "parse", "stitch", "table", "tests"] {
            if !has(&format!("{base}/{part}.rs")) && !has(&format!("{base}/{part}/mod.rs")) {
                wrong.push(format!("{base} has no {part}"));
            }
        }
        let fuzz = format!("sources/protocols/fuzz/fuzz_targets/{name}.rs");
        if !has(&fuzz) {
            wrong.push(format!("{name} has no fuzz target {fuzz}"));
        }
    }
    files::assert_none("protocols without a part", &wrong);
}

/// The folders below `sources/protocols/src`.
fn protocols(paths: &[String]) -> Vec<String> {
    let mut names: Vec<String> = paths
        .iter()
        .filter_map(|path| path.strip_prefix("sources/protocols/src/"))
        .filter_map(|rest| rest.split_once('/').map(|(name, _)| name.to_string()))
        .collect();
    names.dedup();
    names
}
