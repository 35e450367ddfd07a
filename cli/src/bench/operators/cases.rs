//! The cases of `weir bench operators`: a script, and what it means in plain code.

use weir_types::Value;

use super::{Row, reference};

pub(super) const PRELUDE: &str = "import px\n\
    df = px.DataFrame('let_events', start_time='-5m')\n\
    a = df[df.status == 0]\n\
    b = df[df.status == 1]\n";

/// Plain code over the rows.
type Reference = fn(&[Row]) -> Vec<Vec<Value>>;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) script: &'static str,
    /// `None`: compared with a pipeline that is given all rows at once.
    pub(super) reference: Option<Reference>,
}

const fn case(
    name: &'static str,
    reference: fn(&[Row]) -> Vec<Vec<Value>>,
    script: &'static str,
) -> Case {
    Case { name, script, reference: Some(reference) }
}

pub(super) const CASES: &[Case] = &[
    case("expiring_rows", reference::rows, "px.display(df[['pod', 'req_size']], 'out')"),
    case(
        "expiring_groups",
        reference::counts,
        "px.display(df.groupby('pod').agg(n=('latency', px.count), s=('latency', px.sum)), 'out')",
    ),
    case(
        "inner_join",
        |rows| reference::join(rows, false, false),
        "out = a[['pod', 'req_size']].merge(b[['pod', 'latency']], how='inner', left_on='pod', \
         right_on='pod', suffixes=['', '_b'])\n\
         px.display(out[['pod', 'req_size', 'latency']], 'out')",
    ),
    case(
        "left_join",
        |rows| reference::join(rows, true, false),
        "out = a[['pod', 'req_size']].merge(b[['pod', 'latency']], how='left', left_on='pod', \
         right_on='pod', suffixes=['', '_b'])\n\
         px.display(out[['pod', 'req_size', 'latency']], 'out')",
    ),
    case(
        "outer_join",
        |rows| reference::join(rows, true, true),
        "out = a[['pod', 'req_size']].merge(b[['pod', 'latency']], how='outer', left_on='pod', \
         right_on='pod', suffixes=['', '_b'])\n\
         px.display(out[['pod', 'req_size', 'latency']], 'out')",
    ),
    case(
        "cross_join",
        reference::cross,
        "tops = df.groupby('service').agg(top=('latency', px.max))\n\
         out = df[['req_size']].merge(tops, how='inner', left_on=[], right_on=[])\n\
         px.display(out[['req_size', 'service', 'top']], 'out')",
    ),
    case(
        "union",
        reference::union,
        "px.display(a[['pod', 'req_size']].append(b[['pod', 'req_size']]), 'out')",
    ),
    case(
        "distinct",
        reference::distinct,
        "px.display(df.groupby(['pod', 'latency']).agg(), 'out')",
    ),
    case(
        "distinct_after_join",
        reference::distinct_joined,
        "out = a[['pod', 'req_size']].merge(b[['pod', 'latency']], how='inner', left_on='pod', \
         right_on='pod', suffixes=['', '_b'])\n\
         px.display(out.groupby(['pod', 'latency']).agg(), 'out')",
    ),
    case(
        "any",
        reference::any,
        "px.display(df.groupby('pod').agg(one=('req_size', px.any)), 'out')",
    ),
    case(
        "min_max",
        reference::min_max,
        "px.display(df.groupby('pod').agg(least=('latency', px.min), most=('latency', px.max)), 'out')",
    ),
    case(
        "min_max_after_join",
        reference::min_max_joined,
        "out = a[['pod', 'req_size']].merge(b[['pod', 'latency']], how='inner', left_on='pod', \
         right_on='pod', suffixes=['', '_b'])\n\
         px.display(out.groupby('pod').agg(least=('latency', px.min), most=('req_size', px.max)), 'out')",
    ),
    case(
        "medians",
        reference::medians,
        "out = df.groupby('pod').agg(q=('latency', px.quantiles))\n\
         out.p50 = px.floor(px.pluck_float64(out.q, 'p50'))\n\
         px.display(out[['pod', 'p50']], 'out')",
    ),
    case(
        "scalar_sub_view",
        reference::above_half,
        "top = df.agg(top=('latency', px.max))\n\
         out = df[['req_size', 'latency']].merge(top, how='inner', left_on=[], right_on=[])\n\
         out = out[out.latency * 2 >= out.top]\n\
         px.display(out[['req_size']], 'out')",
    ),
    case(
        "rows_above_p99",
        reference::above_p99,
        "limits = df.groupby('pod').agg(q=('latency', px.quantiles))\n\
         limits.p99 = px.floor(px.pluck_float64(limits.q, 'p99'))\n\
         out = df[['pod', 'req_size', 'latency']].merge(limits, how='inner', left_on='pod', \
         right_on='pod', suffixes=['', '_l'])\n\
         out = out[out.latency >= out.p99]\n\
         px.display(out[['req_size']], 'out')",
    ),
    case(
        "agg_over_agg",
        reference::agg_over_agg,
        "pods = df.groupby(['service', 'pod']).agg(n=('latency', px.count))\n\
         px.display(pods.groupby('service').agg(pods=('pod', px.count), most=('n', px.max), \
         rows=('n', px.sum)), 'out')",
    ),
    case(
        "flame_graph_difference",
        reference::difference,
        "x = a.groupby('pod').agg(n=('latency', px.sum))\n\
         y = b.groupby('pod').agg(n=('latency', px.sum))\n\
         out = x.merge(y, how='left', left_on='pod', right_on='pod', suffixes=['', '_b'])\n\
         out.more = out.n - out.n_b\n\
         px.display(out[['pod', 'more']], 'out')",
    ),
    case(
        "newest_rows",
        reference::newest,
        "px.display(df[['time_', 'req_size']].head(100), 'out')",
    ),
    case(
        "limit_after_join",
        reference::least_joined,
        "out = a[['pod', 'req_size']].merge(b[['pod', 'latency']], how='inner', left_on='pod', \
         right_on='pod', suffixes=['', '_b'])\n\
         px.display(out[['req_size', 'latency']].head(100), 'out')",
    ),
    Case {
        name: "path_clusters",
        script: "px.display(df.groupby('service').agg(c=('endpoint', \
                 px._build_request_path_clusters)), 'out')",
        reference: None,
    },
];
