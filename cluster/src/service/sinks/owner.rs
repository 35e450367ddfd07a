//! One sink: it opens the buffer, has a pump write what is in it and a feeder for each input fill it, says how
//! it is, and ends all of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use weir_actors::Part;
use weir_sinks::buffer::Buffer;
use weir_sinks::buffer::disk::DiskBuffer;
use weir_sinks::buffer::disk::dir::BufferDir;
use weir_sinks::buffer::disk::state::StateFile;
use weir_sinks::buffer::memory::MemoryBuffer;
use weir_sinks::pipe::{Intake, Pump, PumpEvent, PumpThread, Shared, pipe};
use weir_sinks::sink::{Resume, SinkError};
use weir_types::clock::tick_unix_ns;
use weir_types::json::time_text;

use super::feeder::{Feed, Feeder};
use super::status::{SinkState, Status};
use super::{SinkSpec, WriterSpec};
use crate::service::Service;

/// Before a pump is left behind: shorter than what a part may take to stop.
const PUMP_STOP_MAX: Duration = Duration::from_secs(4);
/// What a pump says that nobody has looked at yet.
const EVENTS_MAX: usize = 16;

pub(super) enum Command {
    /// The same rows go elsewhere.
    Replace(WriterSpec),
    /// Says when it is done.
    Stop(oneshot::Sender<()>),
}

/// What happens to a sink.
enum Event {
    /// Of which pump it is: one that was replaced has nothing to say.
    Pump(u64, PumpEvent),
    /// An input can never go on.
    Failed(String),
}

pub(super) struct Owner {
    service: Service,
    spec: SinkSpec,
    data_dir: Option<PathBuf>,
    status: Arc<Status>,
    part: Part,
    events: mpsc::Sender<Event>,
    heard: mpsc::Receiver<Event>,
    pumps: u64,
    pump: Option<PumpThread>,
    /// The pump's writer keeps what it is given over restarts.
    is_lasting: bool,
    /// Where it writes to, and whether that has become another place that was not opened yet.
    place: String,
    has_moved: bool,
    feeders: Vec<tokio::task::JoinHandle<()>>,
}

/// Why a sink ends.
enum Ended {
    Asked(Option<oneshot::Sender<()>>),
    Failed(String),
}

impl Owner {
    pub(super) fn new(
        service: Service,
        spec: SinkSpec,
        data_dir: Option<PathBuf>,
        status: Arc<Status>,
        part: Part,
    ) -> Owner {
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        Owner {
            service,
            spec,
            data_dir,
            status,
            part,
            events,
            heard,
            pumps: 0,
            pump: None,
            is_lasting: false,
            place: String::new(),
            has_moved: false,
            feeders: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let part = self.part.clone();
        let stopped = part.stop_requested();
        let mut ended = tokio::select! {
            biased;
            () = stopped => Ended::Asked(None),
            ended = self.go_on(&mut commands) => ended,
        };
        // What is lost is counted before it is said that it has failed.
        self.stop().await;
        if let Ended::Failed(why) = &ended {
            warn!(sink = self.spec.name, message = why.as_str(), "a sink has failed");
            self.part.failed(why);
            self.status.fail(why);
        }
        if matches!(ended, Ended::Failed(_)) {
            // It stays to be seen, until it is configured anew.
            ended = Ended::Asked(loop {
                tokio::select! {
                    biased;
                    () = part.stop_requested() => break None,
                    command = commands.recv() => match command {
                        Some(Command::Stop(say)) => break Some(say),
                        Some(Command::Replace(_)) => {}
                        None => break None,
                    },
                }
            });
        }
        part.stopped();
        if let Ended::Asked(Some(say)) = ended {
            let _nobody_waits = say.send(());
        }
    }

    /// Everything ends; what would go with it is counted.
    async fn stop(&mut self) {
        for feeder in self.feeders.drain(..) {
            feeder.abort();
        }
        if let Some(pump) = self.pump.take() {
            let _ = actix_web::web::block(move || pump.stop(PUMP_STOP_MAX)).await;
        }
        self.status.note_lost();
    }

    /// Until it is asked to stop, or can never go on.
    async fn go_on(&mut self, commands: &mut mpsc::Receiver<Command>) -> Ended {
        // A buffer that cannot be opened does not keep it from being stopped, or sent elsewhere.
        let intake = loop {
            let command = tokio::select! {
                biased;
                command = commands.recv() => command,
                opened = self.open_buffer() => match opened {
                    Ok(intake) => break intake,
                    Err(why) => return Ended::Failed(why),
                },
            };
            match command {
                Some(Command::Replace(writer)) => self.spec.writer = Some(writer),
                Some(Command::Stop(say)) => return Ended::Asked(Some(say)),
                None => return Ended::Asked(None),
            }
        };
        let shared = intake.shared();
        self.status.has_pipe(Arc::clone(&shared));
        let intake = Arc::new(Mutex::new(intake));
        if let Some(first) = self.spec.writer.take()
            && let Err(why) = self.start_pump(&shared, first)
        {
            return Ended::Failed(why);
        }
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Replace(writer)) => {
                        if let Some(before) = self.pump.take() {
                            // It may be in a long write: the new one does not wait for it.
                            drop(before);
                        }
                        if let Err(why) = self.start_pump(&shared, writer) {
                            return Ended::Failed(why);
                        }
                    }
                    Some(Command::Stop(say)) => return Ended::Asked(Some(say)),
                    None => return Ended::Asked(None),
                },
                event = self.heard.recv() => match event {
                    Some(Event::Pump(of, event)) if of == self.pumps => {
                        if let Some(why) = self.heard(event, &intake, &shared) {
                            return Ended::Failed(why);
                        }
                    }
                    Some(Event::Pump(..)) => {}
                    Some(Event::Failed(why)) => return Ended::Failed(why),
                    None => return Ended::Asked(None),
                },
            }
        }
    }

    /// The buffer, as soon as it can be opened.
    async fn open_buffer(&mut self) -> Result<Intake, String> {
        let (needs_numbers, backoff) = match &self.spec.writer {
            Some(writer) => (writer.writer.is_lasting(), writer.backoff),
            None => return Err("it has no other end".to_string()),
        };
        let mut wait = backoff.initial;
        loop {
            let (name, spec) = (self.spec.name.clone(), self.spec.buffer);
            let data_dir = self.data_dir.clone();
            let open = move || -> Result<Buffer, SinkError> {
                let (Some(data_dir), true) = (data_dir, spec.is_disk || needs_numbers) else {
                    return Ok(Buffer::Memory(MemoryBuffer::new(spec.bytes_max, None)));
                };
                if spec.is_disk {
                    let disk = DiskBuffer::open(&data_dir, &name, spec.bytes_max)?;
                    return Ok(Buffer::Disk(Box::new(disk)));
                }
                let state = StateFile::open(&BufferDir::open(&data_dir, &name)?)?;
                Ok(Buffer::Memory(MemoryBuffer::new(spec.bytes_max, Some(state))))
            };
            let error = match actix_web::web::block(open).await {
                Ok(Ok(buffer)) => {
                    let inputs = u16::try_from(self.spec.inputs.len()).unwrap_or(u16::MAX);
                    return Ok(pipe(buffer, spec.when_full, self.spec.mode, inputs));
                }
                Ok(Err(SinkError::Refused(text))) => return Err(text),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the buffer could not be opened".to_string(),
            };
            self.note_error(SinkState::Retrying, &error, wait);
            actix::clock::sleep(wait).await;
            wait = (wait * 2).min(backoff.max);
        }
    }

    fn note_error(&self, state: SinkState, message: &str, again_in: Duration) {
        let message = &*self.status.blamed(message);
        warn!(sink = self.spec.name, message, "a sink cannot go on");
        self.status.writer_is(state, message);
        self.part.died(message, again_in);
    }

    fn start_pump(&mut self, shared: &Arc<Shared>, writer: WriterSpec) -> Result<(), String> {
        let WriterSpec { writer, batch, backoff, checks, place, target: _ } = writer;
        self.has_moved |= !self.place.is_empty() && self.place != place;
        self.place = place;
        self.is_lasting = writer.is_lasting();
        let pump = Pump::new(Arc::clone(shared), writer, batch, backoff, checks);
        self.pumps += 1;
        let (events, of) = (self.events.clone(), self.pumps);
        let say = move |event| drop(events.blocking_send(Event::Pump(of, event)));
        let started = PumpThread::start(&self.spec.name, pump, say);
        self.pump = Some(started.map_err(|error| format!("no thread for it: {error}"))?);
        Ok(())
    }

    /// `Some`: why it can never go on.
    fn heard(
        &mut self,
        event: PumpEvent,
        intake: &Arc<Mutex<Intake>>,
        shared: &Arc<Shared>,
    ) -> Option<String> {
        match event {
            PumpEvent::Opened(resume) => self.opened(resume, intake, shared),
            PumpEvent::Running(refusal) => {
                self.status.writer_is(SinkState::Running, "");
                self.part.running();
                if let Some(text) = refusal.map(|text| self.status.blamed(&text)) {
                    warn!(sink = self.spec.name, message = text, "refused for good, and counted");
                    self.status.refused_one(text);
                }
            }
            PumpEvent::Failed { error, again_in } => {
                let is_full = matches!(error, SinkError::Full(_));
                let state = if is_full { SinkState::Full } else { SinkState::Retrying };
                self.note_error(state, &error.to_string(), again_in);
            }
            // A panic is ours, and what is refused says what it is about.
            PumpEvent::Ended(why) => return Some(why),
        }
        None
    }

    /// The other end was found: now it is known what is there, and rows may come.
    fn opened(&mut self, resume: Resume, intake: &Arc<Mutex<Intake>>, shared: &Arc<Shared>) {
        self.status.writer_is(SinkState::Running, "");
        self.part.running();
        if !self.feeders.is_empty() {
            if std::mem::take(&mut self.has_moved) {
                shared.moved(resume);
            }
            return;
        }
        self.has_moved = false;
        let lost_some =
            intake.lock().is_ok_and(|mut intake| intake.resume(resume, self.is_lasting));
        if lost_some {
            let since = time_text(tick_unix_ns(shared.health().went.since_ms));
            let text = format!("what waited in memory since {since} went when the sink ended");
            warn!(sink = self.spec.name, since, "what waited in memory went when the sink ended");
            self.status.refused_one(text);
        }
        for (at, input) in self.spec.inputs.iter().enumerate() {
            let feed = Feed {
                service: self.service.clone(),
                name: self.spec.name.clone(),
                at,
                input: input.clone(),
                intake: Arc::clone(intake),
                shared: Arc::clone(shared),
                status: Arc::clone(&self.status),
            };
            let events = self.events.clone();
            self.feeders.push(actix::spawn(async move {
                let why = Feeder::new(feed).run().await;
                let _nobody_listens = events.send(Event::Failed(why)).await;
            }));
        }
    }
}
