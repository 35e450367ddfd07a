//! `weir rules check` and `weir rules test`, as a shell sees them, on the pages' own examples.

use std::time::Duration;

use weir_dataflow_tests::harness::put;
use weir_dataflow_tests::harness::weir::run;

const DEADLINE: Duration = Duration::from_secs(60);
const PAGE: &str = include_str!("../../../docs/howto/alerts.md");

/// The page's YAML blocks: the rules, an objective, and a test of the rules.
fn blocks() -> Vec<&'static str> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Lines as they were printed.
fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What the page shows is taken, an objective's PxL included, and its test succeeds over the real engine; with
/// another expectation it fails, and says what there was.
#[test]
fn the_page_holds() {
    let dir = tempfile::tempdir().unwrap();
    let [rules, slo, test, _] = blocks().try_into().unwrap();
    let rules = put(dir.path(), "shop.yml", rules);
    let slo = put(dir.path(), "slo.yml", &format!("groups:\n- name: slo\n  rules:\n{slo}"));
    let output = run(&["rules", "check", &rules, &slo], DEADLINE).unwrap();
    let shown = text(&output.stdout);
    let wanted = format!(
        "Checking {rules}\n  SUCCESS: 1 rules found\n\nChecking {slo}\n  SUCCESS: 1 rules found\n\n"
    );
    assert_eq!((shown.as_str(), output.status.code()), (wanted.as_str(), Some(0)), "{output:?}");

    let good = put(dir.path(), "good.yml", test);
    let output = run(&["rules", "test", &good], DEADLINE).unwrap();
    let shown = text(&output.stdout);
    let wanted = format!("Unit Testing:  {good}\n  SUCCESS\n\n");
    assert_eq!((shown.as_str(), output.status.code()), (wanted.as_str(), Some(0)), "{output:?}");

    let bad = put(dir.path(), "bad.yml", &test.replace("66.67%", "50%"));
    let output = run(&["rules", "test", &bad], DEADLINE).unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        told.contains("alertname: HighErrorRate, time: 50s") && told.contains("66.67%"),
        "{told}"
    );
}

/// What is wrong with an expression stands where the file has it; so is what is no alert. One wrong file is
/// enough for 1, and the others are judged all the same.
#[test]
fn wrong_files_are_refused_in_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let rule =
        |expr: &str| format!("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: {expr}\n");
    let cases = [
        (
            "|\n      import px\n      px.display(px.DataFrame('nope'))",
            ":7:31: group \"g\", rule 1, \"A\": could not",
        ),
        ("|\n      import px", "group \"g\", rule 1, \"A\": "),
        (
            "\"import px; px.display(px.DataFrame('http_events')); px.display(px.DataFrame('dns_events'))\"",
            "a rule has one table",
        ),
        (
            "|\n      import px\n      df = px.DataFrame('http_events')\n      df.value = df.req_path\n      \
             px.display(df[['value']])",
            "the column `value` is STRING; it has to be INT64 or FLOAT64",
        ),
        (
            "|\n      import px\n      df = px.DataFrame('http_events')\n      df['a.b'] = df.req_path\n      \
             df.a_b = df.req_path\n      px.display(df[['a.b', 'a_b']])",
            "are both the label a_b",
        ),
    ];
    for (expr, wanted) in cases {
        let wrong = put(dir.path(), "wrong.yml", &rule(expr));
        let good = put(dir.path(), "good.yml", "groups: []");
        let output = run(&["rules", "check", &wrong, &good, "/nowhere.yml"], DEADLINE).unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            told.contains(&format!("  FAILED:\n{wrong}:")) && told.contains(wanted),
            "{expr}: {told}"
        );
        assert!(told.contains("/nowhere.yml: could not read"), "{told}");
        assert!(text(&output.stdout).contains("SUCCESS: 0 rules found"));
    }
}

/// The rules that come with Weir are right, and each has a case in which it fires and one in which it does not, over
/// the real engine. Catches a rule of the pack that can never fire.
#[test]
fn the_pack_holds() {
    let dir = tempfile::tempdir().unwrap();
    let builtin = run(&["rules", "builtin"], DEADLINE).unwrap();
    let rules = put(dir.path(), "builtin.yml", &text(&builtin.stdout));
    let cases = include_str!("../../../cluster/rules/pack/builtin_test.yml");
    let test = put(dir.path(), "test.yml", cases);
    let output = run(&["rules", "check", &rules], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run(&["rules", "test", &test], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for line in builtin.stdout.iter().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = format!("    alertname: {line}\n    exp_alerts:");
        let silent = format!("alertname: {line}}}");
        assert!(cases.contains(&fires) && cases.contains(&silent), "{line} has both cases");
    }
}

/// Rows that an objective judges: so many, evenly over 250 s, of which so many at the beginning are wrong; and a hundred
/// right ones from twenty minutes on.
fn events(count: usize, errors: usize) -> String {
    let (each_ms, apart) = (250_000 / count, count / 16);
    let row = |n: usize| {
        let status = if n.is_multiple_of(apart) && n / apart < errors { 500 } else { 200 };
        format!("    - {{time_: {}ms, resp_status: {status}}}\n", n * each_ms + 1)
    };
    let later = (0..100).map(|n| format!("    - {{time_: {}s, resp_status: 200}}\n", 1_200 + n));
    (0..count).map(row).chain(later).collect()
}

/// Without windows of its own an objective has both pairs, and each is exact by itself: 6 errors in a thousand are no
/// ticket and 7 are, 14 are no page and 15 are. The page is over as five minutes have passed, the ticket after fifteen.
/// Catches the factor, the window or the severity of one pair at the other.
#[test]
fn both_usual_pairs_fire_exactly() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "slo.yml",
        "groups:\n- name: slo\n  rules:\n  - slo: Checkout\n    objective: 99.9%\n    table: http_events\n    \
         error: df.resp_status >= 500\n",
    );
    let alert = |severity: &str, errors: usize| {
        let (long, short) = if severity == "page" { ("1h", "5m") } else { ("6h", "15m") };
        format!(
            "    - exp_labels: {{severity: {severity}, slo: Checkout, window: {long}}}\n      \
             exp_annotations: {{summary: 'Checkout: the error budget of an objective of 99.9% burns {errors}.0 \
             times too fast over {long} and over {short}'}}\n"
        )
    };
    let cases: [(usize, &[&str]); 4] =
        [(6, &[]), (7, &["ticket"]), (14, &["ticket"]), (15, &["page", "ticket"])];
    for (errors, fire) in cases {
        let at = |time: &str, fire: &[&str]| {
            let alerts: String = fire.iter().map(|severity| alert(severity, errors)).collect();
            format!(
                "  - eval_time: {time}\n    alertname: Checkout\n    exp_alerts:{}\n{alerts}",
                if fire.is_empty() { " []" } else { "" }
            )
        };
        let later: Vec<&str> = fire.iter().copied().filter(|it| *it == "ticket").collect();
        let text = format!(
            "rule_files: [slo.yml]\nevaluation_interval: 50s\ntests:\n- input_rows:\n    http_events:\n{}  \
             alert_rule_test:\n{}{}{}",
            events(1_000, errors),
            at("250s", fire),
            at("600s", &later),
            at("1300s", &[]),
        );
        let test = put(dir.path(), "test.yml", &text);
        let output = run(&["rules", "test", &test], DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}: {output:?}");
    }
}

/// A budget that burns exactly as fast as the factor says does not burn too fast, and with one error more it does, also
/// where the factor times the budget is no number that a computer has: 1.44 times 0.1 % are 9 of 6,250. Catches a share
/// that is divided and rounded before it is compared.
#[test]
fn a_burn_rate_that_is_just_met_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "slo.yml",
        "groups:\n- name: slo\n  rules:\n  - slo: Checkout\n    objective: 99.9%\n    table: http_events\n    \
         error: df.resp_status >= 500\n    windows: [{long: 10m, short: 5m, burn: 1.44}]\n    \
         annotations: {summary: s}\n",
    );
    for (errors, expected) in [
        (9, "[]"),
        (
            10,
            "[{exp_labels: {severity: page, slo: Checkout, window: 10m}, exp_annotations: {summary: s}}]",
        ),
    ] {
        let text = format!(
            "rule_files: [slo.yml]\nevaluation_interval: 250s\ntests:\n- input_rows:\n    http_events:\n{}  \
             alert_rule_test:\n  - {{eval_time: 250s, alertname: Checkout, exp_alerts: {expected}}}\n",
            events(6_250, errors),
        );
        let test = put(dir.path(), "test.yml", &text);
        let output = run(&["rules", "test", &test], DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}: {output:?}");
    }
}

/// Rows that arrive late take a pending alert back before it fires, though they are of a time before it began; later still
/// they end one that fires, and without them it goes on. Catches a rule that has made up its mind about a time.
#[test]
fn late_rows_retract_what_is_pending() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "half.yml",
        "groups:\n- name: g\n  rules:\n  - alert: Half\n    expr: |\n      import px\n      \
         df = px.DataFrame('http_events', start_time='-10m')\n      \
         df.failed = px.select(df.resp_status >= 500, 1.0, 0.0)\n      \
         df = df.groupby('req_path').agg(value=('failed', px.mean))\n      \
         px.display(df[df.value > 0.5])\n    for: 20s\n",
    );
    let fires = "[{exp_labels: {req_path: /a}}]";
    // It is pending from 10 s on and would fire at 30 s.
    for (arrival, at_35, at_50) in
        [("25s", "[]", "[]"), ("45s", fires, "[]"), ("120s", fires, fires)]
    {
        let late: String = (1..4)
            .map(|n| {
                format!(
                    "    - {{time_: {n}s, _arrival_: {arrival}, resp_status: 200, req_path: /a}}\n"
                )
            })
            .collect();
        let text = format!(
            "rule_files: [half.yml]\nevaluation_interval: 5s\ntests:\n- input_rows:\n    http_events:\n    \
             - {{time_: 9s, resp_status: 500, req_path: /a}}\n    \
             - {{time_: 9500ms, resp_status: 500, req_path: /a}}\n{late}  \
             alert_rule_test:\n  - {{eval_time: 35s, alertname: Half, exp_alerts: {at_35}}}\n  \
             - {{eval_time: 50s, alertname: Half, exp_alerts: {at_50}}}\n",
        );
        let test = put(dir.path(), "test.yml", &text);
        let output = run(&["rules", "test", &test], DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arrival}: {output:?}");
    }
}

/// A rule file as Kubernetes' resource is judged as any other, by itself and in a list: what it holds is found, run by a
/// test, and what is wrong with it has the line and column of the resource. Catches a shape that is read over.
#[test]
fn resources_are_rule_files() {
    let dir = tempfile::tempdir().unwrap();
    let expr = "import px; px.display(px.DataFrame('http_events', start_time='-1m')[['req_path']])";
    let resource = |expr: &str| {
        format!(
            "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: shop\n  \
             labels: {{role: alert-rules}}\nspec:\n  groups:\n  - name: shop\n    rules:\n    \
             - alert: Asked\n      expr: \"{expr}\"\n      labels: {{severity: page}}\n"
        )
    };
    let one = put(dir.path(), "one.yml", &resource(expr));
    let indented: String =
        resource(expr).lines().map(|line| format!("  {line}\n")).collect::<String>();
    let list = format!("apiVersion: v1\nkind: List\nitems:\n-{}", &indented[1..]);
    let list = put(dir.path(), "list.yml", &list);
    let output = run(&["rules", "check", &one, &list], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout).matches("SUCCESS: 1 rules found").count(), 2, "{output:?}");

    let test = "rule_files: [one.yml]\nevaluation_interval: 10s\ntests:\n- input_rows:\n    http_events:\n    \
                - {time_: 5s, req_path: /a}\n  alert_rule_test:\n  \
                - {eval_time: 10s, alertname: Asked, exp_alerts: [{exp_labels: {severity: page, req_path: /a}}]}\n";
    let test = put(dir.path(), "test.yml", test);
    let output = run(&["rules", "test", &test], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let wrong = [
        (resource(&expr.replace("http_events", "nope")), "wrong.yml:11:"),
        (resource(expr).replace("severity:", "__name__:"), "wrong.yml:12:"),
        (resource(expr).replace("      labels:", "      label:"), "wrong.yml:12:"),
        (resource(expr).replace("  groups:", "  group:"), "wrong.yml:7:"),
    ];
    for (resource, place) in wrong {
        let path = put(dir.path(), "wrong.yml", &resource);
        let output = run(&["rules", "check", &path], DEADLINE).unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{resource}: {told}");
        assert!(told.contains(place), "{resource}: {told}");
    }
}

/// What `alerts add` writes are rules: beside those that are there, right, and firing as the condition says over the real
/// engine. A condition that is wrong writes nothing. Catches sugar that makes rules which nobody can run.
#[test]
fn added_rules_fire() {
    let dir = tempfile::tempdir().unwrap();
    let script = put(
        dir.path(),
        "failed.pxl",
        "import px\ndf = px.DataFrame('http_events', start_time='-1m')\n\
         df = df[df.resp_status >= 500]\n\
         px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n",
    );
    let file = dir.path().join("mine.yml");
    let rules = file.to_str().unwrap();
    let add = |name: &str, script: &[&str], when: &str| {
        let args = ["alerts", "add", name, "--when", when, "--for", "10s", "--file", rules];
        run(&[&args[..], script].concat(), DEADLINE).unwrap()
    };
    let own = ["--script", script.as_str()];
    let output = add("Failing", &own, "n > 1");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let bundled = ["--script", "px/service_stats", "--func", "svc_let"];
    let output = add("Errors", &bundled, "error_rate > 0.05");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let before = std::fs::read_to_string(&file).unwrap();
    let output = add("Wrong", &own, "nope > 1");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    let output = run(&["rules", "check", rules], DEADLINE).unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("SUCCESS: 4 rules found"), "{output:?}");

    let test = put(
        dir.path(),
        "test.yml",
        "rule_files: [mine.yml]\nevaluation_interval: 5s\ntests:\n- input_rows:\n    http_events:\n    \
         - {time_: 1s, resp_status: 500, req_path: /a}\n    \
         - {time_: 6s, resp_status: 500, req_path: /a}\n    \
         - {time_: 6s, resp_status: 500, req_path: /b}\n  alert_rule_test:\n  \
         - {eval_time: 10s, alertname: Failing}\n  - eval_time: 30s\n    alertname: Failing\n    \
         exp_alerts: [{exp_labels: {req_path: /a}}]\n  - {eval_time: 120s, alertname: Failing}\n",
    );
    let output = run(&["rules", "test", &test], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// The page's test of a recording rule succeeds over the real engine, by the view's name and by a script that reads it; a
/// wrong value, a sample that is missing and one that is too much fail with what there was, and what is wrong in the file
/// has its line. Catches views that are judged by what their script says rather than by what they hold.
#[test]
fn recorded_views_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let test = blocks()[3];
    put(
        dir.path(),
        "recorded.yml",
        "groups:\n- name: g\n  rules:\n  - record: path:error_rate\n    expr: |\n      import px\n      \
         df = px.DataFrame('http_events', start_time='-1m')\n      \
         df.failed = px.select(df.resp_status >= 500, 1.0, 0.0)\n      \
         px.display(df.groupby('req_path').agg(value=('failed', px.mean)))\n    labels: {team: ''}\n",
    );
    let name = "expr: path:error_rate";
    let script =
        "expr: \"import px; df = px.DataFrame('path:error_rate'); px.display(df[df.value < 0.6])\"";
    let got = "got: {req_path=\"/a\"} 5E-01, {req_path=\"/b\"} 0E+00";
    let unnamed = test.replace("'path:error_rate{", "'{");
    let in_rules = |text: &str| test.replace("[recorded.yml]", text);
    let cases: [(&str, String, &[&str]); 11] = [
        ("right", test.to_string(), &[]),
        ("pattern", in_rules("['rec*.yml']"), &[]),
        ("nothing", in_rules("['no*.yml']"), &["no file matches the pattern \"no*.yml\""]),
        ("script", unnamed.replace(name, script), &[]),
        ("value", test.replace("value: 0.5", "value: 0.6"), &["exp: {req_path=\"/a\"} 6E-01", got]),
        (
            "missing",
            test.replace("req_path: /b}, value", "req_path: /c}, value"),
            &["/c\"} 0E+00", got],
        ),
        ("extra", test.replace("    - {labels: {req_path: /b}, value: 0}\n", ""), &[got]),
        ("time", test.replace("eval_time: 10s", "eval_time: 2m"), &["time: 2m", "got: nil"]),
        (
            "name",
            test.replace(name, "expr: nope"),
            &[":9:11: \"nope\" is no recording rule's name"],
        ),
        ("other", test.replace("'path:error_rate{", "'other{"), &[":12:7: rows of the view"]),
        ("labels", test.replace("/a\"}'", "/a}'"), &[":12:16: 'labels': the closing \""]),
    ];
    for (case, written, wanted) in cases {
        let path = put(dir.path(), "test.yml", &written);
        let output = run(&["rules", "test", &path], DEADLINE).unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(!wanted.is_empty())), "{case}: {told}");
        assert!(wanted.iter().all(|wanted| told.contains(wanted)), "{case}: {told}");
    }
}
