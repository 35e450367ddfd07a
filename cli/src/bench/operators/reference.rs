//! What the cases mean, by code that is too plain to be wrong in the same way as the engine: loops over all rows.
//! Not here: time. The rows are those that the window holds.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::{PackedRow, Value};

use super::Row;

type Rows = Vec<Vec<Value>>;

pub(super) fn packed(rows: Rows) -> BTreeMap<PackedRow, i64> {
    let mut all = BTreeMap::new();
    for row in rows {
        *all.entry(PackedRow::pack(&row)).or_default() += 1;
    }
    all
}

fn text(text: impl Into<String>) -> Value {
    Value::String(text.into().into_bytes())
}

fn int(number: i64) -> Value {
    Value::Int64(number)
}

/// The rows of each `pod`.
fn by_key(rows: &[Row]) -> BTreeMap<u64, Vec<Row>> {
    let mut all: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| all.entry(row.key).or_default().push(*row));
    all
}

fn of_side(rows: &[Row], side: i64) -> Vec<Row> {
    rows.iter().filter(|row| row.side == side).copied().collect()
}

fn per_key(rows: &[Row], of: impl Fn(&[Row]) -> Vec<Value>) -> Rows {
    let one = |rows: Vec<Row>| {
        let mut all = vec![text(rows[0].pod())];
        all.extend(of(&rows));
        all
    };
    by_key(rows).into_values().map(one).collect()
}

pub(super) fn rows(rows: &[Row]) -> Rows {
    rows.iter().map(|row| vec![text(row.pod()), int(row.number)]).collect()
}

pub(super) fn counts(rows: &[Row]) -> Rows {
    per_key(rows, |rows| vec![int(rows.len() as i64), int(rows.iter().map(|row| row.value).sum())])
}

/// Pairs of a left and a right row of one key.
fn pairs(rows: &[Row]) -> Vec<(Row, Row)> {
    let mut all = Vec::new();
    for rows in by_key(rows).into_values() {
        for left in of_side(&rows, 0) {
            all.extend(of_side(&rows, 1).into_iter().map(|right| (left, right)));
        }
    }
    all
}

/// `pod` of the left row, its number, and the right row's value.
pub(super) fn join(rows: &[Row], keeps_left: bool, keeps_right: bool) -> Rows {
    let mut all: Rows = pairs(rows)
        .iter()
        .map(|(left, right)| vec![text(left.pod()), int(left.number), int(right.value)])
        .collect();
    for rows in by_key(rows).into_values() {
        let (left, right) = (of_side(&rows, 0), of_side(&rows, 1));
        if keeps_left && right.is_empty() {
            all.extend(left.iter().map(|row| vec![text(row.pod()), int(row.number), int(0)]));
        }
        if keeps_right && left.is_empty() {
            all.extend(right.iter().map(|row| vec![text(""), int(0), int(row.value)]));
        }
    }
    all
}

pub(super) fn cross(rows: &[Row]) -> Rows {
    let mut tops: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows {
        let top = tops.entry(row.service()).or_insert(row.value);
        *top = row.value.max(*top);
    }
    let with = |row: &Row| {
        let number = row.number;
        tops.iter()
            .map(|(service, top)| vec![int(number), text(service.clone()), int(*top)])
            .collect::<Rows>()
    };
    rows.iter().flat_map(with).collect()
}

pub(super) fn union(rows: &[Row]) -> Rows {
    let both = of_side(rows, 0).into_iter().chain(of_side(rows, 1));
    both.map(|row| vec![text(row.pod()), int(row.number)]).collect()
}

fn each_once(rows: impl Iterator<Item = Vec<Value>>) -> Rows {
    let packed: BTreeMap<PackedRow, Vec<Value>> =
        rows.map(|row| (PackedRow::pack(&row), row)).collect();
    packed.into_values().collect()
}

pub(super) fn distinct(rows: &[Row]) -> Rows {
    each_once(rows.iter().map(|row| vec![text(row.pod()), int(row.value)]))
}

pub(super) fn distinct_joined(rows: &[Row]) -> Rows {
    each_once(pairs(rows).into_iter().map(|(left, right)| vec![text(left.pod()), int(right.value)]))
}

/// Of the row that came first; of several at one time, the smallest.
pub(super) fn any(rows: &[Row]) -> Rows {
    per_key(rows, |rows| {
        let first = rows.iter().map(|row| (row.time_unix_ns, row.number)).min();
        vec![int(first.map_or(0, |(_, number)| number))]
    })
}

pub(super) fn min_max(rows: &[Row]) -> Rows {
    per_key(rows, |rows| {
        let values: BTreeSet<i64> = rows.iter().map(|row| row.value).collect();
        [values.first(), values.last()].map(|value| int(value.copied().unwrap_or(0))).into()
    })
}

pub(super) fn min_max_joined(rows: &[Row]) -> Rows {
    let mut all: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (left, right) in pairs(rows) {
        let (least, most) = all.entry(left.pod()).or_insert((i64::MAX, i64::MIN));
        *least = right.value.min(*least);
        *most = left.number.max(*most);
    }
    all.into_iter().map(|(pod, (least, most))| vec![text(pod), int(least), int(most)]).collect()
}

/// The nearest rank.
fn quantile(rows: &[Row], q: f64) -> i64 {
    let mut values: Vec<i64> = rows.iter().map(|row| row.value).collect();
    values.sort_unstable();
    let rank = (q * values.len() as f64).ceil().max(1.0) as usize;
    values[rank - 1]
}

pub(super) fn medians(rows: &[Row]) -> Rows {
    per_key(rows, |rows| vec![int(quantile(rows, 0.5))])
}

pub(super) fn above_half(rows: &[Row]) -> Rows {
    let top = rows.iter().map(|row| row.value).max().unwrap_or(0);
    let above = rows.iter().filter(|row| row.value * 2 >= top);
    above.map(|row| vec![int(row.number)]).collect()
}

pub(super) fn above_p99(rows: &[Row]) -> Rows {
    let mut all = Vec::new();
    for rows in by_key(rows).into_values() {
        let limit = quantile(&rows, 0.99);
        let above = rows.iter().filter(|row| row.value >= limit);
        all.extend(above.map(|row| vec![int(row.number)]));
    }
    all
}

pub(super) fn agg_over_agg(rows: &[Row]) -> Rows {
    let mut groups: BTreeMap<u64, Vec<Vec<Row>>> = BTreeMap::new();
    for rows in by_key(rows).into_values() {
        groups.entry(rows[0].group()).or_default().push(rows);
    }
    let one = |pods: Vec<Vec<Row>>| {
        let counts: Vec<i64> = pods.iter().map(|rows| rows.len() as i64).collect();
        let most = counts.iter().max().copied().unwrap_or(0);
        let service = text(pods[0][0].service());
        vec![service, int(pods.len() as i64), int(most), int(counts.iter().sum())]
    };
    groups.into_values().map(one).collect()
}

pub(super) fn difference(rows: &[Row]) -> Rows {
    let sum = |rows: &[Row]| rows.iter().map(|row| row.value).sum::<i64>();
    let mut all = Vec::new();
    for rows in by_key(rows).into_values() {
        let (left, right) = (of_side(&rows, 0), of_side(&rows, 1));
        if !left.is_empty() {
            all.push(vec![text(rows[0].pod()), int(sum(&left) - sum(&right))]);
        }
    }
    all
}

const SHOWN: usize = 100;

/// The greatest by time, then by the packed row, which begins with it.
pub(super) fn newest(rows: &[Row]) -> Rows {
    let mut all: Vec<(i64, i64)> = rows.iter().map(|row| (row.time_unix_ns, row.number)).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    let shown = all.into_iter().take(SHOWN);
    shown.map(|(time, number)| vec![Value::Time64Ns(time), int(number)]).collect()
}

/// Without a time, the least.
pub(super) fn least_joined(rows: &[Row]) -> Rows {
    let pairs = pairs(rows);
    let mut all: Vec<(i64, i64)> =
        pairs.iter().map(|(left, right)| (left.number, right.value)).collect();
    all.sort_unstable();
    all.into_iter().take(SHOWN).map(|(left, right)| vec![int(left), int(right)]).collect()
}
