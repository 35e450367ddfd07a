//! What readers may cost: those that do not read, send nonsense, come in numbers, or leave in the middle.

use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_dataflow_tests::harness::socket::Socket;
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

const DEADLINE: Duration = Duration::from_secs(60);

/// Rows of processes, made large: some hundred rows of `bytes` each, and more every second.
fn wide(bytes: usize) -> String {
    format!(
        "import px\ndf = px.DataFrame('process_stats', start_time='-5m')\ndf.x = '{}'\n\
         px.display(df[['time_', 'upid', 'x']], 'out')\n",
        "x".repeat(bytes)
    )
}

const SMALL: &str = "import px\ndf = px.DataFrame('process_stats', start_time='-1m')\n\
                     px.display(df.groupby('upid').agg(n=('time_', px.count)), 'out')\n";

fn readers(weir: &Weir) -> Json {
    weir.stats().unwrap()["readers"].clone()
}

fn is_progress(message: &Json) -> bool {
    message["type"] == "progress"
}

/// Readers that take nothing are closed by us within the timeout, whatever they hold is free at once and
/// given back to the kernel, their query goes, and who reads notices nothing. Would catch a queue counted
/// in messages, a socket that only its peer can close, and an allocator that keeps what it was given.
#[test]
fn who_never_reads_costs_little_and_not_for_long() {
    let weir = Weir::start(&["--trace", "port:1", "--write-timeout", "3s"]).unwrap();
    let mut good = Socket::open(weir.addr, &weir.token).unwrap();
    good.subscribe("good", SMALL).unwrap();
    good.wait_for(DEADLINE, is_progress).unwrap();
    let before = weir.rss_bytes();
    let sleepers: Vec<Socket> = (0..20)
        .map(|_| {
            let mut sleeper = Socket::open(weir.addr, &weir.token).unwrap();
            sleeper.subscribe("sleeper", &wide(60_000)).unwrap();
            sleeper
        })
        .collect();
    let mut held_max = 0;
    let mut rss_max = 0;
    // Twenty wide answers have to be made first.
    let closed = wait_until(DEADLINE * 2, || {
        let now = readers(&weir);
        held_max = held_max.max(now["held_bytes"].as_u64().unwrap());
        rss_max = rss_max.max(weir.rss_bytes());
        good.wait_for(DEADLINE, is_progress).unwrap();
        (now["websockets"] == 1).then_some(now)
    });
    let now = closed.expect("sleepers are closed");
    // On a machine too busy to fill its socket, a sleeper is first seen by the pings that it lets lie.
    let ended = now["stalled"].as_u64().unwrap() + now["silent"].as_u64().unwrap();
    assert_eq!(ended, 20, "{now}");
    assert!(held_max > 0 && held_max <= 256 << 20, "held {held_max}");
    assert!(rss_max < before + (600 << 20), "from {before} to {rss_max}");
    drop(sleepers);
    let gone = |weir: &Weir| -> bool {
        let queries: Json =
            serde_json::from_str(&weir.get("/api/v1/queries").unwrap().text()).unwrap();
        queries["queries"].as_array().map(Vec::len) == Some(1)
    };
    assert!(wait_until(DEADLINE, || gone(&weir).then_some(())).is_some(), "their query goes");
    assert_eq!(readers(&weir)["held_bytes"].as_u64(), Some(0));
    let back = wait_until(DEADLINE, || (weir.rss_bytes() <= before * 6 / 5).then_some(()));
    assert!(back.is_some(), "from {before} over {rss_max} to {}", weir.rss_bytes());
}

/// Nonsense of every kind is answered by its id and ends nothing but itself; one subscription too many is
/// refused by its code.
#[test]
fn a_bad_message_ends_nothing_else() {
    let weir = Weir::start(&["--trace", "port:1", "--subscriptions-max", "2"]).unwrap();
    let mut socket = Socket::open(weir.addr, &weir.token).unwrap();
    socket.subscribe("good", SMALL).unwrap();
    let big = "x".repeat(3 << 20);
    let errors: [(tungstenite::Message, &str); 6] = [
        (tungstenite::Message::binary(vec![1, 2, 3]), "bad_message"),
        (tungstenite::Message::text("{"), "bad_message"),
        (tungstenite::Message::text(big), "message_too_large"),
        (tungstenite::Message::text("{\"type\":\"unsubscribe\",\"id\":\"no\"}"), "unknown_id"),
        (subscription("good", SMALL), "id_in_use"),
        (subscription("bad", "import px\npx.display(1)"), "compile_error"),
    ];
    for (message, code) in errors {
        socket.send_raw(message).unwrap();
        let error = socket.wait_for(DEADLINE, |message| message["type"] == "error").unwrap();
        assert_eq!(error["code"], code, "{error}");
    }
    socket.subscribe("second", SMALL).unwrap();
    socket.subscribe("third", SMALL).unwrap();
    let refused = socket.wait_for(DEADLINE, |message| message["type"] == "error").unwrap();
    assert_eq!(
        (&refused["id"], &refused["code"]),
        (&json!("third"), &json!("too_many_subscriptions"))
    );
    for id in ["good", "second"] {
        socket.wait_for(DEADLINE, |m| is_progress(m) && m["id"] == id).unwrap();
    }
    assert_eq!(weir.stats().unwrap()["readers"]["refused"], 1);
}

fn subscription(id: &str, text: &str) -> tungstenite::Message {
    tungstenite::Message::text(json!({"type": "subscribe", "id": id, "text": text}).to_string())
}

/// A few places for websockets: one more is refused with a code, and a place that is left is free again.
#[test]
fn websockets_are_counted() {
    let weir = Weir::start(&["--trace", "port:1", "--websockets-max", "2"]).unwrap();
    let first = Socket::open(weir.addr, &weir.token).unwrap();
    let _second = Socket::open(weir.addr, &weir.token).unwrap();
    let refused = Socket::open(weir.addr, &weir.token).map(drop).unwrap_err().to_string();
    assert!(refused.contains("503"), "{refused}");
    drop(first);
    assert!(wait_until(DEADLINE, || Socket::open(weir.addr, &weir.token).ok()).is_some());
}

/// An answer larger than a snapshot may be is refused with its size and the hint, for `run` and `live`
/// alike, and nothing of it stays.
#[test]
fn a_snapshot_has_limits() {
    let weir = Weir::start(&["--trace", "port:1", "--snapshot-bytes-max", "1MiB"]).unwrap();
    let mut socket = Socket::open(weir.addr, &weir.token).unwrap();
    socket.subscribe("big", &wide(100_000)).unwrap();
    let error = socket.wait_for(DEADLINE, |message| message["type"] == "error").unwrap();
    assert_eq!(error["code"], "snapshot_too_large", "{error}");
    assert!(error["message"].as_str().unwrap().contains("use head(n)"), "{error}");
    socket.wait_for(DEADLINE, |message| message["type"] == "end").unwrap();
    let answer = weir.post("/api/v1/run", &json!({"text": wide(100_000)})).unwrap();
    assert!(answer.text().contains("snapshot_too_large"), "{}", answer.text());
    socket.subscribe("small", SMALL).unwrap();
    socket.wait_for(DEADLINE, is_progress).unwrap();
}

/// `run` reads the view that is there: no second query, and two descriptions of one plan are two
/// descriptions. Would catch a key that leaves something out, and one that holds too much.
#[test]
fn one_plan_is_one_view_and_each_reader_has_its_own_description() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let mut socket = Socket::open(weir.addr, &weir.token).unwrap();
    let text = "import px\ndef f():\n  df = px.DataFrame('process_stats', start_time='-1m')\n  \
                return df.groupby('upid').agg(n=('time_', px.count))\n";
    let vis = |title: &str| {
        let spec = json!({"@type": "types.px.dev/px.vispb.Table"});
        json!({"variables": [], "widgets": [
            {"name": title, "globalFuncOutputName": "out", "displaySpec": spec}],
            "globalFuncs": [{"outputName": "out", "func": {"name": "f", "args": []}}]})
        .to_string()
    };
    for title in ["one", "two"] {
        let message = json!({"type": "subscribe", "id": title, "text": text, "vis": vis(title)});
        socket.send(&message).unwrap();
        let schema =
            socket.wait_for(DEADLINE, |m| m["id"] == title && m["type"] != "progress").unwrap();
        assert_eq!(schema["type"], "schema", "{schema}");
        assert_eq!(schema["widgets"][0]["name"], title, "{schema}");
        socket.wait_for(DEADLINE, |m| m["id"] == title && is_progress(m)).unwrap();
    }
    let run = json!({"text": text, "vis": vis("three")});
    let (mut queries_max, mut answers) = (0, 0);
    for _ in 0..5 {
        let answer = weir.post("/api/v1/run", &run).unwrap();
        answers += usize::from(answer.status == 200 && answer.text().contains("progress"));
        let listed: Json =
            serde_json::from_str(&weir.get("/api/v1/queries").unwrap().text()).unwrap();
        queries_max = queries_max.max(listed["queries"].as_array().map_or(0, Vec::len));
        let last = listed["queries"][0]["query"].as_u64();
        assert_eq!(last, Some(1), "no other query was ever installed: {listed}");
    }
    assert_eq!((queries_max, answers), (1, 5));
}
