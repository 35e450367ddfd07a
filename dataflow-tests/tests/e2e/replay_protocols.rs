//! Captures of real servers and their clients, protocol by protocol: rows are what the clients did.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_dataflow_tests::harness::free_port;
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::{Process, Signal};
use weir_dataflow_tests::harness::weir::{binary, output_of};

use crate::can_capture;
use crate::replay::{SNIFF, counters, replay, rows};

const DEADLINE: Duration = Duration::from_secs(120);

/// `client.py PORT FILE COMMANDS`: runs commands, a JSON array of arrays, one after the other.
const RUNS: &str = r#"
import json, subprocess
for command in json.loads(sys.argv[3]):
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
    drain()
end()
"#;

/// `client.py PORT FILE CONNECTIONS`: asks for paths over HTTP/2, those of a connection all at once; odd ones
/// with their path in the table of fields.
const ASKS: &str = r#"
import json
def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, 'big') + bytes([kind, flags]) + stream.to_bytes(4, 'big') + payload
def text(value):
    return bytes([len(value)]) + value.encode()
for paths in json.loads(sys.argv[3]):
    connection = socket.create_connection(('127.0.0.1', port))
    asked = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + frame(4, 0, 0, b'')
    for number, path in enumerate(paths):
        field = (b'\x44' if number % 2 else b'\x04') + text(path)
        block = b'\x82\x86' + field + b'\x01' + text('127.0.0.1:%d' % port) + b'\x0f\x2b' + text('asks/1')
        asked += frame(1, 5, 2 * number + 1, block)
    connection.sendall(asked)
    heard, ended = b'', 0
    while ended < len(paths):
        heard += connection.recv(65536)
        while len(heard) >= 9 and len(heard) >= 9 + int.from_bytes(heard[:3], 'big'):
            length = int.from_bytes(heard[:3], 'big')
            ended += heard[3] in (0, 1) and heard[4] & 1
            heard = heard[9 + length:]
    connection.close()
    drain()
end()
"#;

/// nginx with HTTP/2 on one port, in the clear or within TLS.
fn nginx(dir: &Path, port: u16, is_tls: bool) -> Process {
    let at = dir.display();
    let tls = match is_tls {
        true => {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3"]);
            openssl.args(["-subj", "/CN=a.example", "-keyout"]).arg(dir.join("key.pem"));
            openssl.arg("-out").arg(dir.join("cert.pem"));
            assert!(output_of(openssl, DEADLINE).unwrap().status.success());
            format!(
                "ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; \
                     ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519;"
            )
        }
        false => String::new(),
    };
    let ssl = if is_tls { "ssl" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name}; "))
        .concat();
    let text = format!(
        "daemon off; pid {at}/pid; worker_processes 1; events {{}} http {{ access_log off; {temporary} \
         server {{ listen 127.0.0.1:{port} {ssl} http2; {tls} \
         location /missing {{ return 404 \"nothing\"; }} location / {{ return 200 \"hello $uri\"; }} }} }}"
    );
    std::fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    let mut process = Process::start(command).unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    process.wait_ready(DEADLINE, |_| TcpStream::connect(addr).ok()).unwrap();
    process
}

/// The rows of what a program has a server do, and what was counted.
fn rows_of(dir: &Path, port: u16, program: &str, what: &Json) -> (Vec<Json>, Json) {
    let file = dir.join("packets.pcap");
    let mut client = Command::new("python3");
    client.args(["-c", &[SNIFF, program].concat(), &port.to_string()]).arg(&file);
    client.arg(what.to_string());
    let said = output_of(client, DEADLINE).unwrap();
    assert!(said.status.success(), "{said:?}");
    let out = dir.join("rows");
    let output = replay(&[&file], &["--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    (rows(&out.join("packets.pcap.jsonl")), counters(&output))
}

/// What a server's clients did while it was recorded is what its recording gives, once, and masked values
/// are not in the file.
#[test]
fn recordings() {
    if !can_capture() {
        return;
    }
    let server = Nginx::start(NginxOptions::default()).unwrap();
    let (dir, port) = (tempfile::tempdir().unwrap(), server.addr.port());
    let file = dir.path().join("events.weir");
    let mut command = Command::new(binary().unwrap());
    command.arg("record").arg(&file).args([
        "--trace",
        &format!("port:{port}"),
        "--redact",
        "secrets",
    ]);
    let mut recorder = Process::start(command).unwrap();
    recorder
        .wait_ready(DEADLINE, |process| {
            process.stderr.all().iter().any(|line| line.contains("recording")).then_some(())
        })
        .unwrap();
    for number in 0..30 {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-H",
            "X-Api-Key: hidden-word",
            &format!("http://127.0.0.1:{port}/n/{number}"),
        ]);
        assert!(output_of(curl, DEADLINE).unwrap().status.success());
    }
    assert!(recorder.stop(Signal::Interrupt, DEADLINE).unwrap().success());
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"hidden-word"), "it is masked");
    let out = dir.path().join("rows");
    let output = replay(&[&file], &["--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let rows = rows(&out.join("events.weir.jsonl"));
    let paths: Vec<&str> = rows.iter().map(|row| row["req_path"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..30).map(|number| format!("/n/{number}")).collect();
    assert_eq!(paths, expected, "{}", counters(&output));
    for row in &rows {
        assert_eq!((&row["trace_role"], &row["local_port"]), (&2.into(), &port.into()));
        assert_eq!(row["upid"], "00000000-0000-0000-0000-000000000000");
    }
}

/// Requests over HTTP/2, many at once on one connection: each is a row with its own answer.
#[test]
fn http2() {
    if !can_capture() {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let _server = nginx(dir.path(), port, false);
    let path = |number: usize| match number % 5 {
        0 => format!("/missing/{number}"),
        _ => format!("/n/{number}"),
    };
    let paths = |numbers: std::ops::Range<usize>| numbers.map(path).collect::<Vec<_>>();
    let asked = json!([paths(0..40), paths(40..41), paths(41..81)]);
    let (mut rows, counted) = rows_of(dir.path(), port, ASKS, &asked);
    assert_eq!(rows.len(), 81, "{counted}");
    let number = |row: &Json| {
        let path = row["req_path"].as_str().unwrap();
        path.rsplit('/').next().unwrap().parse::<usize>().unwrap()
    };
    rows.sort_by_key(number);
    for (at, row) in rows.iter().enumerate() {
        let (path, is_missing) = (path(at), at.is_multiple_of(5));
        let body = if is_missing { "nothing".to_string() } else { format!("hello {path}") };
        assert_eq!(row["req_path"], path.as_str());
        assert_eq!((&row["major_version"], &row["minor_version"]), (&2.into(), &0.into()));
        assert_eq!(row["resp_status"], if is_missing { 404 } else { 200 });
        assert_eq!((&row["resp_body"], &row["resp_message"]), (&body.as_str().into(), &"".into()));
        assert_eq!(row["resp_body_size"], body.len());
        assert_eq!(row["local_port"], port);
        let headers: Json = serde_json::from_str(row["req_headers"].as_str().unwrap()).unwrap();
        assert_eq!(headers[":authority"], format!("127.0.0.1:{port}"));
        assert_eq!(headers["user-agent"], "asks/1");
    }
    assert_eq!(counted["tables"]["http_events"]["lost"], json!({}));
}

/// TLS 1.3 and 1.2, with the names and protocols that clients ask for, and a client that does not trust
/// the server.
#[test]
fn tls() {
    if !can_capture() {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let _server = nginx(dir.path(), port, true);
    let curl = |more: &[&str]| {
        let url = format!("https://a.example:{port}/");
        let resolve = format!("a.example:{port}:127.0.0.1");
        let words = ["curl", "-s", "--resolve", &resolve].map(str::to_string);
        words
            .into_iter()
            .chain(more.iter().map(ToString::to_string))
            .chain([url])
            .collect::<Vec<_>>()
    };
    let commands = json!([
        curl(&["-k"]),
        curl(&["-k", "--tls-max", "1.2", "--http1.1"]),
        curl(&["--tls-max", "1.2"]),
        curl(&["-k", "--tls-max", "1.1", "--tlsv1.0", "--ciphers", "DEFAULT@SECLEVEL=0"]),
    ]);
    let (rows, counted) = rows_of(dir.path(), port, RUNS, &commands);
    let body = |row: &Json, column: &str| -> Json {
        serde_json::from_str(row[column].as_str().unwrap()).unwrap()
    };
    let all: Vec<(Json, Json)> =
        rows.iter().map(|row| (body(row, "req_body"), body(row, "resp_body"))).collect();
    assert_eq!(rows.len(), 4, "{rows:?} {counted}");
    for (row, (asked, _)) in rows.iter().zip(&all) {
        assert_eq!(row["_tableName_"], "tls_events");
        assert_eq!((&row["req_type"], &asked["sni"]), (&22.into(), &"a.example".into()));
        assert!(row.get("encrypted").is_none() && row["latency"].as_i64().unwrap() > 0, "{row}");
    }
    let [newest, older, doubting, oldest] = &all[..] else { panic!("{all:?}") };
    assert_eq!(newest.0["alpn"], json!(["h2", "http/1.1"]));
    assert_eq!(
        (&newest.0["versions"][0], &newest.1["version"]),
        (&"TLS1.3".into(), &"TLS1.3".into())
    );
    assert!(
        newest.1.get("alpn").is_none() && newest.1["cipher"].as_str().unwrap().starts_with("0x13")
    );
    assert_eq!((&older.0["alpn"], &older.1["alpn"]), (&json!(["http/1.1"]), &"http/1.1".into()));
    assert_eq!((&older.1["version"], older.1.get("alert")), (&"TLS1.2".into(), None));
    // Unknown authority, or a certificate of one's own.
    assert!([48, 18].map(Json::from).contains(&doubting.1["alert"]), "{doubting:?}");
    assert_eq!(oldest.1, json!({"alert": 70}), "{oldest:?}");
}
