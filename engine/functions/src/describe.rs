//! The documentation of every function as plain data, for `weir funcs`, the API and the editor.

use serde::Serialize;

use crate::{Placement, aggregate, scalar, table_functions};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionKind {
    Scalar,
    Aggregate,
    Table,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverloadDoc {
    /// Type names in order.
    pub args: Vec<&'static str>,
    /// Type name; `DATAFRAME` for table functions.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnDoc {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub data_type: &'static str,
    pub semantic: &'static str,
    pub desc: &'static str,
}

/// One function as users see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionDoc {
    pub name: &'static str,
    pub kind: FunctionKind,
    /// Argument names, of the longest overload.
    pub arg_names: Vec<&'static str>,
    pub overloads: Vec<OverloadDoc>,
    /// Positions of arguments that must be literals.
    pub const_args: Vec<usize>,
    /// Columns of a table function.
    pub columns: Vec<ColumnDoc>,
    /// `anywhere`, `node` or `cluster`.
    pub placement: &'static str,
    pub doc: &'static str,
    pub example: &'static str,
    /// Callable, but not listed unless asked for by name.
    pub hidden: bool,
    /// False: known, and refused as not built yet.
    pub built: bool,
}

/// All functions: scalars, aggregates, table functions.
#[must_use]
pub fn describe() -> Vec<FunctionDoc> {
    let scalars = scalar::all().map(scalar_doc);
    let aggregates = aggregate::all().map(aggregate_doc);
    let tables = table_functions::all().map(table_doc);
    scalars.chain(aggregates).chain(tables).collect()
}

fn scalar_doc(def: &scalar::ScalarDef) -> FunctionDoc {
    FunctionDoc {
        name: def.name,
        kind: FunctionKind::Scalar,
        arg_names: def.arg_names.to_vec(),
        overloads: def
            .overloads
            .iter()
            .map(|overload| OverloadDoc {
                args: overload.args.iter().map(|ty| ty.name()).collect(),
                result: overload.result.name(),
            })
            .collect(),
        const_args: def.const_args.to_vec(),
        columns: Vec::new(),
        placement: def.placement.name(),
        doc: def.doc,
        example: def.example,
        hidden: def.is_hidden(),
        built: def.built,
    }
}

fn aggregate_doc(def: &aggregate::AggDef) -> FunctionDoc {
    FunctionDoc {
        name: def.name,
        kind: FunctionKind::Aggregate,
        arg_names: def.arg_names.to_vec(),
        overloads: def
            .overloads
            .iter()
            .map(|overload| OverloadDoc {
                args: overload.args.iter().map(|ty| ty.name()).collect(),
                result: overload.result.name(),
            })
            .collect(),
        const_args: Vec::new(),
        columns: Vec::new(),
        placement: Placement::Anywhere.name(),
        doc: def.doc,
        example: def.example,
        hidden: def.is_hidden(),
        built: def.built(),
    }
}

fn table_doc(def: &table_functions::TableFunctionDef) -> FunctionDoc {
    FunctionDoc {
        name: def.name,
        kind: FunctionKind::Table,
        arg_names: def.args.iter().map(|arg| arg.name).collect(),
        overloads: vec![OverloadDoc {
            args: def.args.iter().map(|arg| arg.data_type.name()).collect(),
            result: "DATAFRAME",
        }],
        const_args: (0..def.args.len()).collect(),
        columns: def
            .columns
            .iter()
            .map(|column| ColumnDoc {
                name: column.name,
                data_type: column.data_type.name(),
                semantic: column.semantic.name(),
                desc: column.doc,
            })
            .collect(),
        placement: Placement::Cluster.name(),
        doc: def.doc,
        example: "",
        hidden: def.is_hidden(),
        built: true,
    }
}
