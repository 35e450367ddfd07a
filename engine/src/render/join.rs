//! Joins, on differential arrangements by the packed key columns.
//!
//! A left or outer join adds the rows of a side that no key of the other side matches, with zeros
//! for the missing columns.

use std::rc::Rc;

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use weir_types::PackedRow;
use weir_types::plan::{JoinKind, Side};
use weir_types::row::RowReader;
use weir_types::value::DataType;

use super::RowStream;
use super::aggregate::pick;
use crate::prepare::{JoinSpec, packed_zeros};
use crate::query::{Env, OpError};

type Keyed<'s> = VecCollection<'s, u64, (PackedRow, PackedRow), i64>;

pub(super) fn join<'s>(
    env: &Rc<Env>,
    left: RowStream<'s>,
    right: RowStream<'s>,
    spec: &JoinSpec,
) -> RowStream<'s> {
    let left = keyed(env, left, &spec.left_types, &spec.left_on);
    let right = keyed(env, right, &spec.right_types, &spec.right_on);
    let left_rows = left.clone().arrange_by_key_named("JoinLeft");
    let right_rows = right.clone().arrange_by_key_named("JoinRight");
    let both = Glue::new(env, spec);
    let mut joined = left_rows
        .clone()
        .join_core(right_rows.clone(), move |_, left, right| both.rows(&left.0, &right.0));
    if matches!(spec.how, JoinKind::Left | JoinKind::Outer) {
        let (glue, zeros) = (Glue::new(env, spec), packed_zeros(&spec.right_types));
        let keys = right.clone().map(|(key, _)| key).distinct_core::<i64>().arrange_by_self();
        let matched = left_rows.join_core(keys, |key, row, ()| Some((key.clone(), row.clone())));
        let alone = left.clone().concat(matched.negate());
        joined = joined.concat(alone.flat_map(move |(_, row)| glue.rows(&row.0, &zeros)));
    }
    if matches!(spec.how, JoinKind::Outer) {
        let (glue, zeros) = (Glue::new(env, spec), packed_zeros(&spec.left_types));
        let keys = left.map(|(key, _)| key).distinct_core::<i64>().arrange_by_self();
        let matched = right_rows.join_core(keys, |key, row, ()| Some((key.clone(), row.clone())));
        let alone = right.concat(matched.negate());
        joined = joined.concat(alone.flat_map(move |(_, row)| glue.rows(&zeros, &row.0)));
    }
    joined.inner
}

/// What an arrangement needs for a row beside its bytes, roughly.
const ARRANGED_BYTES: i64 = 96;

/// Rows by their key columns. Counts what the arrangement will hold.
fn keyed<'s>(env: &Rc<Env>, rows: RowStream<'s>, types: &[DataType], on: &[usize]) -> Keyed<'s> {
    let (types, on, env) = (types.to_vec(), on.to_vec(), Rc::clone(env));
    let mut gauge = env.state_gauge();
    rows.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "JoinKeys",
        move |capability, _| {
            drop(capability);
            move |input, output| {
                input.for_each(|stamp, data| {
                    if !env.is_live() {
                        return;
                    }
                    env.guard("Join", || {
                        let mut held = gauge.bytes() as i64;
                        let mut keyed = Vec::with_capacity(data.len());
                        for (row, tick_ms, diff) in data.drain(..) {
                            let key = pick(&row, &types, &on).ok_or(OpError::Row("Join"))?;
                            let row_bytes = (key.len() + row.0.len()) as i64 + ARRANGED_BYTES;
                            held = held.saturating_add(diff.saturating_mul(row_bytes));
                            keyed.push(((PackedRow(key), row), tick_ms, diff));
                        }
                        gauge.set(usize::try_from(held).unwrap_or(0));
                        output.session(&stamp).give_container(&mut keyed);
                        Ok(())
                    });
                });
            }
        },
    )
    .as_collection()
}

/// Puts the chosen columns of a left and a right row together.
struct Glue {
    env: Rc<Env>,
    spec: JoinSpec,
}

impl Glue {
    fn new(env: &Rc<Env>, spec: &JoinSpec) -> Glue {
        Glue { env: Rc::clone(env), spec: spec.clone() }
    }

    fn rows(&self, left: &[u8], right: &[u8]) -> Option<PackedRow> {
        let glued = self.glue(left, right);
        if glued.is_none() && self.env.is_live() {
            let query = &self.env.query;
            query.fail(&self.env.engine, &OpError::Row("Join").to_string());
        }
        glued
    }

    fn glue(&self, left: &[u8], right: &[u8]) -> Option<PackedRow> {
        let left = columns_of(left, &self.spec.left_types)?;
        let right = columns_of(right, &self.spec.right_types)?;
        let mut out = Vec::new();
        for &(side, idx) in &self.spec.columns {
            out.extend_from_slice(match side {
                Side::Left => left[idx],
                Side::Right => right[idx],
            });
        }
        Some(PackedRow(out))
    }
}

fn columns_of<'a>(row: &'a [u8], types: &[DataType]) -> Option<Vec<&'a [u8]>> {
    let mut reader = RowReader::new(row);
    types.iter().map(|&ty| reader.next_raw(ty)).collect()
}
