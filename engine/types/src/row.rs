//! The packed row: one ordered, hashable byte string for a whole row, so that an arrangement holds
//! no pointers to chase and byte order *is* row order.
//!
//! Encoding, column after column: BOOLEAN one byte; INT64 and TIME64NS eight bytes big-endian with
//! the sign bit flipped; FLOAT64 eight bytes in IEEE totalOrder; UINT128 sixteen bytes big-endian;
//! STRING its bytes with 0x00 escaped as 0x00 0xFF, ended by 0x00 0x00. The types are not stored:
//! decoding needs the relation. It does *not* compress or share.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::value::{DataType, Value};

/// A row in packed form. Comparing two rows of one relation compares them column by column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackedRow(#[serde(with = "crate::wire::bytes")] pub Vec<u8>);

/// As its bytes it is as equal, as ordered and hashed alike.
impl std::borrow::Borrow<[u8]> for PackedRow {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PackedRow {
    #[must_use]
    pub fn pack(values: &[Value]) -> PackedRow {
        let mut bytes = Vec::with_capacity(values.len() * 9);
        for value in values {
            push_value(&mut bytes, value);
        }
        PackedRow(bytes)
    }

    /// Decodes the row; `None` if the bytes are not a row of these types.
    #[must_use]
    pub fn unpack(&self, types: &[DataType]) -> Option<Vec<Value>> {
        let mut reader = RowReader::new(&self.0);
        let values = types.iter().map(|&ty| reader.next(ty)).collect::<Option<Vec<_>>>()?;
        reader.is_done().then_some(values)
    }

    /// An INT64 or TIME64NS column of a row of these types.
    #[must_use]
    pub fn i64_at(&self, types: &[DataType], idx: usize) -> Option<i64> {
        let mut reader = RowReader::new(&self.0);
        let (&wanted, before) = types.get(..=idx)?.split_last()?;
        before.iter().try_for_each(|&ty| reader.next_raw(ty).map(drop))?;
        let is_i64 = matches!(wanted, DataType::Int64 | DataType::Time64Ns);
        is_i64.then(|| read_i64(reader.next_raw(wanted)?)).flatten()
    }
}

pub fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Boolean(v) => push_bool(bytes, *v),
        Value::Int64(v) | Value::Time64Ns(v) => push_i64(bytes, *v),
        Value::Float64(v) => push_f64(bytes, *v),
        Value::String(v) => push_str(bytes, v),
        Value::Uint128(v) => push_u128(bytes, *v),
    }
}
pub fn push_bool(bytes: &mut Vec<u8>, value: bool) {
    bytes.push(u8::from(value));
}
pub fn push_i64(bytes: &mut Vec<u8>, value: i64) {
    bytes.extend_from_slice(&((value as u64) ^ (1 << 63)).to_be_bytes());
}
pub fn push_f64(bytes: &mut Vec<u8>, value: f64) {
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    bytes.extend_from_slice(&ordered.to_be_bytes());
}
pub fn push_u128(bytes: &mut Vec<u8>, value: u128) {
    bytes.extend_from_slice(&value.to_be_bytes());
}
pub fn push_str(bytes: &mut Vec<u8>, value: &[u8]) {
    if memchr::memchr(0, value).is_some() {
        for &byte in value {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(0xFF);
            }
        }
    } else {
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(&[0, 0]);
}

/// Walks a packed row column by column.
pub struct RowReader<'a> {
    bytes: &'a [u8],
}

impl<'a> RowReader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> RowReader<'a> {
        RowReader { bytes }
    }
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.bytes.is_empty()
    }
    /// The bytes of the next column, still encoded; the reader moves past them.
    pub fn next_raw(&mut self, ty: DataType) -> Option<&'a [u8]> {
        let len = match ty {
            DataType::Boolean => 1,
            DataType::Int64 | DataType::Time64Ns | DataType::Float64 => 8,
            DataType::Uint128 => 16,
            DataType::String => string_len(self.bytes)?,
        };
        if self.bytes.len() < len {
            return None;
        }
        let (head, tail) = self.bytes.split_at(len);
        self.bytes = tail;
        Some(head)
    }
    pub fn next(&mut self, ty: DataType) -> Option<Value> {
        decode(ty, self.next_raw(ty)?)
    }
}

/// The value of an encoded column, as [`RowReader::next_raw`] gives it.
#[must_use]
pub fn decode(ty: DataType, raw: &[u8]) -> Option<Value> {
    Some(match ty {
        DataType::Boolean => Value::Boolean(*raw.first()? != 0),
        DataType::Int64 => Value::Int64(read_i64(raw)?),
        DataType::Time64Ns => Value::Time64Ns(read_i64(raw)?),
        DataType::Float64 => Value::Float64(read_f64(raw)?),
        DataType::Uint128 => Value::Uint128(u128::from_be_bytes(raw.try_into().ok()?)),
        DataType::String => Value::String(read_str(raw).into_owned()),
    })
}

fn read_i64(raw: &[u8]) -> Option<i64> {
    Some((u64::from_be_bytes(raw.try_into().ok()?) ^ (1 << 63)) as i64)
}
fn read_f64(raw: &[u8]) -> Option<f64> {
    let ordered = u64::from_be_bytes(raw.try_into().ok()?);
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    Some(f64::from_bits(bits))
}
/// The length of an encoded string, its end mark included.
fn string_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(0, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0 => return Some(at + 2),
            _ => at += 2,
        }
    }
}
/// The bytes of an encoded string; copied only if something in it is escaped.
#[must_use]
pub fn read_str(raw: &[u8]) -> Cow<'_, [u8]> {
    let body = &raw[..raw.len().saturating_sub(2)];
    if memchr::memchr(0, body).is_none() {
        return Cow::Borrowed(body);
    }
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        out.push(body[at]);
        at += if body[at] == 0 { 2 } else { 1 };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Int64),
            any::<u64>().prop_map(|bits| Value::Float64(f64::from_bits(bits))),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(255u8), any::<u8>()], 0..6)
                .prop_map(Value::String),
            any::<i64>().prop_map(Value::Time64Ns),
            any::<u128>().prop_map(Value::Uint128),
        ]
    }

    proptest! {
        /// Packing loses nothing and byte order is value order: catches any wrong escape or sign flip.
        #[test]
        fn packs_in_order(a in proptest::collection::vec(value(), 1..4), b in proptest::collection::vec(value(), 1..4)) {
            let types: Vec<_> = a.iter().map(Value::data_type).collect();
            prop_assert_eq!(PackedRow::pack(&a).unpack(&types), Some(a.clone()));
            if types == b.iter().map(Value::data_type).collect::<Vec<_>>() {
                prop_assert_eq!(PackedRow::pack(&a).cmp(&PackedRow::pack(&b)), a.cmp(&b));
            }
        }

        /// Strings that share prefixes and hold zero bytes still sort bytewise.
        #[test]
        fn strings_sort(a in proptest::collection::vec(0u8..3, 0..6), b in proptest::collection::vec(0u8..3, 0..6)) {
            let (x, y) = (Value::String(a.clone()), Value::String(b.clone()));
            prop_assert_eq!(PackedRow::pack(std::slice::from_ref(&x)).cmp(&PackedRow::pack(std::slice::from_ref(&y))), a.cmp(&b));
        }
    }

    #[test]
    fn rejects_short_bytes() {
        assert_eq!(PackedRow(vec![1, 2]).unpack(&[DataType::Int64]), None);
        assert_eq!(PackedRow(vec![b'a', 0]).unpack(&[DataType::String]), None);
    }
}
