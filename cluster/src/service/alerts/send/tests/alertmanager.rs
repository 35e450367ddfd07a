//! Alerts, to a real Alertmanager.

use std::process::{Child, Command, Stdio};

use weir_types::testing::free_port;

use super::*;

const BINARY: &str = "/usr/bin/prometheus-alertmanager";

struct Alertmanager {
    child: Child,
    addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    /// `None`: this machine has none.
    fn start() -> Option<Alertmanager> {
        std::path::Path::new(BINARY).try_exists().ok()?.then_some(())?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = dir.path().join("a.yml");
        std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
        let child = Command::new(BINARY)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("d").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let manager = Alertmanager { child, addr, _dir: dir };
        for _ in 0..1_200 {
            if get(addr, "/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200")) {
                return Some(manager);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("Alertmanager is not ready");
    }

    /// The labels of what it has.
    fn labels(&self) -> Vec<Json> {
        let answer = get(self.addr, "/api/v2/alerts").unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let alerts: Json = serde_json::from_str(body).unwrap();
        alerts.as_array().unwrap().iter().map(|alert| alert["labels"].clone()).collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A whole answer; nothing of it is in pieces for a client of HTTP/1.0.
fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn with_label(svc: usize, name: &str, value: &str) -> Arc<Notice> {
    let now = weir_types::Clock::now_unix_ns(&WallClock);
    let mut labels = notice(svc).labels.map().clone();
    labels.insert(name.to_string(), value.to_string());
    let (starts, ends) = (now, now + 3_600_000_000_000);
    let fired = Notice {
        labels: Labels::new(labels),
        starts_unix_ns: starts,
        ends_unix_ns: ends,
        ..(*notice(svc)).clone()
    };
    Arc::new(fired)
}

/// Of 500 alerts one has a label that Alertmanager itself refuses: it is found, shown with Alertmanager's words and counted,
/// the other 499 are there, among them texts that are quotes, line ends, markup and long; and what comes after them as
/// well. Catches a queue that one alert holds up for ever.
#[test]
fn a_real_one_has_all_but_what_it_refuses() {
    let Some(manager) = Alertmanager::start() else {
        return weir_types::testing::skipped("prometheus-alertmanager is not installed");
    };
    let receiver = receiver_of(&format!("http://{}", manager.addr), true, 20_000);
    let long = "ä".repeat(weir_rules::labels::LABEL_BYTES_MAX / 2);
    let texts = ["\"", "a\r\nBcc: b", "<!channel>", "\\ {{ $x }}", "\u{fffd}\u{7}", &long, " "];
    let all = (0..500).map(|svc| match svc {
        77 => with_label(svc, "a-b", "x"),
        _ => with_label(svc, "text", texts[svc % texts.len()]),
    });
    receiver.queue.push(all);
    receiver.queue.push([with_label(500, "text", "later")]);
    let row = until("all are gone", &receiver, |row| row.waiting == 0);
    assert_eq!((row.sent, row.refused, row.lost), (500, 1, 1), "{row:?}");
    assert!(row.last_error.contains("HTTP 400") && row.last_error.contains("a-b"), "{row:?}");
    let labels = manager.labels();
    let mut there: Vec<usize> =
        labels.iter().map(|it| it["svc"].as_str().unwrap().parse().unwrap()).collect();
    there.sort_unstable();
    assert_eq!(there, (0..=500).filter(|svc| *svc != 77).collect::<Vec<_>>());
    for alert in labels.iter().filter(|it| it["svc"] != "500") {
        let svc: usize = alert["svc"].as_str().unwrap().parse().unwrap();
        assert_eq!(alert["text"], texts[svc % texts.len()], "as it was");
    }
}
