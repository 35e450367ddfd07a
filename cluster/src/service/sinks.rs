//! Sinks on a running server: each is a reader of a view like any other, whose deliveries go to a
//! [`Sink`]. Its work is done on threads that may block, one delivery at a time; while it fails, the view
//! keeps one net change for it, within what a reader may hold. If that is too much, or the view is gone,
//! it subscribes again: from where it was if the view still knows, with a snapshot behind a reset if not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};
use weir_actors::{KillSwitch, Part, Stop};
use weir_pxl::Code;
use weir_sinks::delivery::Delivery;
use weir_sinks::sink::{Sink, SinkError, SinkHealth};
use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;

use super::{
    Client, Installable, NotCompiled, Outbox, OutboxReader, Outgoing, Service, Since, Subscribe,
    Wanted, prepare,
};
use crate::planner::{PlanError, ScriptRequest, no_source_text, wanted_output};

/// Waits between attempts: from this, doubling, to that.
const RETRY_FIRST: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1_000 });
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A sink that cannot end what it is at within this is left behind.
const STOP_MAX: Duration = Duration::from_secs(5);

/// One sink as it is configured.
pub struct SinkSpec {
    pub name: String,
    /// As `type` in the configuration.
    pub kind: &'static str,
    pub input: ScriptRequest,
    /// Which output, where there are several.
    pub table: Option<String>,
    pub sink: Box<dyn Sink>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkState {
    Running,
    #[default]
    Retrying,
    Full,
    Failed,
}

/// A sink as lists show it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkRow {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub state: SinkState,
    /// Everything up to this tick is safe at the other end.
    pub acked: Option<String>,
    /// What the view has reached.
    pub frontier: Option<String>,
    pub buffer_bytes: u64,
    pub rows_sent: u64,
    /// Accepted, never written, and not made up for by a reset.
    pub rows_lost: u64,
    pub resets: u64,
    pub replaced: u64,
    /// Times that half a line, left by a crash, was cut off.
    pub halves_cut: u64,
    pub errors: u64,
    pub last_error: String,
}

/// A sink as it is known here.
#[derive(Default)]
struct Known {
    row: SinkRow,
    /// How far its present view is; 0: it has none, or that has not got anywhere.
    view_ms: Arc<AtomicU64>,
}

impl Known {
    /// What a view has reached stays, when its successor begins anew.
    fn note_frontier(&mut self) {
        let view_ms = self.view_ms.load(Ordering::Relaxed);
        if view_ms > 0 {
            self.row.frontier = Some(time_text(tick_unix_ns(view_ms)));
        }
    }
}

/// All sinks of a server.
#[derive(Default)]
pub struct Sinks(Mutex<Vec<Known>>);

impl Sinks {
    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn rows(&self) -> Vec<SinkRow> {
        let mut sinks = self.lock();
        sinks.iter_mut().for_each(Known::note_frontier);
        sinks.iter().map(|known| known.row.clone()).collect()
    }

    /// Starts them in the current actix system, each a part below `root`.
    pub fn start(service: &Service, root: &KillSwitch, specs: Vec<SinkSpec>) {
        let switch = root.child("sinks");
        for spec in specs {
            let SinkSpec { name, kind, input, table, sink } = spec;
            let at = {
                let mut rows = service.sinks.lock();
                let row = SinkRow { name: name.clone(), kind, ..SinkRow::default() };
                rows.push(Known { row, ..Known::default() });
                rows.len() - 1
            };
            let driver = Driver {
                service: service.clone(),
                at,
                input,
                table,
                sink: Some(sink),
                since: None,
                half: false,
                compiled: None,
                wait: RETRY_FIRST,
                part: switch.part(&name, Stop::Asked { within: STOP_MAX }),
                name,
            };
            actix::spawn(driver.run());
        }
    }
}

struct Driver {
    service: Service,
    /// Its row.
    at: usize,
    name: String,
    input: ScriptRequest,
    table: Option<String>,
    /// Away while it works.
    sink: Option<Box<dyn Sink>>,
    /// How far it got in which view.
    since: Option<Since>,
    /// It has got a part of the next tick.
    half: bool,
    /// Of its script, once nothing of it lacks a source.
    compiled: Option<Installable>,
    wait: Duration,
    part: Part,
}

/// Why a sink stops for good.
struct Failed;

impl Driver {
    async fn run(mut self) {
        let part = self.part.clone();
        let stopped = part.stop_requested();
        tokio::select! {
            biased;
            () = stopped => {}
            () = self.go_on() => {}
        }
        // One that is away works still, and goes with its thread.
        if let Some(mut sink) = self.sink.take() {
            // What it has accepted and could not bring to its end goes with it.
            let rows_lost = sink.health().rows_waiting;
            self.row(|row| row.rows_lost += rows_lost);
            let _ = actix_web::web::block(move || sink.stop()).await;
        }
        part.stopped();
    }

    /// Until it stops for good.
    async fn go_on(&mut self) {
        while self.follow().await.is_ok() {
            self.pause().await;
        }
        let mut why = String::new();
        self.row(|row| {
            row.state = SinkState::Failed;
            why.clone_from(&row.last_error);
        });
        self.part.failed(&why);
    }

    fn row(&self, change: impl FnOnce(&mut SinkRow)) {
        if let Some(known) = self.service.sinks.lock().get_mut(self.at) {
            change(&mut known.row);
        }
    }

    /// The view that it follows from now on.
    fn note_view(&self, outbox: &Outbox) {
        if let Some(known) = self.service.sinks.lock().get_mut(self.at) {
            known.note_frontier();
            known.view_ms = outbox.frontier();
        }
    }

    fn note_error(&self, state: SinkState, message: &str) {
        warn!(sink = self.name, message, "a sink cannot go on");
        self.row(|row| {
            row.state = state;
            row.errors += 1;
            row.last_error = message.to_string();
        });
        if state != SinkState::Failed {
            self.part.died(message, self.wait);
        }
    }

    async fn pause(&mut self) {
        actix::clock::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(RETRY_MAX);
    }

    /// Its script, compiled once; again only as long as something of it has no source. `None`: not now.
    async fn installable(&mut self) -> Result<Option<Installable>, Failed> {
        if let Some(installable) = &self.compiled {
            return Ok(Some(installable.clone()));
        }
        match prepare(&self.service, &self.input, Wanted::Live).await {
            Ok(installable) => {
                let missing = &installable.prepared.without_source;
                let is_ours =
                    |output: &str| self.table.as_ref().is_none_or(|table| table == output);
                if let Some((_, table)) = missing.iter().find(|(output, _)| is_ours(output)) {
                    self.note_error(
                        SinkState::Retrying,
                        &format!("no_source: {}", no_source_text(table)),
                    );
                    return Ok(None);
                }
                if missing.is_empty() {
                    self.compiled = Some(installable.clone());
                }
                Ok(Some(installable))
            }
            Err(error) => {
                let state = state_after(&error);
                self.note_error(state, &not_compiled_text(&error));
                if state == SinkState::Failed { Err(Failed) } else { Ok(None) }
            }
        }
    }

    /// Subscribes, and takes what comes until the view ends.
    async fn follow(&mut self) -> Result<(), Failed> {
        let Some(installable) = self.installable().await? else { return Ok(()) };
        let output = wanted_output(&installable.prepared.outputs, self.table.as_deref());
        let output = output.cloned().map_err(|text| {
            self.note_error(SinkState::Failed, &text);
            Failed
        })?;
        let client = Client::new(&self.service.readers.limits);
        let outbox = Outbox::new(&client, &self.service.readers);
        let reader = OutboxReader { client, outbox };
        let outbox = Arc::clone(&reader.outbox);
        let since = self.since.filter(|_| !self.half);
        let subscribe = Subscribe { installable, outbox, wanted: Wanted::Live, since };
        let subscribed = match self.service.coordinator.send(subscribe).await {
            Ok(Ok(subscribed)) => subscribed,
            Ok(Err(refusal)) => {
                self.note_error(SinkState::Retrying, &refusal.message);
                return Ok(());
            }
            Err(error) => {
                self.note_error(SinkState::Retrying, &error.to_string());
                return Ok(());
            }
        };
        let mut goes_on = since.is_some();
        let mut started = false;
        self.note_view(&reader.outbox);
        while let Some(message) = std::future::poll_fn(|cx| reader.poll(cx)).await {
            match message {
                Outgoing::Schema(_) => {}
                Outgoing::Error(note) if note.code == "resume_expired" => goes_on = false,
                // Of another output: ours has been looked at.
                Outgoing::Error(note) if note.code == "no_source" => {}
                Outgoing::Error(note) => self.note_error(SinkState::Retrying, &note.message),
                Outgoing::Delivery(delivery) => {
                    if !std::mem::replace(&mut started, true) {
                        let output = output.clone();
                        self.until_done(move |sink| sink.start(&output, goes_on).map(|()| None))
                            .await?;
                        self.since = None;
                    }
                    self.deliver(&delivery, &output.table).await?;
                    if delivery.completeness.is_some() {
                        let tick_ms = delivery.tick_ms;
                        self.since = Some(Since { view: subscribed.view, tick_ms });
                    }
                }
                Outgoing::End(reason) => {
                    info!(sink = self.name, %reason, "a sink's view ended: it subscribes again");
                }
            }
        }
        self.row(|row| row.state = SinkState::Retrying);
        Ok(())
    }

    /// `table`: the output that is written.
    async fn deliver(&mut self, delivery: &Arc<Delivery>, table: &str) -> Result<(), Failed> {
        let mut accepted = Some(Arc::clone(delivery));
        self.half = true;
        let accept = move |sink: &mut Box<dyn Sink>| {
            if let Some(delivery) = accepted.take() {
                sink.deliver(&delivery);
            }
            sink.flush()
        };
        let done = self.until_done(accept).await;
        if done.is_err() && self.sink.is_none() {
            // It panicked, and what it held went with it.
            let rows = delivery.changes_of(table).flat_map(|changes| &changes.rows);
            let rows_lost: u64 = rows.map(|(_, diff)| diff.unsigned_abs()).sum();
            self.row(|row| row.rows_lost += rows_lost);
        }
        done?;
        self.half = delivery.completeness.is_none();
        self.wait = RETRY_FIRST;
        self.part.running();
        self.row(|row| {
            row.state = SinkState::Running;
            row.last_error.clear();
        });
        Ok(())
    }

    /// Lets the sink work where it may block, again and again until it has done it.
    async fn until_done(
        &mut self,
        mut work: impl FnMut(&mut Box<dyn Sink>) -> Result<Option<u64>, SinkError> + Send + 'static,
    ) -> Result<(), Failed> {
        loop {
            let Some(mut sink) = self.sink.take() else { return Err(Failed) };
            let worked = actix_web::web::block(move || {
                let done = work(&mut sink);
                let health = sink.health();
                (sink, work, done, health)
            });
            // A panic takes the sink along.
            let Ok((sink, again, done, health)) = worked.await else {
                self.note_error(SinkState::Failed, "the sink panicked");
                return Err(Failed);
            };
            self.sink = Some(sink);
            work = again;
            self.note_health(&health);
            match done {
                Ok(_) => return Ok(()),
                Err(SinkError::Refused(text)) => {
                    self.note_error(SinkState::Failed, &text);
                    return Err(Failed);
                }
                Err(SinkError::Full(text)) => self.note_error(SinkState::Full, &text),
                Err(SinkError::Retry(text)) => self.note_error(SinkState::Retrying, &text),
            }
            self.pause().await;
        }
    }

    fn note_health(&self, health: &SinkHealth) {
        self.row(|row| {
            row.acked = health.acked_ms.map(|tick_ms| time_text(tick_unix_ns(tick_ms)));
            row.buffer_bytes = health.buffer_bytes;
            row.rows_sent = health.rows_sent;
            row.resets = health.resets;
            row.replaced = health.replaced;
            row.halves_cut = health.halves_cut;
        });
    }
}

/// Whether it is worth while to try again.
fn state_after(error: &NotCompiled) -> SinkState {
    match error {
        // A source may come, and others may leave us the time.
        NotCompiled::Plan(PlanError::NoSource { .. }) => SinkState::Retrying,
        NotCompiled::Plan(_) if has_finding(error, Code::CompileTime) => SinkState::Retrying,
        NotCompiled::Plan(_) => SinkState::Failed,
        NotCompiled::Busy | NotCompiled::Stopping(_) => SinkState::Retrying,
    }
}

fn has_finding(error: &NotCompiled, code: Code) -> bool {
    error.diagnostics().iter().any(|finding| finding.code == code.name())
}

/// With its code, and the first finding.
fn not_compiled_text(error: &NotCompiled) -> String {
    let first = error.diagnostics().first().map(|finding| format!(": {}", finding.message));
    format!("{}: {error}{}", error.code(), first.unwrap_or_default())
}
