//! What Prometheus sees of a server: `/metrics` is as Prometheus wants it, and the rules and the dashboard of
//! `docs/monitoring` ask for what is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::weir::{Weir, output_of};

const DEADLINE: Duration = Duration::from_secs(60);

fn promtool(args: &[&str]) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(args);
    let output = output_of(command, DEADLINE).ok()?;
    let said = [output.stdout, output.stderr].concat().join("\n");
    assert!(output.status.success(), "{args:?}: {said}");
    Some(said)
}

/// Words of a text that are names of our metrics.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let is_ours = |word: &&str| word.starts_with("weir_") || word.starts_with("process_");
    words.filter(is_ours).map(str::to_string).collect()
}

/// What `/metrics` says of itself, as the page of metrics has it.
fn listed(metrics: &str) -> String {
    let mut rows = BTreeSet::new();
    let mut help = "";
    for line in metrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').unwrap().1;
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let (name, kind) = text.split_once(' ').unwrap();
            rows.insert(format!("| `{name}` | {kind} | {} |\n", help.replace('|', "\\|")));
        }
    }
    let head = "# Metrics\n\nWhat `GET /metrics` of a server has. Names, kinds and units stay; a test compares them.\n\n\
        | name | kind | what it says |\n|---|---|---|\n";
    rows.into_iter().fold(head.to_string(), |text, row| text + &row)
}

/// `promtool` has nothing to say about `/metrics`; the rules about Weir itself pass its check and their own tests; and
/// every metric that these rules or the dashboard name is one that a server has, and all it has are on their page. Catches
/// a metric that was renamed.
#[test]
fn prometheus_takes_it_all() {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring");
    let file = |name: &str| dir.join(name).to_str().unwrap().to_string();
    if promtool(&["--version"]).is_none() {
        return weir_types::testing::skipped("there is no promtool");
    }
    let own = tempfile::tempdir().unwrap();
    let config = own.path().join("weir.yaml");
    std::fs::write(
        &config,
        "receivers: [{name: r, type: webhook, url: 'http://127.0.0.1:9/'}]\nsinks:\n  \
         s: {type: blackhole, inputs: [{text: \"import px\\npx.display(px.DataFrame('http_events'))\"}]}\n",
    )
    .unwrap();
    let weir = Weir::start(&["--config", config.to_str().unwrap(), "--trace", "port:1"]).unwrap();
    let metrics = weir.get("/metrics").unwrap().text();
    let scraped = own.path().join("metrics");
    std::fs::write(&scraped, &metrics).unwrap();
    let mut check = Command::new("sh");
    check.args(["-c", "promtool check metrics <\"$0\"", scraped.to_str().unwrap()]);
    let check = output_of(check, DEADLINE).unwrap();
    assert!(check.status.success(), "{:?} {:?}", check.stdout, check.stderr);

    let page = std::fs::read_to_string(file("metrics.md")).unwrap_or_default();
    let listed = listed(&metrics);
    assert!(page == listed, "docs/monitoring/metrics.md is to be\n{listed}");

    promtool(&["check", "rules", &file("weir-rules.yml")]).unwrap();
    promtool(&["test", "rules", &file("weir-rules_test.yml")]).unwrap();
    let there: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_string))
        .collect();
    for name in ["weir-rules.yml", "weir-dashboard.json"] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let asked = names_in(&text);
        assert!(asked.len() > 10, "{asked:?}");
        let missing: Vec<&String> = asked.difference(&there).collect();
        assert!(missing.is_empty(), "{name} asks for {missing:?}");
    }
    let dashboard = std::fs::read_to_string(file("weir-dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert_eq!(dashboard["uid"], "weir");
}
