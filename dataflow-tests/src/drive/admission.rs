//! When rows enter: what the node does before the engine sees them. A row is admitted at the first
//! tick at or after its arrival; one too far in the future is dropped.

use std::collections::BTreeMap;

use weir_types::batch::{BatchBuilder, RecordBatch};
use weir_types::clock::tick_unix_ns;
use weir_types::{PackedRow, Relation, Value};

use super::{FeedOrder, Feeding};
use crate::model::{Arrived, FUTURE_NS_MAX, Row, Table, World};

/// The rows of one table that are admitted at one tick, by node.
pub(super) type Portion = Vec<Vec<Row>>;

/// tick → table → rows by node.
pub(super) type Admissions = BTreeMap<u64, BTreeMap<String, Portion>>;

/// Deals the rows out to ticks and nodes; those that arrive after the last tick stay out.
pub(super) fn admissions(world: &World, feed: &Feeding) -> Admissions {
    let mut out = Admissions::new();
    for (name, table) in &world.tables {
        for (number, arrived) in table.rows.iter().enumerate() {
            if let Some(tick_ms) = admitted_at(table, arrived, feed) {
                out.entry(tick_ms)
                    .or_default()
                    .entry(name.clone())
                    .or_insert_with(|| vec![Vec::new(); feed.nodes])[number % feed.nodes]
                    .push(arrived.row.clone());
            }
        }
    }
    if let FeedOrder::Shuffled { seed } = feed.order {
        let portions = out.values_mut().flat_map(BTreeMap::values_mut).flatten();
        portions.for_each(|rows| shuffle(rows, seed));
    }
    out
}

pub(super) fn admitted_at(table: &Table, arrived: &Arrived, feed: &Feeding) -> Option<u64> {
    let time = &arrived.row[table.relation.time_idx()?];
    let Value::Time64Ns(time_unix_ns) = *time else { return None };
    if time_unix_ns > arrived.arrival_unix_ns.saturating_add(FUTURE_NS_MAX) {
        return None;
    }
    feed.ticks_ms.iter().copied().find(|&tick_ms| tick_unix_ns(tick_ms) >= arrived.arrival_unix_ns)
}

/// The same world with every row's arrival moved to the tick that admits it: what the model judges
/// by when ticks are far apart.
pub(super) fn as_admitted(world: &World, feed: &Feeding) -> World {
    let mut out = world.clone();
    for table in out.tables.values_mut() {
        let relation = Table { relation: table.relation.clone(), rows: Vec::new() };
        table.rows.retain_mut(|arrived| match admitted_at(&relation, arrived, feed) {
            Some(tick_ms) => {
                arrived.arrival_unix_ns = tick_unix_ns(tick_ms);
                true
            }
            None => false,
        });
    }
    out
}

/// Gives each node its rows of one tick.
pub(super) fn deal(
    world: &World,
    feed: &Feeding,
    portions: Option<&BTreeMap<String, Portion>>,
    mut give: impl FnMut(usize, &str, Vec<RecordBatch>),
) {
    for (table, portion) in portions.into_iter().flatten() {
        let relation = &world.tables[table].relation;
        for (node, rows) in portion.iter().enumerate() {
            give(node, table, batches(table, relation, rows, feed.order));
        }
    }
}

/// Rows as the batches that a source would hand on.
pub(super) fn batches(
    name: &str,
    relation: &Relation,
    rows: &[Row],
    order: FeedOrder,
) -> Vec<RecordBatch> {
    // Sources encode columns of few values as dictionaries; other ways in need not.
    let dictionaries = match order {
        FeedOrder::RowByRow => Vec::new(),
        _ => weir_types::tables::find(name).map(|table| table.dictionaries()).unwrap_or_default(),
    };
    let mut builder = BatchBuilder::with_dictionaries(relation, &dictionaries);
    let mut out = Vec::new();
    for row in rows {
        for (idx, value) in row.iter().enumerate() {
            builder.value(idx, value);
        }
        builder.end_row();
        if order == FeedOrder::RowByRow {
            out.push(builder.finish());
        }
    }
    if builder.rows() > 0 {
        out.push(builder.finish());
    }
    out
}

/// In an order that depends on the seed and the rows only.
fn shuffle(rows: &mut [Row], seed: u64) {
    use std::hash::{BuildHasher, Hasher};
    let build = foldhash::fast::FixedState::with_seed(seed);
    rows.sort_by_cached_key(|row| {
        let mut hasher = build.build_hasher();
        hasher.write(&PackedRow::pack(row).0);
        hasher.finish()
    });
}
