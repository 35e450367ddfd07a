//! The actor of one maintained view: it moves [`Maintained`] on in slices of well below a handler's
//! 500 µs, and lets others run in between, so that no view holds up another, however large its answer.
//! Views have a thread of their own, apart from the coordinator's.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tracing::warn;
use weir_actors::{Address, WeakAddress};
use weir_engine::Generations;
use weir_proto::QueryId;
use weir_sinks::delivery::{Completeness, Output};
use weir_types::Clock;

use super::coordinator_actor::{CoordinatorActor, Unsubscribe, ViewFailed};
use super::inbox::ViewInbox;
use super::maintained::{Maintained, Surroundings, too_large_message};
use super::message::Outgoing;
use super::registry::ViewId;
use crate::coordinator::Book;

/// How often a standing frontier is looked at.
const IDLE_CHECK: Duration = Duration::from_millis(500);
/// One slice of work.
const SLICE_NS: u64 = 200_000;

/// With `--test-faults`, a view with an output of this name panics when it is subscribed to.
pub(crate) const TEST_PANIC_OUTPUT: &str = "__weir_test_actor_panic__";

/// Something waits in the inbox, or a reader has room again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

pub(crate) struct QueryActor {
    view: ViewId,
    maintained: Maintained,
    inbox: Arc<ViewInbox>,
    coordinator: WeakAddress<CoordinatorActor>,
    around: Around,
    /// A test wants it to.
    panics: bool,
    /// A slice is on its way.
    goes_on: bool,
    over: bool,
    /// Readers that are no more, of which the coordinator does not know yet.
    gone: Vec<u64>,
}

pub(crate) struct ViewParts {
    pub(crate) view: ViewId,
    pub(crate) maintained: Maintained,
    pub(crate) inbox: Arc<ViewInbox>,
    pub(crate) coordinator: WeakAddress<CoordinatorActor>,
    pub(crate) around: Around,
    pub(crate) test_faults: bool,
}

/// The time, and how complete answers are.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) book: Arc<Book>,
    pub(crate) generations: Arc<Generations>,
}

impl Surroundings for Around {
    fn now_unix_ns(&self) -> i64 {
        self.clock.now_unix_ns()
    }
    fn completeness(&self, run: QueryId, frontier_ms: u64) -> Completeness {
        let engine = self.generations.engine();
        self.book.note_cuts(run, frontier_ms, engine.cuts(run));
        self.book.note_overflow(run, engine.overflow(run, frontier_ms));
        self.book.completeness(run, frontier_ms)
    }
    fn take_samples(&self, run: QueryId, frontier_ms: u64) -> Vec<i64> {
        self.book.take_samples(run, frontier_ms)
    }
}

impl Actor for QueryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(IDLE_CHECK, |actor, ctx| actor.check_idle(ctx));
        self.slice(ctx);
    }
}

/// However the view ends, readers hear of it: those that it has by their own drop.
impl Drop for QueryActor {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl QueryActor {
    pub(crate) fn new(parts: ViewParts) -> QueryActor {
        let ViewParts { view, maintained, inbox, coordinator, around, test_faults } = parts;
        let asked = |output: &Arc<Output>| output.info.table == TEST_PANIC_OUTPUT;
        let panics = test_faults && maintained.outputs().iter().any(asked);
        QueryActor {
            view,
            maintained,
            inbox,
            coordinator,
            around,
            panics,
            goes_on: false,
            over: false,
            gone: Vec::new(),
        }
    }

    fn coordinator(&self) -> Option<Address<CoordinatorActor>> {
        self.coordinator.upgrade()
    }

    /// Readers hear of a frontier that stands still, and of who holds it.
    fn check_idle(&mut self, ctx: &mut Context<Self>) {
        self.maintained.look_around(&self.around);
        // Also should a wake ever have been refused.
        if !self.goes_on {
            self.slice(ctx);
        }
    }

    /// Works for a moment. If there is more to do, goes on after everybody else who is ready.
    fn slice(&mut self, ctx: &mut Context<Self>) {
        if self.over {
            return;
        }
        self.inbox.awake();
        if let Some((code, message)) = self.inbox.take_finish() {
            return self.end(code, &message, ctx);
        }
        let clock = &self.around.clock;
        let until_ns = clock.monotonic_ns() + SLICE_NS;
        let mut more = true;
        while more && clock.monotonic_ns() < until_ns {
            more = self.maintained.step(&self.inbox, &self.around);
        }
        self.inbox.set_has_answer(self.maintained.has_answer());
        self.announce_gone();
        if self.inbox.overflowed() {
            let message = "the server could not keep up with the view";
            return self.fail("overflow", Outgoing::error("overflow", message, ""), ctx);
        }
        if let Some(error) = self.maintained.too_large() {
            let message = too_large_message(error);
            return self.fail("snapshot_too_large", message, ctx);
        }
        if more && !std::mem::replace(&mut self.goes_on, true) {
            let others_first = tokio::task::yield_now().into_actor(self);
            ctx.spawn(others_first.map(|(), actor, ctx| {
                actor.goes_on = false;
                actor.slice(ctx);
            }));
        }
    }

    fn announce_gone(&mut self) {
        self.gone.extend(self.maintained.take_gone());
        let Some(coordinator) = self.coordinator().filter(|_| !self.gone.is_empty()) else {
            return;
        };
        // A full mailbox: with the next slice, at the latest when a standing frontier is looked at.
        let view = self.view;
        self.gone.retain(|&number| coordinator.try_send(Unsubscribe { view, number }).is_err());
    }

    /// The coordinator ended the query.
    fn end(&mut self, code: &'static str, message: &str, ctx: &mut Context<Self>) {
        let error = (code != "removed").then(|| Outgoing::error(code, message, ""));
        self.over = true;
        self.maintained.finish(code, error.as_slice());
        ctx.stop();
    }

    /// The view cannot go on.
    fn fail(&mut self, code: &'static str, message: Outgoing, ctx: &mut Context<Self>) {
        self.over = true;
        self.maintained.finish(code, &[message]);
        self.inbox.close();
        if let Some(coordinator) = self.coordinator()
            && let Err(error) = coordinator.try_send(ViewFailed { view: self.view, code })
        {
            warn!(view = self.view, %error, "could not announce a failed view");
        }
        ctx.stop();
    }
}

impl Handler<Wake> for QueryActor {
    type Result = ();
    fn handle(&mut self, _message: Wake, ctx: &mut Self::Context) {
        assert!(!self.panics, "a test asked for it");
        if !self.goes_on {
            self.slice(ctx);
        }
    }
}
