//! What the NATS parser knows of a protocol operation.

use crate::Side;

/// Longest line of an operation: servers allow 4 KiB unless set otherwise; their own INFO and a CONNECT
/// with a token are longer.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest payload that any server can be set to allow.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// The operations of clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Info,
    Connect,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Msg,
    Hmsg,
    Ping,
    Pong,
    Ok,
    Err,
}

impl Kind {
    pub(super) const ALL: [Kind; 12] = [
        Kind::Msg,
        Kind::Pub,
        Kind::Hmsg,
        Kind::Hpub,
        Kind::Ping,
        Kind::Pong,
        Kind::Ok,
        Kind::Sub,
        Kind::Unsub,
        Kind::Info,
        Kind::Connect,
        Kind::Err,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Info => "INFO",
            Kind::Connect => "CONNECT",
            Kind::Pub => "PUB",
            Kind::Hpub => "HPUB",
            Kind::Sub => "SUB",
            Kind::Unsub => "UNSUB",
            Kind::Msg => "MSG",
            Kind::Hmsg => "HMSG",
            Kind::Ping => "PING",
            Kind::Pong => "PONG",
            Kind::Ok => "+OK",
            Kind::Err => "-ERR",
        }
    }

    /// Who says it; `None`: both may.
    pub(super) fn side(self) -> Option<Side> {
        match self {
            Kind::Connect | Kind::Pub | Kind::Hpub | Kind::Sub | Kind::Unsub => Some(Side::Request),
            Kind::Info | Kind::Msg | Kind::Hmsg | Kind::Ok | Kind::Err => Some(Side::Response),
            Kind::Ping | Kind::Pong => None,
        }
    }

    /// A payload follows its line.
    pub(super) fn has_payload(self) -> bool {
        matches!(self, Kind::Pub | Kind::Hpub | Kind::Msg | Kind::Hmsg)
    }

    pub(super) fn has_headers(self) -> bool {
        matches!(self, Kind::Hpub | Kind::Hmsg)
    }
}

/// The line of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    /// What follows the name, without blanks around it.
    pub(super) rest: &'a [u8],
    pub(super) subject: Option<&'a [u8]>,
    pub(super) reply_to: Option<&'a [u8]>,
    pub(super) sid: Option<&'a [u8]>,
    pub(super) queue_group: Option<&'a [u8]>,
    pub(super) messages_max: Option<&'a [u8]>,
    /// Bytes of the line with its end.
    pub(super) line_bytes: usize,
    pub(super) header_bytes: u64,
    /// With the headers'.
    pub(super) payload_bytes: u64,
}
