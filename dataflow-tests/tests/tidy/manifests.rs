//! Who may import whom (architecture, section 2). A new edge needs an ADR and a line here.

use std::collections::BTreeSet;

use super::files;

/// Crate → what it may depend on among ours, besides `weir-types`. `*`: anything but `weir-bpf`.
const EDGES: &[(&str, &[&str])] = &[
    ("weir-types", &[]),
    ("weir-bpf", &[]),
    ("weir-actors", &[]),
    ("weir-protocols", &[]),
    ("weir-proto", &[]),
    ("weir-functions", &[]),
    ("weir-pxl", &["weir-functions"]),
    ("weir-engine", &["weir-functions", "weir-actors"]),
    ("weir-sources", &["weir-bpf", "weir-protocols"]),
    ("weir-sinks", &["weir-proto"]),
    ("weir-rules", &[]),
    ("weir-node", &["weir-engine", "weir-actors", "weir-sources", "weir-proto"]),
    (
        "weir-cluster",
        &["weir-engine", "weir-actors", "weir-sinks", "weir-rules", "weir-pxl", "weir-proto"],
    ),
    ("weir", &["*"]),
    ("weir-dataflow-tests", &["*"]),
    ("xtask", &["*"]),
];
/// Needs no one of ours at all, not even the types.
const ALONE: [&str; 2] = ["weir-types", "weir-bpf"];

struct Manifest {
    path: String,
    name: String,
    /// All kinds of dependencies.
    depends_on: BTreeSet<String>,
}

/// Of our crates: programs that tests build to watch them are none.
fn manifests() -> Vec<Manifest> {
    files::with_extension(&["toml"])
        .into_iter()
        .filter(|path| path.ends_with("/Cargo.toml") && !path.contains("/tests/servers/"))
        .map(|path| parse(&files::read(&path), path))
        .collect()
}

/// Reads the little of TOML that our manifests use.
fn parse(text: &str, path: String) -> Manifest {
    let mut manifest = Manifest { path, name: String::new(), depends_on: BTreeSet::new() };
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_string();
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
            {
                manifest.depends_on.insert(name.to_string());
            }
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                manifest.depends_on.insert(name.to_string());
            }
        } else if section == "package"
            && let Some(name) = line.strip_prefix("name = ")
        {
            manifest.name = name.trim_matches('"').to_string();
        }
    }
    manifest
}

/// Every edge between our crates is in the table: catches a node that learns PxL or a parser that
/// learns IO.
#[test]
fn edges_are_allowed() {
    let mut wrong = Vec::new();
    let manifests = manifests();
    let ours: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    assert!(ours.contains("weir-types") && ours.contains("weir"), "manifests are found: {ours:?}");
    for manifest in manifests.iter().filter(|manifest| !manifest.path.contains("/fuzz/")) {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == manifest.name) else {
            wrong.push(format!("{}: crate {} is not in the table", manifest.path, manifest.name));
            continue;
        };
        for to in manifest.depends_on.iter().filter(|to| ours.contains(to.as_str())) {
            let listed = allowed.contains(&to.as_str())
                || (allowed.contains(&"*") && to != "weir-bpf")
                || (to == "weir-types" && !ALONE.contains(&manifest.name.as_str()));
            if !listed {
                wrong.push(format!("{}: {} must not depend on {to}", manifest.path, manifest.name));
            }
        }
    }
    files::assert_none("edges that the architecture does not have", &wrong);
}

/// timely and differential belong to the engine, eBPF to its two crates, the Python parser to the
/// compiler: catches a type of theirs that leaks through an API.
#[test]
fn foreign_crates_stay_in_place() {
    const PLACES: &[(&str, &[&str])] = &[
        ("timely", &["weir-engine"]),
        ("differential-dataflow", &["weir-engine"]),
        // The tests ask the kernel what is loaded, behind the back of those two.
        ("aya", &["weir-bpf", "weir-sources", "weir-dataflow-tests"]),
        ("ruff_python_parser", &["weir-pxl"]),
        ("ruff_python_ast", &["weir-pxl"]),
        ("bincode", &["weir-proto"]),
    ];
    let mut wrong = Vec::new();
    for manifest in manifests() {
        for (krate, places) in PLACES {
            if manifest.depends_on.contains(*krate) && !places.contains(&manifest.name.as_str()) {
                wrong.push(format!("{}: {krate} belongs to {places:?}", manifest.path));
            }
        }
    }
    files::assert_none("foreign crates out of place", &wrong);
}

/// Versions stand in the root manifest only.
#[test]
fn versions_stand_in_the_root() {
    let mut wrong = Vec::new();
    for manifest in manifests().iter().filter(|manifest| !manifest.path.contains("/fuzz/")) {
        let mut in_dependencies = false;
        for (number, line) in files::read(&manifest.path).lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                wrong.push(format!("{}:{}: {line}", manifest.path, number + 1));
            }
        }
    }
    files::assert_none("dependencies without `workspace = true`", &wrong);
}
