//! One receiver: a thread that takes notices from its queue, sends them, tries again with growing waits, and says
//! how it is. One that does not answer keeps nobody else waiting.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tracing::warn;
use weir_actors::Part;
use weir_rules::state::Notice;
use weir_sinks::sink::SinkError;
use weir_types::Clock;

use super::post::{Post, Sender};
use super::queue::{Queue, Waiting};

/// Waits between attempts: from this, doubling, to that. Alerts are late if they wait for long.
const RETRY_FIRST: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 500 });
const RETRY_MAX: Duration = Duration::from_secs(30);
/// What a receiver asks for by `Retry-After` is kept up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How a receiver is, as lists show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReceiverRow {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Without what is secret.
    pub to: String,
    /// `running` or `retrying`.
    pub state: &'static str,
    pub waiting: usize,
    pub sent: u64,
    /// Dropped for want of room, and refused for good.
    pub lost: u64,
    pub refused: u64,
    pub errors: u64,
    pub last_error: String,
}

#[derive(Default)]
pub(super) struct Counts {
    sent: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    /// What hinders it now; empty: nothing.
    hindered: Mutex<String>,
    /// What was said when a notice was refused for good.
    refusal: Mutex<String>,
}

/// A receiver at work.
pub(super) struct Receiver {
    pub(super) name: String,
    pub(super) print: String,
    kind: &'static str,
    to: String,
    pub(super) queue: Arc<Queue>,
    counts: Arc<Counts>,
    part: Part,
    /// Whom to tell that something has left the queue.
    listener: Listener,
    is_state: bool,
}

type Listener = Arc<Mutex<Option<Arc<Notify>>>>;

impl Receiver {
    /// # Errors
    /// There is no thread for it.
    pub(super) fn start(
        name: &str,
        print: &str,
        sender: &Sender,
        queue: Arc<Queue>,
        part: Part,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Receiver> {
        let counts = Arc::new(Counts::default());
        let (kind, to, is_state) = (sender.kind(), sender.shown(), sender.is_state());
        let listener = Listener::default();
        let mut work = Work {
            name: name.to_string(),
            post: sender.open(name),
            queue: Arc::clone(&queue),
            counts: Arc::clone(&counts),
            part: part.clone(),
            clock,
            listener: Arc::clone(&listener),
        };
        let thread = std::thread::Builder::new().name(format!("alerts-{name}"));
        thread.spawn(move || work.run_always())?;
        let (name, print) = (name.to_string(), print.to_string());
        Ok(Receiver { name, print, kind, to, queue, counts, part, listener, is_state })
    }

    /// It is told what is, again and again, and not what has happened.
    pub(super) fn is_state(&self) -> bool {
        self.is_state
    }

    /// Who is to know that something has left the queue.
    pub(super) fn tells(&self, listener: Arc<Notify>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    pub(super) fn row(&self) -> ReceiverRow {
        let counter = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let text =
            |text: &Mutex<String>| text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (waiting, dropped) = self.queue.counts();
        let (hindered, refusal) = (text(&self.counts.hindered), text(&self.counts.refusal));
        let refused = counter(&self.counts.refused);
        ReceiverRow {
            name: self.name.clone(),
            kind: self.kind,
            to: self.to.clone(),
            state: if hindered.is_empty() { "running" } else { "retrying" },
            waiting,
            sent: counter(&self.counts.sent),
            lost: dropped + refused,
            refused,
            errors: counter(&self.counts.errors),
            last_error: if hindered.is_empty() { refusal } else { hindered },
        }
    }

    /// What it is at is not waited for: it ends by its time-out.
    pub(super) fn end(&self) {
        self.queue.end();
        self.part.stopped();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

struct Work {
    name: String,
    post: Post,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    part: Part,
    clock: Arc<dyn Clock>,
    listener: Listener,
}

impl Work {
    /// A panic is this receiver's alone, and ends an attempt.
    fn run_always(&mut self) {
        loop {
            let run = std::panic::AssertUnwindSafe(|| self.run());
            match std::panic::catch_unwind(run) {
                Ok(()) => return,
                Err(_) => self.part.died("the receiver panicked", RETRY_MAX),
            }
            if !self.queue.pause(RETRY_MAX) {
                return;
            }
        }
    }

    fn run(&mut self) {
        self.part.running();
        let mut wait = RETRY_FIRST;
        while let Some(batch) = self.queue.wait(self.post.batch_max(), self.post.is_by_name()) {
            let Err(error) = self.send(&batch) else {
                self.is_hindered("");
                wait = RETRY_FIRST;
                continue;
            };
            let text = error.to_string();
            let next = match error {
                SinkError::RetryAfter(_, after) => after.clamp(wait, RETRY_AFTER_MAX),
                _ => wait,
            };
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
            self.is_hindered(&text);
            self.part.died(&text, next);
            if !self.queue.pause(next) {
                return;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn is_hindered(&self, text: &str) {
        let mut now = self.counts.hindered.lock().unwrap_or_else(PoisonError::into_inner);
        if text.is_empty() != now.is_empty() {
            match text.is_empty() {
                true => self.part.running(),
                false => warn!(receiver = self.name, message = text, "alerts wait for a receiver"),
            }
        }
        *now = text.to_string();
    }

    /// One attempt. What is refused for what is in it is halved until the one is found that is to blame.
    fn send(&self, batch: &[Waiting]) -> Result<(), SinkError> {
        let notices: Vec<Notice> = batch.iter().map(|(_, notice)| (**notice).clone()).collect();
        match self.post.send(&notices, self.clock.now_unix_ns()) {
            Ok(()) => {
                self.counts.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.done(batch);
                Ok(())
            }
            Err(SinkError::Unfit(text)) => match batch {
                [one] => {
                    let labels = &one.1.labels;
                    warn!(receiver = self.name, message = text, %labels, "refused for good");
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    *self.counts.refusal.lock().unwrap_or_else(PoisonError::into_inner) = text;
                    self.done(batch);
                    Ok(())
                }
                several => {
                    let (first, second) = several.split_at(several.len() / 2);
                    self.send(first)?;
                    self.send(second)
                }
            },
            Err(error) => Err(error),
        }
    }

    fn done(&self, batch: &[Waiting]) {
        self.queue.done(&batch.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = &*listener {
            listener.notify_one();
        }
    }
}
