//! Every function over random rows: batches, dictionaries, literals and folding agree.

use proptest::prelude::*;
use weir_functions::{EvalCtx, scalar};
use weir_types::{DataType, Value};

use crate::support::*;

fn text() -> impl Strategy<Value = Vec<u8>> {
    let chosen: Vec<&[u8]> = vec![
        b"",
        b"/api/v1?x",
        b"ns/pod",
        b"10.1.2.3",
        br#"{"a":1,"b":[1.5,"x"],"p50":5.0}"#,
        br#"["ns/pod","10.0.0.0/8"]"#,
        br#"[{"c":["api","*"],"m":[]}]"#,
        br#"{"centers":[[1.0,2.0],[3.0,4.0]]}"#,
        b"[2.5, 2]",
        b"SELECT a FROM t WHERE b = 'x' AND c = 1",
        b"Query",
        b"a|b+",
        b"\xFF\xFE",
        b"me@example.com 4111 1111 1111 1111",
        b"http://h:80/p?q#f",
        b"p50",
        b" 12 ",
    ];
    prop_oneof![
        3 => proptest::sample::select(chosen).prop_map(<[u8]>::to_vec),
        1 => "[ -~]{0,6}".prop_map(String::into_bytes),
    ]
}

fn value(data_type: DataType) -> BoxedStrategy<Value> {
    let int = prop_oneof![-3i64..30, any::<i64>()];
    match data_type {
        DataType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        DataType::Int64 => int.prop_map(Value::Int64).boxed(),
        DataType::Time64Ns => int.prop_map(Value::Time64Ns).boxed(),
        DataType::Float64 => {
            prop_oneof![any::<f64>(), -9.0f64..9.0, Just(f64::NAN)].prop_map(Value::Float64).boxed()
        }
        DataType::String => text().prop_map(Value::String).boxed(),
        DataType::Uint128 => prop_oneof![0u128..3, any::<u128>()].prop_map(Value::Uint128).boxed(),
    }
}

/// A function, and rows of arguments for one of its overloads.
fn a_call() -> impl Strategy<Value = (&'static str, Vec<Vec<Value>>)> {
    let overloads: Vec<_> = scalar::all()
        .filter(|def| def.refusal.is_none())
        .flat_map(|def| def.overloads.iter().map(move |overload| (def, overload)))
        .filter(|(_, overload)| !overload.args.is_empty())
        .collect();
    proptest::sample::select(overloads).prop_flat_map(|(def, overload)| {
        let row: Vec<_> = overload.args.iter().map(|&ty| value(ty)).collect();
        proptest::collection::vec(row, 1..6).prop_map(move |mut rows| {
            for &idx in def.const_args {
                let same = rows[0][idx].clone();
                rows.iter_mut().for_each(|row| row[idx] = same.clone());
            }
            (def.name, rows)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// `call_rows` compares all the ways; a kernel that looks at neighbours, or a dictionary path
    /// that mixes keys up, fails.
    #[test]
    fn all_ways_agree((name, rows) in a_call()) {
        call_rows(&EvalCtx::default(), name, &rows);
    }

    /// What is written as JSON is read back the same, by us and by another reader.
    #[test]
    fn json_round_trips(parts in proptest::collection::vec("\\PC{0,8}|[\u{0}-\u{20}\"\\\\]{0,4}", 1..5)) {
        let joined = parts.join("\u{1}");
        let Some(Value::String(text)) = weir_functions::eval::fold("split", &[s(&joined), s("\u{1}")]) else {
            panic!("split folds")
        };
        let again: Vec<String> = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(again.join("\u{1}"), joined.clone());
        for (idx, part) in again.iter().enumerate() {
            let args = [Value::String(text.clone()), i(idx as i64)];
            prop_assert_eq!(weir_functions::eval::fold("pluck_array", &args), Some(s(part)));
        }
    }

    /// Members are what another reader finds, and what is no JSON to it is none to us.
    #[test]
    fn pluck_agrees_with_another_reader(text in "\\{(\"[ab]\":([0-9]{1,2}|\"[x\\\\n]{0,2}\"|\\[[0-9],?\\]|\\{\\}|true|nul?l|-?[0-9]\\.[0-9]),?){0,3}\\}") {
        let Some(Value::String(plucked)) = weir_functions::eval::fold("pluck", &[s(&text), s("a")]) else {
            panic!("pluck folds")
        };
        let plucked = String::from_utf8(plucked).unwrap();
        match serde_json::from_str::<serde_json::Value>(&text) {
            Err(_) => prop_assert_eq!(plucked, ""),
            // Duplicates: the other reader keeps the last.
            Ok(_) if text.matches("\"a\"").count() > 1 => {}
            Ok(value) => {
                let want = match &value["a"] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                prop_assert_eq!(plucked, want, "{}", text);
            }
        }
    }
}
