//! A server that dies and starts anew over its store, again and again: what its long windows show must be what the
//! model says of the rows that the store had by then and of those that came afterwards.

use std::path::Path;

use weir_node::store::{FileStore, KeptSource, PaneStore, STORE_BYTES_DEFAULT};
use weir_types::Value;
use weir_types::clock::tick_unix_ns;
use weir_types::split::SplitPlan;

use super::admission::{self, admitted_at};
use super::pushed_split::pushed_split;
use super::{Compared, Coordinated, DriveError, Feeding, Query, compare_views, store_path};
use crate::model::{Arrived, Row, World};

/// When a server dies, and who waits for what.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// Before which ticks, by number.
    pub before: Vec<usize>,
    /// So many ticks later the query is asked for again.
    pub asked_after: usize,
    /// All that nodes have said is heard before the end.
    pub settled: bool,
}

/// A row with what becomes of it.
struct Followed {
    table: String,
    node: usize,
    admitted_ms: u64,
    time_unix_ns: i64,
    row: Row,
    /// It died with a server that had it in memory only.
    is_lost: bool,
}

/// Every row that some tick admits.
fn follow(world: &World, feed: &Feeding) -> Vec<Followed> {
    let mut all = Vec::new();
    for (name, table) in &world.tables {
        let Some(at) = table.relation.time_idx() else { continue };
        for (number, arrived) in table.rows.iter().enumerate() {
            let Some(admitted_ms) = admitted_at(table, arrived, feed) else { continue };
            let Value::Time64Ns(time_unix_ns) = arrived.row[at] else { continue };
            all.push(Followed {
                table: name.clone(),
                node: number % feed.nodes,
                admitted_ms,
                time_unix_ns,
                row: arrived.row.clone(),
                is_lost: false,
            });
        }
    }
    all
}

/// The world without what was lost.
fn left(world: &World, rows: &[Followed]) -> World {
    let mut left = world.clone();
    left.tables.values_mut().for_each(|table| table.rows.clear());
    for followed in rows.iter().filter(|followed| !followed.is_lost) {
        if let Some(table) = left.tables.get_mut(&followed.table) {
            let arrival_unix_ns = tick_unix_ns(followed.admitted_ms);
            table.rows.push(Arrived { arrival_unix_ns, row: followed.row.clone() });
        }
    }
    left
}

/// Up to which tick a node's store has the one source of the plan.
fn kept_to(
    directory: &Path,
    node: usize,
    split: &SplitPlan,
    now_ms: u64,
) -> Result<u64, DriveError> {
    let mut store =
        FileStore::new(&store_path(directory, node), &format!("node-{node}"), STORE_BYTES_DEFAULT);
    let (stored, _) = store.open(now_ms).map_err(|error| DriveError::Bus(error.to_string()))?;
    let plan = split.node();
    let wanted = KeptSource::of_plan(&plan).next().and_then(|(_, source)| source.identity());
    let of_plan = stored.iter().find(|stored| Some(&*stored.identity) == wanted.as_deref());
    Ok(of_plan.map_or(0, |stored| stored.to_ms))
}

/// Marks what died with a server: rows that its nodes' stores did not have yet.
fn lose(
    rows: &mut [Followed],
    directory: &Path,
    (nodes, split): (usize, &SplitPlan),
    now_ms: u64,
) -> Result<Vec<u64>, DriveError> {
    let kept: Result<Vec<u64>, DriveError> =
        (0..nodes).map(|node| kept_to(directory, node, split, now_ms)).collect();
    let kept = kept?;
    for row in rows.iter_mut().filter(|row| row.admitted_ms <= now_ms) {
        let to_ms = kept[row.node];
        row.is_lost |= row.admitted_ms > to_ms || row.time_unix_ns > tick_unix_ns(to_ms);
    }
    Ok(kept)
}

/// A server whose nodes have what is kept there.
fn start(world: &World, feed: &Feeding, store: (&Path, u64)) -> Result<Coordinated, DriveError> {
    let (shape, limits) = ((feed.nodes, feed.workers), feed.limits());
    Coordinated::start_stored(shape, world.retention_ns, &world.metadata, &limits, Some(store))
}

/// Ticks after which a query has answered.
const ANSWER_TICKS_MAX: u64 = 50;

/// Runs a query of one kept source, lets its server die, and asks the next one about times of the past, so many panes
/// before the last one that is whole: it has nothing of them but its store. Rows that are later than the window is long
/// are no part of it.
pub fn compare_past(
    query: &Query<'_>,
    panes_back: &[i64],
    world: &World,
    feed: &Feeding,
    directory: &Path,
) -> Result<Compared, DriveError> {
    let mut compared = Compared::default();
    let mut rows = follow(world, feed);
    let admissions = admission::admissions(world, feed);
    let start = |now_ms| start(world, feed, (directory, now_ms));
    let mut rig = start(0)?;
    rig.install(query.split, feed.refresh_ms)?;
    let mut now_ms = 0;
    for &tick_ms in &feed.ticks_ms {
        let portions = admissions.get(&tick_ms);
        admission::deal(world, feed, portions, |node, table, rows| rig.admit(node, table, rows));
        now_ms = tick_ms;
        rig.close_tick(tick_ms)?;
    }
    rig.settle()?;
    drop(rig);
    let kept = lose(&mut rows, directory, (feed.nodes, query.split), now_ms)?;
    let plan = query.split.node();
    let Some((_, source)) = KeptSource::of_plan(&plan).next() else { return Ok(compared) };
    let sliding = source.sliding;
    for row in &mut rows {
        // What came when its pane had left the window was never in it.
        row.is_lost |= row.time_unix_ns <= sliding.start_at(tick_unix_ns(row.admitted_ms));
    }
    let left = left(world, &rows);
    let pane_ns = sliding.pane_ns;
    let to_ns = tick_unix_ns(kept.into_iter().min().unwrap_or(0));
    let mut rig = start(now_ms)?;
    for back in panes_back {
        let at_unix_ns = (to_ns.div_euclid(pane_ns) - back) * pane_ns;
        let mut then = query.plan.clone();
        then.set_as_of(at_unix_ns);
        let id = rig.install(&pushed_split(&then), feed.refresh_ms)?;
        let has_answered = (0..ANSWER_TICKS_MAX).any(|_| {
            now_ms = (now_ms / feed.refresh_ms + 1) * feed.refresh_ms;
            rig.close_tick(now_ms).is_ok_and(|moved| moved.contains(&id))
        });
        if let Some((query, message)) = rig.failed.pop_first() {
            return Err(DriveError::Failed { query, message });
        }
        let frontier_ms = rig.frontier_ms(id).filter(|_| has_answered);
        let frontier_ms = frontier_ms.ok_or_else(|| DriveError::Bus("no answer".to_string()))?;
        compare_views(&then, &left, frontier_ms, &rig.views(id), &mut compared)?;
    }
    Ok(compared)
}

/// Runs a query of one kept source over servers that die; also gives how many rows were found again.
pub fn compare_restarts(
    query: &Query<'_>,
    restarts: &Restarts,
    world: &World,
    feed: &Feeding,
    directory: &Path,
) -> Result<(Compared, usize), DriveError> {
    let (mut compared, mut found_again) = (Compared::default(), 0);
    let mut rows = follow(world, feed);
    let admissions = admission::admissions(world, feed);
    let start = |now_ms| start(world, feed, (directory, now_ms));
    let mut now_ms = 0;
    let mut rig = start(now_ms)?;
    let mut ask_at = query.installed_after;
    let mut asked: Option<(u64, u64)> = None;
    for (number, &tick_ms) in feed.ticks_ms.iter().enumerate() {
        if restarts.before.contains(&number) && number > 0 {
            if restarts.settled {
                rig.settle()?;
            }
            drop(rig);
            lose(&mut rows, directory, (feed.nodes, query.split), now_ms)?;
            let came = rows.iter().filter(|row| row.admitted_ms <= now_ms);
            found_again += came.filter(|row| !row.is_lost).count();
            rig = start(now_ms)?;
            asked = None;
            ask_at = ask_at.max(number + restarts.asked_after);
        }
        if asked.is_none() && number >= ask_at {
            asked = Some((rig.install(query.split, feed.refresh_ms)?, now_ms));
        }
        let portions = admissions.get(&tick_ms);
        admission::deal(world, feed, portions, |node, table, rows| rig.admit(node, table, rows));
        now_ms = tick_ms;
        let moved = rig.close_tick(tick_ms)?;
        if let Some((id, since_ms)) = asked
            && moved.contains(&id)
            && let Some(frontier_ms) = rig.frontier_ms(id).filter(|at| *at > since_ms)
        {
            let left = left(world, &rows);
            compare_views(query.plan, &left, frontier_ms, &rig.views(id), &mut compared)?;
        }
        if let Some((query, message)) = rig.failed.pop_first() {
            return Err(DriveError::Failed { query, message });
        }
    }
    Ok((compared, found_again))
}
