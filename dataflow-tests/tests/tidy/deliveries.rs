//! The walks and lists of ARCHITECTURE.md are true: each hop is a file, entered once; a sink and a message are
//! named in no other file than the page says.

use std::collections::BTreeSet;

use super::files;

fn page() -> String {
    files::read("ARCHITECTURE.md")
}

/// What stands between two marks of the page.
fn between(from: &str, to: &str) -> String {
    let page = page();
    let begin = page.find(from).unwrap_or_else(|| panic!("ARCHITECTURE.md has no `{from}`"));
    let rest = &page[begin + from.len()..];
    rest[..rest.find(to).unwrap_or(rest.len())].to_string()
}

/// The paths in backticks of a text.
fn paths(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.filter(|part| part.contains('/') && !part.contains(' ')).map(str::to_string).collect()
}

/// Rust files outside of tests in which one of the words stands.
fn naming(words: &[String]) -> BTreeSet<String> {
    let is_test = |path: &String| {
        path.contains("/tests/")
            || path.ends_with("tests.rs")
            || path.starts_with("dataflow-tests/")
    };
    files::with_extension(&["rs"])
        .into_iter()
        .filter(|path| !is_test(path))
        .filter(|path| {
            let text = files::read(path);
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            words.iter().any(|word| code.contains(word.as_str()))
        })
        .collect()
}

fn covers(listed: &[String], path: &str) -> bool {
    listed
        .iter()
        .any(|entry| path == entry || (entry.ends_with('/') && path.starts_with(entry.as_str())))
}

/// Every hop from `decode` to a subscriber is there, and none is entered twice.
#[test]
fn hops_are_files_entered_once() {
    let hops = paths(&between("## One event, from", "**To add a sink**"));
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for hop in &hops {
        if !files::root().join(hop).is_file() {
            wrong.push(format!("{hop}: no such file"));
        }
        if !seen.insert(hop) {
            wrong.push(format!("{hop}: entered twice"));
        }
    }
    assert!(hops.len() > 10, "{hops:?}");
    files::assert_none("hops of ARCHITECTURE.md", &wrong);
}

/// Each kind of sink is named where the page says, and nowhere else.
#[test]
fn a_sink_touches_what_the_page_says() {
    let listed = paths(&between("**To add a sink**", "**To add a message**"));
    let mut wrong = Vec::new();
    for (kind, name) in [
        ("blackhole", "BlackholeSink"),
        ("console", "ConsoleSink"),
        ("file", "FileSink"),
        ("http", "HttpSink"),
        ("nats", "NatsSink"),
        ("postgres", "PostgresSink"),
        ("prometheus", "PrometheusSink"),
    ] {
        let listed: Vec<String> = listed.iter().map(|path| path.replace("KIND", kind)).collect();
        let words = [name.to_string(), format!("sinks::{kind}::")];
        let found = naming(&words);
        assert!(found.len() > 1, "{name} is nowhere");
        let others = found.iter().filter(|path| !covers(&listed, path));
        wrong.extend(others.map(|path| format!("{path} names {name}")));
    }
    files::assert_none("a sink touches more than ARCHITECTURE.md says", &wrong);
}

/// Each message between node and cluster part is named where the page says, and nowhere else.
#[test]
fn a_message_touches_what_the_page_says() {
    let listed = paths(&between("**To add a message**", "**To add a source**"));
    let words = ["FromNode::".to_string(), "ToNode::".to_string()];
    let found = naming(&words);
    assert!(found.len() > 2, "{found:?}");
    let wrong: Vec<String> = found.into_iter().filter(|path| !covers(&listed, path)).collect();
    files::assert_none("messages are named elsewhere than ARCHITECTURE.md says", &wrong);
}

/// Each source is named in its file and in the list of all, and nowhere else: whoever runs one knows what a
/// source is, not which.
#[test]
fn a_source_touches_what_the_page_says() {
    let listed = paths(&between("**To add a source**", "## Sources"));
    assert!(listed.iter().any(|path| path == "node/src/sources/NAME.rs"), "{listed:?}");
    let folder = files::with_extension(&["rs"]).into_iter();
    let mut wrong = Vec::new();
    let mut sources = 0;
    for path in folder.filter(|path| path.starts_with("node/src/sources/")) {
        for rest in files::read(&path).split("impl Source for ").skip(1) {
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric()).collect();
            sources += 1;
            let others = naming(std::slice::from_ref(&name)).into_iter();
            let others = others.filter(|other| *other != path && other != "node/src/sources.rs");
            wrong.extend(others.map(|other| format!("{other} names {name}")));
        }
    }
    assert!(sources >= 3, "{sources} sources");
    files::assert_none("a source touches more than ARCHITECTURE.md says", &wrong);
}
