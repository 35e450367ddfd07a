//! Functions on whole documents: URIs, SQL and personal data.

use weir_types::Value;

use crate::support::*;

#[test]
fn uris() {
    let parsed = |uri: &str| call("uri_parse", &[s(uri)]);
    assert_eq!(
        parsed("https://px.dev/community/?param1=val1&param1=val2#contributors"),
        s(
            r#"{"scheme":"https","host":"px.dev","path":"community/","query":"param1=val1&param1=val2","fragment":"contributors"}"#
        )
    );
    assert_eq!(
        parsed("grpc://me:pw@127.0.0.1:9876/stream"),
        s(r#"{"scheme":"grpc","userInfo":"me:pw","host":"127.0.0.1","port":9876,"path":"stream"}"#)
    );
    assert_eq!(parsed("http://[::1]:80"), s(r#"{"scheme":"http","host":"::1","port":80}"#));
    assert_eq!(parsed("/a/b?c"), s(r#"{"path":"a/b","query":"c"}"#));
    assert_eq!(parsed("http://127.0.0.1:-1234"), s("Failed to parse URI"));
    assert_eq!(parsed("http://a b"), s("Failed to parse URI"));
    assert_eq!(parsed("http://a/%zz"), s("Failed to parse URI"));
    assert_eq!(parsed("http://a:99999999999"), s("Port parsing failed."));
    let composed = |host: &str, port: i64, path: &str, query: &str, fragment: &str| {
        let args = [s("grpc"), s(""), s(host), i(port), s(path), s(query), s(fragment)];
        call("uri_recompose", &args)
    };
    assert_eq!(composed("h", 9876, "path", "", ""), s("grpc://h:9876/path"));
    assert_eq!(composed("h", 0, "/path/", "q=1", "f"), s("grpc://h/path/?q=1#f"));
    assert_eq!(composed("h", 0, "", "q", ""), s("grpc://h/?q"));
    assert_eq!(composed("h", -10, "path", "", ""), s("Failed to recompose URI"));
}

fn normalized(query: &str, params: &[&str]) -> Value {
    s(&serde_json::json!({ "query": query, "params": params }).to_string())
}

#[track_caller]
fn check_pg(sql: &str, command: &str, query: &str, params: &[&str]) {
    assert_eq!(call("normalize_pgsql", &[s(sql), s(command)]), normalized(query, params), "{sql}");
}

#[track_caller]
fn check_mysql(sql: &str, command: i64, query: &str, params: &[&str]) {
    assert_eq!(call("normalize_mysql", &[s(sql), i(command)]), normalized(query, params), "{sql}");
}

#[test]
fn postgres() {
    check_pg("SELECT 1", "Query", "SELECT $1", &["1"]);
    check_pg(
        "SELECT *\n FROM é WHERE prop=1234 AND prop2='ab''é' LIMIT 10;",
        "Query",
        "SELECT *\n FROM é WHERE prop=$1 AND prop2=$2 LIMIT $3;",
        &["1234", "'ab''é'", "10"],
    );
    check_pg(
        r"INSERT INTO test (a, b, c, d, e) VALUES (1, 'abcd', 1.23, true, E'\\xDEADBEEF')",
        "Query",
        "INSERT INTO test (a, b, c, d, e) VALUES ($1, $2, $3, $4, $5)",
        &["1", "'abcd'", "1.23", "true", r"E'\\xDEADBEEF'"],
    );
    check_pg(
        "CREATE TABLE test (name varchar(20), foo int)",
        "Query",
        "CREATE TABLE test (name varchar(20), foo int)",
        &[],
    );
    check_pg(
        "SELECT a FROM t WHERE b IS NULL AND c = NULL AND d IN (1, 2)",
        "Query",
        "SELECT a FROM t WHERE b IS NULL AND c = $1 AND d IN ($2, $3)",
        &["NULL", "1", "2"],
    );
    check_pg(
        "INSERT INTO t VALUES (1, NULL)",
        "Query",
        "INSERT INTO t VALUES ($1, $2)",
        &["1", "NULL"],
    );
    check_pg("SELECT 'a'\n  'b', 2", "Query", "SELECT $1, $2", &["'a'\n  'b'", "2"]);
    check_pg("SELECT 'a' \"b\"", "Query", "SELECT $1 \"b\"", &["'a'"]);
    check_pg(
        "SELECT * FROM t WHERE a LIKE 'x%' AND b ILIKE '%y'",
        "Query",
        "SELECT * FROM t WHERE a LIKE $1 AND b ILIKE $2",
        &["'x%'", "'%y'"],
    );
    check_pg(
        "query=[SELECT * from test WHERE name=$1 AND tag=1234 AND property=$1] params=['a]b']",
        "Execute",
        "SELECT * from test WHERE name=$1 AND tag=$2 AND property=$3",
        &["'a]b'", "1234", "'a]b'"],
    );
    for (sql, command, error) in [
        ("SELECT", "Parse", "cmd_code must be one of 'Query' or 'Execute'"),
        ("SELECT $1", "Query", "Query has more parameter placeholders"),
        ("SELEKT 1", "Query", "sql parser error"),
        ("", "Query", "no statement"),
    ] {
        let Value::String(text) = call("normalize_pgsql", &[s(sql), s(command)]) else { panic!() };
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(&format!("{{\"error\":\"{error}")), "{sql}: {text}");
        assert_eq!(call("pluck", &[s(&text), s("query")]), s(""));
    }
    assert_eq!(
        call("normalize_pgsql", &[Value::String(vec![0xBF, 0xEF]), s("Query")]),
        s(r#"{"error":"Invalid UTF-8 byte sequence in SQL query"}"#)
    );
}

#[test]
fn mysql() {
    check_mysql("select 1", 3, "select ?", &["1"]);
    check_mysql("INSERT INTO t VALUES (1, NULL)", 3, "INSERT INTO t VALUES (?, ?)", &["1", "NULL"]);
    check_mysql("SELECT 'a' 'b' FROM t", 3, "SELECT ? FROM t", &["'a' 'b'"]);
    check_mysql("SHOW DATABASES LIKE 'x%'", 3, "SHOW DATABASES LIKE ?", &["'x%'"]);
    check_mysql(
        "SELECT * FROM test WHERE prop=@a AND prop2='abcd' AND prop3=\"x\"",
        3,
        "SELECT * FROM test WHERE prop=@a AND prop2=? AND prop3=?",
        &["'abcd'", "\"x\""],
    );
    check_mysql(
        "query=[SELECT * FROM `test` WHERE prop=? AND prop2='abcd'] params=[1234]",
        0x17,
        "SELECT * FROM `test` WHERE prop=? AND prop2=?",
        &["1234", "'abcd'"],
    );
    check_mysql(
        "INSERT INTO test (a, b, c, d, e) VALUES (1, 'abcd', 1.23, true, X'DEADBEEF')",
        3,
        "INSERT INTO test (a, b, c, d, e) VALUES (?, ?, ?, ?, ?)",
        &["1", "'abcd'", "1.23", "true", "X'DEADBEEF'"],
    );
    let Value::String(text) = call("normalize_mysql", &[s("SELECT 1"), i(22)]) else { panic!() };
    assert!(text.starts_with(b"{\"error\":"));
}

/// Captured SQL is anybody's: long chains, deep nesting and what the parser reads twice must exhaust
/// neither a thread's stack nor its time.
#[test]
fn hostile_sql() {
    let error_of = |name: &str, sql: &str| -> bool {
        let command = if name == "normalize_pgsql" { s("Query") } else { i(3) };
        match weir_functions::eval::fold(name, &[s(sql), command]) {
            Some(Value::String(text)) => text.starts_with(b"{\"error\":"),
            _ => unreachable!(),
        }
    };
    for name in ["normalize_pgsql", "normalize_mysql"] {
        for operators in [400, 100_000] {
            let chain = format!("SELECT 1{}", "+1".repeat(operators));
            assert_eq!(error_of(name, &chain), operators > 500);
        }
        for opening in ["(", "NOT ", "-", "a(", "CASE WHEN ", "(SELECT ", "[", "ARRAY[", "{"] {
            let nested = format!("SELECT {}", opening.repeat(20_000));
            assert!(error_of(name, &nested), "{opening}");
        }
        let positions =
            |count: usize| format!("SELECT {}1{}", "position(".repeat(count), ")".repeat(count));
        assert!(!error_of(name, &positions(5)));
        assert!(error_of(name, &positions(24)));
        let rows = format!("INSERT INTO t VALUES {}(1)", "(1, 'x', NULL), ".repeat(2000));
        assert!(!error_of(name, &rows), "many plain rows are not hostile");
    }
}

#[track_caller]
fn check_redacted(kind: &str, texts: &[&str]) {
    for text in texts {
        let framed = format!("1 {{\n 2: {text},\n}} \"{text}\" end");
        let want = format!("1 {{\n 2: {kind},\n}} \"{kind}\" end");
        assert_eq!(call("redact_pii_best_effort", &[s(&framed)]), s(&want), "{text}");
    }
}

#[test]
fn personal_data() {
    check_redacted("<REDACTED_IPV4>", &["192.168.0.1", "255.255.255.255", "0.0.0.0"]);
    check_redacted(
        "<REDACTED_IPV6>",
        &[
            "ab:12:34:56:789:1011:1213:0",
            "00ab:1234:5678:9100:1112:ffff:192.168.0.1",
            "::abcd:1234:ffff",
            "0123::abcd:1234:ffff:0.0.0.0",
            "1:2:abcd:a:b:c::",
            "::1",
        ],
    );
    check(
        "redact_pii_best_effort",
        &[s("at fe80::1. or ip:2001:db8::1: no")],
        &s("at <REDACTED_IPV6>. or ip:<REDACTED_IPV6>: no"),
    );
    check_redacted(
        "<REDACTED_EMAIL>",
        &[
            "test@pixie.io",
            "a-b____**@mydomain.com.au",
            "ip255.255.255.255@d.com",
            "test%40pixie.io",
        ],
    );
    check_redacted("<REDACTED_MAC_ADDR>", &["ab:12:00:64:99:ff", "ff-ff-ff-ff-ff-ff"]);
    check_redacted(
        "<REDACTED_CC_NUMBER>",
        &["3782 8224631 0005", "3056 9309025 904", "4111 1111111 11111", "5019-7170-1010-3742"],
    );
    check_redacted("<REDACTED_IMEI>", &["01-786058-312233-6", "01-786058-312233-22"]);
    check_redacted(
        "<REDACTED_IBAN>",
        &[
            "GB29NWBK60161331926819",
            "GB29 NWBK 6016 1331 9268 19",
            "SV 62 CENR 00000000000000700025",
        ],
    );
    check_redacted("<REDACTED_SSN>", &["001-01-0001", "303-58-8256"]);
    for unharmed in [
        "abcdef00123459689",
        "999.999.0.0",
        "1:2:3:4:5:6",
        "std::vector<int> :: x",
        "5555 0000 0000 0000",
        "000-12-1234",
        "666-12-1234",
        "955-12-1234",
        "999-00-9999",
        "GB28NWBK60161331926819",
    ] {
        check("redact_pii_best_effort", &[s(unharmed)], &s(unharmed));
    }
    check(
        "redact_pii_best_effort",
        &[s("a@b.c,10.0.0.1 4111111111111111")],
        &s("<REDACTED_EMAIL>,<REDACTED_IPV4> <REDACTED_CC_NUMBER>"),
    );
    check(
        "redact_pii_best_effort",
        &[Value::String(b"\xFF 10.0.0.1".to_vec())],
        &Value::String(b"\xFF <REDACTED_IPV4>".to_vec()),
    );
}

/// Long runs of candidates that are none: quadratic work would not end here.
#[test]
fn redaction_is_linear() {
    for run in ["1", "a:", "1 ", "12-", "::"] {
        let run = run.repeat(300_000);
        let Some(Value::String(_)) =
            weir_functions::eval::fold("redact_pii_best_effort", &[s(&run)])
        else {
            panic!("redaction folds")
        };
    }
}
