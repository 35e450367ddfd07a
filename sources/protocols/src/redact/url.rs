//! URLs, forms, and lines of `name=value`: the value of a secret's name, and `user:password@`.

use super::REDACTED;
use super::names::is_secret_in_url;

/// Appends `text`. `in_body`: a name may stand at the beginning and behind a blank, too.
pub(super) fn push(out: &mut Vec<u8>, text: &[u8], in_body: bool, more: &[Vec<u8>]) {
    let mut copied = 0;
    // Where the name that may end at the next `=` begins.
    let mut name = in_body.then_some(0);
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'?' | b'&' | b';' | b'#' => name = Some(at + 1),
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b'"' | b'<' | b'>' if in_body => {
                name = Some(at + 1)
            }
            b' ' | b',' | b'"' | b'<' | b'>' => name = None,
            b'=' => {
                let value = at + 1;
                if let Some(from) = name.take()
                    && is_secret_in_url(&text[from..at], more)
                {
                    out.extend_from_slice(&text[copied..value]);
                    copied = value + value_bytes(&text[value..], in_body);
                    if copied > value {
                        out.extend_from_slice(REDACTED.as_bytes());
                    }
                    at = copied;
                    continue;
                }
            }
            b':' if text[at..].starts_with(b"://") => {
                let user = at + 3;
                if let Some(length) = userinfo_bytes(&text[user..]) {
                    out.extend_from_slice(&text[copied..user]);
                    out.extend_from_slice(REDACTED.as_bytes());
                    copied = user + length;
                    at = copied;
                    continue;
                }
                at += 2;
            }
            _ => {}
        }
        at += 1;
    }
    out.extend_from_slice(&text[copied..]);
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

/// How long the part before the last `@` of an authority is, if there is one.
fn userinfo_bytes(text: &[u8]) -> Option<usize> {
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b' ' | b'"' | b'<' | b'>' | b'\n');
    let authority = text.iter().position(ends).unwrap_or(text.len());
    memchr::memrchr(b'@', &text[..authority])
}
