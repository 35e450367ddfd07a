//! The statements that keep a table, and a batch's rows as the arrays that they take.

use std::sync::Arc;

use postgres::types::ToSql;
use weir_types::json::{time_text, uuid_text};
use weir_types::{DataType, Value};

use crate::delivery::OutputInfo;
use crate::element::Described;
use crate::words::Words;

const KEY: &str = "_key";
/// Longer names are cut by the server, and may meet.
const NAME_BYTES_MAX: usize = 63;

type Column = Box<dyn ToSql + Sync>;

pub(super) fn judge(info: &OutputInfo) -> Result<(), String> {
    for column in &info.relation.columns {
        let name = &column.name;
        if name == KEY || name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(format!(
                "`{name}` can be no column: a name has 1 to {NAME_BYTES_MAX} bytes and is not `{KEY}`"
            ));
        }
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The column's type, and the type that its values are sent as.
fn types_of(data_type: DataType) -> (&'static str, &'static str) {
    match data_type {
        DataType::Boolean => ("boolean", "boolean[]"),
        DataType::Int64 => ("bigint", "bigint[]"),
        DataType::Float64 => ("double precision", "double precision[]"),
        DataType::String => ("text", "text[]"),
        DataType::Time64Ns => ("timestamptz", "text[]"),
        DataType::Uint128 => ("uuid", "text[]"),
    }
}

pub(super) struct Statements {
    output: Arc<Described>,
    pub(super) create: String,
    pub(super) empty: String,
    pub(super) delete: String,
    pub(super) upsert: String,
}

impl Statements {
    pub(super) fn new(table: &str, output: &Arc<Described>) -> Result<Statements, String> {
        judge(&output.info)?;
        let table: Vec<String> = table.splitn(2, '.').map(quoted).collect();
        let table = table.join(".");
        let (mut made, mut added, mut names) = (String::new(), String::new(), String::new());
        let (mut sent, mut set) = ("$1::bytea[]".to_string(), Vec::new());
        for (at, column) in output.info.relation.columns.iter().enumerate() {
            let name = quoted(&column.name);
            let (held, array) = types_of(column.data_type);
            made.push_str(&format!(", {name} {held}"));
            added
                .push_str(&format!("; ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {held}"));
            names.push_str(&format!(", {name}"));
            let number = at + 2;
            sent.push_str(&format!(", ${number}::{array}::{held}[]"));
            set.push(format!("{name} = EXCLUDED.{name}"));
        }
        let set = set.join(", ");
        Ok(Statements {
            output: Arc::clone(output),
            create: format!(
                "CREATE TABLE IF NOT EXISTS {table} ({KEY} bytea PRIMARY KEY{made}){added}"
            ),
            empty: format!("DELETE FROM {table}"),
            delete: format!("DELETE FROM {table} WHERE {KEY} = ANY($1::bytea[])"),
            upsert: format!(
                "INSERT INTO {table} ({KEY}{names}) SELECT * FROM unnest({sent}) \
                 ON CONFLICT ({KEY}) DO UPDATE SET {set}"
            ),
        })
    }

    pub(super) fn is_for(&self, output: &Arc<Described>) -> bool {
        Arc::ptr_eq(&self.output, output)
    }
}

/// The rows as one array a column, the keys first; and how many texts were cleaned.
pub(super) fn columns(words: &Words<'_>) -> (Vec<Column>, u64) {
    let keys: Vec<Vec<u8>> = words.rows.keys().map(|key| key.to_vec()).collect();
    let rows: Vec<Vec<Value>> =
        words.rows.values().map(|(row, _)| words.output.values(row)).collect();
    let mut columns: Vec<Column> = vec![Box::new(keys)];
    let mut cleaned = 0;
    for (at, column) in words.output.info.relation.columns.iter().enumerate() {
        let values = rows.iter().map(|row| row.get(at));
        columns.push(match column.data_type {
            DataType::Boolean => Box::new(of(values, |value| match value {
                Value::Boolean(value) => Some(*value),
                _ => None,
            })),
            DataType::Int64 => Box::new(of(values, |value| match value {
                Value::Int64(value) => Some(*value),
                _ => None,
            })),
            DataType::Float64 => Box::new(of(values, |value| match value {
                Value::Float64(value) => Some(*value),
                _ => None,
            })),
            _ => Box::new(of(values, |value| match value {
                Value::String(bytes) => Some(clean(bytes, &mut cleaned)),
                Value::Time64Ns(time) => Some(time_text(*time)),
                Value::Uint128(value) => Some(uuid_text(*value)),
                _ => None,
            })),
        });
    }
    (columns, cleaned)
}

fn of<'a, T>(
    values: impl Iterator<Item = Option<&'a Value>>,
    mut one: impl FnMut(&Value) -> Option<T>,
) -> Vec<Option<T>> {
    values.map(|value| value.and_then(&mut one)).collect()
}

/// A text as the server takes it.
fn clean(bytes: &[u8], cleaned: &mut u64) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_clean = matches!(text, std::borrow::Cow::Borrowed(_)) && !bytes.contains(&0);
    *cleaned += u64::from(!is_clean);
    text.replace('\0', "\u{FFFD}")
}
