//! What can go wrong: all of it is found before the first row, but for a batch that does not fit.

use weir_types::DataType;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    #[error("there is no function `{name}`")]
    UnknownFunction { name: String },
    #[error("function `{name}` has no overload for arguments [{}]", type_list(args))]
    NoOverload { name: String, args: Vec<DataType> },
    #[error("argument {} of `{name}` must be a literal", argument + 1)]
    NotConstant { name: String, argument: usize },
    #[error("function `{name}` cannot run here: {reason}")]
    Refused { name: String, reason: &'static str },
    #[error("the registries do not answer table function `{name}`")]
    NotListed { name: String },
    #[error("`{name}` gives {is}, the plan says {declared}")]
    ResultType { name: String, is: DataType, declared: DataType },
    #[error("expression is nested more than {depth_max} levels deep")]
    TooDeep { depth_max: usize },
    #[error("a filter needs a BOOLEAN expression, this one is {is}")]
    NotBoolean { is: DataType },
    #[error("column {idx} is not in the batch of {columns} columns")]
    ColumnMissing { idx: usize, columns: usize },
    #[error("column {idx} of the batch is not {declared}")]
    ColumnType { idx: usize, declared: DataType },
    #[error("table function `{name}` has no argument `{argument}` of that type")]
    TableArgument { name: String, argument: String },
}

fn type_list(types: &[DataType]) -> String {
    types.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ")
}
