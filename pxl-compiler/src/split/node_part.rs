//! The node part under construction: copies of the plan's row-wise operators, each with a column
//! that still holds the scanned row's `time_` (a hidden one at the end where the script replaced or
//! dropped it), and the sends at their ends.

use std::hash::Hash;

use weir_types::plan::{EndBound, OpKind, StartBound, Window};
use weir_types::split::{ExchangeId, FragmentKind, FragmentOp, Shape};
use weir_types::{Column, DataType, Expr, OpId, Plan, Relation, SemanticType};

use super::{ends_now, hash_of};

pub(super) struct NodePart<'a> {
    plan: &'a Plan,
    pub(super) ops: Vec<FragmentOp>,
    /// Per operator of the plan: the fragment's operator and its time column.
    placed: Vec<Option<(OpId, usize)>>,
    exchanges: ExchangeId,
}

/// What the receiving side needs to know about a send.
pub(super) struct Sent {
    pub(super) exchange: ExchangeId,
    pub(super) window: Window,
    pub(super) input: Relation,
    pub(super) hash: u64,
}

impl NodePart<'_> {
    pub(super) fn new(plan: &Plan) -> NodePart<'_> {
        NodePart { plan, ops: Vec::new(), placed: vec![None; plan.ops.len()], exchanges: 0 }
    }

    /// True if the newest n rows of each pane are enough for a limit of n above `id`: its rows are
    /// ordered by the `time_` that puts them into panes, and none of them is held back by the
    /// window's end.
    pub(super) fn newest_first(&self, id: OpId) -> bool {
        self.shows_scan_time(id) && ends_now(self.window(id).end)
    }

    /// True if the frame's `time_` is the scanned row's.
    fn shows_scan_time(&self, id: OpId) -> bool {
        let (mut at, mut time) = (id, self.plan.ops[id].relation.time_idx());
        while let Some(idx) = time {
            let op = &self.plan.ops[at];
            match (&op.kind, op.inputs.first()) {
                (OpKind::Scan { .. }, _) | (_, None) => return op.relation.time_idx() == time,
                (OpKind::Map { exprs }, Some(&input)) => {
                    time = match &exprs[idx] {
                        Expr::Column { idx, .. } => Some(*idx),
                        _ => None,
                    };
                    at = input;
                }
                (_, Some(&input)) => at = input,
            }
        }
        false
    }

    /// The window of the scan that `id` stands on.
    fn window(&self, id: OpId) -> Window {
        let mut at = id;
        loop {
            let op = &self.plan.ops[at];
            match (&op.kind, op.inputs.first()) {
                (OpKind::Scan { window, .. }, _) => return *window,
                (_, Some(&input)) => at = input,
                // Not reached: row-wise paths end in scans.
                (_, None) => return Window { start: StartBound::Beginning, end: EndBound::Now },
            }
        }
    }

    /// The fragment's operator for one of the plan's.
    pub(super) fn place(&mut self, id: OpId) -> OpId {
        self.place_with_time(id).0
    }

    fn place_with_time(&mut self, id: OpId) -> (OpId, usize) {
        // Row-wise paths can be thousands of operators long: no recursion.
        let mut path = Vec::new();
        let mut at = id;
        let mut below = loop {
            if let Some(placed) = self.placed[at] {
                break placed;
            }
            path.push(at);
            match self.plan.ops[at].inputs.first() {
                Some(&input) => at = input,
                None => break (0, 0),
            }
        };
        while let Some(id) = path.pop() {
            below = self.copy(id, below);
            self.placed[id] = Some(below);
        }
        below
    }

    fn copy(&mut self, id: OpId, below: (OpId, usize)) -> (OpId, usize) {
        let op = &self.plan.ops[id];
        let (input, input_time) = below;
        match &op.kind {
            OpKind::Map { exprs } => {
                let mut exprs = exprs.clone();
                let mut relation = op.relation.clone();
                let kept = exprs.iter().position(
                    |expr| matches!(expr, Expr::Column { idx, .. } if *idx == input_time),
                );
                let time = kept.unwrap_or_else(|| {
                    let mut name = "_scan_time".to_string();
                    while relation.index_of(&name).is_some() {
                        name.push('_');
                    }
                    relation.columns.push(Column::new(
                        name,
                        DataType::Time64Ns,
                        SemanticType::None,
                    ));
                    exprs.push(Expr::Column { idx: input_time, data_type: DataType::Time64Ns });
                    exprs.len() - 1
                });
                (self.push(FragmentKind::Plan(OpKind::Map { exprs }), vec![input], relation), time)
            }
            OpKind::Scan { .. } => {
                let time = op.relation.time_idx().unwrap_or(0);
                let kind = FragmentKind::Plan(op.kind.clone());
                (self.push(kind, Vec::new(), op.relation.clone()), time)
            }
            _ => {
                let relation = self.ops[input].relation.clone();
                let kind = FragmentKind::Plan(op.kind.clone());
                (self.push(kind, vec![input], relation), input_time)
            }
        }
    }

    /// Ships what the plan's operator gives.
    pub(super) fn send(&mut self, id: OpId, shape: &Shape) -> Sent {
        let (input, time) = self.place_with_time(id);
        let window = self.window(id);
        let relation = self.ops[input].relation.clone();
        let exchange = self.exchanges;
        self.exchanges += 1;
        // Without the number: equal sends of different queries have equal hashes.
        let hash = hash_of(|hasher| {
            "send".hash(hasher);
            shape.hash(hasher);
            window.hash(hasher);
            time.hash(hasher);
            self.ops[input].hash.hash(hasher);
        });
        let kind = FragmentKind::Send { exchange, shape: shape.clone(), window, time };
        let inputs = vec![input];
        self.ops.push(FragmentOp { kind, inputs, relation: relation.clone(), hash });
        Sent { exchange, window, input: relation, hash }
    }

    fn push(&mut self, kind: FragmentKind, inputs: Vec<OpId>, relation: Relation) -> OpId {
        let hash = hash_of(|hasher| {
            kind.hash(hasher);
            relation.hash(hasher);
            for &input in &inputs {
                self.ops[input].hash.hash(hasher);
            }
        });
        self.ops.push(FragmentOp { kind, inputs, relation, hash });
        self.ops.len() - 1
    }
}
