//! What is estimated before a query is installed, beside what nodes and the cluster part then hold for it: the whole
//! way, with rows as servers of a shop make them.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use weir_cluster::cost::{CostLimits, Estimate, Known, TableNow, estimate};
use weir_cluster::planner::{ScriptRequest, prepare};
use weir_dataflow_tests::drive::Coordinated;
use weir_engine::Limits;
use weir_types::metadata::MetadataSnapshot;
use weir_types::random::SplitMix;
use weir_types::split::SplitPlan;
use weir_types::{RecordBatch, Value, tables};

const START_MS: u64 = 1_700_000_000_000;
const REFRESH_MS: u64 = 1_000;
const SECONDS: u64 = 120;
const ROWS_PER_S: u64 = 400;
const NODES: usize = 2;
const RETENTION_NS: i64 = 3_600_000_000_000;
/// How far an estimate may be off.
const FACTOR: f64 = 4.0;

fn ns(ms: u64) -> i64 {
    i64::try_from(ms).unwrap() * 1_000_000
}

/// Requests of one second to 30 paths, from 40 addresses, with a latency that spreads over some octaves.
fn requests(random: &mut SplitMix, second: u64) -> RecordBatch {
    let def = tables::find("http_events").unwrap();
    let mut builder = def.builder();
    for row in 0..ROWS_PER_S / NODES as u64 {
        let at = ns(START_MS + second * 1_000) + 1 + i64::try_from(row).unwrap() * 4_000_000;
        let path = format!("/shop/items/{}/detail", random.below(30));
        let status = if random.below(30) == 0 { 503 } else { 200 };
        let latency = 200_000_i64 << random.below(7);
        for (idx, column) in def.columns.iter().enumerate() {
            let value = match column.name {
                "time_" => Value::Time64Ns(at),
                "req_path" => Value::String(path.clone().into_bytes()),
                "req_method" => {
                    let method = ["GET", "GET", "POST", "PUT"][random.below(4) as usize];
                    Value::String(method.as_bytes().to_vec())
                }
                "resp_status" => Value::Int64(status),
                "remote_addr" => Value::String(format!("10.0.0.{}", random.below(40)).into_bytes()),
                "req_headers" | "resp_headers" => Value::String(vec![b'h'; 150]),
                "resp_body" => Value::String(vec![b'b'; 60]),
                "latency" => Value::Int64(latency + i64::try_from(random.below(190_000)).unwrap()),
                _ => column.data_type.zero(),
            };
            builder.value(idx, &value);
        }
        builder.end_row();
    }
    builder.finish()
}

fn bytes(batch: &RecordBatch) -> f64 {
    batch.columns().iter().map(|column| column.get_array_memory_size()).sum::<usize>() as f64
}

/// What a query over these rows holds once its window is full, and what was estimated.
fn compared(text: &str) -> (Estimate, f64, f64) {
    let request = ScriptRequest {
        text: Some(format!("import px\n{text}")),
        refresh_ms: Some(REFRESH_MS),
        ..ScriptRequest::default()
    };
    let split: Arc<SplitPlan> = prepare(&request, 100, None, &|_| true).unwrap().split;
    let metadata = Arc::new(MetadataSnapshot::default());
    let mut rig = Coordinated::start(NODES, 1, Some(RETENTION_NS), &metadata).unwrap();
    let query = rig.install(&split, REFRESH_MS).unwrap();
    let mut random = SplitMix(11);
    let (mut row_bytes, mut on_nodes) = (0.0, 0.0_f64);
    for second in 0..SECONDS {
        for node in 0..NODES {
            let batch = requests(&mut random, second);
            row_bytes = bytes(&batch) / batch.num_rows() as f64;
            rig.admit(node, "http_events", vec![batch]);
        }
        let of_node = |node| rig.node_stats(node).iter().map(|q| q.state_bytes).sum::<u64>();
        on_nodes = on_nodes.max((0..NODES).map(of_node).sum::<u64>() as f64);
        rig.close_tick(START_MS + (second + 1) * 1_000).unwrap();
    }
    rig.wait_for_frontier(query).unwrap();
    let held: u64 = rig.cluster_stats().iter().map(|query| query.state_bytes).sum();
    let rows = (SECONDS * ROWS_PER_S) as f64 / NODES as f64;
    let one = |node: usize| TableNow {
        node: node.to_string(),
        table: "http_events".to_string(),
        rows_per_s: ROWS_PER_S as f64 / NODES as f64,
        rows_held: rows,
        history_bytes: rows * row_bytes,
        held_ns: ns(SECONDS * 1_000),
        came: vec![(0, 0.0), (ns(SECONDS * 1_000), rows)],
    };
    let limits = Limits::default();
    let shared = vec![None; split.sources.len()];
    let known = Known {
        split: &split,
        refresh_ms: REFRESH_MS,
        shared: &shared,
        running: None,
        tables: &(0..NODES).map(one).collect::<Vec<_>>(),
        now_unix_ns: ns(START_MS + SECONDS * 1_000),
    };
    let limits = CostLimits {
        query_cost_max: 0,
        query_bytes_max: limits.query_state_bytes_max,
        query_groups_max: limits.query_groups_max,
        retention_ns: RETENTION_NS,
    };
    (estimate(&known, &limits), held as f64, on_nodes)
}

fn check(text: &str) {
    let (found, held, on_nodes) = compared(text);
    let factor = found.total.state_bytes / held;
    let said = format!("{factor:.2} times {held} B (nodes {on_nodes} B) of {text}: {found:#?}");
    assert!((1.0 / FACTOR..FACTOR).contains(&factor), "{said}");
    assert!(found.most.state_bytes >= held / 1.5, "{said}");
}

/// Rows as they are, all and some of their columns: catches columns that are taken for as large as their row.
#[test]
fn rows_are_estimated() {
    check(
        "df = px.DataFrame('http_events', start_time='-1m')\n\
         df = df[['time_', 'req_path', 'latency']]\npx.display(df)",
    );
    check("df = px.DataFrame('http_events', start_time='-1m')\npx.display(df)");
    check("df = px.DataFrame('http_events', start_time='-1m')\npx.display(df.head(500))");
}

/// Groups with sketches, by a few and by a time: catches panes that are counted once, and groups of a bin in all panes.
#[test]
fn groups_are_estimated() {
    check(
        "df = px.DataFrame('http_events', start_time='-1m')\n\
         df = df.groupby(['remote_addr', 'resp_status']).agg(n=('latency', px.count), \
         q=('latency', px.quantiles), e=('latency', px.mean))\npx.display(df)",
    );
    check(
        "df = px.DataFrame('http_events', start_time='-1m')\n\
         df.at = px.bin(df.time_, px.seconds(10))\n\
         df = df.groupby(['at', 'req_method']).agg(n=('latency', px.count))\npx.display(df)",
    );
}

/// Operators above the windows: a join of rows with the groups that they are of.
#[test]
fn joins_are_estimated() {
    check(
        "df = px.DataFrame('http_events', start_time='-1m')\n\
         df = df[['time_', 'remote_addr', 'latency']]\n\
         m = df.groupby('remote_addr').agg(worst=('latency', px.max))\n\
         df = df.merge(m, how='inner', left_on='remote_addr', right_on='remote_addr', \
         suffixes=['', '_m'])\ndf = df[['time_', 'remote_addr', 'latency', 'worst']]\npx.display(df)",
    );
}
