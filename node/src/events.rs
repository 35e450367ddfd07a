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
    /// With the engine's generation; at most as many as there are queries.
    queries: Mutex<BTreeSet<(u64, QueryId)>>,
}

impl Lost {
    fn note(&self, generation: u64, query: QueryId) {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.insert((generation, query));
        drop(queries);
        self.any.store(true, Ordering::Release);
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(query, "the queue of engine events is full: queries are ended");
        }
    }
}

/// The node's end.
pub(crate) struct Events {
    pub(crate) queue: Receiver<(u64, EngineEvent)>,
    lost: Arc<Lost>,
}

/// What engine threads call, and the other end. `max`: events that may wait.
pub(crate) fn engine_events(max: usize) -> (Arc<dyn Fn(u64, EngineEvent) + Send + Sync>, Events) {
    let (send, queue): (Sender<(u64, EngineEvent)>, _) = bounded(max);
    let lost = Arc::new(Lost::default());
    let noted = lost.clone();
    let emit = Arc::new(move |generation: u64, event: EngineEvent| {
        let Err(error) = send.try_send((generation, event)) else { return };
        // The death of an engine is seen without being told.
        if let Some(query) = query_of(&error.into_inner().1) {
            noted.note(generation, query);
        }
    });
    (emit, Events { queue, lost })
}

impl Events {
    /// Queries of this generation that lost an event since the last call. To be called before each event
    /// is looked at.
    pub(crate) fn take_lost(&self, generation: u64) -> BTreeSet<QueryId> {
        if !self.lost.any.swap(false, Ordering::Acquire) {
            return BTreeSet::new();
        }
        let mut queries = self.lost.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = std::mem::take(&mut *queries).into_iter();
        lost.filter(|(of, _)| *of == generation).map(|(_, query)| query).collect()
    }

    pub(crate) fn lost_total(&self) -> u64 {
        self.lost.count.load(Ordering::Relaxed)
    }
}

fn query_of(event: &EngineEvent) -> Option<QueryId> {
    match event {
        EngineEvent::Changes { query, .. }
        | EngineEvent::Rows { query, .. }
        | EngineEvent::Frontier { query, .. }
        | EngineEvent::Failed { query, .. }
        | EngineEvent::Removed { query } => Some(*query),
        EngineEvent::Died { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use weir_engine::Unread;

    use super::*;

    /// Catches a full queue that swallows a query's changes and then passes its frontier on.
    #[test]
    fn a_query_that_lost_an_event_is_told_first() {
        let (emit, events) = engine_events(2);
        let changes = |query| EngineEvent::Changes {
            query,
            exchange: 0,
            tick_ms: 1,
            changes: Vec::new(),
            unread: Unread::default(),
        };
        emit(7, changes(1));
        emit(7, changes(2));
        emit(7, changes(3));
        emit(7, changes(3));
        emit(6, changes(4));
        assert_eq!(events.queue.try_recv(), Ok((7, changes(1))));
        emit(7, EngineEvent::Frontier { query: 3, tick_ms: 1 });
        assert_eq!(events.take_lost(7), BTreeSet::from([3]));
        assert!(events.take_lost(7).is_empty());
        assert_eq!(events.lost_total(), 3);
    }
}
