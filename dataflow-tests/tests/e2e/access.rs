//! Who may ask, from outside: every route of the table in every spelling, what a login may cost, and
//! how sessions end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_cluster::api::{Access, routes};
use weir_dataflow_tests::harness::http::{Response, request_once};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

const DEADLINE: Duration = Duration::from_secs(60);
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn start() -> Weir {
    Weir::start(&["--trace", "port:1"]).unwrap()
}

/// Sends these bytes on a connection of their own; the status and the whole answer.
fn raw(addr: SocketAddr, bytes: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // A refused connection stays open a little, and may be reset after its answer.
    while !is_whole(&answer) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

/// A head, and as much of a body as it says.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length
        .and_then(|length| length.parse::<usize>().ok())
        .is_some_and(|length| body.len() >= length)
}

fn post(weir: &Weir, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    request_once(weir.addr, "POST", path, headers, body.as_bytes()).unwrap()
}

/// Logs in; `name=value` of the cookie.
fn log_in(weir: &Weir) -> String {
    let body = format!("{{\"token\":\"{}\"}}", weir.token);
    let answer = post(weir, "/api/v1/login", &[JSON], &body);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_string()
}

fn status_with(weir: &Weir, path: &str, headers: &[(&str, &str)]) -> u16 {
    request_once(weir.addr, "GET", path, headers, b"").unwrap().status
}

/// A path as somebody who wants to get past a look at it would write it.
fn spellings(path: &str, host: &str) -> Vec<String> {
    let encoded = |escape: &dyn Fn(usize, char) -> bool| -> String {
        path.char_indices()
            .map(|(idx, c)| if escape(idx, c) { format!("%{:02x}", c as u32) } else { c.into() })
            .collect()
    };
    let relative = path.trim_start_matches('/');
    let mut all = vec![
        path.to_string(),
        encoded(&|idx, _| idx == 1),
        encoded(&|_, c| c.is_ascii_alphanumeric()),
        encoded(&|idx, c| c == '/' && idx > 0),
        encoded(&|_, c| c == '/'),
        path.replace('/', "//"),
        format!("/{path}"),
        format!("/./{relative}"),
        format!("/x/../{relative}"),
        format!("/assets/..{path}"),
        format!("/healthz/..{path}"),
        format!("/healthz/%2e%2e{path}"),
        format!("/healthz;{path}"),
        path.to_uppercase(),
        format!("{path}/"),
        format!("{path};x"),
        format!("{path}%00"),
        format!("{path}%20"),
        format!("{path}?x=/healthz"),
        format!("{path}%3fx"),
        path.replace('/', "%252f"),
        path.replace('/', "\\"),
    ];
    let absolute: Vec<String> = all
        .iter()
        .filter(|path| path.starts_with('/'))
        .map(|path| format!("http://{host}{path}"))
        .collect();
    all.extend(absolute);
    all
}

/// A route's pattern with something in its places.
fn concrete(pattern: &str) -> String {
    let path = pattern.replace("{name:.+}", "px/http_data").replace("{table}", "http_events");
    let path = path.replace("{query}", "1");
    assert!(!path.contains('{'), "a value for the places of {pattern} is needed here");
    path
}

/// Without the token no closed route answers, however it is written, by whatever method, upgrade or
/// not; nor does it say whether it is there. With it, a spelling that the router takes for the
/// route is under the same rules: no state changes but by JSON.
#[test]
fn every_route_in_every_spelling() {
    let weir = start();
    let host = weir.addr.to_string();
    let bearer = format!("Authorization: Bearer {}\r\n", weir.token);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let ask = |method: &str, target: &str, headers: &str, body: &str| {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}");
        let length = body.len();
        raw(weir.addr, &format!("{head}Content-Length: {length}\r\n\r\n{body}"))
    };
    let all = routes::list(&[]);
    assert!(all.len() > 10, "{all:?}");
    for route in &all {
        let path = concrete(&route.path);
        for target in spellings(&path, &host) {
            if route.access == Access::Open && target.contains(&path) {
                continue;
            }
            let json = "Content-Type: application/json\r\n";
            for (method, headers) in [
                ("GET", ""),
                ("GET", upgrade),
                ("POST", json),
                ("POST", ""),
                ("PUT", json),
                ("OPTIONS", ""),
            ] {
                // Open under another name is no leak.
                if route.access == Access::Closed {
                    let (status, text) = ask(method, &target, headers, "{}");
                    assert!(matches!(status, 400 | 401), "{method} {target}: {text}");
                }
            }
            if route.method == "POST" {
                let plain = format!("{bearer}Content-Type: text/plain\r\n");
                for headers in [bearer.as_str(), plain.as_str()] {
                    let (status, text) = ask("POST", &target, headers, "{\"all\":true}");
                    assert!(matches!(status, 400 | 404 | 415), "POST {target}: {text}");
                }
            }
        }
        // The router decodes: another spelling reaches the route, so it has to be under its rules.
        let decoded = path.replace('a', "%61");
        let expected = ask(route.method, &path, &bearer, "").0;
        assert_eq!(ask(route.method, &decoded, &bearer, "").0, expected, "{decoded}");
    }
    for nothing in ["/nothing", "/api", "/api/v2/run", "/%2e%2e/etc/passwd", "/assets/", "*"] {
        let (status, text) = ask("GET", nothing, "", "");
        assert!(matches!(status, 400 | 401), "{nothing}: {text}");
        assert!(!text.contains("there is nothing"), "{nothing}: {text}");
    }
    assert_eq!(ask("GET", "/", "", "").0, 200);
    assert_eq!(ask("HEAD", "/healthz", "", "").0, 200);
}

/// A request that two readers could take in two ways is refused, and the scheme's case means nothing.
#[test]
fn one_meaning_only() {
    let weir = start();
    let host = weir.addr.to_string();
    let token = &weir.token;
    let ask = |target: &str, headers: &str| {
        raw(weir.addr, &format!("GET {target} HTTP/1.1\r\n{headers}\r\n"))
    };
    let good = format!("Host: {host}\r\n");
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let headers = format!("{good}Authorization: {scheme} {token}\r\n");
        assert_eq!(ask("/api/v1/schema", &headers).0, 200, "{scheme}");
    }
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for headers in [
        format!("{good}{good}{bearer}"),
        format!("{good}Host: evil.example\r\n{bearer}"),
        format!("Host: evil.example\r\n{good}{bearer}"),
        format!("{good}{bearer}{bearer}"),
        format!("{good}Authorization: Bearer x\r\n{bearer}"),
        format!("{good}Origin: http://{host}\r\nOrigin: http://evil.example\r\n{bearer}"),
        bearer.clone(),
    ] {
        let (status, text) = ask("/api/v1/schema", &headers);
        assert_eq!(status, 400, "{headers}: {text}");
    }
    let evil = "http://evil.example/api/v1/schema";
    assert_eq!(ask(evil, &format!("{good}{bearer}")).0, 400);
    assert_eq!(ask(evil, &format!("Host: evil.example\r\n{bearer}")).0, 403);
    let own = format!("http://{host}/api/v1/schema");
    assert_eq!(ask(&own, &format!("{good}{bearer}")).0, 200);
    for host in
        ["127.0.0.1:", "127.0.0.1:x", "127.0.0.1:1", "[127.0.0.1]", "localhost.evil.example"]
    {
        let (status, _) = ask("/api/v1/schema", &format!("Host: {host}\r\n{bearer}"));
        assert!(matches!(status, 400 | 403), "{host}: {status}");
    }
}

fn rss_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Two hundred clients that dawdle over a login body cost next to nothing and are gone after their
/// time; so are those that dawdle over a head, or never begin. Catches a body that is taken into
/// memory before anybody has shown leave, and time limits that hold for one kind of slowness only.
#[test]
fn slow_clients_cost_nothing() {
    let weir = start();
    let host = weir.addr.to_string();
    let head = format!(
        "POST /api/v1/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    );
    let chunk = "x".repeat(1 << 10);
    let bodies = [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n400\r\n{chunk}\r\n"),
        format!("{head}Content-Length: 4000\r\n\r\n{{\"token\":\""),
        format!("{head}X-Slow: "),
        String::new(),
        // Refused, and then goes on for ever.
        format!(
            "POST /api/v1/run HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n\
             {chunk}\r\n"
        ),
    ];
    let before = rss_bytes(weir.pid());
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(weir.addr).unwrap();
        stream.write_all(bodies[number % bodies.len()].as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        open.push(stream);
    }
    // Somebody with leave is served meanwhile.
    assert_eq!(weir.get("/api/v1/schema").unwrap().status, 200);
    let grown = rss_bytes(weir.pid()).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for 200 slow clients");
    let mut buffer = [0; 4096];
    let gone = wait_until(DEADLINE, || {
        open.retain_mut(|stream| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        open.is_empty().then_some(())
    });
    assert!(gone.is_some(), "{} slow clients are still there", open.len());
    let stats = weir.stats().unwrap();
    assert!(stats["api"]["refused"]["request_timeout"].as_u64() > Some(0), "{stats}");
}

/// A login that is too long is refused at its limit, whether it says its length or not; what is
/// counted is what was refused.
#[test]
fn long_logins_are_refused() {
    let weir = start();
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(5 << 10));
    assert_eq!(post(&weir, "/api/v1/login", &[JSON], &long).status, 413);
    let host = weir.addr;
    let chunked = format!(
        "POST /api/v1/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let (status, text) = raw(weir.addr, &chunked);
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("request_too_large"), "{text}");
    let stats = weir.stats().unwrap();
    assert_eq!(stats["api"]["refused"]["request_too_large"], 2, "{stats}");
}

/// The cookie is a session and not the token, is this port's, and is good for everything the token
/// is good for; it ends by logout, alone, and a restart keeps the rest.
#[test]
fn sessions_live_and_end() {
    let weir = start();
    let (one, two) = (log_in(&weir), log_in(&weir));
    assert_ne!(one, two);
    let name = format!("weir_session_{}=", weir.addr.port());
    assert!(one.starts_with(&name) && !one.contains(&weir.token), "{one}");
    let works = |weir: &Weir, cookie: &str| {
        status_with(weir, "/api/v1/schema", &[("Cookie", cookie)]) == 200
    };
    assert!(works(&weir, &one) && works(&weir, &two));
    let also = format!("{name}stale; other=1; {one}");
    assert!(works(&weir, &also), "a cookie of this name that another port has set");
    let token_as_cookie = format!("{name}{}", weir.token);
    assert!(!works(&weir, &token_as_cookie), "the token is no session");
    let out = post(&weir, "/api/v1/logout", &[("Cookie", &one), JSON], "{}");
    assert_eq!(out.status, 204, "{}", out.text());
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!works(&weir, &one) && works(&weir, &two));
    // A restart on the same port, as for an open tab.
    let listen = weir.addr;
    let (_, dir) = weir.stop(Signal::Terminate).unwrap();
    let again = Weir::start_at(dir, listen, &["--trace", "port:1"]).unwrap();
    assert!(!works(&again, &one) && works(&again, &two));
    // From the command line, all at once.
    let ended = again.run(&["logout"], DEADLINE).unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(!works(&again, &two));
}

/// A websocket that a session opened ends with that session, one that the token opened does not.
#[test]
fn a_websocket_ends_with_its_session() {
    let weir = start();
    let cookie = log_in(&weir);
    let bearer = format!("Bearer {}", weir.token);
    let open = |header: &str| {
        let host = weir.addr;
        let mut stream = TcpStream::connect(weir.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = format!(
            "GET /api/v1/live HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        stream
    };
    let mut by_cookie = open(&format!("Cookie: {cookie}"));
    let by_token = open(&format!("Authorization: {bearer}"));
    let all = post(&weir, "/api/v1/logout", &[("Authorization", &bearer), JSON], "{\"all\":true}");
    assert_eq!(all.status, 204, "{}", all.text());
    let mut rest = Vec::new();
    by_cookie.read_to_end(&mut rest).unwrap();
    by_token.set_nonblocking(true).unwrap();
    let kind = (&by_token).read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(kind, Err(std::io::ErrorKind::WouldBlock) | Ok(1)), "{kind:?}");
    assert_eq!(status_with(&weir, "/api/v1/live", &[("Cookie", &cookie)]), 401);
}
