//! Which sources are kept, and by what they are known again after a restart.

use weir_proto::envelope;
use weir_types::Expr;
use weir_types::plan::{EndBound, PLAN_VERSION, SlidingWindow, StartBound, Window};
use weir_types::shared::Shared;
use weir_types::split::{NodePlan, Shape, Source, TableScan};

/// Windows longer than this are kept: those whose panes are 10 s or more. Shorter ones are whole again within
/// minutes, and mostly filled from the history.
pub use weir_proto::message::KEPT_FROM_NS;

/// Raised when what is in a store means something else.
const FORM_VERSION: u32 = 1;
/// A source is never larger: its plan came in a message.
const IDENTITY_BYTES_MAX: usize = 1 << 20;

/// A source with the panes that its rows are folded into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeptSource {
    pub source: Source,
    pub sliding: SlidingWindow,
}

impl KeptSource {
    /// Partial results over a window that slides up to now, longer than [`KEPT_FROM_NS`]. Rows are not kept as they
    /// are; a window that ends before now has rows that are in no result yet.
    #[must_use]
    pub fn of(source: Source) -> Option<KeptSource> {
        let window = source.window();
        let StartBound::Relative { window_ns } = window.start else { return None };
        let is_kept = window_ns > KEPT_FROM_NS
            && window.end == EndBound::Now
            && matches!(source.shape, Shape::Partial { .. })
            && !reads_now(&source);
        is_kept.then(|| KeptSource { sliding: SlidingWindow::of(window_ns), source })
    }

    /// The one that slides up to now and holds the panes of a source of a time of the past; and that time. `None`: it
    /// is not of such a time, or ends within a pane.
    #[must_use]
    pub fn of_past(mut source: Source) -> Option<(KeptSource, i64)> {
        let Window { start, end } = source.window();
        let StartBound::Then { window_ns, at_unix_ns } = start else { return None };
        let mut scan = TableScan::clone(&source.scan);
        scan.scan.window = Window { start: StartBound::Relative { window_ns }, end: EndBound::Now };
        source.scan = Shared::new(scan);
        let kept = KeptSource::of(source)?;
        let ends_then = end == EndBound::Absolute { end_unix_ns: at_unix_ns };
        let is_whole = at_unix_ns % kept.sliding.pane_ns == 0;
        (ends_then && is_whole).then_some((kept, at_unix_ns))
    }

    /// Those of a node plan, by their exchange.
    pub fn of_plan(plan: &NodePlan) -> impl Iterator<Item = (usize, KeptSource)> {
        (0..plan.sends.len()).filter_map(|at| Some((at, KeptSource::of(plan.source(at)?)?)))
    }

    /// `None`: it is too large to be kept.
    #[must_use]
    pub fn identity(&self) -> Option<Vec<u8>> {
        let bytes = envelope::encode(&(FORM_VERSION, PLAN_VERSION, &self.source)).ok()?;
        (bytes.len() <= IDENTITY_BYTES_MAX).then_some(bytes)
    }

    /// `None`: it is of another version, or none.
    #[must_use]
    pub fn known_by(identity: &[u8]) -> Option<KeptSource> {
        let (form, plan, source) = envelope::decode::<(u32, u32, Source)>(identity).ok()?;
        let is_ours = (form, plan) == (FORM_VERSION, PLAN_VERSION);
        KeptSource::of(source).filter(|_| is_ours)
    }

    #[must_use]
    pub fn plan(&self) -> NodePlan {
        NodePlan::of([&self.source])
    }

    #[must_use]
    pub fn table(&self) -> &str {
        self.source.table()
    }
}

fn reads_now(source: &Source) -> bool {
    source.steps.iter().flat_map(|step| step.expressions()).any(Expr::reads_now)
}
