//! Headers and bodies of messages as the columns have them: JSON, compact, always valid, never cut but
//! for [`BODY_BYTES_MAX`].

use std::hash::BuildHasher;

use super::data::push_data;
use super::parse::{Cursor, HEADER_BYTES, Header};
use super::types::push_type;
use crate::redact::{REDACTED, Redactor};

/// Longest text of a body: a message of 64 KiB full of addresses has a fifth of it. Names that point
/// at long names can ask for more; then the answers end early, and `cut` says so.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

const HEADER_FLAGS: [&str; 6] = ["aa", "tc", "rd", "ra", "ad", "cd"];
const COUNTS: [&str; 4] = ["num_queries", "num_answers", "num_auth", "num_addl"];

pub(super) fn push_int(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn push_header(header: Header, out: &mut Vec<u8>) {
    let mut first = true;
    let mut member = |name: &str, value: u16| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        push_int(u64::from(value), out);
    };
    member("txid", header.id);
    member("qr", u16::from(header.is_response()));
    member("opcode", header.opcode());
    for (name, value) in HEADER_FLAGS.into_iter().zip(header.flags()) {
        member(name, value);
    }
    member("rcode", header.rcode());
    for (name, value) in COUNTS.into_iter().zip(header.counts) {
        member(name, value);
    }
    out.push(b'}');
}

/// Appends text between quotes; what comes here is ASCII without control characters.
fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Writes bodies; its storage is used again.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    name: Vec<u8>,
    data: Vec<u8>,
    rtype: Vec<u8>,
}

impl Bodies {
    pub(super) fn held_bytes(&self) -> usize {
        self.name.capacity() + self.data.capacity() + self.rtype.capacity()
    }

    /// The first question as a hash, whatever the letters' case; `None` if there is none.
    pub(super) fn asked(&mut self, header: Header, message: &[u8]) -> Option<u64> {
        if header.counts[0] == 0 {
            return None;
        }
        self.name.clear();
        let question = Cursor::new(message, HEADER_BYTES).question(&mut self.name)?;
        self.name.make_ascii_lowercase();
        let asked = (self.name.as_slice(), question.rtype, question.class);
        Some(foldhash::fast::FixedState::default().hash_one(asked))
    }

    /// `{"queries":[{"name","type"}]}`
    pub(super) fn push_queries(
        &mut self,
        header: Header,
        message: &[u8],
        redactor: &Redactor,
        out: &mut Vec<u8>,
    ) {
        let from = out.len();
        let mut cursor = Cursor::new(message, HEADER_BYTES);
        out.extend_from_slice(b"{\"queries\":[");
        let mut is_cut = false;
        for idx in 0..header.counts[0] {
            self.name.clear();
            let Some(question) = cursor.question(&mut self.name) else { break };
            is_cut = out.len() - from > BODY_BYTES_MAX;
            if is_cut {
                break;
            }
            self.begin(idx, question.rtype, redactor, out);
            out.push(b'}');
        }
        end(is_cut, redactor, from, out);
    }

    /// `{"answers":[{"name","type","addr"}]}`; a CNAME has `cname`, all but addresses have `data`.
    pub(super) fn push_answers(
        &mut self,
        header: Header,
        message: &[u8],
        redactor: &Redactor,
        out: &mut Vec<u8>,
    ) {
        let from = out.len();
        let mut cursor = Cursor::new(message, HEADER_BYTES);
        out.extend_from_slice(b"{\"answers\":[");
        let mut is_cut = self.skip_questions(&mut cursor, header).is_none();
        if !is_cut {
            for idx in 0..header.counts[1] {
                self.name.clear();
                let record = cursor.record(&mut self.name);
                let Some(record) = record.filter(|_| out.len() - from <= BODY_BYTES_MAX) else {
                    is_cut = true;
                    break;
                };
                self.data.clear();
                push_data(message, &record, &mut self.data);
                self.begin(idx, record.rtype, redactor, out);
                let keys: &[&str] = match (record.rtype, record.data_bytes) {
                    (1, 4) | (28, 16) => &["addr"],
                    (5, _) => &["cname", "data"],
                    _ => &["data"],
                };
                for key in keys {
                    out.extend_from_slice(b",\"");
                    out.extend_from_slice(key.as_bytes());
                    out.extend_from_slice(b"\":");
                    push_string(shown(&self.data, redactor), out);
                }
                out.push(b'}');
            }
        }
        end(is_cut, redactor, from, out);
    }

    fn skip_questions(&mut self, cursor: &mut Cursor<'_>, header: Header) -> Option<()> {
        for _ in 0..header.counts[0] {
            self.name.clear();
            cursor.question(&mut self.name)?;
        }
        Some(())
    }

    /// `{"name":…,"type":…`, of the name that was read last.
    fn begin(&mut self, idx: u16, rtype: u16, redactor: &Redactor, out: &mut Vec<u8>) {
        if idx > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        push_string(shown(&self.name, redactor), out);
        out.extend_from_slice(b",\"type\":");
        self.rtype.clear();
        push_type(rtype, &mut self.rtype);
        push_string(&self.rtype, out);
    }
}

/// Ends a body; one that is cut says so.
fn end(is_cut: bool, redactor: &Redactor, from: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(if is_cut { b"],\"cut\":true}" } else { b"]}" });
    redactor.redact_pii(out, from);
}

/// Whole, or not at all where bodies are hidden.
fn shown<'t>(text: &'t [u8], redactor: &Redactor) -> &'t [u8] {
    if redactor.hides_bodies() { REDACTED.as_bytes() } else { text }
}
