//! An exporter while its own entry of the configuration changes, by whoever scrapes it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_dataflow_tests::harness::http::{Load, request_once, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{free_port, pause, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
const PATHS: usize = 5;
const EACH: i64 = 10;

/// The script with more that it says of each path, and the sink with other keys.
fn config(dir: &Path, more: &str, keys: &str, listen: SocketAddr) -> String {
    let script = format!(
        "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n\
         df = df[df.trace_role == 2]\n\
         px.display(df.groupby('req_path').agg(n=('latency', px.count){more}))\n"
    );
    std::fs::write(dir.join("paths.pxl"), script).unwrap();
    let text = format!(
        "sinks:\n  shop:\n    type: prometheus\n    inputs: [{{file: paths.pxl}}]\n    \
         listen: {listen}\n{keys}"
    );
    let file = dir.join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// Path → value of a metric. `Err`: nobody answers as an exporter does.
fn scrape(addr: SocketAddr, metric: &str) -> Result<BTreeMap<String, i64>, String> {
    let answer = request_once(addr, "GET", "/metrics", &[], b"").map_err(|it| it.to_string())?;
    if answer.status != 200 {
        return Err(answer.status.to_string());
    }
    let one = |line: &str| {
        let rest = line.strip_prefix(metric)?.strip_prefix("{req_path=\"")?;
        let (path, value) = rest.split_once("\"} ")?;
        Some((path.to_string(), value.parse().ok()?))
    };
    Ok(answer.text().lines().filter_map(one).collect())
}

fn until(weir: &Weir, what: &str, wanted: impl Fn() -> bool) {
    let done = wait_until(DEADLINE, || wanted().then_some(()));
    assert!(done.is_some(), "{what}: {:#?}", weir.log());
}

/// While its script changes, of which the server is told by the file alone, and then its keys, of which it is told by
/// SIGHUP, an exporter answers each scrape with all that there was: it is never away, empty or half. At another address
/// the old one is given up. Catches an exporter that is begun anew with nothing to show, or that lets go of its port.
#[test]
fn it_is_never_empty() {
    if !super::can_capture() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [first, second] =
        [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let file = config(dir.path(), "", "", first);
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", &file]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: (0..PATHS).map(|n| format!("/{n}")).collect(),
        requests: EACH as usize * PATHS,
        requests_per_sec: 50,
        connections: 2,
        keep_alive: true,
    };
    assert_eq!(run_load(&load).len(), load.requests);
    let wanted: BTreeMap<String, i64> = (0..PATHS).map(|n| (format!("/{n}"), EACH)).collect();
    until(&weir, "all is shown", || scrape(first, "shop_n").as_ref() == Ok(&wanted));

    let begun = || weir.log().iter().filter(|line| line.contains("shop began anew")).count();
    let has_ended = AtomicBool::new(false);
    let scraped = std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut scraped = Vec::new();
            while !has_ended.load(Ordering::SeqCst) {
                scraped.push(scrape(first, "shop_n"));
                pause(Duration::from_millis(2));
            }
            scraped
        });
        config(dir.path(), ", most=('latency', px.max)", "", first);
        until(&weir, "its script is another", || {
            scrape(first, "shop_most").is_ok_and(|shown| shown.len() == PATHS)
        });
        config(dir.path(), ", most=('latency', px.max)", "    retry: {initial: 2s}\n", first);
        weir.signal(Signal::Hangup).unwrap();
        until(&weir, "its keys are others", || begun() == 2);
        let acked = || weir.run(&["sinks", "-o", "jsonl"], DEADLINE).unwrap().json_lines();
        until(&weir, "it has the new rows", || {
            acked()[0]["rows_sent"].as_u64() >= Some(PATHS as u64)
        });
        has_ended.store(true, Ordering::SeqCst);
        scraper.join().unwrap()
    });
    let wrong: Vec<_> = scraped.iter().filter(|shown| shown.as_ref() != Ok(&wanted)).collect();
    assert!(wrong.is_empty(), "{} of {} scrapes: {wrong:?}", wrong.len(), scraped.len());
    assert!(scraped.len() > 100, "{}", scraped.len());

    config(dir.path(), "", "", second);
    until(&weir, "it is elsewhere", || scrape(second, "shop_n").as_ref() == Ok(&wanted));
    assert!(TcpStream::connect(first).is_err(), "the old port is free");
}
