//! A coordinator with a real engine and the test as its node: clocks, lost messages, former lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_engine::{Engine, EngineConfig};
use weir_proto::bus::{ClusterPort, NodePort, in_process};
use weir_proto::{FromNode, NodeInfo, ToNode};
use weir_types::ledger::{Loss, Reach, Span};

use super::*;
use crate::planner::{ScriptRequest, prepare};

const NOW_MS: u64 = 1_700_000_000_000;
const SCRIPT: &str = "import px\npx.display(px.DataFrame('http_events', start_time='-10m'))";

struct Rig {
    coordinator: Coordinator,
    node: NodePort,
    cluster: ClusterPort,
}

impl Rig {
    fn start(past: PastLosses) -> Rig {
        let engine = Engine::start(EngineConfig::new("test"), Arc::new(|_| ())).unwrap();
        let (node, cluster) = in_process();
        let coordinator = Coordinator::new(Arc::new(engine)).with_past_losses(past);
        Rig { coordinator, node, cluster }
    }

    fn say(&mut self, message: FromNode) -> Outcome {
        let link = self.cluster.link.clone();
        self.coordinator.on_message("a", &link, message, NOW_MS)
    }

    fn register(&mut self, incarnation: u64) {
        let info = NodeInfo {
            name: "a".to_string(),
            incarnation,
            asid: 1,
            hostname: String::new(),
            version: String::new(),
        };
        self.say(FromNode::Register { info, sources: Vec::new() });
    }

    fn install(&mut self) -> QueryId {
        let request = ScriptRequest { text: Some(SCRIPT.to_string()), ..ScriptRequest::default() };
        let prepared = prepare(&request, 100, None, &|_| true).unwrap();
        let query = self.coordinator.new_query_id();
        self.coordinator.install(query, prepared.split, 100, NOW_MS).unwrap();
        query
    }

    fn losses(&mut self, sequence: u64, whole: bool, count: u64) {
        let at = i64::try_from(NOW_MS).unwrap() * 1_000_000;
        let loss = Loss {
            table: "http_events".to_string(),
            reason: "ring_full".to_string(),
            reach: Reach::Everybody,
            span: Span::new(at - 1_000_000_000, at),
            count,
        };
        self.say(FromNode::Losses { sequence, whole, losses: vec![loss] });
    }

    /// How often the node was asked for all that it lost.
    fn asked(&mut self) -> usize {
        let messages = std::iter::from_fn(|| self.node.try_recv());
        messages.filter(|message| matches!(message, Ok(ToNode::TellLosses))).count()
    }

    fn lost(&self, query: QueryId) -> u64 {
        let lost = self.coordinator.completeness(query, NOW_MS + 1_000).lost;
        lost.get("http_events").map_or(0, |reasons: &BTreeMap<_, _>| reasons["ring_full"])
    }
}

/// Silence is measured by the monotonic clock: a wall clock that is set an hour makes nobody lag, nor
/// does a process that stood still; a node that says nothing for longer than it may does.
#[test]
fn who_lags_is_not_the_wall_clocks_business() {
    let mut rig = Rig::start(PastLosses::default());
    rig.register(1);
    let hour_ms = 3_600_000;
    rig.coordinator.on_clock(NOW_MS, 1_000);
    for (now_ms, mono_ms) in
        [(NOW_MS + hour_ms, 1_100), (NOW_MS - hour_ms, 1_200), (NOW_MS, 1_300 + hour_ms)]
    {
        rig.coordinator.on_clock(now_ms, mono_ms);
        assert!(!rig.coordinator.nodes()["a"].lagging);
    }
    for step in 1..=40 {
        rig.coordinator.on_clock(NOW_MS, 1_300 + hour_ms + step * 100);
    }
    assert!(rig.coordinator.nodes()["a"].lagging);
    rig.losses(0, false, 1);
    rig.coordinator.on_clock(NOW_MS, 9_999_999);
    assert!(!rig.coordinator.nodes()["a"].lagging, "it spoke");
}

/// A loss that is told twice counts once, one that was not told is asked for, and no life of a node or
/// of the coordinator takes any of them along.
#[test]
fn losses_outlive_who_told_them() {
    let past = PastLosses::default();
    let mut rig = Rig::start(past.clone());
    rig.register(1);
    let query = rig.install();
    assert_eq!(rig.asked(), 1, "who comes is asked");
    rig.losses(0, true, 5);
    rig.losses(0, false, 5);
    assert_eq!(rig.lost(query), 5);
    rig.losses(1, false, 2);
    assert_eq!(rig.lost(query), 7);
    rig.losses(3, false, 1);
    assert_eq!((rig.lost(query), rig.asked()), (7, 1), "one is missing, so all are asked for");
    rig.losses(4, true, 12);
    assert_eq!(rig.lost(query), 12);
    assert!(!rig.coordinator.completeness(query, NOW_MS + 1_000).complete);

    rig.register(2);
    assert_eq!(rig.lost(query), 12, "of its former life");
    rig.losses(0, true, 1);
    assert_eq!(rig.lost(query), 13);

    let mut next = Rig::start(past);
    next.register(2);
    let query = next.install();
    next.losses(7, true, 1);
    assert_eq!(next.lost(query), 13);
}

/// An update that is missing makes the view wrong: its readers are told. Catches a hole in the numbers
/// that is passed over.
#[test]
fn a_missing_update_fails_the_view() {
    let mut rig = Rig::start(PastLosses::default());
    rig.register(1);
    let query = rig.install();
    let feed = rig.coordinator.feeds_of(query)[0];
    let update = |sequence| FromNode::Update {
        query: feed,
        exchange: 0,
        sequence,
        tick_ms: NOW_MS,
        changes: Vec::new(),
    };
    assert_eq!(rig.say(update(0)), Outcome::Nothing);
    assert_eq!(rig.say(update(0)), Outcome::Nothing);
    let Outcome::QueryFailed { queries, message } = rig.say(update(2)) else { panic!() };
    assert_eq!(queries, [query]);
    assert!(message.contains("1 updates of node a"), "{message}");
}
