//! Which protocol a connection speaks, by the first bytes of its calls.
//!
//! Messages begin where calls do, so each event's payload is looked at on its own; the beginning of
//! a stream is looked at as a whole as well, for peers that write byte by byte. Nothing is consumed
//! here: the parser finds its own way through what came before. What a protocol looks like is its own
//! business ([`weir_protocols::ProtocolDef::recognise`]).

use weir_protocols::protocol::{Beginning, Verdict};
use weir_protocols::{PROTOCOLS, Side};

use crate::capture::{DataEvent, Direction, Family, Opened, SocketType};

/// Calls without a recognisable start after which a connection whose opening was seen is given up.
const EVENTS_MAX: u32 = 8;
/// The same as long as only one side has spoken: what it says may be answered with a refusal.
const EVENTS_ONE_WAY_MAX: u32 = 64;
/// The same for one that was open before: it may have been joined within a long body.
const EVENTS_JOINED_MAX: u32 = 4096;
/// The same for Unix sockets: desktops and daemons talk a lot over old ones, hardly ever a protocol
/// that is known here.
const EVENTS_JOINED_UNIX_MAX: u32 = 64;
/// Datagrams after which a socket is given up: each is a message as a whole, or none.
const DATAGRAMS_MAX: u32 = 8;

/// A protocol, by its place in [`PROTOCOLS`].
pub type ProtocolIdx = usize;

/// What the looked-at bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inference {
    Undecided,
    /// A protocol, requests going this way. `at_start`: the stream's first bytes are a message, or
    /// what a server took for a request, since it answered.
    Is {
        protocol: ProtocolIdx,
        requests: Direction,
        at_start: bool,
    },
    /// None that is known: its bytes need not be copied.
    Unknown,
}

/// Looks at one event. `stream_start`: the unread bytes of its stream, if they begin an event.
pub(super) fn infer(
    event: &DataEvent<'_>,
    stream_start: &[u8],
    events_seen: u32,
    both_sides: bool,
) -> Inference {
    let opened = event.socket.opened != Opened::Unknown;
    let port = |address: Option<std::net::SocketAddr>| address.map_or(0, |address| address.port());
    let is_datagram = event.socket.socket_type == SocketType::Datagram;
    let mut beginning = Beginning {
        bytes: stream_start,
        at_start: true,
        opened,
        is_datagram,
        ports: [port(event.socket.local), port(event.socket.remote)],
    };
    let mut unsure = false;
    for (bytes, at_start) in [(stream_start, true), (event.payload, false)] {
        if bytes.is_empty() {
            continue;
        }
        (beginning.bytes, beginning.at_start) = (bytes, at_start);
        for (protocol, def) in PROTOCOLS.iter().enumerate() {
            match (def.recognise)(&beginning) {
                Verdict::Is(side) => {
                    let requests = requests_go(event.direction, side);
                    return Inference::Is { protocol, requests, at_start };
                }
                Verdict::Unsure => unsure |= at_start,
                Verdict::IsNot => {}
            }
        }
    }
    let events_max = match (event.socket.family, opened, both_sides) {
        _ if is_datagram => DATAGRAMS_MAX,
        (Family::Unix, false, _) => EVENTS_JOINED_UNIX_MAX,
        (Family::Unix, ..) if unsure => EVENTS_JOINED_UNIX_MAX,
        (_, false, _) => EVENTS_JOINED_MAX,
        _ if unsure => EVENTS_JOINED_MAX,
        (_, true, false) => EVENTS_ONE_WAY_MAX,
        (_, true, true) => EVENTS_MAX,
    };
    if events_seen >= events_max { Inference::Unknown } else { Inference::Undecided }
}

/// Which way requests go if this event is a message of that side.
fn requests_go(direction: Direction, side: Side) -> Direction {
    match (direction, side) {
        (direction, Side::Request) => direction,
        (Direction::Egress, Side::Response) => Direction::Ingress,
        (Direction::Ingress, Side::Response) => Direction::Egress,
    }
}
