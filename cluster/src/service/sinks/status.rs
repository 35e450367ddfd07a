//! What is known of a sink, put together from its parts when it is asked for: nobody waits for a sink that is
//! busy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer};
use weir_sinks::pipe::Shared;
use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkState {
    Running,
    #[default]
    Retrying,
    Full,
    Failed,
}

impl SinkState {
    pub const ALL: [SinkState; 4] =
        [SinkState::Running, SinkState::Retrying, SinkState::Full, SinkState::Failed];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SinkState::Running => "running",
            SinkState::Retrying => "retrying",
            SinkState::Full => "full",
            SinkState::Failed => "failed",
        }
    }
}

/// A sink as lists show it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkRow {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it writes to, without secrets.
    pub target: String,
    pub state: SinkState,
    /// Everything up to this tick is safe at the other end.
    #[serde(rename = "acked", serialize_with = "as_time")]
    pub acked_ms: Option<u64>,
    /// What its views have reached, the slowest of them.
    #[serde(rename = "frontier", serialize_with = "as_time")]
    pub frontier_ms: Option<u64>,
    pub buffer_bytes: u64,
    pub rows_sent: u64,
    /// Accepted and not there: the sum of the following, and what a sink held that ended for good.
    pub rows_lost: u64,
    pub rows_dropped: u64,
    pub rows_refused: u64,
    pub rows_damaged: u64,
    /// Parts of what was sent that are not there: points and spans that the other end did not keep, ends of series.
    pub rejected: u64,
    /// Pieces of a buffer on disk that could not be read.
    pub parts_damaged: u64,
    /// Times so far that it ended while something waited in memory, and up to when all was safe before the last one.
    pub ends_with_loss: u64,
    #[serde(rename = "lost_since", serialize_with = "as_time")]
    pub lost_since_ms: Option<u64>,
    pub resets: u64,
    pub replaced: u64,
    /// Times that half a line, left by a crash, was cut off.
    pub halves_cut: u64,
    /// Texts that were cleaned, because the receiver refuses them as they are.
    pub cleaned: u64,
    pub errors: u64,
    pub last_error: String,
}

impl SinkRow {
    /// How far what is safe is behind its views.
    #[must_use]
    pub fn lag_ms(&self) -> Option<u64> {
        Some(self.frontier_ms?.saturating_sub(self.acked_ms?))
    }
}

fn as_time<S: Serializer>(tick_ms: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    tick_ms.map(|tick_ms| time_text(tick_unix_ns(tick_ms))).serialize(to)
}

/// How one part of a sink is.
#[derive(Default)]
struct PartStatus {
    state: SinkState,
    error: String,
}

#[derive(Default)]
struct InputStatus {
    part: PartStatus,
    /// How far its present view is; 0: it has none, or that has not got anywhere.
    view_ms: Arc<AtomicU64>,
    /// What a view has reached stays, when its successor begins anew.
    reached_ms: u64,
    /// What it has waits for room.
    is_blocked: bool,
}

#[derive(Default)]
struct Inner {
    kind: &'static str,
    target: String,
    shared: Option<Arc<Shared>>,
    writer: PartStatus,
    /// What was said when an element was refused for good, or why some went before.
    refusal: String,
    inputs: Vec<InputStatus>,
    failed: Option<String>,
    errors: u64,
    rows_lost: u64,
}

pub(super) struct Status {
    name: String,
    inner: Mutex<Inner>,
}

impl Status {
    pub(super) fn new(name: &str, inputs: usize) -> Status {
        let inputs = (0..inputs).map(|_| InputStatus::default()).collect();
        let inner = Inner { inputs, ..Inner::default() };
        Status { name: name.to_string(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What kind it is, and where it writes to.
    pub(super) fn goes_to(&self, kind: &'static str, target: &str) {
        let mut inner = self.lock();
        inner.kind = kind;
        inner.target = target.to_string();
    }

    /// What the other end is blamed for, with where that is.
    pub(super) fn blamed(&self, message: &str) -> String {
        let inner = self.lock();
        let place = inner.target.split(' ').next().unwrap_or_default();
        let name = place.trim_end_matches("/…").rsplit('/').next().unwrap_or_default();
        match name.is_empty() || message.contains(name) {
            true => message.to_string(),
            false => format!("{place}: {message}"),
        }
    }

    pub(super) fn has_pipe(&self, shared: Arc<Shared>) {
        self.lock().shared = Some(shared);
    }

    pub(super) fn writer_is(&self, state: SinkState, error: &str) {
        let mut inner = self.lock();
        inner.errors += u64::from(!error.is_empty());
        inner.writer = PartStatus { state, error: error.to_string() };
    }

    pub(super) fn refused_one(&self, text: String) {
        self.lock().refusal = text;
    }

    pub(super) fn input_is(&self, at: usize, state: SinkState, error: &str) {
        let mut inner = self.lock();
        inner.errors += u64::from(!error.is_empty());
        if let Some(input) = inner.inputs.get_mut(at) {
            // What went wrong is shown until it goes right.
            if state == SinkState::Running || !error.is_empty() {
                input.part.error = error.to_string();
            }
            input.part.state = state;
        }
    }

    pub(super) fn is_blocked(&self, at: usize, is_blocked: bool) {
        if let Some(input) = self.lock().inputs.get_mut(at) {
            input.is_blocked = is_blocked;
        }
    }

    /// The view that an input follows from now on.
    pub(super) fn follows(&self, at: usize, view_ms: Arc<AtomicU64>) {
        if let Some(input) = self.lock().inputs.get_mut(at) {
            input.reached_ms = input.reached_ms.max(input.view_ms.load(Ordering::Relaxed));
            input.view_ms = view_ms;
        }
    }

    /// It has ended for good, and what would go with it is lost.
    pub(super) fn fail(&self, why: &str) {
        let mut inner = self.lock();
        inner.errors += 1;
        inner.failed = Some(why.to_string());
    }

    pub(super) fn note_lost(&self) {
        let mut inner = self.lock();
        inner.rows_lost += inner.shared.as_ref().map_or(0, |shared| shared.health().rows_waiting);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    pub(super) fn row(&self) -> SinkRow {
        let inner = self.lock();
        let health = inner.shared.as_ref().map(|shared| shared.health()).unwrap_or_default();
        let reached = |input: &InputStatus| {
            let view_ms = input.view_ms.load(Ordering::Relaxed);
            let reached_ms = if view_ms > 0 { view_ms } else { input.reached_ms };
            (reached_ms > 0).then_some(reached_ms)
        };
        let frontier: Option<Vec<u64>> = inner.inputs.iter().map(reached).collect();
        let notes = health.notes;
        let (dropped, refused) = (health.rows_dropped, health.rows_refused);
        let (damaged, rejected) = (health.rows_damaged, notes.rejected);
        SinkRow {
            name: self.name.clone(),
            kind: inner.kind,
            target: inner.target.clone(),
            state: inner.state(),
            acked_ms: health.acked_ms,
            frontier_ms: frontier.and_then(|ticks| ticks.into_iter().min()),
            buffer_bytes: health.buffer_bytes,
            rows_sent: health.rows_sent,
            rows_lost: dropped + refused + damaged + rejected + inner.rows_lost,
            rows_dropped: dropped,
            rows_refused: refused,
            rows_damaged: damaged,
            rejected,
            parts_damaged: health.parts_damaged,
            ends_with_loss: health.went.times,
            lost_since_ms: Some(health.went.since_ms).filter(|_| health.went.times > 0),
            resets: health.resets,
            replaced: notes.replaced,
            halves_cut: notes.halves_cut,
            cleaned: notes.cleaned,
            errors: inner.errors,
            last_error: inner.error().to_string(),
        }
    }
}

impl Inner {
    fn parts(&self) -> impl Iterator<Item = &PartStatus> {
        std::iter::once(&self.writer).chain(self.inputs.iter().map(|input| &input.part))
    }

    fn state(&self) -> SinkState {
        if self.failed.is_some() {
            return SinkState::Failed;
        }
        if self.inputs.iter().any(|input| input.is_blocked) {
            return SinkState::Full;
        }
        let states = || self.parts().map(|part| part.state);
        states().find(|state| *state != SinkState::Running).unwrap_or(SinkState::Running)
    }

    fn error(&self) -> &str {
        let failed = self.failed.as_deref().into_iter();
        let parts = self.parts().map(|part| part.error.as_str());
        let mut all = failed.chain(parts).chain(std::iter::once(self.refusal.as_str()));
        all.find(|text| !text.is_empty()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the other end is blamed for says where that is, once. Catches `Connection refused` without by whom.
    #[test]
    fn errors_say_where() {
        let status = Status::new("a", 1);
        for (target, message, wanted) in [
            ("http://h:1/…", "could not connect", "http://h:1/…: could not connect"),
            ("http://h:1/…", "h:1 says no", "h:1 says no"),
            ("nats://h:4222 subject a.b", "no answer", "nats://h:4222: no answer"),
            ("out/a.jsonl", "/x/out/a.jsonl is no plain file", "/x/out/a.jsonl is no plain file"),
            ("out/a.jsonl", "could not write: no space", "out/a.jsonl: could not write: no space"),
            ("", "x", "x"),
        ] {
            status.goes_to("http", target);
            assert_eq!(status.blamed(message), wanted);
            assert_eq!(status.row().target, target);
        }
    }
}
