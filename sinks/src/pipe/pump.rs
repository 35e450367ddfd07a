//! The end of a sink from which elements leave: batches, attempts, and what the other end says about them.
//! A batch that it will never take is split until it is found which element that is; that one is counted,
//! the others keep their order.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Taken;
use crate::element::Element;
use crate::sink::{Notes, Resume, SEQ_END, SinkError, Writer};

use super::{Backoff, BatchLimits, Shared, now};

/// Whoever asks to be left alone for longer is tried all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What a step of a pump came to.
#[derive(Debug)]
pub enum Pumped {
    /// Nothing to do; for so long at most, if something waits for more of its batch.
    Idle(Option<Duration>),
    /// Nothing to do, but for what the other end has to be told again after so long.
    Quiet(Duration),
    /// The other end was found, and says what is there.
    Opened(Resume),
    Wrote,
    /// The other end is there, as before.
    Checked,
    /// It did not work; wait so long before the next step.
    Failed(SinkError, Duration),
    /// It never will.
    Refused(String),
}

pub struct Pump {
    pub(super) shared: Arc<Shared>,
    writer: Box<dyn Writer>,
    batch: BatchLimits,
    backoff: Backoff,
    wait: Duration,
    is_open: bool,
    pub(super) generation: u64,
    /// Since when something waits for more of its batch.
    waits_since: Option<Duration>,
    /// When the other end was told last what it would forget.
    refreshed: Duration,
    /// How often it is looked at if the other end is there, while nothing is to be written; and when it was last
    /// known to be.
    checks: Option<Duration>,
    checked: Option<Duration>,
    /// The last refusal of a single element.
    pub(super) last_refusal: Option<String>,
    /// What the writer has noticed and was counted.
    noted: Notes,
}

impl Pump {
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        writer: Box<dyn Writer>,
        batch: BatchLimits,
        backoff: Backoff,
        checks: Option<Duration>,
    ) -> Pump {
        let wait = backoff.initial;
        // Whatever was before it is replaced.
        let generation = {
            let mut state = shared.lock();
            state.generation += 1;
            state.generation
        };
        shared.work.notify_all();
        Pump {
            shared,
            writer,
            batch,
            backoff,
            wait,
            is_open: false,
            generation,
            waits_since: None,
            refreshed: now(),
            checks,
            checked: None,
            last_refusal: None,
            noted: Notes::default(),
        }
    }

    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.writer.is_lasting()
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether elements that are not safe were handed to it before, or there are others.
    fn has_work(&self) -> bool {
        let state = self.shared.lock();
        !state.in_flight.is_empty() || !state.buffer.is_empty()
    }

    /// Opens, or writes one batch.
    pub fn step(&mut self) -> Pumped {
        let done = if self.is_open { self.write() } else { self.open() };
        // Another writer's counts begin anew; those of the sink do not.
        let notes = self.writer.notes();
        self.shared.health_mut().notes += notes.since(std::mem::replace(&mut self.noted, notes));
        match done {
            Ok(pumped) => pumped,
            Err(SinkError::Refused(text)) => Pumped::Refused(text),
            Err(error) => {
                let asked = match &error {
                    SinkError::RetryAfter(_, after) => (*after).min(RETRY_AFTER_MAX),
                    _ => Duration::ZERO,
                };
                let wait = self.wait.max(asked);
                self.wait = (self.wait * 2).min(self.backoff.max);
                Pumped::Failed(error, wait)
            }
        }
    }

    fn open(&mut self) -> Result<Pumped, SinkError> {
        let resume = self.writer.open()?;
        if resume.seq >= SEQ_END {
            let text = format!("there is an element {}, which no sink has written", resume.seq);
            return Err(SinkError::Refused(text));
        }
        self.is_open = true;
        self.wait = self.backoff.initial;
        Ok(Pumped::Opened(resume))
    }

    fn write(&mut self) -> Result<Pumped, SinkError> {
        if !self.has_work() {
            self.waits_since = None;
            return self.check();
        }
        if let Some(left) = self.waits_for_more() {
            return Ok(Pumped::Idle(Some(left)));
        }
        let batch = self.take()?;
        self.waits_since = None;
        if batch.is_empty() {
            return Ok(Pumped::Idle(None));
        }
        self.write_batch(&batch)?;
        self.checked = Some(now());
        self.wait = self.backoff.initial;
        Ok(Pumped::Wrote)
    }

    /// Looks if the other end is there, if it is time.
    fn check(&mut self) -> Result<Pumped, SinkError> {
        let Some(every) = self.checks else { return self.refresh() };
        let left = self
            .checked
            .map_or(Duration::ZERO, |checked| every.saturating_sub(now().saturating_sub(checked)));
        if !left.is_zero() || self.shared.lock().is_stopping {
            return Ok(match self.refresh()? {
                Pumped::Idle(None) => Pumped::Quiet(left),
                Pumped::Quiet(other) => Pumped::Quiet(left.min(other)),
                pumped => pumped,
            });
        }
        self.writer.check()?;
        self.checked = Some(now());
        self.wait = self.backoff.initial;
        Ok(Pumped::Checked)
    }

    /// Tells the other end again what it would forget, if it is time.
    fn refresh(&mut self) -> Result<Pumped, SinkError> {
        let Some(every) = self.writer.refreshes() else { return Ok(Pumped::Idle(None)) };
        let left = every.saturating_sub(now().saturating_sub(self.refreshed));
        if !left.is_zero() {
            return Ok(Pumped::Quiet(left));
        }
        match self.writer.refresh() {
            // Said again it would be refused again.
            Err(SinkError::Unfit(text)) => self.last_refusal = Some(text),
            done => done?,
        }
        self.refreshed = now();
        self.wait = self.backoff.initial;
        Ok(Pumped::Wrote)
    }

    /// How long until what is there is a batch, even if nothing else comes.
    fn waits_for_more(&mut self) -> Option<Duration> {
        if self.batch.timeout.is_zero() {
            return None;
        }
        let since = *self.waits_since.get_or_insert_with(now);
        let state = self.shared.lock();
        let is_full = !state.in_flight.is_empty()
            || state.is_stopping
            // Half of a full buffer is taken at once: it need not wait for more.
            || state.buffer.bytes() >= self.batch.bytes_max.min(state.buffer.bytes_max() / 2);
        let left = self.batch.timeout.checked_sub(now().saturating_sub(since))?;
        (!is_full).then_some(left).filter(|left| !left.is_zero())
    }

    /// The batch that is on its way, or the next one.
    fn take(&mut self) -> Result<Vec<Taken>, SinkError> {
        let mut state = self.shared.lock();
        if state.generation != self.generation {
            return Ok(Vec::new());
        }
        if state.in_flight.is_empty() {
            // What is on its way makes no room, so that it is never all there is.
            let bytes_max = self.batch.bytes_max.min(state.buffer.bytes_max() / 2).max(1);
            state.in_flight = state.buffer.take(self.batch.rows_max, bytes_max)?;
            if let Some(last) = state.in_flight.last() {
                let seq = last.element.seq;
                state.buffer.note_sent(seq);
            }
            self.shared.note(&state);
        }
        Ok(state.in_flight.clone())
    }

    fn write_batch(&mut self, batch: &[Taken]) -> Result<(), SinkError> {
        let elements: Vec<&Element> = batch.iter().map(|taken| &taken.element).collect();
        let (mut from, mut size) = (0, elements.len());
        while from < elements.len() {
            let part = &elements[from..(from + size).min(elements.len())];
            let mut safe = 0;
            let done = self.writer.write(part, &mut safe);
            let safe = if done.is_ok() { part.len() } else { safe.min(part.len()) };
            self.ack(safe, true);
            from += safe;
            let left = part.len() - safe;
            match done {
                Ok(()) => size = (size * 2).min(elements.len()),
                Err(SinkError::Unfit(_)) if left > 1 => size = left.div_ceil(2),
                Err(SinkError::Unfit(text)) if left == 1 => {
                    self.ack(1, false);
                    self.last_refusal = Some(text);
                    from += 1;
                    size = (size * 2).min(elements.len());
                }
                Err(SinkError::Unfit(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The first of what is on its way is over: safe, or refused for good.
    fn ack(&mut self, elements: usize, is_safe: bool) {
        if elements == 0 {
            return;
        }
        let mut state = self.shared.lock();
        let state = &mut *state;
        if state.generation != self.generation {
            // Another one writes them again.
            return;
        }
        let elements = elements.min(state.in_flight.len());
        let over: Vec<Taken> = state.in_flight.drain(..elements).collect();
        let mut rows = 0;
        for taken in &over {
            rows += u64::from(taken.element.op.is_row());
            state.note_acked(&taken.element);
        }
        state.note_safe();
        state.buffer.ack(&over);
        {
            let mut health = self.shared.health_mut();
            *(if is_safe { &mut health.rows_sent } else { &mut health.rows_refused }) += rows;
        }
        self.shared.note(state);
        self.shared.room.notify_waiters();
        self.shared.room.notify_one();
    }

    pub fn close(&mut self) {
        self.writer.close();
    }
}
