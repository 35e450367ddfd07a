//! A plan cut in two. What nodes send for it are *sources*: rows of one table, row by row filtered and
//! mapped, shipped whole or as partial results per pane. A source is a value without numbers or
//! descriptions: equal sources hold the same rows, whatever script they come from, which is what queries
//! share. It says both of its ends: what a node runs to send it ([`NodePlan`], of any number of sources),
//! and what the cluster part receives.
//!
//! What the cluster part runs is a plan again ([`ClusterPlan`]), which scans sources instead of tables.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::acc::Acc;
use crate::expr::Expr;
use crate::plan::{AggCall, OpId, Plan, Scan, Window};
use crate::row::PackedRow;
use crate::schema::{Column, Relation};
use crate::shared::Shared;
use crate::value::{DataType, SemanticType};

/// What stands in the STRING columns of the row that counts what has no group of its own.
pub const OVERFLOW_KEY: &str = "__overflow__";

/// Number of a source within what it was installed with: a query, or a feed and its node plan.
pub type ExchangeId = u32;

/// What an exchange carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// Whole rows. With `rows_max`, only those that can be among the newest n of the window need to be
    /// sent and kept: a `Limit` follows.
    Rows { rows_max: Option<u64> },
    /// The same where not every row reaches the limit, by what only the cluster part can tell. The last
    /// column, a BOOLEAN, is true of rows that certainly do; the receiving end takes it off.
    Candidates { rows_max: u64 },
    /// Per (group key, pane) partial accumulators of an aggregate over the rows.
    Partial { group: Vec<usize>, aggs: Vec<AggCall> },
}

/// Names of columns, for people only: whatever they are, what has them is equal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Labels(pub Vec<String>);

impl PartialEq for Labels {
    fn eq(&self, _: &Labels) -> bool {
        true
    }
}
impl Eq for Labels {}
impl std::hash::Hash for Labels {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// A table as a node reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableScan {
    pub scan: Scan,
    /// Of its columns.
    pub types: Vec<DataType>,
}

/// What a node does with each row by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Keeps the rows of which this is true.
    Filter(Expr),
    /// Columns of new rows.
    Map { exprs: Vec<Expr>, labels: Labels },
}

impl Step {
    #[must_use]
    pub fn expressions(&self) -> &[Expr] {
        match self {
            Step::Filter(predicate) => std::slice::from_ref(predicate),
            Step::Map { exprs, .. } => exprs,
        }
    }
}

/// The rows that one exchange holds, and how they get there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    pub scan: Shared<TableScan>,
    /// One after another.
    pub steps: Vec<Shared<Step>>,
    /// The event-time column that puts a row into its pane.
    pub time: usize,
    pub shape: Shape,
}

impl Source {
    /// The rows that are sent, or aggregated and then sent.
    #[must_use]
    pub fn sent(&self) -> Relation {
        let maps = self.steps.iter().rev().find_map(|step| match &**step {
            Step::Map { exprs, labels } => Some(mapped(exprs, labels)),
            Step::Filter(_) => None,
        });
        maps.unwrap_or_else(|| scanned(&self.scan))
    }

    /// Types of the rows that come out at the receiving end.
    #[must_use]
    pub fn received_types(&self) -> Vec<DataType> {
        let sent = self.sent().types();
        match &self.shape {
            Shape::Rows { .. } => sent,
            Shape::Candidates { .. } => {
                sent.split_last().map_or(&[][..], |(_, rest)| rest).to_vec()
            }
            Shape::Partial { group, aggs } => {
                let groups = group.iter().filter_map(|&idx| sent.get(idx).copied());
                groups.chain(aggs.iter().map(|agg| agg.data_type)).collect()
            }
        }
    }

    #[must_use]
    pub fn table(&self) -> &str {
        &self.scan.scan.table
    }

    #[must_use]
    pub fn window(&self) -> Window {
        self.scan.scan.window
    }
}

/// The rows of a scan.
#[must_use]
pub fn scanned(scan: &TableScan) -> Relation {
    let columns = scan.scan.columns.iter().zip(&scan.types);
    Relation::new(columns.map(|(name, ty)| Column::new(name, *ty, SemanticType::None)).collect())
}

/// The rows of a map.
#[must_use]
pub fn mapped(exprs: &[Expr], labels: &Labels) -> Relation {
    let column = |(at, expr): (usize, &Expr)| {
        let name = labels.0.get(at).cloned().unwrap_or_else(|| format!("column_{at}"));
        Column::new(name, expr.data_type(), SemanticType::None)
    };
    Relation::new(exprs.iter().enumerate().map(column).collect())
}

/// An operator of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeOp {
    Scan(Shared<TableScan>),
    /// `below`: the operator that it reads, with a smaller number.
    Step {
        below: OpId,
        step: Shared<Step>,
    },
}

/// An end of a node plan: ships what operator `from` gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Send {
    pub from: OpId,
    pub time: usize,
    pub shape: Shape,
}

/// What a node runs: any number of sources, with what they begin with in common done once. A tree: row-wise
/// work has one input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    pub ops: Vec<NodeOp>,
    /// By the number of their exchange.
    pub sends: Vec<Send>,
}

impl NodePlan {
    #[must_use]
    pub fn of<'a>(sources: impl IntoIterator<Item = &'a Source>) -> NodePlan {
        let mut builder = NodePlanBuilder::default();
        sources.into_iter().for_each(|source| builder.add(source));
        builder.plan
    }

    pub fn scans(&self) -> impl Iterator<Item = &Scan> {
        self.ops.iter().filter_map(|op| match op {
            NodeOp::Scan(scan) => Some(&scan.scan),
            NodeOp::Step { .. } => None,
        })
    }

    /// What it sends on an exchange, by itself: whatever else it sends, and whatever columns are called. `None` for
    /// one that is not there, or not whole.
    #[must_use]
    pub fn source(&self, exchange: usize) -> Option<Source> {
        let send = self.sends.get(exchange)?;
        let (mut at, mut steps) = (send.from, Vec::new());
        let scan = loop {
            match self.ops.get(at)? {
                NodeOp::Scan(scan) => break scan.clone(),
                NodeOp::Step { below, step } => {
                    steps.push(match &**step {
                        Step::Filter(_) => step.clone(),
                        Step::Map { exprs, .. } => {
                            let labels = Labels::default();
                            Shared::new(Step::Map { exprs: exprs.clone(), labels })
                        }
                    });
                    // Below is before: this ends.
                    at = Some(*below).filter(|below| *below < at)?;
                }
            }
        };
        steps.reverse();
        Some(Source { scan, steps, time: send.time, shape: send.shape.clone() })
    }

    /// The tables that it scans, sorted, each once.
    #[must_use]
    pub fn scanned_tables(&self) -> Vec<String> {
        let mut tables: Vec<String> = self.scans().map(|scan| scan.table.clone()).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }
}

/// A node plan that grows source by source.
#[derive(Default)]
pub struct NodePlanBuilder {
    plan: NodePlan,
    placed: HashMap<NodeOp, OpId>,
}

impl NodePlanBuilder {
    /// The source's exchange is the number of those that were added before.
    pub fn add(&mut self, source: &Source) {
        let mut from = self.place(NodeOp::Scan(source.scan.clone()));
        for step in &source.steps {
            from = self.place(NodeOp::Step { below: from, step: step.clone() });
        }
        let Source { time, shape, .. } = source;
        self.plan.sends.push(Send { from, time: *time, shape: shape.clone() });
    }

    fn place(&mut self, op: NodeOp) -> OpId {
        let next = self.plan.ops.len();
        let at = *self.placed.entry(op.clone()).or_insert(next);
        if at == next {
            self.plan.ops.push(op);
        }
        at
    }

    /// As far as it has grown.
    #[must_use]
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }
}

/// What the cluster part runs.
pub type ClusterPlan = Plan<ExchangeId>;

/// A plan, cut: the sources by the numbers that the cluster plan scans them by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SplitPlan {
    pub sources: Vec<Source>,
    pub cluster: ClusterPlan,
}

impl SplitPlan {
    /// What a node runs for all of its sources.
    #[must_use]
    pub fn node(&self) -> NodePlan {
        NodePlan::of(&self.sources)
    }

    /// Whether a row expression calls a function of which `is` is true.
    #[must_use]
    pub fn calls(&self, is: &dyn Fn(&str) -> bool) -> bool {
        let steps = self.sources.iter().flat_map(|source| &source.steps);
        let on_nodes = steps.flat_map(|step| step.expressions());
        let above = self.cluster.ops.iter().flat_map(|op| op.kind.expressions());
        let mut found = false;
        for expr in on_nodes.chain(above) {
            expr.walk(&mut |expr| found |= matches!(expr, Expr::Call { func, .. } if is(func)));
        }
        found
    }
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

impl Change {
    /// Bytes of its row, or of its key and accumulators, without what they lie in.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        match self {
            Change::Row { row, .. } => row.0.len(),
            Change::Partial { key, accs, .. } => {
                key.0.len() + accs.iter().map(Acc::state_bytes).sum::<usize>()
            }
        }
    }
}
