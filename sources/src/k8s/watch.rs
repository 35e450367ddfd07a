//! The thread, and in it one task a kind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Error};
use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use weir_types::text::first_lines;

use super::access::Access;
use super::client::{AnswerLimits, client};
use super::kinds::{Scope, WATCHED, Watched};
use super::state::{KindState, States, WatchState, bounded};
use crate::metadata::k8s::objects::Object;
use crate::metadata::k8s::{Change, key};

/// Changes of a batch, and batches that wait.
const BATCH_MAX: usize = 256;
const BATCHES_MAX: usize = 16;
/// Texts of one object; the server itself takes none of more than some megabytes.
const OBJECT_BYTES_MAX: usize = 1 << 20;
/// Objects that are asked for at once.
const PAGE: u32 = 250;
/// A page of them, or what one watch says before it is begun anew, is no larger.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Large, and read by nobody.
const UNREAD: &[(&str, &[&str])] =
    &[("spec", &["containers", "initContainers", "template", "volumes"]), ("status", &["images"])];

/// How patient the watches are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long the server may keep a watch open. One that is silent for some seconds more is dead.
    pub watch: Duration,
    /// The wait after the first error; it doubles with each further one, up to the last.
    pub retry_first: Duration,
    pub retry_last: Duration,
    /// A watch that was resumed and says nothing wrong for so long is well: that nothing happens is no event.
    pub quiet: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            watch: Duration::from_secs(120),
            retry_first: Duration::from_millis(500),
            retry_last: Duration::from_secs(30),
            quiet: Duration::from_secs(15),
        }
    }
}

impl Pace {
    /// The wait after so many errors in a row, spread so that not all nodes come at once.
    pub(super) fn wait(&self, errors: u32, spread: u64) -> Duration {
        let doubled = self.retry_first.saturating_mul(1 << errors.saturating_sub(1).min(16));
        let wait = doubled.min(self.retry_last);
        let percent = u32::try_from(spread.wrapping_add(u64::from(errors) * 37) % 50).unwrap_or(0);
        wait + wait * percent / 100
    }
}

/// Watches that run. Dropped, they end.
pub struct Watches {
    batches: mpsc::Receiver<Vec<Change>>,
    states: States,
    _alive: oneshot::Sender<()>,
}

impl Watches {
    /// Starts the thread. Whether the server is there shows later.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(access: Access, scope: Scope, pace: Pace) -> std::io::Result<Watches> {
        let (send, batches) = mpsc::channel(BATCHES_MAX);
        let (alive, ended) = oneshot::channel::<()>();
        let states = States::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = states.clone();
        let run = async move {
            tokio::select! {
                _ = ended => {}
                () = watch_all(access, scope, pace, send, told) => {}
            }
        };
        let run = move || runtime.block_on(run);
        std::thread::Builder::new().name("kubernetes".to_string()).spawn(run)?;
        Ok(Watches { batches, states, _alive: alive })
    }

    /// What has changed, a batch after the other; `None`: nothing for now.
    pub fn take(&mut self) -> Option<Vec<Change>> {
        self.batches.try_recv().ok()
    }

    /// How each watch is, by the resource's name.
    #[must_use]
    pub fn states(&self) -> BTreeMap<&'static str, KindState> {
        let all = self.states.all().into_values();
        all.map(|(watched, state)| (watched.plural, state)).collect()
    }

    /// Whether everything has been listed.
    #[must_use]
    pub fn are_synced(&self) -> bool {
        let states = self.states();
        let synced = states.values().filter(|kind| kind.state == WatchState::Synced).count();
        synced == WATCHED.len()
    }

    /// What cannot be watched, and why; empty if all can.
    #[must_use]
    pub fn missing(&self) -> String {
        let states = self.states();
        let missing = states.iter().filter_map(|(name, kind)| match &kind.state {
            WatchState::Forbidden(why) | WatchState::Failed(why) => Some(format!("{name}: {why}")),
            WatchState::Listing | WatchState::Synced => None,
        });
        missing.collect::<Vec<_>>().join("; ")
    }
}

async fn watch_all(
    access: Access,
    scope: Scope,
    pace: Pace,
    send: mpsc::Sender<Vec<Change>>,
    states: States,
) {
    let client = connect(&access, pace, &states).await;
    let each = WATCHED.iter().zip(0_u64..).map(|(watched, number)| {
        let one = KindWatch {
            watched: *watched,
            resource: watched.resource(),
            pace,
            spread: spread(&scope).wrapping_add(number * 7),
            send: send.clone(),
            states: states.clone(),
            listed: BTreeSet::new(),
            is_listed: false,
            errors: 0,
        };
        one.run(client.clone(), scope.fields(watched.kind))
    });
    futures_util::future::join_all(each).await;
}

/// Files that it is made of may come later.
async fn connect(access: &Access, pace: Pace, states: &States) -> Client {
    let time_max = pace.watch + Duration::from_secs(30);
    let limits = AnswerLimits { bytes_max: ANSWER_BYTES_MAX, time_max };
    let mut errors = 0;
    loop {
        match client(access.config(limits.time_max), limits) {
            Ok(client) => return client,
            Err(error) => {
                let why = bounded(&first_lines(&error));
                for watched in &WATCHED {
                    states.becomes(watched, WatchState::Failed(why.clone()));
                }
                errors += 1;
                tokio::time::sleep(pace.wait(errors, 0)).await;
            }
        }
    }
}

fn spread(scope: &Scope) -> u64 {
    match scope {
        Scope::Node(name) => name.bytes().map(u64::from).sum(),
        Scope::Cluster => 0,
    }
}

/// The watch of one kind.
struct KindWatch {
    watched: Watched,
    resource: ApiResource,
    pace: Pace,
    spread: u64,
    send: mpsc::Sender<Vec<Change>>,
    states: States,
    /// What the list that is coming in has so far.
    listed: BTreeSet<String>,
    /// It came in as a whole.
    is_listed: bool,
    /// In a row.
    errors: u32,
}

impl KindWatch {
    /// Ends once nobody takes anything any more.
    async fn run(mut self, client: Client, fields: Option<String>) {
        self.states.of(&self.watched, |_| {});
        let api: Api<DynamicObject> = Api::all_with(client, &self.resource);
        let seconds = u32::try_from(self.pace.watch.as_secs()).unwrap_or(u32::MAX).max(1);
        let mut config = watcher::Config::default().timeout(seconds).page_size(PAGE);
        config.field_selector = fields;
        let mut events = std::pin::pin!(watcher(api, config));
        loop {
            let next = events.next();
            let resumes = self.errors > 0 && self.is_listed;
            let patience = if resumes { self.pace.quiet } else { Duration::MAX };
            let Ok(event) = tokio::time::timeout(patience, next).await else {
                self.is_well();
                continue;
            };
            let Some(event) = event else { return };
            let mut batch = Vec::new();
            let mut error = self.take(event, &mut batch);
            // What is there already goes with it.
            while error.is_none() && batch.len() < BATCH_MAX {
                let Some(Some(event)) = events.next().now_or_never() else { break };
                error = self.take(event, &mut batch);
            }
            if !batch.is_empty() && self.send.send(batch).await.is_err() {
                return;
            }
            if let Some(error) = error {
                self.has_failed(&error).await;
            }
        }
    }

    /// Takes an event into the batch; an error is handed back.
    fn take(
        &mut self,
        event: watcher::Result<Event<DynamicObject>>,
        batch: &mut Vec<Change>,
    ) -> Option<watcher::Error> {
        match event {
            Ok(Event::Init) => {
                self.listed.clear();
                self.is_listed = false;
            }
            Ok(Event::InitApply(object)) => {
                if let Some(object) = self.read(object) {
                    self.listed.insert(key(&object));
                    batch.push(Change::Put(Box::new(object)));
                }
            }
            Ok(Event::InitDone) => {
                let keys = std::mem::take(&mut self.listed);
                self.is_listed = true;
                batch.push(Change::Listed(self.watched.kind, keys));
                self.states.of(&self.watched, |state| state.listed_total += 1);
                self.is_well();
            }
            Ok(Event::Apply(object)) => {
                batch.extend(self.read(object).map(|object| Change::Put(Box::new(object))));
                self.is_well();
            }
            Ok(Event::Delete(object)) => {
                // Whatever it was when it went.
                let data = Json::Object(serde_json::Map::new());
                let gone = self.read(DynamicObject { data, ..object });
                batch.extend(gone.map(|object| Change::Gone(self.watched.kind, key(&object))));
                self.is_well();
            }
            Err(error) => return Some(error),
        }
        None
    }

    fn is_well(&mut self) {
        self.errors = 0;
        self.states.becomes(&self.watched, WatchState::Synced);
    }

    async fn has_failed(&mut self, error: &watcher::Error) {
        self.errors = self.errors.saturating_add(1);
        self.states.of(&self.watched, |state| state.errors_total += 1);
        if let Some(state) = failed(&self.watched, error) {
            self.states.becomes(&self.watched, state);
        }
        tokio::time::sleep(self.pace.wait(self.errors, self.spread)).await;
    }

    /// What is read of an object.
    fn read(&self, object: DynamicObject) -> Option<Object> {
        let json = json_of(object);
        let wrong = if text_bytes(&json) > OBJECT_BYTES_MAX {
            "it is too large".to_string()
        } else {
            match Object::read(&self.resource.api_version, &self.resource.kind, &json) {
                Ok(Some(object)) => {
                    self.states.of(&self.watched, |state| state.changes_total += 1);
                    return Some(object);
                }
                Ok(None) => "it is of no kind that is read".to_string(),
                Err(error) => error.to_string(),
            }
        };
        let mut is_first = false;
        self.states.of(&self.watched, |state| {
            is_first = state.refused_total == 0;
            state.refused_total += 1;
        });
        if is_first {
            let (name, resource) = (json.pointer("/metadata/name"), self.watched.plural);
            warn!(
                ?name,
                resource, wrong, "Kubernetes: an object is left out; further ones are counted"
            );
        }
        None
    }
}

/// Without what nobody reads and is large.
fn json_of(mut object: DynamicObject) -> Json {
    object.metadata.managed_fields = None;
    object.metadata.annotations = None;
    let mut json = object.data;
    let meta = serde_json::to_value(object.metadata).unwrap_or_default();
    if let Json::Object(fields) = &mut json {
        fields.insert("metadata".to_string(), meta);
        for (part, unread) in UNREAD {
            if let Some(Json::Object(part)) = fields.get_mut(*part) {
                unread.iter().for_each(|name| drop(part.shift_remove(*name)));
            }
        }
    }
    json
}

fn text_bytes(json: &Json) -> usize {
    const VALUE_BYTES: usize = 16;
    VALUE_BYTES
        + match json {
            Json::String(text) => text.len(),
            Json::Array(items) => items.iter().map(text_bytes).sum(),
            Json::Object(fields) => {
                fields.iter().map(|(name, value)| name.len() + text_bytes(value)).sum()
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        }
}

/// What an error says of the watch; `None`: it goes on all the same.
fn failed(watched: &Watched, error: &watcher::Error) -> Option<WatchState> {
    let (verb, error) = match error {
        watcher::Error::InitialListFailed(error) => ("list", error),
        watcher::Error::WatchStartFailed(error) => ("watch", error),
        // The server says that it was away for too long: the kind is listed anew.
        watcher::Error::WatchError(status) if status.code == 410 => return None,
        other => return Some(WatchState::Failed(bounded(&first_lines(other)))),
    };
    Some(match error {
        Error::Api(status) if status.is_forbidden() => {
            WatchState::Forbidden(format!("may not {verb} {}", watched.plural))
        }
        Error::Api(status) => WatchState::Failed(bounded(&status.message)),
        other => WatchState::Failed(bounded(&first_lines(other))),
    })
}
