//! One input of a sink: it follows a view and puts what is delivered into the buffer, on threads that may
//! block. While there is no room it takes nothing more, and the view keeps one net change for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};
use weir_sinks::delivery::{Delivery, OutputInfo};
use weir_sinks::pipe::{Filled, Intake, Shared};
use weir_sinks::sink::SinkError;

use super::InputSpec;
use super::status::{SinkState, Status};
use crate::planner::{no_source_text, wanted_output};
use crate::service::{
    Installable, OutboxReader, Outgoing, Service, Since, Subscribe, Wanted, prepare,
};

/// Waits between attempts to follow a view: from this, doubling, to that.
const RETRY_FIRST: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1_000 });
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A buffer that cannot be written, or said nothing of its room, is tried again after this.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// What a feeder has to do with.
pub(super) struct Feed {
    pub(super) service: Service,
    /// Of the sink, and which of its inputs it is.
    pub(super) name: String,
    pub(super) at: usize,
    pub(super) input: InputSpec,
    pub(super) intake: Arc<Mutex<Intake>>,
    pub(super) shared: Arc<Shared>,
    pub(super) status: Arc<Status>,
}

pub(super) struct Feeder {
    feed: Feed,
    /// How far it got in which view.
    since: Option<Since>,
    /// It has got a part of the next tick.
    half: bool,
    /// Of its script, once nothing of it lacks a source.
    compiled: Option<Installable>,
    wait: Duration,
}

/// Why a sink stops for good.
struct Failed(String);

impl Feeder {
    pub(super) fn new(feed: Feed) -> Feeder {
        Feeder { feed, since: None, half: false, compiled: None, wait: RETRY_FIRST }
    }

    /// Until it can never go on: why.
    pub(super) async fn run(mut self) -> String {
        loop {
            if let Err(Failed(why)) = self.follow().await {
                return why;
            }
            actix::clock::sleep(self.wait).await;
            self.wait = (self.wait * 2).min(RETRY_MAX);
        }
    }

    fn note(&self, state: SinkState, message: &str) {
        if !message.is_empty() {
            warn!(sink = self.feed.name, message, "a sink cannot go on");
        }
        self.feed.status.input_is(self.feed.at, state, message);
    }

    /// Its script, compiled once; again only as long as something of it has no source. `None`: not now.
    async fn installable(&mut self) -> Result<Option<Installable>, Failed> {
        if let Some(installable) = &self.compiled {
            return Ok(Some(installable.clone()));
        }
        let InputSpec { request, table } = &self.feed.input;
        match prepare(&self.feed.service, request, Wanted::Live).await {
            Ok(installable) => {
                let missing = &installable.prepared.without_source;
                let is_ours = |output: &str| table.as_ref().is_none_or(|table| table == output);
                if let Some((_, table)) = missing.iter().find(|(output, _)| is_ours(output)) {
                    let text = format!("no_source: {}", no_source_text(table));
                    self.note(SinkState::Retrying, &text);
                    return Ok(None);
                }
                if missing.is_empty() {
                    self.compiled = Some(installable.clone());
                }
                Ok(Some(installable))
            }
            Err(error) => {
                if error.is_final() {
                    return Err(Failed(error.text()));
                }
                self.note(SinkState::Retrying, &error.text());
                Ok(None)
            }
        }
    }

    /// Subscribes, and takes what comes until the view ends.
    async fn follow(&mut self) -> Result<(), Failed> {
        let Some(installable) = self.installable().await? else { return Ok(()) };
        let table = self.feed.input.table.as_deref();
        let output = wanted_output(&installable.prepared.outputs, table).cloned();
        let output = output.map_err(Failed)?;
        let service = self.feed.service.clone();
        let reader = OutboxReader::new(&service.readers);
        let outbox = Arc::clone(&reader.outbox);
        let since = self.since.filter(|_| !self.half);
        // Whoever configured it has asked for it.
        let accepts_cost = true;
        let wanted = Wanted::Live;
        let subscribe = Subscribe { installable, outbox, wanted, since, accepts_cost };
        let subscribed = match service.coordinator.send(subscribe).await {
            Ok(Ok(subscribed)) => subscribed,
            Ok(Err(refusal)) => {
                self.note(SinkState::Retrying, &refusal.message);
                return Ok(());
            }
            Err(error) => {
                self.note(SinkState::Retrying, &error.to_string());
                return Ok(());
            }
        };
        let mut goes_on = since.is_some();
        let mut started = false;
        self.feed.status.follows(self.feed.at, reader.outbox.frontier());
        while let Some(message) = std::future::poll_fn(|cx| reader.poll(cx)).await {
            match message {
                Outgoing::Schema(_) | Outgoing::Status { .. } => {}
                Outgoing::Error(note) if note.code == "resume_expired" => goes_on = false,
                // Of another output: ours has been looked at.
                Outgoing::Error(note) if note.code == "no_source" => {}
                Outgoing::Error(note) => self.note(SinkState::Retrying, &note.message),
                Outgoing::Delivery(delivery) => {
                    let start = (!std::mem::replace(&mut started, true)).then_some(goes_on);
                    if start.is_some() {
                        self.since = None;
                    }
                    let wants_snapshot =
                        self.deliver(&delivery, start.map(|goes_on| (&output, goes_on))).await?;
                    if delivery.completeness.is_some() {
                        let tick_ms = delivery.tick_ms;
                        self.since = Some(Since { view: subscribed.view, tick_ms });
                    }
                    if wants_snapshot {
                        info!(sink = self.feed.name, "rows were dropped: all is written anew");
                        self.since = None;
                        return Ok(());
                    }
                }
                Outgoing::End(reason) => {
                    info!(sink = self.feed.name, %reason, "a sink's view ended: it subscribes again");
                }
            }
        }
        self.note(SinkState::Retrying, "");
        Ok(())
    }

    /// `start`: the output, before its first delivery, and whether that goes on. True: what is written lacks
    /// something, and there is room for all of it.
    async fn deliver(
        &mut self,
        delivery: &Arc<Delivery>,
        start: Option<(&OutputInfo, bool)>,
    ) -> Result<bool, Failed> {
        self.half = true;
        let (at, output) = (self.feed.at, start.map(|(output, on)| (output.clone(), on)));
        let taken = Arc::clone(delivery);
        let mut filled = self
            .work(move |intake| {
                if let Some((output, goes_on)) = output {
                    intake.start(at, &output, goes_on)?;
                }
                intake.take(at, &taken)?;
                intake.fill(at)
            })
            .await?;
        while filled == Filled::Full {
            self.feed.status.is_blocked(at, true);
            self.room().await;
            filled = self.work(move |intake| intake.fill(at)).await?;
        }
        self.feed.status.is_blocked(at, false);
        self.half = delivery.completeness.is_none();
        let wants_snapshot =
            self.feed.intake.try_lock().is_ok_and(|intake| intake.wants_snapshot(at));
        if !wants_snapshot {
            self.wait = RETRY_FIRST;
        }
        self.note(SinkState::Running, "");
        Ok(wants_snapshot)
    }

    /// Until there may be room in the buffer.
    async fn room(&self) {
        tokio::select! {
            () = self.feed.shared.room() => {}
            () = actix::clock::sleep(ROOM_WAIT) => {}
        }
    }

    /// Lets the intake work where it may block. `Full`, also if it cannot be written just now.
    async fn work(
        &self,
        work: impl FnOnce(&mut Intake) -> Result<Filled, SinkError> + Send + 'static,
    ) -> Result<Filled, Failed> {
        let intake = Arc::clone(&self.feed.intake);
        let worked = actix_web::web::block(move || {
            work(&mut intake.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match worked.await {
            Ok(Ok(filled)) => Ok(filled),
            Ok(Err(SinkError::Refused(text))) => Err(Failed(text)),
            Ok(Err(error)) => {
                self.note(SinkState::Full, &error.to_string());
                Ok(Filled::Full)
            }
            Err(_) => Err(Failed("the sink panicked".to_string())),
        }
    }
}
