//! What an exchange costs the HTTP/1 parser, from two streams of bytes to rows, without redaction and with
//! that of secrets.
//!
//! `cargo bench -p weir-protocols` measures both in turns, in CPU time of its thread, and prints the least
//! and the median of the rounds: what others do on the machine makes a round longer, never shorter.
//! For an instruction counter, which a busy machine does not disturb, the same in so many rounds:
//! `valgrind --tool=callgrind http1-HASH ROUNDS [MODE]`; two counts of rounds give the cost of one.

use rustix::time::{ClockId, clock_gettime};
use weir_protocols::columns::Endpoints;
use weir_protocols::http1::{Config, Context, Exchange, Http1, Pool, append_row};
use weir_protocols::redact::{Mode, Redactor};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_types::tables;

const EXCHANGES: usize = 2_000;
/// Of each mode, the first one thrown away.
const ROUNDS: usize = 60;
/// Times that a round reads all exchanges.
const REPEATS: usize = 5;

/// The messages of one exchange: a small one of a load generator, one of a browser, one of JSON.
fn exchange(idx: usize) -> (String, String) {
    match idx % 3 {
        0 => (
            format!("GET /item/{idx} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
                .to_string(),
        ),
        1 => (
            format!(
                "GET /shop/cart?session={idx}&lang=en HTTP/1.1\r\nHost: shop.example\r\n\
                 User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120 Safari\r\n\
                 Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
                 Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\
                 Cookie: sid=0123456789abcdef; theme=dark\r\nCache-Control: no-cache\r\n\
                 Referer: http://shop.example/shop?page={idx}\r\n\r\n"
            ),
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nVary: Accept\r\n\
                 Set-Cookie: theme=dark; Path=/\r\nX-Request-Id: {idx}\r\nETag: \"abc{idx}\"\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                700,
                "<p>x</p>\n".repeat(78)[..700].to_owned()
            ),
        ),
        _ => {
            let body =
                format!("{{\"id\":{idx},\"name\":\"thing\",\"tags\":[\"a\",\"b\"],\"n\":1.5}}");
            (
                format!(
                    "POST /api/v1/items HTTP/1.1\r\nHost: api.example\r\nAccept: */*\r\n\
                     Authorization: Bearer 0123456789\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                format!(
                    "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n\
                     Location: /api/v1/items/{idx}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
            )
        }
    }
}

/// Reads all exchanges so many times.
fn read_all(stream: &[(String, String)], config: &Config, repeats: usize) {
    let (mut http, mut pool) = (Http1::default(), Pool::default());
    let mut streams = [StreamBuffer::default(), StreamBuffer::default()];
    let mut positions = [0u64; 2];
    let mut builder = tables::find("http_events").expect("it is declared").builder();
    let (mut now_unix_ns, mut rows, mut scratch) = (0i64, 0u64, Vec::new());
    let endpoints = Endpoints {
        time_unix_ns: 0,
        upid: 1,
        remote_addr: "127.0.0.1",
        remote_port: 4000,
        local_addr: "127.0.0.1",
        local_port: 80,
        trace_role: 2,
        encrypted: false,
    };
    for _ in 0..repeats {
        for (request, response) in stream {
            for (side, text) in [request, response].into_iter().enumerate() {
                now_unix_ns += 1_000;
                let (position, payload) = (positions[side], text.as_bytes());
                positions[side] += payload.len() as u64;
                let total_bytes = payload.len() as u64;
                let segment = Segment {
                    position,
                    total_bytes,
                    time_unix_ns: now_unix_ns,
                    payload,
                    tail: &[],
                };
                streams[side].push(segment);
                let [requests, responses] = &mut streams;
                let mut emit = |exchange: Exchange<'_>| {
                    append_row(&mut builder, &endpoints, &exchange, &config.redactor, &mut scratch);
                    rows += 1;
                };
                let mut ctx = Context { now_unix_ns, config, pool: &mut pool, emit: &mut emit };
                http.advance(requests, responses, &mut ctx);
            }
        }
        builder.finish();
    }
    assert_eq!(rows, (repeats * stream.len()) as u64, "every exchange is a row");
}

fn config(mode: Mode) -> Config {
    Config { redactor: Redactor::new(mode, &[], None), ..Config::default() }
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The least and the median.
fn summary(mut rounds_ns: Vec<u64>) -> [f64; 2] {
    rounds_ns.sort_unstable();
    let per_exchange = |ns: u64| ns as f64 / (REPEATS * EXCHANGES) as f64;
    [per_exchange(rounds_ns[0]), per_exchange(rounds_ns[rounds_ns.len() / 2])]
}

fn in_turns(name: &str, stream: &[(String, String)]) {
    let modes = [Mode::Off, Mode::Secrets];
    let configs = modes.map(config);
    let mut rounds_ns = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (config, rounds_ns) in configs.iter().zip(&mut rounds_ns) {
            let before_ns = thread_cpu_ns();
            read_all(stream, config, REPEATS);
            if round > 0 {
                rounds_ns.push(thread_cpu_ns() - before_ns);
            }
        }
    }
    let [off, secrets] = rounds_ns.map(summary);
    let [least, median] = [0, 1].map(|idx| secrets[idx] - off[idx]);
    println!(
        "{name:<12} {:>8.0} {:>8.0} {least:>8.0}   {:>8.0} {:>8.0} {median:>8.0}",
        off[0], secrets[0], off[1], secrets[1]
    );
}

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let stream: Vec<(String, String)> = (0..EXCHANGES).map(exchange).collect();
    if let Some(rounds) = words.first().and_then(|text| text.parse().ok()) {
        let mode = words.get(1).map_or(Mode::Secrets, |text| text.parse().expect("a mode"));
        read_all(&stream, &config(mode), rounds);
        return;
    }
    println!("CPU ns an exchange, {ROUNDS} rounds of {} each", REPEATS * EXCHANGES);
    println!("{:<12} {:^26}   {:^26}", "", "least", "median");
    let columns = format!("{:>8} {:>8} {:>8}", "off", "secrets", "more");
    println!("{:<12} {columns}   {columns}", "exchanges");
    in_turns("all", &stream);
    for (kind, name) in ["small", "browser", "json"].into_iter().enumerate() {
        let some: Vec<(String, String)> =
            (0..EXCHANGES).map(|idx| exchange(3 * idx + kind)).collect();
        in_turns(name, &some);
    }
}
