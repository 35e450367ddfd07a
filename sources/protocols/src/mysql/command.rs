//! Commands as their rows show them.

use super::login::{Abilities, change_user};
use super::parse::{Packet, string, varint};
use super::session::{Session, Statement};
use super::types::command;
use super::values::{NULL, Type, is_type, push_value};
use crate::Config;
use crate::cursor::Cursor;
use crate::json_text::cut;
use crate::shown::push_text;

/// Parameters that are tried for a statement whose number of them is not known.
const GUESSED_PARAMETERS_MAX: usize = 256;
/// Stands for the statement that was prepared last.
const LAST_STATEMENT: u32 = u32::MAX;
/// Flag of an execution: the number of values comes with it.
const HAS_COUNT: u8 = 8;

/// What a command's text depends on.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) session: &'a mut Session,
    pub(super) abilities: Abilities,
    /// Of the statement whose preparation was asked for last.
    pub(super) last_prepared: &'a mut Vec<u8>,
    pub(super) config: &'a Config,
}

impl Reading<'_> {
    /// The text of a command, whose packet is not empty.
    pub(super) fn body(&mut self, packet: &Packet<'_>) -> Vec<u8> {
        let Some((&code, payload)) = packet.payload.split_first() else { return Vec::new() };
        let mut cursor = Cursor::new(payload);
        let mut body = Vec::new();
        match code {
            command::QUERY => {
                self.config.push_statement(&mut body, self.query(payload));
            }
            command::STMT_PREPARE => {
                self.config.push_statement(&mut body, payload);
                self.last_prepared.clone_from(&body);
            }
            command::INIT_DB | command::CREATE_DB | command::DROP_DB => {
                body.extend_from_slice(cut(payload, self.config.body_bytes_max));
            }
            command::FIELD_LIST => {
                let table = cursor.until_zero().unwrap_or(payload);
                body.extend_from_slice(cut(table, self.config.body_bytes_max));
            }
            command::CHANGE_USER => {
                let (user, db) = change_user(payload);
                body = login_text(user, db);
                self.session.clear();
            }
            command::RESET_CONNECTION => self.session.clear(),
            command::STMT_CLOSE => {
                if let Some(id) = cursor.u32_le() {
                    self.session.close(id);
                }
            }
            command::STMT_RESET => {
                if let Some(id) = cursor.u32_le() {
                    self.session.change(id, |statement| statement.long_values.clear());
                }
            }
            command::STMT_SEND_LONG_DATA => {
                if let (Some(id), Some(parameter)) = (cursor.u32_le(), cursor.u16_le()) {
                    let max = self.config.body_bytes_max;
                    self.session.add_long_value(id, parameter, cursor.rest(), max);
                }
            }
            command::STMT_EXECUTE => return self.execution(payload, packet.is_whole()),
            command::STMT_BULK_EXECUTE => {
                let id = cursor.u32_le().unwrap_or_default();
                body = self.begin_execution(id);
                body.push(b']');
            }
            _ => {}
        }
        body
    }

    /// The statement's text, behind attributes.
    fn query<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        // No statement begins so.
        let has_attributes = self.abilities.query_attributes()
            || (!self.abilities.is_known && payload.starts_with(&[0, 1]));
        if !has_attributes {
            return payload;
        }
        let mut cursor = Cursor::new(payload);
        let behind = |cursor: &mut Cursor<'a>| {
            let count = usize::try_from(varint(cursor)?).ok()?;
            varint(cursor)?;
            if count > 0 {
                let values = Values { count, named: true, known: &[], is_sent: |_| None };
                values.read(cursor, &mut Vec::new(), 0).is_whole.then_some(())?;
            }
            Some(cursor.rest())
        };
        behind(&mut cursor).unwrap_or(&[])
    }

    fn begin_execution(&self, id: u32) -> Vec<u8> {
        let text = match id {
            LAST_STATEMENT => self.last_prepared.as_slice(),
            id => self.session.get(id).map_or(&[][..], |statement| &statement.text),
        };
        [b"query=[", text, b"] params=["].concat()
    }

    fn execution(&mut self, payload: &[u8], is_whole: bool) -> Vec<u8> {
        let mut cursor = Cursor::new(payload);
        let id = cursor.u32_le().unwrap_or_default();
        let mut body = self.begin_execution(id);
        let id = match id {
            LAST_STATEMENT => self.session.last().unwrap_or(id),
            id => id,
        };
        let flags = cursor.u8().unwrap_or_default();
        let begins = cursor.skip(4).is_some();
        if begins && !cursor.is_empty() {
            let named = flags & HAS_COUNT != 0 && self.abilities.query_attributes();
            let max = self.config.body_bytes_max;
            self.session.change(id, |statement| {
                push_values(&mut body, cursor, statement, named, max, is_whole);
                statement.long_values.clear();
            });
        }
        body.push(b']');
        body
    }
}

/// Appends an execution's values, and remembers their types.
fn push_values(
    body: &mut Vec<u8>,
    mut cursor: Cursor<'_>,
    statement: &mut Statement,
    named: bool,
    bytes_max: usize,
    is_whole: bool,
) {
    let count =
        if named { varint(&mut cursor).map(|count| count as usize) } else { statement.parameters };
    let long_values = &statement.long_values;
    let is_sent = |idx: usize| {
        let idx = u16::try_from(idx).ok()?;
        long_values.get(&idx).map(Vec::as_slice)
    };
    let count = count.or_else(|| {
        let fits = |count: usize| {
            let values = Values { count, named: false, known: &[], is_sent };
            let mut whole = cursor;
            values.read(&mut whole, &mut Vec::new(), 0).is_whole && whole.is_empty()
        };
        let mut found = (1..=GUESSED_PARAMETERS_MAX).filter(|count| is_whole && fits(*count));
        found.next().filter(|_| found.next().is_none())
    });
    let Some(count) = count.filter(|count| *count <= usize::from(u16::MAX)) else { return };
    let values = Values { count, named, known: &statement.types, is_sent };
    let read = values.read(&mut cursor, body, bytes_max);
    if let Some(types) = read.types {
        statement.types = types;
    }
    if !named && read.is_whole {
        statement.parameters = Some(count);
    }
}

/// How values follow each other: which are null, then their types, then they.
struct Values<'a, F> {
    count: usize,
    /// Each type has a name.
    named: bool,
    /// Types from before.
    known: &'a [Type],
    /// What was sent of a value before, in pieces.
    is_sent: F,
}

#[derive(Default)]
struct Read {
    is_whole: bool,
    types: Option<Vec<Type>>,
}

impl<'v, F: Fn(usize) -> Option<&'v [u8]>> Values<'_, F> {
    fn read(&self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>, bytes_max: usize) -> Read {
        let mut read = Read::default();
        let Some(nulls) = cursor.bytes(self.count.div_ceil(8)) else { return read };
        match cursor.u8() {
            Some(1) => {
                read.types = self.types(cursor);
                if read.types.is_none() {
                    return read;
                }
            }
            Some(0) if self.known.len() == self.count => {}
            _ => return read,
        }
        let types = read.types.as_deref().unwrap_or(self.known);
        let (from, mut value) = (out.len(), Vec::new());
        for (idx, of) in types.iter().enumerate() {
            value.clear();
            let is_null = nulls[idx / 8] >> (idx % 8) & 1 != 0;
            let is_there = match (is_null, (self.is_sent)(idx)) {
                (true, _) => {
                    value.extend_from_slice(NULL);
                    Some(())
                }
                (false, Some(sent)) => {
                    push_text(&mut value, sent);
                    Some(())
                }
                (false, None) => push_value(&mut value, *of, cursor, bytes_max),
            };
            let left = bytes_max.saturating_sub(out.len() - from);
            if left > 0 {
                out.extend_from_slice(if idx > 0 && !(is_there.is_none() && value.is_empty()) {
                    b", "
                } else {
                    b""
                });
                out.extend_from_slice(cut(&value, left));
            }
            if is_there.is_none() {
                return read;
            }
        }
        read.is_whole = true;
        read
    }

    fn types(&self, cursor: &mut Cursor<'_>) -> Option<Vec<Type>> {
        let mut types = Vec::new();
        for _ in 0..self.count {
            let (code, flags) = (cursor.u8()?, cursor.u8()?);
            (is_type(code) && flags & 0x7f == 0).then_some(())?;
            types.push(Type { code, is_unsigned: flags & 0x80 != 0 });
            if self.named {
                string(cursor)?;
            }
        }
        Some(types)
    }
}

/// `user=… db=…`.
pub(super) fn login_text(user: &[u8], db: &[u8]) -> Vec<u8> {
    [b"user=", cut(user, 256), b" db=", cut(db, 256)].concat()
}
