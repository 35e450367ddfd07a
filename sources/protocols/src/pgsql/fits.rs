//! Whether a message of the server's can belong to a request, where order does not tell: behind a loss.

use super::types::{Kind, Request, response};

/// A response of which the end is missing.
#[derive(Debug)]
pub(super) struct Broken {
    request: Request,
    /// Its columns were told.
    has_columns: bool,
}

impl Broken {
    pub(super) fn new(request: Request, has_columns: bool) -> Broken {
        Broken { request, has_columns }
    }

    /// Whether it can go on with this message.
    pub(super) fn may_have(&self, tag: u8, payload: &[u8]) -> bool {
        let Request { kind, is_single, .. } = self.request;
        // One statement has one result.
        let is_second = kind == Kind::Query && is_single && self.has_columns;
        may_have(&self.request, tag, payload)
            && !(is_second && matches!(tag, response::COLUMNS | response::EMPTY_QUERY))
    }
}

/// Whether the response to a request can have this message.
pub(super) fn may_have(request: &Request, tag: u8, payload: &[u8]) -> bool {
    request.kind.has(tag) && (tag != response::COMPLETE || may_complete(request, payload))
}

/// Commands whose completion is told by their own word.
const TOLD_BY_THEMSELVES: [&[u8]; 8] =
    [b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"BEGIN", b"SHOW", b"SET", b"TRUNCATE"];

fn may_complete(request: &Request, payload: &[u8]) -> bool {
    let text = request.text.strip_prefix(b"query=[").unwrap_or(&request.text);
    let word = word(text);
    let is_single = request.kind == Kind::Execute || request.is_single;
    let tells = TOLD_BY_THEMSELVES.iter().any(|told| word.eq_ignore_ascii_case(told));
    !is_single || !tells || word.eq_ignore_ascii_case(self::word(payload))
}

fn word(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    &text[..end]
}

/// Whether a query is one statement: it may hold a semicolon at its end only.
pub(super) fn is_single(statement: &[u8]) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b';' | 0);
    let end = statement.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
    memchr::memchr(b';', &statement[..end]).is_none()
}
