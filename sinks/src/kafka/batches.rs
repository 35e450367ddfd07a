//! Elements as records: key, value, headers, and which partition.

use std::collections::BTreeMap;

use rskafka::chrono::DateTime;
use rskafka::record::Record;

use crate::element::{Described, Element, Op};
use crate::encode;
use crate::json::{push_string, push_value};

use super::murmur;

/// A record before it has a partition.
pub(super) struct Keyed {
    pub(super) key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    op: &'static str,
    seq: u64,
    tick_ms: u64,
}

/// What the keys of an output begin with.
pub(super) fn key_prefix(output: &Described) -> String {
    let mut key = String::from("[");
    if output.is_one_of_several {
        push_string(&mut key, &output.info.table);
        key.push(',');
    }
    key
}

/// A JSON array of the key's values, the table's name before them where there are several.
fn key_of(element: &Element) -> Option<Vec<u8>> {
    let output = &element.output;
    if output.key.is_empty() || !element.op.is_row() {
        return None;
    }
    let mut key = key_prefix(output);
    for (at, value) in output.key_values(&element.body).iter().enumerate() {
        if at > 0 {
            key.push(',');
        }
        push_value(&mut key, value);
    }
    key.push(']');
    Some(key.into_bytes())
}

/// `None`: it does not leave. A compacted topic has rows only, each with a key.
pub(super) fn record(element: &Element, is_upsert: bool) -> Option<Keyed> {
    if element.op == Op::Progress || (is_upsert && !element.op.is_row()) {
        return None;
    }
    let is_tombstone = is_upsert && element.op == Op::Delete;
    let value = (!is_tombstone).then(|| {
        let mut text = String::new();
        encode::push_json(&mut text, element);
        text.into_bytes()
    });
    let (op, seq, tick_ms) = (element.op.name(), element.seq, element.tick_ms);
    Some(Keyed { key: key_of(element), value, op, seq, tick_ms })
}

impl Keyed {
    /// Of a key that is gone, as of this element.
    pub(super) fn tombstone(key: &[u8], element: &Element) -> Keyed {
        let (op, seq, tick_ms) = (Op::Delete.name(), element.seq, element.tick_ms);
        Keyed { key: Some(key.to_vec()), value: None, op, seq, tick_ms }
    }

    /// With its partition, of so many: as Kafka's own clients choose it for a key.
    pub(super) fn into_record(self, partitions: usize) -> (usize, Record) {
        let chosen = match &self.key {
            Some(key) => murmur::hash(key) & 0x7fff_ffff,
            None => u32::try_from(self.seq & 0x7fff_ffff).unwrap_or(0),
        };
        let headers = BTreeMap::from([
            ("op".to_string(), self.op.as_bytes().to_vec()),
            ("seq".to_string(), self.seq.to_string().into_bytes()),
        ]);
        let ms = i64::try_from(self.tick_ms).unwrap_or(i64::MAX);
        let timestamp = DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let record = Record { key: self.key, value: self.value, headers, timestamp };
        (chosen as usize % partitions.max(1), record)
    }
}
