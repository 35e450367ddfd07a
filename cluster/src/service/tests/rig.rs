//! A whole cluster part with a node that the test plays, a clock that the test sets, and readers.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use weir_actors::{KillSwitch, PartStatus};
use weir_engine::Limits;
use weir_proto::bus::{NodePort, in_process};
use weir_proto::message::{Entities, SourceStatus, TableStatus};
use weir_proto::{Epoch, FromNode, Life, NodeInfo, Place, QueryId, ToNode};
use weir_types::clock::{ManualClock, tick_unix_ns};
use weir_types::plan::SlidingWindow;
use weir_types::split::Change;
use weir_types::{Clock, PackedRow, Value};

use crate::coordinator::Identity;
use crate::planner::ScriptRequest;
use crate::service::*;
use crate::view::SnapshotLimits;

pub(super) const TICK_MS: u64 = 100;
pub(super) const START_MS: u64 = 1_767_225_600_000;
/// Shows every row that the node has.
pub(super) const SCRIPT: &str = "import px\ndf = px.DataFrame('http_events', start_time='-1h')\n\
                                 df = df[['time_', 'latency']]\npx.display(df, 'rows')\n";
/// Longest time for a case; most take milliseconds. Whoever is late hangs.
const CASE_TIME_MAX: Duration = Duration::from_secs(120);
/// Ticks after which what is waited for must have happened.
const STEPS_MAX: usize = 20_000;

/// Runs a case on a thread of its own, so that one that stops its thread for good fails and does not hang.
pub(super) fn case<F: Future<Output = ()>>(case: impl FnOnce() -> F + Send + 'static) {
    let (done, is_done) = channel();
    let thread = std::thread::spawn(move || {
        actix::System::new().block_on(case());
        let _ = done.send(());
    });
    let ended = is_done.recv_timeout(CASE_TIME_MAX);
    if ended == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("the case hangs: some thread waits for a lock or for ever");
    }
    if let Err(payload) = thread.join() {
        std::panic::resume_unwind(payload);
    }
}

/// What the coordinator hears a node say, and nothing behind it.
pub(super) struct FakeNode {
    port: NodePort,
    state: &'static str,
    /// Latency → copies.
    history: BTreeMap<i64, i64>,
    /// Feed → epoch and next sequence.
    feeds: BTreeMap<QueryId, (Epoch, u64)>,
    epoch_max: Epoch,
    pub(super) installs: usize,
    entities_told: u64,
}

/// It began when the clock does.
const LIFE: Life = Life { incarnation: START_MS * 1_000_000, generation: 0 };

impl FakeNode {
    fn new(port: NodePort) -> FakeNode {
        FakeNode {
            port,
            state: "running",
            history: BTreeMap::new(),
            feeds: BTreeMap::new(),
            epoch_max: 0,
            installs: 0,
            entities_told: 0,
        }
    }

    fn say(&self, message: FromNode) {
        self.port.sender.send(LIFE, message).unwrap();
    }

    fn sources(&self) -> Vec<SourceStatus> {
        vec![SourceStatus {
            name: "fake".to_string(),
            state: self.state.to_string(),
            reason: String::new(),
            tables: if self.state == "running" { vec!["http_events".into()] } else { Vec::new() },
            blind: Vec::new(),
            filters: Vec::new(),
            counts: BTreeMap::new(),
        }]
    }

    fn register(&self) {
        let info = NodeInfo {
            name: "fake".to_string(),
            incarnation: LIFE.incarnation,
            asid: 1,
            hostname: "fake".to_string(),
            version: String::new(),
        };
        self.say(FromNode::Register { info, sources: self.sources(), epoch_max: self.epoch_max });
    }

    /// Each of its rows takes so many bytes of its history.
    fn tables(&self) -> Vec<TableStatus> {
        let rows_total = self.history.values().map(|copies| copies.unsigned_abs()).sum();
        vec![TableStatus {
            table: "http_events".to_string(),
            rows_total,
            history_bytes: rows_total * 100,
            ..TableStatus::default()
        }]
    }

    fn status(&self, tick_ms: u64) {
        self.say(FromNode::Status {
            tick_ms,
            tables: self.tables(),
            sources: self.sources(),
            refused_total: Vec::new(),
            running: self.feeds.iter().map(|(&feed, &(epoch, _))| (feed, epoch)).collect(),
            functions: Vec::new(),
            epoch_max: self.epoch_max,
            losses_told: 0,
            entities_told: self.entities_told,
            ordered: Vec::new(),
            figures: Vec::new(),
            figures_left_out: 0,
        });
    }

    fn send_rows(&mut self, feed: QueryId, tick_ms: u64, rows: &[(i64, i64)]) {
        let Some((epoch, sequence)) = self.feeds.get_mut(&feed) else { return };
        let place = Place { epoch: *epoch, sequence: *sequence };
        *sequence += 1;
        let time = tick_unix_ns(START_MS);
        let pane = SlidingWindow::of(3_600_000_000_000).pane_of(time);
        let change = |&(latency, diff): &(i64, i64)| {
            let row = PackedRow::pack(&[Value::Time64Ns(time), Value::Int64(latency)]);
            Change::Row { row, pane, diff }
        };
        let changes = rows.iter().map(change).collect();
        self.say(FromNode::Update { query: feed, place, exchange: 0, tick_ms, changes });
    }

    /// Does what it was told, and gives every new feed what it remembers.
    fn obey(&mut self, tick_ms: u64) {
        while let Some(order) = self.port.try_recv() {
            match order.unwrap() {
                ToNode::Install { query, epoch, plan, .. } => {
                    let columns: Vec<_> =
                        plan.scans().flat_map(|scan| scan.columns.clone()).collect();
                    assert_eq!(columns, ["time_", "latency"], "the script reads what is sent here");
                    self.feeds.insert(query, (epoch, 0));
                    self.epoch_max = self.epoch_max.max(epoch);
                    self.installs += 1;
                    let history: Vec<_> = self.history.iter().map(|(&l, &n)| (l, n)).collect();
                    self.send_rows(query, tick_ms, &history);
                }
                ToNode::Remove { query, .. } => {
                    self.feeds.remove(&query);
                }
                ToNode::Introduce => self.register(),
                ToNode::TellLosses => {
                    let losses = Vec::new();
                    self.say(FromNode::Losses { sequence: 0, whole: true, losses });
                }
                ToNode::TellEntities => {
                    let part = Entities::Whole { first: true, last: true };
                    let (sequence, changes) = (self.entities_told, Vec::new());
                    self.entities_told += 1;
                    self.say(FromNode::Entities { sequence, part, machine: None, changes });
                }
                ToNode::Answer { .. } | ToNode::Order { .. } => {}
            }
        }
    }

    fn close_tick(&mut self, tick_ms: u64) {
        self.obey(tick_ms);
        for (&query, (epoch, sequence)) in &mut self.feeds {
            let place = Place { epoch: *epoch, sequence: *sequence };
            *sequence += 1;
            let progress = FromNode::Progress {
                query,
                place,
                tick_ms,
                complete_to_unix_ns: tick_unix_ns(tick_ms),
                covers_from_unix_ns: 0,
                event_samples_unix_ns: Vec::new(),
                losses_told: 0,
                entities_told: self.entities_told,
            };
            self.port.sender.send(LIFE, progress).unwrap();
        }
        self.status(tick_ms);
    }
}

/// A reader that adds up what it is sent.
pub(super) struct Follower {
    reader: OutboxReader,
    pub(super) subscribed: Subscribed,
    pub(super) rows: BTreeMap<PackedRow, i64>,
    /// The frontier of the last progress, and whether the answer was complete.
    pub(super) seen: Option<(u64, bool)>,
    pub(super) deliveries: usize,
    pub(super) errors: Vec<String>,
    pub(super) ended: Option<String>,
}

impl Follower {
    fn new(reader: OutboxReader, subscribed: Subscribed) -> Follower {
        Follower {
            reader,
            subscribed,
            rows: BTreeMap::new(),
            seen: None,
            deliveries: 0,
            errors: Vec::new(),
            ended: None,
        }
    }

    /// Takes what waits.
    pub(super) fn drain(&mut self) {
        while let Popped::Message(message) = self.reader.outbox.pop() {
            match message {
                Outgoing::Schema(_) | Outgoing::Status { .. } => {}
                Outgoing::Delivery(delivery) => self.add(&delivery),
                Outgoing::Error(note) => self.errors.push(note.code.clone()),
                Outgoing::End(reason) => self.ended = Some(reason.into_owned()),
            }
        }
    }

    fn add(&mut self, delivery: &weir_sinks::delivery::Delivery) {
        self.deliveries += 1;
        for (row, diff) in delivery.changes.iter().flat_map(|changes| &changes.rows) {
            let count = self.rows.entry(row.clone()).or_default();
            *count += diff;
            if *count == 0 {
                self.rows.remove(row);
            }
        }
        if let Some(completeness) = &delivery.completeness {
            assert!(self.rows.values().all(|count| *count > 0), "a row that is not there goes");
            let before = self.seen.map_or(0, |(tick_ms, _)| tick_ms);
            assert!(delivery.tick_ms >= before, "a frontier goes back");
            self.seen = Some((delivery.tick_ms, completeness.complete));
        }
    }

    /// Latencies with their copies, as of the last progress.
    pub(super) fn latencies(&self) -> BTreeMap<i64, i64> {
        let types = [weir_types::DataType::Time64Ns, weir_types::DataType::Int64];
        let latency = |(row, count): (&PackedRow, &i64)| match row.unpack(&types).unwrap()[1] {
            Value::Int64(latency) => (latency, *count),
            _ => panic!("a latency is a number"),
        };
        self.rows.iter().map(latency).collect()
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.reader.outbox.held_bytes()
    }
}

pub(super) struct Rig {
    pub(super) service: Service,
    pub(super) root: KillSwitch,
    pub(super) node: FakeNode,
    clock: Arc<ManualClock>,
    pub(super) now_ms: u64,
}

impl Rig {
    pub(super) fn start() -> Rig {
        Rig::start_with(ReaderLimits::default(), "running")
    }

    /// `state`: of the node's only source when it registers.
    pub(super) fn start_with(readers: ReaderLimits, state: &'static str) -> Rig {
        Rig::start_costing(readers, state, None)
    }

    /// `query_cost_max`: what queries may be expected to hold.
    pub(super) fn start_costing(
        readers: ReaderLimits,
        state: &'static str,
        query_cost_max: Option<u64>,
    ) -> Rig {
        let clock = Arc::new(ManualClock::new(tick_unix_ns(START_MS)));
        let (node_port, cluster_port) = in_process();
        let config = ServiceConfig {
            tick_ms: TICK_MS,
            workers: 1,
            retention_ns: 7_200_000_000_000,
            snapshots: SnapshotLimits { rows_max: 1_000_000, bytes_max: 64 << 20 },
            readers,
            queries: Limits::default(),
            query_cost_max,
            compiles: CompileLimits::default(),
            test_faults: true,
            identity: Identity::default(),
            node_forget: Duration::from_secs(600),
            awaited_nodes: Vec::new(),
            serves_alone: false,
            network: None,
            mesh: None,
        };
        let root = KillSwitch::root("weir");
        let handed_in: Arc<dyn Clock> = clock.clone();
        let service = Service::start(&config, one_node(cluster_port), handed_in, &root).unwrap();
        let mut node = FakeNode::new(node_port);
        node.state = state;
        node.register();
        Rig { service, root, node, clock, now_ms: START_MS }
    }

    /// One tick of the clock and the node; whoever has something to do meanwhile does it.
    pub(super) async fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.clock.set(tick_unix_ns(self.now_ms));
        self.node.close_tick(self.now_ms);
        actix::clock::sleep(Duration::from_micros(300)).await;
    }

    /// Changes the node's rows: latency and how many more of it.
    pub(super) fn change(&mut self, rows: &[(i64, i64)]) {
        for &(latency, diff) in rows {
            *self.node.history.entry(latency).or_default() += diff;
        }
        self.node.history.retain(|_, count| *count != 0);
        let feeds: Vec<QueryId> = self.node.feeds.keys().copied().collect();
        let tick_ms = self.now_ms + TICK_MS;
        feeds.into_iter().for_each(|feed| self.node.send_rows(feed, tick_ms, rows));
    }

    pub(super) fn source_is(&mut self, state: &'static str) {
        self.node.state = state;
    }

    pub(super) fn request() -> ScriptRequest {
        let text = Some(SCRIPT.to_string());
        ScriptRequest { text, refresh_ms: Some(TICK_MS), ..ScriptRequest::default() }
    }

    /// Lets time pass until the future has its answer.
    pub(super) async fn during<T: 'static>(
        &mut self,
        what: &str,
        wanted: impl Future<Output = T> + 'static,
    ) -> T {
        let task = actix::spawn(wanted);
        for _ in 0..STEPS_MAX {
            if task.is_finished() {
                return task.await.unwrap();
            }
            self.tick().await;
        }
        panic!("{what}: time passed, and nothing came");
    }

    pub(super) async fn follow(&mut self) -> Follower {
        self.follow_as(Some(TICK_MS), Wanted::Live).await
    }

    pub(super) async fn follow_as(&mut self, refresh_ms: Option<u64>, wanted: Wanted) -> Follower {
        let (reader, subscribed) = self.ask(refresh_ms, wanted);
        let subscribed = self.during("a subscription", subscribed).await;
        Follower::new(reader, subscribed)
    }

    /// While the clock stands still: sources are known.
    pub(super) async fn follow_now(&self, refresh_ms: Option<u64>, wanted: Wanted) -> Follower {
        let (reader, subscribed) = self.ask(refresh_ms, wanted);
        Follower::new(reader, subscribed.await)
    }

    fn ask(
        &self,
        refresh_ms: Option<u64>,
        wanted: Wanted,
    ) -> (OutboxReader, impl Future<Output = Subscribed> + use<>) {
        let service = self.service.clone();
        let request = ScriptRequest { refresh_ms, ..Rig::request() };
        let reader = OutboxReader::new(&service.readers);
        let outbox = Arc::clone(&reader.outbox);
        let subscribed = async move {
            let installable = prepare(&service, &request, wanted).await.unwrap();
            let subscribe = Subscribe {
                installable,
                outbox,
                wanted,
                since: None,
                accepts_cost: request.accept_cost,
            };
            service.coordinator.send(subscribe).await.unwrap().unwrap()
        };
        (reader, subscribed)
    }

    /// Lets time pass until the followers are as wanted; they read all the time.
    pub(super) async fn until(
        &mut self,
        what: &str,
        followers: &mut [&mut Follower],
        wanted: impl Fn(&[&mut Follower]) -> bool,
    ) {
        for _ in 0..STEPS_MAX {
            followers.iter_mut().for_each(|follower| follower.drain());
            if wanted(followers) {
                return;
            }
            self.tick().await;
        }
        panic!("{what}: time passed, and it did not come");
    }

    /// Until the follower has exactly what the node has, complete, at a tick from now on.
    pub(super) async fn agrees(&mut self, what: &str, follower: &mut Follower) {
        let (from_ms, expected) = (self.now_ms + TICK_MS, self.node.history.clone());
        let agrees = |followers: &[&mut Follower]| {
            let follower = &followers[0];
            assert_eq!(follower.ended, None, "{what}: {:?}", follower.errors);
            follower.seen.is_some_and(|(tick_ms, complete)| tick_ms >= from_ms && complete)
                && follower.latencies() == expected
        };
        self.until(what, &mut [follower], agrees).await;
    }

    /// Lets nobody wait for the clock, but for each other.
    pub(super) async fn standing_still(&mut self, follower: &mut Follower) {
        for _ in 0..STEPS_MAX {
            follower.drain();
            if follower.seen.is_some() {
                return;
            }
            actix::clock::sleep(Duration::from_micros(300)).await;
        }
        panic!("there was no answer without a tick");
    }

    pub(super) async fn leave(&mut self, follower: Follower) {
        let Subscribed { view, number } = follower.subscribed;
        self.service.coordinator.send(Unsubscribe { view, number }).await.unwrap();
    }

    pub(super) fn part(&self, path: &str) -> PartStatus {
        let parts = self.root.tree().parts;
        let found = parts.iter().find(|part| part.path == path).cloned();
        found.unwrap_or_else(|| panic!("{path} in {parts:?}"))
    }

    /// How many programs were compiled on the coordinator's thread.
    pub(super) async fn preparations(&self) -> u64 {
        self.service.coordinator.observe(|_| weir_engine::preparations_here()).await.unwrap()
    }
}
