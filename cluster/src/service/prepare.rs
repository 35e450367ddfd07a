//! From a request to something that can be installed at once: compiled off the actors, within the compile
//! limits, with its programs, or taken from the plans that are kept; a script that reads a table which nothing produces yet waits for sources that
//! start. It installs nothing.

use std::sync::Arc;
use std::time::Duration;

use super::plans::PlanKey;
use super::{AvailableTables, NotCompiled, Service, Wanted};
use crate::coordinator::ReadyPlan;
use crate::planner::{self, Prepared, ScriptRequest};

/// Longest wait for sources that start. Attaching takes seconds; who waits longer hears that nothing
/// produces the table.
const SOURCES_WAIT: Duration = Duration::from_secs(60);

/// Installing it compiles nothing.
#[derive(Clone)]
pub struct Installable {
    pub prepared: Prepared,
    pub(crate) ready: ReadyPlan,
}

/// The whole way.
///
/// # Errors
/// The script does not compile, or nothing produces what it reads; or there was no turn to compile.
pub async fn prepare(
    service: &Service,
    request: &ScriptRequest,
    wanted: Wanted,
) -> Result<Installable, NotCompiled> {
    let is_stale = matches!(wanted, Wanted::Stale { .. });
    let mut settled = service.settled.clone();
    let is_settled = settled.now();
    let first = prepare_now(service, request).await;
    let lacks_source = match &first {
        Ok(installable) => !installable.prepared.without_source.is_empty(),
        Err(error) => error.code() == "no_source",
    };
    if is_settled || !lacks_source || is_stale {
        return first;
    }
    if settled.within(SOURCES_WAIT).await { prepare_now(service, request).await } else { first }
}

async fn prepare_now(
    service: &Service,
    request: &ScriptRequest,
) -> Result<Installable, NotCompiled> {
    let tables = service.coordinator.send(AvailableTables).await;
    let tables = tables.map_err(|error| NotCompiled::Stopping(error.to_string()))?;
    let request = &service.with_views(request);
    let key = Arc::new(PlanKey::new(request, tables));
    let tick_ms = service.tick_ms;
    if let Some(mut found) = service.plans.get(&key) {
        found.prepared.refresh_ms = planner::refresh_ms(request, &found.prepared.plan, tick_ms)?;
        return Ok(found);
    }
    let request = request.clone();
    let (engines, plans) = (Arc::clone(&service.engine), Arc::clone(&service.plans));
    // Nobody asks for that time again.
    let is_kept = request.at_unix_ns.is_none();
    let compiled = service.compiles.run(move |allowance| {
        let has_table = |name: &str| key.has_table(name);
        let prepared = planner::prepare_within(&request, tick_ms, None, &has_table, allowance)?;
        let ready = ReadyPlan::new(Arc::clone(&prepared.split), &engines.engine());
        let installable = Installable { prepared, ready };
        if is_kept {
            plans.keep(key, &installable);
        }
        Ok(installable)
    });
    compiled.await
}
