//! A part of the tree that is no actor: a thread, an engine, a server, a task. It stands beside the actors,
//! with a state of its own that its owner tells, and is stopped in order with them. It restarts nothing:
//! whoever owns the part does, and says so here.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::status::State;
use crate::switch::KillSwitch;
use crate::tree::PartStatus;

/// What is kept of a reason. A panic's message may be of any length.
const REASON_BYTES_MAX: usize = 512;

/// How a part is stopped when its switch is used.
pub enum Stop {
    /// By its owner, at another time: the switch only marks that it was asked, and does not wait.
    ByOwner,
    /// It watches [`Part::stop_requested`] and says when it has ended, or lets go of its handle.
    Asked { within: Duration },
    /// By a call that may block, on a thread for such; the part has stopped when that returns.
    Call { within: Duration, stop: Box<dyn FnOnce() + Send> },
}

impl Stop {
    /// By a call that may block.
    pub fn call(within: Duration, stop: impl FnOnce() + Send + 'static) -> Stop {
        Stop::Call { within, stop: Box::new(stop) }
    }
}

/// What happened to something that lives: for actors and parts alike.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// When the state began.
    pub(crate) since: Instant,
    pub(crate) deaths: u64,
    pub(crate) restarts: u64,
    /// Why it died or was refused last; empty if it never was.
    pub(crate) last_reason: String,
}

impl Story {
    pub(crate) fn new() -> Story {
        Story { since: Instant::now(), deaths: 0, restarts: 0, last_reason: String::new() }
    }

    pub(crate) fn died(&mut self, reason: &str) {
        self.deaths += 1;
        self.say(reason);
    }

    pub(crate) fn say(&mut self, reason: &str) {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        self.last_reason = reason[..end].to_string();
    }
}

/// Shared by the handles and the tree.
pub(crate) struct PartShared {
    pub(crate) name: Arc<str>,
    state: watch::Sender<State>,
    stop: watch::Sender<bool>,
    story: Mutex<Story>,
    how: Mutex<Option<Stop>>,
}

impl PartShared {
    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// A final state is not left again. True if it was taken.
    fn set_state(&self, state: State) -> bool {
        let mut story = self.story();
        self.state.send_if_modified(|known| {
            let taken = !known.is_final();
            if taken {
                if *known != state {
                    story.since = Instant::now();
                }
                if matches!(*known, State::BackingOff { .. }) && state == State::Running {
                    story.restarts += 1;
                }
                *known = state;
            }
            taken
        })
    }

    pub(crate) fn status(&self) -> PartStatus {
        let state = self.state();
        let story = self.story().clone();
        PartStatus::new(&self.name, state, &story)
    }

    /// Asks it to stop, and waits as its way to stop says. `None`: it is its owner's to stop.
    pub(crate) async fn end(&self) -> Option<bool> {
        self.stop.send_replace(true);
        let how = self.how.lock().unwrap_or_else(PoisonError::into_inner).take();
        match how? {
            Stop::ByOwner => None,
            Stop::Asked { within } => {
                let mut state = self.state.subscribe();
                let ended = state.wait_for(|state| state.is_final());
                Some(tokio::time::timeout(within, ended).await.is_ok())
            }
            Stop::Call { within, stop } => {
                let called = tokio::task::spawn_blocking(stop);
                let ended = matches!(tokio::time::timeout(within, called).await, Ok(Ok(())));
                if ended {
                    self.set_state(State::Stopped);
                }
                Some(ended)
            }
        }
    }
}

/// The owner's handle of a part. Clones are the same part; when the last one is gone, it has ended.
#[derive(Clone)]
pub struct Part(Arc<Owned>);

struct Owned {
    shared: Arc<PartShared>,
    switch: KillSwitch,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.0.shared.name).finish()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.shared.state().is_final() {
            self.shared.story().died("panicked");
            self.shared.set_state(State::Failed);
        }
        self.shared.set_state(State::Stopped);
        self.switch.remove_part(&self.shared);
    }
}

impl Part {
    /// Below a switch that was used it has stopped at once.
    pub(crate) fn below(switch: &KillSwitch, name: &str, how: Stop) -> Part {
        let shared = Arc::new(PartShared {
            name: name.into(),
            state: watch::Sender::new(State::Starting),
            stop: watch::Sender::new(false),
            story: Mutex::new(Story::new()),
            how: Mutex::new(Some(how)),
        });
        if !switch.add_part(&shared) {
            shared.stop.send_replace(true);
            shared.set_state(State::Stopped);
        }
        Part(Arc::new(Owned { shared, switch: switch.clone() }))
    }

    /// A part of no tree: for tests, and for programs without one.
    #[must_use]
    pub fn alone(name: &str) -> Part {
        Part::below(&KillSwitch::root(name), name, Stop::ByOwner)
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.0.shared.state()
    }

    /// It works. After a death that is a restart.
    pub fn running(&self) {
        self.0.shared.set_state(State::Running);
    }

    /// It died and is started again after a while.
    pub fn died(&self, reason: &str, delay: Duration) {
        self.0.shared.story().died(reason);
        self.0.shared.set_state(State::BackingOff { delay });
    }

    /// It died and stays down.
    pub fn failed(&self, reason: &str) {
        self.0.shared.story().died(reason);
        self.0.shared.set_state(State::Failed);
    }

    /// It cannot run here.
    pub fn refused(&self, reason: &str) {
        self.0.shared.story().say(reason);
        self.0.shared.set_state(State::Refused);
    }

    /// It ended in order.
    pub fn stopped(&self) {
        self.0.shared.set_state(State::Stopped);
    }

    /// Whether its switch was used.
    #[must_use]
    pub fn is_stop_requested(&self) -> bool {
        *self.0.shared.stop.borrow()
    }

    /// Ready once its switch was used.
    pub fn stop_requested(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.0.shared.stop.subscribe();
        async move {
            if stop.wait_for(|stop| *stop).await.is_err() {
                // All handles are gone, and nobody is left to end.
                std::future::pending::<()>().await;
            }
        }
    }
}
