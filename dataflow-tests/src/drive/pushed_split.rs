//! A cut that moves as much as possible to the nodes, written without the compiler's help: row-wise
//! operators, partial aggregates, and the row bound of limits directly above them. The engine's fast
//! paths are tested through it, and the compiler's own split has something to agree with.
//!
//! Only for plans whose row-wise part passes `time_` on ([`crate::generate::Style::Compiled`]).

use std::collections::BTreeMap;

use weir_types::plan::{OpKind, Window};
use weir_types::split::{ExchangeId, Fragment, FragmentKind, FragmentOp, Shape, SplitPlan};
use weir_types::{Expr, Op, OpId, Plan};

/// Both fragments.
#[must_use]
pub fn pushed_split(plan: &Plan) -> SplitPlan {
    let mut cutter = Cutter {
        plan,
        hashes: plan.op_hashes(),
        windows: on_nodes(plan),
        node_ids: BTreeMap::new(),
        cluster_ids: BTreeMap::new(),
        split: SplitPlan::default(),
        exchanges: 0,
    };
    for id in 0..plan.ops.len() {
        cutter.op(id);
    }
    for output in &plan.outputs {
        let input = cutter.in_cluster(output.op);
        cutter.split.cluster.ops.push(FragmentOp {
            kind: FragmentKind::Output { table: output.table.clone() },
            inputs: vec![input],
            relation: plan.ops[output.op].relation.clone(),
            hash: 0,
        });
    }
    cutter.split
}

/// The operators that run on nodes, each with the window of its scan.
fn on_nodes(plan: &Plan) -> Vec<Option<Window>> {
    let mut windows: Vec<Option<Window>> = Vec::new();
    for op in &plan.ops {
        let below = op.inputs.first().and_then(|&input| windows[input]);
        windows.push(match &op.kind {
            OpKind::Scan { window, .. } => Some(*window),
            OpKind::Filter { predicate } if !reads_now(predicate) => below,
            OpKind::Map { exprs } if !exprs.iter().any(reads_now) => below,
            _ => None,
        });
    }
    windows
}

fn reads_now(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |expr| found |= matches!(expr, Expr::Now { .. }));
    found
}

struct Cutter<'a> {
    plan: &'a Plan,
    hashes: Vec<u64>,
    windows: Vec<Option<Window>>,
    node_ids: BTreeMap<OpId, OpId>,
    cluster_ids: BTreeMap<OpId, OpId>,
    split: SplitPlan,
    exchanges: ExchangeId,
}

impl Cutter<'_> {
    fn op(&mut self, id: OpId) {
        let op = &self.plan.ops[id];
        if self.windows[id].is_some() {
            let inputs = op.inputs.iter().map(|input| self.node_ids[input]).collect();
            let kind = FragmentKind::Plan(op.kind.clone());
            let at = push(&mut self.split.node, kind, inputs, op, self.hashes[id]);
            self.node_ids.insert(id, at);
            return;
        }
        let below_on_node =
            op.inputs.first().copied().filter(|&input| self.windows[input].is_some());
        let at = match (&op.kind, below_on_node) {
            (OpKind::Aggregate { group, aggs }, Some(input)) => {
                let shape = Shape::Partial { group: group.clone(), aggs: aggs.clone() };
                self.exchange(input, shape, op, self.hashes[id])
            }
            (OpKind::Limit { rows_max }, Some(input)) => {
                let shape = Shape::Rows { rows_max: Some(*rows_max) };
                let below = &self.plan.ops[input];
                // Another hash than that of the whole rows: an exchange of fewer.
                let received = self.exchange(input, shape, below, !self.hashes[id]);
                let kind = FragmentKind::Plan(op.kind.clone());
                push(&mut self.split.cluster, kind, vec![received], op, self.hashes[id])
            }
            _ => {
                let inputs = op.inputs.iter().map(|&input| self.in_cluster(input)).collect();
                let kind = FragmentKind::Plan(op.kind.clone());
                push(&mut self.split.cluster, kind, inputs, op, self.hashes[id])
            }
        };
        self.cluster_ids.insert(id, at);
    }

    /// The operator's rows in the cluster part, shipped whole where it runs on nodes.
    fn in_cluster(&mut self, id: OpId) -> OpId {
        if let Some(&at) = self.cluster_ids.get(&id) {
            return at;
        }
        let op = &self.plan.ops[id];
        let at = self.exchange(id, Shape::Rows { rows_max: None }, op, self.hashes[id]);
        self.cluster_ids.insert(id, at);
        at
    }

    /// Ships the rows of node operator `from`; `received` is what comes out in the cluster part.
    fn exchange(&mut self, from: OpId, shape: Shape, received: &Op, hash: u64) -> OpId {
        let exchange = self.exchanges;
        self.exchanges += 1;
        let sent = &self.plan.ops[from];
        let window = self.windows[from].unwrap_or(Window {
            start: weir_types::plan::StartBound::Beginning,
            end: weir_types::plan::EndBound::Now,
        });
        let time = sent.relation.time_idx().unwrap_or(usize::MAX);
        let send = FragmentKind::Send { exchange, shape: shape.clone(), window, time };
        push(&mut self.split.node, send, vec![self.node_ids[&from]], sent, 0);
        let input = sent.relation.clone();
        let receive = FragmentKind::Receive { exchange, shape, window, input };
        push(&mut self.split.cluster, receive, Vec::new(), received, hash)
    }
}

fn push(
    fragment: &mut Fragment,
    kind: FragmentKind,
    inputs: Vec<OpId>,
    op: &Op,
    hash: u64,
) -> OpId {
    fragment.ops.push(FragmentOp { kind, inputs, relation: op.relation.clone(), hash });
    fragment.ops.len() - 1
}
