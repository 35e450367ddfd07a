//! Installing and dropping views gives the memory back. In a binary of its own: resident memory is
//! the whole process's, and other tests would be measured with it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured is said")]

use std::sync::Mutex;

use weir_dataflow_tests::drive::{Coordinated, DriveError, Rig, plain_split};
use weir_dataflow_tests::generate::rows::{BASE_UNIX_NS, SEC_NS};
use weir_engine::Limits;
use weir_types::batch::RecordBatch;
use weir_types::plan::{
    AggCall, EndBound, JoinKind, OpKind, Output, PLAN_VERSION, Scan, Side, StartBound, Window,
};
use weir_types::split::SplitPlan;
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

/// Kinds of state, each of a script whose last filter lets nothing through, so that the answer holds nothing.
const KINDS: [(&str, &str); 6] = [
    (
        "groups with long keys",
        "df.k = px.itoa(px.time_to_int64(df.time_))\ndf.k = df.k + df.k\ndf.k = df.k + df.k\ndf.k = df.k + df.k\n\
         df = df.groupby('k').agg(n=('latency', px.count))\ndf = df[df.n < 0]\npx.display(df)\n",
    ),
    (
        "a join with itself",
        "df.k = px.time_to_int64(df.time_)\nb = df.groupby('k').agg(m=('latency', px.max))\n\
         j = df.merge(b, how='inner', left_on='k', right_on='k', suffixes=['', '_r'])\n\
         j = j[j.latency < j.m]\npx.display(j[['service', 'latency', 'm']])\n",
    ),
    (
        "windows of many panes",
        "df.k = df.latency % 500\ndf = df.groupby('k').agg(n=('latency', px.count), m=('latency', px.max), a=('service', px.any))\n\
         df = df[df.n < 0]\npx.display(df)\n",
    ),
    (
        "distinct rows",
        "df = df.groupby(['time_', 'service', 'endpoint', 'latency']).agg(n=('latency', px.count))\n\
         df = df[df.n < 0]\npx.display(df)\n",
    ),
    (
        "sketches",
        "df.k = df.latency % 100\ndf.v = px.time_to_int64(df.time_) % 1000003 * df.latency\n\
         df = df.groupby('k').agg(q=('v', px.quantiles), n=('v', px.count))\ndf = df[df.n < 0]\npx.display(df)\n",
    ),
    (
        "values that come and go",
        "df.k = px.time_to_int64(df.time_)\nd = df.groupby(['k', 'latency']).agg(n=('latency', px.count))\n\
         d.g = d.latency % 10\nd = d.groupby('g').agg(m=('k', px.max), n=('n', px.count))\nd = d[d.n < 0]\npx.display(d)\n",
    ),
];
/// In the process that measures: which kind.
const KIND: &str = "WEIR_TEST_STATE_KIND";
const TICKS: u64 = 120;

/// What engines say that they hold, and by how much this process has grown, in bytes.
fn counted_and_real(script: &str) -> (u64, u64) {
    let text = format!("import px\ndf = px.DataFrame('{TABLE}', start_time='-5m')\n{script}");
    let script = weir_pxl::Script { name: "state", text: &text, vis: None };
    let compiled = weir_pxl::compile(&script, &weir_pxl::CompileOptions::default());
    let plan = compiled.unwrap_or_else(|_| panic!("{text} compiles")).plan;
    let mut rig = Rig::start(1, 1, None).expect("engines start");
    let mut tick_ms = (BASE_UNIX_NS / 1_000_000) as u64;
    cycle(&mut rig, 0, &mut tick_ms).expect("a cycle");
    let before = resident_bytes();
    let split = weir_pxl::split(&plan);
    rig.install(1, &split, TICK_MS, tick_ms + TICK_MS);
    for _ in 0..TICKS {
        tick_ms += TICK_MS;
        rig.push(0, TABLE, vec![batch(tick_ms)]);
        rig.close_tick(tick_ms).expect("a tick");
    }
    let counted = rig.engines().iter().map(|engine| engine.stats().held_bytes).sum();
    (counted, resident_bytes().saturating_sub(before))
}

/// Of each kind of state at least seven tenths of what it takes are counted, so that budgets end a query before
/// the machine does; measured in a process of its own, because freed memory of another would be used again.
#[test]
fn state_is_counted_as_it_is() {
    if let Ok(kind) = std::env::var(KIND) {
        let (counted, real) = counted_and_real(KINDS[kind.parse::<usize>().expect("a number")].1);
        println!("counted {counted} real {real}");
        return;
    }
    let _alone = MEASURING.lock();
    let mut wrong = Vec::new();
    for (idx, (name, _)) in KINDS.iter().enumerate() {
        let mut measured = std::process::Command::new(std::env::current_exe().expect("a binary"));
        measured.args(["--exact", "state_is_counted_as_it_is", "--nocapture"]);
        let output = measured.env(KIND, idx.to_string()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let figures = text.lines().find_map(|line| line.split_once("counted "));
        let figures = figures.unwrap_or_else(|| panic!("{name}: {text}"));
        let figures = figures.1.split_once(" real ").expect("two figures");
        let number = |text: &str| text.trim().parse::<u64>().expect("a number");
        let (counted, real) = (number(figures.0), number(figures.1));
        eprintln!("{name}: {} KiB counted of {} KiB", counted >> 10, real >> 10);
        assert!(real > 4 << 20, "{name}: {real} bytes are too few to be measured");
        if counted * 10 < real * 7 {
            wrong.push(format!("{name}: {counted} bytes counted of {real}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Scripts of every kind of state: groups with overflow, joins, limits, unions, aggregates of aggregates,
/// bins, sketches, table functions. `{}` is what tells two of them apart above their windows.
const MANY: [&str; 8] = [
    "df = df.groupby(['service', 'latency']).agg(n=('latency', px.count), q=('latency', px.quantiles))\n\
     df = df.head({})\npx.display(df)\n",
    "b = df.groupby('service').agg(m=('latency', px.max))\n\
     j = df.merge(b, how='outer', left_on='service', right_on='service', suffixes=['', '_r'])\n\
     px.display(j[['service', 'latency', 'm']].head({}))\n",
    "px.display(df.head({}))\n",
    "px.display(df.append(df).head({}))\n",
    "d = df.groupby(['service', 'latency']).agg(n=('latency', px.count))\n\
     d = d.groupby('n').agg(m=('latency', px.max), k=('n', px.count))\npx.display(d.head({}))\n",
    "df.w = px.bin(df.time_, px.seconds(1))\n\
     df = df.groupby(['w', 'endpoint']).agg(n=('latency', px.mean), a=('service', px.any))\n\
     px.display(df.head({}))\n",
    "t = px.GetTables()\nt.n = {}\npx.display(t)\n\
     px.display(df.groupby('service').agg(n=('latency', px.count)), 'counts')\n",
    "df.now = px.now()\ndf = df[df.latency > {}]\ndf = df.groupby('now').agg(n=('latency', px.count))\n\
     px.display(df)\n",
];
const CYCLES: u64 = 1000;
/// Per cycle, of what a query has for its name: less than one row of any window. Each holds some hundred
/// kilobytes while it lives.
const LEFT_PER_CYCLE_BYTES: u64 = 8 << 10;
const GROUPS_MAX: u64 = 100;

fn many_splits() -> Vec<SplitPlan> {
    let mut splits = Vec::new();
    for number in 1..=3 {
        for script in MANY {
            let script = script.replace("{}", &number.to_string());
            let text =
                format!("import px\ndf = px.DataFrame('{TABLE}', start_time='-1h')\n{script}");
            let script = weir_pxl::Script { name: "many", text: &text, vis: None };
            let compiled = weir_pxl::compile(&script, &weir_pxl::CompileOptions::default());
            let plan = compiled.unwrap_or_else(|why| panic!("{text}: {why:?}")).plan;
            splits.push(weir_pxl::split(&plan));
        }
    }
    splits
}

/// A thousand times queries of every kind are installed over a history, two of them at once over shared feeds,
/// answer, and are dropped: after each round engines hold no byte, no query and no feed, dataflows are gone,
/// and memory is what it was. Catches whatever is kept for a query that has ended, however little.
#[test]
fn a_thousand_installs_and_drops_leak_nothing() {
    let _alone = MEASURING.lock();
    let metadata = std::sync::Arc::default();
    let limits = Limits { query_groups_max: GROUPS_MAX, ..Limits::default() };
    let mut rig = Coordinated::start_with((1, 2), Some(3600 * SEC_NS), &metadata, &limits)
        .expect("engines start");
    let splits = many_splits();
    let mut tick_ms = (BASE_UNIX_NS / 1_000_000) as u64;
    rig.admit(0, TABLE, vec![batch(tick_ms)]);
    rig.close_tick(tick_ms).expect("a tick");
    let (mut before, mut held_most) = (0, 0);
    for number in 0..WARM_UP + CYCLES {
        if number == WARM_UP {
            before = resident_bytes();
        }
        // Scripts of one kind differ above their windows: they read the same feeds.
        let at = number as usize % MANY.len();
        let (one, other) = (&splits[at], &splits[at + MANY.len()]);
        let queries = [one, other].map(|split| rig.install(split, TICK_MS).expect("installed"));
        tick_ms += TICK_MS;
        rig.close_tick(tick_ms).expect("a tick");
        for query in queries {
            let rows: usize = rig.views(query).values().map(std::collections::BTreeMap::len).sum();
            assert!(rows > 0, "{number}: no answer of {query}; {:?}", rig.failed);
        }
        assert!(rig.failed.is_empty(), "{:?}", rig.failed);
        held_most = held_most.max(rig.held_bytes());
        for query in queries {
            rig.remove(query).expect("a removal");
        }
        while rig.dataflows() > 0 || rig.held_bytes() > 0 {
            rig.settle().expect("engines answer");
        }
        assert!(rig.cluster_stats().is_empty() && rig.node_stats(0).is_empty() && rig.feeds() == 0);
    }
    let left = resident_bytes().saturating_sub(before);
    eprintln!("{CYCLES} cycles, of {held_most} bytes at most, left {left} bytes");
    assert!(held_most > 100_000, "queries are known to hold state: {held_most}");
    assert!(left < CYCLES * LEFT_PER_CYCLE_BYTES, "{CYCLES} cycles left {left} bytes");
}

/// A query that has taken a hundred megabytes and is dropped gives at least 95 % back: installed again and again, it
/// finds room in what it left, once the allocator's arenas have their size. In a process of its own. Catches state that is forgotten, not freed.
#[test]
fn a_large_query_gives_its_memory_back() {
    const LARGE: &str = "WEIR_TEST_LARGE";
    if std::env::var(LARGE).is_ok() {
        let figures = large_again_and_again();
        println!("figures {} {} {}", figures[0], figures[1], figures[2]);
        return;
    }
    let _alone = MEASURING.lock();
    let mut measured = std::process::Command::new(std::env::current_exe().expect("a binary"));
    measured.args(["--exact", "a_large_query_gives_its_memory_back", "--nocapture"]);
    let output = measured.env(LARGE, "1").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.lines().find_map(|line| line.split_once("figures "));
    let (_, figures) = figures.unwrap_or_else(|| panic!("{text}"));
    let figures: Vec<u64> = figures.split(' ').filter_map(|figure| figure.parse().ok()).collect();
    let [counted, first, later] = figures[..] else { panic!("{text}") };
    eprintln!(
        "{counted} bytes counted; resident {first} bytes the first time, at least {later} more each later time"
    );
    assert!(first > 64 << 20, "{first} bytes are too few to be measured");
    assert!(later * 20 <= first, "{later} of {first} bytes were not given back");
}

/// What is counted of a large query, by how much the process grew for it, and for it each time after the second.
fn large_again_and_again() -> [u64; 3] {
    let script = KINDS[1].1;
    let text = format!("import px\ndf = px.DataFrame('{TABLE}', start_time='-5m')\n{script}");
    let script = weir_pxl::Script { name: "large", text: &text, vis: None };
    let compiled = weir_pxl::compile(&script, &weir_pxl::CompileOptions::default());
    let split = weir_pxl::split(&compiled.expect("it compiles").plan);
    let mut rig = Rig::start(1, 2, None).expect("engines start");
    let mut tick_ms = (BASE_UNIX_NS / 1_000_000) as u64;
    cycle(&mut rig, 0, &mut tick_ms).expect("a cycle");
    let mut counted = 0;
    let mut sizes = vec![resident_bytes()];
    for query in 1..=5 {
        rig.install(query, &split, TICK_MS, tick_ms + TICK_MS);
        let mut largest = 0;
        for _ in 0..40 {
            tick_ms += TICK_MS;
            rig.push(0, TABLE, vec![batch(tick_ms)]);
            rig.close_tick(tick_ms).expect("a tick");
            largest = largest.max(resident_bytes());
        }
        counted = rig.engines().iter().map(|engine| engine.stats().held_bytes).sum();
        sizes.push(largest);
        rig.remove(query).expect("a removal");
        let held: u64 = rig.engines().iter().map(|engine| engine.stats().held_bytes).sum();
        assert_eq!(held, 0, "nothing is counted of a query that is gone");
    }
    // What is forgotten is forgotten every time; how the allocator cuts its arenas differs from time to time.
    let later = sizes[2..].windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min();
    [counted, sizes[1].saturating_sub(sizes[0]), later.expect("three later times")]
}
