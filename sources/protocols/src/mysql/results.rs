//! A response, packet by packet: which of them belong to it, and what its row says.

use std::io::Write;

use super::login::Abilities;
use super::parse::{Done, PAYLOAD_BYTES_MAX, Packet, varint};
use super::types::{
    CURSOR_EXISTS, EOF, ERR, LOCAL_INFILE, MORE_RESULTS, OK, command, is_stream, status,
};
use crate::cursor::Cursor;

/// Columns that a table can have.
pub(super) const COLUMNS_MAX: u64 = 4_096;
/// Text of a response; each result adds a few words.
const TEXT_BYTES_MAX: usize = 4_096;

/// No list's end is larger: an error's text has 512 bytes at the most.
const END_BYTES_MAX: u64 = 1_024;

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// A result begins.
    #[default]
    Result,
    Columns {
        left: u64,
    },
    ColumnsEnd,
    Rows,
    /// Packets that describe a statement's parameters and columns.
    Described {
        left: u64,
    },
    /// Columns of a table, up to the end of the list.
    Fields,
}

/// What a packet was to the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More follows.
    Goes,
    /// Its last one.
    Over,
    /// None of it.
    Wrong,
    /// Its last one; and the statement has this number, and so many parameters.
    Prepared { id: u32, parameters: usize },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Results {
    at: At,
    rows: u64,
    results: u32,
    pub(super) text: Vec<u8>,
    pub(super) status: i64,
    /// The last packet's payload goes on in the next one.
    continues: bool,
    prepared: Option<(u32, usize)>,
    /// The client is to send a file.
    pub(super) takes_file: bool,
    /// What was taken for the end is it for certain.
    pub(super) is_end_known: bool,
    /// A packet of the answer was read.
    pub(super) has_begun: bool,
    pub(super) begin_ns: i64,
    pub(super) end_ns: i64,
}

impl Results {
    pub(super) fn begin(&mut self, begin_ns: i64) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let is_end_known = true;
        *self = Results { text, is_end_known, begin_ns, end_ns: begin_ns, ..Results::default() };
    }

    /// The client's packets may come between the server's.
    pub(super) fn may_interleave(&self, code: u8) -> bool {
        matches!(code, command::CONNECT | command::CHANGE_USER) || self.takes_file
    }

    pub(super) fn packet(&mut self, code: u8, packet: &Packet<'_>, abilities: Abilities) -> Step {
        let continued =
            std::mem::replace(&mut self.continues, packet.payload_bytes == PAYLOAD_BYTES_MAX);
        if continued {
            return Step::Goes;
        }
        let is_list = matches!(self.at, At::ColumnsEnd | At::Rows | At::Fields);
        if is_list
            && packet.payload.is_empty()
            && (1..=END_BYTES_MAX).contains(&packet.payload_bytes)
        {
            // Too little of it was seen to tell a row from the end.
            return Step::Wrong;
        }
        if is_progress(packet) {
            return Step::Goes;
        }
        if packet.first() == Some(ERR) && packet.payload.len() < PROGRESS.len() {
            // Too little of it was seen to tell progress from an error.
            return Step::Wrong;
        }
        self.has_begun = true;
        if packet.first() == Some(ERR) && packet.payload_bytes < PAYLOAD_BYTES_MAX {
            self.error(packet);
            return Step::Over;
        }
        match self.at {
            At::Result => self.result(code, packet, abilities),
            At::Columns { left } => {
                let mut cursor = Cursor::new(packet.payload);
                let is_column = super::parse::string(&mut cursor) == Some(b"def");
                if !is_column && packet.is_whole() {
                    return Step::Wrong;
                }
                self.at = if left > 1 { At::Columns { left: left - 1 } } else { At::ColumnsEnd };
                Step::Goes
            }
            At::ColumnsEnd if packet.is_eof() => {
                self.at = At::Rows;
                match Done::of(packet) {
                    Some(done) if done.status & CURSOR_EXISTS != 0 => self.end_rows(packet),
                    _ => Step::Goes,
                }
            }
            At::ColumnsEnd | At::Rows if packet.ends_list() => self.end_rows(packet),
            At::ColumnsEnd | At::Rows => {
                self.at = At::Rows;
                self.rows += 1;
                Step::Goes
            }
            At::Described { left } => self.described(packet, left, abilities),
            At::Fields if packet.ends_list() => self.ok(),
            At::Fields => Step::Goes,
        }
    }

    /// The first packet of a result.
    fn result(&mut self, code: u8, packet: &Packet<'_>, abilities: Abilities) -> Step {
        let first = packet.first();
        let has_rows = matches!(
            code,
            command::QUERY
                | command::STMT_EXECUTE
                | command::STMT_BULK_EXECUTE
                | command::PROCESS_INFO
        );
        match (code, first) {
            (command::CONNECT | command::CHANGE_USER, Some(OK)) => self.done(packet),
            // Too little of it was seen to tell the last one.
            (command::CONNECT | command::CHANGE_USER, None) => Step::Wrong,
            // Another way to prove who one is, or more to prove.
            (command::CONNECT | command::CHANGE_USER, _) => Step::Goes,
            (code, _) if is_stream(code) => self.ok(),
            (command::STATISTICS, _) => {
                self.push(packet.payload);
                self.ok()
            }
            (command::FIELD_LIST, _) if packet.ends_list() => self.ok(),
            (command::FIELD_LIST, _) => {
                self.at = At::Fields;
                Step::Goes
            }
            (command::STMT_FETCH, _) if packet.ends_list() => self.end_rows(packet),
            (command::STMT_FETCH, _) => {
                self.at = At::Rows;
                self.rows = 1;
                Step::Goes
            }
            (command::STMT_PREPARE, Some(OK)) => self.prepared(packet, abilities),
            (_, Some(OK)) => self.done(packet),
            (_, Some(EOF)) if !has_rows && packet.is_eof() => self.ok(),
            (_, Some(EOF)) if !has_rows => self.done(packet),
            (command::QUERY, Some(LOCAL_INFILE)) if self.results == 0 => {
                self.takes_file = true;
                Step::Goes
            }
            (_, Some(_)) if has_rows => self.columns(packet, abilities),
            _ => Step::Wrong,
        }
    }

    fn columns(&mut self, packet: &Packet<'_>, abilities: Abilities) -> Step {
        let mut cursor = Cursor::new(packet.payload);
        let mut are_described = true;
        if abilities.may_omit_columns_before() {
            are_described = cursor.u8() != Some(0);
        }
        let Some(count) = varint(&mut cursor).filter(|count| (1..=COLUMNS_MAX).contains(count))
        else {
            return Step::Wrong;
        };
        if abilities.may_omit_columns() {
            are_described = cursor.u8() != Some(0);
        }
        if !cursor.is_empty() {
            return Step::Wrong;
        }
        self.rows = 0;
        self.at = if are_described { At::Columns { left: count } } else { At::ColumnsEnd };
        Step::Goes
    }

    fn prepared(&mut self, packet: &Packet<'_>, abilities: Abilities) -> Step {
        let mut cursor = Cursor::new(packet.payload);
        let mut parts = || {
            cursor.skip(1)?;
            Some((cursor.u32_le()?, cursor.u16_le()?, cursor.u16_le()?))
        };
        let Some((id, columns, parameters)) = parts() else {
            self.is_end_known = false;
            return self.ok();
        };
        self.status = status::OK;
        let ends = |count: u16| u64::from(count > 0 && abilities.has_eof());
        let left = u64::from(columns) + ends(columns) + u64::from(parameters) + ends(parameters);
        let parameters = usize::from(parameters);
        if left == 0 {
            return Step::Prepared { id, parameters };
        }
        self.prepared = Some((id, parameters));
        self.at = At::Described { left };
        Step::Goes
    }

    fn described(&mut self, packet: &Packet<'_>, left: u64, abilities: Abilities) -> Step {
        // Nobody said whether lists are ended.
        self.is_end_known = abilities.is_known;
        let is_extra = packet.is_eof() && !abilities.has_eof();
        let left = if is_extra { left } else { left - 1 };
        self.at = At::Described { left };
        match self.prepared {
            Some((id, parameters)) if left == 0 => Step::Prepared { id, parameters },
            _ => Step::Goes,
        }
    }

    fn ok(&mut self) -> Step {
        self.status = status::OK;
        Step::Over
    }

    /// An OK packet.
    fn done(&mut self, packet: &Packet<'_>) -> Step {
        self.takes_file = false;
        self.status = status::OK;
        let Some(done) = Done::of(packet) else {
            self.is_end_known = false;
            return Step::Over;
        };
        // A procedure's own end is no result.
        if self.results == 0 || done.affected_rows > 0 {
            self.begin_result();
            // Writing to memory does not fail.
            let _ = write!(self.text, "affected_rows = {}", done.affected_rows);
        }
        self.more(done)
    }

    fn end_rows(&mut self, packet: &Packet<'_>) -> Step {
        self.status = status::OK;
        self.begin_result();
        // Writing to memory does not fail.
        let _ = write!(self.text, "Resultset rows = {}", self.rows);
        let done = Done::of(packet);
        self.is_end_known = done.is_some();
        done.map_or(Step::Over, |done| self.more(done))
    }

    fn more(&mut self, done: Done) -> Step {
        self.results += 1;
        self.rows = 0;
        self.at = At::Result;
        if done.status & MORE_RESULTS != 0 { Step::Goes } else { Step::Over }
    }

    fn begin_result(&mut self) {
        if !self.text.is_empty() && self.text.len() < TEXT_BYTES_MAX {
            self.text.extend_from_slice(b", ");
        }
        self.text.truncate(TEXT_BYTES_MAX);
    }

    fn push(&mut self, text: &[u8]) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend_from_slice(crate::json_text::cut(text, room));
    }

    fn error(&mut self, packet: &Packet<'_>) {
        let mut cursor = Cursor::new(packet.payload);
        let code = cursor.skip(1).and_then(|()| cursor.u16_le()).unwrap_or_default();
        let text = cursor.rest();
        // The state behind a sign, which old servers do not send.
        let text =
            if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
        self.status = status::ERROR;
        self.begin_result();
        // Writing to memory does not fail.
        let _ = write!(self.text, "{code} ");
        self.push(text);
    }
}

/// What says how far the server has come with a long command, which is MariaDB's, begins so; an error's number
/// is another.
const PROGRESS: [u8; 3] = [ERR, 0xff, 0xff];

fn is_progress(packet: &Packet<'_>) -> bool {
    packet.payload.starts_with(&PROGRESS) && packet.payload_bytes < PAYLOAD_BYTES_MAX
}
