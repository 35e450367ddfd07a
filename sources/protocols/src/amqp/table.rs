//! A method's arguments as the columns have them: a JSON object, never cut.

use super::types::{DEPTH_MAX, Method};
use crate::cursor::Cursor;
use crate::json_text::JsonText;
use crate::protocol::Config;
use crate::redact::{REDACTED, Text};

/// The text of `req_msg` or `resp_msg`, and whether its sender wants no answer, if that is there.
pub(super) fn told(method: &Method, arguments: &[u8], config: &Config) -> (Vec<u8>, Option<bool>) {
    let json = JsonText::new(Vec::new(), usize::MAX).with_more_structure(usize::MAX / 2);
    let hides = !config.redactor.hides_nothing();
    let mut reader = Reader { cursor: Cursor::new(arguments), json, hides, no_wait: false };
    reader.json.raw("{");
    // What is not there is left out.
    let is_whole = reader.arguments(method.arguments).is_some();
    reader.json.raw("}");
    let says_so = || declared(method.arguments).any(|(name, _)| name == "no_wait");
    let no_wait = (is_whole || reader.no_wait || !says_so()).then_some(reader.no_wait);
    let mut text = reader.json.finish();
    config.redactor.redact_body(&mut text, 0, Text::Json);
    text.shrink_to_fit();
    (text, no_wait)
}

/// Adds a content's size to the text.
pub(super) fn add_body_size(text: &mut Vec<u8>, body_bytes: u64) {
    let is_empty = text.as_slice() == b"{}";
    text.pop();
    text.extend_from_slice(if is_empty { b"\"body_size\":" } else { b",\"body_size\":" });
    text.extend_from_slice(itoa::Buffer::new().format(body_bytes).as_bytes());
    text.push(b'}');
}

/// Whether these are a method's arguments, and nothing else.
pub(super) fn arguments_end(method: &Method, arguments: &[u8]) -> bool {
    let mut cursor = Cursor::new(arguments);
    let mut bits = 0;
    for (_, kind) in declared(method.arguments) {
        if kind == "b" {
            bits += 1;
            if bits % 8 != 1 {
                continue;
            }
        } else {
            bits = 0;
        }
        let skipped = match kind {
            "o" | "b" => cursor.skip(1),
            "h" => cursor.skip(2),
            "l" => cursor.skip(4),
            "q" => cursor.skip(8),
            "s" => cursor.u8().and_then(|bytes| cursor.skip(usize::from(bytes))),
            _ => cursor.u32_be().and_then(|bytes| cursor.skip(bytes as usize)),
        };
        if skipped.is_none() {
            return false;
        }
    }
    cursor.is_empty()
}

/// Names and types of a declaration.
fn declared(arguments: &str) -> impl Iterator<Item = (&str, &str)> {
    arguments.split(' ').filter_map(|argument| argument.split_once(':'))
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    json: JsonText,
    /// What proves who somebody is.
    hides: bool,
    no_wait: bool,
}

impl<'a> Reader<'a> {
    fn arguments(&mut self, arguments: &'static str) -> Option<()> {
        // Bits next to each other share bytes.
        let (mut bits, mut byte) = (0, 0);
        for (name, kind) in declared(arguments) {
            if kind == "b" {
                if bits % 8 == 0 {
                    byte = self.cursor.u8()?;
                }
                let is_set = byte >> (bits % 8) & 1 == 1;
                bits += 1;
                self.no_wait |= is_set && name == "no_wait";
                if name != "_" {
                    self.json.key(name).bool(is_set);
                }
                continue;
            }
            bits = 0;
            self.argument(name, kind)?;
        }
        Some(())
    }

    fn argument(&mut self, name: &'static str, kind: &str) -> Option<()> {
        let text = match kind {
            "o" => return self.int(name, |cursor| cursor.u8().map(u64::from)),
            "h" => return self.int(name, |cursor| cursor.u16_be().map(u64::from)),
            "l" => return self.int(name, |cursor| cursor.u32_be().map(u64::from)),
            "q" => return self.int(name, Cursor::u64_be),
            "s" => self.short_string()?,
            "t" => {
                let bytes = self.cursor.u32_be()? as usize;
                let table = self.cursor.up_to(bytes);
                self.json.key(name);
                return self.table(table, 0);
            }
            _ => self.long_string()?,
        };
        if name != "_" {
            let is_proof = kind == "X" && self.hides;
            self.json.key(name).whole(if is_proof { REDACTED.as_bytes() } else { text });
        }
        Some(())
    }

    fn int(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Cursor<'a>) -> Option<u64>,
    ) -> Option<()> {
        let value = read(&mut self.cursor)?;
        if name != "_" {
            self.json.key(name).int(value);
        }
        Some(())
    }

    fn short_string(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::from(self.cursor.u8()?);
        self.cursor.bytes(bytes)
    }

    fn long_string(&mut self) -> Option<&'a [u8]> {
        let bytes = self.cursor.u32_be()? as usize;
        self.cursor.bytes(bytes)
    }

    /// A table as an object; `None` behind one that is broken or too deep, which ends there.
    fn table(&mut self, table: &'a [u8], depth: u32) -> Option<()> {
        self.json.raw("{");
        let whole = self.inside(table, depth, true);
        self.json.raw("}");
        whole
    }

    fn inside(&mut self, bytes: &'a [u8], depth: u32, has_names: bool) -> Option<()> {
        if depth >= DEPTH_MAX {
            return Some(());
        }
        let outer = std::mem::replace(&mut self.cursor, Cursor::new(bytes));
        let mut whole = Some(());
        while whole.is_some() && !self.cursor.is_empty() {
            whole = self.member(depth, has_names);
        }
        self.cursor = outer;
        whole
    }

    fn member(&mut self, depth: u32, has_names: bool) -> Option<()> {
        let name = if has_names { Some(self.short_string()?) } else { None };
        let kind = self.cursor.u8()?;
        let cursor = &mut self.cursor;
        let value = match kind {
            b't' => Value::Bool(cursor.u8()? != 0),
            b'b' => Value::Int(i64::from(cursor.u8()? as i8)),
            b'B' => Value::Int(i64::from(cursor.u8()?)),
            b's' | b'U' => Value::Int(i64::from(cursor.i16_be()?)),
            b'u' => Value::Int(i64::from(cursor.u16_be()?)),
            b'I' => Value::Int(i64::from(cursor.i32_be()?)),
            b'i' => Value::Int(i64::from(cursor.u32_be()?)),
            b'l' | b'L' => Value::Int(cursor.i64_be()?),
            b'T' => Value::Int(cursor.i64_be()?),
            b'f' => Value::Float(f64::from(f32::from_bits(cursor.u32_be()?))),
            b'd' => Value::Float(f64::from_bits(cursor.u64_be()?)),
            b'D' => {
                let scale = i32::from(cursor.u8()?.min(18));
                Value::Float(f64::from(cursor.i32_be()?) / 10f64.powi(scale))
            }
            b'S' | b'x' => Value::Text(self.long_string()?),
            b'A' => Value::Array(self.long_string()?),
            b'F' => Value::Table(self.long_string()?),
            b'V' => Value::Null,
            _ => return None,
        };
        self.json.comma();
        if let Some(name) = name {
            self.json.whole(name).raw(":");
        }
        self.value(value, depth)
    }

    fn value(&mut self, value: Value<'a>, depth: u32) -> Option<()> {
        match value {
            Value::Null => self.json.raw("null"),
            Value::Bool(value) => self.json.bool(value),
            Value::Int(value) => self.json.int(value),
            Value::Float(value) if value.is_finite() => self.json.raw(&value.to_string()),
            Value::Float(_) => self.json.raw("null"),
            Value::Text(text) => self.json.whole(text),
            Value::Table(table) => return self.table(table, depth + 1),
            Value::Array(array) => {
                self.json.raw("[");
                let whole = self.inside(array, depth + 1, false);
                self.json.raw("]");
                return whole;
            }
        };
        Some(())
    }
}

enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
    Array(&'a [u8]),
    Table(&'a [u8]),
}
