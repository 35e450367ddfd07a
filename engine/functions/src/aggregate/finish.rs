//! Results read from accumulators.

use std::collections::BTreeMap;

use weir_types::acc::{Acc, Sketch};
use weir_types::row::RowReader;
use weir_types::{DataType, Value};

use super::{AggFn, AggKind};
use crate::cuts::{self, Cut};
use crate::json;
use crate::kmeans::{self, Weighted};

pub(super) fn value(agg: &AggFn, acc: &Acc) -> Value {
    match acc {
        Acc::Count(count) => Value::Int64(*count),
        Acc::SumInt(sum) => Value::Int64(*sum),
        Acc::SumFloat(sum) => Value::Float64(sum.value()),
        Acc::MeanInt { sum, count } => Value::Float64(mean(*sum as f64, *count)),
        Acc::MeanFloat { sum, count } => Value::Float64(mean(sum.value(), *count)),
        Acc::Quantiles(sketch) => {
            Value::String(quantiles_text(sketch, agg.kind == AggKind::QuantilesInt))
        }
        Acc::Min(best) => best.clone().unwrap_or_else(|| greatest(agg.value_type())),
        Acc::Max(best) => best.clone().unwrap_or_else(|| lowest(agg.value_type())),
        Acc::Any(first) => {
            first.as_ref().map_or_else(|| agg.value_type().zero(), |(_, value)| value.clone())
        }
        Acc::Bag(bag) => from_bag(agg, bag.tuples()),
    }
}

/// Of nothing it is NaN, always the same one.
fn mean(sum: f64, count: i64) -> f64 {
    let mean = sum / count as f64;
    if mean.is_nan() { f64::NAN } else { mean }
}

/// A profile, a model or clusters are made at once, whenever one of their values has changed: of so many
/// bytes of values at most, those that come first. That is some 50 ms; the stacks of a busy host take a tenth.
const VALUE_BYTES_MAX: usize = 4 << 20;
/// What a value costs besides.
const VALUE_BYTES: usize = 64;

/// The first tuples that there are: as many as a result may be made of at once.
fn first_of(tuples: &BTreeMap<Vec<u8>, i64>) -> impl Iterator<Item = (&Vec<u8>, i64)> {
    let present = || tuples.iter().filter(|(_, count)| **count > 0);
    let (mut bytes, mut taken) = (0, 0);
    let fits = move |(tuple, _): &(&Vec<u8>, i64)| {
        bytes += tuple.len() + VALUE_BYTES;
        let fits = bytes <= VALUE_BYTES_MAX;
        if fits {
            taken += 1;
        } else {
            cuts::note(Cut::Values, present().count() - taken);
        }
        fits
    };
    present().map(|(tuple, count)| (tuple, *count)).take_while(fits)
}

fn from_bag(agg: &AggFn, tuples: &BTreeMap<Vec<u8>, i64>) -> Value {
    let mut present = tuples.iter().filter(|(_, count)| **count > 0).map(|(tuple, _)| tuple);
    match agg.kind {
        AggKind::Min => present
            .next()
            .and_then(|tuple| last_value(agg, tuple))
            .unwrap_or_else(|| greatest(agg.value_type())),
        AggKind::Max => present
            .next_back()
            .and_then(|tuple| last_value(agg, tuple))
            .unwrap_or_else(|| lowest(agg.value_type())),
        AggKind::RequestPaths => {
            let paths = first_of(tuples).filter_map(|(tuple, _)| match last_value(agg, tuple) {
                Some(Value::String(path)) => Some(path),
                _ => None,
            });
            Value::String(crate::scalar::request_path::cluster(paths))
        }
        AggKind::Pprof => Value::String(super::pprof::profile(first_of(tuples))),
        AggKind::Kmeans => Value::String(model(&first_of(tuples).collect::<Vec<_>>())),
        _ => present
            .next()
            .and_then(|tuple| last_value(agg, tuple))
            .unwrap_or_else(|| agg.value_type().zero()),
    }
}

/// The k-means model of (embedding, k) tuples; what is no embedding is left out.
fn model(tuples: &[(&Vec<u8>, i64)]) -> Vec<u8> {
    let (mut points, mut count) = (Vec::new(), 0);
    for &(tuple, weight) in tuples {
        let mut reader = RowReader::new(tuple);
        let (Some(Value::String(text)), Some(Value::Int64(k))) =
            (reader.next(DataType::String), reader.next(DataType::Int64))
        else {
            continue;
        };
        count = count.max(k);
        points.extend(kmeans::read_point(&text).map(|point| Weighted { point, weight }));
    }
    let mut out = Vec::new();
    kmeans::push_model(&mut out, &kmeans::fit(points, count));
    out
}

/// The argument of a tuple that has one, after the time where there is a time.
fn last_value(agg: &AggFn, tuple: &[u8]) -> Option<Value> {
    let mut reader = RowReader::new(tuple);
    if agg.time.is_some() {
        reader.next_raw(DataType::Time64Ns)?;
    }
    reader.next(agg.value_type())
}

fn greatest(data_type: DataType) -> Value {
    match data_type {
        DataType::Int64 => Value::Int64(i64::MAX),
        DataType::Float64 => Value::Float64(f64::MAX),
        DataType::Time64Ns => Value::Time64Ns(i64::MAX),
        other => other.zero(),
    }
}

fn lowest(data_type: DataType) -> Value {
    match data_type {
        DataType::Int64 => Value::Int64(i64::MIN),
        DataType::Float64 => Value::Float64(f64::MIN),
        DataType::Time64Ns => Value::Time64Ns(i64::MIN),
        other => other.zero(),
    }
}

const QUANTILES: [(&str, f64); 8] = [
    ("p01", 0.01),
    ("p10", 0.1),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    // Not one of Pixie's, but what people look for.
    ("p95", 0.95),
    ("p99", 0.99),
];

fn quantiles_text(sketch: &Sketch, integers: bool) -> Vec<u8> {
    let Some(values) = sketch.quantiles(QUANTILES.map(|(_, quantile)| quantile), integers) else {
        return Vec::new();
    };
    let mut out = Vec::with_capacity(128);
    for (idx, ((name, _), value)) in QUANTILES.iter().zip(values).enumerate() {
        out.extend_from_slice(if idx == 0 { b"{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        json::push_double(&mut out, value);
    }
    out.push(b'}');
    out
}
