//! Which ticks an offline run must visit: those at which some view can change. All others are
//! skipped, so that a day of sparse rows costs as little as a minute of them.

use std::collections::BTreeSet;

use weir_types::plan::{EndBound, Plan, StartBound, Window};

const MS_NS: i64 = 1_000_000;

/// Times as ticks: the first multiple of `step_ms` at or after `time_unix_ns`.
#[must_use]
pub(crate) fn tick_at(time_unix_ns: i64, step_ms: u64) -> u64 {
    let step_ns = i64::try_from(step_ms).unwrap_or(i64::MAX).saturating_mul(MS_NS).max(1);
    let ticks = time_unix_ns.max(0).saturating_add(step_ns - 1) / step_ns;
    u64::try_from(ticks).unwrap_or(0).saturating_mul(step_ms)
}

/// The ticks to visit, ascending.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    ticks: BTreeSet<u64>,
    tick_ms: u64,
    refresh_ms: u64,
}

impl Schedule {
    #[must_use]
    pub(crate) fn new(tick_ms: u64, refresh_ms: u64) -> Schedule {
        Schedule { ticks: BTreeSet::new(), tick_ms, refresh_ms }
    }

    /// The row is admitted at its arrival's tick, and the view may change at the refresh after it.
    fn visit(&mut self, time_unix_ns: i64) {
        self.ticks.insert(tick_at(time_unix_ns, self.refresh_ms));
    }

    /// Notes everything that one row can do to a scan with this window.
    pub(crate) fn add_row(&mut self, window: &Window, arrival_unix_ns: i64, time_unix_ns: i64) {
        self.ticks.insert(tick_at(arrival_unix_ns, self.tick_ms));
        self.visit(arrival_unix_ns);
        let enters = match window.end {
            EndBound::Relative { before_ns } => time_unix_ns.saturating_add(before_ns),
            EndBound::Now | EndBound::Absolute { .. } => time_unix_ns,
        };
        if enters > arrival_unix_ns {
            self.visit(enters);
        }
        if let StartBound::Relative { .. } = window.start
            && let Some(sliding) = window.sliding(None)
        {
            let pane_end = (sliding.pane_of(time_unix_ns) + 1).saturating_mul(sliding.pane_ns);
            self.visit(pane_end.saturating_add(sliding.window_ns));
        }
    }

    /// A plan that reads the clock changes at every refresh.
    pub(crate) fn add_every_refresh(&mut self, from_ms: u64, to_ms: u64) {
        let mut tick = from_ms.div_ceil(self.refresh_ms) * self.refresh_ms;
        while tick <= to_ms {
            self.ticks.insert(tick);
            tick += self.refresh_ms;
        }
    }

    /// The ticks from `from_ms` to `to_ms`, both included.
    pub(crate) fn ticks(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = u64> + '_ {
        self.ticks.range(from_ms..=to_ms.max(from_ms)).copied()
    }
}

/// The windows in which a plan scans a table.
pub(crate) fn windows<'a>(plan: &'a Plan, table: &'a str) -> impl Iterator<Item = Window> + 'a {
    plan.scans().filter(move |(name, _)| *name == table).map(|(_, window)| window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: i64 = 1_000_000_000;

    /// A row is visited on arrival and when its pane leaves the window, and nowhere between.
    #[test]
    fn visits_arrival_and_expiry() {
        let window =
            Window { start: StartBound::Relative { window_ns: 10 * SEC }, end: EndBound::Now };
        let mut schedule = Schedule::new(1000, 1000);
        schedule.add_row(&window, 5 * SEC + 1, 5 * SEC);
        let ticks: Vec<u64> = schedule.ticks(0, u64::MAX).collect();
        assert_eq!(ticks, [6_000, 15_000]);
    }

    /// Ticks are rounded up, refreshes are multiples of their own step.
    #[test]
    fn rounds_up() {
        assert_eq!(tick_at(1, 100), 100);
        assert_eq!(tick_at(100 * MS_NS, 100), 100);
        assert_eq!(tick_at(100 * MS_NS + 1, 100), 200);
    }
}
