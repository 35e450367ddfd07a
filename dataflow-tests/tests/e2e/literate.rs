//! The pages of `docs/pxl` are tests: each section with a script and rows says what `weir` prints,
//! and this runs it. `UPDATE_GOLDEN=1` writes what it prints into the pages, to be read before it is
//! committed.
//!
//! Within a section: ```` ```pxl ```` is the script, ```` ```jsonl TABLE ```` (or ```` ```json FILE
//! ````) a file of the rows' folder, ```` ```text live [flags] ```` the changes that `weir live`
//! tells, a line each, and ```` ```text run T ```` the rows of `weir run --now T`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::weir::run;

const DEADLINE: Duration = Duration::from_secs(60);

/// A fenced block: its info string, its text, and where the text lies in the page.
struct Block {
    info: String,
    text: String,
    span: std::ops::Range<usize>,
    line: usize,
}

/// A section that has a script.
#[derive(Default)]
struct Section {
    heading: String,
    blocks: Vec<Block>,
}

fn sections(page: &str) -> Vec<Section> {
    let mut found = vec![Section::default()];
    let mut open: Option<Block> = None;
    let mut at = 0;
    for (number, line) in page.split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        match (&mut open, line.strip_prefix("```")) {
            (Some(block), Some(_)) => {
                block.span.end = start;
                block.text = page[block.span.clone()].to_string();
                let done = open.take();
                let last = found.last_mut().expect("there is always a section");
                last.blocks.extend(done);
            }
            (Some(_), None) => {}
            (None, Some(info)) => {
                let info = info.trim().to_string();
                open = Some(Block { info, text: String::new(), span: at..at, line: number + 1 });
            }
            (None, None) if line.starts_with("## ") => {
                let heading = line.trim_start_matches('#').trim().to_string();
                found.push(Section { heading, blocks: Vec::new() });
            }
            (None, None) => {}
        }
    }
    found.retain(|section| section.blocks.iter().any(|block| block.info == "pxl"));
    found
}

fn write_inputs(section: &Section, dir: &Path) -> PathBuf {
    let script = dir.join("script.pxl");
    for block in &section.blocks {
        let words: Vec<&str> = block.info.split(' ').collect();
        match words[..] {
            ["pxl"] => std::fs::write(&script, &block.text).unwrap(),
            ["jsonl", table] => {
                std::fs::write(dir.join(format!("{table}.jsonl")), &block.text).unwrap();
            }
            ["json", file] => std::fs::write(dir.join(file), &block.text).unwrap(),
            _ => {}
        }
    }
    script
}

/// One line a changed row: time of day, count, row. Times lose what they all share.
fn live_lines(messages: &[Json]) -> String {
    let many = messages.iter().filter(|message| message["type"] == "schema").count() > 1;
    let mut out = String::new();
    for message in messages.iter().filter(|message| message["type"] == "changes") {
        let tick = time_of_day(message["tick"].as_str().unwrap_or_default());
        let rows = message["rows"].as_array().unwrap();
        let mut lines: Vec<String> = rows
            .iter()
            .map(|change| {
                let count = change[0].as_i64().unwrap();
                let table = if many { message["table"].as_str().unwrap() } else { "" };
                let space = if many { "  " } else { "" };
                format!("{tick}  {count:+}  {table}{space}{}", shown(&change[1]))
            })
            .collect();
        // What is taken back comes first; the order within a message says nothing.
        lines.sort_by_key(|line| (!line.contains("  -"), line.clone()));
        for line in lines {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

fn run_lines(rows: &[Json]) -> String {
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row.as_object_mut().unwrap().shift_remove("_tableName_");
            format!("{}\n", shown(&row))
        })
        .collect();
    lines.sort();
    lines.concat()
}

fn shown(row: &Json) -> String {
    row.to_string().replace("2026-01-01T00:", "").replace(".000000000Z", "")
}

fn time_of_day(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

/// What the block's command prints.
fn actual(block: &Block, script: &Path, dir: &Path) -> Option<String> {
    let words: Vec<&str> = block.info.split(' ').collect();
    let (script, dir) = (script.to_str().unwrap(), dir.to_str().unwrap());
    let ask = |args: &[&str]| -> Vec<Json> {
        let output = run(args, DEADLINE).unwrap();
        assert!(output.status.success(), "line {}: {output:?}", block.line);
        output.json_lines()
    };
    match &words[..] {
        ["text", "live", flags @ ..] => {
            let mut args = vec!["live", script, "--rows", dir, "-o", "jsonl"];
            args.extend(flags);
            Some(live_lines(&ask(&args)))
        }
        ["text", "run", now] => {
            let args = ["run", script, "--rows", dir, "--now", now, "-o", "jsonl"];
            Some(run_lines(&ask(&args)))
        }
        _ => None,
    }
}

fn pages() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pxl");
    let mut pages: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    pages
}

/// What the pages promise is what a reader gets who types it in: catches a page that has become
/// untrue, and a change of the live meaning that nobody wrote down.
#[test]
fn pages_are_true() {
    let update = std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1");
    let (mut checked, mut wrong) = (0, String::new());
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        let mut updated = page.clone();
        let mut edits = Vec::new();
        for section in sections(&page) {
            let dir = tempfile::tempdir().unwrap();
            let script = write_inputs(&section, dir.path());
            for block in &section.blocks {
                let Some(actual) = actual(block, &script, dir.path()) else { continue };
                checked += 1;
                if actual != block.text {
                    let (heading, line, want) = (&section.heading, block.line, &block.text);
                    let _ = write!(wrong, "{heading}, line {line}:\n{want}is:\n{actual}");
                    edits.push((block.span.clone(), actual));
                }
            }
        }
        for (span, actual) in edits.into_iter().rev() {
            updated.replace_range(span, &actual);
        }
        if update && updated != page {
            std::fs::write(&path, updated).unwrap();
        }
    }
    assert!(checked > 10, "{checked} blocks were run");
    assert!(update || wrong.is_empty(), "{wrong}\n(UPDATE_GOLDEN=1 writes it into the pages)");
}
