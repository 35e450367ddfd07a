//! URLs, forms, and lines of `name=value`: the value of a secret's name, and `user:password@`.
//!
//! The work begins at each `=` and `@`, from where the name, or the authority, is looked for
//! backwards over a bounded number of bytes.

use super::names::{NAME_BYTES_MAX, is_secret_in_url};
use super::{REDACTED, Replaced};

/// Longest `user:password` that is looked for.
const USERINFO_BYTES_MAX: usize = 1024;

/// The text without secrets; `None` if it holds none. `in_body`: a name may stand at the beginning
/// and behind a blank, too.
pub(super) fn redacted(text: &[u8], in_body: bool, more: &[Vec<u8>]) -> Option<Vec<u8>> {
    replace(Replaced::new(text), in_body, more).finish()
}

/// Where the secrets are of a text that may be both, a URL and a body.
pub(super) fn places(text: &[u8], more: &[Vec<u8>]) -> Vec<std::ops::Range<usize>> {
    replace(Replaced::places_in(text), true, more).places.unwrap_or_default()
}

fn replace<'t>(mut replaced: Replaced<'t>, in_body: bool, more: &[Vec<u8>]) -> Replaced<'t> {
    let text = replaced.text;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'=', b'@', &text[at..]) {
        let mark = at + found;
        at = mark + 1;
        if text[mark] == b'@' {
            if let Some(user) = user_begins(text, mark) {
                let end = authority_end(text, mark);
                let host = memchr::memrchr(b'@', &text[user..end]).map_or(mark, |last| user + last);
                replaced.replace(user, host, REDACTED.as_bytes());
                at = host + 1;
            }
            continue;
        }
        let value = mark + 1;
        if let Some(name) = name_begins(text, mark, in_body)
            && is_secret_in_url(&text[name..mark], more)
        {
            let end = value + value_bytes(&text[value..], in_body);
            if end > value {
                replaced.replace(value, end, REDACTED.as_bytes());
            }
            at = end;
        }
    }
    replaced
}

/// Where the name ends that begins at `mark`.
fn name_begins(text: &[u8], mark: usize, in_body: bool) -> Option<usize> {
    let from = mark.saturating_sub(NAME_BYTES_MAX);
    for idx in (from..mark).rev() {
        match text[idx] {
            b'?' | b'&' | b';' | b'#' => return Some(idx + 1),
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b'"' | b'<' | b'>' => {
                return in_body.then_some(idx + 1);
            }
            b'=' => return None,
            _ => {}
        }
    }
    (in_body && from == 0).then_some(0)
}

/// How long a value is: to the next separator, or to the end of a text that was cut.
fn value_bytes(text: &[u8], in_body: bool) -> usize {
    let ends = |byte: &u8| match byte {
        b'&' | b'#' | b' ' | b'"' | b'<' | b'>' | b'\n' | b'\r' => true,
        b';' | b',' => in_body,
        _ => false,
    };
    text.iter().position(ends).unwrap_or(text.len())
}

fn ends_authority(byte: &u8) -> bool {
    matches!(byte, b'/' | b'?' | b'#' | b' ' | b'"' | b'<' | b'>' | b'\n')
}

fn authority_end(text: &[u8], from: usize) -> usize {
    text[from..].iter().position(ends_authority).map_or(text.len(), |length| from + length)
}

/// Where the authority begins that `at` is in, if it is in one.
fn user_begins(text: &[u8], at: usize) -> Option<usize> {
    let from = at.saturating_sub(USERINFO_BYTES_MAX);
    let slash = from + text[from..at].iter().rposition(ends_authority)?;
    text[..=slash].ends_with(b"://").then_some(slash + 1)
}
