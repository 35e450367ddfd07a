//! Values as rows show them: text as it is, binary ones as the server would write them.

use std::io::Write;

use crate::cursor::Cursor;

/// Stands for no value.
pub(super) const NULL: &[u8] = b"[NULL]";
/// Digits of a numeric that are written; servers allow more before the point than anybody reads.
const NUMERIC_WORDS_MAX: i32 = 64;
const EPOCH_DAYS: i64 = 10_957;
const DAY_US: i64 = 86_400_000_000;

/// Types whose binary form is their text.
const TEXTS: [u32; 10] = [18, 19, 25, 114, 142, 705, 1042, 1043, 1560, 2275];

/// What was seen of a value.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) is_whole: bool,
}

impl Seen<'_> {
    /// No more of it than so many bytes.
    pub(super) fn up_to(self, bytes_max: usize) -> Self {
        match self.bytes.get(..bytes_max) {
            Some(bytes) => {
                Seen { bytes, is_whole: self.is_whole && bytes.len() == self.bytes.len() }
            }
            None => self,
        }
    }
}

/// Appends a binary value; one of an unknown type as text if it is some, else in hexadecimal digits. Of one
/// of which a part is missing nothing but the beginning of what is a text: the bytes of a number are none.
pub(super) fn push_binary(out: &mut Vec<u8>, type_id: u32, value: Seen<'_>) {
    let Seen { bytes: value, is_whole } = value;
    let has_beginning = matches!(type_id, 0 | 17 | 3802) || TEXTS.contains(&type_id);
    if !is_whole && !has_beginning {
        return;
    }
    if known(out, type_id, value).is_none() {
        let is_text = type_id != 17
            && std::str::from_utf8(value)
                .is_ok_and(|text| text.chars().all(|c| !c.is_control() || "\t\r\n".contains(c)));
        match is_text {
            true => out.extend_from_slice(value),
            false => push_hex(out, value),
        }
    }
}

fn push_hex(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(b"\\x");
    for byte in value {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        out.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

fn known(out: &mut Vec<u8>, type_id: u32, value: &[u8]) -> Option<()> {
    let mut cursor = Cursor::new(value);
    let int = |out: &mut Vec<u8>, value: i64| {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    };
    match (type_id, value.len()) {
        (16, 1) => out.push(if cursor.u8()? == 0 { b'f' } else { b't' }),
        (21, 2) => int(out, i64::from(cursor.i16_be()?)),
        (23, 4) => int(out, i64::from(cursor.i32_be()?)),
        (20, 8) => int(out, cursor.i64_be()?),
        (26, 4) => int(out, i64::from(cursor.u32_be()?)),
        (700, 4) => push_float(out, f64::from(f32::from_bits(cursor.u32_be()?)), true),
        (701, 8) => push_float(out, f64::from_bits(cursor.u64_be()?), false),
        (1082, 4) => push_date(out, i64::from(cursor.i32_be()?))?,
        (1083, 8) => push_time(out, cursor.i64_be()?),
        (1114 | 1184, 8) => push_timestamp(out, cursor.i64_be()?, type_id == 1184)?,
        (1700, 8..) => return push_numeric(out, &mut cursor),
        (2950, 16) => {
            for (idx, byte) in value.iter().enumerate() {
                let dash = if [4, 6, 8, 10].contains(&idx) { "-" } else { "" };
                write!(out, "{dash}{byte:02x}").ok()?;
            }
        }
        (3802, 1..) if value[0] == 1 => out.extend_from_slice(&value[1..]),
        (id, _) if TEXTS.contains(&id) => out.extend_from_slice(value),
        _ => return None,
    }
    Some(())
}

fn push_float(out: &mut Vec<u8>, value: f64, is_single: bool) {
    let is_plain = value == 0.0 || (1e-5..1e15).contains(&value.abs());
    // Writing to memory does not fail.
    let _ = match (value.is_nan(), value.is_infinite(), is_plain, is_single) {
        (true, ..) => write!(out, "NaN"),
        (_, true, ..) => write!(out, "{}Infinity", if value < 0.0 { "-" } else { "" }),
        (_, _, true, true) => write!(out, "{}", value as f32),
        (_, _, true, false) => write!(out, "{value}"),
        (_, _, false, true) => write!(out, "{:e}", value as f32),
        (_, _, false, false) => write!(out, "{value:e}"),
    };
}

/// Days since 2000 as a date; `None` if that is none with a year of four digits.
fn push_date(out: &mut Vec<u8>, days: i64) -> Option<()> {
    // Days of the proleptic Gregorian calendar in years that begin in March.
    let days = days + EPOCH_DAYS + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (1..=9999).contains(&year).then_some(())?;
    write!(out, "{year:04}-{month:02}-{day:02}").ok()
}

fn push_time(out: &mut Vec<u8>, us: i64) {
    let (seconds, us) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    // Writing to memory does not fail.
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
    if us > 0 {
        let fraction = format!("{us:06}");
        out.push(b'.');
        out.extend_from_slice(fraction.trim_end_matches('0').as_bytes());
    }
}

fn push_timestamp(out: &mut Vec<u8>, us: i64, with_zone: bool) -> Option<()> {
    match us {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            push_date(out, us.div_euclid(DAY_US))?;
            out.push(b' ');
            push_time(out, us.rem_euclid(DAY_US));
            out.extend_from_slice(if with_zone { b"+00" } else { b"" });
        }
    }
    Some(())
}

/// Digits to the base of 10,000, the first one's weight, sign, digits behind the point.
fn push_numeric(out: &mut Vec<u8>, cursor: &mut Cursor<'_>) -> Option<()> {
    let (count, weight) = (cursor.u16_be()?, i32::from(cursor.i16_be()?));
    let (sign, scale) = (cursor.u16_be()?, usize::from(cursor.u16_be()?));
    let words: Vec<u16> = (0..count).map(|_| cursor.u16_be()).collect::<Option<_>>()?;
    if words.iter().any(|word| *word > 9_999) || weight.abs() > NUMERIC_WORDS_MAX {
        return None;
    }
    let word =
        |at: i32| usize::try_from(weight - at).ok().and_then(|idx| words.get(idx)).unwrap_or(&0);
    match sign {
        0 => {}
        0x4000 => out.push(b'-'),
        0xc000 => return write!(out, "NaN").ok(),
        0xd000 => return write!(out, "Infinity").ok(),
        0xf000 => return write!(out, "-Infinity").ok(),
        _ => return None,
    }
    let mut whole = String::new();
    for at in (0..=weight).rev() {
        whole.push_str(&format!("{:04}", word(at)));
    }
    let whole = whole.trim_start_matches('0');
    out.extend_from_slice(if whole.is_empty() { "0" } else { whole }.as_bytes());
    if scale > 0 {
        let words = scale.div_ceil(4).min(NUMERIC_WORDS_MAX as usize) as i32;
        let mut fraction = String::new();
        for at in 1..=words {
            fraction.push_str(&format!("{:04}", word(-at)));
        }
        fraction.truncate(scale);
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(type_id: u32, bytes: &[u8], is_whole: bool) -> String {
        let mut out = Vec::new();
        push_binary(&mut out, type_id, Seen { bytes, is_whole });
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Binary values look as the server writes them as text (compared with what it wrote); what is of no
    /// known type, or is not what its type says, is shown as text or digits.
    #[test]
    fn binary_values_are_written_as_the_server_does() {
        let us = |days: i64, seconds: i64| (days * DAY_US + seconds * 1_000_000).to_be_bytes();
        let numeric =
            |words: &[i16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let cases: Vec<(u32, Vec<u8>, &str)> = vec![
            (16, vec![1], "t"),
            (21, (-2i16).to_be_bytes().to_vec(), "-2"),
            (23, 70_000i32.to_be_bytes().to_vec(), "70000"),
            (20, i64::MIN.to_be_bytes().to_vec(), "-9223372036854775808"),
            (700, 1.5f32.to_be_bytes().to_vec(), "1.5"),
            (701, 0.1f64.to_be_bytes().to_vec(), "0.1"),
            (1082, (-1i32).to_be_bytes().to_vec(), "1999-12-31"),
            (1082, 8_825i32.to_be_bytes().to_vec(), "2024-02-29"),
            (1114, us(0, 3_661).to_vec(), "2000-01-01 01:01:01"),
            (1184, (-500_000i64).to_be_bytes().to_vec(), "1999-12-31 23:59:59.5+00"),
            (1700, numeric(&[2, 0, 0, 2, 12, 3_400]), "12.34"),
            (1700, numeric(&[1, 1, 0x4000, 0, 5]), "-50000"),
            (1700, numeric(&[0, 0, 0, 3]), "0.000"),
            (1700, numeric(&[1, -1, 0, 4, 5]), "0.0005"),
            (2950, (0..16).collect(), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
            (3802, b"\x01{}".to_vec(), "{}"),
            (17, b"abc".to_vec(), "\\x616263"),
            (0, b"abc".to_vec(), "abc"),
            (0, vec![0, 0, 0, 5], "\\x00000005"),
            (23, vec![0, 5], "\\x0005"),
            (1700, vec![255; 8], "\\xffffffffffffffff"),
        ];
        for (type_id, value, want) in cases {
            assert_eq!(shown(type_id, &value, true), want, "{type_id}: {value:?}");
        }
    }

    /// Of a value that is cut only a text has a beginning. Catches a number of which half the bytes came, as
    /// bytes among a row's texts or as another number.
    #[test]
    fn values_that_are_cut() {
        let cases: [(u32, &[u8], &str); 7] = [
            (20, &[0; 6], ""),
            (1700, &[0, 1, 0, 0, 0, 0, 0, 0], ""),
            (2950, b"0123", ""),
            (25, b"abc", "abc"),
            (3802, b"\x01{\"k", "{\"k"),
            (17, b"ab", "\\x6162"),
            (0, b"abc", "abc"),
        ];
        for (type_id, value, want) in cases {
            assert_eq!(shown(type_id, value, false), want, "{type_id}: {value:?}");
        }
    }
}
