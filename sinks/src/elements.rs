//! Deliveries as a sequence of elements, one a line: what was inserted and deleted (`changelog`), what now
//! holds for a key (`upsert`), or what was inserted (`append`). Each carries `seq`, ascending, and the tick
//! to which it belongs. A `reset` says that everything before is void and a snapshot follows. It writes
//! text, not files.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;
use weir_types::{PackedRow, Value};

use crate::delivery::{Delivery, OutputInfo};
use crate::json::{RowWriter, push_value};
use crate::{csv, sink::SinkError};

/// Text of what waits to be written. A row may be there a billion times (`df.append(df)`), and each
/// of its copies is an element.
const TEXT_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Changelog,
    Upsert,
    Append,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    #[default]
    Json,
    Csv,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encoding {
    pub mode: Mode,
    pub codec: Codec,
}

/// What an element says.
struct Element<'a> {
    op: &'static str,
    tick_ms: u64,
    key: Option<&'a [Value]>,
    row: Option<Row<'a>>,
}

/// A row as it came and taken apart: the key and CSV are made of its values, JSON of it as it is.
#[derive(Clone, Copy)]
struct Row<'a> {
    packed: &'a PackedRow,
    values: &'a [Value],
}

/// An output and how its rows are written.
struct Described {
    info: OutputInfo,
    /// Positions of the key's columns; all of them without a key.
    key: Vec<usize>,
    row: RowWriter,
}

pub struct Elements {
    encoding: Encoding,
    described: Option<Described>,
    next_seq: u64,
    /// Of the tick that is being delivered: keys that have a new row, and those that lost theirs.
    upserted: BTreeSet<PackedRow>,
    deleted: BTreeMap<PackedRow, Vec<Value>>,
    rows: u64,
    /// There was more than can be written.
    too_much: bool,
}

impl Elements {
    #[must_use]
    pub fn new(encoding: Encoding) -> Elements {
        Elements {
            encoding,
            described: None,
            next_seq: 1,
            upserted: BTreeSet::new(),
            deleted: BTreeMap::new(),
            rows: 0,
            too_much: false,
        }
    }

    /// # Errors
    /// What was delivered is more text than is held: nothing of it may be written as if it were all.
    pub fn whole(&self) -> Result<(), SinkError> {
        if self.too_much {
            return Err(SinkError::Refused(format!(
                "one change is more than {TEXT_BYTES_MAX} bytes of text: let the script count rows \
                 that are equal instead of showing each"
            )));
        }
        Ok(())
    }

    /// Goes on behind what is there already.
    pub fn go_on_after(&mut self, seq: u64) {
        self.next_seq = self.next_seq.max(seq + 1);
    }

    /// Elements about rows, so far: what a mode leaves out is not among them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// # Errors
    /// `upsert` needs a key, which only aggregates have.
    pub fn describe(&mut self, info: &OutputInfo) -> Result<(), SinkError> {
        let key: Option<Vec<usize>> =
            info.key.iter().map(|name| info.relation.index_of(name)).collect();
        let key = key.unwrap_or_default();
        if key.is_empty() && self.encoding.mode == Mode::Upsert {
            return Err(SinkError::Refused(format!(
                "`{}` has no key, as it is no aggregate: use `mode: changelog` or `append`",
                info.table
            )));
        }
        let row = RowWriter::new(&info.relation);
        self.described = Some(Described { info: info.clone(), key, row });
        Ok(())
    }

    /// The first line of a file, where the form has one.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let described = self.described.as_ref().filter(|_| self.encoding.codec == Codec::Csv)?;
        let columns = described.info.relation.columns.iter().map(|column| column.name.as_str());
        let fields: Vec<&str> = ["op", "seq", "tick"].into_iter().chain(columns).collect();
        Some(csv::record(&fields) + "\n")
    }

    /// Everything before is void.
    pub fn push_reset(&mut self, out: &mut String, tick_ms: u64) {
        self.upserted.clear();
        self.deleted.clear();
        self.push(out, &Element { op: "reset", tick_ms, key: None, row: None });
    }

    /// Writes what a delivery says.
    pub fn push_delivery(&mut self, out: &mut String, delivery: &Delivery) {
        let Some(described) = &self.described else { return };
        let (types, key_of) = (described.info.relation.types(), described.key.clone());
        let tick_ms = delivery.tick_ms;
        let table = described.info.table.clone();
        for changes in delivery.changes_of(&table) {
            for (row, diff) in &changes.rows {
                let values = row.unpack(&types).unwrap_or_default();
                let key: Vec<Value> =
                    key_of.iter().filter_map(|&at| values.get(at).cloned()).collect();
                let row = Row { packed: row, values: &values };
                self.push_row(out, tick_ms, &key, row, *diff);
            }
        }
        if delivery.completeness.is_some() {
            self.upserted.clear();
            for key in std::mem::take(&mut self.deleted).into_values() {
                self.push(out, &Element { op: "delete", tick_ms, key: Some(&key), row: None });
            }
        }
    }

    fn push_row(&mut self, out: &mut String, tick_ms: u64, key: &[Value], row: Row<'_>, diff: i64) {
        let (key_of, row) = (Some(key), Some(row));
        match self.encoding.mode {
            Mode::Changelog => {
                let op = if diff > 0 { "insert" } else { "delete" };
                let element = Element { op, tick_ms, key: key_of, row };
                self.push_copies(out, &element, diff.unsigned_abs());
            }
            Mode::Append => {
                let element = Element { op: "append", tick_ms, key: None, row };
                self.push_copies(out, &element, u64::try_from(diff).unwrap_or(0));
            }
            Mode::Upsert => {
                let packed = PackedRow::pack(key);
                if diff > 0 {
                    self.deleted.remove(&packed);
                    self.upserted.insert(packed);
                    self.push(out, &Element { op: "upsert", tick_ms, key: key_of, row });
                } else if !self.upserted.contains(&packed) {
                    // Perhaps its new row follows: known when the tick is over.
                    self.deleted.insert(packed, key.to_vec());
                }
            }
        }
    }

    fn push_copies(&mut self, out: &mut String, element: &Element<'_>, copies: u64) {
        for _ in 0..copies {
            self.too_much |= out.len() > TEXT_BYTES_MAX;
            if self.too_much {
                return;
            }
            self.push(out, element);
        }
    }

    fn push(&mut self, out: &mut String, element: &Element<'_>) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.rows += u64::from(element.key.is_some() || element.row.is_some());
        match self.encoding.codec {
            Codec::Json => self.push_json(out, seq, element),
            Codec::Csv => self.push_csv(out, seq, element),
        }
        out.push('\n');
    }

    fn push_json(&self, out: &mut String, seq: u64, element: &Element<'_>) {
        use std::fmt::Write;
        let tick = time_text(tick_unix_ns(element.tick_ms));
        let op = element.op;
        write!(out, "{{\"op\":\"{op}\",\"seq\":{seq},\"tick\":\"{tick}\"")
            .expect("writing to a String cannot fail");
        if self.encoding.mode == Mode::Changelog && op != "reset" {
            write!(out, ",\"frontier\":\"{tick}\"").expect("writing to a String cannot fail");
        }
        if let Some(key) = element.key {
            out.push_str(",\"key\":[");
            for (idx, value) in key.iter().enumerate() {
                if idx > 0 {
                    out.push(',');
                }
                push_value(out, value);
            }
            out.push(']');
        }
        if let (Some(row), Some(described)) = (element.row, &self.described) {
            out.push_str(",\"row\":");
            described.row.push_row(out, row.packed);
        }
        out.push('}');
    }

    fn push_csv(&self, out: &mut String, seq: u64, element: &Element<'_>) {
        let Some(described) = &self.described else { return };
        let columns = described.info.relation.columns.len();
        let mut fields =
            vec![element.op.to_string(), seq.to_string(), time_text(tick_unix_ns(element.tick_ms))];
        let mut row = vec![String::new(); columns];
        if let Some(Row { values, .. }) = element.row {
            for (field, value) in row.iter_mut().zip(values) {
                *field = csv::field_text(value);
            }
        } else if let Some(key) = element.key {
            for (&at, value) in described.key.iter().zip(key) {
                row[at] = csv::field_text(value);
            }
        }
        fields.extend(row);
        out.push_str(&csv::record(&fields));
    }
}

/// The `seq` of an element's line, to go on behind it. One that could not have been reached is not ours.
#[must_use]
pub fn seq_of(line: &str, codec: Codec) -> Option<u64> {
    let seq = match codec {
        Codec::Json => serde_json::from_str::<serde_json::Value>(line).ok()?.get("seq")?.as_u64(),
        // Neither the operation nor the number is ever quoted.
        Codec::Csv => {
            let mut fields = line.split(',');
            match (fields.next()?, fields.next()?) {
                ("op", "seq") => Some(0),
                ("insert" | "delete" | "upsert" | "append" | "reset", seq) => seq.parse().ok(),
                _ => None,
            }
        }
    };
    seq.filter(|seq: &u64| *seq < u64::MAX / 2)
}
