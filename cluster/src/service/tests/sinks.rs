//! Sinks on a running cluster part: what their row says is true, whatever becomes of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_actors::State;
use weir_sinks::buffer::WhenFull;
use weir_sinks::element::Element;
use weir_sinks::encode::Mode;
use weir_sinks::pipe::{Backoff, BatchLimits};
use weir_sinks::sink::{SinkError, Writer};

use super::rig::{Rig, case};
use crate::planner::ScriptRequest;
use crate::service::{
    BufferSpec, InputSpec, ReaderLimits, SinkRow, SinkSpec, SinkState, Sinks, WriterSpec,
};

/// Takes what it is given unless it is told not to.
#[derive(Clone, Default)]
struct Gate {
    shut: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    /// The names of what was done, in their order.
    ops: Arc<Mutex<Vec<&'static str>>>,
}

impl Writer for Gate {
    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a test asked for it");
        if self.shut.load(Ordering::SeqCst) {
            return Err(SinkError::Retry("shut".to_string()));
        }
        self.ops.lock().unwrap().extend(batch.iter().map(|element| element.op.name()));
        *safe = batch.len();
        Ok(())
    }
}

fn spec_of(gate: &Gate, input: ScriptRequest, table: Option<String>) -> SinkSpec {
    let ms = Duration::from_millis;
    let writer = WriterSpec {
        writer: Box::new(gate.clone()),
        batch: BatchLimits { rows_max: 1_000, bytes_max: 1 << 20, timeout: Duration::ZERO },
        backoff: Backoff { initial: ms(5), max: ms(50) },
        checks: None,
        place: String::new(),
        target: "http://gate:1/…".to_string(),
    };
    SinkSpec {
        name: "out".to_string(),
        kind: "gate",
        inputs: vec![InputSpec { request: input, table }],
        mode: Mode::Changelog,
        buffer: BufferSpec { is_disk: false, bytes_max: 16 << 20, when_full: WhenFull::Block },
        writer: Some(writer),
        feed_print: "feed".to_string(),
        writer_print: "writer".to_string(),
    }
}

fn start(rig: &Rig, gate: &Gate) {
    start_with(rig, gate, Rig::request(), None);
}

fn start_with(rig: &Rig, gate: &Gate, input: ScriptRequest, table: Option<String>) {
    Sinks::start(&rig.service, &rig.root, None, vec![spec_of(gate, input, table)]);
}

fn row(rig: &Rig) -> SinkRow {
    rig.service.sinks.rows().remove(0)
}

async fn until(rig: &mut Rig, what: &str, wanted: impl Fn(&SinkRow) -> bool) {
    for _ in 0..20_000 {
        if wanted(&row(rig)) {
            return;
        }
        rig.tick().await;
    }
    panic!("{what}: {:?}", row(rig));
}

/// Waits for the second sink while the clock stands still.
async fn standing_still(rig: &Rig, what: &str, wanted: impl Fn(&SinkRow) -> bool) {
    for _ in 0..20_000 {
        if wanted(&rig.service.sinks.rows()[1]) {
            return;
        }
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}: {:?}", rig.service.sinks.rows()[1]);
}

/// While a sink cannot write, its view goes on and what is acknowledged stands still; rows are sent once they
/// are written; a view that ends is followed by another without compiling anew; what a sink holds when it
/// ends for good is lost and counted. Would catch a row of numbers that all follow one another.
#[test]
fn a_sinks_row_is_true() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 1), (2, 1)]);
        let gate = Gate::default();
        start(&rig, &gate);
        until(&mut rig, "it runs", |row| row.state == SinkState::Running && row.rows_sent == 2)
            .await;
        assert_eq!(rig.part("weir/sinks/out").state, State::Running);

        gate.shut.store(true, Ordering::SeqCst);
        rig.change(&[(3, 1)]);
        until(&mut rig, "it cannot write", |row| row.state == SinkState::Retrying).await;
        let stuck = row(&rig);
        assert_eq!((stuck.rows_sent, stuck.rows_lost), (2, 0));
        let frontier = stuck.frontier_ms;
        until(&mut rig, "its view goes on", |row| row.frontier_ms > frontier).await;
        assert_eq!(row(&rig).acked_ms, stuck.acked_ms, "and nothing is acknowledged");
        assert!(row(&rig).acked_ms < row(&rig).frontier_ms);
        assert_eq!(rig.part("weir/sinks/out").last_reason, "http://gate:1/…: shut");
        gate.shut.store(false, Ordering::SeqCst);
        until(&mut rig, "it has written", |row| row.rows_sent == 3).await;

        let compiled = || rig.service.compiles.counts_json()["compiled"].clone();
        let before = compiled();
        // Its view ends by more rows at once than an inbox takes.
        rig.change(&(100..20_000).map(|n| (n, 1)).collect::<Vec<_>>());
        until(&mut rig, "its view ends", |row| row.state == SinkState::Retrying).await;
        rig.change(&(100..20_000).map(|n| (n, -1)).collect::<Vec<_>>());
        until(&mut rig, "it follows another view", |row| row.state == SinkState::Running).await;
        assert_eq!(rig.service.compiles.counts_json()["compiled"], before, "nothing changed");

        gate.panics.store(true, Ordering::SeqCst);
        rig.change(&[(4, 1), (5, 1)]);
        until(&mut rig, "it ends", |row| row.state == SinkState::Failed).await;
        assert_eq!(row(&rig).rows_lost, 2, "{:?}", row(&rig));
        let part = rig.part("weir/sinks/out");
        assert_eq!((part.state, part.last_reason.as_str()), (State::Failed, "the sink panicked"));
        rig.root.kill().await;
    });
}

/// A sink whose table nothing produces says so by its code and tries again; once a source is there, it runs.
/// Would catch a sink that waits in silence for a table that does not come.
#[test]
fn a_sink_without_a_source_says_so() {
    case(async || {
        let mut rig = Rig::start_with(ReaderLimits::default(), "refused");
        for _ in 0..3 {
            rig.tick().await;
        }
        let gate = Gate::default();
        start(&rig, &gate);
        until(&mut rig, "no source", |row| row.last_error.contains("no_source")).await;
        assert_eq!(row(&rig).state, SinkState::Retrying, "{:?}", row(&rig));
        assert!(row(&rig).last_error.contains("http_events"));
        rig.source_is("running");
        rig.change(&[(1, 1)]);
        until(&mut rig, "it runs", |row| row.state == SinkState::Running && row.rows_sent == 1)
            .await;
        assert_eq!(row(&rig).last_error, "");
        rig.root.kill().await;
    });
}

/// What another output of the script lacks is no fault of the sink. Catches a sink that is shown as one that
/// died though it never stopped.
#[test]
fn what_others_lack_is_no_fault() {
    case(async || {
        let mut rig = Rig::start();
        rig.change(&[(1, 1)]);
        let gate = Gate::default();
        let mut input = Rig::request();
        if let Some(text) = &mut input.text {
            text.push_str("px.display(px.DataFrame('process_stats'), 'others')\n");
        }
        start_with(&rig, &gate, input, Some("rows".to_string()));
        until(&mut rig, "it runs", |row| row.state == SinkState::Running && row.rows_sent == 1)
            .await;
        let part = rig.part("weir/sinks/out");
        assert_eq!((row(&rig).errors, part.deaths, part.restarts), (0, 0, 0), "{part:?}");
        rig.root.kill().await;
    });
}

/// A sink whose other end was changed goes on with what it has: what the old one did not take arrives at the new
/// one, without a reset, and nothing is compiled anew. One that is configured as it runs is not touched; one that
/// is configured no more ends. Would catch a reload that drops what is buffered.
#[test]
fn a_reload_keeps_what_is_buffered() {
    case(async || {
        let mut rig = Rig::start();
        let (old, new) = (Gate::default(), Gate::default());
        old.shut.store(true, Ordering::SeqCst);
        rig.change(&[(1, 1), (2, 1)]);
        start(&rig, &old);
        until(&mut rig, "it is shut", |row| row.state == SinkState::Retrying && row.errors > 2)
            .await;
        let same = spec_of(&new, Rig::request(), None);
        assert_eq!(Sinks::apply(&rig.service, vec![same]).await, Vec::<String>::new());
        assert_eq!(row(&rig).rows_sent, 0);
        let mut changed = spec_of(&new, Rig::request(), None);
        changed.writer_print = "another".to_string();
        assert_eq!(Sinks::apply(&rig.service, vec![changed]).await, ["out goes on elsewhere"]);
        until(&mut rig, "it runs", |row| row.state == SinkState::Running && row.rows_sent == 2)
            .await;
        assert_eq!((row(&rig).resets, row(&rig).rows_lost), (0, 0));
        assert!(old.ops.lock().unwrap().is_empty());
        rig.change(&[(3, 1)]);
        until(&mut rig, "it goes on", |row| row.rows_sent == 3).await;
        assert_eq!(Sinks::apply(&rig.service, vec![]).await, ["out ended"]);
        assert!(rig.service.sinks.rows().is_empty());
        rig.root.kill().await;
    });
}

/// A receiver that never answers fills its buffer and no more: the sink is `full`, its view goes on, and another
/// sink of the same view is never more than two ticks behind, refused and full as the first one is: the clock stands still
/// until that is so, however fast the machine is. Once it answers, what it has adds up to the view.
#[test]
fn a_dead_sink_disturbs_nobody() {
    case(async || {
        let mut rig = Rig::start();
        let (dead, healthy) = (Gate::default(), Gate::default());
        dead.shut.store(true, Ordering::SeqCst);
        let mut first = spec_of(&dead, Rig::request(), None);
        first.buffer.bytes_max = 2_000;
        let mut second = spec_of(&healthy, Rig::request(), None);
        second.name = "second".to_string();
        Sinks::start(&rig.service, &rig.root, None, vec![first, second]);
        rig.change(&[(0, 1)]);
        let mut rows = 1;
        until(&mut rig, "both know of it", |row| row.buffer_bytes > 0).await;
        let mut full = 0;
        for n in 1..200 {
            rig.change(&[(n, 1)]);
            rows += 1;
            rig.tick().await;
            assert!(row(&rig).buffer_bytes <= 2_200, "{:?}", row(&rig));
            full += u64::from(row(&rig).state == SinkState::Full);
            standing_still(&rig, "the other is behind", |other| other.rows_sent + 2 >= rows).await;
        }
        assert!(full > 50, "most of the time it was full: {full}");
        rig.tick().await;
        rig.tick().await;
        standing_still(&rig, "the other has all", |other| other.rows_sent == rows).await;
        let other = rig.service.sinks.rows().remove(1);
        assert_eq!((other.rows_sent, other.state), (rows, SinkState::Running));
        dead.shut.store(false, Ordering::SeqCst);
        until(&mut rig, "it has all", |row| {
            row.state == SinkState::Running
                && row.buffer_bytes == 0
                && row.acked_ms == row.frontier_ms
        })
        .await;
        let ops = dead.ops.lock().unwrap().clone();
        let count = |name: &str| ops.iter().filter(|op| **op == name).count() as u64;
        assert_eq!(count("insert") - count("delete"), rows, "{:?}", row(&rig));
        rig.root.kill().await;
    });
}
