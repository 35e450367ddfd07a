//! The tree of all parts: actors by themselves, others by what their owners say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_actors::{Config, KillSwitch, Part, PartStatus, Says, State, Stop, Supervisor};

use crate::actors::{Add, Log, Panic, Probe, paused};

fn found<'a>(parts: &'a [PartStatus], path: &str) -> &'a PartStatus {
    parts.iter().find(|part| part.path == path).unwrap_or_else(|| panic!("{path} in {parts:?}"))
}

fn start(switch: &KillSwitch, name: &'static str) -> weir_actors::Handle<Probe> {
    Supervisor::start(switch, name, Config::default(), move |_| {
        Ok(Probe::new(name, &Log::default()))
    })
}

/// Actors and others stand in one tree with their paths, how often each died and why last, and since
/// when it is as it is. Would catch a part that is shown as running while it backs off, and a reason
/// that is forgotten once it runs again.
#[test]
fn the_tree_tells_how_each_part_is() {
    paused(async {
        let root = KillSwitch::root("weir");
        let cluster = root.child("cluster");
        let engine = cluster.part("engine", Stop::ByOwner);
        assert_eq!(found(&root.tree().parts, "weir/cluster/engine").state, State::Starting);
        engine.running();
        let actor = start(&cluster, "coordinator");
        actor.addr().send(Add(1)).await.unwrap();

        tokio::time::sleep(Duration::from_secs(7)).await;
        engine.died("a worker panicked", Duration::from_secs(1));
        assert!(actor.addr().send(Panic).await.is_err());
        let parts = root.tree().parts;
        assert_eq!(parts.len(), 2);
        for path in ["weir/cluster/engine", "weir/cluster/coordinator"] {
            let part = found(&parts, path);
            assert_eq!(part.state.name(), "backing off", "{path}");
            assert_eq!((part.deaths, part.restarts, part.in_state), (1, 0, Duration::ZERO));
        }
        engine.running();
        assert_eq!(actor.addr().send(Add(1)).await, Ok(1));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let parts = root.tree().parts;
        for (path, reason) in [
            ("weir/cluster/engine", "a worker panicked"),
            ("weir/cluster/coordinator", "asked to panic"),
        ] {
            let part = found(&parts, path);
            assert_eq!((part.state, part.deaths, part.restarts), (State::Running, 1, 1), "{path}");
            assert_eq!(part.last_reason, reason);
            assert!(part.in_state >= Duration::from_secs(3), "{part:?}");
        }
        root.kill().await;
    });
}

/// What failed or was refused stays to be seen after its handle is gone, what ended in order does not;
/// a part that has its name back takes its place. Would catch a sink that fails and is shown nowhere,
/// and a name that is listed twice.
#[test]
fn what_failed_stays_to_be_seen() {
    let root = KillSwitch::root("weir");
    let states = |root: &KillSwitch| {
        let parts = root.tree().parts.into_iter();
        parts.map(|part| (part.path, part.state, part.last_reason)).collect::<Vec<_>>()
    };
    let (failed, refused) = (root.part("a", Stop::ByOwner), root.part("b", Stop::ByOwner));
    let stopped = root.part("c", Stop::ByOwner);
    failed.failed("the disk is gone");
    failed.running();
    refused.refused(&"no é".repeat(1000));
    stopped.running();
    drop((failed, refused, stopped));
    let left = states(&root);
    assert_eq!(left.len(), 2, "{left:?}");
    let kept = (String::from("weir/a"), State::Failed, String::from("the disk is gone"));
    assert_eq!(left[0], kept, "a final state is final");
    assert_eq!(left[1].1, State::Refused);
    assert!(left[1].2.len() <= 512, "a reason is bounded");
    let again = root.part("a", Stop::ByOwner);
    again.running();
    assert_eq!(states(&root).iter().filter(|(path, ..)| path == "weir/a").count(), 1);

    let panicking = root.part("thread", Stop::ByOwner);
    let thread = std::thread::spawn(move || {
        panicking.running();
        panic!("with its part in hand");
    });
    assert!(thread.join().is_err());
    let parts = root.tree().parts;
    let part = found(&parts, "weir/thread");
    assert_eq!(
        (part.state, part.deaths, part.last_reason.as_str()),
        (State::Failed, 1, "panicked")
    );
}

/// Many of a kind are one line, with those that died; and no more parts are listed than the bound says.
/// Would catch five hundred views by name in `/metrics`.
#[test]
fn what_is_listed_is_bounded() {
    paused(async {
        let root = KillSwitch::root("weir");
        let views = root.group("views");
        let once = Config { restarts_max: 0, ..Config::default() };
        let all: Vec<_> = (0..500)
            .map(|number| {
                let name = format!("query-{number}");
                Supervisor::start(&views, &name, once.clone(), |_| {
                    Ok(Probe::new("query", &Log::default()))
                })
            })
            .collect();
        for view in &all[..3] {
            assert!(view.addr().send(Panic).await.is_err());
            assert_eq!(view.wait_for(|_| false).await, State::Failed);
        }
        all[9].addr().send(Add(1)).await.unwrap();
        let tree = root.tree();
        assert_eq!((tree.parts.len(), tree.unlisted, tree.groups.len()), (0, 0, 1));
        let group = &tree.groups[0];
        assert_eq!((group.path.as_str(), group.deaths), ("weir/views", 3));
        assert_eq!(group.states.values().sum::<u64>(), 497, "{group:?}");
        assert_eq!(group.last_reason, "asked to panic");
        drop(all);
        root.kill().await;
        assert_eq!(root.tree().groups[0].deaths, 3, "the dead are remembered");

        let wide = KillSwitch::root("weir");
        let held: Vec<Part> = (0..300).map(|n| wide.part(&n.to_string(), Stop::ByOwner)).collect();
        let tree = wide.tree();
        assert_eq!((tree.parts.len(), tree.unlisted), (256, 44));
        drop(held);
    });
}

/// A stop takes parts in their turn between the actors, and waits for each as it asked for: a call on a
/// thread that may block, a task that watches; one that does not end is overdue, and one that its owner
/// stops is passed over. Would catch an engine that is stopped under those who stand on it.
#[test]
fn parts_are_stopped_in_their_turn() {
    paused(async {
        let root = KillSwitch::root("weir");
        let log = Log::default();
        let within = Duration::from_secs(5);
        let called = log.clone();
        let engine = root.part("engine", Stop::call(within, move || called.add("engine")));
        let owned = root.part("owned", Stop::ByOwner);
        let actor = start(&root, "actor");
        let task = root.part("task", Stop::Asked { within });
        let stubborn = root.part("stubborn", Stop::Asked { within });
        for part in [&engine, &owned, &task, &stubborn] {
            part.running();
        }
        let (asked, said) = (task.stop_requested(), log.clone());
        actix::spawn(async move {
            asked.await;
            said.add("task");
            drop(task);
        });
        assert!(!engine.is_stop_requested());
        let report = root.kill().await;
        assert_eq!(report.overdue, ["stubborn"]);
        assert_eq!(report.stopped, ["task", "actor", "engine"]);
        assert_eq!(log.lines(), ["task", "engine"]);
        assert_eq!((engine.state(), owned.state()), (State::Stopped, State::Running));
        assert!(owned.is_stop_requested() && actor.state() == State::Stopped);
        let late = root.part("late", Stop::ByOwner);
        late.running();
        assert_eq!(late.state(), State::Stopped, "nothing starts below a used switch");
        assert!(late.is_stop_requested());
    });
}

/// An actor that stands for a thread says how that is; a word of a former life is not heard. Would catch
/// a source that is refused and shown as running, and a late thread that talks over its successor.
#[test]
fn an_actor_says_what_it_stands_for() {
    paused(async {
        let root = KillSwitch::root("weir");
        let (told, lives) = std::sync::mpsc::channel::<Says>();
        let actor = Supervisor::start(&root, "source", Config::default(), move |birth| {
            let _ = told.send(birth.says.clone());
            Ok(Probe::new("source", &Log::default()))
        });
        actor.addr().send(Add(1)).await.unwrap();
        let first = lives.try_recv().unwrap();
        let state = || root.tree().parts[0].state;
        first.starting();
        assert_eq!(state(), State::Starting);
        first.refused("no privilege");
        assert_eq!(state(), State::Refused);
        assert_eq!(root.tree().parts[0].last_reason, "no privilege");
        assert_eq!(actor.state(), State::Running, "the actor itself lives");

        assert!(actor.addr().send(Panic).await.is_err());
        assert_eq!(state().name(), "backing off");
        actor.addr().send(Add(1)).await.unwrap();
        assert_eq!(state(), State::Running);
        first.refused("too late");
        assert_eq!(state(), State::Running);
        root.kill().await;
    });
}

/// The tree can be read while a part's thread writes, from any thread. Would catch two locks that are
/// taken in two orders.
#[test]
fn reading_and_telling_at_once() {
    let root = KillSwitch::root("weir");
    let over = Arc::new(AtomicBool::new(false));
    let teller = {
        let (root, over) = (root.clone(), over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let part = root.child("sub").part("engine", Stop::ByOwner);
                part.running();
                part.died("again", Duration::ZERO);
                part.running();
            }
        })
    };
    for _ in 0..2_000 {
        let tree = root.tree();
        assert!(tree.parts.iter().all(|part| part.path == "weir/sub/engine"), "{tree:?}");
    }
    over.store(true, Ordering::SeqCst);
    teller.join().unwrap();
}
