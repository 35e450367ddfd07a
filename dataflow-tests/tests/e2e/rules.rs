//! `weir rules check` and `weir rules test`, as a shell sees them, on the pages' own examples.

use std::path::Path;
use std::time::Duration;

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

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// What the page shows is taken, an objective's PxL included, and its test succeeds over the real engine; with
/// another expectation it fails, and says what there was.
#[test]
fn the_page_holds() {
    let dir = tempfile::tempdir().unwrap();
    let [rules, slo, test, _] = blocks().try_into().unwrap();
    let rules = write(dir.path(), "shop.yml", rules);
    let slo = write(dir.path(), "slo.yml", &format!("groups:\n- name: slo\n  rules:\n{slo}"));
    let output = run(&["rules", "check", &rules, &slo], DEADLINE).unwrap();
    let shown = text(&output.stdout);
    let wanted = format!(
        "Checking {rules}\n  SUCCESS: 1 rules found\n\nChecking {slo}\n  SUCCESS: 1 rules found\n\n"
    );
    assert_eq!((shown.as_str(), output.status.code()), (wanted.as_str(), Some(0)), "{output:?}");

    let good = write(dir.path(), "good.yml", test);
    let output = run(&["rules", "test", &good], DEADLINE).unwrap();
    let shown = text(&output.stdout);
    let wanted = format!("Unit Testing:  {good}\n  SUCCESS\n\n");
    assert_eq!((shown.as_str(), output.status.code()), (wanted.as_str(), Some(0)), "{output:?}");

    let bad = write(dir.path(), "bad.yml", &test.replace("66.67%", "50%"));
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
        let wrong = write(dir.path(), "wrong.yml", &rule(expr));
        let good = write(dir.path(), "good.yml", "groups: []");
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
    let rules = write(dir.path(), "builtin.yml", &text(&builtin.stdout));
    let cases = include_str!("../../../cluster/rules/pack/builtin_test.yml");
    let test = write(dir.path(), "test.yml", cases);
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

/// An objective's alert fires when the budget burns too fast in both of its windows, exactly: one error less in a
/// thousand responses and it does not; and it is over as soon as the short window is well, whatever the long one holds.
/// Catches a threshold that is off by a factor, and windows that are scanned now and then.
#[test]
fn objectives_fire_exactly() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "slo.yml",
        "groups:\n- name: slo\n  rules:\n  - slo: Checkout\n    objective: 99.9%\n    table: http_events\n    \
         error: df.resp_status >= 500\n    \
         windows: [{long: 1h, short: 5m, burn: 14.4, severity: page}]\n",
    );
    // Every 250 ms; 14.4 times the budget of 0.1 % is 14.4 errors in a thousand.
    let row = |n: usize, errors: usize| {
        let status = if n.is_multiple_of(66) && n / 66 < errors { 500 } else { 200 };
        format!("    - {{time_: {}ms, resp_status: {status}}}\n", n * 250 + 1)
    };
    for (errors, fires) in [(14, false), (15, true)] {
        let rows: String = (0..1_000).map(|n| row(n, errors)).collect();
        // Twenty minutes later: the long window holds all of it, the short one nothing that is wrong.
        let later: String = (0..100)
            .map(|n| format!("    - {{time_: {}s, resp_status: 200}}\n", 1_200 + n))
            .collect();
        let expected = match fires {
            true => {
                "    exp_alerts:\n    - exp_labels: {severity: page, slo: Checkout, window: 1h}\n      \
                 exp_annotations: {summary: 'Checkout: the error budget of an objective of 99.9% burns 15.0 \
                 times too fast over 1h and over 5m'}\n"
            }
            false => "",
        };
        let text = format!(
            "rule_files: [slo.yml]\nevaluation_interval: 10s\ntests:\n- input_rows:\n    http_events:\n{rows}{later}  \
             alert_rule_test:\n  - eval_time: 250s\n    alertname: Checkout\n{expected}  \
             - {{eval_time: 1300s, alertname: Checkout}}\n"
        );
        let test = write(dir.path(), "test.yml", &text);
        let output = run(&["rules", "test", &test], DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}: {output:?}");
    }
}

/// What `alerts add` writes are rules: beside those that are there, right, and firing as the condition says over the real
/// engine. A condition that is wrong writes nothing. Catches sugar that makes rules which nobody can run.
#[test]
fn added_rules_fire() {
    let dir = tempfile::tempdir().unwrap();
    let script = write(
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

    let test = write(
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
    write(
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
        let path = write(dir.path(), "test.yml", &written);
        let output = run(&["rules", "test", &path], DEADLINE).unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(!wanted.is_empty())), "{case}: {told}");
        assert!(wanted.iter().all(|wanted| told.contains(wanted)), "{case}: {told}");
    }
}
