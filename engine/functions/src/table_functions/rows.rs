//! Rows of table functions by type: each has a row of named fields, from which its columns are made.
//!
//! A column that is forgotten does not compile:
//!
//! ```compile_fail,E0063
//! use weir_functions::table_functions::rows::{Row, Version};
//! Version { asid: 1 }.pack();
//! ```
//!
//! Neither does one of another type:
//!
//! ```compile_fail,E0308
//! use weir_functions::table_functions::rows::{Row, Version};
//! Version { asid: "1".to_string(), version: "0".to_string() }.pack();
//! ```
//!
//! This does:
//!
//! ```
//! use weir_functions::table_functions::rows::{Row, Version};
//! Version { asid: 1, version: "0".to_string() }.pack();
//! ```

use weir_types::{DataType, PackedRow, SemanticType, Value};

use super::TableColumn;
use crate::scalar::ty;

/// A row of a table function.
pub trait Row: Sized {
    /// In the order of the columns.
    fn values(self) -> Vec<Value>;
    /// `None` if the values are not of this row's columns.
    fn of_values(values: Vec<Value>) -> Option<Self>;
    fn types() -> Vec<DataType>;

    fn pack(self) -> PackedRow {
        PackedRow::pack(&self.values())
    }
    #[must_use]
    fn unpack(row: &PackedRow) -> Option<Self> {
        Self::of_values(row.unpack(&Self::types())?)
    }
}

/// A time in a row, so that it is not taken for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixNs(pub i64);

/// A field's value.
trait Cell: Sized {
    fn value(self) -> Value;
    fn of(value: Value) -> Option<Self>;
}

macro_rules! cells {
    ($($field:ty, $value:ident, $put:expr, $take:expr;)+) => {$(
        impl Cell for $field {
            fn value(self) -> Value {
                Value::$value($put(self))
            }
            fn of(value: Value) -> Option<$field> {
                match value {
                    Value::$value(value) => $take(value),
                    _ => None,
                }
            }
        }
    )+};
}

cells! {
    i64, Int64, |number| number, Some;
    bool, Boolean, |flag| flag, Some;
    u128, Uint128, |number| number, Some;
    UnixNs, Time64Ns, |at: UnixNs| at.0, |at| Some(UnixNs(at));
    String, String, String::into_bytes, |text| String::from_utf8(text).ok();
}

macro_rules! field {
    (B) => {
        bool
    };
    (I) => {
        i64
    };
    (S) => {
        String
    };
    (T) => {
        UnixNs
    };
    (U) => {
        u128
    };
}

macro_rules! semantic {
    () => {
        SemanticType::None
    };
    ($tag:ident) => {
        SemanticType::$tag
    };
}

macro_rules! rows {
    ($($(#[$doc:meta])+ $row:ident { $($name:ident $ty:ident $($tag:ident)? $text:literal;)+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $row {
            $(#[doc = $text] pub $name: field!($ty),)+
        }

        impl $row {
            pub(super) const COLUMNS: &[TableColumn] = &[$(TableColumn {
                name: stringify!($name),
                data_type: ty!($ty),
                semantic: semantic!($($tag)?),
                doc: $text,
            },)+];
        }

        impl Row for $row {
            fn values(self) -> Vec<Value> {
                vec![$(Cell::value(self.$name),)+]
            }
            fn of_values(values: Vec<Value>) -> Option<$row> {
                let mut values = values.into_iter();
                Some($row { $($name: Cell::of(values.next()?)?,)+ })
            }
            fn types() -> Vec<DataType> {
                vec![$(ty!($ty),)+]
            }
        }
    )+};
}

rows! {
    /// `GetTables`.
    ListedTable {
        table_name S "Name of the table";
        table_desc S "What the table holds";
    }
    /// `GetSchemas`.
    ListedColumn {
        table_name S "Name of the table";
        column_name S "Name of the column";
        column_type S "Data type of the column";
        pattern_type S "Kind of metric";
        column_desc S "What the column holds";
    }
    /// `GetUDFList` and `GetUDAList`.
    ListedFunction {
        name S "Name of the function";
        return_type S "Type of the result";
        args S "Types of the arguments, JSON";
    }
    /// `GetUDTFList`.
    ListedTableFunction {
        name S "Name of the function";
        executor S "Where it runs";
        init_args S "Arguments, JSON";
        output_relation S "Columns, JSON";
    }
    /// `GetAgentStatus`.
    AgentStatus {
        agent_id U "Id of the agent";
        asid I "Short id of the agent";
        hostname S "Host that the agent runs on";
        ip_address S "Address of the agent";
        agent_state S "State of the agent";
        create_time T "When the agent started";
        last_heartbeat_ns I "Nanoseconds since the last heartbeat";
        kernel_headers_installed B "Whether kernel headers are there";
    }
    /// `GetProfilerSamplingPeriodMS`.
    ProfilerPeriod {
        asid I "Short id of the agent";
        profiler_sampling_period_ms I "Sampling period of the profiler";
    }
    /// `GetLinuxHeadersStatus`.
    LinuxHeaders {
        asid I "Short id of the agent";
        kernel_headers_installed B "Whether kernel headers are there";
    }
    /// `Version`.
    Version {
        asid I "Short id of the agent";
        version S "Version of the cluster process";
    }
    /// `_DebugMDState`.
    MetadataState {
        asid I "Short id of the agent";
        pod_name S "Pod of the agent";
        debug_state S "Metadata state as text";
    }
    /// `_DebugTableInfo`.
    TableInfo {
        asid I "Short id of the agent";
        name S "Name of the table";
        id I "Id of the table";
        batches_added I "Batches added since the start";
        batches_expired I "Batches dropped since the start";
        bytes_added I "Bytes added since the start";
        num_batches I "Batches in the table";
        compacted_batches I "Batches compacted since the start";
        size I "Bytes in the table";
        cold_size I "Bytes of compacted batches";
        max_table_size I "Bytes that the table may have";
        min_time T "Oldest time in the table";
    }
    /// `_HeapStats`.
    HeapText {
        asid I "Short id of the agent";
        heap S "Heap statistics as text";
    }
    /// `_HeapStatsNumeric`.
    HeapNumbers {
        asid I "Short id of the agent";
        current_allocated_bytes I Bytes "Resident anonymous memory (RssAnon)";
        heap_size_bytes I Bytes "Private writable memory (VmData)";
        central_cache_free_bytes I Bytes "0: the allocator has no such cache";
        transfer_cache_free_bytes I Bytes "0: the allocator has no such cache";
        thread_cache_free_bytes I Bytes "0: not known of the allocator";
        pageheap_free_bytes I Bytes "0: not known of the allocator";
        pageheap_unmapped_bytes I Bytes "0: not known of the allocator";
    }
    /// `_DebugAgentProcStatus`.
    ProcStatus {
        asid I Asid "Short id of the agent";
        vm_peak_bytes I Bytes "Peak virtual memory";
        vm_size_bytes I Bytes "Virtual memory";
        vm_lck_bytes I Bytes "Locked memory";
        vm_pin_bytes I Bytes "Pinned memory";
        vm_hwm_bytes I Bytes "Peak resident memory";
        vm_rss_bytes I Bytes "Resident memory";
        rss_anon_bytes I Bytes "Resident anonymous memory";
        rss_file_bytes I Bytes "Resident file mappings";
        rss_shmem_bytes I Bytes "Resident shared memory";
        vm_data_bytes I Bytes "Private data";
        vm_stk_bytes I Bytes "Stack";
        vm_exe_bytes I Bytes "Program text";
        vm_lib_bytes I Bytes "Shared libraries";
        vm_pte_bytes I Bytes "Page tables";
        vm_swap_bytes I Bytes "Swapped out";
        hugetlb_pages_bytes I Bytes "Huge pages";
        voluntary_ctxt_switches I "Voluntary context switches";
        nonvoluntary_ctxt_switches I "Involuntary context switches";
    }
    /// `_DebugAgentProcSMaps`.
    ProcMapping {
        asid I Asid "Short id of the agent";
        address S "Address range";
        offset S "Offset in the mapping";
        pathname S "File of the mapping";
        size_bytes I Bytes "Size";
        kernel_page_size_bytes I Bytes "Page size";
        mmu_page_size_bytes I Bytes "Page size of the MMU";
        rss_bytes I Bytes "Resident memory";
        pss_bytes I Bytes "Proportional share";
        shared_clean_bytes I Bytes "Shared clean pages";
        shared_dirty_bytes I Bytes "Shared dirty pages";
        private_clean_bytes I Bytes "Private clean pages";
        private_dirty_bytes I Bytes "Private dirty pages";
        referenced_bytes I Bytes "Referenced memory";
        anonymous_bytes I Bytes "Anonymous memory";
        lazy_free_bytes I Bytes "Memory marked free";
        anon_huge_pages_bytes I Bytes "Anonymous huge pages";
        shmem_pmd_mapped_bytes I Bytes "Shared memory in huge pages";
        file_pmd_mapped_bytes I Bytes "File memory in huge pages";
        shared_hugetlb_bytes I Bytes "Shared hugetlbfs pages";
        private_hugetlb_bytes I Bytes "Private hugetlbfs pages";
        swap_bytes I Bytes "Swapped out";
        swap_pss_bytes I Bytes "Proportional share of swap";
        locked_bytes I Bytes "Locked memory";
    }
}
