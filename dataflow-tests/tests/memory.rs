//! Installing and dropping views gives the memory back. In a binary of its own: resident memory is
//! the whole process's, and other tests would be measured with it.

use std::sync::Mutex;

use weir_dataflow_tests::drive::{Coordinated, DriveError, Rig, plain_split};
use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_types::batch::RecordBatch;
use weir_types::plan::{
    AggCall, EndBound, JoinKind, OpKind, Output, PLAN_VERSION, Scan, Side, StartBound, Window,
};
use weir_types::{Column, DataType, Op, Plan, Relation, SemanticType};

const TABLE: &str = "let_events";
const TICK_MS: u64 = 1000;
const ROWS_PER_TICK: usize = 4000;
const QUERIES: u64 = 200;
const WARM_UP: u64 = 40;
/// What 200 queries may leave behind. Each holds several times as much while it lives.
const LEFT_BYTES_MAX: u64 = 24 << 20;

/// One measurement at a time: resident memory is the whole process's.
static MEASURING: Mutex<()> = Mutex::new(());

/// Rows joined with an aggregate of the same table: arrangements, panes, accumulators.
fn plan() -> Plan {
    let table = weir_types::tables::relation(TABLE).expect("a declared table");
    let columns = ["time_", "service", "endpoint", "latency"];
    let kept: Vec<Column> = columns
        .iter()
        .map(|name| table.columns[table.index_of(name).expect("a column")].clone())
        .collect();
    let window =
        Window { start: StartBound::Relative { window_ns: 300 * SEC_NS }, end: EndBound::Now };
    let scan = OpKind::Scan(Scan {
        table: TABLE.to_string(),
        columns: columns.map(str::to_string).to_vec(),
        window,
    });
    let quantiles = AggCall {
        func: "quantiles".to_string(),
        args: vec![3],
        arg_types: vec![DataType::Int64],
        data_type: DataType::String,
        time: Some(0),
    };
    let grouped = Relation::new(vec![
        kept[1].clone(),
        Column::new("q", DataType::String, SemanticType::None),
    ]);
    let joined = Relation::new(
        kept.iter()
            .cloned()
            .chain([Column::new("q", DataType::String, SemanticType::None)])
            .collect(),
    );
    let sides = (0..4).map(|idx| (Side::Left, idx)).chain([(Side::Right, 1)]).collect();
    let join =
        OpKind::Join { how: JoinKind::Inner, left_on: vec![1], right_on: vec![0], columns: sides };
    Plan {
        version: PLAN_VERSION,
        ops: vec![
            Op { kind: scan, inputs: Vec::new(), relation: Relation::new(kept) },
            Op {
                kind: OpKind::Aggregate { group: vec![1], aggs: vec![quantiles] },
                inputs: vec![0],
                relation: grouped,
            },
            Op { kind: join, inputs: vec![0, 1], relation: joined },
        ],
        outputs: vec![Output { table: "out".to_string(), op: 2 }],
    }
}

fn batch(tick_ms: u64) -> RecordBatch {
    let table = weir_types::tables::find(TABLE).expect("a declared table");
    let relation = table.relation();
    let mut builder = table.builder();
    for row in 0..ROWS_PER_TICK {
        for (idx, column) in relation.columns.iter().enumerate() {
            match column.data_type {
                DataType::String => builder.string(idx, format!("s{}", row % 7).as_bytes()),
                DataType::Time64Ns => builder.int64(idx, tick_ms as i64 * 1_000_000 - row as i64),
                _ => builder.int64(idx, (row * 7919 % 100_000) as i64),
            }
        }
        builder.end_row();
    }
    builder.finish()
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<u64>().expect("kilobytes") * 1024
}

/// Installs a query, lets it take in three ticks of rows, and drops it.
fn cycle(rig: &mut Rig, query: u64, tick_ms: &mut u64) -> Result<u64, DriveError> {
    let split = plain_split(&plan());
    rig.install(query, &split, TICK_MS, *tick_ms + TICK_MS);
    for _ in 0..3 {
        *tick_ms += TICK_MS;
        rig.push(0, TABLE, vec![batch(*tick_ms)]);
        let moved = rig.close_tick(*tick_ms)?;
        assert_eq!(moved, [query]);
    }
    let rows: i64 = rig.views(query)["out"].values().sum();
    assert_eq!(rows, 3 * ROWS_PER_TICK as i64, "the query works before it is dropped");
    let state_bytes = rig
        .engines()
        .iter()
        .flat_map(|engine| engine.stats().queries)
        .map(|query| query.state_bytes)
        .sum();
    rig.remove(query)?;
    Ok(state_bytes)
}

/// 200 queries, installed and dropped while rows flow, leave next to nothing behind: catches traces
/// whose handles survive, forgotten dataflows, and registries that only grow.
#[test]
fn dropped_queries_give_memory_back() {
    let _alone = MEASURING.lock();
    let mut rig = Rig::start(1, 2, None).expect("engines start");
    let mut tick_ms = (BASE_UNIX_NS / 1_000_000) as u64;
    let mut state_bytes = 0;
    for query in 0..WARM_UP {
        state_bytes = cycle(&mut rig, query, &mut tick_ms).expect("a cycle");
    }
    assert!(state_bytes > 100_000, "queries are known to hold state: {state_bytes}");
    let before = resident_bytes();
    for query in WARM_UP..WARM_UP + QUERIES {
        cycle(&mut rig, query, &mut tick_ms).expect("a cycle");
    }
    let after = resident_bytes();
    for engine in rig.engines() {
        let stats = engine.stats();
        assert!(stats.queries.is_empty(), "queries are left: {:?}", stats.queries);
    }
    let left = after.saturating_sub(before);
    assert!(
        left < LEFT_BYTES_MAX,
        "{QUERIES} queries of {state_bytes} bytes each left {left} bytes ({before} → {after})"
    );
}

/// The query with another limit above: its own operators over the shared windows.
fn reader(number: u64) -> Plan {
    let mut plan = plan();
    let relation = plan.ops[2].relation.clone();
    let limit = OpKind::Limit { rows_max: 1000 + number % 7 };
    plan.ops.push(Op { kind: limit, inputs: vec![2], relation });
    plan.outputs[0].op = 3;
    plan
}

/// 200 readers come late to windows that another query keeps alive, and go: they leave next to nothing,
/// and the feed holds what it held. Catches readers that a window never forgets, and first states that
/// stay in a queue.
#[test]
fn dropped_readers_give_memory_back() {
    let _alone = MEASURING.lock();
    let metadata = std::sync::Arc::default();
    let mut rig = Coordinated::start(1, 2, Some(300 * SEC_NS), &metadata).expect("engines start");
    let mut tick_ms = (BASE_UNIX_NS / 1_000_000) as u64;
    let mut tick = |rig: &mut Coordinated, rows: usize| {
        tick_ms += TICK_MS;
        if rows > 0 {
            rig.admit(0, TABLE, vec![batch(tick_ms)]);
        }
        rig.close_tick(tick_ms).expect("a tick");
    };
    rig.install(&plain_split(&plan()), TICK_MS).expect("the query that stays");
    for _ in 0..3 {
        tick(&mut rig, ROWS_PER_TICK);
    }
    let mut state_bytes = 0;
    let mut before = (0, 0);
    for number in 0..WARM_UP + QUERIES {
        if number == WARM_UP {
            before = (resident_bytes(), rig.dataflows());
        }
        let query = rig.install(&plain_split(&reader(number)), TICK_MS).expect("a reader");
        rig.wait_for_frontier(query).expect("an answer at once");
        let rows: i64 = rig.views(query)["out"].values().sum();
        assert_eq!(rows, 1000 + (number % 7) as i64, "it works before it is dropped");
        let stats = rig.cluster_stats();
        state_bytes = stats.iter().find(|stats| stats.query == query).expect("it runs").state_bytes;
        tick(&mut rig, 0);
        rig.remove(query).expect("a removal");
        while rig.cluster_stats().len() > 2 {
            rig.settle().expect("engines answer");
        }
    }
    assert!(state_bytes > 100_000, "a reader is known to hold state: {state_bytes}");
    while rig.dataflows() > before.1 {
        rig.settle().expect("engines answer");
    }
    let after = resident_bytes();
    let left = after.saturating_sub(before.0);
    assert!(
        left < LEFT_BYTES_MAX,
        "{QUERIES} readers of {state_bytes} bytes each left {left} bytes ({} → {after})",
        before.0
    );
}
