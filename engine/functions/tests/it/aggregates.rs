//! Aggregates against a naive evaluation of the same rows, through every way that rows can take:
//! one by one, in parts merged in any order, with rows taken back, with parts expired.

use proptest::prelude::*;
use weir_functions::FunctionError;
use weir_functions::aggregate::{self, AggFn, Input};
use weir_types::acc::Acc;
use weir_types::plan::AggCall;
use weir_types::{DataType, SemanticType as Tag, Value};

use crate::support::*;

const TYPES: [DataType; 7] = [
    DataType::Time64Ns,
    DataType::Boolean,
    DataType::Int64,
    DataType::Float64,
    DataType::String,
    DataType::Uint128,
    DataType::Time64Ns,
];

fn agg_call(func: &str, args: &[usize]) -> AggCall {
    let arg_types: Vec<DataType> = args.iter().map(|&arg| TYPES[arg]).collect();
    AggCall {
        func: func.to_string(),
        args: args.to_vec(),
        data_type: aggregate::resolve(func, &arg_types).unwrap(),
        arg_types,
        time: Some(0),
    }
}

/// Adds rows `diff` times each.
fn fold(agg: &AggFn, rows: &[Vec<Value>], diff: i64) -> Acc {
    let mut acc = agg.zero();
    let batch = batch_of_rows(&TYPES, rows, rows.len().is_multiple_of(2));
    let bound = agg.bind(&batch);
    for row in 0..rows.len() {
        bound.add(&mut acc, row, diff);
    }
    acc
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    let float = prop_oneof![
        (-40i32..40).prop_map(|quarters| f64::from(quarters) / 4.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
    ];
    (0i64..4, any::<bool>(), -5i64..5, float, "[ab]{0,2}", 0u128..3).prop_map(
        |(time, truth, int, float, text, wide)| {
            vec![t(time), b(truth), i(int), f(float), s(&text), u(wide), t(int)]
        },
    )
}

fn floats_of(rows: &[Vec<Value>], arg: usize) -> Vec<f64> {
    rows.iter()
        .map(|row| match row[arg] {
            Value::Boolean(v) => f64::from(u8::from(v)),
            Value::Int64(v) | Value::Time64Ns(v) => v as f64,
            Value::Float64(v) => v,
            _ => unreachable!(),
        })
        .collect()
}

/// The definition, word by word. Sums of quarters are exact in any order.
fn naive(func: &str, arg: usize, rows: &[Vec<Value>]) -> Value {
    let sum = || floats_of(rows, arg).iter().sum::<f64>();
    let numbers = || {
        let mut values: Vec<Value> = rows.iter().map(|row| row[arg].clone()).collect();
        values.retain(|value| !matches!(value, Value::Float64(v) if v.is_nan()));
        values.sort();
        values
    };
    let bound = |greatest: bool| match TYPES[arg] {
        DataType::Int64 => i(if greatest { i64::MAX } else { i64::MIN }),
        DataType::Time64Ns => t(if greatest { i64::MAX } else { i64::MIN }),
        _ => f(if greatest { f64::MAX } else { f64::MIN }),
    };
    match func {
        "count" => i(rows.len() as i64),
        "sum" if TYPES[arg] == DataType::Float64 => f(sum()),
        "sum" => i(sum() as i64),
        "mean" => f(sum() / rows.len() as f64),
        "min" => numbers().first().cloned().unwrap_or_else(|| bound(true)),
        "max" => numbers().last().cloned().unwrap_or_else(|| bound(false)),
        _ => rows
            .iter()
            .map(|row| (row[0].clone(), row[arg].clone()))
            .min()
            .map_or_else(|| TYPES[arg].zero(), |(_, value)| value),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float64(a), Value::Float64(b)) => (a.is_nan() && b.is_nan()) || a + 0.0 == b + 0.0,
        (a, b) => a == b,
    }
}

fn calls() -> Vec<(&'static str, usize)> {
    let mut calls = vec![("mean", 1), ("sum", 1), ("sample", 4)];
    calls.extend((1..7).flat_map(|arg| [("count", arg), ("any", arg)]));
    calls.extend([2, 3].into_iter().flat_map(|arg| [("sum", arg), ("mean", arg)]));
    calls.extend([2, 3, 6].into_iter().flat_map(|arg| [("min", arg), ("max", arg)]));
    calls
}

proptest! {
    /// Whatever way rows come and go, the result is that of the rows that are there.
    #[test]
    fn results_are_those_of_the_rows(
        rows in proptest::collection::vec(row(), 0..12),
        gone in proptest::collection::vec(row(), 0..6),
        cut in 0usize..12,
    ) {
        for (func, arg) in calls() {
            let want = naive(func, arg, &rows);
            let cut = cut.min(rows.len());
            let append = AggFn::new(&agg_call(func, &[arg]), Input::AppendOnly).unwrap();
            let whole = fold(&append, &rows, 1);
            prop_assert!(same(&append.finish(&whole), &want), "{func} {:?}", append.finish(&whole));
            // Parts, the later first.
            let mut merged = fold(&append, &rows[cut..], 1);
            merged.merge(&fold(&append, &rows[..cut], 1));
            prop_assert!(same(&append.finish(&merged), &want), "{func} merged");
            if append.is_group() {
                let expired = fold(&append, &gone, 1);
                merged.merge(&expired);
                merged.subtract(&expired);
                prop_assert_eq!(&merged, &whole, "{} subtracted", func);
            }
            // Rows taken back one by one.
            let retractable = AggFn::new(&agg_call(func, &[arg]), Input::Retractable).unwrap();
            prop_assert!(retractable.is_group());
            let mut acc = fold(&retractable, &gone, 1);
            acc.merge(&fold(&retractable, &rows, 1));
            acc.merge(&fold(&retractable, &gone, -1));
            prop_assert_eq!(&acc, &fold(&retractable, &rows, 1), "{} taken back", func);
            prop_assert!(same(&retractable.finish(&acc), &want), "{func} retractable");
        }
    }

    /// Quantiles are within 1 % of the exact ones by nearest rank, in a text that `pluck_float64`
    /// reads.
    #[test]
    fn quantiles_are_close(values in proptest::collection::vec(-1_000_000i64..1_000_000, 1..60)) {
        let rows: Vec<Vec<Value>> = values
            .iter()
            .map(|&v| vec![t(0), b(false), i(v), f(v as f64 / 8.0), s(""), u(0), t(0)])
            .collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        for (arg, scale) in [(2, 1.0), (3, 8.0)] {
            let agg = AggFn::new(&agg_call("quantiles", &[arg]), Input::AppendOnly).unwrap();
            let text = agg.finish(&fold(&agg, &rows, 1));
            for (name, percent) in
                [
                    ("p01", 1), ("p10", 10), ("p25", 25), ("p50", 50), ("p75", 75), ("p90", 90),
                    ("p95", 95), ("p99", 99),
                ]
            {
                let rank = (percent * values.len()).div_ceil(100).max(1);
                let exact = sorted[rank - 1] as f64 / scale;
                let plucked = weir_functions::eval::fold("pluck_float64", &[text.clone(), s(name)]).unwrap();
                let Value::Float64(got) = plucked else { unreachable!() };
                prop_assert!((got - exact).abs() <= exact.abs() * 0.01, "{name}: {got} {exact}");
            }
        }
    }

    /// Clusters do not depend on the order or number of arrivals.
    #[test]
    fn clusters_do_not_depend_on_arrival(
        paths in proptest::collection::vec("/[ab]/[a-f]{1,2}(/[xy])?", 0..20),
    ) {
        let cluster = |paths: &[String]| {
            let rows: Vec<Vec<Value>> = paths
                .iter()
                .map(|path| vec![t(0), b(false), i(0), f(0.0), s(path), u(0), t(0)])
                .collect();
            let agg = AggFn::new(
                &agg_call("_build_request_path_clusters", &[4]),
                Input::AppendOnly,
            )
            .unwrap();
            agg.finish(&fold(&agg, &rows, 1))
        };
        let mut shuffled: Vec<String> = paths.iter().rev().cloned().collect();
        shuffled.extend(paths.iter().map(|path| format!("{path}?query")));
        prop_assert_eq!(cluster(&paths), cluster(&shuffled));
    }
}

fn text_rows(texts: &[&str]) -> Vec<Vec<Value>> {
    texts.iter().map(|text| vec![t(0), b(false), i(0), f(0.0), s(text), u(0), t(0)]).collect()
}

fn finish(func: &str, args: &[usize], rows: &[Vec<Value>]) -> Value {
    let agg = AggFn::new(&agg_call(func, args), Input::AppendOnly).unwrap();
    agg.finish(&fold(&agg, rows, 1))
}

#[test]
fn nothing() {
    assert_eq!(finish("count", &[2], &[]), i(0));
    assert_eq!(finish("sum", &[1], &[]), i(0));
    assert_eq!(finish("sum", &[3], &[]), f(0.0));
    assert_eq!(finish("mean", &[2], &[]), f(f64::NAN));
    assert_eq!(finish("min", &[2], &[]), i(i64::MAX));
    assert_eq!(finish("max", &[3], &[]), f(-1.7976931348623157e308));
    assert_eq!(finish("min", &[6], &[]), t(i64::MAX));
    assert_eq!(finish("any", &[4], &[]), s(""));
    assert_eq!(finish("any", &[5], &[]), u(0));
    assert_eq!(finish("quantiles", &[2], &[]), s(""));
    assert_eq!(finish("_build_request_path_clusters", &[4], &[]), s("[]"));
}

#[test]
fn quantile_text() {
    let rows: Vec<Vec<Value>> = (1..=100)
        .map(|v| {
            vec![
                t(0),
                b(false),
                i(v),
                f(if v < 50 { f64::NAN } else { f64::INFINITY }),
                s(""),
                u(0),
                t(0),
            ]
        })
        .collect();
    assert_eq!(
        finish("quantiles", &[2], &rows),
        s(
            r#"{"p01":1.0,"p10":10.0,"p25":25.0,"p50":50.0,"p75":75.0,"p90":90.0,"p95":95.0,"p99":99.0}"#
        )
    );
    let top = "1.7976931348623157e308";
    let names = ["p01", "p10", "p25", "p50", "p75", "p90", "p95", "p99"];
    let want: Vec<String> = names.iter().map(|name| format!("\"{name}\":{top}")).collect();
    assert_eq!(finish("quantiles", &[3], &rows), s(&format!("{{{}}}", want.join(","))));
    assert_eq!(finish("quantiles", &[3], &rows[..40]), s(""), "NaN only");
}

/// The documented algorithm by an example: templates, members kept up to five.
#[test]
fn clusters() {
    let cluster = |texts: &[&str]| finish("_build_request_path_clusters", &[4], &text_rows(texts));
    assert_eq!(
        cluster(&["/a/1", "/a/2?x", "/b/1/c", "/", "a/1"]),
        s(
            r#"[{"c":[""],"m":[[""]]},{"c":["a","*"],"m":[["a","1"],["a","2"]]},{"c":["b","1","c"],"m":[["b","1","c"]]}]"#
        )
    );
    assert_eq!(
        cluster(&["/a/1", "/a/2", "/a/3", "/a/4", "/a/5"]),
        s(r#"[{"c":["a","*"],"m":[["a","1"],["a","2"],["a","3"],["a","4"],["a","5"]]}]"#)
    );
    let many = cluster(&["/a/1", "/a/2", "/a/3", "/a/4", "/a/5", "/a/6", "/a/7"]);
    assert_eq!(many, s(r#"[{"c":["a","*"],"m":[]}]"#));
    let predict = |path: &str| call("_predict_request_path_cluster", &[s(path), many.clone()]);
    assert_eq!(predict("/a/6"), s("/a/*"));
    assert_eq!(predict("/z"), s("/z"));
}

/// Centres are the means of what lies together, whatever the order of arrival; what is no embedding
/// does not count. A result that moved with arrival would differ between a run and a live view.
#[test]
fn kmeans() {
    let rows = |points: &[&str]| -> Vec<Vec<Value>> {
        let row = |point: &&str| vec![t(0), b(false), i(2), f(0.0), s(point), u(0), t(0)];
        points.iter().map(row).collect()
    };
    let points = ["[0,0]", "[0,2]", "[100,0]", "[100,4]", "[100,2]", "broken", "[1]", "[]"];
    // "[0,0]" sorts before "[1]": two numbers are the length.
    let model = finish("_kmeans_fit", &[4, 2], &rows(&points));
    let mut back: Vec<&str> = points.to_vec();
    back.reverse();
    assert_eq!(finish("_kmeans_fit", &[4, 2], &rows(&back)), model);
    assert_eq!(model, s(r#"{"centers":[[0.0,1.0],[100.0,2.0]]}"#));
    let number = |point: &str| call("_kmeans_inference", &[s(point), model.clone()]);
    assert_eq!((number("[3,3]"), number("[90,9]")), (i(0), i(1)));
    // Weights pull: the same point nine times.
    let heavy: Vec<&str> = std::iter::repeat_n("[0]", 9).chain(["[10]"]).collect();
    let one: Vec<Vec<Value>> = rows(&heavy)
        .into_iter()
        .map(|mut row| {
            row[2] = i(1);
            row
        })
        .collect();
    assert_eq!(finish("_kmeans_fit", &[4, 2], &one), s(r#"{"centers":[[1.0]]}"#));
    assert_eq!(finish("_kmeans_fit", &[4, 2], &rows(&["[7]"])), s(r#"{"centers":[[7.0]]}"#));
    assert_eq!(finish("_kmeans_fit", &[4, 2], &[]), s(r#"{"centers":[]}"#));
    // Bounded, however many points and centres: this would not end otherwise.
    let many: Vec<String> = (0..20_000).map(|at| format!("[{at}.5,{}]", at * 7 % 1000)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut rows = rows(&many);
    rows[0][2] = i(i64::MAX);
    let Value::String(model) = finish("_kmeans_fit", &[4, 2], &rows) else { panic!() };
    let model: serde_json::Value = serde_json::from_slice(&model).unwrap();
    assert_eq!(model["centers"].as_array().unwrap().len(), 64);
}

/// Fields of a protobuf message, just enough to read back what is written.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Result<u64, Vec<u8>>)> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let first = varint(&mut bytes);
        if tag & 7 == 0 {
            out.push((tag >> 3, Ok(first)));
        } else {
            let (body, rest) = bytes.split_at(first as usize);
            out.push((tag >> 3, Err(body.to_vec())));
            bytes = rest;
        }
    }
    out
}

#[test]
fn pprof() {
    let rows: Vec<Vec<Value>> = [("main;a", 2), ("main;b;a", 300), ("main;a", 1)]
        .iter()
        .map(|(stack, count)| vec![t(0), b(false), i(*count), f(0.0), s(stack), u(0), t(0)])
        .collect();
    // count doubles as the period: two periods are an error.
    let Value::String(text) = finish("pprof", &[4, 2, 2], &rows) else { panic!() };
    assert!(text.ends_with(b"multiple profiling periods found."));

    let period: Vec<Vec<Value>> =
        rows[..2].iter().map(|row| [row.clone(), vec![i(11)]].concat()).collect();
    let types: Vec<DataType> = TYPES.iter().copied().chain([DataType::Int64]).collect();
    let batch = batch_of_rows(&types, &period, true);
    let call = AggCall {
        func: "pprof".to_string(),
        args: vec![4, 2, 7],
        arg_types: vec![DataType::String, DataType::Int64, DataType::Int64],
        data_type: DataType::String,
        time: Some(0),
    };
    let agg = AggFn::new(&call, Input::AppendOnly).unwrap();
    let mut acc = agg.zero();
    let bound = agg.bind(&batch);
    bound.add(&mut acc, 0, 1);
    bound.add(&mut acc, 0, 1);
    bound.add(&mut acc, 1, 1);
    let Value::String(bytes) = agg.finish(&acc) else { panic!() };
    let message = fields(&bytes);
    let of = |number: u64| -> Vec<Vec<u8>> {
        let found = message.iter().filter(|(field, _)| *field == number);
        found.map(|(_, value)| value.clone().unwrap_err()).collect()
    };
    let strings = of(6);
    assert_eq!(strings[0], b"", "the first string is empty");
    assert_eq!(strings.len(), 5 + 3, "samples, count, cpu, nanoseconds; main, a, b");
    let samples: Vec<(Vec<String>, u64, u64)> = of(2)
        .iter()
        .map(|sample| {
            let parts = fields(sample);
            let locations = parts[0].1.clone().unwrap_err();
            let names = locations.iter().map(|&id| {
                let name = fields(&of(5)[usize::from(id) - 1])[1].1.clone().unwrap();
                String::from_utf8(strings[name as usize].clone()).unwrap()
            });
            let names: Vec<String> = names.collect();
            let values = parts[1].1.clone().unwrap_err();
            // A varint per value; read them as a message of one field each.
            let mut rest = &values[..];
            let mut read = || {
                let end = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
                let value = rest[..end]
                    .iter()
                    .rev()
                    .fold(0u64, |sum, byte| sum << 7 | u64::from(byte & 0x7F));
                rest = &rest[end..];
                value
            };
            (names, read(), read())
        })
        .collect();
    let leaf_first = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        samples,
        [
            (leaf_first(&["a", "main"]), 4, 4 * 11_000_000),
            (leaf_first(&["a", "b", "main"]), 300, 300 * 11_000_000),
        ]
    );
    assert!(message.contains(&(12, Ok(11_000_000))));
}

#[test]
fn tags_and_refusals() {
    let rule = |name: &str, tag: Tag| aggregate::semantic(name, &[tag], &[]);
    assert_eq!(rule("mean", Tag::DurationNs), Tag::DurationNs);
    assert_eq!(rule("sum", Tag::DurationNs), Tag::None);
    assert_eq!(rule("sum", Tag::Bytes), Tag::Bytes);
    assert_eq!(rule("max", Tag::Percent), Tag::Percent);
    assert_eq!(rule("min", Tag::PodName), Tag::None);
    assert_eq!(rule("any", Tag::PodName), Tag::PodName);
    assert_eq!(rule("count", Tag::Bytes), Tag::None);
    assert_eq!(rule("quantiles", Tag::DurationNs), Tag::DurationNsQuantiles);
    assert_eq!(rule("quantiles", Tag::Bytes), Tag::Quantiles);
    assert_eq!(aggregate::resolve("min", &[DataType::String]), None);
    let mut wrong = agg_call("sum", &[2]);
    wrong.data_type = DataType::Float64;
    assert!(matches!(AggFn::new(&wrong, Input::AppendOnly), Err(FunctionError::ResultType { .. })));
}
