//! Captures of packets: what `weir replay` gives of real traffic is what its client did.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::{Output, Weir, output_of, run};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(120);
const REQUESTS: usize = 300;

/// Puts what goes over the loopback from and to a port into a capture: `drain()` as it goes, `end()`.
pub(crate) const SNIFF: &str = r#"
import socket, struct, sys
port, path = int(sys.argv[1]), sys.argv[2]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
raw.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
raw.bind(('lo', 0))
raw.setblocking(False)
out = open(path, 'wb')
out.write(struct.pack('<IHHiIII', 0xa1b23c4d, 2, 4, 0, 0, 262144, 1))

def drain():
    while True:
        try:
            data, said, _, sender = raw.recvmsg(262144, 64)
        except BlockingIOError:
            return
        # Each packet goes out and comes in.
        if sender[2] == 4 or data[12:14] != b'\x08\x00' or data[23] != 6:
            continue
        if port not in struct.unpack_from('!HH', data, 34):
            continue
        second, ns = struct.unpack('qq', said[0][2])
        out.write(struct.pack('<IIII', second, ns, len(data), len(data)) + data)

def end():
    drain()
    dropped = struct.unpack('II', raw.getsockopt(263, 6, 8))[1]  # PACKET_STATISTICS
    assert dropped == 0, dropped
    out.close()
"#;

/// `client.py PORT FILE SEED COUNT`: asks a server of everything it has, and prints what it asked and got.
const CLIENT: &str = r#"
import http.client, json, random, time
seed, count = int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
connection = http.client.HTTPConnection('127.0.0.1', port)
for number in range(count):
    target = rng.choice(['/ok', '/missing', '/error', '/moved', '/big', '/other'])
    target += '?n=%d' % number
    method = rng.choice(['GET', 'GET', 'POST'])
    body = b'x' * rng.randrange(40000) if method == 'POST' else None
    begin = time.time_ns()
    connection.request(method, target, body)
    answer = connection.getresponse()
    size = len(answer.read())
    print(json.dumps([method, target, len(body or b''), answer.status, size, begin, time.time_ns()]))
    drain()
connection.close()
end()
"#;

/// A capture of a client of nginx, and what the client says.
pub(crate) struct Captured {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) file: PathBuf,
    pub(crate) asked: Vec<Json>,
}

pub(crate) fn capture() -> Captured {
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nginx.pcap");
    let mut client = Command::new("python3");
    client.args(["-c", &[SNIFF, CLIENT].concat(), &nginx.addr.port().to_string()]).arg(&file);
    client.args(["7", &REQUESTS.to_string()]);
    let said = output_of(client, DEADLINE).unwrap();
    assert!(said.status.success(), "{said:?}");
    nginx.quit().unwrap();
    Captured { asked: said.json_lines(), dir, file }
}

pub(crate) fn replay(files: &[&Path], more: &[&str]) -> Output {
    let mut args = vec!["replay"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    args.extend(more);
    run(&args, DEADLINE).unwrap()
}

pub(crate) fn rows(file: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last line on stderr.
pub(crate) fn counters(output: &Output) -> Json {
    serde_json::from_str(output.stderr.last().expect("counters")).unwrap()
}

/// The fields of a row that a client knows.
fn known(row: &Json) -> Json {
    let fields = ["req_method", "req_path", "req_body_size", "resp_status", "resp_body_size"];
    Json::Array(fields.map(|field| row[field].clone()).to_vec())
}

fn unix_ns(row: &Json) -> i64 {
    weir_types::json::parse_time(row["time_"].as_str().unwrap()).unwrap()
}

/// Each exchange of the client is one row, in its order, with every field that both know, seen from
/// the server, at a time that the client's clock agrees with; and each row has every column.
#[test]
fn rows_are_what_the_client_did() {
    if !can_capture() {
        return;
    }
    let Captured { dir, file, asked } = capture();
    let out = dir.path().join("rows");
    let output = replay(&[&file], &["--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let rows = rows(&out.join("nginx.pcap.jsonl"));
    assert_eq!(rows.len(), REQUESTS);
    let columns: Vec<&str> = std::iter::once("_tableName_")
        .chain(weir_types::tables::find("http_events").unwrap().columns.iter().map(|c| c.name))
        .collect();
    for (row, asked) in rows.iter().zip(&asked) {
        assert_eq!(known(row), Json::Array(asked.as_array().unwrap()[..5].to_vec()));
        assert_eq!(row.as_object().unwrap().len(), columns.len());
        assert_eq!(row["_tableName_"], "http_events");
        assert_eq!((&row["trace_role"], &row["encrypted"]), (&2.into(), &false.into()));
        assert_eq!(row["upid"], "00000000-0000-0000-0000-000000000000");
        let (begin, end) = (asked[5].as_i64().unwrap(), asked[6].as_i64().unwrap());
        let (time, latency) = (unix_ns(row), row["latency"].as_i64().unwrap());
        assert!(begin <= time - latency && latency >= 0 && time <= end, "{row} {asked}");
    }
    let text = std::fs::read_to_string(out.join("nginx.pcap.jsonl")).unwrap();
    let place = |column: &&str| text.find(&format!("\"{column}\":")).expect("every column");
    assert!(columns.iter().map(place).is_sorted(), "columns are in order");
    let counted = counters(&output);
    assert_eq!(counted["tables"]["http_events"]["rows"], REQUESTS);
    assert_eq!(counted["tables"]["http_events"]["lost"], serde_json::json!({}));
    assert_eq!(counted["tcp"]["missing_bytes"], 0);
}

/// A script sees the rows of all captures, its clock is the last packet's, and its answer is that of
/// the rows.
#[test]
fn scripts_run_over_captures() {
    if !can_capture() {
        return;
    }
    let Captured { dir, file, asked } = capture();
    let script = dir.path().join("s.pxl");
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-1h')\n\
        df.age = px.now() - df.time_\n\
        df = df.groupby('resp_status').agg(n=('latency', px.count), youngest=('age', px.min))\n\
        px.display(df, 'statuses')\n";
    std::fs::write(&script, text).unwrap();
    let output = replay(&[&file, &file], &["--script", script.to_str().unwrap(), "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    let mut expected = std::collections::BTreeMap::<i64, i64>::new();
    for asked in &asked {
        *expected.entry(asked[3].as_i64().unwrap()).or_default() += 2;
    }
    let mut answered = std::collections::BTreeMap::new();
    for row in output.json_lines() {
        answered.insert(row["resp_status"].as_i64().unwrap(), row["n"].as_i64().unwrap());
        let youngest = row["youngest"].as_i64().unwrap();
        assert!((0..60_000_000_000).contains(&youngest), "{row}");
    }
    assert_eq!(answered, expected);
    let wrong = dir.path().join("wrong.pxl");
    std::fs::write(&wrong, "import px\npx.display(px.DataFrame('http_evens'))\n").unwrap();
    let output = replay(&[&file], &["--script", wrong.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.iter().any(|line| line.contains("http_evens")), "{output:?}");
}

/// A cut capture gives what is before the cut and says so, what is no capture is refused and others
/// beside it are read, and a wrong command line is wrong usage.
#[test]
fn what_is_wrong_is_said() {
    if !can_capture() {
        return;
    }
    let Captured { dir, file, asked } = capture();
    let whole = std::fs::read(&file).unwrap();
    let cut = dir.path().join("cut.pcap");
    std::fs::write(&cut, &whole[..whole.len() * 6 / 10]).unwrap();
    let other = dir.path().join("text.pcap");
    std::fs::write(&other, "this is no capture").unwrap();
    let out = dir.path().join("out");
    let to = ["--out", out.to_str().unwrap()];
    let output = replay(&[&cut], &to);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.iter().any(|line| line.contains("warning")), "{output:?}");
    assert_eq!(counters(&output)["truncated"].as_array().unwrap().len(), 1);
    let before = rows(&out.join("cut.pcap.jsonl"));
    assert!(before.len() > REQUESTS / 10 && before.len() < REQUESTS, "{}", before.len());
    for (row, asked) in before.iter().zip(&asked) {
        assert_eq!((&row["req_path"], &row["resp_status"]), (&asked[1], &asked[3]));
    }
    let output = replay(&[&other, &file], &to);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.iter().any(|line| line.contains("no capture")), "{output:?}");
    assert_eq!(rows(&out.join("nginx.pcap.jsonl")).len(), REQUESTS);
    assert!(!out.join("text.pcap.jsonl").try_exists().unwrap());
    for (wrong, part) in [
        (&[][..], "--out"),
        (&["--out", to[1], "--loss", "2"], "--loss"),
        (&["--out", to[1], "--script", "px/http_data"], "--script"),
    ] {
        let output = replay(&[&file], wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(output.stderr.join("\n").contains(part), "{wrong:?}: {output:?}");
    }
    let missing = replay(&[Path::new("/nonexistent.pcap")], &to);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

/// Events that are dropped on purpose cost rows, never a wrong pair, and are counted; the same seed
/// drops the same.
#[test]
fn injected_loss_makes_no_wrong_pairs() {
    if !can_capture() {
        return;
    }
    let Captured { dir, file, asked } = capture();
    let with_seed = |seed: &str, name: &str| {
        let out = dir.path().join(name);
        let output =
            replay(&[&file], &["--out", out.to_str().unwrap(), "--loss", "0.05", "--seed", seed]);
        assert!(output.status.success(), "{output:?}");
        (rows(&out.join("nginx.pcap.jsonl")), counters(&output))
    };
    let (first, counted) = with_seed("1", "a");
    let (same, _) = with_seed("1", "b");
    let (other, _) = with_seed("2", "c");
    assert_eq!(first, same);
    assert_ne!(first, other);
    assert!(counted["events_dropped"].as_u64().unwrap() > 0);
    assert!(!counted["tables"]["http_events"]["lost"].as_object().unwrap().is_empty());
    assert!(first.len() > REQUESTS / 4 && first.len() < REQUESTS, "{}", first.len());
    for row in first.iter().chain(&other) {
        let asked = asked.iter().find(|asked| asked[1] == row["req_path"]).expect("it was asked");
        assert_eq!((&row["req_method"], &row["resp_status"]), (&asked[0], &asked[3]), "{row}");
    }
}

/// A server takes a capture as a source, at once or as it was made, and its scripts see what is in it
/// within their windows, next to nothing of what happens here.
#[test]
fn a_server_takes_captures() {
    if !can_capture() {
        return;
    }
    let Captured { dir, file, asked } = capture();
    let script = dir.path().join("s.pxl");
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n\
        df = df.groupby(['resp_status', 'trace_role']).agg(n=('latency', px.count))\n\
        px.display(df, 'statuses')\n";
    std::fs::write(&script, text).unwrap();
    let mut expected = std::collections::BTreeMap::<i64, i64>::new();
    for asked in &asked {
        *expected.entry(asked[3].as_i64().unwrap()).or_default() += 1;
    }
    for speed in ["full", "recorded"] {
        let weir = Weir::start(&["--pcap", file.to_str().unwrap(), "--pcap-speed", speed]).unwrap();
        let answered = wait_until(DEADLINE, || {
            let output =
                weir.run(&["run", script.to_str().unwrap(), "-o", "json"], DEADLINE).unwrap();
            assert!(output.status.success(), "{output:?}");
            let mut counts = std::collections::BTreeMap::new();
            for row in output.json_lines() {
                assert_eq!(row["trace_role"], 2);
                counts.insert(row["resp_status"].as_i64().unwrap(), row["n"].as_i64().unwrap());
            }
            (counts.values().sum::<i64>() >= REQUESTS as i64).then_some(counts)
        });
        assert_eq!(answered, Some(expected.clone()), "{speed}");
        let stats = weir.run(&["stats", "-o", "json"], DEADLINE).unwrap().json_lines();
        assert_eq!(stats[0]["sources"]["pcap"]["state"], "running", "{}", stats[0]["sources"]);
        assert_eq!(stats[0]["sources"]["ebpf"], Json::Null);
    }
    let wrong =
        run(&["up", "--listen", "127.0.0.1:0", "--pcap", "/nonexistent"], DEADLINE).unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}
