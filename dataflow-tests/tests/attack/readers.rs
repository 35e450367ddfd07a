//! Readers that never read, that come and go, that ask for nonsense.

use std::time::Duration;

use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::socket::Socket;
use weir_dataflow_tests::harness::wait_until;

use crate::target::{Target, rss_bytes};

const EVERYTHING: &str =
    "import px\ndf = px.DataFrame('http_events', start_time='-5m')\npx.display(df)\n";
/// Far below what an unbounded queue of one of these readers takes. While a burst is on its way through capture, node and
/// engine these hold some of it, up to bounds of their own; what readers hold stays.
const GROWTH_MAX_BYTES: u64 = 600 << 20;
const BURST_IS_THROUGH: Duration = Duration::from_secs(20);
/// All readers together, as `weir up` has it.
const HELD_MAX_BYTES: u64 = 256 << 20;
/// What is free is given back within a second: in the ten that it has otherwise, an allocator on a busy machine keeps
/// another hundred MiB that nobody holds.
const PROMPT: [(&str, &str); 1] = [("_RJEM_MALLOC_CONF", "dirty_decay_ms:1000")];

fn rows(target: &Target, requests: usize) {
    let paths = (0..50).map(|n| format!("/{}/{n}", "long".repeat(200))).collect();
    let load = Load {
        addr: target.nginx.addr,
        paths,
        requests,
        requests_per_sec: 0,
        connections: 4,
        keep_alive: true,
    };
    drop(run_load(&load));
}

/// Twenty sockets subscribe to all rows and never read: what they hold is bounded, and freed while they
/// stay open. Catches queues that count messages instead of bytes.
#[test]
fn readers_that_never_read() {
    let Some(mut target) = Target::start_in(&PROMPT, &[], &[]) else { return };
    let open = |n: usize| {
        let mut socket = Socket::open(target.weir.addr, &target.weir.token).unwrap();
        socket.subscribe(&format!("q{n}"), EVERYTHING).unwrap();
        socket
    };
    let sockets: Vec<Socket> = (0..20).map(open).collect();
    let before = rss_bytes(target.weir.pid());
    for _ in 0..6 {
        rows(&target, 5_000);
        let held = target.weir.stats().unwrap()["readers"]["held_bytes"].as_u64().unwrap();
        assert!(held <= HELD_MAX_BYTES, "readers hold {held}");
        let more = || rss_bytes(target.weir.pid()).saturating_sub(before);
        let is_less = wait_until(BURST_IS_THROUGH, || (more() < GROWTH_MAX_BYTES).then_some(()));
        assert!(is_less.is_some(), "{} MiB more", more() >> 20);
    }
    target.stands("twenty readers that never read");
    drop(sockets);
    target.recovers();
}

/// A thousand that subscribe and leave at once leave no query behind: catches work for readers who are gone.
#[test]
fn readers_that_come_and_go() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    for n in 0..1_000 {
        let mut socket = Socket::open(target.weir.addr, &target.weir.token).unwrap();
        let text = format!("{EVERYTHING}# {n}\ndf.n = {}\npx.display(df.head(5), 'n')\n", n % 50);
        socket.subscribe("q", &text).unwrap();
    }
    let queries = || -> usize {
        let answer = target.weir.get("/api/v1/queries").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        json["queries"].as_array().map_or(usize::MAX, Vec::len)
    };
    // The quiet view stays.
    let gone = wait_until(Duration::from_secs(30), || (queries() <= 1).then_some(()));
    assert!(gone.is_some(), "{} queries are left", queries());
    target.stands("a thousand readers that left");
    target.recovers();
}

/// Messages that are none are answered, and cost nobody else a subscription.
#[test]
fn messages_that_are_none() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let mut socket = Socket::open(target.weir.addr, &target.weir.token).unwrap();
    for text in [
        "",
        "{",
        "[]",
        "{\"type\":\"subscribe\"}",
        "{\"type\":\"unsubscribe\",\"id\":\"x\"}",
        "\u{0}",
    ] {
        socket.send_text(text).unwrap();
    }
    socket.send_text(&"[".repeat(100_000)).unwrap();
    target.stands("messages that are none");
    // Too large a message may cost its own socket, nothing else.
    let mut large = Socket::open(target.weir.addr, &target.weir.token).unwrap();
    let _ = large.send_text(&"x".repeat(32 << 20));
    assert!(large.is_closed_within(Duration::from_secs(20)));
    target.stands("a message of 32 MiB");
    target.recovers();
}

/// Hundreds of subscriptions of different queries, over several sockets that answer no ping and read nothing:
/// each is a view or refused with a code, they are gone when the sockets are, and nobody else is late.
#[test]
fn hundreds_of_subscriptions() {
    let Some(mut target) = Target::start(&[], &[]) else { return };
    let mut sockets: Vec<Socket> = Vec::new();
    for socket in 0..5 {
        let mut open = Socket::open(target.weir.addr, &target.weir.token).unwrap();
        for n in 0..60 {
            let text = format!(
                "import px\ndf = px.DataFrame('http_events', start_time='-1m')\n\
                 df = df[df.latency > {n}]\ndf = df.groupby('req_path').agg(n=('latency', px.count))\n\
                 df.s = {socket}\npx.display(df, 'out')\n"
            );
            open.subscribe(&format!("q{n}"), &text).unwrap();
        }
        sockets.push(open);
    }
    let queries = || -> usize {
        let answer = target.weir.get("/api/v1/queries").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        json["queries"].as_array().map_or(0, Vec::len)
    };
    let all = wait_until(Duration::from_secs(60), || (queries() > 300).then_some(()));
    assert!(all.is_some(), "{} queries", queries());
    let stats = target.weir.stats().unwrap();
    assert_eq!(stats["readers"]["websockets"], 6, "{stats}");
    // Half of them leave without a word.
    sockets.truncate(2);
    let left = wait_until(Duration::from_secs(60), || (queries() <= 121).then_some(()));
    assert!(left.is_some(), "{} queries", queries());
    target.stands("hundreds of subscriptions");
    drop(sockets);
    target.recovers();
}
