//! What a sink passes on, one after another: that a row was inserted or deleted, what now holds for a key,
//! that everything before is void. An element holds its row packed; text is made of it where it leaves
//! ([`crate::encode`]). It knows its bytes on disk, from which it is read back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_types::plan::SlidingWindow;
use weir_types::schema::Relation;
use weir_types::{PackedRow, Value};

use crate::delivery::OutputInfo;
use crate::json::RowWriter;

/// What an element costs in memory beside its row.
const ELEMENT_OVERHEAD_BYTES: u64 = 112;
/// Bytes of an element before its row: op, kind of body, output, seq, tick.
const HEAD_BYTES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Insert,
    Delete,
    Upsert,
    Append,
    /// A row that can no longer change.
    Final,
    /// Everything of this output before is void; a snapshot follows.
    Reset,
    /// Elements that were here were dropped, or went with what was damaged; or what happened before a time may be
    /// missing, because nobody was there to see it, or who was has died with it.
    Lost,
    /// Nothing that leaves: up to its tick the output has been told.
    Progress,
}

const OPS: [(Op, &str); 8] = [
    (Op::Insert, "insert"),
    (Op::Delete, "delete"),
    (Op::Upsert, "upsert"),
    (Op::Append, "append"),
    (Op::Final, "final"),
    (Op::Reset, "reset"),
    (Op::Lost, "lost"),
    (Op::Progress, "progress"),
];

impl Op {
    #[must_use]
    pub fn name(self) -> &'static str {
        OPS[self as usize].1
    }

    /// True for what leaves about rows.
    #[must_use]
    pub fn is_row(self) -> bool {
        !matches!(self, Op::Reset | Op::Lost | Op::Progress)
    }
}

/// True for the name of an element that leaves.
#[must_use]
pub fn is_op(name: &str) -> bool {
    OPS.iter().any(|(op, have)| *have == name && *op != Op::Progress)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Row(PackedRow),
    /// Of a row that has gone, only what identified it.
    Key(PackedRow),
    /// How many elements are missing.
    Rows(u64),
    /// The Unix time, in nanoseconds, since which nothing is.
    Since(i64),
}

/// An output as its elements know it, also after a restart.
#[derive(Debug)]
pub struct Described {
    /// Which input of the sink.
    pub input: u16,
    /// The sink has others, too: each element says whose it is.
    pub is_one_of_several: bool,
    pub info: OutputInfo,
    /// Positions of the key's columns; none without a key.
    pub key: Vec<usize>,
    pub row: RowWriter,
}

/// The part of it that is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    input: u16,
    is_one_of_several: bool,
    table: String,
    relation: Relation,
    key: Vec<String>,
    window: Option<SlidingWindow>,
}

impl Described {
    #[must_use]
    pub fn new(input: u16, is_one_of_several: bool, info: &OutputInfo) -> Described {
        let key: Option<Vec<usize>> =
            info.key.iter().map(|name| info.relation.index_of(name)).collect();
        Described {
            input,
            is_one_of_several,
            key: key.unwrap_or_default(),
            row: RowWriter::new(&info.relation),
            info: info.clone(),
        }
    }

    /// A row's values. None of a row that does not fit.
    #[must_use]
    pub fn values(&self, row: &PackedRow) -> Vec<Value> {
        row.unpack(&self.info.relation.types()).unwrap_or_default()
    }

    #[must_use]
    pub fn key_of(&self, values: &[Value]) -> Vec<Value> {
        self.key.iter().filter_map(|&at| values.get(at).cloned()).collect()
    }

    /// The key that an element is about, as values.
    #[must_use]
    pub fn key_values(&self, body: &Body) -> Vec<Value> {
        match body {
            Body::Row(row) => self.key_of(&self.values(row)),
            Body::Key(key) => {
                let types = self.info.relation.types();
                let types: Vec<_> = self.key.iter().map(|&at| types[at]).collect();
                key.unpack(&types).unwrap_or_default()
            }
            Body::None | Body::Rows(_) | Body::Since(_) => Vec::new(),
        }
    }

    /// As JSON, to be written down.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(Written {
            input: self.input,
            is_one_of_several: self.is_one_of_several,
            table: self.info.table.clone(),
            relation: self.info.relation.clone(),
            key: self.info.key.clone(),
            window: self.info.window,
        })
    }

    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Option<Described> {
        let written = Written::deserialize(json).ok()?;
        let info = OutputInfo {
            table: written.table,
            relation: written.relation,
            key: written.key,
            window_from: String::new(),
            pane_ms: 0,
            window: written.window,
            widgets: vec![],
        };
        Some(Described::new(written.input, written.is_one_of_several, &info))
    }
}

#[derive(Clone, Debug)]
pub struct Element {
    pub output: Arc<Described>,
    pub op: Op,
    /// Ascending per sink. What is dropped has a number, too, so that a gap is seen.
    pub seq: u64,
    pub tick_ms: u64,
    pub body: Body,
}

impl Element {
    /// What it costs while it waits.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let row = match &self.body {
            Body::Row(bytes) | Body::Key(bytes) => bytes.0.len() as u64,
            Body::None | Body::Rows(_) | Body::Since(_) => 0,
        };
        ELEMENT_OVERHEAD_BYTES + row
    }

    /// `output`: the number of its output among those described where it is written.
    pub fn push_bytes(&self, out: &mut Vec<u8>, output: u16) {
        let (kind, body): (u8, &[u8]) = match &self.body {
            Body::None => (0, &[]),
            Body::Row(row) => (1, &row.0),
            Body::Key(key) => (2, &key.0),
            Body::Rows(rows) => (3, &rows.to_le_bytes()),
            Body::Since(unix_ns) => (4, &unix_ns.to_le_bytes()),
        };
        out.extend_from_slice(&[self.op as u8, kind]);
        out.extend_from_slice(&output.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.tick_ms.to_le_bytes());
        out.extend_from_slice(body);
    }

    /// `None`: these are no bytes of an element of these outputs.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], outputs: &[Arc<Described>]) -> Option<Element> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
        let (op, _) = OPS.get(usize::from(head[0]))?;
        let output = u16::from_le_bytes([head[2], head[3]]);
        let output = Arc::clone(outputs.get(usize::from(output))?);
        let body = match head[1] {
            0 => Body::None,
            1 => Body::Row(PackedRow(body.to_vec())),
            2 => Body::Key(PackedRow(body.to_vec())),
            3 => Body::Rows(u64::from_le_bytes(body.try_into().ok()?)),
            4 => Body::Since(i64::from_le_bytes(body.try_into().ok()?)),
            _ => return None,
        };
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(head[at..at + 8].try_into().ok()?))
        };
        Some(Element { output, op: *op, seq: number(4)?, tick_ms: number(12)?, body })
    }
}
