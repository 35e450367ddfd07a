//! Size, module docs, printing, banned words, unsafe.

use super::files;

const LINES_MAX: usize = 500;
const LIST_LINES_MAX: usize = 800;
/// Crates that may print to standard output, and the only ones with unsafe code.
const PRINTING: [&str; 2] = ["cli/", "xtask/"];
const UNSAFE: [&str; 2] = ["bpf/", "sources/"];

/// No source file is longer than a pair of eyes can proofread; tests and PxL are lists, and may be longer.
#[test]
fn files_are_short() {
    let is_list = |path: &str| path.contains("tests") || path.ends_with(".pxl");
    let lines_max = |path: &str| if is_list(path) { LIST_LINES_MAX } else { LINES_MAX };
    let wrong: Vec<String> = files::with_extension(&["rs", "c", "h", "ts", "tsx", "css", "pxl"])
        .into_iter()
        .map(|path| (files::read(&path).lines().count(), path))
        .filter(|(lines, path)| *lines > lines_max(path))
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    files::assert_none("files of more than 500 lines, or tests and PxL of more than 800", &wrong);
}

/// Every Rust file begins with what it is for.
#[test]
fn modules_are_described() {
    let wrong: Vec<String> = files::with_extension(&["rs"])
        .into_iter()
        .filter(|path| !files::read(path).starts_with("//!"))
        .collect();
    files::assert_none("files that do not start with `//!`", &wrong);
}

/// Lines of the product's code: no comments, nothing after the first test module.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(idx, line)| (idx + 1, line.trim()))
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.starts_with("//"))
}

/// Only the command line prints: catches a forgotten debug print.
#[test]
fn libraries_do_not_print() {
    let mut wrong = Vec::new();
    for path in files::with_extension(&["rs"]) {
        let is_test =
            path.contains("/tests/") || path.contains("/fuzz/") || path.ends_with("tests.rs");
        let is_library = path.contains("src/") && !is_test;
        if !is_library || PRINTING.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for (number, line) in code_lines(&files::read(&path)) {
            if line.contains("println!(") || line.contains("print!(") {
                wrong.push(format!("{path}:{number}: {line}"));
            }
        }
    }
    files::assert_none("printing outside of the command line", &wrong);
}

/// Words that mean "not done", test attributes that hide failures, paths of one machine.
#[test]
fn no_banned_words() {
    // In halves, so that this file passes its own test.
    let banned = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("db", "g!("),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
        concat!("#[should_", "panic"),
        concat!("/wo", "rk/"),
        concat!("do_", "send("),
    ];
    let mut wrong = Vec::new();
    let kinds =
        ["rs", "c", "h", "ts", "tsx", "css", "md", "pxl", "toml", "yaml", "yml", "sh", "mjs"];
    for path in files::with_extension(&kinds) {
        // The list of what clippy refuses has to name it.
        if path == "clippy.toml" {
            continue;
        }
        for (idx, line) in files::read(&path).lines().enumerate() {
            if let Some(word) = banned.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{path}:{}: {word}", idx + 1));
            }
        }
    }
    files::assert_none("banned words", &wrong);
}

/// Each unsafe block says which invariant it relies on, within the lines just above it.
#[test]
fn unsafe_is_explained() {
    const ABOVE: usize = 8;
    let mut wrong = Vec::new();
    for path in files::with_extension(&["rs"]) {
        let text = files::read(&path);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (idx, line) in lines.iter().enumerate() {
            let keyword = concat!("unsa", "fe ");
            let opens = line.contains(&format!("{keyword}{{"))
                || line.contains(&format!("{keyword}impl"))
                || line.contains(&format!("{keyword}extern"));
            if line.starts_with("//") || !opens {
                continue;
            }
            let above = &lines[idx.saturating_sub(ABOVE)..=idx];
            if !above.iter().any(|line| line.contains("SAFETY:")) {
                wrong.push(format!("{path}:{}: {line}", idx + 1));
            }
        }
    }
    files::assert_none("unsafe without a SAFETY comment", &wrong);
}

/// Every crate but the two that talk to the kernel forbids unsafe code at its root.
#[test]
fn crates_forbid_unsafe() {
    let wrong: Vec<String> = files::with_extension(&["rs"])
        .into_iter()
        .filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"))
        .filter(|path| !path.contains("/fuzz/"))
        .filter(|path| !UNSAFE.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| !files::read(path).contains("#![forbid(unsafe_code)]"))
        .collect();
    files::assert_none("crates that do not forbid unsafe code", &wrong);
}

/// A test that did not run says so by the one function that fails where everything is required:
/// catches a test that passes in CI because a server or a capability is missing.
#[test]
fn skipped_tests_fail_where_everything_is_required() {
    let word = concat!("skip", "ped");
    let mut wrong = Vec::new();
    for path in files::with_extension(&["rs"]) {
        for (number, line) in files::read(&path).lines().enumerate() {
            if line.contains("print") && line.contains(&format!("\"{word}")) {
                wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    files::assert_none("use weir_types::testing to say that a test did not run", &wrong);
}
