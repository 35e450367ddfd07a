//! The API's safe defaults, from outside.

use std::time::Duration;

use weir_dataflow_tests::harness::http::request_once;
use weir_dataflow_tests::harness::put;
use weir_dataflow_tests::harness::weir::Weir;

/// Without the token nothing but health and the page; with it, everything; and never from another
/// site.
#[test]
fn only_who_may_comes_in() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let bearer = format!("Bearer {}", weir.token);
    let host = weir.addr.to_string();
    let get = |path: &str, headers: &[(&str, &str)]| {
        request_once(weir.addr, "GET", path, headers, b"").unwrap().status
    };
    assert_eq!(get("/healthz", &[]), 200);
    assert_eq!(get("/readyz", &[]), 200);
    for path in ["/api/v1/scripts", "/api/v1/stats", "/api/v1/live", "/metrics"] {
        assert_eq!(get(path, &[]), 401, "{path}");
        assert_eq!(get(path, &[("Authorization", "Bearer wrong")]), 401, "{path}");
    }
    assert_eq!(get("/api/v1/scripts", &[("Authorization", &bearer)]), 200);
    assert_eq!(get("/metrics", &[("Authorization", &bearer)]), 200);
    let foreign = format!("http://evil.example:{}", weir.addr.port());
    for header in [("Host", "evil.example"), ("Origin", foreign.as_str())] {
        let status = get("/api/v1/scripts", &[("Authorization", &bearer), header]);
        assert_eq!(status, 403, "{header:?}");
    }
    let own = format!("http://{host}");
    assert_eq!(get("/api/v1/scripts", &[("Authorization", &bearer), ("Origin", &own)]), 200);
    assert_eq!(get("/api/v1/nothing", &[("Authorization", &bearer)]), 404);
}

/// The login exchange sets a cookie that scripts cannot read, and state changes want JSON.
#[test]
fn login_and_content_type() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        request_once(weir.addr, "POST", path, headers, body.as_bytes()).unwrap()
    };
    let json = ("Content-Type", "application/json");
    let body = format!("{{\"token\":\"{}\"}}", weir.token);
    let login = post("/api/v1/login", &[json], &body);
    assert_eq!(login.status, 204, "{}", login.text());
    let cookie = login.header("set-cookie").unwrap().to_string();
    for part in ["HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(post("/api/v1/login", &[json], "{\"token\":\"x\"}").status, 401);
    let pair = cookie.split(';').next().unwrap();
    let check = "{\"text\":\"import px\\npx.display(px.DataFrame('http_events'))\"}";
    assert_eq!(post("/api/v1/check", &[json, ("Cookie", pair)], check).status, 200);
    let plain = [("Content-Type", "text/plain"), ("Cookie", pair)];
    assert_eq!(post("/api/v1/check", &plain, check).status, 415);
    let wrong = post(
        "/api/v1/check",
        &[json, ("Cookie", pair)],
        "{\"text\":\"import px\\npx.display(1)\"}",
    );
    assert!(wrong.text().contains("\"ok\":false"), "{}", wrong.text());
    assert_eq!(post("/api/v1/run", &[json, ("Cookie", pair)], "{").status, 400);
}

/// A panic in an operator and one in a view's actor end that view alone: its reader is told, another
/// view goes on, and the server takes new ones.
#[test]
fn a_panic_ends_its_view_only() {
    let weir = Weir::start(&["--trace", "port:1", "--test-faults"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, filter: &str, output: &str| {
        let text = format!(
            "import px\ndf = px.DataFrame('process_stats', start_time='-1m')\n{filter}\
             px.display(df.groupby('upid').agg(n=('time_', px.count)), '{output}')\n"
        );
        put(dir.path(), name, &text)
    };
    let good = write("good.pxl", "", "processes");
    let bad = write("bad.pxl", "df.x = '__weir_test_panic__'\ndf = df[df.x != '']\n", "bad");
    let actor = write("actor.pxl", "", "__weir_test_actor_panic__");
    let deadline = Duration::from_secs(60);
    let mut live = weir.live(&good, &["--refresh", "200ms"]).unwrap();
    live.wait_for(deadline, |view| !view.rows("processes").is_empty()).unwrap();
    for script in [&bad, &actor] {
        let failed = weir.run(&["run", script], deadline).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    }
    let before = live.view.frontiers.len();
    live.wait_for(deadline, |view| view.frontiers.len() > before + 3).unwrap();
    let again = weir.run(&["run", &good], deadline).unwrap();
    assert!(again.status.success(), "{again:?}");
}

/// Views of two scripts that begin alike read one feed, and `queries` says so; the feed outlives its
/// first reader and not its last. Catches a server that installs per script what they have in common.
#[test]
fn views_share_their_feed() {
    let weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, rest: &str| {
        let text = format!(
            "import px\ndf = px.DataFrame('process_stats', start_time='-1m')\n\
             df = df.groupby('upid').agg(n=('time_', px.count))\n{rest}px.display(df, 'out')\n"
        );
        put(dir.path(), name, &text)
    };
    let deadline = Duration::from_secs(60);
    let refresh = ["--refresh", "200ms"];
    let listed = || -> serde_json::Value {
        serde_json::from_str(&weir.get("/api/v1/queries").unwrap().text()).unwrap()
    };
    // A reader that goes is noticed a little later.
    let becomes = |what: &dyn Fn(&serde_json::Value) -> bool| {
        let seen = (0..600).any(|_| {
            std::thread::park_timeout(Duration::from_millis(100));
            what(&listed())
        });
        assert!(seen, "{}", listed());
    };
    let mut first = weir.live(&write("all.pxl", ""), &refresh).unwrap();
    first.wait_for(deadline, |view| !view.rows("out").is_empty()).unwrap();
    let mut second = weir.live(&write("more.pxl", "df.m = df.n + 1\n"), &refresh).unwrap();
    second.wait_for(deadline, |view| !view.rows("out").is_empty()).unwrap();
    let answer = listed();
    let queries = answer["queries"].as_array().unwrap();
    assert_eq!(queries.len(), 2, "{answer}");
    assert_eq!(queries[0]["feeds"], queries[1]["feeds"], "{answer}");
    let feeds = answer["feeds"].as_array().unwrap();
    assert_eq!(feeds.len(), 1, "{answer}");
    assert_eq!(feeds[0]["readers"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(feeds[0]["tables"], serde_json::json!(["process_stats"]));
    assert!(feeds[0]["state_bytes"].as_u64() > Some(0), "{answer}");

    first.interrupt().unwrap();
    let before = second.view.frontiers.len();
    second.wait_for(deadline, |view| view.frontiers.len() > before + 3).unwrap();
    becomes(&|now| now["feeds"][0]["readers"].as_array().map(Vec::len) == Some(1));
    second.interrupt().unwrap();
    becomes(&|now| now["feeds"].as_array().map(Vec::len) == Some(0));
}
