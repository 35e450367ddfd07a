//! The files of the repository, without what is built, vendored or fetched.

use std::path::{Path, PathBuf};

/// Folders that hold nothing written here.
const SKIPPED: [&str; 6] = ["target", "node_modules", ".git", "dist", ".cache", "test-results"];
/// Headers of libbpf and of the kernel's types, as they come.
const VENDORED: [&str; 1] = ["bpf/include"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the root")
        .to_path_buf()
}

/// All files whose extension is one of these, by path relative to the root, sorted.
pub(crate) fn with_extension(extensions: &[&str]) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut waiting = vec![root.clone()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder of the repository") {
            let entry = entry.expect("an entry of a folder");
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let relative = relative(&root, &path);
            let file_type = entry.file_type().expect("a type");
            if file_type.is_dir() {
                let skipped = SKIPPED.contains(&name.as_str())
                    || VENDORED.contains(&relative.as_str())
                    || (name.starts_with('.') && name != ".ci");
                if !skipped {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|have| extensions.iter().any(|e| have == *e)) {
                found.push(relative);
            }
        }
    }
    found.sort();
    found
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned()
}

/// The text of a file of the repository; bytes that are not UTF-8 are replaced.
pub(crate) fn read(relative: &str) -> String {
    let bytes = std::fs::read(root().join(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Fails with everything that is wrong, one a line.
#[track_caller]
pub(crate) fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// Every file below a folder: each folder's entries in order, as the build script walks them.
pub(crate) fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a folder of the repository")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| if path.is_dir() { all_below(&path) } else { vec![path] })
        .collect()
}
