//! Types of parameters, as preparing a statement tells them, and values as rows show them: as one would
//! write them in a statement, but that text alone has no quotes.

use std::io::Write;
use std::net::IpAddr;

use super::walk::{Stop, Value, Walk, Walked};
use crate::json_text::cut;
use crate::shown::push_text;

/// Levels of types within types.
const DEPTH_MAX: u32 = 8;
/// Types of one statement, those within others included.
pub(super) const TYPES_MAX: usize = 2_048;

pub(super) const NULL: &[u8] = b"NULL";
const UNSET: &[u8] = b"UNSET";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Plain(u16),
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<(Type, Type)>),
    Tuple(Vec<Type>),
    /// With names.
    Fields(Vec<(Vec<u8>, Type)>),
}

/// Of what is not known.
pub(super) const BLOB: Type = Type::Plain(0x03);

impl Type {
    /// Reads one; `left`: so many more may be read.
    pub(super) fn read(walk: &mut Walk<'_>, left: &mut usize) -> Walked<Type> {
        Type::read_at(walk, left, 0)
    }

    fn read_at(walk: &mut Walk<'_>, left: &mut usize, depth: u32) -> Walked<Type> {
        *left = left.checked_sub(1).filter(|_| depth < DEPTH_MAX).ok_or(Stop::Wrong)?;
        let mut inner = |walk: &mut Walk<'_>| Type::read_at(walk, left, depth + 1);
        Ok(match walk.u16()? {
            0x00 => {
                walk.whole_string()?;
                BLOB
            }
            0x20 => Type::List(Box::new(inner(walk)?)),
            0x21 => {
                let key = inner(walk)?;
                Type::Map(Box::new((key, inner(walk)?)))
            }
            0x22 => Type::Set(Box::new(inner(walk)?)),
            0x30 => {
                walk.whole_string()?;
                walk.whole_string()?;
                let mut fields = Vec::new();
                for _ in 0..walk.u16()? {
                    let name = walk.whole_string()?.to_vec();
                    fields.push((name, inner(walk)?));
                }
                Type::Fields(fields)
            }
            0x31 => {
                let mut types = Vec::new();
                for _ in 0..walk.u16()? {
                    types.push(inner(walk)?);
                }
                Type::Tuple(types)
            }
            code @ 0x01..=0x1f => Type::Plain(code),
            _ => return Err(Stop::Wrong),
        })
    }

    /// Memory, itself included.
    pub(super) fn held_bytes(&self) -> usize {
        let within = match self {
            Type::Plain(_) => 0,
            Type::List(of) | Type::Set(of) => of.held_bytes(),
            Type::Map(of) => of.0.held_bytes() + of.1.held_bytes(),
            Type::Tuple(types) => types.iter().map(Type::held_bytes).sum(),
            Type::Fields(fields) => {
                fields.iter().map(|(name, of)| name.capacity() + 24 + of.held_bytes()).sum()
            }
        };
        size_of::<Type>() + within
    }
}

/// Appends a parameter's value, about so many bytes of it at the most.
pub(super) fn push_parameter(out: &mut Vec<u8>, of: &Type, value: Value<'_>, bytes_max: usize) {
    match value {
        Value::Null => out.extend_from_slice(NULL),
        Value::Unset => out.extend_from_slice(UNSET),
        Value::Bytes(bytes) => match of {
            Type::Plain(0x01 | 0x0a | 0x0d) => push_text(out, cut(bytes, bytes_max)),
            of => push_value(out, of, bytes, out.len().saturating_add(bytes_max)),
        },
    }
}

/// Appends a value until there are so many bytes. What is none of its type is shown as it came.
fn push_value(out: &mut Vec<u8>, of: &Type, bytes: &[u8], until: usize) {
    let from = out.len();
    let pushed = match of {
        Type::Plain(code) => push_plain(out, *code, bytes, until),
        Type::List(of) => push_many(out, b"[]", bytes, until, of),
        Type::Set(of) => push_many(out, b"{}", bytes, until, of),
        Type::Map(of) => push_pairs(out, of, bytes, until),
        Type::Tuple(types) => {
            push_fields(out, b"()", bytes, until, types.iter().map(|of| (&[][..], of)))
        }
        Type::Fields(fields) => {
            let fields = fields.iter().map(|(name, of)| (name.as_slice(), of));
            push_fields(out, b"{}", bytes, until, fields)
        }
    };
    if pushed.is_none() {
        out.truncate(from);
        push_hex(out, bytes, until);
    }
}

pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8], until: usize) {
    let room = until.saturating_sub(out.len() + 2).div_ceil(2);
    out.extend_from_slice(b"0x");
    for byte in &bytes[..bytes.len().min(room)] {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        out.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

fn push_inner(out: &mut Vec<u8>, of: &Type, value: Value<'_>, until: usize) {
    match value {
        Value::Null | Value::Unset => out.extend_from_slice(NULL),
        Value::Bytes(bytes) => push_value(out, of, bytes, until),
    }
}

fn push_many(
    out: &mut Vec<u8>,
    ends: &[u8; 2],
    bytes: &[u8],
    until: usize,
    of: &Type,
) -> Option<()> {
    let mut walk = Walk::new(bytes, 0);
    let count = walk.u32().ok()?;
    out.push(ends[0]);
    for idx in 0..count {
        if out.len() >= until {
            return Some(());
        }
        let value = walk.value().ok()?;
        out.extend_from_slice(if idx > 0 { b", " } else { b"" });
        push_inner(out, of, value, until);
    }
    out.push(ends[1]);
    walk.end().ok()
}

fn push_pairs(out: &mut Vec<u8>, of: &(Type, Type), bytes: &[u8], until: usize) -> Option<()> {
    let mut walk = Walk::new(bytes, 0);
    let count = walk.u32().ok()?;
    out.push(b'{');
    for idx in 0..count {
        if out.len() >= until {
            return Some(());
        }
        out.extend_from_slice(if idx > 0 { b", " } else { b"" });
        push_inner(out, &of.0, walk.value().ok()?, until);
        out.extend_from_slice(b": ");
        push_inner(out, &of.1, walk.value().ok()?, until);
    }
    out.push(b'}');
    walk.end().ok()
}

/// One value a type; those at the end may be left out.
fn push_fields<'t>(
    out: &mut Vec<u8>,
    ends: &[u8; 2],
    bytes: &[u8],
    until: usize,
    fields: impl Iterator<Item = (&'t [u8], &'t Type)>,
) -> Option<()> {
    let mut walk = Walk::new(bytes, 0);
    out.push(ends[0]);
    for (idx, (name, of)) in fields.enumerate() {
        if out.len() >= until {
            return Some(());
        }
        let value = if walk.left() == 0 { Value::Null } else { walk.value().ok()? };
        out.extend_from_slice(if idx > 0 { b", " } else { b"" });
        if !name.is_empty() {
            push_text(out, name);
            out.extend_from_slice(b": ");
        }
        push_inner(out, of, value, until);
    }
    out.push(ends[1]);
    walk.end().ok()
}

/// Exactly so many bytes.
fn exactly<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn push_plain(out: &mut Vec<u8>, code: u16, bytes: &[u8], until: usize) -> Option<()> {
    let int = |out: &mut Vec<u8>, value: i64| {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    };
    match code {
        0x01 | 0x0a | 0x0d => {
            out.push(b'\'');
            push_text(out, cut(bytes, until.saturating_sub(out.len())));
            out.push(b'\'');
        }
        0x02 | 0x05 => int(out, i64::from_be_bytes(exactly(bytes)?)),
        0x04 => match exactly(bytes)? {
            [0] => out.extend_from_slice(b"false"),
            [_] => out.extend_from_slice(b"true"),
        },
        0x06 => push_decimal(out, bytes)?,
        0x07 => push_float(out, f64::from_be_bytes(exactly(bytes)?), false)?,
        0x08 => push_float(out, f64::from(f32::from_be_bytes(exactly(bytes)?)), true)?,
        0x09 => int(out, i64::from(i32::from_be_bytes(exactly(bytes)?))),
        0x0b => push_timestamp(out, i64::from_be_bytes(exactly(bytes)?))?,
        0x0c | 0x0f => push_uuid(out, exactly(bytes)?)?,
        0x0e => write!(out, "{}", big_int(bytes)?).ok()?,
        0x10 => write!(out, "{}", address(bytes)?).ok()?,
        0x11 => push_date(out, i64::from(u32::from_be_bytes(exactly(bytes)?)) - (1 << 31))?,
        0x12 => push_time(out, i64::from_be_bytes(exactly(bytes)?))?,
        0x13 => int(out, i64::from(i16::from_be_bytes(exactly(bytes)?))),
        0x14 => int(out, i64::from(i8::from_be_bytes(exactly(bytes)?))),
        0x15 => push_duration(out, bytes)?,
        _ => push_hex(out, bytes, until),
    }
    Some(())
}

/// Of four or sixteen bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(exactly::<4>(bytes)?.into()),
        _ => Some(exactly::<16>(bytes)?.into()),
    }
}

fn push_float(out: &mut Vec<u8>, value: f64, is_single: bool) -> Option<()> {
    let is_plain = value == 0.0 || (1e-5..1e15).contains(&value.abs());
    match (is_plain || !value.is_finite(), is_single) {
        (true, true) => write!(out, "{}", value as f32),
        (true, false) => write!(out, "{value}"),
        (false, true) => write!(out, "{:e}", value as f32),
        (false, false) => write!(out, "{value:e}"),
    }
    .ok()
}

/// Of up to sixteen bytes.
fn big_int(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first().filter(|_| bytes.len() <= 16)?;
    let sign = if first >= 0x80 { -1 } else { 0 };
    Some(bytes.iter().fold(sign, |sum, byte| sum << 8 | i128::from(*byte)))
}

/// Behind a scale.
fn push_decimal(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let (scale, unscaled) = bytes.split_at_checked(4)?;
    let (scale, value) = (i32::from_be_bytes(exactly(scale)?), big_int(unscaled)?);
    let Some(scale) = usize::try_from(scale).ok().filter(|scale| *scale <= 40) else {
        return write!(out, "{value}E{}", i64::from(scale).checked_neg()?).ok();
    };
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    write!(out, "{sign}{whole}{point}{part}").ok()
}

fn push_uuid(out: &mut Vec<u8>, bytes: [u8; 16]) -> Option<()> {
    let number = u128::from_be_bytes(bytes);
    let part = |from: u32, digits: u32| number >> from & ((1 << (4 * digits)) - 1);
    write!(
        out,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
    .ok()
}

/// Year, month and day of a day since 1970, by Gregorian rules: years begin in March here, so that the
/// leap day is the last one, and 400 of them are always as long.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, month + if month < 10 { 3 } else { -9 });
    (400 * era + year + i64::from(month <= 2), month, day)
}

fn push_date(out: &mut Vec<u8>, days: i64) -> Option<()> {
    let (year, month, day) = civil(days);
    write!(out, "{year:04}-{month:02}-{day:02}").ok()
}

/// Milliseconds since 1970.
fn push_timestamp(out: &mut Vec<u8>, ms: i64) -> Option<()> {
    push_date(out, ms.div_euclid(86_400_000))?;
    let ms = ms.rem_euclid(86_400_000);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    write!(out, " {hours:02}:{minutes:02}:{seconds:02}.{:03}+0000", ms % 1_000).ok()
}

/// Nanoseconds since midnight.
fn push_time(out: &mut Vec<u8>, ns: i64) -> Option<()> {
    let (seconds, part) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    (0..86_400).contains(&seconds).then_some(())?;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write!(out, "{hours:02}:{minutes:02}:{seconds:02}.{part:09}").ok()
}

/// Months, days and nanoseconds, each as few bytes as it needs.
fn push_duration(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let mut walk = Walk::new(bytes, 0);
    let [months, days, ns] =
        [signed_varint(&mut walk)?, signed_varint(&mut walk)?, signed_varint(&mut walk)?];
    walk.end().ok()?;
    let sign = if months < 0 || days < 0 || ns < 0 { "-" } else { "" };
    let [months, days, ns] = [months, days, ns].map(i64::unsigned_abs);
    write!(out, "{sign}{months}mo{days}d{ns}ns").ok()
}

/// As many bytes follow the first one as that begins with ones; signs alternate.
fn signed_varint(walk: &mut Walk<'_>) -> Option<i64> {
    let first = walk.u8().ok()?;
    let more = first.leading_ones();
    let head = u64::from(first) & (0xff_u64 >> (more + 1).min(8));
    let bytes = walk.bytes(more as usize).ok()?;
    let value = bytes.iter().fold(head, |sum, byte| sum << 8 | u64::from(*byte));
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(of: &Type, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_parameter(&mut out, of, Value::Bytes(bytes), 512);
        String::from_utf8(out).unwrap()
    }

    /// Values of every type as one would write them; bytes that are none as they came.
    #[test]
    fn values_of_every_type() {
        let cases: [(u16, &[u8], &str); 26] = [
            (0x0d, b"it is", "it is"),
            (0x01, b"\x00a", "0x0061"),
            (0x02, &(-5i64).to_be_bytes(), "-5"),
            (0x03, b"\x01\xff", "0x01ff"),
            (0x04, b"\x01", "true"),
            (0x05, &7i64.to_be_bytes(), "7"),
            (0x06, b"\x00\x00\x00\x02\xfb", "-0.05"),
            (0x06, b"\x00\x00\x00\x02\x04\xd2", "12.34"),
            (0x06, b"\xff\xff\xff\xfd\x05", "5E3"),
            (0x07, &0.1f64.to_be_bytes(), "0.1"),
            (0x07, &f64::NAN.to_be_bytes(), "NaN"),
            (0x08, &1.5f32.to_be_bytes(), "1.5"),
            (0x09, &(-1i32).to_be_bytes(), "-1"),
            (0x0b, &1_709_208_001_500i64.to_be_bytes(), "2024-02-29 12:00:01.500+0000"),
            (0x0b, &(-1i64).to_be_bytes(), "1969-12-31 23:59:59.999+0000"),
            (
                0x0c,
                &0x0123_4567_89ab_cdef_0123_4567_89ab_cdefu128.to_be_bytes(),
                "01234567-89ab-cdef-0123-456789abcdef",
            ),
            (0x0e, b"\xff\x7f", "-129"),
            (0x10, &[127, 0, 0, 1], "127.0.0.1"),
            (0x10, &1u128.to_be_bytes(), "::1"),
            (0x11, &(0x8000_0000u32 + 19_782).to_be_bytes(), "2024-02-29"),
            (0x12, &3_723_000_000_004i64.to_be_bytes(), "01:02:03.000000004"),
            (0x13, &(-2i16).to_be_bytes(), "-2"),
            (0x14, b"\xfe", "-2"),
            (0x15, b"\x02\x04\x06", "1mo2d3ns"),
            (0x15, b"\x00\x00\x81\x00", "0mo0d128ns"),
            (0x1f, b"\x01", "0x01"),
        ];
        for (code, bytes, want) in cases {
            assert_eq!(shown(&Type::Plain(code), bytes), want, "{code}");
        }
        assert_eq!(shown(&Type::Plain(0x09), b"\x01\x02"), "0x0102");
        for (value, want) in [(Value::Null, NULL), (Value::Unset, UNSET)] {
            let mut out = Vec::new();
            push_parameter(&mut out, &BLOB, value, 9);
            assert_eq!(out, want);
        }
    }

    /// Collections, tuples and types of users' own, one within the other, and cut where the limit is.
    #[test]
    fn types_within_types() {
        let declared = b"\x00\x21\x00\x0d\x00\x20\x00\x09\x00\x09";
        let (mut walk, mut left) = (Walk::new(declared, 0), 10);
        let map = Type::read(&mut walk, &mut left).unwrap();
        assert_eq!((walk.left(), left), (2, 6));
        let one =
            b"\0\0\0\x01\0\0\0\x01a\0\0\0\x14\0\0\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x04\0\0\0\x08";
        assert_eq!(shown(&map, one), "{'a': [7, 8]}");
        assert_eq!(shown(&map, &one[..9]), "0x000000010000000161");
        let own = b"\x00\x30\0\x01k\0\x01t\0\x02\0\x01x\0\x0d\0\x01y\0\x31\0\x01\0\x04";
        let own = Type::read(&mut Walk::new(own, 0), &mut 10).unwrap();
        assert_eq!(shown(&own, b"\0\0\0\x01z\0\0\0\x05\0\0\0\x01\x01"), "{x: 'z', y: (true)}");
        assert_eq!(shown(&own, b"\xff\xff\xff\xff"), "{x: NULL, y: NULL}");
        let long = [&1_000u32.to_be_bytes()[..], &b"\0\0\0\x01\x05".repeat(1_000)].concat();
        assert!(shown(&Type::Set(Box::new(Type::Plain(0x14))), &long).len() < 600);
        let deep = [0, 0x20].repeat(60_000);
        assert_eq!(Type::read(&mut Walk::new(&deep, 0), &mut 100), Err(Stop::Wrong));
        assert_eq!(
            Type::read(&mut Walk::new(b"\0\x31\xff\xff", 1 << 20), &mut 100),
            Err(Stop::Missing)
        );
    }
}
