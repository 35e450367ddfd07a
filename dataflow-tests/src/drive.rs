//! Drives the real engine as a node and the cluster do, but nothing more, and compares what it shows
//! with the model at every frontier: the plan is cut in two, node engines get the rows tick by tick,
//! their changes go to a cluster engine, its rows add up to views.

mod admission;
mod coordinated;
mod plain_split;
mod pushed_split;
mod restarts;
mod rig;

use std::collections::BTreeMap;

use weir_engine::Limits;
use weir_types::clock::tick_unix_ns;
use weir_types::plan::OpKind;
use weir_types::split::SplitPlan;
use weir_types::{DataType, PackedRow, Plan, Value};

pub use coordinated::{Coordinated, store_path};
pub use plain_split::plain_split;
pub use pushed_split::pushed_split;
pub use restarts::{Restarts, compare_past, compare_restarts};
pub use rig::{Rig, Views, start_engine};

use crate::model::{self, GroupBounds, Multiset, World};
use admission::Admissions;

/// In which portions the rows of a tick are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedOrder {
    /// All rows of a table in one batch.
    Whole,
    RowByRow,
    /// One batch, rows of one tick in any order.
    Shuffled {
        seed: u64,
    },
}

/// How a case is handed to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feeding {
    pub order: FeedOrder,
    /// Timely workers of each engine.
    pub workers: usize,
    /// Node engines; rows are dealt out in turn.
    pub nodes: usize,
    pub tick_ms: u64,
    /// A multiple of the tick.
    pub refresh_ms: u64,
    /// Ascending multiples of the tick since the epoch.
    pub ticks_ms: Vec<u64>,
    /// How many ticks pass before the query is installed; their rows are replayed to it.
    pub installed_after: usize,
    /// Operators stop after every row, as if each turn were over at once.
    pub one_row_slices: bool,
    /// Groups that an aggregate over a table may have, in the engine and in the model.
    pub groups_max: Option<u64>,
}

impl Feeding {
    fn limits(&self) -> Limits {
        let limits = Limits::default();
        let query_groups_max = self.groups_max.unwrap_or(limits.query_groups_max);
        let limits = Limits { query_groups_max, ..limits };
        if !self.one_row_slices {
            return limits;
        }
        Limits { round_ns: 0, slice_ns_min: 0, slice_rows_max: 1, ..limits }
    }

    /// The plainest: whole batches, one worker, one node, a refresh a second, installed at once.
    #[must_use]
    pub fn plain(ticks_ms: Vec<u64>) -> Feeding {
        Feeding {
            order: FeedOrder::Whole,
            workers: 1,
            nodes: 1,
            tick_ms: 1000,
            refresh_ms: 1000,
            ticks_ms,
            installed_after: 0,
            one_row_slices: false,
            groups_max: None,
        }
    }

    /// The first tick of a query that is installed after so many.
    fn start_ms(&self, installed_after: usize) -> u64 {
        let (before, after) = self.ticks_ms.split_at(installed_after);
        let first_ms = before.last().map(|last| last + 1).or(after.first().copied()).unwrap_or(0);
        first_ms.next_multiple_of(self.refresh_ms)
    }

    /// The world as a view judges it that starts at a tick.
    fn judged(&self, admitted: &World, start_ms: u64) -> World {
        let bounds = self.groups_max.map(|max| GroupBounds {
            groups_max: usize::try_from(max).unwrap_or(usize::MAX),
            refresh_ms: self.refresh_ms,
            start_ms,
        });
        World { bounds, ..admitted.clone() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Engine(#[from] weir_engine::EngineError),
    #[error(transparent)]
    Model(#[from] model::ModelError),
    #[error("query {query} failed: {message}")]
    Failed { query: u64, message: String },
    #[error("the bus: {0}")]
    Bus(String),
    #[error("nothing was said for a minute while waiting for {waiting_for}")]
    Silent { waiting_for: String },
    #[error("{part} said what it must not: {event}")]
    Unexpected { part: String, event: String },
    #[error("query {query} spoke of tick {tick_ms}, the last frontier being {last}")]
    WrongTick { query: u64, tick_ms: u64, last: u64 },
    #[error("changes of {table} are empty or hold a zero")]
    NotConsolidated { table: String },
    #[error("{table} holds a row {count} times")]
    Negative { table: String, count: i64 },
    #[error("at tick {tick_ms} the engine differs in {table}:\n{difference}")]
    Differs { tick_ms: u64, table: String, difference: String },
}

/// What was compared: a test that never saw a row proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub frontiers: usize,
    /// Rows in all compared views.
    pub rows: usize,
    /// Rows that had no group of their own, at all of them; and views that had some before, and have none.
    pub refused: usize,
    pub exact_again: usize,
    was_refused: bool,
}

impl Compared {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Compared) -> Compared {
        Compared {
            frontiers: self.frontiers + other.frontiers,
            rows: self.rows + other.rows,
            refused: self.refused + other.refused,
            exact_again: self.exact_again + other.exact_again,
            was_refused: other.was_refused,
        }
    }
}

/// One query of several that run side by side.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// What it must mean.
    pub plan: &'a Plan,
    /// What runs.
    pub split: &'a SplitPlan,
    /// How many ticks pass before it is installed; their rows are replayed to it.
    pub installed_after: usize,
    /// How many of the feeding's refreshes are one of its. Heeded where a coordinator shares.
    pub refresh_times: u64,
}

/// Runs the plan, cut as `split`, over the world and compares every output at every frontier.
pub fn compare(
    plan: &Plan,
    split: &SplitPlan,
    world: &World,
    feed: &Feeding,
) -> Result<Compared, DriveError> {
    let installed_after = feed.installed_after;
    compare_all(&[Query { plan, split, installed_after, refresh_times: 1 }], world, feed)
}

/// As [`compare`], for several queries in the same engines.
pub fn compare_all(
    queries: &[Query<'_>],
    world: &World,
    feed: &Feeding,
) -> Result<Compared, DriveError> {
    let mut compared = Compared::default();
    let admitted = admission::as_admitted(world, feed);
    let admissions = admission::admissions(world, feed);
    let mut rig = Rig::start_with(feed.nodes, feed.workers, world.retention_ns, &feed.limits())?;
    for engine in rig.engines() {
        engine.set_metadata(world.metadata.clone());
    }
    for (number, &tick_ms) in feed.ticks_ms.iter().enumerate() {
        for (id, query) in queries.iter().enumerate() {
            if query.installed_after == number {
                install(&mut rig, id as u64, query.split, world, feed, number, &admissions);
            }
        }
        push_tick(&rig, world, feed, admissions.get(&tick_ms));
        for id in rig.close_tick(tick_ms)? {
            let frontier_ms = rig.frontier_ms(id).unwrap_or(0);
            let Query { plan, installed_after, .. } = queries[id as usize];
            let world = feed.judged(&admitted, feed.start_ms(installed_after));
            compare_views(plan, &world, frontier_ms, &rig.views(id), &mut compared)?;
            if feed.groups_max.is_some() {
                compare_refused(plan, &world, frontier_ms, &rig, id, &mut compared)?;
            }
        }
    }
    Ok(compared)
}

/// As [`compare_all`], by way of the coordinator, which shares what it can; queries are back-filled from
/// the nodes' histories. `removed_after`: how many ticks pass before the first query is removed. Also
/// gives how many queries read a feed that another one reads.
pub fn compare_coordinated(
    queries: &[Query<'_>],
    removed_after: usize,
    world: &World,
    feed: &Feeding,
) -> Result<(Compared, usize), DriveError> {
    let (mut compared, mut sharing) = (Compared::default(), 0);
    let admitted = admission::as_admitted(world, feed);
    // Feeds begin with the first query.
    let admitted = feed.judged(&admitted, 0);
    let admissions = admission::admissions(world, feed);
    let (retention_ns, metadata, limits) = (world.retention_ns, &world.metadata, feed.limits());
    let mut rig =
        Coordinated::start_with((feed.nodes, feed.workers), retention_ns, metadata, &limits)?;
    // (query, its number here, when it was installed)
    let mut installed: Vec<(u64, usize, u64)> = Vec::new();
    let mut now_ms = 0;
    for (number, &tick_ms) in feed.ticks_ms.iter().enumerate() {
        if number == removed_after && installed.first().is_some_and(|(_, at, _)| *at == 0) {
            rig.remove(installed.remove(0).0)?;
        }
        for (at, query) in queries.iter().enumerate() {
            if query.installed_after == number && !(at == 0 && number >= removed_after) {
                let id = rig.install(query.split, feed.refresh_ms * query.refresh_times)?;
                let feeds = rig.feeds_of(id);
                let shares =
                    |(other, ..): &(u64, usize, u64)| !rig.feeds_of(*other).is_disjoint(&feeds);
                sharing += usize::from(installed.iter().any(shares));
                installed.push((id, at, now_ms));
                installed.sort_by_key(|(_, at, _)| *at);
            }
        }
        let portions = admissions.get(&tick_ms);
        admission::deal(world, feed, portions, |node, table, rows| rig.admit(node, table, rows));
        now_ms = tick_ms;
        for id in rig.close_tick(tick_ms)? {
            let Some((_, at, since_ms)) = installed.iter().find(|(have, ..)| *have == id) else {
                continue;
            };
            let frontier_ms = rig.frontier_ms(id).unwrap_or(0);
            // A back-filled query answers at once, with all that came until it was installed.
            if frontier_ms > *since_ms {
                let plan = queries[*at].plan;
                compare_views(plan, &admitted, frontier_ms, &rig.views(id), &mut compared)?;
            }
        }
        if let Some((query, message)) = rig.failed.pop_first() {
            return Err(DriveError::Failed { query, message });
        }
    }
    Ok((compared, sharing))
}

fn compare_views(
    plan: &Plan,
    admitted: &World,
    tick_ms: u64,
    views: &Views,
    compared: &mut Compared,
) -> Result<(), DriveError> {
    let expected = model::evaluate(plan, admitted, tick_unix_ns(tick_ms))?;
    compared.frontiers += 1;
    compared.rows += expected.values().map(BTreeMap::len).sum::<usize>();
    for output in &plan.outputs {
        let types = plan.ops[output.op].relation.types();
        let expected = expected.get(&output.table).cloned().unwrap_or_default();
        let actual = views.get(&output.table).cloned().unwrap_or_default();
        if let Some(difference) = difference(&expected, &actual, &types) {
            let table = output.table.clone();
            return Err(DriveError::Differs { tick_ms, table, difference });
        }
    }
    Ok(())
}

/// The engine says of how many rows it has no group.
fn compare_refused(
    plan: &Plan,
    world: &World,
    tick_ms: u64,
    rig: &Rig,
    query: u64,
    compared: &mut Compared,
) -> Result<(), DriveError> {
    let expected = model::refused(plan, world, tick_unix_ns(tick_ms))?;
    let told: u64 = rig.overflow(query, tick_ms).values().sum();
    compared.refused += expected;
    compared.exact_again += usize::from(compared.was_refused && expected == 0);
    compared.was_refused = expected > 0;
    if told == expected as u64 {
        return Ok(());
    }
    let difference = format!("  {told} rows are told to have no group, {expected} have none");
    Err(DriveError::Differs { tick_ms, table: "lost".to_string(), difference })
}

/// Installs a query before tick number `number` and replays to it what was admitted until then.
fn install(
    rig: &mut Rig,
    query: u64,
    split: &SplitPlan,
    world: &World,
    feed: &Feeding,
    number: usize,
    admissions: &Admissions,
) {
    let before = &feed.ticks_ms[..number];
    rig.install(query, split, feed.refresh_ms, feed.start_ms(number));
    fill_table_functions(rig, query, split, world);
    rig.hold(query, true);
    for tick_ms in before {
        admission::deal(world, feed, admissions.get(tick_ms), |node, table, rows| {
            rig.replay(node, query, table, rows);
        });
    }
    rig.hold(query, false);
}

/// Table functions have their rows from the start.
fn fill_table_functions(rig: &Rig, query: u64, split: &SplitPlan, world: &World) {
    for (idx, op) in split.cluster.ops.iter().enumerate() {
        if let OpKind::TableFunction { name, .. } = &op.kind
            && let Some(rows) = world.table_functions.get(name)
        {
            rig.push_table_function(
                query,
                idx,
                rows.iter().map(|row| PackedRow::pack(row)).collect(),
            );
        }
    }
}

/// Runs one query alone and hands its views at every frontier to `look`.
pub fn run(
    split: &SplitPlan,
    world: &World,
    feed: &Feeding,
    look: &mut dyn FnMut(u64, &Views) -> Result<(), DriveError>,
) -> Result<(), DriveError> {
    let admissions = admission::admissions(world, feed);
    let mut rig = Rig::start_with(feed.nodes, feed.workers, world.retention_ns, &feed.limits())?;
    for (number, &tick_ms) in feed.ticks_ms.iter().enumerate() {
        if number == feed.installed_after {
            install(&mut rig, 0, split, world, feed, number, &admissions);
        }
        push_tick(&rig, world, feed, admissions.get(&tick_ms));
        for id in rig.close_tick(tick_ms)? {
            look(rig.frontier_ms(id).unwrap_or(0), &rig.views(id))?;
        }
    }
    Ok(())
}

fn push_tick(
    rig: &Rig,
    world: &World,
    feed: &Feeding,
    portions: Option<&BTreeMap<String, admission::Portion>>,
) {
    admission::deal(world, feed, portions, |node, table, rows| rig.push(node, table, rows));
}

/// Rows that one side has more often; `None` if both are equal. Which NaN it is does not count:
/// the outside sees one NaN only.
#[must_use]
pub fn difference(expected: &Multiset, actual: &Multiset, types: &[DataType]) -> Option<String> {
    let mut balance = Multiset::new();
    for (side, sign) in [(expected, -1), (actual, 1)] {
        for (row, count) in side {
            *balance.entry(one_nan(row, types)).or_default() += sign * count;
        }
    }
    balance.retain(|_, count| *count != 0);
    if balance.is_empty() {
        return None;
    }
    let lines: Vec<String> = balance
        .iter()
        .map(|(row, count)| {
            let what = if *count > 0 { "too many" } else { "missing" };
            let shown = row.unpack(types).map_or_else(|| format!("{row:?}"), |v| show(&v));
            format!("  {what} ({}x): {shown}", count.abs())
        })
        .collect();
    Some(lines.join("\n"))
}

fn one_nan(row: &PackedRow, types: &[DataType]) -> PackedRow {
    if !types.contains(&DataType::Float64) {
        return row.clone();
    }
    let Some(mut values) = row.unpack(types) else { return row.clone() };
    for value in &mut values {
        if matches!(value, Value::Float64(v) if v.is_nan()) {
            *value = Value::Float64(f64::NAN);
        }
    }
    PackedRow::pack(&values)
}

fn show(values: &[Value]) -> String {
    let texts: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::String(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            other => format!("{other:?}"),
        })
        .collect();
    texts.join(", ")
}
