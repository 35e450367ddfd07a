//! URIs (RFC 3986): taken apart and put together.

use std::io::Write;

use arrow_array::ArrayRef;

use super::{ScalarDef, def, overloads};
use crate::json;
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "uri_parse",
        overloads![S => S, uri_parse],
        &["uri"],
        "JSON with those of scheme, userInfo, host, port, path, query and fragment that the URI has",
        "df.host = px.pluck(px.uri_parse(df.url), 'host')",
    ),
    def(
        "uri_recompose",
        overloads![S S S I S S S => S, uri_recompose],
        &["scheme", "userInfo", "host", "port", "path", "query", "fragment"],
        "The URI of these parts; empty ones, and port 0, are left out",
        "df.url = px.uri_recompose('https', '', df.host, 0, df.path, '', '')",
    ),
];

const PARSE_FAILED: &[u8] = b"Failed to parse URI";
const PORT_FAILED: &[u8] = b"Port parsing failed.";
const RECOMPOSE_FAILED: &[u8] = b"Failed to recompose URI";

#[derive(Default)]
struct Uri<'a> {
    scheme: Option<&'a [u8]>,
    user_info: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    port: Option<&'a [u8]>,
    /// Without the leading `/`.
    path: Option<&'a [u8]>,
    query: Option<&'a [u8]>,
    fragment: Option<&'a [u8]>,
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// Every `%` is followed by two hex digits.
fn escapes_fit(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text)
        .all(|at| text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(byte, text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

fn parse(text: &[u8]) -> Option<Uri<'_>> {
    if !text.iter().all(|&byte| is_uri_byte(byte)) || !escapes_fit(text) {
        return None;
    }
    let mut uri = Uri::default();
    let (rest, fragment) = split_at_byte(text, b'#');
    if fragment.is_some_and(|fragment| fragment.contains(&b'#')) {
        return None;
    }
    uri.fragment = fragment;
    let (mut rest, query) = split_at_byte(rest, b'?');
    uri.query = query;
    if let (scheme, Some(after)) = split_at_byte(rest, b':')
        && !scheme.contains(&b'/')
    {
        if !is_scheme(scheme) {
            return None;
        }
        uri.scheme = Some(scheme);
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(b"//") {
        let end = memchr::memchr(b'/', after).unwrap_or(after.len());
        parse_authority(&after[..end], &mut uri)?;
        rest = &after[end..];
    }
    // Brackets stand around addresses of hosts only.
    if rest.iter().chain(query.unwrap_or_default()).any(|byte| b"[]".contains(byte)) {
        return None;
    }
    if !rest.is_empty() {
        uri.path = Some(rest.strip_prefix(b"/").unwrap_or(rest));
    }
    Some(uri)
}

fn parse_authority<'a>(authority: &'a [u8], uri: &mut Uri<'a>) -> Option<()> {
    let mut rest = authority;
    if let Some(at) = memchr::memrchr(b'@', authority) {
        uri.user_info = Some(&authority[..at]);
        rest = &authority[at + 1..];
    }
    let (host, port) = match rest.strip_prefix(b"[") {
        Some(literal) => {
            let (host, after) = split_at_byte(literal, b']');
            match after? {
                [] => (host, None),
                [b':', port @ ..] => (host, Some(port)),
                _ => return None,
            }
        }
        None => split_at_byte(rest, b':'),
    };
    if port.is_some_and(|port| !port.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    uri.host = Some(host);
    uri.port = port;
    Some(())
}

fn uri_parse(call: &Call<'_>) -> ArrayRef {
    let text = call.str(0);
    output::strings(call.rows, |row, out| {
        let Some(uri) = parse(text.get(row)) else {
            return out.extend_from_slice(PARSE_FAILED);
        };
        let port = uri.port.map(|port| std::str::from_utf8(port).ok()?.parse::<i32>().ok());
        if port == Some(None) {
            return out.extend_from_slice(PORT_FAILED);
        }
        out.push(b'{');
        let start = out.len();
        push_part(out, start, "scheme", uri.scheme);
        push_part(out, start, "userInfo", uri.user_info);
        push_part(out, start, "host", uri.host);
        if let Some(Some(port)) = port {
            push_key(out, start, "port");
            write!(out, "{port}").expect("writing to memory cannot fail");
        }
        push_part(out, start, "path", uri.path);
        push_part(out, start, "query", uri.query);
        push_part(out, start, "fragment", uri.fragment);
        out.push(b'}');
    })
}

/// `start` is where the object's first member stands.
fn push_key(out: &mut Vec<u8>, start: usize, key: &str) {
    if out.len() > start {
        out.push(b',');
    }
    json::push_quoted(out, key.as_bytes());
    out.push(b':');
}

fn push_part(out: &mut Vec<u8>, start: usize, key: &str, part: Option<&[u8]>) {
    if let Some(part) = part {
        push_key(out, start, key);
        json::push_quoted(out, part);
    }
}

fn uri_recompose(call: &Call<'_>) -> ArrayRef {
    let text = |idx| call.str(idx);
    let (scheme, user_info, host, port) = (text(0), text(1), text(2), call.int(3));
    let (path, query, fragment) = (text(4), text(5), text(6));
    output::strings(call.rows, |row, out| {
        let port = port.get(row);
        if port < 0 {
            return out.extend_from_slice(RECOMPOSE_FAILED);
        }
        if !scheme.get(row).is_empty() {
            out.extend_from_slice(scheme.get(row));
            out.push(b':');
        }
        if !host.get(row).is_empty() {
            out.extend_from_slice(b"//");
            if !user_info.get(row).is_empty() {
                out.extend_from_slice(user_info.get(row));
                out.push(b'@');
            }
            out.extend_from_slice(host.get(row));
            if port > 0 {
                write!(out, ":{port}").expect("writing to memory cannot fail");
            }
        }
        if !path.get(row).starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(path.get(row));
        for (mark, part) in [(b'?', query.get(row)), (b'#', fragment.get(row))] {
            if !part.is_empty() {
                out.push(mark);
                out.extend_from_slice(part);
            }
        }
    })
}
