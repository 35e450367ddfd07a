//! Pixie's parser takes a call with one comma missing, or one doubled, as long as everything after
//! the gap is keyword arguments. Five of its shipped scripts depend on it. ruff recovers from the
//! missing comma and reports it; this module says which reports to forgive.

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{Expr, ExprCall, Stmt};
use ruff_python_parser::{ParseError, ParseErrorType};
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::literals;
use crate::limits::FORGIVEN_COMMAS_MAX;

/// The first error that is not forgiven: at most one comma a call is.
pub(crate) fn first_unforgiven<'e>(
    body: &[Stmt],
    errors: &'e [ParseError],
    text: &str,
) -> Option<&'e ParseError> {
    let mut calls: Option<Calls> = None;
    let mut used: Vec<TextRange> = Vec::new();
    for error in errors {
        if literals::is_text_only(error) {
            continue;
        }
        if used.len() >= FORGIVEN_COMMAS_MAX || !is_comma_error(error, text) {
            return Some(error);
        }
        let calls = calls.get_or_insert_with(|| {
            let mut calls = Calls { found: Vec::new() };
            calls.visit_body(body);
            calls
        });
        let at = error.location.start();
        // The innermost call around it.
        let call = calls
            .found
            .iter()
            .filter(|call| call.arguments.contains(at))
            .min_by_key(|call| call.arguments.len())
            .filter(|call| call.first_positional_after(at).is_none())
            .filter(|call| !used.contains(&call.arguments));
        match call {
            Some(call) => used.push(call.arguments),
            None => return Some(error),
        }
    }
    None
}

fn is_comma_error(error: &ParseError, text: &str) -> bool {
    let missing =
        matches!(&error.error, ParseErrorType::ExpectedToken { expected: TokenKind::Comma, .. });
    // A doubled comma: the second one is where an argument should be.
    let range = error.location.start().to_usize()..error.location.end().to_usize();
    missing || text.get(range) == Some(",")
}

struct Call {
    arguments: TextRange,
    positional: Vec<TextRange>,
}

impl Call {
    fn of(call: &ExprCall) -> Call {
        Call {
            arguments: call.arguments.range(),
            positional: call.arguments.args.iter().map(Ranged::range).collect(),
        }
    }
    fn first_positional_after(&self, at: TextSize) -> Option<&TextRange> {
        self.positional.iter().find(|range| range.start() >= at && !range.is_empty())
    }
}

struct Calls {
    found: Vec<Call>,
}

impl<'a> Visitor<'a> for Calls {
    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::Call(call) = expr {
            self.found.push(Call::of(call));
        }
        walk_expr(self, expr);
    }
}
