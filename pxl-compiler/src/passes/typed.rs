//! The graph with names becomes a plan with positions: every operator gets its relation, every
//! expression its types and tags; metadata keys become function calls and right joins left joins.
//!
//! * **Input:** the operator graph, without errors so far.
//! * **Output:** a plan in which all holds that `checked` asks for, or findings.
//! * **Keeps:** frames and their columns, in their order.
//!
//! Errors are kept apart by column: an assignment that fails makes its column bad, and what reads a
//! bad column is silently bad, too, so that one run reports several independent mistakes.

use std::cell::Cell;
use std::collections::HashSet;

use weir_types::plan::{JoinKind, Op, OpKind, PLAN_VERSION, Scan, Side};
use weir_types::{Column, DataType, Expr, OpId, Plan, Relation, SemanticType, Value};

use super::is_blocking;
use super::placement_checked::Site;
use super::typed_expr::{Input, find_column};
use super::typed_relation::{
    aggregate_call, merged_relation, schema_disagreement, united_relation,
};
use super::walk::passed;
use crate::budget::{Budget, Over};
use crate::codes::Code;
use crate::diag::{Diag, Findings, Res, Stop, fail};
use crate::ir::{AggOut, Graph, IrKind, IrOp, Merge, MergeKind, NameAt, SymRef};
use crate::limits::{FRAME_COLUMNS_MAX, PASS_COLUMNS_MAX, PLAN_COLUMNS_MAX};
use crate::registry;

/// So many names are compared in a unit of work.
const COMPARED_NAMES: usize = 8;
/// Work of typing an operator, and each of its columns: names are copied several times.
const TYPED_OP_WORK: usize = 20;
const TYPED_COLUMN_WORK: usize = 20;

/// What became of an operator of the graph.
#[derive(Clone, Debug, Default)]
struct State {
    op: OpId,
    /// Columns that failed.
    bad: HashSet<String>,
    /// Nothing is known about its columns: what reads it stays silent.
    broken: bool,
}

pub(crate) struct Typed {
    pub(crate) ops: Vec<Op>,
    /// The plan's operator for each operator of the graph.
    pub(crate) of_graph: Vec<OpId>,
    /// Of all operators.
    pub(crate) columns: usize,
    pub(crate) sites: Vec<Site>,
}

pub(crate) fn run(
    graph: &Graph,
    tables: &[(String, Relation)],
    findings: &Findings,
    budget: &Budget,
) -> Typed {
    let mut typer = Typer {
        tables,
        findings,
        budget,
        ops: Vec::new(),
        blocked: Vec::new(),
        states: Vec::with_capacity(graph.ops.len()),
        nodes: Cell::new(0),
        columns: 0,
        sites: Vec::new(),
    };
    for op in &graph.ops {
        if findings.is_full() || budget.is_over() {
            break;
        }
        let state = typer.operator(op).unwrap_or_else(|stop| {
            typer.findings.stop(stop);
            typer.broken()
        });
        let columns = &typer.ops[state.op].relation.columns;
        budget.named(columns.iter().map(|column| column.name.len()).sum());
        budget.spend(TYPED_OP_WORK + TYPED_COLUMN_WORK * columns.len());
        typer.states.push(state);
    }
    let of_graph = typer.states.iter().map(|state| state.op).collect();
    Typed { ops: typer.ops, of_graph, columns: typer.columns, sites: typer.sites }
}

impl Typed {
    pub(crate) fn plan(&self, outputs: Vec<weir_types::plan::Output>) -> Plan {
        Plan { version: PLAN_VERSION, ops: self.ops.clone(), outputs }
    }
}

struct Typer<'a> {
    tables: &'a [(String, Relation)],
    findings: &'a Findings,
    budget: &'a Budget,
    ops: Vec<Op>,
    /// Per operator of the plan: it is, or stands behind, a blocking operator.
    blocked: Vec<bool>,
    states: Vec<State>,
    nodes: Cell<usize>,
    /// Columns of all relations so far.
    columns: usize,
    sites: Vec<Site>,
}

impl Typer<'_> {
    fn operator(&mut self, op: &IrOp) -> Res<State> {
        if self.columns > PLAN_COLUMNS_MAX {
            let message = format!("the operators have more than {PLAN_COLUMNS_MAX} columns in all");
            return fail(Code::TooComplex, op.span, message);
        }
        if op.inputs.iter().any(|&input| self.states[input].broken) {
            return Ok(self.broken());
        }
        match &op.kind {
            IrKind::Source { table, window, empty, .. } => self.source(table, *window, *empty),
            IrKind::TableFunction { name, args } => {
                let Some(relation) = registry::table_function_relation(name) else {
                    return fail(
                        Code::Internal,
                        op.span,
                        format!("Could not find function '{name}'."),
                    );
                };
                let kind = OpKind::TableFunction { name: name.clone(), args: args.clone() };
                Ok(self.state(Op { kind, inputs: Vec::new(), relation }, HashSet::new()))
            }
            IrKind::Filter(cond) => self.filter(op, cond),
            IrKind::Assign { name, expr, frame } => self.assign(op, name, expr, frame),
            IrKind::Select(names) => self.select(op, names),
            IrKind::Drop(names) => self.drop_columns(op, names),
            IrKind::Aggregate { group, outs } => self.aggregate(op, group, outs),
            IrKind::Merge(merge) => self.merge(op, merge),
            IrKind::Append => self.append(op),
            IrKind::Unite => self.unite(op),
            IrKind::Stream => Ok(self.states[op.inputs[0]].clone()),
            IrKind::Limit(rows_max) => {
                let (input, bad) = (self.states[op.inputs[0]].op, self.bad_of(op));
                let relation = self.ops[input].relation.clone();
                let kind = OpKind::Limit { rows_max: *rows_max };
                Ok(self.state(Op { kind, inputs: vec![input], relation }, bad))
            }
        }
    }

    /// A stand-in for what failed; the plan is never used then.
    fn broken(&mut self) -> State {
        let kind = OpKind::Union;
        let op = self.push(Op { kind, inputs: Vec::new(), relation: Relation::default() });
        State { op, broken: true, ..State::default() }
    }

    fn push(&mut self, op: Op) -> OpId {
        self.columns += op.relation.len();
        // Also of operators that one of the graph is made of.
        if self.columns > PASS_COLUMNS_MAX {
            self.budget.exceed(Over::Work);
        }
        let behind = op.inputs.iter().any(|&input| self.blocked[input]);
        self.blocked.push(behind || is_blocking(&op.kind));
        self.ops.push(op);
        self.ops.len() - 1
    }

    fn state(&mut self, op: Op, bad: HashSet<String>) -> State {
        let op = self.push(op);
        State { op, bad, broken: false }
    }

    fn bad_of(&self, op: &IrOp) -> HashSet<String> {
        op.inputs.iter().flat_map(|&input| self.states[input].bad.iter().cloned()).collect()
    }

    /// Types an expression over the (first) input of `op`.
    fn expr(&mut self, op: &IrOp, sym: &SymRef, frame: Option<&str>) -> Res<(Expr, SemanticType)> {
        let state = &self.states[op.inputs[0]];
        let mut input = Input {
            relation: &self.ops[state.op].relation,
            bad: &state.bad,
            frame,
            nodes: &self.nodes,
            budget: self.budget,
            sites: &mut self.sites,
            blocked: self.blocked[state.op],
        };
        input.expr(sym)
    }

    fn source(
        &mut self,
        table: &NameAt,
        window: weir_types::plan::Window,
        empty: bool,
    ) -> Res<State> {
        let declared = self.tables.iter().find(|(name, _)| *name == table.name);
        let relation = declared
            .map(|(_, relation)| relation)
            .or_else(|| weir_types::tables::relation(&table.name));
        let Some(relation) = relation.cloned() else {
            let message = format!("Table '{}' not found.", table.name);
            return fail(Code::TableNotFound, table.span, message);
        };
        if relation.time_idx().is_none() {
            let message = format!("not yet: table '{}' has no time_ column", table.name);
            return fail(Code::NotYet, table.span, message);
        }
        let columns = relation.columns.iter().map(|column| column.name.clone()).collect();
        let kind = OpKind::Scan(Scan { table: table.name.clone(), columns, window });
        let state =
            self.state(Op { kind, inputs: Vec::new(), relation: relation.clone() }, HashSet::new());
        if !empty {
            return Ok(state);
        }
        let kind = OpKind::Filter { predicate: Expr::Literal(Value::Boolean(false)) };
        Ok(self.state(Op { kind, inputs: vec![state.op], relation }, HashSet::new()))
    }

    fn filter(&mut self, op: &IrOp, cond: &SymRef) -> Res<State> {
        let input = self.states[op.inputs[0]].clone();
        let (predicate, _) = match self.expr(op, cond, None) {
            Ok(found) => found,
            // Without the condition the columns are still known.
            Err(stop) => {
                self.findings.stop(stop);
                return Ok(input);
            }
        };
        if predicate.data_type() != DataType::Boolean {
            let found = predicate.data_type();
            let message =
                format!("Expected 'BOOLEAN' for the filter condition, received '{found}'");
            let diag = Diag::error(Code::FilterType, cond.span, message)
                .label(format!("this is {found}"))
                .hint("compare it with something, for example `!= 0`");
            self.findings.push(diag);
            return Ok(input);
        }
        let relation = self.ops[input.op].relation.clone();
        let kind = OpKind::Filter { predicate };
        Ok(self.state(Op { kind, inputs: vec![input.op], relation }, input.bad))
    }

    fn assign(&mut self, op: &IrOp, name: &NameAt, expr: &SymRef, frame: &str) -> Res<State> {
        let input = self.states[op.inputs[0]].clone();
        let typed = self.expr(op, expr, Some(frame));
        let mut bad = input.bad;
        let (expr, semantic) = match typed {
            Ok(found) => {
                bad.remove(&name.name);
                found
            }
            Err(stop) => {
                self.findings.stop(stop);
                bad.insert(name.name.clone());
                (Expr::Literal(Value::Boolean(false)), SemanticType::None)
            }
        };
        let old = &self.ops[input.op].relation;
        let mut exprs = passed(old);
        let mut relation = old.clone();
        if let Some(idx) = old.index_of(&name.name) {
            exprs.remove(idx);
            relation.columns.remove(idx);
        }
        if relation.len() >= FRAME_COLUMNS_MAX {
            let message = format!("a frame has at most {FRAME_COLUMNS_MAX} columns");
            return fail(Code::ColumnsMax, name.span, message);
        }
        let mut column = Column::new(name.name.clone(), expr.data_type(), semantic);
        if let Expr::Column { idx, .. } = &expr {
            column.desc.clone_from(&old.columns[*idx].desc);
        }
        relation.columns.push(column);
        exprs.push(expr);
        let kind = OpKind::Map { exprs };
        Ok(self.state(Op { kind, inputs: vec![input.op], relation }, bad))
    }

    /// The columns at these positions, in this order.
    fn project(&mut self, op: &IrOp, wanted: &[usize]) -> State {
        let input = self.states[op.inputs[0]].clone();
        let old = &self.ops[input.op].relation;
        let columns: Vec<Column> = wanted.iter().map(|&idx| old.columns[idx].clone()).collect();
        let exprs = wanted
            .iter()
            .map(|&idx| Expr::Column { idx, data_type: old.columns[idx].data_type })
            .collect();
        let relation = Relation::new(columns);
        self.state(Op { kind: OpKind::Map { exprs }, inputs: vec![input.op], relation }, input.bad)
    }

    /// Positions of names; those that are missing are reported and left out.
    fn positions(&mut self, op: &IrOp, names: &[NameAt]) -> Vec<usize> {
        let relation = &self.ops[self.states[op.inputs[0]].op].relation;
        self.budget.spend(names.len() * relation.len() / COMPARED_NAMES);
        let mut found = Vec::new();
        for name in names {
            match find_column(relation, &name.name, name.span) {
                Ok(idx) => found.push(idx),
                Err(stop) => self.findings.stop(stop),
            }
        }
        found
    }

    fn select(&mut self, op: &IrOp, names: &[NameAt]) -> Res<State> {
        let wanted = self.positions(op, names);
        Ok(self.project(op, &wanted))
    }

    fn drop_columns(&mut self, op: &IrOp, names: &[NameAt]) -> Res<State> {
        let dropped = self.positions(op, names);
        let width = self.ops[self.states[op.inputs[0]].op].relation.len();
        let wanted: Vec<usize> = (0..width).filter(|idx| !dropped.contains(idx)).collect();
        if wanted.is_empty() {
            let message = "drop(): no column would be left".to_string();
            return fail(Code::ArgumentValue, op.span, message);
        }
        Ok(self.project(op, &wanted))
    }

    fn aggregate(&mut self, op: &IrOp, group: &[NameAt], outs: &[AggOut]) -> Res<State> {
        let input = self.states[op.inputs[0]].clone();
        let relation = self.ops[input.op].relation.clone();
        let mut bad = HashSet::new();
        let mut columns = Vec::new();
        let mut group_idx = Vec::new();
        for name in group {
            let idx = find_column(&relation, &name.name, name.span)?;
            if input.bad.contains(&name.name) {
                bad.insert(name.name.clone());
            }
            group_idx.push(idx);
            columns.push(relation.columns[idx].clone());
        }
        self.budget.spend((group.len() + outs.len()) * relation.len() / COMPARED_NAMES);
        let mut aggs = Vec::new();
        for out in outs {
            match aggregate_call(out, &relation, &input.bad) {
                Ok((agg, column)) => {
                    aggs.push(agg);
                    columns.push(column);
                }
                Err(stop) => {
                    self.findings.stop(stop);
                    bad.insert(out.out.name.clone());
                    columns.push(Column::new(
                        out.out.name.clone(),
                        DataType::Int64,
                        SemanticType::None,
                    ));
                }
            }
        }
        let kind = OpKind::Aggregate { group: group_idx, aggs };
        Ok(self.state(Op { kind, inputs: vec![input.op], relation: Relation::new(columns) }, bad))
    }

    fn merge(&mut self, op: &IrOp, merge: &Merge) -> Res<State> {
        let [left, right] = [0, 1].map(|at| self.states[op.inputs[at]].clone());
        let [left_relation, right_relation] =
            [&left, &right].map(|state| self.ops[state.op].relation.clone());
        let mut left_on = Vec::new();
        let mut right_on = Vec::new();
        for (left_key, right_key) in merge.left_on.iter().zip(&merge.right_on) {
            let l = find_column(&left_relation, &left_key.name, left_key.span)?;
            let r = find_column(&right_relation, &right_key.name, right_key.span)?;
            if left.bad.contains(&left_key.name) || right.bad.contains(&right_key.name) {
                return Err(Stop::Poisoned);
            }
            let types = (left_relation.columns[l].data_type, right_relation.columns[r].data_type);
            if types.0 != types.1 {
                let message = format!(
                    "left and right join columns must have the same datatype: '{}' is {}, '{}' is {}",
                    left_key.name, types.0, right_key.name, types.1
                );
                return fail(Code::JoinKeys, left_key.span, message);
            }
            left_on.push(l);
            right_on.push(r);
        }
        let (relation, bad) = merged_relation(
            merge,
            op.span,
            (&left_relation, &left.bad),
            (&right_relation, &right.bad),
        )?;
        let both = (0..left_relation.len()).map(|idx| (Side::Left, idx));
        let columns: Vec<(Side, usize)> =
            both.chain((0..right_relation.len()).map(|idx| (Side::Right, idx))).collect();
        let flipped = |side: Side| if side == Side::Left { Side::Right } else { Side::Left };
        let how = match merge.how {
            MergeKind::Inner => JoinKind::Inner,
            MergeKind::Left | MergeKind::Right => JoinKind::Left,
            MergeKind::Outer => JoinKind::Outer,
        };
        let (kind, inputs) = if merge.how == MergeKind::Right {
            let columns = columns.into_iter().map(|(side, idx)| (flipped(side), idx)).collect();
            let kind = OpKind::Join { how, left_on: right_on, right_on: left_on, columns };
            (kind, vec![right.op, left.op])
        } else {
            (OpKind::Join { how, left_on, right_on, columns }, vec![left.op, right.op])
        };
        Ok(self.state(Op { kind, inputs, relation }, bad))
    }

    fn append(&mut self, op: &IrOp) -> Res<State> {
        let first = self.ops[self.states[op.inputs[0]].op].relation.clone();
        let mut inputs = Vec::new();
        for &input in &op.inputs {
            if !self.budget.spend(TYPED_COLUMN_WORK * first.len()) {
                return Err(Stop::Poisoned);
            }
            // The frame itself, or one that was made alike.
            if self.ops[self.states[input].op].relation == first {
                inputs.push(self.states[input].op);
                continue;
            }
            let state = self.states[input].clone();
            let relation = self.ops[state.op].relation.clone();
            self.budget.spend(first.len() * relation.len() / COMPARED_NAMES);
            let fits = relation.len() == first.len()
                && first.columns.iter().all(|column| {
                    relation.columns.iter().any(|have| {
                        have.name == column.name
                            && (have.data_type == column.data_type
                                || state.bad.contains(&have.name)
                                || self.states[op.inputs[0]].bad.contains(&column.name))
                    })
                });
            if !fits {
                return Err(schema_disagreement(&first, &relation, op.span));
            }
            inputs.push(self.arranged(state.op, &first));
        }
        let bad = self.bad_of(op);
        Ok(self.state(Op { kind: OpKind::Union, inputs, relation: first }, bad))
    }

    /// All columns of all frames: what one has not is a text, and empty in its rows.
    fn unite(&mut self, op: &IrOp) -> Res<State> {
        let bad = self.bad_of(op);
        let relations: Vec<&Relation> =
            op.inputs.iter().map(|&input| &self.ops[self.states[input].op].relation).collect();
        let columns: usize = relations.iter().map(|relation| relation.len()).sum();
        // Each is looked for among those that were found before.
        let compared = columns * columns.min(FRAME_COLUMNS_MAX) / COMPARED_NAMES;
        if !self.budget.spend(TYPED_COLUMN_WORK * columns + compared) {
            return Err(Stop::Poisoned);
        }
        let relation = united_relation(&relations, &bad, op.span)?;
        if !self.budget.spend(TYPED_COLUMN_WORK * relation.len() * op.inputs.len() + compared) {
            return Err(Stop::Poisoned);
        }
        let ops: Vec<OpId> = op.inputs.iter().map(|&input| self.states[input].op).collect();
        let inputs = ops.into_iter().map(|input| self.arranged(input, &relation)).collect();
        Ok(self.state(Op { kind: OpKind::Union, inputs, relation }, bad))
    }

    /// The frame with these columns in this order, and empty texts for those that it has not.
    fn arranged(&mut self, input: OpId, wanted: &Relation) -> OpId {
        let have = &self.ops[input].relation;
        let order: Vec<Option<usize>> =
            wanted.columns.iter().map(|column| have.index_of(&column.name)).collect();
        if order.iter().copied().eq((0..have.len()).map(Some)) {
            return input;
        }
        let expr = |place: &Option<usize>| match *place {
            Some(idx) => Expr::Column { idx, data_type: have.columns[idx].data_type },
            None => Expr::Literal(Value::String(Vec::new())),
        };
        let column = |(place, wanted): (&Option<usize>, &Column)| match *place {
            Some(idx) => have.columns[idx].clone(),
            None => wanted.clone(),
        };
        let exprs = order.iter().map(expr).collect();
        let relation = Relation::new(order.iter().zip(&wanted.columns).map(column).collect());
        self.push(Op { kind: OpKind::Map { exprs }, inputs: vec![input], relation })
    }
}
