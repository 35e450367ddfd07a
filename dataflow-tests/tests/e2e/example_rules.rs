//! Prometheus' own rule files, those that its tests call good and those that they call bad, as they are in its module
//! but for the expressions: beside promtool, both take them or both refuse them. They are read where Go keeps modules
//! (`scripts/test-servers` fetches both) and are nowhere in our tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::weir::{output_of, run};

const DEADLINE: Duration = Duration::from_secs(120);
/// What stands for every expression: each has its own language.
const PROMQL: &str = "up > 0";
const PXL: &str = "\"import px; px.display(px.DataFrame('http_events').groupby('req_path').agg(value=('latency', px.count)))\"";

/// promtool of Prometheus 3 (`scripts/test-servers`); Debian's is older.
pub(crate) fn promtool() -> Option<PathBuf> {
    let promtool = PathBuf::from(std::env::var_os("HOME")?).join(".cache/weir/promtool/promtool");
    promtool.is_file().then_some(promtool)
}

/// promtool and the folder of its module.
fn tools() -> Option<(PathBuf, PathBuf)> {
    let promtool = promtool()?;
    let mut module = Command::new("go");
    module.args(["list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus"]);
    module.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../sinks/receivers/promtool"));
    let module = output_of(module, DEADLINE).ok()?;
    let module = PathBuf::from(module.stdout.first()?);
    module.is_dir().then_some((promtool, module))
}

/// Files below a folder with rule groups, sorted.
fn rule_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rule_files(&path, found);
            continue;
        }
        let is_yaml =
            path.extension().is_some_and(|it| it == "yml" || it == "yaml" || it == "rules");
        let is_large = || std::fs::metadata(&path).unwrap().len() > 4 << 20;
        if is_yaml && !is_large() {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.lines().any(|line| line.starts_with("groups:")) {
                found.push(path);
            }
        }
    }
}

/// The text with each expression that has a text replaced, on one line, and all else as it is.
fn with_exprs(text: &str, expr: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let key = line.find("expr:").filter(|at| line[..*at].chars().all(|c| c == ' ' || c == '-'));
        let value = key.map(|at| line[at + "expr:".len()..].trim());
        let (Some(at), Some(value)) = (key, value.filter(|it| !matches!(*it, "\"\"" | "''" | "")))
        else {
            out += &format!("{line}\n");
            continue;
        };
        // An anchor stays: others name it.
        let anchor = value.split(' ').next().filter(|word| word.starts_with('&'));
        if value.starts_with('*') {
            out += &format!("{line}\n");
            continue;
        }
        let anchor = anchor.map_or(String::new(), |anchor| format!("{anchor} "));
        out += &format!("{}expr: {anchor}{expr}\n", &line[..at]);
        let is_of_it =
            |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() > at;
        while lines.next_if(is_of_it).is_some() {}
    }
    out
}

/// What promtool finds wrong, without the file and the places.
fn reasons(said: &[String], path: &str) -> Vec<String> {
    let reason = |line: &String| {
        let text = line.trim();
        let rest = match text.strip_prefix(&format!("{path}: ")) {
            Some(rest) => rest,
            // Of several that YAML finds, each has a line.
            None => text.strip_prefix("line ")?,
        };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
        let is_head = rest.starts_with("yaml: unmarshal errors");
        (!is_head).then(|| rest.replace(" in type rulefmt.", " in type "))
    };
    said.iter().filter_map(reason).collect()
}

/// Each file has the same verdict, and what promtool says of a wrong one is among what we say, with a place. Catches
/// fields and forms that rule files in use have and ours would not take, and mistakes that would go unnoticed.
#[test]
fn examples_have_promtools_verdict() {
    let Some((promtool, module)) = tools() else {
        return weir_types::testing::skipped(
            "there is no promtool with its module (scripts/test-servers)",
        );
    };
    let mut files = Vec::new();
    rule_files(&module, &mut files);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yml");
    let name = path.to_str().unwrap();
    let (mut taken, mut refused) = (0, 0);
    for file in &files {
        let shown = file.strip_prefix(&module).unwrap().display().to_string();
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(&path, with_exprs(&text, PROMQL)).unwrap();
        let mut command = Command::new(&promtool);
        command.args(["check", "rules", "--lint=none", name]);
        let theirs = output_of(command, DEADLINE).unwrap();
        std::fs::write(&path, with_exprs(&text, PXL)).unwrap();
        let ours = run(&["rules", "check", name], DEADLINE).unwrap();
        let (their_word, our_word) = (theirs.status.success(), ours.status.success());
        let both = || format!("{shown}\n{}\n{theirs:#?}\n{ours:#?}", with_exprs(&text, PXL));

        assert_eq!(their_word, our_word, "{}", both());
        if their_word {
            taken += 1;
            continue;
        }
        refused += 1;
        let said = [theirs.stderr, theirs.stdout].concat();
        let reasons = reasons(&said, name);
        let told = ours.stderr.join("\n");
        let has_place = ours.stderr.iter().any(|line| {
            let place = line.trim().strip_prefix(&format!("{name}:"));
            place.is_some_and(|place| place.starts_with(|c: char| c.is_ascii_digit()))
        });
        assert!(
            has_place && !reasons.is_empty() && reasons.iter().all(|why| told.contains(why)),
            "{shown}: {reasons:?}\n{told}\n{said:?}"
        );
    }
    // The module has them: less would be a search that finds nothing.
    assert!(taken >= 27 && refused >= 10, "{taken} taken, {refused} refused of {}", files.len());
}
