//! Alerts on a running server, told to a real Alertmanager: once when they fire and once when they are over,
//! whatever is reloaded, killed or silent meanwhile.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::check::number_from_env;
use weir_dataflow_tests::harness::alertmanager::{self, Alertmanager, Hook, SILENT};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::{Weir, run};
use weir_dataflow_tests::harness::{pause, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
/// What a reload may take on a busy machine; the second of the contract cannot be held there.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn can_run() -> bool {
    if !super::can_capture() {
        return false;
    }
    let there = alertmanager::is_installed();
    if !there {
        weir_types::testing::skipped("prometheus-alertmanager is not installed");
    }
    there
}

/// Failing requests of the last ten seconds, by path.
fn rules(summary: &str, hold: &str) -> String {
    format!(
        "groups:\n- name: shop\n  rules:\n  - record: shop:failed\n    expr: |\n      \
         import px\n      df = px.DataFrame('http_events', start_time='-10s')\n      \
         df = df[df.trace_role == 2]\n      df = df[df.resp_status >= 500]\n      \
         px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n  \
         - alert: Failing\n    expr: |\n      import px\n      df = px.DataFrame('shop:failed')\n      \
         px.display(df[df.value > 0])\n    for: {hold}\n    labels: {{severity: page}}\n    \
         annotations: {{summary: '{summary}'}}\n"
    )
}

fn config(dir: &Path, alertmanagers: &[SocketAddr], hook: SocketAddr) -> String {
    let urls: Vec<String> =
        alertmanagers.iter().map(|addr| format!("{{url: 'http://{addr}', timeout: 2s}}")).collect();
    let text = format!(
        "rules: [rules/*.yml]\nalertmanagers: [{}]\nreceivers: [{{name: hook, type: webhook, url: \
         'http://{hook}/'}}]\nalerts: {{external_url: 'http://weir', resend: 2s}}\n",
        urls.join(", ")
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// Requests of one path, until it is told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(addr: SocketAddr, path: &str) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, path) = (Arc::clone(&stop), path.to_string());
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::SeqCst) {
                let load = Load {
                    addr,
                    paths: vec![path.clone()],
                    requests: 5,
                    requests_per_sec: 10,
                    connections: 1,
                    keep_alive: false,
                };
                drop(run_load(&load));
            }
        });
        Traffic { stop, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(std::thread::JoinHandle::join).unwrap().unwrap();
    }
}

pub(crate) fn alerts(weir: &Weir) -> Vec<Json> {
    weir.run(&["alerts", "-o", "json"], DEADLINE).unwrap().json_lines()
}

pub(crate) fn until<T>(
    weir: &Weir,
    what: &str,
    deadline: Duration,
    wanted: impl FnMut() -> Option<T>,
) -> T {
    wait_until(deadline, wanted).unwrap_or_else(|| panic!("{what}: {:#?}", weir.log()))
}

fn firing(weir: &Weir) -> Option<Json> {
    alerts(weir).into_iter().find(|alert| alert["state"] == "firing")
}

/// A changed text is there and nothing else changes; a file that is wrong changes nothing, and says why.
fn reload_keeps_it(weir: &Weir, file: &Path, since: &str) {
    std::fs::write(file, rules("now: {{ $labels.req_path }}", "2s")).unwrap();
    until(weir, "the text changes", SOON, || {
        firing(weir).filter(|alert| alert["annotations"]["summary"] == "now: /error")
    });
    std::fs::write(file, rules("{{ $nope }}", "2s")).unwrap();
    let refused = until(weir, "a wrong file is refused", SOON, || {
        weir.log().into_iter().find(|line| line.contains("nothing has changed"))
    });
    assert!(
        refused.contains("shop.yml:18:") && refused.contains("undefined variable"),
        "{refused}"
    );
    std::fs::write(file, rules("now: {{ $labels.req_path }}", "2s")).unwrap();
    assert_eq!(firing(weir).unwrap()["fired_at"], since, "it went on");
}

/// What happened is remembered, of the server that died, too; and who is told, how that goes.
fn tells_what_happened(weir: &Weir) {
    let history = weir.run(&["alerts", "--history", "-o", "json"], DEADLINE).unwrap().json_lines();
    let happened: Vec<&str> = history.iter().map(|item| item["what"].as_str().unwrap()).collect();
    assert_eq!(happened, ["pending", "firing", "resolved"]);
    let receivers = weir.run(&["alerts", "--receivers", "-o", "json"], DEADLINE).unwrap();
    let receivers = receivers.json_lines();
    let states: Vec<&str> = receivers.iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["retrying", "running", "running"], "{receivers:#?}");
}

/// From the request that fails to Alertmanager and back: it fires with its labels and texts, over a recorded view;
/// a changed annotation and a server that was killed (-9) keep it firing since the same moment, and tell nobody
/// again; an Alertmanager that begins empty has it back within a resend; when the traffic is over it resolves, by
/// the window alone. One Alertmanager takes everything and never answers: nobody waits for it.
#[test]
fn fires_and_resolves_once() {
    if !can_run() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (direct, through, silent) =
        (Hook::start(200).unwrap(), Hook::start(200).unwrap(), Hook::start(SILENT).unwrap());
    let manager = Alertmanager::start(None, through.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    let file = dir.path().join("rules/shop.yml");
    std::fs::write(&file, rules("{{ $labels.req_path }} fails", "2s")).unwrap();
    let config = config(dir.path(), &[silent.addr, manager.addr], direct.addr);
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &config];
    let weir = Weir::start(&args).unwrap();
    let traffic = Traffic::start(nginx.addr, "/error");

    let first = until(&weir, "it fires", DEADLINE, || firing(&weir));
    assert_eq!(first["alertname"], "Failing");
    assert_eq!(first["labels"]["req_path"], "/error", "{first}");
    assert_eq!(first["annotations"]["summary"], "/error fails");
    let members: Vec<&String> = first.as_object().unwrap().keys().collect();
    for member in [
        "alertname",
        "state",
        "labels",
        "annotations",
        "value",
        "active_at",
        "fired_at",
        "completeness",
    ] {
        assert!(members.contains(&&member.to_string()), "{member} in {first}");
    }
    let since = first["fired_at"].as_str().unwrap().to_string();
    let known = until(&weir, "Alertmanager has it", SOON, || manager.alerts().unwrap().pop());
    assert_eq!(known["labels"]["severity"], "page", "{known}");
    let starts = known["startsAt"].as_str().unwrap().to_string();
    assert_eq!(starts[..19], since[..19], "{known}");
    assert!(known["generatorURL"].as_str().unwrap().starts_with("http://weir/#/alerts?"));

    reload_keeps_it(&weir, &file, &since);

    // The server dies, and Alertmanager loses what it knew.
    let port = manager.addr.port();
    let mut weir = weir;
    weir.end(Signal::Kill).unwrap();
    manager.kill().unwrap();
    let manager = Alertmanager::start(Some(port), through.addr).unwrap();
    let weir = Weir::start_in(weir.into_data_dir(), &args).unwrap();
    let again = until(&weir, "it still fires", SOON, || firing(&weir));
    assert_eq!(again["fired_at"], since.as_str());
    let back = until(&weir, "Alertmanager has it back", SOON, || manager.alerts().unwrap().pop());
    assert_eq!(back["startsAt"], starts.as_str());
    // Until the window is whole again nobody can say that it is over.
    until(&weir, "its answer is complete", DEADLINE, || {
        firing(&weir).filter(|alert| alert["completeness"]["complete"] == true)
    });

    drop(traffic);
    until(&weir, "it is over", DEADLINE, || alerts(&weir).is_empty().then_some(()));
    let told = ["firing Failing /error", "resolved Failing /error"];
    until(&weir, "the hook knows", SOON, || (direct.told("req_path").len() >= 2).then_some(()));
    assert_eq!(direct.told("req_path"), told, "{:#?}", direct.bodies());
    until(&weir, "Alertmanager's hook knows", SOON, || {
        through.told("req_path").iter().any(|text| text.starts_with("resolved")).then_some(())
    });
    tells_what_happened(&weir);
}

/// An alert that fires for long is told once, and once that it is over, however often the configuration is read again by
/// a signal, though the server is away for a while; an Alertmanager that begins empty has it back within a resend, and
/// says so once. `WEIR_FIRING_SECONDS`: how long (30 unless set; the long form is 600), with thirty signals.
#[test]
fn long_ones_are_told_once() {
    if !can_run() {
        return;
    }
    const SIGNALS: u32 = 30;
    let time = Duration::from_secs(number_from_env("WEIR_FIRING_SECONDS").unwrap_or(30));
    let (between, away) = (time / SIGNALS, time / 20);
    // An alert that is not told again for four of these is over for Alertmanager.
    let resend = between.max(Duration::from_secs(10));
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (direct, through) = (Hook::start(200).unwrap(), Hook::start(200).unwrap());
    let mut manager = Alertmanager::start(None, through.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    std::fs::write(dir.path().join("rules/shop.yml"), rules("it fails", "1s")).unwrap();
    let config = config(dir.path(), &[manager.addr], direct.addr);
    let text = std::fs::read_to_string(&config).unwrap();
    let resends = format!("resend: {}s", resend.as_secs());
    std::fs::write(&config, text.replace("resend: 2s", &resends)).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &config];
    let mut weir = Weir::start(&args).unwrap();
    let traffic = Traffic::start(nginx.addr, "/error");

    let starts =
        |manager: &Alertmanager| manager.alerts().unwrap().pop().map(|it| it["startsAt"].clone());
    let began = until(&weir, "Alertmanager has it", DEADLINE, || starts(&manager));
    for signal in 0..SIGNALS {
        pause(between);
        weir.signal(Signal::Hangup).unwrap();
        if signal == SIGNALS / 3 {
            weir.end(Signal::Terminate).unwrap();
            pause(away);
            weir = Weir::start_in(weir.into_data_dir(), &args).unwrap();
        }
        if signal == 2 * SIGNALS / 3 {
            let port = manager.addr.port();
            manager.kill().unwrap();
            manager = Alertmanager::start(Some(port), through.addr).unwrap();
            until(&weir, "Alertmanager has it back", resend + SOON, || starts(&manager));
        }
        assert_eq!(
            starts(&manager),
            Some(began.clone()),
            "after signal {signal}: {:#?}",
            weir.log()
        );
    }
    drop(traffic);
    until(&weir, "it is over", DEADLINE, || alerts(&weir).is_empty().then_some(()));
    let of = |hook: &Hook, what: &str| {
        hook.told("req_path")
            .iter()
            .filter(|line| **line == format!("{what} Failing /error"))
            .count()
    };
    until(&weir, "both know", DEADLINE, || {
        (of(&direct, "resolved") + of(&through, "resolved") >= 2).then_some(())
    });
    pause(Duration::from_secs(2));
    assert_eq!([of(&direct, "firing"), of(&direct, "resolved")], [1, 1], "{:#?}", direct.bodies());
    // The one that began empty knew nothing of what the other had said.
    assert_eq!(
        [of(&through, "firing"), of(&through, "resolved")],
        [2, 1],
        "{:#?}",
        through.bodies()
    );
}

/// A thousand alerts at once reach an Alertmanager, and one of them that the other end refuses alone is lost; a
/// rule that is gone resolves what fired by it, and a recorded view answers `weir run` by its name.
#[test]
fn many_at_once_and_a_rule_that_goes() {
    if !can_run() {
        return;
    }
    const PATHS: usize = 1_000;
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let hook = Hook::start(200).unwrap();
    let manager = Alertmanager::start(None, hook.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    let file = dir.path().join("rules/shop.yml");
    let any = rules("{{ $labels.req_path }}", "0s")
        .replace("resp_status >= 500", "resp_status == 200")
        .replace("'-10s'", "'-10m'");
    std::fs::write(&file, any).unwrap();
    let direct = Hook::start(503).unwrap();
    let config = config(dir.path(), &[manager.addr], direct.addr);
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &config]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: (0..PATHS).map(|n| format!("/p{n}")).collect(),
        requests: PATHS,
        requests_per_sec: 2_000,
        connections: 4,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), PATHS);
    until(&weir, "Alertmanager has all", DEADLINE, || {
        (manager.alerts().unwrap().len() == PATHS).then_some(())
    });
    let script = dir.path().join("read.pxl");
    std::fs::write(&script, "import px\npx.display(px.DataFrame('shop:failed'))\n").unwrap();
    let rows = weir.run(&["run", script.to_str().unwrap(), "-o", "json"], DEADLINE).unwrap();
    assert_eq!(rows.json_lines().len(), PATHS, "{:?}", rows.stderr);

    // The hook that refused everything so far is told all of it once it takes it.
    direct.answers(200);
    std::fs::remove_file(&file).unwrap();
    until(&weir, "they are over", SOON, || alerts(&weir).is_empty().then_some(()));
    until(&weir, "Alertmanager knows", SOON, || manager.alerts().unwrap().is_empty().then_some(()));
    until(&weir, "the hook knows all", DEADLINE, || {
        (direct.told("req_path").len() == 2 * PATHS).then_some(())
    });
    let mut told = direct.told("req_path");
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 2 * PATHS, "each is told once");
}

/// A configuration says what is wrong with its rules, as `rules check` says it, and with its receivers.
#[test]
fn configurations_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.yaml");
    let rule = |expr: &str| {
        let text = format!("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: {expr}\n");
        std::fs::write(dir.path().join("r.yml"), text).unwrap();
    };
    rule("import px; px.display(px.DataFrame('http_events'))");
    let cases = [
        ("rules: [r.yml]", "ok"),
        ("rules: ['*.yml']\nalertmanagers: [{url: 'http://127.0.0.1:9093'}]", "ok"),
        ("rules: [no.yml]", "no.yml"),
        ("rules: ['no/*.yml']", "ok"),
        ("alertmanagers: [{url: 'nats://x'}]", "alertmanagers[0]: `url` begins with http://"),
        ("receivers: [{name: a, type: slack, url: 'http://x/', to: [b]}]", "of type smtp"),
        ("receivers: [{name: a, type: smtp, url: 'smtp://h:25'}]", "needs `from` and `to`"),
        ("alertmanagers: [{url: 'https://h', tls: {ca: no.pem}}]", "alertmanagers[0]: tls.ca:"),
        ("alertmanagers: [{url: 'http://h', tls: {ca: no.pem}}]", "`tls` is for https"),
        (
            "receivers: [{name: a, type: slack, url: 'https://h', tls: {cert: r.yml}}]",
            "both `cert` and `key`",
        ),
        (
            "receivers: [{name: a, type: smtp, url: 'smtp://h:25', from: \"a@b\\r\\nBcc: c@d\", to: [a@b]}]",
            "no mail address",
        ),
        ("receivers: [{name: a, type: smtp, url: 'smtp://me@h'}]", "who it is, `auth` says"),
        ("receivers: [{name: a, type: smtp, url: 'smtps://h', tls: {ca: no.pem}}]", "a: tls.ca:"),
        (
            "receivers: [{name: a, type: smtp, url: 'smtps://h', tls: {cert: r.yml}}]",
            "takes `tls.ca`",
        ),
        ("receivers: [{name: a, type: mail, url: 'smtp://h:25'}]", "unknown variant"),
        ("alerts: {external_labels: {a-b: c}}", "no name of a label"),
        ("alerts: {builtin: {enabled: true, disabled: [DnsFailures]}}", "ok"),
        ("alerts: {builtin: {enabled: true, disabled: [DnsFailure]}}", "no rule `DnsFailure`"),
    ];
    for (text, wanted) in cases {
        std::fs::write(&file, text).unwrap();
        let output = run(&["config", "check", file.to_str().unwrap()], DEADLINE).unwrap();
        let said = [output.stdout.join("\n"), output.stderr.join("\n")].join("\n");
        assert!(said.contains(wanted), "{text}: {said}");
        assert_eq!(output.status.code(), Some(i32::from(wanted != "ok")), "{text}");
    }
    rule("import px; px.display(px.DataFrame('nope'))");
    std::fs::write(&file, "rules: [r.yml]").unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()], DEADLINE).unwrap();
    let said = output.stderr.join("\n");
    assert!(said.contains("r.yml:5:") && said.contains("Table 'nope' not found"), "{said}");
}
