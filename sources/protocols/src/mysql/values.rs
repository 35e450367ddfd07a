//! Values of prepared statements as rows show them.

use std::io::Write;

use super::parse::string;
use crate::cursor::Cursor;
use crate::shown::push_text;

pub(super) const NULL: &[u8] = b"NULL";

/// A parameter's type, as the client declared it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) code: u8,
    pub(super) is_unsigned: bool,
}

/// Whether there is such a type.
pub(super) fn is_type(code: u8) -> bool {
    matches!(code, 0x00..=0x10 | 0xf5..=0xff)
}

/// Reads a value and appends it; `None` if it is not all there, or no value of its type.
pub(super) fn push_value(
    out: &mut Vec<u8>,
    of: Type,
    cursor: &mut Cursor<'_>,
    bytes_max: usize,
) -> Option<()> {
    match of.code {
        0x06 => out.extend_from_slice(NULL),
        0x01 => push_int(out, u64::from(cursor.u8()?), 8, of.is_unsigned),
        0x02 | 0x0d => push_int(out, u64::from(cursor.u16_le()?), 16, of.is_unsigned),
        0x03 | 0x09 => push_int(out, u64::from(cursor.u32_le()?), 32, of.is_unsigned),
        0x08 => push_int(out, cursor.u64_le()?, 64, of.is_unsigned),
        0x04 => push_float(out, f64::from(f32::from_bits(cursor.u32_le()?)), true)?,
        0x05 => push_float(out, f64::from_bits(cursor.u64_le()?), false)?,
        0x07 | 0x0a | 0x0c => push_date(out, cursor)?,
        0x0b => push_time(out, cursor)?,
        code if is_type(code) => {
            let mut whole = *cursor;
            let length = super::parse::varint(&mut whole)?;
            let value = string(cursor)?;
            push_text(out, &value[..value.len().min(bytes_max)]);
            (value.len() as u64 == length).then_some(())?;
        }
        _ => return None,
    }
    Some(())
}

fn push_int(out: &mut Vec<u8>, value: u64, bits: u32, is_unsigned: bool) {
    let mut buffer = itoa::Buffer::new();
    let shift = 64 - bits;
    let text = match is_unsigned {
        true => buffer.format(value),
        false => buffer.format((value << shift).cast_signed() >> shift),
    };
    out.extend_from_slice(text.as_bytes());
}

fn push_float(out: &mut Vec<u8>, value: f64, is_single: bool) -> Option<()> {
    let is_plain = value == 0.0 || (1e-5..1e15).contains(&value.abs());
    match (is_plain, is_single) {
        (true, true) => write!(out, "{}", value as f32),
        (true, false) => write!(out, "{value}"),
        (false, true) => write!(out, "{:e}", value as f32),
        (false, false) => write!(out, "{value:e}"),
    }
    .ok()
}

/// `yyyy-mm-dd[ hh:mm:ss[.ffffff]]`.
fn push_date(out: &mut Vec<u8>, cursor: &mut Cursor<'_>) -> Option<()> {
    let length = cursor.u8()?;
    if ![0, 4, 7, 11].contains(&length) {
        return None;
    }
    let mut parts = Cursor::new(cursor.bytes(usize::from(length))?);
    let (year, month, day) = match length {
        0 => (0, 0, 0),
        _ => (parts.u16_le()?, parts.u8()?, parts.u8()?),
    };
    write!(out, "{year:04}-{month:02}-{day:02}").ok()?;
    if length >= 7 {
        write!(out, " {:02}:{:02}:{:02}", parts.u8()?, parts.u8()?, parts.u8()?).ok()?;
    }
    if length == 11 {
        write!(out, ".{:06}", parts.u32_le()?).ok()?;
    }
    Some(())
}

/// `[-]hh:mm:ss[.ffffff]`.
fn push_time(out: &mut Vec<u8>, cursor: &mut Cursor<'_>) -> Option<()> {
    let length = cursor.u8()?;
    if ![0, 8, 12].contains(&length) {
        return None;
    }
    let mut parts = Cursor::new(cursor.bytes(usize::from(length))?);
    if length == 0 {
        out.extend_from_slice(b"00:00:00");
        return Some(());
    }
    let sign = if parts.u8()? == 1 { "-" } else { "" };
    let hours = u64::from(parts.u32_le()?) * 24 + u64::from(parts.u8()?);
    write!(out, "{sign}{hours:02}:{:02}:{:02}", parts.u8()?, parts.u8()?).ok()?;
    if length == 12 {
        write!(out, ".{:06}", parts.u32_le()?).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of every type, as the server would write them; bytes that are none give nothing.
    #[test]
    fn values_of_every_type() {
        let shown = |code, is_unsigned, bytes: &[u8]| {
            let (mut out, mut cursor) = (Vec::new(), Cursor::new(bytes));
            let of = Type { code, is_unsigned };
            let found = push_value(&mut out, of, &mut cursor, 512);
            found.map(|()| (String::from_utf8(out).unwrap(), cursor.rest().len()))
        };
        let cases: [(u8, bool, &[u8], &str); 13] = [
            (0x01, false, &[0xff], "-1"),
            (0x01, true, &[0xff], "255"),
            (0x02, false, &[0, 0x80], "-32768"),
            (0x03, true, &[0xff; 4], "4294967295"),
            (0x08, false, &[0xff; 8], "-1"),
            (0x04, false, &1.5f32.to_le_bytes(), "1.5"),
            (0x05, false, &0.1f64.to_le_bytes(), "0.1"),
            (0x0c, false, &[7, 0xe8, 7, 2, 29, 12, 0, 1], "2024-02-29 12:00:01"),
            (0x0a, false, &[4, 0xe8, 7, 2, 29], "2024-02-29"),
            (
                0x0c,
                false,
                &[11, 0xe8, 7, 2, 29, 12, 0, 1, 0x40, 0x42, 0x0f, 0],
                "2024-02-29 12:00:01.1000000",
            ),
            (0x0b, false, &[8, 1, 1, 0, 0, 0, 2, 3, 4], "-26:03:04"),
            (0xfd, false, b"\x03abc", "abc"),
            (0xfc, false, b"\x02\x00\xff", "0x00ff"),
        ];
        for (code, is_unsigned, bytes, want) in cases {
            assert_eq!(shown(code, is_unsigned, bytes), Some((want.to_string(), 0)), "{code}");
            assert_eq!(shown(code, is_unsigned, &bytes[..bytes.len() - 1]), None, "{code}");
        }
        assert_eq!(shown(0x20, false, &[0; 9]), None);
    }
}
