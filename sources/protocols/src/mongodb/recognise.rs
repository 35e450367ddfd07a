//! Whether bytes are MongoDB's: a head of a known kind, and behind it documents that are some, to their
//! ends or as far as they are there. Who sent them is said by the kind, or by what only requests and only
//! responses hold.

use super::bson::{Document, Fit, Reader, Stop, Value, elements, fit};
use super::packed::packed;
use super::parse::{Message, Msg, Query, Reply, Sequence, head, message};
use super::types::{
    HEAD_BYTES, Head, OP_COMMAND_REPLY, OP_COMPRESSED, OP_MSG, OP_REPLY, OP_UPDATE,
};
use crate::Side;
use crate::protocol::{Beginning, Verdict};

/// Of a message that is not all there: less is no proof.
const PROOF_BYTES_MIN: usize = 40;
/// Flags of OP_REPLY that there are.
const REPLY_FLAGS: u32 = 0xf;
/// The same of OP_UPDATE and OP_DELETE.
const WRITE_FLAGS: u32 = 3;

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let bytes = beginning.bytes;
    // Cheapest first: a length's last byte is at most that of the longest message.
    if beginning.is_datagram || bytes.is_empty() || bytes.get(3).is_some_and(|byte| *byte > 2) {
        return Verdict::IsNot;
    }
    match sender(bytes) {
        Some(side) => Verdict::Is(side),
        None if beginning.at_start && may_become(bytes) => Verdict::Unsure,
        None => Verdict::IsNot,
    }
}

/// Whether a message of this side certainly begins here.
pub(super) fn is_message(side: Side, bytes: &[u8]) -> bool {
    sender(bytes) == Some(side)
}

/// Whether more bytes may show that a message begins here.
pub(super) fn may_become(bytes: &[u8]) -> bool {
    if bytes.len() < HEAD_BYTES {
        let kind = bytes.get(12..).unwrap_or_default();
        let kinds =
            [OP_REPLY, OP_MSG, OP_COMPRESSED].into_iter().chain(OP_UPDATE..=OP_COMMAND_REPLY);
        let mut kinds = kinds.map(u32::to_le_bytes);
        return bytes.get(3).is_none_or(|byte| *byte <= 2)
            && kinds.any(|bytes| bytes.starts_with(kind));
    }
    let is_begun = |head: Head| {
        let is_short = bytes.len() < PROOF_BYTES_MIN && (bytes.len() as u64) < head.total_bytes;
        is_short && proof(&head, bytes).0 != Fit::No
    };
    head(bytes).is_some_and(is_begun)
}

/// Who sent the message that begins here, if it can hardly be anything else.
fn sender(bytes: &[u8]) -> Option<Side> {
    let head = head(bytes)?;
    match proof(&head, bytes) {
        (Fit::Whole, side) => Some(side),
        (Fit::SoFar, side) if bytes.len() >= PROOF_BYTES_MIN => Some(side),
        _ => None,
    }
}

/// How far a message fits its head, and who sends such.
fn proof(head: &Head, bytes: &[u8]) -> (Fit, Side) {
    let total = usize::try_from(head.total_bytes).unwrap_or(usize::MAX);
    let behind_head = &bytes[HEAD_BYTES..bytes.len().min(total)];
    if head.op_code != OP_COMPRESSED {
        return proof_of(head, head.op_code, behind_head, total - HEAD_BYTES);
    }
    let side = by_answer(head);
    match packed(behind_head) {
        None if behind_head.len() < PROOF_BYTES_MIN - HEAD_BYTES => (Fit::SoFar, side),
        None => (Fit::No, side),
        Some(packed) => {
            let (fit, side) =
                proof_of(head, packed.op_code, &packed.unpack(), packed.total_bytes());
            // All of it is here, and not all of it comes out: it is none.
            let is_less = fit == Fit::SoFar && bytes.len() >= total && !packed.is_long();
            (if is_less { Fit::No } else { fit }, side)
        }
    }
}

fn by_answer(head: &Head) -> Side {
    if head.response_to == 0 { Side::Request } else { Side::Response }
}

fn proof_of(head: &Head, op_code: u32, bytes: &[u8], total: usize) -> (Fit, Side) {
    let side = if op_code == OP_REPLY { Side::Response } else { Side::Request };
    let message = match message(op_code, bytes, total) {
        Ok(message) => message,
        Err(Stop::Cut) if bytes.len() < total => return (Fit::SoFar, side),
        Err(_) => return (Fit::No, side),
    };
    let fit = match message {
        Message::Msg(msg) => return (msg_fit(&msg, bytes, total), msg_side(&msg, head)),
        Message::Reply(Reply { flags, documents, .. }) if flags & !REPLY_FLAGS == 0 => {
            series_fit(documents)
        }
        Message::Query(Query { of, query, fields, .. }) if is_namespace(of) => {
            both(fit(query), fields.map_or(Fit::Whole, fit))
        }
        Message::Insert { to, documents } if is_namespace(to) => series_fit(documents),
        Message::Update { to, flags, which, change }
            if is_namespace(to) && flags & !WRITE_FLAGS == 0 =>
        {
            both(fit(which), change.map_or(Fit::Whole, fit))
        }
        Message::Delete { to, flags, which } if is_namespace(to) && flags & !WRITE_FLAGS == 0 => {
            fit(which)
        }
        Message::GetMore { of, .. } if is_namespace(of) && total == of.len() + 17 => Fit::Whole,
        Message::KillCursors { cursors } => kill_fit(bytes, total, cursors),
        _ => Fit::No,
    };
    (fit, side)
}

/// The fit of two parts of one message.
fn both(first: Fit, second: Fit) -> Fit {
    match (first, second) {
        (Fit::No, _) | (_, Fit::No) => Fit::No,
        (Fit::Whole, Fit::Whole) => Fit::Whole,
        _ => Fit::SoFar,
    }
}

/// A database and a collection.
fn is_namespace(name: &[u8]) -> bool {
    name.contains(&b'.')
        && !name.iter().any(u8::is_ascii_control)
        && std::str::from_utf8(name).is_ok()
}

fn msg_fit(msg: &Msg<'_>, bytes: &[u8], total: usize) -> Fit {
    let sequences = msg.sequences.iter().fold(Fit::Whole, |fit, Sequence { name, documents }| {
        let is_name = !name.is_empty() && std::str::from_utf8(name).is_ok();
        let one = if documents.is_empty() { Fit::Whole } else { series_fit(*documents) };
        both(fit, if is_name { one } else { Fit::No })
    });
    let body = match msg.body {
        Some(Document { inside: [], is_whole: true }) => Fit::No,
        Some(body) => fit(body),
        None if bytes.len() < total => Fit::SoFar,
        None => Fit::No,
    };
    // A body in front is no longer than its message.
    let length = match bytes.get(4..9) {
        Some([0, length @ ..]) => {
            length.iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte))
        }
        _ => 0,
    };
    if length + 5 > total { Fit::No } else { both(body, sequences) }
}

fn msg_side(msg: &Msg<'_>, head: &Head) -> Side {
    let told = msg.body.and_then(|body| {
        elements(body).find_map(|element| match (element.name, element.value) {
            (b"$db", Value::Text(_)) => Some(Side::Request),
            (b"ok", Value::Double(_) | Value::Int(_) | Value::Bool(_)) => Some(Side::Response),
            _ => None,
        })
    });
    told.unwrap_or(by_answer(head))
}

/// One document and more.
fn series_fit(mut documents: Reader<'_>) -> Fit {
    let mut all = if documents.is_at_end() { Fit::No } else { Fit::Whole };
    while !documents.is_empty() && all == Fit::Whole {
        all = match documents.document() {
            Ok(document) => fit(document),
            Err(Stop::Cut) => Fit::SoFar,
            Err(Stop::Invalid) => Fit::No,
        };
    }
    if all == Fit::Whole && !documents.is_at_end() { Fit::SoFar } else { all }
}

fn kill_fit(bytes: &[u8], total: usize, cursors: Reader<'_>) -> Fit {
    let count = bytes
        .get(4..8)
        .map_or(0, |count| count.iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte)));
    let fits = bytes.starts_with(&[0; 4]) && count > 0 && total == 8 + 8 * count;
    match fits {
        true if cursors.is_at_end() || bytes.len() >= total => Fit::Whole,
        true => Fit::SoFar,
        false => Fit::No,
    }
}
