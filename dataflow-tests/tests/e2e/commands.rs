//! The command line as people meet it: what goes wrong says what to do, and nothing stays behind.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use weir_dataflow_tests::harness::process::{Signal, send};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{Weir, binary, run};

const DEADLINE: Duration = Duration::from_secs(60);

/// Each wrong input: its exit status, and what the message must say.
#[test]
fn wrong_input_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let script = dir.path().join("typo.pxl");
    std::fs::write(
        &script,
        "import px\ndf = px.DataFrame('http_events')\npx.display(df[df.req_pth == '/'])\n",
    )
    .unwrap();
    let script = script.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["up", "--listen", &address, "--data-dir", data_dir], 1, "another program"),
        (&["up", "--listen", "nonsense"], 2, "ADDR:PORT"),
        (&["up", "--listen", "0.0.0.0:0"], 2, "--insecure-no-auth"),
        (&["run", "px/http_data", "--server", "http://127.0.0.1:1"], 3, "weir up"),
        (&["check", script], 1, "req_path"),
        (&["check", "/nonexistent"], 2, "/nonexistent"),
        (&["frobnicate"], 2, "frobnicate"),
    ];
    for (args, status, part) in cases {
        let output = run(args, DEADLINE).unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {output:?}");
        let said = [output.stdout.join("\n"), output.stderr.join("\n")].join("\n");
        assert!(said.contains(part), "{args:?} does not say `{part}`: {said}");
        assert!(!said.contains('\u{1b}'), "no colour where nobody looks: {said:?}");
    }
}

/// A reader that stopped reading does not keep `live` alive when it is interrupted: catches a command
/// that looks at signals only between two lines, and blocks in the middle of one.
#[test]
fn an_interrupted_command_ends_though_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: i64| {
        let time = 1_767_225_600_000_000_000 + n * 1_000_000;
        format!("{{\"time_\":{time},\"req_body\":\"{}\"}}\n", "x".repeat(400))
    };
    let rows: String = (0..2_000).map(row).collect();
    std::fs::write(dir.path().join("http_events.jsonl"), rows).unwrap();
    let script = dir.path().join("all.pxl");
    std::fs::write(&script, "import px\npx.display(px.DataFrame('http_events'))\n").unwrap();
    let mut live = std::process::Command::new(binary().unwrap())
        .args(["live", script.to_str().unwrap(), "-o", "jsonl", "--rows"])
        .arg(dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // More than a pipe holds is on its way once the first byte is there.
    let mut first = [0];
    live.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    send(Signal::Interrupt, &live.id().to_string()).unwrap();
    let ended = wait_until(DEADLINE, || live.try_wait().unwrap());
    live.kill().unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(130));
}

/// A server keeps its directory private and to itself, keeps its token, and stops in order.
#[test]
fn starts_and_stops_in_order() {
    let mut weir = Weir::start(&["--trace", "port:1"]).unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(weir.data_dir()), 0o700);
    assert_eq!(mode(&weir.data_dir().join("token")), 0o600);
    let data_dir = weir.data_dir().to_str().unwrap().to_string();
    let second =
        run(&["up", "--listen", "127.0.0.1:0", "--data-dir", &data_dir], DEADLINE).unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(second.stderr.join("\n").contains("another server"), "{second:?}");
    assert!(weir.is_running());
    let login = weir.log().iter().any(|line| line.contains(&format!("#token={}", weir.token)));
    assert!(login, "the login link is on stderr: {:?}", weir.log());
    let token = weir.token.clone();
    let (status, dir) = weir.stop(Signal::Terminate).unwrap();
    assert_eq!(status.code(), Some(0));
    let again = Weir::start_in(dir, &["--trace", "port:1"]).unwrap();
    assert_eq!(again.token, token, "the token is kept over restarts");
}

/// What needs no server works without one.
#[test]
fn lists_without_a_server() {
    for (args, part) in [
        (&["scripts", "list", "-o", "jsonl"][..], "px/http_data"),
        (&["schema", "http_events", "-o", "json"], "resp_status"),
        (&["funcs", "quantiles", "-o", "json"], "quantiles"),
        (&["explain", "px/http_request_stats"], "http_events"),
    ] {
        let output = run(args, DEADLINE).unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(output.stdout.join("\n").contains(part), "{args:?}: {output:?}");
    }
}
