//! Unions: streams side by side. What is united with itself is counted so many times, not copied.

use std::rc::Rc;

use weir_types::PackedRow;

use super::sliced::sliced;
use super::{BatchStream, NodeBatch, RowStream};
use crate::budget::Fuel;
use crate::query::{Env, OpError};
use crate::weigh;

fn times(count: i64, copies: i64) -> Result<i64, OpError> {
    count.checked_mul(copies).ok_or(OpError::Copies("Union"))
}

pub(super) fn batches<'s>(env: &Rc<Env>, stream: BatchStream<'s>, copies: i64) -> BatchStream<'s> {
    if copies == 1 {
        return stream;
    }
    sliced(env, stream, "Union", NodeBatch::bytes, move |_, batches, done| {
        for batch in batches.drain(..) {
            let copies = times(batch.copies, copies)?;
            done.push(NodeBatch { copies, ..batch });
        }
        Ok(())
    })
}

pub(super) fn rows<'s>(env: &Rc<Env>, stream: RowStream<'s>, copies: i64) -> RowStream<'s> {
    if copies == 1 {
        return stream;
    }
    let limits = env.limits().clone();
    let weigh = |(row, _, diff): &(PackedRow, u64, i64)| weigh::row_change(row, *diff);
    sliced(env, stream, "Union", weigh, move |_, rows, done| {
        let mut fuel = Fuel::new(&limits);
        while !fuel.is_empty()
            && let Some((row, tick_ms, diff)) = rows.pop_front()
        {
            fuel.burn(row.0.len());
            done.push((row, tick_ms, times(diff, copies)?));
        }
        Ok(())
    })
}
