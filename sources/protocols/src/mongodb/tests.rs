//! Messages as bytes in, rows as text out: of each kind one, and what is done to them.

mod losses;
mod made;

use serde_json::{Value, json};
use weir_types::random::SplitMix;

use self::losses::is_right;
use self::made::{
    EXHAUST, MORE, answered, array, asked, binary, body, bool, counted, delete, doc, double,
    element, find, get_more, insert, int, kill_cursors, long, message, packed, query, reply,
    sections, sequence, sub, text, update,
};
use super::PROTOCOL;
use super::types::{DEPTH_MAX, OP_COMMAND, OP_MSG};
use crate::protocol::Verdict;
use crate::redact::{Mode, Redactor};
use crate::testing::{
    Call, Wire, check_any_bytes, check_every_split, check_random_gaps, check_recognised,
    check_recovery, lines_of, verdict,
};
use crate::trials::{Exchange, Faults, everybody, number, sum, trial};
use crate::{REORDER_GRACE_NS, Side};

/// A row: command, request, status, response; JSON where it is.
type Cells = (String, Value, String, Value);

fn cells(cells: &[String]) -> Cells {
    let value = |text: &str| match text {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    };
    (cells[0].clone(), value(&cells[1]), cells[2].clone(), value(&cells[3]))
}

/// The rows of requests and responses, each by a call.
fn rows_of(requests: &[Vec<u8>], responses: &[Vec<u8>]) -> Vec<Cells> {
    let mut wire = Wire::new(&PROTOCOL);
    requests.iter().for_each(|bytes| wire.ask(bytes));
    responses.iter().for_each(|bytes| wire.answer(bytes));
    wire.settle();
    wire.close().iter().map(|row| cells(&row.cells)).collect()
}

fn row(command: &str, request: Value, status: &str, response: Value) -> Cells {
    (command.to_string(), request, status.to_string(), response)
}

fn bytes_of(calls: &[Call], side: Side) -> Vec<Vec<u8>> {
    calls.iter().filter(|call| call.0 == side).map(|(_, bytes)| bytes.clone()).collect()
}

/// Every field of a row of OP_MSG, in the text that a script reads: the request as it was sent, sequences as
/// arrays behind the body, wherever they were; time and latency by first bytes.
#[test]
fn rows_of_msg() {
    let documents = [doc(&[int("_id", 1)]), doc(&[int("_id", 2), text("a", "é\n")])];
    let head = body(&[text("insert", "things"), bool("ordered", true), text("$db", "shop")]);
    let many = sequence("documents", &documents);
    let answer = answered(90, 5, 0, &[int("n", 2)]);
    for parts in [[head.clone(), many.clone()], [many, head]] {
        let mut wire = Wire::new(&PROTOCOL);
        let request = sections(5, 0, 0, &parts);
        wire.ask(&request[..30]);
        wire.ask(&request[30..]);
        wire.answer(&answer[..20]);
        wire.answer(&answer[20..]);
        let [row] = wire.close() else { panic!("{:?}", wire.rows()) };
        let want = [
            "insert",
            r#"{"insert":"things","ordered":true,"$db":"shop","documents":[{"_id":1},{"_id":2,"a":"é\n"}]}"#,
            "ok",
            r#"{"n":2,"ok":1.0}"#,
            "2000",
        ];
        assert_eq!(row.cells, want);
        assert_eq!(row.time_ns, 4_000);
    }
}

/// What is no success is an error: `ok` that is not 1 in any type of number, a message, errors of writes.
#[test]
fn statuses() {
    let error = doc(&[int("index", 0), int("code", 11_000)]);
    let cases = [
        (vec![double("ok", 1.0)], "ok"),
        (vec![int("ok", 1)], "ok"),
        (vec![bool("ok", true)], "ok"),
        (vec![long("ok", 1), array("writeErrors", &[])], "ok"),
        (vec![double("ok", 0.0), text("errmsg", "no"), int("code", 59)], "error"),
        (vec![text("errmsg", "no"), int("ok", 1)], "error"),
        (vec![int("n", 0), array("writeErrors", &[error]), int("ok", 1)], "error"),
        (vec![int("n", 0)], "error"),
    ];
    for (elements, want) in cases {
        let request = asked(1, 0, &[text("insert", "c")]);
        let rows = rows_of(&[request], &[sections(2, 1, 0, &[body(&elements)])]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].2, want, "{rows:?}");
    }
}

/// All types as relaxed extended JSON has them.
#[test]
fn types() {
    let id: Vec<u8> = (1..=12).collect();
    let oid = json!({"$oid": "0102030405060708090a0b0c"});
    let scope = [&counted(b"f()")[..], &doc(&[int("x", 1)])].concat();
    let scoped = [&(scope.len() as u32 + 4).to_le_bytes(), &scope[..]].concat();
    let old_binary = [&2u32.to_le_bytes()[..], &[8, 9]].concat();
    let pointer = [counted(b"db.c"), id.clone()].concat();
    let date = |ms: i64| element(0x09, "v", &ms.to_le_bytes());
    let decimal =
        |low: u64, high: u64| element(0x13, "v", &[low.to_le_bytes(), high.to_le_bytes()].concat());
    let cases = [
        (double("v", 1.0), json!(1.0)),
        (double("v", -2.5e-9), json!(-2.5e-9)),
        (double("v", 1.234_567_892_123_2e18), json!(1.234_567_892_123_2e18)),
        (double("v", f64::NAN), json!({"$numberDouble": "NaN"})),
        (double("v", f64::NEG_INFINITY), json!({"$numberDouble": "-Infinity"})),
        (text("v", "a\"\\\u{1}ü"), json!("a\"\\\u{1}ü")),
        (sub("v", &[sub("a", &[]), int("b", -1)]), json!({"a": {}, "b": -1})),
        (array("v", &[doc(&[]), doc(&[int("a", 1)])]), json!([{}, {"a": 1}])),
        (binary("v", 0, b"abcd"), json!({"$binary": {"base64": "YWJjZA==", "subType": "00"}})),
        (binary("v", 2, &old_binary), json!({"$binary": {"base64": "CAk=", "subType": "02"}})),
        (binary("v", 0x80, b""), json!({"$binary": {"base64": "", "subType": "80"}})),
        (element(0x06, "v", &[]), json!({"$undefined": true})),
        (element(0x07, "v", &id), oid.clone()),
        (bool("v", false), json!(false)),
        (date(0), json!({"$date": "1970-01-01T00:00:00Z"})),
        (date(1_356_351_330_501), json!({"$date": "2012-12-24T12:15:30.501Z"})),
        (date(951_782_400_000), json!({"$date": "2000-02-29T00:00:00Z"})),
        (date(253_402_300_799_999), json!({"$date": "9999-12-31T23:59:59.999Z"})),
        (date(253_402_300_800_000), json!({"$date": {"$numberLong": "253402300800000"}})),
        (date(-1), json!({"$date": {"$numberLong": "-1"}})),
        (element(0x0a, "v", &[]), Value::Null),
        (
            element(0x0b, "v", b"^a/b\0im\0"),
            json!({"$regularExpression": {"pattern": "^a/b", "options": "im"}}),
        ),
        (element(0x0c, "v", &pointer), json!({"$dbPointer": {"$ref": "db.c", "$id": oid}})),
        (element(0x0d, "v", &counted(b"f()")), json!({"$code": "f()"})),
        (element(0x0e, "v", &counted(b"s")), json!({"$symbol": "s"})),
        (element(0x0f, "v", &scoped), json!({"$code": "f()", "$scope": {"x": 1}})),
        (int("v", i32::MIN), json!(i32::MIN)),
        (
            element(0x11, "v", &[7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            json!({"$timestamp": {"t": u32::MAX, "i": 7}}),
        ),
        (long("v", i64::MAX), json!(i64::MAX)),
        (decimal(12_345, 0x303a_0000_0000_0000), json!({"$numberDecimal": "12.345"})),
        (element(0xff, "v", &[]), json!({"$minKey": 1})),
        (element(0x7f, "v", &[]), json!({"$maxKey": 1})),
    ];
    for (value, want) in cases {
        let request = asked(1, 0, &[int("ping", 1), value.clone(), int("behind", 3)]);
        let rows = rows_of(&[request], &[answered(2, 1, 0, &[])]);
        let want = json!({"ping": 1, "v": want, "behind": 3, "$db": "shop"});
        assert_eq!(rows[0].1, want);
        // In an array as well, behind another value.
        let inside = [int("0", 1), [&value[..1], b"1\0", &value[3..]].concat()];
        let list = element(0x04, "list", &doc(&inside));
        let rows = rows_of(&[asked(1, 0, &[list])], &[answered(2, 1, 0, &[])]);
        assert_eq!(rows[0].1["list"][1], want["v"]);
    }
}

/// The old messages as the commands that took their place; what nothing answers is a row at once, with
/// an empty response.
#[test]
fn old_messages() {
    let one = doc(&[int("a", 1)]);
    let two = doc(&[int("b", 2)]);
    let greeting = doc(&[int("isMaster", 1), sub("client", &[text("name", "d")])]);
    let greeted = doc(&[bool("ismaster", true), double("ok", 1.0)]);
    let rows = rows_of(
        &[
            query(1, 4, "admin.$cmd", 0, -1, &greeting),
            query(2, 0, "shop.a.b", 3, 10, &[one.clone(), two.clone()].concat()),
            get_more(3, "shop.a.b", 5, 77),
            insert(4, "shop.a.b", &[one.clone(), two.clone()]),
            update(5, "shop.c", 3, &one, &two),
            delete(6, "shop.c", 1, &one),
            kill_cursors(7, &[77, -1]),
            query(8, 0, "shop.c", 0, 0, &one),
            query(9, 0, "shop.$cmd", 0, 1, &doc(&[int("drop", 1)])),
        ],
        &[
            reply(91, 1, 8, 0, &[greeted]),
            reply(92, 2, 8, 77, std::slice::from_ref(&one)),
            reply(93, 3, 8, 0, &[]),
            reply(94, 8, 2, 0, &[doc(&[text("$err", "bad")])]),
            reply(95, 9, 8, 0, &[doc(&[double("ok", 0.0), text("errmsg", "ns not found")])]),
        ],
    );
    let (a, b) = (json!({"a": 1}), json!({"b": 2}));
    let none = Value::Null;
    let updates = json!([{"q": a, "u": b, "upsert": true, "multi": true}]);
    let query_of = |of: &str, skip: i32, count: i32| json!({"query": of, "filter": {"a": 1}, "skip": skip, "batchSize": count, "$db": "shop"});
    let mut projected = query_of("a.b", 3, 10);
    projected["projection"] = b.clone();
    let found = |id: i32, documents: Value| json!({"cursorId": id, "startingFrom": 0, "documents": documents});
    let want = [
        row(
            "insert",
            json!({"insert": "a.b", "documents": [a, b], "$db": "shop"}),
            "",
            none.clone(),
        ),
        row("update", json!({"update": "c", "updates": updates, "$db": "shop"}), "", none.clone()),
        row(
            "delete",
            json!({"delete": "c", "deletes": [{"q": a, "limit": 1}], "$db": "shop"}),
            "",
            none.clone(),
        ),
        row("killCursors", json!({"killCursors": [77, -1]}), "", none),
        row(
            "isMaster",
            json!({"isMaster": 1, "client": {"name": "d"}, "$db": "admin"}),
            "ok",
            json!({"ismaster": true, "ok": 1.0}),
        ),
        row("query", projected, "ok", found(77, json!([a]))),
        row(
            "getMore",
            json!({"getMore": 77, "collection": "a.b", "batchSize": 5, "$db": "shop"}),
            "ok",
            found(0, json!([])),
        ),
        row("query", query_of("c", 0, 0), "error", found(0, json!([{"$err": "bad"}]))),
        row(
            "drop",
            json!({"drop": 1, "$db": "shop"}),
            "error",
            json!({"ok": 0.0, "errmsg": "ns not found"}),
        ),
    ];
    assert_eq!(rows, want);
}

/// Responses find their requests by id, in whatever order they come; nothing answers what says that more
/// is to come.
#[test]
fn ids_pair() {
    let mut wire = Wire::new(&PROTOCOL);
    let pairs: Vec<_> = [5, -9, 3].map(|id| find(id as usize % 100, id)).into();
    for [(_, request), _] in &pairs {
        wire.ask(request);
    }
    wire.ask(&asked(4, MORE, &[text("insert", "c")]));
    assert_eq!(wire.lines(), [r#"insert | {"insert":"c","$db":"shop"} |  | "#]);
    assert_eq!((wire.rows()[0].time_ns, wire.rows()[0].cells[4].as_str()), (5_000, "0"));
    for [_, (_, response)] in pairs.iter().rev() {
        wire.answer(response);
    }
    // Nobody asked.
    wire.answer(&answered(1, 77, 0, &[]));
    wire.settle();
    wire.close();
    let times: Vec<_> =
        wire.rows()[1..].iter().map(|row| (row.time_ns, row.cells[4].clone())).collect();
    assert_eq!(times, [(6_000, "2000".into()), (7_000, "4000".into()), (8_000, "6000".into())]);
    assert!(wire.rows()[1..].iter().all(|row| is_right(&row.cells)));
    assert_eq!((wire.counters().unasked, wire.counters().unanswered), (1, 0));
}

/// Answers that follow each other are rows of the first request's, each answering the one before: streamed
/// greetings, exhaust cursors, and those of the old queries. What is asked behind them is read as well.
#[test]
fn answers_that_follow_each_other() {
    let mut wire = Wire::new(&PROTOCOL);
    wire.ask(&asked(9, EXHAUST, &[int("hello", 1)]));
    wire.answer(&answered(100, 9, MORE, &[int("n", 0)]));
    wire.answer(&answered(101, 100, MORE, &[int("n", 1)]));
    wire.wait(50_000_000_000);
    wire.answer(&answered(102, 101, 0, &[int("n", 2)]));
    // The last one said so.
    wire.answer(&answered(103, 102, 0, &[int("n", 3)]));
    wire.ask(&query(10, 64, "shop.c", 0, 0, &doc(&[])));
    wire.answer(&reply(200, 10, 0, 5, &[doc(&[int("n", 4)])]));
    wire.answer(&reply(201, 200, 0, 0, &[doc(&[int("n", 5)])]));
    wire.answer(&reply(202, 201, 0, 0, &[doc(&[int("n", 6)])]));
    wire.settle();
    wire.close();
    let lines = wire.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for (n, line) in [0, 1, 2, 4, 5].into_iter().zip(&lines) {
        assert!(line.contains(&format!("\"n\":{n}")), "{line}");
        assert!(line.starts_with(if n < 3 { "hello | " } else { "query | " }), "{line}");
    }
    let latencies: Vec<i64> = wire.rows().iter().map(|row| row.cells[4].parse().unwrap()).collect();
    assert_eq!(latencies, [1_000, 2_000, 50_000_003_000, 1_000, 2_000]);
    assert_eq!(wire.counters().unasked, 2);
}

/// Packed by any of the known ways, whole messages are the same rows; nobody guesses at another way, and
/// such an exchange is counted once, whichever half it is.
#[test]
fn compressed() {
    let calls = find(3, 8);
    let plain = lines_of(&PROTOCOL, &calls);
    assert_eq!(plain.len(), 1);
    for compressor in 0..=3 {
        let calls = calls.clone().map(|(side, bytes)| (side, packed(&bytes, compressor)));
        assert_eq!(lines_of(&PROTOCOL, &calls), plain, "{compressor}");
        check_every_split(&PROTOCOL, &calls);
        let samples = [0, 1].map(|at: usize| (calls[at].0, calls[at].1.as_slice()));
        check_recognised(&PROTOCOL, &samples);
    }
    let old = [query(8, 0, "shop.c", 0, 0, &doc(&[int("a", 1)])), reply(9, 8, 0, 0, &[])];
    let calls = [(Side::Request, packed(&old[0], 2)), (Side::Response, packed(&old[1], 3))];
    assert!(lines_of(&PROTOCOL, &calls)[0].starts_with("query | {\"query\":\"c\""));
    for unknown in [0, 1] {
        let mut wire = Wire::new(&PROTOCOL);
        for (at, (side, bytes)) in calls.iter().enumerate() {
            let mut bytes = bytes.clone();
            if at == unknown {
                bytes[24] = 9;
            }
            wire.call(*side, &bytes);
        }
        for (side, bytes) in find(4, 9) {
            wire.call(side, &bytes);
        }
        wire.settle();
        assert_eq!(wire.close().len(), 1);
        let counters = wire.counters();
        assert_eq!((counters.given_up, counters.unasked, counters.unanswered), (1, 0, 0));
    }
    // What claims to be large is unpacked no further than is looked at.
    let mut large = packed(&asked(8, 0, &[binary("v", 0, &vec![0; 4 << 20])]), 3);
    large[20..24].copy_from_slice(&49_000_000_u32.to_le_bytes());
    let rows = rows_of(&[large], &[answered(9, 8, 0, &[])]);
    assert_eq!((rows.len(), rows[0].0.as_str()), (1, "v"));
}

/// A checksum is no section; a message that was cut in it or before it has none.
#[test]
fn checksums() {
    let mut request = asked(8, 1, &[int("ping", 1)]);
    request.extend([1, 2, 3, 4]);
    request[0] += 4;
    for cut in 0..8 {
        let mut wire = Wire::new(&PROTOCOL);
        wire.cut_call(Side::Request, &request, request.len() - cut);
        wire.answer(&answered(9, 8, 0, &[]));
        let lines = wire.lines();
        assert!(lines[0].starts_with("ping | {\"ping\":1"), "{lines:?}");
    }
}

/// What proves who somebody is, is not shown, in whatever message it is; nor is anything, if bodies are to
/// be hidden; and all of it is, if nothing is.
#[test]
fn secrets() {
    let payload = || binary("payload", 0, b"n,,n=u,r=hunter2");
    let step = [int("saslStart", 1), text("mechanism", "PLAIN"), payload()];
    let speculative = sub("speculativeAuthenticate", &step);
    let pwd = || text("pwd", "hunter2");
    let wrapped = doc(&[sub("$query", &step)]);
    let requests = [
        asked(1, 0, &step),
        asked(1, 0, &[int("saslContinue", 1), payload()]),
        asked(1, 0, &[int("authenticate", 1), text("user", "u"), text("key", "hunter2")]),
        asked(1, 0, &[text("createUser", "u"), pwd()]),
        asked(1, 0, &[text("updateUser", "u"), pwd()]),
        asked(1, 0, &[int("hello", 1), speculative.clone()]),
        query(1, 0, "admin.$cmd", 0, -1, &doc(&[int("isMaster", 1), speculative])),
        query(1, 0, "admin.$cmd", 0, -1, &doc(&step)),
        query(1, 0, "admin.$cmd", 0, -1, &wrapped),
        insert(1, "admin.system.users", &[doc(&[text("user", "u"), pwd()])]),
    ];
    let step = [int("conversationId", 1), bool("done", false), payload()];
    let responses =
        [answered(2, 1, 0, &step), answered(2, 1, 0, &[sub("speculativeAuthenticate", &step)])];
    let is_shown =
        |line: &String| line.contains("hunter2") || line.contains("biwsbj11LHI9aHVudGVyMg");
    for mode in [Mode::Off, Mode::Secrets, Mode::Bodies, Mode::Pii] {
        for (request, response) in
            requests.iter().flat_map(|one| responses.iter().map(move |two| (one, two)))
        {
            let mut wire = Wire::new(&PROTOCOL);
            wire.config.redactor = Redactor::new(mode, &[], None);
            wire.ask(request);
            wire.answer(response);
            wire.settle();
            let [line] = &wire.lines()[..1] else { panic!() };
            assert_eq!(is_shown(line), mode == Mode::Off, "{mode:?}: {line}");
            if mode != Mode::Off {
                assert!(line.contains(":\"<REDACTED>\""), "{line}");
            }
            for row in wire.rows() {
                cells(&row.cells);
            }
        }
    }
    let rows = rows_of(&requests[..1], &responses[..1]);
    let want =
        json!({"saslStart": 1, "mechanism": "PLAIN", "payload": "<REDACTED>", "$db": "shop"});
    assert_eq!(rows[0].1, want);
    assert_eq!(rows[0].3["payload"], "<REDACTED>");
    // What is called so elsewhere is no secret.
    let rows = rows_of(
        &[asked(1, 0, &[text("find", "c"), text("payload", "x")])],
        &[answered(2, 1, 0, &[])],
    );
    assert_eq!(rows[0].1["payload"], "x");
    let mut wire = Wire::new(&PROTOCOL);
    wire.config.redactor = Redactor::new(Mode::Bodies, &[], None);
    find(1, 2).into_iter().for_each(|(side, bytes)| wire.call(side, &bytes));
    let hidden = "<REDACTED>";
    assert_eq!(
        cells(&wire.rows()[0].cells),
        row(
            "find",
            json!({"find": hidden, "filter": hidden, "$db": hidden}),
            "ok",
            json!({"cursor": hidden, "ok": hidden}),
        )
    );
}
