//! What a source is to whoever runs it. A [`Source`] can be asked whether it can run here, and started, again
//! and again; what runs then has a thread of its own: it may block for some milliseconds, and a panic in it
//! ends nothing else. All that it has goes through one [`Output`], and it takes orders while it runs.
//!
//! Not here: threads, supervision, and where the output goes (`weir-node`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_types::RecordBatch;
use weir_types::source::{BlindProcess, CaptureFilters, OrderOutcome, SourceOrder, TableCounters};

use crate::metadata::{Found, Observation};

/// Why a source cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub reason: String,
}

impl Refusal {
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into() }
    }
}

/// A source, whether it runs or not.
pub trait Source: Send + Sync {
    /// Unique on its node.
    fn name(&self) -> Arc<str>;

    /// The tables that it fills.
    fn tables(&self) -> Vec<String>;

    /// Whether the machine lets it run: kernel, rights, files. Looks, and changes nothing.
    ///
    /// # Errors
    /// What is in the way.
    fn can_run(&self) -> Result<(), Refusal>;

    /// Starts it, on the thread that it will have.
    ///
    /// # Errors
    /// What was in the way all the same.
    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal>;
}

/// Ends a source's wait, from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A source that runs.
pub trait RunningSource {
    /// Takes in what is there. Called at least every [`RunningSource::poll_interval`], and right before every
    /// `flush`.
    fn poll(&mut self, now_unix_ns: i64, out: &mut dyn Output);

    /// Hands out every row that is whole by now, and what did not become one.
    fn flush(&mut self, now_unix_ns: i64, out: &mut dyn Output);

    /// Does what it is told, or says why not. What comes of it may come later.
    fn order(&mut self, _order: &SourceOrder) -> OrderOutcome {
        OrderOutcome::NotMine
    }

    /// Parts of it that do not run, and why; empty if all do.
    fn missing(&self) -> String {
        String::new()
    }

    /// Processes of which it sees nothing or not all; a bounded list.
    fn blind(&self) -> Vec<BlindProcess> {
        Vec::new()
    }

    /// What it counts beside losses, since its start: for those who ask why it costs or shows what it does.
    fn counts(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// What it looks at now.
    fn filters(&self) -> CaptureFilters {
        CaptureFilters::default()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// Waits for something to take in, `at_most` so long: until the next flush.
    fn wait(&mut self, at_most: Duration) {
        std::thread::park_timeout(self.poll_interval().min(at_most));
    }

    /// What ends [`RunningSource::wait`]; asked on the thread that waits.
    fn waker(&self) -> Waker {
        let thread = std::thread::current();
        Arc::new(move || thread.unpark())
    }
}

/// Where all goes that a running source has.
pub trait Output {
    /// Rows of a table, whole.
    fn rows(&mut self, table: &str, batch: RecordBatch);

    /// What is counted of a table since the start; with each flush.
    fn counted(&mut self, table: &str, counters: TableCounters);

    /// What was seen of a process or a connection. Never waits; what finds no room is counted.
    fn observe(&mut self, observation: Observation);

    /// What was found out of names or libraries. May wait for whoever keeps them.
    fn found(&mut self, found: Found);
}
