//! Connections in which one protocol gives way to another: TLS behind a database's question for it, and in a proxy's
//! tunnel; HTTP/2 behind an upgrade.

use super::*;

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn hello(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0][..], &sized(body)].concat();
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

fn client_hello() -> Vec<u8> {
    let name = b"db.example";
    let names = sized(&[&[0][..], &sized(name)].concat());
    let extension = [&[0, 0][..], &sized(&names)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &sized(&[0x13, 1]), &[1, 0], &sized(&extension)];
    hello(1, &body.concat())
}

fn server_hello() -> Vec<u8> {
    let version = sized(&[0, 43, 0, 2, 3, 4]);
    hello(2, &[&[3, 3][..], &[8; 32], &[0], &[0x13, 1, 0], &version].concat())
}

/// A record of encrypted bytes.
const CIPHER: &[u8] = &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5];
const ASKS_TLS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// A server's first packet, and a client's that says that TLS follows.
fn mysql() -> [Vec<u8>; 2] {
    let packet = |number: u8, body: &[u8]| {
        [&(body.len() as u32).to_le_bytes()[..3], &[number], body].concat()
    };
    let greeting = [
        &b"\x0a8.0.36\0"[..],
        &[9, 0, 0, 0],
        &[0x41; 8],
        &[0, 0xff, 0xff, 45, 2, 0, 0xff, 0xdf, 21],
        &[0; 10],
        &[0x42; 12],
        b"\0caching_sha2_password\0",
    ];
    let asks =
        [&(0x000a_8000_u32 | 1 << 11 | 1 << 9).to_le_bytes()[..], &[0, 0, 0, 1, 45], &[0; 23]];
    [packet(0, &greeting.concat()), packet(1, &asks.concat())]
}

/// Which way it goes, and its bytes.
type Call = (Direction, Vec<u8>);

impl Net {
    fn says(&mut self, calls: &[Call]) {
        let socket = server_end(4000);
        for (direction, bytes) in calls {
            self.data(socket, NGINX, *direction, bytes);
        }
        for _ in 0..4 {
            self.data(socket, NGINX, Direction::Egress, CIPHER);
            self.data(socket, NGINX, Direction::Ingress, CIPHER);
        }
        self.close(socket, NGINX, true);
        self.flush_after(10 * SECOND_NS);
    }
}

use Direction::{Egress, Ingress};

/// Behind a question for TLS its hellos are a row, whether they came in calls of their own or with what was before
/// them, and nothing else is. Catches a connection of which nothing is looked at any more.
#[test]
fn tls_behind_a_question_for_it_is_a_row() {
    let [greeting, asks] = mysql();
    let cases: [(&str, Vec<Call>); 5] = [
        ("pgsql", vec![(Ingress, ASKS_TLS.to_vec()), (Egress, b"S".to_vec())]),
        ("pgsql, unheard", vec![(Ingress, ASKS_TLS.to_vec())]),
        ("mysql", vec![(Egress, greeting.clone()), (Ingress, asks.clone())]),
        ("mysql, at once", vec![(Egress, greeting), (Ingress, [asks, client_hello()].concat())]),
        (
            "tunnel",
            vec![
                (
                    Ingress,
                    b"CONNECT db.example:443 HTTP/1.1\r\nHost: db.example:443\r\n\r\n".to_vec(),
                ),
                (Egress, b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec()),
            ],
        ),
    ];
    for (name, mut calls) in cases {
        if name != "mysql, at once" {
            calls.push((Ingress, client_hello()));
        }
        calls.push((Egress, server_hello()));
        let mut net = Net::new();
        net.says(&calls);
        let rows = net.rows("tls_events");
        assert_eq!(rows.len(), 1, "{name}");
        assert!(rows.text(0, "req_body").contains("db.example"), "{name}");
        assert!(rows.text(0, "resp_body").contains("TLS1.3"), "{name}");
        for table in ["pgsql_events", "mysql_events", "redis_events"] {
            assert_eq!(net.rows(table).len(), 0, "{name}");
        }
        let requests = usize::from(name == "tunnel");
        assert_eq!(net.rows("http_events").len(), requests, "{name}");
        // Behind the handshake nothing is of use.
        assert_eq!(net.stopped().len(), 1, "{name}");
    }
}

/// What follows a `200` to CONNECT, or an upgrade, may be anything: of what nobody knows there is no row, and after some
/// calls it is not copied any more. A WebSocket is not looked at at all.
#[test]
fn what_nobody_knows_is_left_alone() {
    let upgrade = |to: &str| {
        let ask =
            format!("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n"
        );
        vec![(Ingress, ask.into_bytes()), (Egress, answer.into_bytes())]
    };
    let tunnel = vec![
        (Ingress, b"CONNECT h:22 HTTP/1.1\r\nHost: h:22\r\n\r\n".to_vec()),
        (Egress, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ];
    for (name, mut calls) in [("websocket", upgrade("websocket")), ("tunnel", tunnel)] {
        // Frames that carry what looks like a request.
        let text = get("/inside");
        for _ in 0..10 {
            calls.push((
                Ingress,
                [&[0x81, 0xfe, 0, text.len() as u8][..], text.as_bytes()].concat(),
            ));
            calls.push((Egress, b"\x81\x05hello".to_vec()));
        }
        let mut net = Net::new();
        net.says(&calls);
        assert_eq!(net.rows("http_events").len(), 1, "{name}");
        assert_eq!(net.stopped().len(), 1, "{name}");
    }
}

/// An upgrade of a connection in the clear to HTTP/2: the first exchange is a row of HTTP/1, the next ones are of HTTP/2.
#[test]
fn an_upgrade_to_http2_goes_on() {
    let frame = |kind: u8, flags: u8, stream: u8, body: &[u8]| {
        [&(body.len() as u32).to_be_bytes()[1..], &[kind, flags, 0, 0, 0, stream], body].concat()
    };
    let settings = frame(4, 0, 0, &[]);
    // GET, http, /later as a literal, h; and 200.
    let path = [&[0x82, 0x86, 0x04, 6][..], b"/later", &[0x41, 1], b"h"].concat();
    let calls = [
        (
            Ingress,
            b"GET /first HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
              HTTP2-Settings: AAMAAABk\r\n\r\n"
                .to_vec(),
        ),
        (
            Egress,
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec(),
        ),
        (Egress, [settings.clone(), frame(1, 5, 1, &[0x88])].concat()),
        (Ingress, [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat()),
        (Ingress, frame(1, 5, 3, &path)),
        (Egress, frame(1, 5, 3, &[0x88])),
    ];
    // The second time the question was before anybody listened, and some time passes.
    for (heard_from, first) in [(0, Some(("/first".to_string(), 1, 101))), (1, None)] {
        let mut net = Net::new();
        for (direction, bytes) in &calls[heard_from..2] {
            net.data(server_end(4000), NGINX, *direction, bytes);
        }
        net.flush_after(10 * SECOND_NS);
        net.says(&calls[2..]);
        let rows = net.rows("http_events");
        let mut of_rows: Vec<_> = (0..rows.len())
            .map(|row| {
                let [version, status] =
                    ["major_version", "resp_status"].map(|name| rows.int(row, name));
                (rows.text(row, "req_path"), version, status)
            })
            .collect();
        of_rows.sort();
        let wanted: Vec<_> = first.into_iter().chain([("/later".to_string(), 2, 200)]).collect();
        assert_eq!(of_rows, wanted);
    }
}
