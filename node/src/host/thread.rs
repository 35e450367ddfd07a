//! A source's thread: it polls the source, gives it its orders, flushes it at every tick's edge and hands
//! what comes out on to the node, followed by a mark that says "all up to this tick".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};
use weir_actors::Says;
use weir_sources::source::{Refusal, RunningSource, Source};
use weir_types::source::{BlindProcess, TableCounters};

use super::outlet::Outlet;
use super::{Down, FromSource, SourceFeed};
use crate::orders::OrderQueue;

/// How often counters are sent that did not change, and what is missing is looked at.
const COUNTERS_EVERY_NS: i64 = 500_000_000;

/// What a source's thread does until it is stopped. `says`: how it is in the tree of parts.
pub(super) fn run_source(source: &dyn Source, feed: &SourceFeed, says: &Says, stop: &AtomicBool) {
    let name = source.name();
    says.starting();
    let running = source.can_run().and_then(|()| source.start());
    let running = match running {
        Ok(running) => running,
        Err(Refusal { reason }) => {
            warn!(source = &*name, reason, "source cannot run");
            says.refused(&reason);
            drop(feed.rows.send(FromSource::Down { source: name, reason, how: Down::Refused }));
            return;
        }
    };
    says.running();
    let (orders, out) = (feed.queue(&name), Outlet::new(feed.metadata.clone()));
    SourceThread { name, feed, stop, running, orders, out, said: Said::default() }.run();
}

struct SourceThread<'a> {
    name: Arc<str>,
    feed: &'a SourceFeed,
    stop: &'a AtomicBool,
    running: Box<dyn RunningSource>,
    orders: Arc<OrderQueue>,
    out: Outlet,
    said: Said,
}

/// What was said of the counters last.
#[derive(Default)]
struct Said {
    at_unix_ns: i64,
    counters: BTreeMap<String, TableCounters>,
    missing: String,
    blind: Vec<BlindProcess>,
    counts: BTreeMap<String, u64>,
}

impl SourceThread<'_> {
    /// False once the node is gone.
    fn send(&self, message: FromSource) -> bool {
        self.feed.rows.send(message).is_ok()
    }

    fn run(mut self) {
        let (missing, filters) = (self.running.missing(), self.running.filters());
        info!(source = &*self.name, missing, "source runs");
        self.send(FromSource::Running { source: self.name.clone(), missing, filters });
        self.orders.wake_by(self.running.waker());
        let tick_ns = i64::try_from(self.feed.tick_ms).unwrap_or(i64::MAX) * 1_000_000;
        let mut edge_ns = self.feed.clock.now_unix_ns() / tick_ns * tick_ns + tick_ns;
        while !self.stop.load(Ordering::SeqCst) {
            let now_ns = self.feed.clock.now_unix_ns();
            self.take_orders(now_ns);
            let wait_ns = u64::try_from(edge_ns - now_ns).unwrap_or(0);
            if wait_ns > 0 {
                self.running.wait(Duration::from_nanos(wait_ns));
            }
            let now_ns = self.feed.clock.now_unix_ns();
            self.running.poll(now_ns, &mut self.out);
            if now_ns < edge_ns {
                continue;
            }
            // After a pause the clock may be several edges on: all rows belong to the latest one.
            edge_ns = now_ns / tick_ns * tick_ns;
            if !self.flush(now_ns, edge_ns) {
                return;
            }
            edge_ns += tick_ns;
        }
    }

    /// Does what it was told since the last turn.
    fn take_orders(&mut self, now_ns: i64) {
        while let Some((id, order)) = self.orders.take() {
            let former = self.running.filters();
            let outcome = self.running.order(&order);
            self.orders.take_at_hand();
            let filters = self.running.filters();
            if filters != former {
                info!(source = &*self.name, filters = ?filters.texts(), "looks at something else");
                let since_unix_ns = filters.passes_more_than(&former).then_some(now_ns);
                let source = self.name.clone();
                self.send(FromSource::Filters { source, filters, since_unix_ns });
            }
            if let Some(id) = id {
                self.send(FromSource::Ordered { source: self.name.clone(), id, outcome });
            }
        }
    }

    /// False once the node is gone.
    fn flush(&mut self, now_ns: i64, edge_ns: i64) -> bool {
        self.running.flush(now_ns, &mut self.out);
        let (counters, batches) = self.out.take(now_ns);
        let said = &mut self.said;
        let due = now_ns - said.at_unix_ns >= COUNTERS_EVERY_NS;
        // A loss is told with the tick in which it happened, not with one of the next.
        if due || counters != said.counters {
            if due {
                said.at_unix_ns = now_ns;
                said.missing = self.running.missing();
                said.blind = self.running.blind();
                said.counts = self.running.counts();
            }
            said.counters.clone_from(&counters);
            let (source, at_unix_ns) = (self.name.clone(), now_ns);
            let (missing, blind) = (said.missing.clone(), said.blind.clone());
            let counts = said.counts.clone();
            let told =
                FromSource::Counters { source, at_unix_ns, counters, missing, blind, counts };
            self.send(told);
        }
        for batch in batches {
            if !self.send(FromSource::Batch(batch)) {
                return false;
            }
        }
        let tick_ms = u64::try_from(edge_ns / 1_000_000).unwrap_or(0);
        self.send(FromSource::Flushed { source: self.name.clone(), tick_ms })
    }
}
