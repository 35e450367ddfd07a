//! Names of any text, several recording rules of one name, and as many rules as a file may have: judged, tested, run,
//! and told to a real Alertmanager.

use std::time::Duration;

use weir_dataflow_tests::harness::alertmanager::{Alertmanager, Hook};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::put;
use weir_dataflow_tests::harness::weir::{Output, Weir, run};

use super::alerts::{Traffic, alerts, can_run, until};

const DEADLINE: Duration = Duration::from_secs(120);
/// Rules that a file may have.
const RULES_MAX: usize = 20_000;

/// Requests by path, those that fail and those that do not: two rules record one view, each with labels of its own.
const RULES: &str = r#"groups:
- name: g
  rules:
  - &record
    record: "it's paths-of"
    expr: |
      import px
      df = px.DataFrame('http_events', start_time='-10s')
      df = df[df.resp_status >= 500]
      px.display(df.groupby('req_path').agg(value=('latency', px.count)))
    labels: {ins-t(ance): bad, kind: web}
  - record: "it's paths-of"
    expr: |
      import px
      df = px.DataFrame('http_events', start_time='-10s')
      df = df[df.resp_status < 500]
      df['a.b'] = df.req_method
      px.display(df.groupby(['req_path', 'a.b']).agg(value=('latency', px.count)))
    labels: {tëam: good}
  - <<: *record
  - alert: Any
    expr: |
      import px
      px.display(px.DataFrame('it\'s paths-of'))
    incomplete: mark
    labels: {'sev.erity': page}
    annotations:
      "sum\nmary": '{{ index $labels "ins-t(ance)" }}|{{ index $labels "tëam" }}|{{ $labels.a_b }}'
"#;

const TEST: &str = r#"rule_files: [r.yml]
evaluation_interval: 5s
tests:
- input_rows:
    http_events:
    - {time_: 1s, resp_status: 500, req_path: /x}
    - {time_: 2s, resp_status: 200, req_path: /x, req_method: GET}
    - {time_: 2s, resp_status: 200, req_path: /x, req_method: GET}
  alert_rule_test:
  - eval_time: 5s
    alertname: Any
    exp_alerts:
    - exp_labels: {ins-t(ance): bad, kind: web, req_path: /x, sev.erity: page}
      exp_annotations: {"sum\nmary": bad||}
    - exp_labels: {tëam: good, a_b: GET, req_path: /x, sev.erity: page}
      exp_annotations: {"sum\nmary": '|good|GET'}
  promql_expr_test:
  - expr: it's paths-of
    eval_time: 5s
    exp_samples:
    - {labels: '{"it''s paths-of", "ins-t(ance)"="bad", kind="web", req_path="/x"}', value: 1}
    - {labels: {tëam: good, a_b: GET, req_path: /x}, value: 2}
"#;

fn check(path: &str) -> Output {
    run(&["rules", "check", path], DEADLINE).unwrap()
}

/// Names that are any text reach expressions, templates and what a test expects; two rules of one name are one view with
/// the labels of each, one that is there twice counts once, and older Alertmanagers are warned of. Catches a label that
/// other rules' rows have, a name that is changed, and rows that count twice.
#[test]
fn any_names_and_several_rules_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let rules = put(dir.path(), "r.yml", RULES);
    let output = check(&rules);
    let told = output.stderr.join("\n");
    assert_eq!(output.status.code(), Some(0), "{told}");
    for wanted in [
        "Any: an Alertmanager before 0.27 refuses alerts with the name \"sev.erity\"",
        "Any: an Alertmanager before 0.27 refuses alerts with the name \"ins-t(ance)\"",
        "duplicate rule: it's paths-of with the same labels",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let test = put(dir.path(), "t.yml", TEST);
    let output = run(&["rules", "test", &test], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
    let wrong = put(dir.path(), "t.yml", &TEST.replace("{tëam: good, a_b", "{kind: web, a_b"));
    let output = run(&["rules", "test", &wrong], DEADLINE).unwrap();
    let told = output.stderr.join("\n");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(r#"{a_b="GET", req_path="/x", "tëam"="good"} 2E+00"#), "{told}");
    assert!(told.contains(r#"{"ins-t(ance)"="bad", kind="web", req_path="/x"} 1E+00"#), "{told}");

    let slo = "groups:\n- name: g\n  rules:\n  - slo: a-b\n    objective: 99%\n    table: \"it's paths-of\"\n    \
               define: df['pa th'] = df.req_path\n    error: df.value > 1\n    by: [\"pa th\"]\n    labels: {a-b: c}\n";
    let slo = put(dir.path(), "s.yml", slo);
    let output = run(&["rules", "check", &rules, &slo], DEADLINE).unwrap();
    // A view has its own window, and an objective is over two: that is all that is wrong with it.
    assert!(
        output
            .stderr
            .iter()
            .any(|line| line.contains("the view 'it's paths-of' has its own window")),
        "{output:#?}"
    );
    let slo = std::fs::read_to_string(&slo).unwrap();
    let slo = slo
        .replace("\"it's paths-of\"", "http_events")
        .replace("df.value > 1", "df.resp_status > 1");
    let output = check(&put(dir.path(), "s.yml", &slo));
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
}

/// Rules of one name that cannot be one view are refused where the name comes again, with the column that is to blame.
/// Catches numbers that are made up, and a verdict without a line.
#[test]
fn what_cannot_be_one_view_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (from, to, why) in [
        ("px.count", "px.mean", "the column `value` is "),
        ("agg(value=", "agg(other=", "only STRING columns may be missing"),
        ("df['a.b'] = df.req_method", "df['a.b'] = df.latency", "the column `a.b` is "),
    ] {
        let (records, _) = RULES.split_once("  - alert:").unwrap();
        let (first, second) = records.split_once("df[df.resp_status < 500]").unwrap();
        let second = second.replacen(from, to, 1);
        // The first has this column, too.
        let first = first
            .replace("df = df[df.resp_status >= 500]\n", "df['a.b'] = ''\n")
            .replace("groupby('req_path')", "groupby(['req_path', 'a.b'])");
        let path = put(dir.path(), "r.yml", &format!("{first}df[df.resp_status < 500]{second}"));
        let output = check(&path);
        assert_eq!(output.status.code(), Some(1), "{output:#?}");
        let head = format!("{path}:12:5: the view `it's paths-of` is recorded several times: ");
        let told = output.stderr.iter().any(|line| line.starts_with(&head) && line.contains(why));
        assert!(told, "{why}: {output:#?}");
    }
}

/// On a server: the rows of both rules are alerts with the labels of each at the webhook; a real Alertmanager that takes
/// no such names has the alert that has none, and those that it refuses are said and counted; when one of the two rules is
/// gone, its alerts are over and those of the other go on; more rules than a server runs change nothing, and the log says
/// how many they are. Catches a batch that one name spoils, and a reload that leaves rows of a rule that is gone.
#[test]
fn a_server_runs_them() {
    if !can_run() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (direct, through) = (Hook::start(200).unwrap(), Hook::start(200).unwrap());
    let manager = Alertmanager::start(None, through.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plain = "  - alert: Plain\n    expr: \"import px; df = px.DataFrame(\\\"it's paths-of\\\"); \
                 px.display(df[df.kind == 'web'][['req_path', 'value']])\"\n";
    let all = format!("{RULES}{plain}").replace("start_time='-10s'", "start_time='-10m'");
    let file = dir.path().join("r.yml");
    std::fs::write(&file, &all).unwrap();
    let config = format!(
        "rules: [r.yml]\nalertmanagers: [{{url: 'http://{}'}}]\nreceivers: [{{name: hook, type: webhook, \
         url: 'http://{}/'}}]\nalerts: {{resend: 2s}}\n",
        manager.addr, direct.addr
    );
    let config = put(dir.path(), "weir.yaml", &config);
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &config]).unwrap();
    let traffic = [Traffic::start(nginx.addr, "/error"), Traffic::start(nginx.addr, "/")];

    let told = |label: &str, wanted: &str| direct.told(label).iter().any(|told| told == wanted);
    until(&weir, "the hook knows both", DEADLINE, || {
        let both = told("ins-t(ance)", "firing Any bad") && told("tëam", "firing Any good");
        both.then_some(())
    });
    drop(traffic);
    let known = until(&weir, "Alertmanager has the plain one", DEADLINE, || {
        Some(manager.alerts().unwrap()).filter(|alerts| !alerts.is_empty())
    });
    assert!(known.iter().all(|alert| alert["labels"]["alertname"] == "Plain"), "{known:?}");
    let refused = until(&weir, "what it refuses is said", DEADLINE, || {
        let shown = weir.run(&["alerts", "--receivers", "-o", "json"], DEADLINE).unwrap();
        shown.json_lines().into_iter().find(|row| row["refused"].as_u64() >= Some(2))
    });
    let why = refused["last_error"].as_str().unwrap();
    assert!(why.contains("HTTP 400") && why.contains("invalid name"), "{refused}");

    let many = "  - {alert: A, expr: x}\n".repeat(2_001);
    std::fs::write(&file, format!("{all}{many}")).unwrap();
    let log = until(&weir, "too many are refused", DEADLINE, || {
        weir.log().into_iter().find(|line| line.contains("nothing has changed"))
    });
    assert!(log.contains("2003 alert rules; a server runs at most 2000"), "{log}");
    let label = |name: &str| alerts(&weir).iter().any(|alert| !alert["labels"][name].is_null());
    assert!(label("ins-t(ance)") && label("tëam"), "what ran goes on");

    let (first, rest) = all.split_once("  - record: \"it's paths-of\"").unwrap();
    let (_, rest) = rest.split_once("labels: {tëam: good}\n").unwrap();
    std::fs::write(&file, format!("{first}{rest}")).unwrap();
    until(&weir, "rows of the rule that is gone are over", DEADLINE, || {
        (!label("tëam")).then_some(())
    });
    assert!(label("ins-t(ance)") && label("kind"), "{:?}", alerts(&weir));
    until(&weir, "the hook knows it, too", DEADLINE, || {
        told("tëam", "resolved Any good").then_some(())
    });
    assert!(!told("ins-t(ance)", "resolved Any bad"), "{:?}", direct.told("ins-t(ance)"));
}

/// So many rules, each with an expression of its own, which reads one of ten views.
fn many(count: usize) -> String {
    let mut text = String::from("groups:\n- name: g\n  rules:\n");
    for rule in 0..count {
        let expr = "\"import px; px.display(px.DataFrame('dns_events')[['req_header']]";
        match rule % 10 {
            0 => text += &format!("  - {{record: 'r-{rule}', expr: {expr})\"}}\n"),
            _ => {
                let view = rule / 100 * 100;
                let expr = format!(
                    "\"import px; df = px.DataFrame('r-{view}'); px.display(df.head({rule}))\""
                );
                text += &format!("  - {{alert: A{rule}, expr: {expr}}}\n");
            }
        }
    }
    text
}

/// As many rules as a file may have are judged in a time that grows with them, and no worse: a quarter of them takes at
/// least a sixth of it. One more is refused with the bound. Catches a search through all views for each rule.
#[test]
fn as_many_rules_as_a_file_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let time = |count: usize| {
        let path = put(dir.path(), "r.yml", &many(count));
        let began = weir_types::Clock::now_unix_ns(&weir_types::WallClock);
        let output = run(&["rules", "check", &path], DEADLINE * 4).unwrap();
        let shown = output.stdout.join("\n");
        assert!(shown.contains(&format!("SUCCESS: {count} rules found")), "{output:?}");
        weir_types::Clock::now_unix_ns(&weir_types::WallClock) - began
    };
    let (quarter, all) = (time(RULES_MAX / 4), time(RULES_MAX));
    assert!(all < quarter * 6, "{quarter} ns for a quarter, {all} ns for all");
    let more = put(dir.path(), "r.yml", &many(RULES_MAX + 1));
    let output = check(&more);
    let wanted = format!("{more}:{}:5: a file may have {RULES_MAX} rules", RULES_MAX + 4);
    assert!(output.stderr.contains(&wanted), "{:?}", output.stderr);
}
