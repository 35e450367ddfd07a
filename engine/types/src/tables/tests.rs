//! The registry against the reference, section 3: names, order, types and semantic types.

use super::*;

/// The shared columns of protocol tables.
const C8: &str = "time_:T upid:U:UPID remote_addr:S:IP_ADDRESS remote_port:I:PORT \
                  local_addr:S:IP_ADDRESS local_port:I:PORT trace_role:I encrypted:B";

/// `table count: column:type[:semantic] …`; `C8` are the shared columns, `L` is the latency.
const REFERENCE: &str = "\
http_events 22: C8 major_version:I minor_version:I content_type:I req_headers:S req_method:S:HTTP_REQ_METHOD req_path:S req_body:S req_body_size:I:BYTES resp_headers:S resp_status:I:HTTP_RESP_STATUS resp_message:S:HTTP_RESP_MESSAGE resp_body:S resp_body_size:I:BYTES L
mysql_events 13: C8 req_cmd:I req_body:S resp_status:I resp_body:S L
cql_events 13: C8 req_op:I req_body:S resp_op:I resp_body:S L
pgsql_events 12: C8 req_cmd:S req:S resp:S L
redis_events 12: C8 req_cmd:S req_args:S resp:S L
dns_events 13: C8 req_header:S req_body:S resp_header:S resp_body:S L
nats_events.beta 11: C8 cmd:S body:S resp:S
kafka_events.beta 13: C8 req_cmd:I client_id:S req_body:S resp:S L
mux_events 12: C8 req_type:I latency:I:DURATION_NS resp_type:I tag:I
amqp_events 17: C8 frame_type:I channel:I req_class_id:I req_method_id:I resp_class_id:I resp_method_id:I req_msg:S resp_msg:S L
mongodb_events 13: C8 req_cmd:S req_body:S resp_status:S resp_body:S L
tls_events 11: time_:T upid:U:UPID remote_addr:S:IP_ADDRESS remote_port:I:PORT local_addr:S:IP_ADDRESS local_port:I:PORT trace_role:I req_type:I req_body:S resp_body:S L
mqtt_events 13: C8 req_type:I req_body:S resp_type:I resp_body:S L
conn_stats 13: time_:T upid:U:UPID remote_addr:S:IP_ADDRESS remote_port:I:PORT trace_role:I addr_family:I protocol:I ssl:B conn_open:I conn_close:I conn_active:I bytes_sent:I:BYTES bytes_recv:I:BYTES
process_stats 13: time_:T upid:U:UPID major_faults:I minor_faults:I cpu_utime_ns:I:DURATION_NS cpu_ktime_ns:I:DURATION_NS num_threads:I vsize_bytes:I:BYTES rss_bytes:I:BYTES rchar_bytes:I:BYTES wchar_bytes:I:BYTES read_bytes:I:BYTES write_bytes:I:BYTES
network_stats 10: time_:T pod_id:S rx_bytes:I:BYTES rx_packets:I rx_errors:I rx_drops:I tx_bytes:I:BYTES tx_packets:I tx_errors:I tx_drops:I
jvm_stats 7: time_:T upid:U:UPID young_gc_time:I:DURATION_NS full_gc_time:I:DURATION_NS used_heap_size:I total_heap_size:I max_heap_size:I
stack_traces.beta 5: time_:T upid:U:UPID stack_trace_id:I stack_trace:S count:I
proc_exit_events 5: time_:T upid:U:UPID exit_code:I signal:I comm:S
stirling_error 6: time_:T upid:U:UPID source_connector:S status:I error:S context:S
probe_status 7: time_:T upid:U:UPID source_connector:S tracepoint:S status:I error:S info:S
tcp_stats_events 9: time_:T upid:U:UPID local_addr:S:IP_ADDRESS local_port:I:PORT remote_addr:S:IP_ADDRESS remote_port:I:PORT tx:I:BYTES rx:I:BYTES retransmits:I
";

fn letter(data_type: DataType) -> char {
    match data_type {
        DataType::Boolean => 'B',
        DataType::Int64 => 'I',
        DataType::Float64 => 'F',
        DataType::String => 'S',
        DataType::Time64Ns => 'T',
        DataType::Uint128 => 'U',
    }
}

fn text_of(column: &ColumnDef) -> String {
    let text = format!("{}:{}", column.name, letter(column.data_type));
    match column.semantic {
        SemanticType::None => text,
        semantic => format!("{text}:{}", semantic.name()),
    }
}

/// Scripts of others name these columns: a missing, renamed or retyped one is an error there.
#[test]
fn tables_are_those_of_the_reference() {
    let (mut tables, mut columns) = (0, 0);
    for line in REFERENCE.lines() {
        let (head, body) = line.split_once(": ").unwrap();
        let (name, count) = head.split_once(' ').unwrap();
        let body = body.replace("C8", C8);
        let body = match body.strip_suffix(" L") {
            Some(body) => format!("{body} latency:I:DURATION_NS"),
            None => body,
        };
        let table = find(name).unwrap_or_else(|| panic!("no table {name}"));
        let have: Vec<String> = table.columns.iter().map(text_of).collect();
        assert_eq!(have.join(" "), body.split_whitespace().collect::<Vec<_>>().join(" "), "{name}");
        assert_eq!(have.len(), count.parse::<usize>().unwrap(), "{name}");
        if !["tcp_stats_events", "mqtt_events"].contains(&name) {
            tables += 1;
            columns += have.len();
        }
    }
    assert_eq!(
        (tables, columns),
        (20, 228),
        "the reference's count without tcp_stats_events and MQTT, and what mux_events has besides"
    );
}

/// A column without a description, or a quantity without its unit, is a question for the reader of
/// `weir schema`.
#[test]
fn columns_say_what_they_hold() {
    let mut names = std::collections::BTreeSet::new();
    for table in TABLES {
        assert!(names.insert(table.name), "{} is declared twice", table.name);
        assert!(table.desc.ends_with('.'), "{}", table.name);
        assert_eq!(table.columns[0].name, "time_", "{}", table.name);
        let mut columns = std::collections::BTreeSet::new();
        for column in table.columns {
            let at = format!("{}.{}", table.name, column.name);
            assert!(columns.insert(column.name), "{at} is declared twice");
            assert!(column.desc.ends_with(['.', '…']), "{at}: {}", column.desc);
            let lower = column.desc.to_lowercase();
            let unit = match column.semantic {
                SemanticType::DurationNs => " ns",
                SemanticType::Bytes => "bytes",
                _ if column.data_type == DataType::Time64Ns => "unix ns",
                _ => "",
            };
            assert!(lower.contains(unit), "{at} does not name its unit: {}", column.desc);
            assert!(
                !column.low_cardinality || column.data_type == DataType::String,
                "{at}: only texts are coded"
            );
        }
    }
}

/// A table without `encrypted` has a protocol's own columns one place further in front, however a row
/// is written.
#[test]
fn rows_without_encrypted_have_their_columns_in_place() {
    let endpoints = Endpoints {
        time_unix_ns: 5,
        upid: 6,
        remote_addr: "10.0.0.1",
        remote_port: 7,
        local_addr: "10.0.0.2",
        local_port: 8,
        trace_role: 2,
        encrypted: true,
    };
    let row = TlsEventsRow { req_type: 22, req_body: b"{}", resp_body: b"[]", latency: 9 };
    let mut typed = TableBuilder::<TlsEvents>::new();
    typed.push(&(endpoints, row));
    let mut builder = TlsEvents::DEF.builder();
    endpoints.write_without_encrypted(&mut builder);
    row.write(&mut builder);
    builder.end_row();
    assert!(!TlsEvents::DEF.has_encrypted() && HttpEvents::DEF.has_encrypted());
    let relation = TlsEvents::DEF.relation();
    for batch in [typed.finish(), builder.finish()] {
        let value = |name: &str| {
            let idx = relation.index_of(name).unwrap();
            crate::batch::value_at(batch.column(idx), relation.columns[idx].data_type, 0).unwrap()
        };
        assert_eq!(value("trace_role"), crate::Value::Int64(2));
        assert_eq!(value("req_type"), crate::Value::Int64(22));
        assert_eq!(value("resp_body"), crate::Value::String(b"[]".to_vec()));
        assert_eq!(value("latency"), crate::Value::Int64(9));
    }
}
