//! From a head's bytes to a message: start line, headers as a row shows them, how the body ends.

use super::body::{ContentKind, Encoding};
use super::headers::write_headers;
use super::parse::{
    Declared, Framing, RequestLine, StatusLine, header_lines, line_at, request_framing,
    response_framing,
};
use super::read::Input;
use super::types::{Message, Pool};
use crate::Config;

/// Reads a request's head, whole or cut, whatever it is: what servers refuse is a request, too.
/// Returns its bytes and how its body ends.
pub(super) fn read_request(
    head: &[u8],
    config: &Config,
    pool: &mut Pool,
    message: &mut Message,
) -> (usize, Framing) {
    let (line, next) = line_at(head, 0);
    let line = RequestLine::of(line);
    message.method.extend_from_slice(line.method);
    config.redactor.push_url(&mut message.path, line.target);
    message.minor_version = line.minor_version;
    let (used, declared) = read_headers(head, next.unwrap_or(head.len()), config, pool, message);
    (used, request_framing(declared))
}

/// Reads a response's head. `None`: it is none of HTTP/1.
pub(super) fn read_response(
    head: &[u8],
    input: &mut Input<'_>,
    message: &mut Message,
) -> Option<(usize, Framing)> {
    let (line, next) = line_at(head, 0);
    let line = StatusLine::of(line)?;
    message.status = line.status;
    message.reason.extend_from_slice(line.reason);
    message.minor_version = line.minor_version;
    let from = next.unwrap_or(head.len());
    let (used, declared) = read_headers(head, from, input.config, input.pool, message);
    Some((used, response_framing(line.status, input.method, declared)))
}

fn read_headers(
    head: &[u8],
    from: usize,
    config: &Config,
    pool: &mut Pool,
    message: &mut Message,
) -> (usize, Declared) {
    let (mut kind, mut encoding) = (ContentKind::Missing, Encoding::Identity);
    let mut declared = Declared::default();
    let end = header_lines(head, from, &mut pool.lines);
    for line in &pool.lines {
        let name = line.name(head);
        // By length first: few names get as far as being compared.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            6 if is("expect") => message.expects = true,
            12 if is("content-type") => kind = ContentKind::of(line.value(head)),
            14 if is("content-length") => declared.content_length(line.value(head)),
            16 if is("content-encoding") => encoding = Encoding::of(line.value(head)),
            17 if is("transfer-encoding") => declared.transfer_encoding(line.value(head)),
            _ => {}
        }
    }
    message.body.begin(kind, encoding, config.body_bytes_max);
    write_headers(head, &pool.lines, &config.redactor, &mut message.headers);
    config.redactor.redact_pii(&mut message.headers, 0);
    pool.trim();
    (end.unwrap_or(head.len()), declared)
}
