//! Pages of the documentation that say what the compiler knows: written from its own tables, so that
//! they cannot say otherwise. `tests/it/reference.rs` keeps the files current.

mod ctx;
mod vis;

pub use ctx::page as ctx_page;
pub use vis::page as vis_page;

/// A table of Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let mut out = line(&head);
    out.push_str(&line(&vec!["---".to_string(); head.len()]));
    for row in rows {
        // A bar would end the cell.
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        out.push_str(&line(&cells));
    }
    out
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn codes<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(code).collect::<Vec<_>>().join(", ")
}
