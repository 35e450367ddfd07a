//! JSON text, whole or cut: the values of members whose name is a secret's, at any depth, also in
//! JSON that is the text of a string.
//!
//! Nothing is parsed into a tree: names are found by the `:` behind them, and a value is stepped
//! over by counting brackets outside strings. What was valid JSON stays valid JSON.

use super::names::is_secret;
use super::{REDACTED, Replaced};
use crate::http1::TRUNCATED_SUFFIX;

/// The text without secrets; `None` if it holds none.
pub(super) fn redacted(text: &[u8], more: &[Vec<u8>]) -> Option<Vec<u8>> {
    replace(Replaced::new(text), more).finish()
}

/// Where its secrets are.
pub(super) fn places(text: &[u8], more: &[Vec<u8>]) -> Vec<std::ops::Range<usize>> {
    replace(Replaced::places_in(text), more).places.unwrap_or_default()
}

fn replace<'t>(mut replaced: Replaced<'t>, more: &[Vec<u8>]) -> Replaced<'t> {
    let text = replaced.text;
    let mut at = 0;
    // Where the string ends whose inside is being looked at.
    let mut inside_to = None;
    while let Some(quote) = memchr::memchr(b'"', &text[at..]) {
        // `\"` here is a quote of JSON within a string: its escapes are as deep as its names'.
        let begin = at + quote;
        if inside_to == Some(begin) {
            inside_to = None;
            at = begin + 1;
            continue;
        }
        let depth = escapes_before(&text[replaced.to()..begin]);
        let Some(length) = string_bytes(&text[begin + 1..], depth) else { break };
        let name = &text[begin + 1..begin + 1 + length];
        let end = begin + 1 + length + depth + 1;
        at = end;
        let blanks = blank_bytes(&text[end..]);
        if text.get(end + blanks) != Some(&b':') {
            if depth == 0 && memchr::memchr(b'\\', name).is_some() {
                // A string that may hold JSON: look at the quotes inside as well.
                inside_to = Some(end - 1);
                at = begin + 1;
            }
            continue;
        }
        let value = end + blanks + 1;
        let value = value + blank_bytes(&text[value..]);
        if !is_secret(name, more) {
            at = value;
            continue;
        }
        let bytes = value_bytes(&text[value..], depth);
        let cut = bytes.is_none() && text.ends_with(TRUNCATED_SUFFIX.as_bytes());
        let quote = format!("{}\"", "\\".repeat(depth));
        let suffix = if cut { TRUNCATED_SUFFIX } else { "" };
        at = bytes.map_or(text.len(), |bytes| value + bytes);
        replaced.replace(value, at, format!("{quote}{REDACTED}{quote}{suffix}").as_bytes());
    }
    replaced
}

fn escapes_before(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| **byte == b'\\').count()
}

fn blank_bytes(text: &[u8]) -> usize {
    text.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count()
}

/// How long the inside of a string is whose quotes have so many escapes. `None`: it was cut.
fn string_bytes(text: &[u8], depth: usize) -> Option<usize> {
    let mut from = 0;
    loop {
        let quote = from + memchr::memchr(b'"', &text[from..])?;
        let escapes = escapes_before(&text[from.min(quote)..quote]).min(quote);
        // In a plain string every second backslash escapes the other.
        let closes = if depth == 0 { escapes.is_multiple_of(2) } else { escapes == depth };
        if closes {
            return Some(quote - depth);
        }
        from = quote + 1;
    }
}

/// How long a value is. `None`: it was cut.
fn value_bytes(text: &[u8], depth: usize) -> Option<usize> {
    let rest = &text[escape_bytes(text)..];
    match rest.first()? {
        b'"' => {
            let quote = text.len() - rest.len();
            Some(quote + 1 + string_bytes(&text[quote + 1..], depth)? + depth + 1)
        }
        b'{' | b'[' => nested_bytes(text, depth),
        _ => Some(
            text.iter().position(|byte| b",}] \n\r\t\"\\".contains(byte)).unwrap_or(text.len()),
        ),
    }
}

fn escape_bytes(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b'\\').count()
}

fn nested_bytes(text: &[u8], depth: usize) -> Option<usize> {
    let (mut open, mut at) = (0usize, 0);
    while at < text.len() {
        match text[at] {
            b'{' | b'[' => open += 1,
            b'}' | b']' => {
                open -= 1;
                if open == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => at += string_bytes(&text[at + 1..], depth)? + depth + 1,
            _ => {}
        }
        at += 1;
    }
    None
}
