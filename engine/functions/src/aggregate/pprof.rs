//! The `pprof` aggregate's result: a `perftools.profiles.Profile` message, not compressed.
//!
//! Two values per sample, as CPU profiles have them: samples/count and cpu/nanoseconds. Frames have
//! names only. The message is written directly: it needs varints and nested messages, no more.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use weir_types::row::RowReader;
use weir_types::{DataType, Value};

/// What Pixie says, so that scripts and people recognise it.
const PERIODS_DIFFER: &[u8] =
    b"Protobuf `SerializeToString` failed, multiple profiling periods found.";

/// The profile of (stack, count, period in ms) tuples.
pub(super) fn profile<'a>(tuples: impl Iterator<Item = (&'a Vec<u8>, i64)>) -> Vec<u8> {
    let mut period_ms = None;
    let mut stacks: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for (tuple, times) in tuples {
        let mut reader = RowReader::new(tuple);
        let (Some(Value::String(stack)), Some(Value::Int64(count)), Some(Value::Int64(period))) = (
            reader.next(DataType::String),
            reader.next(DataType::Int64),
            reader.next(DataType::Int64),
        ) else {
            continue;
        };
        if *period_ms.get_or_insert(period) != period {
            return PERIODS_DIFFER.to_vec();
        }
        let sum = stacks.entry(stack).or_default();
        *sum = sum.wrapping_add(count.wrapping_mul(times));
    }
    write(&stacks, period_ms.unwrap_or(0).wrapping_mul(1_000_000))
}

/// Field numbers of `Profile`.
const SAMPLE_TYPE: u32 = 1;
const SAMPLE: u32 = 2;
const LOCATION: u32 = 4;
const FUNCTION: u32 = 5;
const STRING_TABLE: u32 = 6;
const PERIOD_TYPE: u32 = 11;
const PERIOD: u32 = 12;
/// The string table begins with these; types refer to them by position.
const STRINGS: [&[u8]; 5] = [b"", b"samples", b"count", b"cpu", b"nanoseconds"];

fn write(stacks: &BTreeMap<Vec<u8>, i64>, period_ns: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let value_type = |kind: u64, unit: u64| {
        let mut message = Vec::new();
        push_varint_field(&mut message, 1, kind);
        push_varint_field(&mut message, 2, unit);
        message
    };
    push_bytes_field(&mut out, SAMPLE_TYPE, &value_type(1, 2));
    push_bytes_field(&mut out, SAMPLE_TYPE, &value_type(3, 4));
    // A frame's location and function share one number, from 1.
    let mut frames: HashMap<&[u8], u64> = HashMap::new();
    let mut names: Vec<&[u8]> = Vec::new();
    for (stack, &count) in stacks {
        let (mut locations, mut values) = (Vec::new(), Vec::new());
        // The leaf comes first.
        for frame in stack.rsplit(|byte| *byte == b';') {
            let id = *frames.entry(frame).or_insert_with(|| {
                names.push(frame);
                names.len() as u64
            });
            push_varint(&mut locations, id);
        }
        push_varint(&mut values, count as u64);
        push_varint(&mut values, count.wrapping_mul(period_ns) as u64);
        let mut sample = Vec::new();
        push_bytes_field(&mut sample, 1, &locations);
        push_bytes_field(&mut sample, 2, &values);
        push_bytes_field(&mut out, SAMPLE, &sample);
    }
    for id in 1..=names.len() as u64 {
        let (mut line, mut location) = (Vec::new(), Vec::new());
        push_varint_field(&mut line, 1, id);
        push_varint_field(&mut location, 1, id);
        push_bytes_field(&mut location, 4, &line);
        push_bytes_field(&mut out, LOCATION, &location);
    }
    for id in 1..=names.len() as u64 {
        let mut function = Vec::new();
        push_varint_field(&mut function, 1, id);
        push_varint_field(&mut function, 2, id + STRINGS.len() as u64 - 1);
        push_bytes_field(&mut out, FUNCTION, &function);
    }
    for text in STRINGS.iter().chain(&names) {
        push_bytes_field(&mut out, STRING_TABLE, text);
    }
    push_bytes_field(&mut out, PERIOD_TYPE, &value_type(3, 4));
    push_varint_field(&mut out, PERIOD, period_ns as u64);
    out
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
fn push_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    push_varint(out, u64::from(field << 3));
    push_varint(out, value);
}
fn push_bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_varint(out, u64::from(field << 3 | 2));
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
