//! Long windows over restarts: what the store has and what history has make each answer, no row twice and none missing.

use std::cell::Cell;

use proptest::prelude::*;
use weir_dataflow_tests::check::check;
use weir_dataflow_tests::drive::{
    Compared, DriveError, Feeding, Query, Restarts, compare_past, compare_restarts, pushed_split,
};
use weir_dataflow_tests::generate::stretch::stretch;
use weir_dataflow_tests::generate::{self, Case, Style};
use weir_node::store::KeptSource;
use weir_types::plan::{EndBound, OpKind, SlidingWindow, StartBound, Window};

/// Windows of minutes, hours and days: panes of 10 s, 1 and 5 min, and 1 h.
const WINDOWS_S: [i64; 5] = [301, 3600, 3601, 21_600, 200_000];

/// Plans of all kinds, and three times as many of an aggregate and something after it: what is kept.
fn kept_case() -> impl Strategy<Value = Case> {
    let grouped = crate::overflow::grouped(40).prop_map(|(case, _)| case);
    prop_oneof![3 => grouped, 1 => generate::case(Style::Compiled, 40)]
}

/// The case with long windows; `None` if it reads anything else than one source that is kept.
fn long(mut case: Case, window: usize) -> Option<Case> {
    let window_ns = WINDOWS_S[window % WINDOWS_S.len()] * 1_000_000_000;
    for op in &mut case.plan.ops {
        if let OpKind::Scan(scan) = &mut op.kind {
            let start = StartBound::Relative { window_ns };
            scan.window = Window { start, end: EndBound::Now };
        }
    }
    let split = pushed_split(&case.plan);
    let kept = KeptSource::of_plan(&split.node()).count();
    (split.sources.len() == 1 && kept == 1).then_some(case)
}

/// Random plans over one long window, ticks seconds to hours apart, late and early rows, servers that die at
/// random ticks: each answer equals the model over what the store had and what came since. Catches rows that are
/// both in the store and replayed, rows that are in neither, panes that come back after they have left, corrections
/// that are lost, and a store that is taken for another plan's.
#[test]
fn answers_go_on_over_restarts() {
    let (total, again, cases) = (Cell::new(Compared::default()), Cell::new(0), Cell::new(0));
    let what = (
        kept_case(),
        proptest::array::uniform4(0usize..16),
        proptest::bool::ANY,
        0usize..WINDOWS_S.len(),
    );
    check(600, what, |(case, [first, second, later, installed], settled, window)| {
        let Some(mut case) = long(case, window) else { return Ok(()) };
        // Ticks of hours leave nothing to find again in windows of minutes.
        let factor = [1, 1, 10, 100][later % 4];
        let factor = if case.plan.reads_now() { 1 } else { factor };
        let mut plain = case.plan.clone();
        stretch(&mut plain, &mut case.world, &mut case.feed, factor);
        let ticks = case.feed.ticks_ms.len();
        let restarts = Restarts {
            before: vec![1 + first % ticks, 1 + second % ticks],
            asked_after: later % 3,
            settled,
        };
        let split = pushed_split(&case.plan);
        let query = Query {
            plan: &case.plan,
            split: &split,
            installed_after: installed % 4,
            refresh_times: 1,
        };
        let directory = tempfile::tempdir().expect("a directory");
        let feed = Feeding { installed_after: 0, ..case.feed.clone() };
        let (compared, found) =
            compare_restarts(&query, &restarts, &case.world, &feed, directory.path())?;
        total.set(total.get().with(compared));
        again.set(again.get() + found);
        cases.set(cases.get() + 1);
        Ok::<_, DriveError>(())
    });
    let (total, again, cases) = (total.get(), again.get(), cases.get());
    eprintln!("{total:?}, {again} found again in {cases} cases");
    assert!(cases > 200, "hardly any plan reads one kept source: {cases}");
    let enough = total.rows > cases && again > cases;
    assert!(enough, "{total:?}, {again} found again in {cases} cases");
}

/// Random plans over one long window, by a server that has died and has nothing of the past but its store: what they
/// answered about times of the last hour is what the model says of then, also of windows that are longer than what any
/// history holds. Catches panes that are cut off with their window, and those of after that time.
#[test]
fn answers_of_the_past_come_from_the_store() {
    let (total, cases) = (Cell::new(Compared::default()), Cell::new(0));
    let what = (kept_case(), 0i64..360, 0usize..WINDOWS_S.len());
    check(300, what, |(case, back, window)| {
        let Some(mut case) = long(case, window) else { return Ok(()) };
        if case.plan.reads_now() {
            return Ok(());
        }
        let mut plain = case.plan.clone();
        stretch(&mut plain, &mut case.world, &mut case.feed, 100);
        let split = pushed_split(&case.plan);
        let query = Query { plan: &case.plan, split: &split, installed_after: 0, refresh_times: 1 };
        let directory = tempfile::tempdir().expect("a directory");
        // Panes stay for an hour.
        let window = SlidingWindow::of(WINDOWS_S[window % WINDOWS_S.len()] * 1_000_000_000);
        let most = 3_600_000_000_000 / window.pane_ns;
        let back = [back % most.min(6), back % most, 0];
        let feed = Feeding { installed_after: 0, ..case.feed.clone() };
        let compared = compare_past(&query, &back, &case.world, &feed, directory.path())?;
        total.set(total.get().with(compared));
        cases.set(cases.get() + 1);
        Ok::<_, DriveError>(())
    });
    let (total, cases) = (total.get(), cases.get());
    eprintln!("{total:?} in {cases} cases");
    assert!(cases > 100 && total.rows > cases, "{total:?} in {cases} cases");
}
