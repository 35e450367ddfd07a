//! Elements as text, one a line: JSON objects or CSV records, each with `op`, `seq` and the tick to which
//! it belongs. It writes text, not files, and keeps nothing.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use weir_types::Value;
use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;

use crate::csv;
use crate::element::{self, Body, Described, Element, Op};
use crate::json::{push_string, push_value};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What was inserted and deleted.
    #[default]
    Changelog,
    /// What now holds for a key.
    Upsert,
    /// What was inserted.
    Append,
    /// Rows of bins that can no longer change, each once.
    Final,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Changelog => "changelog",
            Mode::Upsert => "upsert",
            Mode::Append => "append",
            Mode::Final => "final",
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    #[default]
    Json,
    Csv,
}

/// How elements are made, and how they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Encoding {
    pub mode: Mode,
    pub codec: Codec,
}

/// The first line of a file, where the form has one.
#[must_use]
pub fn header(codec: Codec, output: &Described) -> Option<String> {
    if codec == Codec::Json {
        return None;
    }
    let columns = output.info.relation.columns.iter().map(|column| column.name.as_str());
    let fields: Vec<&str> = ["op", "seq", "tick"].into_iter().chain(columns).collect();
    Some(csv::record(&fields) + "\n")
}

/// Appends an element and its line end; nothing for what does not leave.
pub fn push_line(out: &mut String, codec: Codec, element: &Element) {
    if element.op == Op::Progress {
        return;
    }
    match codec {
        Codec::Json => push_json(out, element),
        Codec::Csv => push_csv(out, element),
    }
    out.push('\n');
}

/// Appends an element as a JSON object.
pub fn push_json(out: &mut String, element: &Element) {
    use std::fmt::Write;
    let Element { output, op, seq, tick_ms, body } = element;
    let tick = time_text(tick_unix_ns(*tick_ms));
    let name = op.name();
    write!(out, "{{\"op\":\"{name}\",\"seq\":{seq},\"tick\":\"{tick}\"")
        .expect("writing to a String cannot fail");
    // What is missing in a row of numbers may have been any input's.
    if output.is_one_of_several && !matches!(body, Body::Rows(_)) {
        out.push_str(",\"input\":");
        push_string(out, &output.info.table);
    }
    if matches!(op, Op::Insert) || (*op == Op::Delete && matches!(body, Body::Row(_))) {
        write!(out, ",\"frontier\":\"{tick}\"").expect("writing to a String cannot fail");
    }
    if matches!(op, Op::Insert | Op::Delete | Op::Upsert) {
        out.push_str(",\"key\":[");
        for (idx, value) in output.key_values(body).iter().enumerate() {
            if idx > 0 {
                out.push(',');
            }
            push_value(out, value);
        }
        out.push(']');
    }
    match body {
        Body::Row(row) => {
            out.push_str(",\"row\":");
            output.row.push_row(out, row);
        }
        Body::Rows(rows) => {
            write!(out, ",\"rows\":{rows}").expect("writing to a String cannot fail");
        }
        Body::Since(unix_ns) => {
            let since = time_text(*unix_ns);
            write!(out, ",\"covers_from\":\"{since}\"").expect("writing to a String cannot fail");
        }
        Body::Key(_) | Body::None => {}
    }
    out.push('}');
}

fn push_csv(out: &mut String, element: &Element) {
    let Element { output, op, seq, tick_ms, body } = element;
    let mut row = vec![String::new(); output.info.relation.len()];
    match body {
        Body::Row(packed) => set(&mut row, 0.., &output.values(packed)),
        Body::Key(_) => set(&mut row, output.key.iter().copied(), &output.key_values(body)),
        // The first column says how many, or since when nothing is missing: a record has no other place for it.
        Body::Rows(rows) => row.iter_mut().take(1).for_each(|field| *field = rows.to_string()),
        Body::Since(unix_ns) => {
            row.iter_mut().take(1).for_each(|field| *field = time_text(*unix_ns));
        }
        Body::None => {}
    }
    let mut fields =
        vec![op.name().to_string(), seq.to_string(), time_text(tick_unix_ns(*tick_ms))];
    fields.extend(row);
    out.push_str(&csv::record(&fields));
}

fn set(row: &mut [String], at: impl IntoIterator<Item = usize>, values: &[Value]) {
    for (at, value) in at.into_iter().zip(values) {
        if let Some(field) = row.get_mut(at) {
            *field = csv::field_text(value);
        }
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
                (op, seq) if element::is_op(op) => seq.parse().ok(),
                _ => None,
            }
        }
    };
    seq.filter(|seq: &u64| *seq < crate::sink::SEQ_END)
}
