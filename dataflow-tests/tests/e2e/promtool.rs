//! Rule files beside promtool: what it takes is taken, what it refuses is refused, in its words.

use std::process::Command;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use weir_dataflow_tests::harness::weir::{Output, output_of, run};

const DEADLINE: Duration = Duration::from_secs(60);
const FILES: u64 = 90;
/// What stands for an expression: each has its own language.
const EXPR: &str = "EXPR";
const PROMQL: &str = "up > 0";
const PXL: &str = "\"import px; px.display(px.DataFrame('http_events').groupby('req_path').agg(value=('latency', px.count)))\"";

/// Lines that an alert may have, each with its own field.
const RIGHT: [&str; 6] = [
    "for: 1h30m",
    "keep_firing_for: 1m",
    "labels: {severity: page, n: 5, is: true, none: ~}",
    "annotations: {summary: '{{ $labels.req_path | toUpper }}: {{ $value | humanize }}'}",
    "labels: {team: '{{ with $labels.job }}{{ . }}{{ else }}none{{ end }}'}",
    "annotations: {seen: '{{ with printf `up{job=%q}` $labels.job | query }}{{ . | first | value }}{{ end }}'}",
];

/// Each makes a file wrong: a line more, of an alert or of a recording rule, or another text in place of one. What
/// YAML itself refuses is said in other words.
enum Wrong {
    Alert(&'static str),
    Record(&'static str),
    Instead(&'static str, &'static str),
    Yaml(&'static str),
}

const WRONG: [Wrong; 30] = [
    Wrong::Yaml("exp: up"),
    Wrong::Alert("for: 5"),
    Wrong::Alert("for: 1.5h"),
    Wrong::Alert("for: -1m"),
    Wrong::Alert("keep_firing_for: soon"),
    Wrong::Alert("labels: {a_b: c, '': d}"),
    Wrong::Alert("labels: {\"__na\\u006de__\": c}"),
    Wrong::Alert("labels: {__name__: c}"),
    Wrong::Alert("labels: {n: '{{ $nope }}'}"),
    Wrong::Alert("labels: {n: '{{ if }}'}"),
    Wrong::Alert("labels: {n: '{{ $value'}"),
    Wrong::Alert("labels: {n: '{{ nothing 1 }}'}"),
    Wrong::Alert("annotations: {'': c}"),
    Wrong::Alert("annotations: {d: '{{ $labels.x | nothing }}'}"),
    Wrong::Alert("record: x"),
    Wrong::Record("for: 1m"),
    Wrong::Record("keep_firing_for: 1m"),
    Wrong::Record("annotations: {a: b}"),
    Wrong::Record("labels: {'': c}"),
    Wrong::Record("labels: {__name__: c}"),
    Wrong::Instead("name: g0", "name: ''"),
    Wrong::Instead("name: g1", "name: g0"),
    Wrong::Instead("interval: 30s", "interval: 1y2x"),
    Wrong::Instead("expr: EXPR", "expr: ''"),
    Wrong::Yaml("labels: [a]"),
    Wrong::Yaml("expr: {a: b}"),
    Wrong::Yaml("expr: up"),
    Wrong::Yaml("\tfor: 1m"),
    Wrong::Yaml("for: \"1m"),
    Wrong::Yaml("*nowhere"),
];

/// Two groups with alerts and recording rules, wrong in one place or nowhere.
fn file(rng: &mut StdRng, wrong: Option<&Wrong>) -> String {
    let field = |line: &str| line.split(':').next().unwrap().to_string();
    let mut text = "groups:\n".to_string();
    for group in 0..2 {
        text += &format!("- name: g{group}\n  interval: 30s\n  rules:\n");
        for rule in 0..rng.random_range(1..=3) {
            text += &format!("  - record: r:{rule}{group}\n    expr: {EXPR}\n");
            if let Some(Wrong::Record(line)) = wrong
                && (group, rule) == (1, 0)
            {
                text += &format!("    {line}\n");
            }
            text += &format!("  - alert: A{rule}\n    expr: {EXPR}\n");
            let mut taken = Vec::new();
            if let Some(Wrong::Alert(line) | Wrong::Yaml(line)) = wrong
                && (group, rule) == (1, 0)
            {
                text += &format!("    {line}\n");
                taken.push(field(line.trim()));
            }
            for _ in 0..3 {
                let line = RIGHT.choose(rng).unwrap();
                if !taken.contains(&field(line)) {
                    text += &format!("    {line}\n");
                    taken.push(field(line));
                }
            }
        }
    }
    match wrong {
        Some(Wrong::Instead(from, to)) => text.replacen(from, to, 1),
        _ => text,
    }
}

/// Fields of one rule with names that are right for Prometheus 3, and such as are wrong; of what YAML itself refuses the
/// words are not compared.
const NAMES: [(&str, bool); 13] = [
    ("record: 'a b-ü'", true),
    ("record: \"a\\0'\\\"\"", true),
    ("record: r\n    labels: {a-b: c, 1a: 'ü', \"ü \\x00 (b)\": d, \"\\uFFFD\": f, ' ': g}", true),
    ("alert: a\n    labels: {'{{ x': '{{ index $labels \"ins-t(ance)\" }}'}", true),
    ("alert: a\n    annotations: {a-b: c, __name__: d, ' ': e}", true),
    ("record: 'a{b=\"c\"}'", false),
    ("record: 'a}'", false),
    ("record: ''", false),
    ("record: r\n    labels: {'': c}", false),
    ("alert: a\n    labels: {a-b: c, \"__na\\u006de__\": d}", false),
    ("alert: a\n    annotations: {a-b: c, '': d}", false),
    ("alert: a\n    annotations: {a-b: '{{ $nope }}'}", false),
    // Bytes that are no text.
    ("record: r\n    labels: {\"\\ud800\": c}", false),
];

/// Names of any text have the verdict of Prometheus 3's promtool, and a place; and of those that it refuses its reasons are
/// among ours. Catches a name that only one of the two takes.
#[test]
fn names_have_its_verdict() {
    let Some(promtool) = super::example_rules::promtool() else {
        return weir_types::testing::skipped("there is no promtool of Prometheus 3");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yml");
    let name = path.to_str().unwrap();
    for (fields, is_right) in NAMES {
        let text =
            |expr: &str| format!("groups:\n- name: g\n  rules:\n  - {fields}\n    expr: {expr}\n");
        std::fs::write(&path, text(PROMQL)).unwrap();
        let mut command = Command::new(&promtool);
        command.args(["check", "rules", "--lint=none", name]);
        let theirs = output_of(command, DEADLINE).unwrap();
        std::fs::write(&path, text(PXL)).unwrap();
        let ours = run(&["rules", "check", name], DEADLINE).unwrap();
        let both = format!("{fields}\n{theirs:#?}\n{ours:#?}");
        assert_eq!(
            (theirs.status.success(), ours.status.success()),
            (is_right, is_right),
            "{both}"
        );
        if is_right {
            continue;
        }
        let said = ours.stderr.join("\n");
        assert!(
            said.contains(&format!("{name}:4:")) || said.contains(&format!("{name}:5:")),
            "{both}"
        );
        let reasons = reasons(&theirs, name);
        let is_yaml = said.contains(": yaml: ");
        assert!(is_yaml || !reasons.is_empty(), "{both}");
        assert!(is_yaml || reasons.iter().all(|why| said.contains(why)), "{reasons:?} {both}");
    }
}

/// What promtool finds wrong, without the file and the place.
fn reasons(said: &Output, path: &str) -> Vec<String> {
    let reason = |line: &String| {
        let rest = line.trim().strip_prefix(&format!("{path}: "))?;
        Some(
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ')
                .to_string(),
        )
    };
    said.stderr.iter().chain(&said.stdout).filter_map(reason).collect()
}

/// Files that are right and files that are wrong in one of thirty ways have promtool's verdict; and of those that it
/// refuses for more than YAML's sake, its reasons are among ours. Catches fields, durations, names and templates that
/// only one of the two takes.
#[test]
fn its_verdict_is_ours() {
    let mut version = Command::new("promtool");
    version.arg("--version");
    if output_of(version, DEADLINE).is_err() {
        return weir_types::testing::skipped("there is no promtool");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yml");
    let name = path.to_str().unwrap();
    let mut refused = 0;
    for seed in 0..FILES {
        let mut rng = StdRng::seed_from_u64(seed);
        let wrong = (seed % 3 > 0).then(|| &WRONG[(seed - seed / 3 - 1) as usize % WRONG.len()]);
        let text = file(&mut rng, wrong);
        std::fs::write(&path, text.replace(EXPR, PROMQL)).unwrap();
        let mut command = Command::new("promtool");
        command.args(["check", "rules", "--lint=none", name]);
        let theirs = output_of(command, DEADLINE).unwrap();
        std::fs::write(&path, text.replace(EXPR, PXL)).unwrap();
        let ours = run(&["rules", "check", name], DEADLINE).unwrap();
        let both = format!("seed {seed}\n{text}\n{theirs:#?}\n{ours:#?}");
        assert_eq!(theirs.status.success(), ours.status.success(), "{both}");
        assert_eq!(theirs.status.success(), wrong.is_none(), "{both}");
        if matches!(wrong, None | Some(Wrong::Yaml(_))) {
            continue;
        }
        refused += 1;
        let reasons = reasons(&theirs, name);
        let said = ours.stderr.join("\n");
        assert!(
            !reasons.is_empty() && reasons.iter().all(|why| said.contains(why)),
            "{reasons:?} {both}"
        );
    }
    assert!(refused > 40, "{refused}");
}
