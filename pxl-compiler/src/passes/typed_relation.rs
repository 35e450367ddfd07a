//! Relations that are made of others: an aggregate's result column, a merge's columns, and what an append says
//! of frames that do not agree.

use std::collections::HashSet;

use weir_types::plan::AggCall;
use weir_types::{Column, DataType, Relation, SemanticType};

use super::typed_expr::find_column;
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::ir::{AggOut, Merge};
use crate::limits::FRAME_COLUMNS_MAX;
use crate::objects::args::name_fits;
use crate::registry;

pub(super) fn aggregate_call(
    out: &AggOut,
    relation: &Relation,
    bad: &HashSet<String>,
) -> Res<(AggCall, Column)> {
    let mut args = Vec::new();
    for column in &out.columns {
        if bad.contains(&column.name) {
            return Err(Stop::Poisoned);
        }
        args.push(find_column(relation, &column.name, column.span)?);
    }
    let func = &out.func.name;
    let arg_types: Vec<DataType> =
        args.iter().map(|&idx| relation.columns[idx].data_type).collect();
    let Some(data_type) = registry::aggregate_result(func, &arg_types) else {
        let names: Vec<&str> = arg_types.iter().map(|each| each.name()).collect();
        let message =
            format!("Could not find UDA '{func}' with update arg types [{}].", names.join(", "));
        let hint = format!("it takes {}", registry::aggregate_signatures(func).join(" or "));
        return Err(Diag::error(Code::NoAggregateOverload, out.func.span, message)
            .hint(hint)
            .into());
    };
    let tags: Vec<SemanticType> = args.iter().map(|&idx| relation.columns[idx].semantic).collect();
    let semantic = registry::aggregate_semantic(func, &tags, &arg_types);
    let time = if registry::reads_time(func) { relation.time_idx() } else { None };
    let column = Column::new(out.out.name.clone(), data_type, semantic);
    Ok((AggCall { func: func.clone(), args, arg_types, data_type, time }, column))
}

/// A relation and its bad columns.
type SideOf<'a> = (&'a Relation, &'a HashSet<String>);

/// All left columns, then all right ones; names on both sides get suffixes.
pub(super) fn merged_relation(
    merge: &Merge,
    span: Span,
    left: SideOf<'_>,
    right: SideOf<'_>,
) -> Res<(Relation, HashSet<String>)> {
    let mut columns: Vec<Column> = Vec::new();
    let mut bad = HashSet::new();
    let mut taken: HashSet<String> = HashSet::new();
    let names = |relation: &Relation| -> HashSet<String> {
        relation.columns.iter().map(|column| column.name.clone()).collect()
    };
    let (left_names, right_names) = (names(left.0), names(right.0));
    let sides = [(left, &right_names, &merge.suffixes.0), (right, &left_names, &merge.suffixes.1)];
    for ((relation, bad_here), other, suffix) in sides {
        for column in &relation.columns {
            let mut renamed = column.clone();
            if other.contains(&column.name) {
                renamed.name.push_str(suffix);
                name_fits(&renamed.name, span)?;
            }
            if bad_here.contains(&column.name) {
                bad.insert(renamed.name.clone());
            }
            if !taken.insert(renamed.name.clone()) {
                let message = format!("merge(): duplicate column '{}' in the result", renamed.name);
                let hint = "give the sides different `suffixes`, or drop the column on one side";
                return Err(Diag::error(Code::JoinSuffixes, span, message).hint(hint).into());
            }
            columns.push(renamed);
        }
    }
    if columns.len() > FRAME_COLUMNS_MAX {
        let message = format!("a frame has at most {FRAME_COLUMNS_MAX} columns");
        return fail(Code::ColumnsMax, span, message);
    }
    Ok((Relation::new(columns), bad))
}

pub(super) fn schema_disagreement(first: &Relation, other: &Relation, span: Span) -> Stop {
    let text = |relation: &Relation| {
        let columns: Vec<String> = relation
            .columns
            .iter()
            .map(|column| format!("{}: {}", column.name, column.data_type))
            .collect();
        columns.join(", ")
    };
    let message = format!(
        "Table schema disagreement between parent ops: [{}] and [{}]",
        text(first),
        text(other)
    );
    let hint = "select the same columns in both frames: `df[['a', 'b']]`";
    Diag::error(Code::AppendSchema, span, message).hint(hint).into()
}

/// The columns of all frames, in the order in which they are first met. `bad`: nothing is said of these.
pub(super) fn united_relation(
    relations: &[&Relation],
    bad: &HashSet<String>,
    span: Span,
) -> Res<Relation> {
    let mut columns: Vec<Column> = Vec::new();
    for column in relations.iter().flat_map(|relation| &relation.columns) {
        let Column { name, data_type, .. } = column;
        match columns.iter().find(|have| have.name == *name) {
            Some(have) if have.data_type != *data_type && !bad.contains(name) => {
                let one = have.data_type;
                let message =
                    format!("the column `{name}` is {one} in one and {data_type} in another");
                return fail(Code::AppendSchema, span, message);
            }
            Some(_) => {}
            None if columns.len() == FRAME_COLUMNS_MAX => {
                let message = format!("a frame has at most {FRAME_COLUMNS_MAX} columns");
                return fail(Code::ColumnsMax, span, message);
            }
            None => columns.push(column.clone()),
        }
    }
    let is_lacking = |column: &&Column| {
        column.data_type != DataType::String
            && !bad.contains(&column.name)
            && relations.iter().any(|relation| relation.index_of(&column.name).is_none())
    };
    if let Some(Column { name, data_type, .. }) = columns.iter().find(is_lacking) {
        let message =
            format!("one has no column `{name}` ({data_type}); only STRING columns may be missing");
        return fail(Code::AppendSchema, span, message);
    }
    Ok(Relation::new(columns))
}
