//! Incidents one after another, at known times: each is told once, soon, and nothing else is, also while the server is
//! killed. `WEIR_INCIDENTS` says how many there are (60 unless set; the long form is 500).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::check::number_from_env;
use weir_dataflow_tests::harness::alertmanager::{self, Alertmanager, Hook};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{pause, wait_until};
use weir_types::{Clock, WallClock};

const DEADLINE: Duration = Duration::from_secs(120);
/// Responses that cross the threshold.
const CROSSING: usize = 3;
const BETWEEN: Duration = Duration::from_millis(150);
/// What the contract says; a machine that does other things besides is granted more.
const LATENCY_MAX: Duration = Duration::from_secs(1);
const LATENCY_MAX_LOADED: Duration = Duration::from_secs(10);
/// Alertmanager is asked so often what it has.
const LOOK: Duration = Duration::from_millis(100);
/// What happened passes so many threads and processes until Alertmanager has it. On a machine so busy that one question to
/// it and its answer take longer than a part of [`LATENCY_MAX`], each may take as long.
const HOPS: u32 = 10;

const RULES: &str = "groups:\n- name: shop\n  rules:\n  - alert: Failing\n    expr: |\n      \
    import px\n      df = px.DataFrame('http_events', start_time='-10s')\n      \
    df = df[df.trace_role == 2]\n      \
    df = df.groupby('req_path').agg(value=('latency', px.count))\n      \
    px.display(df[df.value >= 3])\n";

fn config(dir: &Path, manager: SocketAddr, direct: SocketAddr) -> String {
    std::fs::write(dir.join("shop.yml"), RULES).unwrap();
    // The second one is only to see when each alert arrives. A server that comes back within four resends is not missed.
    let text = format!(
        "rules: [shop.yml]\nalertmanagers: [{{url: 'http://{manager}'}}, {{url: 'http://{direct}'}}]\n\
         alerts: {{resend: 20s}}\n"
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// Requests of one path; when the last of them was answered.
fn requests(addr: SocketAddr, path: &str, count: usize) -> i64 {
    let load = Load { connections: 1, ..Load::of(addr, path, count) };
    let log = run_load(&load);
    assert!(log.iter().all(|exchange| exchange.status == Some(200)), "{log:?}");
    let last = log.last().unwrap();
    last.start_unix_ns + i64::try_from(last.latency_ns).unwrap()
}

/// Path → when it first arrived as one that fires.
fn firsts(hook: &Hook) -> BTreeMap<String, i64> {
    let mut firsts = BTreeMap::new();
    for (at, body) in hook.arrived() {
        let alerts: Json = serde_json::from_str(&body).unwrap();
        for alert in alerts.as_array().unwrap() {
            let path = alert["labels"]["req_path"].as_str().unwrap();
            firsts.entry(path.to_string()).or_insert(at);
        }
    }
    firsts
}

/// What Alertmanager says of itself.
#[derive(Default)]
struct Receipts {
    /// Path → when it was told of it first.
    firsts: BTreeMap<String, i64>,
    /// The longest that an answer of its took meanwhile.
    longest: Duration,
}

impl Receipts {
    /// Asks now and then, until it is stopped.
    fn watch(manager: &Alertmanager, stop: &AtomicBool) -> Receipts {
        let mut receipts = Receipts::default();
        while !stop.load(Ordering::SeqCst) {
            let began_ns = WallClock.monotonic_ns();
            let told = manager.told().unwrap();
            let took = Duration::from_nanos(WallClock.monotonic_ns() - began_ns);
            receipts.longest = receipts.longest.max(took);
            for (labels, at) in told {
                // Telling it again moves that on.
                let path = labels["req_path"].as_str().unwrap().to_string();
                receipts.firsts.entry(path).or_insert(at);
            }
            pause(LOOK);
        }
        receipts
    }
}

/// However it ends.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Incidents, and what is none; two of the times between, the server is killed. Path → when it crossed the threshold.
fn inject(
    count: usize,
    addr: SocketAddr,
    mut weir: Weir,
    args: &[&str],
    direct: &Hook,
) -> (Weir, BTreeMap<String, i64>) {
    let mut crossed: BTreeMap<String, i64> = BTreeMap::new();
    for number in 0..count {
        let path = format!("/bad/{number}");
        let at = requests(addr, &path, CROSSING);
        crossed.insert(path, at);
        requests(addr, &format!("/good/{number}"), CROSSING - 1);
        pause(BETWEEN);
        if number == count / 3 || number == 2 * count / 3 {
            // What is not known is not asked of a server that is dead.
            until_known(&weir, direct, crossed.keys());
            weir.end(Signal::Kill).unwrap();
            weir = Weir::start_in(weir.into_data_dir(), args).unwrap();
            until_judging(&weir, direct, addr, number);
        }
    }
    until_known(&weir, direct, crossed.keys());
    (weir, crossed)
}

/// Every incident is told to Alertmanager once when it begins and once when it is over, what stays below the threshold
/// never; two of the times between, the server is killed (-9) while alerts fire. From the response that crosses the
/// threshold to Alertmanager's receipt it takes a second at most, for 99 of 100.
#[test]
fn each_is_told_once_and_soon() {
    if !super::can_capture() {
        return;
    }
    if !alertmanager::is_installed() {
        return weir_types::testing::skipped("prometheus-alertmanager is not installed");
    }
    let asked = number_from_env("WEIR_INCIDENTS");
    let count = usize::try_from(asked.unwrap_or(60)).unwrap();
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let (told, direct) = (Hook::start(200).unwrap(), Hook::start(200).unwrap());
    let manager = Alertmanager::start(None, told.addr).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), manager.addr, direct.addr);
    let trace = format!("port:{}", nginx.addr.port());
    let args = ["--trace", &trace, "--config", &config];
    let weir = Weir::start(&args).unwrap();
    // Its views are there.
    requests(nginx.addr, "/first", CROSSING);
    until_known(&weir, &direct, [&"/first".to_string()].into_iter());

    let stop = AtomicBool::new(false);
    let ((weir, crossed), receipts) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| Receipts::watch(&manager, &stop));
        let stops = Stops(&stop);
        let injected = inject(count, nginx.addr, weir, &args, &direct);
        // What is told at the same time is seen at the next look.
        pause(3 * LOOK);
        drop(stops);
        (injected, watcher.join().unwrap())
    });

    // Of what the harness itself asked nothing is judged but that it is over in the end.
    let ours = |line: &String| line.contains(" /bad/") || line.contains(" /good/");
    let over = wait_until(DEADLINE, || {
        let over = told.told("req_path");
        (over.iter().filter(|line| ours(line)).count() >= 2 * count).then_some(())
    });
    pause(Duration::from_secs(3));
    let mut lines: Vec<String> = told.told("req_path").into_iter().filter(ours).collect();
    lines.sort();
    let wanted = crossed
        .keys()
        .flat_map(|path| ["firing", "resolved"].map(|status| format!("{status} Failing {path}")));
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort();
    assert!(over.is_some() && lines == wanted, "{lines:#?}\n{:#?}", weir.log());

    judge_latency(&crossed, &firsts(&direct), LATENCY_MAX_LOADED);
    let most = LATENCY_MAX.max(HOPS * receipts.longest);
    eprintln!("at Alertmanager, whose answers took {:?} at most:", receipts.longest);
    judge_latency(&crossed, &receipts.firsts, most.min(LATENCY_MAX_LOADED));
}

/// Waits until each has arrived.
fn until_known<'a>(weir: &Weir, direct: &Hook, paths: impl Iterator<Item = &'a String> + Clone) {
    let known = wait_until(DEADLINE, || {
        let firsts = firsts(direct);
        paths.clone().all(|path| firsts.contains_key(path)).then_some(())
    });
    assert!(known.is_some(), "{:#?}", weir.log());
}

/// Waits until a server that has begun anew judges its rules again.
fn until_judging(weir: &Weir, direct: &Hook, addr: SocketAddr, number: usize) {
    let path = format!("/again/{number}");
    let back = wait_until(DEADLINE, || {
        requests(addr, &path, CROSSING);
        pause(Duration::from_millis(500));
        firsts(direct).contains_key(&path).then_some(())
    });
    assert!(back.is_some(), "{:#?}", weir.log());
}

/// `most`: where it is not asked for the long form, whose machine is to do nothing else.
fn judge_latency(crossed: &BTreeMap<String, i64>, arrived: &BTreeMap<String, i64>, most: Duration) {
    let took = |(path, at): (&String, &i64)| {
        Duration::from_nanos(u64::try_from(arrived[path] - at).unwrap_or(0))
    };
    let mut took: Vec<Duration> = crossed.iter().map(took).collect();
    took.sort();
    let (middle, p99) = (took[took.len() / 2], took[(took.len() * 99).div_ceil(100) - 1]);
    eprintln!("{} incidents: p50 {middle:?}, p99 {p99:?}, {took:?}", took.len());
    let most = match std::env::var_os("WEIR_INCIDENTS") {
        Some(_) => LATENCY_MAX,
        None => most,
    };
    assert!(p99 <= most, "{took:?}");
}
