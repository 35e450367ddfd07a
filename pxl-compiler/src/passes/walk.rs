//! The vocabulary of passes that walk a plan: where a column comes from, on the way down; how a column is
//! kept at hand, on the way up; how the expressions of an operator are replaced. Passes decide where to go
//! and how far; what an operator does to a column is said here only.

use weir_types::plan::OpKind;
use weir_types::{Column, Expr, Op, OpId, Relation};

use super::Rebuild;

/// The input's column that an operator with one input passes on unchanged as its column `idx`.
pub(crate) fn passed_from<L>(kind: &OpKind<L>, idx: usize) -> Option<usize> {
    match kind {
        OpKind::Filter { .. } | OpKind::Limit { .. } => Some(idx),
        OpKind::Map { exprs } => match exprs.get(idx) {
            Some(Expr::Column { idx, .. }) => Some(*idx),
            _ => None,
        },
        OpKind::Aggregate { group, .. } => group.get(idx).copied(),
        _ => None,
    }
}

/// An expression over an operator's columns in terms of its one input's, if they are all passed on.
pub(crate) fn below(kind: &OpKind, expr: &Expr) -> Option<Expr> {
    if matches!(
        kind,
        OpKind::Scan(_) | OpKind::TableFunction { .. } | OpKind::Join { .. } | OpKind::Union
    ) {
        return None;
    }
    let is_passed = expr.columns().iter().all(|&idx| passed_from(kind, idx).is_some());
    is_passed.then(|| expr.with_columns(&|idx| passed_from(kind, idx).unwrap_or(idx)))
}

/// True for operators that look at one row at a time.
pub(crate) fn is_row_wise(kind: &OpKind) -> bool {
    matches!(kind, OpKind::Filter { .. } | OpKind::Map { .. })
}

/// The operators from `top` down, as long as each has one input and may be passed, and the one where this
/// ends. No recursion: row-wise paths can be thousands of operators long.
pub(crate) fn path_down(
    ops: &[Op],
    top: OpId,
    may_pass: impl Fn(OpId, &Op) -> bool,
) -> (Vec<OpId>, OpId) {
    let (mut path, mut at) = (Vec::new(), top);
    while let ([input], true) = (ops[at].inputs.as_slice(), may_pass(at, &ops[at])) {
        path.push(at);
        at = *input;
    }
    (path, at)
}

/// All columns of a relation, unchanged: the beginning of a map that adds or drops some.
pub(crate) fn passed(relation: &Relation) -> Vec<Expr> {
    let columns = relation.columns.iter().enumerate();
    columns.map(|(idx, column)| Expr::Column { idx, data_type: column.data_type }).collect()
}

/// True if a map only passes its input on.
pub(crate) fn is_identity(op: &Op, input: &Relation) -> bool {
    matches!(op.kind, OpKind::Map { .. })
        && op.relation == *input
        && (0..input.len()).all(|idx| passed_from(&op.kind, idx) == Some(idx))
}

/// A column that is wanted further up: where it is in the operator at hand, and what it is called where a
/// map has to be made to pass it on.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) idx: usize,
    pub(crate) name: String,
}

/// The row-wise operator `op`, which stands on an operator with the relation `input` now, passing `columns`
/// on: a map that drops one gets it at its end. The columns that it had stay where they are. True if it has
/// to be another operator than before for that.
pub(crate) fn carry<'c>(
    op: &mut Op,
    input: &Relation,
    columns: impl IntoIterator<Item = &'c mut Carried>,
) -> bool {
    let OpKind::Map { exprs } = &mut op.kind else {
        let is_wider = op.relation.len() != input.len();
        op.relation = input.clone();
        return is_wider;
    };
    let before = exprs.len();
    for carried in columns {
        let is_it = |expr: &Expr| matches!(expr, Expr::Column { idx, .. } if *idx == carried.idx);
        carried.idx = exprs.iter().position(is_it).unwrap_or_else(|| {
            let column = &input.columns[carried.idx];
            exprs.push(Expr::Column { idx: carried.idx, data_type: column.data_type });
            let name = fresh_name(&op.relation, &carried.name);
            op.relation.columns.push(Column { name, ..column.clone() });
            exprs.len() - 1
        });
    }
    exprs.len() != before
}

/// A name that no column of the relation has.
pub(crate) fn fresh_name(relation: &Relation, wanted: &str) -> String {
    let mut name = wanted.to_string();
    while relation.index_of(&name).is_some() {
        name.push('_');
    }
    name
}

/// `id` without the columns behind those of `wanted`.
pub(crate) fn trimmed(rebuild: &mut Rebuild<'_>, id: OpId, wanted: &Relation) -> OpId {
    if rebuild.ops[id].relation.len() == wanted.len() {
        return id;
    }
    let kind = OpKind::Map { exprs: passed(wanted) };
    rebuild.push(Op { kind, inputs: vec![id], relation: wanted.clone() })
}

/// The operator's kind with each of its row expressions replaced.
pub(crate) fn with_expressions(kind: &OpKind, replace: &mut dyn FnMut(&Expr) -> Expr) -> OpKind {
    match kind {
        OpKind::Filter { predicate } => OpKind::Filter { predicate: replace(predicate) },
        OpKind::Map { exprs } => OpKind::Map { exprs: exprs.iter().map(replace).collect() },
        other => other.clone(),
    }
}

/// The expression with the outermost parts replaced for which `replace` has something.
pub(crate) fn replaced(expr: &Expr, replace: &dyn Fn(&Expr) -> Option<Expr>) -> Expr {
    if let Some(other) = replace(expr) {
        return other;
    }
    match expr {
        Expr::Call { func, args, data_type } => Expr::Call {
            func: func.clone(),
            args: args.iter().map(|arg| replaced(arg, replace)).collect(),
            data_type: *data_type,
        },
        other => other.clone(),
    }
}
