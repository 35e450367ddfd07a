//! A whole node, with its thread and its tree of parts, but with a source, a clock and a cluster part that
//! are the test's: no eBPF, no `/proc`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use std::time::Duration;

use weir_actors::{PartStatus, State as PartState};
use weir_proto::FromNode;
use weir_proto::bus::{ClusterPort, in_process};
use weir_proto::message::SourceStatus;
use weir_sources::source::{Output, Refusal, RunningSource, Waker};
use weir_types::SteadyClock;
use weir_types::ledger::{Loss, Span};
use weir_types::source::{CaptureFilters, OrderOutcome, SourceOrder, TableCounters};

use super::*;
use crate::testing::errors_at;

const SEC_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3_600 * SEC_NS;
/// Steps of the test's clock after which something must have happened.
const STEPS_MAX: usize = 20_000;
const STEP_NS: i64 = 20_000_000;
const TABLE: &str = "stirling_error";

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

/// What the test makes its source do, and sees of it.
#[derive(Default)]
struct Script {
    refuses: AtomicBool,
    /// The next poll panics.
    panics: AtomicBool,
    /// And each after it.
    always_panics: AtomicBool,
    /// Polls wait as long as this holds.
    stalls: AtomicBool,
    lost: AtomicU64,
    /// Batches of the next flush, each of [`BATCH_ROWS`] rows.
    flood: AtomicUsize,
    filters: Mutex<CaptureFilters>,
    starts: AtomicU64,
    flushes: AtomicU64,
}

const BATCH_ROWS: usize = 8_192;

#[derive(Clone, Default)]
struct TestSource(Arc<Script>);

impl Source for TestSource {
    fn name(&self) -> Arc<str> {
        // Made at run time, as those of tracepoints will be.
        format!("test-{}", 1).into()
    }
    fn tables(&self) -> Vec<String> {
        vec![TABLE.to_string(), "http_events".to_string()]
    }
    fn can_run(&self) -> Result<(), Refusal> {
        let refuses = self.0.refuses.load(Ordering::SeqCst);
        if refuses { Err(Refusal::new("the test says no")) } else { Ok(()) }
    }
    fn start(&self) -> Result<Box<dyn RunningSource>, Refusal> {
        self.0.starts.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(self.clone()))
    }
}

impl RunningSource for TestSource {
    fn poll(&mut self, _now_unix_ns: i64, _out: &mut dyn Output) {
        let always = self.0.always_panics.load(Ordering::SeqCst);
        assert!(!self.0.panics.swap(always, Ordering::SeqCst), "asked to panic");
        while self.0.stalls.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
    fn flush(&mut self, now_unix_ns: i64, out: &mut dyn Output) {
        self.0.flushes.fetch_add(1, Ordering::SeqCst);
        let flood = self.0.flood.swap(0, Ordering::SeqCst);
        if flood > 0 {
            let batch = errors_at((0..BATCH_ROWS).map(|_| (now_unix_ns, Upid::new(1, 1, 1))));
            (0..flood).for_each(|_| out.rows(TABLE, batch.clone()));
        }
        let lost = self.0.lost.load(Ordering::SeqCst);
        let lost_total = BTreeMap::from([("ring_full".to_string(), lost)]);
        out.counted("http_events", TableCounters { lost_total, ..TableCounters::default() });
    }
    fn order(&mut self, order: &SourceOrder) -> OrderOutcome {
        match order {
            SourceOrder::SetFilters(filters) => {
                *self.0.filters.lock().unwrap() = filters.clone();
                OrderOutcome::Done
            }
            SourceOrder::Resolve { .. } => panic!("an order to panic over"),
            SourceOrder::ListLibraries { .. } => OrderOutcome::NotMine,
        }
    }
    fn filters(&self) -> CaptureFilters {
        self.0.filters.lock().unwrap().clone()
    }
    fn wait(&mut self, _at_most: Duration) {
        std::thread::yield_now();
    }
    fn waker(&self) -> Waker {
        Arc::new(|| ())
    }
}

struct Rig {
    clocks: Clocks,
    script: Arc<Script>,
    node: NodeRuntime,
    port: ClusterPort,
    switch: KillSwitch,
    last_tick_ms: u64,
    next_order: u64,
}

/// Runs a test on a node. Every part of it lives on this thread's actor system or a thread of its own.
fn with_node(refuses: bool, test: impl AsyncFnOnce(&mut Rig)) {
    actix::System::new().block_on(async {
        let mut rig = Rig::start(refuses);
        test(&mut rig).await;
        rig.script.stalls.store(false, Ordering::SeqCst);
        assert_eq!(rig.switch.kill().await.overdue, Vec::<String>::new());
    });
}

impl Rig {
    fn start(refuses: bool) -> Rig {
        let clocks = Clocks::default();
        clocks.set(1_000_000 * SEC_NS);
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(clocks.clone()));
        let source = TestSource::default();
        source.0.refuses.store(refuses, Ordering::SeqCst);
        let script = source.0.clone();
        let (node_port, port) = in_process();
        let info = NodeInfo::named("a", 1, 1);
        let config = NodeConfig {
            history_bytes: 8 << 20,
            test_faults: true,
            own_upid: Upid::new(1, 1, 1),
            ..NodeConfig::new(info, Agent::new(Arc::new(String::new)))
        };
        let switch = KillSwitch::root("weir");
        let sources: [Arc<dyn Source>; 1] = [Arc::new(source)];
        let node = NodeRuntime::start(config, &sources, node_port, clock, &switch).unwrap();
        let (last_tick_ms, next_order) = (0, 1);
        Rig { clocks, script, node, port, switch, last_tick_ms, next_order }
    }

    /// Lets time pass until a message is found.
    async fn until<T>(&mut self, what: &str, found: impl Fn(&FromNode) -> Option<T>) -> T {
        for _ in 0..STEPS_MAX {
            self.clocks.pass();
            actix::clock::sleep(Duration::from_micros(200)).await;
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

    /// What the node says of the source, once that fits.
    async fn until_source(
        &mut self,
        what: &str,
        fits: impl Fn(&SourceStatus) -> bool,
    ) -> SourceStatus {
        self.until(what, |message| {
            let FromNode::Status { sources, .. } = message else { return None };
            sources.iter().find(|source| source.name == "test-1" && fits(source)).cloned()
        })
        .await
    }

    /// Gives an order and waits for what becomes of it.
    async fn order(&mut self, order: SourceOrder) -> OrderOutcome {
        let id = self.next_order;
        self.next_order += 1;
        self.port.link.send(&ToNode::Order { id, order }).unwrap();
        self.until("what became of an order", |message| {
            let FromNode::Status { ordered, .. } = message else { return None };
            Some(ordered.iter().find(|(told, _)| *told == id)?.1.clone())
        })
        .await
    }

    /// How many rows of a loss were told.
    async fn until_lost(&mut self, what: &str, table: &str, reason: &str) -> u64 {
        self.until(what, |message| {
            let FromNode::Losses { losses, .. } = message else { return None };
            let fits = |loss: &&Loss| loss.table == table && loss.reason == reason;
            losses.iter().find(fits).map(|loss| loss.count)
        })
        .await
    }

    /// Ticks are closed, and the source is flushed, again and again.
    async fn goes_on(&mut self, what: &str) {
        for _ in 0..3 {
            let script = self.script.clone();
            let flushes = script.flushes.load(Ordering::SeqCst);
            let goes_on = move |message: &FromNode| {
                let flushed = script.flushes.load(Ordering::SeqCst) > flushes;
                (flushed && matches!(message, FromNode::Status { .. })).then_some(())
            };
            self.until(what, goes_on).await;
        }
    }

    fn part(&self, path: &str) -> PartStatus {
        let parts = self.switch.tree().parts;
        let found = parts.iter().find(|part| part.path == path).cloned();
        found.unwrap_or_else(|| panic!("{path} in {parts:?}"))
    }
}

/// Whatever is done to the wall clock, ticks are closed and sources flushed, and no tick is before its
/// predecessor. Catches a node that stands still for as long as the clock was set back.
#[test]
fn ticks_and_flushes_go_on_when_the_clock_is_set() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        rig.clocks.set(-HOUR_NS);
        rig.goes_on("set back an hour").await;
        rig.clocks.set(2 * HOUR_NS);
        rig.goes_on("set forward an hour").await;
        rig.clocks.0.stands.store(true, Ordering::SeqCst);
        rig.goes_on("standing").await;
    });
}

/// What a source loses is told with the tick in which it did, each time what was added; and it is a row
/// that says so. Catches losses that are told half a second after the answers that lack them.
#[test]
fn losses_of_sources_are_told_as_additions() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        for lost in [3, 10, 11] {
            let before = rig.script.lost.swap(lost, Ordering::SeqCst);
            let told: Vec<Loss> = rig
                .until("a loss", |message| match message {
                    FromNode::Losses { losses, .. } => Some(losses.clone()),
                    _ => None,
                })
                .await;
            assert_eq!(told.len(), 1);
            assert_eq!((told[0].count, told[0].reason.as_str()), (lost - before, "ring_full"));
            let Span { from_unix_ns, to_unix_ns } = told[0].span;
            assert!(to_unix_ns - from_unix_ns <= SEC_NS, "an interval of some ticks");
        }
        let rows = rig
            .until("a row about it", |message| match message {
                FromNode::Status { tables, .. } => {
                    let table = tables.iter().find(|table| table.table == "data_loss")?;
                    Some(table.rows_total)
                }
                _ => None,
            })
            .await;
        assert!(rows >= 1);
    });
}

/// Of a source that hands out more than a tick takes, what has no room is lost and each row of it told; the
/// next tick is as ever. Catches a flood that takes the memory, and rows that are dropped without a word.
#[test]
fn a_source_that_floods_is_cut_and_counted() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        let batch = errors_at((0..BATCH_ROWS).map(|_| (0, Upid::new(1, 1, 1))));
        let fit = (256 << 20) / batch.get_array_memory_size();
        rig.script.flood.store(fit + 7, Ordering::SeqCst);
        let dropped = rig.until_lost("what had no room", TABLE, "batches_full").await;
        assert_eq!(dropped, 7 * BATCH_ROWS as u64);
        // They reach the node one by one: a tick, and what is told with it, may end among them.
        let fit = (fit * BATCH_ROWS) as u64;
        rig.until("the others, all of them", |message| match message {
            FromNode::Status { tables, .. } => {
                let table = tables.iter().find(|table| table.table == TABLE)?;
                (table.rows_total >= fit).then_some(())
            }
            _ => None,
        })
        .await;
        rig.goes_on("afterwards").await;
    });
}

/// Ticks do not wait for a source that stalls, beyond their grace; that they did not is counted, and told of
/// that source. Once it goes on, so does everything.
#[test]
fn a_source_that_stalls_holds_nobody_up() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        rig.script.stalls.store(true, Ordering::SeqCst);
        let stalled = rig.until_source("late", |source| source.counts["late_ticks"] >= 5).await;
        assert_eq!(stalled.state, "running");
        let flushes = rig.script.flushes.load(Ordering::SeqCst);
        rig.until_source("later", |source| source.counts["late_ticks"] >= 10).await;
        assert_eq!(rig.script.flushes.load(Ordering::SeqCst), flushes, "it does stand");
        rig.script.stalls.store(false, Ordering::SeqCst);
        rig.goes_on("afterwards").await;
    });
}

/// A source that panics comes back after a back-off, and meanwhile its tables lose what nobody counts:
/// seconds of `source_down`. The order that it panicked over is told, and done by nobody.
#[test]
fn a_source_that_panics_comes_back_and_was_down() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        rig.script.panics.store(true, Ordering::SeqCst);
        assert!(rig.until_lost("it was down", TABLE, "source_down").await >= 1);
        let lives = |rig: &Rig| rig.script.starts.load(Ordering::SeqCst);
        let script = rig.script.clone();
        let is_in_life = move |source: &SourceStatus, life| {
            source.state == "running" && script.starts.load(Ordering::SeqCst) == life
        };
        rig.until_source("back", |source| is_in_life(source, 2)).await;
        rig.goes_on("afterwards").await;
        let part = rig.part("weir/node/sources/test-1");
        assert_eq!((part.state, part.deaths, part.restarts), (PartState::Running, 1, 1));
        assert_eq!(part.last_reason, "asked to panic");

        let outcome = rig.order(SourceOrder::Resolve { addresses: vec![] }).await;
        assert!(
            matches!(&outcome, OrderOutcome::Refused { reason } if reason.contains("panicked"))
        );
        rig.until_source("back again", |source| is_in_life(source, 3)).await;
        assert_eq!(lives(rig), 3);
    });
}

/// A source that panics whenever it runs stays down in the end, and says so; what it would have seen is lost
/// still, second by second, and its orders are told that nobody does them. Catches a source that is said to
/// come back and never does, and a loss that ends with the attempts.
#[test]
fn a_source_that_always_panics_stays_down() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        rig.script.always_panics.store(true, Ordering::SeqCst);
        rig.script.panics.store(true, Ordering::SeqCst);
        let failed = rig.until_source("failed", |source| source.state == "failed").await;
        assert!(failed.reason.contains("stays down"), "{}", failed.reason);
        for _ in 0..3 {
            assert!(rig.until_lost("it is down", TABLE, "source_down").await >= 1);
        }
        assert_eq!(rig.order(filters(80)).await, OrderOutcome::NotMine);
        assert_eq!(rig.part("weir/node/sources/test-1").state, PartState::Failed);
    });
}

/// A source that cannot run is asked before it is started, says why, and is not tried again; nothing waits
/// for it, and orders are told that nobody does them.
#[test]
fn a_source_that_cannot_run_says_why() {
    with_node(true, async |rig| {
        let refused = rig.until_source("refused", |source| source.state == "refused").await;
        assert_eq!(refused.reason, "the test says no");
        let part = rig.part("weir/node/sources/test-1");
        assert_eq!(
            (part.state, part.last_reason.as_str()),
            (PartState::Refused, "the test says no")
        );
        assert_eq!(rig.order(filters(80)).await, OrderOutcome::NotMine);
        rig.until("ticks", |message| matches!(message, FromNode::Status { .. }).then_some(()))
            .await;
        assert_eq!(rig.script.starts.load(Ordering::SeqCst), 0);
    });
}

fn filters(port: u16) -> SourceOrder {
    let ports = [port].into();
    SourceOrder::SetFilters(CaptureFilters { ports, ..CaptureFilters::default() })
}

/// Filters that let more pass are in the status, and the source's tables are covered from then on only; those
/// that let less pass take nothing away from what was seen. Catches answers that call themselves whole for a
/// time in which nobody looked.
#[test]
fn what_was_not_watched_is_covered_from_then_on() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        let covers_from = async |rig: &mut Rig| {
            let found = |message: &FromNode| match message {
                FromNode::Status { tables, .. } => {
                    let table = tables.iter().find(|table| table.table == "http_events")?;
                    Some(table.covers_from_unix_ns)
                }
                _ => None,
            };
            rig.until("what is covered", found).await
        };
        let began = covers_from(rig).await;
        assert_eq!(rig.order(filters(80)).await, OrderOutcome::Done);
        let told = rig.until_source("filters", |source| !source.filters.is_empty()).await;
        assert_eq!(told.filters, ["port:80"]);
        assert_eq!(covers_from(rig).await, began, "what it sees now it saw before");
        let before = rig.clocks.now_unix_ns();
        assert_eq!(rig.order(filters(81)).await, OrderOutcome::Done);
        let now = covers_from(rig).await;
        assert!(now >= before && now <= rig.clocks.now_unix_ns());
        let everything = SourceOrder::SetFilters(CaptureFilters::default());
        assert_eq!(rig.order(everything).await, OrderOutcome::Done);
        rig.until_source("all", |source| source.filters.is_empty()).await;
        assert!(covers_from(rig).await > now);
        assert_eq!(
            rig.order(SourceOrder::ListLibraries { processes: vec![] }).await,
            OrderOutcome::NotMine
        );
    });
}

/// The node's thread and its engine die and come back, each seen in the tree with its deaths; the source runs
/// on, and the node registers anew in its next life. Catches a node that is gone with its thread.
#[test]
fn thread_and_engine_come_back() {
    with_node(false, async |rig| {
        rig.goes_on("at first").await;
        let registers =
            |message: &FromNode| matches!(message, FromNode::Register { .. }).then_some(());
        rig.node.panic_switch()();
        rig.until("a new thread", registers).await;
        rig.goes_on("after the thread's death").await;
        rig.node.engine.engine().kill_worker();
        rig.until("a new engine", registers).await;
        rig.goes_on("after the engine's death").await;
        for name in ["thread", "engine"] {
            let part = rig.part(&format!("weir/node/{name}"));
            assert_eq!((part.state, part.deaths), (PartState::Running, 1), "{name}");
        }
        assert_eq!(rig.script.starts.load(Ordering::SeqCst), 1, "the source went on");
    });
}
