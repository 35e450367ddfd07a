"""The tables a script may read: declared columns in order, and the table functions' columns."""

_C8 = "time_:T upid:U remote_addr:S remote_port:I local_addr:S local_port:I trace_role:I encrypted:B"
_C7 = _C8.replace(" encrypted:B", "")


def _columns(text):
    return [tuple(part.rsplit(":", 1)) for part in text.split()]


TABLES = {
    name: _columns(text)
    for name, text in {
        "http_events": _C8 + " major_version:I minor_version:I content_type:I req_headers:S"
        " req_method:S req_path:S req_body:S req_body_size:I resp_headers:S resp_status:I"
        " resp_message:S resp_body:S resp_body_size:I latency:I",
        "mysql_events": _C8 + " req_cmd:I req_body:S resp_status:I resp_body:S latency:I",
        "cql_events": _C8 + " req_op:I req_body:S resp_op:I resp_body:S latency:I",
        "pgsql_events": _C8 + " req_cmd:S req:S resp:S latency:I",
        "redis_events": _C8 + " req_cmd:S req_args:S resp:S latency:I",
        "dns_events": _C8 + " req_header:S req_body:S resp_header:S resp_body:S latency:I",
        "nats_events.beta": _C8 + " cmd:S body:S resp:S",
        "kafka_events.beta": _C8 + " req_cmd:I client_id:S req_body:S resp:S latency:I",
        "mux_events": _C8 + " req_type:I latency:I resp_type:I tag:I",
        "amqp_events": _C8 + " frame_type:I channel:I req_class_id:I req_method_id:I"
        " resp_class_id:I resp_method_id:I req_msg:S resp_msg:S latency:I",
        "mongodb_events": _C8 + " req_cmd:S req_body:S resp_status:S resp_body:S latency:I",
        "tls_events": _C7 + " req_type:I req_body:S resp_body:S latency:I",
        "mqtt_events": _C8 + " req_type:I req_body:S resp_type:I resp_body:S latency:I",
        "conn_stats": "time_:T upid:U remote_addr:S remote_port:I trace_role:I addr_family:I"
        " protocol:I ssl:B conn_open:I conn_close:I conn_active:I bytes_sent:I bytes_recv:I",
        "process_stats": "time_:T upid:U major_faults:I minor_faults:I cpu_utime_ns:I"
        " cpu_ktime_ns:I num_threads:I vsize_bytes:I rss_bytes:I rchar_bytes:I wchar_bytes:I"
        " read_bytes:I write_bytes:I",
        "network_stats": "time_:T pod_id:S rx_bytes:I rx_packets:I rx_errors:I rx_drops:I"
        " tx_bytes:I tx_packets:I tx_errors:I tx_drops:I",
        "jvm_stats": "time_:T upid:U young_gc_time:I full_gc_time:I used_heap_size:I"
        " total_heap_size:I max_heap_size:I",
        "stack_traces.beta": "time_:T upid:U stack_trace_id:I stack_trace:S count:I",
        "proc_exit_events": "time_:T upid:U exit_code:I signal:I comm:S",
        "stirling_error": "time_:T upid:U source_connector:S status:I error:S context:S",
        "probe_status": "time_:T upid:U source_connector:S tracepoint:S status:I error:S info:S",
        "tcp_stats_events": "time_:T upid:U local_addr:S local_port:I remote_addr:S"
        " remote_port:I tx:I rx:I retransmits:I",
        "let_events": "time_:T latency:I req_size:I resp_size:I pod:S service:S remote:S"
        " endpoint:S status:I",
    }.items()
}

# What a script's own pxtrace.UpsertTracepoint declares; visible only in such a script.
TRACEPOINT_TABLES = {
    name: _columns(text)
    for name, text in {
        "cap_capable_table": "time_:T uid:I pid:I comm:S cap:I name:S audit:I",
        "dc_snoop_table": "time_:T pid:I comm:S t:S file:S",
        "exec_table": "time_:T pid:I pid_start_time:I ppid:I ppid_start_time:I filename:S"
        " argv0:S argv1:S",
        "md_flush_table": "time_:T pid:I comm:S device:S",
        "nap_time_table": "time_:T ppid:I pcomm:S pid:I comm:S",
        "oom_kill_table": "time_:T triggered_by_pid:I triggered_by_comm:S killed_pid:I"
        " killed_comm:S pages:I",
        "sock_sendmsg_table": "time_:T tid:I ssock:I src_ip:S lport:I dst_ip:S dst_port:I size:I",
        "sock_recvmsg_table": "time_:T tid:I rsock:I src_ip:S lport:I dst_ip:S dst_port:I size:I",
        "sync_snoop_table": "time_:T pid:I comm:S event:S",
        "tcp_drop_table": "time_:T pid:I pid_start_time:I src_ip:S src_port:I dst_ip:S"
        " dst_port:I state:S",
        "tcp_retransmissions": "time_:T pid:I pid_start_time:I src_ip:S src_port:I dst_ip:S"
        " dst_port:I state:S",
        "vfs_table": "time_:T pid:I pid_start_time:I op:S filename:S d1:S d2:S",
    }.items()
}

# name -> (parameters with their default, None for a required one; columns)
TABLE_FUNCTIONS = {
    "GetTables": ({}, _columns("table_name:S table_desc:S")),
    "GetSchemas": (
        {},
        _columns("table_name:S column_name:S column_type:S pattern_type:S column_desc:S"),
    ),
    "GetAgentStatus": (
        {"include_kelvin": True},
        _columns(
            "agent_id:U asid:I hostname:S ip_address:S agent_state:S create_time:T"
            " last_heartbeat_ns:I kernel_headers_installed:B"
        ),
    ),
    "GetProfilerSamplingPeriodMS": ({}, _columns("asid:I profiler_sampling_period_ms:I")),
    "GetLinuxHeadersStatus": (
        {"include_kelvin": True},
        _columns("asid:I kernel_headers_installed:B"),
    ),
    "GetUDFList": ({}, _columns("name:S return_type:S args:S")),
    "GetUDAList": ({}, _columns("name:S return_type:S args:S")),
    "GetUDTFList": ({}, _columns("name:S executor:S init_args:S output_relation:S")),
    "GetTracepointStatus": (
        {},
        _columns("tracepoint_id:U name:S state:S status:S output_tables:S"),
    ),
    "GetCronScriptHistory": (
        {},
        _columns(
            "script_id:S timestamp:T error_message:S execution_time_ns:I"
            " compilation_time_ns:I bytes_processed:I records_processed:I"
        ),
    ),
    "Version": ({}, _columns("asid:I version:S")),
    "_HeapGrowthStacks": ({"asid": -1}, _columns("asid:I heap:S")),
}

# Answered from the implementation's own registry, not from rows: no truth to compare with.
REGISTRY_FUNCTIONS = {"GetTables", "GetSchemas", "GetUDFList", "GetUDAList", "GetUDTFList"}
