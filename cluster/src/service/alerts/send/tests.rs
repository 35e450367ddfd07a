//! Receivers at work, over real sockets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::Value as Json;
use weir_rules::labels::Labels;
use weir_rules::state::NoticeKind;
use weir_sinks::http_client::Target;
use weir_sinks::tls::Tls;
use weir_types::WallClock;

use super::*;

mod alertmanager;
mod mail;

/// What the other end says to a body; `None`: nothing, ever.
type Judge = fn(&Json) -> Option<(u16, &'static str)>;

/// Takes requests one after another and hands out what they said.
fn server(judge: Judge) -> (SocketAddr, mpsc::Receiver<(u16, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            std::thread::spawn(move || while serve(&stream, judge, &tell).is_some() {});
        }
    });
    (addr, told)
}

fn serve(mut stream: &TcpStream, judge: Judge, tell: &mpsc::Sender<(u16, Json)>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            len = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let body: Json = serde_json::from_slice(&body).ok()?;
    let Some((status, head)) = judge(&body) else {
        return reader.read_to_end(&mut Vec::new()).ok().and(None);
    };
    tell.send((status, body)).ok()?;
    write!(stream, "HTTP/1.1 {status} x\r\n{head}content-length: 0\r\n\r\n").ok()
}

fn notice(svc: usize) -> Arc<Notice> {
    let labels = [("alertname", "A".to_string()), ("svc", svc.to_string())];
    let labels = labels.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Arc::new(Notice {
        kind: NoticeKind::Fired,
        labels: Labels::new(labels),
        annotations: BTreeMap::new(),
        starts_unix_ns: 1,
        ends_unix_ns: 2,
        generator_url: String::new(),
    })
}

fn receiver(addr: SocketAddr, is_alertmanager: bool, timeout_ms: u64) -> Receiver {
    receiver_of(&format!("http://{addr}/hidden-path"), is_alertmanager, timeout_ms)
}

fn receiver_of(url: &str, is_alertmanager: bool, timeout_ms: u64) -> Receiver {
    let to = Target {
        url: url.to_string(),
        headers: vec![("authorization".to_string(), "Bearer hidden-word".to_string())],
        timeout: Duration::from_millis(timeout_ms),
        secrets: vec!["hidden-word".to_string(), "hidden-path".to_string()],
        tls: Tls::default(),
    };
    let sender = match is_alertmanager {
        true => Sender::Alertmanager(to),
        false => Sender::Webhook { to, external_url: String::new() },
    };
    let part = weir_actors::Part::alone("r");
    let queue = Arc::new(Queue::new(sender.is_state()));
    Receiver::start("r", "p", &sender, queue, part, Arc::new(WallClock)).unwrap()
}

fn until(what: &str, receiver: &Receiver, wanted: impl Fn(&ReceiverRow) -> bool) -> ReceiverRow {
    for _ in 0..10_000 {
        let row = receiver.row();
        if wanted(&row) {
            return row;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    panic!("{what}: {:?}", receiver.row());
}

fn services(alerts: &Json) -> Vec<String> {
    let alerts = alerts.as_array().into_iter().flatten();
    alerts.map(|alert| alert["labels"]["svc"].as_str().unwrap().to_string()).collect()
}

/// One alert of 500 that the other end refuses is found, counted and shown; the other 499 arrive, each once.
/// Catches a batch that goes with the one that spoils it.
#[test]
fn one_bad_in_many() {
    for is_alertmanager in [true, false] {
        let judge: Judge = |body| {
            let alerts = if body.is_array() { body } else { &body["alerts"] };
            let is_bad = services(alerts).iter().any(|svc| svc == "77");
            Some(if is_bad { (400, "") } else { (200, "") })
        };
        let (addr, told) = server(judge);
        let receiver = receiver(addr, is_alertmanager, 5_000);
        receiver.queue.push((0..500).map(notice));
        let row = until("all are gone", &receiver, |row| row.waiting == 0);
        assert_eq!((row.sent, row.refused, row.lost), (499, 1, 1), "{row:?}");
        assert!(row.last_error.contains("HTTP 400") && row.state == "running", "{row:?}");
        drop(receiver);
        let taken = told.try_iter().filter(|(status, _)| *status == 200);
        let mut seen: Vec<String> = taken
            .flat_map(|(_, body)| services(if body.is_array() { &body } else { &body["alerts"] }))
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 499);
    }
}

/// What is no success but not about what was sent is tried again and shown, without secrets, and nothing of it is
/// lost: a redirect for good, a refused login, a server's error. One that never answers ends by its time-out.
#[test]
fn failures_are_tried_again() {
    let judges: [(Judge, &str); 4] = [
        (|_| Some((301, "location: /elsewhere\r\n")), "HTTP 301"),
        (|_| Some((401, "")), "HTTP 401"),
        (|_| Some((500, "")), "HTTP 500"),
        (|_| None, "timeout"),
    ];
    for (judge, wanted) in judges {
        let (addr, _told) = server(judge);
        // Who answers has time to, on a busy machine as well.
        let receiver = receiver(addr, false, if wanted == "timeout" { 50 } else { 5_000 });
        receiver.queue.push([notice(1)]);
        let row = until(wanted, &receiver, |row| row.errors >= 2);
        assert!(row.last_error.contains(wanted), "{wanted}: {row:?}");
        assert_eq!((row.state, row.waiting, row.sent, row.lost), ("retrying", 1, 0, 0));
        assert!(!format!("{row:?}").contains("hidden"), "{row:?}");
    }
    let (addr, told) = server(|_| Some((200, "")));
    let receiver = receiver(addr, false, 5_000);
    receiver.queue.push([notice(1)]);
    until("it is sent", &receiver, |row| row.sent == 1 && row.waiting == 0);
    assert_eq!(told.recv().unwrap().1["version"], "4");
}
