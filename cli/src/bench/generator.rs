//! The LET workload's events: 40 services with Zipf popularity, 20 endpoints, 3 to 6 callers a
//! service, lognormal latency with 1 % ten times slower, 3 % errors. Seeded: the same events in every
//! run.

use std::sync::Arc;

use weir_types::RecordBatch;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::random::SplitMix;
use weir_types::tables::{LetEvents, LetEventsRow, TableBuilder};

pub(crate) const SERVICES: usize = 40;
pub(crate) const ENDPOINTS: usize = 20;
const PODS_PER_SERVICE: u64 = 5;
pub(crate) const SEC_NS: i64 = 1_000_000_000;

/// One event, strings as small numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) time_unix_ns: i64,
    pub(crate) latency_ns: i64,
    pub(crate) req_bytes: i64,
    pub(crate) resp_bytes: i64,
    pub(crate) pod: usize,
    pub(crate) service: usize,
    pub(crate) remote: usize,
    pub(crate) endpoint: usize,
    pub(crate) status: i64,
}

/// The workload's numbers.
struct Random(SplitMix);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }
    fn unit(&mut self) -> f64 {
        self.0.unit()
    }
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().max(1e-12).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Cumulative Zipf weights.
fn zipf(n: usize, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=n).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        })
        .collect()
}

fn pick(cumulative: &[f64], at: f64) -> usize {
    cumulative.partition_point(|weight| *weight < at).min(cumulative.len() - 1)
}

pub(crate) struct Generator {
    random: Random,
    services: Vec<f64>,
    endpoints: Vec<f64>,
    callers: Vec<Vec<usize>>,
    median_ns: Vec<f64>,
    rate: u64,
    /// How many times as many services there are.
    spread: u64,
    names: Arc<Names>,
}

/// The strings behind the numbers.
pub(crate) struct Names {
    pub(crate) services: Vec<String>,
    pub(crate) endpoints: Vec<String>,
    pods: Vec<String>,
}

impl Generator {
    pub(crate) fn new(seed: u64, rate: u64) -> Generator {
        let mut random = Random(SplitMix(seed));
        let callers = (0..SERVICES)
            .map(|service| {
                let wanted = 3 + random.below(4) as usize;
                let mut found = Vec::new();
                while found.len() < wanted {
                    let caller = random.below(SERVICES as u64) as usize;
                    if caller != service && !found.contains(&caller) {
                        found.push(caller);
                    }
                }
                found
            })
            .collect();
        let median_ns =
            (0..SERVICES * ENDPOINTS).map(|_| 1e6 * 10f64.powf(random.unit() * 2.0)).collect();
        let names = Names {
            services: (0..SERVICES).map(|n| format!("shop/service-{n:02}")).collect(),
            endpoints: (0..ENDPOINTS).map(|n| format!("/api/v1/items/{n:02}/*")).collect(),
            pods: (0..SERVICES as u64 * PODS_PER_SERVICE)
                .map(|n| format!("shop/pod-{n:03}"))
                .collect(),
        };
        Generator {
            random,
            services: zipf(SERVICES, 0.8),
            endpoints: zipf(ENDPOINTS, 1.0),
            callers,
            median_ns,
            rate,
            spread: 1,
            names: Arc::new(names),
        }
    }

    /// The same events over so many services instead, in multiples of [`SERVICES`]: each keeps its place among
    /// forty of them.
    pub(crate) fn spread(mut self, services: usize) -> Generator {
        let names = Names {
            services: (0..services).map(|n| format!("shop/service-{n:03}")).collect(),
            endpoints: self.names.endpoints.clone(),
            pods: self.names.pods.clone(),
        };
        self.spread = (services / SERVICES).max(1) as u64;
        self.names = Arc::new(names);
        self
    }

    pub(crate) fn names(&self) -> Arc<Names> {
        self.names.clone()
    }

    fn event(&mut self, time_unix_ns: i64) -> Event {
        let service = pick(&self.services, self.random.unit());
        let endpoint = pick(&self.endpoints, self.random.unit());
        let pod =
            service * PODS_PER_SERVICE as usize + self.random.below(PODS_PER_SERVICE) as usize;
        let callers = &self.callers[service];
        let remote = callers[self.random.below(callers.len() as u64) as usize];
        let median_ns = self.median_ns[service * ENDPOINTS + endpoint];
        // Without, no number is drawn: the workload of other benchmarks is as it was.
        let service = match self.spread {
            1 => service,
            spread => service + SERVICES * self.random.below(spread) as usize,
        };
        let mut latency_ns = median_ns * (self.random.normal() * 0.8).exp();
        if self.random.unit() < 0.01 {
            latency_ns *= 10.0;
        }
        let status = match self.random.unit() {
            x if x < 0.01 => 500,
            x if x < 0.03 => 404,
            _ => 200,
        };
        Event {
            time_unix_ns,
            latency_ns: (latency_ns as i64).max(1_000),
            req_bytes: 100 + self.random.below(1_000) as i64,
            resp_bytes: 200 + self.random.below(20_000) as i64,
            pod,
            service,
            remote,
            endpoint,
            status,
        }
    }

    /// The events of second `second` after `origin_unix_ns`, in time order: all in (start, start +
    /// 1 s].
    pub(crate) fn second(&mut self, origin_unix_ns: i64, second: u64) -> Vec<Event> {
        let step_ns = SEC_NS / self.rate.max(1) as i64;
        let start = origin_unix_ns + second as i64 * SEC_NS;
        (0..self.rate as i64)
            .map(|idx| {
                let jitter_ns = self.random.below((step_ns - 1).max(1) as u64) as i64;
                self.event(start + idx * step_ns + jitter_ns + 1)
            })
            .collect()
    }
}

/// Events as batches of `let_events`.
pub(crate) struct Batcher {
    builder: TableBuilder<LetEvents>,
    names: Arc<Names>,
}

impl Batcher {
    pub(crate) fn new(names: Arc<Names>) -> Batcher {
        Batcher { builder: TableBuilder::new(), names }
    }

    pub(crate) fn batches(&mut self, events: &[Event]) -> Vec<RecordBatch> {
        events
            .chunks(BATCH_ROWS_MAX)
            .map(|chunk| {
                chunk.iter().for_each(|event| self.push(event));
                self.builder.finish()
            })
            .collect()
    }

    fn push(&mut self, event: &Event) {
        self.builder.push(&LetEventsRow {
            time_: event.time_unix_ns,
            latency: event.latency_ns,
            req_size: event.req_bytes,
            resp_size: event.resp_bytes,
            pod: self.names.pods[event.pod].as_bytes(),
            service: self.names.services[event.service].as_bytes(),
            remote: self.names.services[event.remote].as_bytes(),
            endpoint: self.names.endpoints[event.endpoint].as_bytes(),
            status: event.status,
        });
    }
}
