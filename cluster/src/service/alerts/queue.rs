//! What waits for one receiver: bounded in notices and bytes, the oldest go first, counted. Whoever steps rules
//! never waits for who sends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_rules::labels::Labels;
use weir_rules::state::Notice;

/// Notices that wait. Prometheus' own queue has 10,000.
pub(super) const NOTICES_MAX: usize = 20_000;
/// And their texts: labels and annotations may be long.
pub(super) const BYTES_MAX: usize = 32 << 20;
/// What a notice costs beside its texts.
const NOTICE_BYTES: usize = 256;

/// A notice with its number in the queue.
pub(super) type Waiting = (u64, Arc<Notice>);

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    /// Where a label set's notice is, if there is one a label set.
    newest: HashMap<Labels, u64>,
    bytes: usize,
    next: u64,
    lost: u64,
    is_over: bool,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Only the newest notice of a label set matters.
    is_state: bool,
}

fn bytes_of(notice: &Notice) -> usize {
    let labels = notice.labels.iter().map(|(name, value)| name.len() + value.len() + 64);
    let annotations = notice.annotations.iter().map(|(name, value)| name.len() + value.len() + 64);
    NOTICE_BYTES + notice.generator_url.len() + labels.chain(annotations).sum::<usize>()
}

impl Inner {
    fn remove(&mut self, number: u64) {
        let Ok(at) = self.waiting.binary_search_by_key(&number, |(number, _)| *number) else {
            return;
        };
        let Some((_, notice)) = self.waiting.remove(at) else { return };
        self.bytes -= bytes_of(&notice);
        if self.newest.get(&notice.labels) == Some(&number) {
            self.newest.remove(&notice.labels);
        }
    }
}

impl Queue {
    /// `is_state`: a later notice of a label set takes the place of an earlier one.
    pub(super) fn new(is_state: bool) -> Queue {
        Queue { inner: Mutex::default(), changed: Condvar::new(), is_state }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, notices: impl IntoIterator<Item = Arc<Notice>>) {
        let mut inner = self.lock();
        for notice in notices {
            if self.is_state
                && let Some(&earlier) = inner.newest.get(&notice.labels)
            {
                inner.remove(earlier);
            }
            inner.next += 1;
            let number = inner.next;
            if self.is_state {
                inner.newest.insert(notice.labels.clone(), number);
            }
            inner.bytes += bytes_of(&notice);
            inner.waiting.push_back((number, notice));
            while inner.waiting.len() > NOTICES_MAX || inner.bytes > BYTES_MAX {
                let Some(&(oldest, _)) = inner.waiting.front() else { break };
                inner.remove(oldest);
                inner.lost += 1;
            }
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// What is to be sent next, once there is something; it stays until it is [`Queue::done`]. `None`: it is over.
    /// With `by_name` all are of one alert's name, and no two of one label set.
    pub(super) fn wait(&self, max: usize, by_name: bool) -> Option<Vec<Waiting>> {
        let mut inner = self.lock();
        while inner.waiting.is_empty() && !inner.is_over {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.is_over {
            return None;
        }
        if !by_name {
            return Some(inner.waiting.iter().take(max).cloned().collect());
        }
        let name = inner.waiting.front()?.1.labels.alert_name().to_string();
        let mut seen = HashSet::new();
        let of_name = inner.waiting.iter().filter(|(_, it)| it.labels.alert_name() == name);
        let first = of_name.filter(|(_, it)| seen.insert(it.labels.clone()));
        Some(first.take(max).cloned().collect())
    }

    /// They have arrived, or never will.
    pub(super) fn done(&self, numbers: &[u64]) {
        let mut inner = self.lock();
        numbers.iter().for_each(|number| inner.remove(*number));
    }

    /// Waits before another attempt. False: it is over.
    pub(super) fn pause(&self, wait: Duration) -> bool {
        let inner = self.lock();
        let over = self.changed.wait_timeout_while(inner, wait, |inner| !inner.is_over);
        !over.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    /// Nothing is sent any more.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// All that waits, what is under way included.
    pub(super) fn waiting(&self) -> Vec<Arc<Notice>> {
        self.lock().waiting.iter().map(|(_, notice)| Arc::clone(notice)).collect()
    }

    /// How many wait, and how many were dropped for want of room.
    pub(super) fn counts(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.waiting.len(), inner.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_rules::state::NoticeKind;

    use super::*;

    fn notice(name: &str, svc: usize, kind: NoticeKind, text: usize) -> Arc<Notice> {
        let labels = [("alertname", name.to_string()), ("svc", svc.to_string())];
        let labels = labels.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        Arc::new(Notice {
            kind,
            labels: Labels::new(labels),
            annotations: BTreeMap::from([("t".to_string(), "x".repeat(text))]),
            starts_unix_ns: 1,
            ends_unix_ns: 2,
            generator_url: String::new(),
        })
    }

    /// However much is pushed while nobody takes anything, it stays within both bounds, the newest are there, and
    /// the others are counted; what is done is gone, what came in its place meanwhile is not.
    #[test]
    fn it_is_bounded_and_counts() {
        for is_state in [true, false] {
            let queue = Queue::new(is_state);
            let all = (0..30_000).map(|svc| notice("a", svc, NoticeKind::Fired, 0));
            queue.push(all);
            assert_eq!(queue.counts(), (NOTICES_MAX, 10_000));
            queue.push((0..200).map(|svc| notice("b", svc, NoticeKind::Fired, 1 << 20)));
            let (waiting, lost) = queue.counts();
            assert!(waiting < 33 && lost > 30_000, "{waiting} {lost}");
            assert!(queue.lock().bytes <= BYTES_MAX);
            let batch = queue.wait(10, false).unwrap();
            queue.push([notice("b", 199, NoticeKind::Resolved, 0)]);
            queue.done(&batch.iter().map(|(number, _)| *number).collect::<Vec<_>>());
            let last = queue.waiting().pop().unwrap();
            assert_eq!(last.kind, NoticeKind::Resolved);
            let of_last = queue.waiting().iter().filter(|it| it.labels == last.labels).count();
            assert_eq!(of_last, if is_state { 1 } else { 2 });
            let rest: Vec<u64> =
                queue.wait(100, false).unwrap().iter().map(|(number, _)| *number).collect();
            queue.done(&rest);
            let inner = queue.lock();
            assert_eq!((inner.bytes, inner.waiting.len(), inner.newest.len()), (0, 0, 0));
        }
    }

    /// A message has one name and each alert once, in order: catches a payload that says of an alert that it
    /// fires and that it does not.
    #[test]
    fn messages_are_of_one_name() {
        let queue = Queue::new(false);
        let (fired, resolved) = (NoticeKind::Fired, NoticeKind::Resolved);
        queue.push([notice("a", 1, fired, 0), notice("b", 1, fired, 0), notice("a", 2, fired, 0)]);
        queue.push([notice("a", 1, resolved, 0), notice("a", 1, fired, 0)]);
        let mut seen = Vec::new();
        while let Some(batch) = (queue.counts().0 > 0).then(|| queue.wait(9, true).unwrap()) {
            seen.push(batch.iter().map(|(number, _)| *number).collect::<Vec<_>>());
            queue.done(seen.last().unwrap());
        }
        assert_eq!(seen, [vec![1, 3], vec![2], vec![4], vec![5]]);
        queue.end();
        assert!(queue.wait(1, false).is_none() && !queue.pause(Duration::from_secs(60)));
    }
}
