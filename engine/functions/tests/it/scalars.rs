//! The conformance micro-cases of the reference, and the corners of each domain's definition.

use weir_functions::FunctionError;
use weir_functions::eval::CompiledExpr;
use weir_functions::{EvalCtx, scalar};
use weir_types::{DataType, Expr, SemanticType as Tag, Value};

use crate::support::*;

/// Appendix A.1, as far as it is about functions: a wrong one means scripts answer otherwise than in
/// Pixie.
#[test]
fn micro_cases() {
    check("divide", &[i(7), i(2)], &f(3.5));
    check("modulo", &[i(7), i(2)], &i(1));
    check("modulo", &[i(-7), i(2)], &i(-1));
    check("bin", &[i(17), i(5)], &i(15));
    check("bin", &[i(-7), i(5)], &i(-5));
    check("bin", &[f(12.9), i(5)], &i(10));
    check("floor", &[f(-1.5)], &i(-2));
    check("ceil", &[f(-1.5)], &i(-1));
    check("round", &[f(2.345), i(1)], &s("2.3"));
    check("equal", &[f(0.1 + 0.2), f(0.3)], &b(true));
    check("select", &[b(false), b(false), b(true)], &b(true));
    check("add", &[s("px/"), s("pod")], &s("px/pod"));
    check("length", &[s("é")], &i(2));
    check("substring", &[s("abcd"), i(1), i(2)], &s("bc"));
    check("substring", &[s("abcd"), i(4), i(1)], &s(""));
    check("substring", &[s("abcd"), i(5), i(1)], &s(""));
    check("substring", &[s("abcd"), i(-1), i(2)], &s(""));
    check("find", &[s("abc"), s("z")], &i(-1));
    check("contains", &[s("any"), s("")], &b(true));
    check("contains", &[s(""), s("")], &b(true));
    check("atoi", &[s("12x"), i(7)], &i(7));
    check("atoi", &[s(" 12 "), i(7)], &i(12));
    check("regex_match", &[s(r"127\.0\.0\.[0-9]+"), s("127.0.0.12")], &b(true));
    check("regex_match", &[s(r"127\.0\.0\.[0-9]+"), s("127.0.0.12x")], &b(false));
    check("regex_match", &[s(r"127\.0\.0\.[0-9]+"), s("x127.0.0.12")], &b(false));
    check("replace", &[s("o+"), s("foo boo"), s("0")], &s("f0 b0"));
    check("pluck", &[s(r#"{"a":{"b": 1}}"#), s("a")], &s(r#"{"b":1}"#));
    check("pluck", &[s(r#"{"a":null}"#), s("a")], &s(""));
    check("pluck", &[s("x"), s("a")], &s(""));
    check("pluck_float64", &[s(r#"{"a":5}"#), s("a")], &f(0.0));
    check("pluck_float64", &[s(r#"{"a":5.0}"#), s("a")], &f(5.0));
    check("pluck_int64", &[s(r#"{"a":5.0}"#), s("a")], &i(0));
    check("pluck_array", &[s(r#"["x",2]"#), i(1)], &s("2"));
    check("pluck_array", &[s(r#"["x",2]"#), i(9)], &s(""));
    check("split", &[s("a;b"), s(";")], &s(r#"["a","b"]"#));
    check(
        "_script_reference",
        &[s("L"), s("px/pod"), s("start_time"), s("-5m"), s("pod"), s("ns/p")],
        &s(r#"{"label":"L","script":"px/pod","args":{"start_time":"-5m","pod":"ns/p"}}"#),
    );
    check("has_service_name", &[s(r#"["a/b","c/d"]"#), s("c/d")], &b(true));
    check("has_service_name", &[s("a/b"), s("a/b")], &b(true));
    check("has_service_name", &[s(r#"["a/b"]"#), s("a")], &b(false));
    check("pod_name_to_namespace", &[s("ns/p")], &s("ns"));
    check("pod_name_to_namespace", &[s("p")], &s(""));
    check(
        "pod_name_to_status",
        &[s("unknown/pod")],
        &s(r#"{"phase":"Unknown","message":"","reason":"","ready":false}"#),
    );
    check("_match_endpoint", &[s("/a/7/b?x=1"), s("/a/*/b")], &b(true));
    let upid = u((1 << 96) | (2 << 64) | 3);
    check("upid", &[i(1), i(2), i(3)], &upid);
    check("upid_to_string", std::slice::from_ref(&upid), &s("1:2:3"));
    check("upid_to_pid", std::slice::from_ref(&upid), &i(2));
    check("upid_to_asid", std::slice::from_ref(&upid), &i(1));
    check("upid_to_start_ts", &[upid], &t(3));
}

#[test]
fn arithmetic_corners() {
    check("add", &[i(i64::MAX), i(1)], &i(i64::MIN));
    check("subtract", &[t(10), t(3)], &i(7));
    check("subtract", &[t(10), i(3)], &t(7));
    check("subtract", &[i(10), t(3)], &t(7));
    check("add", &[i(10), t(3)], &t(13));
    check("multiply", &[f(1.5), i(4)], &f(6.0));
    check("divide", &[i(1), i(0)], &f(f64::INFINITY));
    check("divide", &[i(-1), f(0.0)], &f(f64::NEG_INFINITY));
    let Value::Float64(nan) = call("divide", &[i(0), i(0)]) else { panic!() };
    assert!(nan.is_nan());
    check("modulo", &[i(5), i(0)], &i(0));
    check("modulo", &[i(i64::MIN), i(-1)], &i(0));
    check("modulo", &[t(17), i(5)], &i(2));
    check("negate", &[i(i64::MIN)], &i(i64::MIN));
    check("negate", &[f(1.5)], &f(-1.5));
    check("invert", &[i(0)], &i(-1));
    check("pow", &[i(2), i(10)], &f(1024.0));
    check("log", &[i(2), i(8)], &f(8f64.ln() / 2f64.ln()));
    check("log2", &[i(8)], &f(3.0));
    check("sqrt", &[i(9)], &f(3.0));
    check("abs", &[i(-3)], &i(3));
    check("floor", &[f(f64::NAN)], &i(0));
    check("floor", &[f(1e300)], &i(i64::MAX));
    check("ceil", &[f(1.2)], &i(2));
    check("round", &[f(-0.5), i(0)], &s("-0"));
    check("round", &[f(1e21), i(2)], &s("1000000000000000000000.00"));
    check("round", &[f(f64::NAN), i(2)], &s("nan"));
    check("round", &[f(f64::NEG_INFINITY), i(2)], &s("-inf"));
    check("round", &[f(1.0), i(-1)], &s("1.000000"));
    check("bin", &[t(17), i(5)], &t(15));
    check("bin", &[i(17), t(5)], &t(15));
    check("bin", &[i(17), i(0)], &i(17));
    check("bin", &[f(-12.9), i(5)], &i(-10));
    check("time_to_int64", &[t(5)], &i(5));
    check("int64_to_time", &[i(5)], &t(5));
}

#[test]
fn comparisons() {
    check("equal", &[f(f64::NAN), f(f64::NAN)], &b(false));
    check("notEqual", &[f(f64::NAN), f(1.0)], &b(false));
    check("notEqual", &[f(1.0), f(1.1)], &b(true));
    check("equal", &[i(1), f(1.0)], &b(true));
    check("equal", &[f(1.5), i(1)], &b(false));
    check("equal", &[b(true), i(1)], &b(true));
    check("notEqual", &[i(2), b(true)], &b(true));
    check("equal", &[b(true), b(false)], &b(false));
    check("notEqual", &[b(true), b(false)], &b(true));
    check("equal", &[u(7), u(7)], &b(true));
    check("lessThan", &[s("a"), s("b")], &b(true));
    check("lessThan", &[s("B"), s("a")], &b(true));
    check("lessThanEqual", &[t(1), t(1)], &b(true));
    check("greaterThan", &[f(f64::NAN), f(1.0)], &b(false));
    check("greaterThanEqual", &[i(2), i(2)], &b(true));
    check("logicalAnd", &[i(2), i(1)], &b(true));
    check("logicalOr", &[i(0), i(0)], &b(false));
    check("logicalNot", &[i(3)], &b(false));
    check("logicalNot", &[b(false)], &b(true));
    check("select", &[b(true), s("x"), s("y")], &s("x"));
    check("select", &[b(false), t(1), t(2)], &t(2));
    check("select", &[b(false), f(1.0), f(2.0)], &f(2.0));
}

#[test]
fn texts() {
    check("tolower", &[s("ÄBc")], &s("Äbc"));
    check("toupper", &[s("äbc")], &s("äBC"));
    check("trim", &[s(" \t\n\u{b}x y\r ")], &s("x y"));
    check("trim", &[s(" ")], &s(""));
    check("strip_prefix", &[s("ns/"), s("ns/p")], &s("p"));
    check("strip_prefix", &[s("ns/"), s("p")], &s("p"));
    check("hex_to_ascii", &[s("4869")], &s("Hi"));
    check("hex_to_ascii", &[s("486")], &s(""));
    check("hex_to_ascii", &[s("4g")], &s(""));
    check("bytes_to_hex", &[Value::String(vec![0, 0xAB])], &s("\\x00\\xAB"));
    check("itoa", &[i(-12)], &s("-12"));
    check("atoi", &[s("+7"), i(0)], &i(7));
    check("atoi", &[s("9223372036854775808"), i(1)], &i(1));
    check("atoi", &[s(""), i(1)], &i(1));
    check("substring", &[s("abcd"), i(2), i(i64::MAX)], &s("cd"));
    check("substring", &[s("abcd"), i(0), i(-1)], &s(""));
    check("find", &[s("abc"), s("c")], &i(2));
}

/// RE2's meaning where the engine below has another.
#[test]
fn regular_expressions() {
    let matches = |pattern: &str, text: &str| call("regex_match", &[s(pattern), s(text)]);
    assert_eq!(matches(".*", "a\nb"), b(true));
    assert_eq!(matches("a|ab", "ab"), b(true));
    assert_eq!(matches("(", ""), b(false));
    assert_eq!(matches("a)(b", "ab"), b(false));
    assert_eq!(matches(r"\d", "٣"), b(false), "digits are ASCII's");
    assert_eq!(matches(r"[\d.]+", "1.2"), b(true));
    assert_eq!(matches(r"\w+\s\S", "ab c"), b(true));
    assert_eq!(matches("[[]", "["), b(true));
    assert_eq!(matches("[]a]+", "]a"), b(true));
    assert_eq!(matches("[^]a]+", "bc"), b(true));
    assert_eq!(matches("[[:alpha:]]+", "ab"), b(true));
    assert_eq!(matches("[a&&b]+", "a&b"), b(true));
    assert_eq!(matches("{.*}", "{x}"), b(true));
    assert_eq!(matches("a{2}", "aa"), b(true));
    assert_eq!(matches(r"\Q.+\E", ".+"), b(true));
    assert_eq!(matches(r"\101", "A"), b(true));
    assert_eq!(matches("(?i)GET", "get"), b(true));
    assert_eq!(matches("[+--]+", "+,-"), b(true), "a range that ends in a dash");
    assert_eq!(matches("[--0]+", "-./0"), b(true), "a range that begins with a dash");
    assert_eq!(matches("[a-]+", "a-"), b(true));
    assert_eq!(matches("a{1000}", &"a".repeat(1000)), b(true));
    assert_eq!(matches("a{1001}", &"a".repeat(1001)), b(false), "RE2 repeats up to 1,000 times");
    assert_eq!(matches("a{2,1001}", "aa"), b(false));
    let raw = Value::String(b"\xFF".to_vec());
    check("regex_match", &[s("."), raw.clone()], &b(false));
    check("regex_match", &[s("[^a]*"), raw], &b(false));
    check("regex_match", &[s(""), s("")], &b(true));
    check("replace", &[s(""), s("ab"), s("-")], &s("-a-b-"));
    check("replace", &[s("(?P<x>a)|b"), s("ab"), s(r"[\1]")], &s("[a][]"));
    let Value::String(text) = call("replace", &[s("a{1001}"), s("x"), s("y")]) else { panic!() };
    assert!(text.starts_with(b"Invalid regex: "));
    check("replace", &[s("(a)(b)"), s("xabx"), s(r"\2\1\0\\")], &s("xbaab\\x"));
    check("replace", &[s("."), s("a\nb"), s("-")], &s("-\n-"));
    check("replace", &[s("b*"), s("abc"), s("-")], &s("-a-c-"));
    check("replace", &[s("$"), s("a"), s("$1")], &s("a$1"));
    let Value::String(text) = call("replace", &[s("("), s("x"), s("y")]) else { panic!() };
    assert!(text.starts_with(b"Invalid regex: "), "{}", String::from_utf8_lossy(&text));
    let Value::String(text) = call("replace", &[s("a"), s("x"), s("\\1")]) else { panic!() };
    assert!(text.starts_with(b"Invalid regex in substitution"));
    let rules = s(r#"{"digits":"[0-9]+","all":".*"}"#);
    check("_match_regex_rule", &[rules.clone(), s("12")], &s("digits"));
    check("_match_regex_rule", &[rules, s("x")], &s("all"));
    check("_match_regex_rule", &[s("no json"), s("x")], &s(""));
    let column = Expr::Column { idx: 0, data_type: DataType::String };
    let expr = call_expr("regex_match", vec![column.clone(), column]);
    assert_eq!(
        CompiledExpr::new(&expr).map(|_| ()),
        Err(FunctionError::NotConstant { name: "regex_match".to_string(), argument: 0 })
    );
}

#[test]
fn json() {
    let pluck = |text: &str| call("pluck", &[s(text), s("a")]);
    assert_eq!(pluck(r#"{"a":"x\u00e9\n\ud83d\ude00"}"#), s("xé\n😀"));
    assert_eq!(pluck(r#"{"a":1,"a":2}"#), s("1"), "the first of duplicates");
    assert_eq!(pluck(r#"{"b":1,"\u0061":2}"#), s("2"), "keys are decoded");
    assert_eq!(
        pluck(r#"{"a":[1, "\u0001\/é", {"k" : null}, 5.0, 1e2, -0, true]}"#),
        s(r#"[1,"\u0001/é",{"k":null},5.0,100.0,0,true]"#)
    );
    assert_eq!(pluck(r#"{"a":18446744073709551615}"#), s("18446744073709551615"));
    assert_eq!(pluck(r#"{"a":18446744073709551616}"#), s("18446744073709552000.0"));
    assert_eq!(pluck(r#"{"a":1.5e-7}"#), s("1.5e-7"));
    assert_eq!(pluck(r#"{"a":0.000001}"#), s("0.000001"));
    for broken in [
        "",
        "[]",
        "{",
        r#"{"a":1,}"#,
        r#"{"a":1}x"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":+1}"#,
        r#"{"a":1,"b":nul}"#,
        r#"{"a":1,"b":"\x"}"#,
        r#"{"a":1,"b":"\ud800"}"#,
        "{\"a\":1,\"b\":\"\n\"}",
        r#"{"a":1 "b":2}"#,
        r#"{"a":1e999}"#,
        r#"{"a":[[] []]}"#,
        r#"{"a":[1,]}"#,
        r#"{a:1}"#,
    ] {
        assert_eq!(pluck(broken), s(""), "{broken}");
    }
    let deep = format!(r#"{{"b":{}{},"a":7}}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(pluck(&deep), s("7"));
    let mixed = format!(r#"{{"b":{}0{},"a":7}}"#, r#"[{"k":"#.repeat(100), "}]".repeat(100));
    assert_eq!(pluck(&mixed), s("7"));
    check("pluck_int64", &[s(r#"{"a":-5}"#), s("a")], &i(-5));
    check("pluck_int64", &[s(r#"{"a":9223372036854775808}"#), s("a")], &i(0));
    check("pluck_int64", &[s(r#"{"a":"5"}"#), s("a")], &i(0));
    check("pluck_float64", &[s(r#"{"b":1,"a":1.5e3}"#), s("a")], &f(1500.0));
    check("pluck_array", &[s(r#"[null,"é",[1]]"#), i(2)], &s("[1]"));
    check("pluck_array", &[s(r#"[null,"é",[1]]"#), i(0)], &s(""));
    check("pluck_array", &[s(r#"["x"]"#), i(-1)], &s(""));
    check("pluck_array", &[s(r#"["x",]"#), i(0)], &s(""));
    check("split", &[s(""), s(";")], &s(r#"[""]"#));
    check("split", &[s("a;;\"b"), s(";")], &s(r#"["a","","\"b"]"#));
    check("split", &[s("ab"), s("")], &s(r#"["a","b"]"#));
    check("split", &[s("a\u{1}\u{1f}\t/"), s(";")], &s("[\"a\\u0001\\u001F\\t/\"]"));
    check(
        "_script_reference",
        &[s("a\"b"), s("x")],
        &s(r#"{"label":"a\"b","script":"x","args":{}}"#),
    );
}

/// Numbers, texts and nested values in every form that JSON has for them.
#[test]
fn json_forms() {
    let of = |written: &str| {
        let text = s(&format!("{{\"a\":{written}}}"));
        let get = |name: &str| call(name, &[text.clone(), s("a")]);
        (get("pluck"), get("pluck_int64"), get("pluck_float64"))
    };
    assert_eq!(of("5"), (s("5"), i(5), f(0.0)));
    assert_eq!(of("5.0"), (s("5.0"), i(0), f(5.0)));
    assert_eq!(of("1e3"), (s("1000.0"), i(0), f(1000.0)));
    assert_eq!(of("1E+3"), (s("1000.0"), i(0), f(1000.0)));
    assert_eq!(of("-0.0"), (s("-0.0"), i(0), f(-0.0)));
    assert_eq!(of("-9223372036854775808").1, i(i64::MIN));
    assert_eq!(of("-9223372036854775809"), (s("-9223372036854776000.0"), i(0), f(-2f64.powi(63))));
    assert_eq!(of("\"5\""), (s("5"), i(0), f(0.0)));
    assert_eq!(of("true"), (s("true"), i(0), f(0.0)));
    assert_eq!(of("null"), (s(""), i(0), f(0.0)));
    assert_eq!(of("\"\""), (s(""), i(0), f(0.0)));
    assert_eq!(of(" [ 1 , { \"b\" : [ ] } ] ").0, s("[1,{\"b\":[]}]"));
    assert_eq!(of(r#"{"x":1,"x":2}"#).0, s(r#"{"x":1,"x":2}"#));
    let raw = Value::String(b"{\"a\":\"\xFF\",\"\xFE\":1}".to_vec());
    check("pluck", &[raw.clone(), s("a")], &Value::String(b"\xFF".to_vec()));
    check("pluck_int64", &[raw, Value::String(b"\xFE".to_vec())], &i(1));
    let long = "x".repeat(100_000);
    check("pluck", &[s(&format!("{{\"b\":\"{long}\",\"a\":\"{long}\"}}")), s("a")], &s(&long));
    check("pluck", &[s("{\"\":1}"), s("")], &s("1"));
    check("pluck_array", &[s("[]"), i(0)], &s(""));
    check("pluck_array", &[s("[1]"), i(i64::MIN)], &s(""));
    check(
        "split",
        &[s("\u{7f}\\/\u{8}\u{c}\n\r\u{b}"), s(";")],
        &s("[\"\u{7f}\\\\/\\b\\f\\n\\r\\u000B\"]"),
    );
}

/// A saturating or wrapping corner that panics would take a whole query down.
#[test]
fn corners() {
    let nan = f64::NAN;
    check("bin", &[i(i64::MIN), i(-1)], &i(i64::MIN));
    check("bin", &[i(17), i(-5)], &i(15));
    check("bin", &[i(-17), i(-5)], &i(-15));
    check("bin", &[f(nan), i(5)], &i(0));
    check("bin", &[f(1e300), i(10)], &i(i64::MAX / 10 * 10));
    check("bin", &[t(-1), t(0)], &t(-1));
    check("modulo", &[i(i64::MIN), i(0)], &i(0));
    check("modulo", &[i(7), i(-2)], &i(1));
    check("multiply", &[i(i64::MIN), i(-1)], &i(i64::MIN));
    check("subtract", &[t(i64::MIN), t(1)], &i(i64::MAX));
    check("abs", &[i(i64::MIN)], &i(i64::MIN));
    check("ceil", &[f(nan)], &i(0));
    check("ceil", &[f(f64::INFINITY)], &i(i64::MAX));
    check("floor", &[f(f64::NEG_INFINITY)], &i(i64::MIN));
    check("round", &[f(1.0), i(i64::MAX)], &s(&format!("1.{}", "0".repeat(1100))));
    check("round", &[f(0.125), i(2)], &s("0.12"));
    check("pow", &[f(-8.0), f(1.0 / 3.0)], &f(nan));
    check("log", &[i(10), i(0)], &f(f64::NEG_INFINITY));
    check("ln", &[i(-1)], &f(nan));
    check("equal", &[f(f64::INFINITY), f(f64::INFINITY)], &b(false));
    check("equal", &[i(1 << 60), f((1u64 << 60) as f64)], &b(true));
    check("substring", &[s("é"), i(1), i(9)], &Value::String(vec![0xA9]));
    check("substring", &[s(""), i(0), i(0)], &s(""));
    check("substring", &[s("ab"), i(i64::MAX), i(i64::MAX)], &s(""));
    check("find", &[s("ab"), s("")], &i(0));
    check("find", &[s(""), s("a")], &i(-1));
    check("length", &[Value::String(vec![0xFF, 0])], &i(2));
    check("tolower", &[Value::String(vec![0xFF, b'A'])], &Value::String(vec![0xFF, b'a']));
    check("atoi", &[s("-9223372036854775808"), i(0)], &i(i64::MIN));
    check("atoi", &[s("+"), i(3)], &i(3));
    check("atoi", &[s("1 2"), i(3)], &i(3));
    check("itoa", &[i(i64::MIN)], &s("-9223372036854775808"));
    check("hex_to_ascii", &[s("")], &s(""));
    check("hex_to_ascii", &[s("fF00")], &Value::String(vec![0xFF, 0]));
    check("strip_prefix", &[s(""), s("a")], &s("a"));
    check("select", &[b(true), f(nan), f(1.0)], &f(nan));
    check("logicalAnd", &[i(i64::MIN), i(2)], &b(true));
    check("upid", &[i(-1), i(-1), i(-1)], &u(u128::MAX));
    check("kafka_api_key_name", &[i(i64::MIN)], &s("-9223372036854775808"));
    check("pod_name_to_namespace", &[s("/")], &s(""));
}

#[test]
fn nearest_centers() {
    let model = s(r#"{"centers":[[0.0,0.0],[10.0,0.0]]}"#);
    for (point, number) in
        [("[1,1]", 0), ("[9.5, 1e0]", 1), ("[5,0]", 0), ("[1]", -1), ("x", -1), ("[\"1\",2]", -1)]
    {
        check("_kmeans_inference", &[s(point), model.clone()], &i(number));
    }
    check("_kmeans_inference", &[s("[1]"), s("no model")], &i(-1));
}

#[test]
fn names_of_numbers() {
    check("protocol_name", &[i(1)], &s("HTTP"));
    check("protocol_name", &[i(12)], &s("AMQP"));
    check("protocol_name", &[i(11)], &s("Invalid (11)"));
    check("protocol_name", &[i(-1)], &s("Invalid (-1)"));
    check("http_resp_message", &[i(418)], &s("Unassigned"));
    check("http_resp_message", &[i(404)], &s("Not Found"));
    check("kafka_api_key_name", &[i(61)], &s("DescribeProducers"));
    check("kafka_api_key_name", &[i(56)], &s("AlterIsr"));
    check("kafka_api_key_name", &[i(52)], &s("52"));
    check("mysql_command_name", &[i(0x17)], &s("StmtExecute"));
    check("mysql_command_name", &[i(0x1f)], &s("ResetConnection"));
    check("cql_opcode_name", &[i(0x10)], &s("AuthSuccess"));
    check("cql_opcode_name", &[i(4)], &s("4"));
    check("amqp_frame_type_name", &[i(8)], &s("Heartbeat"));
    check("amqp_frame_type_name", &[i(4)], &s("Unknown"));
    check("amqp_method_name", &[i(60), i(40)], &s("BasicPublish"));
    check("amqp_method_name", &[i(50), i(11)], &s("QueueDeclare-ok"));
    check("amqp_method_name", &[i(50), i(50)], &s("QueueUnbind"));
    check("amqp_method_name", &[i(60), i(0)], &s("Unknown"));
    check("amqp_method_name", &[i(60), i(1)], &s("Unknown"));
    check("mux_frame_type_name", &[i(-62)], &s("Tdiscarded (legacy)"));
    check("mux_frame_type_name", &[i(3)], &s("Unknown (3)"));
    check("dns_rcode_name", &[i(16)], &s("BADVERS"));
    check("dns_rcode_name", &[i(12)], &s("12"));
    check("grpc_status_code_to_str", &[i(16)], &s("UNAUTHENTICATED"));
    check("grpc_status_code_to_str", &[i(17)], &s("unknown code"));
}

#[test]
fn request_paths() {
    check("_match_endpoint", &[s("/a/b"), s("/a/*/b")], &b(false));
    check("_match_endpoint", &[s("/a/x/c"), s("/a/*/b")], &b(false));
    check("_match_endpoint", &[s(""), s("/")], &b(true));
    let clusters = r#"[{"c":["a","*"],"m":[]},{"c":["b"],"m":[["b"]]},{"c":["c","*","d"],"m":[["c","1","d"]]}]"#;
    let predict = |path: &str| call("_predict_request_path_cluster", &[s(path), s(clusters)]);
    assert_eq!(predict("/a/7?x"), s("/a/*"));
    assert_eq!(predict("/b"), s("/b"));
    assert_eq!(predict("/c/1/d"), s("/c/1/d"), "a remembered member is itself");
    assert_eq!(predict("/c/2/d"), s("/c/*/d"));
    assert_eq!(predict("/z/z?q"), s("/z/z"), "nothing near: the path without its query");
    check("_predict_request_path_cluster", &[s("/a/1"), s("broken")], &s("/a/1"));
}

#[test]
fn networks() {
    let cidrs = s(r#"["10.1.0.0/16","bad","2001:db8::/32","192.168.1.7/32"]"#);
    for (ip, inside) in [
        ("10.1.255.3", true),
        ("10.2.0.1", false),
        ("2001:db8:1::5", true),
        ("192.168.1.7", true),
        ("x", false),
        ("", false),
    ] {
        check("cidrs_contain_ip", &[cidrs.clone(), s(ip)], &b(inside));
    }
    check("cidrs_contain_ip", &[s("no json"), s("10.0.0.1")], &b(false));
    check("cidrs_contain_ip", &[s(r#"["0.0.0.0/0"]"#), s("10.0.0.1")], &b(true));
    check("cidrs_contain_ip", &[s(r#"["10.0.0.0/8",1]"#), s("10.0.0.1")], &b(false));
}

/// The rules of the reference, 1.7: a wrong tag shows a wrong unit.
#[test]
fn semantic_rules() {
    use Tag::*;
    let rule = |name: &str, args: &[Tag]| scalar::semantic(name, args, &[]);
    assert_eq!(rule("add", &[Bytes, Bytes]), Bytes);
    assert_eq!(rule("add", &[Bytes, DurationNs]), None);
    assert_eq!(rule("subtract", &[DurationNs, DurationNs]), DurationNs);
    assert_eq!(rule("add", &[Percent, Percent]), None);
    assert_eq!(rule("divide", &[None, DurationNs]), ThroughputPerNs);
    assert_eq!(rule("divide", &[Bytes, DurationNs]), ThroughputBytesPerNs);
    assert_eq!(rule("divide", &[Bytes, None]), None);
    assert_eq!(rule("multiply", &[Bytes, Bytes]), None);
    assert_eq!(rule("abs", &[Percent]), Percent);
    assert_eq!(rule("floor", &[DurationNs]), None);
    assert_eq!(rule("bin", &[DurationNs, None]), None);
    assert_eq!(rule("select", &[None, PodName, PodName]), PodName);
    assert_eq!(rule("select", &[None, PodName, None]), None);
    assert_eq!(rule("upid_to_pod_name", &[Upid]), PodName);
    assert_eq!(rule("upid_to_service_name", &[Upid]), ServiceName);
    assert_eq!(rule("pod_name_to_service_name", &[PodName]), ServiceName);
    assert_eq!(rule("pod_name_to_service_name", &[None]), None);
    assert_eq!(rule("pod_name_to_status", &[PodName]), PodStatus);
    assert_eq!(rule("asid", &[]), Asid);
    assert_eq!(rule("upid", &[None, None]), None);
    assert_eq!(rule("_script_reference", &[None, None]), ScriptReference);
    assert_eq!(rule("no_such", &[]), None);
}

/// `px.now()` in a row is the tick's time; an expression that does not fit is refused, not a panic.
#[test]
fn expressions() {
    let ctx = EvalCtx { now_unix_ns: 100, ..EvalCtx::default() };
    let batch = batch_of_rows(&[DataType::Int64], &[vec![i(30)], vec![i(50)]], false);
    let column = Expr::Column { idx: 0, data_type: DataType::Int64 };
    let now = Expr::Now { factor: 2, offset_ns: -10 };
    let age = call_expr("subtract", vec![now.clone(), column.clone()]);
    assert_eq!(eval_rows(&age, &ctx, &batch), [i(160), i(140)]);
    assert_eq!(eval_rows(&now, &ctx, &batch), [i(190), i(190)]);
    let filter =
        CompiledExpr::new(&call_expr("greaterThan", vec![column.clone(), Expr::Literal(i(40))]));
    let kept = filter.unwrap().eval_filter(&ctx, &batch).unwrap();
    assert_eq!(kept.iter().collect::<Vec<_>>(), [Some(false), Some(true)]);

    // One column in two places, dictionary-encoded.
    let texts =
        batch_of_rows(&[DataType::String], &[vec![s("a")], vec![s("b")], vec![s("a")]], true);
    let text = Expr::Column { idx: 0, data_type: DataType::String };
    let twice = call_expr("add", vec![text.clone(), text]);
    assert_eq!(eval_rows(&twice, &ctx, &texts), [s("aa"), s("bb"), s("aa")]);

    let compile = |expr: &Expr| CompiledExpr::new(expr).map(|_| ());
    let call_as = |func: &str, args: Vec<Expr>, data_type| Expr::Call {
        func: func.to_string(),
        args,
        data_type,
    };
    assert!(matches!(
        compile(&call_as("nope", vec![], DataType::Int64)),
        Err(FunctionError::UnknownFunction { .. })
    ));
    assert!(matches!(
        compile(&call_as("floor", vec![column.clone()], DataType::Int64)),
        Err(FunctionError::NoOverload { .. })
    ));
    assert!(matches!(
        compile(&call_as("negate", vec![column.clone()], DataType::Float64)),
        Err(FunctionError::ResultType { .. })
    ));
    assert!(matches!(
        compile(&call_as("_text_embedding", vec![Expr::Literal(s("x"))], DataType::String)),
        Err(FunctionError::Refused { .. })
    ));
    let wrong = Expr::Column { idx: 0, data_type: DataType::String };
    assert!(matches!(
        CompiledExpr::new(&wrong).unwrap().eval(&ctx, &batch),
        Err(FunctionError::ColumnType { .. })
    ));
    let missing = Expr::Column { idx: 3, data_type: DataType::Int64 };
    assert!(matches!(
        CompiledExpr::new(&missing).unwrap().eval(&ctx, &batch),
        Err(FunctionError::ColumnMissing { .. })
    ));
    assert!(CompiledExpr::new(&column).unwrap().eval_filter(&ctx, &batch).is_err());
    let mut deep = column;
    for _ in 0..2000 {
        deep = call_as("negate", vec![deep], DataType::Int64);
    }
    assert!(matches!(compile(&deep), Err(FunctionError::TooDeep { .. })));
}
