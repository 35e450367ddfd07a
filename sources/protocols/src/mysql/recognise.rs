//! Whether bytes are MySQL: by what a connection begins with, or by packets whose numbers and contents fit.

use super::login::{Hello, is_greeting};
use super::parse::{Done, HEAD_BYTES, Packet, varint};
use super::results::COLUMNS_MAX;
use super::types::{ERR, OK, command, is_command};
use crate::cursor::Cursor;
use crate::protocol::{Beginning, Verdict};
use crate::{Recognised, Side};

/// Packets that are looked at.
const PACKETS_MAX: usize = 16;

pub(super) fn recognise(beginning: &Beginning<'_>) -> Verdict {
    let Beginning { bytes, at_start, opened, is_datagram, .. } = *beginning;
    if is_datagram || bytes.is_empty() {
        return Verdict::IsNot;
    }
    let Some((packet, rest)) = Packet::split(bytes) else {
        // Lengths of what comes first are short; some write the head by a call of its own.
        let may_be = at_start
            && bytes.get(1).is_none_or(|byte| *byte < 4)
            && bytes.get(2).is_none_or(|byte| *byte == 0);
        return if may_be { Verdict::Unsure } else { Verdict::IsNot };
    };
    if is_greeting(&packet) && rest.is_empty() {
        return Verdict::Is(Side::Response);
    }
    let is_login = packet.is_whole()
        && rest.is_empty()
        && matches!(packet.number, 1 | 2)
        && packet.payload_bytes >= 32
        && Hello::of(packet.payload).is_some_and(is_plausible);
    if is_login || is_command_call(bytes) {
        return Verdict::Is(Side::Request);
    }
    if is_response_call(bytes) {
        return Verdict::Is(Side::Response);
    }
    let may_become =
        at_start && opened && !packet.is_whole() && packet.payload.len() < 64 && may_begin(&packet);
    match may_become {
        true => Verdict::of(Recognised::Unsure, Recognised::Unsure),
        false => Verdict::IsNot,
    }
}

fn is_plausible(hello: Hello<'_>) -> bool {
    match hello {
        Hello::Tls => true,
        Hello::Login { user, .. } => {
            user.iter().all(|byte| !byte.is_ascii_control()) && user.len() <= 256
        }
    }
}

/// A packet that is not all there may be the first of its connection.
fn may_begin(packet: &Packet<'_>) -> bool {
    match (packet.number, packet.payload) {
        (0, []) => packet.payload_bytes < 1 << 16,
        (0, [10, version @ ..]) => {
            version.iter().take(4).all(|byte| byte.is_ascii_digit() || *byte == b'.')
        }
        (1, payload) => packet.payload_bytes < 1 << 12 && payload.len() < 4,
        _ => false,
    }
}

/// A command that can hardly be anything else, and nothing behind it that is none.
pub(super) fn is_command_call(bytes: &[u8]) -> bool {
    let Some((packet, rest)) = Packet::split(bytes) else { return false };
    let Some((&code, payload)) = packet.payload.split_first() else { return false };
    let is_whole = packet.is_whole();
    let ends = if is_whole {
        rest.is_empty() || rest.get(3).is_none_or(|number| *number <= 1)
    } else {
        true
    };
    if packet.number != 0 || !ends {
        return false;
    }
    let behind = rest.get(HEAD_BYTES).is_none_or(|code| is_command(*code));
    let mut cursor = Cursor::new(payload);
    behind
        && match code {
            command::QUERY | command::STMT_PREPARE => {
                let text = payload.strip_prefix(&[0, 1]).unwrap_or(payload);
                (is_whole || text.len() >= 16) && is_sql(text)
            }
            command::STMT_EXECUTE => {
                let parts = cursor.u32_le().zip(cursor.u8()).zip(cursor.u32_le());
                parts.is_some_and(|((id, flags), iterations)| {
                    (id < 1 << 24 || id == u32::MAX) && flags <= 15 && iterations == 1
                })
            }
            command::INIT_DB => {
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-$".contains(byte);
                is_whole
                    && !payload.is_empty()
                    && payload.len() <= 64
                    && payload.iter().all(is_name)
            }
            command::PING | command::RESET_CONNECTION => {
                packet.payload_bytes == 1 && rest.is_empty()
            }
            command::STMT_RESET => {
                packet.payload_bytes == 5 && rest.is_empty() && is_small(payload)
            }
            command::STMT_CLOSE => {
                packet.payload_bytes == 5 && is_small(payload) && (!rest.is_empty() || is_whole)
            }
            command::STMT_FETCH => {
                packet.payload_bytes == 9 && rest.is_empty() && is_small(payload)
            }
            _ => false,
        }
}

/// A number that is not large, in its first four bytes.
fn is_small(payload: &[u8]) -> bool {
    Cursor::new(payload).u32_le().is_some_and(|id| (1..1 << 20).contains(&id))
}

fn is_sql(text: &[u8]) -> bool {
    let begin = text.trim_ascii_start();
    let begins =
        begin.first().is_some_and(|first| first.is_ascii_alphabetic() || b"(/-#".contains(first));
    let is_text = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
    begins && text.len() >= 3 && text.iter().take(256).all(is_text)
}

/// Packets from number 1 on that are a response.
pub(super) fn is_response_call(bytes: &[u8]) -> bool {
    let Some((first, mut rest)) = Packet::split(bytes) else { return false };
    if first.number != 1 || !first.is_whole() {
        return false;
    }
    match first.first() {
        Some(ERR) => return is_error(&first) && rest.is_empty(),
        Some(OK) => {
            let is_ok = is_done(&first) && (rest.is_empty() || rest.get(3) == Some(&2));
            return is_ok || is_prepared(&first, rest);
        }
        Some(_) => {}
        None => return false,
    }
    let mut cursor = Cursor::new(first.payload);
    let count = varint(&mut cursor).filter(|count| (1..=COLUMNS_MAX).contains(count));
    if count.is_none() || cursor.rest().len() > 1 {
        return false;
    }
    let mut columns = 0;
    for number in 2..PACKETS_MAX as u8 {
        let Some((packet, behind)) = Packet::split(rest) else { break };
        if packet.number != number || Some(columns) == count {
            break;
        }
        if !is_column(&packet) {
            return false;
        }
        (columns, rest) = (columns + 1, behind);
    }
    columns > 0
}

/// Catalog, five other names, and numbers; a row that begins so and has one column is shorter.
const COLUMN_BYTES_MIN: u64 = 22;

fn is_column(packet: &Packet<'_>) -> bool {
    packet.payload.starts_with(b"\x03def") && packet.payload_bytes >= COLUMN_BYTES_MIN
}

fn is_error(packet: &Packet<'_>) -> bool {
    let [_, low, high, b'#', state @ ..] = packet.payload else { return false };
    let code = u16::from_le_bytes([*low, *high]);
    code >= 1_000 && state.len() >= 5 && state[..5].iter().all(u8::is_ascii_alphanumeric)
}

/// An OK packet that is no longer than it says.
fn is_done(packet: &Packet<'_>) -> bool {
    // Bits of states that servers have.
    let fits = Done::of(packet).is_some_and(|done| done.status != 0 && done.status & 0x8000 == 0);
    fits && (7..64).contains(&packet.payload_bytes)
}

/// The answer to a preparation, and what it describes.
fn is_prepared(packet: &Packet<'_>, rest: &[u8]) -> bool {
    let mut cursor = Cursor::new(packet.payload);
    let mut parts = || {
        cursor.skip(1)?;
        Some((cursor.u32_le()?, cursor.u16_le()?, cursor.u16_le()?, cursor.u8()?))
    };
    let Some((id, columns, parameters, zero)) = parts() else { return false };
    let follows = Packet::split(rest).is_some_and(|(next, _)| next.number == 2 && is_column(&next));
    packet.payload_bytes == 12
        && (1..1 << 24).contains(&id)
        && zero == 0
        && (follows == (columns > 0 || parameters > 0))
        && (follows || rest.is_empty())
}

/// What can end a list of rows, with an OK packet in place of an EOF packet.
const ENDS_BYTES: [usize; 2] = [HEAD_BYTES + 5, HEAD_BYTES + 7];

/// Where the packet begins that ends these bytes, if that is the end of rows.
pub(super) fn end_of_rows(bytes: &[u8]) -> Option<usize> {
    ENDS_BYTES.into_iter().find_map(|total| {
        let at = bytes.len().checked_sub(total)?;
        let (packet, rest) = Packet::split(&bytes[at..])?;
        let is_it = rest.is_empty() && is_end_of_rows(&packet);
        (is_it && packet.payload_bytes as usize + HEAD_BYTES == total).then_some(at)
    })
}

/// Behind at least a count, a column and the end of columns.
pub(super) fn is_end_of_rows(packet: &Packet<'_>) -> bool {
    packet.number != 1
        && packet.is_whole()
        && packet.ends_list()
        && Done::of(packet).is_some_and(|done| done.status != 0 && done.status & 0x8000 == 0)
}
