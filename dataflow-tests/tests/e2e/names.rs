//! Names of what was there when a row was made, also if it is gone when somebody asks.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::weir::Weir;
use weir_dataflow_tests::harness::{process::Process, wait_until};

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);
const CLIENTS: i64 = 20;

/// Who asked whom for which path, as seen from both ends.
const SCRIPT: &str = "\
import px
df = px.DataFrame('http_events', start_time='-10m')
df.pod = df.ctx['pod']
df.service = df.ctx['service']
df.cmdline = df.ctx['cmdline']
peer = px._peer_upid(df.remote_addr, df.remote_port, df.time_)
df.peer_pod = px.upid_to_pod_name(peer)
df.peer_service = px.upid_to_service_name(peer)
df = df.groupby(['trace_role', 'req_path', 'pod', 'service', 'cmdline', 'peer_pod',
                 'peer_service']).agg(
    n=('latency', px.count))
px.display(df, 'ends')
";

/// Clients that lived for one request and are gone when the view is opened: both ends still have
/// their names, as rows' own processes and as peers of the server's rows. Catches a view that looks
/// the past up in what is there now.
#[test]
fn ended_clients_keep_their_names() {
    if Command::new("curl").arg("--version").output().is_err() {
        return weir_types::testing::skipped("curl is not installed");
    }
    if !can_capture() {
        return;
    }
    let nginx = Nginx::start(NginxOptions::default()).unwrap();
    let port = nginx.addr.port();
    let weir = Weir::start(&["--trace", &format!("port:{port}")]).unwrap();
    let mut clients = BTreeMap::new();
    for n in 0..CLIENTS {
        let path = format!("/client/{n}");
        let mut command = Command::new("curl");
        command.args(["-s", "--noproxy", "*", &format!("http://127.0.0.1:{port}{path}")]);
        let mut process = Process::start(command).unwrap();
        clients.insert(path, process.pid());
        assert!(process.wait(DEADLINE).unwrap().success());
    }
    let rows = wait_until(DEADLINE, || {
        let rows = weir.stats().ok()?["tables"]["http_events"]["rows"].as_i64()?;
        (rows >= 2 * CLIENTS).then_some(rows)
    });
    assert_eq!(rows, Some(2 * CLIENTS), "each request has a row at either end");
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    std::fs::write(script.path(), SCRIPT).unwrap();
    let run = weir.run(&["run", script.path().to_str().unwrap(), "-o", "json"], DEADLINE).unwrap();
    assert!(run.status.success(), "{run:?}");
    let lines = run.json_lines();
    assert_eq!(lines.len(), 2 * CLIENTS as usize, "{run:?}");
    for row in lines {
        let text = |column: &str| row[column].as_str().unwrap_or_default().to_string();
        let of_client =
            if row["trace_role"] == 1 { ["pod", "service"] } else { ["peer_pod", "peer_service"] };
        let of_server =
            if row["trace_role"] == 1 { ["peer_pod", "peer_service"] } else { ["pod", "service"] };
        let pid = clients[&text("req_path")];
        assert!(text(of_client[0]).ends_with(&format!("/curl-{pid}")), "{row}");
        assert!(text(of_client[1]).ends_with("/curl"), "{row}");
        // A client of a millisecond: nobody could read that in time.
        assert!(row["trace_role"] != 1 || text("cmdline").starts_with("curl -s "), "{row}");
        assert!(text(of_server[0]).contains("/nginx-"), "{row}");
        assert!(text(of_server[1]).ends_with("/nginx"), "{row}");
    }
    let stats = weir.stats().unwrap();
    assert_eq!(stats["tables"]["http_events"]["metadata_held"], 0, "nobody waits now: {stats}");
}
