//! Cuts a plan in two. Each path is cut at its first operator that needs more than one row at a
//! time, or that must run in the cluster part: what is below runs on every node, what is above runs
//! once. An aggregate at the cut is done on both sides: nodes ship partial accumulators per pane.
//!
//! * **Input:** a finished plan: every function stands where it can run.
//! * **Output:** a source for each cut, as queries share it, with both of its ends; and the cluster plan,
//!   which scans them.
//! * **Keeps:** what the outputs hold, and their relations.

mod checked;
mod newest;
mod paths;

use weir_types::plan::{EndBound, OpKind, PLAN_VERSION};
use weir_types::shared::Shared;
use weir_types::split::{ClusterPlan, ExchangeId, Labels, Shape, Source, SplitPlan, Step};
use weir_types::{Expr, Op, OpId, Plan, Relation};

use crate::passes::walk::{fresh_name, passed};
use newest::{Newest, Wanted};
use paths::Paths;

/// What the column is called that says which rows reach a limit whatever the cluster part knows.
const CERTAIN: &str = "_certain";

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
        paths: Paths::new(plan),
        sources: Vec::new(),
        cluster: ClusterPlan { version: PLAN_VERSION, ops: Vec::new(), outputs: Vec::new() },
        placed: vec![None; plan.ops.len()],
        wanted: Vec::new(),
        cuts: Vec::new(),
    };
    splitter.wanted = newest::wanted(plan, &splitter.paths);
    for id in 0..plan.ops.len() {
        if splitter.paths.get(id).is_none() {
            splitter.place(id);
        }
    }
    for output in &plan.outputs {
        let op = splitter.cluster_input(output.op, "an output");
        splitter.cluster.outputs.push(weir_types::plan::Output { op, ..output.clone() });
    }
    let split = SplitPlan { sources: splitter.sources, cluster: splitter.cluster };
    if crate::passes::checked::IS_ON {
        let found = checked::check(plan, &split);
        assert!(found.is_ok(), "a split that does not hold: {found:?}");
    }
    (split, splitter.cuts)
}

struct Splitter<'a> {
    plan: &'a Plan,
    /// What runs on nodes.
    paths: Paths<'a>,
    sources: Vec<Source>,
    cluster: ClusterPlan,
    /// The cluster plan's operator that holds what the plan's gives.
    placed: Vec<Option<OpId>>,
    /// Of what runs on nodes: how much of it is shipped as rows.
    wanted: Vec<Option<Wanted>>,
    cuts: Vec<Cut>,
}

impl Splitter<'_> {
    /// Puts one of the plan's operators into the cluster part.
    fn place(&mut self, id: OpId) {
        let op = &self.plan.ops[id];
        if let (OpKind::Aggregate { group, aggs }, [input]) = (&op.kind, op.inputs.as_slice())
            && let Some(path) = self.paths.get(*input)
        {
            let shape = Shape::Partial { group: group.clone(), aggs: aggs.clone() };
            let source = self.paths.source(path, shape);
            let reason = "aggregate: nodes ship partial accumulators per group and pane";
            self.placed[id] = Some(self.receive(*input, source, op.relation.clone(), reason));
            return;
        }
        let Some(kind) = op.kind.above_scans() else { return };
        let why = reason_of(op);
        let inputs = op.inputs.iter().map(|&input| self.cluster_input(input, why)).collect();
        self.placed[id] = Some(self.push(kind, inputs, op.relation.clone()));
    }

    /// The cluster operator that holds what the plan's operator `id` gives.
    fn cluster_input(&mut self, id: OpId, why: &str) -> OpId {
        if let Some(placed) = self.placed[id] {
            return placed;
        }
        let path = self.paths.get(id).expect("what is on no path was placed before its readers");
        let relation = path.relation.clone();
        // A node operator is shipped once as rows, whoever reads it.
        let (source, reason) = match self.wanted[id].take() {
            Some(Wanted::Newest(Newest { rows_max: n, certain: None, .. })) => {
                let source = self.paths.source(path, Shape::Rows { rows_max: Some(n) });
                (source, format!("{why}: nodes ship the newest {n} rows"))
            }
            Some(Wanted::Newest(Newest { rows_max: n, certain: Some(certain), .. })) => {
                let mut source = self.paths.source(path, Shape::Candidates { rows_max: n });
                source.steps.push(Shared::new(marked(&relation, certain)));
                let reason = "nodes ship the newest {n} rows that reach the limit, and newer ones";
                (source, format!("{why}: {}", reason.replace("{n}", &n.to_string())))
            }
            Some(Wanted::All) | None => {
                let source = self.paths.source(path, Shape::Rows { rows_max: None });
                (source, format!("{why}: nodes ship rows (raw)"))
            }
        };
        let wanted = &self.plan.ops[id].relation;
        let is_wider = relation.len() > wanted.len();
        let mut new = self.receive(id, source, relation, &reason);
        if is_wider {
            // The time that put rows into panes is not a column of the frame.
            new = self.push(OpKind::Map { exprs: passed(wanted) }, vec![new], wanted.clone());
        }
        self.placed[id] = Some(new);
        new
    }

    /// The rows of a source, which ships what the plan's operator `below` gives.
    fn receive(&mut self, below: OpId, source: Source, relation: Relation, reason: &str) -> OpId {
        let exchange = ExchangeId::try_from(self.sources.len()).unwrap_or(ExchangeId::MAX);
        self.sources.push(source);
        self.cuts.push(Cut { exchange, below, reason: reason.to_string() });
        self.push(OpKind::Scan(exchange), Vec::new(), relation)
    }

    fn push(&mut self, kind: OpKind<ExchangeId>, inputs: Vec<OpId>, relation: Relation) -> OpId {
        self.cluster.ops.push(Op { kind, inputs, relation });
        self.cluster.ops.len() - 1
    }
}

/// The rows as they are, with whether each is certain to reach a limit.
fn marked(relation: &Relation, certain: Expr) -> Step {
    let mut exprs = passed(relation);
    exprs.push(certain);
    let mut labels: Vec<_> = relation.columns.iter().map(|column| column.name.clone()).collect();
    labels.push(fresh_name(relation, CERTAIN));
    Step::Map { exprs, labels: Labels(labels) }
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
        OpKind::Scan(_) | OpKind::TableFunction { .. } => "source",
    }
}

/// True if a window ends now: only then is the newest row of a pane also a visible one.
fn ends_now(end: EndBound) -> bool {
    end == EndBound::Now
}
