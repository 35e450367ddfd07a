//! The overloads of the reference, section 2, name by name: catches a missing or an extra one.

use std::collections::BTreeSet;

use weir_functions::{aggregate, scalar, table_functions};
use weir_types::DataType;

fn letters(types: &[DataType]) -> String {
    types
        .iter()
        .map(|ty| match ty {
            DataType::Boolean => 'B',
            DataType::Int64 => 'I',
            DataType::Float64 => 'F',
            DataType::String => 'S',
            DataType::Time64Ns => 'T',
            DataType::Uint128 => 'U',
        })
        .collect()
}

/// `name: ARGS>RESULT …`, in the letters of the reference.
const SCALARS: &str = "\
add: II>I FF>F FI>F IF>F TI>T IT>T SS>S
subtract: II>I FF>F FI>F IF>F TT>I TI>T IT>I
multiply: II>I FF>F FI>F IF>F
divide: II>F IF>F FI>F FF>F
modulo: II>I IT>I TI>I TT>I
negate: I>I F>F
invert: I>I
pow: II>F IF>F FI>F FF>F
log: II>F IF>F FI>F FF>F
ln: I>F F>F
log2: I>F F>F
log10: I>F F>F
exp: I>F F>F
sqrt: I>F F>F
abs: I>I F>F
ceil: F>I
floor: F>I
round: FI>S
bin: II>I TT>T IT>I TI>T FI>I
equal: II>B SS>B BB>B TT>B UU>B BI>B IB>B IF>B FI>B FF>B
notEqual: II>B SS>B BB>B TT>B UU>B BI>B IB>B IF>B FI>B FF>B
approxEqual: FF>B
lessThan: II>B FF>B SS>B TT>B
lessThanEqual: II>B FF>B SS>B TT>B
greaterThan: II>B FF>B SS>B TT>B
greaterThanEqual: II>B FF>B SS>B TT>B
logicalAnd: BB>B II>B
logicalOr: BB>B II>B
logicalNot: B>B I>B
time_to_int64: T>I
int64_to_time: I>T
select: BBB>B BII>I BFF>F BSS>S BTT>T
contains: SS>B
find: SS>I
length: S>I
substring: SII>S
tolower: S>S
toupper: S>S
trim: S>S
strip_prefix: SS>S
hex_to_ascii: S>S
bytes_to_hex: S>S
atoi: SI>I
itoa: I>S
regex_match: SS>B
replace: SSS>S
_match_regex_rule: SS>S
uri_parse: S>S
uri_recompose: SSSISSS>S
redact_pii_best_effort: S>S
normalize_pgsql: SS>S
normalize_mysql: SI>S
grpc_status_code_to_str: I>S
pluck: SS>S
pluck_int64: SS>I
pluck_float64: SS>F
pluck_array: SI>S
split: SS>S
_script_reference: SS>S SSSS>S SSSSSS>S SSSSSSSS>S SSSSSSSSSS>S SSSSSSSSSSSS>S SSSSSSSSSSSSSS>S SSSSSSSSSSSSSSSS>S SSSSSSSSSSSSSSSSSS>S
protocol_name: I>S
http_resp_message: I>S
kafka_api_key_name: I>S
mysql_command_name: I>S
cql_opcode_name: I>S
amqp_frame_type_name: I>S
amqp_method_name: II>S
mux_frame_type_name: I>S
dns_rcode_name: I>S
nslookup: S>S
cidrs_contain_ip: SS>B
get_cidrs: >S
shared_libraries: U>S
_exec_hostname: >S
_exec_host_num_cpus: >I
vizier_id: >S
vizier_name: >S
vizier_namespace: >S
_match_endpoint: SS>B
_predict_request_path_cluster: SS>S
_text_embedding: S>S
_encode_sentence_piece: S>S
_kmeans_inference: SS>I
asid: >I
upid: II>U III>U
upid_to_asid: U>I
upid_to_pid: U>I
upid_to_start_ts: U>T
upid_to_string: U>S
upid_to_container_id: U>S
upid_to_container_name: U>S
upid_to_pod_id: U>S
upid_to_namespace: U>S
upid_to_node_name: U>S
upid_to_hostname: U>S
upid_to_cmdline: U>S
upid_to_replicaset_name: U>S
upid_to_replicaset_id: U>S
upid_to_deployment_name: U>S
upid_to_deployment_id: U>S
upid_to_service_id: U>S
upid_to_service_name: U>S
upid_to_pod_name: U>S
upid_to_pod_qos: U>S
upid_to_pod_status: U>S
_upid_to_podname_local_addr_fallback: UST>S
pod_id_to_pod_name: S>S
pod_id_to_namespace: S>S
pod_id_to_pod_labels: S>S
pod_id_to_replicaset_name: S>S
pod_id_to_replicaset_id: S>S
pod_id_to_deployment_name: S>S
pod_id_to_deployment_id: S>S
pod_id_to_service_id: S>S
pod_id_to_owner_references: S>S
pod_id_to_service_name: S>S
pod_id_to_node_name: S>S
pod_id_to_start_time: S>T
pod_id_to_stop_time: S>T
pod_name_to_pod_id: S>S
pod_name_to_namespace: S>S
pod_name_to_service_name: S>S
pod_name_to_service_id: S>S
pod_name_to_replicaset_name: S>S
pod_name_to_replicaset_id: S>S
pod_name_to_deployment_name: S>S
pod_name_to_deployment_id: S>S
pod_name_to_owner_references: S>S
pod_name_to_pod_ip: S>S
pod_name_to_start_time: S>T
pod_name_to_stop_time: S>T
pod_name_to_status: S>S
container_id_to_status: S>S
container_id_to_start_time: S>T
container_id_to_stop_time: S>T
container_name_to_start_time: S>T
container_name_to_stop_time: S>T
container_name_to_container_id: S>S
ip_to_pod_id: S>S ST>S
ip_to_service_id: S>S
service_id_to_service_name: S>S
service_id_to_cluster_ip: S>S
service_id_to_external_ips: S>S
service_name_to_service_id: S>S
service_name_to_namespace: S>S
has_service_name: SS>B
has_service_id: SS>B
has_value: SS>B
replicaset_id_to_replicaset_name: S>S
replicaset_id_to_namespace: S>S
replicaset_id_to_owner_references: S>S
replicaset_id_to_status: S>S
replicaset_id_to_deployment_name: S>S
replicaset_id_to_deployment_id: S>S
replicaset_name_to_replicaset_id: S>S
replicaset_name_to_namespace: S>S
replicaset_name_to_owner_references: S>S
replicaset_name_to_status: S>S
replicaset_name_to_deployment_name: S>S
replicaset_name_to_deployment_id: S>S
replicaset_id_to_start_time: S>T
replicaset_id_to_stop_time: S>T
replicaset_name_to_start_time: S>T
replicaset_name_to_stop_time: S>T
deployment_id_to_deployment_name: S>S
deployment_id_to_namespace: S>S
deployment_id_to_status: S>S
deployment_name_to_deployment_id: S>S
deployment_name_to_namespace: S>S
deployment_name_to_status: S>S
deployment_id_to_start_time: S>T
deployment_id_to_stop_time: S>T
deployment_name_to_start_time: S>T
deployment_name_to_stop_time: S>T
namespace_name_to_namespace_id: S>S
";

/// Weir's own.
const OURS: &str = "\
_peer_upid: SI>U SIT>U
_upid_to_connection_peer: USISIT>U
_upid_to_peer_met: USIT>U
_upid_to_exec_hostname: U>S
_upid_to_exec_num_cpus: U>I
";

const AGGREGATES: &str = "\
count: I>I F>I S>I B>I T>I U>I
sum: I>I F>F B>I
mean: I>F F>F B>F
min: I>I F>F T>T
max: I>I F>F T>T
any: I>I F>F S>S B>B T>T U>U
quantiles: I>S F>S
sample: S>S
pprof: SII>S
_kmeans_fit: SI>S
_build_request_path_clusters: S>S
";

/// `name(argument:type=default …): column:type …` where the reference names columns, else the name
/// and arguments only.
const TABLE_FUNCTIONS: &str = "\
GetTables(): table_name:S table_desc:S
GetSchemas(): table_name:S column_name:S column_type:S pattern_type:S column_desc:S
GetAgentStatus(include_kelvin:B=1): agent_id:U asid:I hostname:S ip_address:S agent_state:S create_time:T last_heartbeat_ns:I kernel_headers_installed:B
GetProfilerSamplingPeriodMS(): asid:I profiler_sampling_period_ms:I
GetLinuxHeadersStatus(include_kelvin:B=1): asid:I kernel_headers_installed:B
GetUDFList(): name:S return_type:S args:S
GetUDAList(): name:S return_type:S args:S
GetUDTFList(): name:S executor:S init_args:S output_relation:S
GetTracepointStatus(): tracepoint_id:U name:S state:S status:S output_tables:S
GetCronScriptHistory(): script_id:S timestamp:T error_message:S execution_time_ns:I compilation_time_ns:I bytes_processed:I records_processed:I
Version(): asid:I version:S
_DebugMDState(): asid:I pod_name:S debug_state:S
_DebugMDGetWithPrefix(prefix:S proto:S): key:S value:S
_DebugTableInfo(): asid:I name:S id:I batches_added:I batches_expired:I bytes_added:I num_batches:I compacted_batches:I size:I cold_size:I max_table_size:I min_time:T
_DebugStackTrace()
_HeapStats()
_HeapSample(asid:I=-1)
_HeapRanges()
_HeapStatsNumeric()
_DebugAgentProcStatus()
_DebugAgentProcSMaps()
_HeapReleaseFreeMemory()
_HeapGrowthStacks(asid:I=-1): asid:I heap:S
";

fn table(lines: &str) -> BTreeSet<(&str, &str)> {
    let entries = lines.lines().flat_map(|line| {
        let (name, overloads) = line.split_once(": ").unwrap();
        overloads.split(' ').map(move |overload| (name, overload))
    });
    entries.collect()
}

#[track_caller]
fn check(wanted: &BTreeSet<(&str, &str)>, have: &BTreeSet<(String, String)>) {
    let have: BTreeSet<(&str, &str)> =
        have.iter().map(|(name, overload)| (name.as_str(), overload.as_str())).collect();
    let missing: Vec<_> = wanted.difference(&have).collect();
    let extra: Vec<_> = have.difference(wanted).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
}

#[test]
fn scalars_are_those_of_the_reference() {
    let mut wanted = table(SCALARS);
    wanted.extend(table(OURS));
    let have = scalar::all()
        .flat_map(|def| def.overloads.iter().map(|overload| (def.name, overload)))
        .map(|(name, overload)| {
            let signature = format!("{}>{}", letters(overload.args), letters(&[overload.result]));
            (name.to_string(), signature)
        })
        .collect();
    check(&wanted, &have);
    // 174 names by the reference's count.
    let names: BTreeSet<&str> = table(SCALARS).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 174);
    for name in names {
        assert_eq!(scalar::find(name).map(|def| def.name), Some(name));
    }
}

#[test]
fn aggregates_are_those_of_the_reference() {
    let have = aggregate::all()
        .flat_map(|def| def.overloads.iter().map(|overload| (def.name, overload)))
        .map(|(name, overload)| {
            let signature = format!("{}>{}", letters(overload.args), letters(&[overload.result]));
            (name.to_string(), signature)
        })
        .collect();
    check(&table(AGGREGATES), &have);
}

/// A column under another name or in another place would break scripts that run unmodified.
#[test]
fn table_functions_are_those_of_the_reference() {
    let mut wanted: Vec<&str> = TABLE_FUNCTIONS.lines().collect();
    wanted.sort_unstable();
    assert_eq!(wanted.len(), 23);
    let mut have: Vec<String> = table_functions::all()
        .map(|def| {
            let args: Vec<String> = def
                .args
                .iter()
                .map(|arg| {
                    let default = match arg.default.map(|literal| literal.value()) {
                        None => String::new(),
                        Some(weir_types::Value::Boolean(value)) => format!("={}", u8::from(value)),
                        Some(weir_types::Value::Int64(value)) => format!("={value}"),
                        Some(other) => panic!("{other:?}"),
                    };
                    format!("{}:{}{default}", arg.name, letters(&[arg.data_type]))
                })
                .collect();
            let columns: Vec<String> = def
                .columns
                .iter()
                .map(|column| format!("{}:{}", column.name, letters(&[column.data_type])))
                .collect();
            format!("{}({}): {}", def.name, args.join(" "), columns.join(" "))
        })
        .collect();
    have.sort_unstable();
    assert_eq!(have.len(), wanted.len());
    for (have, wanted) in have.iter().zip(wanted) {
        match wanted.ends_with(')') {
            true => assert!(have.starts_with(&format!("{wanted}: ")), "{have}"),
            false => assert_eq!(have, wanted),
        }
    }
}

/// Where functions run and which arguments are literals, as the reference marks them: a lookup in
/// the wrong half of a plan would read another machine's processes.
#[test]
fn placements_and_literals_are_those_of_the_reference() {
    use weir_functions::Placement;
    let node_only = ["shared_libraries", "_peer_upid", "_upid_to_podname_local_addr_fallback"];
    let anywhere = ["upid_to_asid", "upid_to_pid", "upid_to_start_ts", "upid_to_string"];
    for def in scalar::all() {
        let wanted = match def.name {
            "ip_to_pod_id" | "ip_to_service_id" => Placement::Cluster,
            name if node_only.contains(&name) => Placement::Node,
            name if anywhere.contains(&name) => Placement::Anywhere,
            name if name.starts_with("upid_to_") || name.starts_with("_upid_to_") => {
                Placement::Node
            }
            _ => Placement::Anywhere,
        };
        assert_eq!(def.placement, wanted, "{}", def.name);
        let literals: &[usize] = match def.name {
            "regex_match" | "replace" | "_match_regex_rule" => &[0],
            _ => &[],
        };
        assert_eq!(def.const_args, literals, "{}", def.name);
    }
}

/// Every overload survives empty batches, odd values and both encodings: a kernel that reads an
/// argument as another type panics here.
#[test]
fn every_overload_runs() {
    use crate::support::{batch_of_rows, call_expr, eval_rows};
    use weir_types::{Expr, Value};
    let odd = |ty: DataType, pick: usize| -> Value {
        match ty {
            DataType::Boolean => Value::Boolean(pick % 2 == 1),
            DataType::Int64 => Value::Int64([0, -1, i64::MIN, i64::MAX, 3][pick % 5]),
            DataType::Float64 => {
                Value::Float64([0.0, f64::NAN, f64::NEG_INFINITY, 1e300, -2.5][pick % 5])
            }
            DataType::String => Value::String(
                [&b""[..], b"\xFF\x00", br#"{"a":[1]}"#, b"ns/x", b"SELECT 1"][pick % 5].to_vec(),
            ),
            DataType::Time64Ns => Value::Time64Ns([0, -1, i64::MIN, i64::MAX, 3][pick % 5]),
            DataType::Uint128 => Value::Uint128([0, 1, u128::MAX, 1 << 96, 7][pick % 5]),
        }
    };
    for def in scalar::all().filter(|def| def.refusal.is_none()) {
        for overload in def.overloads {
            let rows: Vec<Vec<Value>> = (0..10)
                .map(|row| {
                    overload
                        .args
                        .iter()
                        .enumerate()
                        .map(|(idx, &ty)| odd(ty, row + 2 * idx))
                        .collect()
                })
                .collect();
            let args = overload.args.iter().enumerate().map(|(idx, &data_type)| {
                match def.const_args.contains(&idx) {
                    true => Expr::Literal(odd(data_type, 3)),
                    false => Expr::Column { idx, data_type },
                }
            });
            let expr = call_expr(def.name, args.collect());
            for rows in [&rows[..], &rows[..0]] {
                for dictionaries in [false, true] {
                    let batch = batch_of_rows(overload.args, rows, dictionaries);
                    // Without columns a batch has no rows of its own.
                    if batch.num_columns() > 0 {
                        let answers = eval_rows(&expr, &weir_functions::EvalCtx::default(), &batch);
                        assert!(answers.iter().all(|value| value.data_type() == overload.result));
                    }
                }
            }
        }
    }
}
