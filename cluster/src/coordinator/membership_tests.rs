//! Who is waited for, what runs where, and what answers say of those who are no more.

use std::sync::Arc;
use std::time::Duration;

use weir_engine::{Engine, EngineConfig};
use weir_proto::bus::{ClusterPort, NodePort, in_process};
use weir_proto::{Epoch, FromNode, Life, NodeInfo, Place, Report, ToNode};

use super::*;
use crate::planner::{ScriptRequest, prepare};

const NOW_MS: u64 = 1_700_000_000_000;
const MINUTE_MS: u64 = 60_000;
const FORGET: Duration = Duration::from_secs(600);
const SCRIPT: &str = "import px\npx.display(px.DataFrame('http_events', start_time='-5m'))";

struct Node {
    name: &'static str,
    node: NodePort,
    cluster: ClusterPort,
    sequence: u64,
    incarnation: u64,
}

impl Node {
    fn new(name: &'static str) -> Node {
        let (node, cluster) = in_process();
        Node { name, node, cluster, sequence: 0, incarnation: 1 }
    }

    fn say(&self, coordinator: &mut Coordinator, message: FromNode, now_ms: u64) {
        let life = Life { incarnation: self.incarnation, generation: 0 };
        let link = self.cluster.link.clone();
        coordinator.on_message(self.name, &link, Report { life, message }, now_ms);
    }

    fn register(&self, coordinator: &mut Coordinator, sources: Vec<SourceStatus>) {
        let info = NodeInfo::named(self.name, self.incarnation, 1);
        self.say(coordinator, FromNode::Register { info, sources, epoch_max: 0 }, NOW_MS);
    }

    fn status(&self, coordinator: &mut Coordinator, sources: Vec<SourceStatus>, now_ms: u64) {
        let message = FromNode::Status {
            tick_ms: now_ms,
            tables: vec![],
            sources,
            refused_total: vec![],
            running: vec![],
            functions: vec![],
            epoch_max: 0,
            losses_told: 0,
            entities_told: 0,
            ordered: vec![],
            figures: vec![],
            figures_left_out: 0,
        };
        self.say(coordinator, message, now_ms);
    }

    /// The feed that it was told to run, and its epoch.
    fn ordered(&mut self) -> Option<(QueryId, Epoch)> {
        let messages = std::iter::from_fn(|| self.node.try_recv());
        let installs = messages.filter_map(|message| match message.unwrap() {
            ToNode::Install { query, epoch, .. } => Some((query, epoch)),
            _ => None,
        });
        installs.last()
    }

    fn progress(&mut self, coordinator: &mut Coordinator, at: (QueryId, Epoch), tick_ms: u64) {
        let place = Place { epoch: at.1, sequence: self.sequence };
        self.sequence += 1;
        let message = FromNode::Progress {
            query: at.0,
            place,
            tick_ms,
            complete_to_unix_ns: tick_unix_ns(tick_ms),
            covers_from_unix_ns: 0,
            event_samples_unix_ns: vec![],
            losses_told: 0,
            entities_told: 0,
        };
        self.say(coordinator, message, tick_ms);
    }
}

fn coordinator() -> Coordinator {
    let engine = Engine::start(EngineConfig::new("test"), Arc::new(|_| ())).unwrap();
    Coordinator::new(Arc::new(engine)).with_forget(FORGET)
}

fn install(coordinator: &mut Coordinator, now_ms: u64) -> QueryId {
    install_script(coordinator, SCRIPT, now_ms)
}

fn install_script(coordinator: &mut Coordinator, script: &str, now_ms: u64) -> QueryId {
    let request = ScriptRequest { text: Some(script.to_string()), ..ScriptRequest::default() };
    let prepared = prepare(&request, 100, None, &|_| true).unwrap();
    let query = coordinator.new_query_id();
    coordinator.install(query, prepared.split, 100, now_ms).unwrap();
    query
}

/// A node that is silent lags, is given up ten minutes later and not before, and is no longer listed or waited for.
/// Answers whose window reaches back to when it was heard last say that they do not cover that; those after do.
/// Catches a node that is waited for for ever, and one whose rows are missed without a word.
#[test]
fn who_is_gone_is_given_up() {
    let mut all = coordinator();
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    a.register(&mut all, vec![]);
    b.register(&mut all, vec![]);
    let query = install(&mut all, NOW_MS);
    let (at_a, at_b) = (a.ordered().unwrap(), b.ordered().unwrap());
    all.on_clock(NOW_MS, 0);
    b.progress(&mut all, at_b, NOW_MS + 1_000);
    let mut given_up_ms = None;
    for passed_ms in (500..=12 * MINUTE_MS).step_by(500) {
        a.progress(&mut all, at_a, NOW_MS + passed_ms);
        all.on_clock(NOW_MS + passed_ms, passed_ms);
        if given_up_ms.is_none() && !all.nodes().contains_key("b") {
            given_up_ms = Some(passed_ms);
            let heard = tick_unix_ns(NOW_MS + 1_000);
            let told = all.completeness(query, NOW_MS + passed_ms);
            assert_eq!(told.covers_from_unix_ns, heard);
            assert!(told.lagging.is_empty(), "{told:?}");
            let before = all.completeness(query, NOW_MS + 4 * MINUTE_MS);
            assert!(!before.complete, "it reaches back: {before:?}");
        } else {
            let told = all.completeness(query, NOW_MS + passed_ms);
            match given_up_ms {
                Some(_) => assert!(told.complete, "the window is past that: {told:?}"),
                None if passed_ms > 5_000 => {
                    assert_eq!((told.complete, told.lagging), (false, vec!["b".to_string()]));
                }
                None => {}
            }
        }
    }
    let given_up_ms = given_up_ms.expect("it is given up");
    assert!((10 * MINUTE_MS..11 * MINUTE_MS).contains(&given_up_ms), "{given_up_ms}");
}

/// What a node that stopped in order had seen is in the answers that were there; those that begin later lack it,
/// and say so as long as their window reaches back to it.
#[test]
fn who_left_is_missed_by_later_answers_only() {
    let mut all = coordinator();
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    a.register(&mut all, vec![]);
    b.register(&mut all, vec![]);
    let query = install(&mut all, NOW_MS);
    let (at_a, at_b) = (a.ordered().unwrap(), b.ordered().unwrap());
    let left_ms = NOW_MS + 1_000;
    a.progress(&mut all, at_a, left_ms);
    b.progress(&mut all, at_b, left_ms);
    b.say(&mut all, FromNode::Leave, left_ms);
    let later_ms = left_ms + MINUTE_MS;
    a.progress(&mut all, at_a, later_ms);
    assert!(all.completeness(query, later_ms).complete);
    all.remove(query);
    a.node.try_recv();
    let query = install(&mut all, later_ms);
    a.sequence = 0;
    let at_a = a.ordered().unwrap();
    a.progress(&mut all, at_a, later_ms + 100);
    let told = all.completeness(query, later_ms + 100);
    assert_eq!((told.complete, told.covers_from_unix_ns), (false, tick_unix_ns(left_ms)));
    let past_ms = left_ms + 6 * MINUTE_MS;
    a.progress(&mut all, at_a, past_ms);
    assert!(all.completeness(query, past_ms).complete);
}

/// A feed is installed where its table can be, and nowhere else; once a source can run that could not, there too. A
/// node that runs nothing of a query holds nobody up.
#[test]
fn feeds_run_where_their_tables_are() {
    let mut all = coordinator();
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    let source = |state: &str| SourceStatus {
        name: "ebpf".to_string(),
        state: state.to_string(),
        tables: vec!["http_events".to_string()],
        ..SourceStatus::default()
    };
    a.register(&mut all, vec![source("running")]);
    b.register(&mut all, vec![source("refused")]);
    let query = install(&mut all, NOW_MS);
    let at_a = a.ordered().unwrap();
    assert_eq!(b.ordered(), None, "it has no such rows");
    a.progress(&mut all, at_a, NOW_MS + 1_000);
    assert!(all.completeness(query, NOW_MS + 1_000).complete);
    b.status(&mut all, vec![source("refused")], NOW_MS + 1_000);
    assert_eq!(b.ordered(), None);
    b.status(&mut all, vec![source("running")], NOW_MS + 1_500);
    let at_b = b.ordered().expect("it has by now");
    assert_eq!(at_b.0, at_a.0);
    b.status(&mut all, vec![source("running")], NOW_MS + 1_600);
    assert_eq!(b.ordered(), None, "once");
}

/// Nodes that a former process knew are waited for by name, and given up as others are.
#[test]
fn who_was_there_before_is_awaited() {
    let book = Arc::new(Book::new(None).awaiting(["c".to_string()]));
    let mut all = coordinator().with_book(book);
    let mut a = Node::new("a");
    a.register(&mut all, vec![]);
    let query = install(&mut all, NOW_MS);
    let at = a.ordered().unwrap();
    for passed_ms in (500..=12 * MINUTE_MS).step_by(500) {
        a.progress(&mut all, at, NOW_MS + passed_ms);
        all.on_clock(NOW_MS + passed_ms, passed_ms);
        let told = all.completeness(query, NOW_MS + passed_ms);
        if passed_ms < 10 * MINUTE_MS {
            assert_eq!((told.complete, told.lagging), (false, vec!["c".to_string()]));
        } else if passed_ms > 11 * MINUTE_MS {
            assert!(told.complete, "{told:?}");
        }
    }
}

/// A count over a window that nodes keep on disk.
const LONG: &str = "import px\ndf = px.DataFrame('http_events', start_time='-1h')\n\
                    px.display(df.groupby('req_path').agg(n=('latency', px.count)))";

/// How a node goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goes {
    Silently,
    InOrder,
}

/// Node `b` runs a script's feed, goes, and comes back in this life: whether what reads the feed is set up anew.
fn is_set_up_anew(script: &str, goes: Goes, incarnation: u64, has_spoken: bool) -> bool {
    let mut all = coordinator();
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    a.register(&mut all, vec![]);
    b.register(&mut all, vec![]);
    let query = install_script(&mut all, script, NOW_MS);
    let (at_a, at_b) = (a.ordered().unwrap(), b.ordered().unwrap());
    all.on_clock(NOW_MS, 0);
    if has_spoken {
        b.progress(&mut all, at_b, NOW_MS + 100);
    }
    if goes == Goes::InOrder {
        b.say(&mut all, FromNode::Leave, NOW_MS + 200);
    }
    let mut passed_ms = 0;
    while all.nodes().contains_key("b") {
        passed_ms += 1_000;
        a.progress(&mut all, at_a, NOW_MS + passed_ms);
        all.on_clock(NOW_MS + passed_ms, passed_ms);
    }
    assert!(all.take_resyncs().is_empty(), "nobody is set up anew for a node that goes");
    (b.incarnation, b.sequence) = (incarnation, 0);
    b.register(&mut all, vec![]);
    let anew = all.take_resyncs();
    assert!(anew.is_empty() || anew == [query], "{anew:?}");
    assert_eq!(anew.is_empty(), b.ordered().is_some(), "it runs what is not set up anew");
    assert_eq!(anew.is_empty(), all.counters().list().contains(&("broken", 0)));
    !anew.is_empty()
}

/// What a feed holds of a node that went is not counted again when the node is back: in the same life it sends its
/// history again, in a later one what it kept on disk; then the feed is set up anew. A later life whose rows are all
/// new, or one of which the feed holds nothing, costs nobody anything. Catches rows that are counted twice after ten
/// minutes of silence, and a storm of back-fills for nodes that are upgraded.
#[test]
fn rows_of_who_comes_back_are_not_counted_again() {
    for goes in [Goes::Silently, Goes::InOrder] {
        assert!(is_set_up_anew(SCRIPT, goes, 1, true), "the same life, {goes:?}");
        assert!(is_set_up_anew(LONG, goes, 2, true), "kept on disk, {goes:?}");
        assert!(!is_set_up_anew(SCRIPT, goes, 2, true), "all is new, {goes:?}");
        assert!(!is_set_up_anew(SCRIPT, goes, 1, false), "nothing is held of it, {goes:?}");
    }
}

/// More nodes may come and go than a feed remembers: then whoever comes is taken for one of them.
#[test]
fn who_left_is_remembered_within_a_bound() {
    let mut left = crate::feed::Left::default();
    let come_back = |left: &crate::feed::Left, name: &str| left.may_repeat(name, 1, false);
    for number in 0..crate::feed::LEFT_MAX {
        left.note(&format!("n{number}"), 1);
    }
    assert!(come_back(&left, "n0") && !come_back(&left, "other"));
    left.note("n0", 1);
    assert!(!come_back(&left, "other"), "it was remembered already");
    left.note("one more", 1);
    assert!(come_back(&left, "n0") && come_back(&left, "one more") && come_back(&left, "other"));
}

/// What a node has lost is told once, also when it was given up and is back; and then nothing is missed of what it
/// had any more. Catches losses of one life that are counted as those of two.
#[test]
fn losses_of_who_comes_back_are_counted_once() {
    let mut all = coordinator();
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    a.register(&mut all, vec![]);
    b.register(&mut all, vec![]);
    let query = install(&mut all, NOW_MS);
    let at_a = a.ordered().unwrap();
    let span =
        weir_types::ledger::Span::new(tick_unix_ns(NOW_MS), tick_unix_ns(NOW_MS + 11 * MINUTE_MS));
    let lost = weir_types::ledger::Loss {
        table: "http_events".to_string(),
        reason: "ring_full".to_string(),
        reach: weir_types::ledger::Reach::Everybody,
        span,
        count: 5,
    };
    let tell = |b: &Node, all: &mut Coordinator| {
        let losses = FromNode::Losses { sequence: 0, whole: true, losses: vec![lost.clone()] };
        b.say(all, losses, NOW_MS + 100);
    };
    tell(&b, &mut all);
    all.on_clock(NOW_MS, 0);
    let mut passed_ms = 0;
    while all.nodes().contains_key("b") {
        passed_ms += 1_000;
        a.progress(&mut all, at_a, NOW_MS + passed_ms);
        all.on_clock(NOW_MS + passed_ms, passed_ms);
    }
    let told = |all: &Coordinator| {
        let told = all.completeness(query, NOW_MS + passed_ms);
        (told.lost["http_events"]["ring_full"], told.covers_from_unix_ns)
    };
    assert_eq!(told(&all), (5, tick_unix_ns(NOW_MS + 100)));
    b.register(&mut all, vec![]);
    assert_eq!(told(&all).0, 5, "of the same life");
    tell(&b, &mut all);
    assert_eq!(told(&all), (5, 0), "its history is here again");
    b.incarnation = 2;
    b.register(&mut all, vec![]);
    assert_eq!(told(&all).0, 5, "what a former life lost is lost");
}
