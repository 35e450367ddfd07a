//! Heads as clients and servers write them, and as they should not: what is answered is a row.

use super::*;

fn exchange(request: &[u8], response: &[u8]) -> Row {
    let mut wire = Wire::new();
    wire.tick(Side::Request, request, request.len());
    wire.tick(Side::Response, response, response.len());
    wire.wait(REORDER_GRACE_NS);
    wire.close();
    assert_eq!(wire.rows.len(), 1, "{:?}", String::from_utf8_lossy(request));
    wire.rows.remove(0)
}

const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Whatever a server answers with a status is a row, and shows what can be read of the request.
#[test]
fn what_servers_refuse_is_a_row() {
    let cases: [(&[u8], &str, &str); 12] = [
        (b"LIST /a HTTP/1.1\r\n\r\n", "LIST", "/a"),
        (b"my-own_method! /a HTTP/1.1\r\n\r\n", "my-own_method!", "/a"),
        (b"get / HTTP/1.1\r\n\r\n", "get", "/"),
        (b"GET /a b c HTTP/1.1\r\nHost: h\r\n\r\n", "GET", "/a b c"),
        (b"GET /\xe9 HTTP/1.1\r\nHost: h\r\n\r\n", "GET", "/\u{fffd}"),
        (b"GET / HTTP/9.9\r\n\r\n", "GET", "/"),
        (b"GET / HTTP/1.1\nHost: h\n\n", "GET", "/"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET", "/"),
        (b"GET / HTTP/1.1\r\nB(a)d h\xe9ader: \x01\x02\r\nno colon\r\n\r\n", "GET", "/"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "POST", "/"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 GET / HTTP/1.1", "", ""),
        (b"GET /half HTTP/1.1\r\nHost:", "GET", "/half"),
    ];
    for (request, method, path) in cases {
        let row = exchange(request, BAD);
        assert_eq!((row.method.as_str(), row.path.as_str(), row.status), (method, path, 400));
    }
    let row = exchange(
        b"GET / HTTP/1.1\r\nB(a)d: \x01\"\r\nFolded: a\r\n  b\r\nno colon\r\nC : d\r\n\r\n",
        BAD,
    );
    assert_eq!(row.request_headers, "{\"B(a)d\":\"\\u0001\\\"\",\"Folded\":\"a b\",\"C\":\"d\"}");
}

/// Start lines of responses: no reason, one with 8-bit bytes, HTTP/1.0, bare line ends.
#[test]
fn status_lines_are_read_as_clients_do() {
    let cases: [(&[u8], u16, &str); 5] = [
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, ""),
        (b"HTTP/1.1 204 \r\n\r\n", 204, ""),
        (b"HTTP/1.1 200 Tr\xe8s bien\r\nContent-Length: 0\r\n\r\n", 200, "Tr\u{fffd}s bien"),
        (b"HTTP/1.0 404 Not Found\nContent-Length: 0\n\n", 404, "Not Found"),
        ("HTTP/1.1 200 Très bien\r\nContent-Length: 0\r\n\r\n".as_bytes(), 200, "Très bien"),
    ];
    for (response, status, reason) in cases {
        let row = exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", response);
        assert_eq!((row.status, row.reason.as_str()), (status, reason));
    }
}

/// Headers are bound by bytes, not by lines; many of one name, and many names, are joined alike.
#[test]
fn many_headers_are_all_shown() {
    for count in [31, 130, 400, 1_500] {
        let lines: String =
            (0..count).map(|idx| format!("X-{idx}: {idx}\r\nSame: {idx}\r\n")).collect();
        let row = exchange(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), BAD);
        assert!(row.request_headers.starts_with("{\"X-0\":\"0\",\"Same\":\"0, 1, 2"), "{count}");
        let last = format!("\"X-{}\":\"{}\"}}", count - 1, count - 1);
        assert!(row.request_headers.ends_with(&last), "{count}");
    }
}

/// Cookies that are set one by one stay apart, whether they are shown or not.
#[test]
fn a_head_of_64_kib_of_one_letter_headers_is_read_in_linear_time() {
    let lines = "a:\n".repeat(21_000);
    let row = exchange(format!("GET / HTTP/1.1\n{lines}\n").as_bytes(), BAD);
    assert!(row.request_headers.starts_with("{\"a\":\", , "));
    let distinct: String = (0..7_000).map(|idx| format!("{idx:x}:1\n")).collect();
    let row = exchange(format!("GET / HTTP/1.1\n{distinct}\n").as_bytes(), BAD);
    assert!(row.request_headers.ends_with("\"1b57\":\"1\"}"));
}

/// A balancer's PROXY line in front of the first request is no part of it.
#[test]
fn a_proxy_line_is_stepped_over() {
    let row = exchange(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\nGET /p HTTP/1.1\r\n\r\n", BAD);
    assert_eq!((row.method.as_str(), row.path.as_str()), ("GET", "/p"));
}

/// A head longer than what is copied of a call: the row holds what was, and the next exchange is
/// whole. Both for a header that is too long and for a target that is.
#[test]
fn a_head_beyond_the_cut_is_a_row() {
    let cookie = format!("GET /c HTTP/1.1\r\nHost: h\r\nX-Big: {}\r\n\r\n", "x".repeat(60_000));
    let target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "t".repeat(60_000));
    for (request, path_bytes) in [(cookie, 2), (target, 30_716)] {
        let mut wire = Wire::new();
        wire.tick(Side::Request, request.as_bytes(), 30_720);
        wire.response("HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n");
        wire.request(&get("/next"));
        wire.response(OK);
        assert_eq!(wire.rows.len(), 2);
        assert_eq!((wire.rows[0].method.as_str(), wire.rows[0].status), ("GET", 431));
        assert_eq!(wire.rows[0].path.len(), path_bytes);
        assert_eq!((wire.rows[1].path.as_str(), wire.rows[1].status), ("/next", 200));
        assert_eq!(wire.close().len(), 2);
        assert_eq!(wire.http.counters(), Counters { exchanges: 2, ..Counters::default() });
    }
    // The same in the response: a Set-Cookie of 40 KB, and a body behind it.
    let mut wire = Wire::new();
    wire.request(&get("/s"));
    let long = format!("HTTP/1.1 200 OK\r\nA: b\r\nX: {}\r\n\r\nbody", "y".repeat(40_000));
    wire.tick(Side::Response, long.as_bytes(), 30_720);
    wire.response("more of the body");
    wire.request(&get("/next"));
    wire.response(OK);
    assert_eq!(wire.paths(), [("/s", 200), ("/next", 200)]);
    assert!(wire.rows[0].response_headers.starts_with("{\"A\":\"b\",\"X\":\"yyyy"));
}

/// A server that gives up waiting for the rest of a request answers it.
#[test]
fn half_a_request_gets_its_408() {
    let mut wire = Wire::new();
    wire.request("POST /slow HTTP/1.1\r\nHost: h\r\nContent-");
    wire.wait(60_000_000_000);
    wire.response("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    wire.wait(REORDER_GRACE_NS);
    wire.close();
    assert_eq!(wire.paths(), [("/slow", 408)]);
    assert_eq!(wire.rows[0].request_headers, "{\"Host\":\"h\"}");
}
