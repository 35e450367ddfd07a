//! How deep the syntax tree of a text will be, counted on the lexer's tokens before anything recurses:
//! the parser, everything that walks the tree, and dropping it.
//!
//! The count is an upper bound. Within a bracket each operator may stand above everything else of its
//! element, as in `((a) + b) + c` and in `-(-(a))`; a comma begins a new element. Tokens that the
//! parser sees otherwise than the lexer, because it recovers from an error, are only line ends and
//! f-strings: a closing bracket that does not fit is not counted, and no text is looked into behind an
//! f-string.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};

use crate::limits::{BEHIND_FSTRING_BYTES_MAX, SYNTAX_DEPTH_MAX};

/// Why a text is not parsed, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    TooDeep {
        at: usize,
    },
    /// An f-string with too much text behind it.
    FString {
        at: usize,
    },
}

/// What an element and those before it within the same bracket come to.
#[derive(Clone, Copy, Default)]
struct Level {
    close: Option<TokenKind>,
    /// Operators of the element.
    operators: usize,
    /// Operators that a comma does not end: parameters of a lambda have commas.
    lasting: usize,
    /// The deepest bracket of the element.
    inner: usize,
    /// The deepest of the elements before.
    before: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.before.max(self.operators + self.inner) + self.lasting
    }

    fn end_element(&mut self) {
        self.before = self.before.max(self.operators + self.inner);
        self.operators = 0;
        self.inner = 0;
    }
}

/// The first thing that keeps a text from being parsed.
pub(super) fn refused(text: &str) -> Option<Refused> {
    Some(match first(text)? {
        Found::TooDeep => Refused::TooDeep { at: shortest(text).saturating_sub(1) },
        Found::FString => Refused::FString { at: fstring(text).unwrap_or(0) },
    })
}

/// Length of the shortest beginning that is too deep: the lexer does not tell places.
fn shortest(text: &str) -> usize {
    let (mut fits, mut deep) = (0, text.len());
    while deep - fits > 1 {
        let mut middle = fits.midpoint(deep);
        while !text.is_char_boundary(middle) {
            middle -= 1;
        }
        if middle == fits {
            break;
        }
        match first(&text[..middle]) {
            Some(_) => deep = middle,
            None => fits = middle,
        }
    }
    deep
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    TooDeep,
    FString,
}

/// Lexes until something is found.
fn first(text: &str) -> Option<Found> {
    let mut tokens = lexer::lex(text, Mode::Module);
    let mut levels = vec![Level::default()];
    let mut blocks: usize = 0;
    // What all open brackets come to.
    let mut open: usize = 0;
    loop {
        let kind = tokens.next_token();
        let level = levels.last_mut()?;
        match kind {
            TokenKind::EndOfFile => return None,
            TokenKind::FStringStart | TokenKind::TStringStart => {
                let behind = fstring(text).map_or(text.len(), |at| text.len() - at);
                return (behind > BEHIND_FSTRING_BYTES_MAX).then_some(Found::FString);
            }
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = blocks.saturating_sub(1),
            TokenKind::Newline => {
                levels.truncate(1);
                levels[0] = Level::default();
                open = 0;
            }
            TokenKind::Comma => {
                open -= level.operators;
                level.end_element();
            }
            TokenKind::Lpar => push(&mut levels, &mut open, TokenKind::Rpar),
            TokenKind::Lsqb => push(&mut levels, &mut open, TokenKind::Rsqb),
            TokenKind::Lbrace => push(&mut levels, &mut open, TokenKind::Rbrace),
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace if level.close == Some(kind) => {
                open -= level.operators + level.lasting;
                let depth = level.depth();
                levels.pop();
                let outer = levels.last_mut()?;
                outer.inner = outer.inner.max(depth);
            }
            TokenKind::Lambda | TokenKind::Yield => {
                level.lasting += 1;
                open += 1;
            }
            kind if is_plain(kind) => {}
            _ => {
                level.operators += 1;
                open += 1;
            }
        }
        let deepest = levels.last().map_or(0, Level::depth).max(open);
        if blocks + deepest > SYNTAX_DEPTH_MAX {
            return Some(Found::TooDeep);
        }
    }
}

/// A bracket is a level, also as a call or a subscript.
fn push(levels: &mut Vec<Level>, open: &mut usize, close: TokenKind) {
    if let Some(level) = levels.last_mut() {
        level.operators += 1;
        *open += 1;
    }
    levels.push(Level { close: Some(close), ..Level::default() });
}

/// Tokens that nest nothing.
fn is_plain(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Name
            | TokenKind::Int
            | TokenKind::Float
            | TokenKind::Complex
            | TokenKind::String
            | TokenKind::True
            | TokenKind::False
            | TokenKind::None
            | TokenKind::Ellipsis
            | TokenKind::Comment
            | TokenKind::NonLogicalNewline
    )
}

/// Where the first f-string begins: the shortest beginning of the text that has one.
fn fstring(text: &str) -> Option<usize> {
    let has = |end: usize| {
        let mut tokens = lexer::lex(&text[..end], Mode::Module);
        loop {
            match tokens.next_token() {
                TokenKind::EndOfFile => return false,
                TokenKind::FStringStart | TokenKind::TStringStart => return true,
                _ => {}
            }
        }
    };
    // Candidates are few: an f or a t before a quote.
    let bytes = text.as_bytes();
    let quotes: Vec<usize> = (1..bytes.len())
        .filter(|&at| {
            matches!(bytes[at], b'\'' | b'"')
                && matches!(bytes[at - 1], b'f' | b'F' | b't' | b'T' | b'r' | b'R')
        })
        .collect();
    let found = quotes.partition_point(|&at| !has(at + 1));
    quotes.get(found).map(|at| at - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(text: &str) -> bool {
        first(text) == Some(Found::TooDeep)
    }

    /// Long flat texts pass and deep ones do not: catches counting over lines and commas.
    #[test]
    fn counts_depth_not_length() {
        for flat in [
            "df.a = f(b, c)\n".repeat(9000),
            format!("x = [{}]", "1 + 2, ".repeat(9000)),
            format!("x = '{}'", "((.".repeat(9000)),
            format!("x = {}1\n", "1 + ".repeat(3000)),
            format!("x = {}1\n", "'a' 'b'\\\n".repeat(9000)),
            "# ((((\n".repeat(9000),
        ] {
            assert!(!deep(&flat), "{}", &flat[..40]);
        }
        for nested in [
            "(".repeat(9000),
            format!("a{}", ".b".repeat(9000)),
            "not ".repeat(9000),
            "a + \\\n".repeat(9000),
            "a + \\\r\n".repeat(9000),
            "[)".repeat(9000),
            "lambda a, b: ".repeat(9000),
            "1 if 1 else ".repeat(9000),
            format!("{}1{}", "(".repeat(9000), ") + 1".repeat(9000)),
        ] {
            assert!(deep(&nested), "{}", &nested[..40]);
        }
    }

    /// What stands behind an f-string is not counted but bounded; a quote in a string begins none.
    #[test]
    fn fstrings_end_long_texts() {
        let long = "x = 1\n".repeat(BEHIND_FSTRING_BYTES_MAX);
        let text = format!("y = 1\nx = f'{{a}}'\n{long}");
        assert_eq!(refused(&text), Some(Refused::FString { at: 10 }));
        assert_eq!(refused("x = f'{a}'\n"), None);
        assert_eq!(refused(&format!("x = \"it f'\"\n{long}")), None);
    }

    /// The place is where one more is too much.
    #[test]
    fn tells_the_place() {
        let text = format!("x = {}1", "-".repeat(SYNTAX_DEPTH_MAX + 10));
        assert_eq!(refused(&text), Some(Refused::TooDeep { at: SYNTAX_DEPTH_MAX + 3 }));
    }
}
