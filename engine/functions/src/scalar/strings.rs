//! Text: bytes throughout; letters and blanks are ASCII's.

use std::io::Write;

use arrow_array::ArrayRef;
use memchr::memmem;

use super::{ScalarDef, def, overloads};
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "contains",
        overloads![S S => B, contains],
        &["text", "part"],
        "True if the part occurs in the text; the empty part always does",
        "df = df[px.contains(df.req_path, '/api/')]",
    ),
    def(
        "find",
        overloads![S S => I, find],
        &["text", "part"],
        "Where the part first begins in the text, in bytes from 0; -1 if nowhere",
        "df.at = px.find(df.pod, '/')",
    ),
    def(
        "length",
        overloads![S => I, length],
        &["text"],
        "Bytes in the text",
        "df.size = px.length(df.resp_body)",
    ),
    def(
        "substring",
        overloads![S I I => S, substring],
        &["text", "position", "length"],
        "That many bytes from that position on, fewer at the end; empty outside the text",
        "df.name = px.substring(df.pod, px.find(df.pod, '/') + 1, px.length(df.pod))",
    ),
    def(
        "tolower",
        overloads![S => S, tolower],
        &["text"],
        "The text with ASCII letters in lower case",
        "df.method = px.tolower(df.req_method)",
    ),
    def(
        "toupper",
        overloads![S => S, toupper],
        &["text"],
        "The text with ASCII letters in upper case",
        "df.method = px.toupper(df.req_method)",
    ),
    def(
        "trim",
        overloads![S => S, trim],
        &["text"],
        "The text without ASCII blanks at both ends",
        "df.cmd = px.trim(df.cmdline)",
    ),
    def(
        "strip_prefix",
        overloads![S S => S, strip_prefix],
        &["prefix", "text"],
        "The text without the prefix, if it begins with it",
        "df.name = px.strip_prefix('default/', df.service)",
    ),
    def(
        "hex_to_ascii",
        overloads![S => S, hex_to_ascii],
        &["hex"],
        "The bytes that pairs of hex digits stand for; empty if the text is no such",
        "df.text = px.hex_to_ascii('4869')",
    ),
    def(
        "bytes_to_hex",
        overloads![S => S, bytes_to_hex],
        &["bytes"],
        "Each byte as \\xHH",
        "df.hex = px.bytes_to_hex(df.resp)",
    )
    .reads(8),
    def(
        "atoi",
        overloads![S I => I, atoi],
        &["text", "default"],
        "The integer that the whole text is (blanks around it do not count), else the default",
        "df.status = px.atoi(px.pluck(df.headers, ':status'), 0)",
    ),
    def(
        "itoa",
        overloads![I => S, itoa],
        &["value"],
        "The integer in decimal digits",
        "df.port = px.itoa(df.remote_port)",
    ),
];

fn contains(call: &Call<'_>) -> ArrayRef {
    let (text, part) = (call.str(0), call.str(1));
    match part.constant() {
        Some(part) => {
            let finder = memmem::Finder::new(part);
            output::bools(call.rows, |row| finder.find(text.get(row)).is_some())
        }
        None => {
            output::bools(call.rows, |row| memmem::find(text.get(row), part.get(row)).is_some())
        }
    }
}

fn find(call: &Call<'_>) -> ArrayRef {
    let (text, part) = (call.str(0), call.str(1));
    let at = |row| memmem::find(text.get(row), part.get(row)).map_or(-1, |at| at as i64);
    output::ints((0..call.rows).map(at).collect())
}

fn length(call: &Call<'_>) -> ArrayRef {
    let text = call.str(0);
    output::ints((0..call.rows).map(|row| text.get(row).len() as i64).collect())
}

fn substring(call: &Call<'_>) -> ArrayRef {
    let (text, position, length) = (call.str(0), call.int(1), call.int(2));
    output::strings(call.rows, |row, out| {
        let text = text.get(row);
        if let (Ok(position), Ok(length)) =
            (usize::try_from(position.get(row)), usize::try_from(length.get(row)))
            && position <= text.len()
        {
            out.extend_from_slice(&text[position..text.len().min(position.saturating_add(length))]);
        }
    })
}

fn tolower(call: &Call<'_>) -> ArrayRef {
    let text = call.str(0);
    output::strings(call.rows, |row, out| {
        out.extend(text.get(row).iter().map(u8::to_ascii_lowercase));
    })
}

fn toupper(call: &Call<'_>) -> ArrayRef {
    let text = call.str(0);
    output::strings(call.rows, |row, out| {
        out.extend(text.get(row).iter().map(u8::to_ascii_uppercase));
    })
}

/// ASCII blanks as C's `isspace` has them: Rust's leaves out the vertical tab.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn trim(call: &Call<'_>) -> ArrayRef {
    let text = call.str(0);
    output::strings(call.rows, |row, out| out.extend_from_slice(trimmed(text.get(row))))
}

fn strip_prefix(call: &Call<'_>) -> ArrayRef {
    let (prefix, text) = (call.str(0), call.str(1));
    output::strings(call.rows, |row, out| {
        let text = text.get(row);
        out.extend_from_slice(text.strip_prefix(prefix.get(row)).unwrap_or(text));
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

fn push_unhexed(hex: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = hex;
    while let [high, low, tail @ ..] = rest {
        out.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        rest = tail;
    }
    rest.is_empty().then_some(())
}

fn hex_to_ascii(call: &Call<'_>) -> ArrayRef {
    let hex = call.str(0);
    output::strings(call.rows, |row, out| {
        let before = out.len();
        if push_unhexed(hex.get(row), out).is_none() {
            out.truncate(before);
        }
    })
}

fn bytes_to_hex(call: &Call<'_>) -> ArrayRef {
    let bytes = call.str(0);
    output::strings(call.rows, |row, out| {
        for byte in bytes.get(row) {
            write!(out, "\\x{byte:02X}").expect("writing to memory cannot fail");
        }
    })
}

/// The integer that the whole text is: sign and digits, blanks around them.
pub(crate) fn parse_int(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(trimmed(text)).ok()?.parse().ok()
}

fn atoi(call: &Call<'_>) -> ArrayRef {
    let (text, default) = (call.str(0), call.int(1));
    let value = |row| parse_int(text.get(row)).unwrap_or_else(|| default.get(row));
    output::ints((0..call.rows).map(value).collect())
}

fn itoa(call: &Call<'_>) -> ArrayRef {
    let value = call.int(0);
    output::strings(call.rows, |row, out| {
        write!(out, "{}", value.get(row)).expect("writing to memory cannot fail");
    })
}
