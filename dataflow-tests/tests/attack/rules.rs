//! Many rules, and many alerts of one, with news at one tick. `WEIR_MANY_RULES` says how many (200 unless set; a
//! server has 2,000 at most).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use weir_dataflow_tests::check::number_from_env;
use weir_dataflow_tests::harness::alertmanager::{self, Alertmanager, Hook, SILENT};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{self, Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{pause, wait_until};
use weir_types::{Clock, WallClock};

use crate::target::{ATTEMPTS, Control, HOPS, turn};

/// Of one rule, at one tick.
const ALERTS: usize = 2_000;
const DEADLINE: Duration = Duration::from_secs(600);
/// Alertmanager is asked so often what it has.
const LOOK: Duration = Duration::from_millis(50);
/// All are there by then, on a machine that keeps nobody waiting.
const LATENCY_MAX: Duration = Duration::from_secs(1);

/// As many rules as there are, each another expression over a recorded view, all of which fire for the path that is asked
/// for three times; and one that fires for each path of many.
fn rules(count: usize) -> String {
    let mut text = String::from(
        "groups:\n- name: g\n  rules:\n  - alert: Each\n    expr: |\n      import px\n      \
         df = px.DataFrame('g:paths')\n      px.display(df[px.contains(df.req_path, '/many/')])\n",
    );
    for rule in 0..count - 1 {
        text.push_str(&format!(
            "  - alert: Rule{rule}\n    expr: |\n      import px\n      \
             df = px.DataFrame('g:paths')\n      \
             px.display(df[df.value * {} >= {}])\n",
            rule + 1,
            3 * (rule + 1),
        ));
    }
    text
}

/// The view of them all.
const VIEW: &str = "groups:\n- name: v\n  rules:\n  - record: g:paths\n    expr: |\n      import px\n      \
    df = px.DataFrame('http_events', start_time='-10m')\n      \
    df = df[df.trace_role == 2]\n      \
    px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n";

fn config(dir: &Path, count: usize, managers: &[SocketAddr]) -> String {
    std::fs::write(dir.join("r.yml"), rules(count)).unwrap();
    std::fs::write(dir.join("v.yml"), VIEW).unwrap();
    let urls: Vec<String> =
        managers.iter().map(|addr| format!("{{url: 'http://{addr}'}}")).collect();
    let text = format!(
        "rules: [r.yml, v.yml]\nalertmanagers: [{}]\nalerts: {{resend: 10s}}\n",
        urls.join(", ")
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// Waits until Alertmanager has so many alerts whose path begins so; how long after a time the last of them came, by what
/// it says itself. Told again, an alert is newer: what counts is what it said first.
fn last_of(
    weir: &Weir,
    manager: &Alertmanager,
    path: &str,
    count: usize,
    since_unix_ns: i64,
) -> Duration {
    let mut firsts: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut look = || {
        for (labels, at) in manager.told().unwrap() {
            let label = |label: &str| labels[label].as_str().unwrap().to_string();
            let key = (label("alertname"), label("req_path"));
            if key.1.starts_with(path) {
                firsts.entry(key).or_insert(at);
            }
        }
        (firsts.len() == count).then(|| firsts.values().copied().max()).flatten()
    };
    let last = wait_until(DEADLINE, || {
        pause(LOOK);
        look()
    });
    let last = last.unwrap_or_else(|| panic!("{} of {count}: {:#?}", firsts.len(), weir.log()));
    Duration::from_nanos(u64::try_from(last - since_unix_ns).unwrap_or(0))
}

fn requests(addr: SocketAddr, paths: Vec<String>, requests_per_sec: u32) -> i64 {
    let load = Load {
        addr,
        requests: paths.len(),
        paths,
        requests_per_sec,
        connections: 1,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);
    WallClock.now_unix_ns()
}

/// Lets one alert of each rule fire, then many of one. Whether any of these took too long.
fn is_late(
    weir: &Weir,
    nginx: &Nginx,
    manager: &Alertmanager,
    rules: usize,
    attempt: usize,
) -> bool {
    let control = Control::start();
    let one = format!("/{attempt}/one");
    let crossed = requests(nginx.addr, vec![one.clone(); 3], 1_000);
    let took = last_of(weir, manager, &one, rules - 1, crossed);
    let many = format!("/{attempt}/many/");
    let paths = (0..ALERTS).map(|n| format!("{many}{n}")).collect();
    let crossed = requests(nginx.addr, paths, 4_000);
    let each = last_of(weir, manager, &many, ALERTS, crossed);
    let waited = control.worst();
    eprintln!("{rules} rules: {took:?}; {ALERTS} alerts of one: {each:?}; control: {waited:?}");
    took.max(each) > LATENCY_MAX + HOPS * waited
}

/// All rules of a server begin to fire at one tick, and then one rule for 2,000 paths; one of two Alertmanagers takes the
/// connection and never answers. The other has all of them, a second after the last response at most; and a third one, that
/// a reload adds, learns of all that fires. Catches a
/// lag that grows with the number of rules, and one receiver that is waited for by another.
#[test]
fn all_have_news_at_once() {
    let _turn = turn();
    if !nginx::is_installed() {
        return weir_types::testing::skipped("nginx is not installed");
    }
    if !alertmanager::is_installed() {
        return weir_types::testing::skipped("prometheus-alertmanager is not installed");
    }
    let asked = number_from_env("WEIR_MANY_RULES");
    let count = usize::try_from(asked.unwrap_or(200)).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (silent, alone) = (Hook::start(SILENT).unwrap(), Alertmanager::start_alone().unwrap());
    let manager = Alertmanager::start(None, Hook::start(200).unwrap().addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // One that notifies does so on the same processors: it comes later, by a reload, and is told all that fires.
    let file = config(dir.path(), count, &[silent.addr, alone.addr]);
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &file]).unwrap();
    let stats = weir.stats().unwrap();
    if stats["sources"]["ebpf"]["state"] == "refused" {
        return weir_types::testing::skipped(format!("cannot capture here: {stats}"));
    }
    let running = || {
        let rules = weir.run(&["alerts", "--rules", "-o", "json"], DEADLINE).unwrap().json_lines();
        (rules.iter().filter(|rule| rule["state"] == "running").count() == count).then_some(())
    };
    assert!(wait_until(DEADLINE, running).is_some(), "{:#?}", weir.log());

    let late = |attempt: &usize| is_late(&weir, &nginx, &alone, count, *attempt);
    let attempts = 1 + (0..ATTEMPTS).take_while(late).count();
    assert!(attempts <= ATTEMPTS, "late each time");
    config(dir.path(), count, &[silent.addr, alone.addr, manager.addr]);
    weir.signal(Signal::Hangup).unwrap();
    let known = wait_until(DEADLINE, || {
        let alerts = manager.alerts().unwrap();
        (alerts.len() == attempts * (count - 1 + ALERTS)).then_some(())
    });
    assert!(known.is_some(), "{}", manager.alerts().unwrap().len());
    assert!(silent.bodies().is_empty());
}
