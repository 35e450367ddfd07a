//! What alert rules would have done over traffic of the past: over a capture, and over what a server still holds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::{Process, Signal};
use weir_dataflow_tests::harness::weir::{Weir, binary, run};
use weir_dataflow_tests::harness::{pause, wait_until};

use weir_types::{Clock as _, WallClock};

use crate::can_capture;
use crate::replay::capture;

const DEADLINE: Duration = Duration::from_secs(120);

/// Requests that failed, by path; and one that never fires. Over a view that the file records.
fn rules(dir: &Path, window: &str) -> String {
    let text = format!(
        "groups:\n- name: shop\n  rules:\n  - record: shop:failed\n    expr: |\n      \
         import px\n      df = px.DataFrame('http_events', start_time='-{window}')\n      \
         df = df[df.resp_status >= 500]\n      \
         px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n  \
         - alert: Failing\n    expr: |\n      import px\n      df = px.DataFrame('shop:failed')\n      \
         px.display(df[df.value > 0])\n  \
         - alert: Never\n    expr: |\n      import px\n      df = px.DataFrame('shop:failed')\n      \
         px.display(df[df.value > 1000000])\n    for: 1s\n"
    );
    let file = dir.join("shop.yml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_string()
}

/// What a client of a real server was refused is what would have fired over a capture of it, each alert once; for
/// people it says how often. A file that is no capture is an error.
#[test]
fn over_a_capture() {
    if !can_capture() {
        return;
    }
    let captured = capture();
    let failed = captured.asked.iter().filter(|asked| asked[3].as_i64().unwrap() >= 500).count();
    assert!(failed > 10, "the client asked for what fails");
    let rules = rules(captured.dir.path(), "1s");
    let pcap = captured.file.to_str().unwrap();
    let output = run(&["rules", "test", &rules, "--pcap", pcap, "-o", "jsonl"], DEADLINE).unwrap();
    assert!(output.status.success(), "{output:?}");
    let [failing, never] = output.json_lines().try_into().unwrap();
    assert_eq!(failing["rule"], "Failing");
    assert_eq!(failing["fired"].as_u64().unwrap() as usize, failed, "{failing}");
    let fired = failing["fired"].as_u64().unwrap();
    let over = failing["resolved"].as_u64().unwrap() + failing["firing"].as_u64().unwrap();
    assert_eq!(fired, over, "each ended, or fires in the end");
    let mut paths: Vec<&str> = failing["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["what"] == "firing")
        .map(|event| event["labels"]["req_path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    let mut wanted: Vec<&str> = captured
        .asked
        .iter()
        .filter(|asked| asked[3].as_i64().unwrap() >= 500)
        .map(|asked| asked[1].as_str().unwrap())
        .collect();
    wanted.sort_unstable();
    assert_eq!(paths, wanted);
    assert_eq!((&never["fired"], &never["pending"]), (&0.into(), &0.into()));

    let shown = run(&["rules", "test", &rules, "--pcap", pcap, "-o", "table"], DEADLINE).unwrap();
    let text = shown.stdout.join("\n");
    assert!(text.contains(&format!("Failing: would have fired {failed} times from ")), "{text}");
    assert!(text.contains("Never: would not have fired from "), "{text}");
    let output = run(&["rules", "test", &rules, "--pcap", &rules], DEADLINE).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// The same over a recording of `weir record`: each path of a real server that failed meanwhile fires once, what was well
/// does not, and it says since when. Catches a recording that rules see nothing in.
#[test]
fn over_a_recording() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.weir");
    let mut command = Command::new(binary().unwrap());
    command.arg("record").arg(&file).args(["--trace", &format!("port:{}", nginx.addr.port())]);
    let mut recorder = Process::start(command).unwrap();
    let is_ready = |process: &Process| {
        process.stderr.all().iter().any(|line| line.contains("recording")).then_some(())
    };
    recorder.wait_ready(DEADLINE, is_ready).unwrap();
    let failing: Vec<String> = (0..4).map(|n| format!("/error?n={n}")).collect();
    let load = Load {
        addr: nginx.addr,
        paths: [&["/ok".to_string()], &failing[..]].concat(),
        requests: 10,
        requests_per_sec: 20,
        connections: 1,
        keep_alive: false,
    };
    let from_ns = WallClock.now_unix_ns();
    assert_eq!(run_load(&load).len(), 10);
    let to_ns = WallClock.now_unix_ns();
    assert!(recorder.stop(Signal::Interrupt, DEADLINE).unwrap().success());

    let rules = rules(dir.path(), "10m");
    let file = file.to_str().unwrap();
    let output = run(&["rules", "test", &rules, "--pcap", file, "-o", "jsonl"], DEADLINE).unwrap();
    assert!(output.status.success(), "{output:?}");
    let [failed, never] = output.json_lines().try_into().unwrap();
    let events = failed["events"].as_array().unwrap();
    let mut paths: Vec<&str> =
        events.iter().map(|event| event["labels"]["req_path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, failing, "{failed}");
    // As the refresh after it: five a second, of which one may be under way.
    let meanwhile = from_ns..to_ns + 400_000_000;
    for event in events {
        assert_eq!(event["what"], "firing", "{failed}");
        let at = weir_types::json::parse_time(event["at"].as_str().unwrap()).unwrap();
        assert!(meanwhile.contains(&at), "{event} of {meanwhile:?}");
    }
    assert_eq!((&failed["fired"], &failed["firing"]), (&4.into(), &4.into()), "{failed}");
    assert_eq!(never["fired"], 0, "{never}");
}

/// What a `file` sink has kept as Parquet answers questions about any time since, after its server is gone: as of a moment
/// between two loads the script knows the first one only, in its window, and later both; so does a bundled script, as the
/// how-to has it. Catches `--now` that looks at rows of its future, and a window that ends elsewhere.
#[test]
fn kept_rows_answer_as_of_then() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("weir.yaml");
    let page = include_str!("../../../docs/howto/send-results-on.md");
    let (_, rest) = page.split_once("## Asking about yesterday").unwrap();
    let (_, rest) = rest.split_once("```yaml\n").unwrap();
    let (sink, rest) = rest.split_once("```").unwrap();
    std::fs::write(&config, sink.replace("timeout: 60s", "timeout: 200ms")).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let weir = Weir::start(&["--trace", &trace, "--config", config.to_str().unwrap()]).unwrap();
    let kept = dir.path().join("kept");
    let script = dir.path().join("paths.pxl");
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-10s')\n\
                df = df[df.trace_role == 2]\n\
                px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";
    std::fs::write(&script, text).unwrap();
    let ask = |script: &str, now_unix_ns: i64| {
        let now = weir_types::json::time_text(now_unix_ns);
        let args = ["run", script, "--rows", kept.to_str().unwrap(), "--now", &now, "-o", "jsonl"];
        let output = run(&args, DEADLINE).unwrap();
        (output.status.success(), output.json_lines())
    };
    let counts = |now_unix_ns: i64| {
        let (_, rows) = ask(script.to_str().unwrap(), now_unix_ns);
        let mut rows: Vec<(String, i64)> = rows
            .iter()
            .map(|row| (row["req_path"].as_str().unwrap().to_string(), row["n"].as_i64().unwrap()))
            .collect();
        rows.sort();
        rows
    };
    let load = |path: &str, requests: usize| {
        assert_eq!(run_load(&Load::of(nginx.addr, path, requests)).len(), requests);
        // `--now` counts whole milliseconds.
        WallClock.now_unix_ns() + 1_000_000
    };
    let (before, first) = (WallClock.now_unix_ns(), load("/one", 20));
    pause(Duration::from_secs(1));
    let both = load("/two", 15);
    let (one, two) = (("/one".to_string(), 20), ("/two".to_string(), 15));
    let is_there = || (counts(both) == [one.clone(), two.clone()]).then_some(());
    assert!(wait_until(DEADLINE, is_there).is_some(), "{:?} {:#?}", counts(both), weir.log());
    let (stopped, _data) = weir.stop(Signal::Terminate).unwrap();
    assert!(stopped.success());

    let second = 1_000_000_000;
    assert_eq!(counts(before), []);
    assert_eq!(counts(first), std::slice::from_ref(&one));
    assert_eq!(counts(both), [one, two.clone()]);
    assert_eq!(counts(first + 10 * second + second / 2), [two], "its window has left the first");
    assert_eq!(counts(both + 11 * second), []);
    // The command of the page, at a time of ours.
    let (_, command) = rest.split_once("```sh\n").unwrap();
    let words: Vec<&str> = command.lines().next().unwrap().split(' ').collect();
    assert_eq!(
        [words[0], words[1], words[3], words[4], words[5]],
        ["weir", "run", "--rows", "kept", "--now"]
    );
    let (success, rows) = ask(words[2], first);
    let of = |path: &str| rows.iter().filter(|row| row["req_path"] == path).count();
    assert!(success && of("/one") >= 20 && of("/two") == 0, "{rows:#?}");
}

/// On a server that never had the rule: what it holds of the past tells that it would have fired, when, and that it
/// was over as the window slid. Catches looks at the past that are about now.
#[test]
fn over_what_a_server_holds() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let weir = Weir::start(&["--trace", &format!("port:{}", nginx.addr.port())]).unwrap();
    let load = Load {
        addr: nginx.addr,
        paths: vec!["/error".to_string()],
        requests: 20,
        requests_per_sec: 20,
        connections: 1,
        keep_alive: true,
    };
    let began_ns = WallClock.monotonic_ns();
    assert_eq!(run_load(&load).len(), 20);
    // A second, where nothing keeps it from being one.
    let load_s = ((WallClock.monotonic_ns() - began_ns) / 1_000_000_000) as i64;
    let dir = tempfile::tempdir().unwrap();
    let rules = rules(dir.path(), "4s");
    let looks = ["rules", "test", &rules, "--last", "40s", "--step", "1s", "-o", "jsonl"];
    let report = wait_until(DEADLINE, || {
        let output = weir.run(&looks, DEADLINE).unwrap();
        assert!(output.status.success(), "{output:?}");
        let reports = output.json_lines();
        (reports[0]["resolved"] == 1).then_some(reports)
    });
    let [failing, never] = report.expect("it resolves").try_into().unwrap();
    assert_eq!((&failing["fired"], &failing["firing"]), (&1.into(), &0.into()), "{failing}");
    assert_eq!(never["fired"], 0, "{never}");
    assert_eq!(failing["looks"], 41, "{failing}");
    let events = failing["events"].as_array().unwrap();
    let whats: Vec<&str> = events.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["firing", "resolved"], "{failing}");
    let at = |event: &Json| weir_types::json::parse_time(event["at"].as_str().unwrap()).unwrap();
    let fired_for_s = (at(&events[1]) - at(&events[0])) / 1_000_000_000;
    // An answer that is not complete leaves an alert as it is, for the second until the next look.
    let held_s = failing["incomplete"].as_i64().unwrap();
    let most = 6 + load_s.max(1) + held_s;
    assert!(
        (4..=most).contains(&fired_for_s),
        "{load_s} s of requests in a window of 4: {failing}"
    );

    let script = dir.path().join("failed.pxl");
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-4s')\n\
                df = df[df.resp_status >= 500]\n\
                px.display(df.groupby('req_path').agg(n=('latency', px.count)))\n";
    std::fs::write(&script, text).unwrap();
    let add = ["alerts", "add", "Fails", "--script", script.to_str().unwrap(), "--when", "n > 0"];
    let add = [&add[..], &["--dry-run", "--last", "90s"]].concat();
    let output = weir.run(&add, DEADLINE).unwrap();
    let text = output.stdout.join("\n");
    assert!(text.contains("alert: \"Fails\""), "{output:?}");
    assert!(text.contains("Fails: would have fired once from "), "{output:?}");
    assert!(std::fs::read_dir(dir.path()).unwrap().count() == 2, "nothing was written");
    drafts(
        &weir,
        &std::fs::read_to_string(&script).unwrap(),
        &std::fs::read_to_string(&rules).unwrap(),
    );
}

/// A draft, as the page asks for it, would have done the same, as a script with a condition and as a rule file; of one
/// that is wrong the finding has its part and line.
fn drafts(weir: &Weir, text: &str, rules: &str) {
    let ask = |body: Json| {
        let answer = weir.post("/api/v1/alerts/preview", &body).unwrap();
        (answer.status, serde_json::from_slice::<Json>(&answer.body).unwrap())
    };
    let script = |when: &str, hold: &str| serde_json::json!({"text": text, "when": when, "for": hold, "last_s": 110});
    let (status, said) = ask(script("n > 0", "1s"));
    assert_eq!((status, &said["rules"][0]["fired"]), (200, &1.into()), "{said}");
    assert!(said["text"].as_str().unwrap().contains("df[df.n > 0]"), "{said}");
    let (status, said) = ask(serde_json::json!({"rules": rules, "last_s": 110}));
    assert_eq!((status, said["rules"].as_array().map(Vec::len)), (200, Some(2)), "{said}");
    assert_eq!((&said["rules"][0]["fired"], &said["rules"][1]["fired"]), (&1.into(), &0.into()));
    let wrong = rules.replace("> 1000000", "> nope");
    let line = 1 + wrong.lines().position(|line| line.contains("nope")).unwrap();
    let only = serde_json::json!({"rule": 1, "rules": rules});
    for (body, file, line) in [
        (script("nope > 0", ""), "when", Some(1)),
        (script("n > 0", "soon"), "for", Some(1)),
        (serde_json::json!({"text": "import px\npx.nope()\n", "when": "n > 0"}), "script", Some(2)),
        (serde_json::json!({"rules": wrong}), "rules", Some(line)),
        (serde_json::json!({"rules": "groups: ["}), "rules", Some(1)),
        (serde_json::json!({"rules": "groups: []"}), "rules", Some(0)),
        (only, "", None),
    ] {
        let (status, said) = ask(body);
        assert_eq!(status, 400, "{file}: {said}");
        let first = &said["error"]["diagnostics"][0];
        assert_eq!(first["line"].as_u64(), line.map(|line| line as u64), "{file}: {said}");
        assert!(line.is_none() || first["file"] == file, "{file}: {said}");
    }
}

/// What the nodes keep of a rule's long window tells what it would have done though history has nothing of that time any
/// more: no window of seconds finds those requests then, and the rule does. Catches looks at the past that end where
/// history does.
#[test]
fn over_what_is_kept_on_disk() {
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = rules(dir.path(), "301s");
    let config = dir.path().join("weir.yaml");
    std::fs::write(&config, format!("rules: ['{file}']\n")).unwrap();
    let trace = format!("port:{}", nginx.addr.port());
    let config = config.to_str().unwrap();
    let weir =
        Weir::start(&["--trace", &trace, "--config", config, "--history-bytes", "4MiB"]).unwrap();
    let load = |path: &str, requests: usize, connections: usize| {
        let (paths, keep_alive) = (vec![path.to_string()], true);
        let requests_per_sec = if connections > 1 { 2_000 } else { 20 };
        let addr = nginx.addr;
        let load = Load { addr, paths, requests, requests_per_sec, connections, keep_alive };
        assert_eq!(run_load(&load).len(), requests);
    };
    let pane_ns = 10_000_000_000;
    let now_ns = || WallClock.now_unix_ns();
    // All of these in one pane, which has room for them yet.
    let has_room = || (now_ns() % pane_ns < pane_ns / 2).then_some(());
    wait_until(DEADLINE, has_room).expect("time passes");
    let at = (now_ns() / pane_ns + 1) * pane_ns;
    load("/error", 20, 1);
    let failed_then = |window: &str| {
        let text = format!(
            "import px\ndf = px.DataFrame('http_events', start_time='-{window}')\n\
             df = df[df.resp_status >= 500]\n\
             px.display(df.groupby('req_path').agg(value=('latency', px.count)))\n"
        );
        let body = serde_json::json!({"text": text, "at_unix_ns": at});
        let answer = weir.post("/api/v1/run", &body).unwrap();
        let answer: Json = serde_json::from_slice(&answer.body).unwrap();
        let messages = answer["messages"].as_array().unwrap();
        assert!(messages.iter().all(|message| message["type"] != "error"), "{messages:?}");
        let changes = messages.iter().filter(|message| message["type"] == "changes");
        changes.map(|message| message["rows"].as_array().unwrap().len()).sum::<usize>()
    };
    let gone = wait_until(DEADLINE, || {
        load("/", 4_000, 8);
        (now_ns() > at + pane_ns / 2 && failed_then("20s") == 0).then_some(())
    });
    gone.expect("history forgets");
    assert_eq!(failed_then("301s"), 1);

    let looks = ["rules", "test", &file, "--last", "60s", "--step", "10s", "-o", "jsonl"];
    let output = weir.run(&looks, DEADLINE).unwrap();
    assert!(output.status.success(), "{output:?}");
    let [failing, never] = output.json_lines().try_into().unwrap();
    assert_eq!((&failing["fired"], &failing["firing"]), (&1.into(), &1.into()), "{failing}");
    assert_eq!(failing["looks"], 7, "{failing}");
    let fired = weir_types::json::parse_time(failing["events"][0]["at"].as_str().unwrap()).unwrap();
    assert_eq!(fired, at, "{failing}");
    assert_eq!(never["fired"], 0, "{never}");
}
