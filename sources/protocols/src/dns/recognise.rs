//! Whether bytes are DNS: its header has few bits that are free, and a question has to follow.

use super::parse::{Cursor, HEADER_BYTES, Header};
use crate::Side;
use crate::protocol::{Beginning, Verdict};

/// Ports of protocols that look like it: names of NetBIOS, multicast DNS, and LLMNR.
const OTHER_PORTS: [u16; 3] = [137, 5353, 5355];
/// Where bits that nobody sets are DNS nevertheless, if the message is one to its last byte.
const PORT: u16 = 53;
/// Opcodes with a question: query, inverse query, status, notify, update.
const OPCODES: [u16; 5] = [0, 1, 2, 4, 5];
/// Internet, CHAOS, Hesiod, none, any.
const CLASSES: [u16; 5] = [1, 3, 4, 254, 255];
/// Records that a query carries at most: EDNS and a signature; an update carries more.
const QUERY_RECORDS_MAX: u16 = 2;
/// Before a message on a stream: its length.
pub(super) const LENGTH_BYTES: usize = 2;

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    if beginning.ports.iter().any(|port| OTHER_PORTS.contains(port)) {
        return Verdict::IsNot;
    }
    let bytes = beginning.bytes;
    let (verdict, message) = match beginning.is_datagram {
        true => (of_message(bytes, true), Some(bytes)),
        false => (of_stream(bytes, beginning.at_start), framed_message(bytes)),
    };
    match (verdict, message) {
        (Verdict::IsNot, Some(message)) if beginning.ports.contains(&PORT) => {
            of_odd_message(message)
        }
        _ => verdict,
    }
}

/// The first message of a stream, if all of it is there.
fn framed_message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Of a message on DNS' own port whose header says what none should, as a reserved bit, an opcode that is
/// not assigned, or a query with answers: it is one if every question and record that it counts is there,
/// and nothing behind them.
fn of_odd_message(message: &[u8]) -> Verdict {
    let Some(header) = Header::of(message) else { return Verdict::IsNot };
    let [queries, records @ ..] = header.counts;
    let (mut cursor, mut name) = (Cursor::new(message, HEADER_BYTES), Vec::new());
    let mut is_read = |count: u16, read: &mut dyn FnMut(&mut Cursor<'_>, &mut Vec<u8>) -> bool| {
        (0..count).all(|_| {
            name.clear();
            read(&mut cursor, &mut name)
        })
    };
    let is_whole = is_read(queries, &mut |cursor, name| {
        let question = cursor.question(name);
        question.is_some_and(|asked| CLASSES.contains(&(asked.class & 0x7fff)) && asked.rtype != 0)
    }) && records.iter().all(|count| {
        is_read(*count, &mut |cursor, name| {
            cursor.record(name).is_some() && cursor.at <= cursor.message.len()
        })
    });
    match is_whole && header.counts != [0; 4] && cursor.at == message.len() {
        true if header.is_response() => Verdict::Is(Side::Response),
        true => Verdict::Is(Side::Request),
        false => Verdict::IsNot,
    }
}

/// A stream has lengths before its messages; some write them by a call of their own.
fn of_stream(bytes: &[u8], at_start: bool) -> Verdict {
    let Some((length, message)) = bytes.split_at_checked(LENGTH_BYTES) else {
        return if at_start && !bytes.is_empty() { Verdict::Unsure } else { Verdict::IsNot };
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < HEADER_BYTES {
        return Verdict::IsNot;
    }
    let is_whole = message.len() >= length;
    if message.len() < HEADER_BYTES {
        // Too little is no proof; a call of nothing but a length is told from others by what follows.
        return if at_start { Verdict::Unsure } else { Verdict::IsNot };
    }
    of_message(&message[..message.len().min(length)], is_whole)
}

/// `is_whole`: a question that is not all there is no question.
pub(super) fn of_message(message: &[u8], is_whole: bool) -> Verdict {
    let Some(header) = Header::of(message) else { return Verdict::IsNot };
    let [queries, answers, authorities, additional] = header.counts;
    let is_query = !header.is_response();
    let fits = OPCODES.contains(&header.opcode())
        && header.reserved() == 0
        && (queries == 1 || !is_query)
        && queries <= 1
        && (!is_query || header.rcode() == 0)
        && (!is_query || header.opcode() != 0 || (answers == 0 && authorities <= 1))
        && (!is_query || header.opcode() == 5 || additional <= QUERY_RECORDS_MAX);
    if !fits {
        return Verdict::IsNot;
    }
    let side = if is_query { Side::Request } else { Side::Response };
    if queries == 0 {
        // A server's refusal of what it could not read, or more of a long answer.
        let is_refusal = message.len() == HEADER_BYTES && header.rcode() != 0;
        return if is_refusal { Verdict::Is(side) } else { Verdict::IsNot };
    }
    let mut name = Vec::new();
    let mut cursor = Cursor::new(message, HEADER_BYTES);
    match cursor.question(&mut name) {
        Some(question) if CLASSES.contains(&(question.class & 0x7fff)) && question.rtype != 0 => {
            let ends = cursor.at == message.len();
            let more = answers > 0 || authorities > 0 || additional > 0;
            if ends || more || !is_whole { Verdict::Is(side) } else { Verdict::IsNot }
        }
        None if !is_whole => Verdict::Unsure,
        _ => Verdict::IsNot,
    }
}
