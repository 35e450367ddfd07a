//! One answer beside views that are there, whatever their refresh.

use super::rig::{Follower, Rig, TICK_MS, case};
use crate::service::{AvailableTables, RUN_JOINS_WITHIN_MS, Wanted};

const ONCE: Wanted = Wanted::Once { within_ms: RUN_JOINS_WITHIN_MS };
const STALE: Wanted = Wanted::Stale { within_ms: RUN_JOINS_WITHIN_MS };

async fn answered(rig: &mut Rig, what: &str, follower: &mut Follower) -> u64 {
    let has_answer = |followers: &[&mut Follower]| followers[0].seen.is_some();
    rig.until(what, &mut [&mut *follower], has_answer).await;
    follower.seen.unwrap().0
}

/// Time passes until so much of a view's refresh is left.
async fn until_left(rig: &mut Rig, refresh_ms: u64, left_ms: u64) {
    while refresh_ms - rig.now_ms % refresh_ms != left_ms {
        rig.tick().await;
    }
}

/// A run takes the answer of a view of the same plan if the next one is due within a second, whatever the
/// view's refresh; its frontier is not before the request. Is it further away, the run has a query of its own and
/// does not wait. Catches another query and another feed for another refresh, an answer of before the
/// request, and a run that waits for a view of an hour.
#[test]
fn a_run_joins_what_is_due() {
    case(async || {
        for refresh_ms in [TICK_MS, 1_000, 5_000, 3_600_000] {
            let mut rig = Rig::start();
            rig.change(&[(1, 1), (2, 3)]);
            let mut live = rig.follow_as(Some(refresh_ms), Wanted::Live).await;
            answered(&mut rig, "the view", &mut live).await;
            if refresh_ms < 3_600_000 {
                until_left(&mut rig, refresh_ms, refresh_ms.min(700)).await;
                let (installs, asked_ms) = (rig.node.installs, rig.now_ms);
                let mut run = rig.follow_now(None, ONCE).await;
                assert_eq!(run.subscribed.view, live.subscribed.view, "{refresh_ms} ms");
                let frontier_ms = answered(&mut rig, "an answer", &mut run).await;
                assert!(frontier_ms >= asked_ms && frontier_ms.is_multiple_of(refresh_ms));
                assert_eq!(run.latencies(), [(1, 1), (2, 3)].into());
                assert_eq!(rig.node.installs, installs, "no feed of its own");
                rig.leave(run).await;
            }
            if refresh_ms > 1_000 {
                until_left(&mut rig, 5_000, 3_000).await;
                let asked_ms = rig.now_ms;
                let mut run = rig.follow_now(None, ONCE).await;
                assert_ne!(run.subscribed.view, live.subscribed.view, "{refresh_ms} ms");
                assert!(answered(&mut rig, "an answer", &mut run).await >= asked_ms);
                rig.agrees("a view of its own", &mut run).await;
                rig.leave(run).await;
                // Who names a refresh has so much time.
                let run = rig.follow_now(None, Wanted::Once { within_ms: refresh_ms }).await;
                assert_eq!(run.subscribed.view, live.subscribed.view, "{refresh_ms} ms");
            }
            rig.root.kill().await;
        }
    });
}

/// With `stale_ok` the last answer of a view is given without a tick, however long its refresh, and says how old it
/// is. Catches a stale answer that waits.
#[test]
fn a_stale_answer_is_there_at_once() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(7, 1)]);
        let mut live = rig.follow_as(Some(3_600_000), Wanted::Live).await;
        let last_ms = answered(&mut rig, "the view", &mut live).await;
        until_left(&mut rig, 5_000, 3_000).await;
        let mut stale = rig.follow_now(None, STALE).await;
        assert_eq!(stale.subscribed.view, live.subscribed.view);
        rig.standing_still(&mut stale).await;
        assert_eq!(stale.seen.unwrap().0, last_ms);
        assert!(last_ms < rig.now_ms);
        rig.root.kill().await;
    });
}

/// A view that has no answer yet gives no stale one: whoever has one does. Catches a stale answer that waits for
/// the first refresh of a view.
#[test]
fn a_view_without_an_answer_is_passed_over() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(7, 1)]);
        let mut fine = rig.follow_as(Some(1_000), Wanted::Live).await;
        rig.agrees("a view", &mut fine).await;
        until_left(&mut rig, 10_000, 9_500).await;
        // What its feed holds is newer than the last refresh of the next one.
        rig.agrees("its next refresh", &mut fine).await;
        let installs = rig.node.installs;
        let mut coarse = rig.follow_now(Some(10_000), Wanted::Live).await;
        for _ in 0..20 {
            rig.tick().await;
        }
        coarse.drain();
        assert_eq!(coarse.seen, None, "what its feed holds is newer than its last refresh");
        assert_eq!(rig.node.installs, installs, "its feed is that of the other");
        let mut stale = rig.follow_now(Some(10_000), STALE).await;
        assert_eq!(stale.subscribed.view, fine.subscribed.view);
        rig.standing_still(&mut stale).await;
        assert_eq!(stale.latencies(), [(7, 1)].into());
        answered(&mut rig, "its first refresh", &mut coarse).await;
        assert_eq!(coarse.latencies(), [(7, 1)].into());
        rig.root.kill().await;
    });
}

/// The same script again compiles nothing, whoever asks and at whatever refresh; another one does. Catches a
/// cache that is not asked, and one that gives a refresh of somebody else.
#[test]
fn a_repeated_run_compiles_nothing() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 1)]);
        let compiled = |rig: &Rig| rig.service.compiles.counts_json()["compiled"].as_u64().unwrap();
        let mut live = rig.follow_as(Some(1_000), Wanted::Live).await;
        rig.agrees("a view", &mut live).await;
        let before = compiled(&rig);
        for _ in 0..20 {
            let mut run = rig.follow_as(None, ONCE).await;
            answered(&mut rig, "an answer", &mut run).await;
            assert_eq!(run.subscribed.view, live.subscribed.view);
            rig.leave(run).await;
        }
        let other = rig.follow_as(Some(2_000), Wanted::Live).await;
        assert_ne!(other.subscribed.view, live.subscribed.view, "its refresh is its own");
        assert_eq!(compiled(&rig), before);
        let counts = rig.service.plans.counts_json();
        assert_eq!((&counts["hits"], &counts["entries"]), (&21.into(), &1.into()), "{counts}");
        assert!(counts["bytes"].as_u64().unwrap() > 0);
        // Another set of tables is another question.
        rig.source_is("refused");
        let tables = async |rig: &Rig| rig.service.coordinator.send(AvailableTables).await.unwrap();
        while tables(&rig).await.iter().any(|table| table == "http_events") {
            rig.tick().await;
        }
        let request = Rig::request();
        let error = crate::service::prepare(&rig.service, &request, Wanted::Live).await;
        assert_eq!(error.err().map(|error| error.code()), Some("no_source"));
        rig.root.kill().await;
    });
}
