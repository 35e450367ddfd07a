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

use super::rig::{Rig, TICK_MS, case};
use crate::service::alerts::{Alerts, AlertsSpec, ReceiverSpec, Sender, StateStore};

/// As many as a server may have.
const RULES: usize = crate::service::RULES_MAX;
/// What is due within a second is there by then, for a clock that stands still afterwards: so it does not depend on how
/// fast the machine is.
const SECOND: u64 = 1_000 / TICK_MS;
/// What a disk takes to write something down.
const DISK: Duration = Duration::from_millis(5);

/// Rules of one view: each fires for its one row.
fn rules() -> Vec<AlertRule> {
    let names: Vec<String> = (0..RULES).map(|n| format!("Rule{n}")).collect();
    named(names.iter().map(|name| (name.as_str(), "")))
}

/// Such rules by their names, each with labels of its own.
fn named<'a>(rules: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<AlertRule> {
    let rule = |(name, labels): (&str, &str)| {
        format!(
            "  - alert: {name}\n    labels: {{{labels}}}\n    expr: |\n      import px\n      \
             df = px.DataFrame('http_events', start_time='-1h')\n      \
             px.display(df[['time_', 'latency']])\n"
        )
    };
    let text: String = rules.map(rule).collect();
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

/// The alerts that came, in their order.
type Told = Arc<Mutex<Vec<Json>>>;

/// Lets a second of the clock pass, and then nothing but time of the machine: what is wanted was due by then.
async fn within_a_second(rig: &mut Rig, what: &str, wanted: impl Fn() -> bool) {
    for _ in 0..SECOND {
        rig.tick().await;
    }
    for _ in 0..60_000 {
        if wanted() {
            return;
        }
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}: not after {SECOND} ticks");
}

fn name_of(alert: &Json) -> String {
    alert["labels"]["alertname"].as_str().unwrap().to_string()
}

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
    told.lock().unwrap().extend(body.as_array()?.iter().cloned());
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
/// other has all of them within a second, each once, and writing states down takes the lesser part of the time. Catches a save of all
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
        until_running(&mut rig, RULES).await;

        *written.lock().unwrap() = Duration::ZERO;
        let began_ns = WallClock.monotonic_ns();
        rig.change(&[(1, 1)]);
        within_a_second(&mut rig, "all alerts", || told.lock().unwrap().len() >= RULES).await;
        let took = Duration::from_nanos(WallClock.monotonic_ns() - began_ns);
        let written = *written.lock().unwrap();
        eprintln!("{RULES} alerts were there after {took:?}, of which {written:?} on the disk");
        let names: BTreeSet<String> = told.lock().unwrap().iter().map(name_of).collect();
        assert_eq!((names.len(), told.lock().unwrap().len()), (RULES, RULES), "each once");
        assert!(written * 2 < took, "{written:?} of {took:?}");
        rig.root.kill().await;
    });
}

async fn until_running(rig: &mut Rig, rules: usize) {
    loop {
        let figures = rig.service.alerts.figures().await.unwrap();
        if figures.rules.get("running").copied() == Some(rules as u64) {
            return;
        }
        rig.tick().await;
    }
}

/// Of three rules that fire one is left, one has another label, and one is gone: within a second the last two are over
/// where they were told, each once, the changed one fires as what it is now, and the first is not told again. Catches an
/// alert that fires for ever because nobody steps its rule any more.
#[test]
fn changed_and_deleted_rules_resolve_within_a_second() {
    case(async || {
        let mut rig = Rig::start();
        let (addr, told) = manager(true);
        let settings = Settings { resend_ns: i64::MAX / 8, ..Settings::default() };
        let spec = |rules: &[(&str, &str)]| AlertsSpec {
            rules: named(rules.iter().copied()),
            receivers: vec![receiver("direct", addr)],
            settings: settings.clone(),
            ..AlertsSpec::default()
        };
        let before = spec(&[("Kept", ""), ("Changed", "team: a"), ("Deleted", "")]);
        Alerts::start(&rig.service, &rig.root, StateStore::none(), StateStore::none(), before);
        until_running(&mut rig, 3).await;
        rig.change(&[(1, 1)]);
        within_a_second(&mut rig, "all fire", || told.lock().unwrap().len() == 3).await;
        let after = spec(&[("Kept", ""), ("Changed", "team: b")]);
        told.lock().unwrap().clear();
        let service = rig.service.clone();
        let done = rig.during("a reload", async move { Alerts::apply(&service, after).await });
        assert!(!done.await.is_empty());
        within_a_second(&mut rig, "they are over", || told.lock().unwrap().len() == 3).await;
        let now = weir_types::json::time_text(weir_types::clock::tick_unix_ns(rig.now_ms));
        let mut said: Vec<String> = told
            .lock()
            .unwrap()
            .iter()
            .map(|alert| {
                let is_over = alert["endsAt"].as_str().unwrap() <= now.as_str();
                let team = alert["labels"]["team"].as_str().unwrap_or_default();
                format!("{} {team} {}", name_of(alert), if is_over { "over" } else { "fires" })
            })
            .collect();
        said.sort();
        assert_eq!(said, ["Changed a over", "Changed b fires", "Deleted  over"]);
        rig.root.kill().await;
    });
}
