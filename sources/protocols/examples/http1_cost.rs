//! What an exchange costs the HTTP/1 parser: a fixed stream of 2,000 exchanges, read to rows.
//!
//! Meant for an instruction counter, since a clock tells little on a busy machine:
//! `valgrind --tool=callgrind http1_cost [ROUNDS [REDACT]]`; two counts of rounds give the cost of one,
//! and `off` that without redaction.

use weir_protocols::columns::Endpoints;
use weir_protocols::http1::{Config, Context, Exchange, Http1, Pool, append_row};
use weir_protocols::redact::{Mode, Redactor};
use weir_protocols::stream::{Segment, StreamBuffer};
use weir_types::tables;

const EXCHANGES: usize = 2_000;

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

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let stream: Vec<(String, String)> = (0..EXCHANGES).map(exchange).collect();
    let mode = std::env::args().nth(2).map_or(Mode::Secrets, |text| text.parse().expect("a mode"));
    let config = Config { redactor: Redactor::new(mode, &[], None), ..Config::default() };
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
    for _ in 0..rounds {
        for (request, response) in &stream {
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
                let mut ctx =
                    Context { now_unix_ns, config: &config, pool: &mut pool, emit: &mut emit };
                http.advance(requests, responses, &mut ctx);
            }
        }
        builder.finish();
    }
    assert_eq!(rows, (rounds * EXCHANGES) as u64, "every exchange is a row");
}
