//! One answer beside views that are there, whatever their refresh.

use super::rig::{Follower, Rig, START_MS, TICK_MS, case};
use crate::service::{RUN_JOINS_WITHIN_MS, Wanted};

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
        let mut rig = Rig::start();
        rig.change(&[(1, 1), (2, 3)]);
        for refresh_ms in [TICK_MS, 1_000, 5_000, 3_600_000] {
            let mut live = rig.follow_as(Some(refresh_ms), Wanted::Live).await;
            answered(&mut rig, "the view", &mut live).await;
            if refresh_ms < 3_600_000 {
                until_left(&mut rig, refresh_ms, refresh_ms.min(700)).await;
                let (installs, asked_ms) = (rig.node.installs, rig.now_ms);
                let mut run = rig.follow_as(None, ONCE).await;
                assert_eq!(run.subscribed.view, live.subscribed.view, "{refresh_ms} ms");
                let frontier_ms = answered(&mut rig, "an answer", &mut run).await;
                assert!((asked_ms..=asked_ms + 1_000).contains(&frontier_ms), "{refresh_ms} ms");
                assert_eq!(run.latencies(), [(1, 1), (2, 3)].into());
                assert_eq!(rig.node.installs, installs, "no feed of its own");
                rig.leave(run).await;
            }
            if refresh_ms > 1_000 {
                until_left(&mut rig, 5_000, 3_000).await;
                let asked_ms = rig.now_ms;
                let mut run = rig.follow_as(None, ONCE).await;
                assert_ne!(run.subscribed.view, live.subscribed.view, "{refresh_ms} ms");
                let frontier_ms = answered(&mut rig, "an answer", &mut run).await;
                assert!(frontier_ms >= asked_ms);
                assert!(rig.now_ms < asked_ms + 2_000, "it waited for the view");
                rig.leave(run).await;
                // Who names a refresh has so much time.
                let run = rig.follow_as(None, Wanted::Once { within_ms: refresh_ms }).await;
                assert_eq!(run.subscribed.view, live.subscribed.view, "{refresh_ms} ms");
                rig.leave(run).await;
            }
            rig.leave(live).await;
            for _ in 0..60 {
                rig.tick().await;
            }
        }
        rig.root.kill().await;
    });
}

/// With `stale_ok` the last answer of any view is given without a tick, however long its refresh; a view that has
/// none yet is not waited for. Catches a stale answer that waits, and one that is never given.
#[test]
fn a_stale_answer_is_there_at_once() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(7, 1)]);
        until_left(&mut rig, 5_000, 3_000).await;
        let mut live = rig.follow_as(Some(3_600_000), Wanted::Live).await;
        let last_ms = answered(&mut rig, "the view", &mut live).await;
        assert_eq!(last_ms % 3_600_000, 0);
        rig.change(&[(8, 1)]);
        for _ in 0..5 {
            rig.tick().await;
        }
        let mut stale = rig.follow_as(None, STALE).await;
        assert_eq!(stale.subscribed.view, live.subscribed.view);
        rig.standing_still(&mut stale).await;
        assert_eq!(stale.seen.unwrap().0, last_ms, "it says how old it is");
        rig.leave(stale).await;

        // A view that has no answer: its feed is the other's, which is newer than its last refresh.
        let fine = rig.follow_as(Some(1_000), Wanted::Live).await;
        until_left(&mut rig, 10_000, 9_500).await;
        let mut waits = rig.follow_as(Some(10_000), Wanted::Live).await;
        waits.drain();
        assert_eq!(waits.seen, None, "it waits for its first refresh");
        assert!(rig.now_ms > START_MS);
        for view in [live, fine] {
            rig.leave(view).await;
        }
        for _ in 0..60 {
            rig.tick().await;
        }
        waits.drain();
        assert_eq!(waits.seen, None, "it waits still");
        let mut stale = rig.follow_as(None, STALE).await;
        assert_ne!(stale.subscribed.view, waits.subscribed.view);
        answered(&mut rig, "an answer of its own", &mut stale).await;
        assert_eq!(stale.latencies(), [(7, 1), (8, 1)].into());
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
        for _ in 0..3 {
            rig.tick().await;
        }
        let request = Rig::request();
        let error = crate::service::prepare(&rig.service, &request, Wanted::Live).await;
        assert_eq!(error.err().map(|error| error.code()), Some("no_source"));
        rig.root.kill().await;
    });
}
