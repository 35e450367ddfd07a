//! One maintained view: its rows, and the subscribers that follow it. A change is encoded once and
//! handed to every subscriber as shared text.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::mpsc;
use tracing::warn;
use weir_actors::Address;
use weir_proto::QueryId;
use weir_sinks::json::push_string;
use weir_types::PackedRow;
use weir_types::json::time_text;

use super::SUBSCRIBER_MESSAGES_MAX;
use super::coordinator_actor::{CoordinatorActor, StatusOf, Unsubscribe};
use crate::coordinator::QueryCompleteness;
use crate::view::{OutputChanges, OutputInfo, SnapshotTooLarge, ViewState, tick_unix_ns};

/// `progress` comes at least this often once the snapshot is complete.
const PROGRESS_EVERY_NS: i64 = 900_000_000;
/// How often a standing frontier is looked at.
const IDLE_CHECK: std::time::Duration = std::time::Duration::from_millis(500);

/// One message for a subscriber, without its id.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message's `type`.
    pub kind: &'static str,
    /// Everything after `"id":…,`.
    pub body: Arc<str>,
    /// For `changes`: the tick, and event times behind it, to measure freshness by.
    pub tick_unix_ns: i64,
    pub events_unix_ns: Arc<[i64]>,
}

impl Outgoing {
    #[must_use]
    pub fn new(kind: &'static str, body: String) -> Outgoing {
        Outgoing { kind, body: body.into(), tick_unix_ns: 0, events_unix_ns: Arc::from([]) }
    }

    /// An `error` message; `members` are appended as they are.
    #[must_use]
    pub fn error(code: &str, message: &str, members: &str) -> Outgoing {
        let mut body = String::from("\"code\":");
        push_string(&mut body, code);
        body.push_str(",\"message\":");
        push_string(&mut body, message);
        if !members.is_empty() {
            body.push(',');
            body.push_str(members);
        }
        if !members.contains("\"diagnostics\":") {
            body.push_str(",\"diagnostics\":[]");
        }
        body.push('}');
        Outgoing::new("error", body)
    }

    #[must_use]
    pub fn end(reason: &str) -> Outgoing {
        let mut body = String::from("\"reason\":");
        push_string(&mut body, reason);
        body.push('}');
        Outgoing::new("end", body)
    }
}

/// Rows that the engine handed out before a frontier.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Rows {
    pub(crate) table: Arc<str>,
    pub(crate) rows: Vec<(PackedRow, i64)>,
}

/// The view's frontier moved.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Advance {
    pub(crate) tick_ms: u64,
    pub(crate) completeness: QueryCompleteness,
    pub(crate) events_unix_ns: Vec<i64>,
    pub(crate) now_unix_ns: i64,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AddSubscriber {
    pub(crate) number: u64,
    pub(crate) sender: mpsc::Sender<Outgoing>,
    /// Errors of outputs that were left out.
    pub(crate) notices: Vec<Outgoing>,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RemoveSubscriber(pub(crate) u64);

/// The query is over: every subscriber gets the message, then `end`.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Finish {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// With `--test-faults`, a view with an output of this name panics when it is subscribed to.
pub const TEST_PANIC_OUTPUT: &str = "__weir_test_actor_panic__";

struct Subscriber {
    number: u64,
    sender: mpsc::Sender<Outgoing>,
    /// Has its snapshot.
    live: bool,
}

pub struct QueryActor {
    query: QueryId,
    view: ViewState,
    coordinator: Address<CoordinatorActor>,
    subscribers: Vec<Subscriber>,
    snapshot_rows_max: usize,
    test_faults: bool,
    last_progress_unix_ns: i64,
    last_completeness: QueryCompleteness,
}

impl Actor for QueryActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(IDLE_CHECK, |actor, ctx| actor.check_idle(ctx));
    }
}

impl QueryActor {
    pub(crate) fn new(
        query: QueryId,
        outputs: Vec<OutputInfo>,
        coordinator: Address<CoordinatorActor>,
        snapshot_rows_max: usize,
        test_faults: bool,
    ) -> QueryActor {
        QueryActor {
            query,
            view: ViewState::new(outputs),
            coordinator,
            subscribers: Vec::new(),
            snapshot_rows_max,
            test_faults,
            last_progress_unix_ns: 0,
            last_completeness: QueryCompleteness::default(),
        }
    }

    /// Readers hear of a frontier that stands still, and of who holds it.
    fn check_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(frontier_ms) = self.view.frontier_ms else { return };
        let status = StatusOf { query: self.query, frontier_ms };
        let coordinator = self.coordinator.clone();
        let ask = async move { coordinator.send(status).await }.into_actor(self);
        ctx.spawn(ask.map(|answer, actor, _ctx| {
            if let Ok((completeness, now_unix_ns)) = answer
                && now_unix_ns - actor.last_progress_unix_ns >= PROGRESS_EVERY_NS
            {
                actor.last_completeness = completeness;
                actor.send_progress(now_unix_ns);
            }
        }));
    }

    fn send_progress(&mut self, now_unix_ns: i64) {
        let Some(frontier_ms) = self.view.frontier_ms else { return };
        self.last_progress_unix_ns = now_unix_ns;
        let body = progress_body(frontier_ms, &self.last_completeness);
        self.broadcast(&Outgoing::new("progress", body));
    }

    /// To all that have their snapshot; who cannot keep up is ended.
    fn broadcast(&mut self, message: &Outgoing) {
        let mut gone = Vec::new();
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.live) {
            if let Err(error) = subscriber.sender.try_send(message.clone()) {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    warn!(
                        query = self.query,
                        max = SUBSCRIBER_MESSAGES_MAX,
                        "subscriber too slow, ended"
                    );
                }
                gone.push(subscriber.number);
            }
        }
        for number in gone {
            self.drop_subscriber(number);
        }
    }

    /// A sender dropped ends the reader's subscription with `view_lost` on its side.
    fn drop_subscriber(&mut self, number: u64) {
        self.subscribers.retain(|subscriber| subscriber.number != number);
        let leave = Unsubscribe { query: self.query, number };
        if let Err(error) = self.coordinator.try_send(leave) {
            warn!(query = self.query, %error, "could not announce a lost subscriber");
        }
    }

    fn schema_messages(&self) -> Vec<Outgoing> {
        self.view.outputs().iter().map(|info| Outgoing::new("schema", schema_body(info))).collect()
    }

    /// Sends the snapshot at the frontier to all that wait for it.
    fn send_snapshots(&mut self) {
        let Some(frontier_ms) = self.view.frontier_ms else { return };
        if self.subscribers.iter().all(|subscriber| subscriber.live) {
            return;
        }
        let messages = match self.view.snapshot(self.snapshot_rows_max) {
            Ok(tables) => self.snapshot_messages(frontier_ms, tables),
            Err(error) => {
                self.refuse_waiting(&error);
                return;
            }
        };
        let mut gone = Vec::new();
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| !subscriber.live) {
            subscriber.live = true;
            let sent = messages.iter().try_for_each(|m| subscriber.sender.try_send(m.clone()));
            if sent.is_err() {
                gone.push(subscriber.number);
            }
        }
        for number in gone {
            self.drop_subscriber(number);
        }
    }

    fn snapshot_messages(&self, frontier_ms: u64, tables: Vec<OutputChanges>) -> Vec<Outgoing> {
        let changes = tables
            .iter()
            .map(|changes| Outgoing::new("changes", self.view.body(changes, frontier_ms, true)));
        let progress = progress_body(frontier_ms, &self.last_completeness);
        changes.chain([Outgoing::new("progress", progress)]).collect()
    }

    fn refuse_waiting(&mut self, error: &SnapshotTooLarge) {
        let mut table = String::from("\"table\":");
        push_string(&mut table, &error.table);
        let message = Outgoing::error("snapshot_too_large", &error.to_string(), &table);
        let waiting: Vec<u64> =
            self.subscribers.iter().filter(|s| !s.live).map(|s| s.number).collect();
        for number in waiting {
            if let Some(subscriber) = self.subscribers.iter().find(|s| s.number == number) {
                drop(subscriber.sender.try_send(message.clone()));
                drop(subscriber.sender.try_send(Outgoing::end("snapshot_too_large")));
            }
            self.drop_subscriber(number);
        }
    }
}

impl Handler<Rows> for QueryActor {
    type Result = ();
    fn handle(&mut self, message: Rows, _ctx: &mut Self::Context) {
        self.view.apply(&message.table, message.rows);
    }
}

impl Handler<Advance> for QueryActor {
    type Result = ();
    fn handle(&mut self, message: Advance, _ctx: &mut Self::Context) {
        let changed = self.view.advance(message.tick_ms);
        let due = message.now_unix_ns - self.last_progress_unix_ns >= PROGRESS_EVERY_NS;
        self.last_completeness = message.completeness;
        let events: Arc<[i64]> = message.events_unix_ns.into();
        for (idx, changes) in changed.iter().enumerate() {
            let body = self.view.body(changes, message.tick_ms, false);
            self.broadcast(&Outgoing {
                tick_unix_ns: tick_unix_ns(message.tick_ms),
                events_unix_ns: if idx == 0 { events.clone() } else { Arc::from([]) },
                ..Outgoing::new("changes", body)
            });
        }
        if due || !changed.is_empty() {
            self.send_progress(message.now_unix_ns);
        }
        self.send_snapshots();
    }
}

impl Handler<AddSubscriber> for QueryActor {
    type Result = ();
    fn handle(&mut self, message: AddSubscriber, _ctx: &mut Self::Context) {
        let asked = |info: &Arc<OutputInfo>| info.table == TEST_PANIC_OUTPUT;
        assert!(
            !(self.test_faults && self.view.outputs().iter().any(asked)),
            "a test asked for it"
        );
        let hello = self.schema_messages();
        for outgoing in hello.into_iter().chain(message.notices) {
            drop(message.sender.try_send(outgoing));
        }
        self.subscribers.push(Subscriber {
            number: message.number,
            sender: message.sender,
            live: false,
        });
        self.send_snapshots();
    }
}

impl Handler<RemoveSubscriber> for QueryActor {
    type Result = ();
    fn handle(&mut self, message: RemoveSubscriber, _ctx: &mut Self::Context) {
        self.subscribers.retain(|subscriber| subscriber.number != message.0);
    }
}

impl Handler<Finish> for QueryActor {
    type Result = ();
    fn handle(&mut self, message: Finish, ctx: &mut Self::Context) {
        let error = Outgoing::error(message.code, &message.message, "");
        for subscriber in self.subscribers.drain(..) {
            if message.code != "removed" {
                drop(subscriber.sender.try_send(error.clone()));
            }
            drop(subscriber.sender.try_send(Outgoing::end(message.code)));
        }
        ctx.stop();
    }
}

/// The body of a `schema` message.
#[must_use]
pub fn schema_body(info: &OutputInfo) -> String {
    let window = (!info.window_from.is_empty())
        .then(|| serde_json::json!({"from": info.window_from, "pane_ms": info.pane_ms}));
    let mut body = String::from("\"table\":");
    push_string(&mut body, &info.table);
    for (name, value) in [
        ("columns", serde_json::json!(weir_types::live::columns_of(&info.relation))),
        ("key", serde_json::json!(info.key)),
        ("window", window.unwrap_or(serde_json::Value::Null)),
        ("widgets", serde_json::json!(info.widgets)),
    ] {
        body.push_str(&format!(",\"{name}\":{value}"));
    }
    body.push('}');
    body
}

/// The completeness object's members, in the contract's order.
#[must_use]
pub fn completeness_members(frontier_ms: u64, completeness: &QueryCompleteness) -> String {
    format!(
        "\"frontier\":\"{}\",\"complete_to\":\"{}\",\"covers_from\":\"{}\",\"complete\":{},\
         \"lagging\":{},\"lost\":{}",
        time_text(tick_unix_ns(frontier_ms)),
        time_text(completeness.complete_to_unix_ns),
        time_text(completeness.covers_from_unix_ns),
        completeness.complete,
        serde_json::json!(completeness.lagging),
        serde_json::json!(completeness.lost),
    )
}

/// The body of a `progress` message.
#[must_use]
pub fn progress_body(frontier_ms: u64, completeness: &QueryCompleteness) -> String {
    completeness_members(frontier_ms, completeness) + "}"
}
