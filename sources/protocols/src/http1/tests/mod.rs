//! Exchanges through the boundary: events in, rows out.

use std::io::Write;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::stream::{Segment, StreamBuffer};
use crate::{Recognised, Side};

mod attacks;
mod cuts;
mod heads;
mod random;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    method: String,
    path: String,
    request_headers: String,
    request_body: String,
    request_bytes: u64,
    status: u16,
    reason: String,
    response_headers: String,
    response_body: String,
    response_bytes: u64,
    first_ns: i64,
    last_ns: i64,
    time_ns: i64,
    latency_ns: i64,
}

/// Both directions of a connection and a clock that ticks with every event.
#[derive(Default)]
struct Wire {
    http: Http1,
    requests: StreamBuffer,
    responses: StreamBuffer,
    positions: [u64; 2],
    now_ns: i64,
    step_ns: i64,
    pool: Pool,
    config: Config,
    rows: Vec<Row>,
}

impl Wire {
    /// Watched from its first byte on.
    fn new() -> Wire {
        Wire { http: Http1::new(true), ..Wire::joined() }
    }
    /// Open before it was watched.
    fn joined() -> Wire {
        Wire { now_ns: 1_000, step_ns: 1_000, ..Wire::default() }
    }

    /// A call that moves `bytes`, of which the first `seen` are copied.
    fn tick(&mut self, side: Side, bytes: &[u8], seen: usize) {
        self.tick_with_tail(side, bytes, seen, 0);
    }
    /// The same, and the last `tail` as well.
    fn tick_with_tail(&mut self, side: Side, bytes: &[u8], seen: usize, tail: usize) {
        self.now_ns += self.step_ns;
        let position = &mut self.positions[usize::from(side == Side::Response)];
        let stream = match side {
            Side::Request => &mut self.requests,
            Side::Response => &mut self.responses,
        };
        let segment = Segment {
            position: *position,
            total_bytes: bytes.len() as u64,
            time_unix_ns: self.now_ns,
            payload: &bytes[..seen],
            tail: &bytes[bytes.len() - tail..],
        };
        *position += bytes.len() as u64;
        stream.push(segment);
        self.run(false);
    }
    fn request(&mut self, text: &str) {
        self.tick(Side::Request, text.as_bytes(), text.len());
    }
    fn response(&mut self, text: &str) {
        self.tick(Side::Response, text.as_bytes(), text.len());
    }
    /// The event never arrives: its bytes count only in the positions of later ones.
    fn lose(&mut self, side: Side, bytes: u64) {
        self.now_ns += self.step_ns;
        self.positions[usize::from(side == Side::Response)] += bytes;
    }
    fn wait(&mut self, ns: i64) {
        self.now_ns += ns;
        self.run(false);
    }
    fn close(&mut self) -> &[Row] {
        self.now_ns += self.step_ns;
        self.run(true);
        &self.rows
    }
    fn run(&mut self, close: bool) {
        let rows = &mut self.rows;
        let mut emit = |exchange: Exchange<'_>| rows.push(row_of(&exchange));
        let mut ctx = Context {
            now_unix_ns: self.now_ns,
            config: &self.config,
            pool: &mut self.pool,
            emit: &mut emit,
        };
        if close {
            self.http.close(&mut self.requests, &mut self.responses, &mut ctx);
        } else {
            self.http.advance(&mut self.requests, &mut self.responses, &mut ctx);
        }
    }
    fn paths(&self) -> Vec<(&str, u16)> {
        self.rows.iter().map(|row| (row.path.as_str(), row.status)).collect()
    }
}

fn row_of(exchange: &Exchange<'_>) -> Row {
    let shown = |message: &Message| {
        let mut out = Vec::new();
        message.body.show(&crate::redact::Redactor::default(), &mut out);
        String::from_utf8(out).unwrap()
    };
    let Exchange { request, response } = exchange;
    Row {
        method: String::from_utf8_lossy(&request.method).into_owned(),
        path: String::from_utf8_lossy(&request.path).into_owned(),
        request_headers: String::from_utf8(request.headers.clone()).unwrap(),
        request_body: shown(request),
        request_bytes: request.body.size_bytes(),
        status: response.status,
        reason: String::from_utf8_lossy(&response.reason).into_owned(),
        response_headers: String::from_utf8(response.headers.clone()).unwrap(),
        response_body: shown(response),
        response_bytes: response.body.size_bytes(),
        first_ns: request.first_unix_ns,
        last_ns: response.last_unix_ns,
        time_ns: exchange.time_unix_ns(),
        latency_ns: exchange.latency_ns(),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// One keep-alive exchange after the other: fields, times and sizes are right.
#[test]
fn keep_alive_exchanges() {
    let mut wire = Wire::new();
    wire.request("POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n");
    wire.request("Content-Length: 7\r\n\r\n{\"a\"");
    wire.request(":1}");
    wire.response("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-");
    wire.response("Length: 2\r\n\r\n{}");
    wire.request(&get("/b"));
    wire.response("HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let first = &wire.rows[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/a?x=1"));
    assert_eq!((first.request_body.as_str(), first.request_bytes), ("{\"a\":1}", 7));
    assert_eq!((first.response_body.as_str(), first.response_bytes), ("{}", 2));
    assert_eq!((first.first_ns, first.last_ns), (2_000, 6_000));
    assert_eq!((first.time_ns, first.latency_ns), (5_000, 3_000));
    assert_eq!(
        first.request_headers,
        r#"{"Host":"h","Content-Type":"application/json","Content-Length":"7"}"#
    );
    assert_eq!(wire.paths(), [("/a?x=1", 201), ("/b", 404)]);
    assert_eq!(wire.http.counters(), Counters { exchanges: 2, ..Counters::default() });
}

/// Pipelined requests in one call, responses in other calls: answered in their order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut wire = Wire::new();
    wire.request(&format!("{}{}{}", get("/1"), get("/2"), get("/3")));
    wire.response(&OK.replace("200", "201"));
    wire.response(&format!("{}{}", OK.replace("200", "202"), OK.replace("200", "203")));
    assert_eq!(wire.paths(), [("/1", 201), ("/2", 202), ("/3", 203)]);
}

/// Responses without a body although their headers promise one, and interim responses.
#[test]
fn bodiless_and_interim_responses() {
    let mut wire = Wire::new();
    wire.request("HEAD /h HTTP/1.1\r\n\r\n");
    wire.response("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
    wire.request(&get("/n"));
    wire.response("HTTP/1.1 204 No Content\r\n\r\n");
    wire.request(&get("/c"));
    wire.response("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n");
    wire.request("POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    wire.response("HTTP/1.1 100 Continue\r\n\r\n");
    wire.request("xy");
    wire.response("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\n");
    wire.response("Content-Length: 0\r\n\r\n");
    assert_eq!(wire.paths(), [("/h", 200), ("/n", 204), ("/c", 304), ("/e", 200)]);
    assert_eq!(wire.rows[3].request_bytes, 2);
}

/// Chunked bodies with extensions and trailers, however they are cut; the size is without framing.
#[test]
fn chunked_bodies() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Type: text/a\r\n\r\n\
                5;name=\"x\"\r\nhello\r\n00000001\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
    for cut in 1..text.len() {
        let mut wire = Wire::new();
        wire.request(&get("/"));
        wire.response(&text[..cut]);
        wire.response(&text[cut..]);
        wire.request(&get("/next"));
        wire.response(OK);
        assert_eq!(wire.paths(), [("/", 200), ("/next", 200)], "cut at {cut}");
        let row = &wire.rows[0];
        assert_eq!((row.response_body.as_str(), row.response_bytes), ("hello 0123456789", 16));
    }
}

/// A body without length lasts until the connection closes.
#[test]
fn a_body_until_close() {
    let mut wire = Wire::new();
    wire.request("GET /old HTTP/1.0\r\n\r\n");
    wire.response("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<p>");
    wire.response("more");
    assert!(wire.rows.is_empty());
    assert_eq!(wire.close()[0].response_body, "<p>more");
    assert_eq!(wire.rows[0].last_ns, 4_000);
}

/// After an upgrade or a CONNECT the bytes are somebody else's, even if they look like HTTP: a WebSocket's are skipped,
/// others are left for who takes over.
#[test]
fn upgrades_make_the_connection_opaque() {
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let connect = "CONNECT h:443 HTTP/1.1\r\n\r\n";
    let h2c = [upgrade, switch].map(|text| text.replace("websocket", "h2c"));
    let cases = [
        (upgrade, switch, false),
        (&h2c[0], &h2c[1], true),
        (connect, "HTTP/1.1 200 OK\r\n\r\n", true),
    ];
    for (request, response, is_left) in cases {
        let mut wire = Wire::new();
        wire.request(request);
        wire.response(response);
        assert!(wire.http.is_opaque());
        wire.request(&get("/inside"));
        wire.response(OK);
        assert_eq!(wire.close().len(), 1);
        assert_eq!(wire.http.is_handed_over(), is_left, "{response}");
        assert_eq!(wire.requests.is_empty(), !is_left);
        assert_eq!(wire.responses.is_empty(), !is_left);
    }
}

/// Secrets never reach a row; other headers keep case and order; values of one name are joined.
#[test]
fn headers_are_a_flat_object_without_secrets() {
    let mut wire = Wire::new();
    wire.request(
        "GET / HTTP/1.1\r\nX-One: a\r\nauthorization: Bearer s3cr3t\r\nCookie: s3cr3t=1\r\n\
         x-one: \"b\\\r\nProxy-Authorization: s3cr3t\r\nX-Utf: \u{e9}\t\r\n\r\n",
    );
    wire.response(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=s3cr3t\r\nSET-COOKIE: b=s3cr3t\r\nContent-Length: 0\r\n\r\n",
    );
    let row = &wire.rows[0];
    assert_eq!(
        row.request_headers,
        "{\"X-One\":\"a, \\\"b\\\\\",\"authorization\":\"<REDACTED>\",\"Cookie\":\"<REDACTED>\",\
         \"Proxy-Authorization\":\"<REDACTED>\",\"X-Utf\":\"\u{e9}\"}"
    );
    assert_eq!(row.response_headers, r#"{"Set-Cookie":"<REDACTED>","Content-Length":"0"}"#);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn shown_body(headers: &str, body: &[u8]) -> String {
    let mut wire = Wire::new();
    wire.request(&get("/"));
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    wire.tick(Side::Response, &bytes, bytes.len());
    assert_eq!(wire.rows[0].response_bytes, body.len() as u64);
    wire.rows[0].response_body.clone()
}

/// What a row shows of a body: text cut with a suffix, gzip decoded, the rest named.
#[test]
fn bodies_are_shown_as_text_or_named() {
    let cut = format!("{}... [TRUNCATED]", "x".repeat(512));
    let text = "Content-Type: text/plain\r\n";
    let gz = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let random: Vec<u8> = {
        let mut rng = SmallRng::seed_from_u64(7);
        (0..4000).map(|_| rng.random_range(b' '..b'~')).collect()
    };
    assert_eq!(shown_body(text, &[b'x'; 512]), "x".repeat(512));
    assert_eq!(shown_body(text, &[b'x'; 513]), cut);
    assert_eq!(shown_body(text, &[b'x'; 5000]), cut);
    assert_eq!(shown_body("Content-Type: image/png\r\n", b"\x89PNG"), NON_TEXT);
    assert_eq!(shown_body("", b"what"), UNKNOWN_TYPE);
    assert_eq!(shown_body("Content-Type: image/png\r\n", b""), "");
    assert_eq!(shown_body(gz, &gzip(b"{\"a\":1}")), "{\"a\":1}");
    assert_eq!(shown_body(gz, &gzip(&[b'x'; 5000])), cut);
    let long = shown_body(gz, &gzip(&random));
    assert_eq!(long, format!("{}... [TRUNCATED]", std::str::from_utf8(&random[..512]).unwrap()));
    assert_eq!(shown_body(gz, b"not gzip"), NOT_DECODED);
    assert_eq!(shown_body("Content-Type: text/a\r\nContent-Encoding: br\r\n", b"x"), NOT_DECODED);
    let split = format!("{}\u{e9}x", "x".repeat(511));
    assert_eq!(shown_body(text, split.as_bytes()), format!("{}... [TRUNCATED]", "x".repeat(511)));
}

/// A gap inside a body is stepped over (a long write, sendfile): the row is whole, the body says so.
#[test]
fn a_gap_inside_a_body_costs_only_its_bytes() {
    let mut wire = Wire::new();
    wire.request(&get("/file"));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 50000\r\n\r\n";
    let whole = format!("{head}{}", "x".repeat(50_000));
    wire.tick(Side::Response, whole.as_bytes(), 300);
    wire.request(&get("/chunks"));
    wire.response(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    wire.tick(Side::Response, format!("4e20\r\n{}", "y".repeat(20_000)).as_bytes(), 10);
    wire.response("\r\n0\r\n\r\n");
    wire.request(&get("/next"));
    wire.response(OK);
    assert_eq!(wire.paths(), [("/file", 200), ("/chunks", 200), ("/next", 200)]);
    assert_eq!(wire.rows[0].response_bytes, 50_000);
    assert_eq!(wire.rows[1].response_body, "yyyy... [TRUNCATED]");
    assert_eq!(wire.rows[1].response_bytes, 20_000);
    assert_eq!(wire.http.counters().gap, 0);
}

fn exchanges(wire: &mut Wire, count: usize) {
    for idx in 0..count {
        wire.request(&get(&format!("/warm{idx}")));
        wire.response(OK);
    }
}

/// A lost request costs its own exchange: its response is not given to the next request.
#[test]
fn a_lost_request_gap() {
    let mut wire = Wire::new();
    exchanges(&mut wire, 5);
    wire.lose(Side::Request, get("/lost").len() as u64);
    wire.response(&OK.replace("200", "500"));
    wire.wait(REORDER_GRACE_NS);
    wire.request(&get("/a"));
    wire.response(&OK.replace("200", "201"));
    wire.wait(REORDER_GRACE_NS);
    wire.request(&get("/b"));
    wire.response(&OK.replace("200", "202"));
    assert_eq!(wire.paths()[5..], [("/a", 201), ("/b", 202)]);
    assert_eq!(wire.http.counters().gap, 1);
}

/// A lost response is seen only at the next one; neither it nor the next pairs wrongly.
#[test]
fn a_lost_response_gap() {
    let mut wire = Wire::new();
    exchanges(&mut wire, 5);
    wire.request(&get("/lost"));
    wire.lose(Side::Response, OK.len() as u64);
    wire.request(&get("/a"));
    wire.response(&OK.replace("200", "201"));
    wire.wait(REORDER_GRACE_NS);
    wire.request(&get("/b"));
    wire.response(&OK.replace("200", "202"));
    wire.wait(REORDER_GRACE_NS);
    assert_eq!(wire.paths()[5..], [("/b", 202)]);
    assert_eq!(wire.http.counters().gap, 2);
}

/// While a hole waits to be filled nothing is decided: events of two CPUs may overtake each other.
#[test]
fn late_events_still_pair() {
    let mut wire = Wire::new();
    let (a, b) = (get("/a"), get("/b"));
    let split = a.len() as u64;
    let late = |wire: &mut Wire, position: u64, time_unix_ns: i64, text: &str| {
        let (total_bytes, payload) = (text.len() as u64, text.as_bytes());
        wire.requests.push(Segment { position, total_bytes, time_unix_ns, payload, tail: &[] });
    };
    late(&mut wire, split, 5_000, &b);
    wire.run(false);
    wire.positions[0] = split + b.len() as u64;
    wire.now_ns = 6_000;
    wire.response(&OK.replace("200", "201"));
    wire.response(&OK.replace("200", "202"));
    assert!(wire.rows.is_empty());
    late(&mut wire, 0, 4_000, &a);
    wire.run(false);
    assert_eq!(wire.paths(), [("/a", 201), ("/b", 202)]);
}

/// A client that pipelined is not trusted to alternate after a loss: nothing is paired by guess.
#[test]
fn a_pipelining_client_resyncs_only_when_idle() {
    let mut wire = Wire::new();
    for _ in 0..8 {
        wire.request(&format!("{}{}", get("/p"), get("/q")));
        wire.response(OK);
        wire.response(OK);
    }
    wire.lose(Side::Request, get("/lost").len() as u64);
    wire.request(&get("/x"));
    wire.response(&OK.replace("200", "500"));
    wire.request(&get("/y"));
    wire.response(&OK.replace("200", "501"));
    wire.wait(10_000_000_000);
    wire.response(&OK.replace("200", "502"));
    wire.wait(10_000_000_000);
    wire.request(&get("/z"));
    wire.response(&OK.replace("200", "201"));
    assert_eq!(wire.paths()[16..], [("/z", 201)]);
}

/// A connection joined in the middle of a body: what began before is dropped and counted.
#[test]
fn joined_in_the_middle() {
    let mut wire = Wire::joined();
    wire.response("...the rest of a download");
    wire.request(&get("/a"));
    wire.response(OK);
    wire.request(&get("/b"));
    wire.response(OK);
    assert_eq!(wire.paths(), [("/a", 200), ("/b", 200)]);

    let mut wire = Wire::joined();
    wire.response(OK);
    wire.wait(REORDER_GRACE_NS);
    wire.request(&get("/a"));
    wire.response(&OK.replace("200", "201"));
    assert_eq!(wire.paths(), [("/a", 201)]);
    assert_eq!(wire.http.counters().unpaired, 1);
}

/// A request waits for its answer as long as its connection lives: a slow answer is a row.
#[test]
fn slow_answers_are_rows() {
    let mut wire = Wire::new();
    wire.request(&get("/slow"));
    wire.wait(600_000_000_000);
    wire.response(&OK.replace("200", "504"));
    wire.request(&get("/a"));
    wire.response(&OK.replace("200", "201"));
    assert_eq!(wire.paths(), [("/slow", 504), ("/a", 201)]);
}

/// A response nobody asked for (a server's 408 before it closes) gives no row.
#[test]
fn unsolicited_responses_give_no_row() {
    let mut wire = Wire::new();
    exchanges(&mut wire, 1);
    wire.response("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    wire.request(&get("/late"));
    wire.close();
    assert_eq!(wire.paths(), [("/warm0", 200)]);
    let counters = wire.http.counters();
    assert_eq!((counters.unanswered, counters.unasked, counters.gap), (1, 1, 0));
}

/// A server that answers before it has read the whole request.
#[test]
fn an_early_answer_waits_for_its_request() {
    let mut wire = Wire::new();
    wire.request("POST /big HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345");
    wire.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert!(wire.rows.is_empty());
    wire.request("67890");
    assert_eq!((wire.paths(), wire.rows[0].request_bytes), (vec![("/big", 413)], 10));

    let mut wire = Wire::new();
    wire.request("POST /big HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345");
    wire.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.close().len(), 1);
}

/// Start lines are told from the beginnings of other protocols, and from too few bytes.
#[test]
fn start_lines_are_recognised() {
    let check = |side, text: &str, want| {
        assert_eq!(recognise(side, text.as_bytes()), want, "{text:?}");
    };
    check(Side::Request, "GET / HTTP/1.1\r\n", Recognised::Yes);
    check(Side::Request, "\r\nM-SEARCH * HTTP/1.1\r\n", Recognised::Yes);
    check(Side::Request, "G", Recognised::Unsure);
    check(Side::Request, "GET /abc", Recognised::Unsure);
    check(Side::Request, "get key\r\n", Recognised::No);
    check(Side::Request, "GET key\r\n", Recognised::No);
    check(Side::Request, "PRI * HTTP/2.0\r\n", Recognised::No);
    check(Side::Request, "*1\r\n$4\r\nPING\r\n", Recognised::No);
    check(Side::Request, "\x16\x03\x01\x02", Recognised::No);
    check(Side::Response, "HTTP/1.1 200 OK\r\n", Recognised::Yes);
    check(Side::Response, "HTTP/1.0 200\r\n", Recognised::Yes);
    check(Side::Response, "HTTP", Recognised::Unsure);
    check(Side::Response, "+OK\r\n", Recognised::No);
}

/// A row fills every column of the declared table, each once.
#[test]
fn rows_fit_the_registry() {
    let table = weir_types::tables::find("http_events").unwrap();
    let mut builder = table.builder();
    let endpoints = crate::columns::Endpoints {
        time_unix_ns: 5,
        upid: 1,
        remote_addr: "-",
        remote_port: -1,
        local_addr: "127.0.0.1",
        local_port: 80,
        trace_role: crate::columns::ROLE_SERVER,
        encrypted: false,
    };
    let (request, response) = (Message::default(), Message::default());
    let exchange = Exchange { request: &request, response: &response };
    append_row(&mut builder, &endpoints, &exchange, &Default::default(), &mut Vec::new());
    assert_eq!(builder.finish().num_rows(), 1);
}
