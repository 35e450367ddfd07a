//! Which protocol a connection speaks, by the first bytes of its calls.
//!
//! Messages begin where calls do, so each event's payload is looked at on its own; the beginning of
//! a stream is looked at as a whole as well, for peers that write byte by byte. Nothing is consumed
//! here: the parser finds its own way through what came before.

use weir_protocols::{Recognised, Side, http1};

use crate::capture::{DataEvent, Direction, Family, Opened};

/// Calls without a recognisable start after which a connection whose opening was seen is given up.
const EVENTS_MAX: u32 = 8;
/// The same as long as only one side has spoken: what it says may be answered with a 400.
const EVENTS_ONE_WAY_MAX: u32 = 64;
/// The same for one that was open before: it may have been joined within a long body.
const EVENTS_JOINED_MAX: u32 = 4096;
/// The same for Unix sockets: desktops and daemons talk a lot over old ones, and hardly ever HTTP.
const EVENTS_JOINED_UNIX_MAX: u32 = 64;

/// A protocol as `conn_stats.protocol` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Unknown = 0,
    Http = 1,
    Http2 = 2,
}

/// What the looked-at bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inference {
    Undecided,
    /// HTTP/1, requests going this way. `at_start`: the stream's first bytes are a message, or what
    /// a server took for a request, since it answered.
    Http1 {
        requests: Direction,
        at_start: bool,
    },
    /// None that is parsed: its bytes need not be copied.
    Other(Protocol),
}

/// Looks at one event. `stream_start`: the unread bytes of its stream, if they begin an event.
pub(super) fn infer(
    event: &DataEvent<'_>,
    stream_start: &[u8],
    events_seen: u32,
    both_sides: bool,
) -> Inference {
    let opened = event.socket.opened != Opened::Unknown;
    let stream_start = http1::without_proxy_line(stream_start);
    let first = if opened { http1::recognise_first } else { http1::recognise };
    for (bytes, at_start) in [(stream_start, true), (event.payload, false)] {
        if bytes.is_empty() {
            continue;
        }
        if bytes.starts_with(b"PRI * HTTP/2.0") {
            return Inference::Other(Protocol::Http2);
        }
        let recognise = if at_start { first } else { http1::recognise };
        if recognise(Side::Request, bytes) == Recognised::Yes {
            return Inference::Http1 { requests: event.direction, at_start };
        }
        if http1::recognise(Side::Response, bytes) == Recognised::Yes {
            let requests = match event.direction {
                Direction::Egress => Direction::Ingress,
                Direction::Ingress => Direction::Egress,
            };
            return Inference::Http1 { requests, at_start };
        }
    }
    let joined_max = match event.socket.family {
        Family::Unix => EVENTS_JOINED_UNIX_MAX,
        Family::Inet | Family::Inet6 => EVENTS_JOINED_MAX,
    };
    let unsure = [Side::Request, Side::Response]
        .iter()
        .any(|side| first(*side, stream_start) == Recognised::Unsure);
    let events_max = match (opened, both_sides) {
        (false, _) => joined_max,
        _ if unsure && !stream_start.is_empty() => joined_max,
        (true, false) => EVENTS_ONE_WAY_MAX,
        (true, true) => EVENTS_MAX,
    };
    if events_seen >= events_max {
        Inference::Other(Protocol::Unknown)
    } else {
        Inference::Undecided
    }
}
