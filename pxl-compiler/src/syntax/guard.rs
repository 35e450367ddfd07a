//! Looks at a text before it is parsed: refuses what is too long, or nested so deeply that the
//! syntax tree could not be dropped without running out of stack. Works on bytes, without a lexer,
//! and errs on the side of counting too much.

use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};
use crate::limits::SYNTAX_DEPTH_MAX;

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
    let Some(at) = too_deep_at(text) else { return true };
    let at = u32::try_from(at).unwrap_or(u32::MAX);
    let span = Span { source, start: at, end: at };
    let message = format!("expression is nested more than {SYNTAX_DEPTH_MAX} levels deep");
    let hint = "split it over several assignments";
    findings.push(Diag::error(Code::TooDeep, span, message).label("here").hint(hint));
    false
}

/// Words that nest an expression one deeper.
const NESTING_WORDS: [&[u8]; 11] =
    [b"not", b"and", b"or", b"lambda", b"if", b"else", b"await", b"yield", b"in", b"is", b"for"];

/// Where the tree's depth could exceed the limit. Each bracket, operator, dot or keyword may add a
/// level; a comma at the same bracket level ends what was counted there, a line outside brackets
/// ends everything. Quotes and comments are skipped, but for f-strings, which hold expressions:
/// from the first one on, quotes count as plain text.
fn too_deep_at(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open: Vec<usize> = vec![indentation(bytes, 0)];
    let mut total = open[0];
    let mut skip_strings = true;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' if skip_strings => at = line_end(bytes, at),
            b'\'' | b'"' if skip_strings => {
                skip_strings = !matches!(prefix(bytes, at), b'f' | b'F' | b't' | b'T');
                if skip_strings {
                    at = string_end(bytes, at);
                }
            }
            b'(' | b'[' | b'{' => {
                count(&mut open, &mut total);
                open.push(0);
            }
            b')' | b']' | b'}' if open.len() > 1 => total -= open.pop().unwrap_or(0),
            b',' => total -= open.last_mut().map_or(0, std::mem::take),
            b'\n' if open.len() == 1 && prefix(bytes, at) != b'\\' => {
                open[0] = indentation(bytes, at + 1);
                total = open[0];
            }
            b'=' | b'!' | b'<' | b'>' | b'*' | b'/' | b'&' | b'|'
                if bytes.get(at + 1) == Some(&b'=') => {}
            b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'~' | b'<' | b'>' | b'=' | b'!' | b'&'
            | b'|' | b'^' | b'@' | b':' | b'?' => count(&mut open, &mut total),
            byte if byte.is_ascii_alphabetic() => {
                let length = word_length(&bytes[at..]);
                if NESTING_WORDS.contains(&&bytes[at..at + length]) {
                    count(&mut open, &mut total);
                }
                at += length - 1;
            }
            _ => {}
        }
        if total > SYNTAX_DEPTH_MAX {
            return Some(at);
        }
        at += 1;
    }
    None
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

/// The byte before `at`.
fn prefix(bytes: &[u8], at: usize) -> u8 {
    // `rf"…"` and `fr"…"`: look through the r.
    match at.checked_sub(1).map(|at| bytes[at]) {
        Some(b'r' | b'R') if at >= 2 && matches!(bytes[at - 2], b'f' | b'F' | b't' | b'T') => b'f',
        Some(byte) => byte,
        None => 0,
    }
}

fn word_length(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

fn count(open: &mut [usize], total: &mut usize) {
    if let Some(last) = open.last_mut() {
        *last += 1;
        *total += 1;
    }
}

/// Blanks at the beginning of a line: each may be one level of blocks.
fn indentation(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
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

    /// Long flat texts pass and deep ones do not: catches counting over lines and commas.
    #[test]
    fn counts_depth_not_length() {
        assert_eq!(too_deep_at(&"df.a = f(b, c)\n".repeat(5000)), None);
        assert_eq!(too_deep_at(&format!("x = [{}]", "1 + 2, ".repeat(5000))), None);
        assert_eq!(too_deep_at(&format!("x = '{}'", "((.".repeat(5000))), None);
        assert!(too_deep_at(&"(".repeat(5000)).is_some());
        assert!(too_deep_at(&format!("a{}", ".b".repeat(5000))).is_some());
        assert!(too_deep_at(&"not ".repeat(5000)).is_some());
        assert!(too_deep_at(&format!("f'{{{}", "(".repeat(5000))).is_some());
        assert!(too_deep_at(&"a + \\\n".repeat(5000)).is_some());
        assert_eq!(too_deep_at(&format!("x = ({})", "          a == b or\n".repeat(200))), None);
    }
}
