//! The way from the engine's threads to the node's: a bounded queue that never blocks. An event that
//! finds it full is gone, and with it its query: a view that misses a change would be wrong without
//! a word. So the query is remembered, and ended before anything else is said of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use weir_engine::EngineEvent;
use weir_proto::QueryId;

#[derive(Default)]
struct Lost {
    count: AtomicU64,
    any: AtomicBool,
    /// At most as many as there are queries.
    queries: Mutex<BTreeSet<QueryId>>,
}

impl Lost {
    fn note(&self, query: QueryId) {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).insert(query);
        self.any.store(true, Ordering::Release);
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(query, "the queue of engine events is full: queries are ended");
        }
    }
}

/// The node's end.
pub(crate) struct Events {
    pub(crate) queue: Receiver<EngineEvent>,
    lost: Arc<Lost>,
}

/// What engine threads call, and the other end. `max`: events that may wait.
pub(crate) fn engine_events(max: usize) -> (Arc<dyn Fn(EngineEvent) + Send + Sync>, Events) {
    let (send, queue): (Sender<EngineEvent>, _) = bounded(max);
    let lost = Arc::new(Lost::default());
    let noted = lost.clone();
    let emit = Arc::new(move |event: EngineEvent| {
        if let Err(error) = send.try_send(event) {
            noted.note(query_of(&error.into_inner()));
        }
    });
    (emit, Events { queue, lost })
}

impl Events {
    /// Queries that lost an event since the last call. To be called before each event is looked at.
    pub(crate) fn take_lost(&self) -> BTreeSet<QueryId> {
        if !self.lost.any.swap(false, Ordering::Acquire) {
            return BTreeSet::new();
        }
        std::mem::take(&mut *self.lost.queries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn lost_total(&self) -> u64 {
        self.lost.count.load(Ordering::Relaxed)
    }
}

fn query_of(event: &EngineEvent) -> QueryId {
    match event {
        EngineEvent::Changes { query, .. }
        | EngineEvent::Rows { query, .. }
        | EngineEvent::Frontier { query, .. }
        | EngineEvent::Failed { query, .. }
        | EngineEvent::Removed { query } => *query,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a full queue that swallows a query's changes and then passes its frontier on.
    #[test]
    fn a_query_that_lost_an_event_is_told_first() {
        let (emit, events) = engine_events(2);
        let changes =
            |query| EngineEvent::Changes { query, exchange: 0, tick_ms: 1, changes: Vec::new() };
        emit(changes(1));
        emit(changes(2));
        emit(changes(3));
        emit(changes(3));
        assert_eq!(events.queue.try_recv(), Ok(changes(1)));
        emit(EngineEvent::Frontier { query: 3, tick_ms: 1 });
        assert_eq!(events.take_lost(), BTreeSet::from([3]));
        assert!(events.take_lost().is_empty());
        assert_eq!(events.lost_total(), 2);
    }
}
