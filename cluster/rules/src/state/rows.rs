//! Rows of a rule's answer, and the label sets that they become.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use weir_types::{DataType, Relation, Value};

use super::AlertRule;
use crate::labels::{self, ALERT_NAME, LABEL_BYTES_MAX, Labels};
use crate::template::Data;

/// Which columns of an expression are labels, and which is the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Column and label, in the relation's order.
    labels: Vec<(usize, String)>,
    value: Option<usize>,
}

impl Columns {
    /// Why a table cannot be alerts, if it cannot.
    pub fn of(relation: &Relation) -> Result<Columns, String> {
        Columns::with_labels(relation, &BTreeSet::new())
    }

    /// The same, where columns with one of these names are labels by just this name: rule files call them so.
    pub fn with_labels(relation: &Relation, named: &BTreeSet<&str>) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for (idx, column) in relation.columns.iter().enumerate() {
            match column.data_type {
                DataType::Int64 | DataType::Float64 if column.name == "value" => {
                    columns.value = Some(idx);
                }
                other if column.name == "value" => {
                    return Err(format!(
                        "the column `value` is {other}; it has to be INT64 or FLOAT64"
                    ));
                }
                DataType::String => {
                    let name = match named.contains(column.name.as_str()) {
                        true => column.name.clone(),
                        false => labels::label_name(&column.name),
                    };
                    if let Some((other, _)) =
                        columns.labels.iter().find(|(_, there)| *there == name)
                    {
                        let other = &relation.columns[*other].name;
                        return Err(format!(
                            "the columns `{other}` and `{}` are both the label {name}",
                            column.name
                        ));
                    }
                    columns.labels.push((idx, name));
                }
                _ => {}
            }
        }
        Ok(columns)
    }

    /// Names of the labels, in the order of a row's.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|(_, name)| name.as_str())
    }

    /// The row of an answer; what is too long for a label is cut, and known to be.
    #[must_use]
    pub fn row(&self, values: &[Value]) -> Row {
        let mut cut = false;
        let mut text = |idx: &usize| match values.get(*idx) {
            Some(Value::String(bytes)) => {
                cut |= bytes.len() > LABEL_BYTES_MAX;
                bytes[..bytes.len().min(LABEL_BYTES_MAX)].to_vec()
            }
            _ => Vec::new(),
        };
        let labels = self.labels.iter().map(|(idx, _)| text(idx)).collect();
        let value = match self.value.and_then(|idx| values.get(idx)) {
            Some(Value::Float64(value)) => *value,
            Some(Value::Int64(value)) => *value as f64,
            _ => 1.0,
        };
        Row { labels, value, cut }
    }
}

/// A row: its texts, in the order of [`Columns`], and its value; 1 without one.
#[derive(Clone, Debug)]
pub struct Row {
    labels: Vec<Vec<u8>>,
    value: f64,
    cut: bool,
}

impl Row {
    /// Its texts by the names of their labels.
    pub(crate) fn labels(&self, columns: &Columns) -> BTreeMap<String, String> {
        let pairs = columns.names().zip(&self.labels);
        pairs
            .map(|(name, text)| (name.to_string(), labels::label_value(text).into_owned()))
            .collect()
    }
    pub(crate) fn value(&self) -> f64 {
        self.value
    }
    /// What it weighs in memory, roughly: it is there twice, and its label set beside it.
    pub(super) fn weight(&self) -> usize {
        400 + 4 * self.labels.iter().map(|label| label.len() + 48).sum::<usize>()
    }

    fn key(&self) -> (&[Vec<u8>], bool) {
        (&self.labels, self.cut)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Row {}
impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Row) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Row {
    fn cmp(&self, other: &Row) -> Ordering {
        self.key().cmp(&other.key()).then_with(|| self.value.total_cmp(&other.value))
    }
}

/// The alert that a row is: its own labels, and all of them.
pub(super) struct Named {
    pub(super) source: Labels,
    pub(super) labels: Labels,
    /// Its labels are not the captured bytes: several rows may have become one.
    pub(super) repaired: bool,
}

/// Column labels, then the rule's over them, then the alert's name.
pub(super) fn name(rule: &AlertRule, row: &Row, external: &Labels, external_url: &str) -> Named {
    let mut repaired = row.cut;
    let mut own = BTreeMap::new();
    for (name, bytes) in rule.columns.names().zip(&row.labels) {
        let text = labels::label_value(bytes);
        repaired |= text.as_bytes() != bytes.as_slice();
        // A view's own name is no label of its alerts.
        if name != "__name__" {
            own.insert(name.to_string(), text.into_owned());
        }
    }
    let source = Labels::new(own);
    let data = Data {
        labels: source.map(),
        value: row.value,
        external_labels: external.map(),
        external_url,
    };
    let mut all = source.map().clone();
    for label in &rule.labels {
        let text = label.template.text(&data);
        all.insert(label.name.clone(), labels::label_value(text.as_bytes()).into_owned());
    }
    all.insert(ALERT_NAME.to_string(), rule.name.clone());
    Named { source, labels: Labels::new(all), repaired }
}
