//! A view driven at random, with readers of every pace: what each of them adds up to at every `progress`.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir_engine::Unread;
use weir_types::clock::tick_unix_ns;
use weir_types::live::LiveMessage;
use weir_types::schema::Relation;
use weir_types::{Column, DataType, SemanticType, Value};

use super::super::budget::{Client, ReaderLimits, Readers};
use super::super::outbox::{Outbox, Popped};
use super::*;

const OUTPUTS: [&str; 2] = ["a", "b"];

fn info(table: &str) -> OutputInfo {
    OutputInfo {
        table: table.to_string(),
        relation: Relation::new(vec![Column::new("n", DataType::Int64, SemanticType::None)]),
        key: vec![],
        window_from: String::new(),
        pane_ms: 0,
        window: None,
        widgets: vec![],
    }
}

fn infos() -> Vec<OutputInfo> {
    OUTPUTS.iter().map(|table| info(table)).collect()
}

fn row(n: i64) -> PackedRow {
    PackedRow::pack(&[Value::Int64(n)])
}

/// Table and number → count.
type Rows = BTreeMap<(String, i64), i64>;

/// A client that adds up what it is sent.
struct Follower {
    number: u64,
    outbox: Arc<Outbox>,
    rows: Rows,
    /// The frontier of the last progress message, and the state there.
    seen: Option<String>,
    ended: Option<String>,
    /// What it came back for was not kept any more.
    expired: bool,
}

impl Follower {
    /// Takes one message; true if it ended in `progress`.
    fn take(&mut self) -> bool {
        let Popped::Message(message) = self.outbox.pop() else { return false };
        let mut progress = false;
        for text in &*message.live() {
            progress = self.take_text(&weir_sinks::json::with_id(text.kind, "q", &text.body));
        }
        progress
    }

    fn take_text(&mut self, text: &str) -> bool {
        match serde_json::from_str(text).unwrap() {
            LiveMessage::Changes { table, rows, snapshot, .. } => {
                assert_eq!(snapshot, self.seen.is_none(), "{text}");
                for (diff, row) in rows {
                    assert_ne!(diff, 0);
                    let key = (table.clone(), row["n"].as_i64().unwrap());
                    let count = self.rows.entry(key.clone()).or_default();
                    *count += diff;
                    if *count == 0 {
                        self.rows.remove(&key);
                    }
                }
                false
            }
            LiveMessage::Progress { completeness, .. } => {
                self.seen = Some(completeness.frontier);
                true
            }
            LiveMessage::Error { code, .. } => {
                if code == "resume_expired" {
                    self.expired = true;
                    self.rows.clear();
                    self.seen = None;
                }
                false
            }
            LiveMessage::End { reason, .. } => {
                self.ended = Some(reason);
                false
            }
            LiveMessage::Schema { .. } | LiveMessage::Status { .. } => false,
        }
    }
}

/// A clock that follows the frontier, and an answer that is always complete.
struct Calm(i64);

impl Surroundings for Calm {
    fn now_unix_ns(&self) -> i64 {
        self.0
    }
    fn completeness(&self, _run: QueryId, _frontier_ms: u64) -> Completeness {
        Completeness { complete: true, ..Completeness::default() }
    }
    fn take_samples(&self, _run: QueryId, _frontier_ms: u64) -> Vec<i64> {
        Vec::new()
    }
}

/// A view with readers of every pace, driven at random; what it must hold is known at every frontier.
struct World {
    rng: SmallRng,
    maintained: Maintained,
    inbox: ViewInbox,
    readers: Arc<Readers>,
    followers: Vec<Follower>,
    run: QueryId,
    now: Rows,
    tick_ms: u64,
    /// Frontier as text → what the view held there.
    history: BTreeMap<String, Rows>,
    ticks: BTreeMap<String, u64>,
    next_reader: u64,
    came_back: usize,
    expired: usize,
}

fn frontier_text(tick_ms: u64) -> String {
    weir_types::json::time_text(tick_unix_ns(tick_ms))
}

impl World {
    fn new(seed: u64, limits: ReaderLimits) -> World {
        World {
            rng: SmallRng::seed_from_u64(seed),
            maintained: Maintained::new(1, infos(), SnapshotLimits::default()),
            inbox: ViewInbox::default(),
            readers: Readers::new(limits),
            followers: Vec::new(),
            run: 1,
            now: Rows::new(),
            tick_ms: 1_000,
            history: BTreeMap::new(),
            ticks: BTreeMap::new(),
            next_reader: 1,
            came_back: 0,
            expired: 0,
        }
    }

    fn send(&mut self, changes: &Rows) {
        for table in OUTPUTS {
            let rows: Vec<(PackedRow, i64)> = changes
                .iter()
                .filter(|((of, _), _)| of == table)
                .map(|((_, n), diff)| (row(*n), *diff))
                .collect();
            if !rows.is_empty() {
                let (run, tick_ms) = (self.run, self.tick_ms);
                self.inbox.push(Item::Rows {
                    run,
                    tick_ms,
                    table: table.into(),
                    rows,
                    _unread: Unread::default(),
                });
            }
        }
    }

    /// The engine's next refresh.
    fn refresh(&mut self) {
        self.tick_ms += 100;
        let mut changes = Rows::new();
        for _ in 0..self.rng.random_range(0..40) {
            let table = OUTPUTS[self.rng.random_range(0..2)].to_string();
            let key = (table, self.rng.random_range(0..60));
            let have = self.now.get(&key).copied().unwrap_or(0);
            let have = have + changes.get(&key).copied().unwrap_or(0);
            let diff = if have > 0 && self.rng.random_bool(0.6) { -have } else { 1 };
            *changes.entry(key).or_default() += diff;
        }
        changes.retain(|_, diff| *diff != 0);
        self.send(&changes);
        for (key, diff) in changes {
            *self.now.entry(key).or_default() += diff;
        }
        self.now.retain(|_, count| *count != 0);
        self.frontier();
    }

    fn frontier(&mut self) {
        self.history.insert(frontier_text(self.tick_ms), self.now.clone());
        self.ticks.insert(frontier_text(self.tick_ms), self.tick_ms);
        let (run, tick_ms) = (self.run, self.tick_ms);
        self.inbox.push(Item::Advance { run, tick_ms });
    }

    /// The query starts anew, without some rows and with others.
    fn restart(&mut self) {
        // A late word of the former run.
        self.send(&Rows::from([(("a".to_string(), 7), 1)]));
        self.run += 1;
        self.inbox.push(Item::Rebase { run: self.run });
        let keep: Vec<bool> = self.now.iter().map(|_| self.rng.random_bool(0.8)).collect();
        let mut keep = keep.into_iter();
        self.now.retain(|_, _| keep.next().unwrap_or(true));
        self.tick_ms += 100;
        let all = self.now.clone();
        self.send(&all);
        self.frontier();
    }

    fn join(&mut self) {
        self.join_since(Rows::new(), None);
    }

    /// Somebody goes, and comes back with what it had.
    fn come_back(&mut self, at: usize) {
        let gone = self.followers.swap_remove(at);
        gone.outbox.leave();
        self.inbox.push(Item::Leave(gone.number));
        let Some(frontier) = gone.seen else { return };
        let rows = self.history[&frontier].clone();
        self.join_since(rows, Some(frontier));
    }

    fn join_since(&mut self, rows: Rows, seen: Option<String>) {
        let client = Client::new(&self.readers.limits);
        let outbox = Outbox::new(&client, &self.readers);
        let number = self.next_reader;
        self.next_reader += 1;
        let reader = NewReader {
            number,
            outbox: Arc::clone(&outbox),
            outputs: infos(),
            notices: vec![],
            from_ms: 0,
            since_ms: seen.as_ref().map(|seen| self.ticks[seen]),
        };
        self.inbox.push(Item::Join(reader));
        let (ended, expired) = (None, false);
        self.followers.push(Follower { number, outbox, rows, seen, ended, expired });
    }

    /// A follower takes a few messages; at each progress it must hold what the view held.
    fn read(&mut self, at: usize, messages: usize) {
        let follower = &mut self.followers[at];
        for _ in 0..messages {
            let took = follower.take();
            self.expired += usize::from(std::mem::take(&mut follower.expired));
            if took {
                let frontier = follower.seen.clone().unwrap();
                assert_eq!(follower.rows, self.history[&frontier], "at {frontier}");
            }
        }
    }

    fn step(&mut self, steps: usize) {
        for _ in 0..steps {
            if !self.maintained.step(&self.inbox, &Calm(tick_unix_ns(self.tick_ms))) {
                return;
            }
        }
    }

    fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..30 => self.refresh(),
            30..33 => self.restart(),
            33..38 if self.followers.len() < 6 => self.join(),
            38..40 if !self.followers.is_empty() => {
                let at = self.rng.random_range(0..self.followers.len());
                let gone = self.followers.swap_remove(at);
                gone.outbox.leave();
                self.inbox.push(Item::Leave(gone.number));
            }
            40..44 if !self.followers.is_empty() => {
                let at = self.rng.random_range(0..self.followers.len());
                self.came_back += usize::from(self.followers[at].seen.is_some());
                self.come_back(at);
            }
            44..70 if !self.followers.is_empty() => {
                let at = self.rng.random_range(0..self.followers.len());
                // Some hardly ever read.
                let messages = if self.followers[at].number.is_multiple_of(3) { 1 } else { 9 };
                self.read(at, messages);
            }
            _ => {
                let steps = self.rng.random_range(1..60);
                self.step(steps);
            }
        }
    }

    /// Everybody reads on until nothing is left.
    fn settle(&mut self) {
        self.refresh();
        for _ in 0..1_000 {
            self.step(usize::MAX);
            (0..self.followers.len()).for_each(|at| self.read(at, 50));
        }
    }
}

/// Readers of every pace, joining at any time, going and coming back, over restarts of the query: at each
/// progress a reader holds exactly what the view held at that frontier, and in the end all hold the newest.
/// Would catch a change that a slow reader misses or gets twice, one that is lost or repeated to who
/// comes back, a snapshot torn by a refresh, a restart whose rows are
/// added to the former ones, and bytes that stay on an account.
#[test]
fn readers_of_every_pace_add_up() {
    let (mut came_back, mut expired) = (0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed, ReaderLimits::default());
        (0..600).for_each(|_| world.act());
        world.settle();
        let newest = frontier_text(world.tick_ms);
        for follower in &world.followers {
            assert_eq!(follower.ended, None, "seed {seed}");
            assert_eq!(follower.seen.as_ref(), Some(&newest), "seed {seed}");
            assert_eq!(follower.rows, world.now, "seed {seed}");
        }
        assert_eq!(world.readers.held_bytes(), 0, "seed {seed}");
        came_back += world.came_back;
        expired += world.expired;
    }
    assert!(came_back > expired && expired > 0, "{expired} of {came_back} came too late");
}

/// With an account too small for what they are behind, slow readers are ended with a reason, never shown
/// a wrong state, and leave nothing on the accounts; a reader that keeps up is not touched.
#[test]
fn who_holds_too_much_is_ended() {
    let limits = ReaderLimits { reader_bytes_max: 9_000, ..ReaderLimits::default() };
    let mut ended = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, limits);
        world.join();
        world.join();
        for _ in 0..200 {
            world.refresh();
            world.step(usize::MAX);
            world.read(0, 100);
            world.step(usize::MAX);
        }
        world.settle();
        assert_eq!(world.followers[0].ended, None, "seed {seed}");
        assert_eq!(world.followers[0].rows, world.now, "seed {seed}");
        if let Some(reason) = &world.followers[1].ended {
            assert_eq!(reason, "reader_too_slow");
            ended += 1;
        }
        assert_eq!(world.readers.held_bytes(), 0, "seed {seed}");
    }
    assert!(ended > 0, "the limit is never reached: the test shows nothing");
}

/// A view that grows beyond what a reader could get says so with its size, before it takes the memory.
#[test]
fn too_much_is_refused_early() {
    let limits = SnapshotLimits { rows_max: 100, bytes_max: 1 << 20 };
    let mut maintained = Maintained::new(1, infos(), limits);
    let inbox = ViewInbox::default();
    let rows = |from: i64, to: i64| (from..to).map(|n| (row(n), 1)).collect::<Vec<_>>();
    inbox.push(Item::Rows {
        run: 1,
        tick_ms: 1,
        table: "a".into(),
        rows: rows(0, 150),
        _unread: Unread::default(),
    });
    while maintained.step(&inbox, &Calm(0)) {}
    assert_eq!(maintained.too_large(), None);
    inbox.push(Item::Rows {
        run: 1,
        tick_ms: 1,
        table: "a".into(),
        rows: rows(150, 1_000),
        _unread: Unread::default(),
    });
    while maintained.too_large().is_none() {
        assert!(maintained.step(&inbox, &Calm(0)));
    }
    let error = maintained.too_large().unwrap();
    assert!((201..300).contains(&error.rows), "{error}");
}
