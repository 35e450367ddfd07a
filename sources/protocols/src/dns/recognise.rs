//! Whether bytes are DNS: its header has few bits that are free, and a question has to follow.

use super::parse::{Cursor, HEADER_BYTES, Header};
use crate::Side;
use crate::protocol::{Beginning, Verdict};

/// Ports of protocols that look like it: multicast DNS, and LLMNR.
const OTHER_PORTS: [u16; 2] = [5353, 5355];
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
    match beginning.is_datagram {
        true => of_message(beginning.bytes, true),
        false => of_stream(beginning.bytes, beginning.at_start),
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
