//! Peers are the other ends of connections: where ports are used twice, and in namespaces.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{free_port, process::Process, wait_until};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);

/// `api PORT`, `front PORT API`, `client PORT FROM`: a server, one that asks it from the very port that
/// its own client came from, and the client. `FROM` 0: any port. An answer says who has given it.
const PROGRAM: &str = r#"
import socket, sys

def read(conn):
    data = b''
    while b'\r\n\r\n' not in data:
        more = conn.recv(4096)
        if not more:
            break
        data += more
    return data

def ask(port, source):
    conn = socket.socket()
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source:
        conn.bind(('127.0.0.1', source))
    conn.connect(('127.0.0.1', port))
    conn.sendall(b'GET /' + sys.argv[1].encode() + b' HTTP/1.1\r\nHost: a\r\n\r\n')
    read(conn)
    conn.close()

def serve(port, before):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(('127.0.0.1', port))
    listener.listen()
    while True:
        conn, (_, source) = listener.accept()
        if not read(conn):
            continue
        before(source)
        conn.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
        conn.recv(1)
        conn.close()

role, port = sys.argv[1], int(sys.argv[2])
if role == 'api':
    serve(port, lambda source: None)
elif role == 'front':
    serve(port, lambda source: ask(int(sys.argv[3]), source))
else:
    ask(port, int(sys.argv[3]))
"#;

/// Each row with the program of its process and that of its peer.
const SCRIPT: &str = "\
import px
df = px.DataFrame('http_events', start_time='-10m')
df.here = px.upid_to_cmdline(df.upid)
peer = px._peer_upid(df.remote_addr, df.remote_port)
df.there = px.upid_to_cmdline(peer)
df = df.groupby(['trace_role', 'here', 'there']).agg(n=('latency', px.count))
px.display(df, 'ends')
";

fn python(program: &std::path::Path, args: &[String], namespace: bool) -> Command {
    let mut command = Command::new(if namespace { "unshare" } else { "python3" });
    if namespace {
        command.args(["-n", "sh", "-c", "ip link set lo up && exec python3 \"$@\"", "sh"]);
    }
    command.arg(program).args(args);
    command
}

/// (role, program, peer's program) of all rows, once there are so many.
fn ends(weir: &Weir, rows: i64) -> BTreeSet<(i64, String, String)> {
    let found = wait_until(DEADLINE, || {
        let found = weir.stats().ok()?["tables"]["http_events"]["rows"].as_i64()?;
        (found >= rows).then_some(found)
    });
    assert_eq!(found, Some(rows));
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(script.path(), SCRIPT).unwrap();
    let run = weir.run(&["run", script.path().to_str().unwrap(), "-o", "json"], DEADLINE).unwrap();
    assert!(run.status.success(), "{run:?}");
    // `python3 PROGRAM api 80` is `api`; with a blank where nothing is known.
    let name = |row: &serde_json::Value, column: &str| {
        let cmdline = row[column].as_str().unwrap_or_default().to_string();
        let mut words = cmdline.split(' ').skip_while(|word| !word.ends_with(".py"));
        words.nth(1).unwrap_or("").to_string()
    };
    let lines = run.json_lines();
    let ends = |row: &serde_json::Value| {
        (row["trace_role"].as_i64().unwrap(), name(row, "here"), name(row, "there"))
    };
    lines.iter().map(ends).collect()
}

fn expected(ends: &[(i64, &str, &str)]) -> BTreeSet<(i64, String, String)> {
    ends.iter().map(|(role, here, there)| (*role, here.to_string(), there.to_string())).collect()
}

/// A server that asks another one from the port that its own client came from: three programs, two
/// connections, four rows, each with its own peer. Catches peers by address and port, for which the
/// front is its own client and the API's client is the client.
#[test]
fn a_port_that_is_used_twice() {
    if !can_capture() {
        return;
    }
    let program = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
    std::fs::write(program.path(), PROGRAM).unwrap();
    let (api, front, source) = (free_port(), free_port(), free_port());
    let text = |number: u16| number.to_string();
    let start = |args: &[String]| Process::start(python(program.path(), args, false)).unwrap();
    let servers =
        [start(&["api".into(), text(api)]), start(&["front".into(), text(front), text(api)])];
    let trace = [format!("port:{api}"), format!("port:{front}")];
    let weir = Weir::start(&["--trace", &trace[0], "--trace", &trace[1]]).unwrap();
    let listens = |port| std::net::TcpStream::connect(("127.0.0.1", port)).ok();
    assert!(wait_until(DEADLINE, || listens(api).and(listens(front))).is_some());
    let mut client = start(&["client".into(), text(front), text(source)]);
    assert!(client.wait(DEADLINE).unwrap().success());
    let want = expected(&[
        (1, "client", "front"),
        (2, "front", "client"),
        (1, "front", "api"),
        (2, "api", "front"),
    ]);
    assert_eq!(ends(&weir, 4), want);
    drop(servers);
}

/// Two loopbacks with the same addresses, one of the host, one of a namespace: each client's peer is
/// its own server. Catches a host process as the peer of a client that cannot reach it.
#[test]
fn loopback_of_a_namespace() {
    let can = Command::new("unshare").args(["-n", "ip", "link"]).output();
    if !can_capture() || !can.is_ok_and(|output| output.status.success()) {
        return;
    }
    let program = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
    std::fs::write(program.path(), PROGRAM).unwrap();
    let (port, source) = (free_port(), free_port());
    let weir = Weir::start(&["--trace", &format!("port:{port}")]).unwrap();
    let start = |args: &[String], namespace| {
        Process::start(python(program.path(), args, namespace)).unwrap()
    };
    let (port_text, source_text) = (port.to_string(), source.to_string());
    let host = start(&["front".into(), port_text.clone(), "1".into()], false);
    let inside = start(&["api".into(), port_text.clone()], true);
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
    assert!(wait_until(DEADLINE, listens).is_some());
    // The client runs in the server's namespace.
    let pid = inside.pid().to_string();
    let program_path = program.path().to_str().unwrap().to_string();
    let args = ["client".to_string(), port_text, source_text];
    let answered = wait_until(DEADLINE, || {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n", "python3", &program_path]).args(&args);
        let mut client = Process::start(command).unwrap();
        client.wait(DEADLINE).unwrap().success().then_some(())
    });
    assert!(answered.is_some(), "the server in the namespace answers");
    let want = expected(&[(1, "client", "api"), (2, "api", "client")]);
    assert_eq!(ends(&weir, 2), want);
    drop(host);
}
