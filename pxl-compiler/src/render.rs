//! Diagnostics as text for a terminal: a snippet of the source with the place underlined, in the
//! manner of rustc. The JSON form is `weir_types::Diagnostic` itself.

use std::fmt::Write;

use weir_types::{Diagnostic, Severity, text};

use crate::compile::Script;

/// A snippet shows lines up to this many characters.
const LINE_CHARS_MAX: usize = 200;

/// Renders all of them; `source` is the script's text. Findings in a vis.json have no snippet.
#[must_use]
pub fn render_diagnostics(diagnostics: &[Diagnostic], source: &str, color: bool) -> String {
    render_script_diagnostics(diagnostics, &Script { name: "", text: source, vis: None }, color)
}

/// Renders all of them, with snippets of the script and of its vis.json.
#[must_use]
pub fn render_script_diagnostics(
    diagnostics: &[Diagnostic],
    script: &Script<'_>,
    color: bool,
) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let source = match diagnostic.file.ends_with("vis.json") {
            true => script.vis.unwrap_or(""),
            false => script.text,
        };
        render_one(&mut out, diagnostic, source, color);
    }
    out
}

struct Paint {
    color: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

fn render_one(out: &mut String, diagnostic: &Diagnostic, source: &str, color: bool) {
    let paint = Paint { color };
    let (name, code) = match diagnostic.severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
    };
    let head = paint.with(code, &format!("{name}[{}]", text::line(&diagnostic.code)));
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{head}: {}", text::line(&diagnostic.message));
    let file = text::line(&diagnostic.file);
    if diagnostic.line > 0 {
        let place = format!("{file}:{}:{}", diagnostic.line, diagnostic.column);
        let _ = writeln!(out, "  {} {place}", paint.with("1;34", "-->"));
    } else if !file.is_empty() {
        let _ = writeln!(out, "  {} {file}", paint.with("1;34", "-->"));
    }
    let number = diagnostic.line.checked_sub(1);
    if let Some(line) = number.and_then(|number| source.lines().nth(number as usize)) {
        snippet(out, diagnostic, line, code, &paint);
    }
    if !diagnostic.hint.is_empty() {
        let _ =
            writeln!(out, "  {} help: {}", paint.with("1;34", "="), text::line(&diagnostic.hint));
    }
    out.push('\n');
}

fn snippet(out: &mut String, diagnostic: &Diagnostic, line: &str, code: &str, paint: &Paint) {
    let number = diagnostic.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = paint.with("1;34", "|");
    let shown: String = line.chars().take(LINE_CHARS_MAX).map(text::printable).collect();
    let length = shown.chars().count();
    let from = (diagnostic.column.max(1) as usize - 1).min(length);
    let to = if diagnostic.end_line == diagnostic.line {
        (diagnostic.end_column.max(1) as usize - 1).min(length)
    } else {
        length
    };
    let carets = "^".repeat(to.saturating_sub(from).max(1));
    let mut mark = carets;
    if !diagnostic.label.is_empty() {
        mark.push(' ');
        mark.push_str(&text::line(&diagnostic.label));
    }
    let _ = writeln!(out, " {margin} {bar}");
    let _ = writeln!(out, " {} {bar} {shown}", paint.with("1;34", &number));
    let _ = writeln!(out, " {margin} {bar} {}{}", " ".repeat(from), paint.with(code, &mark));
}
