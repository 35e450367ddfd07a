//! Heads, and what messages are made of behind them.

use super::bson::{Document, Reader, Stop};
use super::packed;
use super::recognise::{is_message, may_become};
use super::types::{
    CHECKSUM_PRESENT, FLAGS_UNKNOWN, HEAD_BYTES, Head, MESSAGE_BYTES_MAX, MORE_TO_COME, OP_COMMAND,
    OP_COMMAND_REPLY, OP_COMPRESSED, OP_DELETE, OP_GET_MORE, OP_INSERT, OP_KILL_CURSORS, OP_MSG,
    OP_QUERY, OP_REPLY, OP_UPDATE, QUERY_EXHAUST, SEQUENCES_MAX,
};
use crate::Side;
use crate::cursor::Cursor;
use crate::frames;

/// Messages as [`crate::frames`] tells them apart.
#[derive(Debug)]
pub(super) struct Messages;

impl frames::Framing for Messages {
    fn head(&self, side: Side, bytes: &[u8]) -> frames::Head {
        match head(bytes) {
            None if bytes.len() < HEAD_BYTES => frames::Head::Short,
            Some(head) if may_be_of(side, head.op_code) => frames::Head::Bytes(head.total_bytes),
            _ => frames::Head::Invalid,
        }
    }

    fn find(&self, side: Side, bytes: &[u8]) -> Option<usize> {
        is_message(side, bytes).then_some(0)
    }

    fn may_find(&self, _side: Side, bytes: &[u8]) -> bool {
        may_become(bytes)
    }
}

/// Which kinds a side sends.
fn may_be_of(side: Side, op_code: u32) -> bool {
    match op_code {
        OP_MSG | OP_COMPRESSED => true,
        OP_REPLY | OP_COMMAND_REPLY => side == Side::Response,
        _ => side == Side::Request,
    }
}

/// The head of a message of a known kind, and of a length that such a one may have.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    let mut cursor = Cursor::new(bytes);
    let total_bytes = u64::from(cursor.u32_le()?);
    let (request_id, response_to) = (cursor.u32_le()? as i32, cursor.u32_le()? as i32);
    let op_code = cursor.u32_le()?;
    let is_long_enough = match op_code {
        OP_COMPRESSED => packed::has_room(total_bytes),
        // Flags and a document; or a number, a name, a document; or four numbers.
        OP_MSG | OP_REPLY | OP_QUERY | OP_UPDATE | OP_INSERT | OP_DELETE | OP_GET_MORE
        | OP_KILL_CURSORS | OP_COMMAND | OP_COMMAND_REPLY => total_bytes >= HEAD_BYTES as u64 + 8,
        _ => false,
    };
    let is_head = is_long_enough && total_bytes <= MESSAGE_BYTES_MAX;
    is_head.then_some(Head { total_bytes, request_id, response_to, op_code })
}

/// A series of documents under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence<'a> {
    pub(super) name: &'a [u8],
    pub(super) documents: Reader<'a>,
}

/// A message behind its head.
#[derive(Debug)]
pub(super) enum Message<'a> {
    Msg(Msg<'a>),
    Reply(Reply<'a>),
    Query(Query<'a>),
    /// What writes and is not answered; the document is of deletes and updates.
    Insert {
        to: &'a [u8],
        documents: Reader<'a>,
    },
    Update {
        to: &'a [u8],
        flags: u32,
        which: Document<'a>,
        change: Option<Document<'a>>,
    },
    Delete {
        to: &'a [u8],
        flags: u32,
        which: Document<'a>,
    },
    GetMore {
        of: &'a [u8],
        count: i32,
        cursor: i64,
    },
    KillCursors {
        cursors: Reader<'a>,
    },
    /// What is not read.
    Other,
}

/// OP_MSG, as far as it is there.
#[derive(Debug)]
pub(super) struct Msg<'a> {
    flags: u32,
    pub(super) body: Option<Document<'a>>,
    pub(super) sequences: Vec<Sequence<'a>>,
}

impl Msg<'_> {
    pub(super) fn has_more(&self) -> bool {
        self.flags & MORE_TO_COME != 0
    }
}

#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) flags: u32,
    pub(super) cursor: i64,
    pub(super) from: i32,
    pub(super) documents: Reader<'a>,
}

#[derive(Debug)]
pub(super) struct Query<'a> {
    flags: u32,
    pub(super) of: &'a [u8],
    pub(super) skip: i32,
    pub(super) count: i32,
    pub(super) query: Document<'a>,
    pub(super) fields: Option<Document<'a>>,
}

impl Query<'_> {
    pub(super) fn is_exhaust(&self) -> bool {
        self.flags & QUERY_EXHAUST != 0
    }
}

/// A message's bytes behind its head, and how many it has: fewer may be there.
pub(super) fn message(op_code: u32, bytes: &[u8], total: usize) -> Result<Message<'_>, Stop> {
    let mut reader = Reader::new(&bytes[..bytes.len().min(total)], bytes.len() >= total);
    match op_code {
        OP_MSG => msg(bytes, total).map(Message::Msg),
        OP_REPLY => {
            let flags = reader.u32()?;
            let (cursor, from) = (reader.u64()? as i64, reader.u32()? as i32);
            reader.u32()?;
            Ok(Message::Reply(Reply { flags, cursor, from, documents: reader }))
        }
        OP_QUERY => {
            let (flags, of) = (reader.u32()?, reader.until_zero()?);
            let (skip, count) = (reader.u32()? as i32, reader.u32()? as i32);
            let query = reader.document()?;
            let fields = if reader.is_empty() { None } else { reader.document().ok() };
            Ok(Message::Query(Query { flags, of, skip, count, query, fields }))
        }
        OP_INSERT => {
            reader.u32()?;
            let to = reader.until_zero()?;
            Ok(Message::Insert { to, documents: reader })
        }
        OP_UPDATE | OP_DELETE => {
            reader.u32()?;
            let (to, flags) = (reader.until_zero()?, reader.u32()?);
            let which = reader.document()?;
            if op_code == OP_DELETE {
                return Ok(Message::Delete { to, flags, which });
            }
            let change = if reader.is_empty() { None } else { reader.document().ok() };
            Ok(Message::Update { to, flags, which, change })
        }
        OP_GET_MORE => {
            reader.u32()?;
            let (of, count) = (reader.until_zero()?, reader.u32()? as i32);
            Ok(Message::GetMore { of, count, cursor: reader.u64()? as i64 })
        }
        OP_KILL_CURSORS => {
            reader.u32()?;
            reader.u32()?;
            Ok(Message::KillCursors { cursors: reader })
        }
        _ => Ok(Message::Other),
    }
}

/// Sections up to the checksum, if there is one. It is not looked at: whoever sent it did.
fn msg(bytes: &[u8], total: usize) -> Result<Msg<'_>, Stop> {
    let flags = Reader::new(bytes, bytes.len() >= total).u32()?;
    if flags & FLAGS_UNKNOWN != 0 {
        return Err(Stop::Invalid);
    }
    let end = total.saturating_sub(if flags & CHECKSUM_PRESENT != 0 { 4 } else { 0 });
    let inside = bytes.get(4..bytes.len().min(end)).unwrap_or_default();
    let mut reader = Reader::new(inside, bytes.len() >= end);
    let mut msg = Msg { flags, body: None, sequences: Vec::new() };
    while !reader.is_empty() {
        match section(&mut reader, &mut msg) {
            Ok(()) => {}
            Err(Stop::Cut) => break,
            Err(Stop::Invalid) => return Err(Stop::Invalid),
        }
    }
    Ok(msg)
}

fn section<'a>(reader: &mut Reader<'a>, msg: &mut Msg<'a>) -> Result<(), Stop> {
    match reader.u8()? {
        0 if msg.body.is_none() => msg.body = Some(reader.document()?),
        1 if msg.sequences.len() < SEQUENCES_MAX => {
            // The length counts itself.
            let (inside, is_whole) = reader.counted(4)?;
            let mut documents = Reader::new(inside, is_whole);
            let name = documents.until_zero()?;
            msg.sequences.push(Sequence { name, documents });
        }
        _ => return Err(Stop::Invalid),
    }
    Ok(())
}
