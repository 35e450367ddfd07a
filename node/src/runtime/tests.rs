//! A node with its own thread, a source on another, and a clock that the test sets.

use std::sync::atomic::{AtomicI64, AtomicU64};

use weir_proto::FromNode;
use weir_proto::bus::{ClusterPort, in_process};
use weir_types::SteadyClock;
use weir_types::ledger::Loss;
use weir_types::source::Source;

use super::*;

const SEC_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3_600 * SEC_NS;
/// Steps of the test's clock after which something must have happened.
const STEPS_MAX: usize = 20_000;
const STEP_NS: i64 = 20_000_000;

/// The machine's clocks, as the test sets them.
#[derive(Default)]
struct Wall {
    unix_ns: AtomicI64,
    mono_ns: AtomicU64,
    /// What the wall clock does while time passes.
    stands: AtomicBool,
}

#[derive(Clone, Default)]
struct Clocks(Arc<Wall>);

impl Clock for Clocks {
    fn now_unix_ns(&self) -> i64 {
        self.0.unix_ns.load(Ordering::SeqCst)
    }
    fn monotonic_ns(&self) -> u64 {
        self.0.mono_ns.load(Ordering::SeqCst)
    }
}

impl Clocks {
    fn pass(&self) {
        self.0.mono_ns.fetch_add(STEP_NS as u64, Ordering::SeqCst);
        if !self.0.stands.load(Ordering::SeqCst) {
            self.set(STEP_NS);
        }
    }
    fn set(&self, by_ns: i64) {
        self.0.unix_ns.fetch_add(by_ns, Ordering::SeqCst);
    }
}

/// Loses what the test says, and counts its flushes.
#[derive(Clone, Default)]
struct TestSource {
    lost: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
}

impl Source for TestSource {
    fn poll(&mut self, _now_unix_ns: i64) {}
    fn flush(&mut self, _now_unix_ns: i64, _out: &mut Vec<TableBatch>) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }
    fn counters(&self) -> BTreeMap<String, TableCounters> {
        let lost = self.lost.load(Ordering::SeqCst);
        let lost_total = BTreeMap::from([("ring_full".to_string(), lost)]);
        let counted = TableCounters { lost_total, ..TableCounters::default() };
        BTreeMap::from([("http_events".to_string(), counted)])
    }
    fn missing(&self) -> String {
        String::new()
    }
    fn wait(&mut self, _at_most: Duration) {
        std::thread::yield_now();
    }
}

struct Rig {
    clocks: Clocks,
    source: TestSource,
    node: Option<NodeRuntime>,
    port: ClusterPort,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    last_tick_ms: u64,
}

impl Rig {
    fn start() -> Rig {
        let clocks = Clocks::default();
        clocks.set(1_000_000 * SEC_NS);
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(clocks.clone()));
        let source = TestSource::default();
        let made = source.clone();
        let spec = SourceSpec {
            name: "test",
            tables: &["http_events"],
            factory: Arc::new(move || Ok(Box::new(made.clone()))),
        };
        let (node_port, port) = in_process();
        let config = NodeConfig {
            info: NodeInfo {
                name: "a".to_string(),
                incarnation: 1,
                asid: 1,
                hostname: "a".to_string(),
                version: String::new(),
            },
            tick_ms: 100,
            workers: 1,
            retention_ns: HOUR_NS,
            history_bytes: 8 << 20,
            queries: weir_engine::Limits::default(),
            test_faults: false,
            agent: Agent::new(Arc::new(String::new)),
            ledger: NodeLedger::default(),
            own_upid: Upid::new(1, 1, 1),
            names: Names { settled: Arc::new(|| true), note_lost: Arc::new(|_, _| {}) },
            entities: NodeEntities::default(),
        };
        let specs = [spec.clone()];
        let node = NodeRuntime::start(config, &specs, node_port, clock).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (feed, stopped) = (node.feed.clone(), stop.clone());
        let thread = std::thread::spawn(move || crate::host::run_source(spec, feed, stopped));
        let node = Some(node);
        Rig { clocks, source, node, port, stop, thread: Some(thread), last_tick_ms: 0 }
    }

    /// Lets time pass until a message is found.
    fn until<T>(&mut self, what: &str, found: impl Fn(&FromNode) -> Option<T>) -> T {
        for _ in 0..STEPS_MAX {
            self.clocks.pass();
            std::thread::park_timeout(Duration::from_micros(200));
            while let Some(message) = self.port.try_recv() {
                let message = message.unwrap().message;
                if let FromNode::Status { tick_ms, .. } = &message {
                    assert!(*tick_ms > self.last_tick_ms, "{what}: ticks go back");
                    self.last_tick_ms = *tick_ms;
                }
                if let Some(found) = found(&message) {
                    return found;
                }
            }
        }
        panic!("{what}: time passed, and nothing came");
    }

    /// Ticks are closed, and the source is flushed, again and again.
    fn goes_on(&mut self, what: &str) {
        for _ in 0..3 {
            let flushes = self.source.flushes.load(Ordering::SeqCst);
            self.until(what, |message| matches!(message, FromNode::Status { .. }).then_some(()));
            assert!(self.source.flushes.load(Ordering::SeqCst) > flushes, "{what}: no flush");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }
}

/// Whatever is done to the wall clock, ticks are closed and sources flushed, and no tick is before its
/// predecessor. Catches a node that stands still for as long as the clock was set back.
#[test]
fn ticks_and_flushes_go_on_when_the_clock_is_set() {
    let mut rig = Rig::start();
    rig.goes_on("at first");
    rig.clocks.set(-HOUR_NS);
    rig.goes_on("set back an hour");
    rig.clocks.set(2 * HOUR_NS);
    rig.goes_on("set forward an hour");
    rig.clocks.0.stands.store(true, Ordering::SeqCst);
    rig.goes_on("standing");
}

/// What a source loses is told with the tick in which it did, each time what was added; and it is a row
/// that says so. Catches losses that are told half a second after the answers that lack them.
#[test]
fn losses_of_sources_are_told_as_additions() {
    let mut rig = Rig::start();
    rig.goes_on("at first");
    for lost in [3, 10, 11] {
        let before = rig.source.lost.swap(lost, Ordering::SeqCst);
        let told: Vec<Loss> = rig.until("a loss", |message| match message {
            FromNode::Losses { losses, .. } => Some(losses.clone()),
            _ => None,
        });
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].count, told[0].reason.as_str()), (lost - before, "ring_full"));
        let Span { from_unix_ns, to_unix_ns } = told[0].span;
        assert!(to_unix_ns - from_unix_ns <= SEC_NS, "an interval of some ticks");
    }
    let rows = rig.until("a row about it", |message| match message {
        FromNode::Status { tables, .. } => {
            let table = tables.iter().find(|table| table.table == "data_loss")?;
            Some(table.rows_total)
        }
        _ => None,
    });
    assert!(rows >= 1);
}
