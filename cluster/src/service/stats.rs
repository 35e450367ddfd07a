//! How fresh what readers see is: two latency histograms, recorded when a change has been handed to
//! a reader's socket.

use std::sync::Mutex;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency told apart: ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// One histogram's summary, ns.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub count: u64,
}

pub struct Freshness {
    event_to_view_ns: Mutex<Histogram<u64>>,
    tick_to_change_ns: Mutex<Histogram<u64>>,
}

impl Default for Freshness {
    fn default() -> Freshness {
        Freshness {
            event_to_view_ns: Mutex::new(new_histogram()),
            tick_to_change_ns: Mutex::new(new_histogram()),
        }
    }
}

/// Two significant digits.
#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are constants that fit")
}

fn record(histogram: &Mutex<Histogram<u64>>, latency_ns: i64) {
    if let Ok(mut histogram) = histogram.lock() {
        histogram.saturating_record(u64::try_from(latency_ns).unwrap_or(0));
    }
}

/// The usual quantiles of a latency histogram.
#[must_use]
pub fn quantiles_of(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
        count: histogram.len(),
    }
}

fn summary(histogram: &Mutex<Histogram<u64>>) -> Quantiles {
    histogram.lock().map(|histogram| quantiles_of(&histogram)).unwrap_or_default()
}

impl Freshness {
    /// A change has been handed over at `now_unix_ns`: it belongs to the tick, and to rows whose
    /// events ended at `events_unix_ns`.
    pub fn handed_over(&self, now_unix_ns: i64, tick_unix_ns: i64, events_unix_ns: &[i64]) {
        record(&self.tick_to_change_ns, now_unix_ns.saturating_sub(tick_unix_ns));
        for at in events_unix_ns {
            record(&self.event_to_view_ns, now_unix_ns.saturating_sub(*at));
        }
    }
    #[must_use]
    pub fn event_to_view_ns(&self) -> Quantiles {
        summary(&self.event_to_view_ns)
    }
    #[must_use]
    pub fn tick_to_change_ns(&self) -> Quantiles {
        summary(&self.tick_to_change_ns)
    }
}
