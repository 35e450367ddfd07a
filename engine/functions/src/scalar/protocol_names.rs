//! Names for the numbers that protocols use.

use std::io::Write;

use arrow_array::ArrayRef;

use super::{ScalarDef, def, overloads};
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "protocol_name",
        overloads![I => S, protocol_name],
        &["protocol"],
        "Name of a protocol number of `conn_stats`",
        "df.protocol = px.protocol_name(df.protocol)",
    ),
    def(
        "http_resp_message",
        overloads![I => S, http_resp_message],
        &["status"],
        "Reason phrase of an HTTP status",
        "df.reason = px.http_resp_message(df.resp_status)",
    ),
    def(
        "kafka_api_key_name",
        overloads![I => S, kafka_api_key_name],
        &["api_key"],
        "Name of a Kafka API key",
        "df.command = px.kafka_api_key_name(df.req_cmd)",
    ),
    def(
        "mysql_command_name",
        overloads![I => S, mysql_command_name],
        &["command"],
        "Name of a MySQL command",
        "df.command = px.mysql_command_name(df.req_cmd)",
    ),
    def(
        "cql_opcode_name",
        overloads![I => S, cql_opcode_name],
        &["opcode"],
        "Name of a CQL opcode, of requests and responses",
        "df.command = px.cql_opcode_name(df.req_op)",
    ),
    def(
        "amqp_frame_type_name",
        overloads![I => S, amqp_frame_type_name],
        &["frame_type"],
        "Name of an AMQP frame type",
        "df.frame = px.amqp_frame_type_name(df.frame_type)",
    ),
    def(
        "amqp_method_name",
        overloads![I I => S, amqp_method_name],
        &["class_id", "method_id"],
        "Class and method of an AMQP 0-9-1 method",
        "df.method = px.amqp_method_name(df.req_class_id, df.req_method_id)",
    ),
    def(
        "mux_frame_type_name",
        overloads![I => S, mux_frame_type_name],
        &["frame_type"],
        "Name of a Mux frame type",
        "df.frame = px.mux_frame_type_name(df.req_type)",
    ),
    def(
        "dns_rcode_name",
        overloads![I => S, dns_rcode_name],
        &["rcode"],
        "Name of a DNS response code",
        "df.result = px.dns_rcode_name(px.pluck_int64(df.resp_header, 'rcode'))",
    ),
    def(
        "grpc_status_code_to_str",
        overloads![I => S, grpc_status_code],
        &["status"],
        "Name of a gRPC status",
        "df.status = px.grpc_status_code_to_str(df.code)",
    ),
];

/// How a number without a name is written.
enum Unknown {
    Digits,
    Fixed(&'static str),
    /// The word, then the number in brackets.
    Bracketed(&'static str),
}

fn names(
    call: &Call<'_>,
    name: impl Fn(i64) -> Option<&'static str>,
    unknown: &Unknown,
) -> ArrayRef {
    let code = call.int(0);
    output::strings(call.rows, |row, out| {
        let code = code.get(row);
        match (name(code), unknown) {
            (Some(name), _) | (None, &Unknown::Fixed(name)) => {
                out.extend_from_slice(name.as_bytes());
            }
            (None, Unknown::Digits) => {
                write!(out, "{code}").expect("writing to memory cannot fail");
            }
            (None, Unknown::Bracketed(word)) => {
                write!(out, "{word} ({code})").expect("writing to memory cannot fail");
            }
        }
    })
}

/// The name at that position; gaps in the numbering are "".
fn at(table: &[&'static str], code: i64) -> Option<&'static str> {
    let name = table.get(usize::try_from(code).ok()?)?;
    (!name.is_empty()).then_some(name)
}

fn protocol_name(call: &Call<'_>) -> ArrayRef {
    // Mux (11) and TLS (13) have no name here, as in Pixie.
    const NAMES: [&str; 13] = [
        "Unknown", "HTTP", "HTTP2", "MySQL", "CQL", "PGSQL", "DNS", "Redis", "NATS", "Mongo",
        "Kafka", "", "AMQP",
    ];
    names(call, |code| at(&NAMES, code), &Unknown::Bracketed("Invalid"))
}

fn http_reason(status: i64) -> Option<&'static str> {
    Some(match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        306 => "(Unused)",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400..500 => return client_error_reason(status),
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => return None,
    })
}

fn client_error_reason(status: i64) -> Option<&'static str> {
    Some(match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        _ => return None,
    })
}

fn http_resp_message(call: &Call<'_>) -> ArrayRef {
    names(call, http_reason, &Unknown::Fixed("Unassigned"))
}

fn kafka_api_key_name(call: &Call<'_>) -> ArrayRef {
    #[rustfmt::skip]
    const NAMES: [&str; 62] = [
        "Produce", "Fetch", "ListOffsets", "Metadata", "LeaderAndIsr", "StopReplica",
        "UpdateMetadata", "ControlledShutdown", "OffsetCommit", "OffsetFetch", "FindCoordinator",
        "JoinGroup", "Heartbeat", "LeaveGroup", "SyncGroup", "DescribeGroups", "ListGroups",
        "SaslHandshake", "ApiVersions", "CreateTopics", "DeleteTopics", "DeleteRecords",
        "InitProducerId", "OffsetForLeaderEpoch", "AddPartitionsToTxn", "AddOffsetsToTxn",
        "EndTxn", "WriteTxnMarkers", "TxnOffsetCommit", "DescribeAcls", "CreateAcls", "DeleteAcls",
        "DescribeConfigs", "AlterConfigs", "AlterReplicaLogDirs", "DescribeLogDirs",
        "SaslAuthenticate", "CreatePartitions", "CreateDelegationToken", "RenewDelegationToken",
        "ExpireDelegationToken", "DescribeDelegationToken", "DeleteGroups", "ElectLeaders",
        "IncrementalAlterConfigs", "AlterPartitionReassignments", "ListPartitionReassignments",
        "OffsetDelete", "DescribeClientQuotas", "AlterClientQuotas",
        "DescribeUserScramCredentials", "AlterUserScramCredentials", "", "", "", "", "AlterIsr",
        "UpdateFeatures", "", "", "DescribeCluster", "DescribeProducers",
    ];
    names(call, |code| at(&NAMES, code), &Unknown::Digits)
}

fn mysql_command_name(call: &Call<'_>) -> ArrayRef {
    #[rustfmt::skip]
    const NAMES: [&str; 32] = [
        "Sleep", "Quit", "InitDB", "Query", "FieldList", "CreateDB", "DropDB", "Refresh",
        "Shutdown", "Statistics", "ProcessInfo", "Connect", "ProcessKill", "Debug", "Ping", "Time",
        "DelayedInsert", "ChangeUser", "BinlogDump", "TableDump", "ConnectOut", "RegisterSlave",
        "StmtPrepare", "StmtExecute", "StmtSendLongData", "StmtClose", "StmtReset", "SetOption",
        "StmtFetch", "Daemon", "BinlogDumpGTID", "ResetConnection",
    ];
    names(call, |code| at(&NAMES, code), &Unknown::Digits)
}

fn cql_opcode_name(call: &Call<'_>) -> ArrayRef {
    #[rustfmt::skip]
    const NAMES: [&str; 17] = [
        "Error", "Startup", "Ready", "Authenticate", "", "Options", "Supported", "Query", "Result",
        "Prepare", "Execute", "Register", "Event", "Batch", "AuthChallenge", "AuthResponse",
        "AuthSuccess",
    ];
    names(call, |code| at(&NAMES, code), &Unknown::Digits)
}

fn dns_rcode_name(call: &Call<'_>) -> ArrayRef {
    #[rustfmt::skip]
    const NAMES: [&str; 24] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
        "NXRRSET", "NOTAUTH", "NOTZONE", "DSOTYPENI", "", "", "", "", "BADVERS", "BADKEY",
        "BADTIME", "BADMODE", "BADNAME", "BADALG", "BADTRUNC", "BADCOOKIE",
    ];
    names(call, |code| at(&NAMES, code), &Unknown::Digits)
}

fn grpc_status_code(call: &Call<'_>) -> ArrayRef {
    #[rustfmt::skip]
    const NAMES: [&str; 17] = [
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
        "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    names(call, |code| at(&NAMES, code), &Unknown::Fixed("unknown code"))
}

fn amqp_frame_type_name(call: &Call<'_>) -> ArrayRef {
    let name = |code| match code {
        1 => Some("Frame method"),
        2 => Some("Content Header"),
        3 => Some("Content Body"),
        8 => Some("Heartbeat"),
        _ => None,
    };
    names(call, name, &Unknown::Fixed("Unknown"))
}

fn mux_frame_type_name(call: &Call<'_>) -> ArrayRef {
    let name = |code| {
        Some(match code {
            1 => "Treq",
            -1 => "Rreq",
            2 => "Tdispatch",
            -2 => "Rdispatch",
            64 => "Tdrain",
            -64 => "Rdrain",
            65 => "Tping",
            -65 => "Rping",
            66 => "Tdiscarded",
            -66 => "Rdiscarded",
            67 => "Tlease",
            68 => "Tinit",
            -68 => "Rinit",
            -128 => "Rerr",
            127 => "Rerr (legacy)",
            -62 => "Tdiscarded (legacy)",
            _ => return None,
        })
    };
    names(call, name, &Unknown::Bracketed("Unknown"))
}

fn amqp_class(class_id: i64) -> Option<&'static str> {
    Some(match class_id {
        10 => "Connection",
        20 => "Channel",
        40 => "Exchange",
        50 => "Queue",
        60 => "Basic",
        90 => "Tx",
        _ => return None,
    })
}

fn amqp_method(class_id: i64, method_id: i64) -> Option<&'static str> {
    Some(match (class_id, method_id) {
        (10, 10) => "Start",
        (10, 11) => "Start-ok",
        (10, 20) => "Secure",
        (10, 21) => "Secure-ok",
        (10, 30) => "Tune",
        (10, 31) => "Tune-ok",
        (10, 40) | (20, 10) => "Open",
        (10, 41) | (20, 11) => "Open-ok",
        (10, 50) | (20, 40) => "Close",
        (10, 51) | (20, 41) => "Close-ok",
        (20, 20) => "Flow",
        (20, 21) => "Flow-ok",
        (40 | 50, 10) => "Declare",
        (40 | 50, 11) => "Declare-ok",
        (40, 20) | (50, 40) => "Delete",
        (40, 21) | (50, 41) => "Delete-ok",
        (50, 20) => "Bind",
        (50, 21) => "Bind-ok",
        (50, 50) => "Unbind",
        (50, 51) => "Unbind-ok",
        (50, 30) => "Purge",
        (50, 31) => "Purge-ok",
        (60, 10) => "Qos",
        (60, 11) => "Qos-ok",
        (60, 20) => "Consume",
        (60, 21) => "Consume-ok",
        (60, 30) => "Cancel",
        (60, 31) => "Cancel-ok",
        (60, 40) => "Publish",
        (60, 50) => "Return",
        (60, 60) => "Deliver",
        (60, 70) => "Get",
        (60, 71) => "Get-ok",
        (60, 72) => "Get-empty",
        (60, 80) => "Ack",
        (60, 90) => "Reject",
        (60, 100) => "Recover-async",
        (60, 110) => "Recover",
        (60, 111) => "Recover-ok",
        (90, 10) => "Select",
        (90, 11) => "Select-ok",
        (90, 20) => "Commit",
        (90, 21) => "Commit-ok",
        (90, 30) => "Rollback",
        (90, 31) => "Rollback-ok",
        _ => return None,
    })
}

fn amqp_method_name(call: &Call<'_>) -> ArrayRef {
    let (class_id, method_id) = (call.int(0), call.int(1));
    output::strings(call.rows, |row, out| {
        let (class_id, method_id) = (class_id.get(row), method_id.get(row));
        match (amqp_class(class_id), amqp_method(class_id, method_id)) {
            (Some(class), Some(method)) => {
                out.extend_from_slice(class.as_bytes());
                out.extend_from_slice(method.as_bytes());
            }
            _ => out.extend_from_slice(b"Unknown"),
        }
    })
}
