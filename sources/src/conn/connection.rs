//! One socket: its two streams, its parser, who uses it and who is at the other end.

use std::net::SocketAddr;

use weir_protocols::http1::{self, Exchange, Http1};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_types::metadata::UNIX_PREFIX;

use super::EndOf;
use super::infer::{Inference, Protocol, infer};
use crate::capture::{DataEvent, Direction, Family, Opened, Process, Socket};

/// Processes remembered per socket; with more of them only closing or silence ends it.
const HOLDERS_MAX: usize = 4;
/// Bytes kept while the protocol is not known; older ones are skipped.
const UNDECIDED_BYTES_MAX: usize = 64 * 1024;

/// Which end of the connection this socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Client,
    Server,
}

#[derive(Debug)]
enum State {
    Undecided {
        events_seen: u32,
    },
    Http1 {
        parser: Box<Http1>,
        requests: Direction,
    },
    /// Its bytes are only counted.
    Ignored,
}

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Ends {
    pub socket: Socket,
    /// Peer as text: an IP, `-`, or `unix_socket:`.
    pub remote_addr: String,
    pub local_addr: String,
    /// Inode of the socket at the other end of a Unix socket, 0 if not known.
    pub unix_peer_inode: u64,
    /// Who wrote to the socket last, or read from it if nobody wrote yet.
    pub process: Process,
}

/// What a look at a connection needs from outside.
pub(super) struct Look<'a> {
    pub(super) now_unix_ns: i64,
    pub(super) config: &'a http1::Config,
    pub(super) pool: &'a mut http1::Pool,
    pub(super) emit: &'a mut dyn FnMut(&Ends, Role, Exchange<'_>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Connection {
    pub ends: Ends,
    pub protocol: Protocol,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub last_event_ns: i64,
    /// Since when it is known to be closed.
    pub closing_since_ns: Option<i64>,
    /// Since when it is known that no response will follow.
    pub(super) responses_end_ns: Option<i64>,
    /// The tracker's mark that it asks whether anybody holds this socket.
    pub(super) is_doubtful: bool,
    /// The tracker's mark that the statistics will look at it.
    pub(super) is_active: bool,
    /// The tracker's mark that it looks at this connection again without an event.
    pub(super) in_attention: bool,
    /// The tracker's mark that it was used since the eviction hand passed.
    pub(super) touched: bool,
    /// Bytes and opening that the statistics have taken already.
    pub(super) counted: Counted,
    ingress: StreamBuffer,
    egress: StreamBuffer,
    state: State,
    wrote: bool,
    holders: Vec<Process>,
    holders_complete: bool,
    new_holder: Option<Process>,
    /// The caller knows that its payload is of no use.
    told_to_stop: bool,
    counters_taken: http1::Counters,
}

/// What [`super::ConnStats`] has taken of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) key: Option<super::StatsKey>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) protocol: Protocol,
    /// There was no room for it.
    pub(super) refused: bool,
}

/// What happened to a connection's copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Tracked,
    /// From now on its payload is of no use.
    Ignored,
}

impl Ends {
    /// What tells this end from others, if its addresses are known.
    pub(super) fn end(&self) -> Option<EndOf> {
        let Socket { key, family, local, remote, .. } = self.socket;
        match family {
            Family::Unix => {
                Some(EndOf::Unix { inode: key.inode, peer_inode: self.unix_peer_inode })
            }
            Family::Inet | Family::Inet6 => Some(EndOf::Ip { local: local?, remote: remote? }),
        }
    }

    /// Local and remote port as rows have them: of Unix sockets their inodes; −1 when unknown.
    pub(crate) fn ports(&self) -> [i64; 2] {
        let Socket { key, family, local, remote, .. } = self.socket;
        let inode = |inode: u64| i64::try_from(inode).ok().filter(|n| *n != 0).unwrap_or(-1);
        match family {
            Family::Unix => [inode(key.inode), inode(self.unix_peer_inode)],
            Family::Inet | Family::Inet6 => [port_number(local), port_number(remote)],
        }
    }

    /// An end without a name is shown by the other's: it is the connection's.
    pub(super) fn set_unix_names(&mut self, local: &[u8], remote: &[u8]) {
        let first =
            |one: &[u8], other: &[u8]| unix_address_text(if one.is_empty() { other } else { one });
        self.local_addr = first(local, remote);
        self.remote_addr = first(remote, local);
    }

    fn update(&mut self, socket: &Socket) {
        let old = self.socket;
        let opened = if socket.opened == Opened::Unknown { old.opened } else { socket.opened };
        let remote = socket.remote.or(old.remote);
        let local = socket.local.or(old.local);
        if remote != old.remote {
            self.remote_addr = address_text(socket, remote);
        }
        if local != old.local {
            self.local_addr = address_text(socket, local);
        }
        self.socket = Socket { opened, remote, local, ..*socket };
    }
}

impl Connection {
    pub(super) fn new(socket: Socket, process: Process, time_unix_ns: i64) -> Connection {
        Connection {
            ends: Ends {
                remote_addr: address_text(&socket, socket.remote),
                local_addr: address_text(&socket, socket.local),
                unix_peer_inode: 0,
                socket,
                process,
            },
            protocol: Protocol::Unknown,
            bytes_sent: 0,
            bytes_received: 0,
            last_event_ns: time_unix_ns,
            closing_since_ns: None,
            responses_end_ns: None,
            is_doubtful: false,
            is_active: false,
            in_attention: false,
            touched: true,
            new_holder: None,
            told_to_stop: false,
            counted: Counted::default(),
            ingress: StreamBuffer::default(),
            egress: StreamBuffer::default(),
            state: State::Undecided { events_seen: 0 },
            wrote: false,
            holders: vec![process],
            holders_complete: true,
            counters_taken: http1::Counters::default(),
        }
    }

    /// This end's role: by who opened the connection, else by who sends requests.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match (self.ends.socket.opened, &self.state) {
            (Opened::Connected, _) => Some(Role::Client),
            (Opened::Accepted, _) => Some(Role::Server),
            (Opened::Unknown, State::Http1 { requests, .. }) => Some(role_by_requests(*requests)),
            (Opened::Unknown, _) => None,
        }
    }

    /// Takes what later events say about the socket and its holder.
    pub(super) fn seen(&mut self, socket: &Socket, process: Process, time_unix_ns: i64) {
        self.touched = true;
        self.last_event_ns = self.last_event_ns.max(time_unix_ns);
        // Bytes after the end of the last known holder: somebody else still has it.
        self.closing_since_ns = None;
        if self.ends.socket != *socket {
            self.ends.update(socket);
        }
        if self.holders_complete && !self.holders.contains(&process) {
            self.holders_complete = self.holders.len() < HOLDERS_MAX;
            if self.holders_complete {
                self.holders.push(process);
                self.new_holder = Some(process);
            }
        }
    }

    /// A process closed its socket, and somebody still holds it: perhaps another that is not known,
    /// perhaps itself by another descriptor.
    pub(super) fn let_go_by(&mut self, process: Process) {
        self.holders.retain(|holder| *holder != process);
        self.holders_complete &= !self.holders.is_empty();
    }

    /// Somebody holds it who was never seen.
    pub(super) fn has_unknown_holders(&mut self) {
        self.holders_complete = false;
    }

    /// One direction has ended. True if it is the responses': then nothing can come any more that
    /// makes an exchange.
    pub(super) fn responses_end_since(&mut self, direction: Direction, time_unix_ns: i64) -> bool {
        let State::Http1 { requests, .. } = &self.state else { return false };
        if direction == *requests {
            return false;
        }
        self.responses_end_ns = self.responses_end_ns.or(Some(time_unix_ns));
        true
    }

    /// A process has ended that held the socket. True if it was the last one known.
    pub(super) fn released_by(&mut self, process: Process) -> bool {
        let before = self.holders.len();
        self.holders.retain(|holder| *holder != process);
        self.holders.len() < before && self.holders.is_empty() && self.holders_complete
    }

    /// Takes an event's bytes and emits what they complete.
    pub(super) fn data(&mut self, event: &DataEvent<'_>, look: &mut Look<'_>) -> Outcome {
        self.seen(&event.socket, event.process, event.time_unix_ns);
        if event.direction == Direction::Egress || !self.wrote {
            self.ends.process = event.process;
            self.wrote |= event.direction == Direction::Egress;
        }
        let segment = Segment {
            position: event.position,
            total_bytes: u64::from(event.total_bytes),
            time_unix_ns: event.time_unix_ns,
            payload: event.payload,
            tail: &[],
        };
        self.bytes(event.direction, segment);
        if let State::Undecided { events_seen } = self.state {
            self.infer(event, events_seen);
        }
        self.advance(look)
    }

    /// Bytes that were moved but not seen.
    pub(super) fn gap(
        &mut self,
        direction: Direction,
        position: u64,
        bytes: u64,
        time_unix_ns: i64,
    ) {
        let segment =
            Segment { position, total_bytes: bytes, time_unix_ns, payload: &[], tail: &[] };
        self.bytes(direction, segment);
    }

    fn bytes(&mut self, direction: Direction, segment: Segment<'_>) {
        let (stream, total) = match direction {
            Direction::Ingress => (&mut self.ingress, &mut self.bytes_received),
            Direction::Egress => (&mut self.egress, &mut self.bytes_sent),
        };
        *total += segment.total_bytes;
        if !matches!(self.state, State::Ignored) {
            stream.push(segment);
        }
    }

    fn infer(&mut self, event: &DataEvent<'_>, events_seen: u32) {
        let stream = match event.direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        let start = if stream.at_event_start() { stream.unread() } else { &[] };
        let from_start = event.socket.opened != Opened::Unknown && stream.position() == 0;
        let both_sides = self.bytes_sent > 0 && self.bytes_received > 0;
        match infer(event, start, events_seen, both_sides) {
            Inference::Undecided => {
                if stream.unread().len() > UNDECIDED_BYTES_MAX {
                    stream.skip_to_event();
                }
                let events_seen = events_seen + u32::from(!event.payload.is_empty());
                self.state = State::Undecided { events_seen };
            }
            Inference::Http1 { requests, at_start } => {
                self.protocol = Protocol::Http;
                // What came before a message that was found in the middle is none of HTTP.
                let parser = Box::new(Http1::new(from_start && at_start));
                self.state = State::Http1 { parser, requests };
            }
            Inference::Other(protocol) => {
                self.protocol = protocol;
                self.stop_reading();
            }
        }
    }

    /// Reads on, also without new bytes: time may have settled something.
    pub(super) fn advance(&mut self, look: &mut Look<'_>) -> Outcome {
        self.read(look, |parser, requests, responses, ctx| {
            parser.advance(requests, responses, ctx);
        });
        match &self.state {
            State::Ignored => Outcome::Ignored,
            State::Http1 { parser, .. } if parser.is_opaque() => Outcome::Ignored,
            State::Http1 { .. } | State::Undecided { .. } => Outcome::Tracked,
        }
    }

    /// The connection is over: emits what its end completes and counts the rest.
    pub(super) fn finish(&mut self, look: &mut Look<'_>) {
        self.read(look, |parser, requests, responses, ctx| {
            parser.close(requests, responses, ctx);
        });
    }

    fn read(
        &mut self,
        look: &mut Look<'_>,
        step: fn(&mut Http1, &mut StreamBuffer, &mut StreamBuffer, &mut http1::Context<'_>),
    ) {
        let State::Http1 { parser, requests } = &mut self.state else { return };
        let role = role_by_requests(*requests);
        let ends = &self.ends;
        let mut emit = |exchange: Exchange<'_>| (look.emit)(ends, role, exchange);
        let mut ctx = http1::Context {
            now_unix_ns: look.now_unix_ns,
            config: look.config,
            pool: look.pool,
            emit: &mut emit,
        };
        let (ingress, egress) = (&mut self.ingress, &mut self.egress);
        match requests {
            Direction::Ingress => step(parser, ingress, egress, &mut ctx),
            Direction::Egress => step(parser, egress, ingress, &mut ctx),
        }
    }

    /// Stops looking at its bytes and gives their storage back. True the first time.
    pub(super) fn ignore(&mut self) -> bool {
        self.stop_reading();
        !std::mem::replace(&mut self.told_to_stop, true)
    }

    fn stop_reading(&mut self) {
        self.state = State::Ignored;
        self.ingress = StreamBuffer::default();
        self.egress = StreamBuffer::default();
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = Process> {
        self.holders.iter().copied()
    }

    pub(super) fn take_new_holder(&mut self) -> Option<Process> {
        self.new_holder.take()
    }

    /// What its parser counted since the last call.
    pub(super) fn take_counters(&mut self) -> http1::Counters {
        let State::Http1 { parser, .. } = &self.state else { return http1::Counters::default() };
        let now = parser.counters();
        let before = std::mem::replace(&mut self.counters_taken, now);
        now.since(before)
    }

    /// Whether time alone can change anything.
    pub(super) fn needs_time(&self) -> bool {
        match &self.state {
            State::Http1 { parser, .. } => {
                parser.is_waiting() || !self.ingress.is_empty() || !self.egress.is_empty()
            }
            _ => false,
        }
    }

    /// Forgets unread bytes and waiting requests (memory is short): the parser resyncs behind them.
    pub(super) fn forget_unread(&mut self, pool: &mut http1::Pool) {
        self.ingress.forget_unread();
        self.egress.forget_unread();
        if let State::Http1 { parser, .. } = &mut self.state {
            parser.give_up(pool);
        }
    }

    /// Memory that its streams and its parser hold, by capacity.
    pub(super) fn held_bytes(&self) -> usize {
        let parser = match &self.state {
            State::Http1 { parser, .. } => size_of::<Http1>() + parser.held_bytes(),
            State::Undecided { .. } | State::Ignored => 0,
        };
        self.ingress.held_bytes() + self.egress.held_bytes() + parser
    }

    pub(super) fn overflow_bytes(&self) -> u64 {
        self.ingress.overflow_bytes() + self.egress.overflow_bytes()
    }
}

fn role_by_requests(requests: Direction) -> Role {
    match requests {
        Direction::Ingress => Role::Server,
        Direction::Egress => Role::Client,
    }
}

/// A Unix socket's name as rows have it; zero bytes, with which abstract names begin, as `@`.
fn unix_address_text(name: &[u8]) -> String {
    // Of a path the kernel may count the zero byte at its end.
    let end = if name.first() == Some(&0) { name.len() } else { find_zero(name) };
    let text = String::from_utf8_lossy(&name[..end]);
    format!("{UNIX_PREFIX}{}", text.replace('\0', "@"))
}

fn find_zero(name: &[u8]) -> usize {
    name.iter().position(|byte| *byte == 0).unwrap_or(name.len())
}

/// An address as rows have it: IPv4-mapped addresses as IPv4, `-` when unknown.
fn address_text(socket: &Socket, address: Option<SocketAddr>) -> String {
    match (socket.family, address) {
        (Family::Unix, _) => UNIX_PREFIX.to_string(),
        (_, Some(address)) => address.ip().to_canonical().to_string(),
        (_, None) => "-".to_string(),
    }
}

/// A port as rows have it, −1 when unknown.
fn port_number(address: Option<SocketAddr>) -> i64 {
    address.map_or(-1, |address| i64::from(address.port()))
}
