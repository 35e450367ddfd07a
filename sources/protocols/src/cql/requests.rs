//! Requests as their rows show them.

use super::session::Known;
use super::types::{Head, Version, opcode};
use super::unpack::Packing;
use super::values::{BLOB, push_hex, push_parameter};
use super::walk::{Value, Walk, Walked};
use crate::Config;
use crate::json_text::{JsonText, cut};
use crate::redact::REDACTED;
use crate::shown::push_text;

const HAS_VALUES: u32 = 0x01;
const HAS_NAMES: u32 = 0x40;
/// In front of a batch's statement: it is prepared.
const PREPARED: u8 = 1;

/// What a request's text depends on.
pub(super) struct Reading<'a> {
    pub(super) known: Known<'a>,
    pub(super) config: &'a Config,
}

impl Reading<'_> {
    /// The text of `req_body`: as far as the body was seen.
    pub(super) fn text(&self, head: &Head, walk: Walk<'_>) -> Vec<u8> {
        match head.opcode {
            opcode::STARTUP => self.json(b"{}", |json| push_options(json, walk)),
            opcode::REGISTER => self.json(b"[]", |json| push_strings(json, &mut { walk })),
            opcode::BATCH => self.json(b"[]", |json| self.push_batch(json, walk)),
            opcode::QUERY => self.query(head.version, walk),
            opcode::PREPARE => self.preparation(walk),
            opcode::EXECUTE => self.execution(head.version, walk),
            opcode::AUTH_RESPONSE => token(walk, self.config),
            _ => Vec::new(),
        }
    }

    /// An object or array, whole also where its content is not.
    fn json(&self, ends: &[u8; 2], content: impl FnOnce(&mut JsonText) -> Walked<()>) -> Vec<u8> {
        let mut json = JsonText::new(vec![ends[0]], self.config.body_bytes_max);
        // What was not seen is left out.
        let _ = content(&mut json);
        let mut text = json.finish();
        text.push(ends[1]);
        text
    }

    fn preparation(&self, mut walk: Walk<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        if let Ok(statement) = walk.long_string() {
            self.config.push_statement(&mut text, statement);
        }
        text
    }

    /// A statement; its values, of which nobody says the types, in a line of their own.
    fn query(&self, version: Version, mut walk: Walk<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        let Ok(statement) = walk.long_string() else { return text };
        self.config.push_statement(&mut text, statement);
        if let Ok(Some((count, has_names))) = values(version, &mut walk) {
            text.extend_from_slice(b"\n[");
            let mut json = JsonText::new(text, self.config.body_bytes_max);
            let _ = push_hex_values(&mut json, &mut walk, count, has_names);
            text = json.finish();
            text.push(b']');
        }
        text
    }

    fn execution(&self, version: Version, mut walk: Walk<'_>) -> Vec<u8> {
        let id = walk.whole_string().unwrap_or_default();
        let statement = self.known.get(id);
        let text = statement.map_or(&[][..], |statement| &statement.text);
        let mut out = [b"query=[", text, b"] params=["].concat();
        let types = statement.map_or(&[][..], |statement| &statement.types);
        let _ = self.push_parameters(&mut out, version, walk, types);
        out.push(b']');
        out
    }

    fn push_parameters(
        &self,
        out: &mut Vec<u8>,
        version: Version,
        mut walk: Walk<'_>,
        types: &[super::values::Type],
    ) -> Walked<()> {
        if version.has_result_ids() {
            walk.string()?;
        }
        let Some((count, has_names)) = values(version, &mut walk)? else { return Ok(()) };
        let from = out.len();
        let mut value = Vec::new();
        for idx in 0..count {
            let left = self.config.body_bytes_max.saturating_sub(out.len() - from);
            if left == 0 {
                return Ok(());
            }
            value.clear();
            value.extend_from_slice(if idx > 0 { b", " } else { b"" });
            // Those with names come in any order.
            let of = match has_names {
                true => {
                    push_text(&mut value, walk.string()?);
                    value.push(b'=');
                    &BLOB
                }
                false => types.get(usize::from(idx)).unwrap_or(&BLOB),
            };
            push_parameter(&mut value, of, walk.value()?, left);
            out.extend_from_slice(cut(&value, left));
        }
        Ok(())
    }

    fn push_batch(&self, json: &mut JsonText, mut walk: Walk<'_>) -> Walked<()> {
        walk.u8()?;
        for _ in 0..walk.u16()? {
            if json.is_full() {
                return Ok(());
            }
            let mut text = Vec::new();
            match walk.u8()? {
                PREPARED => {
                    let id = walk.string()?;
                    id.iter().for_each(|byte| text.extend(format!("{byte:02x}").bytes()));
                    push_object(json, "id", &text);
                }
                _ => {
                    self.config.push_statement(&mut text, walk.long_string()?);
                    push_object(json, "query", &text);
                }
            }
            for _ in 0..walk.u16()? {
                walk.value()?;
            }
        }
        Ok(())
    }
}

/// `{"name":text}`.
fn push_object(json: &mut JsonText, name: &str, text: &[u8]) {
    json.comma().raw("{").key(name).string(text).raw("}");
}

/// How many values follow, and whether each has a name; `None` if there are none.
fn values(version: Version, walk: &mut Walk<'_>) -> Walked<Option<(u16, bool)>> {
    walk.u16()?;
    let flags = if version.has_long_flags() { walk.u32()? } else { u32::from(walk.u8()?) };
    match flags & HAS_VALUES != 0 {
        true => Ok(Some((walk.u16()?, flags & HAS_NAMES != 0))),
        false => Ok(None),
    }
}

fn push_hex_values(
    json: &mut JsonText,
    walk: &mut Walk<'_>,
    count: u16,
    has_names: bool,
) -> Walked<()> {
    for _ in 0..count {
        if json.is_full() || json.string_bytes_left() == 0 {
            return Ok(());
        }
        if has_names {
            walk.string()?;
        }
        let value = walk.value()?;
        json.comma();
        match value {
            Value::Bytes(bytes) => {
                let mut text = Vec::new();
                push_hex(&mut text, bytes, json.string_bytes_left());
                json.string(&text);
            }
            Value::Null | Value::Unset => {
                json.raw("null");
            }
        }
    }
    Ok(())
}

/// `"name":"text",…`.
fn push_options(json: &mut JsonText, mut walk: Walk<'_>) -> Walked<()> {
    for _ in 0..walk.u16()? {
        if json.is_full() {
            return Ok(());
        }
        let (name, text) = (walk.whole_string()?, walk.string()?);
        json.comma().string(name).raw(":").string(text);
    }
    Ok(())
}

/// `"text",…`.
pub(super) fn push_strings(json: &mut JsonText, walk: &mut Walk<'_>) -> Walked<()> {
    for idx in 0..walk.u16()? {
        let text = walk.string()?;
        if !json.is_full() {
            json.raw(if idx > 0 { "," } else { "" }).string(text);
        }
    }
    Ok(())
}

/// How bodies are packed from a STARTUP on.
pub(super) fn packing(mut walk: Walk<'_>) -> Option<Packing> {
    for _ in 0..walk.u16().ok()? {
        let (name, text) = (walk.whole_string().ok()?, walk.whole_string().ok()?);
        if name.eq_ignore_ascii_case(b"COMPRESSION") {
            return Packing::of(text);
        }
    }
    None
}

/// What proves who somebody is.
pub(super) fn token(mut walk: Walk<'_>, config: &Config) -> Vec<u8> {
    let mut text = Vec::new();
    match walk.value() {
        Ok(Value::Bytes(token)) if !token.is_empty() => match config.redactor.hides_nothing() {
            true => push_text(&mut text, cut(token, config.body_bytes_max)),
            false => text.extend_from_slice(REDACTED.as_bytes()),
        },
        _ => {}
    }
    text
}
