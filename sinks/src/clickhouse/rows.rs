//! The statements for one table, and elements as the rows that they take.

use std::sync::Arc;

use weir_types::json::{time_text, uuid_text};
use weir_types::{DataType, Value};

use crate::delivery::OutputInfo;
use crate::element::{Body, Described, Element, Op};
use crate::json::push_string;
use crate::words::{Key, Words};

const KEY: &str = "_key";
/// Ours, besides the view's.
const OWN: [&str; 5] = [KEY, "_seq", "_deleted", "_op", "_tick"];

/// What the server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Times to the nanosecond; without, they are numbers of nanoseconds.
    has_times: bool,
    /// Rows that say that they are deleted go with a merge.
    has_deleted: bool,
}

impl Server {
    pub(super) fn of(version: &str) -> Server {
        let mut parts = version.trim().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        Server { has_times: version >= (20, 5), has_deleted: version >= (23, 3) }
    }
}

pub(super) fn judge(info: &OutputInfo) -> Result<(), String> {
    for column in &info.relation.columns {
        if OWN.contains(&column.name.as_str()) || column.name.is_empty() {
            return Err(format!("`{}` is the sink's own column: rename it", column.name));
        }
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

fn type_of(data_type: DataType, server: Server) -> &'static str {
    match data_type {
        DataType::Boolean => "UInt8",
        DataType::Int64 => "Int64",
        DataType::Float64 => "Float64",
        DataType::String => "String",
        DataType::Time64Ns if server.has_times => "DateTime64(9, 'UTC')",
        DataType::Time64Ns => "Int64",
        DataType::Uint128 => "UUID",
    }
}

pub(super) struct Statements {
    output: Arc<Described>,
    server: Server,
    /// Names as JSON keys, with their colons.
    names: Vec<String>,
    pub(super) create: String,
    /// What the table has.
    pub(super) describe: String,
    /// By name: what adds a column that an older table lacks.
    adds: Vec<(String, String)>,
    pub(super) empty: String,
    pub(super) insert: String,
}

impl Statements {
    pub(super) fn new(
        table: &str,
        is_upsert: bool,
        server: Server,
        output: &Arc<Described>,
    ) -> Result<Statements, String> {
        judge(&output.info)?;
        let parts: Vec<String> = table.splitn(2, '.').map(quoted).collect();
        let table = parts.join(".");
        let columns: Vec<(String, &str)> = output
            .info
            .relation
            .columns
            .iter()
            .map(|column| (quoted(&column.name), type_of(column.data_type, server)))
            .collect();
        let mut made = String::new();
        for (name, held) in &columns {
            made.push_str(&format!("{name} {held}, "));
        }
        let time = type_of(DataType::Time64Ns, server);
        let (own, engine) = match (is_upsert, server.has_deleted) {
            (true, true) => (
                "`_key` String, `_seq` UInt64, `_deleted` UInt8".to_string(),
                "ReplacingMergeTree(`_seq`, `_deleted`) ORDER BY `_key`",
            ),
            (true, false) => (
                "`_key` String, `_seq` UInt64, `_deleted` UInt8".to_string(),
                "ReplacingMergeTree(`_seq`) ORDER BY `_key`",
            ),
            (false, _) => (
                format!("`_op` String, `_seq` UInt64, `_tick` {time}"),
                "ReplacingMergeTree ORDER BY `_seq`",
            ),
        };
        let named = output.info.relation.columns.iter().map(|column| &column.name);
        let adds = named.zip(&columns).map(|(name, (quoted, held))| {
            (name.clone(), format!("ALTER TABLE {table} ADD COLUMN {quoted} {held}"))
        });
        let adds = adds.collect();
        let key = |name: &str| {
            let mut key = String::new();
            push_string(&mut key, name);
            key + ":"
        };
        Ok(Statements {
            names: output.info.relation.columns.iter().map(|column| key(&column.name)).collect(),
            output: Arc::clone(output),
            server,
            create: format!("CREATE TABLE IF NOT EXISTS {table} ({made}{own}) ENGINE = {engine}"),
            describe: format!("DESCRIBE TABLE {table} FORMAT JSON"),
            adds,
            empty: format!("TRUNCATE TABLE {table}"),
            insert: format!("INSERT INTO {table} FORMAT JSONEachRow"),
        })
    }

    pub(super) fn is_for(&self, output: &Arc<Described>) -> bool {
        Arc::ptr_eq(&self.output, output)
    }

    /// For a table that describes itself so: what adds the columns that it lacks. (Older servers know no
    /// `ADD COLUMN IF NOT EXISTS`.)
    pub(super) fn adds(&self, description: &str) -> Result<Vec<&str>, String> {
        #[derive(serde::Deserialize)]
        struct Description {
            data: Vec<Have>,
        }
        #[derive(serde::Deserialize)]
        struct Have {
            name: String,
        }
        let description: Description = serde_json::from_str(description)
            .map_err(|error| format!("the table's description cannot be read: {error}"))?;
        let has = |name: &String| description.data.iter().any(|have| have.name == *name);
        let lacking = self.adds.iter().filter(|(name, _)| !has(name));
        Ok(lacking.map(|(_, statement)| statement.as_str()).collect())
    }

    fn push_members(&self, out: &mut String, values: &[Value], cleaned: &mut u64) {
        for (name, value) in self.names.iter().zip(values) {
            out.push_str(name);
            self.push_value(out, value, cleaned);
            out.push(',');
        }
    }

    fn push_value(&self, out: &mut String, value: &Value, cleaned: &mut u64) {
        use std::fmt::Write;
        let wrote = match value {
            Value::Boolean(value) => write!(out, "{}", u8::from(*value)),
            Value::Int64(value) => write!(out, "{value}"),
            Value::Float64(value) if value.is_nan() => write!(out, "\"nan\""),
            Value::Float64(value) if value.is_infinite() => {
                write!(out, "\"{}inf\"", if *value < 0.0 { "-" } else { "" })
            }
            Value::Float64(value) => write!(out, "{value:?}"),
            Value::String(bytes) => {
                *cleaned += u64::from(std::str::from_utf8(bytes).is_err());
                push_string(out, &String::from_utf8_lossy(bytes));
                Ok(())
            }
            Value::Time64Ns(time) if self.server.has_times => {
                // As ClickHouse writes it, in UTC.
                let text = time_text(*time).replace('T', " ");
                write!(out, "\"{}\"", text.trim_end_matches('Z'))
            }
            Value::Time64Ns(time) => write!(out, "{time}"),
            Value::Uint128(value) => write!(out, "\"{}\"", uuid_text(*value)),
        };
        wrote.expect("writing to a String cannot fail");
    }

    /// What now holds, a row a key; and how many texts were cleaned.
    pub(super) fn upserts(&self, words: &Words<'_>) -> (String, u64) {
        let (mut out, mut cleaned) = (String::new(), 0);
        for (key, (row, seq)) in &words.rows {
            out.push('{');
            self.push_members(&mut out, &self.output.values(row), &mut cleaned);
            push_own(&mut out, key, *seq, false);
        }
        for (key, seq) in &words.deleted {
            out.push('{');
            push_own(&mut out, key, *seq, true);
        }
        (out, cleaned)
    }

    /// The elements, a row each.
    pub(super) fn appends(&self, part: &[&Element]) -> (String, u64) {
        use std::fmt::Write;
        let (mut out, mut cleaned) = (String::new(), 0);
        for element in part.iter().filter(|element| element.op != Op::Progress) {
            out.push('{');
            match &element.body {
                Body::Row(row) => {
                    self.push_members(&mut out, &self.output.values(row), &mut cleaned);
                }
                Body::Key(_) => {
                    let values = self.output.key_values(&element.body);
                    for (at, value) in self.output.key.iter().zip(&values) {
                        out.push_str(&self.names[*at]);
                        self.push_value(&mut out, value, &mut cleaned);
                        out.push(',');
                    }
                }
                Body::None | Body::Rows(_) | Body::Since(_) => {}
            }
            out.push_str("\"_tick\":");
            let tick = weir_types::clock::tick_unix_ns(element.tick_ms);
            self.push_value(&mut out, &Value::Time64Ns(tick), &mut cleaned);
            writeln!(out, ",\"_op\":\"{}\",\"_seq\":{}}}", element.op.name(), element.seq)
                .expect("writing to a String cannot fail");
        }
        (out, cleaned)
    }
}

fn push_own(out: &mut String, key: &Key, seq: u64, is_deleted: bool) {
    use std::fmt::Write;
    let mut hex = String::with_capacity(32);
    for byte in key {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    writeln!(out, "\"_key\":\"{hex}\",\"_seq\":{seq},\"_deleted\":{}}}", u8::from(is_deleted))
        .expect("writing to a String cannot fail");
}
