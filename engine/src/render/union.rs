//! Unions: streams side by side. What is united with itself is counted so many times, not copied.

use std::rc::Rc;

use weir_types::PackedRow;

use super::RowStream;
use super::sliced::sliced;
use crate::budget::Fuel;
use crate::query::{Env, OpError};
use crate::weigh;

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
            let diff = diff.checked_mul(copies).ok_or(OpError::Copies("Union"))?;
            done.push((row, tick_ms, diff));
        }
        Ok(())
    })
}
