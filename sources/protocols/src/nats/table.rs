//! An operation's words, headers and payload as `body` has them.

use hashbrown::hash_map::Entry;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::types::{Kind, Line};
use crate::json_text::{JsonText, cut};
use crate::protocol::Config;
use crate::redact::{HeaderKind, REDACTED, Redactor, Text};

/// Members of a CONNECT that prove who the client is, beside those whose names say so.
const PROOFS: [&str; 4] = ["pass", "auth_token", "sig", "jwt"];

/// What a CONNECT says of how it is to be treated.
#[derive(Deserialize)]
struct Options {
    #[serde(default = "yes")]
    verbose: bool,
}

fn yes() -> bool {
    true
}

/// Whether a CONNECT asks for answers: it does unless it says that it does not.
pub(super) fn asks_for_answers(options: &[u8]) -> bool {
    serde_json::from_slice(options).map_or(true, |Options { verbose }| verbose)
}

/// The text of `body`. `behind`: what there is behind the line; less than the payload if it was cut.
pub(super) fn push_body(line: &Line<'_>, behind: &[u8], config: &Config, out: &mut Vec<u8>) {
    let from = out.len();
    match line.kind {
        Kind::Info => push_options(line.rest, &config.redactor, out),
        Kind::Connect => {
            let proved = serde_json::from_slice(line.rest).ok();
            let hidden = proved.and_then(|options| without_proofs(options, &config.redactor));
            push_options(hidden.as_deref().unwrap_or(line.rest), &config.redactor, out);
        }
        _ => {
            push_words(line, behind, config, out);
            config.redactor.redact_pii(out, from);
        }
    }
}

/// Options are JSON as they are sent; what is none is not shown.
fn push_options(options: &[u8], redactor: &Redactor, out: &mut Vec<u8>) {
    let from = out.len();
    let text = std::str::from_utf8(options).ok();
    if text.and_then(|text| serde_json::from_str::<IgnoredAny>(text).ok()).is_none() {
        return out.extend_from_slice(b"{}");
    }
    out.extend_from_slice(options);
    redactor.redact_body(out, from, Text::Json);
}

fn without_proofs(
    mut options: serde_json::Map<String, serde_json::Value>,
    redactor: &Redactor,
) -> Option<Vec<u8>> {
    if redactor.hides_nothing() {
        return None;
    }
    for name in PROOFS {
        if let Some(value) = options.get_mut(name) {
            *value = REDACTED.into();
        }
    }
    serde_json::to_vec(&options).ok()
}

fn push_words(line: &Line<'_>, behind: &[u8], config: &Config, out: &mut Vec<u8>) {
    let mut json = JsonText::new(std::mem::take(out), config.body_bytes_max);
    json.raw("{");
    for (name, word) in [
        ("subject", line.subject),
        ("reply-to", line.reply_to),
        ("sid", line.sid),
        ("queue group", line.queue_group),
        ("max_msgs", line.messages_max),
    ] {
        if let Some(word) = word {
            json.key(name).whole(word);
        }
    }
    if line.kind.has_payload() {
        let there = behind.len().min(line.payload_bytes as usize);
        let (headers, payload) = behind[..there].split_at(there.min(line.header_bytes as usize));
        push_payload(&mut json, payload, config);
        if line.kind.has_headers() {
            // Headers are never cut: of some that are not all there none is shown.
            let is_whole = headers.len() as u64 == line.header_bytes;
            push_headers(&mut json, if is_whole { headers } else { b"" }, &config.redactor);
        }
    }
    json.raw("}");
    *out = json.finish();
}

fn push_payload(json: &mut JsonText, payload: &[u8], config: &Config) {
    json.key("payload");
    if config.redactor.hides_bodies() {
        json.whole(REDACTED.as_bytes());
        return;
    }
    let mut shown = cut(payload, config.body_bytes_max).to_vec();
    config.redactor.redact_body(&mut shown, 0, Text::Other);
    json.whole(&shown);
}

/// `NATS/1.0[ status[ description]]`, then lines of names and values; values of one name are joined.
fn push_headers(json: &mut JsonText, headers: &[u8], redactor: &Redactor) {
    let mut lines = headers.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.next().unwrap_or_default();
    let status = first.get(b"NATS/1.0".len()..).unwrap_or_default().trim_ascii();
    let (status, description) = match status.iter().position(|byte| *byte == b' ') {
        Some(at) => (&status[..at], status[at..].trim_ascii()),
        None => (status, &b""[..]),
    };
    let mut values: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for (name, value) in [(&b"Status"[..], status), (b"Description", description)] {
        if !value.is_empty() {
            values.push((name, value.to_vec()));
        }
    }
    let mut place_of = hashbrown::HashMap::<&[u8], usize, foldhash::fast::RandomState>::default();
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        let value = match redactor.header(name) {
            HeaderKind::Secret => REDACTED.as_bytes().to_vec(),
            HeaderKind::Plain => value.to_vec(),
            HeaderKind::Other => redactor.url_redacted(value).unwrap_or_else(|| value.to_vec()),
        };
        match place_of.entry(name) {
            Entry::Occupied(place) => {
                let joined = &mut values[*place.get()].1;
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(&value);
            }
            Entry::Vacant(place) => {
                place.insert(values.len());
                values.push((name, value));
            }
        }
    }
    json.key("headers").raw("{");
    for (name, value) in &values {
        json.comma().whole(name).raw(":").whole(value);
    }
    json.raw("}");
}
