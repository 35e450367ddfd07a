//! The model by itself: more rows, longer windows and more groups cost more, what is shared costs nothing, and no
//! script of the bundle makes it say nonsense.

use weir_types::split::SplitPlan;

use super::*;
use crate::planner::{ScriptRequest, prepare};

const SEC_NS: i64 = 1_000_000_000;
const NOW_NS: i64 = 1_767_225_600 * SEC_NS;
const LIMITS: CostLimits = CostLimits {
    query_cost_max: 0,
    query_bytes_max: 1 << 40,
    query_groups_max: 1 << 40,
    retention_ns: 3_600 * SEC_NS,
};

fn split(text: &str) -> SplitPlan {
    let text = Some(format!("import px\n{text}"));
    let request = ScriptRequest { text, ..ScriptRequest::default() };
    (*prepare(&request, 100, None, &|_| true).unwrap().split).clone()
}

/// A table that has had so many rows a second for an hour, on each of some nodes.
fn tables(table: &str, rows_per_s: f64, nodes: usize) -> Vec<TableNow> {
    let held_ns = 3_600 * SEC_NS;
    let rows = rows_per_s * 3_600.0;
    let one = |node: usize| TableNow {
        node: node.to_string(),
        table: table.to_string(),
        rows_per_s,
        rows_held: rows,
        history_bytes: rows * 300.0,
        held_ns,
        came: vec![(0, 0.0), (held_ns, rows)],
    };
    (0..nodes).map(one).collect()
}

fn of(split: &SplitPlan, tables: &[TableNow]) -> Estimate {
    with(split, tables, &LIMITS)
}

fn with(split: &SplitPlan, tables: &[TableNow], limits: &CostLimits) -> Estimate {
    let shared = vec![None; split.sources.len()];
    let known = Known {
        split,
        refresh_ms: 1_000,
        shared: &shared,
        running: None,
        tables,
        now_unix_ns: NOW_NS,
    };
    estimate(&known, limits)
}

fn figures(total: &CostTotals) -> [f64; 9] {
    let CostTotals {
        rows_to_fill,
        fill_cpu_ns,
        rows_per_s,
        cpu_ns_per_s,
        node_state_bytes,
        state_bytes,
        answer_rows,
        answer_bytes,
        bus_bytes_per_s,
    } = *total;
    [
        rows_to_fill,
        fill_cpu_ns,
        rows_per_s,
        cpu_ns_per_s,
        node_state_bytes,
        state_bytes,
        answer_rows,
        answer_bytes,
        bus_bytes_per_s,
    ]
}

fn no_less(what: &str, less: &CostTotals, more: &CostTotals) {
    for (at, (less, more)) in figures(less).into_iter().zip(figures(more)).enumerate() {
        assert!(more >= less * 0.999_999, "{what}: figure {at} falls from {less} to {more}");
    }
}

const SCRIPTS: [&str; 6] = [
    "df = px.DataFrame('http_events', start_time='-WINDOW')\npx.display(df)",
    "df = px.DataFrame('http_events', start_time='-WINDOW')\npx.display(df.head(100))",
    "df = px.DataFrame('http_events', start_time='-WINDOW')\n\
     df.service = df.ctx['service']\n\
     df = df.groupby('service').agg(n=('latency', px.count), q=('latency', px.quantiles))\npx.display(df)",
    "df = px.DataFrame('http_events', start_time='-WINDOW')\ndf.at = px.bin(df.time_, px.seconds(10))\n\
     df = df.groupby(['at', 'req_path']).agg(n=('latency', px.count))\npx.display(df)",
    "df = px.DataFrame('http_events', start_time='-WINDOW')\ndf = df[df.resp_status >= 400]\n\
     df = df[['time_', 'req_path', 'latency']]\npx.display(df)",
    "df = px.DataFrame('http_events', start_time='-WINDOW')\n\
     a = df.groupby('req_path').agg(n=('latency', px.count))\n\
     b = df.groupby('req_path').agg(m=('latency', px.max))\n\
     c = a.merge(b, how='inner', left_on='req_path', right_on='req_path', suffixes=['', '_b'])\n\
     px.display(c)",
];

/// Whatever grows, no figure falls: rows, nodes, windows; and what is expected is never more than what is at most.
#[test]
fn more_costs_more() {
    for text in SCRIPTS {
        let short = split(&text.replace("WINDOW", "1m"));
        let long = split(&text.replace("WINDOW", "30m"));
        let few = of(&short, &tables("http_events", 50.0, 1));
        for (what, more) in [
            ("more rows", of(&short, &tables("http_events", 500.0, 1))),
            ("more nodes", of(&short, &tables("http_events", 50.0, 4))),
            ("a longer window", of(&long, &tables("http_events", 50.0, 1))),
        ] {
            let what = format!("{what}, {text}");
            // Panes of a longer window are longer: a group changes in fewer of them.
            if what.starts_with("a longer") {
                assert!(more.total.state_bytes >= few.total.state_bytes, "{what}");
                assert!(more.total.rows_to_fill >= 20.0 * few.total.rows_to_fill, "{what}");
            } else {
                no_less(&what, &few.total, &more.total);
            }
            no_less(&format!("at most, {what}"), &more.total, &more.most);
        }
        let [rows_to_fill, ..] = figures(&few.total);
        assert!(
            (rows_to_fill / few.sources.len() as f64 - 3_000.0).abs() < 120.0,
            "{rows_to_fill}"
        );
    }
}

/// More columns to group by make more groups; a limit bounds rows, and the limits of the server bound groups.
#[test]
fn groups_and_bounds() {
    let by = |keys: &str| {
        split(&format!(
            "df = px.DataFrame('http_events', start_time='-5m')\n\
             df = df.groupby({keys}).agg(n=('latency', px.count))\npx.display(df)"
        ))
    };
    let tables = tables("http_events", 1_000.0, 1);
    let few = of(&by("'req_method'"), &tables);
    let more = of(&by("['req_method', 'req_path']"), &tables);
    assert!(more.total.state_bytes > 2.0 * few.total.state_bytes);
    assert!(more.assumed.iter().any(|said| said.contains("groups")), "{:?}", more.assumed);
    let groups = |estimate: &Estimate| estimate.sources[0].groups_kept.unwrap();
    assert!(groups(&more) > groups(&few) && groups(&more) <= 300_000.0);
    let bounded = CostLimits { query_groups_max: 5, query_bytes_max: 1 << 20, ..LIMITS };
    let bounded = with(&by("['req_method', 'req_path']"), &tables, &bounded);
    assert_eq!(groups(&bounded), 5.0);
    assert!(bounded.most.state_bytes <= f64::from(1 << 20));
    let one = of(
        &split(
            "df = px.DataFrame('http_events', start_time='-5m')\ndf = df.agg(n=('latency', px.count))\npx.display(df)",
        ),
        &tables,
    );
    assert!((0.99..1.01).contains(&groups(&one)), "{}", groups(&one));

    let head = of(
        &split("df = px.DataFrame('http_events', start_time='-5m')\npx.display(df.head(10))"),
        &tables,
    );
    assert_eq!(head.sources[0].rows_kept, 10.0);
    assert!(head.total.state_bytes < 100_000.0);
}

/// What a feed has costs the query nothing, and its operators what they cost; a plan that runs costs nothing at all.
#[test]
fn what_is_shared_costs_nothing() {
    let split = split(&SCRIPTS[5].replace("WINDOW", "5m"));
    let tables = tables("http_events", 100.0, 2);
    let alone = of(&split, &tables);
    let all = vec![Some(7); split.sources.len()];
    let known = Known {
        split: &split,
        refresh_ms: 1_000,
        shared: &all,
        running: None,
        tables: &tables,
        now_unix_ns: NOW_NS,
    };
    let shared = estimate(&known, &LIMITS);
    assert!(shared.sources.iter().all(|source| source.feed == Some(7)));
    let total = shared.total;
    assert_eq!(
        (total.rows_to_fill, total.bus_bytes_per_s, total.node_state_bytes),
        (0.0, 0.0, 0.0)
    );
    let joins: f64 = shared.operators.iter().map(|operator| operator.state_bytes).sum();
    assert!(total.state_bytes > 0.0 && total.state_bytes == joins);
    assert!(total.state_bytes < alone.total.state_bytes);
    let running = estimate(&Known { running: Some(3), ..known }, &LIMITS);
    assert_eq!(
        (running.running, running.total, running.most),
        (Some(3), CostTotals::default(), CostTotals::default())
    );
}

/// A limit is what is expected is compared with; none is 0.
#[test]
fn a_limit_is_held_to() {
    let split = split(&SCRIPTS[0].replace("WINDOW", "5m"));
    let found = of(&split, &tables("http_events", 1_000.0, 1));
    let limits = |query_cost_max| CostLimits { query_cost_max, ..LIMITS };
    let expected = found.total.state_bytes as u64;
    assert!(!found.is_above(&limits(0)) && !found.is_above(&limits(expected + 1)));
    assert!(found.is_above(&limits(expected / 2)));
}

/// Each script of the bundle, over tables without a row, with some and with very many: figures are numbers, none is
/// below nothing, and what is at most is not less than what is expected.
#[test]
fn the_bundle_has_estimates() {
    let mut estimated = 0;
    for script in weir_pxl::bundle::scripts() {
        let request =
            ScriptRequest { script: Some(script.name.to_string()), ..ScriptRequest::default() };
        // Some need arguments.
        let Ok(prepared) = prepare(&request, 100, None, &|_| true) else { continue };
        for rate in [0.0, 20.0, 1e9] {
            let names = prepared.split.sources.iter().map(|source| source.table().to_string());
            let names: std::collections::BTreeSet<String> = names.collect();
            let tables: Vec<_> = names.iter().flat_map(|name| tables(name, rate, 2)).collect();
            let found = of(&prepared.split, &tables);
            for figure in figures(&found.total).into_iter().chain(figures(&found.most)) {
                assert!(figure.is_finite() && figure >= 0.0, "{}: {found:?}", script.name);
            }
            let (total, most) = (found.total.state_bytes, found.most.state_bytes);
            assert!(most >= total * 0.999, "{} at {rate}: {total} {most}", script.name);
            estimated += 1;
        }
    }
    assert!(estimated > 100, "{estimated}");
}
