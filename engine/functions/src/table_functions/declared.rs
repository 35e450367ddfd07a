//! The table functions' definitions: names, arguments, columns, and who knows the rows.

use weir_types::{DataType, SemanticType};

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
const UDF_COLUMNS: &[TableColumn] = &[
    column!("name" S "Name of the function"),
    column!("return_type" S "Type of the result"),
    column!("args" S "Types of the arguments, JSON"),
];

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
        &[
            column!("table_name" S "Name of the table"),
            column!("table_desc" S "What the table holds"),
        ],
        "All tables",
    ),
    def(
        "GetSchemas",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        &[
            column!("table_name" S "Name of the table"),
            column!("column_name" S "Name of the column"),
            column!("column_type" S "Data type of the column"),
            column!("pattern_type" S "Kind of metric"),
            column!("column_desc" S "What the column holds"),
        ],
        "All columns of all tables",
    ),
    def(
        "GetAgentStatus",
        Answered::Agents,
        Executor::OneKelvin,
        &[INCLUDE_KELVIN],
        &[
            column!("agent_id" U "Id of the agent"),
            ASID,
            column!("hostname" S "Host that the agent runs on"),
            column!("ip_address" S "Address of the agent"),
            column!("agent_state" S "State of the agent"),
            column!("create_time" T "When the agent started"),
            column!("last_heartbeat_ns" I "Nanoseconds since the last heartbeat"),
            column!("kernel_headers_installed" B "Whether kernel headers are there"),
        ],
        "The agents and their states",
    ),
    def(
        "GetProfilerSamplingPeriodMS",
        Answered::Agents,
        Executor::OneKelvin,
        &[],
        &[ASID, column!("profiler_sampling_period_ms" I "Sampling period of the profiler")],
        "The profiler's sampling period on each agent",
    ),
    def(
        "GetLinuxHeadersStatus",
        Answered::Agents,
        Executor::OneKelvin,
        &[INCLUDE_KELVIN],
        &[ASID, column!("kernel_headers_installed" B "Whether kernel headers are there")],
        "Whether each agent's host has kernel headers",
    ),
    def(
        "GetUDFList",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        UDF_COLUMNS,
        "All scalar functions",
    ),
    def("GetUDAList", Answered::Registry, Executor::OneKelvin, &[], UDF_COLUMNS, "All aggregates"),
    def(
        "GetUDTFList",
        Answered::Registry,
        Executor::OneKelvin,
        &[],
        &[
            column!("name" S "Name of the function"),
            column!("executor" S "Where it runs"),
            column!("init_args" S "Arguments, JSON"),
            column!("output_relation" S "Columns, JSON"),
        ],
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
        &[ASID, column!("version" S "Version of the cluster process")],
        "The version that answers",
    ),
    def(
        "_DebugMDState",
        Answered::Agents,
        Executor::AllAgents,
        &[],
        &[
            ASID,
            column!("pod_name" S "Pod of the agent"),
            column!("debug_state" S "Metadata state as text"),
        ],
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
        &[
            ASID,
            column!("name" S "Name of the table"),
            column!("id" I "Id of the table"),
            column!("batches_added" I "Batches added since the start"),
            column!("batches_expired" I "Batches dropped since the start"),
            column!("bytes_added" I "Bytes added since the start"),
            column!("num_batches" I "Batches in the table"),
            column!("compacted_batches" I "Batches compacted since the start"),
            column!("size" I "Bytes in the table"),
            column!("cold_size" I "Bytes of compacted batches"),
            column!("max_table_size" I "Bytes that the table may have"),
            column!("min_time" T "Oldest time in the table"),
        ],
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
        &[ASID, column!("heap" S "Heap statistics as text")],
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
        &[
            ASID,
            column!("current_allocated_bytes" I Bytes "Resident anonymous memory (RssAnon)"),
            column!("heap_size_bytes" I Bytes "Private writable memory (VmData)"),
            column!("central_cache_free_bytes" I Bytes "0: the allocator has no such cache"),
            column!("transfer_cache_free_bytes" I Bytes "0: the allocator has no such cache"),
            column!("thread_cache_free_bytes" I Bytes "0: not known of the allocator"),
            column!("pageheap_free_bytes" I Bytes "0: not known of the allocator"),
            column!("pageheap_unmapped_bytes" I Bytes "0: not known of the allocator"),
        ],
        "Each agent's heap statistics as numbers",
    ),
    def(
        "_DebugAgentProcStatus",
        Answered::Agents,
        Executor::AllPem,
        &[],
        &[
            ASID_TAGGED,
            column!("vm_peak_bytes" I Bytes "Peak virtual memory"),
            column!("vm_size_bytes" I Bytes "Virtual memory"),
            column!("vm_lck_bytes" I Bytes "Locked memory"),
            column!("vm_pin_bytes" I Bytes "Pinned memory"),
            column!("vm_hwm_bytes" I Bytes "Peak resident memory"),
            column!("vm_rss_bytes" I Bytes "Resident memory"),
            column!("rss_anon_bytes" I Bytes "Resident anonymous memory"),
            column!("rss_file_bytes" I Bytes "Resident file mappings"),
            column!("rss_shmem_bytes" I Bytes "Resident shared memory"),
            column!("vm_data_bytes" I Bytes "Private data"),
            column!("vm_stk_bytes" I Bytes "Stack"),
            column!("vm_exe_bytes" I Bytes "Program text"),
            column!("vm_lib_bytes" I Bytes "Shared libraries"),
            column!("vm_pte_bytes" I Bytes "Page tables"),
            column!("vm_swap_bytes" I Bytes "Swapped out"),
            column!("hugetlb_pages_bytes" I Bytes "Huge pages"),
            column!("voluntary_ctxt_switches" I "Voluntary context switches"),
            column!("nonvoluntary_ctxt_switches" I "Involuntary context switches"),
        ],
        "Each node agent's /proc status",
    ),
    def(
        "_DebugAgentProcSMaps",
        Answered::Agents,
        Executor::AllPem,
        &[],
        &[
            ASID_TAGGED,
            column!("address" S "Address range"),
            column!("offset" S "Offset in the mapping"),
            column!("pathname" S "File of the mapping"),
            column!("size_bytes" I Bytes "Size"),
            column!("kernel_page_size_bytes" I Bytes "Page size"),
            column!("mmu_page_size_bytes" I Bytes "Page size of the MMU"),
            column!("rss_bytes" I Bytes "Resident memory"),
            column!("pss_bytes" I Bytes "Proportional share"),
            column!("shared_clean_bytes" I Bytes "Shared clean pages"),
            column!("shared_dirty_bytes" I Bytes "Shared dirty pages"),
            column!("private_clean_bytes" I Bytes "Private clean pages"),
            column!("private_dirty_bytes" I Bytes "Private dirty pages"),
            column!("referenced_bytes" I Bytes "Referenced memory"),
            column!("anonymous_bytes" I Bytes "Anonymous memory"),
            column!("lazy_free_bytes" I Bytes "Memory marked free"),
            column!("anon_huge_pages_bytes" I Bytes "Anonymous huge pages"),
            column!("shmem_pmd_mapped_bytes" I Bytes "Shared memory in huge pages"),
            column!("file_pmd_mapped_bytes" I Bytes "File memory in huge pages"),
            column!("shared_hugetlb_bytes" I Bytes "Shared hugetlbfs pages"),
            column!("private_hugetlb_bytes" I Bytes "Private hugetlbfs pages"),
            column!("swap_bytes" I Bytes "Swapped out"),
            column!("swap_pss_bytes" I Bytes "Proportional share of swap"),
            column!("locked_bytes" I Bytes "Locked memory"),
        ],
        "Each node agent's /proc smaps",
    ),
];
