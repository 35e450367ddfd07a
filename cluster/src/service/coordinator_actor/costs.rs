//! What a query would cost, estimated from what nodes say of their tables and from the feeds that there are; and
//! whether it is above the limit. It installs nothing.

use actix::prelude::*;

use super::{CoordinatorActor, Refusal};
use crate::cost::{Estimate, Known, estimate};
use crate::service::Installable;

/// The code of what is refused for what it would cost.
pub const QUERY_COST: &str = "query_cost";

const MIB: f64 = 1_048_576.0;

/// What it would cost to follow this now.
#[derive(Message)]
#[rtype(result = "Estimate")]
pub struct EstimateCost(pub Installable);

impl Handler<EstimateCost> for CoordinatorActor {
    type Result = MessageResult<EstimateCost>;
    fn handle(&mut self, message: EstimateCost, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.estimate(&message.0))
    }
}

impl CoordinatorActor {
    /// How many rows tables have is looked at whenever a node has said it.
    pub(super) fn note_tables(&mut self, name: &str) {
        let nodes = self.core.nodes();
        // A node that has just registered has said nothing of its tables yet.
        if let Some(node) = nodes.get(name).filter(|node| !node.tables.is_empty()) {
            self.arrivals.note(self.shared.clock.now_unix_ns(), name, &node.tables);
        }
        if self.arrivals.len() > nodes.len() {
            self.arrivals.keep(|name| nodes.contains_key(name));
        }
    }

    fn estimate(&self, installable: &Installable) -> Estimate {
        let prepared = &installable.prepared;
        let split = &*prepared.split;
        let running = {
            let registry = self.registry();
            let view = registry.find(&prepared.identity, prepared.refresh_ms);
            view.and_then(|view| registry.get(view)).map(|entry| entry.run)
        };
        let now_unix_ns = self.shared.clock.now_unix_ns();
        let began = |name: &str| {
            let node = self.core.nodes().get(name);
            node.map_or(0, |node| i64::try_from(node.info.incarnation).unwrap_or(0))
        };
        let mut names: Vec<&str> = split.sources.iter().map(|source| source.table()).collect();
        names.sort_unstable();
        names.dedup();
        let tables = names.iter().flat_map(|table| self.arrivals.of(table, now_unix_ns, began));
        let known = Known {
            split,
            refresh_ms: prepared.refresh_ms,
            shared: &self.core.shared(split, prepared.refresh_ms),
            running,
            tables: &tables.collect::<Vec<_>>(),
            now_unix_ns,
        };
        estimate(&known, &self.shared.cost_limits)
    }

    /// Why a query is not installed for what it is expected to hold.
    pub(super) fn refuse_cost(&self, installable: &Installable) -> Result<(), Refusal> {
        let limits = &self.shared.cost_limits;
        let found = self.estimate(installable);
        if !found.is_above(limits) {
            return Ok(());
        }
        let largest = found
            .sources
            .iter()
            .max_by(|one, other| one.state_bytes.total_cmp(&other.state_bytes))
            .filter(|source| source.state_bytes > 0.0)
            .map_or_else(String::new, |source| {
                format!(
                    ", most of it {} of {} over {} s",
                    source.shape,
                    source.table,
                    source.window_ns / 1_000_000_000
                )
            });
        let message = format!(
            "the query is expected to hold {:.1} MiB{largest}; the limit is {:.1} MiB \
             (--query-cost-max). Take a shorter window, filter more, or group by fewer columns \
             (`weir explain --cost` shows what each costs); or ask for it all the same with \
             --force (`accept_cost`)",
            found.total.state_bytes / MIB,
            limits.query_cost_max as f64 / MIB
        );
        Err(Refusal::new(QUERY_COST, message))
    }
}
