//! The end of a cluster fragment: the net change of a result table at each tick, over all workers, handed
//! out a slice at a time and no faster than the receiver takes it.

use std::rc::Rc;
use std::sync::Arc;

use weir_types::PackedRow;

use super::between::between;
use super::runs::{Runs, Waiting};
use super::tick::{Emit, Progress, TickLogic, tick_operator};
use super::{RowStream, route};
use crate::api::EngineEvent;
use crate::budget::Fuel;
use crate::query::{Env, OpError};
use crate::weigh;

pub(super) fn output<'s>(env: &Rc<Env>, stream: RowStream<'s>, table: &Arc<str>) -> RowStream<'s> {
    // One worker tells all of a table, so that equal rows meet; one of the process that is asked.
    let teller = route(table.as_bytes()) % env.engine.config.workers as u64;
    let exchange = between(env, move |_: &(PackedRow, u64, i64)| teller);
    let logic = Output { env: Rc::clone(env), table: Arc::clone(table) };
    tick_operator(env, stream, exchange, "Output", logic)
}

struct Output {
    env: Rc<Env>,
    table: Arc<str>,
}

impl TickLogic for Output {
    type Waiting = Runs<PackedRow>;

    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut Runs<PackedRow>,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError> {
        if self.env.query.holdings.is_full(self.env.limits()) {
            return Ok(Progress::Blocked);
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut is_done = false;
        while !fuel.is_empty() && !is_done {
            match input.pop() {
                Some(change) => {
                    fuel.burn(weigh::item(&change));
                    bytes += weigh::item(&change);
                    rows.push(change);
                }
                None => is_done = true,
            }
        }
        if !rows.is_empty() {
            emit.handed_out(rows.len());
            let (query, table) = (self.env.query.id, Arc::clone(&self.table));
            let unread = self.env.unread(bytes);
            self.env.emit(EngineEvent::Rows { query, table, tick_ms, rows, unread });
        }
        Ok(Progress::done(is_done))
    }

    fn state_bytes(&self) -> usize {
        0
    }

    fn give_up(self) -> Box<dyn Send> {
        Box::new(())
    }
}
