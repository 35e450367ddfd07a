//! Alert rules on a running cluster part: many of them with news at one tick.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;
use weir_rules::file;
use weir_rules::state::{AlertRule, Columns, Settings};
use weir_sinks::http_client::Target;
use weir_sinks::tls::Tls;
use weir_types::{Clock, Column, DataType, Relation, SemanticType, WallClock};

use super::rig::{Rig, case};
use crate::service::alerts::{Alerts, AlertsSpec, ReceiverSpec, Sender, StateStore};

const RULES: usize = 600;
/// What a disk takes to write something down.
const DISK: Duration = Duration::from_millis(5);

/// Rules of one view: each fires for its one row.
fn rules() -> Vec<AlertRule> {
    let rule = |n: usize| {
        format!(
            "  - alert: Rule{n}\n    expr: |\n      import px\n      \
             df = px.DataFrame('http_events', start_time='-1h')\n      \
             px.display(df[['time_', 'latency']])\n"
        )
    };
    let text: String = (0..RULES).map(rule).collect();
    let file = file::parse(&format!("groups:\n- name: g\n  rules:\n{text}")).unwrap();
    let relation = Relation::new(vec![
        Column::new("time_", DataType::Time64Ns, SemanticType::None),
        Column::new("latency", DataType::Int64, SemanticType::None),
    ]);
    let columns = Columns::of(&relation).unwrap();
    let group = &file.groups[0];
    let rules = group.rules.iter();
    rules.filter_map(|rule| AlertRule::new("f.yml", group, rule, columns.clone())).collect()
}

/// Names of the alerts that came, in their order.
type Told = Arc<Mutex<Vec<String>>>;

/// Takes alerts; or takes the first request of each connection and never answers it.
fn manager(answers: bool) -> (SocketAddr, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, told) = (listener.local_addr().unwrap(), Told::default());
    let kept = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || while serve(&stream, answers, &kept).is_some() {});
        }
    });
    (addr, told)
}

fn serve(mut stream: &TcpStream, answers: bool, told: &Told) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    if !answers {
        return reader.read_to_end(&mut body).ok().and(None);
    }
    let body: Json = serde_json::from_slice(&body).ok()?;
    let names = body.as_array()?.iter().map(|alert| alert["labels"]["alertname"].to_string());
    told.lock().unwrap().extend(names);
    stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").ok()
}

fn receiver(name: &str, addr: SocketAddr) -> ReceiverSpec {
    let to = Target {
        url: format!("http://{addr}"),
        headers: Vec::new(),
        timeout: Duration::from_secs(20),
        secrets: Vec::new(),
        tls: Tls::default(),
    };
    let (name, print) = (name.to_string(), String::new());
    ReceiverSpec { name, sender: Sender::Alertmanager(to), print }
}

/// Many rules begin to fire at one tick, one of two Alertmanagers takes what it gets and never answers: the
/// other has all of them, each once, and writing states down takes the lesser part of the time. Catches a save of all
/// states for each rule that has news, which is a lag that grows with the square of the rules.
#[test]
fn all_rules_have_news_at_once() {
    case(async || {
        let mut rig = Rig::start();
        let (silent, _) = manager(false);
        let (direct, told) = manager(true);
        let written = Arc::new(Mutex::new(Duration::ZERO));
        let of_disk = Arc::clone(&written);
        let save = move |_: &str| {
            std::thread::park_timeout(DISK);
            *of_disk.lock().unwrap() += DISK;
            Ok(())
        };
        let state = StateStore { save: Arc::new(save), ..StateStore::none() };
        let receivers = vec![receiver("silent", silent), receiver("direct", direct)];
        // Nothing is told twice for want of time: the clock runs fast here.
        let settings = Settings { resend_ns: i64::MAX / 8, ..Settings::default() };
        let spec = AlertsSpec { rules: rules(), receivers, settings, ..AlertsSpec::default() };
        Alerts::start(&rig.service, &rig.root, state, StateStore::none(), spec);
        let running = async |rig: &Rig| {
            let figures = rig.service.alerts.figures().await.unwrap();
            figures.rules.get("running").copied().unwrap_or(0)
        };
        while running(&rig).await < RULES as u64 {
            rig.tick().await;
        }

        *written.lock().unwrap() = Duration::ZERO;
        let began_ns = WallClock.monotonic_ns();
        rig.change(&[(1, 1)]);
        while told.lock().unwrap().len() < RULES {
            rig.tick().await;
        }
        let took = Duration::from_nanos(WallClock.monotonic_ns() - began_ns);
        let written = *written.lock().unwrap();
        eprintln!("{RULES} alerts were there after {took:?}, of which {written:?} on the disk");
        let names: BTreeSet<String> = told.lock().unwrap().iter().cloned().collect();
        assert_eq!((names.len(), told.lock().unwrap().len()), (RULES, RULES), "each once");
        assert!(written * 2 < took, "{written:?} of {took:?}");
        rig.root.kill().await;
    });
}
