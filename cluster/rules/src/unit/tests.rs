//! A test file over an evaluator that filters rows in the simplest way.

use weir_types::{Column, DataType, Relation, SemanticType, Value};

use super::{Evaluate, Input, parse, run};
use crate::file::{self, Rule};
use crate::state::{Columns, Row};

/// Takes `expr` as a table's name: an alert is each `svc` with rows of the last minute, its value their count.
#[derive(Default)]
struct Count(Input);

impl Evaluate for Count {
    fn begin(&mut self, input: &Input) -> Result<(), String> {
        self.0 = input.clone();
        Ok(())
    }
    fn columns(&mut self, _: &Rule) -> Result<Columns, String> {
        Columns::of(&Relation::new(vec![
            Column::new("svc", DataType::String, SemanticType::None),
            Column::new("value", DataType::Int64, SemanticType::None),
        ]))
    }
    fn rows(
        &mut self,
        rule: &Rule,
        columns: &Columns,
        at_unix_ns: i64,
    ) -> Result<Vec<Row>, String> {
        // A recorded view is the table of its name.
        let name = rule.expr.split('\'').nth(1).unwrap_or(&rule.expr);
        let table = self.0.get(name).ok_or_else(|| format!("there is no table {name}"))?;
        let mut counts = std::collections::BTreeMap::new();
        for row in table {
            let time = row["time_"].as_i64().unwrap();
            if time <= at_unix_ns && time > at_unix_ns - 60_000_000_000 {
                *counts.entry(row["svc"].as_str().unwrap().to_string()).or_insert(0) += 1;
            }
        }
        let rows = counts.into_iter().map(|(svc, count)| {
            columns.row(&[Value::String(svc.into_bytes()), Value::Int64(count)])
        });
        Ok(rows.collect())
    }
}

const RULES: &str = "groups:\n- name: g\n  rules:\n  - alert: X\n    expr: t\n    for: 20s\n    labels: {s: p}\n    \
                     annotations: {sum: '{{ $labels.svc }}: {{ $value }}'}\n";

fn failures(cases: &str) -> Vec<String> {
    let text = format!(
        "rule_files: [r.yml]\nevaluation_interval: 10s\ntests:\n- name: first\n  input_rows:\n    t:\n    \
         - {{time_: 5s, svc: a}}\n    - {{time_: 10s, svc: a}}\n    - {{time_: 100s, svc: b}}\n  alert_rule_test:\n{cases}"
    );
    let file = parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(file.rule_files, ["r.yml"]);
    run(
        "x.yml",
        &file,
        &[("r.yml".to_string(), file::parse(RULES).unwrap())],
        &mut Count::default(),
    )
}

/// Alerts that fire when they should are success; `for` counts, times between two looks are the earlier one's.
#[test]
fn what_holds_is_silent() {
    let cases = "  - {eval_time: 25s, alertname: X}\n  \
                 - eval_time: 39s\n    alertname: X\n    exp_alerts: [{exp_labels: {svc: a, s: p}, exp_annotations: {sum: 'a: 2'}}]\n  \
                 - {eval_time: 1m30s, alertname: X, exp_alerts: []}\n  - {eval_time: 39s, alertname: Other}\n";
    assert_eq!(failures(cases), [""; 0]);
}

/// What does not hold is shown as promtool does: what was expected, and what there was.
#[test]
fn what_does_not_hold_is_shown() {
    let found =
        failures("  - {eval_time: 40s, alertname: X, exp_alerts: [{exp_labels: {svc: b}}]}\n");
    let wanted = "    name: first,\n    alertname: X, time: 40s, \n        exp:[\n            0:\n              \
                  Labels:{alertname=\"X\", svc=\"b\"}\n              Annotations:{}\n            ], \n        \
                  got:[\n            0:\n              Labels:{alertname=\"X\", s=\"p\", svc=\"a\"}\n              \
                  Annotations:{sum=\"a: 2\"}\n            ]";
    assert_eq!(found, [wanted]);
    let found = failures("  - {eval_time: 1d, alertname: X}\n  - {eval_time: 30d, alertname: X}\n");
    assert!(found[0].contains("may look at its rules 10000 times"), "{found:?}");
}

/// promtool's series and queries are refused with what to write instead; so are unknown fields.
#[test]
fn other_inputs_are_refused() {
    let sample = |sample: &str| {
        format!("tests: [{{promql_expr_test: [{{expr: t, exp_samples: [{sample}]}}]}}]")
    };
    for (text, wanted) in [
        ("tests: [{input_series: []}]", "'input_series' is not supported: Weir's rules read rows"),
        ("tests: [{promql_expr_test: [{eval_time: 1m}]}]", "needs an 'expr'"),
        (&sample("{labels: '{a=\"b\"'}"), "'labels': ',' or '}' is missing"),
        (&sample("{labels: 'a-b{}'}"), "'labels': \"a-b\" is no series' name"),
        (&sample("{labels: '{a=\"b\", a=\"c\"}'}"), "the label a is there twice"),
        (&sample("{labels: '{a=b}'}"), "a label's value stands in quotes"),
        (&sample("{labels: '{a=\"b}'}"), "the closing \" is missing"),
        (&sample("{labels: '{a=\"\\q\"}'}"), "the escape \\q is not known"),
        (&sample("{labels: '{} x'}"), "\"x\" stands behind the labels"),
        (&sample("{labels: t}"), "needs a 'value'"),
        (&sample("{value: five}"), "cannot unmarshal !!str `five` into float64"),
        (&sample("{histogram: '{{}}', value: 1}"), "'histogram' is not supported"),
        ("fuzzy_compare: perhaps", "into bool"),
        ("tests: [{foo: 1}]", "field foo not found in type testGroup"),
        ("tests: [{input_rows: {t: [5]}}]", "a row is a mapping"),
        ("tests: [{alert_rule_test: [{eval_time: x}]}]", "needs an 'alertname'"),
    ] {
        let problems = parse(text).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.message.contains(wanted)),
            "{text}: {problems:?}"
        );
    }
}

/// Recorded views hold the samples that are expected, whatever their order and however labels are written; a value that
/// is another, a sample that is not there and one that is too much are each told with what there was.
#[test]
fn recorded_views_are_judged() {
    const RECORD: &str = "groups:\n- name: g\n  rules:\n  - record: t\n    expr: t\n";
    let failures = |head: &str, samples: &str| {
        let text = format!(
            "{head}\nrule_files: [r.yml]\ntests:\n- input_rows:\n    t:\n    - {{time_: 5s, svc: a}}\n    \
             - {{time_: 5s, svc: a}}\n    - {{time_: 9s, svc: b}}\n  promql_expr_test:\n  \
             - expr: t\n    eval_time: 10s\n    exp_samples: {samples}\n"
        );
        let file = parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let rules = [("r.yml".to_string(), file::parse(RECORD).unwrap())];
        run("x.yml", &file, &rules, &mut Count::default())
    };
    let said = |exp: &str| {
        format!(
            "    expr: \"t\", time: 10s,\n        exp: {exp}\n        \
             got: {{svc=\"a\"}} 2E+00, {{svc=\"b\"}} 1E+00"
        )
    };
    let cases = [
        ("[{labels: 't{svc=\"b\"}', value: 1}, {labels: \"{svc='a',}\", value: 2.0}]", None),
        ("[{labels: {svc: b}, value: 1}, {labels: '{__name__=\"t\", svc=`a`}', value: 2}]", None),
        (
            "[{labels: '{svc=\"a\"}', value: 2.5}, {labels: '{svc=\"b\"}', value: 1}]",
            Some("{svc=\"a\"} 2.5E+00, {svc=\"b\"} 1E+00"),
        ),
        ("[{labels: '{svc=\"a\"}', value: 2}]", Some("{svc=\"a\"} 2E+00")),
        (
            "[{labels: {svc: a}, value: 2}, {labels: {svc: b}, value: 1}, {labels: t, value: .inf}]",
            Some("{} +Inf, {svc=\"a\"} 2E+00, {svc=\"b\"} 1E+00"),
        ),
        ("[]", Some("nil")),
    ];
    for (samples, exp) in cases {
        let wanted: Vec<String> = exp.map(said).into_iter().collect();
        assert_eq!(failures("", samples), wanted, "{samples}");
    }
    // The next number that there is, is the same only when it is said.
    let near = "[{labels: {svc: a}, value: 2.0000000000000004}, {labels: {svc: b}, value: 1}]";
    assert_eq!(failures("", near).len(), 1);
    assert_eq!(failures("fuzzy_compare: true", near), [""; 0]);
    // A view has its own name, and a script has none.
    let other = "[{labels: 'u{svc=\"a\"}', value: 2}]";
    assert_eq!(failures("", other), ["    x.yml:12:19: rows of the view \"t\" are not \"u\""]);
}
