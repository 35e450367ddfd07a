//! Sinks on a running cluster part: what their row says is true, whatever becomes of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use weir_actors::State;
use weir_sinks::delivery::{Delivery, OutputInfo};
use weir_sinks::sink::{Sink, SinkError, SinkHealth};

use super::rig::{Rig, case};
use crate::planner::ScriptRequest;
use crate::service::{ReaderLimits, SinkRow, SinkSpec, SinkState, Sinks};

/// Takes what it is given unless it is told not to.
#[derive(Clone, Default)]
struct Gate {
    shut: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    starts: Arc<AtomicU64>,
    waiting: Arc<Mutex<(u64, Option<u64>)>>,
    health: Arc<Mutex<SinkHealth>>,
}

impl Sink for Gate {
    fn start(&mut self, _output: &OutputInfo, _goes_on: bool) -> Result<(), SinkError> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn deliver(&mut self, delivery: &Arc<Delivery>) {
        assert!(!self.panics.load(Ordering::SeqCst), "a test asked for it");
        let rows = delivery.changes.iter().map(|changes| changes.rows.len() as u64).sum::<u64>();
        let mut waiting = self.waiting.lock().unwrap();
        waiting.0 += rows;
        if delivery.completeness.is_some() {
            waiting.1 = Some(delivery.tick_ms);
        }
    }

    fn flush(&mut self) -> Result<Option<u64>, SinkError> {
        if self.shut.load(Ordering::SeqCst) {
            return Err(SinkError::Retry("shut".to_string()));
        }
        let (rows, tick_ms) = std::mem::take(&mut *self.waiting.lock().unwrap());
        let mut health = self.health.lock().unwrap();
        health.rows_sent += rows;
        health.acked_ms = tick_ms.or(health.acked_ms);
        Ok(health.acked_ms)
    }

    fn stop(&mut self) {}

    fn health(&self) -> SinkHealth {
        let rows_waiting = self.waiting.lock().unwrap().0;
        SinkHealth { rows_waiting, ..self.health.lock().unwrap().clone() }
    }
}

fn start(rig: &Rig, gate: &Gate) {
    start_with(rig, gate, Rig::request(), None);
}

fn start_with(rig: &Rig, gate: &Gate, input: ScriptRequest, table: Option<String>) {
    let sink = Box::new(gate.clone());
    let (name, kind) = ("out".to_string(), "gate");
    let spec = SinkSpec { name, kind, input, table, sink };
    Sinks::start(&rig.service, &rig.root, vec![spec]);
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
        let frontier = stuck.frontier.clone();
        until(&mut rig, "its view goes on", |row| row.frontier > frontier).await;
        assert_eq!(row(&rig).acked, stuck.acked, "and nothing is acknowledged");
        assert!(row(&rig).acked < row(&rig).frontier);
        assert_eq!(rig.part("weir/sinks/out").last_reason, "shut");
        gate.shut.store(false, Ordering::SeqCst);
        until(&mut rig, "it has written", |row| row.rows_sent == 3).await;

        let compiled = || rig.service.compiles.counts_json()["compiled"].clone();
        let (before, starts) = (compiled(), gate.starts.load(Ordering::SeqCst));
        // Its view ends by more rows at once than an inbox takes.
        rig.change(&(100..20_000).map(|n| (n, 1)).collect::<Vec<_>>());
        until(&mut rig, "its view ends", |row| row.state == SinkState::Retrying).await;
        rig.change(&(100..20_000).map(|n| (n, -1)).collect::<Vec<_>>());
        until(&mut rig, "it follows another view", |row| row.state == SinkState::Running).await;
        assert!(gate.starts.load(Ordering::SeqCst) > starts, "another view");
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
