//! Messages by their schema, as JSON: in one pass over what there is of them.
//!
//! Where the bytes end, so does the text, with all that was opened closed. How deep it goes, the schema
//! says; how many elements an array has, its bytes do: what a length promises is never allocated.

use hashbrown::HashMap;

use super::schema::{Field, Kind};
use super::table::Layout;
use crate::cursor::Cursor;
use crate::json_text::JsonText;
use crate::redact::{HeaderKind, REDACTED, Redactor};

/// Topics whose names are known by their ids; with more of them others are forgotten.
const TOPICS_MAX: usize = 4_096;
/// Longest name of a topic, as brokers have it; a longer one is none, and rows show the id.
const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Tagged fields behind one structure.
const TAGS_MAX: u32 = 1_024;
/// Bytes that prove who somebody is.
const PROOFS: [&str; 4] = ["auth_bytes", "hmac", "salt", "salted_password"];
/// Of a batch of records: where its length, its format and its count stand.
const BATCH_LENGTH_AT: usize = 8;
const BATCH_FORMAT_AT: usize = 16;
const BATCH_COUNT_AT: usize = 57;
const BATCH_HEAD_BYTES: usize = 61;

pub(super) type Uuid = [u8; 16];

/// Names of topics by their ids, as Metadata told them.
#[derive(Debug, Default)]
pub(super) struct Topics {
    names: HashMap<Uuid, Box<[u8]>, foldhash::fast::RandomState>,
    /// Of all of them together.
    name_bytes: usize,
}

impl Topics {
    fn learn(&mut self, id: Uuid, name: &[u8]) {
        if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX || id == [0; 16] {
            return;
        }
        let known = self.names.get(&id);
        if known.is_some_and(|known| **known == *name) {
            return;
        }
        if known.is_none() && self.names.len() >= TOPICS_MAX {
            self.names.clear();
            self.name_bytes = 0;
        }
        let before = self.names.insert(id, name.into());
        self.name_bytes = self.name_bytes + name.len() - before.map_or(0, |before| before.len());
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.names.capacity() * (size_of::<(Uuid, Box<[u8]>)>() + 1) + self.name_bytes
    }
}

/// How bytes fit a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// They are it, to the last one.
    Whole,
    /// They are its beginning, and the others are missing.
    SoFar,
    No,
}

/// Reads one body.
pub(super) struct Decoder<'a> {
    cursor: Cursor<'a>,
    /// Bytes of the body that are not here: lengths may reach into them, and no further.
    missing_bytes: u64,
    version: i16,
    is_flexible: bool,
    is_invalid: bool,
    /// `None`: it is only checked.
    json: Option<&'a mut JsonText>,
    topics: Option<&'a mut Topics>,
    /// Names of topics are to be learned from here, where they stand beside their ids.
    learns: bool,
    redactor: &'a Redactor,
    /// What a Produce request asks for: 0 for no response.
    pub(super) acks: Option<i64>,
}

/// What has been seen of the structure that is being read.
#[derive(Clone, Copy, Default)]
struct Beside<'a> {
    name: Option<&'a [u8]>,
    has_name: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn checking(
        body: &'a [u8],
        missing_bytes: u64,
        layout: &Layout,
        redactor: &'a Redactor,
    ) -> Decoder<'a> {
        Decoder {
            cursor: Cursor::new(body),
            missing_bytes,
            version: layout.version,
            is_flexible: layout.is_flexible,
            is_invalid: false,
            json: None,
            topics: None,
            learns: false,
            redactor,
            acks: None,
        }
    }

    /// What is read is written, too.
    pub(super) fn write(
        &mut self,
        json: &'a mut JsonText,
        topics: &'a mut Topics,
        learns: bool,
    ) -> &mut Decoder<'a> {
        (self.json, self.topics, self.learns) = (Some(json), Some(topics), learns);
        self
    }

    /// Reads the body, as far as it can be read.
    pub(super) fn fit(&mut self, layout: &Layout) -> Fit {
        let tags = if layout.has_tags { self.tagged() } else { Some(()) };
        let whole = tags.and_then(|()| self.members(layout.fields)).is_some();
        let is_at_end = self.cursor.is_empty() && !self.is_invalid;
        match (is_at_end, whole, self.missing_bytes) {
            (true, true, 0) => Fit::Whole,
            (true, false, 1..) => Fit::SoFar,
            _ => Fit::No,
        }
    }

    fn invalid<T>(&mut self) -> Option<T> {
        self.is_invalid = true;
        None
    }

    /// Lengths and counts of what is at least so many bytes long.
    fn within(&mut self, count: usize) -> Option<usize> {
        let there = self.missing_bytes.saturating_add(self.cursor.rest().len() as u64);
        if count as u64 <= there { Some(count) } else { self.invalid() }
    }

    /// The members of a structure and what is tagged behind it. `None`: the bytes ended, or they are not
    /// what the schema says.
    fn members(&mut self, fields: &'static [Field]) -> Option<()> {
        let mut beside = Beside::default();
        for field in fields {
            if field.is_in(self.version) {
                self.value(Some(field.name), &field.kind, &mut beside)?;
            }
        }
        if self.is_flexible { self.tagged() } else { Some(()) }
    }

    /// Steps over tagged fields.
    fn tagged(&mut self) -> Option<()> {
        let count = self.varint()?;
        if count > TAGS_MAX {
            return self.invalid();
        }
        for _ in 0..count {
            self.varint()?;
            let bytes = self.varint()?;
            let bytes = self.within(bytes as usize)?;
            self.cursor.skip(bytes)?;
        }
        Some(())
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.cursor.u8()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        self.invalid()
    }

    /// A length; `None` inside: there is no value.
    fn length(&mut self, is_short: bool) -> Option<Option<usize>> {
        let length = match (self.is_flexible, is_short) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.cursor.i16_be()?),
            (false, false) => i64::from(self.cursor.i32_be()?),
        };
        match usize::try_from(length) {
            Ok(length) => self.within(length).map(Some),
            Err(_) if length == -1 => Some(None),
            Err(_) => self.invalid(),
        }
    }

    fn value(
        &mut self,
        name: Option<&'static str>,
        kind: &'static Kind,
        beside: &mut Beside<'a>,
    ) -> Option<()> {
        if self.json.as_ref().is_some_and(|json| json.is_full()) {
            return None;
        }
        match kind {
            Kind::Bool => {
                let value = self.cursor.u8()?;
                if value > 1 {
                    return self.invalid();
                }
                self.text(name, if value == 0 { "false" } else { "true" });
            }
            Kind::Int8 | Kind::Int16 | Kind::UInt16 | Kind::Int32 | Kind::UInt32 | Kind::Int64 => {
                let value = self.read_int(kind)?;
                if name == Some("acks") {
                    self.acks = Some(value);
                    if !(-1..=1).contains(&value) {
                        return self.invalid();
                    }
                }
                self.int(name, value);
            }
            Kind::Float64 => {
                let value = f64::from_bits(self.cursor.u64_be()?);
                let text = if value.is_finite() { value.to_string() } else { "null".to_string() };
                self.text(name, &text);
            }
            Kind::String => self.string(name, beside)?,
            Kind::Uuid => {
                let id: Uuid = self.cursor.bytes(16)?.try_into().ok()?;
                self.uuid(name, id, beside);
            }
            Kind::Bytes => {
                let bytes = self.length(false)?;
                self.bytes(name, bytes);
                self.cursor.skip(bytes.unwrap_or(0))?;
            }
            Kind::Records => self.records(name)?,
            Kind::Array(element) => self.array(name, element)?,
            Kind::Structure { fields, may_be_missing } => {
                if *may_be_missing && self.cursor.u8()? as i8 == -1 {
                    self.text(name, "null");
                    return Some(());
                }
                self.open(name, "{");
                let whole = self.members(fields);
                self.close("}");
                return whole;
            }
        }
        Some(())
    }

    fn read_int(&mut self, kind: &Kind) -> Option<i64> {
        let cursor = &mut self.cursor;
        match kind {
            Kind::Int8 => cursor.u8().map(|value| i64::from(value as i8)),
            Kind::Int16 => cursor.i16_be().map(i64::from),
            Kind::UInt16 => cursor.u16_be().map(i64::from),
            Kind::Int32 => cursor.i32_be().map(i64::from),
            Kind::UInt32 => cursor.u32_be().map(i64::from),
            _ => cursor.i64_be(),
        }
    }

    fn array(&mut self, name: Option<&'static str>, element: &'static Kind) -> Option<()> {
        let Some(count) = self.length(false)? else {
            self.text(name, "null");
            return Some(());
        };
        self.open(name, "[");
        let mut whole = Some(());
        for _ in 0..count {
            let before = self.cursor.rest().len();
            whole = self.value(None, element, &mut Beside::default());
            if whole.is_none() || self.cursor.rest().len() == before {
                break;
            }
        }
        self.close("]");
        whole
    }

    fn string(&mut self, name: Option<&'static str>, beside: &mut Beside<'a>) -> Option<()> {
        let text = match self.length(true)? {
            Some(bytes) => Some(self.cursor.bytes(bytes)?),
            None => None,
        };
        if self.json.is_none() && text.is_some_and(|text| text.iter().any(u8::is_ascii_control)) {
            return self.invalid();
        }
        let names = matches!(name, Some("name" | "config_name" | "key"));
        let hidden = self.redactor.hides_bodies()
            || (matches!(name, Some("value" | "config_value"))
                && beside
                    .name
                    .is_some_and(|name| self.redactor.header(name) == HeaderKind::Secret));
        if names {
            *beside = Beside { name: text, has_name: true };
        }
        if let Some(json) = self.key(name) {
            match text {
                Some(_) if hidden => json.whole(REDACTED.as_bytes()),
                Some(text) => json.string(text),
                None => json.raw("null"),
            };
        }
        Some(())
    }

    fn uuid(&mut self, name: Option<&'static str>, id: Uuid, beside: &Beside<'a>) {
        let Some(topics) = self.topics.as_deref_mut() else { return };
        if name == Some("topic_id") {
            if let (Some(name), true) = (beside.name, self.learns) {
                topics.learn(id, name);
            }
            let known = topics.names.get(&id);
            let known = known.filter(|_| !beside.has_name && !self.redactor.hides_bodies());
            if let (Some(known), Some(json), false) = (known, self.json.as_deref_mut(), self.learns)
            {
                json.key("name").string(known);
            }
        }
        if let Some(json) = self.key(name) {
            json.whole(&as_base64(id));
        }
    }

    /// Bytes are shown as their number.
    fn bytes(&mut self, name: Option<&'static str>, bytes: Option<usize>) {
        let is_proof = name.is_some_and(|name| PROOFS.contains(&name));
        let hidden = is_proof && !self.redactor.hides_nothing();
        if let Some(json) = self.key(name) {
            match bytes {
                Some(_) if hidden => json.whole(REDACTED.as_bytes()),
                Some(bytes) => json.raw("{\"size\":").int(bytes).raw("}"),
                None => json.raw("null"),
            };
        }
    }

    fn records(&mut self, name: Option<&'static str>) -> Option<()> {
        let Some(bytes) = self.length(false)? else {
            self.text(name, "null");
            return Some(());
        };
        let records = self.cursor.up_to(bytes);
        if let Some(json) = self.key(name) {
            json.raw("{\"size\":").int(bytes);
            if records.len() == bytes
                && let Some(count) = count_of(records)
            {
                json.raw(",\"records\":").int(count);
            }
            json.raw("}");
        }
        (records.len() == bytes).then_some(())
    }

    /// Where a value goes, behind its name.
    fn key(&mut self, name: Option<&'static str>) -> Option<&mut JsonText> {
        let json = self.json.as_deref_mut()?;
        Some(match name {
            Some(name) => json.key(name),
            None => json.comma(),
        })
    }

    fn int(&mut self, name: Option<&'static str>, value: i64) {
        if let Some(json) = self.key(name) {
            json.int(value);
        }
    }

    fn text(&mut self, name: Option<&'static str>, text: &str) {
        if let Some(json) = self.key(name) {
            json.raw(text);
        }
    }

    fn open(&mut self, name: Option<&'static str>, bracket: &str) {
        self.text(name, bracket);
    }

    fn close(&mut self, bracket: &str) {
        if let Some(json) = self.json.as_deref_mut() {
            json.raw(bracket);
        }
    }
}

/// How many records there are in batches, if all of their heads are there.
fn count_of(mut records: &[u8]) -> Option<u64> {
    let mut count = 0u64;
    while !records.is_empty() {
        let u32_at = |at: usize| {
            records.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
        };
        let bytes = (u32_at(BATCH_LENGTH_AT)? as usize).checked_add(BATCH_LENGTH_AT + 4)?;
        count += match records.get(BATCH_FORMAT_AT)? {
            2 if records.len() >= BATCH_HEAD_BYTES => u64::from(u32_at(BATCH_COUNT_AT)?),
            2 => return None,
            // A message of an older format.
            0 | 1 => 1,
            _ => return None,
        };
        records = records.get(bytes..)?;
    }
    Some(count)
}

/// As Kafka's tools write ids.
fn as_base64(id: Uuid) -> [u8; 22] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(id);
    let mut text = [0; 22];
    for (idx, digit) in text.iter_mut().enumerate() {
        // 128 bits and four zeros behind them.
        let shift = 132 - 6 * (idx as u32 + 1);
        let six = if shift >= 4 { bits >> (shift - 4) } else { bits << (4 - shift) };
        *digit = DIGITS[(six & 63) as usize];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What names of topics hold is counted to the byte, also where one changes; what is longer than Kafka's
    /// names is none. Catches a count that is a guess, and names without a bound.
    #[test]
    fn names_of_topics_are_counted() {
        let mut topics = Topics::default();
        let check = |topics: &Topics| {
            let names: usize = topics.names.values().map(|name| name.len()).sum();
            let entries = topics.names.capacity() * (size_of::<(Uuid, Box<[u8]>)>() + 1);
            assert_eq!(topics.held_bytes(), entries + names);
        };
        for n in 1..=10 {
            topics.learn([n; 16], &[b'a' + n; 249]);
            check(&topics);
        }
        let before = topics.held_bytes();
        topics.learn([11; 16], &[b'x'; 250]);
        topics.learn([3; 16], &[b'x'; 250]);
        assert_eq!((topics.names.len(), topics.held_bytes()), (10, before));
        for _ in 0..2 {
            topics.learn([3; 16], b"short");
            assert_eq!(topics.held_bytes(), before - 244);
            check(&topics);
        }
        // With one too many all are forgotten, and none is counted any more.
        for n in 0..=TOPICS_MAX as u32 {
            let mut id = [1; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            topics.learn(id, format!("topic-{n}").as_bytes());
            check(&topics);
        }
        assert!(topics.names.len() < TOPICS_MAX);
    }
}
