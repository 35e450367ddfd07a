//! The parser of one connection or one socket: messages off a stream, or datagrams, into rows.

use weir_types::BatchBuilder;
use weir_types::tables::DnsEventsRow;

use super::parse::{HEADER_BYTES, Header};
use super::recognise::{LENGTH_BYTES, of_message};
use super::stitch::{Key, Pairing, Told};
use super::table::{Bodies, push_header};
use crate::protocol::{
    Context, Datagram, Parser, RowOf, Rows, Shared, Streams, Verdict, Way, shared_as,
};
use crate::stream::StreamBuffer;
use crate::turns::{read_to_end, settle};
use crate::{Counters, Side};

/// What the parsers of a thread share: storage for texts.
#[derive(Debug, Default)]
pub(super) struct OfThread {
    bodies: Bodies,
}

impl Shared for OfThread {
    fn held_bytes(&self) -> usize {
        self.bodies.held_bytes()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In front of a length.
    Length,
    /// So many bytes of a message that cannot be read are still to be stepped over.
    Skipping(u64),
    /// Bytes are missing where a length was: looking for a call that begins with a message.
    Hunting,
}

/// One direction of a stream.
#[derive(Debug)]
struct Reader {
    at: At,
}

/// What is at the beginning of a stream's unread bytes.
enum Next {
    Wait,
    /// A message of so many bytes, behind its length.
    Message(usize),
    /// A message was lost, or some were.
    Lost,
}

#[derive(Debug)]
pub(super) struct Dns {
    readers: [Reader; 2],
    pairing: Pairing,
}

impl Dns {
    pub(super) fn new(from_start: bool) -> Dns {
        let at = if from_start { At::Length } else { At::Hunting };
        Dns { readers: [Reader { at }, Reader { at }], pairing: Pairing::default() }
    }

    fn read(&mut self, side: Side, stream: &mut StreamBuffer, ctx: &mut Context<'_>) {
        settle(stream, ctx.now_unix_ns);
        loop {
            match self.readers[side as usize].next(stream) {
                Next::Wait => return,
                Next::Lost => self.missing(side, ctx.now_unix_ns),
                Next::Message(bytes) => {
                    let time_unix_ns = stream.unread_since_ns().unwrap_or(0);
                    let message = &stream.unread()[LENGTH_BYTES..LENGTH_BYTES + bytes];
                    // Streams have one peer, and the side says the way.
                    let (requests, peer) = (None, None);
                    self.message(
                        side,
                        message,
                        RowOf { table: 0, time_unix_ns, requests, peer },
                        ctx,
                    );
                    stream.consume(LENGTH_BYTES + bytes);
                }
            }
        }
    }

    fn missing(&mut self, side: Side, at_unix_ns: i64) {
        match side {
            Side::Request => self.pairing.requests_missing_ns = Some(at_unix_ns),
            Side::Response => self.pairing.responses_missing_ns = Some(at_unix_ns),
        }
    }

    fn message(&mut self, side: Side, message: &[u8], of: RowOf, ctx: &mut Context<'_>) {
        let Some(header) = Header::of(message) else { return };
        if (side == Side::Response) != header.is_response() {
            // No message of this side: whatever it was, one may be missing.
            return self.missing(side, ctx.now_unix_ns);
        }
        let OfThread { bodies } = shared_as::<OfThread>(ctx.shared);
        let redactor = &ctx.config.redactor;
        let mut told = Told {
            time_unix_ns: of.time_unix_ns,
            peer: of.peer,
            asked: bodies.asked(header, message),
            ..Told::default()
        };
        push_header(header, &mut told.header);
        let key = Key { id: header.id, requests: of.requests.unwrap_or(Way::Out), peer: of.peer };
        let pair = match side {
            Side::Request => {
                bodies.push_queries(header, message, redactor, &mut told.body);
                ctx.config.check_fault(&told.body);
                self.pairing.query(key, told, question_hash(message))
            }
            Side::Response => {
                bodies.push_answers(header, message, redactor, &mut told.body);
                self.pairing.response(key, told)
            }
        };
        if let Some((query, response)) = pair {
            let peer = response.peer.or(query.peer);
            let of = RowOf { time_unix_ns: response.time_unix_ns, peer, ..of };
            write_row(ctx.rows, &of, &query, &response);
        }
    }
}

/// Tells a repeated query from another one with the same id.
fn question_hash(message: &[u8]) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one(message)
}

fn write_row(rows: &mut dyn Rows, of: &RowOf, query: &Told, response: &Told) {
    let latency_ns = response.time_unix_ns.saturating_sub(query.time_unix_ns).max(0);
    rows.row(of, &mut |builder: &mut BatchBuilder| {
        let row = DnsEventsRow {
            req_header: &query.header,
            req_body: &query.body,
            resp_header: &response.header,
            resp_body: &response.body,
            latency: latency_ns,
        };
        row.write(builder);
    });
}

impl Reader {
    fn next(&mut self, stream: &mut StreamBuffer) -> Next {
        loop {
            let (unread, lost) = (stream.unread(), stream.lost_bytes());
            match self.at {
                At::Skipping(0) => self.at = At::Length,
                At::Skipping(left) => {
                    let there = unread.len() as u64 + lost;
                    if there == 0 {
                        return Next::Wait;
                    }
                    stream.skip(left.min(there));
                    self.at = At::Skipping(left - left.min(there));
                }
                At::Hunting => match self.hunt(stream) {
                    Some(next) => return next,
                    None => self.at = At::Length,
                },
                At::Length => {
                    let length = unread.get(..LENGTH_BYTES);
                    let Some(length) =
                        length.map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])))
                    else {
                        if lost == 0 {
                            return Next::Wait;
                        }
                        self.at = At::Hunting;
                        return Next::Lost;
                    };
                    if unread.len() >= LENGTH_BYTES + length {
                        if length >= HEADER_BYTES {
                            return Next::Message(length);
                        }
                        self.at = At::Skipping((LENGTH_BYTES + length) as u64);
                    } else if lost > 0 {
                        // Its length is known: what comes behind it is not lost.
                        self.at = At::Skipping((LENGTH_BYTES + length) as u64);
                        return Next::Lost;
                    } else {
                        return Next::Wait;
                    }
                }
            }
        }
    }

    /// `None`: a message begins here.
    fn hunt(&mut self, stream: &mut StreamBuffer) -> Option<Next> {
        loop {
            if stream.unread().is_empty() && stream.lost_bytes() == 0 {
                return Some(Next::Wait);
            }
            let bytes = stream.unread();
            let verdict = match bytes.get(LENGTH_BYTES..) {
                Some(message) if stream.at_event_start() => {
                    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                    let is_whole = message.len() >= length;
                    of_message(&message[..message.len().min(length)], is_whole)
                }
                _ => Verdict::IsNot,
            };
            if matches!(verdict, Verdict::Is(_)) {
                return None;
            }
            stream.skip_to_event();
        }
    }
}

impl Parser for Dns {
    fn advance(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        self.read(Side::Request, streams.requests, ctx);
        self.read(Side::Response, streams.responses, ctx);
        self.pairing.pass_time(ctx.now_unix_ns);
    }

    fn datagram(&mut self, datagram: &Datagram<'_>, ctx: &mut Context<'_>) {
        let Some(header) = Header::of(datagram.bytes) else { return };
        let (side, requests) = match (header.is_response(), datagram.way) {
            (false, way) => (Side::Request, way),
            (true, Way::In) => (Side::Response, Way::Out),
            (true, Way::Out) => (Side::Response, Way::In),
        };
        if datagram.after_gap {
            self.missing(side, ctx.now_unix_ns);
        }
        let Datagram { time_unix_ns, peer, bytes, .. } = *datagram;
        let of = RowOf { table: 0, time_unix_ns, requests: Some(requests), peer };
        self.message(side, bytes, of, ctx);
        self.pairing.pass_time(ctx.now_unix_ns);
    }

    fn close(&mut self, streams: &mut Streams<'_>, ctx: &mut Context<'_>) {
        read_to_end(self, streams, ctx);
        self.pairing.close();
    }

    fn is_waiting(&self) -> bool {
        self.pairing.is_waiting()
    }

    fn counters(&self) -> Counters {
        self.pairing.counters
    }

    fn held_bytes(&self) -> usize {
        self.pairing.held_bytes()
    }

    fn give_up(&mut self, _shared: &mut dyn Shared) {
        self.pairing.give_up();
    }
}

/// For [`super::tests`]: what a message becomes.
#[cfg(test)]
pub(super) fn tell(message: &[u8], redactor: &crate::redact::Redactor) -> (String, String) {
    let (mut bodies, mut header, mut body) = (Bodies::default(), Vec::new(), Vec::new());
    let parsed = Header::of(message).unwrap();
    push_header(parsed, &mut header);
    match parsed.is_response() {
        true => bodies.push_answers(parsed, message, redactor, &mut body),
        false => bodies.push_queries(parsed, message, redactor, &mut body),
    }
    (String::from_utf8(header).unwrap(), String::from_utf8(body).unwrap())
}
