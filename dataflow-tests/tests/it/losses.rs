//! What is lost anywhere on a node is in every answer whose window it falls into, and in no other: with
//! real engines, bus, node and coordinator, and losses injected at each point.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use weir_cluster::coordinator::{Book, Coordinator};
use weir_cluster::planner::{ScriptRequest, prepare};
use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::start_engine;
use weir_dataflow_tests::harness::wait_until;
use weir_engine::{Engine, EngineConfig, EngineEvent, Limits};
use weir_node::core::{CoreConfig, NodeCore};
use weir_proto::bus::{ClusterPort, NodePort, in_process};
use weir_proto::{FromNode, NodeInfo};
use weir_types::clock::FUTURE_NS_MAX;
use weir_types::ledger::{METADATA, NodeLedger, Reach, Span};
use weir_types::plan::SlidingWindow;
use weir_types::split::SplitPlan;
use weir_types::{RecordBatch, Upid, tables};

const TICK_MS: u64 = 1_000;
const START_MS: u64 = 1_700_000_000_000;
const TABLES: [&str; 2] = ["let_events", "stirling_error"];
/// Seconds of the windows that are read; each is read of both tables.
const WINDOWS_S: [i64; 3] = [10, 60, 300];
/// What the engine takes at once: the few small batches of a step, not a flood of large ones.
const PENDING_BYTES_MAX: u64 = 4 << 20;
const FLOOD_BATCHES: usize = 60;

fn ns(ms: u64) -> i64 {
    i64::try_from(ms).unwrap() * 1_000_000
}

fn batch(table: &str, times: &[i64]) -> RecordBatch {
    let def = tables::find(table).unwrap();
    let mut builder = def.builder();
    for &time in times {
        builder.int64(0, time);
        for (idx, column) in def.columns.iter().enumerate().skip(1) {
            builder.value(idx, &column.data_type.zero());
        }
        builder.end_row();
    }
    builder.finish()
}

/// A loss that answers have to tell.
#[derive(Debug)]
struct Known {
    table: &'static str,
    reason: &'static str,
    reach: Reach,
    span: Span,
    count: u64,
}

struct Reader {
    query: u64,
    split: Arc<SplitPlan>,
    table: &'static str,
    window_s: i64,
    installed_ns: i64,
}

struct Rig {
    node_engine: Arc<Engine>,
    cluster_engine: Arc<Engine>,
    node_events: Receiver<EngineEvent>,
    cluster_events: Receiver<EngineEvent>,
    core: NodeCore,
    ledger: NodeLedger,
    node_port: NodePort,
    cluster_port: ClusterPort,
    coordinator: Coordinator,
    book: Arc<Book>,
    mono_ms: u64,
    readers: Vec<Reader>,
    known: Vec<Known>,
    now_ms: u64,
    incarnation: u64,
    next_query: u64,
}

fn engine(name: &str) -> (Arc<Engine>, Receiver<EngineEvent>) {
    let limits = Limits { pending_bytes_max: PENDING_BYTES_MAX, ..Limits::default() };
    let config = EngineConfig { limits, ..EngineConfig::new(name) };
    let (engine, events) = start_engine(config).unwrap();
    (Arc::new(engine), events)
}

fn core(
    engine: &Arc<Engine>,
    port: &NodePort,
    ledger: &NodeLedger,
    incarnation: u64,
    now_ms: u64,
) -> NodeCore {
    let config = CoreConfig {
        history_bytes: Some(64 << 20),
        tables: TABLES.map(str::to_string).to_vec(),
        started_unix_ns: ns(now_ms),
        ledger: Some((ledger.clone(), Upid::new(1, 1, 1))),
        ..CoreConfig::new(NodeInfo::named("a", incarnation, 1))
    };
    NodeCore::new(config, engine.clone(), port.sender.clone())
}

impl Rig {
    fn start() -> Rig {
        let (node_engine, node_events) = engine("node");
        let (cluster_engine, cluster_events) = engine("cluster");
        let (node_port, cluster_port) = in_process();
        let (ledger, book) = (NodeLedger::default(), Arc::new(Book::default()));
        let mut core = core(&node_engine, &node_port, &ledger, 1, START_MS);
        core.register(Vec::new());
        let coordinator = Coordinator::new(cluster_engine.clone()).with_book(book.clone());
        let mut rig = Rig {
            node_engine,
            cluster_engine,
            node_events,
            cluster_events,
            core,
            ledger,
            node_port,
            cluster_port,
            coordinator,
            book,
            mono_ms: 0,
            readers: Vec::new(),
            known: Vec::new(),
            now_ms: START_MS,
            incarnation: 1,
            next_query: 0,
        };
        rig.pump();
        rig
    }

    fn install(&mut self) {
        for table in TABLES {
            for window_s in WINDOWS_S {
                // Plans that differ, so that each has a feed of its own, installed now.
                self.next_query += 1;
                let text = format!(
                    "import px\ndf = px.DataFrame('{table}', start_time='-{window_s}s')\n\
                     df.k = {}\npx.display(df.groupby('k').agg(n=('time_', px.count)))",
                    self.next_query
                );
                let request = ScriptRequest { text: Some(text), ..ScriptRequest::default() };
                let prepared = prepare(&request, TICK_MS, None, &|_| true).unwrap();
                let query = self.coordinator.new_query_id();
                let split = prepared.split;
                self.coordinator.install(query, split.clone(), TICK_MS, self.now_ms).unwrap();
                let installed_ns = ns(self.now_ms);
                self.readers.push(Reader { query, split, table, window_s, installed_ns });
            }
        }
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            let mut moved = false;
            while let Some(message) = self.cluster_port.try_recv() {
                let (message, link) = (message.unwrap(), self.cluster_port.link.clone());
                moved = true;
                // Twice, as a bus may bring it.
                if matches!(message.message, FromNode::Losses { .. }) {
                    let again = message.clone();
                    self.coordinator.on_message("a", &link, again, self.now_ms);
                }
                self.coordinator.on_message("a", &link, message, self.now_ms);
            }
            while let Some(message) = self.node_port.try_recv() {
                self.core.handle(message.unwrap(), self.now_ms);
                moved = true;
            }
            while self.core.replay_slice() {}
            if !moved {
                return;
            }
        }
    }

    /// Closes a tick that is `passed_ms` later, and waits until every query is there.
    fn close_tick(&mut self, passed_ms: u64) {
        let (before_ms, refused) = (self.now_ms, TABLES.map(|table| self.refused(table)));
        self.now_ms += passed_ms;
        self.core.close_tick(self.now_ms);
        // What the engine refused it says itself: a back-fill in progress takes room, too.
        for (table, before) in TABLES.into_iter().zip(refused) {
            let count = self.refused(table) - before;
            self.know(table, "queue_full", Reach::Running, before_ms, count);
        }
        let mut open: BTreeMap<u64, ()> =
            self.readers.iter().map(|reader| (reader.query, ())).collect();
        while !open.is_empty() {
            self.pump();
            while let Ok(event) = self.node_events.recv_timeout(Duration::from_millis(1)) {
                self.core.on_event(event);
            }
            self.pump();
            while let Ok(event) = self.cluster_events.try_recv() {
                match event {
                    EngineEvent::Frontier { query, tick_ms } if tick_ms >= self.now_ms => {
                        open.remove(&query);
                    }
                    EngineEvent::Failed { message, .. } => panic!("{message}"),
                    _ => {}
                }
            }
        }
    }

    fn know(
        &mut self,
        table: &'static str,
        reason: &'static str,
        reach: Reach,
        before_ms: u64,
        count: u64,
    ) {
        if count == 0 {
            return;
        }
        let span = Span::new(ns(before_ms), ns(self.now_ms));
        self.known.push(Known { table, reason, reach, span, count });
    }

    /// One step: something is lost somewhere, or somebody dies.
    fn step(&mut self, what: u8, table: &'static str, count: u64, passed_ms: u64) {
        // No time passes in restarts and installs: rows wait for the next tick.
        let passed_ms = if (4..=6).contains(&what) { 0 } else { passed_ms };
        let (before_ms, now) = (self.now_ms, ns(self.now_ms + passed_ms));
        let rows = usize::try_from(count).unwrap();
        self.core.admit(table, batch(table, &[now - 5, now - 6]));
        match what {
            0 => {
                self.core.admit(table, batch(table, &vec![now + FUTURE_NS_MAX + 1; rows]));
                self.close_tick(passed_ms);
                self.know(table, "future", Reach::Everybody, before_ms, count);
            }
            1 => {
                let without = batch(table, &vec![now; rows]).project(&[1, 2]).unwrap();
                self.core.admit(table, without);
                self.close_tick(passed_ms);
                self.know(table, "no_time", Reach::Everybody, before_ms, count);
            }
            2 => {
                let span = Span::new(ns(before_ms), now);
                self.ledger.note(table, "ring_full", Reach::Everybody, span, count);
                self.close_tick(passed_ms);
                self.know(table, "ring_full", Reach::Everybody, before_ms, count);
            }
            3 => {
                let large = batch(table, &vec![now - 7; 8_192]);
                (0..FLOOD_BATCHES).for_each(|_| self.core.admit(table, large.clone()));
                let before = self.refused(table);
                self.close_tick(passed_ms);
                assert!(self.refused(table) > before, "a flood fits");
            }
            4 => self.restart_node(),
            5 => self.restart_coordinator(),
            6 => self.install(),
            _ => self.close_tick(passed_ms),
        }
    }

    /// Rows that the engine did not take.
    fn refused(&self, table: &str) -> u64 {
        let stats = self.node_engine.table_stats();
        stats.iter().find(|stats| stats.table == table).map_or(0, |stats| stats.queue_full_rows)
    }

    fn restart_node(&mut self) {
        self.incarnation += 1;
        self.ledger = NodeLedger::default();
        (self.node_engine, self.node_events) = engine("node");
        self.core =
            core(&self.node_engine, &self.node_port, &self.ledger, self.incarnation, self.now_ms);
        self.core.register(Vec::new());
        self.pump();
        self.resync();
    }

    /// As the server: who reads a feed that a node begins anew is installed again.
    fn resync(&mut self) {
        self.mono_ms += 20_000;
        self.coordinator.on_clock(self.now_ms, self.mono_ms);
        for former in self.coordinator.take_resyncs() {
            let query = self.coordinator.new_query_id();
            self.coordinator.remove(former);
            let reader = self.readers.iter_mut().find(|reader| reader.query == former).unwrap();
            (reader.query, reader.installed_ns) = (query, ns(self.now_ms));
            self.coordinator.install(query, reader.split.clone(), TICK_MS, self.now_ms).unwrap();
        }
        self.pump();
    }

    fn restart_coordinator(&mut self) {
        for reader in std::mem::take(&mut self.readers) {
            self.coordinator.remove(reader.query);
        }
        self.pump();
        let next = self.coordinator.new_query_id();
        self.coordinator =
            Coordinator::new(self.cluster_engine.clone()).with_book(self.book.clone());
        self.coordinator.skip_query_id(next);
        self.core.register(Vec::new());
        self.pump();
        self.install();
    }

    /// Every answer at the present tick says what its window lost, and that it is not complete then.
    fn check(&self) -> Result<(), String> {
        for Reader { query, table, window_s, installed_ns, .. } in &self.readers {
            let now = ns(self.now_ms);
            let window = SlidingWindow::of(window_s * 1_000_000_000);
            let mut want: BTreeMap<String, u64> = BTreeMap::new();
            for loss in self.known.iter().filter(|loss| loss.table == *table) {
                let from = match loss.reach {
                    Reach::Everybody => window.start_at(now),
                    Reach::Running => window.start_at(now).max(*installed_ns),
                    Reach::Later => unreachable!("no step loses names"),
                };
                if loss.span.to_unix_ns > from {
                    *want.entry(loss.reason.to_string()).or_default() += loss.count;
                }
            }
            let answer = self.coordinator.completeness(*query, self.now_ms);
            let have = answer.lost.get(*table).cloned().unwrap_or_default();
            if have != want || answer.lost.len() != usize::from(!want.is_empty()) {
                return Err(format!("{table} -{window_s}s: {have:?}, not {want:?}"));
            }
            if answer.complete && !want.is_empty() {
                return Err(format!("{table} -{window_s}s: complete, but {want:?} was lost"));
            }
        }
        Ok(())
    }
}

/// Losses of every kind at random ticks, among restarts of the node and of the coordinator and new
/// queries: each answer at each tick tells exactly those of its window. Catches a loss that nobody is
/// told of, one that dies with who knew it, one that is told twice, and answers that are blamed for
/// what they did not lose.
#[test]
fn every_loss_is_in_the_answers_that_it_concerns() {
    let step = (0_u8..9, 0_usize..2, 1_u64..9, 1_u64..40);
    check(25, proptest::collection::vec(step, 1..25), |steps| {
        let mut rig = Rig::start();
        rig.install();
        rig.close_tick(TICK_MS);
        for (what, table, count, ticks) in steps {
            rig.step(what, TABLES[table], count, ticks * TICK_MS);
            rig.check().map_err(|why| format!("after {what}: {why}"))?;
        }
        // When it has left all windows, nobody tells of it any more.
        for _ in 0..2 {
            rig.close_tick(310 * TICK_MS);
        }
        rig.check()?;
        let complete = rig
            .readers
            .iter()
            .all(|reader| rig.coordinator.completeness(reader.query, rig.now_ms).complete);
        if complete { Ok(()) } else { Err("never complete again".to_string()) }
    });
}

/// Names that found no room make an answer incomplete that asks for names, and no other; names that
/// were forgotten only one that has rows from before it was asked for. Catches drops of the
/// metadata's queue that only a debug state tells of, and counts of rows that are blamed for names.
#[test]
fn lost_names_concern_those_who_ask_for_names() {
    let mut rig = Rig::start();
    let install = |rig: &mut Rig, column: &str| {
        rig.next_query += 1;
        let text = format!(
            // A number of its own, so that it shares no feed with the others.
            "import px\ndf = px.DataFrame('{}', start_time='-30s')\ndf.k = {column}\ndf.own = {}\n\
             px.display(df.groupby(['k', 'own']).agg(n=('time_', px.count)))",
            TABLES[1], rig.next_query
        );
        let request = ScriptRequest { text: Some(text), ..ScriptRequest::default() };
        let prepared = prepare(&request, TICK_MS, None, &|_| true).unwrap();
        let query = rig.coordinator.new_query_id();
        rig.coordinator.install(query, prepared.split, TICK_MS, rig.now_ms).unwrap();
        rig.pump();
        query
    };
    let counts = install(&mut rig, "df.upid");
    let named = install(&mut rig, "px.upid_to_cmdline(df.upid)");
    // Their windows are covered from here on.
    rig.close_tick(31_000);
    let lost = |rig: &mut Rig, query| {
        // All that belongs to the tick is there when its progress is.
        let answer = wait_until(Duration::from_secs(10), || {
            while let Ok(event) = rig.node_events.try_recv() {
                rig.core.on_event(event);
            }
            rig.pump();
            let answer = rig.coordinator.completeness(query, rig.now_ms);
            (answer.complete == answer.lost.is_empty()).then_some(answer)
        });
        let answer = answer.expect("an answer without a loss is complete");
        answer.lost.get(METADATA).cloned().unwrap_or_default().into_iter().collect::<Vec<_>>()
    };
    let span = Span::new(ns(rig.now_ms), ns(rig.now_ms + TICK_MS));
    rig.ledger.note(METADATA, "observations_full", Reach::Everybody, span, 3);
    rig.close_tick(TICK_MS);
    assert_eq!(lost(&mut rig, counts), []);
    assert_eq!(lost(&mut rig, named), [("observations_full".to_string(), 3)]);

    // Both lose sight of it in time; then what is forgotten is of rows that both had.
    rig.close_tick(31_000);
    assert_eq!(lost(&mut rig, named), []);
    let span = Span::new(ns(rig.now_ms - 2_000), ns(rig.now_ms - 1_000));
    rig.ledger.note(METADATA, "names_forgotten", Reach::Later, span, 5);
    rig.close_tick(TICK_MS);
    assert_eq!(lost(&mut rig, named), []);
    let later = install(&mut rig, "px.upid_to_cmdline(df.upid)");
    rig.close_tick(TICK_MS);
    assert_eq!(lost(&mut rig, later), [("names_forgotten".to_string(), 5)]);
    assert_eq!(lost(&mut rig, counts), []);
}
