//! What an agent answers of table functions about itself: its process, its machine, its tables and
//! its metadata. The cluster part asks for those that somebody reads ([`weir_proto::ToNode`])
//! and puts the answers of all agents together.

use std::path::Path;
use std::sync::Arc;

use weir_engine::history::TableHistoryStats;
use weir_engine::table_functions;
use weir_proto::NodeInfo;
use weir_sources::agent::{OwnProcess, machine_address};
use weir_types::schema::{Column, Relation};
use weir_types::{DataType, PackedRow, Value, tables};

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
        let Some(relation) = table_functions::relation(function) else { return Vec::new() };
        let asid = Value::Int64(i64::from(info.asid));
        let rows: Vec<Vec<Value>> = match function {
            "GetAgentStatus" => vec![self.status(info)],
            "GetLinuxHeadersStatus" => vec![vec![asid, self.kernel_headers()]],
            "GetProfilerSamplingPeriodMS" => {
                let period = self.profiler_period_ms.into_iter();
                period.map(|period_ms| vec![asid.clone(), Value::Int64(period_ms)]).collect()
            }
            "_DebugMDState" => {
                vec![vec![asid, Value::str(""), Value::str(&(self.debug_state)())]]
            }
            "_DebugTableInfo" => history.iter().map(|table| table_info(&asid, table)).collect(),
            "_HeapStats" => vec![vec![asid, Value::str(&self.memory_text())]],
            "_HeapStatsNumeric" => vec![self.memory_numbers(&relation, &asid)],
            "_DebugAgentProcStatus" => vec![self.proc_status(&relation, &asid)],
            "_DebugAgentProcSMaps" => self.proc_smaps(&relation, &asid),
            _ => Vec::new(),
        };
        debug_assert!(
            rows.iter().all(|row| fits(row, &relation)),
            "an answer of {function} is not of its columns"
        );
        rows.iter().map(|row| PackedRow::pack(row)).collect()
    }

    fn kernel_headers(&mut self) -> Value {
        Value::Boolean(self.own.kernel_headers_installed())
    }

    /// State and heartbeat are the cluster part's to fill in: it hears, or does not.
    fn status(&mut self, info: &NodeInfo) -> Vec<Value> {
        let address = machine_address().map_or_else(String::new, |address| address.to_string());
        vec![
            Value::Uint128(info.agent_id()),
            Value::Int64(i64::from(info.asid)),
            Value::str(&info.hostname),
            Value::str(&address),
            Value::str(""),
            Value::Time64Ns(i64::try_from(info.incarnation).unwrap_or(0)),
            Value::Int64(0),
            self.kernel_headers(),
        ]
    }

    fn memory_text(&mut self) -> String {
        let status = self.own.status();
        let lines = status
            .iter()
            .filter(|(name, _)| name.starts_with("Vm") || name.starts_with("Rss"))
            .map(|(name, bytes)| format!("{name}: {bytes} bytes"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn memory_numbers(&mut self, relation: &Relation, asid: &Value) -> Vec<Value> {
        let status = self.own.status();
        let number = |column: &Column| match column.name.as_str() {
            "asid" => asid.clone(),
            "current_allocated_bytes" => field(status.iter(), "RssAnon"),
            "heap_size_bytes" => field(status.iter(), "VmData"),
            _ => Value::Int64(0),
        };
        relation.columns.iter().map(number).collect()
    }

    fn proc_status(&mut self, relation: &Relation, asid: &Value) -> Vec<Value> {
        let status = self.own.status();
        let number = |column: &Column| match column.name.as_str() {
            "asid" => asid.clone(),
            name => field(status.iter(), name),
        };
        relation.columns.iter().map(number).collect()
    }

    fn proc_smaps(&mut self, relation: &Relation, asid: &Value) -> Vec<Vec<Value>> {
        let row = |mapping: weir_sources::agent::Mapping| {
            let value = |column: &Column| match column.name.as_str() {
                "asid" => asid.clone(),
                "address" => Value::str(&mapping.address),
                "offset" => Value::str(&mapping.offset),
                "pathname" => Value::str(&mapping.pathname),
                name => field(mapping.fields.iter(), name),
            };
            relation.columns.iter().map(value).collect()
        };
        self.own.mappings().into_iter().map(row).collect()
    }
}

fn fits(row: &[Value], relation: &Relation) -> bool {
    let types: Vec<DataType> = row.iter().map(Value::data_type).collect();
    types == relation.types()
}

/// The kernel's field for a column: `VmPeak` for `vm_peak_bytes`, `Shared_Clean` for
/// `shared_clean_bytes`; 0 if this kernel has none.
fn field<'a>(mut fields: impl Iterator<Item = (&'a String, &'a i64)>, column: &str) -> Value {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    let wanted = plain(column.strip_suffix("_bytes").unwrap_or(column));
    Value::Int64(fields.find(|(name, _)| plain(name) == wanted).map_or(0, |(_, value)| *value))
}

fn table_info(asid: &Value, stats: &TableHistoryStats) -> Vec<Value> {
    let count = |value: u64| Value::Int64(i64::try_from(value).unwrap_or(i64::MAX));
    let id = tables::TABLES.iter().position(|table| table.name == stats.table);
    vec![
        asid.clone(),
        Value::str(&stats.table),
        // Those of tracepoints have none.
        id.map_or(Value::Int64(-1), |id| count(id as u64)),
        count(stats.batches_added),
        count(stats.batches_dropped),
        count(stats.bytes_added),
        count(stats.batches),
        // Batches stay as they came: none is compacted, none is cold.
        Value::Int64(0),
        count(stats.bytes),
        Value::Int64(0),
        count(stats.budget_bytes),
        Value::Time64Ns(stats.time_min_unix_ns.unwrap_or(0)),
    ]
}

#[cfg(test)]
mod tests {
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
