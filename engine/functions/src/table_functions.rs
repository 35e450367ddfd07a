//! Table functions: sources of rows that are no tables. Those that the registries answer are
//! computed here; the others are declared, and who runs a plan fills them from what it knows.

mod declared;
mod listing;
pub mod rows;

use weir_types::batch::BatchBuilder;
use weir_types::{Column, DataType, RecordBatch, Relation, SemanticType, Value};

use crate::FunctionError;

/// An argument; without a default it is required.
#[derive(Clone, Copy, Debug)]
pub struct TableArg {
    pub name: &'static str,
    pub data_type: DataType,
    pub default: Option<Literal>,
    pub doc: &'static str,
}

/// A default value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    Boolean(bool),
    Int64(i64),
}

impl Literal {
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Literal::Boolean(value) => Value::Boolean(value),
            Literal::Int64(value) => Value::Int64(value),
        }
    }
}

/// Where Pixie runs it; the answer is the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    OneKelvin,
    AllAgents,
    AllPem,
}

impl Executor {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Executor::OneKelvin => "UDTF_ONE_KELVIN",
            Executor::AllAgents => "UDTF_ALL_AGENTS",
            Executor::AllPem => "UDTF_ALL_PEM",
        }
    }
}

/// Who knows the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The registries: [`evaluate`].
    Registry,
    /// The cluster part.
    Cluster,
    /// Each agent of itself.
    Agents,
    /// Nobody, and why.
    Never(&'static str),
}

/// An output column.
#[derive(Clone, Copy, Debug)]
pub struct TableColumn {
    pub name: &'static str,
    pub data_type: DataType,
    pub semantic: SemanticType,
    pub doc: &'static str,
}

/// One table function.
#[derive(Clone, Copy, Debug)]
pub struct TableFunctionDef {
    pub name: &'static str,
    pub args: &'static [TableArg],
    pub columns: &'static [TableColumn],
    pub executor: Executor,
    /// On a running server; offline rows come from files.
    pub answered: Answered,
    /// One line.
    pub doc: &'static str,
}

impl TableFunctionDef {
    #[must_use]
    pub fn relation(&self) -> Relation {
        Relation::new(
            self.columns
                .iter()
                .map(|column| Column {
                    name: column.name.to_string(),
                    data_type: column.data_type,
                    semantic: column.semantic,
                    desc: column.doc.to_string(),
                })
                .collect(),
        )
    }
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.name.starts_with('_')
    }
    /// Why no running server answers it, if none does.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        match self.answered {
            Answered::Never(reason) => Some(reason),
            _ => None,
        }
    }
}

/// The table function of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static TableFunctionDef> {
    declared::DEFS.iter().find(|def| def.name == name)
}

/// All table functions.
pub fn all() -> impl Iterator<Item = &'static TableFunctionDef> {
    declared::DEFS.iter()
}

/// The columns of the table function's rows.
#[must_use]
pub fn relation(name: &str) -> Option<Relation> {
    find(name).map(TableFunctionDef::relation)
}

/// The arguments of the table function, in declared order.
#[must_use]
pub fn args(name: &str) -> Option<&'static [TableArg]> {
    find(name).map(|def| def.args)
}

/// A table that is declared elsewhere than in the registry, by a tracepoint.
#[derive(Clone, Debug)]
pub struct ExtraTable {
    pub name: String,
    pub desc: String,
    pub relation: Relation,
}

/// The rows of a table function that the registries answer: `GetTables`, `GetSchemas`,
/// `GetUDFList`, `GetUDAList`, `GetUDTFList`. `NotListed` for the others, whose contents the caller
/// has to know.
pub fn evaluate(
    name: &str,
    args: &[(String, Value)],
    extra_tables: &[ExtraTable],
) -> Result<RecordBatch, FunctionError> {
    let def =
        find(name).ok_or_else(|| FunctionError::UnknownFunction { name: name.to_string() })?;
    for (argument, value) in args {
        let fits = |arg: &TableArg| arg.name == argument && arg.data_type == value.data_type();
        if !def.args.iter().any(fits) {
            return Err(FunctionError::TableArgument {
                name: name.to_string(),
                argument: argument.clone(),
            });
        }
    }
    let rows = listing::rows_of(name)
        .ok_or_else(|| FunctionError::NotListed { name: name.to_string() })?;
    let mut builder = BatchBuilder::new(&def.relation());
    for row in rows(extra_tables) {
        for (idx, value) in row.iter().enumerate() {
            builder.value(idx, value);
        }
        builder.end_row();
    }
    Ok(builder.finish())
}
