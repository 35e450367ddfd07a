//! A server that is killed (-9) while an alert waits for its time and while one is kept though it is over, told to a real
//! Alertmanager and to a webhook.

use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::alertmanager::{Alertmanager, Hook};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::pause;
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::Weir;
use weir_types::{Clock, WallClock};

use crate::alerts::{Traffic, alerts, can_run, until};

const DEADLINE: Duration = Duration::from_secs(60);
const WINDOW_NS: i64 = 3 * SECOND;
const SECOND: i64 = 1_000_000_000;
/// How long there is no server, at least.
const AWAY: Duration = Duration::from_secs(4);
/// What an alert has waited before its server dies, at least.
const WAITED_NS: i64 = 2 * SECOND;
/// Longer than a test takes.
const LONG_MS: i64 = 3_600_000;

/// One rule that waits, for one path; and one that keeps for another path, beside one that does not. Only durations differ
/// from one call to another, so the rules stay what they are.
fn write_rules(file: &Path, hold_ms: i64, keep_ms: i64) {
    let rule = |name: &str, path: &str, field: &str| {
        format!(
            "  - alert: {name}\n    expr: |\n      import px\n      \
             df = px.DataFrame('http_events', start_time='-3s')\n      \
             df = df[df.trace_role == 2 and df.req_path == '{path}']\n      \
             px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n{field}"
        )
    };
    let text = [
        "groups:\n- name: g\n  rules:\n".to_string(),
        rule("Waits", "/waits", &format!("    for: {hold_ms}ms\n")),
        rule("Kept", "/kept", &format!("    keep_firing_for: {keep_ms}ms\n")),
        rule("Over", "/kept", ""),
    ];
    std::fs::write(file, text.concat()).unwrap();
}

fn now() -> i64 {
    WallClock.now_unix_ns()
}

fn time(value: &Json) -> i64 {
    weir_types::json::parse_time(value.as_str().unwrap()).unwrap()
}

fn alert(weir: &Weir, name: &str) -> Option<Json> {
    alerts(weir).into_iter().find(|alert| alert["alertname"] == name)
}

/// The event time up to which a rule has been judged.
fn judged(weir: &Weir, name: &str) -> Option<i64> {
    let rules = weir.run(&["alerts", "--rules", "-o", "json"], DEADLINE).unwrap().json_lines();
    let rule = rules.into_iter().find(|rule| rule["name"] == name)?;
    rule["evaluated_at"].as_str().and_then(weir_types::json::parse_time)
}

/// When this happened to an alert, each time.
fn history(weir: &Weir, name: &str, what: &str) -> Vec<i64> {
    let items = weir.run(&["alerts", "--history", "-o", "json"], DEADLINE).unwrap().json_lines();
    let items = items.iter().filter(|item| item["alertname"] == name && item["what"] == what);
    items.map(|item| time(&item["at"])).collect()
}

/// Waits until the server's state has been written down once more.
fn until_written(weir: &Weir) {
    let file = weir.data_dir().join("alerts");
    let written = || std::fs::metadata(&file).and_then(|meta| meta.modified()).ok();
    let before = written();
    until(weir, "its state is written down", DEADLINE, || (written() > before).then_some(()));
}

/// Each alert is told once that it fires and once that it is over.
fn are_told_once(weir: &Weir, hooks: [&Hook; 2]) {
    let mut wanted: Vec<String> = ["Kept /kept", "Over /kept", "Waits /waits"]
        .iter()
        .flat_map(|alert| ["firing", "resolved"].map(|status| format!("{status} {alert}")))
        .collect();
    wanted.sort();
    for hook in hooks {
        until(weir, "all are told", DEADLINE, || {
            (hook.told("req_path").len() >= wanted.len()).then_some(())
        });
        let mut told = hook.told("req_path");
        told.sort();
        assert_eq!(told, wanted, "each once: {:#?}", hook.bodies());
    }
}

/// The configuration, with an Alertmanager and a webhook.
fn config(dir: &Path, manager: &Alertmanager, hook: &Hook) -> String {
    let file = dir.join("weir.yaml");
    let text = format!(
        "rules: [r.yml]\nalertmanagers: [{{url: 'http://{}'}}]\nreceivers: [{{name: hook, type: webhook, url: \
         'http://{}/'}}]\nalerts: {{resend: 30s}}\n",
        manager.addr, hook.addr
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// What is known of the two alerts once the server is back.
struct Times {
    /// When the one began to wait, and when that was as it counts now.
    active: i64,
    moved: i64,
    /// When the other one's row was seen to be gone, and the earliest that it can have been.
    over: i64,
    gone: i64,
    /// How long there was no server, at least.
    away: i64,
}

impl Times {
    /// By the wall the durations that are set now are over; without the time that there was no server they are yet to come.
    /// When the one that waits fires.
    fn decide(&self, weir: &Weir, rules: &Path) -> i64 {
        let now = now() - self.away / 2;
        let (hold_ms, keep_ms) = ((now - self.active) / 1_000_000, (now - self.over) / 1_000_000);
        write_rules(rules, hold_ms, keep_ms);
        weir.signal(Signal::Hangup).unwrap();
        let fired = until(weir, "it fires", DEADLINE, || history(weir, "Waits", "firing").pop());
        assert!(fired - self.active >= hold_ms * 1_000_000 + self.away, "{fired}");
        assert!(fired - self.moved >= hold_ms * 1_000_000, "{fired}");
        let ended = until(weir, "it is over", DEADLINE, || history(weir, "Kept", "resolved").pop());
        assert!(ended - self.gone >= keep_ms * 1_000_000 + self.away, "{ended}");
        fired
    }
}

/// An alert that is pending and one that is kept survive a server that is killed: what they had waited before counts, what
/// passes without a server does not, for neither; the one fires and the other one is over when their times have come
/// without it, and Alertmanager and a webhook are told each of these once, with the same start. The durations are set once
/// the server is back, so that the time without one decides. Catches time while down that counts, waiting that begins anew,
/// and what is told twice.
#[test]
fn time_without_a_server_does_not_count() {
    if !can_run() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (direct, through) = (Hook::start(200).unwrap(), Hook::start(200).unwrap());
    let manager = Alertmanager::start(None, through.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("r.yml");
    write_rules(&rules, LONG_MS, LONG_MS);
    let config = config(dir.path(), &manager, &direct);
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &config];
    let weir = Weir::start(&args).unwrap();
    let starts = |name: &str| {
        let alerts = manager.alerts().unwrap();
        let alert = alerts.iter().find(|alert| alert["labels"]["alertname"] == name)?;
        Some(time(&alert["startsAt"]))
    };

    // One is kept, and its row is gone; the other one waits, and time passes.
    let mut last_asked = now();
    until(&weir, "they fire", DEADLINE, || {
        last_asked = now();
        drop(run_load(&Load::of(nginx.addr, "/kept", 2)));
        (alerts(&weir).iter().filter(|alert| alert["state"] == "firing").count() == 2).then_some(())
    });
    let kept_fired = time(&alert(&weir, "Kept").unwrap()["fired_at"]);
    let traffic = Traffic::start(nginx.addr, "/waits");
    let over =
        until(&weir, "its row is gone", DEADLINE, || history(&weir, "Over", "resolved").pop());
    let waits = until(&weir, "it is pending", DEADLINE, || alert(&weir, "Waits"));
    assert_eq!((&waits["state"], &waits["fired_at"]), (&"pending".into(), &Json::Null));
    let active = time(&waits["active_at"]);
    until(&weir, "it has waited", DEADLINE, || {
        judged(&weir, "Waits").filter(|at| *at >= active + WAITED_NS)
    });
    assert_eq!(starts("Kept"), Some(kept_fired));
    until_written(&weir);

    let mut weir = weir;
    let killed = now();
    weir.end(Signal::Kill).unwrap();
    pause(AWAY);
    let back = now();
    let weir = Weir::start_in(weir.into_data_dir(), &args).unwrap();
    let first =
        until(&weir, "it is judged", DEADLINE, || judged(&weir, "Waits").filter(|at| *at >= back));
    let waits = alert(&weir, "Waits").unwrap();
    assert_eq!(waits["state"], "pending", "{waits}");
    let moved = time(&waits["active_at"]);
    assert!(moved - active >= back - killed, "what passed meanwhile does not count: {waits}");
    assert!(moved <= first - WAITED_NS, "what had passed before does: {waits}, {first}");
    let kept = alert(&weir, "Kept").unwrap();
    assert_eq!((&kept["state"], time(&kept["fired_at"])), (&"firing".into(), kept_fired));
    until(&weir, "its answers are complete", DEADLINE, || {
        let all = alerts(&weir);
        all.iter().all(|alert| alert["completeness"]["complete"] == true).then_some(())
    });

    let times = Times { active, moved, over, gone: last_asked + WINDOW_NS, away: back - killed };
    let fired = times.decide(&weir, &rules);
    until(&weir, "Alertmanager knows", DEADLINE, || starts("Waits").filter(|at| *at == fired));

    drop(traffic);
    until(&weir, "all is over", DEADLINE, || alerts(&weir).is_empty().then_some(()));
    are_told_once(&weir, [&direct, &through]);
    for what in ["pending", "firing", "resolved"] {
        assert_eq!(history(&weir, "Waits", what).len(), 1, "{what}");
    }
    assert_eq!(history(&weir, "Kept", "firing"), [kept_fired]);
}
