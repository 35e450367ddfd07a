//! A cut that moves as much as possible to the nodes, written without the compiler's help: row-wise
//! operators, partial aggregates, and the row bound of limits directly above them. The engine's fast
//! paths are tested through it, and the compiler's own split has something to agree with.
//!
//! Only for plans whose row-wise part passes `time_` on ([`crate::generate::Style::Compiled`]).

use std::collections::BTreeMap;

use weir_types::plan::OpKind;
use weir_types::shared::Shared;
use weir_types::split::{
    ClusterPlan, ExchangeId, Labels, Shape, Source, SplitPlan, Step, TableScan,
};
use weir_types::{Expr, Op, OpId, Plan};

/// Both parts.
#[must_use]
pub fn pushed_split(plan: &Plan) -> SplitPlan {
    let mut cutter = Cutter {
        plan,
        on_nodes: on_nodes(plan),
        cluster_ids: BTreeMap::new(),
        sources: Vec::new(),
        cluster: ClusterPlan { version: plan.version, ops: Vec::new(), outputs: Vec::new() },
    };
    for id in 0..plan.ops.len() {
        if cutter.on_nodes[id].is_none() {
            cutter.op(id);
        }
    }
    for output in &plan.outputs {
        let mut output = output.clone();
        output.op = cutter.in_cluster(output.op);
        cutter.cluster.outputs.push(output);
    }
    SplitPlan { sources: cutter.sources, cluster: cutter.cluster }
}

/// The operators that run on nodes, each as a source of whole rows.
fn on_nodes(plan: &Plan) -> Vec<Option<Source>> {
    let mut sources: Vec<Option<Source>> = Vec::new();
    for op in &plan.ops {
        let below = op.inputs.first().and_then(|&input| sources[input].clone());
        let time = op.relation.time_idx().unwrap_or(usize::MAX);
        let stepped = |below: Option<Source>, step: Step| {
            let mut source = below?;
            source.steps.push(Shared::new(step));
            Some(Source { time, ..source })
        };
        sources.push(match &op.kind {
            OpKind::Scan(scan) => Some(Source {
                scan: Shared::new(TableScan { scan: scan.clone(), types: op.relation.types() }),
                steps: Vec::new(),
                time,
                shape: Shape::Rows { rows_max: None },
            }),
            OpKind::Filter { predicate } if !predicate.reads_now() => {
                stepped(below, Step::Filter(predicate.clone()))
            }
            OpKind::Map { exprs } if !exprs.iter().any(Expr::reads_now) => {
                stepped(below, Step::Map { exprs: exprs.clone(), labels: Labels::default() })
            }
            _ => None,
        });
    }
    sources
}

struct Cutter<'a> {
    plan: &'a Plan,
    on_nodes: Vec<Option<Source>>,
    cluster_ids: BTreeMap<OpId, OpId>,
    sources: Vec<Source>,
    cluster: ClusterPlan,
}

impl Cutter<'_> {
    fn op(&mut self, id: OpId) {
        let op = &self.plan.ops[id];
        let below = op.inputs.first().and_then(|&input| self.on_nodes[input].clone());
        let at = match (&op.kind, below) {
            (OpKind::Aggregate { group, aggs }, Some(source)) => {
                let shape = Shape::Partial { group: group.clone(), aggs: aggs.clone() };
                self.receive(Source { shape, ..source }, op)
            }
            (OpKind::Limit { rows_max }, Some(source)) => {
                let shape = Shape::Rows { rows_max: Some(*rows_max) };
                let below = &self.plan.ops[op.inputs[0]];
                let received = self.receive(Source { shape, ..source }, below);
                self.push(OpKind::Limit { rows_max: *rows_max }, vec![received], op)
            }
            _ => {
                let inputs = op.inputs.iter().map(|&input| self.in_cluster(input)).collect();
                let kind = op.kind.above_scans().expect("scans run on nodes");
                self.push(kind, inputs, op)
            }
        };
        self.cluster_ids.insert(id, at);
    }

    /// The operator's rows in the cluster part, shipped whole where it runs on nodes.
    fn in_cluster(&mut self, id: OpId) -> OpId {
        if let Some(&at) = self.cluster_ids.get(&id) {
            return at;
        }
        let source = self.on_nodes[id].clone().expect("on a node, or placed before");
        let at = self.receive(source, &self.plan.ops[id]);
        self.cluster_ids.insert(id, at);
        at
    }

    /// `received`: what comes out in the cluster part.
    fn receive(&mut self, source: Source, received: &Op) -> OpId {
        self.sources.push(source);
        let exchange = self.sources.len() as ExchangeId - 1;
        self.push(OpKind::Scan(exchange), Vec::new(), received)
    }

    fn push(&mut self, kind: OpKind<ExchangeId>, inputs: Vec<OpId>, op: &Op) -> OpId {
        self.cluster.ops.push(Op { kind, inputs, relation: op.relation.clone() });
        self.cluster.ops.len() - 1
    }
}
