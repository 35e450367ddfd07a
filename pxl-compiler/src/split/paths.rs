//! The row-wise paths of a plan as nodes run them: each step with a column that still holds the scanned
//! row's `time_` (a hidden one at the end where the script replaced or dropped it), and the sources that
//! end on them.

use weir_types::plan::{OpKind, Scan};
use weir_types::shared::Shared;
use weir_types::split::{Labels, Shape, Source, Step, TableScan};
use weir_types::{Op, OpId, Plan, Relation};

use super::ends_now;
use crate::passes::op_is_late;
use crate::passes::walk::{self, Carried, passed_from, path_down};

/// What the scanned time is called behind a map that dropped it.
const SCAN_TIME: &str = "_scan_time";

pub(super) struct Paths<'a> {
    plan: &'a Plan,
    /// Per operator of the plan: its place on a path. None for what runs in the cluster part.
    placed: Vec<Option<Placed>>,
}

pub(super) struct Placed {
    /// Where the path begins.
    scan: Shared<TableScan>,
    /// Behind the scan: the operator below, and what is done with its rows.
    step: Option<(OpId, Shared<Step>)>,
    pub(super) relation: Relation,
    time: Carried,
}

impl Paths<'_> {
    /// On nodes run row-wise operators above a scan, below any function of the cluster part and any use of
    /// the clock.
    pub(super) fn new(plan: &Plan) -> Paths<'_> {
        let mut placed: Vec<Option<Placed>> = Vec::with_capacity(plan.ops.len());
        for op in &plan.ops {
            let found = match (&op.kind, op.inputs.as_slice()) {
                (OpKind::Scan(scan), _) => Some(scanned(scan, &op.relation)),
                (_, [input]) if !op_is_late(op) => {
                    let below = placed.get(*input).and_then(Option::as_ref);
                    below.and_then(|below| stepped(op, *input, below))
                }
                _ => None,
            };
            placed.push(found);
        }
        Paths { plan, placed }
    }

    /// What runs on nodes.
    pub(super) fn get(&self, id: OpId) -> Option<&Placed> {
        self.placed[id].as_ref()
    }

    /// True if `id`'s column `time` is the `time_` that puts rows into panes, and none of them is held back
    /// by the window's end: the newest by this column stay the longest.
    pub(super) fn is_newest_first(&self, id: OpId, time: usize) -> bool {
        let (path, scan) = path_down(&self.plan.ops, id, |_, _| true);
        let mut time = Some(time);
        for &at in &path {
            time = time.and_then(|idx| passed_from(&self.plan.ops[at].kind, idx));
        }
        let scan = &self.plan.ops[scan];
        let is_now =
            matches!(&scan.kind, OpKind::Scan(Scan { window, .. }) if ends_now(window.end));
        is_now && time.is_some() && time == scan.relation.time_idx()
    }

    /// What a path gives, shipped.
    pub(super) fn source(&self, top: &Placed, shape: Shape) -> Source {
        let mut steps = Vec::new();
        let mut at = Some(top);
        while let Some((below, step)) = at.and_then(|placed| placed.step.as_ref()) {
            steps.push(step.clone());
            at = self.get(*below);
        }
        steps.reverse();
        Source { scan: top.scan.clone(), steps, time: top.time.idx, shape }
    }
}

fn scanned(scan: &Scan, relation: &Relation) -> Placed {
    let time = relation.time_idx().unwrap_or(0);
    Placed {
        scan: Shared::new(TableScan { scan: scan.clone(), types: relation.types() }),
        step: None,
        relation: relation.clone(),
        time: Carried { idx: time, name: SCAN_TIME.to_string() },
    }
}

fn stepped(op: &Op, input: OpId, below: &Placed) -> Option<Placed> {
    if !walk::is_row_wise(&op.kind) {
        return None;
    }
    let mut op = op.clone();
    let mut time = below.time.clone();
    walk::carry(&mut op, &below.relation, [&mut time]);
    let step = match op.kind {
        OpKind::Map { exprs } => {
            let labels = op.relation.columns.iter().map(|column| column.name.clone());
            Step::Map { exprs, labels: Labels(labels.collect()) }
        }
        OpKind::Filter { predicate } => Step::Filter(predicate),
        _ => return None,
    };
    Some(Placed {
        scan: below.scan.clone(),
        step: Some((input, Shared::new(step))),
        relation: op.relation,
        time,
    })
}
