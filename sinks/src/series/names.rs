//! Names of series: which columns are labels and which are values, and what they are called where only letters,
//! digits and `_` are names.

use std::collections::BTreeMap;

use weir_types::DataType;

use crate::delivery::OutputInfo;
use crate::element::Described;

/// Columns by what becomes of them, with their names.
pub(crate) struct Columns {
    pub(crate) labels: Vec<(usize, String)>,
    pub(crate) values: Vec<(usize, String)>,
}

/// A name, with `_` for each character that names may not have and before a leading digit.
pub(crate) fn name_of(column: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = column.chars().map(fits).collect();
    let needs_letter = name.chars().next().is_none_or(|first| first.is_ascii_digit());
    if needs_letter { format!("_{name}") } else { name }
}

/// What the metrics of an output begin with.
pub(crate) fn prefix_of(prefix: &str, table: &str, is_one_of_several: bool) -> String {
    if is_one_of_several {
        format!("{}_{}", name_of(prefix), name_of(table))
    } else {
        name_of(prefix)
    }
}

pub(crate) fn prefix(prefix: &str, output: &Described) -> String {
    prefix_of(prefix, &output.info.table, output.is_one_of_several)
}

fn is_number(data_type: DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::Float64 | DataType::Boolean)
}

/// Which columns are labels and which are values, with their own names.
pub(crate) fn own_columns(info: &OutputInfo) -> Result<Columns, String> {
    let (mut labels, mut values) = (Vec::new(), Vec::new());
    for (at, column) in info.relation.columns.iter().enumerate() {
        if info.key.contains(&column.name) {
            labels.push((at, column.name.clone()));
        } else if is_number(column.data_type) {
            values.push((at, column.name.clone()));
        }
    }
    if values.is_empty() {
        return Err(format!("`{}` has no number that is not in its key", info.table));
    }
    Ok(Columns { labels, values })
}

/// The same with names that Prometheus takes.
///
/// # Errors
/// Two columns meet in one name, or there is nothing to show.
pub(crate) fn columns_of(info: &OutputInfo) -> Result<Columns, String> {
    let mut columns = own_columns(info)?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let labels = columns.labels.iter_mut().map(|column| (column, true));
    let values = columns.values.iter_mut().map(|column| (column, false));
    for ((_, column), is_label) in labels.chain(values) {
        let name = name_of(column);
        if is_label && name.starts_with("__") {
            return Err(format!(
                "`{column}`: labels that begin with `__` are Prometheus' own: rename the column"
            ));
        }
        if let Some(other) = names.insert(name.clone(), column.clone()) {
            return Err(format!(
                "`{other}` and `{column}` would both be called `{name}`: rename one"
            ));
        }
        *column = name;
    }
    Ok(columns)
}

/// All metrics of some outputs of one sink, by what their names begin with.
///
/// # Errors
/// Two would have one name.
pub(crate) fn judge_all(prefix: &str, outputs: &[OutputInfo]) -> Result<(), String> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for info in outputs {
        let prefix = prefix_of(prefix, &info.table, outputs.len() > 1);
        for (_, column) in columns_of(info)?.values {
            let name = format!("{prefix}_{column}");
            let of = format!("`{column}` of `{}`", info.table);
            if let Some(other) = seen.insert(name.clone(), of.clone()) {
                return Err(format!("{other} and {of} would both be called `{name}`: rename one"));
            }
        }
    }
    Ok(())
}
