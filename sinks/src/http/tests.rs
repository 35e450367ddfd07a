//! Against a server that answers as it is told.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::encode::Mode;
use crate::pipe::tests::{Line, delivery};
use crate::testing::{self, Receiver, target};
use crate::tls::Tls;

/// Answers in their order, then 200; what came in.
struct Server {
    url: String,
    bodies: Arc<Mutex<Vec<(String, String)>>>,
    answers: Arc<Mutex<VecDeque<String>>>,
}

/// Bodies with this in them are too large.
const POISON: &str = "poison";

impl Server {
    fn start() -> Server {
        let bodies: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let answers: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let (kept, left) = (Arc::clone(&bodies), Arc::clone(&answers));
        let addr = testing::serve(move |request| {
            let body = String::from_utf8(request.body).unwrap();
            let mut left = left.lock().unwrap();
            let answer = match left.len() {
                _ if body.contains(POISON) => "413 Too Large\r\n".to_string(),
                0 => "200 OK\r\n".to_string(),
                _ => left.pop_front().unwrap(),
            };
            kept.lock().unwrap().push((request.head, body));
            let end = "content-length: 2\r\nconnection: close\r\n\r\nno";
            format!("HTTP/1.1 {answer}{end}").into_bytes()
        });
        let url = format!("http://{addr}/in?key=hidden-key");
        Server { url, bodies, answers }
    }

    fn line(&self, framing: Framing) -> Line {
        let target = Target {
            url: self.url.clone(),
            headers: vec![("authorization".to_string(), "Bearer s3cret$1 \": #".to_string())],
            timeout: Duration::from_secs(5),
            secrets: vec!["s3cret$1 \": #".to_string(), "hidden-key".to_string()],
            tls: Tls::default(),
        };
        let mut line = Line::in_memory(Mode::Changelog, Box::new(HttpSink::new(target, framing)));
        line.start(false).unwrap();
        line
    }

    fn rows(&self, at: usize) -> Vec<serde_json::Value> {
        let body = self.bodies.lock().unwrap()[at].1.clone();
        serde_json::from_str(&body).unwrap()
    }
}

/// A batch is one array or lines, with the headers as they were given.
#[test]
fn batches_are_arrays_or_lines() {
    for framing in [Framing::Array, Framing::Lines] {
        let server = Server::start();
        let mut line = server.line(framing);
        line.deliver(&delivery(1_000, &[("a\"\n", 1, 1), ("b", 2, 1)], true)).unwrap();
        line.flush().unwrap();
        let (head, body) = server.bodies.lock().unwrap()[0].clone();
        assert!(head.contains("Bearer s3cret$1 \": #"), "{head}");
        let text = match framing {
            Framing::Array => body,
            Framing::Lines => format!("[{}]", body.trim_end().replace('\n', ",")),
        };
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!((rows.len(), &rows[0]["row"]["k"]), (2, &"a\"\n".into()));
        assert_eq!(line.health().acked_ms, Some(1_000));
    }
}

/// What an answer means: 400, 413 and 422 are about an element, which is found and counted once while the others
/// arrive in order; all else is tried again and is no success, redirects that change the method as well; an
/// asked for wait is kept. No message says a secret.
#[test]
fn answers_mean_what_the_contract_says() {
    let server = Server::start();
    let mut line = server.line(Framing::Array);
    let rows = [("a", 1, 1), ("b", 2, 1), (POISON, 3, 1), ("d", 4, 1), ("e", 5, 1)];
    line.deliver(&delivery(1_000, &rows, true)).unwrap();
    line.flush().unwrap();
    assert_eq!((line.health().rows_sent, line.health().rows_refused), (4, 1));
    let all = 0..server.bodies.lock().unwrap().len();
    let arrived: Vec<i64> = all
        .filter(|at| !server.bodies.lock().unwrap()[*at].1.contains(POISON))
        .flat_map(|at| server.rows(at))
        .map(|row| row["row"]["n"].as_i64().unwrap())
        .collect();
    assert_eq!(arrived, [1, 2, 4, 5]);

    let answers = [
        ("503 No\r\nretry-after: 7\r\n", true),
        ("401 No\r\n", false),
        ("301 Moved\r\nlocation: /elsewhere\r\n", false),
        ("404 No hidden-key\r\n", false),
        ("500 No\r\n", false),
    ];
    for (answer, has_wait) in answers {
        server.answers.lock().unwrap().push_back(answer.to_string());
        line.deliver(&delivery(2_000, &[("x", 9, 1)], true)).unwrap();
        let sent = line.health().rows_sent;
        let error = line.flush().unwrap_err();
        let asked = matches!(&error, SinkError::RetryAfter(_, after) if after.as_secs() == 7);
        assert_eq!(asked, has_wait, "{answer}: {error}");
        assert!(has_wait || matches!(error, SinkError::Retry(_)), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
        assert_eq!(line.health().rows_sent, sent);
        line.flush().unwrap();
        assert_eq!(line.health().rows_sent, sent + 1, "{answer}");
    }
    let before = server.bodies.lock().unwrap().len();
    server.answers.lock().unwrap().push_back("307 There\r\nlocation: /in\r\n".to_string());
    line.deliver(&delivery(3_000, &[("y", 10, 1)], true)).unwrap();
    line.flush().unwrap();
    assert_eq!(server.bodies.lock().unwrap().len(), before + 2, "followed with its body");
}

/// Nobody there is no end: it says so and tries again.
#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let target = Target {
        url: format!("http://user:hidden-word@{addr}/"),
        headers: vec![],
        timeout: Duration::from_secs(5),
        secrets: vec!["hidden-word".to_string()],
        tls: Tls::default(),
    };
    let mut line = Line::in_memory(Mode::Append, Box::new(HttpSink::new(target, Framing::Array)));
    line.start(false).unwrap();
    line.deliver(&delivery(1, &[("a", 1, 1)], true)).unwrap();
    let error = line.flush().unwrap_err();
    assert!(matches!(&error, SinkError::Retry(text) if !text.contains("hidden")), "{error}");
    assert!(line.health().buffer_bytes > 0);
}

/// An answer that is too long to be read is no success, and says so: nobody knows what it says. Catches one that is
/// taken for an empty answer.
#[test]
fn a_very_long_answer_is_no_success() {
    let receiver = Receiver::start();
    let client = crate::http_client::Client::new(target(&receiver.url));
    for (status, is_unfit) in [(200, false), (400, true)] {
        receiver.will_answer(status, &vec![b'x'; (64 << 10) + 1]);
        let error = client.post(&[], b"").unwrap_err();
        assert!(
            error.to_string().contains(&format!("HTTP {status}: its answer is longer")),
            "{error}"
        );
        assert_eq!(matches!(error, SinkError::Unfit(_)), is_unfit, "{error}");
    }
    receiver.will_answer(200, &vec![b'x'; 64 << 10]);
    assert_eq!(client.post(&[], b"").unwrap().len(), 64 << 10);
}
