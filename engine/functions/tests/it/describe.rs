//! Documentation and listings.

use weir_functions::table_functions::{self, ExtraTable};
use weir_functions::{FunctionError, aggregate, describe, scalar};
use weir_types::batch::value_at;
use weir_types::{Column, DataType, Relation, SemanticType, Value, tables};

use crate::support::s;

/// A function without a line of documentation would be listed as nothing.
#[test]
fn everything_is_documented() {
    for doc in describe::describe() {
        assert!(!doc.doc.is_empty() && !doc.doc.contains('\n'), "{}", doc.name);
        assert!(!doc.doc.ends_with('.'), "{}", doc.name);
        let longest = doc.overloads.iter().map(|overload| overload.args.len()).max().unwrap();
        if doc.name != "_script_reference" {
            assert_eq!(doc.arg_names.len(), longest, "{}", doc.name);
        }
        assert!(doc.example.contains("px.") || doc.example.contains("df"), "{}", doc.name);
        assert!(doc.arg_names.iter().all(|name| !name.is_empty()), "{}", doc.name);
        let signatures = doc.signatures();
        assert_eq!(signatures.len(), doc.overloads.len());
        let columns = doc.columns.iter().map(|column| column.desc);
        let named = doc.named_args.iter().map(|arg| arg.desc);
        assert!(columns.chain(named).all(|desc| !desc.is_empty()), "{}", doc.name);
    }
    let docs = describe::describe();
    let of = |name: &str| docs.iter().find(|doc| doc.name == name).unwrap();
    assert_eq!(
        of("regex_match").signatures(),
        ["regex_match(pattern STRING literal, text STRING) -> BOOLEAN"]
    );
    assert_eq!(of("upid").signatures()[0], "upid(pid INT64, start_ticks INT64) -> UINT128");
    assert_eq!(of("ip_to_pod_id").signatures()[0], "ip_to_pod_id(ip STRING) -> STRING");
    assert_eq!(
        of("_script_reference").signatures()[2],
        "_script_reference(label STRING, script STRING, key STRING, value STRING, key STRING, value STRING) -> STRING"
    );
    assert_eq!(
        of("GetAgentStatus").signatures(),
        ["GetAgentStatus(include_kelvin BOOLEAN = True) -> DATAFRAME"]
    );
    assert_eq!(of("upid_to_pod_name").semantic, "POD_NAME");
    assert!(of("sum").semantic.contains("BYTES"));
    assert!(of("_HeapGrowthStacks").refusal.is_some() && of("_text_embedding").refusal.is_some());
    let json = serde_json::to_value(&docs).unwrap();
    assert_eq!(json[0]["name"], "add");
}

fn texts(name: &str, extra: &[ExtraTable]) -> Vec<Vec<String>> {
    let batch = table_functions::evaluate(name, &[], extra).unwrap();
    assert_eq!(batch.num_columns(), table_functions::relation(name).unwrap().len());
    (0..batch.num_rows())
        .map(|row| {
            batch
                .columns()
                .iter()
                .map(|array| match value_at(array, DataType::String, row).unwrap() {
                    Value::String(text) => String::from_utf8(text).unwrap(),
                    _ => unreachable!(),
                })
                .collect()
        })
        .collect()
}

#[test]
fn listings_come_from_the_registries() {
    let extra = ExtraTable {
        name: "probe".to_string(),
        desc: "a tracepoint".to_string(),
        relation: Relation::new(vec![Column::new("x", DataType::Int64, SemanticType::None)]),
    };
    let extra = std::slice::from_ref(&extra);
    assert_eq!(texts("GetTables", extra).len(), tables::TABLES.len() + 1);
    let schemas = texts("GetSchemas", extra);
    assert!(schemas.iter().any(|row| row[..3] == ["http_events", "resp_status", "INT64"]));
    assert!(schemas.iter().any(|row| row[..3] == ["probe", "x", "INT64"]));
    let udfs = texts("GetUDFList", &[]);
    let listed = scalar::all().filter(|def| !def.name.starts_with('_'));
    assert_eq!(udfs.len(), listed.map(|def| def.overloads.len()).sum::<usize>());
    assert!(
        udfs.contains(&["floor", "INT64", r#"{"args":["FLOAT64"]}"#].map(String::from).to_vec())
    );
    let udas = texts("GetUDAList", &[]);
    assert!(udas.iter().all(|row| aggregate::find(&row[0]).is_some() && !row[0].starts_with('_')));
    let udtfs = texts("GetUDTFList", &[]);
    let status = udtfs.iter().find(|row| row[0] == "GetAgentStatus").unwrap();
    assert_eq!(status[1], "UDTF_ONE_KELVIN");
    assert!(status[2].contains("include_kelvin") && status[3].contains("kernel_headers_installed"));
}

#[test]
fn other_table_functions_are_declared_only() {
    let status = table_functions::find("GetAgentStatus").unwrap();
    assert_eq!(status.args[0].default.map(|literal| literal.value()), Some(Value::Boolean(true)));
    assert_eq!(
        table_functions::evaluate("GetAgentStatus", &[], &[]).unwrap_err(),
        FunctionError::NotListed { name: "GetAgentStatus".to_string() }
    );
    assert!(matches!(
        table_functions::evaluate("GetTables", &[("x".to_string(), s("y"))], &[]),
        Err(FunctionError::TableArgument { .. })
    ));
    assert!(table_functions::evaluate("nope", &[], &[]).is_err());
}
