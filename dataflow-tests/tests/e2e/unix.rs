//! HTTP over a Unix socket, as nginx speaks it to an application beside it.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use weir_dataflow_tests::harness::servers::{CURL, apps};
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{free_port, process::Process, wait_until};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 60;
/// Debian's, which has Debian's gunicorn.
const PYTHON: &str = "/usr/bin/python3";

/// Each row of the socket: role, both ends, what it ran, and how often.
const SCRIPT: &str = "\
import px
df = px.DataFrame('http_events', start_time='-10m')
df = df[px.contains(df.remote_addr, 'unix_socket:')]
df.here = px.upid_to_cmdline(df.upid)
df.there = px.upid_to_cmdline(px._peer_upid(df.remote_addr, df.remote_port))
df = df.groupby(['trace_role', 'remote_addr', 'local_addr', 'here', 'there', 'req_path', 'resp_status']).agg(
    n=('latency', px.count))
px.display(df, 'rows')
";

fn gunicorn(socket: &Path, dir: &Path) -> Process {
    let mut command = Command::new(PYTHON);
    command.args(["-m", "gunicorn", "-w", "1", "--chdir"]).arg(apps());
    command.arg("--worker-tmp-dir").arg(dir);
    command.args(["-b", &format!("unix:{}", socket.display()), "app:app"]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Process::start(command).unwrap()
}

fn nginx(port: u16, socket: &Path, dir: &Path) -> Process {
    let (at, socket) = (dir.display(), socket.display());
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {at}/{kind};\n"))
        .collect();
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {at}/pid;\nevents {{}}\n\
         http {{\n  access_log off;\n{paths}  server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{ proxy_pass http://unix:{socket}:; }}\n  }}\n}}\n"
    );
    std::fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    Process::start(command).unwrap()
}

/// The only child of a process: its worker.
fn worker(process: &Process) -> u32 {
    let pid = process.pid();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let found = wait_until(DEADLINE, || {
        let children = std::fs::read_to_string(&path).ok()?;
        let mut pids = children.split_whitespace().map(|pid| pid.parse().ok());
        pids.next().flatten().filter(|_| pids.next().is_none())
    });
    found.expect("it has one worker")
}

/// nginx → Unix socket → gunicorn: sixty requests are sixty rows on either side of the socket, with
/// its path, the right role and the programs at both ends. Catches sockets without an address that are
/// passed by, and rows that nobody can tell apart.
#[test]
fn nginx_in_front_of_a_unix_socket() {
    let has_gunicorn = Command::new(PYTHON).args(["-c", "import gunicorn"]).output();
    if !has_gunicorn.is_ok_and(|output| output.status.success()) || CURL.missing().is_some() {
        return weir_types::testing::skipped("gunicorn or curl is not installed");
    }
    if !can_capture() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    let (app, port) = (gunicorn(&socket, dir.path()), free_port());
    assert!(wait_until(DEADLINE, || socket.try_exists().unwrap().then_some(())).is_some());
    let front = nginx(port, &socket, dir.path());
    assert!(wait_until(DEADLINE, || TcpStream::connect(("127.0.0.1", port)).ok()).is_some());
    let traces = [worker(&front), worker(&app)].map(|pid| format!("pid:{pid}"));
    let weir = Weir::start(&["--trace", &traces[0], "--trace", &traces[1]]).unwrap();
    let urls = (0..REQUESTS).map(|n| format!("http://127.0.0.1:{port}/p/{n}"));
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "-o", "/dev/null", "--http1.1"]).args(urls);
    assert!(curl.output().unwrap().status.success());
    let file = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(file.path(), SCRIPT).unwrap();
    let rows = wait_until(DEADLINE, || {
        let run = weir.run(&["run", file.path().to_str()?, "-o", "jsonl"], DEADLINE).ok()?;
        let rows = run.json_lines();
        (rows.len() >= 2 * REQUESTS).then_some(rows)
    });
    let rows = rows.unwrap_or_else(|| panic!("too few rows: {}", weir.stats().unwrap()));
    let name = Json::from(format!("unix_socket:{}", socket.display()));
    let mut sides: BTreeMap<i64, usize> = BTreeMap::new();
    for row in &rows {
        let role = row["trace_role"].as_i64().unwrap();
        assert_eq!((&row["n"], &row["resp_status"]), (&1.into(), &200.into()), "{row}");
        assert_eq!((&row["remote_addr"], &row["local_addr"]), (&name, &name));
        let programs = if role == 1 { ["nginx", "gunicorn"] } else { ["gunicorn", "nginx"] };
        for (column, program) in ["here", "there"].iter().zip(programs) {
            assert!(row[column].as_str().unwrap().contains(program), "{row}");
        }
        *sides.entry(role).or_default() += 1;
    }
    assert_eq!(sides, BTreeMap::from([(1, REQUESTS), (2, REQUESTS)]));
    drop((front, app));
}
