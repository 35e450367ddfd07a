//! Many nodes over a real bus: one cluster part, nodes that see different traffic, and what may happen to each of
//! them.

use std::time::Duration;

use serde_json::Value as Json;
use tempfile::NamedTempFile;
use weir_dataflow_tests::harness::fleet::{BusServer, Node, Way, listening_ports, settles};
use weir_dataflow_tests::harness::http::{Load, run_load};
use weir_dataflow_tests::harness::nginx::{Nginx, NginxOptions};
use weir_dataflow_tests::harness::process::Signal;
use weir_dataflow_tests::harness::weir::{self, Live, Weir};

use crate::ports::{self, DEADLINE, can_run, counts};

/// A web server, and the node that watches it.
struct Site {
    nginx: Nginx,
    node: Option<Node>,
    name: &'static str,
    bus: String,
    sent: i64,
}

impl Site {
    fn start(name: &'static str, bus: &str) -> Site {
        let nginx = Nginx::start(NginxOptions::default()).unwrap();
        let mut site = Site { nginx, node: None, name, bus: bus.to_string(), sent: 0 };
        site.start_node();
        site
    }

    fn start_node(&mut self) {
        let trace = format!("port:{}", self.port());
        self.node = Some(Node::start(&self.bus, self.name, &["--trace", &trace]).unwrap());
    }

    fn port(&self) -> i64 {
        i64::from(self.nginx.addr.port())
    }

    fn load(&mut self, requests: usize) {
        self.sent += run_load(&Load::of(self.nginx.addr, "/a", requests)).len() as i64;
    }
}

/// Waits until the view holds exactly what the sites have served.
fn agrees(live: &mut Live, sites: &[&Site]) {
    ports::agrees(live, served(sites));
}

fn served(sites: &[&Site]) -> Vec<(i64, i64)> {
    sites.iter().map(|site| (site.port(), site.sent)).collect()
}

fn nodes(cluster: &Weir) -> Vec<Json> {
    cluster.run(&["nodes", "-o", "jsonl"], DEADLINE).unwrap().json_lines()
}

/// One cluster part and two nodes, each of which sees the traffic of another server: the view is the sum of both,
/// while the bus server dies and comes back, while a node is killed, is missed by name, and comes back in another
/// life, and after one has stopped in order. A node has no port of its own, and a second of its name is refused.
/// Catches rows that a death loses or doubles, a dead node that is not missed, and a view that a bus outage ends.
#[test]
fn views_are_the_sum_of_all_nodes() {
    if !can_run() {
        return;
    }
    let mut bus = BusServer::start("max_payload: 8192\n").unwrap();
    let (mut a, mut b) = (Site::start("a", &bus.url()), Site::start("b.eu", &bus.url()));
    let cluster = Weir::start_cluster(&bus.url(), &[]).unwrap();
    settles(DEADLINE, "both nodes are there", || nodes(&cluster).len() == 2);
    let (mut live, _script) = ports::live(&cluster);
    a.load(40);
    b.load(30);
    agrees(&mut live, &[&a, &b]);
    for node in nodes(&cluster) {
        assert_eq!(node["lagging"], false, "{node}");
        assert!(node["incarnation"].as_u64() > Some(0) && node["lag_ms"].is_u64(), "{node}");
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(listening_ports(a.node.as_ref().unwrap().pid()), 0, "a node has no port");
    a_second_of_the_name_is_refused(&bus.url());
    bus.kill().unwrap();
    a.load(20);
    b.load(20);
    bus.restart().unwrap();
    a.load(5);
    agrees(&mut live, &[&a, &b]);
    drop(a.node.take().unwrap().kill().unwrap());
    b.load(10);
    ports::are_lagging(&mut live, &["a"]);
    // What the former life had seen went with it; the answer says since when it is whole.
    a.start_node();
    a.sent = 0;
    a.load(15);
    let frontiers = live.view.frontiers.len();
    let mut want = served(&[&a, &b]);
    want.sort_unstable();
    live.wait_for(DEADLINE, |view| {
        counts(&view.rows("ports")) == want && view.frontiers.len() > frontiers + 5
    })
    .unwrap();
    assert!(ports::lagging(&live).is_empty());
    assert!(b.node.take().unwrap().stop().unwrap().success());
    settles(DEADLINE, "a node that stops is listed no more", || nodes(&cluster).len() == 1);
    a.load(5);
    agrees(&mut live, &[&a, &b]);
}

fn a_second_of_the_name_is_refused(bus: &str) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let args = ["node", "--bus", bus, "--name", "a", "--data-dir", dir, "--trace", "port:1"];
    let second = weir::run(&args, DEADLINE).unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = second.stderr.join("\n");
    assert!(said.contains("a node named a is alive already"), "{said}");
}

/// The cluster part is killed and comes back: at first it misses the nodes that it knew, by name, and says that
/// its answers are not complete; then it has from their histories what it had. A second one on the same bus is
/// refused. Catches an answer that is called complete before its nodes are there.
#[test]
fn the_cluster_part_comes_back() {
    if !can_run() {
        return;
    }
    let bus = BusServer::start("").unwrap();
    let (mut a, mut b) = (Site::start("a", &bus.url()), Site::start("b", &bus.url()));
    let mut cluster = Weir::start_cluster(&bus.url(), &[]).unwrap();
    settles(DEADLINE, "both nodes are there", || nodes(&cluster).len() == 2);
    a.load(40);
    b.load(30);
    let (mut live, _script) = ports::live(&cluster);
    agrees(&mut live, &[&a, &b]);
    drop(live);
    let dir = tempfile::tempdir().unwrap();
    let args = ["cluster", "--bus", &bus.url(), "--listen", "127.0.0.1:0", "--data-dir"];
    let second =
        weir::run(&[&args[..], &[dir.path().to_str().unwrap()]].concat(), DEADLINE).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.join("\n").contains("another cluster part"), "{:?}", second.stderr);
    settles(DEADLINE, "which nodes there are is written down", || {
        std::fs::read_to_string(cluster.data_dir().join("nodes"))
            .is_ok_and(|text| text.contains('b'))
    });
    cluster.end(Signal::Kill).unwrap();
    // While it is away one node goes for good.
    drop(b.node.take().unwrap().kill().unwrap());
    a.load(7);
    let cluster =
        Weir::start_cluster_at(cluster.into_data_dir(), "127.0.0.1:0", &bus.url(), &[]).unwrap();
    let (mut live, _script) = ports::live(&cluster);
    live.wait_for(DEADLINE, |view| {
        let progress = view.progress.clone().unwrap_or_default();
        assert_eq!(progress["complete"], false, "{progress}");
        assert!(progress["lagging"].to_string().contains("\"b\""), "{progress}");
        counts(&view.rows("ports")) == served(&[&a])
    })
    .unwrap();
}

/// Two nodes, of which `a` has a way to the bus that can be cut, and a view of what they served so far.
struct Parted {
    _bus: BusServer,
    way: Way,
    a: Site,
    b: Site,
    cluster: Weir,
    live: Live,
    _script: NamedTempFile,
}

impl Parted {
    fn start(cluster_args: &[&str]) -> Parted {
        let bus = BusServer::start("").unwrap();
        let way = Way::to(bus.addr).unwrap();
        let (mut a, mut b) = (Site::start("a", &way.url()), Site::start("b", &bus.url()));
        let cluster = Weir::start_cluster(&bus.url(), cluster_args).unwrap();
        settles(DEADLINE, "both nodes are there", || nodes(&cluster).len() == 2);
        let (mut live, _script) = ports::live(&cluster);
        a.load(20);
        b.load(20);
        agrees(&mut live, &[&a, &b]);
        Parted { _bus: bus, way, a, b, cluster, live, _script }
    }
}

/// The way of one node to the bus is cut for thirty seconds under traffic, with nobody told, and slow after that.
/// The node is missed by name, the view goes on with the others, and when the way is mended what happened
/// meanwhile is added, once. Catches a node that is believed complete, and what a partition loses or doubles.
#[test]
fn a_partition_heals() {
    if !can_run() {
        return;
    }
    let Parted { _bus, way, mut a, mut b, cluster: _cluster, mut live, _script } =
        Parted::start(&[]);
    way.cut(true);
    let before = a.sent;
    a.load(30);
    ports::are_lagging(&mut live, &["a"]);
    b.load(10);
    let (port, b_want) = (a.port(), (b.port(), b.sent));
    let frontiers = live.view.frontiers.len();
    // Of a what it had, of b all, at a frontier that moves on: for thirty seconds.
    live.wait_for(DEADLINE, |view| {
        let have = counts(&view.rows("ports"));
        assert!(have.contains(&(port, before)), "{have:?}");
        have.contains(&b_want) && view.frontiers.len() > frontiers + 30
    })
    .unwrap();
    way.delay(Duration::from_millis(200));
    way.cut(false);
    a.load(10);
    agrees(&mut live, &[&a, &b]);
    ports::are_lagging(&mut live, &[]);
    a.load(10);
    agrees(&mut live, &[&a, &b]);
}

/// A node that is cut off for so long that it is given up, and is back in the same life with all that it had seen: the
/// view, which holds what it had sent before, counts each request once. Catches a history that is added to itself.
#[test]
fn who_was_given_up_counts_once() {
    if !can_run() {
        return;
    }
    let Parted { _bus, way, mut a, mut b, cluster, mut live, _script } =
        Parted::start(&["--node-forget", "1s"]);
    way.cut(true);
    a.load(10);
    settles(DEADLINE, "the node is given up", || nodes(&cluster).len() == 1);
    b.load(5);
    way.cut(false);
    settles(DEADLINE, "the node is back", || nodes(&cluster).len() == 2);
    agrees(&mut live, &[&a, &b]);
    a.load(5);
    agrees(&mut live, &[&a, &b]);
}
