//! Looks at a text before it is parsed: refuses what is too long, or nested so deeply that the
//! parser, or whatever walks the tree, could run out of stack. And finds the bracket to blame for a
//! syntax error, on bytes, since the lexer tells no places.

use super::nesting::{self, Refused};
use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::limits::{BEHIND_FSTRING_BYTES_MAX, SYNTAX_DEPTH_MAX};

/// True if the text is short and flat enough.
pub(crate) fn is_parsable(
    text: &str,
    source: SourceId,
    bytes_max: usize,
    findings: &Findings,
) -> bool {
    if text.len() > bytes_max {
        let message = format!("the text has {} bytes; the limit is {bytes_max}", text.len());
        findings.push(Diag::error(Code::ScriptTooLarge, Span::NONE, message));
        return false;
    }
    let at = |at: usize| {
        let start = u32::try_from(at).unwrap_or(u32::MAX);
        Span { source, start, end: start }
    };
    let diag = match nesting::refused(text) {
        None => return true,
        Some(Refused::TooDeep { at: place }) => {
            let message = format!(
                "expressions and blocks are nested more than {SYNTAX_DEPTH_MAX} levels deep"
            );
            Diag::error(Code::TooDeep, at(place), message)
                .label("here")
                .hint("split it over several assignments")
        }
        Some(Refused::FString { at: place }) => {
            let message = format!(
                "Can't parse expression of type FString (nor the text behind it, which has more \
                 than {BEHIND_FSTRING_BYTES_MAX} bytes)"
            );
            Diag::error(Code::ExpressionNotSupported, at(place), message)
                .hint("join strings with `+`")
        }
    };
    findings.push(diag);
    false
}

/// The first bracket that is never closed, or is closed by one of another kind.
pub(crate) fn unclosed_bracket(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at = line_end(bytes, at),
            b'\'' | b'"' => at = string_end(bytes, at),
            b'(' | b'[' | b'{' => open.push(at),
            closer @ (b')' | b']' | b'}') => {
                let opener = open.pop()?;
                let fits =
                    matches!((bytes[opener], closer), (b'(', b')') | (b'[', b']') | (b'{', b'}'));
                if !fits {
                    return Some(opener);
                }
            }
            _ => {}
        }
        at += 1;
    }
    open.pop()
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    let length = bytes[from..].iter().position(|&byte| byte == b'\n');
    length.map_or(bytes.len(), |length| from + length - usize::from(length > 0))
}

/// The last byte of a string that begins at `from`; the line's end if it is not closed there.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let quote = bytes[from];
    let triple = bytes[from..].starts_with(&[quote; 3]);
    let mut at = from + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' if !triple => return at - 1,
            byte if byte == quote && (!triple || bytes[at..].starts_with(&[quote; 3])) => {
                return at + if triple { 2 } else { 0 };
            }
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bracket to blame, not the line after it.
    #[test]
    fn finds_the_open_bracket() {
        assert_eq!(unclosed_bracket("a = f(b[1], ')')\n# (\n"), None);
        assert_eq!(unclosed_bracket("a = [b(1)\nc = 2\n"), Some(4));
        assert_eq!(unclosed_bracket("a = (b]\n"), Some(4));
        assert_eq!(unclosed_bracket("a = b)\n"), None);
    }
}
