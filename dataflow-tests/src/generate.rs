//! Random cases: tables with rows that arrive early, late and twice, a plan over them, and the way
//! in which both are handed to the engine. Everything is made of shrinkable lists of numbers
//! (`choices`), so a failing case is reported small.

pub mod exprs;
pub mod limits;
pub mod plans;
pub mod pxl_text;
pub mod rows;
pub mod shop;
pub mod stretch;
pub mod traffic;

use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use weir_types::Plan;

pub use plans::Style;

use crate::check::workers_asked_for;
use crate::choices::Choices;
use crate::drive::{FeedOrder, Feeding};
use crate::model::{Table, World};

/// A plan, what it reads and how it is fed.
#[derive(Clone)]
pub struct Case {
    pub world: World,
    pub plan: Plan,
    pub feed: Feeding,
}

impl fmt::Debug for Case {
    /// Readable without knowing the generators: the plan, the rows it scans, the feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", describe(&self.plan, &self.world, &self.feed))
    }
}

/// Plan, rows and feed as text, one operator or row a line.
#[must_use]
pub fn describe(plan: &Plan, world: &World, feed: &Feeding) -> String {
    let mut out = String::from("\n");
    for (id, op) in plan.ops.iter().enumerate() {
        let columns: Vec<String> = op
            .relation
            .columns
            .iter()
            .map(|column| format!("{}:{}", column.name, column.data_type))
            .collect();
        out += &format!("  op {id} {:?} of {:?} -> {}\n", op.kind, op.inputs, columns.join(" "));
    }
    for output in &plan.outputs {
        out += &format!("  output {} = op {}\n", output.table, output.op);
    }
    for (name, table) in &world.tables {
        for arrived in &table.rows {
            let after_ms = (arrived.arrival_unix_ns - rows::BASE_UNIX_NS) as f64 / 1e6;
            out += &format!("  {name} arrives +{after_ms} ms {:?}\n", arrived.row);
        }
    }
    out += &format!("  retention {:?}\n  {feed:?}\n", world.retention_ns);
    out
}

/// Random cases with at most `rows_max` rows.
pub fn case(style: Style, rows_max: usize) -> impl Strategy<Value = Case> {
    let numbers = |max| proptest::collection::vec(any::<u16>(), 0..max);
    let row = proptest::collection::vec(any::<u16>(), 28);
    (proptest::collection::vec(row, 0..rows_max), numbers(160), numbers(48)).prop_map(
        move |(rows, plan, feed)| {
            let mut plan = plans::plan(style, &rows::TABLES, &mut Choices::new(&plan));
            let mut feed_choices = Choices::new(&feed);
            let retention_ns =
                feed_choices.pick(&[None, None, Some(2 * rows::SEC_NS), Some(3600 * rows::SEC_NS)]);
            let mut world = World { retention_ns, ..world(&scanned(&plan), &rows) };
            let mut feed = feed_of(&mut feed_choices);
            let factor = feed_choices.pick(&stretch::FACTORS);
            // What reads the clock is made anew at each refresh: a month of them is no case.
            let factor = if plan.reads_now() { 1 } else { factor };
            stretch::stretch(&mut plan, &mut world, &mut feed, factor);
            Case { world, plan, feed }
        },
    )
}

fn scanned(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> = plan.scans().map(|(table, _)| table).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Rows of the tables, one per list of numbers; some arrive twice.
#[must_use]
pub fn world(tables: &[&str], rows: &[Vec<u16>]) -> World {
    let mut out: BTreeMap<String, Table> = tables
        .iter()
        .map(|&name| (name.to_string(), Table { relation: rows::relation(name), rows: Vec::new() }))
        .collect();
    for numbers in rows {
        let mut choices = Choices::new(numbers);
        let name = choices.pick(tables);
        let copies = 1 + usize::from(choices.one_in(8));
        if let Some(table) = out.get_mut(name) {
            let row = rows::row(&table.relation, &mut choices);
            table.rows.extend(std::iter::repeat_n(row, copies));
        }
    }
    World { tables: out, ..World::default() }
}

/// How a case is fed.
#[must_use]
pub fn feed_of(choices: &mut Choices<'_>) -> Feeding {
    let order = match choices.below(3) {
        0 => FeedOrder::Whole,
        1 => FeedOrder::RowByRow,
        _ => FeedOrder::Shuffled { seed: u64::from(choices.number()) },
    };
    let by_chance = [1, 2, 4][choices.below(3)];
    let workers = workers_asked_for().unwrap_or(by_chance);
    let nodes = 1 + choices.below(2);
    let tick_ms = choices.pick(&[1000, 100]);
    let refresh_ms = tick_ms * choices.pick(&[1, 1, 5]);
    let base_ms = rows::BASE_UNIX_NS as u64 / 1_000_000;
    let mut ticks_ms = vec![base_ms + refresh_ms * choices.below(6) as u64];
    for _ in 0..2 + choices.below(12) {
        let last = ticks_ms[ticks_ms.len() - 1];
        let ticks = choices.pick(&[1, 1, 1, 2, 3, 10, 60, 600, 36_000]);
        ticks_ms.push(last + ticks * tick_ms);
    }
    let installed_after = if choices.one_in(4) { choices.below(ticks_ms.len()) } else { 0 };
    let one_row_slices = choices.one_in(3);
    Feeding {
        order,
        workers,
        nodes,
        tick_ms,
        refresh_ms,
        ticks_ms,
        installed_after,
        one_row_slices,
        groups_max: None,
    }
}
