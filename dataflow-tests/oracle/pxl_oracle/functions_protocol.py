"""Names of protocol codes."""

from http import HTTPStatus

from .registry import scalar

_PROTOCOLS = ("Unknown HTTP HTTP2 MySQL CQL PGSQL DNS Redis NATS Mongo Kafka").split()
_KAFKA = (
    "Produce Fetch ListOffsets Metadata LeaderAndIsr StopReplica UpdateMetadata"
    " ControlledShutdown OffsetCommit OffsetFetch FindCoordinator JoinGroup Heartbeat LeaveGroup"
    " SyncGroup DescribeGroups ListGroups SaslHandshake ApiVersions CreateTopics DeleteTopics"
    " DeleteRecords InitProducerId OffsetForLeaderEpoch AddPartitionsToTxn AddOffsetsToTxn EndTxn"
    " WriteTxnMarkers TxnOffsetCommit DescribeAcls CreateAcls DeleteAcls DescribeConfigs"
    " AlterConfigs AlterReplicaLogDirs DescribeLogDirs SaslAuthenticate CreatePartitions"
    " CreateDelegationToken RenewDelegationToken ExpireDelegationToken DescribeDelegationToken"
    " DeleteGroups ElectLeaders IncrementalAlterConfigs AlterPartitionReassignments"
    " ListPartitionReassignments OffsetDelete DescribeClientQuotas AlterClientQuotas"
    " DescribeUserScramCredentials AlterUserScramCredentials"
).split()
_MYSQL = (
    "Sleep Quit InitDB Query FieldList CreateDB DropDB Refresh Shutdown Statistics ProcessInfo"
    " Connect ProcessKill Debug Ping Time DelayedInsert ChangeUser BinlogDump TableDump ConnectOut"
    " RegisterSlave StmtPrepare StmtExecute StmtSendLongData StmtClose StmtReset SetOption"
    " StmtFetch Daemon BinlogDumpGTID ResetConnection"
).split()
_CQL = dict(enumerate("Error Startup Ready Authenticate - Options Supported Query Result Prepare"
                      " Execute Register Event Batch AuthChallenge AuthResponse AuthSuccess".split()))
del _CQL[4]
_DNS = dict(enumerate("NOERROR FORMERR SERVFAIL NXDOMAIN NOTIMP REFUSED YXDOMAIN YXRRSET NXRRSET"
                      " NOTAUTH NOTZONE DSOTYPENI".split()))
_DNS.update(zip(range(16, 24), "BADVERS BADKEY BADTIME BADMODE BADNAME BADALG BADTRUNC"
                " BADCOOKIE".split()))
_MUX = {1: "Treq", -1: "Rreq", 2: "Tdispatch", -2: "Rdispatch", 64: "Tdrain", -64: "Rdrain",
        65: "Tping", -65: "Rping", 66: "Tdiscarded", -66: "Rdiscarded", 67: "Tlease",
        68: "Tinit", -68: "Rinit", -128: "Rerr", 127: "Rerr (legacy)",
        -62: "Tdiscarded (legacy)"}
_AMQP_FRAMES = {1: "Frame method", 2: "Content Header", 3: "Content Body", 8: "Heartbeat"}
# AMQP 0-9-1 class and method numbers.
_AMQP = {
    10: ("Connection", {10: "Start", 11: "Start-ok", 20: "Secure", 21: "Secure-ok", 30: "Tune",
                        31: "Tune-ok", 40: "Open", 41: "Open-ok", 50: "Close", 51: "Close-ok"}),
    20: ("Channel", {10: "Open", 11: "Open-ok", 20: "Flow", 21: "Flow-ok", 40: "Close",
                     41: "Close-ok"}),
    40: ("Exchange", {10: "Declare", 11: "Declare-ok", 20: "Delete", 21: "Delete-ok"}),
    50: ("Queue", {10: "Declare", 11: "Declare-ok", 20: "Bind", 21: "Bind-ok", 30: "Purge",
                   31: "Purge-ok", 40: "Delete", 41: "Delete-ok", 50: "Unbind",
                   51: "Unbind-ok"}),
    60: ("Basic", {10: "Qos", 11: "Qos-ok", 20: "Consume", 21: "Consume-ok", 30: "Cancel",
                   31: "Cancel-ok", 40: "Publish", 50: "Return", 60: "Deliver", 70: "Get",
                   71: "Get-ok", 72: "Get-empty", 80: "Ack", 90: "Reject",
                   100: "Recover-async", 110: "Recover", 111: "Recover-ok"}),
    90: ("Tx", {10: "Select", 11: "Select-ok", 20: "Commit", 21: "Commit-ok", 30: "Rollback",
                31: "Rollback-ok"}),
}
_GRPC = ("OK Cancelled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists"
         " PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented"
         " Internal Unavailable DataLoss Unauthenticated").split()


def _named(table, unknown):
    table = dict(enumerate(table)) if isinstance(table, list) else table
    return lambda code: (table.get(code) or unknown.format(code)).encode()


scalar("protocol_name", "I:S")(
    _named(dict(enumerate(_PROTOCOLS)) | {12: "AMQP"}, "Invalid ({})"))
scalar("kafka_api_key_name", "I:S")(
    _named(dict(enumerate(_KAFKA)) | {56: "AlterIsr", 57: "UpdateFeatures",
                                      60: "DescribeCluster", 61: "DescribeProducers"}, "{}"))
scalar("mysql_command_name", "I:S")(_named(_MYSQL, "{}"))
scalar("cql_opcode_name", "I:S")(_named(_CQL, "{}"))
scalar("dns_rcode_name", "I:S")(_named(_DNS, "{}"))
scalar("mux_frame_type_name", "I:S")(_named(_MUX, "Unknown ({})"))
scalar("amqp_frame_type_name", "I:S")(_named(_AMQP_FRAMES, "Unknown"))
scalar("grpc_status_code_to_str", "I:S")(_named(_GRPC, "unknown code"))
scalar("http_resp_message", "I:S")(
    _named({status.value: status.phrase for status in HTTPStatus}, "Unassigned"))


@scalar("amqp_method_name", "II:S")
def amqp_method_name(class_id, method_id):
    name, methods = _AMQP.get(class_id, ("", {}))
    return (name + methods[method_id] if method_id in methods else "Unknown").encode()
