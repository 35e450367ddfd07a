//! What is captured can change while a server runs.

use std::time::Duration;

use serde_json::{Value as Json, json};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::wait_until;
use weir_dataflow_tests::harness::weir::Weir;

use crate::can_capture;

const DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 20;

fn load(nginx: &Nginx) {
    let sent = run_load(&Load {
        addr: nginx.addr,
        paths: vec!["/a".to_string()],
        requests: REQUESTS,
        requests_per_sec: 0,
        connections: 1,
        keep_alive: true,
    });
    assert!(sent.iter().all(|exchange| exchange.status.is_some()));
}

/// Gives the only node an order: what became of it, or of the request.
fn order(weir: &Weir, filters: &Json) -> Json {
    let nodes: Json = weir.get("/api/v1/nodes").unwrap().text().parse().unwrap();
    let node = &nodes["nodes"][0]["name"];
    let order = json!({"node": node, "filters": filters});
    let answer = weir.post("/api/v1/test/order", &order).unwrap();
    let answer: Json = answer.text().parse().unwrap();
    if answer["outcome"].is_null() {
        answer["error"]["code"].clone()
    } else {
        answer["outcome"].clone()
    }
}

/// The filters of a running server change, by port and to everything of a process: from then on it sees what they
/// let pass and nothing else, says so in its stats, and answers are covered from then on only. An order that
/// names too much changes nothing. Catches a server that shows new filters and looks through the old ones, and
/// one that calls an answer complete over a time in which it did not look.
#[test]
fn filters_change_under_a_running_server() {
    if !can_capture() {
        return;
    }
    let [a, b] = [(); 2].map(|()| Nginx::start(NginxOptions::default()).unwrap());
    let [port_a, port_b] = [a.addr.port(), b.addr.port()];
    let weir = Weir::start(&["--trace", &format!("port:{port_a}"), "--test-faults"]).unwrap();
    let script = tempfile::Builder::new().suffix(".pxl").tempfile().unwrap();
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-10m')\n\
                df = df[df.trace_role == 2]\n\
                df = df.groupby('local_port').agg(n=('latency', px.count))\npx.display(df, 'ports')\n";
    std::fs::write(script.path(), text).unwrap();
    let mut live = weir.live(script.path().to_str().unwrap(), &["--refresh", "200ms"]).unwrap();
    live.wait_for(DEADLINE, |view| view.progress.is_some()).unwrap();
    let mut shows = |[of_a, of_b]: [usize; 2]| {
        live.wait_for(DEADLINE, |view| {
            let count = |port: u16| {
                let rows = view.rows("ports").into_iter();
                let of_port = rows.filter(|(row, _)| row["local_port"] == port);
                of_port.filter_map(|(row, _)| row["n"].as_u64()).sum::<u64>() as usize
            };
            let seen = [count(port_a), count(port_b)];
            assert!(seen[0] <= of_a && seen[1] <= of_b, "{seen:?} of {of_a} and {of_b}");
            seen == [of_a, of_b]
        })
        .unwrap();
    };
    load(&b);
    load(&a);
    shows([REQUESTS, 0]);

    let too_many: Vec<u32> = (1..=1_025).collect();
    assert_eq!(order(&weir, &json!({ "ports": too_many })), "bad_request");
    let filters = |weir: &Weir| weir.stats().unwrap()["sources"]["ebpf"]["filters"].clone();
    assert_eq!(filters(&weir), json!([format!("port:{port_a}")]));

    assert_eq!(order(&weir, &json!({ "ports": [port_b] })), "done");
    let told = wait_until(DEADLINE, || {
        (filters(&weir) == json!([format!("port:{port_b}")])).then_some(())
    });
    assert!(told.is_some(), "{}", filters(&weir));
    let doctor = weir.run(&["doctor"], DEADLINE).unwrap();
    let looks =
        |line: &String| line.contains("ebpf looks at") && line.contains(&format!("port:{port_b}"));
    assert!(doctor.stdout.iter().any(looks), "{doctor:?}");
    load(&a);
    load(&b);
    shows([REQUESTS, REQUESTS]);

    let pids = json!({ "pids": [a.pid()], "ports": [port_a, port_b] });
    assert_eq!(order(&weir, &pids), "done");
    load(&a);
    load(&b);
    shows([2 * REQUESTS, 2 * REQUESTS]);
    let answer = weir.run(&["run", script.path().to_str().unwrap(), "-o", "json"], DEADLINE);
    let answer = answer.unwrap();
    assert!(answer.stderr.concat().contains("\"complete\":false"), "{answer:?}");
    a.quit().unwrap();
    b.quit().unwrap();
}
