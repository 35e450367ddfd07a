//! The rows of the table functions that list what is registered.

use serde_json::json;
use weir_types::{DataType, Relation, tables};

use super::ExtraTable;
use super::declared::DEFS;
use crate::{aggregate, scalar};

type Rows = fn(&[ExtraTable]) -> Vec<Vec<String>>;

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

fn table_rows(extra: &[ExtraTable]) -> Vec<Vec<String>> {
    let declared =
        tables::TABLES.iter().map(|table| vec![table.name.to_string(), table.desc.to_string()]);
    declared.chain(extra.iter().map(|table| vec![table.name.clone(), table.desc.clone()])).collect()
}

fn schema_rows(extra: &[ExtraTable]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut push = |table: &str, relation: &Relation| {
        for column in &relation.columns {
            rows.push(vec![
                table.to_string(),
                column.name.clone(),
                column.data_type.name().to_string(),
                "GENERAL".to_string(),
                column.desc.clone(),
            ]);
        }
    };
    for table in tables::TABLES {
        push(table.name, &table.relation());
    }
    for table in extra {
        push(&table.name, &table.relation);
    }
    rows
}

fn args_json(args: &[DataType]) -> String {
    let names: Vec<&str> = args.iter().map(|ty| ty.name()).collect();
    json!({ "args": names }).to_string()
}

fn udf_rows(_: &[ExtraTable]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = scalar::all()
        .filter(|def| !def.is_hidden())
        .flat_map(|def| def.overloads.iter().map(|overload| (def.name, overload)))
        .map(|(name, overload)| {
            vec![name.to_string(), overload.result.name().to_string(), args_json(overload.args)]
        })
        .collect();
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    rows
}

fn uda_rows(_: &[ExtraTable]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = aggregate::all()
        .filter(|def| !def.is_hidden())
        .flat_map(|def| def.overloads.iter().map(|overload| (def.name, overload)))
        .map(|(name, overload)| {
            vec![name.to_string(), overload.result.name().to_string(), args_json(overload.args)]
        })
        .collect();
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    rows
}

fn udtf_rows(_: &[ExtraTable]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = DEFS
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
            vec![
                def.name.to_string(),
                def.executor.name().to_string(),
                json!({ "args": args }).to_string(),
                json!({ "relation": columns }).to_string(),
            ]
        })
        .collect();
    rows.sort();
    rows
}
