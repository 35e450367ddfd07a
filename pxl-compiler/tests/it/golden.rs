//! Golden files: a text is compared with a file, or written to it.

use std::path::PathBuf;

pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Compares `text` with the golden, or rewrites the golden if `UPDATE_GOLDEN` is set. The
/// difference is returned, so that a test can collect several.
pub(crate) fn compare(path: &PathBuf, text: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
        return Ok(());
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    if golden == text {
        return Ok(());
    }
    Err(format!("{} differs:\n--- golden\n{golden}\n--- now\n{text}", path.display()))
}

/// The parts of a case file: `=== name` lines begin one.
pub(crate) fn sections(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("=== "), found.last_mut()) {
            (Some(name), _) => found.push((name.trim().to_string(), String::new())),
            (None, Some((_, body))) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}
