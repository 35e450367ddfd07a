//! BSON as relaxed extended JSON (version 2): <https://www.mongodb.com/docs/manual/reference/mongodb-extended-json>.
//!
//! Texts and bytes are cut where there is no room, and documents where nothing of them is here; what
//! comes out is JSON all the same. Documents within documents are kept in a list, not on the stack.

use std::fmt::Write;

use super::bson::{Document, Element, Reader, Value};
use super::decimal;
use super::types::DEPTH_MAX;
use crate::json_text::{JsonText, push_base64};
use crate::redact::REDACTED;

/// What of a document is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    Nothing,
    /// Members of these names, and those of the login that a greeting may hold.
    Named(&'static [&'static [u8]]),
    /// All values.
    All,
}

/// What proves who somebody is.
pub(super) const PROOFS: &[&[u8]] = &[b"payload", b"key", b"nonce", b"pwd"];
/// A greeting's member that is the first step of a login.
const SPECULATIVE: &[u8] = b"speculativeAuthenticate";

impl Hidden {
    fn hides(self, name: &[u8]) -> bool {
        match self {
            Hidden::Nothing => false,
            Hidden::Named(names) => names.contains(&name),
            Hidden::All => true,
        }
    }

    fn inside(self, name: &[u8]) -> Hidden {
        match self {
            Hidden::Named(_) if name == SPECULATIVE => Hidden::Named(PROOFS),
            Hidden::All => Hidden::All,
            _ => Hidden::Nothing,
        }
    }
}

struct Open<'a> {
    reader: Reader<'a>,
    hidden: Hidden,
    is_array: bool,
    end: &'static str,
}

/// A document as an object.
pub(super) fn write_document(json: &mut JsonText, document: Document<'_>, hidden: Hidden) {
    json.comma().raw("{");
    write_members(json, document, hidden);
    json.raw("}");
}

/// The members of a document, behind those of the object that has been begun.
pub(super) fn write_members(json: &mut JsonText, document: Document<'_>, hidden: Hidden) {
    let reader = Reader::inside(document);
    let mut open = vec![Open { reader, hidden, is_array: false, end: "" }];
    while let Some(inner) = open.last_mut() {
        let next = match inner.reader.is_empty() || json.is_full() {
            true => None,
            false => inner.reader.element().ok(),
        };
        let Some(Element { name, value }) = next else {
            json.raw(inner.end);
            open.pop();
            continue;
        };
        json.comma();
        if !inner.is_array {
            json.whole(name).raw(":");
        }
        if inner.hidden.hides(name) {
            json.whole(REDACTED.as_bytes());
            continue;
        }
        let hidden = inner.hidden.inside(name);
        if let Some((document, is_array, end)) = begin(json, value) {
            // What is too deep is there, and empty.
            let is_too_deep = open.len() > DEPTH_MAX;
            let inside = if is_too_deep { &[] } else { document.inside };
            let reader = Reader::inside(Document { inside, ..document });
            open.push(Open { reader, hidden, is_array, end });
        }
    }
}

/// Writes a value; of a document the beginning, then that is to be gone into.
fn begin<'a>(json: &mut JsonText, value: Value<'a>) -> Option<(Document<'a>, bool, &'static str)> {
    match value {
        Value::Document(inner) => {
            json.raw("{");
            Some((inner, false, "}"))
        }
        Value::Array(inner) => {
            json.raw("[");
            Some((inner, true, "]"))
        }
        Value::ScopedCode { code, scope } => {
            json.raw("{").key("$code").string(code).key("$scope").raw("{");
            Some((scope, false, "}}"))
        }
        scalar => {
            write_scalar(json, scalar);
            None
        }
    }
}

fn write_scalar(json: &mut JsonText, value: Value<'_>) {
    match value {
        Value::Double(number) if number.is_finite() => json.raw(&format!("{number:?}")),
        Value::Double(number) => {
            let name = match number.is_nan() {
                true => "NaN",
                false if number > 0.0 => "Infinity",
                false => "-Infinity",
            };
            json.raw("{\"$numberDouble\":\"").raw(name).raw("\"}")
        }
        Value::Text(text) => json.string(text),
        Value::Binary { subtype, bytes } => binary(json, subtype, bytes),
        Value::Undefined => json.raw("{\"$undefined\":true}"),
        Value::ObjectId(id) => object_id(json, id),
        Value::Bool(value) => json.bool(value),
        Value::DateMs(ms) => date(json, ms),
        Value::Regex { pattern, options } => {
            json.raw("{\"$regularExpression\":{").key("pattern").string(pattern);
            json.key("options").string(options).raw("}}")
        }
        Value::Pointer { to, id } => {
            json.raw("{\"$dbPointer\":{").key("$ref").string(to).key("$id");
            object_id(json, id).raw("}}")
        }
        Value::Code(code) => json.raw("{").key("$code").string(code).raw("}"),
        Value::Symbol(symbol) => json.raw("{").key("$symbol").string(symbol).raw("}"),
        Value::Int(number) => json.int(number),
        Value::Timestamp { seconds, count } => {
            json.raw("{\"$timestamp\":{").key("t").int(seconds).key("i").int(count).raw("}}")
        }
        Value::Decimal(bits) => {
            json.raw("{\"$numberDecimal\":\"").raw(&decimal::text(bits)).raw("\"}")
        }
        Value::MinKey => json.raw("{\"$minKey\":1}"),
        Value::MaxKey => json.raw("{\"$maxKey\":1}"),
        Value::Null | Value::Document(_) | Value::Array(_) | Value::ScopedCode { .. } => {
            json.raw("null")
        }
    };
}

fn binary<'j>(json: &'j mut JsonText, subtype: u8, bytes: &[u8]) -> &'j mut JsonText {
    // Three bytes are four characters.
    let shown = bytes.len().min(json.string_bytes_left() / 4 * 3);
    let mut text = Vec::with_capacity(shown.div_ceil(3) * 4);
    push_base64(&bytes[..shown], &mut text);
    json.raw("{\"$binary\":{").key("base64").string(&text);
    json.key("subType").raw(&format!("\"{subtype:02x}\"")).raw("}}")
}

fn object_id<'j>(json: &'j mut JsonText, id: &[u8]) -> &'j mut JsonText {
    let mut text = String::with_capacity(2 * id.len());
    for byte in id {
        write!(text, "{byte:02x}").expect("text takes everything");
    }
    json.raw("{\"$oid\":\"").raw(&text).raw("\"}")
}

/// Days of four hundred years.
const DAYS_PER_ERA: i64 = 146_097;
/// From the first of March of the year 0 to the beginning of 1970.
const DAYS_TO_1970: i64 = 719_468;
/// The year 10000 begins.
const FIVE_DIGITS_MS: i64 = 253_402_300_800_000;

fn date(json: &mut JsonText, ms: i64) -> &mut JsonText {
    if !(0..FIVE_DIGITS_MS).contains(&ms) {
        return json.raw("{\"$date\":{\"$numberLong\":\"").int(ms).raw("\"}}");
    }
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let day = days + DAYS_TO_1970;
    let (era, of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (seconds, part) = (ms_of_day / 1_000, ms_of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if part != 0 {
        write!(text, ".{part:03}").expect("text takes everything");
    }
    json.raw("{\"$date\":\"").raw(&text).raw("Z\"}")
}
