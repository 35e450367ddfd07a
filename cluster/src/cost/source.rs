//! What one source costs: the rows that nodes read, fold or send for it, and the window that keeps them. Operators
//! above the window are not its.

use weir_engine::guess::{self, Values};
use weir_engine::sizes;
use weir_proto::QueryId;
use weir_types::plan::{AggCall, EndBound, SlidingWindow, StartBound, Window};
use weir_types::split::{Shape, Source};

use super::arrivals::TableNow;
use super::columns::{self, Stepped};
use super::{CostLimits, Flow, Guess, Known, work_ns};

const SEC_NS: f64 = 1e9;
/// A change on the bus beside its row, or its key and accumulators.
const CHANGE_BYTES: f64 = 16.0;
/// A window of groups takes nobody in when it holds so much of the query's budget: further rows are counted in
/// `__overflow__`.
const GROUPS_SHARE: f64 = 0.5;

/// A source of a query; all counts are of all nodes together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceCost {
    pub table: String,
    /// `groups`, `rows` or `newest rows`.
    pub shape: &'static str,
    /// The feed that has it already: then it costs nothing more.
    pub feed: Option<QueryId>,
    pub nodes: usize,
    pub window_ns: i64,
    pub panes: i64,
    /// Rows that come into the table now, whoever reads them.
    pub table_rows_per_s: f64,
    /// The share of them that filters keep.
    pub passing: f64,
    pub rows_to_fill: f64,
    pub rows_per_s: f64,
    /// What the window keeps.
    pub rows_kept: f64,
    pub groups_kept: Option<f64>,
    pub node_ns_per_row: f64,
    pub cpu_ns_per_s: f64,
    pub fill_cpu_ns: f64,
    pub node_state_bytes: f64,
    pub state_bytes: f64,
    pub bus_bytes_per_s: f64,
    pub(super) assumed: Vec<String>,
}

impl SourceCost {
    /// Somebody else pays.
    pub(super) fn costs_nothing(&mut self) {
        let paid = [
            &mut self.rows_to_fill,
            &mut self.rows_per_s,
            &mut self.cpu_ns_per_s,
            &mut self.fill_cpu_ns,
            &mut self.node_state_bytes,
            &mut self.state_bytes,
            &mut self.bus_bytes_per_s,
        ];
        paid.into_iter().for_each(|figure| *figure = 0.0);
    }
}

/// Ages between which rows are in a window, and whether it goes on to get new ones.
struct Ages {
    from_ns: i64,
    to_ns: i64,
    is_open: bool,
}

fn ages(window: Window, sliding: SlidingWindow, now_unix_ns: i64) -> Ages {
    let from_ns = match window.start {
        StartBound::Relative { .. } | StartBound::Beginning => sliding.window_ns,
        StartBound::Absolute { .. } | StartBound::Then { .. } => {
            window.first_unix_ns().map_or(i64::MAX, |first| now_unix_ns.saturating_sub(first))
        }
    };
    let to_ns = match window.end {
        EndBound::Now => 0,
        EndBound::Relative { before_ns } => before_ns,
        EndBound::Absolute { end_unix_ns } => now_unix_ns.saturating_sub(end_unix_ns),
    };
    let is_open = !matches!(window.end, EndBound::Absolute { .. }) || to_ns < 0;
    let to_ns = to_ns.max(0);
    Ages { from_ns: from_ns.max(to_ns), to_ns, is_open }
}

/// What comes into one window.
struct Intake {
    stepped: Stepped,
    /// Rows that nodes read at first and per second, and that the window keeps once it is full.
    to_fill: f64,
    read_per_s: f64,
    kept: f64,
    /// Of those that come, per second on each node.
    per_node: Vec<f64>,
    sliding: SlidingWindow,
    refresh_s: f64,
}

impl Intake {
    fn kept_per_s(&self) -> f64 {
        self.per_node.iter().sum()
    }

    fn row_bytes(&self) -> f64 {
        self.stepped.columns.iter().map(|column| column.bytes).sum()
    }
}

fn intake(source: &Source, known: &Known<'_>, limits: &CostLimits, guess: Guess) -> Intake {
    let window = source.window();
    let retention_ns = limits.retention_ns.max(1);
    let sliding =
        window.sliding(Some(retention_ns)).unwrap_or_else(|| SlidingWindow::of(retention_ns));
    let ages = ages(window, sliding, known.now_unix_ns);
    let tables = || known.tables.iter().filter(|table| table.table == source.table());
    let (held, bytes) = tables().fold((0.0, 0.0), |(rows, bytes), table| {
        (rows + table.rows_held, bytes + table.history_bytes)
    });
    let row_bytes = (held >= 1.0).then(|| bytes / held);
    let stepped = columns::stepped(source, sliding.window_ns as f64, row_bytes, guess);
    let span_s = (ages.from_ns.min(sliding.window_ns) - ages.to_ns).max(0) as f64 / SEC_NS;
    let fill = |table: &TableNow| {
        let within = |age: i64| table.came_within(age.min(table.held_ns));
        (within(ages.from_ns) - within(ages.to_ns)).max(0.0)
    };
    let to_fill: f64 = tables().map(fill).sum();
    let rate = |table: &TableNow| if ages.is_open { table.rows_per_s } else { 0.0 };
    let full = |table: &TableNow| fill(table).max(rate(table) * span_s);
    let passing = stepped.passing;
    Intake {
        kept: tables().map(full).sum::<f64>() * passing,
        read_per_s: tables().map(rate).sum(),
        per_node: tables().map(|table| rate(table) * passing).collect(),
        to_fill,
        stepped,
        sliding,
        refresh_s: known.refresh_ms.max(1) as f64 / 1e3,
    }
}

/// A source, and what its window tells.
pub(super) fn cost(
    source: &Source,
    known: &Known<'_>,
    limits: &CostLimits,
    guess: Guess,
) -> (SourceCost, Flow) {
    let rows = intake(source, known, limits, guess);
    let SlidingWindow { window_ns, pane_ns } = rows.sliding;
    let mut cost = SourceCost {
        table: source.table().to_string(),
        nodes: rows.per_node.len(),
        window_ns,
        panes: window_ns / pane_ns.max(1),
        table_rows_per_s: rows.read_per_s,
        passing: rows.stepped.passing,
        rows_to_fill: rows.to_fill,
        rows_per_s: rows.read_per_s,
        ..SourceCost::default()
    };
    if cost.nodes == 0 {
        cost.assumed
            .push(format!("no node has counted rows of {} yet: none are expected", cost.table));
    }
    if rows.stepped.has_filter {
        let percent = rows.stepped.passing * 100.0;
        let said = format!("filters keep {percent:.0} % of the rows of {}", cost.table);
        cost.assumed.push(said);
    }
    let flow = match &source.shape {
        Shape::Partial { group, aggs } => groups(&mut cost, &rows, (group, aggs), limits, guess),
        Shape::Rows { rows_max } => kept_rows(&mut cost, &rows, *rows_max, 0),
        // The last column is taken off.
        Shape::Candidates { rows_max } => kept_rows(&mut cost, &rows, Some(*rows_max), 1),
    };
    (cost, flow)
}

/// Rows that are sent as they are, and kept until they leave the window or newer ones outdo them.
fn kept_rows(cost: &mut SourceCost, rows: &Intake, rows_max: Option<u64>, off: usize) -> Flow {
    cost.shape = if rows_max.is_some() { "newest rows" } else { "rows" };
    let max = rows_max.map_or(f64::INFINITY, |max| max as f64);
    let row_bytes = rows.row_bytes();
    let kept = rows.kept.min(max);
    let per_refresh = |per_s: f64| (per_s * rows.refresh_s).min(max);
    let sent_per_s: f64 =
        rows.per_node.iter().map(|&rate| per_refresh(rate) / rows.refresh_s).sum();
    let entry = match rows_max {
        Some(_) => sizes::ordered_row(row_bytes),
        None => sizes::window_row(row_bytes),
    };
    cost.rows_kept = kept;
    cost.state_bytes = kept * entry;
    cost.node_state_bytes = sent_per_s * rows.refresh_s * entry;
    cost.bus_bytes_per_s = sent_per_s * (row_bytes + CHANGE_BYTES);
    cost.node_ns_per_row = read_ns(rows) + rows.stepped.passing * work_ns::SENT;
    let change_ns = if rows_max.is_some() { work_ns::NEWEST } else { work_ns::ROW };
    // Each comes and goes.
    cost.cpu_ns_per_s = rows.read_per_s * cost.node_ns_per_row + 2.0 * sent_per_s * change_ns;
    cost.fill_cpu_ns = rows.to_fill * cost.node_ns_per_row + kept * change_ns;
    let mut columns = rows.stepped.columns.clone();
    columns.truncate(columns.len().saturating_sub(off));
    Flow { rows: kept, changes_per_s: 2.0 * sent_per_s, columns }
}

fn read_ns(rows: &Intake) -> f64 {
    work_ns::SCANNED + rows.stepped.calls * work_ns::CALL
}

/// How groups are spread over a window.
struct Spread {
    /// Without times.
    kinds: f64,
    groups: f64,
    /// Of a group in a pane.
    parts: f64,
    /// The longest of a pane and the shortest time that is grouped by: who is grouped within it.
    slices: f64,
}

fn spread(rows: &Intake, group: &[usize], guess: Guess) -> Spread {
    let (kinds, span_ns) = columns::kinds(&rows.stepped.columns, group, guess);
    let window_ns = rows.sliding.window_ns as f64;
    let panes = window_ns / rows.sliding.pane_ns.max(1) as f64;
    let bins = span_ns.map_or(1.0, |span| (window_ns / span.max(1.0)).max(1.0));
    let within = |slices: f64| slices * guess::seen(kinds, rows.kept / slices);
    let slices = panes.max(bins).min(rows.kept.max(1.0));
    Spread {
        kinds,
        groups: within(bins.min(rows.kept.max(1.0))).min(rows.kept),
        parts: within(slices).min(rows.kept),
        slices,
    }
}

fn acc_bytes(aggs: &[AggCall], rows: f64, columns: &[Values]) -> f64 {
    aggs.iter().map(|agg| guess::accumulator_bytes(agg, false, rows, columns)).sum()
}

fn result_bytes(aggs: &[AggCall]) -> f64 {
    aggs.iter().map(|agg| guess::packed_bytes(agg.data_type)).sum()
}

/// Groups that nodes fold within a refresh and that the window keeps by pane.
fn groups(
    cost: &mut SourceCost,
    rows: &Intake,
    (group, aggs): (&[usize], &[AggCall]),
    limits: &CostLimits,
    guess: Guess,
) -> Flow {
    cost.shape = "groups";
    let columns = &rows.stepped.columns;
    let mut spread = spread(rows, group, guess);
    let groups_max = limits.query_groups_max.max(1) as f64;
    if spread.groups > groups_max {
        spread.parts *= groups_max / spread.groups;
        spread.groups = groups_max;
    }
    let key: Vec<Values> = group.iter().filter_map(|&idx| columns.get(idx).copied()).collect();
    let key_bytes: f64 = key.iter().map(|column| column.bytes).sum();
    let per = |all: f64| if all > 0.0 { rows.kept / all } else { 0.0 };
    let part = sizes::pane_part(acc_bytes(aggs, per(spread.parts), columns));
    let total = sizes::pane_part(acc_bytes(aggs, per(spread.groups), columns));
    // A group of one pane has no total of its own.
    let with_total = (spread.parts - spread.groups).clamp(0.0, spread.groups);
    cost.groups_kept = Some(spread.groups);
    cost.rows_kept = 0.0;
    let group_bytes = sizes::window_group(key_bytes, result_bytes(aggs));
    let wanted = spread.parts * part + spread.groups * group_bytes + with_total * total;
    let budget = limits.query_bytes_max as f64 * GROUPS_SHARE;
    cost.state_bytes = if limits.query_bytes_max > 0 { wanted.min(budget) } else { wanted };
    let folded = |per_s: f64| guess::seen(spread.kinds, per_s * rows.refresh_s);
    let folded_of_nodes: f64 = rows.per_node.iter().map(|&per_s| folded(per_s)).sum();
    let per_folded = rows.kept_per_s() * rows.refresh_s / folded_of_nodes.max(1.0);
    let folded_acc_bytes = acc_bytes(aggs, per_folded, columns);
    cost.node_state_bytes = folded_of_nodes * sizes::folded_group(key_bytes, folded_acc_bytes);
    let changed_per_s = folded_of_nodes / rows.refresh_s;
    cost.bus_bytes_per_s = changed_per_s * (key_bytes + folded_acc_bytes + CHANGE_BYTES);
    let fold = work_ns::FOLDED + work_ns::FOLDED_CALL * aggs.len() as f64;
    cost.node_ns_per_row = read_ns(rows) + rows.stepped.passing * fold;
    let group_ns = work_ns::GROUP + work_ns::SKETCH * sketches(aggs, columns);
    let expired_per_s = spread.parts * SEC_NS / rows.sliding.window_ns.max(1) as f64;
    let told_per_s = changed_per_s + expired_per_s.min(changed_per_s.max(1.0) * 2.0);
    cost.cpu_ns_per_s = rows.read_per_s * cost.node_ns_per_row + told_per_s * group_ns;
    cost.fill_cpu_ns = rows.to_fill * cost.node_ns_per_row + spread.parts * group_ns;
    say_groups(cost, &spread, &key);
    let results = aggs.iter().map(|agg| Values {
        distinct: spread.groups,
        bytes: guess::packed_bytes(agg.data_type),
        span_ns: None,
    });
    let columns = key.into_iter().chain(results).collect();
    Flow { rows: spread.groups, changes_per_s: told_per_s * 2.0, columns }
}

/// Aggregates whose accumulators grow with what they are given.
fn sketches(aggs: &[AggCall], columns: &[Values]) -> f64 {
    let grows = |agg: &&AggCall| {
        let bytes = |rows| guess::accumulator_bytes(agg, false, rows, columns);
        bytes(1e3) > 4.0 * bytes(1.0)
    };
    aggs.iter().filter(grows).count() as f64
}

fn say_groups(cost: &mut SourceCost, spread: &Spread, key: &[Values]) {
    if key.is_empty() {
        return;
    }
    let by = if spread.slices > 1.0 && key.iter().any(|column| column.span_ns.is_some()) {
        " at each of its times"
    } else {
        ""
    };
    let said = if spread.kinds >= 1e6 {
        format!("nearly every row of {} is a group of its own{by}", cost.table)
    } else {
        format!("rows of {} make up to {:.0} groups{by}", cost.table, spread.kinds)
    };
    cost.assumed.push(said);
}
