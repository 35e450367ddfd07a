//! What holds of every split, checked in tests and debug builds: sources whose steps fit each other, a
//! cluster plan that reads of them what they give, and outputs that show what the plan shows.

use weir_types::split::{Shape, Source, SplitPlan, Step};
use weir_types::{DataType, Plan};

use crate::passes::checked::{self, Checked, holds};

pub(super) fn check(plan: &Plan, split: &SplitPlan) -> Checked {
    for (number, source) in split.sources.iter().enumerate() {
        check_source(source).map_err(|broken| format!("source #{number}: {broken}"))?;
    }
    checked::structure(&split.cluster, &|exchange, relation| {
        let source = split.sources.get(*exchange as usize);
        let types = source.map(Source::received_types);
        holds(types.is_some_and(|types| types == relation.types()), || {
            format!("not the columns of source #{exchange}")
        })
    })?;
    let shown = plan.outputs.iter().zip(&split.cluster.outputs);
    holds(plan.outputs.len() == split.cluster.outputs.len(), || "other outputs".to_string())?;
    for (wanted, have) in shown {
        let is_it = wanted.table == have.table
            && plan.ops[wanted.op].relation == split.cluster.ops[have.op].relation;
        holds(is_it, || format!("output {:?} shows something else", wanted.table))?;
    }
    Ok(())
}

fn check_source(source: &Source) -> Checked {
    let scan = &source.scan;
    holds(scan.types.len() == scan.scan.columns.len(), || "a column without a type".to_string())?;
    let mut types: Vec<DataType> = scan.types.clone();
    for step in &source.steps {
        match &**step {
            Step::Filter(predicate) => {
                checked::expression(predicate, &types)?;
                let is_bool = predicate.data_type() == DataType::Boolean;
                holds(is_bool, || "a condition that is none".to_string())?;
            }
            Step::Map { exprs, .. } => {
                exprs.iter().try_for_each(|expr| checked::expression(expr, &types))?;
                types = exprs.iter().map(weir_types::Expr::data_type).collect();
            }
        }
    }
    checked::is_time(&types, source.time)?;
    match &source.shape {
        Shape::Rows { .. } => Ok(()),
        Shape::Candidates { .. } => holds(types.last() == Some(&DataType::Boolean), || {
            "nothing says which rows reach the limit".to_string()
        }),
        Shape::Partial { group, aggs } => checked::aggregated(group, aggs, &types).map(drop),
    }
}
