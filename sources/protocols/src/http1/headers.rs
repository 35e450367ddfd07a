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
use crate::json_text::push_json_text;
use crate::redact::{HeaderKind, REDACTED, Redactor};

/// Header lines up to which names are compared each with each.
const COMPARED_MAX: usize = 32;

/// Appends the object.
pub(crate) fn write_headers(
    head: &[u8],
    lines: &[HeaderLine],
    redactor: &Redactor,
    out: &mut Vec<u8>,
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
    out: &mut Vec<u8>,
    members: impl Iterator<Item = T>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    out.push(b'{');
    for member in members {
        let begin = out.len();
        if begin > 1 {
            out.push(b',');
        }
        write(out, member);
        if out.len() > HEADERS_TEXT_BYTES_MAX {
            out.truncate(begin);
            out.extend_from_slice(if begin > 1 { b"," } else { b"" });
            out.extend_from_slice(b"\"...\":\"[TRUNCATED]\"");
            break;
        }
    }
    out.push(b'}');
}

fn write_header<'l>(
    out: &mut Vec<u8>,
    head: &[u8],
    redactor: &Redactor,
    line: &'l HeaderLine,
    later: impl Iterator<Item = &'l HeaderLine>,
) {
    let name = line.name(head);
    out.push(b'"');
    push_json_text(out, name);
    out.extend_from_slice(b"\":\"");
    let kind = redactor.header(name);
    if kind == HeaderKind::Secret {
        out.extend_from_slice(REDACTED.as_bytes());
    } else {
        let urls = (kind == HeaderKind::Other).then_some(redactor);
        let joint = if name.eq_ignore_ascii_case(b"set-cookie") { "\\n" } else { ", " };
        push_value(out, head, urls, line);
        for later in later {
            out.extend_from_slice(joint.as_bytes());
            push_value(out, head, urls, later);
        }
    }
    out.push(b'"');
}

fn push_value(out: &mut Vec<u8>, head: &[u8], urls: Option<&Redactor>, line: &HeaderLine) {
    let mut value = line.value(head);
    let redacted = urls.and_then(|redactor| redactor.url_redacted(value));
    if let Some(redacted) = &redacted {
        value = redacted;
    }
    if memchr::memchr(b'\n', value).is_some() {
        // Folded: a line end and the blanks around it stand for one blank.
        let mut parts = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        push_json_text(out, parts.next().unwrap_or_default());
        for part in parts {
            out.push(b' ');
            push_json_text(out, part);
        }
    } else {
        push_json_text(out, value);
    }
    if line.cut {
        out.extend_from_slice(TRUNCATED_SUFFIX.as_bytes());
    }
}
