//! Finds out what functions asked for: names of addresses, which take as long as DNS does, and libraries. It
//! has no tables: what is found goes to the metadata.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_sources::dns::{DnsCounters, ReverseDns, SystemResolver};
use weir_sources::metadata::Found;
use weir_sources::source::{Output, Refusal, RunningSource, Source};
use weir_types::Upid;
use weir_types::ledger::METADATA;
use weir_types::source::{ORDER_ITEMS_MAX, OrderOutcome, SourceOrder};

use super::proc::lost;
use super::stop::{Counted, StopProgress};

/// Addresses, and processes, of orders that are looked at with the next turn: what several orders name.
const WAITING_MAX: usize = 4 * ORDER_ITEMS_MAX;

/// How many names were found, for diagnostics.
pub(super) type SharedCounters = Arc<Mutex<DnsCounters>>;

pub(super) struct NameFinder {
    pub(super) counters: SharedCounters,
    pub(super) progress: StopProgress,
}

impl Source for NameFinder {
    fn name(&self) -> Arc<str> {
        "names".into()
    }

    fn tables(&self) -> Vec<String> {
        Vec::new()
    }

    /// A machine without DNS has no names, and a resolver that says so.
    fn can_run(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        Ok(Box::new(RunningNames {
            dns: ReverseDns::start(Arc::new(SystemResolver)),
            addresses: Vec::new(),
            processes: Vec::new(),
            counters: self.counters.clone(),
            _counted: self.progress.count(),
        }))
    }
}

struct RunningNames {
    dns: ReverseDns,
    /// Of orders since the last turn.
    addresses: Vec<IpAddr>,
    processes: Vec<Upid>,
    counters: SharedCounters,
    _counted: Counted,
}

/// Adds all or, if there is no room for them, none.
fn wait<T: Copy>(waiting: &mut Vec<T>, more: &[T]) -> OrderOutcome {
    if waiting.len() + more.len() > WAITING_MAX {
        return OrderOutcome::refused("too many wait for their names");
    }
    waiting.extend(more);
    OrderOutcome::Done
}

impl RunningSource for RunningNames {
    /// Does not wait for DNS: what is found comes with one of the next turns.
    fn poll(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        self.dns.poll(now_unix_ns, &std::mem::take(&mut self.addresses));
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = self.dns.counters();
        let names = self.dns.take_changes();
        if !names.is_empty() {
            out.found(Found::Names(names));
        }
        let processes = std::mem::take(&mut self.processes);
        if !processes.is_empty() {
            out.found(Found::LibrariesWanted(processes));
        }
    }

    fn flush(&mut self, _now_unix_ns: i64, out: &mut dyn Output) {
        let DnsCounters { evicted_total, left_out_total, .. } = self.dns.counters();
        out.counted(METADATA, lost(&[("names_full", evicted_total + left_out_total)]));
    }

    /// Names and libraries come with the metadata, later; who still wants them asks again.
    fn order(&mut self, order: &SourceOrder) -> OrderOutcome {
        match order {
            SourceOrder::Resolve { addresses } => wait(&mut self.addresses, addresses),
            SourceOrder::ListLibraries { processes } => wait(&mut self.processes, processes),
            SourceOrder::SetFilters(_) => OrderOutcome::NotMine,
        }
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(100)
    }
}
