//! Samples of what operators have done, without engines: rates, what began anew, and what does not fit.

use super::*;

const SEC_NS: i64 = 1_000_000_000;

fn operator(place: OperatorPlace, kind: &str, rows: u64, busy_ns: u64) -> OperatorFigures {
    let kind = kind.to_string();
    OperatorFigures {
        place,
        kind,
        rows_in: rows,
        rows_out: rows / 2,
        held_bytes: 100,
        busy_ns,
        runs: 1,
    }
}

fn figures(query: QueryId, operators: Vec<OperatorFigures>) -> QueryFigures {
    QueryFigures { query, refresh_ms: 1_000, operators, ..QueryFigures::default() }
}

fn query(query: QueryId) -> QueryNow {
    QueryNow {
        query,
        name: "px/test".to_string(),
        refresh_ms: 1_000,
        refreshes: RefreshFigures::default(),
        lateness_ns: 0,
        readers: 1,
    }
}

/// A query and the feed that it reads, on a node and here, when `rows` have come.
fn sample(state: &mut State, now_s: i64, rows: u64) -> Sample {
    let info = FeedInfo {
        feed: 2,
        tables: vec!["http_events".to_string()],
        exchanges: 1,
        refresh_ms: 1_000,
        readers: vec![1],
    };
    state.feeds = Arc::new(vec![info]);
    let scan = operator(OperatorPlace::Op(0), "Scan", rows, rows * 10);
    let send = operator(OperatorPlace::Exchange(0), "Send", rows, rows * 10);
    let said = vec![figures(2, vec![scan, send]), figures(77, vec![OperatorFigures::default()])];
    state.heard(now_s * SEC_NS, "node-1", said, 0);
    let window = operator(OperatorPlace::Exchange(0), "PaneWindow", rows, rows);
    let import = operator(OperatorPlace::Op(0), "Import", rows, rows);
    let output = operator(OperatorPlace::Output(0), "Output", rows, rows);
    let here = [figures(1, vec![import, output]), figures(2, vec![window])];
    state.sample(now_s * SEC_NS, vec![query(1)], &here)
}

/// Rates are over the last samples, and what a feed does is what it does on nodes and here. Catches rates over
/// the whole life, and rows that are counted at each operator they pass.
#[test]
fn rates_are_of_the_last_samples() {
    let mut state = State::default();
    let first = sample(&mut state, 100, 1_000);
    assert_eq!((first.over_ns, first.per_s(7)), (0, 0.0), "nothing to compare with");
    assert!(first.rows().is_empty());
    let second = sample(&mut state, 101, 1_400);
    assert_eq!(second.over_ns, SEC_NS as u64);
    let feed = second.total(2);
    let busy_ns = 400 * 10 * 2 + 400;
    assert_eq!(feed.recent, Counts { rows_in: 400, rows_out: 200, busy_ns });
    assert_eq!(feed.held_bytes, 300);
    assert_eq!(second.total(1).recent, Counts { rows_in: 400, rows_out: 200, busy_ns: 800 });
    for at in 102..120 {
        sample(&mut state, at, 1_400 + (at as u64 - 101) * 10);
    }
    let later = sample(&mut state, 120, 1_590);
    assert_eq!(later.over_ns, SAMPLES_MAX as u64 * SEC_NS as u64);
    assert_eq!(later.per_s(later.total(1).recent.rows_in), 10.0);
    let parts: BTreeSet<_> = later.operators.iter().map(OperatorNow::part).collect();
    assert_eq!(parts, BTreeSet::from(["feed", "node", "query"]));
    assert!(later.operators.iter().all(|operator| operator.query != 77), "nobody wants it");
    let rows: Vec<_> = later.rows().iter().map(|(name, b)| (*name, b.num_rows())).collect();
    assert_eq!(rows, [("weir_queries", 1), ("weir_operators", 5), ("weir_feeds", 1)]);
}

/// What began anew is counted from nothing: catches a rate of 2^64 after a restart.
#[test]
fn what_began_anew_is_counted_from_nothing() {
    let mut state = State::default();
    sample(&mut state, 100, 1_000);
    let anew = sample(&mut state, 101, 30);
    assert_eq!(anew.total(1).recent.rows_in, 30);
}

/// A node that was silent and speaks again is counted from there on: what it did meanwhile would be a rate that never
/// was. Then its rates are those of the others.
#[test]
fn a_node_that_is_back_makes_no_jump() {
    let mut state = State::default();
    sample(&mut state, 100, 1_000);
    sample(&mut state, 101, 1_010);
    let queries = || vec![query(1)];
    for at in 102..110 {
        let silent = state.sample(at * SEC_NS, queries(), &[]);
        assert!(at < 107 || silent.total(2).held_bytes == 0, "{at}");
    }
    let back = sample(&mut state, 110, 900_000);
    let on_node = |sample: &Sample| {
        let rows = sample.operators_of(2).filter(|operator| operator.node.is_some());
        rows.map(|operator| (operator.recent.rows_in, operator.last.rows_in)).collect::<Vec<_>>()
    };
    assert_eq!(on_node(&back), [(0, 0), (0, 0)]);
    assert_eq!(back.total(2).held_bytes, 300);
    sample(&mut state, 111, 900_010);
    let later = sample(&mut state, 112, 900_030);
    assert_eq!(on_node(&later), [(30, 20), (30, 20)]);
}

/// A node that says nothing any more does nothing, and operators above the bound are counted.
#[test]
fn silence_and_bounds() {
    let mut state = State::default();
    sample(&mut state, 100, 1_000);
    let many = vec![OperatorFigures::default(); OPERATORS_MAX + 1];
    let here = [figures(1, many)];
    let full = state.sample(106 * SEC_NS, vec![query(1)], &here);
    assert!(full.operators.is_empty(), "the node is silent, and the query does not fit");
    assert_eq!((full.left_out, state.left_out_total), (8_193, 8_193));
}
