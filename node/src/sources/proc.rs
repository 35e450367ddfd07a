//! The counters of `/proc` as rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_sources::proc::ProcSource;
use weir_sources::source::{Output, Refusal, RunningSource, Source};
use weir_types::source::TableCounters;

use super::stop::{Counted, StopProgress};

const TABLES: [&str; 2] = ["process_stats", "network_stats"];

pub(super) struct ProcRows {
    pub(super) asid: u32,
    /// Kubernetes knows the pods here.
    pub(super) of_pods: bool,
    pub(super) progress: StopProgress,
}

impl Source for ProcRows {
    fn name(&self) -> Arc<str> {
        "proc".into()
    }

    fn tables(&self) -> Vec<String> {
        TABLES.map(str::to_string).to_vec()
    }

    fn can_run(&self) -> Result<(), Refusal> {
        let path = Path::new("/proc/self/stat");
        let read = std::fs::read(path);
        read.map(drop)
            .map_err(|error| Refusal::new(format!("could not read {}: {error}", path.display())))
    }

    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        let source = ProcSource::new(self.asid).map_err(|error| Refusal::new(error.to_string()))?;
        let source = source.with_pods(self.of_pods);
        Ok(Box::new(RunningProc { source, _counted: self.progress.count() }))
    }
}

struct RunningProc {
    source: ProcSource,
    _counted: Counted,
}

impl RunningSource for RunningProc {
    fn poll(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        for (table, batch) in self.source.poll(now_unix_ns) {
            out.rows(table, batch);
        }
    }

    fn flush(&mut self, _now_unix_ns: i64, out: &mut dyn Output) {
        let counters = self.source.counters();
        let failed = ("passes_failed", counters.passes_failed);
        let cut = ("passes_cut", counters.passes_cut);
        let left_out = ("namespaces_full", counters.namespaces_left_out);
        let [processes, networks] = TABLES;
        out.counted(processes, lost(&[failed, cut]));
        out.counted(networks, lost(&[failed, cut, left_out]));
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(100)
    }
}

pub(super) fn lost(reasons: &[(&str, u64)]) -> TableCounters {
    TableCounters {
        lost_total: reasons.iter().map(|(reason, n)| (reason.to_string(), *n)).collect(),
        ..TableCounters::default()
    }
}
