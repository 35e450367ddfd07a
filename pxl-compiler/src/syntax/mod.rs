//! Text to syntax tree: parse with ruff, forgive the one missing comma that Pixie forgives, refuse
//! what is Python but not PxL. Says nothing about names or types.

pub(crate) mod commas;
pub(crate) mod guard;
pub(crate) mod lines;
pub(crate) mod literals;
mod nesting;
pub(crate) mod pragmas;
pub(crate) mod restrict;

use ruff_python_ast::{Expr, ModModule, Suite};
use ruff_python_parser::{Mode, ParseError, ParseErrorType, ParseOptions};

use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::limits::{ARGUMENT_BYTES_MAX, SCRIPT_BYTES_MAX};

/// A module's statements; `None` if there are findings that make evaluating it pointless.
pub(crate) fn parse_module(text: &str, source: SourceId, findings: &Findings) -> Option<Suite> {
    if !guard::is_parsable(text, source, SCRIPT_BYTES_MAX, findings) {
        return None;
    }
    let parsed = ruff_python_parser::parse_unchecked(text, ParseOptions::from(Mode::Module));
    let errors = parsed.errors().to_vec();
    let module: ModModule = parsed.try_into_module()?.into_syntax();
    let body = module.body;
    // Recovery after the first error invents more of them; the first is the true one.
    if let Some(error) = commas::first_unforgiven(&body, &errors, text) {
        findings.push(syntax_error(error, source, text));
        return None;
    }
    if body.is_empty() {
        let message = if text.trim().is_empty() {
            "Query should not be empty."
        } else {
            "No runnable code found"
        };
        let hint = "a script needs at least `import px` and a `px.display(...)`";
        findings.push(Diag::error(Code::EmptyQuery, Span::NONE, message).hint(hint));
        return None;
    }
    restrict::check(&body, source, findings).then_some(body)
}

/// One expression, for values that come from outside.
pub(crate) fn parse_expression(text: &str) -> Option<Expr> {
    let quiet = Findings::default();
    if !guard::is_parsable(text, SourceId::Outside, ARGUMENT_BYTES_MAX, &quiet) {
        return None;
    }
    let parsed = ruff_python_parser::parse_expression(text).ok()?;
    let expr = *parsed.into_syntax().body;
    restrict::check_expression(&expr, SourceId::Outside, &quiet).then_some(expr)
}

fn syntax_error(error: &ParseError, source: SourceId, text: &str) -> Diag {
    if !matches!(error.error, ParseErrorType::Lexical(_))
        && let Some(at) = guard::unclosed_bracket(text)
        && at <= error.location.start().to_usize()
    {
        let start = u32::try_from(at).unwrap_or(u32::MAX);
        let bracket = &text[at..=at];
        let message = format!("invalid syntax: '{bracket}' was never closed");
        let span = Span { source, start, end: start + 1 };
        return Diag::error(Code::SyntaxError, span, message).label("opened here");
    }
    let span = Span::new(source, error.location);
    let message = format!("invalid syntax: {}", lower_first(&error.error.to_string()));
    let found = text.get(span.start as usize..span.end as usize).unwrap_or("").trim();
    let label = match &error.error {
        ParseErrorType::ExpectedToken { expected, .. } => format!("expected {expected} here"),
        _ if found.is_empty() => "here".to_string(),
        _ => "unexpected".to_string(),
    };
    let hint = match &error.error {
        ParseErrorType::UnexpectedIndentation => "align it with the lines around it",
        ParseErrorType::Lexical(_) => "check quotes, brackets and indentation",
        _ => "",
    };
    Diag::error(Code::SyntaxError, span, message).label(label).hint(hint)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + chars.as_str())
}
