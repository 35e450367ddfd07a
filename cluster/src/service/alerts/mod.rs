//! Alert rules on a running server: each rule's expression is a view that is followed like any other (`feeder.rs`),
//! its changes step the rules (`owner.rs`), and what is to be told waits for each receiver by itself (`queue.rs`,
//! `send.rs`, `post.rs`). What alerts are and what is said of them is `weir-rules`'.

mod feeder;
mod mail;
mod owner;
mod post;
mod queue;
mod saved;
mod send;
mod status;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weir_actors::{KillSwitch, Stop};
use weir_pxl::{NamedView, ViewIndex};
use weir_rules::state::{AlertRule, Settings};

use super::Service;

pub use feeder::RULE_REFRESH_MS;
pub use mail::{MailServer, MailTo};
pub use post::Sender;
pub use saved::{STATE_BYTES_MAX, StateStore};
pub use send::ReceiverRow;
pub use status::{AlertsShown, Figures as AlertFigures, Happened, RuleRow};

use owner::{Command, Stores};

/// The owner saves and ends within this.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Commands that wait: reloads and questions.
const COMMANDS_MAX: usize = 64;
/// Alert rules of a server: each is a view.
pub const ALERT_RULES_MAX: usize = 2_000;
/// Recording rules of a server: each text of theirs is looked for in every script.
pub const RECORDING_RULES_MAX: usize = 2_000;

/// Where alerts go.
#[derive(Clone)]
pub struct ReceiverSpec {
    /// Unique; state of what waits for it is kept under it.
    pub name: String,
    pub sender: Sender,
    /// Equal: it is the one that runs.
    pub print: String,
}

/// What a configuration asks for.
#[derive(Clone, Default)]
pub struct AlertsSpec {
    pub rules: Vec<AlertRule>,
    /// What recording rules define.
    pub views: Arc<[NamedView]>,
    pub settings: Settings,
    pub receivers: Vec<ReceiverSpec>,
}

/// All alerts of a server.
#[derive(Default)]
pub struct Alerts {
    commands: OnceLock<mpsc::Sender<Command>>,
}

impl Alerts {
    /// Starts them on a thread of their own, as parts below `root`: what the last server left is taken up. What
    /// has happened is kept apart from what is, since it is longer and matters less.
    pub fn start(
        service: &Service,
        root: &KillSwitch,
        state: StateStore,
        history: StateStore,
        spec: AlertsSpec,
    ) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        if service.alerts.commands.set(commands).is_err() {
            // They run already.
            return;
        }
        service.views.set(&spec.views);
        let switch = root.child("alerts");
        let part = switch.part("rules", Stop::Asked { within: STOP_MAX });
        let stores = Stores { state, history };
        let run = owner::supervise(service.clone(), switch, part, stores, spec, receiver);
        actix::Arbiter::new().spawn(run);
    }

    /// Makes the rules and receivers that run those that are configured. Says what it did.
    pub async fn apply(service: &Service, spec: AlertsSpec) -> Vec<String> {
        let Some(commands) = service.alerts.commands.get() else { return Vec::new() };
        service.views.set(&spec.views);
        let (say, done) = oneshot::channel();
        let spec = Box::new(spec);
        if commands.send(Command::Load { spec, done: say }).await.is_err() {
            return Vec::new();
        }
        done.await.unwrap_or_default()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (say, answer) = oneshot::channel();
        self.commands.get()?.send(command(say)).await.ok()?;
        answer.await.ok()
    }

    /// Alerts, rules and receivers as they are now. `None`: the server is stopping.
    pub async fn shown(&self) -> Option<AlertsShown> {
        self.ask(Command::Show).await
    }

    /// A rule as it runs, by the number that lists have.
    pub async fn rule(&self, number: u64) -> Option<(AlertRule, Settings)> {
        self.ask(|say| Command::Rule(number, say)).await.flatten()
    }

    /// What happened lately, the newest last.
    pub async fn history(&self) -> Option<Vec<Happened>> {
        self.ask(Command::History).await
    }

    /// Counts, without the alerts themselves.
    pub async fn figures(&self) -> Option<AlertFigures> {
        self.ask(Command::Figures).await
    }
}

/// Of some views those that a text may mean, or one of those does, in order.
#[must_use]
pub fn read_by(views: &ViewIndex, text: &str) -> Arc<[NamedView]> {
    let mut found = views.read_by(text);
    found.sort();
    found.into_iter().cloned().collect()
}

/// Views by name, as all scripts of a server may read them.
#[derive(Default)]
pub struct Views(Mutex<Arc<ViewIndex>>);

impl Views {
    fn set(&self, views: &Arc<[NamedView]>) {
        let index = Arc::new(ViewIndex::new(Arc::clone(views)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = index;
    }

    fn index(&self) -> Arc<ViewIndex> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[must_use]
    pub fn all(&self) -> Arc<[NamedView]> {
        Arc::clone(self.index().views())
    }

    /// Those that a text may mean, or one of those does: what a compile of it depends on.
    #[must_use]
    pub fn read_by(&self, text: &str) -> Arc<[NamedView]> {
        read_by(&self.index(), text)
    }
}
