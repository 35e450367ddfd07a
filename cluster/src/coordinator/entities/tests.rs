//! Entities of nodes that the test plays: what is taken, what is asked for again, what outranks what, and
//! when it goes.

use weir_engine::{Engine, EngineConfig};
use weir_proto::bus::{ClusterPort, NodePort, in_process};
use weir_proto::{FromNode, Life, NodeInfo, Place, QueryId, Report};
use weir_types::Upid;
use weir_types::metadata::connections::UnixEnd;
use weir_types::metadata::{Address, ServiceMeta, UNIX_PREFIX};

use super::*;
use crate::planner::{ScriptRequest, prepare};

const NOW_MS: u64 = 1_700_000_000_000;
const KEEP_MS: u64 = 60_000;
const CHANGES: Entities = Entities::Changes;
const WHOLE: Entities = Entities::Whole { first: true, last: true };

fn service(id: &str, name: &str) -> EntityChange {
    let meta = ServiceMeta { id: id.to_string(), name: name.to_string(), ..ServiceMeta::default() };
    EntityChange::Service(id.to_string(), Some(Arc::new(meta)))
}

fn gone(id: &str) -> EntityChange {
    EntityChange::Service(id.to_string(), None)
}

fn name_of(snapshot: &MetadataSnapshot, id: &str) -> String {
    snapshot.service(id).map_or_else(String::new, |service| service.name.clone())
}

fn unix_end(inode: u64, peer_inode: u64, owner: Upid) -> EntityChange {
    let end = UnixEnd { owner, peer_inode, since_unix_ns: 1, until_unix_ns: i64::MAX };
    EntityChange::UnixEnd(inode, Some(Arc::from(vec![end])))
}

fn merged() -> Merged {
    Merged::new(Some(i64::try_from(KEEP_MS).unwrap() * 1_000_000))
}

/// Says something in a life; true if the life is whole and nothing is missing.
fn say(
    merged: &mut Merged,
    (name, incarnation): (&str, u64),
    sequence: u64,
    part: Entities,
    changes: Vec<EntityChange>,
) -> bool {
    let at = merged.at(name, incarnation).unwrap();
    merged.take(at, Told { sequence, part, machine: None, changes });
    !merged.lives[at].is_behind()
}

/// What is known of the whole cluster outranks what nodes say, whenever each of them comes, and only while it is
/// known; connections are of nodes as before. Catches a name that stays, and nodes that are hidden.
#[test]
fn the_whole_cluster_outranks_nodes() {
    for wide_first in [true, false] {
        let mut merged = merged();
        let tell = |merged: &mut Merged, whole: bool, changes: Vec<EntityChange>| {
            merged.take_wide(whole, vec!["10.0.0.0/8".to_string()], changes)
        };
        assert!(!tell(&mut merged, false, vec![service("s", "lost")]), "nothing was told before");
        if wide_first {
            assert!(tell(&mut merged, true, vec![service("s", "wide")]));
        }
        merged.came("a", 1, 1, 0);
        let owner = Upid::new(1, 2, 3);
        let all = vec![service("s", "a"), service("own", "a's"), unix_end(1, 2, owner)];
        assert!(say(&mut merged, ("a", 1), 0, WHOLE, all));
        if !wide_first {
            assert_eq!(name_of(&merged.snapshot(), "s"), "a");
            assert!(tell(&mut merged, true, vec![service("s", "wide")]));
        }
        let snapshot = merged.snapshot();
        assert_eq!(
            (name_of(&snapshot, "s"), name_of(&snapshot, "own")),
            ("wide".into(), "a's".into())
        );
        assert_eq!(snapshot.cidrs, ["10.0.0.0/8"]);
        assert_eq!(snapshot.by_node.get(&1).map(|node| node.unix.len()), Some(1));
        assert!(say(&mut merged, ("a", 1), 1, CHANGES, vec![service("s", "a2")]));
        assert_eq!(name_of(&merged.snapshot(), "s"), "wide");
        assert!(tell(&mut merged, false, vec![gone("s"), service("t", "more")]));
        let snapshot = merged.snapshot();
        assert_eq!(
            (name_of(&snapshot, "s"), name_of(&snapshot, "t")),
            ("a2".into(), "more".into())
        );
        assert!(tell(&mut merged, true, vec![service("s", "anew")]));
        let snapshot = merged.snapshot();
        assert_eq!(
            (name_of(&snapshot, "s"), name_of(&snapshot, "t")),
            ("anew".into(), String::new())
        );
        merged.forget(0);
        assert_eq!(name_of(&merged.snapshot(), "own"), "");
    }
}

/// Everything comes in parts and counts once the last one is there; a change after that is one entry's
/// work, with sixty thousand remembered and snapshots held, with one node and with two. Catches a snapshot
/// that is built anew.
#[test]
fn work_is_what_changed() {
    let mut merged = merged();
    merged.came("a", 1, 1, 0);
    let end = |number: u32| unix_end(u64::from(number) + 1, 0, Upid::new(1, 2, 3));
    for part in 0..60_u32 {
        let kind = Entities::Whole { first: part == 0, last: part == 59 };
        let ends = (part * 1_000..(part + 1) * 1_000).map(end).collect();
        let whole = say(&mut merged, ("a", 1), u64::from(part), kind, ends);
        assert_eq!(whole, part == 59);
        assert_eq!(merged.snapshot().entity_count(), if whole { 60_000 } else { 0 });
    }
    let held = merged.snapshot();
    let mut sequence = 60;
    for nodes in 1..=2 {
        let before = merged.touched_total;
        for number in 0..100 {
            let name = format!("v{number}");
            assert!(say(&mut merged, ("a", 1), sequence, CHANGES, vec![service("s", &name)]));
            sequence += 1;
            assert_eq!(name_of(&merged.snapshot(), "s"), name);
        }
        assert_eq!(merged.touched_total - before, 100, "{nodes} nodes");
        merged.came("b", 1, 2, 0);
    }
    assert_eq!(held.entity_count(), 60_000, "what somebody holds is as it was");
}

/// A repeat changes nothing, a gap is noticed, and only everything heals it: not a part of it, and nothing
/// that was told before. Catches changes that are taken on top of what is not known.
#[test]
fn gaps_and_repeats() {
    let mut merged = merged();
    merged.came("a", 1, 1, 0);
    let a = ("a", 1);
    assert!(
        !say(&mut merged, a, 0, CHANGES, vec![service("s", "early")]),
        "nobody knows what was before"
    );
    assert!(say(&mut merged, a, 1, WHOLE, vec![service("s", "one")]));
    assert!(say(&mut merged, a, 0, WHOLE, vec![]), "a repeat");
    assert!(say(&mut merged, a, 1, WHOLE, vec![]), "again");
    assert!(!say(&mut merged, a, 3, CHANGES, vec![service("s", "three")]));
    assert!(
        !say(&mut merged, a, 2, CHANGES, vec![service("s", "two")]),
        "late: in its place, not whole"
    );
    assert!(!say(&mut merged, a, 5, Entities::Whole { first: false, last: true }, vec![]));
    let first = Entities::Whole { first: true, last: false };
    assert!(!say(&mut merged, a, 6, first, vec![service("t", "other")]));
    assert!(!say(&mut merged, a, 8, Entities::Whole { first: false, last: true }, vec![]));
    assert!(say(&mut merged, a, 9, WHOLE, vec![service("t", "nine")]));
    let snapshot = merged.snapshot();
    assert_eq!((name_of(&snapshot, "s"), name_of(&snapshot, "t")), (String::new(), "nine".into()));
}

/// Of a name that two nodes have, the one that came last says what it means; when it says no more, the
/// other's counts again. Numbers of sockets are their own node's. Catches a removal that takes another
/// node's entity along, and a peer on another machine with the same socket number.
#[test]
fn several_nodes() {
    let mut merged = merged();
    let (client, server) = (Upid::new(1, 10, 1), Upid::new(1, 11, 1));
    merged.came("a", 1, 1, 0);
    let ends = vec![unix_end(5, 6, client), unix_end(6, 5, server), service("s", "of a")];
    say(&mut merged, ("a", 1), 0, WHOLE, ends);
    merged.came("b", 1, 2, 0);
    let other = Upid::new(2, 99, 1);
    let ends = vec![unix_end(5, 6, other), unix_end(6, 5, other), service("s", "of b")];
    say(&mut merged, ("b", 1), 0, WHOLE, ends);
    let both = merged.snapshot();
    assert_eq!(name_of(&both, "s"), "of b");
    let socket = |inode| Address::of_row(UNIX_PREFIX.as_bytes(), inode);
    assert_eq!(both.peer(client, socket(5), socket(-1), 10), Some(server));
    assert_eq!(both.peer(other, socket(5), socket(-1), 10), Some(other));
    say(&mut merged, ("a", 1), 1, CHANGES, vec![service("s", "of a, later")]);
    assert_eq!(name_of(&merged.snapshot(), "s"), "of b");
    say(&mut merged, ("b", 1), 1, CHANGES, vec![gone("s")]);
    assert_eq!(name_of(&merged.snapshot(), "s"), "of a, later");
    say(&mut merged, ("a", 1), 2, CHANGES, vec![gone("s")]);
    assert_eq!(name_of(&merged.snapshot(), "s"), "");
}

/// What a life knew that is over, or a node that is silent, stays as long as rows do and then goes, and what
/// its next life tells stays. Nobody who begins anew all the time fills the memory. Catches entities that
/// are never deleted.
#[test]
fn what_is_over_goes() {
    let mut merged = merged();
    merged.came("a", 1, 1, 0);
    let of_first = vec![service("s", "first"), service("t", "first")];
    say(&mut merged, ("a", 1), 0, WHOLE, of_first);
    merged.came("a", 2, 1, 1_000);
    assert_eq!(name_of(&merged.snapshot(), "s"), "first", "the next has not told yet");
    say(&mut merged, ("a", 2), 0, WHOLE, vec![service("s", "second")]);
    let second = |name: &str, incarnation: u64| (name, incarnation) == ("a", 2);
    assert!(!merged.pass(KEEP_MS, &second));
    let snapshot = merged.snapshot();
    assert_eq!(
        (name_of(&snapshot, "s"), name_of(&snapshot, "t")),
        ("second".into(), "first".into())
    );
    say(&mut merged, ("a", 2), 1, CHANGES, vec![service("u", "second"), service("t", "second")]);
    say(&mut merged, ("a", 2), 2, CHANGES, vec![gone("u"), gone("t")]);
    assert_eq!(name_of(&merged.snapshot(), "t"), "", "the next life knows that it is over");
    assert!(merged.pass(KEEP_MS + 1_000, &second));
    let snapshot = merged.snapshot();
    assert_eq!((name_of(&snapshot, "s"), snapshot.entity_count()), ("second".into(), 1));
    let nobody = |_: &str, _: u64| false;
    assert!(!merged.pass(KEEP_MS + 2_000, &nobody));
    assert!(!merged.pass(KEEP_MS + 3_000, &second), "heard of again in time");
    assert!(!merged.pass(KEEP_MS + 4_000, &nobody));
    assert!(merged.pass(2 * KEEP_MS + 4_000, &nobody));
    assert_eq!(merged.snapshot().entity_count(), 0);
    for incarnation in 3..200 {
        merged.came("a", incarnation, 1, 0);
        say(&mut merged, ("a", incarnation), 0, WHOLE, vec![service("s", "x")]);
    }
    assert!(merged.lives.len() <= FORMER_MAX + 1);
}

struct Rig {
    coordinator: Coordinator,
    node: NodePort,
    cluster: ClusterPort,
    sequence: u64,
}

impl Rig {
    fn start() -> Rig {
        let engine = Engine::start(EngineConfig::new("test"), Arc::new(|_| ())).unwrap();
        let (node, cluster) = in_process();
        let mut coordinator = Coordinator::new(Arc::new(engine));
        coordinator.on_clock(NOW_MS, 1_000);
        let mut rig = Rig { coordinator, node, cluster, sequence: 0 };
        let info = NodeInfo {
            name: "a".to_string(),
            incarnation: 1,
            asid: 1,
            hostname: String::new(),
            version: String::new(),
        };
        rig.say(FromNode::Register { info, sources: Vec::new(), epoch_max: 0 });
        rig
    }

    fn say(&mut self, message: FromNode) {
        let link = self.cluster.link.clone();
        let life = Life { incarnation: 1, generation: 0 };
        self.coordinator.on_message("a", &link, Report { life, message }, NOW_MS);
    }

    fn tell(&mut self, sequence: u64, part: Entities) {
        let changes = vec![service("s", "shop")];
        self.say(FromNode::Entities { sequence, part, machine: None, changes });
    }

    fn told(&mut self) -> Vec<ToNode> {
        std::iter::from_fn(|| self.node.try_recv()).map(Result::unwrap).collect()
    }

    fn asked(&mut self) -> usize {
        self.told().iter().filter(|message| **message == ToNode::TellEntities).count()
    }

    fn install(&mut self, text: &str) -> QueryId {
        let request = ScriptRequest { text: Some(text.to_string()), ..ScriptRequest::default() };
        let split = prepare(&request, 100, None, &|_| true).unwrap().split;
        let query = self.coordinator.new_query_id();
        self.coordinator.install(query, split, 100, NOW_MS).unwrap();
        query
    }
}

/// Answers that ask for names say that they are incomplete while names of before their frontier are missing,
/// also once these have come, and others do not. Catches an answer without a name that calls itself
/// complete.
#[test]
fn answers_without_their_names_are_incomplete() {
    let mut rig = Rig::start();
    rig.say(FromNode::Losses { sequence: 0, whole: true, losses: vec![] });
    let scan = "import px\ndf = px.DataFrame('http_events')\n";
    let named = rig.install(&format!("{scan}df.service = df.ctx['service']\npx.display(df)"));
    let other = rig.install(&format!("{scan}px.display(df[['time_']])"));
    let mut feeds = BTreeMap::new();
    let mut asked = 0;
    for message in rig.told() {
        asked += usize::from(message == ToNode::TellEntities);
        if let ToNode::Install { query, epoch, .. } = message {
            feeds.insert(query, epoch);
        }
    }
    assert_eq!(asked, 1, "who comes is asked");
    let complete = |rig: &mut Rig, tick: u64, entities_told: u64| {
        let tick_ms = NOW_MS + tick * 100;
        let now = i64::try_from(tick_ms).unwrap() * 1_000_000;
        for (&query, &epoch) in &feeds {
            rig.say(FromNode::Progress {
                query,
                place: Place { epoch, sequence: rig.sequence },
                tick_ms,
                complete_to_unix_ns: now,
                covers_from_unix_ns: 0,
                event_samples_unix_ns: vec![],
                losses_told: 1,
                entities_told,
            });
        }
        rig.sequence += 1;
        let is_complete = |query| rig.coordinator.completeness(query, tick_ms).complete;
        (is_complete(named), is_complete(other))
    };
    assert_eq!(complete(&mut rig, 1, 0), (false, true), "nothing is known yet");
    rig.tell(0, WHOLE);
    assert_eq!(complete(&mut rig, 2, 1), (true, true));
    assert_eq!(complete(&mut rig, 3, 2), (false, true), "one got lost");
    rig.coordinator.on_clock(NOW_MS, 3_000);
    rig.tell(1, CHANGES);
    assert_eq!(rig.asked(), 2, "at once, and when it has not come within a second");
    rig.tell(2, WHOLE);
    let late = rig.coordinator.completeness(named, NOW_MS + 300);
    assert!(!late.complete, "the answer of then is without");
    assert_eq!(complete(&mut rig, 4, 3), (true, true));
    assert_eq!(
        rig.coordinator.counters().names_broken_total.load(std::sync::atomic::Ordering::SeqCst),
        1
    );
}
