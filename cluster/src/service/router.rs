//! Where the engine's events go. Rows go straight to their view's inbox; frontiers, failures and deaths
//! are kept here, one per query, until the coordinator takes them. So nothing waits in a queue that
//! could be full, and an engine worker never waits for anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use weir_engine::EngineEvent;
use weir_proto::QueryId;

use super::inbox::{Item, ViewInbox};

/// What the coordinator has to know.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) frontiers: BTreeMap<QueryId, u64>,
    pub(crate) failed: BTreeMap<QueryId, String>,
}

#[derive(Default)]
struct Inner {
    routes: BTreeMap<QueryId, Arc<ViewInbox>>,
    moved: Moved,
}

#[derive(Default)]
pub(crate) struct Router {
    inner: Mutex<Inner>,
    news: Notify,
}

impl Router {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called on engine workers.
    pub(crate) fn emit(&self, event: EngineEvent) {
        match event {
            EngineEvent::Rows { query, table, tick_ms, rows, unread } => {
                let Some(inbox) = self.lock().routes.get(&query).cloned() else { return };
                if inbox.push(Item::Rows { run: query, tick_ms, table, rows, _unread: unread }) {
                    return;
                }
                self.lock().moved.failed.insert(query, "the view went down".to_string());
            }
            EngineEvent::Frontier { query, tick_ms } => {
                let mut inner = self.lock();
                let frontier = inner.moved.frontiers.entry(query).or_default();
                *frontier = tick_ms.max(*frontier);
            }
            EngineEvent::Failed { query, message } => {
                self.lock().moved.failed.insert(query, message);
            }
            // The coordinator asks whether the engine lives.
            EngineEvent::Died { .. } => {}
            EngineEvent::Changes { .. } | EngineEvent::Removed { .. } => return,
        }
        self.news.notify_one();
    }

    pub(crate) async fn has_news(&self) {
        self.news.notified().await;
    }

    /// At most `max` frontiers, and all failures. What is left is news again.
    pub(crate) fn take(&self, max: usize) -> Moved {
        let mut inner = self.lock();
        let failed = std::mem::take(&mut inner.moved.failed);
        let later = inner.moved.frontiers.keys().nth(max).copied();
        let rest = later.map(|query| inner.moved.frontiers.split_off(&query)).unwrap_or_default();
        let frontiers = std::mem::replace(&mut inner.moved.frontiers, rest);
        let more = !inner.moved.frontiers.is_empty();
        drop(inner);
        if more {
            self.news.notify_one();
        }
        Moved { frontiers, failed }
    }

    pub(crate) fn set(&self, run: QueryId, inbox: Arc<ViewInbox>) {
        self.lock().routes.insert(run, inbox);
    }

    /// Nothing of this query is news any more.
    pub(crate) fn forget(&self, run: QueryId) {
        let mut inner = self.lock();
        inner.routes.remove(&run);
        inner.moved.frontiers.remove(&run);
        inner.moved.failed.remove(&run);
    }
}
