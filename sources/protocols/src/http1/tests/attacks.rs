//! What servers and clients do that the grammar does not want: no exchange vanishes, no pair is wrong.

use super::*;

/// Plays calls on a connection watched from its start, closes it, and gives path and status of each row.
fn play(calls: &[(Side, &[u8])]) -> (Vec<(String, u16)>, Wire) {
    let mut wire = Wire::new();
    for (side, bytes) in calls {
        wire.tick(*side, bytes, bytes.len());
    }
    wire.close();
    let rows = wire.paths().into_iter().map(|(path, status)| (path.to_string(), status)).collect();
    (rows, wire)
}

fn owned(rows: &[(&str, u16)]) -> Vec<(String, u16)> {
    rows.iter().map(|(path, status)| (path.to_string(), *status)).collect()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

use Side::{Request, Response};

/// A body where there must be none: of a HEAD, a 204, a 304, or more of it than was promised, in the
/// answer's call or in one of its own. Clients throw it away and go on; so do we, and lose nothing.
#[test]
fn bodies_that_must_not_be_there_are_stepped_over() {
    let answers: [(&str, &[u8]); 5] = [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ];
    let bodies: [&[u8]; 3] =
        [b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"<html>\n\n<p>one</p>\n\n</html>\n"];
    for (method, answer) in answers {
        for body in bodies {
            for apart in [false, true] {
                let request = format!("{method} /1 HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
                let next = [get("/2").into_bytes(), get("/3").into_bytes()];
                let together = [answer, body].concat();
                let mut calls: Vec<(Side, &[u8])> = vec![(Request, &request)];
                if apart {
                    calls.extend([(Response, answer), (Response, body)]);
                } else {
                    calls.push((Response, &together));
                }
                for request in &next {
                    calls.extend([(Request, request.as_slice()), (Response, OK)]);
                }
                let (rows, wire) = play(&calls);
                let what = format!(
                    "{method} {} {:?} {apart}",
                    answer.escape_ascii(),
                    body.escape_ascii().to_string()
                );
                let status = wire.rows.first().map_or(0, |row| row.status);
                assert_eq!(rows, owned(&[("/1", status), ("/2", 200), ("/3", 200)]), "{what}");
                assert_eq!(wire.http.counters().gap, 0, "{what}");
            }
        }
    }
}

/// An expectation that is refused: the client sends no body, and goes on with the next request.
#[test]
fn a_refused_expectation_has_no_body() {
    let head =
        b"POST /1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n";
    let refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let (second, third) = (get("/2").into_bytes(), get("/3").into_bytes());
    let (rows, _) = play(&[
        (Request, head),
        (Response, refusal),
        (Request, &second),
        (Response, OK),
        (Request, &third),
        (Response, OK),
    ]);
    assert_eq!(rows, owned(&[("/1", 417), ("/2", 200), ("/3", 200)]));
    // One that sends it all the same: it is the body.
    let body = [b'x'; 400];
    let (rows, wire) = play(&[
        (Request, head),
        (Response, refusal),
        (Request, &body),
        (Request, &second),
        (Response, OK),
    ]);
    assert_eq!(rows, owned(&[("/1", 417), ("/2", 200)]));
    assert_eq!(wire.rows[0].request_bytes, 400);
}

/// A balancer's PROXY header of version 2, in the first request's call or in one of its own.
#[test]
fn a_binary_proxy_header_is_stepped_over() {
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x10\0\0\x50";
    let request = get("/1").into_bytes();
    let together = [&header[..], &request].concat();
    for calls in [
        vec![(Request, together.as_slice()), (Response, OK)],
        vec![(Request, &header[..]), (Request, &request), (Response, OK)],
    ] {
        let (rows, wire) = play(&calls);
        assert_eq!(rows, owned(&[("/1", 200)]));
        assert_eq!(wire.rows[0].method, "GET");
    }
}

/// Several interim answers, an upgrade that is refused, a CONNECT that is refused, answers to what comes
/// behind a refused tunnel.
#[test]
fn refused_tunnels_and_many_interim_answers() {
    let upgrade = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let connect = b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n";
    let denied = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nnope";
    let interims = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let next = get("/n").into_bytes();
    let (rows, _) = play(&[
        (Request, upgrade),
        (Response, OK),
        (Request, connect),
        (Response, denied),
        (Request, &next),
        (Response, interims),
        (Response, OK),
        (Request, &next),
        (Response, OK),
    ]);
    assert_eq!(rows, owned(&[("/ws", 200), ("h:443", 407), ("/n", 200), ("/n", 200)]));
}

/// The server answers a pipelined request and closes; another answers before the body has come, and goes
/// on; trailers, extensions with quotes, folded headers and bare line ends in between.
#[test]
fn odd_but_allowed() {
    let two = [get("/1"), get("/2")].concat().into_bytes();
    let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let (rows, wire) = play(&[(Request, &two), (Response, last)]);
    assert_eq!(rows, owned(&[("/1", 200)]));
    assert_eq!((wire.http.counters().unanswered, wire.http.counters().gap), (1, 0));

    let upload = b"PUT /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b;c\"\r\nabc\r\n";
    let rest = b"2 ; x\r\nde\r\n0;last\r\nX-T: 1\r\n folded\r\nY: 2\r\n\r\n";
    let second = b"GET /2 HTTP/1.1\nHost: h\nX: a\n b\n\n".to_vec();
    let answer = b"HTTP/1.1 200 OK\nContent-Length: 2\nX: 1\n\t2\n\nhi";
    let (rows, wire) = play(&[
        (Request, upload),
        (Response, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
        (Request, rest),
        (Request, &second),
        (Response, answer),
    ]);
    assert_eq!(rows, owned(&[("/1", 413), ("/2", 200)]));
    assert_eq!(wire.rows[0].request_bytes, 5);
    assert!(wire.rows[1].request_headers.contains("\"a b\""), "{}", wire.rows[1].request_headers);
}

/// A connection goes on after a 400, also when what was refused had a body that nobody can tell.
#[test]
fn a_connection_goes_on_after_a_400() {
    let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let bad: [&[u8]; 4] = [
        b"GET / x HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nContent-Length: abc\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ];
    for bad in bad {
        let next = get("/2").into_bytes();
        let (rows, _) =
            play(&[(Request, bad), (Response, refused), (Request, &next), (Response, OK)]);
        assert_eq!(rows.len(), 2, "{}: {rows:?}", bad.escape_ascii());
        assert_eq!((rows[0].1, rows[1].clone()), (400, ("/2".to_string(), 200)));
    }
}

/// Bytes of unknown length that nobody saw (sendfile) within an answer without a length, and within one
/// in chunks, on a connection that is kept.
#[test]
fn unseen_bodies_of_unknown_length() {
    for head in [
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n",
    ] {
        let mut wire = Wire::new();
        wire.request(&get("/1"));
        wire.tick(Response, head, head.len());
        wire.tick(Response, &[b'x'; 1024], 0);
        wire.tick(Response, b"\r\n0\r\n\r\n", 7);
        wire.request(&get("/2"));
        wire.tick(Response, OK, OK.len());
        wire.close();
        assert_eq!(wire.paths(), [("/1", 200), ("/2", 200)]);
        assert!(wire.rows[0].response_bytes >= 1024);
    }
}
