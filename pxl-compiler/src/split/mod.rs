//! Cuts a plan in two. Each path is cut at its first operator that needs more than one row at a
//! time, or that must run in the cluster part: what is below runs on every node, what is above runs
//! once. An aggregate at the cut is done on both sides: nodes ship partial accumulators per pane.

mod node_part;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use weir_types::plan::{EndBound, OpKind};
use weir_types::split::{ExchangeId, FragmentKind, FragmentOp, Shape, SplitPlan};
use weir_types::{Op, OpId, Plan, Relation};

use crate::passes::{is_blocking, op_is_late, passed};
use node_part::NodePart;

/// An exchange and why the path was cut there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub exchange: ExchangeId,
    /// The plan's operator that is shipped.
    pub below: OpId,
    pub reason: String,
}

/// The node part and the cluster part of a plan.
#[must_use]
pub fn split(plan: &Plan) -> SplitPlan {
    split_with_reasons(plan).0
}

/// As [`split`], with the reason of each cut.
#[must_use]
pub fn split_with_reasons(plan: &Plan) -> (SplitPlan, Vec<Cut>) {
    let mut splitter = Splitter {
        plan,
        on_node: on_node(plan),
        node: NodePart::new(plan),
        cluster: Vec::new(),
        placed: vec![None; plan.ops.len()],
        rows_max: HashMap::new(),
        received: HashMap::new(),
        cuts: Vec::new(),
    };
    splitter.count_rows();
    for id in 0..plan.ops.len() {
        if !splitter.on_node[id] {
            splitter.place(id);
        }
    }
    for output in &plan.outputs {
        let input = splitter.cluster_input(output.op, "an output");
        let relation = splitter.cluster[input].relation.clone();
        let kind = FragmentKind::Output { table: output.table.clone() };
        splitter.push(kind, vec![input], relation);
    }
    let mut split = SplitPlan::default();
    split.node.ops = splitter.node.ops;
    split.cluster.ops = splitter.cluster;
    (split, splitter.cuts)
}

/// True for what runs on nodes: row-wise operators above a scan, below any function of the cluster
/// part and any use of the clock.
fn on_node(plan: &Plan) -> Vec<bool> {
    let mut on_node: Vec<bool> = Vec::with_capacity(plan.ops.len());
    for op in &plan.ops {
        let found = !is_blocking(&op.kind)
            && !op_is_late(op)
            && op.inputs.iter().all(|&input| on_node[input]);
        on_node.push(found);
    }
    on_node
}

struct Splitter<'a> {
    plan: &'a Plan,
    on_node: Vec<bool>,
    node: NodePart<'a>,
    cluster: Vec<FragmentOp>,
    /// The cluster fragment's operator for each of the plan's cluster operators.
    placed: Vec<Option<OpId>>,
    /// How many rows per pane are enough of a node operator that is shipped as rows.
    rows_max: HashMap<OpId, Option<u64>>,
    /// Cluster operators that hold the rows of a node operator.
    received: HashMap<OpId, OpId>,
    cuts: Vec<Cut>,
}

impl Splitter<'_> {
    /// A node operator is shipped once as rows: with a bound only if all that read it are limits.
    fn count_rows(&mut self) {
        let mut want = |node: OpId, rows: Option<u64>| {
            let have = self.rows_max.entry(node).or_insert(rows);
            *have = match (*have, rows) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
        };
        let cluster = self.plan.ops.iter().zip(&self.on_node).filter(|(_, on_node)| !**on_node);
        for (op, _) in cluster {
            for &input in op.inputs.iter().filter(|&&input| self.on_node[input]) {
                match &op.kind {
                    OpKind::Limit { rows_max } => {
                        want(input, Some(*rows_max).filter(|_| self.node.newest_first(input)));
                    }
                    OpKind::Aggregate { .. } => {}
                    _ => want(input, None),
                }
            }
        }
        for output in &self.plan.outputs {
            if self.on_node[output.op] {
                want(output.op, None);
            }
        }
    }

    /// Puts one of the plan's operators into the cluster part.
    fn place(&mut self, id: OpId) {
        let op = &self.plan.ops[id];
        let new = match (&op.kind, op.inputs.first()) {
            (OpKind::Aggregate { group, aggs }, Some(&input)) if self.on_node[input] => {
                let shape = Shape::Partial { group: group.clone(), aggs: aggs.clone() };
                let reason = "aggregate: nodes ship partial accumulators per group and pane";
                self.receive(input, shape, op.relation.clone(), reason.to_string())
            }
            _ => {
                let why = reason_of(op);
                let inputs =
                    op.inputs.iter().map(|&input| self.cluster_input(input, why)).collect();
                self.push(FragmentKind::Plan(op.kind.clone()), inputs, op.relation.clone())
            }
        };
        self.placed[id] = Some(new);
    }

    /// The cluster operator that holds what the plan's operator `id` gives.
    fn cluster_input(&mut self, id: OpId, why: &str) -> OpId {
        if let Some(placed) = self.placed[id] {
            return placed;
        }
        if let Some(&received) = self.received.get(&id) {
            return received;
        }
        let rows_max = self.rows_max.get(&id).copied().flatten();
        let shape = Shape::Rows { rows_max };
        let sent = self.node.place(id);
        let relation = self.node.ops[sent].relation.clone();
        let reason = match rows_max {
            Some(n) => format!("{why}: nodes ship the newest {n} rows per pane"),
            None => format!("{why}: nodes ship rows (raw)"),
        };
        let mut new = self.receive(id, shape, relation.clone(), reason);
        let wanted = &self.plan.ops[id].relation;
        if relation.len() > wanted.len() {
            // The time that put rows into panes is not a column of the frame.
            let kind = FragmentKind::Plan(OpKind::Map { exprs: passed(wanted) });
            new = self.push(kind, vec![new], wanted.clone());
        }
        self.received.insert(id, new);
        new
    }

    /// Ships what the plan's operator `below` gives.
    fn receive(&mut self, below: OpId, shape: Shape, relation: Relation, reason: String) -> OpId {
        let sent = self.node.send(below, &shape);
        let kind = FragmentKind::Receive {
            exchange: sent.exchange,
            shape,
            window: sent.window,
            input: sent.input,
        };
        self.cuts.push(Cut { exchange: sent.exchange, below, reason });
        let hash = hash_of(|hasher| {
            "receive".hash(hasher);
            sent.hash.hash(hasher);
            relation.hash(hasher);
        });
        self.cluster.push(FragmentOp { kind, inputs: Vec::new(), relation, hash });
        self.cluster.len() - 1
    }

    fn push(&mut self, kind: FragmentKind, inputs: Vec<OpId>, relation: Relation) -> OpId {
        let hash = hash_of(|hasher| {
            kind.hash(hasher);
            relation.hash(hasher);
            for &input in &inputs {
                self.cluster[input].hash.hash(hasher);
            }
        });
        self.cluster.push(FragmentOp { kind, inputs, relation, hash });
        self.cluster.len() - 1
    }
}

/// Hashes that are stable within a build, as `Plan::op_hashes`.
fn hash_of(fill: impl FnOnce(&mut foldhash::fast::FoldHasher<'_>)) -> u64 {
    let mut hasher = foldhash::fast::FixedState::with_seed(0x7765_6972).build_hasher();
    fill(&mut hasher);
    hasher.finish()
}

fn reason_of(op: &Op) -> &'static str {
    match &op.kind {
        OpKind::Join { .. } => "join",
        OpKind::Union => "union",
        OpKind::Limit { .. } => "limit",
        OpKind::Filter { .. } | OpKind::Map { .. } => {
            "a function of the cluster part, or the clock"
        }
        OpKind::Aggregate { .. } => "aggregate",
        OpKind::Scan { .. } | OpKind::TableFunction { .. } => "source",
    }
}

/// True if a window ends now: only then is the newest row of a pane also a visible one.
fn ends_now(end: EndBound) -> bool {
    end == EndBound::Now
}
