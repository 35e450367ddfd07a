//! One socket: its two streams, its parser, who uses it and who is at the other end.
//!
//! A socket for datagrams has no streams: each of them goes to the parser by itself, with its peer. Once it
//! is told what was said over TLS, the streams are that, and the socket's own bytes are none of anybody's.

mod guess;
mod memos;
mod missing;
mod rows;
mod socks;

use weir_protocols::protocol::{Context, Datagram, Parser, Shared, Streams, Way};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_protocols::{Config, Counters, PROTOCOLS};

use self::memos::Memos;
use self::missing::Missing;
use self::rows::{ConnectionRows, role_by_requests};
pub use self::rows::{Emit, RowEnds};
use super::ends::Ends;
use super::infer::ProtocolIdx;
use crate::capture::{DataEvent, Direction, Opened, Process, Socket, SocketType};

/// Processes remembered per socket; with more of them only closing or silence ends it.
const HOLDERS_MAX: usize = 4;

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
    Known {
        protocol: ProtocolIdx,
        parser: Box<dyn Parser>,
        requests: Direction,
    },
    /// Its bytes are only counted.
    Ignored,
}

/// What a look at a connection needs from outside.
pub(super) struct Look<'a, 'e> {
    pub(super) now_unix_ns: i64,
    pub(super) config: &'a Config,
    /// Of each protocol that is read.
    pub(super) shared: &'a mut [Option<Box<dyn Shared>>],
    pub(super) emit: &'a mut Emit<'e>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Connection {
    pub ends: Ends,
    /// As `conn_stats` names it; 0 if it is not known.
    pub protocol: u8,
    /// It is known what was said over TLS.
    pub is_encrypted: bool,
    /// Of the socket. While what was said over TLS is told, that stands for them; the close tells them.
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
    /// Whether bytes came in, and went out, since the streams began.
    moved: [bool; 2],
    wrote: bool,
    holders: Vec<Process>,
    holders_complete: bool,
    new_holder: Option<Process>,
    /// The caller knows that its payload is of no use.
    told_to_stop: bool,
    counters_taken: Counters,
    /// What former parsers counted in the end.
    given_up: Vec<(ProtocolIdx, Counters)>,
    wrong_guesses: u8,
    /// Where in the streams that come in and go out the connection's protocol begins: behind what was said to
    /// a proxy.
    begins: [u64; 2],
    /// Of datagrams that came in, and that went out.
    missing: [Missing; 2],
    /// What the program remembers, until there is a parser.
    memos: Memos,
}

/// What [`super::ConnStats`] has taken of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) key: Option<super::StatsKey>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) protocol: u8,
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

impl Connection {
    pub(super) fn new(socket: Socket, process: Process, time_unix_ns: i64) -> Connection {
        Connection {
            ends: Ends::new(socket, process),
            protocol: 0,
            is_encrypted: false,
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
            moved: [false; 2],
            wrote: false,
            holders: vec![process],
            holders_complete: true,
            counters_taken: Counters::default(),
            given_up: Vec::new(),
            wrong_guesses: 0,
            begins: [0; 2],
            missing: [Missing::default(); 2],
            memos: Memos::default(),
        }
    }

    pub(super) fn is_datagram(&self) -> bool {
        self.ends.socket.socket_type == SocketType::Datagram
    }

    /// This end's role, if it has one: by who opened the connection, else by who sends requests.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        if self.is_datagram() {
            return None;
        }
        match (self.ends.socket.opened, &self.state) {
            (Opened::Connected, _) => Some(Role::Client),
            (Opened::Accepted, _) => Some(Role::Server),
            (Opened::Unknown, State::Known { requests, .. }) => Some(role_by_requests(*requests)),
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
        let State::Known { requests, .. } = &self.state else { return false };
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

    /// What follows was said over TLS: the streams begin anew. What they held has been finished.
    pub(super) fn begin_plain(&mut self) {
        self.stop_reading();
        self.state = State::Undecided { events_seen: 0 };
        self.moved = [false; 2];
        self.begins = [0; 2];
        self.is_encrypted = true;
        self.protocol = 0;
        self.told_to_stop = false;
        self.counters_taken = Counters::default();
        self.responses_end_ns = None;
    }

    /// Takes bytes of the socket and emits what they complete.
    pub(super) fn socket_data(
        &mut self,
        event: &DataEvent<'_>,
        look: &mut Look<'_, '_>,
    ) -> Outcome {
        if self.is_encrypted {
            self.seen(&event.socket, event.process, event.time_unix_ns);
            return self.outcome();
        }
        self.data(event, look)
    }

    /// Takes an event's bytes and emits what they complete.
    pub(super) fn data(&mut self, event: &DataEvent<'_>, look: &mut Look<'_, '_>) -> Outcome {
        self.seen(&event.socket, event.process, event.time_unix_ns);
        if event.direction == Direction::Egress || !self.wrote {
            self.ends.process = event.process;
            self.wrote |= event.direction == Direction::Egress;
        }
        if self.is_datagram() {
            return self.datagram(event, look);
        }
        let segment = Segment {
            position: event.position,
            total_bytes: u64::from(event.total_bytes),
            time_unix_ns: event.time_unix_ns,
            payload: event.payload,
            tail: &[],
        };
        self.bytes(event.direction, segment);
        self.give_up_wrong_guess(look);
        if let State::Undecided { events_seen } = self.state {
            self.infer(event, events_seen);
            self.tell_memos();
        }
        if self.step(look) {
            // What takes over may have begun in the same call.
            self.infer_rest(event);
            self.tell_memos();
            self.step(look);
        }
        self.outcome()
    }

    fn datagram(&mut self, event: &DataEvent<'_>, look: &mut Look<'_, '_>) -> Outcome {
        if let State::Undecided { events_seen } = self.state {
            self.infer(event, events_seen);
        }
        let (way, total) = match event.direction {
            Direction::Ingress => (Way::In, &mut self.bytes_received),
            Direction::Egress => (Way::Out, &mut self.bytes_sent),
        };
        *total += u64::from(event.total_bytes);
        self.moved[usize::from(event.direction == Direction::Egress)] = true;
        let datagram = Datagram {
            way,
            peer: event.socket.remote,
            time_unix_ns: event.time_unix_ns,
            bytes: event.payload,
            after_gap: self.missing[way as usize].before(event),
        };
        self.read(look, |parser, _, ctx| parser.datagram(&datagram, ctx));
        self.outcome()
    }

    /// Bytes that were moved but not seen.
    pub(super) fn gap(
        &mut self,
        direction: Direction,
        position: u64,
        bytes: u64,
        time_unix_ns: i64,
    ) {
        if self.is_encrypted {
            return;
        }
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
        self.moved[usize::from(direction == Direction::Egress)] |= segment.total_bytes > 0;
        if !matches!(self.state, State::Ignored) {
            stream.push(segment);
        }
    }

    /// Reads on, also without new bytes: time may have settled something.
    pub(super) fn advance(&mut self, look: &mut Look<'_, '_>) -> Outcome {
        self.step(look);
        self.outcome()
    }

    /// True if the protocol has given way to another one.
    fn step(&mut self, look: &mut Look<'_, '_>) -> bool {
        self.read(look, |parser, streams, ctx| parser.advance(streams, ctx));
        self.hand_over()
    }

    fn outcome(&self) -> Outcome {
        match &self.state {
            State::Ignored => Outcome::Ignored,
            State::Known { parser, .. } if parser.is_done() => Outcome::Ignored,
            State::Known { .. } | State::Undecided { .. } => Outcome::Tracked,
        }
    }

    /// The connection is over: emits what its end completes and counts the rest.
    pub(super) fn finish(&mut self, look: &mut Look<'_, '_>) {
        self.read(look, |parser, streams, ctx| parser.close(streams, ctx));
    }

    fn read(
        &mut self,
        look: &mut Look<'_, '_>,
        step: impl FnOnce(&mut dyn Parser, &mut Streams<'_>, &mut Context<'_>),
    ) {
        let State::Known { protocol, parser, requests } = &mut self.state else { return };
        let (protocol, requests) = (*protocol, *requests);
        let Some(shared) = look.shared[protocol].as_deref_mut() else { return };
        let (ends, encrypted) = (&self.ends, self.is_encrypted);
        let mut rows = ConnectionRows { protocol, ends, encrypted, requests, emit: look.emit };
        let mut ctx =
            Context { now_unix_ns: look.now_unix_ns, config: look.config, shared, rows: &mut rows };
        let (ingress, egress) = (&mut self.ingress, &mut self.egress);
        let mut streams = match requests {
            Direction::Ingress => Streams { requests: ingress, responses: egress },
            Direction::Egress => Streams { requests: egress, responses: ingress },
        };
        step(parser.as_mut(), &mut streams, &mut ctx);
    }

    /// Stops looking at its bytes and gives their storage back. True the first time.
    pub(super) fn ignore(&mut self) -> bool {
        self.stop_reading();
        !std::mem::replace(&mut self.told_to_stop, true)
    }

    fn stop_reading(&mut self) {
        self.state = State::Ignored;
        // Those of the socket's own bytes are none yet.
        if self.is_encrypted {
            self.memos = Memos::default();
        }
        self.ingress = StreamBuffer::default();
        self.egress = StreamBuffer::default();
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = Process> {
        self.holders.iter().copied()
    }

    pub(super) fn take_new_holder(&mut self) -> Option<Process> {
        self.new_holder.take()
    }

    /// Which protocol it speaks or spoke, if that is known.
    pub(super) fn speaks(&self) -> Option<ProtocolIdx> {
        PROTOCOLS.iter().position(|def| self.protocol == def.number)
    }

    /// What its parser, and one that was given up, counted since the last call.
    pub(super) fn take_counters(&mut self) -> impl Iterator<Item = (ProtocolIdx, Counters)> {
        let now = match &self.state {
            State::Known { protocol, parser, .. } => {
                let now = parser.counters();
                let before = std::mem::replace(&mut self.counters_taken, now);
                Some((*protocol, now.since(before)))
            }
            State::Undecided { .. } | State::Ignored => None,
        };
        std::mem::take(&mut self.given_up).into_iter().chain(now)
    }

    /// Whether time alone can change anything.
    pub(super) fn needs_time(&self) -> bool {
        match &self.state {
            State::Known { parser, .. } => {
                parser.is_waiting() || !self.ingress.is_empty() || !self.egress.is_empty()
            }
            _ => false,
        }
    }

    /// Its parser holds more than its protocol allows.
    pub(super) fn is_too_large(&self) -> bool {
        let State::Known { protocol, parser, .. } = &self.state else { return false };
        let parsing = PROTOCOLS[*protocol].parsing.as_ref();
        parsing.is_some_and(|parsing| parser.held_bytes() > parsing.parser_bytes_max)
    }

    /// Forgets unread bytes and waiting requests (memory is short): the parser resyncs behind them.
    pub(super) fn forget_unread(&mut self, shared: &mut [Option<Box<dyn Shared>>]) {
        self.ingress.forget_unread();
        self.egress.forget_unread();
        if let State::Known { protocol, parser, .. } = &mut self.state
            && let Some(shared) = shared[*protocol].as_deref_mut()
        {
            parser.give_up(shared);
        }
    }

    /// Memory that its streams and its parser hold, by capacity.
    pub(super) fn held_bytes(&self) -> usize {
        let parser = match &self.state {
            State::Known { parser, .. } => size_of_val(parser.as_ref()) + parser.held_bytes(),
            State::Undecided { .. } | State::Ignored => 0,
        };
        self.ingress.held_bytes() + self.egress.held_bytes() + parser + self.memos.held_bytes()
    }

    pub(super) fn overflow_bytes(&self) -> u64 {
        self.ingress.overflow_bytes() + self.egress.overflow_bytes()
    }
}
