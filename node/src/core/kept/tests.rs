//! What the core does when its store drops something, is not wanted any more, or dies.

use weir_engine::{Engine, EngineConfig};
use weir_proto::bus::in_process;
use weir_proto::{NodeInfo, ToNode};
use weir_types::PackedRow;
use weir_types::acc::Acc;
use weir_types::plan::{EndBound, Scan, StartBound, Window};
use weir_types::shared::Shared;
use weir_types::split::{Shape, Source, TableScan};
use weir_types::value::DataType;

use super::*;
use crate::core::CoreConfig;
use crate::store::STORE_BYTES_DEFAULT;
use crate::store::scripted::{Dies, Scripted};

const NOW_MS: u64 = 1_000_000;

/// How many rows there are within an hour.
fn counting() -> NodePlan {
    let start = StartBound::Relative { window_ns: 3_600_000_000_000 };
    let window = Window { start, end: EndBound::Now };
    let scan = Scan { table: "t".to_string(), columns: vec!["time_".to_string()], window };
    let types = vec![DataType::Time64Ns];
    let shape = Shape::Partial { group: Vec::new(), aggs: Vec::new() };
    let scan = Shared::new(TableScan { scan, types });
    NodePlan::of([&Source { scan, steps: Vec::new(), time: 0, shape }])
}

fn change(rows: i64) -> Change {
    Change::Partial { key: PackedRow::default(), pane: 100, rows, accs: vec![Acc::Count(rows)] }
}

/// A core whose store does what it is told, and the ends of its bus: without those nothing can be sent, and a query
/// that is read fails. What leaves it is not looked at.
fn core(store: &Scripted) -> (NodeCore, impl Sized + use<>) {
    let keeper = Keeper::start(Box::new(store.clone()), STORE_BYTES_DEFAULT, NOW_MS);
    let engine = Engine::start(EngineConfig::new("node"), Arc::new(|_| {})).expect("an engine");
    let (port, cluster) = in_process();
    let config = CoreConfig::new(NodeInfo::named("here", 1, 0));
    let core = NodeCore::new(config, Arc::new(engine), port.sender.clone());
    (core.with_store(keeper.expect("a thread"), NOW_MS), (port, cluster))
}

fn install(core: &mut NodeCore, query: QueryId) {
    let order = ToNode::Install { query, epoch: query, plan: counting(), refresh_ms: 1_000 };
    core.handle(order, NOW_MS);
}

fn feeder(core: &NodeCore) -> QueryId {
    *core.keeping.feeders.keys().next().expect("a feeder")
}

fn sync(core: &NodeCore) {
    core.keeper().expect("a store").sync();
}

/// All that the store has, as counts of rows.
fn held(store: &Scripted) -> Vec<Vec<i64>> {
    let rows = |change: &Change| match change {
        Change::Partial { rows, .. } => *rows,
        Change::Row { .. } => 0,
    };
    store.with(|script| {
        script.held.values().map(|(_, changes)| changes.iter().map(rows).collect()).collect()
    })
}

/// A source that the store dropped for room does not come back with what its feeder said before it heard of that,
/// neither in part nor together with what the next feeder says.
#[test]
fn what_was_dropped_does_not_come_back_in_part() {
    let store = Scripted::default();
    let (mut core, _bus) = core(&store);
    install(&mut core, 1);
    let first = feeder(&core);
    core.keep_changes(first, NOW_MS + 2_000, vec![change(1)]);
    core.keep_to(first, NOW_MS + 2_000);
    store.with(|script| script.is_over_budget = true);
    core.keep_to(first, NOW_MS + 4_000);
    sync(&core);
    store.with(|script| script.is_over_budget = false);
    assert_eq!(held(&store), [[0; 0]; 0], "it was dropped");
    core.keep_changes(first, NOW_MS + 6_000, vec![change(2)]);
    core.keep_to(first, NOW_MS + 6_000);
    core.keep_changes(first, NOW_MS + 8_000, vec![change(4)]);
    core.hear_store();
    assert!(core.keeping.kept.is_empty());
    sync(&core);
    assert_eq!(held(&store), [[0; 0]; 0], "a part of it is none");
    install(&mut core, 2);
    let second = feeder(&core);
    core.keep_changes(second, NOW_MS + 8_000, vec![change(8)]);
    core.keep_to(second, NOW_MS + 8_000);
    sync(&core);
    assert_eq!(held(&store), [[8]]);
}

/// A worker that goes on says changes of a later tick before all workers are through with an earlier one: they are not
/// in the store with that. Catches rows that are there twice after a death, since history has what came after the seal.
#[test]
fn a_seal_takes_nothing_of_later_ticks() {
    let store = Scripted::default();
    let (mut core, _bus) = core(&store);
    install(&mut core, 1);
    let feeder = feeder(&core);
    core.keep_changes(feeder, NOW_MS + 2_000, vec![change(1)]);
    core.keep_changes(feeder, NOW_MS + 4_000, vec![change(2)]);
    core.keep_changes(feeder, NOW_MS + 2_000, vec![change(4)]);
    core.keep_to(feeder, NOW_MS + 2_000);
    sync(&core);
    assert_eq!(held(&store), [[1, 4]]);
    core.keep_to(feeder, NOW_MS + 4_000);
    sync(&core);
    assert_eq!(held(&store), [[1, 4, 2]]);
    // What is not sealed by a death is void.
    core.keep_changes(feeder, NOW_MS + 6_000, vec![change(8)]);
    core.keep_on();
    core.keep_to(self::feeder(&core), NOW_MS + 6_000);
    sync(&core);
    assert_eq!(held(&store), [[1, 4, 2]]);
    assert_eq!(core.keeper().expect("a store").stats().status().counts["waiting_bytes"], 0);
}

/// A core whose store has something of the source, and two queries: the second one reads it.
fn reading(store: &Scripted) -> (NodeCore, impl Sized + use<>) {
    let (mut core, bus) = core(store);
    install(&mut core, 1);
    let feeder = feeder(&core);
    core.keep_changes(feeder, NOW_MS + 2_000, vec![change(1)]);
    core.keep_to(feeder, NOW_MS + 2_000);
    sync(&core);
    install(&mut core, 2);
    assert_eq!(core.keeping.loads.len(), 1);
    (core, bus)
}

/// The pages of a reading that nobody waits for any more are not read: they would keep those from theirs who wait.
#[test]
fn what_is_not_wanted_is_not_read() {
    let store = Scripted::default();
    store.with(|script| script.pages = 1_000);
    let (mut core, _bus) = reading(&store);
    while !core.keeping.loads.values().all(|loading| loading.is_opened) {
        core.hear_store();
        std::thread::yield_now();
    }
    core.handle(ToNode::Remove { query: 2, epoch: 2 }, NOW_MS);
    let read = loop {
        core.hear_store();
        if let Some(pages) = store.with(|script| script.read_pages.pop()) {
            break pages;
        }
        std::thread::yield_now();
    };
    assert!(read < 10, "{read} pages");
    // Whoever waits gets all of them.
    store.with(|script| script.pages = 3);
    install(&mut core, 3);
    while core.keeping.loads() {
        core.hear_store();
        std::thread::yield_now();
    }
    assert_eq!(store.with(|script| script.read_pages.clone()), [3]);
    assert!(core.queries.values().any(|query| query.name == 3), "and has not failed");
}

/// When the store's thread dies, whoever waits for it goes on with what history has, or fails if it was told that the
/// store has the rest; nobody waits for ever, nothing is kept any more, and the node says so.
#[test]
fn a_dead_store_keeps_nobody_waiting() {
    for dies in [Dies::Unopened, Dies::Opened] {
        let store = Scripted::default();
        store.with(|script| script.dies = Some(dies));
        let (mut core, _bus) = reading(&store);
        while !core.keeping.loads.is_empty() {
            core.hear_store();
            std::thread::yield_now();
        }
        let second = core.queries.values().find(|query| query.name == 2);
        let runs = second.map(|query| (query.waiting.is_none(), query.loading));
        assert_eq!(runs, (dies == Dies::Unopened).then_some((true, 0)), "{dies:?}");
        assert!(core.keeping.kept.is_empty() && core.keeping.feeders.is_empty());
        let status = core.keeper().expect("a store").stats().status();
        assert_eq!((status.state.as_str(), status.counts["kept_sources"]), ("failed", 0));
        assert!(status.reason.contains("thread died"), "{}", status.reason);
        install(&mut core, 3);
        let third = core.queries.values().find(|query| query.name == 3).expect("installed");
        assert!(third.waiting.is_none() && third.kept.is_empty());
    }
}
