//! A response as its row shows it: the line of columns, a line a row, and the tag of each statement.

use super::session::COLUMNS_MAX;
use super::types::Column;
use super::values::{NULL, Seen, push_binary};
use crate::cursor::Cursor;
use crate::json_text::cut;

/// See the module's documentation. Text ends where the limit is, or where a part of it is missing.
#[derive(Debug, Default)]
pub(super) struct Reply {
    text: Vec<u8>,
    bytes_max: usize,
    has_line: bool,
    ends: bool,
    pub(super) columns: Vec<Column>,
    pub(super) begin_ns: i64,
    pub(super) end_ns: i64,
}

impl Reply {
    /// It begins then, and shows so many bytes.
    pub(super) fn begin(&mut self, begin_ns: i64, bytes_max: usize) {
        self.text.clear();
        self.columns.clear();
        (self.has_line, self.ends) = (false, false);
        (self.begin_ns, self.end_ns, self.bytes_max) = (begin_ns, begin_ns, bytes_max);
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.text.capacity() + self.columns.capacity() * size_of::<Column>()
    }

    /// What comes now is not shown: something is missing before it.
    pub(super) fn end(&mut self) {
        self.ends = true;
    }

    fn is_full(&self) -> bool {
        self.ends || self.text.len() >= self.bytes_max
    }

    fn push(&mut self, text: &[u8]) {
        let shown = cut(text, self.bytes_max.saturating_sub(self.text.len()));
        self.ends |= shown.len() < text.len();
        self.text.extend_from_slice(shown);
    }

    fn begin_line(&mut self) {
        if std::mem::replace(&mut self.has_line, true) {
            self.push(b"\n");
        }
    }

    pub(super) fn line(&mut self, text: &[u8]) {
        if !self.is_full() {
            self.begin_line();
            self.push(text);
        }
    }

    /// RowDescription: remembers the columns, and shows their names.
    pub(super) fn column_line(&mut self, payload: &[u8]) {
        self.columns.clear();
        let mut cursor = Cursor::new(payload);
        let count = usize::from(cursor.u16_be().unwrap_or_default()).min(COLUMNS_MAX);
        let shows = !self.is_full();
        if shows {
            self.begin_line();
        }
        for idx in 0..count {
            let Some(name) = cursor.until_zero() else { return };
            if shows && !self.is_full() {
                self.push(if idx > 0 { b"," } else { b"" });
                self.push(name);
            }
            let Some(column) = column(&mut cursor) else { return };
            self.columns.push(column);
        }
    }

    /// DataRow.
    pub(super) fn row_line(&mut self, payload: &[u8]) {
        if self.is_full() {
            return;
        }
        self.begin_line();
        let mut cursor = Cursor::new(payload);
        let count = usize::from(cursor.u16_be().unwrap_or_default());
        let mut binary = Vec::new();
        for idx in 0..count {
            if self.is_full() {
                return;
            }
            let Some(length) = cursor.i32_be() else { return };
            self.push(if idx > 0 { b"," } else { b"" });
            let Ok(length) = usize::try_from(length) else {
                self.push(NULL);
                continue;
            };
            let value = cursor.up_to(length);
            let column = self.columns.get(idx).copied().unwrap_or_default();
            let is_whole = value.len() == length;
            match column.is_binary {
                true => {
                    binary.clear();
                    push_binary(&mut binary, column.type_id, Seen { bytes: value, is_whole });
                    self.push(&binary);
                }
                false => self.push(value),
            }
            self.ends |= !is_whole;
        }
    }

    /// ErrorResponse: the fields that say what happened.
    pub(super) fn error_line(&mut self, payload: &[u8]) {
        if self.is_full() {
            return;
        }
        self.begin_line();
        self.push(b"ERROR RESPONSE [");
        let mut cursor = Cursor::new(payload);
        let mut has_one = false;
        while let Some(field) = cursor.u8().filter(|field| *field != 0) {
            let whole = cursor;
            let value = cursor.until_zero();
            let name: &[u8] = match field {
                b'S' => b"Severity=",
                b'C' => b"Code=",
                b'M' => b"Message=",
                _ => continue,
            };
            self.push(if std::mem::replace(&mut has_one, true) { b" " } else { b"" });
            self.push(name);
            self.push(value.unwrap_or(whole.rest()));
            if value.is_none() {
                self.ends = true;
                return;
            }
        }
        self.push(b"]");
    }
}

/// What follows a column's name.
fn column(cursor: &mut Cursor<'_>) -> Option<Column> {
    cursor.skip(6)?;
    let type_id = cursor.u32_be()?;
    cursor.skip(6)?;
    Some(Column { type_id, is_binary: cursor.u16_be()? == 1 })
}

/// The list of types behind a count (ParameterDescription, Parse).
pub(super) fn type_ids(cursor: &mut Cursor<'_>) -> Vec<u32> {
    let count = cursor.u16_be().unwrap_or_default();
    (0..count).map_while(|_| cursor.u32_be()).collect()
}
