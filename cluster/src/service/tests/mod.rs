//! The cluster part below the end-to-end level: no server, no sources, no wall clock.

mod alerts;
mod costs;
mod rig;
mod runs;
mod sinks;

use std::collections::BTreeMap;

use weir_actors::State;

use self::rig::{Follower, Rig, case};
use crate::service::{ListNodes, ReaderLimits, TestPanic, Wanted, prepare};

/// A reader that takes nothing for a while gets one net change in place of many, within its bytes; one that
/// may hold less is ended with the reason, and what it held is free at once; the one beside them has every
/// refresh. Would catch a slow reader that holds up others or keeps all that it has missed.
#[test]
fn slow_readers_are_bounded() {
    case(async || {
        let limits = ReaderLimits { reader_bytes_max: 120_000, ..ReaderLimits::default() };
        let mut rig = Rig::start_with(limits, "running");
        rig.change(&(0..200).map(|n| (n, 1)).collect::<Vec<_>>());
        let (mut quick, mut slow) = (rig.follow().await, rig.follow().await);
        assert_eq!(slow.subscribed.view, quick.subscribed.view, "one view for both");
        rig.agrees("the beginning", &mut quick).await;
        rig.agrees("the beginning", &mut slow).await;
        let (before, quick_before) = (slow.deliveries, quick.deliveries);
        for round in 0..40 {
            // All rows are others in every round.
            let rows = (0..200).flat_map(|n| [(n + round * 200, -1), (n + (round + 1) * 200, 1)]);
            rig.change(&rows.collect::<Vec<_>>());
            rig.agrees("the quick one", &mut quick).await;
            assert!(slow.held_bytes() <= 120_000, "{}", slow.held_bytes());
        }
        rig.agrees("the slow one, once it reads", &mut slow).await;
        let (coalesced, all) = (slow.deliveries - before, quick.deliveries - quick_before);
        assert!(coalesced * 2 < all, "{coalesced} in place of {all}");

        let mut small = rig.follow().await;
        rig.agrees("the small one, while it reads", &mut small).await;
        for round in 0..40 {
            let more = (0..200).map(|n| (1_000_000 + n + round * 200, 1));
            rig.change(&more.collect::<Vec<_>>());
            rig.agrees("the quick one", &mut quick).await;
            rig.agrees("the slow one, while it reads", &mut slow).await;
        }
        assert_eq!(small.held_bytes() / 1_000, 0, "all but the reason is free");
        small.drain();
        assert_eq!(small.ended.as_deref(), Some("reader_too_slow"));
        assert_eq!(small.errors, ["reader_too_slow"]);
        assert_eq!((&quick.ended, &slow.ended), (&None, &None));
        rig.root.kill().await;
    });
}

/// More rows at once than a view's inbox takes end the view with a code, and nobody sees a part of them; the
/// server goes on, and the next reader gets a view. Would catch an inbox that drops rows and goes on.
#[test]
fn an_inbox_that_overflows_ends_its_view() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 1)]);
        let mut reader = rig.follow().await;
        rig.agrees("the beginning", &mut reader).await;
        let many: Vec<_> = (10..20_000).map(|n| (n, 1)).collect();
        rig.change(&many);
        let has_ended = |followers: &[&mut Follower]| followers[0].ended.is_some();
        rig.until("the end", &mut [&mut reader], has_ended).await;
        assert_eq!(reader.ended.as_deref(), Some("overflow"));
        assert_eq!(reader.errors, ["overflow"]);
        assert_eq!(reader.latencies(), BTreeMap::from([(1, 1)]), "all or nothing");
        rig.change(&many.iter().map(|(n, _)| (*n, -1)).collect::<Vec<_>>());
        let mut next = rig.follow().await;
        assert_ne!(next.subscribed.view, reader.subscribed.view);
        rig.agrees("a new view", &mut next).await;
        rig.root.kill().await;
    });
}

/// A coordinator that panics is followed by one that takes nodes and views over: the same subscription goes
/// on, no row is counted twice, and the tree tells of the death. Would catch feeds of the last life that go
/// on beside their successors.
#[test]
fn a_new_coordinator_takes_over() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 2), (2, 1)]);
        let mut reader = rig.follow().await;
        rig.agrees("the beginning", &mut reader).await;
        for deaths in 1..=3 {
            let installs = rig.node.installs;
            rig.service.coordinator.try_send(TestPanic).unwrap();
            rig.change(&[(2, -1), (2 + deaths, 1)]);
            let is_back = |part: weir_actors::PartStatus| {
                part.restarts == deaths as u64 && part.state == State::Running
            };
            while !is_back(rig.part("weir/cluster/coordinator")) {
                rig.tick().await;
            }
            rig.change(&[(2, 1)]);
            rig.agrees("after the takeover", &mut reader).await;
            assert!(rig.node.installs > installs, "its feed was set up anew");
            assert_eq!(rig.part("weir/cluster/coordinator").deaths, deaths as u64);
            assert_eq!(rig.part("weir/cluster/coordinator").last_reason, "a test asked for it");
        }
        assert_eq!(rig.preparations().await, 0);
        rig.root.kill().await;
    });
}

/// An engine that dies is replaced, and views go on under their subscriptions: what is shown meanwhile does
/// not claim to be complete, and what comes after is right. Would catch a view that waits for ever.
#[test]
fn views_go_on_over_an_engines_death() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 1), (2, 2)]);
        let (mut reader, mut other) = (rig.follow().await, rig.follow().await);
        rig.agrees("the beginning", &mut reader).await;
        for deaths in 1..=2 {
            let generation = rig.service.engine.generation();
            rig.service.engine.engine().kill_worker();
            rig.change(&[(10 * deaths, 1)]);
            while rig.service.engine.generation() == generation {
                rig.tick().await;
            }
            rig.change(&[(10 * deaths + 1, 1)]);
            rig.agrees("after the death", &mut reader).await;
            rig.agrees("after the death", &mut other).await;
            let part = rig.part("weir/cluster/engine");
            assert_eq!(
                (part.state, part.deaths, part.restarts),
                (State::Running, deaths as u64, deaths as u64)
            );
        }
        assert_eq!(rig.preparations().await, 0);
        rig.root.kill().await;
        assert_eq!(rig.root.tree().parts, [], "what ended in order is gone");
    });
}

/// A script whose table has no source yet waits for sources that start, compiles once they run, and is
/// subscribed to, while statuses of the node keep coming throughout. Would catch a reader that holds what the
/// coordinator writes: that stopped the coordinator, and with it the server.
#[test]
fn who_waits_for_sources_holds_up_nobody() {
    case(async || {
        for round in 0..20 {
            let mut rig = Rig::start_with(ReaderLimits::default(), "starting");
            let service = rig.service.clone();
            let waits = actix::spawn(async move {
                prepare(&service, &Rig::request(), Wanted::Live).await.map(|found| found.prepared)
            });
            for _ in 0..10 + round {
                rig.tick().await;
            }
            assert!(!waits.is_finished(), "nothing produces the table yet");
            let nodes = rig.service.coordinator.send(ListNodes).await.unwrap();
            assert_eq!(nodes.len(), 1);
            // From now on the coordinator writes with every status, while the script compiles.
            let mut is_running = true;
            while !waits.is_finished() {
                rig.source_is(if is_running { "running" } else { "starting" });
                is_running = !is_running;
                rig.tick().await;
                rig.tick().await;
                rig.source_is("running");
                rig.tick().await;
            }
            assert_eq!(waits.await.unwrap().unwrap().without_source, []);
            let mut reader = rig.follow().await;
            rig.change(&[(7, 1)]);
            rig.agrees("a view", &mut reader).await;
            rig.root.kill().await;
        }
    });
}

/// Nothing is compiled on the coordinator's thread: not when a view is installed, and not when all are
/// installed anew. Would catch the handler of `Subscribe` that took milliseconds for it.
#[test]
fn the_coordinator_compiles_nothing() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 1)]);
        let mut reader = rig.follow().await;
        rig.agrees("a view", &mut reader).await;
        assert_eq!(rig.preparations().await, 0);
        let before = weir_engine::preparations_here();
        let split =
            prepare(&rig.service, &Rig::request(), Wanted::Live).await.unwrap().prepared.split;
        drop(crate::coordinator::ReadyPlan::new(split, &rig.service.engine.engine()));
        assert_eq!(weir_engine::preparations_here(), before + 1, "the count counts");
        rig.root.kill().await;
    });
}
