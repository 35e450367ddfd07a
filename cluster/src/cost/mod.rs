//! What a query will cost, estimated before it is installed: from its plan, cut in two, and from what nodes say of
//! their tables. It installs nothing, asks nobody and keeps nothing; what nobody can know is assumed, and said.
//!
//! Each estimate is made twice: as it is to be expected, and at most, where filters keep every row and groups are as
//! many as rows or limits allow. [`arrivals`] has how fast rows come, `columns` what their columns look like,
//! `source` what nodes send and windows keep, `above` the operators on top of that.

mod above;
pub mod arrivals;
mod columns;
mod source;

use weir_engine::guess::Values;
use weir_proto::QueryId;
use weir_types::split::SplitPlan;

pub use above::OperatorCost;
pub use arrivals::{Arrivals, TableNow};
pub use source::SourceCost;

/// CPU time of one piece of work, ns. What a row costs a node with three exchanges is 90 to 280 ns, and a change in
/// the cluster part what `weir bench operators` measures (docs/performance.md); the rest is divided by guess.
pub mod work_ns {
    /// A node reads a row, evaluates a call of an expression, folds a row into a group, packs and sends a row.
    pub const SCANNED: f64 = 10.0;
    pub const CALL: f64 = 12.0;
    pub const FOLDED: f64 = 20.0;
    pub const FOLDED_CALL: f64 = 6.0;
    pub const SENT: f64 = 120.0;
    /// The cluster part takes a group's part in and tells its change; another one when the pane expires.
    pub const GROUP: f64 = 620.0;
    /// The same of each sketch.
    pub const SKETCH: f64 = 400.0;
    /// A row comes into a window, or leaves it.
    pub const ROW: f64 = 463.0;
    pub const NEWEST: f64 = 279.0;
    pub const ROWWISE: f64 = 100.0;
    pub const JOINED: f64 = 2_500.0;
    pub const LIMITED: f64 = 600.0;
    pub const GROUPED_AGAIN: f64 = 827.0;
}

/// Whatever is multiplied: above, it is no number that anybody could have.
const COUNT_MAX: f64 = 1e18;

/// What the server allows, and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostLimits {
    /// A query whose state is expected to be larger is not installed unless its reader says that it may.
    pub query_cost_max: u64,
    /// A query that comes to hold more in a part is ended.
    pub query_bytes_max: u64,
    /// Groups that an aggregate over a table holds; others are counted in `__overflow__`.
    pub query_groups_max: u64,
    pub retention_ns: i64,
}

impl CostLimits {
    /// By default only what is absurd is refused: a query so many times as large as it may be would be ended anyway,
    /// however wrong the estimate is, after it has filled the memory.
    pub const TIMES_QUERY_BYTES: u64 = 16;
}

/// Which of the two estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    Expected,
    Most,
}

/// Rows as they go from one operator to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) rows: f64,
    /// Rows that come or go, per second.
    pub(crate) changes_per_s: f64,
    pub(crate) columns: Vec<Values>,
}

impl Flow {
    fn row_bytes(&self) -> f64 {
        self.columns.iter().map(|column| column.bytes).sum()
    }
}

/// All of it together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostTotals {
    /// From the nodes' histories, before the first answer.
    pub rows_to_fill: f64,
    pub fill_cpu_ns: f64,
    /// From then on.
    pub rows_per_s: f64,
    pub cpu_ns_per_s: f64,
    /// What all nodes hold for it together.
    pub node_state_bytes: f64,
    /// In the cluster part: its windows and operators.
    pub state_bytes: f64,
    /// Rows of its answers, which their readers share.
    pub answer_rows: f64,
    pub answer_bytes: f64,
    pub bus_bytes_per_s: f64,
}

/// What one query costs beyond what runs already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The query that runs this plan already: another reader costs what it is sent.
    pub running: Option<QueryId>,
    pub sources: Vec<SourceCost>,
    /// Of the cluster part, by their place in its plan, without those that cost nothing.
    pub operators: Vec<OperatorCost>,
    pub total: CostTotals,
    /// At most.
    pub most: CostTotals,
    /// What was assumed, for people.
    pub assumed: Vec<String>,
}

impl Estimate {
    /// What is expected to be held in the cluster part is above the limit.
    #[must_use]
    pub fn is_above(&self, limits: &CostLimits) -> bool {
        limits.query_cost_max > 0 && self.total.state_bytes > limits.query_cost_max as f64
    }
}

/// What is known of one plan.
pub struct Known<'a> {
    pub split: &'a SplitPlan,
    pub refresh_ms: u64,
    /// By the numbers of the plan's sources: the feed that has it already.
    pub shared: &'a [Option<QueryId>],
    pub running: Option<QueryId>,
    /// On every node that has one of the tables.
    pub tables: &'a [TableNow],
    pub now_unix_ns: i64,
}

/// The whole estimate.
#[must_use]
pub fn estimate(known: &Known<'_>, limits: &CostLimits) -> Estimate {
    let (sources, operators, total) = one(known, limits, Guess::Expected);
    let (_, _, most) = one(known, limits, Guess::Most);
    let mut assumed: Vec<String> = Vec::new();
    for source in &sources {
        for said in &source.assumed {
            if !assumed.contains(said) {
                assumed.push(said.clone());
            }
        }
    }
    Estimate { running: known.running, sources, operators, total, most, assumed }
}

fn one(
    known: &Known<'_>,
    limits: &CostLimits,
    guess: Guess,
) -> (Vec<SourceCost>, Vec<OperatorCost>, CostTotals) {
    let mut total = CostTotals::default();
    let (mut sources, mut flows) = (Vec::new(), Vec::new());
    for (at, source) in known.split.sources.iter().enumerate() {
        let (mut cost, flow) = source::cost(source, known, limits, guess);
        cost.feed = known.shared.get(at).copied().flatten();
        if cost.feed.is_some() || known.running.is_some() {
            cost.costs_nothing();
        }
        total.rows_to_fill += cost.rows_to_fill;
        total.fill_cpu_ns += cost.fill_cpu_ns;
        total.rows_per_s += cost.rows_per_s;
        total.cpu_ns_per_s += cost.cpu_ns_per_s;
        total.node_state_bytes += cost.node_state_bytes;
        total.state_bytes += cost.state_bytes;
        total.bus_bytes_per_s += cost.bus_bytes_per_s;
        sources.push(cost);
        flows.push(flow);
    }
    let above = above::cost(&known.split.cluster, &flows, guess);
    if known.running.is_some() {
        return (sources, Vec::new(), total);
    }
    for operator in &above.operators {
        total.cpu_ns_per_s += operator.cpu_ns_per_s;
        total.fill_cpu_ns += operator.fill_cpu_ns;
        total.state_bytes += operator.state_bytes;
    }
    total.answer_rows = above.answer_rows;
    total.answer_bytes = above.answer_bytes;
    (sources, above.operators, total)
}

#[cfg(test)]
mod tests;
