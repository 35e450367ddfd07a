//! The table functions' definitions: names, arguments, columns, and who knows the rows.

use weir_types::{DataType, SemanticType};

use super::rows;
use super::{Answered, Executor, Literal, TableArg, TableColumn, TableFunctionDef};
use crate::scalar::ty;

macro_rules! column {
    ($name:literal $ty:ident $doc:literal) => {
        TableColumn { name: $name, data_type: ty!($ty), semantic: SemanticType::None, doc: $doc }
    };
    ($name:literal $ty:ident $tag:ident $doc:literal) => {
        TableColumn { name: $name, data_type: ty!($ty), semantic: SemanticType::$tag, doc: $doc }
    };
}

const ASID: TableColumn = column!("asid" I "Short id of the agent");
/// Used by the process diagnostics, which tag it.
const ASID_TAGGED: TableColumn = column!("asid" I Asid "Short id of the agent");
const INCLUDE_KELVIN: TableArg = TableArg {
    name: "include_kelvin",
    data_type: DataType::Boolean,
    default: Some(Literal::Boolean(true)),
    doc: "Whether to list cluster processes too",
};
const ONE_ASID: TableArg = TableArg {
    name: "asid",
    data_type: DataType::Int64,
    default: Some(Literal::Int64(-1)),
    doc: "Only this agent; -1 for all",
};
const NO_PROFILE: &str = "the allocator of this build keeps no profile of the heap";
const NO_RELEASE: &str = "the allocator of this build gives free memory back by itself";
const NO_STACKS: &str = "the agents do not walk their own stacks";
const NO_STORE: &str = "there is no key-value store of metadata";

const fn def(
    name: &'static str,
    answered: Answered,
    executor: Executor,
    args: &'static [TableArg],
    columns: &'static [TableColumn],
    doc: &'static str,
) -> TableFunctionDef {
    TableFunctionDef { name, args, columns, executor, answered, doc }
}

pub(super) const DEFS: &[TableFunctionDef] = &[
    def(
        "GetTables",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        rows::ListedTable::COLUMNS,
        "All tables",
    ),
    def(
        "GetSchemas",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        rows::ListedColumn::COLUMNS,
        "All columns of all tables",
    ),
    def(
        "GetAgentStatus",
        Answered::Agents,
        Executor::OneKelvin,
        &[INCLUDE_KELVIN],
        rows::AgentStatus::COLUMNS,
        "The agents and their states",
    ),
    def(
        "GetProfilerSamplingPeriodMS",
        Answered::Agents,
        Executor::OneKelvin,
        &[],
        rows::ProfilerPeriod::COLUMNS,
        "The profiler's sampling period on each agent",
    ),
    def(
        "GetLinuxHeadersStatus",
        Answered::Agents,
        Executor::OneKelvin,
        &[INCLUDE_KELVIN],
        rows::LinuxHeaders::COLUMNS,
        "Whether each agent's host has kernel headers",
    ),
    def(
        "GetUDFList",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        rows::ListedFunction::COLUMNS,
        "All scalar functions",
    ),
    def(
        "GetUDAList",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        rows::ListedFunction::COLUMNS,
        "All aggregates",
    ),
    def(
        "GetUDTFList",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        rows::ListedTableFunction::COLUMNS,
        "All table functions",
    ),
    def(
        "GetTracepointStatus",
        Answered::Cluster,
        Executor::OneKelvin,
        &[],
        &[
            column!("tracepoint_id" U "Id of the tracepoint"),
            column!("name" S "Name of the tracepoint"),
            column!("state" S "pending, running, failed, terminating, terminated or unknown"),
            column!("status" S "Status per agent, JSON"),
            column!("output_tables" S "Tables that it fills, JSON"),
        ],
        "The tracepoints and their states",
    ),
    def(
        "GetCronScriptHistory",
        Answered::Cluster,
        Executor::OneKelvin,
        &[],
        &[
            column!("script_id" S "Id of the script"),
            column!("timestamp" T "When it ran"),
            column!("error_message" S "Why it failed; empty if it did not"),
            column!("execution_time_ns" I "How long it ran"),
            column!("compilation_time_ns" I "How long it compiled"),
            column!("bytes_processed" I "Bytes read"),
            column!("records_processed" I "Rows read"),
        ],
        "Past runs of scheduled scripts",
    ),
    def(
        "Version",
        Answered::Cluster,
        Executor::OneKelvin,
        &[],
        rows::Version::COLUMNS,
        "The version that answers",
    ),
    def(
        "_DebugMDState",
        Answered::Agents,
        Executor::AllAgents,
        &[],
        rows::MetadataState::COLUMNS,
        "Each agent's metadata state",
    ),
    def(
        "_DebugMDGetWithPrefix",
        Answered::Never(NO_STORE),
        Executor::OneKelvin,
        &[
            TableArg {
                name: "prefix",
                data_type: DataType::String,
                default: None,
                doc: "Beginning of the keys",
            },
            TableArg {
                name: "proto",
                data_type: DataType::String,
                default: None,
                doc: "Type of the values",
            },
        ],
        &[column!("key" S "Key of the entry"), column!("value" S "Value as text")],
        "Entries of the metadata store",
    ),
    def(
        "_DebugTableInfo",
        Answered::Agents,
        Executor::AllAgents,
        &[],
        rows::TableInfo::COLUMNS,
        "Each agent's tables and their sizes",
    ),
    def(
        "_DebugStackTrace",
        Answered::Never(NO_STACKS),
        Executor::AllAgents,
        &[],
        &[ASID_TAGGED, column!("stack_trace" S "Stacks as text")],
        "Each agent's stacks",
    ),
    def(
        "_HeapStats",
        Answered::Agents,
        Executor::AllAgents,
        &[],
        rows::HeapText::COLUMNS,
        "What /proc/self/status says of each agent's memory",
    ),
    def(
        "_HeapSample",
        Answered::Never(NO_PROFILE),
        Executor::AllAgents,
        &[ONE_ASID],
        &[ASID, column!("heap" S "Sampled allocations")],
        "Each agent's sampled allocations",
    ),
    def(
        "_HeapGrowthStacks",
        Answered::Never(NO_PROFILE),
        Executor::AllAgents,
        &[ONE_ASID],
        &[ASID, column!("heap" S "Stacks at which the heap grew")],
        "The stacks at which each agent's heap grew",
    ),
    def(
        "_HeapReleaseFreeMemory",
        Answered::Never(NO_RELEASE),
        Executor::AllAgents,
        &[],
        &[ASID_TAGGED],
        "Makes each agent give free memory back",
    ),
    def(
        "_HeapRanges",
        Answered::Never(NO_PROFILE),
        Executor::AllAgents,
        &[],
        &[
            ASID_TAGGED,
            column!("address" I "Where the range begins"),
            column!("type" S "INUSE, FREE, UNMAPPED or UNKNOWN"),
            column!("length" I Bytes "Bytes in the range"),
            column!("inuse_fraction" F "Share of the range in use"),
        ],
        "Each agent's heap ranges",
    ),
    def(
        "_HeapStatsNumeric",
        Answered::Agents,
        Executor::AllAgents,
        &[],
        rows::HeapNumbers::COLUMNS,
        "Each agent's heap statistics as numbers",
    ),
    def(
        "_DebugAgentProcStatus",
        Answered::Agents,
        Executor::AllPem,
        &[],
        rows::ProcStatus::COLUMNS,
        "Each node agent's /proc status",
    ),
    def(
        "_DebugAgentProcSMaps",
        Answered::Agents,
        Executor::AllPem,
        &[],
        rows::ProcMapping::COLUMNS,
        "Each node agent's /proc smaps",
    ),
];
