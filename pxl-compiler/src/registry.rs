//! The one place that asks `weir-functions`: which functions there are, their types, tags and
//! placement.

use weir_functions::scalar::ScalarDef;
use weir_functions::{Placement, aggregate, scalar};
use weir_types::{DataType, Relation, SemanticType, Value};

/// What a name in the registry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FunctionKind {
    Scalar,
    Aggregate,
    TableFunction,
}

pub(crate) fn kind_of(name: &str) -> Option<FunctionKind> {
    if scalar::find(name).is_some() {
        Some(FunctionKind::Scalar)
    } else if aggregate::find(name).is_some() {
        Some(FunctionKind::Aggregate)
    } else {
        weir_functions::table_functions::find(name).map(|_| FunctionKind::TableFunction)
    }
}

/// All names that scripts may call, without hidden ones.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    scalar::all()
        .map(|def| def.name)
        .chain(aggregate::all().map(|def| def.name))
        .chain(weir_functions::table_functions::all().map(|def| def.name))
        .filter(|name| !name.starts_with('_'))
}

pub(crate) fn scalar_result(name: &str, args: &[DataType]) -> Option<DataType> {
    scalar::resolve(name, args)
}

pub(crate) fn scalar_semantic(
    name: &str,
    args: &[SemanticType],
    types: &[DataType],
) -> SemanticType {
    scalar::semantic(name, args, types)
}

pub(crate) fn aggregate_result(name: &str, args: &[DataType]) -> Option<DataType> {
    aggregate::resolve(name, args)
}

pub(crate) fn aggregate_semantic(
    name: &str,
    args: &[SemanticType],
    types: &[DataType],
) -> SemanticType {
    aggregate::semantic(name, args, types)
}

/// Why a known function cannot be called, if it cannot.
pub(crate) fn refusal(name: &str) -> Option<&'static str> {
    scalar::find(name).and_then(|def| def.refusal)
}

pub(crate) fn fold(name: &str, args: &[Value]) -> Option<Value> {
    weir_functions::eval::fold(name, args)
}

pub(crate) fn placement(name: &str) -> Placement {
    scalar::find(name).map_or(Placement::Anywhere, |def| def.placement)
}

/// Whether a call's result depends on what is known of processes, connections and addresses.
pub(crate) fn reads_names(name: &str) -> bool {
    scalar::reads_names(name)
}

/// Positions of arguments that must be literals.
pub(crate) fn const_args(name: &str) -> &'static [usize] {
    scalar::find(name).map_or(&[], |def| def.const_args)
}

/// The types that a function takes, for hints: `contains(STRING, STRING)`.
pub(crate) fn scalar_signatures(name: &str) -> Vec<String> {
    let overloads = scalar::find(name).map(|def: &ScalarDef| def.overloads).unwrap_or_default();
    overloads.iter().map(|overload| signature(name, overload.args)).collect()
}

pub(crate) fn aggregate_signatures(name: &str) -> Vec<String> {
    let overloads = aggregate::find(name).map(|def| def.overloads).unwrap_or_default();
    overloads.iter().map(|overload| signature(name, overload.args)).collect()
}

fn signature(name: &str, args: &[DataType]) -> String {
    let args: Vec<&str> = args.iter().map(|arg| arg.name()).collect();
    format!("{name}({})", args.join(", "))
}

/// `any` and `sample` take the earliest row's value: they read `time_`.
pub(crate) fn reads_time(name: &str) -> bool {
    matches!(name, "any" | "sample")
}

/// Two-level aggregation is possible for all aggregates: their accumulators merge.
pub(crate) fn table_function_relation(name: &str) -> Option<Relation> {
    weir_functions::table_functions::relation(name)
}

/// The registry's own copy of a name.
pub(crate) fn name_of(name: &str) -> Option<&'static str> {
    scalar::find(name)
        .map(|def| def.name)
        .or_else(|| aggregate::find(name).map(|def| def.name))
        .or_else(|| weir_functions::table_functions::find(name).map(|def| def.name))
}

/// A declared argument of a table function.
pub(crate) struct TableArg {
    pub(crate) name: &'static str,
    pub(crate) data_type: DataType,
    pub(crate) default: Option<Value>,
}

pub(crate) fn table_function_args(name: &str) -> Vec<TableArg> {
    let args = weir_functions::table_functions::find(name).map(|def| def.args).unwrap_or_default();
    args.iter()
        .map(|arg| TableArg {
            name: arg.name,
            data_type: arg.data_type,
            default: arg.default.map(weir_functions::table_functions::Literal::value),
        })
        .collect()
}
