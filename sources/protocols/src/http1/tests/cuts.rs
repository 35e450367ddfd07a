//! What is missing because a call was longer than what is copied of it, and ends that are no ends.

use super::*;

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunks(count: usize, bytes: usize) -> String {
    format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes)).repeat(count)
}

/// node.js: many small writes of one turn are one call of many buffers, of which the first are
/// copied. The answer ends with the next request, whatever is missing of it, and so does the last
/// one when the connection closes.
#[test]
fn a_hole_over_chunk_sizes_costs_no_exchange() {
    for (count, bytes, seen) in [(20, 2, 100), (10, 8_000, 30_720), (40, 65_536, 30_720)] {
        let whole = format!("{CHUNKED}{}0\r\n\r\n", chunks(count, bytes));
        let mut wire = Wire::new();
        for idx in 0..5 {
            wire.request(&get(&format!("/{idx}")));
            wire.tick(Side::Response, whole.as_bytes(), seen.min(whole.len() - 1));
        }
        assert_eq!(wire.paths(), [("/0", 200), ("/1", 200), ("/2", 200), ("/3", 200)]);
        assert!(wire.close().iter().all(|row| row.response_body.ends_with("... [TRUNCATED]")));
        assert_eq!(wire.http.counters(), Counters { exchanges: 5, ..Counters::default() });
    }
}

/// A capture that keeps only the beginning of each packet hides the ends of all heads: each request and each
/// answer is a row all the same. Catches connections of which only the first exchange is a row.
#[test]
fn heads_that_are_all_cut() {
    for (asked_seen, answered_seen) in [(30, 30), (30, 200), (200, 30)] {
        let mut wire = Wire::new();
        for idx in 0..6 {
            let request =
                format!("GET /{idx} HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n");
            wire.tick(Side::Request, request.as_bytes(), asked_seen.min(request.len()));
            let answer = "HTTP/1.1 200 OK\r\nServer: some\r\nContent-Length: 5\r\n\r\nhello";
            wire.tick(Side::Response, answer.as_bytes(), answered_seen.min(answer.len()));
        }
        wire.close();
        let expected: Vec<String> = (0..6).map(|idx| format!("/{idx}")).collect();
        let paths: Vec<String> = wire.paths().iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, expected, "{asked_seen} {answered_seen}");
        assert_eq!(wire.http.counters(), Counters { exchanges: 6, ..Counters::default() });
    }
}

/// The last answer of a connection that is kept open, its end hidden: a row when nothing more comes,
/// once, and what comes late belongs to it. Catches the last row of each kept connection.
#[test]
fn an_open_answer_of_which_nothing_more_comes_is_a_row() {
    let whole = format!("{CHUNKED}{}", chunks(10, 8_000));
    let mut wire = Wire::new();
    wire.request(&get("/last"));
    wire.tick(Side::Response, whole.as_bytes(), 30_720);
    wire.wait(REORDER_GRACE_NS);
    assert!(wire.rows.is_empty());
    wire.wait(3_000_000_000);
    assert_eq!(wire.paths(), [("/last", 200)]);
    // It was only a pause, and there is a start line in what follows.
    wire.tick(Side::Response, chunks(4, 8_000).as_bytes(), 10);
    wire.response("HTTP/1.1 500 Evil\r\nContent-Length: 0\r\n\r\n0\r\n\r\n");
    wire.wait(3_000_000_000);
    wire.request(&get("/next"));
    wire.response(&OK.replace("200", "201"));
    assert_eq!(wire.paths(), [("/last", 200), ("/next", 201)]);
    assert_eq!(wire.close().len(), 2);
    assert_eq!(wire.http.counters(), Counters { exchanges: 2, ..Counters::default() });
}

/// If the call's last bytes are copied as well, the answer ends with them and is a row at once.
#[test]
fn a_last_chunk_behind_the_hole_ends_the_answer() {
    let whole = format!("{CHUNKED}{}0\r\n\r\n", chunks(20, 2));
    let mut wire = Wire::new();
    wire.request(&get("/a"));
    wire.tick_with_tail(Side::Response, whole.as_bytes(), 100, 12);
    assert_eq!(wire.paths(), [("/a", 200)]);
    wire.request(&get("/b"));
    wire.response(OK);
    assert_eq!(wire.paths(), [("/a", 200), ("/b", 200)]);
    // It only looked like the end: what follows belongs to the answer that was given.
    wire.request(&get("/c"));
    wire.tick_with_tail(Side::Response, whole.as_bytes(), 100, 12);
    wire.response("4\r\nmore\r\n0\r\n\r\n");
    wire.request(&get("/d"));
    wire.response(OK);
    assert_eq!(wire.paths()[2..], [("/c", 200), ("/d", 200)]);
    assert_eq!(wire.http.counters(), Counters { exchanges: 4, ..Counters::default() });
}

/// The last bytes may also come as a segment of their own, at the call's time.
#[test]
fn a_tail_of_its_own_is_no_other_call() {
    let whole = format!("{CHUNKED}{}0\r\n\r\n", chunks(20, 2));
    let mut wire = Wire::new();
    wire.request(&get("/a"));
    wire.now_ns += 1_000;
    let (now_ns, end) = (wire.now_ns, whole.len() - 12);
    for (position, total, payload) in
        [(0, end, &whole.as_bytes()[..100]), (end, 12, &whole.as_bytes()[end..])]
    {
        let (position, total_bytes) = (position as u64, total as u64);
        let segment = Segment { position, total_bytes, time_unix_ns: now_ns, payload, tail: &[] };
        wire.responses.push(segment);
        wire.run(false);
    }
    assert!(!wire.responses.at_event_start());
    assert_eq!(wire.paths(), [("/a", 200)]);
}

/// A body that holds the start of a response where a call begins does not end there: the client
/// has not asked for another.
#[test]
fn a_start_line_in_an_open_body_ends_nothing() {
    let mut wire = Wire::new();
    wire.request(&get("/log"));
    let begin = format!("{CHUNKED}{}", chunks(1, 5_000));
    wire.tick(Side::Response, begin.as_bytes(), 300);
    wire.tick(Side::Response, chunks(2, 100).as_bytes(), 0);
    wire.response("HTTP/1.1 500 Evil\r\nContent-Length: 0\r\n\r\n");
    wire.wait(REORDER_GRACE_NS);
    assert!(wire.rows.is_empty());
    wire.request(&get("/next"));
    wire.response(&OK.replace("200", "201"));
    wire.wait(REORDER_GRACE_NS);
    assert_eq!(wire.paths(), [("/log", 200), ("/next", 201)]);
}

/// A chunked upload with a hole over its framing ends when it is answered.
#[test]
fn a_chunked_upload_with_a_hole_is_a_row() {
    let head = "POST /up HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let upload = format!("{head}{}", chunks(10, 8_000));
    let mut wire = Wire::new();
    for _ in 0..3 {
        wire.tick(Side::Request, upload.as_bytes(), 30_720);
        wire.request(&format!("{}0\r\n\r\n", chunks(2, 10)));
        wire.response(&OK.replace("200", "201"));
        wire.request(&get("/next"));
        wire.response(OK);
    }
    assert_eq!(wire.paths(), [("/up", 201), ("/next", 200)].repeat(3));
    assert_eq!(wire.close().len(), 6);
}

/// After an early answer the rest of an open upload is not taken for a request.
#[test]
fn the_rest_of_a_refused_upload_is_stepped_over() {
    let upload =
        format!("POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunks(10, 8_000));
    let mut wire = Wire::new();
    wire.tick(Side::Request, upload.as_bytes(), 30_720);
    wire.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    wire.request(&chunks(3, 50));
    wire.request("0\r\n\r\n");
    wire.request(&get("/next"));
    wire.response(OK);
    assert_eq!(wire.paths(), [("/up", 413), ("/next", 200)]);
}

/// A client that pipelines gets the answer whose end is hidden, and after it nothing by guess.
#[test]
fn an_open_body_of_a_pipelining_client_pairs_nothing_by_guess() {
    let whole = format!("{CHUNKED}{}0\r\n\r\n", chunks(20, 2));
    let mut wire = Wire::new();
    wire.request(&format!("{}{}{}", get("/1"), get("/2"), get("/3")));
    wire.tick(Side::Response, whole.as_bytes(), 100);
    wire.response(&OK.replace("200", "202"));
    wire.response(&OK.replace("200", "203"));
    wire.wait(REORDER_GRACE_NS);
    assert_eq!(wire.paths(), [("/1", 200)]);
    wire.wait(6_000_000_000);
    wire.request(&get("/4"));
    wire.response(&OK.replace("200", "204"));
    assert_eq!(wire.paths(), [("/1", 200), ("/4", 204)]);
    assert_eq!(wire.http.counters().gap, 2);
}

/// One lost answer, or one lost request, among a hundred, wherever it is: the others are rows.
#[test]
fn a_lost_event_takes_nobody_with_it() {
    for side in [Side::Request, Side::Response] {
        for lost in 0..100 {
            let mut wire = Wire::new();
            for idx in 0..100 {
                let request = get(&format!("/{idx}"));
                let response = OK.replace("200", &(400 + idx).to_string());
                for (at, text) in [(Side::Request, request), (Side::Response, response)] {
                    if at == side && idx == lost {
                        wire.lose(at, text.len() as u64);
                    } else {
                        wire.tick(at, text.as_bytes(), text.len());
                    }
                }
                wire.wait(REORDER_GRACE_NS / 50);
            }
            wire.wait(2 * REORDER_GRACE_NS);
            wire.close();
            let rows = wire.rows.len();
            assert!(rows >= 93, "{rows} rows, {side:?} {lost} lost");
            for (path, status) in wire.paths() {
                assert_eq!(path[1..].parse::<u16>().unwrap() + 400, status, "{side:?} {lost} lost");
            }
            // A request that is lost at the very end leaves no hole that shows it.
            let Counters { exchanges, gap, unanswered, unasked, .. } = wire.http.counters();
            assert_eq!(exchanges + gap + unanswered + unasked, 100, "{side:?} {lost} lost");
            assert!(unanswered + unasked == 0 || lost == 99);
        }
    }
}

/// What was broken off is a row with what there was of it: a download, a 502 cut short within its
/// head, a body until close, an answer in chunks.
#[test]
fn what_is_broken_off_is_a_row() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\npart", 4),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 0),
        ("HTTP/1.1 502 Bad Gateway\r\nServer: x\r\nConte", 0),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 3),
        ("HTTP/1.0 200 OK\r\n\r\nuntil close", 11),
    ];
    for (response, bytes) in cases {
        let mut wire = Wire::new();
        wire.request(&get("/x"));
        wire.response(response);
        let rows = wire.close();
        assert_eq!(rows.len(), 1, "{response}");
        assert_eq!(rows[0].response_bytes, bytes, "{response}");
        assert_eq!(wire.http.counters(), Counters { exchanges: 1, ..Counters::default() });
    }
    let mut wire = Wire::new();
    wire.request(&get("/never"));
    assert!(wire.close().is_empty());
    assert_eq!(wire.http.counters(), Counters { unanswered: 1, ..Counters::default() });
}

/// Pipelined requests that nobody answers: what they hold is counted as it is held, and bounded.
#[test]
fn waiting_requests_are_counted_and_bounded() {
    let mut wire = Wire::new();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "\x01".repeat(5_000));
    let mut most = 0;
    for _ in 0..2_000 {
        wire.request(&long);
        let held = wire.http.held_bytes();
        assert!(held <= (1 << 20) + 64 * 1024, "{held}");
        most = most.max(held);
    }
    assert!(most > 512 * 1024 && most < 2 << 20, "{most}");
    let counters = wire.http.counters();
    assert!(counters.given_up > 1_900, "{counters:?}");
    wire.http.give_up(&mut wire.pool);
    assert!(wire.http.held_bytes() < 64 * 1024);
}
