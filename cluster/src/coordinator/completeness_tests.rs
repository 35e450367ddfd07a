//! A coordinator with a real engine and the test as its node: clocks, lost messages, former lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_engine::{Engine, EngineConfig};
use weir_proto::bus::{ClusterPort, NodePort, in_process};
use weir_proto::{FromNode, Life, NodeInfo, Place, Report, ToNode};
use weir_types::ledger::{Loss, Reach, Span};
use weir_types::source::{OrderOutcome, SourceOrder};

use super::*;
use crate::planner::{ScriptRequest, prepare};

const NOW_MS: u64 = 1_700_000_000_000;
const SCRIPT: &str = "import px\npx.display(px.DataFrame('http_events', start_time='-10m'))";

struct Rig {
    coordinator: Coordinator,
    node: NodePort,
    cluster: ClusterPort,
    life: Life,
}

impl Rig {
    fn start(book: &Arc<Book>) -> Rig {
        let engine = Engine::start(EngineConfig::new("test"), Arc::new(|_| ())).unwrap();
        let (node, cluster) = in_process();
        let coordinator = Coordinator::new(Arc::new(engine)).with_book(Arc::clone(book));
        Rig { coordinator, node, cluster, life: Life::default() }
    }

    fn say(&mut self, message: FromNode) -> Outcome {
        self.say_in(self.life, message)
    }

    fn say_in(&mut self, life: Life, message: FromNode) -> Outcome {
        let link = self.cluster.link.clone();
        self.coordinator.on_message("a", &link, Report { life, message }, NOW_MS)
    }

    fn register(&mut self, incarnation: u64) {
        let info = NodeInfo {
            name: "a".to_string(),
            incarnation,
            asid: 1,
            hostname: String::new(),
            version: String::new(),
        };
        self.life = Life { incarnation, generation: 0 };
        self.say(FromNode::Register { info, sources: Vec::new(), epoch_max: 0 });
    }

    fn install(&mut self) -> QueryId {
        self.install_script(SCRIPT)
    }

    fn install_script(&mut self, text: &str) -> QueryId {
        let request = ScriptRequest { text: Some(text.to_string()), ..ScriptRequest::default() };
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
    let mut rig = Rig::start(&Arc::default());
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
    let book = Arc::default();
    let mut rig = Rig::start(&book);
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

    let mut next = Rig::start(&book);
    next.register(2);
    let query = next.install();
    next.losses(7, true, 1);
    assert_eq!(next.lost(query), 13);
}

fn update(feed: QueryId, epoch: u64, sequence: u64) -> FromNode {
    let place = Place { epoch, sequence };
    FromNode::Update { query: feed, place, exchange: 0, tick_ms: NOW_MS, changes: Vec::new() }
}

fn progress(feed: QueryId, epoch: u64, sequence: u64) -> FromNode {
    progress_from(feed, epoch, sequence, 0)
}

fn progress_from(feed: QueryId, epoch: u64, sequence: u64, covers_from_unix_ns: i64) -> FromNode {
    let now = i64::try_from(NOW_MS).unwrap() * 1_000_000;
    FromNode::Progress {
        query: feed,
        place: Place { epoch, sequence },
        tick_ms: NOW_MS + 1_000,
        complete_to_unix_ns: now,
        covers_from_unix_ns,
        event_samples_unix_ns: vec![],
        losses_told: 0,
        entities_told: 0,
    }
}

impl Rig {
    /// The epochs under which the node was told to run feeds, by feed.
    fn ordered(&mut self) -> BTreeMap<QueryId, u64> {
        let messages = std::iter::from_fn(|| self.node.try_recv());
        let installs = messages.filter_map(|message| match message.unwrap() {
            ToNode::Install { query, epoch, .. } => Some((query, epoch)),
            _ => None,
        });
        installs.collect()
    }

    fn counted(&self, name: &str) -> u64 {
        self.coordinator.counters().list().into_iter().find(|(have, _)| *have == name).unwrap().1
    }
}

/// A table that is read from a named start on, and before it without one, is complete if it covers what was
/// named. Catches a second look at older rows that makes the first one's window a matter of no consequence.
#[test]
fn a_start_that_is_named_is_needed() {
    let text = "import px\n\
                px.display(px.DataFrame('http_events', start_time='-10m'), 'now')\n\
                px.display(px.DataFrame('http_events', end_time='-10m'), 'before')";
    let now = i64::try_from(NOW_MS).unwrap() * 1_000_000;
    for (covered_s, complete) in [(60, false), (1_200, true)] {
        let mut rig = Rig::start(&Arc::default());
        rig.register(2);
        let query = rig.install_script(text);
        for (feed, epoch) in rig.ordered() {
            rig.say(progress_from(feed, epoch, 0, now - covered_s * 1_000_000_000));
        }
        rig.losses(0, true, 0);
        let answer = rig.coordinator.completeness(query, NOW_MS + 1_000);
        assert_eq!(answer.complete, complete, "{covered_s} s are covered");
    }
}

/// A repeat is passed over, also of progress; a former epoch and a former life are refused; a gap, be it
/// noticed by an update or by progress, sets the feed up anew and until then no answer is complete.
/// Catches progress that is believed though an update before it is missing.
#[test]
fn what_does_not_fit_is_not_taken() {
    let mut rig = Rig::start(&Arc::default());
    rig.register(2);
    let query = rig.install();
    let (feed, epoch) = rig.ordered().pop_first().unwrap();
    assert_eq!(rig.coordinator.feeds_of(query), [feed]);
    rig.say(update(feed, epoch, 0));
    rig.say(update(feed, epoch, 0));
    rig.say(update(feed, epoch - 1, 1));
    let former = Life { incarnation: 1, generation: 9 };
    rig.say_in(former, update(feed, epoch, 1));
    rig.say(progress(feed, epoch, 1));
    rig.say(progress(feed, epoch, 1));
    let counts = ["repeated", "late", "former_life", "broken"].map(|name| rig.counted(name));
    assert_eq!(counts, [2, 1, 1, 0]);
    rig.losses(0, true, 0);
    assert!(rig.coordinator.completeness(query, NOW_MS + 1_000).complete);
    assert!(rig.coordinator.take_resyncs().is_empty());

    rig.say(progress(feed, epoch, 3));
    assert_eq!(rig.counted("broken"), 1);
    assert!(!rig.coordinator.completeness(query, NOW_MS + 1_000).complete);
    assert_eq!(rig.coordinator.take_resyncs(), [query]);
    rig.coordinator.remove(query);
    let query = rig.install();
    let again = rig.ordered();
    let (&next, &next_epoch) = again.last_key_value().unwrap();
    assert!(next != feed && next_epoch > epoch);
    rig.say(update(feed, epoch, 2));
    rig.say(progress(next, next_epoch + 7, 0));
    assert_eq!(rig.counted("broken"), 2, "an epoch that was not given");
    assert!(!rig.coordinator.completeness(query, NOW_MS + 1_000).complete);
}

/// Somebody who speaks without having registered is told to, once in a while, and nothing that it says
/// counts; registering twice in one life is nothing new, in a later one sets its feeds up anew.
#[test]
fn who_is_not_known_introduces_itself() {
    let mut rig = Rig::start(&Arc::default());
    for _ in 0..3 {
        rig.losses(0, true, 1);
    }
    let told = std::iter::from_fn(|| rig.node.try_recv());
    assert_eq!(told.filter(|message| matches!(message, Ok(ToNode::Introduce))).count(), 1);
    rig.register(1);
    let query = rig.install();
    assert_eq!(rig.ordered().len(), 1);
    rig.register(1);
    assert_eq!((rig.ordered().len(), rig.coordinator.take_resyncs().len()), (0, 0));
    rig.register(2);
    assert_eq!(rig.coordinator.take_resyncs(), [query]);
    rig.register(1);
    assert_eq!(rig.counted("former_life"), 1);
}

/// An order that was lost is given again under another epoch, once the node's status shows that it does
/// not run; what it ran before and does not any more is set up anew; what nobody wants is removed.
#[test]
fn orders_that_were_lost_are_given_again() {
    let mut rig = Rig::start(&Arc::default());
    rig.register(1);
    let query = rig.install();
    let (feed, epoch) = rig.ordered().pop_first().unwrap();
    let status = |running: Vec<(QueryId, u64)>| FromNode::Status {
        tick_ms: NOW_MS,
        tables: vec![],
        sources: vec![],
        refused_total: vec![],
        running,
        functions: vec![],
        epoch_max: epoch,
        losses_told: 0,
        entities_told: 0,
        ordered: vec![],
        figures: Vec::new(),
        figures_left_out: 0,
    };
    rig.coordinator.on_clock(NOW_MS, 1_000);
    rig.say(status(vec![]));
    assert!(rig.ordered().is_empty(), "it may be on its way");
    rig.coordinator.on_clock(NOW_MS, 4_000);
    rig.say(status(vec![]));
    let again = rig.ordered();
    assert!(again[&feed] > epoch);
    let epoch = again[&feed];
    rig.say(status(vec![(feed, epoch), (77, 5)]));
    let removed = std::iter::from_fn(|| rig.node.try_recv()).last().unwrap().unwrap();
    assert_eq!(removed, ToNode::Remove { query: 77, epoch: 5 });
    rig.say(update(feed, epoch, 0));
    rig.coordinator.on_clock(NOW_MS, 8_000);
    rig.say(status(vec![]));
    assert_eq!(rig.coordinator.take_resyncs(), [query]);
}

/// An order to a node's sources is given again until the node tells what became of it, also to the next
/// life of the node; then never again. Catches one that is lost with the message that held it.
#[test]
fn orders_to_sources_are_given_until_they_are_done() {
    let mut rig = Rig::start(&Arc::default());
    let order = SourceOrder::Resolve { addresses: vec![[127, 0, 0, 1].into()] };
    assert!(rig.coordinator.order("a", order.clone()).is_err(), "nobody is there");
    rig.register(1);
    rig.coordinator.on_clock(NOW_MS, 1_000);
    let id = rig.coordinator.order("a", order.clone()).unwrap();
    let given = |rig: &mut Rig, ordered: Vec<(OrderId, OrderOutcome)>| {
        rig.say(FromNode::Status {
            tick_ms: NOW_MS,
            tables: vec![],
            sources: vec![],
            refused_total: vec![],
            running: vec![],
            functions: vec![],
            epoch_max: 0,
            losses_told: 0,
            entities_told: 0,
            ordered,
            figures: vec![],
            figures_left_out: 0,
        });
        let given = std::iter::from_fn(|| rig.node.try_recv())
            .filter(|got| *got.as_ref().unwrap() == ToNode::Order { id, order: order.clone() });
        given.count()
    };
    assert_eq!(given(&mut rig, vec![]), 1, "at once");
    assert_eq!(given(&mut rig, vec![]), 0, "it may be on its way");
    rig.coordinator.on_clock(NOW_MS, 4_000);
    assert_eq!(given(&mut rig, vec![]), 1);
    rig.register(2);
    rig.coordinator.on_clock(NOW_MS, 8_000);
    assert_eq!(given(&mut rig, vec![(id + 7, OrderOutcome::Done)]), 1);
    let next = rig.coordinator.order("a", order.clone()).unwrap();
    assert!(next > id + 7, "a number that some life of ours has given is not given again");
    assert_eq!(rig.coordinator.outcome("a", id), None);
    let done = vec![(id, OrderOutcome::NotMine), (next, OrderOutcome::Done)];
    assert_eq!(given(&mut rig, done), 0);
    rig.coordinator.on_clock(NOW_MS, 20_000);
    assert_eq!(given(&mut rig, vec![(id, OrderOutcome::NotMine)]), 0);
    assert_eq!(rig.coordinator.outcome("a", id), Some(&OrderOutcome::NotMine));
    for _ in 0..256 {
        rig.coordinator.order("a", SourceOrder::Resolve { addresses: vec![] }).unwrap();
    }
    let more = rig.coordinator.order("a", SourceOrder::Resolve { addresses: vec![] });
    assert!(matches!(more, Err(CoordinatorError::Orders { max: 256, .. })));
    let addresses = vec![[127, 0, 0, 1].into(); 1_025];
    let large = rig.coordinator.order("a", SourceOrder::Resolve { addresses });
    assert!(matches!(large, Err(CoordinatorError::Order { .. })));
}

/// A new coordinator waits for each node that the last one knew: until it has come, or has left, no answer is
/// complete, whatever the others have sent. Catches one that takes the first node that registers for all.
#[test]
fn a_new_coordinator_awaits_the_nodes_that_were_known() {
    let book = Arc::default();
    let mut rig = Rig::start(&book);
    let say = |rig: &mut Rig, name: &str, message: FromNode| {
        let (link, life) = (rig.cluster.link.clone(), Life { incarnation: 1, generation: 0 });
        rig.coordinator.on_message(name, &link, Report { life, message }, NOW_MS);
    };
    let come = |rig: &mut Rig, name: &str| {
        let info = NodeInfo::named(name, 1, 1);
        say(rig, name, FromNode::Register { info, sources: Vec::new(), epoch_max: 0 });
        say(rig, name, FromNode::Losses { sequence: 0, whole: true, losses: vec![] });
    };
    ["a", "b", "c"].into_iter().for_each(|name| come(&mut rig, name));

    let mut rig = Rig::start(&book);
    come(&mut rig, "a");
    let query = rig.install();
    let (feed, epoch) = rig.ordered().pop_first().unwrap();
    say(&mut rig, "a", progress(feed, epoch, 0));
    let answer = |rig: &Rig| rig.coordinator.completeness(query, NOW_MS + 1_000);
    assert_eq!(
        (answer(&rig).complete, answer(&rig).lagging),
        (false, vec!["b".into(), "c".into()])
    );
    come(&mut rig, "b");
    let (_, epoch) = rig.ordered().pop_first().unwrap();
    say(&mut rig, "b", progress(feed, epoch, 0));
    assert_eq!((answer(&rig).complete, answer(&rig).lagging), (false, vec!["c".to_string()]));
    come(&mut rig, "c");
    say(&mut rig, "c", FromNode::Leave);
    assert!(answer(&rig).lagging.is_empty());
}
