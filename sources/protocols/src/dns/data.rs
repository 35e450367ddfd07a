//! What a record holds, in the presentation form of zone files, without final dots.
//!
//! Types that are not known here, and data that do not fit their type, are written as RFC 3597 has
//! it: `\# LENGTH HEX`.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::parse::{Cursor, Record, push_number};
use super::table::push_int;
use super::types::push_type;
use crate::json_text::push_base64;

/// Appends a record's data.
pub(super) fn push_data(message: &[u8], record: &Record, out: &mut Vec<u8>) {
    let end = record.data_at.saturating_add(record.data_bytes);
    let from = out.len();
    // Names in data may point to anywhere before, but nothing is read behind them.
    let known = message.get(..end).and_then(|message| {
        let mut data = Data { cursor: Cursor::new(message, record.data_at), end, out };
        data.push(record.rtype)?;
        (data.cursor.at == end).then_some(())
    });
    if known.is_none() {
        out.truncate(from);
        let there = message.get(record.data_at..).unwrap_or_default();
        push_unknown(&there[..there.len().min(record.data_bytes)], record.data_bytes, out);
    }
}

fn push_unknown(there: &[u8], bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\# ");
    push_int(bytes as u64, out);
    if !there.is_empty() {
        out.push(b' ');
        push_hex(there, out);
    }
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

struct Data<'a, 'o> {
    cursor: Cursor<'a>,
    end: usize,
    out: &'o mut Vec<u8>,
}

impl<'a> Data<'a, '_> {
    fn push(&mut self, rtype: u16) -> Option<()> {
        match rtype {
            1 => self.ipv4(),
            28 => self.ipv6(),
            2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => self.name(),
            6 => self.fields("nnLLLLL"),
            14 | 17 => self.fields("nn"),
            13 | 16 | 56 | 99 | 258 => self.texts(),
            15 | 18 | 21 | 36 | 107 => self.fields("Wn"),
            26 => self.fields("Wnn"),
            33 => self.fields("WWWn"),
            35 => self.fields("WWtttn"),
            256 => self.fields("WWT"),
            257 => self.fields("BwT"),
            43 | 59 | 32768 | 32769 => self.fields("WBBh"),
            44 => self.fields("BBh"),
            52 | 53 => self.fields("BBBh"),
            48 | 60 | 25 => self.fields("WBBb"),
            46 | 24 => self.fields("yBBLddWnb"),
            47 => self.fields("nm"),
            49 | 61 => self.fields("b"),
            63 => self.fields("LBBh"),
            64 | 65 => self.service(),
            _ => None,
        }
    }

    /// One field a letter: integers of 1, 2, 4 bytes (`B`, `W`, `L`), a date (`d`), a type (`y`), a
    /// name (`n`), a text (`t`), a word (`w`), the rest as text, hex, base64 or a set of types (`T`,
    /// `h`, `b`, `m`).
    fn fields(&mut self, kinds: &str) -> Option<()> {
        for (idx, kind) in kinds.bytes().enumerate() {
            if idx > 0 {
                self.out.push(b' ');
            }
            match kind {
                b'B' => push_int(u64::from(self.cursor.byte()?), self.out),
                b'W' => push_int(u64::from(self.cursor.u16()?), self.out),
                b'L' => push_int(u64::from(self.cursor.u32()?), self.out),
                b'd' => push_date(self.cursor.u32()?, self.out),
                b'y' => push_type(self.cursor.u16()?, self.out),
                b'n' => self.name()?,
                b't' => self.text()?,
                b'w' => {
                    let length = usize::from(self.cursor.byte()?);
                    let word = self.cursor.bytes(length)?;
                    push_text(word, self.out);
                }
                b'T' => {
                    let rest = self.rest()?;
                    self.out.push(b'"');
                    push_text(rest, self.out);
                    self.out.push(b'"');
                }
                b'h' => push_hex(self.rest()?, self.out),
                b'b' => push_base64(self.rest()?, self.out),
                _ => self.type_set()?,
            }
        }
        Some(())
    }

    fn rest(&mut self) -> Option<&'a [u8]> {
        self.cursor.bytes(self.end.checked_sub(self.cursor.at)?)
    }

    fn ipv4(&mut self) -> Option<()> {
        let bytes: [u8; 4] = self.cursor.bytes(4)?.try_into().ok()?;
        write!(self.out, "{}", Ipv4Addr::from(bytes)).ok()
    }

    fn ipv6(&mut self) -> Option<()> {
        let bytes: [u8; 16] = self.cursor.bytes(16)?.try_into().ok()?;
        write!(self.out, "{}", Ipv6Addr::from(bytes)).ok()
    }

    fn name(&mut self) -> Option<()> {
        self.cursor.name(self.out)
    }

    fn text(&mut self) -> Option<()> {
        let length = usize::from(self.cursor.byte()?);
        let text = self.cursor.bytes(length)?;
        self.out.push(b'"');
        push_text(text, self.out);
        self.out.push(b'"');
        Some(())
    }

    fn texts(&mut self) -> Option<()> {
        loop {
            self.text()?;
            if self.cursor.at >= self.end {
                return Some(());
            }
            self.out.push(b' ');
        }
    }

    /// Windows of 256 types, a bit each.
    fn type_set(&mut self) -> Option<()> {
        let mut first = true;
        while self.cursor.at < self.end {
            let (window, length) = (self.cursor.byte()?, usize::from(self.cursor.byte()?));
            for (idx, byte) in self.cursor.bytes(length)?.iter().enumerate() {
                for bit in (0..8).filter(|bit| byte & 0x80 >> bit != 0) {
                    let low = u8::try_from(idx * 8 + bit).ok()?;
                    if !std::mem::take(&mut first) {
                        self.out.push(b' ');
                    }
                    push_type(u16::from_be_bytes([window, low]), self.out);
                }
            }
        }
        Some(())
    }

    /// SVCB and HTTPS: priority, target, parameters.
    fn service(&mut self) -> Option<()> {
        self.fields("Wn")?;
        while self.cursor.at < self.end {
            let (key, length) = (self.cursor.u16()?, usize::from(self.cursor.u16()?));
            let value = self.cursor.bytes(length)?;
            self.out.push(b' ');
            self.parameter(key, value)?;
        }
        Some(())
    }

    fn parameter(&mut self, key: u16, value: &[u8]) -> Option<()> {
        let out = &mut *self.out;
        match key {
            0 => {
                out.extend_from_slice(b"mandatory=");
                push_list(value.chunks(2), out, |key, out| {
                    let key: [u8; 2] = key.try_into().ok()?;
                    push_key(u16::from_be_bytes(key), out);
                    Some(())
                })
            }
            1 => {
                out.extend_from_slice(b"alpn=");
                let mut names = Cursor::new(value, 0);
                let mut first = true;
                while names.at < value.len() {
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    let length = usize::from(names.byte()?);
                    push_text(names.bytes(length)?, out);
                }
                Some(())
            }
            2 => {
                out.extend_from_slice(b"no-default-alpn");
                Some(())
            }
            3 => {
                out.extend_from_slice(b"port=");
                let port: [u8; 2] = value.try_into().ok()?;
                push_int(u64::from(u16::from_be_bytes(port)), out);
                Some(())
            }
            4 => {
                out.extend_from_slice(b"ipv4hint=");
                push_list(value.chunks(4), out, |one, out| {
                    let one: [u8; 4] = one.try_into().ok()?;
                    write!(out, "{}", Ipv4Addr::from(one)).ok()
                })
            }
            5 => {
                out.extend_from_slice(b"ech=");
                push_base64(value, out);
                Some(())
            }
            6 => {
                out.extend_from_slice(b"ipv6hint=");
                push_list(value.chunks(16), out, |one, out| {
                    let one: [u8; 16] = one.try_into().ok()?;
                    write!(out, "{}", Ipv6Addr::from(one)).ok()
                })
            }
            _ => {
                push_key(key, out);
                out.extend_from_slice(b"=\"");
                push_text(value, out);
                out.push(b'"');
                Some(())
            }
        }
    }
}

fn push_key(key: u16, out: &mut Vec<u8>) {
    let names = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];
    match names.get(usize::from(key)) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => {
            out.extend_from_slice(b"key");
            push_int(u64::from(key), out);
        }
    }
}

fn push_list<'v>(
    parts: impl Iterator<Item = &'v [u8]>,
    out: &mut Vec<u8>,
    push: impl Fn(&[u8], &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    for (idx, part) in parts.enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        push(part, out)?;
    }
    Some(())
}

/// A text between quotes: quotes and backslashes escaped, what is not printable by number.
fn push_text(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => push_number(byte, out),
        }
    }
}

/// `YYYYMMDDHHmmSS` of Unix seconds, which go to 2106.
fn push_date(seconds: u32, out: &mut Vec<u8>) {
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let is_leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while day >= 365 + u32::from(is_leap(year)) {
        day -= 365 + u32::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u32::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    // Writing to a vector does not fail.
    let _ = write!(out, "{year:04}{month:02}{:02}{hour:02}{minute:02}{second:02}", day + 1);
}
