//! Weir's own dataflows as rows: `weir_queries`, `weir_operators` and `weir_feeds`. Who knows what runs is the
//! cluster part, so they come from the node of its process; on another one nothing produces them.

use std::sync::Arc;
use std::time::Duration;

use weir_sources::source::{Output, Refusal, RunningSource, Source};
use weir_types::RecordBatch;
use weir_types::tables::{Table, WeirFeeds, WeirOperators, WeirQueries};

use super::proc::lost;
use super::stop::{Counted, StopProgress};

const TABLES: [&str; 3] = [WeirQueries::DEF.name, WeirOperators::DEF.name, WeirFeeds::DEF.name];

/// What the running dataflows did up to some time.
pub struct OwnRows {
    pub at_unix_ns: i64,
    pub batches: Vec<(&'static str, RecordBatch)>,
    /// Operators that there was no room for, since the start.
    pub left_out_total: u64,
}

/// Tells what the running dataflows did, if that is known for a later time than this one. Asked several times a
/// second, on the source's thread.
pub type TellOwnRows = Arc<dyn Fn(i64) -> Option<OwnRows> + Send + Sync>;

pub(super) struct OwnDataflows {
    pub(super) tell: Option<TellOwnRows>,
    pub(super) progress: StopProgress,
}

impl Source for OwnDataflows {
    fn name(&self) -> Arc<str> {
        "weir".into()
    }

    fn tables(&self) -> Vec<String> {
        TABLES.map(str::to_string).to_vec()
    }

    fn can_run(&self) -> Result<(), Refusal> {
        self.told_by().map(drop)
    }

    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        let tell = Arc::clone(self.told_by()?);
        Ok(Box::new(RunningOwn {
            tell,
            last_unix_ns: 0,
            left_out: 0,
            _counted: self.progress.count(),
        }))
    }
}

impl OwnDataflows {
    fn told_by(&self) -> Result<&TellOwnRows, Refusal> {
        self.tell.as_ref().ok_or_else(|| Refusal::new("the cluster part is in another process"))
    }
}

struct RunningOwn {
    tell: TellOwnRows,
    /// Of the rows that were told last.
    last_unix_ns: i64,
    left_out: u64,
    _counted: Counted,
}

impl RunningSource for RunningOwn {
    fn poll(&mut self, _now_unix_ns: i64, _out: &mut dyn Output) {}

    fn flush(&mut self, _now_unix_ns: i64, out: &mut dyn Output) {
        if let Some(own) = (self.tell)(self.last_unix_ns) {
            self.last_unix_ns = own.at_unix_ns;
            self.left_out = own.left_out_total;
            for (table, batch) in own.batches {
                out.rows(table, batch);
            }
        }
        for table in TABLES {
            out.counted(table, lost(&[("operators_full", self.left_out)]));
        }
    }

    /// Only the flush does anything.
    fn poll_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use weir_sources::metadata::{Found, Observation};
    use weir_types::source::TableCounters;
    use weir_types::tables::{TableBuilder, WeirFeedsRow};

    use super::*;

    #[derive(Default)]
    struct Taken {
        rows: usize,
        lost: u64,
    }

    impl Output for Taken {
        fn rows(&mut self, _table: &str, batch: RecordBatch) {
            self.rows += batch.num_rows();
        }
        fn counted(&mut self, _table: &str, counters: TableCounters) {
            self.lost = counters.lost_total.values().sum();
        }
        fn observe(&mut self, _observation: Observation) {}
        fn found(&mut self, _found: Found) {}
    }

    /// A sample becomes rows once, however often it is asked for: catches rows that come with every tick.
    #[test]
    fn a_sample_is_told_once() {
        let at = Arc::new(AtomicI64::new(1));
        let time = Arc::clone(&at);
        let tell: TellOwnRows = Arc::new(move |after_unix_ns| {
            let mut rows = TableBuilder::<WeirFeeds>::new();
            let at_unix_ns = time.load(Ordering::SeqCst);
            if at_unix_ns <= after_unix_ns {
                return None;
            }
            rows.push(&WeirFeedsRow {
                time_: at_unix_ns,
                feed: 1,
                table_name: b"http_events",
                refresh: 1,
                lateness: 0,
                readers: 1,
                rows_in: 1,
                rows_out: 1,
                held_bytes: 1,
                busy: 1,
                interval: 1,
            });
            let batches = vec![("weir_feeds", rows.finish())];
            Some(OwnRows { at_unix_ns, batches, left_out_total: 3 })
        });
        let source = OwnDataflows { tell: Some(tell), progress: StopProgress::default() };
        let mut running = source.start().unwrap();
        let mut taken = Taken::default();
        for _ in 0..3 {
            running.flush(0, &mut taken);
        }
        assert_eq!((taken.rows, taken.lost), (1, 3));
        at.store(2, Ordering::SeqCst);
        running.flush(0, &mut taken);
        assert_eq!(taken.rows, 2);
    }

    /// Where the cluster part is elsewhere, the tables have no source, and it is said why.
    #[test]
    fn without_a_cluster_part_it_is_refused() {
        let source = OwnDataflows { tell: None, progress: StopProgress::default() };
        assert!(source.can_run().unwrap_err().reason.contains("another process"));
    }
}
