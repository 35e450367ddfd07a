//! The headers of a message as a flat JSON object, as a row shows them.
//!
//! Names as sent, in their order; values of one name are joined at its first place, by `, ` (RFC
//! 9110 5.3), those of `Set-Cookie`, for which that would be wrong, by a line end. The work is
//! linear in the head: of few headers the names are compared with one another, of many they are
//! looked up.

use std::collections::HashMap;

use super::body::TRUNCATED_SUFFIX;
use super::parse::HeaderLine;
use super::types::HEADERS_TEXT_BYTES_MAX;
use crate::redact::{REDACTED, Redactor};

/// Header lines up to which names are compared each with each.
const COMPARED_MAX: usize = 32;

/// Appends the object.
pub(super) fn write_headers(
    head: &[u8],
    lines: &[HeaderLine],
    redactor: &Redactor,
    out: &mut String,
) {
    if lines.len() <= COMPARED_MAX {
        let same = |a: &HeaderLine, b: &HeaderLine| a.name(head).eq_ignore_ascii_case(b.name(head));
        let firsts = lines.iter().enumerate();
        let firsts = firsts.filter(|(idx, line)| !lines[..*idx].iter().any(|one| same(one, line)));
        write_object(out, firsts, |out, (idx, line)| {
            let later = lines[idx + 1..].iter().filter(|later| same(later, line));
            write_header(out, head, redactor, line, later);
        });
        return;
    }
    let mut by_name: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut groups: Vec<Vec<&HeaderLine>> = Vec::new();
    for line in lines {
        let idx = *by_name.entry(line.name(head).to_ascii_lowercase()).or_insert(groups.len());
        if idx == groups.len() {
            groups.push(Vec::new());
        }
        groups[idx].push(line);
    }
    write_object(out, groups.iter(), |out, group| {
        if let Some((first, later)) = group.split_first() {
            write_header(out, head, redactor, first, later.iter().copied());
        }
    });
}

/// Writes members until there is no room, and says so if there is not.
fn write_object<T>(
    out: &mut String,
    members: impl Iterator<Item = T>,
    write: impl Fn(&mut String, T),
) {
    out.push('{');
    for member in members {
        let begin = out.len();
        if begin > 1 {
            out.push(',');
        }
        write(out, member);
        if out.len() > HEADERS_TEXT_BYTES_MAX {
            out.truncate(begin);
            out.push_str(if begin > 1 { "," } else { "" });
            out.push_str("\"...\":\"[TRUNCATED]\"");
            break;
        }
    }
    out.push('}');
}

fn write_header<'l>(
    out: &mut String,
    head: &[u8],
    redactor: &Redactor,
    line: &'l HeaderLine,
    later: impl Iterator<Item = &'l HeaderLine>,
) {
    let name = line.name(head);
    out.push('"');
    push_json_text(out, name);
    out.push_str("\":\"");
    if redactor.hides_header(name) {
        out.push_str(REDACTED);
    } else {
        let joint = if name.eq_ignore_ascii_case(b"set-cookie") { "\\n" } else { ", " };
        push_value(out, head, redactor, line);
        for later in later {
            out.push_str(joint);
            push_value(out, head, redactor, later);
        }
    }
    out.push('"');
}

fn push_value(out: &mut String, head: &[u8], redactor: &Redactor, line: &HeaderLine) {
    let mut value = line.value(head);
    let mut redacted = Vec::new();
    if redactor.looks_like_url(value) {
        redactor.push_url(&mut redacted, value);
        value = &redacted;
    }
    if memchr::memchr(b'\n', value).is_some() {
        // Folded: a line end and the blanks around it stand for one blank.
        let mut parts = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        push_json_text(out, parts.next().unwrap_or_default());
        for part in parts {
            out.push(' ');
            push_json_text(out, part);
        }
    } else {
        push_json_text(out, value);
    }
    if line.cut {
        out.push_str(TRUNCATED_SUFFIX);
    }
}

/// Appends text as the inside of a JSON string; bytes that are not UTF-8 become U+FFFD.
pub(super) fn push_json_text(out: &mut String, bytes: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b'\\');
    if let Ok(text) = std::str::from_utf8(bytes)
        && bytes.iter().all(is_plain)
    {
        out.push_str(text);
        return;
    }
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
}
