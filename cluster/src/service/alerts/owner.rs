//! The owner of all rules: steps them by what their views deliver, keeps their state over restarts, and hands out
//! what is to be told. It lives on a thread of its own; a panic of it begins anew from what it kept.

mod receivers;
mod shown;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::clock::Instant;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tracing::{error, warn};
use weir_actors::{KillSwitch, Part};
use weir_pxl::NamedView;
use weir_rules::state::{
    AlertRule, Answer, ChangeKind, Machine, Row, RuleId, RuleSet, Saved, Settings,
};
use weir_sinks::delivery::Delivery;
use weir_types::Value;
use weir_types::clock::tick_unix_ns;

use self::shown::why_incomplete;
use super::AlertsSpec;
use super::feeder::{Feeder, Said, What};
use super::saved::{self, State, StateStore};
use super::send::Receiver;
use super::status::{AlertsShown, Figures, Happened, History};
use crate::planner::ScriptRequest;
use crate::service::Service;

/// Deliveries that wait for the rules; more stay with their views.
const SAID_MAX: usize = 8;
/// While something is pending or kept, its times are written down so often: time while down is not time true.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// What happened is written down so often.
const HISTORY_EVERY: Duration = Duration::from_secs(1);
/// Before a panic's successor begins.
const REBIRTH: Duration = Duration::from_secs(1);

pub(super) enum Command {
    Load { spec: Box<AlertsSpec>, done: oneshot::Sender<Vec<String>> },
    Show(oneshot::Sender<AlertsShown>),
    Rule(u64, oneshot::Sender<Option<(AlertRule, Settings)>>),
    History(oneshot::Sender<Vec<Happened>>),
    Figures(oneshot::Sender<Figures>),
}

/// Where things are kept.
pub(super) struct Stores {
    pub(super) state: StateStore,
    pub(super) history: StateStore,
}

/// What outlives a panic.
struct Kept {
    spec: AlertsSpec,
    stores: Stores,
    /// Receivers' threads are not the owner's.
    receivers: Vec<Receiver>,
    state_errors: u64,
    /// Notices that waited for a receiver that is there no more.
    abandoned: u64,
}

impl Kept {
    fn abandon(&mut self, receiver: &str, notices: usize) {
        if notices > 0 {
            warn!(receiver, lost = notices, "nobody to be told any more");
            self.abandoned += notices as u64;
        }
    }
}

/// Runs owners until the server stops.
pub(super) async fn supervise(
    service: Service,
    switch: KillSwitch,
    part: Part,
    stores: Stores,
    spec: AlertsSpec,
    commands: mpsc::Receiver<Command>,
) {
    let commands = Arc::new(Mutex::new(commands));
    let kept = Kept { spec, stores, receivers: Vec::new(), state_errors: 0, abandoned: 0 };
    let kept = Arc::new(Mutex::new(kept));
    loop {
        let (service, switch, part_of) = (service.clone(), switch.clone(), part.clone());
        let (commands, kept) = (Arc::clone(&commands), Arc::clone(&kept));
        let life = actix::spawn(async move {
            let mut commands = commands.lock_owned().await;
            let mut kept = kept.lock_owned().await;
            Owner::new(service, switch, part_of.clone(), &mut kept).run(&mut commands).await;
        });
        match life.await {
            Ok(()) => break,
            Err(_) => part.died("the owner of the rules panicked", REBIRTH),
        }
        tokio::select! {
            () = part.stop_requested() => break,
            () = actix::clock::sleep(REBIRTH) => {}
        }
    }
    kept.lock().await.receivers.clear();
    part.stopped();
}

/// A rule at work.
struct Running {
    name: String,
    /// What its view is made of, besides its expression.
    views: Arc<[NamedView]>,
    feeder: tokio::task::JoinHandle<()>,
    /// Which feeder's word counts.
    number: u64,
    again: Arc<Notify>,
    /// When it has to be judged though no row changes.
    due_ms: Arc<AtomicU64>,
    /// It has an answer, and nothing hinders it.
    is_running: bool,
    has_failed: bool,
    last_error: String,
    /// What its first answer covered.
    covers_from_unix_ns: Option<i64>,
    /// The next part is the first of a snapshot.
    wants_first: bool,
    /// All rows were asked for, and have not come.
    has_asked: bool,
}

impl Running {
    /// `has_failed`: it never will have one, as it is.
    fn has_no_view(&mut self, why: String, has_failed: bool) {
        // Attempts go on and on; what is known is not said again.
        if self.is_running || self.last_error != why {
            warn!(rule = self.name, why, has_failed, "a rule has no view");
        }
        (self.is_running, self.has_failed, self.last_error) = (false, has_failed, why);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

struct Owner<'a> {
    service: Service,
    switch: KillSwitch,
    part: Part,
    kept: &'a mut Kept,
    set: RuleSet,
    ids: Vec<RuleId>,
    running: BTreeMap<RuleId, Running>,
    said: mpsc::Sender<Said>,
    heard: mpsc::Receiver<Said>,
    feeders: u64,
    history: History,
    /// Something left a queue.
    sent: Arc<Notify>,
    has_changed: bool,
    saved_at: Instant,
    /// When it was last asked whether time counts.
    looked_at: Instant,
    /// How long the last save took.
    save_cost: Duration,
    state_error: String,
    state_bytes: u64,
    steps: u64,
}

impl<'a> Owner<'a> {
    fn new(service: Service, switch: KillSwitch, part: Part, kept: &'a mut Kept) -> Owner<'a> {
        let (said, heard) = mpsc::channel(SAID_MAX);
        Owner {
            set: RuleSet::new(kept.spec.settings.clone()),
            service,
            switch,
            part,
            kept,
            ids: Vec::new(),
            running: BTreeMap::new(),
            said,
            heard,
            feeders: 0,
            history: History::default(),
            sent: Arc::default(),
            has_changed: false,
            saved_at: Instant::now(),
            looked_at: Instant::now(),
            save_cost: Duration::ZERO,
            state_error: String::new(),
            state_bytes: 0,
            steps: 0,
        }
    }

    async fn run(mut self, commands: &mut mpsc::Receiver<Command>) {
        let part = self.part.clone();
        let mut stop = Box::pin(part.stop_requested());
        self.begin();
        self.part.running();
        let mut history_at = Instant::now() + HISTORY_EVERY;
        loop {
            let sent = Arc::clone(&self.sent);
            let wait = self.wait();
            tokio::select! {
                biased;
                () = &mut stop => break,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                said = self.heard.recv() => {
                    if let Some(said) = said {
                        self.hear(said);
                    }
                }
                () = sent.notified() => self.has_changed = true,
                () = actix::clock::sleep(wait) => {}
            }
            self.tell();
            if Instant::now() >= history_at {
                history_at = Instant::now() + HISTORY_EVERY;
                self.save_history();
            }
        }
        self.running.clear();
        self.end();
    }

    /// Takes up what was left, and starts what is configured.
    fn begin(&mut self) {
        let taken = std::mem::replace(&mut self.kept.stores.state.saved, Ok(String::new()));
        let state: State = taken.and_then(|text| saved::parse(&text)).unwrap_or_else(|why| {
            self.kept.state_errors += 1;
            self.state_error = format!("the alerts' state could not be read: {why}");
            error!(why, "the alerts' state could not be read: alerts begin anew");
            State::default()
        });
        let history = &mut self.kept.stores.history.saved;
        let history = std::mem::replace(history, Ok(String::new()));
        match history.and_then(|text| saved::parse(&text)) {
            Ok(items) => self.history.restore(items),
            Err(why) => warn!(why, "what happened to alerts could not be read"),
        }
        let State { rules, queues } = state;
        let spec = self.kept.spec.clone();
        // Those of an owner that panicked have what waits for them.
        let is_rebirth = !self.kept.receivers.is_empty();
        self.load(spec, Some(rules));
        for (name, notices) in queues.into_iter().filter(|_| !is_rebirth) {
            match self.kept.receivers.iter().find(|receiver| receiver.name == name) {
                Some(receiver) => receiver.queue.push(notices),
                None => self.kept.abandon(&name, notices.len()),
            }
        }
    }

    fn rule(&self, number: u64) -> Option<(AlertRule, Settings)> {
        let id = self.ids.iter().find(|id| id.number() == number)?;
        let rule = AlertRule::clone(self.set.machine(*id)?.rule());
        Some((rule, self.kept.spec.settings.clone()))
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Load { spec, done } => {
                let changes = self.load(*spec, None);
                drop(done.send(changes));
            }
            Command::Show(say) => drop(say.send(self.shown())),
            Command::Rule(number, say) => drop(say.send(self.rule(number))),
            Command::History(say) => drop(say.send(self.history.items())),
            Command::Figures(say) => drop(say.send(self.figures())),
        }
    }

    /// Which rules and receivers there are from now on.
    fn load(&mut self, spec: AlertsSpec, saved: Option<Saved>) -> Vec<String> {
        let now_unix_ns = self.service.clock.now_unix_ns();
        let mut done = self.load_receivers(&spec.receivers);
        self.service.rules.store(spec.rules.len(), Ordering::Relaxed);
        self.ids = self.set.load(spec.settings.clone(), spec.rules.clone(), now_unix_ns);
        if let Some(saved) = saved {
            self.set.restore(saved, now_unix_ns);
        }
        let gone: Vec<RuleId> =
            self.running.keys().filter(|id| !self.ids.contains(id)).copied().collect();
        for id in gone {
            if let Some(ended) = self.running.remove(&id) {
                done.push(format!("rule {} ended", ended.name));
            }
        }
        let over = self.set.take_ended();
        self.history.note(now_unix_ns, &over);
        for (id, rule) in self.ids.clone().into_iter().zip(&spec.rules) {
            let views = self.service.views.read_by(&rule.expr);
            match self.running.get(&id) {
                Some(running) if running.views == views => continue,
                Some(_) => done.push(format!("rule {} reads another view", rule.name)),
                None => done.push(format!("rule {} started", rule.name)),
            }
            self.follow(id, &rule.name, &rule.expr, views);
        }
        self.kept.spec = spec;
        self.has_changed = true;
        done
    }

    fn follow(&mut self, id: RuleId, name: &str, expr: &str, views: Arc<[NamedView]>) {
        self.feeders += 1;
        let again = Arc::new(Notify::new());
        let due_ms = Arc::new(AtomicU64::new(u64::MAX));
        // Where views are listed it is called what it is.
        let request = ScriptRequest {
            script: Some(format!("rule {name}")),
            text: Some(expr.to_string()),
            ..ScriptRequest::default()
        };
        let feeder = Feeder {
            service: self.service.clone(),
            rule: id,
            number: self.feeders,
            request,
            said: self.said.clone(),
            again: Arc::clone(&again),
            due_ms: Arc::clone(&due_ms),
        };
        let running = Running {
            name: name.to_string(),
            views,
            feeder: actix::spawn(feeder.run()),
            number: self.feeders,
            again,
            due_ms,
            is_running: false,
            has_failed: false,
            last_error: String::new(),
            covers_from_unix_ns: None,
            wants_first: true,
            has_asked: false,
        };
        self.running.insert(id, running);
    }

    fn hear(&mut self, said: Said) {
        let Said { rule, feeder, what } = said;
        let Some(running) = self.running.get_mut(&rule) else { return };
        if running.number != feeder {
            return;
        }
        match what {
            What::Delivery { is_first, delivery } => {
                running.wants_first |= is_first;
                running.has_asked &= !is_first;
                self.deliver(rule, &delivery);
            }
            What::Waits(why) => running.has_no_view(why, false),
            What::Failed(why) => running.has_no_view(why, true),
        }
    }

    /// A part of a frontier's changes; the last has its completeness.
    fn deliver(&mut self, id: RuleId, delivery: &Delivery) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let Some(machine) = self.set.machine(id) else { return };
        let columns = &machine.rule().columns;
        let mut rows: Vec<(i64, Row)> = Vec::new();
        for changes in &delivery.changes {
            let types = changes.output.info.relation.types();
            rows.extend(changes.rows.iter().filter_map(|(row, diff)| {
                let values: Vec<Value> = row.unpack(&types)?;
                Some((*diff, columns.row(&values)))
            }));
        }
        let snapshot = std::mem::replace(&mut running.wants_first, false);
        let Some(completeness) = &delivery.completeness else {
            self.set.take(id, snapshot, &rows);
            return;
        };
        let covers_from = completeness.covers_from_unix_ns;
        let covered_then = *running.covers_from_unix_ns.get_or_insert(covers_from);
        let lacks_nothing = completeness.lagging.is_empty() && completeness.lost.is_empty();
        let why = why_incomplete(completeness);
        let answer = Answer {
            at_unix_ns: tick_unix_ns(delivery.tick_ms),
            snapshot,
            complete: completeness.complete,
            young: lacks_nothing && covers_from <= covered_then,
            why: &why,
        };
        if !running.is_running {
            (running.is_running, running.has_failed) = (true, false);
            running.last_error = String::new();
        }
        let step = self.set.step(id, &answer, &rows, self.service.clock.now_unix_ns());
        self.steps += 1;
        let due_ms = self.set.machine(id).and_then(Machine::due_ms).unwrap_or(u64::MAX);
        running.due_ms.store(due_ms, Ordering::Relaxed);
        if step.wants_snapshot && !std::mem::replace(&mut running.has_asked, true) {
            running.again.notify_one();
        }
        // Another value of what fires already comes again with the first answer after a restart.
        self.has_changed |= step.changes.iter().any(|it| it.kind != ChangeKind::Updated);
        self.history.note(answer.at_unix_ns, &step.changes);
    }
}
