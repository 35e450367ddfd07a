//! Every function over values that somebody chose to harm: none panics, overflows the stack or writes
//! without bound. A test that hangs or aborts fails.

use weir_functions::scalar;
use weir_types::{DataType, Value};

use crate::support::*;

const LONG: usize = 100_000;

/// Texts that are long, deep, broken, or all three.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for piece in [
        "a",
        "0",
        "1",
        " ",
        ":",
        "a:",
        "1 ",
        "4111 ",
        "-",
        "(",
        ")",
        "[",
        "{",
        "/",
        "/a",
        "%",
        "%40",
        "@",
        "a@",
        "a@b.",
        "'",
        "\"",
        "\\",
        "\n",
        "?",
        "&",
        "=",
        "\u{e9}",
        ".",
        "1.",
        "a1",
        "fe80::",
        "DE89 ",
        "[[1,",
        "{\"a\":",
        "{\"a\":[",
        "null,",
        "1,",
        "NOT ",
        "- ",
        "1+",
        "1 AND ",
        "SELECT ",
        "CASE WHEN ",
        "a.",
        "POSITION(",
        "'x' ",
        "/*",
        "--",
        "$1,",
        "\0",
        "*",
        "a|",
        "(a",
        "a{9}",
        "[a-",
    ] {
        texts.push(piece.repeat(LONG / piece.len()).into_bytes());
    }
    for (open, inner, close) in
        [("[", "1", "]"), ("{\"a\":", "1", "}"), ("(", "1", ")"), ("[{\"c\":", "[]", "}]")]
    {
        let depth = LONG / (open.len() + close.len());
        texts.push(format!("{}{inner}{}", open.repeat(depth), close.repeat(depth)).into_bytes());
        let sql = format!("SELECT {}{inner}{}", open.repeat(45), close.repeat(45));
        texts.push(sql.into_bytes());
    }
    for unit in
        ["SELECT (", "SELECT * FROM (", "a IN (", "EXISTS (SELECT ", "f(", "CAST(", "((a),("]
    {
        texts.push(format!("SELECT {}1", unit.repeat(48)).into_bytes());
        texts.push(format!("SELECT {}1{}", unit.repeat(48), ")".repeat(48)).into_bytes());
    }
    texts.push(b"\xff\xfe".repeat(LONG / 2));
    texts.push(vec![0xc3; LONG]);
    texts.push(Vec::new());
    texts.push(format!("1{}", "0".repeat(LONG)).into_bytes());
    texts.push(format!("1e{}", "9".repeat(LONG)).into_bytes());
    texts.push(b"Query".to_vec());
    texts.push(b"Execute".to_vec());
    texts.push(b"Infinity".to_vec());
    texts
}

fn values(data_type: DataType) -> Vec<Value> {
    let ints = [i64::MIN, i64::MIN + 1, -1, 0, 1, 3, 23, i64::MAX];
    let floats =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MIN, f64::MAX, 5e-324, 1e18];
    match data_type {
        DataType::Boolean => vec![Value::Boolean(true), Value::Boolean(false)],
        DataType::Int64 => ints.map(Value::Int64).to_vec(),
        DataType::Time64Ns => ints.map(Value::Time64Ns).to_vec(),
        DataType::Float64 => floats.map(Value::Float64).to_vec(),
        DataType::Uint128 => [0, 1, u128::MAX].map(Value::Uint128).to_vec(),
        DataType::String => texts().into_iter().map(Value::String).collect(),
    }
}

/// All functions, each with hostile values in every place, the others being all alike.
#[test]
fn no_value_harms() {
    for def in scalar::all().filter(|def| def.refusal.is_none()) {
        for overload in def.overloads {
            let columns: Vec<Vec<Value>> = overload.args.iter().map(|&ty| values(ty)).collect();
            let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
            for shift in 0..2 {
                for row in 0..longest {
                    let args: Vec<Value> = columns
                        .iter()
                        .enumerate()
                        .map(|(at, column)| column[(row + at * shift) % column.len()].clone())
                        .collect();
                    if let Some(Value::String(text)) = weir_functions::eval::fold(def.name, &args) {
                        assert!(text.len() <= 1 << 20, "{}: {} bytes", def.name, text.len());
                    }
                }
            }
        }
    }
}

/// Personal data in a body of a megabyte of what nearly matches is found in one pass: with the
/// patterns that stood here before, each of these took minutes.
#[test]
fn long_bodies_are_redacted() {
    for piece in
        ["a:", "1 ", "fe80::", "1.1.1.", "DE89 ", "12-", "a@", "%40", "4111 1111 1111 111 "]
    {
        let text = piece.repeat((1 << 20) / piece.len());
        let redacted = weir_functions::eval::fold("redact_pii_best_effort", &[s(&text)]);
        assert!(matches!(redacted, Some(Value::String(_))), "{piece}");
    }
    let body = format!("{} me@example.com {}", "x ".repeat(200_000), "y ".repeat(200_000));
    let Some(Value::String(redacted)) =
        weir_functions::eval::fold("redact_pii_best_effort", &[s(&body)])
    else {
        panic!("it folds")
    };
    let redacted = String::from_utf8(redacted).unwrap();
    assert!(redacted.contains(" <REDACTED_EMAIL> ") && !redacted.contains("example"));
}

/// A text that is joined with itself stops growing, and a substitute does not multiply.
#[test]
fn texts_that_grow_are_cut() {
    let mut text = s("0123456789");
    for _ in 0..40 {
        text = weir_functions::eval::fold("add", &[text.clone(), text]).unwrap();
    }
    assert!(matches!(&text, Value::String(bytes) if bytes.len() == 1 << 20));
    let substitute = s(&"\\0".repeat(50_000));
    let grown = weir_functions::eval::fold("replace", &[s("(?s).*"), text, substitute]).unwrap();
    assert!(matches!(&grown, Value::String(bytes) if bytes.len() == 1 << 20));
    let rules: Vec<String> = (0..7000).map(|n| format!("\"r{n}\":\"a{{1,900}}{n}\"")).collect();
    let rules = s(&format!("{{{}}}", rules.join(",")));
    assert_eq!(weir_functions::eval::fold("_match_regex_rule", &[rules, s("a7")]), Some(s("r7")));
}
