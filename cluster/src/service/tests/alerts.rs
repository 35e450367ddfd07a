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
use crate::service::alerts::{
    Alerts, AlertsSpec, RULE_REFRESH_MS, ReceiverSpec, Sender, StateStore,
};

/// As many as a server may have.
const RULES: usize = crate::service::ALERT_RULES_MAX;
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
    parsed(&format!("groups:\n- name: g\n  rules:\n{text}"))
}

/// The rules of a file, over rows with a latency.
fn parsed(text: &str) -> Vec<AlertRule> {
    let file = file::parse(text).unwrap();
    let relation = Relation::new(vec![
        Column::new("time_", DataType::Time64Ns, SemanticType::None),
        Column::new("latency", DataType::Int64, SemanticType::None),
    ]);
    let columns = Columns::of(&relation).unwrap();
    let all = file.groups.iter();
    let all = all.flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    all.filter_map(|(group, rule)| AlertRule::new("f.yml", group, rule, columns.clone())).collect()
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

/// A rule that fires for each row, with further fields.
fn for_each_row(name: &str, fields: &str) -> String {
    format!(
        "  - alert: {name}\n{fields}    expr: |\n      import px\n      \
         df = px.DataFrame('http_events', start_time='-1h')\n      \
         px.display(df[['time_', 'latency']])\n"
    )
}

fn text_of(unix_ms: u64) -> String {
    weir_types::json::time_text(weir_types::clock::tick_unix_ns(unix_ms))
}

/// Changes rows and lets the clock go on to the next refresh of rules, where it stands until each rule has been judged
/// there; names and states of the alerts that there are then.
async fn next_refresh(rig: &mut Rig, changes: &[(i64, i64)]) -> Vec<String> {
    rig.change(changes);
    loop {
        rig.tick().await;
        if rig.now_ms.is_multiple_of(RULE_REFRESH_MS) {
            break;
        }
    }
    let now = text_of(rig.now_ms);
    for _ in 0..60_000 {
        let shown = rig.service.alerts.shown().await.unwrap();
        if shown.rules.iter().all(|rule| rule.evaluated_at.as_ref() == Some(&now)) {
            let alerts = shown.alerts.iter();
            return alerts.map(|alert| format!("{} {}", alert.alertname, alert.state)).collect();
        }
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
    panic!("no answer of {now}");
}

/// Another row takes the place of this one: the alert is the same, and there is something to judge.
fn another(row: i64) -> [(i64, i64); 2] {
    [(row, -1), (row + 1, 1)]
}

/// Waits, while the clock stands, until so many alerts have come.
async fn until_told(told: &Told, count: usize) -> Vec<Json> {
    for _ in 0..60_000 {
        if told.lock().unwrap().len() >= count {
            break;
        }
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
    told.lock().unwrap().clone()
}

/// An alert is pending, fires and is over at the very refresh that follows what made it so, on a clock that stands still
/// meanwhile: `for` is five refreshes and no more, and Alertmanager is told these times. Catches a rule that is looked at
/// later than its view, or by a timer of its own.
#[test]
fn states_change_at_the_next_refresh() {
    case(async || {
        let mut rig = Rig::start();
        let (addr, told) = manager(true);
        let settings = Settings { resend_ns: i64::MAX / 8, ..Settings::default() };
        let rule = for_each_row("Waits", "    for: 1s\n");
        let spec = AlertsSpec {
            rules: parsed(&format!("groups:\n- name: g\n  rules:\n{rule}")),
            receivers: vec![receiver("direct", addr)],
            settings,
            ..AlertsSpec::default()
        };
        Alerts::start(&rig.service, &rig.root, StateStore::none(), StateStore::none(), spec);
        until_running(&mut rig, 1).await;

        assert_eq!(next_refresh(&mut rig, &[(1, 1)]).await, ["Waits pending"]);
        let (began_ms, refreshes) = (rig.now_ms, 1_000 / RULE_REFRESH_MS as i64);
        for row in 1..refreshes {
            assert_eq!(next_refresh(&mut rig, &another(row)).await, ["Waits pending"]);
        }
        assert_eq!(next_refresh(&mut rig, &another(refreshes)).await, ["Waits firing"]);
        let fired_ms = rig.now_ms;
        assert_eq!(fired_ms, began_ms + 1_000);
        assert_eq!(until_told(&told, 1).await[0]["startsAt"], text_of(fired_ms));

        let gone = [(refreshes + 1, -1)];
        assert_eq!(next_refresh(&mut rig, &gone).await, [""; 0], "over at once");
        let over = &until_told(&told, 2).await[1];
        assert_eq!(over["startsAt"], text_of(fired_ms));
        assert_eq!(over["endsAt"], text_of(rig.now_ms));
        let history = rig.service.alerts.history().await.unwrap();
        let times: Vec<(String, String)> = history
            .iter()
            .map(|it| (it.what.clone(), weir_types::json::time_text(it.at_unix_ns)))
            .collect();
        let wanted = [("pending", began_ms), ("firing", fired_ms), ("resolved", rig.now_ms)];
        assert_eq!(times, wanted.map(|(what, at_ms)| (what.to_string(), text_of(at_ms))));
        // Nothing else was told.
        assert_eq!(told.lock().unwrap().len(), 2);
        rig.root.kill().await;
    });
}

/// What `for` and `keep_firing_for` wait for is over at the refresh at which it is over, though no row changes meanwhile and
/// nobody else is told anything. Catches an alert that waits for the next row, or for the sign of life of a quiet view.
#[test]
fn what_is_waited_for_is_seen_at_its_refresh() {
    const HOLD_MS: u64 = 2 * RULE_REFRESH_MS;
    case(async || {
        let mut rig = Rig::start();
        let (addr, _told) = manager(true);
        let waits = format!("    for: {HOLD_MS}ms\n    keep_firing_for: {HOLD_MS}ms\n");
        let rule = for_each_row("Waits", &waits);
        let spec = AlertsSpec {
            rules: parsed(&format!("groups:\n- name: g\n  rules:\n{rule}")),
            receivers: vec![receiver("direct", addr)],
            ..AlertsSpec::default()
        };
        Alerts::start(&rig.service, &rig.root, StateStore::none(), StateStore::none(), spec);
        until_running(&mut rig, 1).await;
        for (change, before, after) in
            [((1, 1), "Waits pending", &["Waits firing"][..]), ((1, -1), "Waits firing", &[])]
        {
            assert_eq!(next_refresh(&mut rig, &[change]).await, [before]);
            let over_ms = rig.now_ms + HOLD_MS;
            while rig.now_ms + RULE_REFRESH_MS < over_ms {
                rig.tick().await;
            }
            assert_eq!(next_refresh(&mut rig, &[]).await, after);
            assert_eq!(rig.now_ms, over_ms);
        }
        rig.root.kill().await;
    });
}

/// What fires is told again each resend delay to the tick, all of it, so that an Alertmanager that begins empty has it back
/// within one; each time it is valid for four of the longer of the delay and its group's interval. Catches alerts that
/// Alertmanager lets go between two tellings, and one that is told again only once in a while.
#[test]
fn all_that_fires_is_told_again_each_delay() {
    const RESEND_MS: u64 = 2_000;
    case(async || {
        let mut rig = Rig::start();
        let (addr, told) = manager(true);
        let settings = Settings { resend_ns: RESEND_MS as i64 * 1_000_000, ..Settings::default() };
        let rules = [for_each_row("Often", ""), for_each_row("Seldom", "")];
        let groups = ["- name: g\n  rules:\n", "- name: h\n  interval: 5s\n  rules:\n"];
        let text = format!("groups:\n{}{}{}{}", groups[0], rules[0], groups[1], rules[1]);
        let spec = AlertsSpec {
            rules: parsed(&text),
            receivers: vec![receiver("direct", addr)],
            settings,
            ..AlertsSpec::default()
        };
        Alerts::start(&rig.service, &rig.root, StateStore::none(), StateStore::none(), spec);
        until_running(&mut rig, 2).await;
        let mut row = 1;
        assert_eq!(next_refresh(&mut rig, &[(1, 1)]).await, ["Often firing", "Seldom firing"]);
        let fired_ms = rig.now_ms;
        until_told(&told, 2).await;

        // It begins empty just after it was told, three times.
        for turn in 1..=3 {
            told.lock().unwrap().clear();
            while rig.now_ms < fired_ms + turn * RESEND_MS {
                next_refresh(&mut rig, &another(row)).await;
                row += 1;
            }
            let mut again: Vec<(String, String, String)> = until_told(&told, 2)
                .await
                .iter()
                .map(|alert| {
                    let text = |member: &str| alert[member].as_str().unwrap().to_string();
                    (name_of(alert), text("startsAt"), text("endsAt"))
                })
                .collect();
            again.sort();
            let wanted = [("Often", 4 * RESEND_MS), ("Seldom", 4 * 5_000)].map(|(name, valid)| {
                (name.to_string(), text_of(fired_ms), text_of(rig.now_ms + valid))
            });
            assert_eq!(again, wanted, "turn {turn}");
        }
        rig.root.kill().await;
    });
}
