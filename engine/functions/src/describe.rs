//! The documentation of every function as plain data, for `weir funcs`, the API and the editor.

use serde::Serialize;
use weir_types::{DataType, Value};

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

/// An argument of a table function, given by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedArgDoc {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub data_type: &'static str,
    /// As PxL writes it; none: required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
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
    /// Arguments of a table function.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named_args: Vec<NamedArgDoc>,
    /// Columns of a table function.
    pub columns: Vec<ColumnDoc>,
    /// Which semantic type the result carries, in words; empty: none.
    pub semantic: String,
    /// `anywhere`, `node` or `cluster`.
    pub placement: &'static str,
    pub doc: &'static str,
    pub example: String,
    /// Callable, but not listed unless asked for by name.
    pub hidden: bool,
    /// Why it is refused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
}

impl FunctionDoc {
    /// How each overload is called: `substring(text STRING, position INT64, length INT64) -> STRING`.
    #[must_use]
    pub fn signatures(&self) -> Vec<String> {
        let signature = |overload: &OverloadDoc| {
            // A shorter overload takes the last of the longest one's arguments where names are few.
            let names = self.arg_names_of(overload.args.len());
            let args = overload.args.iter().zip(names).enumerate().map(|(idx, (ty, name))| {
                let literal = match self.kind {
                    FunctionKind::Scalar if self.const_args.contains(&idx) => " literal",
                    _ => "",
                };
                let named = self.named_args.get(idx).and_then(|arg| arg.default.as_ref());
                let default = named.map_or_else(String::new, |default| format!(" = {default}"));
                format!("{name} {ty}{literal}{default}")
            });
            let args: Vec<String> = args.collect();
            format!("{}({}) -> {}", self.name, args.join(", "), overload.result)
        };
        self.overloads.iter().map(signature).collect()
    }

    fn arg_names_of(&self, count: usize) -> Vec<&'static str> {
        match self.name {
            // The last two repeat.
            "_script_reference" => {
                let pairs = self.arg_names[2..].iter().cycle();
                self.arg_names[..2].iter().chain(pairs).take(count).copied().collect()
            }
            // Without the agent the process is this one's.
            "upid" => self.arg_names[self.arg_names.len() - count..].to_vec(),
            _ => self.arg_names[..count].to_vec(),
        }
    }
}

/// All functions: scalars, aggregates, table functions.
#[must_use]
pub fn describe() -> Vec<FunctionDoc> {
    let scalars = scalar::all().map(scalar_doc);
    let aggregates = aggregate::all().map(aggregate_doc);
    let tables = table_functions::all().map(table_doc);
    scalars.chain(aggregates).chain(tables).collect()
}

fn type_names(types: &[DataType]) -> Vec<&'static str> {
    types.iter().map(|ty| ty.name()).collect()
}

fn scalar_doc(def: &scalar::ScalarDef) -> FunctionDoc {
    let overloads = def.overloads.iter().map(|overload| OverloadDoc {
        args: type_names(overload.args),
        result: overload.result.name(),
    });
    FunctionDoc {
        name: def.name,
        kind: FunctionKind::Scalar,
        arg_names: def.arg_names.to_vec(),
        overloads: overloads.collect(),
        const_args: def.const_args.to_vec(),
        named_args: Vec::new(),
        columns: Vec::new(),
        semantic: def.semantic.describe(),
        placement: def.placement.name(),
        doc: def.doc,
        example: def.example.to_string(),
        hidden: def.is_hidden(),
        refusal: def.refusal,
    }
}

fn aggregate_doc(def: &aggregate::AggDef) -> FunctionDoc {
    let overloads = def.overloads.iter().map(|overload| OverloadDoc {
        args: type_names(overload.args),
        result: overload.result.name(),
    });
    FunctionDoc {
        name: def.name,
        kind: FunctionKind::Aggregate,
        arg_names: def.arg_names.to_vec(),
        overloads: overloads.collect(),
        const_args: Vec::new(),
        named_args: Vec::new(),
        columns: Vec::new(),
        semantic: def.semantic.describe(),
        placement: Placement::Anywhere.name(),
        doc: def.doc,
        example: def.example.to_string(),
        hidden: def.is_hidden(),
        refusal: None,
    }
}

/// A default as PxL writes it.
fn literal_text(value: &Value) -> String {
    match value {
        Value::Boolean(true) => "True".to_string(),
        Value::Boolean(false) => "False".to_string(),
        Value::Int64(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn table_doc(def: &table_functions::TableFunctionDef) -> FunctionDoc {
    let columns = def.columns.iter().map(|column| ColumnDoc {
        name: column.name,
        data_type: column.data_type.name(),
        semantic: column.semantic.name(),
        desc: column.doc,
    });
    let named_args = def.args.iter().map(|arg| NamedArgDoc {
        name: arg.name,
        data_type: arg.data_type.name(),
        default: arg.default.map(|literal| literal_text(&literal.value())),
        desc: arg.doc,
    });
    let required = def.args.iter().filter(|arg| arg.default.is_none());
    let required: Vec<String> = required.map(|arg| format!("{}='…'", arg.name)).collect();
    let types: Vec<DataType> = def.args.iter().map(|arg| arg.data_type).collect();
    FunctionDoc {
        name: def.name,
        kind: FunctionKind::Table,
        arg_names: def.args.iter().map(|arg| arg.name).collect(),
        overloads: vec![OverloadDoc { args: type_names(&types), result: "DATAFRAME" }],
        const_args: (0..def.args.len()).collect(),
        named_args: named_args.collect(),
        columns: columns.collect(),
        semantic: String::new(),
        placement: Placement::Cluster.name(),
        doc: def.doc,
        example: format!("df = px.{}({})", def.name, required.join(", ")),
        hidden: def.is_hidden(),
        refusal: def.refusal(),
    }
}
