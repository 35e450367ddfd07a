//! String literals as PxL means them: byte strings. ruff decodes them as Python 3 text, where
//! `\xff` is a character of two bytes; so literals with escapes are decoded again from the source.

use ruff_python_ast::{ExprBytesLiteral, ExprStringLiteral};
use ruff_python_parser::{LexicalErrorType, ParseError, ParseErrorType};
use ruff_text_size::{Ranged, TextRange};

/// The bytes of a (possibly concatenated) string literal.
pub(crate) fn string_bytes(literal: &ExprStringLiteral, text: &str) -> Vec<u8> {
    bytes_at(literal.range(), text).unwrap_or_else(|| literal.value.to_str().as_bytes().to_vec())
}

/// The bytes of a `b'…'` literal.
pub(crate) fn bytes_literal(literal: &ExprBytesLiteral, text: &str) -> Vec<u8> {
    bytes_at(literal.range(), text).unwrap_or_else(|| literal.value.bytes().collect())
}

/// True for what only Python 3 finds wrong with a string: there `\u` and `\N` are escapes, bytes are
/// ASCII and do not join text. In PxL all strings are byte strings.
pub(crate) fn is_text_only(error: &ParseError) -> bool {
    match &error.error {
        ParseErrorType::Lexical(
            LexicalErrorType::UnicodeError
            | LexicalErrorType::MissingUnicodeLbrace
            | LexicalErrorType::MissingUnicodeRbrace
            | LexicalErrorType::InvalidByteLiteral,
        ) => true,
        ParseErrorType::OtherError(message) => message.starts_with("Bytes literal cannot be mixed"),
        _ => false,
    }
}

/// Decodes the adjacent literals in a range of the source; `None` if there is no source.
fn bytes_at(range: TextRange, text: &str) -> Option<Vec<u8>> {
    let source = text.get(range.start().to_usize()..range.end().to_usize())?;
    let mut out = Vec::new();
    let mut rest = skip_blanks(source);
    while !rest.is_empty() {
        let prefix = rest.find(['\'', '"'])?;
        let raw = rest[..prefix].contains(['r', 'R']);
        rest = &rest[prefix..];
        let quote = &rest[..1];
        let triple = [quote; 3].concat();
        let quote = if rest.starts_with(&triple) { triple.as_str() } else { quote };
        let inner = &rest[quote.len()..];
        let end = end_of(inner, quote)?;
        match raw {
            true => out.extend_from_slice(&inner.as_bytes()[..end]),
            false => decode(&inner[..end], &mut out),
        }
        rest = skip_blanks(&inner[end + quote.len()..]);
    }
    Some(out)
}

/// What the literals of a text say, one by one, also of a text that is no script: comments are passed over, and so is what
/// stands behind a quote that nothing closes. Each byte is looked at once or twice.
pub(crate) fn texts_in(text: &str) -> Vec<String> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(next) = text[at..].find(['\'', '"', '#']) {
        let opens = at + next;
        if text[opens..].starts_with('#') {
            at = text[opens..].find('\n').map_or(text.len(), |line| opens + line);
            continue;
        }
        let quote = &text[opens..=opens];
        let triple = [quote; 3].concat();
        let (quote, inner) = match text[opens..].starts_with(&triple) {
            true => (triple.as_str(), &text[opens + 3..]),
            false => (quote, in_line(&text[opens + 1..], quote)),
        };
        let start = opens + quote.len();
        let Some(end) = end_of(inner, quote) else {
            at = start + inner.len();
            continue;
        };
        let mut bytes = Vec::new();
        match is_raw(&text[at..opens]) {
            true => bytes.extend_from_slice(&inner.as_bytes()[..end]),
            false => decode(&inner[..end], &mut bytes),
        }
        found.push(String::from_utf8_lossy(&bytes).into_owned());
        at = start + end + quote.len();
    }
    found
}

/// The text up to and with the quote, or up to the end of its line: a backslash joins the next one to it.
fn in_line<'a>(text: &'a str, quote: &str) -> &'a str {
    let mut is_escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let is_end = !is_escaped && (*c == '\n' || quote.starts_with(*c));
        is_escaped = !is_escaped && *c == '\\';
        is_end
    });
    end.map_or(text, |(at, c)| &text[..at + if c == '\n' { 0 } else { 1 }])
}

/// True if the letters before a quote make it a raw literal's.
fn is_raw(before: &str) -> bool {
    let letters = before.bytes().rev().take_while(u8::is_ascii_alphanumeric);
    let letters: Vec<u8> = letters.take(3).collect();
    letters.len() < 3 && letters.iter().any(|letter| letter.eq_ignore_ascii_case(&b'r'))
}

/// Where the closing quote is.
fn end_of(inner: &str, quote: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at..].starts_with(quote.as_bytes()) {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

/// Blanks, joined lines, comments and parentheses between adjacent literals.
fn skip_blanks(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "\\()".contains(c));
        match rest.strip_prefix('#') {
            Some(comment) => rest = comment.find('\n').map_or("", |at| &comment[at..]),
            None => return rest,
        }
    }
}

/// Escapes `\n \t … \xHH \ooo`; an unknown one stays as it is written.
fn decode(source: &str, out: &mut Vec<u8>) {
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' || at + 1 == bytes.len() {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let escape = bytes[at + 1];
        at += 2;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'\n' => {}
            b'x' => match source.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    at += 2;
                }
                None => out.extend_from_slice(b"\\x"),
            },
            b'0'..=b'7' => {
                let digits = bytes[at - 1..].iter().take(3);
                let octal: Vec<u8> =
                    digits.copied().take_while(|byte| (b'0'..=b'7').contains(byte)).collect();
                let value =
                    octal.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                out.push(u8::try_from(value & 0xff).unwrap_or(0));
                at += octal.len() - 1;
            }
            _ => out.extend_from_slice(&[b'\\', escape]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escapes give bytes, not characters: catches `\xff` becoming two bytes.
    #[test]
    fn escapes_are_bytes() {
        let mut out = Vec::new();
        decode(r"a\xff\n\101\q\\é", &mut out);
        assert_eq!(out, [b"a\xff\nA\\q\\".as_slice(), "é".as_bytes()].concat());
    }

    /// Literals are found as the parser would find them, in scripts and in what is none. Catches an apostrophe of a
    /// comment that takes a line of code for text, and a quote without an end that is searched for again and again.
    #[test]
    fn literals_are_found_in_any_text() {
        let text =
            "a('b-c', \"d'e\") # don't 'x'\nr'\\n' 'it\\'s' '''f\n'g''' 'open\n'h\\\ni' \"\\x61\"";
        let found = texts_in(text);
        assert_eq!(found, ["b-c", "d'e", "\\n", "it's", "f\n'g", "hi", "a"]);
        assert_eq!(texts_in("\"\"\"open 'a'\n'b'"), [""; 0]);
        for piece in ["'\\", "\\'''", "'\\\n", "''\""] {
            assert!(texts_in(&piece.repeat(1 << 20)).len() <= 1 << 20, "{piece}");
        }
    }

    /// Adjacent literals of all kinds join: catches a prefix or a quote taken for text.
    #[test]
    fn adjacent_literals_join() {
        let text = "'a' \"b'\" # c'\n \\\n R'\\n' b'\\n' U\"\"\"x\"y\"\"\" '\\user'";
        let range = TextRange::up_to(u32::try_from(text.len()).unwrap().into());
        assert_eq!(bytes_at(range, text).unwrap(), b"ab'\\n\nx\"y\\user");
        assert_eq!(bytes_at(range, ""), None);
    }
}
