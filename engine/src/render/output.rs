//! The end of a cluster fragment: the net change of a result table at each tick, over all workers.

use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::consolidation::consolidate;
use timely::dataflow::channels::pact::Exchange;
use weir_types::PackedRow;

use super::tick::{Emit, TickLogic, tick_operator};
use super::{RowStream, route};
use crate::api::EngineEvent;
use crate::query::{Env, OpError};

pub(super) fn output<'s>(env: &Rc<Env>, stream: RowStream<'s>, table: &Arc<str>) -> RowStream<'s> {
    // One worker tells all of a table, so that a tick is one event.
    let teller = route(table.as_bytes());
    let exchange = Exchange::new(move |_: &(PackedRow, u64, i64)| teller);
    let logic = Output { env: Rc::clone(env), table: Arc::clone(table) };
    tick_operator(env, stream, exchange, "Output", logic)
}

struct Output {
    env: Rc<Env>,
    table: Arc<str>,
}

impl TickLogic for Output {
    type Item = (PackedRow, i64);

    fn run(
        &mut self,
        tick_ms: u64,
        mut rows: Vec<(PackedRow, i64)>,
        _emit: &mut Emit,
    ) -> Result<(), OpError> {
        consolidate(&mut rows);
        if !rows.is_empty() {
            let (query, table) = (self.env.query.id, Arc::clone(&self.table));
            self.env.emit(EngineEvent::Rows { query, table, tick_ms, rows });
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        0
    }
}
