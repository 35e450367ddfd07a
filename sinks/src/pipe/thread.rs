//! The thread of a pump: a writer may block as long as it likes, nobody waits for it. It stops when it is
//! asked to; what it could still bring to its end within a moment, it does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sink::{Resume, SinkError};

use super::{Pump, Pumped, Shared, State, now};

/// What is there when it is asked to stop gets so long.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Between two looks at whether it has ended.
const STOP_STEP: Duration = Duration::from_millis(10);

/// What a pump says while it runs.
#[derive(Debug)]
pub enum PumpEvent {
    Opened(Resume),
    /// It has written; with what it said when an element was refused for good.
    Running(Option<String>),
    /// It tries again later.
    Failed {
        error: SinkError,
        again_in: Duration,
    },
    /// It has ended, though nobody asked it to.
    Ended(String),
}

pub struct PumpThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl PumpThread {
    /// `say`: is told what happens, on the thread.
    ///
    /// # Errors
    /// There can be no other thread.
    pub fn start(
        name: &str,
        mut pump: Pump,
        say: impl Fn(PumpEvent) + Send + 'static,
    ) -> std::io::Result<PumpThread> {
        let shared = Arc::clone(&pump.shared);
        shared.lock().is_stopping = false;
        let work = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| run(&mut pump, &say)));
            let closed = catch_unwind(AssertUnwindSafe(|| pump.close()));
            match (ended, closed) {
                (Ok(None), Ok(())) => {}
                (Ok(Some(text)), _) => say(PumpEvent::Ended(text)),
                _ => say(PumpEvent::Ended("the sink panicked".to_string())),
            }
        };
        let name = format!("sink-{name}");
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        Ok(PumpThread { shared, thread: Some(thread) })
    }

    /// Asks it to stop; it does at the latest when its writer comes back.
    pub fn ask_to_stop(&self) {
        self.shared.lock().is_stopping = true;
        self.shared.work.notify_all();
    }

    /// Asks it to stop and waits until it has, but no longer than this: then it is left behind. Blocks.
    pub fn stop(mut self, within: Duration) {
        self.ask_to_stop();
        let begun = now();
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && now().saturating_sub(begun) < within {
            std::thread::park_timeout(STOP_STEP);
        }
        if thread.is_finished() {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Until there is something to write, it is to stop, or the time is over.
    fn wait_for_work(&self, generation: u64, at_most: Option<Duration>) {
        let begun = now();
        let mut state = self.lock();
        while !state.is_over(generation) && state.buffer.is_empty() && state.in_flight.is_empty() {
            let Some(at_most) = at_most else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = at_most.saturating_sub(now().saturating_sub(begun));
            if left.is_zero() {
                return;
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Until something came, or the time is over.
    fn wait_for_more(&self, generation: u64, at_most: Duration) {
        let state = self.lock();
        if !state.is_over(generation) {
            drop(self.work.wait_timeout(state, at_most));
        }
    }

    /// Until the time is over, or it is to stop.
    fn wait_again(&self, generation: u64, after: Duration) {
        let begun = now();
        let mut state = self.lock();
        while !state.is_over(generation) {
            let left = after.saturating_sub(now().saturating_sub(begun));
            if left.is_zero() {
                return;
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }
}

impl State {
    fn is_over(&self, generation: u64) -> bool {
        self.is_stopping || self.generation != generation
    }
}

impl Pump {
    fn is_replaced(&self) -> bool {
        self.shared.lock().generation != self.generation
    }
}

/// `None`: it was asked to stop. Else why it never will go on.
fn run(pump: &mut Pump, say: &impl Fn(PumpEvent)) -> Option<String> {
    let (mut stop_at, mut is_running) = (None, false);
    loop {
        if pump.shared.is_stopping() {
            let stop_at = *stop_at.get_or_insert_with(|| now() + DRAIN_MAX);
            if !pump.is_open() || now() > stop_at {
                return None;
            }
        }
        if pump.is_replaced() {
            return None;
        }
        let is_stopping = stop_at.is_some();
        match pump.step() {
            Pumped::Opened(resume) => say(PumpEvent::Opened(resume)),
            Pumped::Wrote | Pumped::Checked => {
                let refusal = pump.last_refusal.take();
                if !std::mem::replace(&mut is_running, true) || refusal.is_some() {
                    say(PumpEvent::Running(refusal));
                }
            }
            Pumped::Idle(_) | Pumped::Quiet(_) if is_stopping => return None,
            Pumped::Idle(None) => pump.shared.wait_for_work(pump.generation, None),
            Pumped::Quiet(left) => pump.shared.wait_for_work(pump.generation, Some(left)),
            Pumped::Idle(Some(at_most)) => pump.shared.wait_for_more(pump.generation, at_most),
            Pumped::Failed(..) if is_stopping => return None,
            Pumped::Failed(error, again_in) => {
                is_running = false;
                say(PumpEvent::Failed { error, again_in });
                pump.shared.wait_again(pump.generation, again_in);
            }
            Pumped::Refused(text) => return Some(text),
        }
    }
}
