//! The two parts of a plan: where paths are cut and what is shipped.

use weir_pxl::{CompileOptions, Script, bundle, compile, split, split_with_reasons};
use weir_types::Expr;
use weir_types::plan::OpKind;
use weir_types::split::{NodeOp, Shape, Source, SplitPlan, Step};

use crate::frames::compiled;

const LET: &str = "import px\n\
    df = px.DataFrame('let_events', start_time='-5m')\n\
    df.err = px.select(df.status >= 400, 1, 0)\n\
    df.w = px.bin(df.time_, px.seconds(1))\n\
    def agg(df, by):\n    \
        return df.groupby(by).agg(n=('latency', px.count), errors=('err', px.sum),\n        \
            bytes=('resp_size', px.sum), q=('latency', px.quantiles))\n\
    px.display(agg(df, ['service', 'endpoint', 'w']), 'a')\n\
    px.display(agg(df, ['service', 'remote']), 'b')\n\
    px.display(df.groupby('service').agg(slowest=('latency', px.max)), 'c')\n";

fn shapes(parts: &SplitPlan) -> Vec<Shape> {
    parts.sources.iter().map(|source| source.shape.clone()).collect()
}

/// That parts fit each other is checked with every split that a test makes (`split::checked`).
fn split_of(text: &str) -> SplitPlan {
    split(&compiled(text).plan)
}

/// True if some expression of the part is as wanted.
type Wanted<'a> = &'a dyn Fn(&Expr) -> bool;

fn nodes_compute(parts: &SplitPlan, wanted: Wanted<'_>) -> bool {
    let mut found = false;
    for step in parts.sources.iter().flat_map(|source| &source.steps) {
        if let Step::Map { exprs, .. } = &**step {
            exprs.iter().for_each(|expr| expr.walk(&mut |part| found |= wanted(part)));
        }
    }
    found
}

fn cluster_computes(parts: &SplitPlan, wanted: Wanted<'_>) -> bool {
    let mut found = false;
    for expr in parts.cluster.ops.iter().flat_map(|op| op.kind.expressions()) {
        expr.walk(&mut |part| found |= wanted(part));
    }
    found
}

/// The LET workload: three partial aggregates over one scan, no rows.
#[test]
fn let_workload_ships_partials() {
    let parts = split_of(LET);
    let shapes = shapes(&parts);
    assert_eq!(shapes.len(), 3);
    assert!(shapes.iter().all(|shape| matches!(shape, Shape::Partial { .. })), "{shapes:?}");
    let node = parts.node();
    let columns: Vec<usize> = node.scans().map(|scan| scan.columns.len()).collect();
    assert_eq!(columns, [7], "one scan, without the columns that nothing reads");
    assert_eq!(node.ops.len(), 2, "and one map: what sources have in common is done once");
    let received = parts.cluster.ops.iter().filter(|op| matches!(op.kind, OpKind::Scan(_)));
    assert_eq!(received.count(), 3);
}

/// A limit ships the newest rows; with another reader all rows are shipped, once.
#[test]
fn limits_ship_few_rows() {
    let head = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                px.display(df.head(7), 'newest')\n";
    assert_eq!(shapes(&split_of(head)), [Shape::Rows { rows_max: Some(7) }]);
    let both = format!("{head}px.display(df.head(3), 'few')\n");
    assert_eq!(shapes(&split_of(&both)), [Shape::Rows { rows_max: Some(7) }]);
    let all = format!("{head}px.display(df, 'all')\n");
    assert_eq!(shapes(&split_of(&all)), [Shape::Rows { rows_max: None }]);
    let untimed = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                   px.display(df[['upid']].head(7), 'smallest')\n";
    assert_eq!(shapes(&split_of(untimed)), [Shape::Rows { rows_max: None }]);
    let binned = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                  df.time_ = px.bin(df.time_, px.seconds(10))\n\
                  px.display(df.head(7), 'latest bin')\n";
    assert_eq!(shapes(&split_of(binned)), [Shape::Rows { rows_max: None }]);
    let ended = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m', end_time='-10s')\n\
                 px.display(df.head(7), 'older')\n";
    assert_eq!(shapes(&split_of(ended)), [Shape::Rows { rows_max: None }]);
}

/// Below a limit may stand what only the cluster part can tell: nodes count the rows that pass it whatever
/// that is, and leave out those that cannot. Where nothing is certain, all rows are shipped.
#[test]
fn limits_reach_through_late_filters() {
    let filtered = |condition: &str| {
        let text = format!(
            "import px\ndf = px.DataFrame('http_events', start_time='-1m')\n\
             df.peer = px.ip_to_pod_id(df.remote_addr)\ndf = df[{condition}]\n\
             px.display(df[['time_', 'latency']].head(7), 't')\n"
        );
        split_of(&text)
    };
    let candidates = Shape::Candidates { rows_max: 7 };
    let either = filtered("df.trace_role == 2 or df.peer == ''");
    assert_eq!(shapes(&either), std::slice::from_ref(&candidates));
    let marks = |step: &Step| match step {
        Step::Map { labels, .. } => labels.0.last().is_some_and(|name| name == "_certain"),
        Step::Filter(_) => false,
    };
    assert!(either.sources[0].steps.last().is_some_and(|step| marks(step)), "{either:?}");
    let received = &either.cluster.ops[0].relation;
    assert!(received.index_of("_certain").is_none(), "it is taken off: {received:?}");
    // A node knows that no row of another role passes.
    let unknown = "px.ip_to_pod_id(df.remote_addr) == ''";
    let both = filtered(&format!("df.trace_role == 2 and ({unknown} or df.latency > 5)"));
    assert_eq!(shapes(&both), [candidates]);
    let filters = both.sources[0].steps.iter().filter(|step| matches!(***step, Step::Filter(_)));
    assert_eq!(filters.count(), 1, "{both:?}");
    // Whether a row passes is for the cluster part alone to say.
    assert_eq!(shapes(&filtered("df.peer == ''")), [Shape::Rows { rows_max: None }]);
    assert_eq!(
        shapes(&filtered("df.peer == '' and df.latency > 5")),
        [Shape::Rows { rows_max: None }]
    );
}

/// A left join keeps each row of its left side; its right side is shipped whole. Other joins lose rows, or
/// make some of their own.
#[test]
fn limits_reach_through_left_joins() {
    let joined = |how: &str| {
        let text = format!(
            "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
             of = px.DataFrame('process_stats', start_time='-1m').groupby('upid').agg(\
             n=('rss_bytes', px.max))\n\
             both = df.merge(of, how='{how}', left_on='upid', right_on='upid', suffixes=['', '_of'])\n\
             px.display(both[['time_', 'n']].head(7), 't')\n"
        );
        let shapes = shapes(&split_of(&text)).into_iter();
        shapes.filter(|shape| *shape == Shape::Rows { rows_max: Some(7) }).count()
    };
    assert_eq!(["left", "inner", "outer"].map(joined), [1, 0, 0]);
}

/// What the newest requests view needs of a node is as many rows as it shows.
#[test]
fn the_newest_requests_are_chosen_on_the_node() {
    let script = bundle::find("px/http_data").expect("it is in the bundle");
    let script = Script { name: script.name, text: script.pxl, vis: script.vis };
    let compiled = compile(&script, &CompileOptions::default());
    let parts = split(&compiled.unwrap_or_else(|why| panic!("{why:?}")).plan);
    assert_eq!(shapes(&parts), [Shape::Candidates { rows_max: 1000 }]);
}

/// Functions of the cluster part cut a path; node functions behind them are computed on the node.
#[test]
fn functions_stand_where_they_run() {
    let text = "import px\ndf = px.DataFrame('http_events', start_time='-1m')\n\
                df.peer = px.pod_id_to_pod_name(px.ip_to_pod_id(df.remote_addr))\n\
                df = df[df.peer != '']\n\
                df.pod = df.ctx['pod']\n\
                df.both = px.select(df.pod == '', df.peer, df.ctx['service'])\n\
                px.display(df[['time_', 'pod', 'peer', 'both']], 't')\n";
    let parts = split_of(text);
    let calls = |name: &'static str| move |part: &Expr| matches!(part, Expr::Call { func, .. } if func == name);
    assert!(nodes_compute(&parts, &calls("_upid_to_podname_local_addr_fallback")));
    assert!(nodes_compute(&parts, &calls("upid_to_service_name")));
    assert!(!cluster_computes(&parts, &calls("upid_to_service_name")));
    assert!(cluster_computes(&parts, &calls("ip_to_pod_id")));
    assert!(!nodes_compute(&parts, &calls("ip_to_pod_id")));
}

/// What reads the clock is computed in the cluster part, where it can change with time; a node
/// function behind it is still computed on the node.
#[test]
fn the_clock_is_read_late() {
    let text = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                df.age = px.now() - px.time_to_int64(df.time_)\n\
                df = df[df.age > 5]\n\
                df.pod = df.ctx['pod']\n\
                px.display(df[['time_', 'age', 'pod']], 't')\n";
    let parts = split_of(text);
    let clock = |part: &Expr| matches!(part, Expr::Now { .. });
    let pod = |part: &Expr| matches!(part, Expr::Call { func, .. } if func == "upid_to_pod_name");
    assert!(!nodes_compute(&parts, &clock));
    assert!(cluster_computes(&parts, &clock));
    assert!(nodes_compute(&parts, &pod));
    assert!(!cluster_computes(&parts, &pod));
}

/// What a filter of the cluster part leaves out by the row alone is not sent, also where its condition reads a column
/// that the cluster part computes; where others read that column, too, all rows are sent.
#[test]
fn late_columns_do_not_keep_rows_on_their_way() {
    let text = |rest: &str| {
        format!(
            "import px\ndf = px.DataFrame('http_events', start_time='-1m')\n\
             df.pod_id = px.ip_to_pod_id(df.remote_addr)\n\
             df.is_known = df.pod_id != ''\nall = df\n\
             df = df[df.is_known and df.resp_status > 400]\n\
             px.display(df[['time_', 'pod_id', 'resp_status']], 't')\n{rest}"
        )
    };
    let sends_less = |text: &str| {
        let mut found = false;
        for step in split_of(text).sources.iter().flat_map(|source| &source.steps) {
            if let Step::Filter(predicate) = &**step {
                predicate.walk(&mut |part| {
                    found |= matches!(part, Expr::Call { func, .. } if func == "greaterThan");
                });
            }
        }
        found
    };
    assert!(sends_less(&text("")));
    assert!(!sends_less(&text("px.display(all[['time_', 'pod_id', 'is_known']], 'u')\n")));
}

/// The time that puts rows into panes is the scanned row's, also where the script replaced it.
#[test]
fn panes_follow_the_scanned_time() {
    let text = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                df.time_ = px.bin(df.time_, px.seconds(10))\n\
                px.display(df.groupby('time_').agg(n=('upid', px.count)), 'bins')\n\
                px.display(df[['upid']], 'rows')\n";
    let parts = split_of(text);
    assert_eq!(parts.sources.len(), 2);
    for source in &parts.sources {
        assert_eq!(source.sent().columns[source.time].name, "_scan_time");
    }
}

/// `asid()` and the like are the row's process's, also where the script dropped the column.
#[test]
fn row_functions_take_the_upid() {
    let text = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                df = df[['time_', 'used_heap_size']]\n\
                df.host = px._exec_hostname()\n\
                px.display(df, 't')\n";
    let parts = split_of(text);
    let reads_upid = |op: &NodeOp| match op {
        NodeOp::Scan(table) => table.scan.columns.iter().any(|c| c == "upid"),
        NodeOp::Step { .. } => false,
    };
    assert!(parts.node().ops.iter().any(reads_upid));
}

/// Sources of different scripts are equal if they hold the same rows, whatever stands around them and
/// whatever columns are called; another function is another source.
#[test]
fn sources_are_values() {
    let shared = |name: &str, func: &str| {
        format!(
            "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n\
             df.{name} = df.latency / 1000\n\
             df = df.groupby('req_path').agg(n=('{name}', px.{func}))\n"
        )
    };
    let partials = |text: &str| -> Vec<Source> {
        let sources = split_of(text).sources.into_iter();
        sources.filter(|source| matches!(source.shape, Shape::Partial { .. })).collect()
    };
    let first = partials(&format!("{}px.display(df, 't')\n", shared("us", "count")));
    let second = partials(&format!(
        "{}px.display(px.DataFrame('jvm_stats'), 'before')\npx.display(df, 't')\n",
        shared("micros", "count")
    ));
    let third = partials(&format!("{}px.display(df, 't')\n", shared("us", "sum")));
    assert_eq!(first.len(), 1);
    assert_eq!(first, second);
    assert_ne!(first, third);
}

/// Outputs along one long path cost a source each, not a copy of the path each: 400 of them on a path of
/// 400 maps. Before, each was a copy of its own, with every column of every operator.
#[test]
fn outputs_along_a_path_share_it() {
    let mut text = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n".to_string();
    for number in 0..400 {
        text.push_str(&format!("df.latency = df.latency + {number}\n"));
        text.push_str(&format!("px.display(df, 't{number}')\n"));
    }
    let parts = split_of(&text);
    assert_eq!(parts.sources.len(), 400);
    let node = parts.node();
    assert_eq!((node.ops.len(), node.sends.len()), (401, 400));
    let longest = parts.sources.iter().map(|source| source.steps.len()).max();
    assert_eq!(longest, Some(400));
}

/// Every cut has a reason, and every bundled script splits soundly.
#[test]
fn bundle_splits() {
    for each in bundle::scripts() {
        let script = weir_pxl::Script { name: each.name, text: each.pxl, vis: each.vis };
        let options =
            weir_pxl::CompileOptions { placeholders: true, ..weir_pxl::CompileOptions::default() };
        let plan = weir_pxl::compile(&script, &options).unwrap().plan;
        let (parts, cuts) = split_with_reasons(&plan);
        assert_eq!(cuts.len(), shapes(&parts).len(), "{}", each.name);
    }
}
