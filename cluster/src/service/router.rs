//! Where the engine's events go. Rows and frontiers go straight to their view's inbox, in their order;
//! failures are kept here until the coordinator takes them. So nothing waits in a queue that could be
//! full, and an engine worker never waits for anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use weir_engine::EngineEvent;
use weir_proto::QueryId;

use super::inbox::{Item, ViewInbox};

#[derive(Default)]
struct Inner {
    routes: BTreeMap<QueryId, Arc<ViewInbox>>,
    failed: BTreeMap<QueryId, String>,
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
                let item = Item::Rows { run: query, tick_ms, table, rows, _unread: unread };
                self.hand_over(query, item);
            }
            EngineEvent::Frontier { query, tick_ms } => {
                self.hand_over(query, Item::Advance { run: query, tick_ms });
            }
            EngineEvent::Failed { query, message } => self.fail(query, message),
            // The coordinator asks whether the engine lives.
            EngineEvent::Died { .. } => self.news.notify_one(),
            EngineEvent::Changes { .. } | EngineEvent::Removed { .. } => {}
        }
    }

    fn hand_over(&self, query: QueryId, item: Item) {
        let Some(inbox) = self.lock().routes.get(&query).cloned() else { return };
        if !inbox.push(item) {
            self.fail(query, "the view went down".to_string());
        }
    }

    fn fail(&self, query: QueryId, message: String) {
        self.lock().failed.insert(query, message);
        self.news.notify_one();
    }

    pub(crate) async fn has_news(&self) {
        self.news.notified().await;
    }

    /// What has failed since the last call.
    pub(crate) fn take_failed(&self) -> BTreeMap<QueryId, String> {
        std::mem::take(&mut self.lock().failed)
    }

    pub(crate) fn set(&self, run: QueryId, inbox: Arc<ViewInbox>) {
        self.lock().routes.insert(run, inbox);
    }

    /// Nothing of this query is news any more.
    pub(crate) fn forget(&self, run: QueryId) {
        let mut inner = self.lock();
        inner.routes.remove(&run);
        inner.failed.remove(&run);
    }
}
