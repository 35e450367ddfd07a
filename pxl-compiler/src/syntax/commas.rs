//! Pixie's parser takes a call with one comma missing, or one doubled, as long as everything after
//! the gap is keyword arguments. Five of its shipped scripts depend on it. ruff recovers from the
//! missing comma and reports it; this module says which reports to forgive.

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{Expr, ExprCall, Stmt};
use ruff_python_parser::{ParseError, ParseErrorType};
use ruff_text_size::{Ranged, TextRange, TextSize};

/// For each error whether it is forgiven: at most one per call.
pub(crate) fn forgiven(body: &[Stmt], errors: &[ParseError], text: &str) -> Vec<bool> {
    let mut verdicts = vec![false; errors.len()];
    if errors.is_empty() {
        return verdicts;
    }
    let mut calls = Calls { found: Vec::new() };
    calls.visit_body(body);
    let mut used: Vec<TextRange> = Vec::new();
    for (verdict, error) in verdicts.iter_mut().zip(errors) {
        if !is_comma_error(error, text) {
            continue;
        }
        let at = error.location.start();
        // The innermost call around it.
        let call = calls
            .found
            .iter()
            .filter(|call| call.arguments.contains(at))
            .min_by_key(|call| call.arguments.len());
        if let Some(call) = call
            && call.first_positional_after(at).is_none()
            && !used.contains(&call.arguments)
        {
            used.push(call.arguments);
            *verdict = true;
        }
    }
    verdicts
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
