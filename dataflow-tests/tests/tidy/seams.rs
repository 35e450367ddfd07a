//! What ARCHITECTURE.md says of walks and of additions is so: hops exist and call each other; a pass, a
//! function and a widget are named where the page says, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use super::files;

/// Sources of the program: no tests, no benches, no generated files.
fn sources(extensions: &[&str]) -> Vec<(String, String)> {
    let is_test = |path: &str| {
        ["tests/", "/tests.rs", "_tests.rs", ".test.ts", "dataflow-tests/", "ui/e2e/", "examples/"]
            .iter()
            .any(|part| path.contains(part))
    };
    let paths = files::with_extension(extensions).into_iter().filter(|path| !is_test(path));
    paths.map(|path| (path.clone(), files::read(&path))).collect()
}

/// A file's code: without comments, and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Spans in backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whatever kind of test cargo knows is run: `scripts/test` names each, and a new one would be built and never run.
#[test]
fn every_kind_of_test_is_run() {
    let script = files::read("scripts/test");
    let names = files::with_extension(&["rs"]).into_iter().filter_map(|path| {
        let (_, name) = path.split_once("/tests/")?;
        let name = name.strip_suffix("/main.rs").or_else(|| name.strip_suffix(".rs"))?;
        (!name.contains('/') && !path.contains("/src/")).then(|| name.to_string())
    });
    let names: BTreeSet<String> = names.collect();
    assert!(names.contains("it") && names.contains("e2e"), "{names:?}");
    let wrong: Vec<String> =
        names.into_iter().filter(|name| !script.contains(&format!("--test {name}"))).collect();
    files::assert_none("tests that scripts/test does not run", &wrong);
}

/// A hop of a walk: `file` `entry`, and the message by which it is entered, if it is by one.
struct Hop {
    file: String,
    entry: String,
    message: Option<String>,
}

fn hops(page: &str, heading: &str) -> Vec<Hop> {
    let section = page.split(heading).nth(1).expect("the walk is in the page");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut hops: Vec<String> = Vec::new();
    for line in section.lines() {
        let is_item =
            line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if is_item {
            hops.push(line.to_string());
        } else if line.starts_with("   ")
            && let Some(last) = hops.last_mut()
        {
            last.push_str(line);
        }
    }
    let hop = |text: &String| {
        let spans = spans(text);
        let message = text.contains("(message `").then(|| spans[2].to_string());
        Hop { file: spans[0].to_string(), entry: spans[1].to_string(), message }
    };
    hops.iter().map(hop).collect()
}

/// The walk of a script: each file once, each entry there, and called from a file further up. Catches a page
/// that tells of what was, and a detour.
#[test]
fn the_walk_of_a_script_is_straight() {
    let page = files::read("ARCHITECTURE.md");
    let hops = hops(&page, "## One script, from text to running plan");
    assert!(hops.len() >= 10, "{} hops", hops.len());
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for hop in &hops {
        let text = code(&files::read(&hop.file));
        let name = hop.entry.rsplit(['.', ':']).next().unwrap_or_default();
        if ![format!("fn {name}("), format!("fn {name}<")].iter().any(|it| text.contains(it)) {
            wrong.push(format!("{}: no fn {name}", hop.file));
        }
        let called = hop.message.clone().unwrap_or_else(|| format!("{}(", hop.entry));
        // Methods are called on whatever holds the thing.
        let called = called.trim_start_matches("engine").to_string();
        if !seen.is_empty() && !seen.values().any(|text| text.contains(&called)) {
            wrong.push(format!("{}: nobody further up says `{called}`", hop.file));
        }
        if seen.insert(&hop.file, text).is_some() {
            wrong.push(format!("{} is entered twice", hop.file));
        }
    }
    files::assert_none("the walk of a script", &wrong);
}

/// A pass is its file and its lines in the list; its file begins with what it takes, gives and keeps.
#[test]
fn a_pass_is_a_file_and_a_line() {
    const FOLDER: &str = "pxl-compiler/src/passes";
    let list = files::read(&format!("{FOLDER}/mod.rs"));
    let listed = list.split("const PASSES").nth(1).expect("the list of passes");
    let listed = listed.split("passes![").nth(1).and_then(|rest| rest.split(']').next());
    let names: BTreeSet<&str> = listed
        .expect("the list's names")
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    let all = sources(&["rs"]);
    let mut wrong = Vec::new();
    for name in names {
        let own = format!("{FOLDER}/{name}.rs");
        let text = files::read(&own);
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        for part in ["**Input:**", "**Output:**", "**Keeps:**"] {
            if !head.contains(part) {
                wrong.push(format!("{own} does not say its {part}"));
            }
        }
        for (path, text) in &all {
            let may = *path == own || *path == format!("{FOLDER}/mod.rs");
            if !may && words(&code(text)).any(|word| word == name) {
                wrong.push(format!("{path} knows the pass {name}"));
            }
        }
    }
    files::assert_none("passes that reach further", &wrong);
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
}

/// What the language makes of its own syntax, and what passes do to calls: the only functions that the
/// program names outside of `engine/functions`. A new function is none of them.
const NAMED_ELSEWHERE: &[&str] = &[
    "_exec_host_num_cpus",
    "_exec_hostname",
    "_peer_upid",
    "_script_reference",
    "_upid_to_connection_peer",
    "_upid_to_exec_hostname",
    "_upid_to_exec_num_cpus",
    "_upid_to_peer_met",
    "_upid_to_podname_local_addr_fallback",
    "abs",
    "add",
    "any",
    "asid",
    "contains",
    "count",
    "divide",
    "equal",
    "greaterThan",
    "greaterThanEqual",
    "int64_to_time",
    "invert",
    "lessThan",
    "lessThanEqual",
    "logicalAnd",
    "logicalNot",
    "logicalOr",
    "max",
    "mean",
    "min",
    "modulo",
    "multiply",
    "negate",
    "notEqual",
    "pow",
    "replace",
    "round",
    "sample",
    "select",
    "split",
    "subtract",
    "sum",
    "upid",
    "upid_to_asid",
];

/// A function is known from the registry: nobody else names it.
#[test]
fn a_function_is_known_from_the_registry() {
    let names: BTreeSet<&str> = weir_functions::scalar::all()
        .map(|def| def.name)
        .chain(weir_functions::aggregate::all().map(|def| def.name))
        .collect();
    let all = sources(&["rs"]);
    let mut found = BTreeSet::new();
    for (path, text) in &all {
        if path.starts_with("engine/functions/") {
            continue;
        }
        let code = code(text);
        for word in code.split('"').skip(1).step_by(2) {
            if let Some(name) = names.get(word) {
                found.insert((*name, path.as_str()));
            }
        }
    }
    let wrong: Vec<String> = found
        .iter()
        .filter(|(name, _)| !NAMED_ELSEWHERE.contains(name))
        .map(|(name, path)| format!("{path} names {name}"))
        .collect();
    files::assert_none("functions that reach further", &wrong);
    for name in NAMED_ELSEWHERE {
        assert!(found.iter().any(|(have, _)| have == name), "nobody names {name} any more");
    }
}

/// A widget is its entry in the compiler and its line in the page.
#[test]
fn a_widget_is_an_entry_and_a_line() {
    const SPECS: &str = "pxl-compiler/src/vis/specs.rs";
    const PLACE: &str = "ui/src/widgets/place.ts";
    let specs = files::read(SPECS);
    let kinds = specs.split("const KINDS").nth(1).expect("the kinds of widgets");
    let lines: Vec<&str> = kinds.lines().collect();
    let name = |pair: &[&str]| -> Option<String> {
        let is_entry = pair[0].trim_end() == "    (";
        is_entry.then(|| spans_of_quotes(pair[1]).first().map(|name| (*name).to_string()))?
    };
    let names: BTreeSet<String> = lines.windows(2).filter_map(name).collect();
    assert!(names.len() >= 10, "{names:?}");
    let mut wrong = Vec::new();
    for (path, text) in sources(&["rs", "ts", "tsx"]) {
        if path == SPECS || path == PLACE {
            continue;
        }
        for word in spans_of_quotes(&code(&text)) {
            if names.contains(word) && word != "Table" && word != "Graph" {
                wrong.push(format!("{path} names the widget {word}"));
            }
        }
    }
    files::assert_none("widgets that reach further", &wrong);
    let place = files::read(PLACE);
    let kinds = place.split("const KINDS").nth(1).and_then(|rest| rest.split("};").next());
    let drawn: Vec<&str> = words(kinds.expect("the page's kinds")).collect();
    let known = names.iter().filter(|name| drawn.contains(&name.as_str())).count();
    assert!(known >= 6, "the page draws {known} of {names:?}");
}

fn spans_of_quotes(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}
