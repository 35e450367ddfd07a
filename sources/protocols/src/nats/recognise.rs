//! Whether bytes are NATS: an operation with all its words. What other protocols say as well (`PING`,
//! `+OK`) is no proof.

use super::parse::line;
use super::types::Kind;
use crate::Parsed;
use crate::protocol::{Beginning, Verdict};

/// What any server's first line has in it.
const SERVER_KEYS: [&[u8]; 2] = [b"\"server_id\"", b"\"max_payload\""];

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    if beginning.is_datagram || beginning.bytes.is_empty() {
        return Verdict::IsNot;
    }
    let bytes = beginning.bytes;
    let line = match line(bytes) {
        Parsed::Frame { frame, .. } => frame,
        Parsed::Incomplete { .. } if beginning.at_start => return Verdict::Unsure,
        _ => return Verdict::IsNot,
    };
    let has = |key: &&[u8]| memchr::memmem::find(line.rest, key).is_some();
    let is_own = match line.kind {
        Kind::Info => SERVER_KEYS.iter().any(has) && line.rest.ends_with(b"}"),
        Kind::Connect => line.rest.ends_with(b"}"),
        Kind::Pub | Kind::Hpub | Kind::Msg | Kind::Hmsg => {
            let payload = line.line_bytes + line.payload_bytes as usize;
            let end = bytes.get(payload..).unwrap_or_default();
            end.is_empty() || b"\r\n".starts_with(&end[..end.len().min(2)])
        }
        Kind::Sub => bytes[..line.line_bytes].ends_with(b"\r\n"),
        Kind::Unsub | Kind::Ping | Kind::Pong | Kind::Ok | Kind::Err => false,
    };
    match (is_own, line.kind.side()) {
        (true, Some(side)) => Verdict::Is(side),
        // What follows may be proof.
        _ if beginning.at_start && matches!(line.kind, Kind::Ping | Kind::Pong) => Verdict::Unsure,
        _ => Verdict::IsNot,
    }
}
