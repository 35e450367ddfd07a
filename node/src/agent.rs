//! What an agent answers of table functions about itself: its process, its machine, its tables and
//! its metadata. The cluster part asks for those that somebody reads ([`weir_proto::ToNode`])
//! and puts the answers of all agents together.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use weir_engine::history::TableHistoryStats;
use weir_engine::table_functions::rows::{
    AgentStatus, HeapNumbers, HeapText, LinuxHeaders, MetadataState, ProcMapping, ProcStatus,
    ProfilerPeriod, Row, TableInfo, UnixNs,
};
use weir_proto::NodeInfo;
use weir_sources::agent::{Mapping, OwnProcess, machine_address};
use weir_types::{PackedRow, tables};

/// The metadata state as JSON text.
pub type DebugState = Arc<dyn Fn() -> String + Send + Sync>;

pub struct Agent {
    own: OwnProcess,
    /// Sampling period of the profiler, if one runs.
    profiler_period_ms: Option<i64>,
    debug_state: DebugState,
}

impl Agent {
    #[must_use]
    pub fn new(debug_state: DebugState) -> Agent {
        Agent::with_root(Path::new("/"), debug_state)
    }

    /// `root` holds the `proc` that is read.
    #[must_use]
    pub fn with_root(root: &Path, debug_state: DebugState) -> Agent {
        Agent { own: OwnProcess::new(root), profiler_period_ms: None, debug_state }
    }

    /// The agent's rows now; none of a function that it knows nothing of.
    pub fn rows(
        &mut self,
        info: &NodeInfo,
        function: &str,
        history: &[TableHistoryStats],
    ) -> Vec<PackedRow> {
        let asid = i64::from(info.asid);
        match function {
            "GetAgentStatus" => vec![self.status(info).pack()],
            "GetLinuxHeadersStatus" => {
                let kernel_headers_installed = self.own.kernel_headers_installed();
                vec![LinuxHeaders { asid, kernel_headers_installed }.pack()]
            }
            "GetProfilerSamplingPeriodMS" => {
                let row =
                    |period_ms| ProfilerPeriod { asid, profiler_sampling_period_ms: period_ms };
                self.profiler_period_ms.into_iter().map(|period_ms| row(period_ms).pack()).collect()
            }
            "_DebugMDState" => {
                let (pod_name, debug_state) = (String::new(), (self.debug_state)());
                vec![MetadataState { asid, pod_name, debug_state }.pack()]
            }
            "_DebugTableInfo" => {
                history.iter().map(|table| table_info(asid, table).pack()).collect()
            }
            "_HeapStats" => vec![HeapText { asid, heap: self.memory_text() }.pack()],
            "_HeapStatsNumeric" => vec![self.memory_numbers(asid).pack()],
            "_DebugAgentProcStatus" => vec![self.proc_status(asid).pack()],
            "_DebugAgentProcSMaps" => {
                let mappings = self.own.mappings().into_iter();
                mappings.map(|mapping| proc_mapping(asid, mapping).pack()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// State and heartbeat are the cluster part's to fill in: it hears, or does not.
    fn status(&mut self, info: &NodeInfo) -> AgentStatus {
        let address = machine_address().map_or_else(String::new, |address| address.to_string());
        AgentStatus {
            agent_id: info.agent_id(),
            asid: i64::from(info.asid),
            hostname: info.hostname.clone(),
            ip_address: address,
            agent_state: String::new(),
            create_time: UnixNs(i64::try_from(info.incarnation).unwrap_or(0)),
            last_heartbeat_ns: 0,
            kernel_headers_installed: self.own.kernel_headers_installed(),
        }
    }

    fn memory_text(&mut self) -> String {
        let status = self.own.status();
        let lines = status
            .iter()
            .filter(|(name, _)| name.starts_with("Vm") || name.starts_with("Rss"))
            .map(|(name, bytes)| format!("{name}: {bytes} bytes"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn memory_numbers(&mut self, asid: i64) -> HeapNumbers {
        let status = self.own.status();
        HeapNumbers {
            asid,
            current_allocated_bytes: number(&status, "RssAnon"),
            heap_size_bytes: number(&status, "VmData"),
            central_cache_free_bytes: 0,
            transfer_cache_free_bytes: 0,
            thread_cache_free_bytes: 0,
            pageheap_free_bytes: 0,
            pageheap_unmapped_bytes: 0,
        }
    }

    fn proc_status(&mut self, asid: i64) -> ProcStatus {
        let status = self.own.status();
        let of = |name: &str| number(&status, name);
        ProcStatus {
            asid,
            vm_peak_bytes: of("VmPeak"),
            vm_size_bytes: of("VmSize"),
            vm_lck_bytes: of("VmLck"),
            vm_pin_bytes: of("VmPin"),
            vm_hwm_bytes: of("VmHWM"),
            vm_rss_bytes: of("VmRSS"),
            rss_anon_bytes: of("RssAnon"),
            rss_file_bytes: of("RssFile"),
            rss_shmem_bytes: of("RssShmem"),
            vm_data_bytes: of("VmData"),
            vm_stk_bytes: of("VmStk"),
            vm_exe_bytes: of("VmExe"),
            vm_lib_bytes: of("VmLib"),
            vm_pte_bytes: of("VmPTE"),
            vm_swap_bytes: of("VmSwap"),
            hugetlb_pages_bytes: of("HugetlbPages"),
            voluntary_ctxt_switches: of("voluntary_ctxt_switches"),
            nonvoluntary_ctxt_switches: of("nonvoluntary_ctxt_switches"),
        }
    }
}

/// A field as the kernel writes it; 0 if this kernel has none.
fn number(fields: &BTreeMap<String, i64>, name: &str) -> i64 {
    fields.get(name).copied().unwrap_or(0)
}

fn proc_mapping(asid: i64, mapping: Mapping) -> ProcMapping {
    let Mapping { address, offset, pathname, fields } = mapping;
    let of = |name: &str| number(&fields, name);
    ProcMapping {
        asid,
        address,
        offset,
        pathname,
        size_bytes: of("Size"),
        kernel_page_size_bytes: of("KernelPageSize"),
        mmu_page_size_bytes: of("MMUPageSize"),
        rss_bytes: of("Rss"),
        pss_bytes: of("Pss"),
        shared_clean_bytes: of("Shared_Clean"),
        shared_dirty_bytes: of("Shared_Dirty"),
        private_clean_bytes: of("Private_Clean"),
        private_dirty_bytes: of("Private_Dirty"),
        referenced_bytes: of("Referenced"),
        anonymous_bytes: of("Anonymous"),
        lazy_free_bytes: of("LazyFree"),
        anon_huge_pages_bytes: of("AnonHugePages"),
        shmem_pmd_mapped_bytes: of("ShmemPmdMapped"),
        file_pmd_mapped_bytes: of("FilePmdMapped"),
        shared_hugetlb_bytes: of("Shared_Hugetlb"),
        private_hugetlb_bytes: of("Private_Hugetlb"),
        swap_bytes: of("Swap"),
        swap_pss_bytes: of("SwapPss"),
        locked_bytes: of("Locked"),
    }
}

fn table_info(asid: i64, stats: &TableHistoryStats) -> TableInfo {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let id = tables::TABLES.iter().position(|table| table.name == stats.table);
    TableInfo {
        asid,
        name: stats.table.clone(),
        // Those of tracepoints have none.
        id: id.map_or(-1, |id| count(id as u64)),
        batches_added: count(stats.batches_added),
        batches_expired: count(stats.batches_dropped),
        bytes_added: count(stats.bytes_added),
        num_batches: count(stats.batches),
        // Batches stay as they came: none is compacted, none is cold.
        compacted_batches: 0,
        size: count(stats.bytes),
        cold_size: 0,
        max_table_size: count(stats.budget_bytes),
        min_time: UnixNs(stats.time_min_unix_ns.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use weir_engine::table_functions;
    use weir_types::Value;

    use super::*;

    fn info() -> NodeInfo {
        NodeInfo {
            name: "a".to_string(),
            incarnation: 1_700,
            asid: 3,
            hostname: "host-a".to_string(),
            version: "0".to_string(),
        }
    }

    /// Whatever agents are asked for has rows of the declared columns (packing would shift them
    /// without a word), and numbers that this process really has.
    #[test]
    fn answers_are_rows_of_their_tables() {
        let mut agent = Agent::new(Arc::new(|| "{}".to_string()));
        let history = [TableHistoryStats {
            table: "http_events".to_string(),
            bytes: 5,
            budget_bytes: 9,
            time_min_unix_ns: Some(7),
            ..TableHistoryStats::default()
        }];
        for def in table_functions::all() {
            let rows = agent.rows(&info(), def.name, &history);
            let asked = def.answered == table_functions::Answered::Agents;
            let profiler = def.name == "GetProfilerSamplingPeriodMS";
            assert_eq!(!rows.is_empty(), asked && !profiler, "{}", def.name);
            let types = def.relation().types();
            for row in &rows {
                let values = row.unpack(&types).unwrap();
                let asid = def.columns.iter().position(|column| column.name == "asid").unwrap();
                assert_eq!(values[asid], Value::Int64(3), "{}", def.name);
            }
        }
        let mut one = |name: &str| {
            let types = table_functions::relation(name).unwrap().types();
            agent.rows(&info(), name, &history)[0].unpack(&types).unwrap()
        };
        let Value::Int64(rss) = one("_DebugAgentProcStatus")[6] else { panic!() };
        assert!(rss > 0, "vm_rss_bytes");
        let Value::Int64(size) = one("_DebugAgentProcSMaps")[4] else { panic!() };
        assert!(size >= 4096, "size_bytes");
        let Value::Int64(heap) = one("_HeapStatsNumeric")[2] else { panic!() };
        assert!(heap > 0, "heap_size_bytes");
        let info = one("_DebugTableInfo");
        assert_eq!(info[1], Value::str("http_events"));
        assert_eq!((&info[8], &info[10]), (&Value::Int64(5), &Value::Int64(9)));
        assert_eq!(info[11], Value::Time64Ns(7));
        agent.profiler_period_ms = Some(11);
        let period = agent.rows(&self::info(), "GetProfilerSamplingPeriodMS", &[]);
        assert_eq!(period, [PackedRow::pack(&[Value::Int64(3), Value::Int64(11)])]);
    }
}
