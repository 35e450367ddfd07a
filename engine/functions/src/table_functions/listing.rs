//! The rows of the table functions that list what is registered.

use serde_json::json;
use weir_types::{DataType, Relation, Value, tables};

use super::ExtraTable;
use super::declared::DEFS;
use super::rows::{ListedColumn, ListedFunction, ListedTable, ListedTableFunction, Row};
use crate::{aggregate, scalar};

type Rows = fn(&[ExtraTable]) -> Vec<Vec<Value>>;

fn values(rows: impl Iterator<Item = impl Row>) -> Vec<Vec<Value>> {
    rows.map(Row::values).collect()
}

pub(super) fn rows_of(name: &str) -> Option<Rows> {
    Some(match name {
        "GetTables" => table_rows,
        "GetSchemas" => schema_rows,
        "GetUDFList" => udf_rows,
        "GetUDAList" => uda_rows,
        "GetUDTFList" => udtf_rows,
        _ => return None,
    })
}

fn table_rows(extra: &[ExtraTable]) -> Vec<Vec<Value>> {
    let row = |name: &str, desc: &str| ListedTable {
        table_name: name.to_string(),
        table_desc: desc.to_string(),
    };
    let declared = tables::TABLES.iter().map(|table| row(table.name, table.desc));
    values(declared.chain(extra.iter().map(|table| row(&table.name, &table.desc))))
}

fn schema_rows(extra: &[ExtraTable]) -> Vec<Vec<Value>> {
    let columns = |table: &str, relation: Relation| {
        let table = table.to_string();
        let row = move |column: weir_types::Column| ListedColumn {
            table_name: table.clone(),
            column_name: column.name,
            column_type: column.data_type.name().to_string(),
            pattern_type: "GENERAL".to_string(),
            column_desc: column.desc,
        };
        relation.columns.into_iter().map(row)
    };
    let declared = tables::TABLES.iter().flat_map(|table| columns(table.name, table.relation()));
    values(
        declared.chain(extra.iter().flat_map(|table| columns(&table.name, table.relation.clone()))),
    )
}

fn listed(name: &str, result: DataType, args: &[DataType]) -> ListedFunction {
    let names: Vec<&str> = args.iter().map(|ty| ty.name()).collect();
    ListedFunction {
        name: name.to_string(),
        return_type: result.name().to_string(),
        args: json!({ "args": names }).to_string(),
    }
}

fn by_name(mut rows: Vec<ListedFunction>) -> Vec<Vec<Value>> {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    values(rows.into_iter())
}

fn udf_rows(_: &[ExtraTable]) -> Vec<Vec<Value>> {
    let overloads = scalar::all()
        .filter(|def| !def.is_hidden())
        .flat_map(|def| def.overloads.iter().map(|overload| (def.name, overload)));
    by_name(overloads.map(|(name, of)| listed(name, of.result, of.args)).collect())
}

fn uda_rows(_: &[ExtraTable]) -> Vec<Vec<Value>> {
    let overloads = aggregate::all()
        .filter(|def| !def.is_hidden())
        .flat_map(|def| def.overloads.iter().map(|overload| (def.name, overload)));
    by_name(overloads.map(|(name, of)| listed(name, of.result, of.args)).collect())
}

fn udtf_rows(_: &[ExtraTable]) -> Vec<Vec<Value>> {
    let mut rows: Vec<ListedTableFunction> = DEFS
        .iter()
        .filter(|def| !def.is_hidden())
        .map(|def| {
            let args: Vec<_> = def
                .args
                .iter()
                .map(|arg| {
                    json!({ "name": arg.name, "type": arg.data_type.name(), "stype": "ST_NONE",
                            "desc": arg.doc })
                })
                .collect();
            let columns: Vec<_> = def
                .columns
                .iter()
                .map(|column| {
                    json!({ "name": column.name, "type": column.data_type.name(),
                            "ptype": "GENERAL", "desc": column.doc })
                })
                .collect();
            ListedTableFunction {
                name: def.name.to_string(),
                executor: def.executor.name().to_string(),
                init_args: json!({ "args": args }).to_string(),
                output_relation: json!({ "relation": columns }).to_string(),
            }
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    values(rows.into_iter())
}
