//! What can be read about an actor from outside, from any thread, without asking the actor.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::part::Story;
use crate::tree::PartStatus;

/// A handler is meant to be done within this time; what takes longer is counted.
const HANDLER_BUDGET: Duration = Duration::from_micros(500);

/// Where in its life a supervised actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The factory is about to build it, or it has been built and has not run yet.
    Starting,
    Running,
    /// It panicked or could not be built; the next attempt comes after `delay`.
    BackingOff {
        delay: Duration,
    },
    /// It failed more often than its budget allows: it stays down and its mailbox is closed.
    Failed,
    /// It cannot run here, said why, and is not tried again. Parts only, and what actors say of themselves.
    Refused,
    /// It ended in order: by itself, by its kill switch, or since its last address is gone.
    Stopped,
}

impl State {
    /// Whether no other state can follow.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, State::Failed | State::Refused | State::Stopped)
    }

    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::BackingOff { .. } => "backing off",
            State::Failed => "failed",
            State::Refused => "refused",
            State::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A hook, handler, timer, stream or drop of the actor panicked.
    Panic,
    /// The factory panicked.
    FactoryPanic,
    /// The factory said why it cannot build the actor.
    Factory,
}

/// Why an actor went down last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// Which life ended by it, from 1.
    pub incarnation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// In one and the same handler for longer than `Config::stall_after`.
    Stalled {
        busy_for: Duration,
    },
    /// Down at the moment, to be restarted.
    Recovering,
    Failed,
    Stopped,
}

/// A snapshot of everything known about an actor.
#[derive(Clone, Debug)]
pub struct Status {
    pub name: Arc<str>,
    pub state: State,
    pub health: Health,
    /// Lives so far, the present one included.
    pub incarnation: u64,
    pub restarts: u32,
    pub last_failure: Option<Failure>,
    pub mailbox_len: usize,
    pub mailbox_capacity: usize,
    /// Messages handed to a handler.
    pub handled: u64,
    /// Messages refused since the mailbox was full.
    pub refused_full: u64,
    /// Messages refused since the actor was gone for good.
    pub refused_closed: u64,
    /// Messages accepted, but still waiting when the actor ended for good.
    pub dropped: u64,
    /// Handlers that took longer than 500 µs.
    pub slow_handled: u64,
    pub handler_ns_max: u64,
    /// The handler that took most of the processor: unlike the time above it does not count what
    /// others took meanwhile.
    pub slowest: Slowest,
}

/// The handler that took longest, in CPU time of its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slowest {
    /// Its message's type; empty before the first one.
    pub message: &'static str,
    pub cpu_ns: u64,
}

/// Shared by the supervisor's task, the addresses, the handle and the kill switch.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) mailbox_capacity: usize,
    stall_after: Duration,
    pub(crate) stop_timeout: Duration,
    state: watch::Sender<State>,
    stop: watch::Sender<bool>,
    /// Origin of `busy_since_ns`.
    epoch: Instant,
    busy: AtomicBool,
    busy_since_ns: AtomicU64,
    pub(crate) queued: AtomicUsize,
    pub(crate) refused_full: AtomicU64,
    pub(crate) refused_closed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    handled: AtomicU64,
    slow_handled: AtomicU64,
    handler_ns_max: AtomicU64,
    /// Of `slowest`, so that most handlers need no lock.
    cpu_ns_max: AtomicU64,
    slowest: Mutex<Slowest>,
    pub(crate) incarnation: AtomicU64,
    pub(crate) restarts: AtomicU32,
    last_failure: Mutex<Option<Failure>>,
    story: Mutex<Story>,
    /// What the present life says of itself.
    said: Mutex<Option<State>>,
}

impl Shared {
    pub(crate) fn new(name: &str, config: &Config) -> Arc<Shared> {
        Arc::new(Shared {
            name: name.into(),
            mailbox_capacity: config.mailbox_capacity,
            stall_after: config.stall_after,
            stop_timeout: config.stop_timeout,
            state: watch::Sender::new(State::Starting),
            stop: watch::Sender::new(false),
            epoch: Instant::now(),
            busy: AtomicBool::new(false),
            busy_since_ns: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            refused_full: AtomicU64::new(0),
            refused_closed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            slow_handled: AtomicU64::new(0),
            handler_ns_max: AtomicU64::new(0),
            cpu_ns_max: AtomicU64::new(0),
            slowest: Mutex::default(),
            incarnation: AtomicU64::new(0),
            restarts: AtomicU32::new(0),
            last_failure: Mutex::new(None),
            story: Mutex::new(Story::new()),
            said: Mutex::default(),
        })
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.send_replace(state);
        self.story().since = Instant::now();
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, Option<State>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new life has said nothing of itself.
    pub(crate) fn born(&self) -> u64 {
        *self.said() = None;
        self.incarnation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One of its lives says how it is; only the present one is listened to.
    fn say(&self, incarnation: u64, state: State, reason: &str) {
        let mut said = self.said();
        if incarnation != self.incarnation.load(Ordering::Relaxed) {
            return;
        }
        *said = Some(state);
        let mut story = self.story();
        story.since = Instant::now();
        if !reason.is_empty() {
            story.say(reason);
        }
    }

    pub(crate) fn part_status(&self) -> PartStatus {
        let state = match (self.state(), *self.said()) {
            (State::Running, Some(said)) => said,
            (state, _) => state,
        };
        let mut story = self.story().clone();
        story.restarts = self.restarts.load(Ordering::Relaxed).into();
        PartStatus::new(&self.name, state, &story)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(crate) fn request_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ready once somebody asked the actor to stop.
    pub(crate) fn stop_requested(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            if stop.wait_for(|stop| *stop).await.is_err() {
                // Nobody is left who could ask.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ready once the state is final.
    pub(crate) async fn ended(&self) -> State {
        let mut state = self.state.subscribe();
        let last = state.wait_for(|state| state.is_final()).await.map(|state| *state);
        last.unwrap_or(State::Stopped)
    }

    /// Runs one handler and keeps the books about it.
    pub(crate) fn handling(&self, message: &'static str, handler: impl FnOnce()) {
        let start = Instant::now();
        let start_cpu_ns = thread_cpu_ns();
        self.busy_since_ns.store(nanos(start - self.epoch), Ordering::Relaxed);
        self.busy.store(true, Ordering::Release);
        self.handled.fetch_add(1, Ordering::Relaxed);
        handler();
        self.busy.store(false, Ordering::Release);
        let took = start.elapsed();
        self.handler_ns_max.fetch_max(nanos(took), Ordering::Relaxed);
        if took > HANDLER_BUDGET {
            self.slow_handled.fetch_add(1, Ordering::Relaxed);
        }
        let cpu_ns = thread_cpu_ns().saturating_sub(start_cpu_ns);
        if cpu_ns > self.cpu_ns_max.fetch_max(cpu_ns, Ordering::Relaxed) {
            *self.slowest.lock().unwrap_or_else(PoisonError::into_inner) =
                Slowest { message, cpu_ns };
        }
    }

    /// A life ended, maybe in the middle of a handler.
    pub(crate) fn not_busy(&self) {
        self.busy.store(false, Ordering::Release);
    }

    pub(crate) fn failed(&self, failure: Failure) {
        self.story().died(&failure.message);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    pub(crate) fn health(&self) -> Health {
        match self.state() {
            State::Failed => Health::Failed,
            State::Refused | State::Stopped => Health::Stopped,
            State::BackingOff { .. } => Health::Recovering,
            State::Starting | State::Running => {
                if !self.busy.load(Ordering::Acquire) {
                    return Health::Healthy;
                }
                let since = Duration::from_nanos(self.busy_since_ns.load(Ordering::Relaxed));
                let busy_for = self.epoch.elapsed().saturating_sub(since);
                if busy_for < self.stall_after {
                    return Health::Healthy;
                }
                Health::Stalled { busy_for }
            }
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            name: Arc::clone(&self.name),
            state: self.state(),
            health: self.health(),
            incarnation: self.incarnation.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            mailbox_len: self.queued.load(Ordering::Relaxed),
            mailbox_capacity: self.mailbox_capacity,
            handled: self.handled.load(Ordering::Relaxed),
            refused_full: self.refused_full.load(Ordering::Relaxed),
            refused_closed: self.refused_closed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            slow_handled: self.slow_handled.load(Ordering::Relaxed),
            handler_ns_max: self.handler_ns_max.load(Ordering::Relaxed),
            slowest: *self.slowest.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// For an actor that stands for something else, like a thread: how that is, where being alive says too
/// little. A word of a former life is not heard.
#[derive(Clone)]
pub struct Says {
    pub(crate) shared: Arc<Shared>,
    pub(crate) incarnation: u64,
}

impl Says {
    pub fn starting(&self) {
        self.shared.say(self.incarnation, State::Starting, "");
    }

    pub fn running(&self) {
        self.shared.say(self.incarnation, State::Running, "");
    }

    /// It cannot run here.
    pub fn refused(&self, reason: &str) {
        self.shared.say(self.incarnation, State::Refused, reason);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of this thread so far.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    secs.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}
