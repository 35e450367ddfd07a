//! Links in Markdown lead somewhere: to a file of the repository, and there to a heading.

use std::path::{Component, Path, PathBuf};

use super::files;

/// (line, target) of every inline link outside of code blocks.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (idx, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Code spans may hold anything.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        let mut rest = prose.as_str();
        while let Some(start) = rest.find("](") {
            rest = &rest[start + 2..];
            let Some(end) = rest.find(')') else { break };
            let target = rest[..end].split(' ').next().unwrap_or_default();
            found.push((idx + 1, target.to_string()));
        }
    }
    found
}

/// The anchors that a page offers, by the usual rule: lower case, spaces to hyphens, the rest of
/// the punctuation dropped.
fn anchors(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

fn problem(page: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        PathBuf::from(page)
    } else {
        normal(&Path::new(page).parent().unwrap_or(Path::new("")).join(file))
    };
    if !files::root().join(&path).try_exists().unwrap_or(false) {
        return Some("no such file".to_string());
    }
    let is_page = path.extension().is_some_and(|extension| extension == "md");
    if anchor.is_empty() || !is_page {
        return None;
    }
    let offered = anchors(&files::read(&path.to_string_lossy()));
    (!offered.contains(&anchor.to_string())).then(|| "no such heading".to_string())
}

#[test]
fn links_resolve() {
    let mut wrong = Vec::new();
    for page in files::with_extension(&["md"]) {
        for (line, target) in links(&files::read(&page)) {
            if let Some(why) = problem(&page, &target) {
                wrong.push(format!("{page}:{line}: {target}: {why}"));
            }
        }
    }
    files::assert_none("broken links", &wrong);
}

/// The finder itself: links in code are none, titles are cut off.
#[test]
fn finds_links() {
    let text = "see [a](b.md#c \"title\") and `[x](y)`\n```\n[no](no.md)\n```\n![i](p.png)";
    let found: Vec<String> = links(text).into_iter().map(|(_, target)| target).collect();
    assert_eq!(found, ["b.md#c", "p.png"]);
    assert_eq!(
        anchors("# Who may import whom?\ntext\n## `a_b` c"),
        ["who-may-import-whom", "a_b-c"]
    );
}
