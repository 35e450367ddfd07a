//! The two parts of a plan: where paths are cut and what is shipped.

use weir_pxl::{bundle, split, split_with_reasons};
use weir_types::Relation;
use weir_types::plan::{OpKind, Plan};
use weir_types::split::{Fragment, FragmentKind, Shape, SplitPlan};

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
    let sent = parts.node.ops.iter().filter_map(|op| match &op.kind {
        FragmentKind::Send { shape, .. } => Some(shape.clone()),
        _ => None,
    });
    sent.collect()
}

fn split_of(text: &str) -> SplitPlan {
    let plan = compiled(text).plan;
    let parts = split(&plan);
    check(&plan, &parts);
    parts
}

/// What must hold of every split: operators in order, sends and receives that match, times that are
/// times, columns that exist, sources on the right side.
fn check(plan: &Plan, parts: &SplitPlan) {
    for fragment in [&parts.node, &parts.cluster] {
        for (id, op) in fragment.ops.iter().enumerate() {
            assert!(op.inputs.iter().all(|&input| input < id), "topological order");
            let names: Vec<&str> = op.relation.columns.iter().map(|c| c.name.as_str()).collect();
            let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(unique.len(), names.len(), "unique names: {names:?}");
            check_columns(fragment, id);
        }
    }
    for op in &parts.node.ops {
        if let FragmentKind::Send { exchange, shape, window, time } = &op.kind {
            let input = &parts.node.ops[op.inputs[0]].relation;
            assert_eq!(input.columns[*time].data_type.name(), "TIME64NS");
            let received = parts.cluster.ops.iter().find_map(|op| match &op.kind {
                FragmentKind::Receive { exchange: have, shape, window, input }
                    if have == exchange =>
                {
                    Some((shape, window, input))
                }
                _ => None,
            });
            assert_eq!(received, Some((shape, window, input)), "sent as received");
        }
        let scan = matches!(&op.kind, FragmentKind::Plan(OpKind::Scan { .. }));
        let row_wise = matches!(
            &op.kind,
            FragmentKind::Plan(OpKind::Filter { .. } | OpKind::Map { .. })
                | FragmentKind::Send { .. }
        );
        assert!(scan || row_wise, "only row-wise work on nodes");
    }
    let outputs: Vec<&str> = parts
        .cluster
        .ops
        .iter()
        .filter_map(|op| match &op.kind {
            FragmentKind::Output { table } => Some(table.as_str()),
            _ => None,
        })
        .collect();
    let wanted: Vec<&str> = plan.outputs.iter().map(|output| output.table.as_str()).collect();
    assert_eq!(outputs, wanted);
    for (op, output) in parts
        .cluster
        .ops
        .iter()
        .filter(|op| matches!(op.kind, FragmentKind::Output { .. }))
        .zip(&plan.outputs)
    {
        assert_eq!(op.relation, plan.ops[output.op].relation);
    }
}

/// Columns that an operator reads are there and have the type that it says.
fn check_columns(fragment: &Fragment, id: usize) {
    let op = &fragment.ops[id];
    let input = |at: usize| -> &Relation { &fragment.ops[op.inputs[at]].relation };
    let FragmentKind::Plan(kind) = &op.kind else { return };
    let check_expr = |expr: &weir_types::Expr| {
        expr.walk(&mut |part| {
            if let weir_types::Expr::Column { idx, data_type } = part {
                assert_eq!(input(0).columns[*idx].data_type, *data_type);
            }
        });
    };
    match kind {
        OpKind::Filter { predicate } => check_expr(predicate),
        OpKind::Map { exprs } => {
            assert_eq!(exprs.len(), op.relation.len());
            exprs.iter().for_each(check_expr);
            for (expr, column) in exprs.iter().zip(&op.relation.columns) {
                assert_eq!(expr.data_type(), column.data_type, "{}", column.name);
            }
        }
        OpKind::Aggregate { group, aggs } => {
            assert_eq!(group.len() + aggs.len(), op.relation.len());
            for agg in aggs {
                for (&arg, data_type) in agg.args.iter().zip(&agg.arg_types) {
                    assert_eq!(input(0).columns[arg].data_type, *data_type);
                }
            }
        }
        OpKind::Join { left_on, right_on, columns, .. } => {
            assert_eq!(columns.len(), op.relation.len());
            for (&l, &r) in left_on.iter().zip(right_on) {
                assert_eq!(input(0).columns[l].data_type, input(1).columns[r].data_type);
            }
            for ((side, idx), column) in columns.iter().zip(&op.relation.columns) {
                let at = usize::from(*side == weir_types::plan::Side::Right);
                assert_eq!(input(at).columns[*idx].data_type, column.data_type);
            }
        }
        OpKind::Union => {
            for at in 0..op.inputs.len() {
                assert_eq!(input(at).types(), op.relation.types());
            }
        }
        OpKind::Limit { .. } => assert_eq!(input(0), &op.relation),
        OpKind::Scan { .. } | OpKind::TableFunction { .. } => {}
    }
}

/// The LET workload: three partial aggregates over one scan, no rows.
#[test]
fn let_workload_ships_partials() {
    let parts = split_of(LET);
    let shapes = shapes(&parts);
    assert_eq!(shapes.len(), 3);
    assert!(shapes.iter().all(|shape| matches!(shape, Shape::Partial { .. })), "{shapes:?}");
    let scans = parts
        .node
        .ops
        .iter()
        .filter(|op| matches!(&op.kind, FragmentKind::Plan(OpKind::Scan { .. })));
    let columns: Vec<usize> = scans.map(|op| op.relation.len()).collect();
    assert_eq!(columns, [7], "one scan, without the columns that nothing reads");
    let cluster = parts.cluster.ops.iter();
    assert_eq!(cluster.filter(|op| matches!(op.kind, FragmentKind::Receive { .. })).count(), 3);
}

/// A limit ships the newest rows of each pane; with another reader all rows are shipped, once.
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
    let has = |fragment: &Fragment, name: &str| {
        let mut found = false;
        for op in &fragment.ops {
            if let FragmentKind::Plan(OpKind::Map { exprs }) = &op.kind {
                for expr in exprs {
                    expr.walk(&mut |part| {
                        found |=
                            matches!(part, weir_types::Expr::Call { func, .. } if func == name);
                    });
                }
            }
        }
        found
    };
    assert!(has(&parts.node, "_upid_to_podname_local_addr_fallback"));
    assert!(has(&parts.node, "upid_to_service_name"));
    assert!(!has(&parts.cluster, "upid_to_service_name"));
    assert!(has(&parts.cluster, "ip_to_pod_id"));
    assert!(!has(&parts.node, "ip_to_pod_id"));
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
    let reads = |fragment: &Fragment, wanted: &dyn Fn(&weir_types::Expr) -> bool| {
        let mut found = false;
        for op in &fragment.ops {
            if let FragmentKind::Plan(OpKind::Map { exprs }) = &op.kind {
                exprs.iter().for_each(|expr| expr.walk(&mut |part| found |= wanted(part)));
            }
        }
        found
    };
    let clock = |part: &weir_types::Expr| matches!(part, weir_types::Expr::Now { .. });
    let pod = |part: &weir_types::Expr| matches!(part, weir_types::Expr::Call { func, .. } if func == "upid_to_pod_name");
    assert!(!reads(&parts.node, &clock));
    assert!(reads(&parts.cluster, &clock));
    assert!(reads(&parts.node, &pod));
    assert!(!reads(&parts.cluster, &pod));
}

/// The time that puts rows into panes is the scanned row's, also where the script replaced it.
#[test]
fn panes_follow_the_scanned_time() {
    let text = "import px\ndf = px.DataFrame('jvm_stats', start_time='-1m')\n\
                df.time_ = px.bin(df.time_, px.seconds(10))\n\
                px.display(df.groupby('time_').agg(n=('upid', px.count)), 'bins')\n\
                px.display(df[['upid']], 'rows')\n";
    let parts = split_of(text);
    for op in &parts.node.ops {
        if let FragmentKind::Send { time, .. } = &op.kind {
            let column = &parts.node.ops[op.inputs[0]].relation.columns[*time];
            assert_eq!(column.name, "_scan_time");
        }
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
    let reads_upid = parts.node.ops.iter().any(|op| match &op.kind {
        FragmentKind::Plan(OpKind::Scan { columns, .. }) => columns.iter().any(|c| c == "upid"),
        _ => false,
    });
    assert!(reads_upid);
}

/// Equal sub-plans of different scripts have equal hashes, and exchange numbers do not matter.
#[test]
fn hashes_are_canonical() {
    let shared = "import px\ndf = px.DataFrame('http_events', start_time='-5m')\n\
                  df = df.groupby('req_path').agg(n=('latency', px.count))\n";
    let first = format!("{shared}px.display(df, 't')\n");
    let second = format!(
        "{}px.display(px.DataFrame('jvm_stats'), 'before')\npx.display(df, 't')\n",
        shared.replace("import px\n", "import px\n\n")
    );
    let receive = |parts: &SplitPlan| -> Vec<u64> {
        let partial = parts.cluster.ops.iter().filter(|op| {
            matches!(&op.kind, FragmentKind::Receive { shape: Shape::Partial { .. }, .. })
        });
        partial.map(|op| op.hash).collect()
    };
    let (first, second) = (receive(&split_of(&first)), receive(&split_of(&second)));
    assert_eq!(first.len(), 1);
    assert_eq!(first, second);
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
        check(&plan, &parts);
        assert_eq!(cuts.len(), shapes(&parts).len(), "{}", each.name);
    }
}
