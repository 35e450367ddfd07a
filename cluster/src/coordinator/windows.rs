//! What a query reads of time: the windows of its scans at a frontier.

use std::collections::BTreeMap;

use weir_types::ledger::Span;
use weir_types::plan::{EndBound, SlidingWindow, StartBound, Window};
use weir_types::split::Source;

/// The event times that a query reads of its tables, as its scans say it.
pub(super) struct Windows(Vec<(String, Window)>);

/// A window at a frontier.
pub(super) struct Seen {
    pub(super) span: Span,
    /// The earliest start that the script named: everything from there on must be there.
    pub(super) named_from_unix_ns: Option<i64>,
}

impl Windows {
    pub(super) fn of(sources: &[Source]) -> Windows {
        let window = |source: &Source| (source.table().to_string(), source.window());
        Windows(sources.iter().map(window).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Table → the window at a frontier; of several scans, what spans them all.
    pub(super) fn at(&self, frontier_ns: i64, retention_ns: Option<i64>) -> BTreeMap<&str, Seen> {
        let mut all: BTreeMap<&str, Seen> = BTreeMap::new();
        for (table, window) in &self.0 {
            let seen = see(window, frontier_ns, retention_ns);
            let Some(have) = all.get_mut(table.as_str()) else {
                all.insert(table, seen);
                continue;
            };
            let named = [have.named_from_unix_ns, seen.named_from_unix_ns];
            have.named_from_unix_ns = named.into_iter().flatten().min();
            have.span = Span::new(
                have.span.from_unix_ns.min(seen.span.from_unix_ns),
                have.span.to_unix_ns.max(seen.span.to_unix_ns),
            );
        }
        all
    }
}

fn see(window: &Window, frontier_ns: i64, retention_ns: Option<i64>) -> Seen {
    let kept_from = retention_ns
        .map_or(i64::MIN, |retention_ns| SlidingWindow::of(retention_ns).start_at(frontier_ns));
    let (from_unix_ns, is_named) = match window.start {
        StartBound::Beginning => (kept_from, false),
        StartBound::Relative { window_ns } => {
            (SlidingWindow::of(window_ns).start_at(frontier_ns), true)
        }
        StartBound::Absolute { start_unix_ns } => {
            (start_unix_ns.saturating_sub(1).max(kept_from), true)
        }
        StartBound::Then { window_ns, at_unix_ns } => {
            (SlidingWindow::of(window_ns).start_at(at_unix_ns), true)
        }
    };
    let to_unix_ns = match window.end {
        EndBound::Now => frontier_ns,
        EndBound::Relative { before_ns } => frontier_ns.saturating_sub(before_ns),
        EndBound::Absolute { end_unix_ns } => frontier_ns.min(end_unix_ns),
    };
    let named_from_unix_ns = is_named.then_some(from_unix_ns);
    Seen { span: Span::new(from_unix_ns, to_unix_ns), named_from_unix_ns }
}
