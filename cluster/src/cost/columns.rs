//! What the columns of a table look like, and of the rows that a node makes of them: how many different values, and
//! how large. Texts share what the node's rows are measured to take; the rest is by their declaration.

use weir_engine::guess::{self, Values};
use weir_types::split::{Source, Step};
use weir_types::tables::{self, ColumnDef};
use weir_types::{DataType, SemanticType};

use super::{COUNT_MAX, Guess};

/// Of texts that repeat, of addresses, of processes.
const LABELS_DISTINCT: f64 = 12.0;
const ADDRESSES_DISTINCT: f64 = 64.0;
const PROCESSES_DISTINCT: f64 = 64.0;
const METHODS_DISTINCT: f64 = 4.0;
const STATUS_DISTINCT: f64 = 6.0;
const PORTS_DISTINCT: f64 = 1_000.0;
const NUMBERS_DISTINCT: f64 = 100.0;
const SIZES_DISTINCT: f64 = 10_000.0;
const TEXTS_DISTINCT: f64 = 500.0;
/// Of each text of a row in history: how it lies there.
const TEXT_OFFSET_BYTES: f64 = 4.0;
const LABEL_BYTES: f64 = 12.0;
const ADDRESS_BYTES: f64 = 14.0;
const TEXT_BYTES_MIN: f64 = 4.0;

fn is_bulk(def: &ColumnDef) -> bool {
    def.data_type == DataType::String
        && !def.low_cardinality
        && def.semantic != SemanticType::IpAddress
}

/// How much larger such a text usually is than a short one.
fn weight(name: &str) -> f64 {
    if name.ends_with("headers") || name.ends_with("header") {
        10.0
    } else if name.ends_with("body") {
        6.0
    } else {
        1.0
    }
}

fn known_bytes(def: &ColumnDef) -> f64 {
    match (def.data_type, def.low_cardinality) {
        (DataType::String, true) => LABEL_BYTES,
        (DataType::String, false) => ADDRESS_BYTES,
        (other, _) => guess::packed_bytes(other),
    }
}

fn distinct(def: &ColumnDef, window_ns: f64) -> f64 {
    match (def.data_type, def.semantic) {
        (DataType::Boolean, _) => 2.0,
        (DataType::Time64Ns, _) => window_ns,
        (DataType::Float64, _) | (_, SemanticType::DurationNs) => 1e9,
        (DataType::Uint128, _) => PROCESSES_DISTINCT,
        (DataType::Int64, SemanticType::HttpRespStatus) => STATUS_DISTINCT,
        (DataType::Int64, SemanticType::Port) => PORTS_DISTINCT,
        (DataType::Int64, SemanticType::Bytes) => SIZES_DISTINCT,
        (DataType::Int64, _) => NUMBERS_DISTINCT,
        (DataType::String, SemanticType::IpAddress) => ADDRESSES_DISTINCT,
        (DataType::String, SemanticType::HttpReqMethod) => METHODS_DISTINCT,
        (DataType::String, _) if def.low_cardinality => LABELS_DISTINCT,
        (DataType::String, _) => TEXTS_DISTINCT,
    }
}

/// Bytes of a unit of weight of the table's texts, if a row in history takes so many.
fn text_unit_bytes(columns: &[ColumnDef], row_bytes: f64) -> f64 {
    // Repeating texts are numbers there.
    let in_history = |def: &ColumnDef| match def.data_type {
        DataType::String if is_bulk(def) => TEXT_OFFSET_BYTES,
        DataType::String => {
            TEXT_OFFSET_BYTES + if def.low_cardinality { 0.0 } else { ADDRESS_BYTES }
        }
        other => guess::packed_bytes(other),
    };
    let rest = row_bytes - columns.iter().map(in_history).sum::<f64>();
    let bulk = columns.iter().filter(|def| is_bulk(def));
    let units: f64 = bulk.map(|def| weight(def.name)).sum();
    (rest / units.max(1.0)).max(TEXT_BYTES_MIN)
}

/// The columns of the rows that a node reads. `row_bytes`: of a row in history, if that is known.
fn scanned(source: &Source, window_ns: f64, row_bytes: Option<f64>) -> Vec<Values> {
    let declared = tables::find(source.table()).map_or(&[][..], |table| table.columns);
    let unit_bytes = row_bytes.map(|bytes| text_unit_bytes(declared, bytes));
    let scan = &source.scan;
    let column = |(name, data_type): (&String, &DataType)| {
        let Some(def) = declared.iter().find(|def| def.name == *name) else {
            let distinct = NUMBERS_DISTINCT;
            let bytes = guess::packed_bytes(*data_type);
            return Values { distinct, bytes, span_ns: None };
        };
        let bytes = match unit_bytes {
            Some(unit) if is_bulk(def) => unit * weight(def.name),
            None if is_bulk(def) => guess::packed_bytes(*data_type) * weight(def.name),
            _ => known_bytes(def),
        };
        let span_ns = (def.data_type == DataType::Time64Ns).then_some(1.0);
        Values { distinct: distinct(def, window_ns), bytes, span_ns }
    };
    scan.scan.columns.iter().zip(&scan.types).map(column).collect()
}

/// What a node makes of its rows before it folds or sends them.
pub(super) struct Stepped {
    pub(super) columns: Vec<Values>,
    /// The share of rows that is left.
    pub(super) passing: f64,
    pub(super) has_filter: bool,
    /// Calls that are evaluated for a row.
    pub(super) calls: f64,
}

pub(super) fn stepped(
    source: &Source,
    window_ns: f64,
    row_bytes: Option<f64>,
    guess: Guess,
) -> Stepped {
    let columns = scanned(source, window_ns, row_bytes);
    let mut found = Stepped { columns, passing: 1.0, has_filter: false, calls: 0.0 };
    for step in &source.steps {
        for expr in step.expressions() {
            let is_call = |expr: &weir_types::Expr| matches!(expr, weir_types::Expr::Call { .. });
            expr.walk(&mut |expr| {
                found.calls += found.passing * f64::from(u8::from(is_call(expr)))
            });
        }
        match &**step {
            Step::Filter(predicate) => {
                found.has_filter = true;
                if guess == Guess::Expected {
                    found.passing *= guess::passing(predicate, &found.columns);
                }
            }
            Step::Map { exprs, .. } => {
                let made = exprs.iter().map(|expr| guess::values(expr, &found.columns));
                found.columns = made.collect();
            }
        }
    }
    found
}

/// How many groups these columns can make, without those that are times, and the shortest of the times' spans.
pub(super) fn kinds(columns: &[Values], group: &[usize], guess: Guess) -> (f64, Option<f64>) {
    let (mut counts, mut span_ns) = (Vec::new(), None::<f64>);
    for values in group.iter().filter_map(|&idx| columns.get(idx)) {
        let distinct = match (values.span_ns, guess) {
            (Some(span), _) => {
                span_ns = Some(span_ns.map_or(span, |least| least.min(span)));
                continue;
            }
            (None, Guess::Expected) => values.distinct,
            // What is certain: whatever else there is may differ in every row.
            (None, Guess::Most) if values.distinct <= 2.0 => values.distinct,
            (None, Guess::Most) => COUNT_MAX,
        };
        counts.push(distinct.max(1.0));
    }
    // Columns hang together: each further one parts the groups less.
    counts.sort_unstable_by(|one, other| other.total_cmp(one));
    let mut share = 1.0;
    let product = counts.into_iter().fold(1.0, |all: f64, count| {
        let parts = f64::powf(count, share);
        share /= 2.0;
        (all * parts).min(COUNT_MAX)
    });
    (product, span_ns)
}
