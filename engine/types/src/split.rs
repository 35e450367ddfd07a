//! A plan cut in two: what every node runs (row-wise work and partial results per pane) and what
//! the cluster part runs (merge, window, join, limit), joined by exchanges.
//!
//! An exchange carries [`Change`]s from nodes to the cluster part. Both fragments use the logical
//! operators of `plan`; a node fragment ends in `Send`s, a cluster fragment begins with `Receive`s
//! and table functions and ends in `Output`s.

use serde::{Deserialize, Serialize};

use crate::acc::Acc;
use crate::expr::Expr;
use crate::plan::{AggCall, OpId, OpKind, Window};
use crate::row::PackedRow;
use crate::schema::Relation;

/// Number of an exchange within its query.
pub type ExchangeId = u32;

/// What an exchange carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// Whole rows of the relation. With `rows_max`, only rows that are among the greatest n of
    /// their pane (by `time_`, packed row) need to be sent: a `Limit` follows.
    Rows { rows_max: Option<u64> },
    /// Per (group key, pane) partial accumulators of an aggregate over the relation's rows.
    Partial { group: Vec<usize>, aggs: Vec<AggCall> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FragmentKind {
    /// A row-wise or blocking operator of the plan.
    Plan(OpKind),
    /// Last operator on a node: ships its input. `time` is the event-time column that puts a row
    /// into its pane (always there below a scan).
    Send { exchange: ExchangeId, shape: Shape, window: Window, time: usize },
    /// First operator of the cluster part: the rows, or the finished groups of the aggregate, of
    /// an exchange within the window. `input` is the relation that the node sends from.
    Receive { exchange: ExchangeId, shape: Shape, window: Window, input: Relation },
    /// A named result.
    Output { table: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FragmentOp {
    pub kind: FragmentKind,
    pub inputs: Vec<OpId>,
    pub relation: Relation,
    /// Equal hashes, equal results: what sharing is keyed by.
    pub hash: u64,
}

/// Operators in topological order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fragment {
    pub ops: Vec<FragmentOp>,
}

impl Fragment {
    /// An operator and all that is below it, in their order: a fragment of its own.
    ///
    /// # Panics
    /// If there is no such operator.
    #[must_use]
    pub fn below(&self, top: OpId) -> Fragment {
        let mut wanted = vec![false; self.ops.len()];
        wanted[top] = true;
        for pos in (0..=top).rev() {
            if wanted[pos] {
                self.ops[pos].inputs.iter().for_each(|&input| wanted[input] = true);
            }
        }
        let mut positions = vec![0; self.ops.len()];
        let mut below = Fragment::default();
        for (pos, op) in self.ops.iter().enumerate().filter(|(pos, _)| wanted[*pos]) {
            positions[pos] = below.ops.len();
            let inputs = op.inputs.iter().map(|&input| positions[input]).collect();
            below.ops.push(FragmentOp { inputs, ..op.clone() });
        }
        below
    }

    /// The tables that it scans, sorted, each once.
    #[must_use]
    pub fn scanned_tables(&self) -> Vec<String> {
        let scans = self.ops.iter().filter_map(|op| match &op.kind {
            FragmentKind::Plan(OpKind::Scan { table, .. }) => Some(table.clone()),
            _ => None,
        });
        let mut tables: Vec<String> = scans.collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }
}

impl Fragment {
    /// Whether a row expression calls a function of which `is` is true.
    #[must_use]
    pub fn calls(&self, is: &dyn Fn(&str) -> bool) -> bool {
        let mut found = false;
        let mut look = |expr: &Expr| {
            expr.walk(&mut |expr| found |= matches!(expr, Expr::Call { func, .. } if is(func)));
        };
        for op in &self.ops {
            match &op.kind {
                FragmentKind::Plan(OpKind::Filter { predicate }) => look(predicate),
                FragmentKind::Plan(OpKind::Map { exprs }) => exprs.iter().for_each(&mut look),
                _ => {}
            }
        }
        found
    }
}

/// Both parts of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SplitPlan {
    pub node: Fragment,
    pub cluster: Fragment,
}

/// One change on an exchange. Both kinds are consolidated per refresh by the sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// `diff` copies of a row (negative: taken back), in event-time pane `pane`.
    Row { row: PackedRow, pane: i64, diff: i64 },
    /// What to merge into group `key` (its packed group columns) in pane `pane`. `rows` counts the
    /// input rows behind it.
    Partial { key: PackedRow, pane: i64, rows: i64, accs: Vec<Acc> },
}
